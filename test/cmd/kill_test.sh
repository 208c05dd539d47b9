#!/usr/bin/env bash
# `qtool quantize` is killed, or interrupted, at any instant: the same command with --resume then gives the same bytes.
#   kill_test.sh QTOOL REPOSITORY      $KILL_ROUNDS: how many random instants (40)
source "$(dirname "$0")/small_model.sh"
use_memory
source "$(dirname "$0")/lib.sh"
cd "$work" || exit 1
rounds=${KILL_ROUNDS:-40}
RANDOM=20240607

small_model model 4 1024
arguments=(quantize model -o x --device cpu --threads 2 --double-quant --max-shard-size 60KB)
run 0 "${arguments[@]}"
mv x good
going_on=0

# What is there after the kill is nothing, or whole; and the same command ends the work.
resumed() {
  [[ ! -e x ]] || same_folder x good
  run 0 "${arguments[@]}" --resume
  ! grep -q 'going on' err || going_on=$((going_on + 1))
  same_folder x good
  rm -rf x
  alone model good shim.so
}

# --- at a random instant, at times again at another one of the run that resumes
start=$(date +%s%N)
for _ in 1 2 3 4 5; do run 0 "${arguments[@]}" -q --force; done
took=$((($(date +%s%N) - start) / 5000)) # microseconds a run
rm -rf x
for ((round = 0; round < rounds; ++round)); do
  said="round $round"
  for ((kills = 1 + (RANDOM % 3 == 0); kills > 0; --kills)); do
    "$qtool" "${arguments[@]}" --resume >out 2>err </dev/null &
    process=$!
    sleep "$(printf '%d.%06d' 0 $((took * (RANDOM % 1000) / 1000)))"
    kill -KILL $process 2>/dev/null
    { wait $process; } 2>/dev/null
  done
  resumed
done
echo "$rounds kills, $going_on runs went on"

# --- Ctrl-C at a random instant: exit 130 and nothing left, or it was too late
interrupts=0
for ((round = 0; round < rounds; ++round)); do
  said="interrupt $round"
  : >out # the signal may come before the command has opened it
  "$qtool" "${arguments[@]}" >out 2>err </dev/null &
  process=$!
  sleep "$(printf '%d.%06d' 0 $((took * (RANDOM % 1000) / 1000)))"
  kill -INT $process 2>/dev/null
  wait $process
  code=$?
  case $code in
    130) out_is_empty; [[ ! -e x ]] || complain "$said: interrupted, but there is an output"; interrupts=$((interrupts + 1)) ;;
    0) same_folder x good ;;
    *) complain "$said: exit code $code: $(head -c 300 err)" ;;
  esac
  rm -rf x
  alone model good shim.so
done
echo "$rounds interrupts, $interrupts in time"

# --- with --resume the work is kept, whatever the signal: what a batch system does before it kills
"$qtool" "${arguments[@]}" --resume >out 2>err </dev/null &
process=$!
sleep "$(printf '%d.%06d' 0 $((took / 2)))"
kill -TERM $process 2>/dev/null
wait $process
code=$?
[[ $code == 0 || $code == 130 ]] || complain "exit code $code after SIGTERM"
((code == 0)) || err_has "--resume goes on"
resumed

# --- instead of each system call that changes the disk
build_shim
small_model model 1
rm -rf good
arguments=(quantize model -o x --device cpu --threads 1 --double-quant --max-shard-size 20KB)
run 0 "${arguments[@]}"
mv x good
cuts=0
for call in open mkdir flock pwrite write fsync ftruncate rename unlink; do
  step=1
  [[ $call != pwrite ]] || step=5 # there are hundreds
  for ((n = 1; ; n += step)); do
    said="killed instead of $call number $n"
    {
      FAULT_CALL=$call FAULT_NTH=$n FAULT_ERROR=-1 FAULT_LAST=once LD_PRELOAD=./shim.so \
        "$qtool" "${arguments[@]}" >out 2>err </dev/null
      code=$?
    } 2>/dev/null
    ((code != 0)) || break
    ((code == 137)) || complain "$said: exit code $code"
    resumed
    cuts=$((cuts + 1))
  done
  rm -rf x
done
# ... also where a folder is replaced: it is the old one or the new one
mkdir old && echo '{}' >old/config.json
for call in mkdir write fsync ftruncate rename unlink; do
  for ((n = 1; ; ++n)); do
    said="killed instead of $call number $n, replacing"
    cp -r old x
    {
      FAULT_CALL=$call FAULT_NTH=$n FAULT_ERROR=-1 FAULT_LAST=once LD_PRELOAD=./shim.so \
        "$qtool" "${arguments[@]}" --force >out 2>err </dev/null
      code=$?
    } 2>/dev/null
    if [[ -f x/model.safetensors.index.json ]]; then same_folder x good; else same_folder x old; fi
    ((code != 0)) || break
    run 0 "${arguments[@]}" --force --resume
    same_folder x good
    rm -rf x
    alone model good old shim.so
    cuts=$((cuts + 1))
  done
  rm -rf x
done
echo "$cuts kills between system calls"
((cuts > 40)) || complain "too few kills between system calls"
((going_on > 10)) || complain "only $going_on runs had something to go on with"
finish
