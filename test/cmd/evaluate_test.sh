#!/usr/bin/env bash
# qtool evaluate against what transformers computes on the same text (test/data/logits/perplexity.json, made by
# scripts/make_logits). scripts/check_perplexity does the same for whole texts and all schemes.
source "$(dirname "$0")/lib.sh"
text=$repo/test/data/evaluate.txt
reference=$repo/test/data/logits/perplexity.json
float32=(--window 256 --compute-dtype float32)
wanted() { grep -oE "\"$1\": [-0-9.e]+" "$reference" | cut -d' ' -f2; }

# --- perplexity, KL divergence and agreement, quantizing while loading
run 0 evaluate "$demo" --text "$text" "${float32[@]}" --bits 4 --double-quant --reference "$demo" --json
json "d['schema'] == 'qtool.evaluate/1' and d['tokens'] == $(wanted tokens)"
json "abs(d['nll'] - $(wanted nf4dq)) < 5e-5"
json "abs(d['perplexity'] / 2.718281828459045 ** $(wanted nf4dq) - 1) < 5e-5"
json "abs(d['kl_mean'] - $(wanted kl_mean)) < 5e-5 and abs(d['kl_p99'] - $(wanted kl_p99)) < 2e-3"
json "abs(d['top1_agreement'] - $(wanted top1_agreement)) < 2e-3 and d['seconds'] > 0"

# --- alone, for people
run 0 evaluate "$demo" --text "$text" "${float32[@]}"
perplexity=$(python 'import math, sys; print("%.3f" % math.exp(float(sys.argv[1])))' "$(wanted base)") &&
  out_has "perplexity      $perplexity"
out_has "$(wanted tokens) tokens"
out_lacks "KL"

# --- a quantized folder
if [[ -d $shared/models/demo-nf4dq ]]; then
  run 0 evaluate "$shared/models/demo-nf4dq" --text "$text" --window 256 --json
  json "abs(d['nll'] - $(wanted nf4dq)) < 5e-5 and d['kl_mean'] is None"
fi

# --- a short text and small windows, which are cheap: thresholds
head -c 400 "$text" >"$work/short"
short=(evaluate "$demo" --text "$work/short" --window 32)
run 9 "${short[@]}" --max-perplexity 2 --json
err_has "perplexity"
json 'd["perplexity"] > 2 and d["tokens"] % 31 == 0'
run 0 "${short[@]}" --max-perplexity 100000
run 9 "${short[@]}" --bits 4 --reference "$demo" --max-kl 1e-9
err_has "mean KL divergence"
run 0 "${short[@]}" --reference "$demo" --max-kl 1e-9 --json
json 'd["kl_mean"] == 0 and d["top1_agreement"] == 1'

# --- what is refused
fails 2 "--text is needed" evaluate "$demo"
fails 3 "$work/nothing" evaluate "$demo" --text "$work/nothing"
fails 2 "less than one window of 512" evaluate "$demo" --text "$work/short"
fails 2 "--window must lie" evaluate "$demo" --text "$text" --window 1
fails 2 "--max-kl needs --reference" evaluate "$demo" --text "$text" --max-kl 1
fails 2 "vocabulary of 64" evaluate "$demo" --text "$text" --reference "$repo/test/data/logits/tiny"

finish
