#!/usr/bin/env bash
# Families through the program: what is quantized, what is left and said, and that what was written generates what the
# same quantization while loading does.
source "$(dirname "$0")/lib.sh"
families=$repo/test/data/families
ids=1,2,3,4,5
export QTOOL_THREADS=1  # models this small leave nothing to share

# name, options of quantize
while read -r name options; do
  # shellcheck disable=SC2086  # options are words
  run 0 quantize "$families/$name" --bits 4 --double-quant $options -o "$work/$name" --force --verify
  run 0 generate "$work/$name" --prompt-tokens $ids -n 12 --ignore-eos
  cp "$work/out" "$work/stored"
  # shellcheck disable=SC2086
  run 0 generate "$families/$name" --bits 4 --double-quant $options --prompt-tokens $ids -n 12 --ignore-eos
  cmp -s "$work/stored" "$work/out" || complain "$name: other tokens than from the stored checkpoint"
  run 0 inspect "$work/$name" --verify
done <<'END'
bloom
gpt2
gpt2_inverse_layer --skip-modules c_attn
gemma3_text
mixtral
mixtral --all-linears
qwen2_moe --all-linears
falcon_7b --all-linears
opt_post_norm
phi3_longrope
END

# --- what transformers 5 would not load quantized stays, and is said aloud
run 0 quantize "$families/mixtral" -o "$work/mixtral-default"
err_has "cannot load them quantized"
err_has "--all-linears"
run 0 quantize "$families/falcon_7b" -o "$work/falcon-default"
err_has "no tensor was quantized"
run 0 inspect "$work/falcon-default" --verify
out_has "quantizes no layer of this family"
run 0 footprint "$families/mixtral" --bits 4 --all-linears --json
all=$(grep -o '"weights_bytes":[0-9]*' "$work/out")
run 0 footprint "$families/mixtral" --bits 4 --json
[[ ${all#*:} -lt $(grep -o '"weights_bytes":[0-9]*' "$work/out" | cut -d: -f2) ]] || complain "--all-linears saves nothing"

# --- of a multimodal model the language model
run 0 quantize "$families/gemma3_multimodal" -o "$work/text"
err_has "only the language model is written"
grep -q '"Gemma3ForCausalLM"' "$work/text/config.json" || complain "the output is not called a language model"
run 0 generate "$work/text" --prompt-tokens $ids -n 4 --ignore-eos

# --- pickles: read where they hold tensors, refused by name where they hold more
run 0 generate "$repo/test/data/layouts/gpt2.bin" --prompt-tokens $ids -n 8 --ignore-eos
cp "$work/out" "$work/pickled"
run 0 generate "$families/gpt2" --prompt-tokens $ids -n 8 --ignore-eos
cmp -s "$work/pickled" "$work/out" || complain "other tokens than from safetensors"
mkdir "$work/hostile"
cp "$families/gpt2/config.json" "$work/hostile/"
cp "$repo/test/data/layouts/refused/os_system.bin" "$work/hostile/pytorch_model.bin"
fails 4 "system" inspect "$work/hostile"

finish
