#!/usr/bin/env bash
# qtool generate: what it prints, when it stops, and what it refuses. Whether its numbers are right is
# test/core/model/logits_test.cpp's question.
source "$(dirname "$0")/lib.sh"
prompt="The capital of France is"
exact=(--compute-dtype float32)

# --- the payload is the continuation and a line end, nothing else
run 0 generate "$demo" -p "$prompt" -n 16 "${exact[@]}"
[[ $(cat "$work/out") == " Paris, and France lies in Europe."* ]] || complain "$said: $(cat "$work/out")"
err_has "prompt 6 tokens"
err_has "new 16 tokens (length)"
cp "$work/out" "$work/plain"
run 0 generate "$demo" -p "$prompt" -n 16 "${exact[@]}" --no-stream --quiet
cmp -s "$work/out" "$work/plain" || complain "$said: --no-stream changes the text"
err_is_empty
run 0 generate "$demo" -p "$prompt" -n 16 "${exact[@]}" -o "$work/file"
out_is_empty
cmp -s "$work/file" "$work/plain" || complain "$said: -o writes something else"
run 0 generate "$demo" -p "$prompt" -n 16 "${exact[@]}" --echo
[[ $(cat "$work/out") == "$prompt$(cat "$work/plain")" ]] || complain "$said: --echo: $(cat "$work/out")"
run 0 generate "$demo" -p "$prompt" -n 16 "${exact[@]}" --threads 1
cmp -s "$work/out" "$work/plain" || complain "$said: the number of threads changes the text"

# --- the same prompt by every way in
printf %s "$prompt" >"$work/prompt"
run 0 generate "$demo" -f "$work/prompt" -n 16 "${exact[@]}"
cmp -s "$work/out" "$work/plain" || complain "$said: another text"
run 0 generate "$demo" --prompt-tokens "1, 398 605,287,1989,347" -n 16 "${exact[@]}"
cmp -s "$work/out" "$work/plain" || complain "$said: another text"
"$qtool" generate "$demo" -n 16 "${exact[@]}" -q <"$work/prompt" >"$work/out" || complain "a piped prompt fails"
cmp -s "$work/out" "$work/plain" || complain "a piped prompt gives another text"
QTOOL_MODEL=$demo QTOOL_PROMPT=$prompt QTOOL_MAX_NEW_TOKENS=16 run 0 generate "${exact[@]}"
cmp -s "$work/out" "$work/plain" || complain "$said: options by environment give another text"

# --- JSON
run 0 generate "$demo" -p "$prompt" -n 4 --json --logprobs 3 --prompt-logprobs 4096 "${exact[@]}"
json 'd["schema"] == "qtool.generate/1" and d["prompt"] == "The capital of France is"'
json 'd["prompt_tokens"] == [1, 398, 605, 287, 1989, 347] and d["tokens"] == [2621, 4025, 286, 1989]'
json 'd["text"] == " Paris, and France" and d["finish_reason"] == "length"'
json 'len(d["logprobs"]) == 4 and all(len(e["top"]) == 3 and e["top"][0]["token"] == e["token"] for e in d["logprobs"])'
json 'len(d["prompt_logprobs"]) == 6 and d["prompt_logprobs"][0] is None'
json 'all(len(e["top"]) == 4096 for e in d["prompt_logprobs"][1:])'
json '[e["token"] for e in d["prompt_logprobs"][1:]] == d["prompt_tokens"][1:]'
json 'abs(sum(2.718281828459045 ** e["logprob"] for e in d["prompt_logprobs"][1]["top"]) - 1) < 1e-6'
json 'd["timings"]["prefill_tokens"] == 6 and d["timings"]["decode_tokens"] == 3'
json 'set(d["timings"]) == {"load_s", "prefill_tokens", "prefill_s", "decode_tokens", "decode_s", "decode_tokens_per_s", "decode_bytes_per_token", "decode_gb_per_s"}'
json 'set(d["memory"]) == {"device", "weights_bytes", "kv_cache_bytes", "workspace_bytes", "peak_bytes"}'
json 'd["memory"]["weights_bytes"] == 2 * 5475584 and d["memory"]["kv_cache_bytes"] == 2 * 6 * 512 * 2 * 64 * 4'
run 0 generate "$demo" -p "$prompt" -n 1 --json
json '"logprobs" not in d and "prompt_logprobs" not in d'

