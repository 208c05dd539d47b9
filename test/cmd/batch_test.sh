#!/usr/bin/env bash
# qtool generate --batch-file: many prompts at a time say what each says alone, in order, whatever the others are.
# $3: how many lines to compare; the default is quick.
source "$(dirname "$0")/lib.sh"
lines=${3:-60}
export OMP_WAIT_POLICY=passive  # tests run beside each other: waiting threads shall not take the others' time
command -v python3 >/dev/null || { echo "needs python3"; exit 77; }

# --- the answers are those of the lines run one by one, with command-line options that say the same
cat >"$work/compare.py" <<'PYTHON'
import json, random, subprocess, sys
qtool, model, work, count, *more = sys.argv[1:]
count = int(count)
rng = random.Random(7)
places = ["France", "Spain", "Surinam", "Mongolia", "Peru", "Japan", "Chad", "Fiji"]
openings = ["The capital of {} is", "{} lies in", "Question: Where is {}?\nAnswer:", "{}", "In the north of {}, the"]

def make(i):
    """A line, and the arguments that ask the same of a single run."""
    line, args = {}, []
    def both(key, option, value):
        line[key] = value
        args.extend([option] if value is True else [option, str(value)])
    kind = rng.randrange(12)
    text = rng.choice(openings).format(rng.choice(places)) + " and so on" * rng.choice([0, 0, 0, 3, 40])
    if kind == 0:  # a conversation
        messages = [{"role": "user", "content": text}]
        line["messages"] = messages
        path = f"{work}/messages-{i}.json"
        open(path, "w").write(json.dumps(messages))
        args += ["--messages", path]
    elif kind <= 2:  # ids, at times out of range
        ids = [1] + [rng.randrange(4, 4096) for _ in range(rng.randrange(0, 24))] + [5000] * (rng.random() < 0.1)
        line["prompt_tokens"] = ids
        args += ["--prompt-tokens", ",".join(map(str, ids))]
    else:
        line["prompt"] = text
        args += ["--prompt", text]
    both("max_new_tokens", "-n", rng.choice([0, 1, 5, 12, 24, 40]))
    if rng.random() < 0.5:
        for key, option, values in [("temperature", "--temperature", [0, 0.7, 1.3]), ("top_k", "--top-k", [0, 1, 20]),
                                    ("top_p", "--top-p", [0.5, 0.9]), ("min_p", "--min-p", [0.05]),
                                    ("typical_p", "--typical-p", [0.8])]:
            if rng.random() < 0.4: both(key, option, rng.choice(values))
        both("seed", "--seed", rng.randrange(2**64))
    if rng.random() < 0.1: both("sample", "--sample", True)
    if rng.random() < 0.2: both("repetition_penalty", "--repetition-penalty", 1.2)
    if rng.random() < 0.2: both("no_repeat_ngram_size", "--no-repeat-ngram-size", rng.choice([2, 3]))
    if rng.random() < 0.2: both("ignore_eos", "--ignore-eos", True)
    if rng.random() < 0.1: both("logprobs", "--logprobs", 2)
    if rng.random() < 0.1: both("prompt_logprobs", "--prompt-logprobs", 1)
    if rng.random() < 0.2:
        line["stop"] = rng.sample([".", "\n", " the", "is "], rng.randrange(1, 3))
        for stop in line["stop"]: args += ["--stop", stop]
    if rng.random() < 0.1:
        line["stop_token"] = [287, 4013]
        args += ["--stop-token", "287", "--stop-token", "4013"]
    if rng.random() < 0.1:
        line["logit_bias"] = {"13": -1.5, "262": "-inf"}
        args += ["--logit-bias", "13=-1.5", "--logit-bias", "262=-inf"]
    if rng.random() < 0.04: both("temperature", "--temperature", -1)
    if rng.random() < 0.02: both("top_p", "--top-p", 1.5)
    if rng.random() < 0.5: line["id"] = f"line {i}"
    return line, args

