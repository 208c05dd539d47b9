#!/usr/bin/env bash
# Many processes write one output folder: one wins whole, the others fail with a sentence, nothing is left over.
#   concurrent_test.sh QTOOL REPOSITORY
source "$(dirname "$0")/small_model.sh"
use_memory
source "$(dirname "$0")/lib.sh"
cd "$work" || exit 1
processes=100

small_model model 2 256
arguments=(quantize model -q --device cpu --threads 1 --double-quant --max-shard-size 60KB)
run 0 "${arguments[@]}" -o good
mkdir said

# crowd NAME OPTION...: all at the same time; their codes are then in codes[].
crowd() {
  local i ids=()
  for ((i = 0; i < processes; ++i)); do
    "$qtool" "${arguments[@]}" -o x "${@:2}" >said/$i.out 2>said/$i.err </dev/null &
    ids+=($!)
  done
  codes=()
  for ((i = 0; i < processes; ++i)); do
    wait "${ids[i]}"
    codes+=($?)
  done
  won=0
  for ((i = 0; i < processes; ++i)); do
    case ${codes[i]} in
      0) won=$((won + 1)) ;;
      2) [[ $(wc -l <said/$i.err) == 1 && ! -s said/$i.out ]] &&
        grep -qE 'another process is writing|exists already' said/$i.err ||
        complain "$1: process $i says: $(head -c 300 said/$i.err)" ;;
      *) complain "$1: exit code ${codes[i]}: $(head -c 300 said/$i.err)" ;;
    esac
  done
  same_folder x good
  alone model good said x
  rm -rf x
  echo "$1: $won of $processes won"
}

crowd "all at once"
((won == 1)) || complain "$won processes won"

# With --resume, who comes after the winner finds the work done.
crowd "resuming" --resume
((won >= 1)) || complain "nobody won"

mkdir x && echo '{}' >x/config.json
crowd "replacing" --force
((won >= 1)) || complain "nobody replaced"

# One of them is killed: its files are in nobody's way.
"$qtool" "${arguments[@]}" -o x >out 2>err </dev/null &
process=$!
for _ in {1..500}; do
  [[ -e .x.qtool ]] && break
done
kill -KILL $process
{ wait $process; } 2>/dev/null
rm -rf x
crowd "after a kill"
((won == 1)) || complain "$won processes won after a kill"
finish