# --- why it stops
run 0 generate "$demo" -p "$prompt" -n 32 "${exact[@]}" --stop Europe --json
json 'd["finish_reason"] == "stop_string" and d["text"] == " Paris, and France lies in "'
run 0 generate "$demo" -p "$prompt" -n 32 "${exact[@]}" --stop nowhere --stop ", and"
[[ $(cat "$work/out") == " Paris" ]] || complain "$said: $(cat "$work/out")"
run 0 generate "$demo" -p "$prompt" -n 32 "${exact[@]}" --stop-token 1989 --json
json 'd["finish_reason"] == "stop" and d["tokens"] == [2621, 4025, 286, 1989] and d["text"] == " Paris, and"'
run 0 generate "$demo" -p "$prompt" "${exact[@]}" --logit-bias 2=100 --json
json 'd["finish_reason"] == "stop" and d["tokens"] == [2] and d["text"] == ""'
run 0 generate "$demo" -p "$prompt" "${exact[@]}" --logit-bias 2=100 --ignore-eos -n 3 --json
json 'd["finish_reason"] == "length" and d["tokens"] == [2, 2, 2] and d["text"] == ""'
run 0 generate "$demo" -p "$prompt" "${exact[@]}" --context 10 --json
json 'd["finish_reason"] == "context" and len(d["tokens"]) == 4'
run 0 generate "$demo" -p "$prompt" "${exact[@]}" -n 0 --json
json 'd["tokens"] == [] and d["text"] == ""'

# --- sampling: greedy unless asked; a seed decides
run 0 generate "$demo" -p "$prompt" -n 24 --temperature 1.3 --seed 7 --threads 1 "${exact[@]}"
cp "$work/out" "$work/first"
run 0 generate "$demo" -p "$prompt" -n 24 --temperature 1.3 --seed 7 --threads 2 "${exact[@]}"
cmp -s "$work/out" "$work/first" || complain "$said: the same seed gives another text"
run 0 generate "$demo" -p "$prompt" -n 24 --temperature 1.3 --seed 8 "${exact[@]}"
! cmp -s "$work/out" "$work/first" || complain "$said: another seed gives the same text"
for greedy in "--temperature 0 --top-p 0.9" "--top-k 1" "--sample --top-p 0"; do
  # shellcheck disable=SC2086
  run 0 generate "$demo" -p "$prompt" -n 16 "${exact[@]}" $greedy
  cmp -s "$work/out" "$work/plain" || complain "$said: is not greedy"
done
run 0 generate "$demo" -p "$prompt" -n 1 "${exact[@]}" --logit-bias 2621=-inf --json
json '2621 not in d["tokens"]'
run 0 generate "$demo" -p "$prompt" -n 40 "${exact[@]}" --no-repeat-ngram-size 2 --json
json 'len(set(zip(d["prompt_tokens"] + d["tokens"], (d["prompt_tokens"] + d["tokens"])[1:]))) == len(d["prompt_tokens"] + d["tokens"]) - 1'

# --- whole UTF-8 only: the tokens of "ô" are single bytes
run 0 generate "$demo" -p "The capital of C" --logit-bias 198=100 -n 1 "${exact[@]}"
[[ $(cat "$work/out") == "�" ]] || complain "$said: half a character: $(od -c "$work/out" | head -1)"

# --- in deterministic mode too, the number of threads changes no bit
run 0 generate "$demo" -p "$prompt and so on and so on" -n 16 --deterministic --json --logprobs 1
grep -o '"logprobs".*"memory"' "$work/out" >"$work/whole"
run 0 generate "$demo" -p "$prompt and so on and so on" -n 16 --deterministic --json --logprobs 1 --threads 1
grep -o '"logprobs".*"memory"' "$work/out" | cmp -s - "$work/whole" || complain "$said: other log-probabilities"