made = [make(i) for i in range(count)]
file = f"{work}/lines.jsonl"
open(file, "w").write("".join(json.dumps(line) + "\n" for line, _ in made))
common = [model, "--json", "--deterministic", *more]
batch = subprocess.run([qtool, "generate", *common, "--batch-file", file], capture_output=True, text=True)
answers = [json.loads(line) for line in batch.stdout.splitlines()]
print(batch.stderr.splitlines()[0])
faults = 0 if len(answers) == count else 1
failed = same = 0
for i, ((line, args), answer) in enumerate(zip(made, answers)):
    alone = subprocess.run([qtool, "generate", *common, *args], capture_output=True, text=True)
    ok = answer["line"] == i + 1 and answer.get("id") == line.get("id")
    if alone.returncode:
        failed += 1
        expected = json.loads(alone.stderr.splitlines()[-1])["error"]
        ok &= all(answer.get("error", {}).get(key) == expected[key] for key in ("code", "kind"))
    else:
        expected = json.loads(alone.stdout)
        ok &= "error" not in answer
        for key in ("prompt", "prompt_tokens", "tokens", "text", "finish_reason", "logprobs", "prompt_logprobs"):
            ok &= answer.get(key) == expected.get(key)
    same += ok
    if not ok and (faults := faults + 1) <= 3:
        print("differs:", line, "\n  alone:", alone.stdout or alone.stderr, "\n  batch:", answer)
print(f"{same} of {count} lines as alone, {failed} of them refused")
sys.exit(faults or batch.returncode != (2 if failed else 0))
PYTHON
compare() { python3 "$work/compare.py" "$qtool" "$@" || complain "a batch's answers are not those of single runs: $*"; }
compare "$demo" "$work" "$lines"
compare "$demo" "$work" 20 --max-batch 3 --context 300 --compute-dtype float32
compare "$demo" "$work" 20 --bits 4 --double-quant
compare "$demo" "$work" 20 --bits 8 --int8-threshold 1.5

# --- options of the command hold for lines without their own
cat >"$work/lines" <<'LINES'
"The capital of France is"

{"prompt": "The capital of France is", "max_new_tokens": 2, "id": {"any": ["thing", 1]}}
{"prompt": "The capital of France is", "stop": "Paris", "temperature": null}
LINES
all() {  # EXPRESSION: holds for the list `d` of all answers
  python3 -c 'import json, sys
d = [json.loads(line) for line in open(sys.argv[1])]
sys.exit(0 if eval(sys.argv[2]) else 1)' "$work/out" "$1" || complain "$said: not so: $1"
}
run 0 generate "$demo" --batch-file "$work/lines" -n 4
err_has "3 lines (0 failed), prompt 18 tokens, new 7 tokens"
err_has "new tok/s"
err_has "mean batch"
all '[a["line"] for a in d] == [1, 3, 4] and all(a["schema"] == "qtool.generate.line/1" for a in d)'
all '[a["text"] for a in d] == [" Paris, and France", " Paris,", " "]'
all '[a["finish_reason"] for a in d] == ["length", "length", "stop_string"]'
all '"id" not in d[0] and d[1]["id"] == {"any": ["thing", 1]}'
cp "$work/out" "$work/answers"
"$qtool" generate "$demo" --batch-file - -n 4 -q <"$work/lines" >"$work/out" || complain "a piped batch fails"
cmp -s "$work/out" "$work/answers" || complain "a piped batch is answered otherwise"
run 0 generate "$demo" --batch-file "$work/lines" -n 4 -o "$work/file" -q
out_is_empty
err_is_empty
cmp -s "$work/file" "$work/answers" || complain "$said: -o writes something else"
run 0 generate "$demo" --batch-file "$work/lines" -n 4 --chat
all 'd[0]["prompt"].startswith("<s>Question:")'
: >"$work/none"
run 0 generate "$demo" --batch-file "$work/none"
out_is_empty

