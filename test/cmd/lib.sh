# What the scripts of test/cmd share. Each begins with:  source "$(dirname "$0")/lib.sh"
# Arguments of a script: $1 the qtool binary, $2 the repository.
set -u
qtool=$1
repo=$2
shared=$repo/../shared
demo=$repo/test/data/demo
unset "${!QTOOL_@}" "${!HF_@}" NO_COLOR HUGGINGFACE_HUB_CACHE HUGGING_FACE_HUB_TOKEN XDG_CACHE_HOME
work=$(mktemp -d)
# A child that a signal meets before it has become another program would run this too.
trap '[[ $BASHPID != "$$" ]] || rm -rf "$work"' EXIT
failures=0

complain() {
  echo "FAILED: $1" >&2
  failures=$((failures + 1))
}

# run EXPECTED_CODE ARGUMENT...: runs qtool; its streams are then in $work/out and $work/err.
run() {
  local expected=$1 code=0
  shift
  said="qtool $*"
  "$qtool" "$@" >"$work/out" 2>"$work/err" </dev/null || code=$?
  [[ $code == "$expected" ]] || {
    complain "$said: exit code $code, expected $expected"
    sed 's/^/    /' "$work/err" >&2
  }
}

out_has() { grep -qF -- "$1" "$work/out" || complain "$said: stdout lacks: $1"; }
out_lacks() { ! grep -qF -- "$1" "$work/out" || complain "$said: stdout has: $1"; }
out_is_empty() { [[ ! -s $work/out ]] || complain "$said: stdout is not empty: $(head -c 200 "$work/out")"; }
err_has() { grep -qF -- "$1" "$work/err" || complain "$said: stderr lacks: $1; it says: $(head -c 400 "$work/err")"; }
err_is_empty() { [[ ! -s $work/err ]] || complain "$said: stderr is not empty: $(head -c 200 "$work/err")"; }
err_is_one_line() { [[ $(wc -l <"$work/err") == 1 ]] || complain "$said: stderr is not one line: $(cat "$work/err")"; }

# fails CODE TEXT ARGUMENT...: an error as everybody sees it (one sentence on stderr that has TEXT, nothing on stdout).
fails() {
  local code=$1 text=$2
  shift 2
  run "$code" "$@"
  out_is_empty
  err_has "$text"
  err_is_one_line
}

# json EXPRESSION: holds for the document `d` on stdout. Without python3 only the first character is looked at.
json() {
  if command -v python3 >/dev/null; then
    python3 -c 'import json, sys
d = json.load(open(sys.argv[1]))
sys.exit(0 if eval(sys.argv[2]) else 1)' "$work/out" "$1" || complain "$said: not so: $1"
  else
    [[ $(head -c 1 "$work/out") == "{" ]] || complain "$said: stdout is no JSON object"
  fi
}

# safetensors FILE HEADER BYTES: a file with this JSON header and so many zero bytes of data (sparse).
safetensors() {
  local header=$2 length i
  while ((${#header} % 8 != 0)); do header+=" "; done
  length=${#header}
  {
    for i in 0 1 2 3 4 5 6 7; do printf "\\x$(printf %02x $((length >> (8 * i) & 255)))"; done
    printf %s "$header"
  } >"$1"
  truncate -s +"$3" "$1"
}

# python CODE ARGUMENT...: runs a snippet that makes test data; false without python3.
python() { command -v python3 >/dev/null && python3 -c "$@"; }

finish() {
  ((failures == 0)) || { echo "$failures failures" >&2; exit 1; }
}
