"""System V shared memory: it outlives its creator, so a killed run would leave it behind."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_TABLE = Path("/proc/sysvipc/shm")
_IPC_RMID = 0


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment, as the kernel lists it."""

    number: int
    creator: int
    """The process that made it."""
    attached: int
    """How many have it mapped."""
    user: int
    changed: float
    """When it was made, in seconds since the epoch."""


def read(table: Path = _TABLE) -> Iterator[Segment]:
    """Every segment that is visible from here."""
    try:
        head, *rows = table.read_text().splitlines()
    except (OSError, ValueError):
        return
    names = head.split()
    for row in rows:
        told = dict(zip(names, row.split(), strict=False))
        try:
            yield Segment(
                int(told["shmid"]), int(told["cpid"]), int(told["nattch"]), int(told["cuid"]),
                float(told["ctime"]),
            )  # fmt: skip
        except (KeyError, ValueError):
            continue


def is_left(segment: Segment, lives: Mapping[int, tuple[float, float]], user: int) -> bool:
    """Whether its creator is known to be gone and nobody has it attached.

    Args:
        segment: as it is.
        lives: by process number, when a process of ours began and ended, in seconds since the epoch.
        user: ours.
    """
    return segment.attached == 0 and _is_of(segment, lives, user)


def _is_of(segment: Segment, lives: Mapping[int, tuple[float, float]], user: int) -> bool:
    began, ended = lives.get(segment.creator, (0.0, -1.0))
    made_then = began - 1 <= segment.changed <= ended + 1  # it is told in whole seconds
    return segment.user == user and made_then


def remove_left(lives: Mapping[int, tuple[float, float]]) -> set[int]:
    """Remove the segments that these processes left; returns the creators of those still attached.

    See :func:`is_left`.
    """
    mapped: set[int] = set()
    for segment in read() if lives else ():
        if is_left(segment, lives, os.geteuid()):
            ctypes.CDLL(None).shmctl(segment.number, _IPC_RMID, None)
        elif _is_of(segment, lives, os.geteuid()):
            mapped.add(segment.creator)
    return mapped
