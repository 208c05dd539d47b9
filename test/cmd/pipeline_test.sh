#!/usr/bin/env bash
# The sample pipeline on the demo model: what it publishes, and what it does when a gate holds a model back.
source "$(dirname "$0")/lib.sh"
head -c 6000 "$repo/test/data/evaluate.txt" >"$work/text"
export QTOOL=$qtool WINDOW=64 QTOOL_THREADS=1  # the model is small

pipeline() {  # EXPECTED_CODE FOLDER ARGUMENT...
  local expected=$1 folder=$2 code=0
  shift 2
  said="ci_pipeline $*"
  "$repo/scripts/ci_pipeline" "$demo" "$work/text" "$folder" "$@" >"$work/out" 2>"$work/err" || code=$?
  [[ $code == "$expected" ]] || complain "$said: exit code $code, expected $expected: $(tail -n 3 "$work/err")"
}

# --- everything passes
pipeline 0 "$work/good"
out_has "$work/good/report.md"
for file in model/config.json model/model.safetensors doctor.json footprint.json quantize.json quantize.svg verify.json \
  hashes.json evaluate.json generate.json; do
  [[ -s $work/good/$file ]] || complain "$said: no $file"
done
[[ $(grep -c ': passed$' "$work/good/report.md") == 7 ]] || complain "$said: $(cat "$work/good/report.md")"
cp "$work/good/evaluate.json" "$work/out"
json 'd["kl_mean"] <= 0.1 and d["tokens"] > 500'
if command -v python3 >/dev/null; then
  python3 "$repo/test/support/check_schema.py" "$repo/test/data/schema" "$work"/good/*.json ||
    complain "$said: a document is not as its schema says"
fi

# --- a gate that does not open: the report is there, and says which
MAX_KL=0.0001 pipeline 9 "$work/far"
grep -q '## perplexity and KL divergence: FAILED, exit code 9' "$work/far/report.md" || complain "$said: report: $(cat "$work/far/report.md")"
[[ -s $work/far/evaluate.json ]] || complain "$said: the figures are missing"
[[ ! -e $work/far/generate.json ]] || complain "$said: went on after the gate"
MAX_PERPLEXITY=1 pipeline 9 "$work/perplexed" --bits 8
BUDGET=1MB pipeline 6 "$work/large" --bits 4
[[ ! -e $work/large/model ]] || complain "$said: quantized what does not fit"
pipeline 2 "$work/mistyped" --bits 5

finish
