#!/usr/bin/env bash
# What holds for every command: help, versions, environment twins, where models are found, and who says what where.
source "$(dirname "$0")/lib.sh"

# --- help and version are payload
run 0 --help
for command in quantize generate inspect footprint evaluate tokenize; do out_has "  $command "; done
err_is_empty
run 0 -h
out_has "Exit codes"
run 0 --version
grep -qE '^qtool [0-9]+\.[0-9]+\.[0-9]+$' "$work/out" || complain "version line: $(cat "$work/out")"
for command in quantize generate inspect footprint evaluate tokenize; do
  run 0 "$command" --help
  for option in --device --threads --json --quiet --verbose --log-level --log-file --color --offline --revision; do
    out_has "$option"
  done
  err_is_empty
done
run 0 help inspect
out_has "--verify"
run 0 inspect --version
out_has "qtool "

# --- what was meant
fails 2 "qtool --help"
fails 2 "did you mean quantize?" quantise
fails 2 "did you mean footprint?" foot
fails 2 "'qtool --help' lists them" xyzzy
fails 2 "did you mean --double-quant?" footprint --double-qant
fails 2 "here it is --quant-type" footprint --bnb_4bit_quant_type=nf4
fails 2 "here it is --bits 4" footprint --load-in-4bit
fails 2 "unexpected argument 'two'" footprint "$demo" two
fails 2 "--bits" footprint --bits four
fails 2 "--bits must be 4, 8 or 16" footprint --bits 5
fails 2 "--device" generate --device tpu -p x
fails 2 "--log-level" inspect --log-level loud
fails 2 "--color" inspect --color perhaps

# --- errors for programs
run 2 footprint --bits 5 --json
out_is_empty
cp "$work/err" "$work/out"
json 'd["schema"] == "qtool.error/1" and d["error"]["code"] == 2 and d["error"]["kind"] == "usage"'
json '"--bits" in d["error"]["message"]'
run 3 inspect /nowhere --json
cp "$work/err" "$work/out"
json 'd["error"]["code"] == 3 and d["error"]["kind"] == "not_found" and d["error"]["path"] == "/nowhere"'
run 2 quantise --json
cp "$work/err" "$work/out"
json 'd["error"]["code"] == 2'

# --- every option has an environment twin
QTOOL_BITS=8 run 0 footprint --json
json '[s["scheme"] for s in d["schemes"]] == ["int8"]'
QTOOL_BITS=5 run 2 footprint
QTOOL_BITS=five run 2 footprint
err_has "\$QTOOL_BITS is 'five'"
QTOOL_JSON=1 run 0 footprint
json 'd["schema"] == "qtool.footprint/1"'
QTOOL_JSON=0 run 0 footprint
out_has "scheme"

# --- MODEL: a folder, a file in it, $QTOOL_MODEL, the demo
run 0 footprint "$demo/model.safetensors" --json
json 'len(d["schemes"]) == 6'
run 0 footprint --json
json 'd["schemes"][0]["parameters"] > 5000000'
mkdir "$work/copy"
cp "$demo"/{config.json,model.safetensors,tokenizer.model,tokenizer_config.json,generation_config.json} "$work/copy"
QTOOL_MODEL=$work/copy run 0 inspect --tensors --json
json 'd["folder"].endswith("/copy")'
QTOOL_MODEL=/nowhere run 3 inspect
run 0 inspect "$work/copy/model.safetensors" --tensors --json
json 'd["folder"].endswith("/copy")'
fails 2 "model: the name is empty" inspect ""
fails 2 "config.json is a file" inspect "$demo/config.json"

# --- the installed program finds the model that was installed with it
mkdir -p "$work/usr/bin" "$work/usr/share/qtool"
cp "$qtool" "$work/usr/bin/qtool"
cp -r "$work/copy" "$work/usr/share/qtool/demo"
"$work/usr/bin/qtool" inspect --tensors --json >"$work/out" 2>"$work/err" || complain "installed: $(cat "$work/err")"
said="installed qtool"
json 'd["folder"].endswith("/usr/share/qtool/demo")'

# --- a Hub name, found where huggingface_hub keeps it
commit=0123456789abcdef0123456789abcdef01234567
hub=$work/hf/hub/models--some--model
mkdir -p "$hub/refs" "$hub/snapshots"
cp -r "$work/copy" "$hub/snapshots/$commit"
printf %s "$commit" >"$hub/refs/main"
for home in "HF_HOME=$work/hf" "HF_HUB_CACHE=$work/hf/hub"; do
  export "${home?}"
  run 0 inspect some/model --tensors --json
  json "d['folder'].endswith('/snapshots/$commit')"
  run 0 inspect "some/model@$commit" --tensors --json
  run 0 inspect some/model --revision "$commit" --tensors --json
  fails 3 "not its revision v2" inspect some/model@v2 --offline
  fails 3 "qtool pull some/other" inspect some/other --offline
  fails 2 "disagree" inspect some/model@main --revision other
  unset "${home%%=*}"
done
fails 3 "does not exist" inspect just-a-name
fails 3 "does not exist" inspect ../../etc/passwd/model

# --- logging: stderr, a file, or not at all
run 0 inspect --quiet
err_is_empty
run 3 inspect /nowhere --log-file "$work/log"
grep -q "error.*does not exist" "$work/log" || complain "--log-file: $(cat "$work/log")"
fails 10 "--log-file" inspect --log-file "$work/copy/config.json/log"

# --- a reader that goes away ends the program quietly
{ "$qtool" inspect --tensors 2>"$work/err"; echo $? >"$work/code"; } | head -c 0
[[ ! -s $work/err ]] || complain "closed pipe: stderr says $(cat "$work/err")"
[[ $(cat "$work/code") == 141 || $(cat "$work/code") == 0 ]] || complain "closed pipe: code $(cat "$work/code")"

# --- control characters of names are not let through
fails 3 'nothing\x1b[31mred' inspect "$(printf 'nothing\033[31mred')"

finish
