#!/usr/bin/env bash
# qtool tokenize: text to ids and back, from arguments, stdin and JSON lines.
source "$(dirname "$0")/lib.sh"

out_is() { [[ $(cat "$work/out") == "$1" ]] || complain "$said: stdout is '$(head -c 300 "$work/out")', expected '$1'"; }
# piped CODE STDIN ARGUMENT...
piped() {
  local expected=$1 input=$2 code=0
  shift 2
  said="qtool $* <<< ..."
  printf '%s' "$input" | "$qtool" "$@" >"$work/out" 2>"$work/err" || code=$?
  [[ $code == "$expected" ]] || complain "$said: exit code $code, expected $expected: $(cat "$work/err")"
}

run 0 tokenize "$demo" "The capital of France is"
out_is "1 398 605 287 1989 347"
err_is_empty
run 0 tokenize "$demo" "The capital of France is" --no-special
out_is "398 605 287 1989 347"
run 0 tokenize "$demo" "The capital of France is" --count
out_is "6"
run 0 tokenize "$demo" --json "The capital"
out_is '{"count":3,"ids":[1,398,605],"schema":"qtool.tokenize/1","tokens":["<s>","▁The","▁capital"]}'
run 0 tokenize "$demo" --json --count "The capital"
out_is '{"count":3,"schema":"qtool.tokenize/1"}'

run 0 tokenize "$demo" --decode "1 398,605"
out_is "<s> The capital"
run 0 tokenize "$demo" --decode --no-special "[1, 398, 605]"
out_is "The capital"
piped 0 "1 398 605" tokenize "$demo" --decode --json
out_is '{"schema":"qtool.tokenize/1","text":"<s> The capital"}'

piped 0 "The capital of France is" tokenize "$demo"
out_is "1 398 605 287 1989 347"
piped 0 $'a\xff' tokenize "$demo" --no-special --json # bytes that are no UTF-8 become U+FFFD
out_has '"tokens":["▁a","<0xEF>","<0xBF>","<0xBD>"]'
QTOOL_MODEL=$demo piped 0 "The capital" tokenize --count
out_is "3"

piped 0 '{"text": "The capital"}
{"text": "The capital", "add_special_tokens": false}

{"ids": [1, 398], "skip_special_tokens": true}
{"ids": [1, 398]}' tokenize "$demo" --jsonl
out_is '{"ids":[1,398,605]}
{"ids":[398,605]}
{"text":"The"}
{"text":"<s> The"}'

# Every form of a tokenizer's files is found by itself.
tokenizers=$repo/test/data/tokenizers
for form in byte-level byte-fallback unigram-charsmap unigram-llama unigram-backend vocab-merges tiktoken; do
  run 0 tokenize "$tokenizers/$form" --no-special "in the year"
  run 0 tokenize "$tokenizers/$form" --decode "$(cat "$work/out")"
  [[ $(cat "$work/out") =~ ^\ ?in\ the\ year$ ]] || complain "$form: comes back as '$(cat "$work/out")'"
done

fails 2 "outside the vocabulary" tokenize "$demo" --decode "4096"
fails 2 "no token id" tokenize "$demo" --decode "one"
fails 2 "do not go with" tokenize "$demo" "text" --jsonl
fails 3 "" tokenize "$work/nothing" "text"
mkdir "$work/empty"
fails 3 "no tokenizer" tokenize "$work/empty" "text"
echo '{"a": 0}' >"$work/empty/vocab.json"
fails 3 "merges.txt" tokenize "$work/empty" "text"
touch "$work/empty/merges.txt"
fails 5 "known classes are GPT2Tokenizer" tokenize "$work/empty" "text"
echo 'YQ== 0' >"$work/empty/tokenizer.model"
fails 5 "tiktoken" tokenize "$work/empty" "text"
echo '{"model": {"type": "WordPiece"}}' >"$work/empty/tokenizer.json"
fails 5 "WordPiece" tokenize "$work/empty" "text"
echo '{"model": {"type": "BPE", "vocab": {"a": 0, "b": 0}, "merges": []}}' >"$work/empty/tokenizer.json"
fails 4 "tokenizer.json" tokenize "$work/empty" "text"
piped 4 '{"text": ' tokenize "$demo" --jsonl
err_has "line 1"
piped 2 '{"words": 1}' tokenize "$demo" --jsonl
err_has "stdin, line 1"

finish
