"""The final table, and the predictions of large ones: kept positions of all samples, compressed in parallel.

Each block of positions gives a deflated piece for every plane of every member; a grain of blocks is one part,
and in the end the parts are put together, plane by plane, without inflating anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar

import numpy as np

import penstock
from penstock import compiling
from penstock.abc import Batch, Closed, Receipt, SetAside
from penstock.sinks.parts import check, kept, part_name, sweep
from penstock.workloads.snv.jobs import flattened
from penstock.workloads.snv.reading.arrays import Array
from penstock.workloads.snv.reading.chunked import STATISTICS
from penstock.workloads.snv.results.zipping import NpzWriter, append, deflate
from penstock.workloads.snv.table import Block

if TYPE_CHECKING:
    from numpy.typing import NDArray

FAST = 100_000
"""Kept positions above which pred_res.txt is written."""
NOT_KNOWN = 2
"""Of a position that was set aside, whether reads speak for it."""
TABLE, PREDICTIONS = "candidate_mutation_table_final.npz", "pred_res.txt"
_LETTERS = np.frombuffer(b"NATCG", np.uint8)
_NAMES = "part-*.pieces"
_INDEX = np.dtype([("at", "<i8"), ("packed", "<i8"), ("size", "<i8"), ("crc", "<u4")])

# The planes of a block: positions, reads, FQ, indels, and what the network said.
_P, _COUNTS, _QUALS, _INDEL, _PROB, _LABEL, _RECOMB, _TEXT, _PLANES = 0, 1, 9, 10, 12, 13, 14, 15, 16

Piece = tuple[int, bytes, int, int]
"""Plane, compressed bytes, size, checksum; text is not compressed."""


@dataclass(frozen=True)
class PackBlock:
    """Compresses a block of kept positions of all samples.

    Args:
        p: where the positions of the table lie.
        rows: positions of a block of the network's stage.
        predicted: whether there are probabilities.
        fast: whether the text of predictions is wanted.
        own_rows: positions of a block of this stage.
        rescues: whether a label 0 for which the reads speak becomes 1 in that text.
    """

    p: Array
    rows: int
    predicted: bool
    fast: bool
    own_rows: int
    rescues: bool = False

    def warming(self) -> str:
        """A note to print before code is compiled; empty if none will be."""
        return compiling.note(Path(__file__).parents[1] / "kernel" / "features.py", "read_support")

    def warm(self) -> None:
        """Load the compiled code, once for all workers."""
        read_support(
            Block(np.arange(0), np.zeros((0, STATISTICS, 1), np.int32), *[np.zeros((0, 1), "i4")] * 2)
        )

    def __call__(self, block: Block, *, kept: Any, network: Any = None) -> dict[str, Any]:
        """The block's pieces in the order of planes, and the positions supported by the reads alone.

        Args:
            block: of all samples, with quals and indels.
            kept: numbers of the kept positions, int64.
            network: probabilities, as the network's stage kept them.

        Returns ``{"table": [Piece, ...], "support": uint8 (own_rows,)}``, 0, 1, or ``NOT_KNOWN``.
        """
        n = len(block.numbers)
        major, supported = read_support(block)
        planes: dict[int, NDArray[Any]] = {_P: np.asarray(self.p.map()[block.numbers]).astype("<i8")}
        planes |= {_COUNTS + k: block.counts[:, k].astype("<u8") for k in range(STATISTICS)}
        planes |= {_INDEL + k: block.indel[:, k].astype("<u8") for k in range(2)}
        planes |= {_QUALS: block.quals.astype("<i8"), _RECOMB: np.zeros(n, np.bool_)}
        prob = None
        if self.predicted:
            at = int(np.searchsorted(kept, block.numbers[0]))
            prob = flattened(network, self.rows, at, at + n)
            planes |= {_PROB: prob.astype("<f4"), _LABEL: prob > 0.5}
        pieces = []
        for plane, values in sorted(planes.items()):
            packed, crc = deflate(values.reshape(-1).view(np.uint8).data)
            pieces.append((plane, packed, values.nbytes, crc))
        if self.fast and prob is not None:
            text = _lines(planes[_P], prob, major, supported & self.rescues)
            pieces.append((_TEXT, text, len(text), 0))
        support = np.full(self.own_rows, NOT_KNOWN, np.uint8)
        support[:n] = supported
        return {"table": pieces, "support": support}


def read_support(block: Block) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """All samples' major bases, and the positions supported by their reads alone.

    Args:
        block: of all samples of the file.

    Returns int32 (positions, samples), codes of N A T C G, and bool (positions,).
    """
    from penstock.workloads.snv import kernel

    limit = 0.1 if block.counts.shape[2] > 20 else 0.25
    major = np.empty((len(block.numbers), block.counts.shape[2]), np.int32)
    supported = np.empty(len(block.numbers), np.bool_)
    kernel.read_support(block.counts, limit, major, supported)
    return major, supported


def _lines(
    p: NDArray[np.int64], prob: NDArray[np.float32], major: NDArray[np.int32], rescued: NDArray[np.bool_]
) -> bytes:
    """Position, label, probability and the samples' major bases, tab-separated.

    Where ``rescued``, a label of 0 becomes 1 and its probability p 1 - p, as in the tool's version 1.0.
    """
    label = prob > 0.5
    turned = ~label & rescued & ~np.isnan(prob)
    label |= turned
    prob = np.where(turned, 1 - prob, prob)
    letters = np.full((len(p), 2 * major.shape[1]), ord("\t"), np.uint8)
    letters[:, 1::2] = _LETTERS[major]
    columns = [
        "\t\t" if np.isnan(each) else f"\t{int(one)}\t{each!s}" for one, each in zip(label, prob, strict=True)
    ]
    return b"".join(
        b"%d%s%s\n" % (place, words.encode(), row.tobytes())
        for place, words, row in zip(p.tolist(), columns, letters, strict=True)
    )


@dataclass(frozen=True, kw_only=True)
class FinalTable:
    """Keeps the pieces of blocks, and assembles the final table from them.

    Members, dtypes and meaning are those of the tool's own final table, in Fortran order; ``prob`` and
    ``label`` are left out where there is no network, and so are the positions of a block that was set aside.

    Args:
        names, outgroup, excluded: of the samples.
        predicted: whether there are probabilities.
        fast: whether there is a text of predictions.
    """

    unit: ClassVar[str] = "item"
    grain: ClassVar[int] = 16
    names: Sequence[str]
    outgroup: Sequence[bool]
    excluded: Sequence[bool]
    predicted: bool
    fast: bool

    def open(self, folder: Path, items: int) -> None:
        """Nothing to prepare."""

    def write(self, batch: Batch, results: Iterator[Any], folder: Path) -> Receipt:
        """Write one part: the pieces as they come, then the offset of each."""
        path = folder / part_name(batch, ".pieces")
        index = np.zeros((self.grain, _PLANES), _INDEX)
        with penstock.atomic(path) as draft, open(draft, "wb") as file:
            for row, pieces in enumerate(results):
                for plane, packed, size, crc in () if isinstance(pieces, SetAside) else pieces:
                    index[row, plane] = (file.tell(), len(packed), size, crc)
                    file.write(packed)
            file.write(index.tobytes())
        return Receipt(parts=(kept(path, folder),))

    def close(self, receipts: Iterable[tuple[Batch, Receipt]], folder: Path) -> Closed:
        """Assemble the parts.

        Raises:
            ResultsDamaged: a part is not what was kept.
        """
        for name in (TABLE, PREDICTIONS):
            sweep(folder, name)  # it may be as large as the table
        made = [TABLE, PREDICTIONS] if self.fast else [TABLE]
        # They are read piece by piece, and several times.
        parts = [check(receipt.parts[0], folder) for _, receipt in receipts]
        if self.fast:
            with penstock.atomic(folder / PREDICTIONS) as draft, open(draft, "wb") as file:
                self._write_text(file, parts)
        with penstock.atomic(folder / TABLE) as draft, open(draft, "wb") as file, NpzWriter(file) as table:
            self._write_table(table, parts)
        sweep(folder, _NAMES, {path.name for path in parts})
        return Closed(tuple(kept(folder / name, folder) for name in made), replaced=True, pattern=_NAMES)

    def result(self, folder: Path) -> Path:
        """The table's path."""
        return folder / TABLE

    def _write_text(self, file: BinaryIO, parts: Sequence[Path]) -> None:
        file.write(("\t".join(("Pos", "Pred", "Prob", *self.names)) + "\n").encode())
        file.flush()
        for part in parts:
            for descriptor, at, packed, _, _ in _pieces(part, _TEXT):
                append(file.fileno(), descriptor, at, packed)

    def _write_table(self, table: NpzWriter, parts: Sequence[Path]) -> None:
        samples = len(self.names)
        count = sum(size // 8 for part in parts for _, _, _, size, _ in _pieces(part, _P))
        whole: list[tuple[str, Any, tuple[int, ...], int, int]] = [
            ("p", "<i8", (count,), _P, 1),
            ("counts", "<u8", (samples, count, STATISTICS), _COUNTS, STATISTICS),
            ("quals", "<i8", (samples, count), _QUALS, 1),
            ("indel_counter", "<u8", (samples, count, 2), _INDEL, 2),
            ("recomb", np.bool_, (count,), _RECOMB, 1),
        ]
        if self.predicted:
            whole += [("prob", "<f4", (count,), _PROB, 1), ("label", np.bool_, (count,), _LABEL, 1)]
        _add(table, "sample_names", np.array(self.names))
        _add(table, "in_outgroup", np.array(self.outgroup, np.bool_))
        _add(table, "samples_exclude_bool", np.array(self.excluded, np.bool_))
        for name, dtype, shape, first, planes in whole:
            table.begin(name, dtype, shape)
            for plane in range(first, first + planes):
                for part in parts:
                    for piece in _pieces(part, plane):
                        table.add(*piece)
            table.end()


def _add(table: NpzWriter, name: str, values: NDArray[Any]) -> None:
    table.begin(name, values.dtype, values.shape)
    table.add_plain(values.tobytes())
    table.end()


def _pieces(part: Path, plane: int) -> Iterator[tuple[int, int, int, int, int]]:
    """(descriptor, place, compressed bytes, size, checksum) of a plane's pieces in a part."""
    shape = (FinalTable.grain, _PLANES)
    with open(part, "rb", buffering=0) as file:
        file.seek(-prod(shape) * _INDEX.itemsize, os.SEEK_END)
        index = np.frombuffer(file.read(), _INDEX).reshape(shape)
        for at, packed, length, crc in index[:, plane].tolist():
            if packed:
                yield file.fileno(), at, packed, length, crc
