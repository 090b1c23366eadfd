"""The first stage: reads every large member once, checks it, and copies it narrow if it cannot be mapped.

A deflated member cannot be entered in the middle, so each member is one item, read from its beginning to
the last value that is used. In its copy any position costs no more than any other. Coverage is not copied;
its medians are found by counting.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

import penstock
from penstock import compiling
from penstock.abc import Batch, Receipt
from penstock.workloads.snv.coverage_unit import some_positions
from penstock.workloads.snv.reading.arrays import Array
from penstock.workloads.snv.reading.copying import NoRoom, check, copy
from penstock.workloads.snv.reading.medians import BINS, medians
from penstock.workloads.snv.table import Table


class Members:
    """The large members of a table as items, as (name, Array)."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._items = [
            ("counts", table.counts), ("quals", table.quals), ("indel", table.indel), ("p", table.p),
            ("coverage", table.coverage),
        ]  # fmt: skip

    def __len__(self) -> int:
        return len(self._items)

    def read(self, start: int, stop: int) -> list[tuple[str, Array]]:
        """Descriptions of members, which the function reads as streams."""
        return self._items[start:stop]

    def name(self, item: int) -> str:
        """The member's."""
        return self._items[item][1].label

    def fingerprint(self) -> Mapping[str, str]:
        """A fingerprint of the table's files."""
        return self._table.prints


@dataclass(frozen=True)
class ReadMember:
    """Checks a member; copies it, or finds the medians of the coverage.

    What can be mapped is not copied, nor what the disk has no room for: that will be streamed.

    Args:
        copies: whether to copy at all.
        spare: bytes of the disk that copies must leave to the results.
        p: the positions of the table, at some of which the coverage is wanted.

    Returns ``{"copies": path or None, "facts": {name: {...}}}``.
    """

    copies: bool
    spare: int
    p: Array

    def warming(self) -> str:
        """A note to print before code is compiled; empty if none will be."""
        return compiling.note(Path(__file__).parent / "kernel" / "counting.py", "tally", "narrow")

    def warm(self) -> None:
        """Load the compiled code, once for all workers."""
        from penstock.workloads.snv import kernel

        low, width, below, most = (np.zeros(1, np.int64) for _ in range(4))
        kernel.tally(np.empty(0, np.int64), 0, 1, 1, low, width, below, np.zeros((1, BINS), np.uint32), most)
        one = np.zeros(1, np.int64)
        one.flags.writeable = False
        kernel.narrow(one, np.zeros(1, np.uint8))
        kernel.narrow(one, np.zeros(1, np.uint16))

    def __call__(self, item: tuple[str, Array]) -> dict[str, Any]:
        """Read a member.

        Raises:
            BadInput: it is damaged, or holds a value that cannot be, naming sample and position.
        """
        name, array = item
        if name == "coverage":
            rows, columns = some_positions(self.p, *array.shape)
            middle, seen = medians(array, columns)
            return {"copies": None, "facts": {name: {"medians": middle, "rows": rows, "seen": seen}}}
        if array.kind != "mapped" and (self.copies or name == "p"):
            path = penstock.share().folder / f"{name}.npy"
            try:
                # Positions are few bytes, and there is no doing without.
                spare = 0 if name == "p" else self.spare
                return {"copies": path, "facts": {name: copy(name, array, path, spare)}}
            except NoRoom:
                if name == "p":
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from None
        check(name, array)
        return {"copies": None, "facts": {name: {}}}


@dataclass(frozen=True)
class Scratch:
    """Stores the copies under their own names. They go when the run ends, so no receipt lists them."""

    unit: ClassVar[str] = "item"
    grain: int = 1

    def open(self, folder: Path, items: int) -> None:
        """Nothing to prepare."""

    def write(self, batch: Batch, results: Iterator[Any], folder: Path) -> Receipt:
        """Move each copy to its place."""
        for result in results:
            if isinstance(result, Path):
                with penstock.atomic(folder / result.name) as draft:
                    os.replace(result, draft)
        return Receipt()

    def close(self, receipts: Iterable[tuple[Batch, Receipt]], folder: Path) -> None:
        """Nothing to finish."""

    def result(self, folder: Path) -> Path:
        """Their folder."""
        return folder


@dataclass(frozen=True)
class GatherFacts:
    """Merges the facts of all members into one dict."""

    unit: ClassVar[str] = "item"
    order: Literal["any", "items"] = "any"
    grain: None = None

    def start(self) -> dict[str, Any]:
        """No facts."""
        return {}

    def step(self, state: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
        """Add one."""
        return state | result

    def merge(self, left: dict[str, Any], right: dict[str, Any]) -> dict[str, Any]:
        """Merge two neighbours."""
        return left | right

    def finish(self, states: Iterator[dict[str, Any]]) -> dict[str, Any]:
        """All facts, by name."""
        total: dict[str, Any] = {}
        for state in states:
            total |= state
        return dict(sorted(total.items()))


def mapped(table: Table, facts: Mapping[str, Mapping[str, Any]], folder: Path) -> Table:
    """The table with copied members replaced by their copies."""
    made: dict[str, Array] = {}
    for name in ("counts", "quals", "indel", "p"):
        array, fact = getattr(table, name), facts[name]
        if fact:
            path = str(folder / f"{name}.npy")
            made[name] = Array(
                path, "", fact["dtype"], tuple(fact["shape"]), fact["order"], fact["offset"]
            )  # fmt: skip
        else:
            made[name] = array
    return replace(table, counts=made["counts"], quals=made["quals"], indel=made["indel"], p=made["p"])
