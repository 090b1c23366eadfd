"""What a run that was disturbed has left: results, journal, what was worked, processes."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import disturbed

import penstock

LIMIT = 600.0
"""Seconds after which what has not come about never will."""


POLL = 0.1
"""Seconds between two looks: looking takes of the machine that the run is on."""


def until(there: Callable[[], Any], seconds: float = LIMIT, what: str = "") -> Any:
    """Wait for something and give it.

    Raises:
        AssertionError: it does not come.
    """
    deadline = time.monotonic() + seconds
    while not (value := there()):
        assert time.monotonic() < deadline, f"{what or 'it'} did not come about within {seconds:g} s"
        time.sleep(POLL)
    return value


def marked(mark: str) -> dict[int, str]:
    """Processes with this mark in their environment, and their commands; none of Dask's own."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() not in (place / "environ").read_bytes():
                continue
            command = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if (place / "stat").read_text().rpartition(")")[2].split()[0] == "Z":
                continue
        except OSError:
            continue
        if "distributed" not in command and "multiprocessing" not in command:
            found[int(place.name)] = command[:200]
    return found


def living(pids: set[int]) -> set[int]:
    """Those of these processes that are still there, zombies not counted."""
    left = set()
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z":
            left.add(pid)
    return left


def digests(folder: Path) -> dict[str, str]:
    """Of all results, as they lie in the folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.md5(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and (".penstock" not in path.parts or path.name.startswith("result"))
        and path.name not in ("report.html", "report.json")
    }


def log_lines(log: Path) -> list[dict[str, Any]]:
    """What the run said of nodes and leases; the last line may be half written."""
    lines = log.read_bytes().split(b"\n")[:-1] if log.exists() else []
    return [json.loads(line) for line in lines]


def check_results(folder: Path, expected: dict[str, str], stages: Sequence[str]) -> None:
    """The same bytes, every item in one line, and nothing that verify faults."""
    seen = digests(folder)
    odd = {name for name in seen.keys() | expected.keys() if seen.get(name) != expected.get(name)}
    assert not odd, f"other bytes, or missing, or too many: {sorted(odd)[:5]}"
    verified = penstock.verify(folder)
    assert verified.ok, verified.faults
    for stage in stages:
        journal = (folder / ".penstock" / stage / "journal").read_text().splitlines()
        kept = sorted(entry["kept"] for entry in map(_entry, journal) if "kept" in entry)
        at = 0
        for start, stop in kept:
            assert start == at, f"{stage}: after item {at} a line has items {start} to {stop}"
            at = stop
        assert at == disturbed.ITEMS, f"{stage}: lines end at item {at}"


def _entry(line: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(line[line.index("{") : line.rindex("}") + 1])
    return found


def repeated(worked: Path, logs: list[Path]) -> tuple[int, int]:
    """Items that were worked more than once, and how many that might have been.

    Raises:
        AssertionError: one that was not in a lease that was open when its node or the parent was lost, or
            more often than that; or a node had more than two leases.
    """
    allowed: Counter[tuple[str, int]] = Counter()
    for log in logs:
        for stage, start, stop in _lost_leases(log_lines(log)):
            allowed.update((stage, item) for item in range(start, stop))
    times = Counter(tuple(line.split()) for line in worked.read_text().splitlines())
    extra = Counter({(stage, int(item)): count - 1 for (stage, item), count in times.items() if count > 1})
    beyond = extra - allowed
    assert not beyond, f"worked again, though kept: {sorted(beyond.items())[:5]}"
    return extra.total(), allowed.total()


def _lost_leases(lines: list[dict[str, Any]]) -> list[tuple[str, int, int]]:
    """Those that did not come back, of nodes that were lost or of a parent that was."""
    open_now: dict[tuple[str, int], tuple[str, int, int]] = {}
    heard = set()
    lost = []
    for line in lines:
        if "sent" in line:
            open_now[line["of"], line["sent"]] = line["stage"], line["start"], line["stop"]
            there = [key for key in open_now if key[0] == line["of"] and key not in heard]
            assert len(there) <= 2, "a node has three leases"
        elif "heard" in line:
            heard.add((line["of"], line["heard"]))
        elif "back" in line:
            open_now.pop((line["of"], line["back"]), None)
        elif "lost" in line:
            lost += [open_now.pop(key) for key in list(open_now) if key[0] == line["lost"]]
    return lost + list(open_now.values())
