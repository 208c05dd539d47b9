#!/usr/bin/env bash
# The conversation of `qtool generate` at a terminal, typed by Python's pty module.
source "$(dirname "$0")/lib.sh"
command -v python3 >/dev/null || { echo "SKIPPED: no python3"; exit 77; }

cat >"$work/typist.py" <<'P'
"""Types into a program on a terminal of its own, as a person would: types when it is asked, reads what appears."""
import os
import pty
import re
import select
import signal
import sys
import time

PATIENCE_S = 120  # of one step; the machine may be busy


class Terminal:
    def __init__(self, *command):
        self.seen = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execv(command[0], command)

    def wait_for(self, pattern):
        """What appeared before and with `pattern`, which is taken off."""
        end = time.time() + PATIENCE_S
        while not (found := re.search(pattern, self.seen)):
            if time.time() > end:
                raise AssertionError(f"waited for {pattern!r}, saw {self.seen[-500:]!r}")
            self.read()
        text, self.seen = self.seen[:found.end()], self.seen[found.end():]
        return text

    def read(self):
        if select.select([self.fd], [], [], 0.2)[0]:
            try:
                piece = os.read(self.fd, 65536)
            except OSError:  # the other end is closed
                piece = b""
            if not piece:
                raise AssertionError(f"ended unasked: {self.seen[-500:]!r}")
            self.seen += piece.decode(errors="replace")

    def type(self, text):
        os.write(self.fd, text.encode())

    def code(self):
        """The exit code; reads what is left, or the program could not end."""
        try:
            while True:
                self.read()
        except AssertionError:
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


qtool, model, plain = sys.argv[1:]

# A conversation in the demo's template: the answer, a second one that knows the first, the end by Ctrl-D.
one = Terminal(qtool, "generate", model, "-n", "12", "--threads", "1", "--stop", "\n\n")
assert "a conversation" in one.wait_for(">>> ")
one.type("What is the capital of France?\n")
answer = one.wait_for(">>> ")
assert "Paris" in answer, answer
one.type("And of Italy?\n")
assert one.wait_for(">>> ").strip() != ">>>"
one.type("/clear\n")
one.wait_for(">>> ")
one.type("\n")  # nothing is nothing
one.wait_for(">>> ")
one.type("half a line\x03")  # Ctrl-C forgets it
one.wait_for(">>> ")
one.type("\x04")
assert one.code() == 0

# Ctrl-C stops an answer that would never end, and the conversation goes on.
two = Terminal(qtool, "generate", model, "-n", "100000000", "--context", "200000", "--ignore-eos", "--threads", "1")
two.wait_for(">>> ")
two.type("Speak\n")
two.wait_for(r"Speak\r\n[^>]{40}")  # it speaks
two.type("\x03")
two.wait_for(">>> ")
two.type("Again\n")
two.wait_for(r"Again\r\n[^>]{40}")
os.kill(two.pid, signal.SIGTERM)  # which ends it all
assert two.code() == 130

# More than the context holds is refused, not answered.
three = Terminal(qtool, "generate", model, "-n", "4", "--context", "24", "--threads", "1")
three.wait_for(">>> ")
three.type("word " * 60 + "\n")
assert "/clear" in three.wait_for(">>> ")
three.type("\x04")
assert three.code() == 0

# Without a template the text is continued.
four = Terminal(qtool, "generate", plain, "-n", "5", "--threads", "1")
assert "no chat template" in four.wait_for(">>> ")
four.type("The capital of France is\n")
assert "Paris" in four.wait_for(">>> ")
four.type("\x04")
assert four.code() == 0
P
mkdir "$work/plain"
cp "$demo"/{config.json,model.safetensors,tokenizer.model,generation_config.json} "$work/plain"
python3 "$work/typist.py" "$qtool" "$demo" "$work/plain" || complain "the conversation"

# --- no terminal, or something to say: no conversation
fails 2 "no prompt" generate


finish
