"""A candidate mutation table and its coverage: required members, and how its blocks are read.

The table is never held. Its large members (``counts``, ``quals``, ``indel_counter``) are read as
:class:`Block`, a few positions of all samples at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock import files
from penstock.errors import BadInput
from penstock.plurals import plural
from penstock.workloads.snv.reading.arrays import Array, open_arrays, small
from penstock.workloads.snv.reading.chunked import STATISTICS
from penstock.workloads.snv.reading.rows import Rows, open_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

CELLS = 1 << 16
"""Cells (samples x positions) of a block, about: 2.5 MiB, whatever the number of samples."""
_COVERAGE = "all_coverage_per_bp"
_MEMBERS = ("sample_names", "p", "counts", "quals", "in_outgroup", "indel_counter")


@dataclass(frozen=True, slots=True)
class Table:
    """An open table, nothing read yet.

    Attributes:
        names: of the samples, (samples,).
        outgroup: bool, (samples,).
        p, counts, quals, indel: where they lie; once the table was read, p can be mapped.
        coverage: where it lies, (samples, genome length).
        prints: path -> fingerprint of every file.
    """

    names: tuple[str, ...]
    outgroup: tuple[bool, ...]
    p: Array
    counts: Array
    quals: Array
    indel: Array
    coverage: Array
    prints: Mapping[str, str]

    @property
    def positions(self) -> int:
        """The number of positions."""
        return self.p.shape[0]


@dataclass(frozen=True, slots=True)
class Block:
    """Some positions of a table, samples last.

    Attributes:
        numbers: of the positions in the table, int64 (n,).
        counts: int32 (n, 8, samples).
        quals: FQ as stored, 0 or negative, int32 (n, samples).
        indel: reads of insertions and of deletions, int32 (n, 2, samples).
    """

    numbers: NDArray[np.int64]
    counts: NDArray[np.int32]
    quals: NDArray[np.int32]
    indel: NDArray[np.int32]


class Blocks:
    """Blocks of positions of a table as items, as :class:`Block`.

    Their size follows from the number of samples alone. Nothing is known of a position before it is read,
    and all are alike, so a worker's memory does not depend on the item. Where a member is a stream, one
    worker reads all blocks in order.

    Args:
        table: opened, or with copies of members.
        samples: which, ascending; None for all.
        kept: an .npy file with the numbers of the positions that are wanted, and their count; None
            for all.
        rows: positions of a block; None for about 65,536 cells.
        features: whether quals and indels are wanted too.
    """

    def __init__(
        self,
        table: Table,
        samples: Sequence[int] | None = None,
        *,
        kept: tuple[Path, int] | None = None,
        rows: int | None = None,
        features: bool = False,
    ) -> None:
        every = len(table.names)
        self.table = table
        self.samples = None if samples is None or len(samples) == every else tuple(samples)
        self.width = every if self.samples is None else len(self.samples)
        self.rows = rows or block_rows(self.width)
        self.positions = table.positions if kept is None else kept[1]
        self._kept, self._features = kept, features
        self._opened: tuple[Rows, ...] = ()
        self._room: list[NDArray[np.int32]] | None = None
        self._numbers: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return -(-self.positions // self.rows)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": (), "_room": None, "_numbers": None}

    def starts(self) -> Sequence[int]:
        """Every block; only the first if a member is a stream."""
        return (0,) if any(array.kind == "deflated" for array, _ in self._members()) else range(len(self))

    def read(self, start: int, stop: int) -> Iterator[Block]:
        """The blocks of one call, one by one. Each overwrites the one before.

        New memory for each would cost as much as what is done with it: the system clears every page.
        """
        if self._room is None:
            self._room = self._arrays(min(self.rows, self.positions))
        for item in range(start, stop):
            yield self._fill(item, self._room)

    def block(self, item: int) -> Block:
        """One block, which is not overwritten."""
        return self._fill(item, self._arrays(len(self._rows_of(item))))

    def _arrays(self, n: int) -> list[NDArray[np.int32]]:
        planes = (STATISTICS, 1, 2)
        return [np.empty((n if at == 0 or self._features else 0, k, self.width), np.int32)
                for at, k in enumerate(planes)]  # fmt: skip

    def _fill(self, item: int, room: Sequence[NDArray[np.int32]]) -> Block:
        if not self._opened:
            self._opened = tuple(open_rows(*each) for each in self._members())
        numbers = self._rows_of(item)
        counts, quals, indel = (part[: len(numbers)] for part in room)
        for part, rows in zip((counts, quals, indel), self._opened, strict=False):
            for k, plane in enumerate(rows.read(numbers)):
                part[:, k] = plane if self.samples is None else plane[:, self.samples]
        return Block(numbers, counts, quals[:, 0], indel)

    def _members(self) -> list[tuple[Array, int]]:
        """What is read, with the planes that are used."""
        table = self.table
        wanted = [(table.counts, STATISTICS), (table.quals, 1), (table.indel, 2)]
        return wanted if self._features else wanted[:1]

    def _rows_of(self, item: int) -> NDArray[np.int64]:
        start, stop = item * self.rows, min((item + 1) * self.rows, self.positions)
        if self._kept is None:
            return np.arange(start, stop)
        if self._numbers is None:
            self._numbers = np.load(self._kept[0], mmap_mode="r", allow_pickle=False)
        return np.array(self._numbers[start:stop])

    def name(self, item: int) -> str:
        """By its first and last position."""
        last = min((item + 1) * self.rows, self.positions) - 1
        return f"{'positions' if self._kept is None else 'kept positions'} {item * self.rows} to {last}"

    def fingerprint(self) -> Mapping[str, str]:
        """A fingerprint of the table's own files, not of scratch copies."""
        kept = "" if self._kept is None else f" kept {files.digest(self._kept[0])}"
        return {
            path: f"{print_} samples {self.samples} rows {self.rows}{kept}"
            for path, print_ in self.table.prints.items()
        }


