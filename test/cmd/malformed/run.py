"""Runs the program on every malformed checkpoint: the right exit code and sentence, soon, small, and nothing else.

Arguments: the program, the repository, a working folder.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
import traceback

import cases_config
import cases_files
import cases_quantized
import cases_tensors
import cases_text
import good

PROGRAM, REPOSITORY, WORK = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
GROUPS = (cases_tensors, cases_config, cases_quantized, cases_text, cases_files)
# Bytes that move a terminal's cursor or turn the reading direction.
UNSAFE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
SANITIZED = b"__asan_init" in pathlib.Path(PROGRAM).read_bytes()
MOST_SECONDS = 40.0 if SANITIZED else 2.0  # of processor time: this machine may be busy
MOST_BYTES = None if SANITIZED else 200e6
HANGS_AFTER = 120.0  # of the clock on the wall

COMMANDS = {
    "inspect": ["inspect", "MODEL"],
    "tensors": ["inspect", "MODEL", "--tensors"],
    "verify": ["inspect", "MODEL", "--verify"],
    "footprint": ["footprint", "MODEL"],
    "quantize": ["quantize", "MODEL", "-o", "OUT", "--bits", "4"],
    "quantize-verify": ["quantize", "MODEL", "-o", "OUT", "--bits", "4", "--verify"],
    "quantize-16": ["quantize", "MODEL", "-o", "OUT", "--bits", "16"],
    "generate": ["generate", "MODEL", "-p", "hello", "-n", "2", "--device", "cpu"],
    "chat": ["generate", "MODEL", "--chat", "-p", "hello", "-n", "2", "--device", "cpu"],
    "render": ["generate", "MODEL", "--chat", "-p", "hello", "--print-prompt"],
    "tokenize": ["tokenize", "MODEL", "hello"],
    "long": ["tokenize", "MODEL", "a" * 100_000],
}

failures = []
slowest, largest, runs = (0.0, ""), (0, ""), 0


def complain(name, what):
    failures.append(name)
    print(f"FAILED: {name}: {what}", file=sys.stderr)


def run(arguments):
    """Exit code (negative: a signal, None: it hung), stdout, stderr, processor seconds, most resident bytes."""
    with open(WORK / "out", "wb") as out, open(WORK / "err", "wb") as err:
        process = subprocess.Popen([PROGRAM, *arguments], stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                   cwd=WORK)
        give_up = time.monotonic() + HANGS_AFTER
        pid = 0
        while pid == 0:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid == 0:
                if time.monotonic() > give_up:
                    process.kill()
                    pid, status, usage = os.wait4(process.pid, 0)
                    status = None
                time.sleep(0.002)
    process.returncode = 0  # reaped here, not by subprocess
    code = None if status is None else os.waitstatus_to_exitcode(status)
    return (code, (WORK / "out").read_bytes(), (WORK / "err").read_bytes(), usage.ru_utime + usage.ru_stime,
            usage.ru_maxrss * 1024)


def check_streams(name, code, out, err):
    if out and not name.endswith("verify"):
        complain(name, f"stdout is not empty: {out[:200]}")
    try:
        text = err.decode()
    except UnicodeDecodeError:
        return complain(name, f"stderr is no UTF-8: {err[:300]}")
    # quantize --verify lists what it found before it fails.
    if text.count("\n") != 1 and not name.endswith("quantize-verify"):
        complain(name, f"stderr is not one line: {text[:400]}")
    if UNSAFE.search(text.rstrip("\n")) or UNSAFE.search(out.decode(errors="replace").replace("\n", "")):
        complain(name, f"prints control characters: {err[:300]}")
    if len(text) > 2000:
        complain(name, f"stderr has {len(text)} characters")


def check(name, model, command, expected, words):
    global slowest, largest, runs
    name = f"{name}: {command}"
    output = WORK / "output"
    arguments = [{"MODEL": str(model), "OUT": str(output)}.get(word, word) for word in COMMANDS[command]]
    code, out, err, seconds, size = run(arguments)
    runs += 1
    slowest, largest = max(slowest, (seconds, name)), max(largest, (size, name))
    said = err.decode(errors="replace")
    if code != expected:
        complain(name, f"exit code {code}, expected {expected}: {said[:400]}")
    elif expected and words not in said:
        complain(name, f"does not say '{words}': {said[:400]}")
    if expected:
        check_streams(name, code, out, err)
    if seconds > MOST_SECONDS:
        complain(name, f"took {seconds:.1f} s")
    if MOST_BYTES and size > MOST_BYTES:
        complain(name, f"took {size / 1e6:.0f} MB")
    if expected:
        left = [p.name for p in WORK.iterdir() if p.name.startswith((".output", "output"))]
        if left:
            complain(name, f"left {left}")
    for path in WORK.glob("*output*"):
        shutil.rmtree(path)


def check_json(name, model, command, expected):
    """The same failure for programs: one object on stderr."""
    arguments = [{"MODEL": str(model), "OUT": str(WORK / "output")}.get(word, word) for word in COMMANDS[command]]
    _, _, err, _, _ = run([*arguments, "--json"])
    try:
        said = json.loads(err)["error"]
        if said["code"] != expected or UNSAFE.search(said["message"] + (said["path"] or "")):
            complain(f"{name}: {command} --json", said)
    except (ValueError, KeyError, TypeError):
        complain(f"{name}: {command} --json", f"no JSON on stderr: {err[:300]}")


def quantized(name, options):
    _, _, err, _, _ = run(["quantize", str(WORK / "good/plain"), "-o", str(WORK / "good" / name), *options])
    if not (WORK / "good" / name).is_dir():
        sys.exit(f"cannot make {name}: {err.decode()}")


def make_bases():
    good.write_model(WORK / "good/plain")
    good.write_sharded(WORK / "good/sharded")
    good.write_torch(WORK / "good/torch")
    good.write_vocab_merges(WORK / "good/vocab_merges")
    good.write_sentencepiece(WORK / "good/sentencepiece", REPOSITORY / "test/data/demo")
    good.write_tiktoken(WORK / "good/tiktoken")
    quantized("nf4", ["--bits", "4"])
    quantized("nested", ["--bits", "4", "--double-quant"])
    quantized("int8", ["--bits", "8"])


def check_bases():
    """What the cases spoil is sound: otherwise they would fail for another reason than theirs."""
    for base in sorted((WORK / "good").iterdir()):
        wanted = ["inspect", "tokenize"]
        if base.name not in ("sentencepiece", "vocab_merges", "tiktoken"):
            wanted += ["verify", "footprint", "generate", "chat"]
        if base.name in ("plain", "sharded", "torch"):
            wanted.append("quantize-verify")
        for command in wanted:
            check(f"sound {base.name}", base, command, 0, "")


def apart(spoil, folder):
    """Spoils in a process of its own: what this one ever held would count as its children's most resident bytes."""
    pid = os.fork()
    if pid == 0:
        try:
            spoil(folder)
            os._exit(0)
        finally:
            traceback.print_exc()
            os._exit(1)
    if os.waitpid(pid, 0)[1] != 0:
        sys.exit("a case cannot be made")


def remove(path):
    for folder in path.rglob("*"):
        if folder.is_dir() and not folder.is_symlink():
            folder.chmod(0o700)
    shutil.rmtree(path)


def main():
    only = sys.argv[4] if len(sys.argv) > 4 else ""
    make_bases()
    if not only:
        check_bases()
    names = set()
    for group in GROUPS:
        for name, base, spoil, code, words, commands in group.CASES:
            if name in names:
                sys.exit(f"two cases are called {name}")
            names.add(name)
            if only not in name:
                continue
            model = WORK / "model"
            shutil.copytree(WORK / "good" / base, model, symlinks=True)
            apart(spoil, model)
            for command in commands.split():
                check(name, model, command, code, words)
            if code:
                check_json(name, model, commands.split()[0], code)
            remove(model)
    print(f"{len(names)} malformed checkpoints, {runs} runs; slowest {slowest[0]:.2f} s ({slowest[1]}), "
          f"largest {largest[0] / 1e6:.0f} MB ({largest[1]})")
    sys.exit(1 if failures else 0)


main()
