#!/usr/bin/env bash
# What makes qtool pleasant to use: help that fits, what was meant, completions and manual, doctor, pictures.
source "$(dirname "$0")/lib.sh"
commands="quantize generate inspect footprint evaluate bench tokenize pull doctor"

# --- help: examples for every command, nothing wider than 100 columns
run 0 --help
for command in $commands; do out_has "  $command "; done
out_lacks "completions"  # known, but not for everybody
for command in "" $commands completions manual; do
  run 0 ${command:+"$command"} --help
  widest=$(awk '{ if (length($0) > n) n = length($0) } END { print n }' "$work/out")
  ((widest <= 100)) || complain "$said: a line of $widest columns: $(awk 'length($0) > 100' "$work/out" | head -n 1)"
  [[ -z $command ]] || { out_has "Examples:"; out_has "  qtool $command"; }
done
run 0 quantize --help
out_has "--quant-type nf4|fp4 [nf4]"

# --- what was meant: swapped letters, other programs' words
fails 2 "did you mean generate?" genreate
fails 2 "did you mean inspect?" inpsect
fails 2 "here it is 'generate'" run
fails 2 "here it is 'pull'" download
fails 2 "did you mean --temperature?" generate --tempreature 1
fails 2 "here it is --max-new-tokens" generate --n-predict 4
fails 2 "MODEL, right after the command" generate --model ./model
fails 2 "here it is --context" footprint --ctx-size 100
fails 2 "'qtool inspect --help' lists them" inspect --load-in-4bit  # no advice to give what inspect does not take

# --- completions, made from the declarations: every option of every command is in every script
for shell in bash zsh fish; do
  run 0 completions "$shell"
  err_is_empty
  cp "$work/out" "$work/qtool.$shell"
  for option in double-quant max-new-tokens log-file max-perplexity; do
    out_has "$option"
  done
done
fails 2 "known are bash, zsh, fish" completions tcsh
fails 2 "known are bash, zsh, fish" completions

