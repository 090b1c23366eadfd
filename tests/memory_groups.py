"""Real memory cgroups (v1) for tests marked ``kernel``: what goes over the limit, the kernel kills."""

import os
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


class Group:
    """One group with a limit."""

    def __init__(self, folder):
        self.folder = folder

    def command(self, *command):
        """A command, run inside from its first byte on."""
        return ["sh", "-c", f'echo $$ > "{self.folder}/cgroup.procs" && exec "$@"', "sh", *command]

    @property
    def kills(self):
        """How many processes the kernel has killed in it."""
        lines = (self.folder / "memory.oom_control").read_text().splitlines()
        return int(dict(line.split() for line in lines)["oom_kill"])


@contextmanager
def group(limit):
    """A group that is removed afterwards, with whatever still runs in it."""
    folder = ROOT / f"penstock-test-{os.getpid()}-{time.monotonic_ns()}"
    folder.mkdir()
    try:
        (folder / "memory.limit_in_bytes").write_text(str(limit))
        yield Group(folder)
    finally:
        for _ in range(100):
            with suppress(OSError):
                for pid in (folder / "cgroup.procs").read_text().split():
                    os.kill(int(pid), 9)
                folder.rmdir()
                break
            time.sleep(0.02)