def block_rows(samples: int) -> int:
    """Positions per block."""
    return max(CELLS // max(samples, 1), 1)


# ------------------------------------------------------------------ opening


def open_table(path: str, coverage: str) -> Table:
    """Open a table and its coverage, and check everything that headers and sample names allow.

    Raises:
        BadInput: a member is missing, of another shape or dtype than expected, or names are not unique.
    """
    there = open_arrays(path)
    missing = [name for name in _MEMBERS if name not in there]
    if missing:
        raise BadInput(
            f"has no member {', '.join(missing)}; it has {', '.join(there) or 'none'}. A candidate mutation "
            f"table has {', '.join(_MEMBERS)}",
            file=path,
        )
    found = {name: there[name] for name in _MEMBERS}
    counts = _integers(found["counts"], ("samples", "positions", "statistics"))
    samples, positions, statistics = counts.shape
    if statistics < STATISTICS:
        raise BadInput(
            f"has {statistics} statistics for each sample and position; the reads of 4 bases on 2 strands "
            f"are {STATISTICS}",
            file=counts.label,
        )
    cover = _coverage(coverage, samples)
    names = _names(found["sample_names"], samples)
    table = Table(
        names=names,
        outgroup=_outgroup(found["in_outgroup"], samples),
        p=_shaped(_integers(found["p"], ("positions",)), (positions,)),
        counts=counts,
        quals=_shaped(_integers(found["quals"], ("samples", "positions")), (samples, positions)),
        indel=_shaped(
            _integers(found["indel_counter"], ("samples", "positions", "2")), (samples, positions, 2)
        ),
        coverage=cover,
        prints=_prints([*found.values(), cover]),
    )
    # One axis: its letter is s in a header, and it is positions here.
    return replace(table, p=replace(table.p, order="s"))


def _integers(array: Array, axes: Sequence[str]) -> Array:
    if len(array.shape) != len(axes):
        raise BadInput(
            f"has {plural(len(array.shape), 'axis', 'axes')}; ({', '.join(axes)}) were expected",
            file=array.label,
        )
    if np.dtype(array.dtype).kind not in "iu":
        raise BadInput(f"holds {np.dtype(array.dtype)}; whole numbers were expected", file=array.label)
    return array


def _shaped(array: Array, shape: tuple[int, ...]) -> Array:
    if array.shape != shape:
        raise BadInput(f"has the shape {array.shape}, and counts asks for {shape}", file=array.label)
    return array


def _coverage(path: str, samples: int) -> Array:
    there = open_arrays(path)
    name = next(iter(there)) if len(there) == 1 else _COVERAGE
    if name not in there:
        raise BadInput(f"has no member {_COVERAGE}; it has {', '.join(there) or 'none'}", file=path)
    array = there[name]
    _integers(array, ("samples", "genome length"))
    if array.shape[0] != samples:
        raise BadInput(
            f"has {array.shape[0]} samples, and the table has {samples}: is it of another group?",
            file=array.label,
        )
    if not array.shape[1]:
        raise BadInput("covers a genome of length 0", file=array.label)
    return array


def _names(array: Array, samples: int) -> tuple[str, ...]:
    if np.dtype(array.dtype).kind not in "US":
        raise BadInput(f"holds {np.dtype(array.dtype)}; text was expected", file=array.label)
    values = small(_shaped(array, (samples,)))
    names = _text(values.tolist())
    if len(set(names)) < samples:
        twice = next(name for name in names if names.count(name) > 1)
        raise BadInput(f"the name {twice!r} is there {names.count(twice)} times", file=array.label)
    return names


def _text(values: Sequence[bytes | str]) -> tuple[str, ...]:
    """Names as text; bytes that are no UTF-8 as Latin-1, in which no two are alike that differ."""
    try:
        return tuple(each.decode() if isinstance(each, bytes) else each for each in values)
    except UnicodeDecodeError:
        return tuple(each.decode("latin-1") if isinstance(each, bytes) else each for each in values)


def _outgroup(array: Array, samples: int) -> tuple[bool, ...]:
    if np.dtype(array.dtype).kind not in "biu":
        raise BadInput(f"holds {np.dtype(array.dtype)}; true or false was expected", file=array.label)
    if array.shape not in ((samples,), (1, samples)):
        raise BadInput(f"has the shape {array.shape}; there are {samples} samples", file=array.label)
    return tuple(bool(value) for value in small(array).ravel())


def _prints(arrays: Sequence[Array]) -> dict[str, str]:
    prints = {}
    for path in sorted({array.path for array in arrays}):
        parts = sorted(each for each in Path(path).rglob("*") if each.is_file()) or [Path(path)]
        for part in parts:
            prints[str(part)] = files.fingerprint(part)
    return prints
