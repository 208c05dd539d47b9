#!/usr/bin/env bash
# The same bits every time: quantize at any thread count, instruction set and shard size; generate at any thread count.
source "$(dirname "$0")/lib.sh"
families=$repo/test/data/families
cd "$work" || exit 1
export OMP_WAIT_POLICY=passive  # eight threads on two processors had better not wait actively

# The instruction sets that this processor has.
levels=()
for level in portable avx2 avx512; do
  QTOOL_CPU=$level "$qtool" generate "$demo" --prompt-tokens 1 -n 1 >/dev/null 2>&1 && levels+=("$level")
done
((${#levels[@]})) || complain "no instruction set runs"

# --- quantize: whole files are compared, header and all
for model in "$demo" "$families/mixtral" "$families/gpt2" "$families/bloom"; do
  for scheme in "--bits 4 --double-quant --all-linears" "--quant-type fp4 --block-size 128" "--bits 8" "--bits 16 --dtype float16"; do
    # shellcheck disable=SC2086  # options are words
    run 0 quantize "$model" $scheme -o first --threads 1 --quiet
    for level in "${levels[@]}"; do
      for threads in 1 2 3 8; do
        # More than one thread with the narrow sets would show what it shows with the widest.
        [[ $threads == 1 || $level == "${levels[-1]}" ]] || continue
        # shellcheck disable=SC2086
        QTOOL_CPU=$level run 0 quantize "$model" $scheme -o again --threads "$threads" --quiet
        diff -r first again >/dev/null || complain "$said: other bytes with $level"
        rm -rf again
      done
    done
    rm -rf first
  done
done

# --- shards: the tensors are the same, wherever they lie
hashes() { # FOLDER
  run 0 inspect "$1" --hash --json
  grep -oE '"(tensors|whole)":.*' out
}
for scheme in "--bits 4 --double-quant" "--bits 8"; do
  # shellcheck disable=SC2086
  run 0 quantize "$demo" $scheme -o one --quiet
  expected=$(hashes one)
  for size in 100KB 300KB 1MB; do
    for threads in 1 3; do
      # shellcheck disable=SC2086
      run 0 quantize "$demo" $scheme -o many --max-shard-size $size --threads $threads --quiet
      [[ -f many/model.safetensors.index.json ]] || complain "$said: not in shards"
      [[ $(hashes many) == "$expected" ]] || complain "$said: other tensors than in one file"
      [[ $threads == 1 ]] || diff -r many before >/dev/null || complain "$said: other files than with one thread"
      rm -rf before
      mv many before
    done
  done
  rm -rf one before
done

# --- generate: one seed, one text, whatever the number of threads
tokens() { grep -oE '"tokens":\[[0-9,]*\]' out; }
for model in "$demo" "$families/mixtral" "$families/bloom" "$families/qwen2_moe"; do
  for scheme in "" "--bits 4 --double-quant" "--bits 8"; do
    for sampling in "" "--sample --seed 7 --temperature 1.5" "--sample --seed 8 --top-k 20"; do
      expected=
      for threads in 1 2 3 8; do
        # shellcheck disable=SC2086
        run 0 generate "$model" --prompt-tokens 1,2,3,4,5,6,7,8,9,10 -n 16 --ignore-eos $scheme $sampling \
          --threads $threads --device cpu --json --quiet
        [[ -n $(tokens) ]] || complain "$said: no tokens"
        expected=${expected:-$(tokens)}
        [[ $(tokens) == "$expected" ]] || complain "$said: other tokens than with one thread"
      done
    done
  done
done
# A prompt long enough for the products of many tokens, which are shared out among threads, on every instruction set.
prompt=$(seq -s, 1 200)
for level in "${levels[@]}"; do
  expected=
  for threads in 1 3; do
    QTOOL_CPU=$level run 0 generate "$demo" --prompt-tokens "$prompt" -n 16 --ignore-eos --bits 4 --threads $threads \
      --device cpu --json --quiet
    expected=${expected:-$(tokens)}
    [[ $(tokens) == "$expected" ]] || complain "$said: other tokens than with one thread, with $level"
  done
done

# --- a line of a batch is the same alone, in company, and on any number of threads
for i in 1 2 3 4 5; do echo "{\"prompt_tokens\":[$i,2,3],\"max_new_tokens\":8}"; done >lines.jsonl
expected=
for options in "--max-batch 1 --threads 1" "--max-batch 2 --threads 3" "--max-batch 5 --threads 8"; do
  # shellcheck disable=SC2086
  run 0 generate "$demo" --batch-file lines.jsonl --deterministic --ignore-eos --device cpu --json --quiet $options
  expected=${expected:-$(tokens)}
  [[ -n $expected && $(tokens) == "$expected" ]] || complain "$said: other tokens than alone"
done

finish
