"""Blocks of words on their way through the partitions: put apart by their high bits, in few bytes each.

A block is the words of a run that share their highest bits, the number of their partition; of each there are
the bytes of the other bits. The sink ``Partitions`` has a row for each block, not for each word.
By compiled code or by NumPy alone, with the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from penstock.machine_code import Function
from penstock.workloads.kmers import table, words

if TYPE_CHECKING:
    import pyarrow as pa

_KERNEL = f"{__package__}.packing_kernel"
_NEEDS = ("penstock.sequences.vectors",)

pack = Function(
    _KERNEL,
    "pack",
    ["const uint64[::1]", "int64", "int64", "int64[::1]", "int64[::1]", "uint8[::1]"],
    needs=_NEEDS,
)
unpack = Function(_KERNEL, "unpack", ["const uint8[::1]", "int64", "uint64", "uint64[::1]"], needs=_NEEDS)
spell = Function(
    _KERNEL,
    "spell",
    ["const uint64[::1]", "int64", "int64", "int64", "uint8[::1]", "int64[::1]"],
    returns="int64",
    needs=_NEEDS,
)


def load() -> None:
    """Have the compiled code at hand: all of it, as who packs words is going to unpack them."""
    for function in (pack, unpack, spell):
        function.load()


ROWS = 1 << 19
"""Rows of the result that are made together, which are a row group."""


@dataclass(frozen=True)
class Blocks:
    """How words are packed.

    Args:
        k: bases of a word, more than half of ``bits``.
        bits: the highest bits, which are the number of the partition.
        compiled: by compiled code.
    """

    k: int
    bits: int
    compiled: bool = False

    def __penstock_key__(self) -> tuple[int, int]:
        """What tells it from another: not by what code it packs."""
        return self.k, self.bits

    @property
    def _low(self) -> int:
        return 2 * self.k - self.bits

    @property
    def _width(self) -> int:
        return -(-self._low // 8)

    def schema(self) -> pa.Schema:
        """``part``: the number of the partition; ``words``: the bytes of each word, lowest first."""
        import pyarrow as pa

        columns = (("part", pa.uint16()), ("words", pa.binary()))
        return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns])

    def packed(self, found: NDArray[np.uint64]) -> pa.Table:
        """The blocks of a run of words, by number of partition; inside, in the order of the run."""
        import pyarrow as pa

        ends, data = (self._apart_compiled if self.compiled else self._apart)(found)
        there = np.flatnonzero(ends[1:] > ends[:-1])
        borders = np.append(ends[there], ends[-1]).astype(np.int32)
        buffers = [None, pa.py_buffer(borders), pa.py_buffer(data)]
        columns = [
            pa.array(there.astype(np.uint16)),
            pa.Array.from_buffers(pa.binary(), len(there), buffers),
        ]
        return pa.table(columns, schema=self.schema())

    def unpacked(self, blocks: pa.Table) -> Iterator[NDArray[np.uint64]]:
        """The words of blocks, those of consecutive ones of one part together."""
        for batch in blocks.to_batches():
            parts = batch.column(0).to_numpy()
            _, ends, data = batch.column(1).buffers()
            at = batch.column(1).offset
            borders = np.frombuffer(ends, np.int32)[at : at + len(parts) + 1]
            firsts = np.flatnonzero(np.append(True, parts[1:] != parts[:-1]))
            for first, stop in pairwise([*firsts.tolist(), len(parts)]):
                packed = np.frombuffer(data, np.uint8)[borders[first] : borders[stop]]
                yield self._unpacked(packed, np.uint64(int(parts[first]) << self._low))

    def _unpacked(self, packed: NDArray[np.uint8], high: np.uint64) -> NDArray[np.uint64]:
        found: NDArray[np.uint64]
        if self.compiled:
            found = np.empty(len(packed) // self._width, np.uint64)
            unpack(packed, self._width, high, found)
            return found
        wide = np.zeros((len(packed) // self._width, 8), np.uint8)
        wide[:, : self._width] = packed.reshape(-1, self._width)
        found = wide.view("<u8").reshape(-1).astype(np.uint64) | high
        return found

    def _apart_compiled(self, found: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        ends = np.zeros(2**self.bits + 1, np.int64)
        data = np.empty(len(found) * self._width, np.uint8)
        pack(found, self._low, self._width, ends, np.empty(2**self.bits, np.int64), data)
        return ends, data

    def _apart(self, found: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        low, width = np.uint64(self._low), self._width
        numbers = (found >> low).astype(np.uint16)
        apart = found[np.argsort(numbers, kind="stable")] & np.uint64((1 << self._low) - 1)
        data = np.ascontiguousarray(apart.astype("<u8").view(np.uint8).reshape(-1, 8)[:, :width])
        counts = np.bincount(numbers, minlength=2**self.bits)
        return np.concatenate([[0], np.cumsum(counts * width)]), data.reshape(-1)


def rows_of(found: NDArray[np.uint64], k: int, min_count: int, *, compiled: bool) -> Iterator[pa.Table]:
    """Rows of the result, ``ROWS`` at a time, from words in any order, which are sorted in place."""
    if compiled:
        found.sort()
        yield from _spelled(found, k, min_count)
        return
    codes, counts = words.tally(found)
    if min_count > 1:
        kept = np.flatnonzero(counts >= min_count)
        codes, counts = codes[kept], counts[kept]
    for at in range(0, len(codes), ROWS):
        yield table.rows(codes[at : at + ROWS], counts[at : at + ROWS], k)


def _spelled(found: NDArray[np.uint64], k: int, min_count: int) -> Iterator[Any]:
    at = 0
    while at < len(found):
        room = min(ROWS, len(found) - at)
        text, counts = np.empty(room * k + 8, np.uint8), np.empty(room, np.int64)
        counts[-1] = 0
        at = spell(found, at, k, min_count, text, counts)
        rows = room if counts[-1] else int(np.flatnonzero(counts == 0)[0])
        if rows:
            yield table.of_text(text[: rows * k], counts[:rows], k)
