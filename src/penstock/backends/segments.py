"""Shared memory of System V: it outlives who made it, so a killed run would leave it to the machine."""

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
    """One, as the kernel tells of it."""

    number: int
    creator: int
    """The process that made it."""
    attached: int
    """How many have it mapped."""
    user: int
    changed: float
    """When it was made, in seconds since the epoch."""


def read(table: Path = _TABLE) -> Iterator[Segment]:
    """Every segment that can be seen from here."""
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
    """Whether a process made it that is known to be gone, and nobody has it mapped.

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
    """Remove those that these processes left; the makers of those that somebody has mapped still.

    See :func:`is_left`.
    """
    mapped: set[int] = set()
    for segment in read() if lives else ():
        if is_left(segment, lives, os.geteuid()):
            ctypes.CDLL(None).shmctl(segment.number, _IPC_RMID, None)
        elif _is_of(segment, lives, os.geteuid()):
            mapped.add(segment.creator)
    return mapped
