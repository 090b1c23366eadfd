"""The function and the reducer of the stage that counts record by record."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from penstock.errors import BadInput
from penstock.sequences.inputs import NAMES, Rows, bad_row, sequences
from penstock.sequences.sampling import EVERY, salt_of
from penstock.sequences.wrong import bad_byte, is_protein, protein_error
from penstock.sources.fasta import Block
from penstock.workloads.codons import reckoning, record_scanning, rows, summary
from penstock.workloads.codons.code_map import CodeMap
from penstock.workloads.codons.summary import SUMMED
from penstock.workloads.codons.usage import CompiledReader, Counted, Ints, Reader, gathered

Bad = Callable[[int, int, bytes], BadInput]

WIDTH = 64 + len(SUMMED)
MOMENTS = 129
"""Second moments, of records with x of a codon and n of all: sums of x^2 and of x n by codon, and of n^2."""
_TOGETHER = 4096
"""Records of which the indices are reckoned together: long ones come one or two at a time."""
_GT, _LF = b">\n"
NAMED = 10
"""Records without a genetic code that are named."""


@dataclass(frozen=True)
class CountHeaders:
    """Counts the records of an item."""

    def __call__(self, item: Block | Rows) -> int:
        """Count header lines."""
        if isinstance(item, Rows):
            return int(item.table.num_rows)
        found, last = 0, np.uint8(_LF)
        for piece in filter(len, item):
            text = np.frombuffer(piece, np.uint8)
            places = np.flatnonzero(text == _GT)  # some ten times as fast as bytes.count
            before = text[places - 1] == _LF
            if len(places) and places[0] == 0:
                before[0] = last == _LF
            found += int(before.sum())
            last = text[-1]
        return found


@dataclass(frozen=True)
class CountRecords:
    """Counts the codons of each record of an item, in one frame.

    Args:
        codes: the genetic code of each.
        frame: letters to skip at the start of each record.
        drop_start: leave each record's first codon out; of frame 0.
        seed, limit: of the sample, see ``sampling``.
        by_record: give a row for each record.
        by_file: give the sums of the item by genetic code too.
        moments: sum second moments too, of all records whatever their code.
        reference: counts of the reference set of the CAI; 64 numbers.
        compat: CAI as Biopython's.
        first_rows: number of the first item that holds Parquet rows.
        compiled: by compiled code, whose load takes longer than all of a small input does; the result is the
            same.

    Returns ``sums``, int64 of shape (1 + codes, WIDTH), of records without a genetic code first;
    ``unmatched``, the first ids without one; and what else is asked for: ``moments``, int64, and tables
    ``records`` and ``files``.
    """

    codes: CodeMap
    frame: int = 0
    drop_start: bool = False
    seed: int = 0
    limit: int = EVERY
    by_record: bool = False
    by_file: bool = False
    moments: bool = False
    reference: tuple[int, ...] | None = None
    compat: bool = False
    first_rows: int = 0
    compiled: bool = False

    def __penstock_key__(self) -> dict[str, Any]:
        """Its key: without the way it counts, so that a run resumes with either."""
        return {name: value for name, value in vars(self).items() if name != "compiled"}

    def warming(self) -> str:
        """A note to print before code is compiled; empty if none will be."""
        if not self.compiled:
            return ""
        return record_scanning.scan.note() or (reckoning.note() if self.by_record else "")

    def warm(self) -> None:
        """Load what counts and what builds rows, once for all workers."""
        if self.compiled:
            record_scanning.scan.load()
            if self.by_record:
                reckoning.load()
        if self.by_record or self.by_file:
            import pyarrow  # noqa: F401

    def __call__(self, item: Block | Rows, firsts: NDArray[np.int64]) -> dict[str, Any]:
        """Count.

        Args:
            item: whole records.
            firsts: the number of the first record of each item.

        Raises:
            BadInput: a byte that cannot be in nucleotides, naming file and line.
        """
        text, bad = opened(item)
        return self.count(item, firsts, text, bad)

    def count(
        self, item: Block | Rows, firsts: NDArray[np.int64], text: Iterable[tuple[int, bytes]], bad: Bad,
        given: Any = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Count the records of a text; ``given`` is passed to ``codes_of``."""
        numbers = self.numbers()
        number = item.item if isinstance(item, Block) else self.first_rows + item.item
        sums = np.zeros((1 + len(numbers), WIDTH), np.int64)
        moments = np.zeros(MOMENTS, np.int64)
        ordinal = int(firsts[number])
        unmatched: list[str] = []
        tables = []
        kind = CompiledReader if self.compiled else Reader
        reader = kind(bad, frame=self.frame, drop_start=self.drop_start)
        reference = None if self.reference is None else np.array(self.reference)
        for counted in gathered(reader.read(text), _TOGETHER):
            ordinals = np.arange(ordinal, ordinal + len(counted))
            ordinal += len(counted)
            if self.limit != EVERY:
                kept = sampled(item, counted, ordinals - firsts[number], self.seed, self.limit)
                counted, ordinals = counted.chosen(kept), ordinals[kept]
            names = rows.names_of(counted.headers) if self.codes.lines else []
            codes = self.codes_of(counted, names, given)
            _add(sums, counted, np.searchsorted([0, *numbers], codes))
            if self.moments:
                moments += _moments(counted.counts)
            without = np.flatnonzero(codes == 0)[: NAMED - len(unmatched)]
            unmatched += [names[at][0] for at in without]
            if self.by_record:
                table = rows.of_records(
                    counted, item.path, ordinals, codes, reference, compat=self.compat,
                    compiled=self.compiled,
                )  # fmt: skip
                tables.append(table)
        protein, length = (int(sums[:, 64 + SUMMED.index(name)].sum()) for name in ("protein", "length"))
        if is_protein(protein, length):
            raise protein_error(protein, length, file=item.path)
        return self._found(item.path, sums, moments, unmatched, tables)

    def _found(
        self, path: str, sums: Ints, moments: Ints, unmatched: list[str], tables: list[Any]
    ) -> dict[str, Any]:
        found: dict[str, Any] = {"sums": sums, "unmatched": unmatched}
        if self.moments:
            found["moments"] = moments
        if self.by_record:
            import pyarrow as pa

            found["records"] = pa.concat_tables(tables) if tables else None
        if self.by_file:
            found["files"] = [
                {"file": path, "genetic_code": code, "sums": row.tolist()}
                for code, row in zip([0, *self.numbers()], sums, strict=True)
                if row[64]
            ]
        return found

    def codes_of(self, counted: Counted, names: Sequence[tuple[str, str]], given: Any) -> Ints:
        """The genetic code of each record; 0 for none."""
        if not self.codes.lines:
            return np.full(len(counted), self.codes.default)
        return np.array(self.codes.of([name for name, _ in names]), np.int64)

    def numbers(self) -> list[int]:
        """All genetic codes that a record may have, ascending."""
        return self.codes.codes


