#!/usr/bin/env bash
# Random checkpoints of odd shapes (partial blocks, tied, biases, every dtype and scheme) against an executable model of
# bitsandbytes on CUDA: whole files, byte for byte. Skipped (77) where that model or Python is not there.
#   quantize_oracle_test.sh QTOOL REPOSITORY
set -uo pipefail
qtool=$1
repository=$2
oracle=$repository/../shared/oracle/e2e.py
command -v python3 >/dev/null || { echo "SKIPPED: no python3"; exit 77; }
[[ -f $oracle ]] || { echo "SKIPPED: $oracle is not there"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0
compared=0

# compare MODE "OPTIONS OF QTOOL" "OPTIONS OF THE ORACLE"
compare() {
  rm -rf expected got
  # shellcheck disable=SC2086  # options are words
  python3 "$oracle" in expected "$1" $3 >/dev/null || { echo "FAILED: the oracle: $1 $3"; failures=$((failures + 1)); return; }
  # shellcheck disable=SC2086
  "$qtool" quantize in -o got -q $2 >/dev/null || { echo "FAILED: qtool $2"; failures=$((failures + 1)); return; }
  local file
  for file in expected/*.safetensors*; do
    if [[ $file == *.json ]]; then # where a weight has an odd count, transformers counts its padding, the oracle does not
      sed -i /total_parameters/d "$file" "got/${file#expected/}"
    fi
    cmp "$file" "got/${file#expected/}" || { echo "FAILED: $shape: $1 $2"; failures=$((failures + 1)); }
    compared=$((compared + 1))
  done
}

odd="--hidden 56 --intermediate 100 --layers 1 --heads 4 --kv-heads 1 --head-dim 14 --vocab 61"
seed=1
for shape in "$odd --bias --dtype bfloat16" "$odd --tied --dtype float16" "$odd --dtype float32 --bias --tied" \
  "--hidden 63 --intermediate 33 --layers 11 --heads 1 --kv-heads 1 --head-dim 16 --vocab 17 --dtype bfloat16"; do
  rm -rf in
  # shellcheck disable=SC2086
  "$repository/scripts/make_random_checkpoint" in $shape --seed $((seed++)) >/dev/null || exit 1
  skip="--skip lm_head"
  compare nf4 "" "$skip"
  compare nf4dq "--double-quant" "$skip"
  compare fp4 "--quant-type fp4" "$skip"
  compare fp4dq "--quant-type fp4 --double-quant --max-shard-size 20KB" "$skip --max-shard-bytes 20000"
  compare int8 "--bits 8" "$skip"
  compare nf4 "--skip-modules v_proj,model.layers.0.mlp.down_proj" "$skip v_proj model.layers.0.mlp.down_proj"
done
# a weight of more than one chunk (2^20 values), and of many nested blocks
rm -rf in
"$repository/scripts/make_random_checkpoint" in --hidden 40 --intermediate 26301 --layers 1 --heads 1 --kv-heads 1 \
  --head-dim 8 --vocab 17 --seed 9 >/dev/null
shape="two chunks"
compare nf4dq "--double-quant --threads 3 --skip-modules gate_proj,down_proj" "--skip lm_head gate_proj down_proj"
((failures == 0)) && echo "quantize: $compared files as bitsandbytes writes them"
exit $((failures > 0))