# --- quantizing while loading gives what the stored checkpoint gives, at its size
if [[ -d $shared/models/demo-nf4dq ]]; then
  run 0 generate "$shared/models/demo-nf4dq" -p "$prompt" -n 16 --json
  cp "$work/out" "$work/stored"
  json 'd["text"].startswith(" Paris, and France")'
  run 0 generate "$demo" --bits 4 --double-quant "${exact[@]}" -p "$prompt" -n 16 --json
  [[ $(grep -o '"tokens":[^]]*' "$work/out") == $(grep -o '"tokens":[^]]*' "$work/stored") ]] ||
    complain "$said: other tokens than from the stored checkpoint"
fi
run 0 generate "$demo" --bits 8 -p "$prompt" -n 8
[[ $(cat "$work/out") == " Paris, and France lies"* ]] || complain "$said: $(cat "$work/out")"
run 0 generate "$demo" --bits 4 --skip-modules up_proj -p "$prompt" -n 2

# --- no tokenizer: ids in, ids out
if [[ -d $shared/golden/llama_nf4dq_bfloat16 ]]; then
  run 0 generate "$shared/golden/llama_nf4dq_bfloat16" --prompt-tokens 1,2,3 -n 4
  grep -qE '^[0-9]+(,[0-9]+){3}$' "$work/out" || complain "$said: $(cat "$work/out")"
  run 0 generate "$shared/golden/llama_nf4dq_bfloat16" --prompt-tokens 1,2,3 -n 4 --json
  json 'd["text"] is None and d["prompt"] is None and len(d["tokens"]) == 4'
  fails 3 "no tokenizer" generate "$shared/golden/llama_nf4dq_bfloat16" -p hello
  fails 2 "--stop needs text" generate "$shared/golden/llama_nf4dq_bfloat16" --prompt-tokens 1 --stop x -q
  fails 2 "already quantized (nf4-dq)" generate "$shared/golden/llama_nf4dq_bfloat16" --prompt-tokens 1 --bits 8
fi

# --- small models that others have trained
if [[ -d $shared/models/tinystories-656k ]]; then
  run 0 generate "$shared/models/tinystories-656k" -p "Once upon a time" -n 24
  [[ $(cat "$work/out") == ", a little girl named Lily lived in a small house with her mom, dad, and her dog, Spot"* ]] ||
    complain "$said: $(cat "$work/out")"
  run 0 generate "$shared/models/stories260k" -p "" -n 60
  [[ $(cat "$work/out") == "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. "\
"One day, she saw a big, red ball."* ]] || complain "$said: $(cat "$work/out")"
  run 0 generate "$shared/models/capp-gpt2" --prompt-tokens 2,8,14,17,22,25,49 -n 40
  [[ $(cat "$work/out") == 30,45,40,42,50,* ]] || complain "$said: $(cat "$work/out")"
fi

# --- what is refused
fails 2 "no prompt" generate "$demo"
fails 2 "--prompt" generate "$demo" -p x -f "$work/prompt"
fails 3 "$work/nothing" generate "$demo" -f "$work/nothing"
fails 2 "'two' is none" generate "$demo" --prompt-tokens 1,two
fails 2 "token id 4096 is outside" generate "$demo" --prompt-tokens 1,4096 -n 1
fails 2 "the context holds 3" generate "$demo" -p "$prompt" --context 3
fails 2 "--temperature must be" generate "$demo" -p x --temperature -1
fails 2 "--temperature must be" generate "$demo" -p x --temperature nan
fails 2 "--top-p must lie" generate "$demo" -p x --top-p 1.5
fails 2 "--typical-p must be" generate "$demo" -p x --typical-p 0
fails 2 "--repetition-penalty must be" generate "$demo" -p x --repetition-penalty 0
fails 2 "--logit-bias must be" generate "$demo" -p x --logit-bias 5
fails 2 "outside the vocabulary of 4096" generate "$demo" -p x --logit-bias 9999=1
fails 2 "--stop must not be empty" generate "$demo" -p x --stop ""
run 2 generate "$demo" -p x --logprobs 4097 --json
out_is_empty
err_has "--logprobs must lie between"
fails 2 "add --json" generate "$demo" -p x --prompt-logprobs 1
fails 2 "--kv-dtype must be" generate "$demo" -p x --kv-dtype int4
fails 10 "$work/no/where" generate "$demo" -p x -o "$work/no/where"

finish
