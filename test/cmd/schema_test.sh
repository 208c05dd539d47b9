#!/usr/bin/env bash
# Every JSON document of every command, held against its published schema.
source "$(dirname "$0")/lib.sh"
command -v python3 >/dev/null || { echo "SKIPPED: no python3"; exit 77; }
export HF_HOME=$work/hf HF_ENDPOINT=http://127.0.0.1:9  # nobody listens there
export QTOOL_THREADS=1  # the model is small

check() { python3 "$repo/test/support/check_schema.py" "$repo/test/data/schema" "$@"; }

# fits CODE ARGUMENT...: keeps the document on stdout, or of a failure the one on stderr, for the verdict at the end.
documents=$work/documents
mkdir "$documents"
fits() {
  local code=$1
  shift
  run "$code" "$@" --quiet --json
  if [[ -s $work/out ]]; then
    keep "$work/out"
  else
    keep "$work/err"
  fi
}
keep() {
  local name
  name=$(echo "$said" | tr -c 'a-z0-9.\n-' _)
  cp "$1" "$documents/${name:0:150}-$RANDOM"
}

# --- the validator finds what is wrong
for wrong in '"count":-1' '"count":1.5' '"count":1,"more":1' '"text":null' '"more":1'; do
  echo "{\"schema\":\"qtool.tokenize/1\",$wrong}" >"$work/out"
  check "$work/out" >/dev/null && complain "the validator took $wrong"
done

# --- quantize
nf4=$work/demo-nf4
fits 0 quantize --dry-run
fits 0 quantize --double-quant -o "$nf4" --verify --report "$work/report.json"
keep "$work/report.json"
fits 2 quantize "$nf4" -o "$work/again"
fits 0 quantize --bits 8 -o "$work/int8"
fits 0 quantize "$nf4" --bits 16 -o "$work/back"

# --- inspect, view by view
for model in "$demo" "$nf4" "$work/int8"; do
  fits 0 inspect "$model"
  fits 0 inspect "$model" --tensor model.layers.0.mlp.up_proj.weight --stats --hist
  fits 0 inspect "$model" --verify
done
fits 0 inspect --tensors '*norm*'
fits 0 inspect "$nf4" --tensor model.layers.0.mlp.up_proj.weight
fits 0 inspect --hash
fits 9 inspect "$demo" --diff "$nf4"
fits 0 inspect "$demo" --diff "$demo"
fits 3 inspect /nowhere

# --- footprint, tokenize, evaluate
fits 0 footprint
fits 0 footprint "$nf4" --batch 3 --context 100
fits 6 footprint --budget 1MB
fits 0 tokenize "$demo" "The capital of France is"
fits 0 tokenize "$demo" --count "The capital"
fits 0 tokenize "$demo" --decode "1 5 9"
head -c 1500 "$repo/test/data/evaluate.txt" >"$work/text"
fits 0 evaluate --text "$work/text" --window 64
fits 0 evaluate "$nf4" --text "$work/text" --window 64 --reference "$demo"
fits 9 evaluate --text "$work/text" --window 64 --max-perplexity 1

# --- generate: one prompt and many
fits 0 generate -p "The capital of France is" -n 4
fits 0 generate "$nf4" -p "The" -n 3 --logprobs 2 --prompt-logprobs 1 --sample
fits 0 generate --prompt-tokens 1,2,3 -n 2
printf '%s\n' '"The capital"' '{"prompt": "One", "id": "b", "logprobs": 1}' '{"prompt": 3}' >"$work/prompts.jsonl"
run 2 generate --batch-file "$work/prompts.jsonl" -n 3
keep "$work/out"

# --- bench, pull, doctor, documents
fits 0 bench --prefill 16 --batch 1 --context 16
fits 8 pull some/model@main
commit=1111111111111111111111111111111111111111
mkdir -p "$work/server/some/demo/$commit"
cp "$nf4"/* "$work/server/some/demo/$commit"
echo "{\"main\": \"$commit\"}" >"$work/server/some/demo/refs.json"
python3 "$repo/test/cmd/hub_server.py" "$work/server" &
server=$!
trap 'kill $server; rm -rf "$work"' EXIT
for _ in $(seq 100); do [[ -s $work/server/ports ]] && break; sleep 0.1; done
HF_ENDPOINT=http://127.0.0.1:$(cut -d' ' -f1 "$work/server/ports") no_proxy='*' fits 0 pull some/demo
fits 0 doctor
QTOOL_CPU=none fits 2 doctor
for shell in bash zsh fish; do fits 0 completions "$shell"; done
fits 0 manual

check "$documents"/* >"$work/verdict" 2>&1 || complain "$(head -c 2000 "$work/verdict")"

# --- every schema was met
for schema in "$repo"/test/data/schema/*.json; do
  name=$(basename "$schema" .json)
  grep -qF "\"$name/1\"" -r "$documents" || complain "no document of $name/1 was seen"
done

finish
