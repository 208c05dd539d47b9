#!/usr/bin/env bash
# `qtool quantize --resume`: what is kept, what is not, and what is said about it.
#   resume_test.sh QTOOL REPOSITORY
source "$(dirname "$0")/small_model.sh"
use_memory
source "$(dirname "$0")/lib.sh"
cd "$work" || exit 1

small_model model 4 512
arguments=(quantize model -o x --device cpu --threads 1 --double-quant --max-shard-size 60KB)
run 0 "${arguments[@]}" --json
cp out whole.json
mv x good
shards=$(ls good | grep -c 'model-.*safetensors$')

# --- nothing to go on with is no error, nor is work that is done
run 0 "${arguments[@]}" --resume
same_folder x good
[[ $(<out) == x ]] || complain "stdout is $(<out)"
alone model good whole.json x
run 0 "${arguments[@]}" --resume
err_has "finished already"
[[ $(<out) == x ]] || complain "stdout is $(<out)"
run 0 "${arguments[@]}" --resume --verify
fails 2 "exists already" "${arguments[@]}"
# ... but not what is not this work
fails 2 "exists already" "${arguments[@]}" --resume --quant-type fp4 -q
fails 2 "exists already" "${arguments[@]/60KB/70KB}" --resume -q
touch -d '+1 hour' model/model.safetensors
fails 2 "exists already" "${arguments[@]}" --resume -q
touch -d '-1 hour' model/model.safetensors
rm -rf x
alone model good whole.json

build_shim
# cut N: a run that is killed when it would write the N-th note about a finished file.
cut() {
  {
    FAULT_CALL=write FAULT_NTH=$1 FAULT_ERROR=-1 FAULT_LAST=once LD_PRELOAD=./shim.so \
      "$qtool" "${arguments[@]}" -q "${@:2}" >out 2>err </dev/null
    code=$?
  } 2>/dev/null
  [[ $code == 137 && -d .x.qtool && -f .x.qtool-journal ]] || complain "the run was not cut: exit code $code"
}
notes() { grep -c finished .x.qtool-journal; }
writes=0 # that a whole run needs
{ FAULT_CALL=write FAULT_NTH=0 FAULT_LOG=calls LD_PRELOAD=./shim.so "$qtool" "${arguments[@]}" -q >out; } 2>err
writes=$(<calls)
rm -rf x calls
half=$((writes / 2))

# --- what is finished is kept, and reported as if there had been one run
cut $half
kept=$(notes)
((kept > 0 && kept < shards)) || complain "$kept of $shards files are finished"
for file in .x.qtool/model-*; do touch -d '2001-01-01' "$file"; done
run 0 "${arguments[@]}" --resume --json
err_has "going on: $kept finished files are kept"
same_folder x good
python 'import json, sys
a, b = (json.load(open(path)) for path in sys.argv[1:])
for d in (a, b): [d.pop(key) for key in ("seconds", "gb_per_s", "peak_rss_bytes")]
sys.exit(a != b)' out whole.json || { command -v python3 >/dev/null && complain "the report of a resumed run differs"; }
rm -rf x
alone model good whole.json shim.so

# --- without --resume it is discarded, and that is said
cut $half
run 0 "${arguments[@]}"
err_has "with --resume it is gone on with"
same_folder x good
rm -rf x
alone model good whole.json shim.so

# --- other options, another input: anew
cut $half --quant-type fp4
run 0 "${arguments[@]}" --resume
err_has "starting anew: what lies there was begun with other options"
same_folder x good
rm -rf x
cut $half
touch model/model.safetensors
run 0 "${arguments[@]}" --resume
err_has "begun from other files"
same_folder x good
rm -rf x
cut $half
sed -i '1s/^[^ ]*/0.0.1/' .x.qtool-journal
run 0 "${arguments[@]}" --resume
err_has "begun by another version"
same_folder x good
rm -rf x
alone model good whole.json shim.so

# --- notes that are damaged, or speak of files that are not there
cut $half
printf 'finished 7 1' >>.x.qtool-journal # the power went while this was written
printf x >.x.qtool/stray
run 0 "${arguments[@]}" --resume
err_has "going on: $kept finished"
same_folder x good
rm -rf x
cut $half
printf 'finished 99999 1\nfinished -1\nfinished 0 9223372036854775807\nerror 99999 1\n\n\1\2\n' >>.x.qtool-journal
first=$(sed -n 's/^finished \([0-9]*\).*/\1/p' .x.qtool-journal | head -1)
file=$(printf '.x.qtool/model-%05d-of-%05d.safetensors' $((first + 1)) "$shards")
truncate -s -1 "$file"
run 0 "${arguments[@]}" --resume
err_has "going on: $((kept - 1)) finished"
same_folder x good
rm -rf x
cut $half
rm -rf .x.qtool && ln -s /etc .x.qtool # somebody's trick
run 0 "${arguments[@]}" --resume
same_folder x good
rm -rf x
cut $half
rm -rf .x.qtool-journal && ln -s model/config.json .x.qtool-journal
fails 10 ".x.qtool-journal" "${arguments[@]}" --resume -q
rm -rf .x.qtool .x.qtool-journal
alone model good whole.json shim.so

# --- replacing goes on, too, and is never content with what is to be replaced
cp -r good x
cut $half --force
run 0 "${arguments[@]}" --resume --force
err_has "going on: $kept finished"
same_folder x good
rm -rf x
alone model good whole.json shim.so

# --- one at a time
if command -v flock >/dev/null; then
  : >.x.qtool-journal
  flock .x.qtool-journal sleep 5 &
  sleeper=$!
  for _ in {1..100}; do flock -n .x.qtool-journal true || break; done
  fails 2 "another process is writing" "${arguments[@]}" --resume -q
  kill $sleeper
  rm -f .x.qtool-journal
fi
alone model good whole.json shim.so
finish
