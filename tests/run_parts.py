"""Run every part of the tests, two at a time, and say at the end how it went; what ``make test`` does.

A part is a test file right below this folder, or a folder with test files. Each runs in a process of its
own: a budget counts the process that asks, so it must not carry what other tests have imported. What a part
says is shown whole when it has ended, and a part that fails fails the whole.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from waiting import heed_interrupts

HERE = Path(__file__).resolve().parent
FIRST = (
    "adversarial",
    "workloads/recsys",
    "supervise",
    "workloads/snv",
    "workloads/superres",
    "workloads/multimodal",
    "engine",
)
"""The parts that last longest, so that none of them is left for the end."""
KILLING = ("adversarial", "backends", "supervise", "test_joblib.py")
"""Parts that let the kernel kill for memory, or look at whom it killed: one at a time. Where no group has a
limit, only the machine's own counter of such kills is there, and it counts those of both."""
CLOSING = re.compile(r"=* ?\d+ .* in [\d.]+s\b.*")
"""The last line that pytest prints."""
COUNTS = re.compile(r"(\d+) (passed|failed|error|skipped|xfailed|xpassed|deselected|warning)s?\b")


def parts():
    """Names of all parts, the long ones first."""
    files = {path.name for path in HERE.glob("test_*.py")}
    folders = {path.parent.relative_to(HERE).as_posix() for path in HERE.glob("*/**/test_*.py")}
    return sorted(files | folders, key=lambda part: ((*FIRST, part).index(part), part))


class Running:
    """One part, while it runs."""

    def __init__(self, part, options):
        self.part, self.output = part, tempfile.TemporaryFile()  # noqa: SIM115 (shown at the end)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, str(HERE / part)]
        self.process = subprocess.Popen(
            command, cwd=HERE.parent, stdin=subprocess.DEVNULL, stdout=self.output, stderr=subprocess.STDOUT
        )

    def show(self):
        """Pass on what it said; pytest's closing line of it."""
        self.output.seek(0)
        text = self.output.read().decode(errors="replace")
        self.output.close()
        print(f"== tests/{self.part}", text, sep="\n", end="", flush=True)
        return next((line for line in reversed(text.splitlines()) if CLOSING.fullmatch(line)), "")


def choose(waiting, running):
    """The next part that may run beside those that do, or None."""
    busy = any(each.part in KILLING for each in running)
    return next((part for part in waiting if not (busy and part in KILLING)), None)


def run_all(lanes, options):
    """Run them; what pytest counted, and the parts that failed."""
    waiting, running, counts, failed = parts(), [], Counter(), []
    try:
        while waiting or running:
            while len(running) < lanes and (part := choose(waiting, running)):
                waiting.remove(part)
                running.append(Running(part, options))
            ended = [each for each in running if each.process.poll() is not None]
            for each in ended:
                running.remove(each)
                for number, what in COUNTS.findall(each.show()):
                    counts[what] += int(number)
                if each.process.returncode:
                    failed.append(f"tests/{each.part} (exit code {each.process.returncode})")
            if not ended:
                time.sleep(0.05)
    finally:
        for each in running:
            with suppress(ProcessLookupError):
                each.process.terminate()
            each.process.wait()
            each.show()
    return counts, failed


def main(options):
    """Run all; the exit code."""
    heed_interrupts()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    began = time.monotonic()
    counts, failed = run_all(min(2, len(os.sched_getaffinity(0))), options)
    seconds = time.monotonic() - began
    print("== all parts")
    for each in failed:
        print(f"FAILED {each}")
    told = ", ".join(f"{number} {what}" for what, number in counts.items())
    print(f"{told} in {seconds:.2f}s ({seconds // 60:.0f} min {seconds % 60:.0f} s)", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
