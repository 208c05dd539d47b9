#!/usr/bin/env bash
# qtool footprint: what it predicts is what is written, what transformers says, and what generate allocates.
source "$(dirname "$0")/lib.sh"

run 0 footprint
for text in LlamaForCausalLM none int8 fp4 fp4-dq nf4 nf4-dq "longest context"; do out_has "$text"; done
err_is_empty
run 0 footprint --json
json '[s["scheme"] for s in d["schemes"]] == ["none", "nf4", "nf4-dq", "fp4", "fp4-dq", "int8"]'
json 'all(s["parameters"] == 5475584 for s in d["schemes"])'
json 'd["schemes"][0]["weights_bytes"] == 2 * 5475584'
json 'all(s["total_bytes"] == s["weights_bytes"] + s["kv_cache_bytes"] + s["workspace_bytes"] for s in d["schemes"])'
json 'len({s["hf_memory_footprint"] for s in d["schemes"]}) == 3'  # none, int8, any 4-bit
json 'all(s["fits"] and s["largest_context_that_fits"] == 512 for s in d["schemes"])'

# keys and values: 2 * layers * kv heads * head size * 2 bytes a token
run 0 footprint --bits 4 --context 100 --batch 3 --json
json 'd["schemes"][0]["kv_cache_bytes"] == 3 * 100 * 2 * 6 * 2 * 64 * 2'
run 0 footprint --bits 4 --context 100 --kv-dtype float32 --json
json 'd["schemes"][0]["kv_cache_bytes"] == 100 * 2 * 6 * 2 * 64 * 4'

# --- a budget: the longest context that fits is the longest
run 0 footprint --bits 4 --json --context 1
budget=$(grep -oE '"total_bytes":[0-9]+' "$work/out" | grep -oE '[0-9]+')
run 0 footprint --bits 4 --context 1 --budget "$((budget + 500000))" --json
longest=$(grep -oE '"largest_context_that_fits":[0-9]+' "$work/out" | grep -oE '[0-9]+')
((longest > 1 && longest < 512)) || complain "longest context is $longest"
run 0 footprint --bits 4 --context "$longest" --budget "$((budget + 500000))" --json
json 'd["schemes"][0]["fits"]'
run 6 footprint --bits 4 --context "$((longest + 1))" --budget "$((budget + 500000))" --json
json 'not d["schemes"][0]["fits"]'
for size in 10GiB=10737418240 1.5GB=1500000000 60000KB=60000000 123456789=123456789 "100 mb=100000000" 1tb=1000000000000; do
  run 0 footprint --budget "${size%=*}" --json
  json "d['budget_bytes'] == ${size#*=}"
done
for size in -1 5XB GB 1e9 nan 99999999999TB; do fails 2 "--budget" footprint "--budget=$size"; done

# --- predicted = written = stored
tensor_bytes() {  # of a folder, from its headers
  local sum=0 bytes
  run 0 inspect "$1" --tensors --json
  for bytes in $(grep -oE '"bytes":[0-9]+' "$work/out" | grep -oE '[0-9]+'); do sum=$((sum + bytes)); done
  echo $sum
}
for scheme in "nf4 --bits 4" "nf4-dq --double-quant" "fp4 --quant-type fp4" "fp4-dq --quant-type fp4 --double-quant" "int8 --bits 8"; do
  read -r name options <<<"$scheme"
  # shellcheck disable=SC2086
  run 0 quantize "$demo" $options -o "$work/$name" --quiet
  written=$(tensor_bytes "$work/$name")
  # shellcheck disable=SC2086
  run 0 footprint "$demo" $options --json
  slack=0
  [[ $name != *-dq ]] || slack=$((42 * 4))  # digits of nested_offset
  json "d['schemes'][0]['scheme'] == '$name' and abs(d['schemes'][0]['weights_bytes'] - $written) <= $slack"
  hf=$(grep -oE '"hf_memory_footprint":[0-9]+' "$work/out")
  run 0 footprint "$work/$name" --json
  json "[s['scheme'] for s in d['schemes']] == ['$name'] and d['schemes'][0]['weights_bytes'] == $written"
  out_has "$hf"
done
run 0 footprint --bits 4 --skip-modules q_proj --json
json 'd["schemes"][0]["scheme"] == "nf4"'

# --- what generate allocates
for model in "$demo" "$work/nf4-dq" "$work/int8"; do
  run 0 generate "$model" --prompt "The capital" -n 2 --context 64 --device cpu --json
  memory=$(grep -oE '"(weights|kv_cache|workspace)_bytes":[0-9]+' "$work/out" | sort)
  run 0 footprint "$model" --bits 16 --context 64 --json
  [[ $model == "$demo" ]] || run 0 footprint "$model" --context 64 --json
  predicted=$(grep -oE '"(weights|kv_cache|workspace)_bytes":[0-9]+' "$work/out" | sort)
  [[ $memory == "$predicted" ]] || complain "$model: generate allocated $memory, predicted $predicted"