def sampled(item: Block | Rows, counted: Counted, index: Ints, seed: int, limit: int) -> NDArray[np.bool_]:
    """Which records of an item are in the sample; these have the numbers ``index``."""
    if isinstance(item, Rows):
        numbers, salt = item.first + index, salt_of(seed, None)
    else:
        numbers, salt = counted.offsets, salt_of(seed, item.file)
    with np.errstate(over="ignore"):
        mixed = summary.mixed(numbers.astype(np.uint64) + np.uint64(salt))
    return np.asarray(mixed <= np.uint64(limit))


def opened(item: Block | Rows) -> tuple[Iterator[tuple[int, bytes]], Bad]:
    """The text of an item, and how to word errors in it."""
    if isinstance(item, Block):
        return item.placed(), lambda at, kind, text: bad_byte(item.path, at, kind, text, fastq=item.fastq)
    starts: list[int] = []
    return _as_text(item, starts), lambda at, kind, text: bad_row(item, bisect_right(starts, at) - 1)


def _as_text(item: Rows, starts: list[int]) -> Iterator[tuple[int, bytes]]:
    """Rows as FASTA, in pieces; ``starts`` is told where each begins."""
    names = [item.table.column(name).to_pylist() for name in NAMES if name in item.table.column_names]
    held: list[bytes] = []
    at = row = 0
    for text, offsets in sequences(item):
        for i in range(len(offsets) - 1):
            starts.append(at + sum(map(len, held)))
            header = next((str(column[row]) for column in names if column[row] is not None), str(row))
            # What would begin a header or a comment is no sequence, and no byte of one is '!'.
            sequence = text[offsets[i] : offsets[i + 1]].tobytes().replace(b">", b"!")
            sequence = b"!" + sequence[1:] if sequence[:1] == b";" else sequence
            held += [b">", " ".join(header.splitlines()).encode(), b"\n", sequence, b"\n"]
            row += 1
            if row % 64 == 0 or len(sequence) > 1 << 16:
                piece = b"".join(held)
                yield at, piece
                at, held = at + len(piece), []
    yield at, b"".join(held)


def _add(sums: Ints, counted: Counted, group: Ints) -> None:
    """Add records to the sums of their genetic codes."""
    for each in set(group.tolist()):
        own = counted if (whole := group == each).all() else counted.chosen(whole)
        sums[each, :64] += own.counts.sum(axis=0)
        sums[each, 64] += len(own)
        sums[each, 65 : 65 + 8] += [int(getattr(own, name).sum()) for name in SUMMED[1:9]]
        sums[each, 65 + 8 :] += own.odd.sum(axis=0)


def _moments(counts: Ints) -> Ints:
    n = counts.sum(axis=1)
    return np.concatenate(((counts * counts).sum(axis=0), n @ counts, [n @ n]))


@dataclass(frozen=True)
class FirstNames:
    """The first few names that items give, in order."""

    unit: ClassVar[str] = "item"
    order: Literal["items"] = "items"
    grain: None = None

    def start(self) -> list[str]:
        """None."""
        return []

    def step(self, state: list[str], result: list[str]) -> list[str]:
        """Add the next item."""
        return (state + result)[:NAMED]

    def merge(self, left: list[str], right: list[str]) -> list[str]:
        """Merge two neighbours."""
        return (left + right)[:NAMED]

    def finish(self, states: Iterator[list[str]]) -> list[str]:
        """The final list."""
        found: list[str] = []
        for state in states:
            found = self.merge(found, state)
        return found
