"""A candidate mutation table and its coverage: what must be there, and how its blocks are read.

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
from penstock.workloads.snv.arrays import Array, open_arrays, small

if TYPE_CHECKING:
    from numpy.typing import NDArray

STATISTICS = 8
"""Reads of A T C G on the forward strand, then on the reverse; further statistics are not used."""
CELLS = 1 << 16
"""Cells (samples x positions) of a block, about: 2.5 MiB, whatever the number of samples."""
_COVERAGE = "all_coverage_per_bp"
_MEMBERS = ("sample_names", "p", "counts", "quals", "in_outgroup", "indel_counter")


@dataclass(frozen=True, slots=True)
class Table:
    """A table, opened but not read.

    Attributes:
        names: of the samples, (samples,).
        outgroup: bool, (samples,).
        p, counts, quals, indel: where they lie.
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
        """How many."""
        return self.p.shape[0]


@dataclass(frozen=True, slots=True)
class Block:
    """Some positions of a table, samples last.

    Attributes:
        rows: their numbers in the table, int64 (n,).
        counts: int32 (n, 8, samples).
        quals: FQ as stored, 0 or negative, int32 (n, samples).
        indel: insertions + deletions, int32 (n, samples).
    """

    rows: NDArray[np.int64]
    counts: NDArray[np.int32]
    quals: NDArray[np.int32]
    indel: NDArray[np.int32]


class Blocks:
    """Blocks of positions of a table as items, as :class:`Block`.

    Their size follows from the number of samples alone. Nothing is known of a position before it is read,
    and all are alike, so a worker's memory does not depend on the item.

    Args:
        table: with members that can be mapped.
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
        self.rows = rows or max(CELLS // max(self.width, 1), 1)
        self.positions = table.positions if kept is None else kept[1]
        self._kept, self._features = kept, features
        self._maps: Any = None

    def __len__(self) -> int:
        return -(-self.positions // self.rows)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": None}

    def read(self, start: int, stop: int) -> Iterator[Block]:
        """The blocks of one call, one by one."""
        for item in range(start, stop):
            yield self.block(item)

    def block(self, item: int) -> Block:
        """One of them."""
        start, stop = item * self.rows, min((item + 1) * self.rows, self.positions)
        if self._maps is None:
            self._maps = self._map()
        counts, quals, indel, kept = self._maps
        rows: Any = slice(start, stop)
        numbers = np.arange(start, stop)
        if kept is not None:
            numbers = np.array(kept[start:stop])
            first, last = (int(numbers[0]), int(numbers[-1])) if len(numbers) else (0, -1)
            rows = slice(first, last + 1) if last - first + 1 == len(numbers) else numbers
        n = len(numbers)
        block = Block(
            numbers,
            np.empty((n, STATISTICS, self.width), np.int32),
            np.empty((n if self._features else 0, self.width), np.int32),
            np.empty((n if self._features else 0, self.width), np.int32),
        )
        for k in range(STATISTICS):
            block.counts[:, k] = self._chosen(counts[k], rows)
        if self._features:
            block.quals[:] = self._chosen(quals, rows)
            block.indel[:] = self._chosen(indel[0], rows)
            block.indel[:] += self._chosen(indel[1], rows).astype(np.int32)
        return block

    def _chosen(self, plane: NDArray[Any], rows: Any) -> NDArray[Any]:
        chosen: NDArray[Any] = plane[rows]
        return chosen if self.samples is None else chosen[:, self.samples]

    def _map(self) -> tuple[Any, ...]:
        """Mapped members with axes statistics, positions, samples; and the numbers of the items."""
        table = self.table
        kept = None if self._kept is None else np.load(self._kept[0], mmap_mode="r", allow_pickle=False)
        return (
            _turned(table.counts, "kps"), _turned(table.quals, "ps"), _turned(table.indel, "kps"), kept,
        )  # fmt: skip

    def name(self, item: int) -> str:
        """By its first and last position."""
        last = min((item + 1) * self.rows, self.positions) - 1
        return f"{'positions' if self._kept is None else 'kept positions'} {item * self.rows} to {last}"

    def fingerprint(self) -> Mapping[str, str]:
        """Of the table's own files, not of a scratch copy."""
        return {
            path: f"{print_} samples {self.samples} rows {self.rows}"
            for path, print_ in self.table.prints.items()
        }


def _turned(array: Array, axes: str) -> NDArray[Any]:
    return array.map().transpose([array.order.index(axis) for axis in axes])


# ------------------------------------------------------------------ opening


def open_table(path: str, coverage: str) -> Table:
    """Open a table and its coverage, and compare everything that headers and sample names can tell.

    Raises:
        BadInput: a member is missing, of another shape or dtype than expected, or names are not unique.
    """
    found = open_arrays(path)
    missing = [name for name in _MEMBERS if name not in found]
    if missing:
        raise BadInput(
            f"has no member {', '.join(missing)}; it has {', '.join(found) or 'none'}. A candidate mutation "
            f"table has {', '.join(_MEMBERS)}",
            file=path,
        )
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
        raise BadInput(f"has {len(array.shape)} axes; ({', '.join(axes)}) were expected", file=array.label)
    if np.dtype(array.dtype).kind not in "iu":
        raise BadInput(f"holds {np.dtype(array.dtype)}; whole numbers were expected", file=array.label)
    return array


def _shaped(array: Array, shape: tuple[int, ...]) -> Array:
    if array.shape != shape:
        raise BadInput(f"has the shape {array.shape}, and counts asks for {shape}", file=array.label)
    return array


def _coverage(path: str, samples: int) -> Array:
    found = open_arrays(path)
    array = found.get(_COVERAGE) or (next(iter(found.values())) if len(found) == 1 else None)
    if array is None:
        raise BadInput(f"has no member {_COVERAGE}; it has {', '.join(found) or 'none'}", file=path)
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
    names = tuple(
        name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in values
    )
    if len(set(names)) < samples:
        twice = next(name for name in names if names.count(name) > 1)
        raise BadInput(f"the name {twice!r} is there {names.count(twice)} times", file=array.label)
    return names


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