done

# Experts, ALiBi, shared keys, sliding windows, learned positions; short contexts and long ones.
numbers() { grep -oE '"(weights|kv_cache|workspace)_bytes":[0-9]+' "$work/out" | sort; }
for name in mixtral qwen2_moe qwen3_moe bloom mpt gpt_bigcode gemma2 phi3_longrope opt gpt2 falcon_7b; do
  for context in 24 60 2048; do
    [[ $context != 2048 || $name == bloom ]] || continue  # the others are not made for it
    for options in "" "--bits 4 --all-linears"; do  # not nested: the digits of its offsets are not known before
      # shellcheck disable=SC2086
      run 0 generate "$repo/test/data/families/$name" --prompt-tokens 1,2,3 -n 2 --context $context $options --device cpu --json
      memory=$(numbers)
      # shellcheck disable=SC2086
      run 0 footprint "$repo/test/data/families/$name" --context $context ${options:---bits 16} --json
      [[ -n $memory && $memory == "$(numbers)" ]] || complain "$name: generate allocated $memory, predicted $(numbers)"
    done
  done
done
# Beyond the positions a model was made for both warn, and both refuse where positions were learned.
for command in "generate $demo -p hello -n 1 --device cpu" "footprint $demo"; do
  # shellcheck disable=SC2086
  run 0 $command --context 4096
  err_has "4096 is more than the 512 positions this model was made for"
done
for command in "generate $repo/test/data/families/opt --prompt-tokens 1 -n 1 --device cpu" "footprint $repo/test/data/families/opt"; do
  # shellcheck disable=SC2086
  run 2 $command --context 4096
  err_has "positions this model has learned"
done
# A batch says it in words: weights, cache and workspace of as many sequences at a time.
for batch in 1 3; do
  printf '{"prompt_tokens":[1,2,3],"max_new_tokens":2}\n%.0s' 1 2 3 4 >"$work/lines"
  run 0 generate "$demo" --batch-file "$work/lines" --max-batch $batch --context 64 --device cpu
  memory=$(grep -oE 'memory: weights .*, peak' "$work/err")
  run 0 footprint "$demo" --bits 16 --context 64 --batch $batch
  read -r _ _ weights weights_unit cache cache_unit space space_unit _ < <(grep '^ *none' "$work/out")
  [[ $memory == "memory: weights $weights $weights_unit, cache $cache $cache_unit, workspace $space $space_unit, peak" ]] ||
    complain "batch of $batch: allocated '$memory', predicted $(grep '^ *none' "$work/out")"
done

# --- transformers' own numbers, measured
if [[ -d $shared/golden ]]; then
  hf() {  # EXPECTED FOLDER OPTION...
    local expected=$1 folder=$2
    shift 2
    run 0 footprint "$shared/golden/$folder" "$@" --json
    json "d['schemes'][0]['hf_memory_footprint'] == $expected"
  }
  hf 234880 llama_nf4_bfloat16
  hf 234880 llama_nf4dq_bfloat16
  hf 234880 llama_fp4_bfloat16
  hf 234880 llama_nf4dq_bf16st_bfloat16
  hf 234880 llama_nf4_f32st_bfloat16
  hf 234880 llama_nf4dq_bfloat16_sharded
  hf 285312 llama_nf4dq_float32
  hf 419200 llama_int8_bfloat16
  hf 469632 llama_int8_float32
  hf 284032 llama_nf4_skip_bfloat16
  hf 787840 base_llama_bfloat16 --bits 16
  for type in nf4 fp4; do
    for nested in "" --double-quant; do
      # shellcheck disable=SC2086
      hf 234880 base_llama_bfloat16 --quant-type $type $nested
    done
  done
  hf 285312 base_llama_float32 --bits 4 --double-quant
  hf 419200 base_llama_bfloat16 --bits 8
  hf 469632 base_llama_float32 --bits 8
  hf 284032 base_llama_bfloat16 --bits 4 --skip-modules q_proj
  hf 36288 base_llama_tied_bfloat16 --bits 4 --double-quant
  hf 59840 base_llama_tied_bfloat16 --bits 8
  for folder in "$shared"/golden/llama_*; do
    bytes=$(tensor_bytes "$folder")
    run 0 footprint "$folder" --json
    json "d['schemes'][0]['weights_bytes'] == $bytes"
  done
else
  echo "SKIPPED: $shared/golden is not there" >&2
fi

finish
