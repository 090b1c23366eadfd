"""Real memory cgroups (v1) for tests marked ``kernel``: what goes over the limit, the kernel kills."""

import os
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

ROOT = Path("/sys/fs/cgroup/memory")
WRITABLE = (
    os.access(ROOT / "memory.limit_in_bytes", os.R_OK) and os.access(ROOT, os.W_OK) and os.geteuid() == 0
)


def needs_groups(test):
    """A test that makes groups."""
    skip = pytest.mark.skipif(not WRITABLE, reason="needs root and a writable cgroup v1 memory hierarchy")
    return pytest.mark.kernel(skip(test))


def below(folder):
    """A group's folder and those below it, the outer ones first."""
    return [Path(each) for each, _, _ in os.walk(folder)]


class Kills:
    """Counts whom the kernel kills in a group and below it.

    On v1 each is counted in the victim's own group, which may be one that a run makes and removes: so
    they are read all the time, and a run leaves such a group for a second.
    """

    def __init__(self, folder):
        self._folder = folder
        self._found = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self):
        while not self._ended.wait(0.02):
            self._look()

    def _look(self):
        for folder in below(self._folder):
            with suppress(OSError):
                lines = (folder / "memory.oom_control").read_text().splitlines()
                self._found[folder] = int(dict(line.split() for line in lines)["oom_kill"])

    def end(self):
        self._ended.set()
        self._thread.join()

    @property
    def count(self):
        self._look()
        return sum(list(self._found.values()))


class Group:
    """One group with a limit."""

    def __init__(self, folder):
        self.folder = folder
        self.counter = Kills(folder)

    def command(self, *command):
        """A command, run inside from its first byte on."""
        return ["sh", "-c", f'echo $$ > "{self.folder}/cgroup.procs" && exec "$@"', "sh", *command]

    @property
    def kills(self):
        """How many processes the kernel has killed in it and below."""
        return self.counter.count


def remove(folder):
    """Remove a group and those below it, with whatever still runs in them."""
    for each in reversed(below(folder)):
        for _ in range(100):
            with suppress(OSError):
                for pid in (each / "cgroup.procs").read_text().split():
                    os.kill(int(pid), 9)
                each.rmdir()
                break
            time.sleep(0.02)


@contextmanager
def group(limit):
    """A group that is removed afterwards, with whatever still runs in it."""
    folder = ROOT / f"penstock-test-{os.getpid()}-{time.monotonic_ns()}"
    folder.mkdir()
    try:
        (folder / "memory.limit_in_bytes").write_text(str(limit))
        made = Group(folder)
        yield made
        made.counter.end()
    finally:
        remove(folder)
