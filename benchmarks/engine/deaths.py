"""kill -9, of the parent and of workers, in the middle of a run in a named folder."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from measured import command, measure, reap

from penstock.proc import descendants

_ITEMS, _SECONDS = 200, 0.01
"""Of the run that is killed: about a second of two workers."""
_ITEM_SECONDS = 0.02


@dataclass(frozen=True)
class Outcome:
    """What came of a run after its deaths."""

    items: int
    identical: bool
    """The same bytes as of an undisturbed run."""
    repeated: int
    """Items worked more than once."""
    kills: int
    seconds: float
    left: int = 0
    """Processes that outlived the parent by ten seconds."""


def of_the_parent(kills: int, moments: random.Random) -> list[Outcome]:
    """For each kill: a fresh run, killed at a moment drawn over its whole length, then the same command."""
    with tempfile.TemporaryDirectory() as name:
        calm = measure("killable", _ITEMS, _SECONDS, Path(name) / "run", Path(name) / "calls")
    outcomes: list[Outcome] = []
    while len(outcomes) < kills:
        outcome = _kill_and_repeat(moments.uniform(0, calm.wall), calm.told["digest"])
        if outcome is not None:
            outcomes.append(outcome)
    return outcomes


def _kill_and_repeat(moment: float, digest: str) -> Outcome | None:
    """None when the run had ended before the moment came."""
    with tempfile.TemporaryDirectory() as name:
        calls = Path(name) / "calls"
        arguments = (_ITEMS, _SECONDS, Path(name) / "run", calls)
        began = time.monotonic()
        process = subprocess.Popen(command("killable", *arguments), stdout=subprocess.DEVNULL)
        time.sleep(moment)
        if process.poll() is not None:
            return None
        process.kill()
        process.wait()
        again = measure("killable", *arguments)  # at once: what the dead one left must not matter
        left = reap()
        seconds = time.monotonic() - began
        return Outcome(_ITEMS, again.told["digest"] == digest, _repeated(calls), 1, seconds, left)


def of_workers(seconds: float, victims: random.Random) -> Outcome:
    """One run of about so many seconds on two workers; each second one of its workers is killed."""
    count = int(2 * seconds / _ITEM_SECONDS)
    with tempfile.TemporaryDirectory() as name:
        calm = measure("killable", count, 0.0, Path(name) / "run", Path(name) / "calls")
    with tempfile.TemporaryDirectory() as name:
        calls = Path(name) / "calls"
        program = command("killable", count, _ITEM_SECONDS, Path(name) / "run", calls)
        began = due = time.monotonic()
        kills = 0
        with subprocess.Popen(program, stdout=subprocess.PIPE) as process:
            while process.poll() is None:
                due += 1.0
                time.sleep(max(due - time.monotonic(), 0))
                kills += _kill_one(process.pid, victims)
            assert process.stdout is not None
            told = process.stdout.read()
        ended = time.monotonic() - began
        identical = process.returncode == 0 and json.loads(told)["digest"] == calm.told["digest"]
        return Outcome(count, identical, _repeated(calls), kills, ended)


def _kill_one(parent: int, victims: random.Random) -> bool:
    """A worker is a grandchild: a child of the fork server."""
    servers = _children(parent)
    workers = sorted(worker for server in servers for worker in _children(server))
    if not workers:
        return False
    with suppress(ProcessLookupError):
        os.kill(victims.choice(workers), signal.SIGKILL)
        return True
    return False


def _children(pid: int) -> set[int]:
    below = set(descendants(pid))
    deeper = {child for each in below for child in descendants(each)}
    return below - deeper


def _repeated(calls: Path) -> int:
    if not calls.exists():
        return 0
    return sum(times > 1 for times in Counter(calls.read_text().split()).values())
