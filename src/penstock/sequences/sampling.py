"""Samples exactly N records, the same ones for any batching, without holding them.

Each record has a number made from the seed, its file and where it begins; the N smallest are the
sample. A pass over the files counts the numbers in 4,096 bins; the bin in which the N-th lies is
looked into by the next pass, until a border falls right behind it. Two passes do for millions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import penstock
from penstock.hashing import mixed
from penstock.sequences.inputs import Rows
from penstock.sources.fasta import Block

EVERY = 2**64 - 1
"""A limit that takes every record."""

_BITS = 12
_BINS = 1 << _BITS
# After the bins: 1 + bin of a record that begins at the first byte, if a line does; whether the
# last byte ends a line; whether there is any byte.
_FIRST, _ENDS_LINE, _ANY = _BINS, _BINS + 1, _BINS + 2

_FILE_SHIFT = 43
_PARQUET = 1 << 63


def salt_of(seed: int, file: int | None) -> int:
    """What is added to an offset (or row number) before it is mixed.

    Args:
        seed: of the sample.
        file: number of the FASTA file; None for Parquet rows.
    """
    base = int(mixed(np.array([seed % 2**64], np.uint64))[0])
    return (base + (_PARQUET if file is None else file << _FILE_SHIFT)) % 2**64


@dataclass(frozen=True)
class Bracket:
    """The numbers ``low <= number < low + 2**width``."""

    low: int = 0
    width: int = 64


@dataclass(frozen=True)
class CountNumbers:
    """Counts the records of an item whose numbers lie in a bracket, by bin.

    Returns int64 of 4,096 bins and three values for joining.
    """

    seed: int
    low: int
    width: int

    def __call__(self, item: Block | Rows) -> NDArray[np.int64]:
        """Count the line starts of a block, or the rows of a run."""
        out = np.zeros(_BINS + 3, np.int64)
        if isinstance(item, Rows):
            out[[_ENDS_LINE, _ANY]] = 1
            self._add(out, np.arange(item.first, item.first + item.table.num_rows, dtype=np.uint64), None)
            return out
        out[_ENDS_LINE] = out[_ANY] = item.begins
        origin = item.offset
        known = item.begins  # whether it is known that a line begins here
        for piece in item:
            text = np.frombuffer(piece, np.uint8)
            if not len(text):
                continue
            found = np.flatnonzero(text == ord(">"))
            starts = found[text[found - 1] == ord("\n")] if len(found) else found
            starts = starts[starts > 0]
            if text[0] == ord(">"):
                if not out[_ANY]:
                    out[_FIRST] = 1 + self._bins(np.array([origin], np.uint64), item.file)[0]
                elif known:
                    starts = np.concatenate([[0], starts])
            self._add(out, starts.astype(np.uint64) + np.uint64(origin), item.file)
            known = text[-1] == ord("\n")
            out[_ENDS_LINE], out[_ANY] = known, 1
            origin += len(text)
        if item.ends:
            out[_ENDS_LINE] = out[_ANY] = 1
        return out

    def _bins(self, offsets: NDArray[np.uint64], file: int | None) -> NDArray[np.int64]:
        """The bin of each record's number, -1 outside the bracket."""
        numbers = mixed(offsets + np.uint64(salt_of(self.seed, file)))
        above = numbers - np.uint64(self.low)
        bins = (above >> np.uint64(max(self.width - _BITS, 0))).astype(np.int64)
        bins[(numbers < np.uint64(self.low)) | (bins >= 1 << min(self.width, _BITS))] = -1
        return bins

    def _add(self, out: NDArray[np.int64], offsets: NDArray[np.uint64], file: int | None) -> None:
        bins = self._bins(offsets, file)
        out[:_BINS] += np.bincount(bins[bins >= 0], minlength=_BINS)


@dataclass(frozen=True)
class AddNumbers:
    """Combines the bins of neighbouring items: a header may begin where another item ends."""

    order: Literal["items"] = "items"
    grain: None = None

    def start(self) -> NDArray[np.int64]:
        """The state of no text."""
        return np.zeros(_BINS + 3, np.int64)

    def step(self, state: Any, result: Any) -> Any:
        """The next item."""
        return self.merge(state, result)

    def merge(self, left: Any, right: Any) -> Any:
        """Combine two neighbours."""
        if not right[_ANY] or not left[_ANY]:
            return right if right[_ANY] else left
        out = left.copy()
        out[:_BINS] += right[:_BINS]
        if left[_ENDS_LINE] and right[_FIRST] > 0:
            out[right[_FIRST] - 1] += 1
        out[_ENDS_LINE] = right[_ENDS_LINE]
        return out

    def finish(self, states: Iterator[Any]) -> Any:
        """The bins, int64 of 4,096."""
        total = self.start()
        for state in states:
            total = self.merge(total, state)
        return total[:_BINS]


def narrow(bracket: Bracket, bins: NDArray[np.int64], wanted: int) -> tuple[Bracket | None, int]:
    """The bin that holds the ``wanted``-th smallest number of a bracket.

    Returns:
        ``(None, limit)`` when exactly ``wanted`` numbers of the bracket are at most ``limit``
        (or fewer are there at all: the limit is then ``EVERY``); else the bracket to look into and how
        many are wanted of it.
    """
    up_to = np.cumsum(bins)
    if up_to[-1] <= wanted:
        return None, EVERY if bracket.width == 64 else bracket.low + (1 << bracket.width) - 1
    at = int(np.searchsorted(up_to, wanted))
    step = max(bracket.width - _BITS, 0)
    low = bracket.low + (at << step)
    if up_to[at] == wanted:
        return None, low + (1 << step) - 1
    return Bracket(low, step), wanted - int(up_to[at] - bins[at])


def choose(run: penstock.Run, source: Any, wanted: int, seed: int) -> int:
    """The threshold below which exactly ``wanted`` records have their numbers; passes over the headers.

    Args:
        run: an open run.
        source: blocks of text and rows, as :func:`penstock.sequences.inputs.open_inputs` gives them.
        wanted: how many.
        seed: of the numbers.
    """
    bracket: Bracket | None = Bracket()
    limit = passes = 0
    while bracket is not None:
        passes += 1
        function = CountNumbers(seed, bracket.low, bracket.width)
        job = penstock.Job(source=source, function=function, into=AddNumbers(), threads=1)
        bins = run.stage(f"sample-{passes}", job).open()
        bracket, limit = narrow(bracket, bins, wanted)
        wanted = limit
    return limit
