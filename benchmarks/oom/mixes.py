"""Mixes of items, most of them made to go wrong in a small memory budget.

An item is a number. Working on it fills a known amount of memory and gives a checksum that anyone
can foretell without allocating anything. Sizes are made for 1 GiB and 4 workers, ``scale`` changes
them. Run as a program it works on one item: ``python mixes.py MIX SCALE FOLDER ITEM``.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

MiB = 1 << 20
_WORD, _PAGE = 8, 4096
_leaked: list[Any] = []


@dataclass(frozen=True)
class Mix:
    """Items and what they need."""

    about: str
    items: int
    need: Callable[[int], float]
    """Item -> MiB."""
    seconds: float = 0.02
    """How long the memory is held."""
    never_fits: frozenset[int] = frozenset()
    """Items to be named as failed; every other item has a result."""


MIXES = {
    "trivial": Mix("no-ops: what an item costs", 10_000, lambda item: 0, seconds=0),
    "uniform": Mix("60 MiB each: all workers fit", 120, lambda item: 60),
    "wide": Mix("400 MiB each: two at once fit, four do not", 40, lambda item: 400),
    "heavytail": Mix(
        "30 MiB, but three neighbours need 600: no two of them fit",
        300,
        lambda item: 600 if 100 <= item < 103 else 30,
    ),
    "leak": Mix("each call keeps 2 MiB for ever: 2.4 GiB in all", 1200, lambda item: 2, seconds=0.002),
    "spike": Mix("10 MiB for a while, then 350 MiB for 50 ms", 80, lambda item: 350, seconds=0.05),
    "poison": Mix(
        "20 MiB, but item 50 needs 3 GiB and never fits",
        100,
        lambda item: 3072 if item == 50 else 20,
        never_fits=frozenset({50}),
    ),
    "crashonce": Mix("20 MiB; item 50 kills its process at the first attempt", 100, lambda item: 20),
    "bigout": Mix("results of 8 MiB, 1.3 GiB in all; only their checksums are wanted", 160, lambda item: 8),
    "mostheavy": Mix(
        "480 MiB each but the first: what is tried first tells nothing", 20, lambda item: 480 if item else 1,
        seconds=0.03,
    ),
    "mixed": Mix(
        "2 to 450 MiB, as drawn: two at once always fit, four nearly always", 120,
        lambda item: 2 + 448 * random.Random(item).random(), seconds=0.1,
    ),
}  # fmt: skip


def worker(mix: str, scale: float, folder: Path) -> Callable[[int], Any]:
    """The function that a peer calls with every item."""
    return partial(_no_op if mix == "trivial" else _work, mix, scale, folder)


def checksum(mix: str, scale: float, item: int) -> int:
    """What an item must give."""
    if mix == "trivial":
        return 3 * item + 1
    words = _words(mix, scale, item)
    return (item + 1) * -(-words // (_PAGE // _WORD))


def checksum_of(result: Any) -> int:
    """The checksum in a result: alone, or beside the large output of ``bigout``."""
    return int(result[0] if isinstance(result, tuple) else result)


def _words(mix: str, scale: float, item: int) -> int:
    return int(MIXES[mix].need(item) * scale * MiB) // _WORD


def _no_op(mix: str, scale: float, folder: Path, item: int) -> int:
    return 3 * item + 1


def _work(mix: str, scale: float, folder: Path, item: int) -> Any:
    import numpy as np

    _count(folder / "calls")
    if mix == "crashonce" and item == 50:
        _die_once(folder / "has-crashed")
    if mix == "spike":
        base = np.ones(int(10 * scale * MiB), np.uint8)  # noqa: F841
        time.sleep(0.03)
    block = np.full(_words(mix, scale, item), item + 1, np.uint64)
    time.sleep(MIXES[mix].seconds)
    if mix == "leak":
        _leaked.append(block)
    result = int(block[:: _PAGE // _WORD].sum())
    return (result, block.tobytes()) if mix == "bigout" else result


def _count(calls: Path) -> None:
    """One byte for each call begun, whoever begins it."""
    descriptor = os.open(calls, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, b".")
    os.close(descriptor)


def _die_once(mark: Path) -> None:
    try:
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    _mix, _scale, _folder, _item = sys.argv[1:]
    print(_item, checksum_of(worker(_mix, float(_scale), Path(_folder))(int(_item))))
