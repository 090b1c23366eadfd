"""Runs a subject and measures all that it starts."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PR_SET_CHILD_SUBREAPER = 36
_LINGER_SECONDS = 10.0


@dataclass(frozen=True)
class Measured:
    """One run of a subject."""

    cpu: float
    """CPU seconds of the process and of everything it started, its interpreter's start included."""
    wall: float
    told: dict[str, Any]
    """What it printed."""


def command(subject: str, *arguments: object) -> list[str]:
    """How a subject is started."""
    program = Path(__file__).with_name("subjects.py")
    return [sys.executable, str(program), subject, *map(str, arguments)]


def measure(subject: str, *arguments: object) -> Measured:
    """Run it alone to its end, and to the end of what it leaves behind.

    Raises:
        SystemExit: it failed, or its result is wrong.
    """
    _adopt_orphans()
    before = _cpu_of_children()
    began = time.perf_counter()
    # As an installed package runs: its bytecode is written once, whatever this shell is set to.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command(subject, *arguments), stdout=subprocess.PIPE, check=False, env=environment)
    wall = time.perf_counter() - began
    reap()
    if done.returncode != 0:
        raise SystemExit(f"{subject} {arguments} failed with exit code {done.returncode}")
    told = json.loads(done.stdout)
    if not told["right"]:
        raise SystemExit(f"{subject} {arguments} gave a wrong result")
    return Measured(_cpu_of_children() - before, wall, told)


def reap() -> int:
    """Wait for what a subject left behind; how many there still are after ten seconds."""
    deadline = time.monotonic() + _LINGER_SECONDS
    while time.monotonic() < deadline:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.01)
        except ChildProcessError:
            return 0
    tasks = Path(f"/proc/self/task/{os.getpid()}/children")
    return len(tasks.read_text().split())


def _adopt_orphans() -> None:
    """Grandchildren that lose their parent come to us: only then is their CPU counted."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
