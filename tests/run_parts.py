"""Run every part of the tests, some at a time, and say at the end how it went; what ``make test`` does.

A part is a test file right below this folder, or a folder with test files. Each runs in a process of its
own: a budget counts the process that asks, so it must not carry what other tests have imported. Those that
can share a process (``own_process``) and are short are one part: most of what each would take is the start
of pytest. What a part says is shown whole when it has ended, with the seconds and the CPU seconds that it
and all its processes took, and a part that fails fails the whole.

Parts need not be kept apart because the kernel kills in them: a worker that it killed is told by the counter
of the worker's own control group. Where none can be made, no test has it kill.
"""

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from own_process import OWN_PARTS, needs_own_process
from waiting import heed_interrupts

from penstock import discover

HERE = Path(__file__).resolve().parent
FIRST = (
    "adversarial",
    "workloads/recsys",
    "workloads/snv",
    "workloads/superres",
    "workloads/codons",
    "workloads/kmers",
    "engine",
    "workloads/multimodal",
    "supervise",
    "record",
    "backends",
    "together",
    "clusters",
    "report",
    "cli",
    "fuzz",
    "test_joblib.py",
    "test_executor.py",
    "test_rescue.py",
    "test_docs.py",
)
"""The parts that last longest, so that none of them is left for the end. Those that compile kernels go before
the one that asks for all of them: what is compiled at the same time elsewhere would be compiled twice."""
TOGETHER = "together"
"""The part of the short ones that share a process."""
MEMORY = 2 << 30
"""Bytes that a part takes at most, by and large."""
OTHERS = ("on_dask", "on_slurm")
"""Parts that need a cluster of somebody else: `make test-cluster` runs them."""
CLOSING = re.compile(r"=* ?\d+ .* in [\d.]+s\b.*")
"""The last line that pytest prints."""
COUNTS = re.compile(r"(\d+) (passed|failed|error|skipped|xfailed|xpassed|deselected|warning)s?\b")


def parts():
    """The files and folders of each part by its name, the long ones first."""
    found = {path.name: [path] for path in HERE.glob("test_*.py")}
    for path in HERE.glob("*/**/test_*.py"):
        if path.relative_to(HERE).parts[0] not in OTHERS:
            found.setdefault(path.parent.relative_to(HERE).as_posix(), []).append(path)
    shared = [name for name, files in found.items() if can_share(name, files)]
    named = {name: [HERE / name] for name in found if name not in shared}
    if shared:
        named[TOGETHER] = [HERE / name for name in sorted(shared)]
    return {name: named[name] for name in sorted(named, key=lambda part: ((*FIRST, part).index(part), part))}


def can_share(name, files):
    """Whether a part is short, and nothing in it needs a process of its own."""
    alone = name in FIRST or name.split("/")[0] in OWN_PARTS
    return not alone and not any(needs_own_process(file) for file in files)


def lanes():
    """How many parts at a time: about half of what each lasts it waits, for processes, disks and clocks."""
    return max(1, min(2 * discover.cpus(), discover.discover("auto").budget.bytes // MEMORY))


class Running:
    """One part, while it runs.

    The folders of its tests are its own: in the one that pytest has for all, each pytest that ends removes
    what others left, and two that do so at once warn of each other, which fails a part.
    """

    def __init__(self, part, places, options):
        self.part, self.output = part, tempfile.TemporaryFile()  # noqa: SIM115 (shown at the end)
        self.folder = tempfile.mkdtemp(prefix="tests-")
        self.began, self.took = time.monotonic(), "not ended"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            f"--basetemp={self.folder}/0",  # short: the name of a socket has at most 107 characters
            *options,
            *map(str, places),
        ]
        self.process = subprocess.Popen(
            command,
            cwd=HERE.parent,
            env={**os.environ, "PYTEST_DEBUG_TEMPROOT": self.folder},
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=subprocess.STDOUT,
        )

    def ended(self):
        """Whether it has; what it took is counted by the system when its end is asked for."""
        before = cpu_seconds()
        if self.process.poll() is None:
            return False
        self.took = f"{time.monotonic() - self.began:.0f} s, {cpu_seconds() - before:.0f} CPU s"
        return True

    def show(self):
        """Pass on what it said; pytest's closing line of it. What it wrote is kept where it failed."""
        if self.process.returncode == 0 or not os.listdir(self.folder):
            shutil.rmtree(self.folder, ignore_errors=True)
        self.output.seek(0)
        text = self.output.read().decode(errors="replace")
        self.output.close()
        print(f"== tests/{self.part} ({self.took})", text, sep="\n", end="", flush=True)
        return next((line for line in reversed(text.splitlines()) if CLOSING.fullmatch(line)), "")


def cpu_seconds():
    """Of all processes below this one that have ended and were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run_all(lanes, options):
    """Run them; what pytest counted, and the parts that failed."""
    waiting, running, counts, failed = list(parts().items()), [], Counter(), []
    try:
        while waiting or running:
            while len(running) < lanes and waiting:
                running.append(Running(*waiting.pop(0), options))
            ended = [each for each in running if each.ended()]
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
    counts, failed = run_all(lanes(), options)
    seconds = time.monotonic() - began
    print("== all parts")
    for each in failed:
        print(f"FAILED {each}")
    told = ", ".join(f"{number} {what}" for what, number in counts.items())
    took = f"{seconds // 60:.0f} min {seconds % 60:.0f} s, {cpu_seconds():.0f} CPU s"
    print(f"{told} in {seconds:.2f}s ({took})", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