# --- a wrong line has its error in its place, with its number; the others go on
cat >"$work/lines" <<'LINES'
"The capital of France is"
{"prompt": "x"
{"prompt": "x", "prompt": "y"}
{"prompt": "x", "colour": 1, "id": 5}
{"id": "none"}
{"prompt": "x", "prompt_tokens": [1]}
{"prompt": 5}
{"prompt_tokens": [1, 4096]}
{"prompt_tokens": [1, -1]}
{"prompt_tokens": [1, 99999999999999999999]}
{"prompt_tokens": []}
{"prompt": "x", "max_new_tokens": -1}
{"prompt": "x", "max_new_tokens": 2.5}
{"prompt": "x", "seed": -1}
{"prompt": "x", "top_p": "high"}
{"prompt": "x", "top_p": 2}
{"prompt": "x", "stop": ""}
{"prompt": "x", "stop": [5]}
{"prompt": "x", "logit_bias": {"9999": 1}}
{"prompt": "x", "logit_bias": {"two": 1}}
{"prompt": "x", "logit_bias": [1]}
{"prompt": "x", "logprobs": 5000}
{"prompt": "x", "tools": []}
{"messages": "hello"}
{"messages": [{"role": "user"}], "chat_template_kwargs": 5}
[1, 2]
17
{"prompt": "x", "temperature": NaN}
LINES
printf '"\xff"\n' >>"$work/lines"
python3 -c 'print("{\"prompt\": \"" + "word " * 1000 + "\"}"); print("[" * 100000)' >>"$work/lines"
echo '{"prompt": "The capital of Spain is", "max_new_tokens": 1}' >>"$work/lines"
run 4 generate "$demo" --batch-file "$work/lines" -n 1
err_has "30 of 32 lines failed; the first: line 2, column"
all 'len(d) == 32 and [a["line"] for a in d] == list(range(1, 33))'
all '[a["line"] for a in d if "error" not in a] == [1, 32] and d[0]["text"] == " Paris" and d[31]["text"] == " Mad"'
all 'all(a["error"]["message"].startswith("line %d" % a["line"]) for a in d[1:31])'
all '[a["line"] for a in d[1:31] if a["error"]["kind"] != "usage"] == [2, 3, 28, 29, 31]'
all 'd[3]["id"] == 5 and d[4]["id"] == "none"'
said_by() {  # LINE TEXT
  all "\"$2\" in d[$1 - 1]['error']['message']"
}
said_by 3 "duplicate key"
said_by 4 "there is no key 'colour'"
said_by 5 "must have one of"
said_by 6 "must have one of"
said_by 7 "'prompt' must be a string, is 5"
said_by 8 "token id 4096 is outside"
said_by 9 "token id -1 is outside"
said_by 10 "'prompt_tokens' must be an integer"
said_by 11 "no tokens"
said_by 12 "'max_new_tokens' must be 0 or more"
said_by 16 "'top_p' must lie between 0 and 1"
said_by 17 "'stop' must not be empty"
said_by 19 "token id 9999 is outside"
said_by 22 "'logprobs' must lie between"
said_by 23 "'tools' goes with 'messages'"
said_by 29 "not valid UTF-8"
said_by 30 "the context holds 512"
run 4 generate "$demo" --batch-file "$work/lines" -n 1 --json -q
[[ $(tail -1 "$work/err") == '{"error":{"code":4,"kind":"malformed"'* ]] || complain "$said: $(tail -1 "$work/err")"

# --- what concerns all lines is said before any is answered
fails 3 "$work/nothing" generate "$demo" --batch-file "$work/nothing"
fails 2 "--batch-file" generate "$demo" --batch-file "$work/lines" -p x
fails 2 "--batch-file" generate "$demo" --batch-file "$work/lines" --messages "$work/lines"
fails 2 "--top-p must lie" generate "$demo" --batch-file "$work/lines" --top-p 2
fails 2 "--max-batch" generate "$demo" --batch-file "$work/lines" --max-batch -1
yes '"x"' | head -4000 >"$work/lines"
fails 6 "4000 x 1000000000 tokens" generate "$demo" --batch-file "$work/lines" --max-batch 4000 --context 1000000000 -q

# --- answers come as soon as their turn has; an interrupt leaves those that are out
mkfifo "$work/pipe"
yes '{"prompt": "The", "max_new_tokens": 400, "ignore_eos": true}' | head -2000 >"$work/lines"
"$qtool" generate "$demo" --batch-file "$work/lines" --max-batch 2 -q >"$work/pipe" 2>"$work/err" &
batch=$!
{
  read -r first
  kill -INT $batch
  cat >"$work/rest"
} <"$work/pipe"
code=0
wait $batch || code=$?
[[ $code == 130 ]] || complain "an interrupted batch: exit code $code"
[[ $first == *'"line":1,'* ]] || complain "the first answer is not that of line 1: ${first:0:200}"
[[ $(wc -l <"$work/rest") -lt 1900 ]] || complain "the interrupt came too late to test anything"
python3 -c 'import json, sys
for line in open(sys.argv[1]): json.loads(line)' "$work/rest" || complain "an interrupt left half a line"

finish