# complete WORD...: what bash offers for the last word, in one line
complete_words() {
  said="Tab after: qtool $*"
  (cd "$work/files" && bash --norc -c '
    source "$1"
    shift
    COMP_WORDS=(qtool "$@") COMP_CWORD=$#
    _qtool
    printf "%s " "${COMPREPLY[@]}"' bash "$work/qtool.bash" "$@") >"$work/out" 2>"$work/err"
  err_is_empty
}
offered() { [[ $(cat "$work/out") == "$1 " ]] || complain "$said: offered '$(cat "$work/out")', expected '$1'"; }
mkdir -p "$work/files/models"
: >"$work/files/message one.json"
bash -n "$work/qtool.bash" || complain "bash does not read its completions"
complete_words qu
offered "quantize"
complete_words help foot
offered "footprint"
complete_words quantize --quant-t
offered "--quant-type"
complete_words quantize --quant-type ""
offered "nf4 fp4"
complete_words quantize --quant-type = f
offered "fp4"
complete_words generate -
out_has "-p "
out_has "--no-stream"
out_lacks "--dry-run"
complete_words generate --device c
offered "cpu cuda"
complete_words generate --messages mess
offered "message one.json"
complete_words inspect mo
offered "models"
complete_words generate --seed ""
offered ""
! command -v zsh >/dev/null || zsh -n "$work/qtool.zsh" || complain "zsh does not read its completions"
! command -v fish >/dev/null || fish --no-execute "$work/qtool.fish" || complain "fish does not read its completions"

# --- the manual
run 0 manual
err_is_empty
cp "$work/out" "$work/qtool.1"
for command in $commands; do out_has ".SS qtool $command"; done
out_has '\fB\-\-max\-ram\fR'
if command -v man >/dev/null && command -v groff >/dev/null; then
  LC_ALL=C.UTF-8 MANWIDTH=100 man --warnings -l "$work/qtool.1" >"$work/out" 2>"$work/err"
  said="man qtool"
  err_is_empty
  out_has "--quant-type nf4|fp4 [nf4]"
fi

# --- what is installed is what the program prints
build=$(dirname "$qtool")
if [[ -e $build/documents/qtool.1 ]]; then
  said="cmake --install"
  cmake --install "$build" --prefix "$work/usr" >"$work/out" 2>"$work/err" || complain "$said: $(cat "$work/err")"
  cmp "$work/qtool.bash" "$work/usr/share/bash-completion/completions/qtool" || complain "$said: bash completions differ"
  cmp "$work/qtool.zsh" "$work/usr/share/zsh/site-functions/_qtool" || complain "$said: zsh completions differ"
  cmp "$work/qtool.fish" "$work/usr/share/fish/vendor_completions.d/qtool.fish" || complain "$said: fish completions differ"
  cmp "$work/qtool.1" "$work/usr/share/man/man1/qtool.1" || complain "$said: the manual differs"
  "$work/usr/bin/qtool" inspect --tensors >/dev/null || complain "$said: the installed program finds no demo model"
else
  echo "SKIPPED: the installed documents ($build has not built qtool_documents)"
fi

# --- doctor
export HF_HOME=$work/hf
run 0 doctor
out_has "Hub cache"
out_has "not made yet"
run 0 doctor --json
json 'd["ok"] and d["cpu"]["threads"] >= 1 and d["memory"]["bytes"] > 1e8'
json 'd["cache"]["folder"].endswith("/hf/hub") and d["cache"]["writable"] and not d["cache"]["exists"]'
json 'd["demo"] is not None and d["gpu"]["compiled"] == (d["gpu"]["architectures"] != "")'
mkdir -p "$work/hf/hub/models--some--model"
run 0 doctor --json
json 'd["cache"]["models"] == 1'
QTOOL_CPU=sse9 run 2 doctor
out_has "broken: QTOOL_CPU is 'sse9'"
QTOOL_CPU=portable run 0 doctor
out_has "portable"
: >"$work/a-file"
HF_HOME=$work/a-file run 10 doctor
out_has "is no folder that can be written"
cp "$qtool" "$work/alone"
"$work/alone" doctor >/dev/null 2>&1  # 0 from a build tree, whose source tree is there

# --- pictures: well-formed, everything inside, names escaped
drawn() {  # FILE
  [[ $(head -c 4 "$1") == "<svg" ]] || complain "$said: $1 is no SVG"
  command -v python3 >/dev/null || return 0
  python3 - "$1" <<'P' || complain "$said: $1"
import sys
import xml.etree.ElementTree as tree

root = tree.parse(sys.argv[1]).getroot()
width, height = float(root.get("width")), float(root.get("height"))
rows = {}
for item in root:
    kind = item.tag.split("}")[1]
    if kind == "rect" and item.get("x"):
        x, y, w, h = (float(item.get(key)) for key in ("x", "y", "width", "height"))
        assert 0 <= x and x + w <= width and 0 <= y and y + h <= height and w >= 0, ("outside", tree.tostring(item))
    if kind == "text":
        size, x = float(item.get("font-size")), float(item.get("x"))
        long = 0.62 * size * len(item.text or "")
        left = x - {"end": 1, "middle": 0.5}.get(item.get("text-anchor"), 0) * long
        assert left >= -1 and left + long <= width + 1, ("outside", item.text)
        assert size <= float(item.get("y")) <= height, ("outside", item.text)
        rows.setdefault(item.get("y"), []).append((left, left + long, item.text))
for row in rows.values():
    row.sort()
    for (_, end, one), (begin, _, two) in zip(row, row[1:]):
        assert begin > end - 8, ("overlap", one, two)
assert sum(1 for item in root.iter() if item.tag.endswith("text")) > 5
P
}
run 0 quantize --double-quant -o "$work/nf4" --report "$work/quantize.svg" -q
drawn "$work/quantize.svg"
grep -q "mlp.down_proj, layer 5: 0.09" "$work/quantize.svg" || complain "$said: no error of layer 5"
run 0 inspect "$work/nf4" --svg "$work/sizes.svg"
drawn "$work/sizes.svg"
run 0 inspect "$work/nf4" --tensor model.layers.0.mlp.up_proj.weight --hist --svg "$work/codes.svg"
out_has "codes"
drawn "$work/codes.svg"
run 0 inspect --tensor model.norm.weight --hist --svg "$work/values.svg"
drawn "$work/values.svg"
fails 2 "--svg draws" inspect --verify --svg "$work/x.svg"
fails 2 "--svg draws" inspect --tensor model.norm.weight --svg "$work/x.svg"
fails 2 ".json, .md or .svg" quantize --report "$work/x.pdf"
fails 10 "" inspect --svg "$work/a-file/x.svg"
mkdir "$work/odd"
echo '{"architectures": ["X"], "model_type": "x"}' >"$work/odd/config.json"
safetensors "$work/odd/model.safetensors" '{"a<b>&\"\u0001.weight":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}' 8
run 0 inspect "$work/odd" --svg "$work/odd.svg"
grep -qF 'a&lt;b&gt;&amp;&quot;\x01' "$work/odd.svg" || complain "$said: names are not escaped"

finish
