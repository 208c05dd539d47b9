#!/usr/bin/env bash
# Each system call and allocation of `qtool quantize` fails once: the exit code is right, one sentence says why, and the
# output folder is whole or not there.
#   fault_test.sh QTOOL REPOSITORY
source "$(dirname "$0")/small_model.sh"
use_memory
source "$(dirname "$0")/lib.sh"
cd "$work" || exit 1
build_shim

small_model model
arguments=(quantize model -q -o x --device cpu --threads 2 --double-quant --max-shard-size 20KB)
run 0 "${arguments[@]}"
mv x good
(($(ls good | grep -c safetensors) > 4)) || complain "the output has too few shards to be a test"
runs=0

# fault CALL NTH ERRNO LAST CODES: runs it with a call that fails; false when it is over before that call comes.
fault() {
  said="$1 number $2 fails with errno $3 ($4)"
  runs=$((runs + 1))
  local failed=$failures
  FAULT_CALL=$1 FAULT_NTH=$2 FAULT_ERROR=$3 FAULT_LAST=$4 FAULT_LOG=calls LD_PRELOAD=./shim.so \
    "$qtool" "${arguments[@]}" >out 2>err </dev/null
  code=$?
  count=0
  [[ ! -s calls ]] || count=$(<calls)
  rm -f calls
  [[ " $5 " == *" $code "* ]] || complain "$said: exit code $code, expected one of: $5: $(head -c 300 err)"
  if ((code != 0)); then
    [[ ! -s out ]] || complain "$said: stdout is not empty"
    err_is_one_line
    err_has "qtool"
  elif [[ ! -d x || $(<out) != x ]]; then
    complain "$said: a success without output"
  fi
  if [[ -e x ]]; then
    same_folder x good
    rm -rf x
  fi
  [[ $4 == on ]] && rm -rf .x.* # without memory nothing can be removed
  alone model good shim.so
  ((failures == failed)) || echo "    (these: $said)" >&2
  ((count > 0 && $2 <= count))
}

# every ERRNO CODES CALL...: each call of these kinds in turn, until a run passes untouched.
every() {
  local error=$1 codes=$2 call n
  for call in "${@:3}"; do
    n=1
    while fault $call $n "$error" once "$codes"; do n=$((n + 1)); done
    ((code == 0)) || complain "$call: a run that nothing happened to fails"
  done
}

# spread CALL ERRNO LAST CODES RUNS: as many calls as that, evenly spread, the first ones all.
spread() {
  local n all step
  fault "$1" 0 0 once 0
  all=$count
  ((all > 0)) || complain "$1: no call is seen"
  step=$(((all + $5 - 1) / $5))
  for n in 1 2 3 4 5 6 7 8; do fault "$1" $n "$2" "$3" "$4"; done
  for ((n = 9; n <= all; n += step)); do fault "$1" $n "$2" "$3" "$4"; done
}

EIO=5 EINTR=4 ENOMEM=12 EMFILE=24 EAGAIN=11 ENOSPC=28 EROFS=30 ENOLCK=37 EINVAL=22 EDQUOT=122 part=0
# What fails may be something that can be done without, such as asking how much memory there is: then nothing is amiss.
every $EIO "0 10" open read pread write ftruncate fsync rename mkdir fstat statvfs opendir
every $ENOSPC "0 10" write fsync rename mkdir ftruncate
every $EROFS "0 10" rename mkdir
every $EMFILE "0 10" open opendir
every $EINVAL "0 10" rename # file systems without renameat2's flags
every $EINTR "0" open read pread write fsync ftruncate flock
every $part "0" read pread write
every $ENOLCK "0" flock # file systems without locks
every $EAGAIN "0" pthread_create
every $ENOMEM "0 6 10" mmap opendir
spread pwrite $ENOSPC once 10 40
spread pwrite $EDQUOT once 10 10
spread pwrite $EIO once 10 10
spread pwrite $EINTR once 0 10
spread pwrite $part once 0 40
spread malloc $ENOMEM once "0 6" 150
spread malloc $ENOMEM on "0 6" 50

# The same where a folder is replaced: it is the old one or the new one.
mkdir old && echo '{}' >old/config.json
for n in {1..6}; do
  cp -r old x
  FAULT_CALL=rename FAULT_NTH=$n FAULT_ERROR=$EIO FAULT_LAST=once FAULT_LOG=calls LD_PRELOAD=./shim.so \
    "$qtool" "${arguments[@]}" --force >out 2>err
  code=$?
  if ((code == 0)); then same_folder x good; else same_folder x old; fi
  rm -rf x calls
  alone model good old shim.so
done
((code == 0)) || complain "replacing: a run that nothing happened to fails"

# Less and less memory to be had, down to where the program cannot even be loaded (127, or a library that gives up
# before main).
too_little=0
for command in "${arguments[*]}" "generate -q -p The -n 2 --device cpu --threads 4"; do
  for ((kilobytes = 120000; kilobytes > 10000; kilobytes = kilobytes * 97 / 100)); do
    said="$command within $kilobytes KB"
    (
      ulimit -v $kilobytes
      exec "$qtool" $command >out 2>err </dev/null
    )
    code=$?
    ((code != 127)) && ! grep -q '^Error in GnuTLS initialization' err || break
    [[ $code == 0 || $code == 6 ]] || complain "$said: exit code $code: $(head -c 300 err)"
    if ((code == 6)); then
      too_little=$((too_little + 1))
      out_is_empty
      err_is_one_line
    fi
    [[ ! -e x ]] || same_folder x good
    rm -rf x
    alone model good old shim.so
  done
done
((too_little > 0)) || complain "memory was never too little"

# A folder that cannot be written, and a disk that is full, where this user may make them.
mkdir small
if mount -t tmpfs -o ro none small 2>/dev/null; then
  fails 10 "Read-only file system" "${arguments[@]/#x/small/x}"
  umount small
fi
for size in 40k 96k; do # found out before the work begins, and when the last files are written
  mount -t tmpfs -o size=$size none small 2>/dev/null || break
  fails 10 "bytes" "${arguments[@]/#x/small/x}"
  [[ -z $(ls -A small) ]] || complain "something is left on the full disk"
  umount small
done
if ((EUID != 0)); then
  chmod a-w small
  fails 10 "Permission denied" "${arguments[@]/#x/small/x}"
fi
rm -rf small

echo "$runs runs"
finish
