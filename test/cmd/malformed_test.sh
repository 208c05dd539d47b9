#!/usr/bin/env bash
# Checkpoints from strangers: some three hundred ways to be wrong, through the program (test/cmd/malformed); what they
# write on a terminal; and files that change while they are read.
source "$(dirname "$0")/lib.sh"
command -v python3 >/dev/null || { echo "skipped: python3 is missing"; exit 77; }

mkdir "$work/cases"
PYTHONDONTWRITEBYTECODE=1 python3 "$repo/test/cmd/malformed/run.py" "$qtool" "$repo" "$work/cases" ||
  complain "a malformed checkpoint"

# --- names that paint the terminal, where they are shown and not refused: tables, logs, JSON
esc=$(printf '\\u%04x' 27) override=$(printf '\\u%04x' 8238)
mkdir "$work/painted"
echo "{\"architectures\": [\"${esc}[2J${override}Model\"], \"model_type\": \"${esc}]0;x\"}" >"$work/painted/config.json"
safetensors "$work/painted/model.safetensors" \
  "{\"a${esc}[31m.${override}b\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}}" 24
harmless() {  # neither stream has a control character but the line's end, nor one that turns the direction
  ! LC_ALL=C grep -qP '[\x00-\x08\x0b-\x1f\x7f]|\xe2\x80[\x8b-\x8f\xa8-\xae]' "$work/out" "$work/err" ||
    complain "$said: paints the terminal"
}
for arguments in "" "--tensors" "--verify" "--hash" "--json" "--tensors --json"; do
  # shellcheck disable=SC2086
  "$qtool" inspect "$work/painted" $arguments >"$work/out" 2>"$work/err" </dev/null
  said="inspect painted $arguments"
  [[ -s $work/out ]] || complain "$said: says nothing"
  harmless
done
"$qtool" inspect "$work/painted" --tensors >"$work/out" 2>"$work/err"
out_has 'a\x1b[31m.\u202eb'
"$qtool" footprint "$work/painted" --log-file "$work/log" >"$work/out" 2>"$work/err"
cat "$work/log" >>"$work/err"
harmless
err_has '\x1b[2J\u202eModel'
mkdir "$work/$(printf 'a\033[31m\342\200\256b')"
"$qtool" inspect "$work/$(printf 'a\033[31m\342\200\256b')" >"$work/out" 2>"$work/err"
harmless

# --- a file that shrinks while it is read ends in a sentence, not in a signal
mkdir "$work/shrinking"
cp "$work/painted/config.json" "$work/shrinking"
size=$((1 << 36))
safetensors "$work/shrinking/model.safetensors" \
  "{\"a\":{\"dtype\":\"U8\",\"shape\":[$size],\"data_offsets\":[0,$size]}}" $size
"$qtool" inspect "$work/shrinking" --hash >"$work/out" 2>"$work/err" &
job=$!
sleep 0.5
truncate -s 1000000 "$work/shrinking/model.safetensors"
wait $job
[[ $? == 10 ]] || complain "a shrinking file: not 10"
said="a shrinking file"
err_has "changed while it was read"
out_is_empty

finish
