"""The files of a finished run, streamed: positions.parquet, the final table, and pred_res.txt."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.workloads.snv import verdicts
from penstock.workloads.snv.table import STATISTICS, Block, Blocks, Table

if TYPE_CHECKING:
    from numpy.typing import NDArray

FAST = 100_000
"""Kept positions above which pred_res.txt is written."""
_ROWS = 1 << 16
_LETTERS = np.frombuffer(b"NATCG", "S1")


class Found:
    """What is known of the positions of a table, by their number, block by block.

    Args:
        table: with members that can be mapped.
        settled: the folder of the settled verdicts.
        kept: how many positions are kept.
        predicted: dataset of row and prob, in order; None without a network.
    """

    def __init__(self, table: Table, settled: Path, kept: int, predicted: Any) -> None:
        self.table, self.count, self.predicted = table, kept, predicted is not None
        self.kept = settled / "kept.npy"
        self.rows = np.load(self.kept, mmap_mode="r", allow_pickle=False)
        self.codes = np.load(settled / "codes.npy", mmap_mode="r", allow_pickle=False)
        self._p = table.p.map() if table.positions else np.empty(0, np.int64)
        self._predicted = predicted

    def positions(self, rows: Any) -> NDArray[np.int64]:
        """The genome positions of rows."""
        return np.asarray(self._p[rows]).astype(np.int64)

    def probabilities(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """(rows, probabilities) in order; a row that was set aside is left out."""
        for batch in self._predicted.to_batches(batch_size=_ROWS) if self.predicted else ():
            yield batch.column("row").to_numpy(), batch.column("prob").to_numpy()


class _Aligned:
    """Takes values by ascending rows out of a stream of them; NaN where there is none."""

    def __init__(self, stream: Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]) -> None:
        self._stream = stream
        self._rows, self._values = np.empty(0, np.int64), np.empty(0, np.float32)

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        while len(rows) and (not len(self._rows) or self._rows[-1] < rows[-1]):
            more = next(self._stream, None)
            if more is None:
                break
            self._rows = np.concatenate([self._rows, more[0]])
            self._values = np.concatenate([self._values, more[1]])
        taken = np.full(len(rows), np.nan, np.float32)
        if len(self._rows):
            at = np.minimum(np.searchsorted(self._rows, rows), len(self._rows) - 1)
            found = self._rows[at] == rows
            taken[found] = self._values[at[found]]
        if len(rows):
            rest = int(np.searchsorted(self._rows, rows[-1], "right"))
            self._rows, self._values = self._rows[rest:], self._values[rest:]
        return taken


def write_positions(found: Found, path: Path) -> None:
    """One row for each position of the table: pos, kept, removed_by, gap, prob, label."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [
            ("pos", pa.int64()), ("kept", pa.bool_()), ("removed_by", pa.string()), ("gap", pa.bool_()),
            ("prob", pa.float32()), ("label", pa.int8()),
        ]
    )  # fmt: skip
    probabilities = _Aligned(found.probabilities())
    reasons = pa.array([*verdicts.REASONS[1:]])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for at in range(0, found.table.positions, _ROWS):
            codes = np.asarray(found.codes[at : at + _ROWS])
            kept = codes == verdicts.KEPT
            removed = (codes == verdicts.GAP) | (codes == verdicts.NO_VARIATION)
            prob = np.full(len(codes), np.nan, np.float32)
            prob[kept] = probabilities.take(at + np.flatnonzero(kept))
            unknown = np.isnan(prob)
            columns = [
                pa.array(found.positions(slice(at, at + _ROWS))),
                pa.array(kept),
                reasons.take(pa.array(codes.astype(np.int64) - 1, mask=kept)),
                pa.array(removed, mask=~(kept | removed)),
                pa.array(prob, mask=unknown),
                pa.array((prob > 0.5).astype(np.int8), mask=unknown),
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


def write_table(found: Found, path: Path, excluded: Sequence[bool]) -> None:
    """The kept positions of all samples as a candidate mutation table, in Fortran order.

    Members, dtypes and meaning are those of the tool's own final table; ``prob`` and ``label`` are left out
    where there is no network.
    """
    table, count = found.table, found.count
    samples = len(table.names)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        _member(archive, "sample_names", np.array(table.names).dtype, (samples,), [np.array(table.names)])
        _member(archive, "p", np.int64, (count,), (found.positions(rows) for rows in _runs(found)))
        whole = {
            "counts": (table.counts, "kps", STATISTICS, np.uint64),
            "quals": (table.quals, "ps", 1, np.int64),
            "indel_counter": (table.indel, "kps", 2, np.uint64),
        }
        for name, (array, axes, planes, dtype) in whole.items():
            mapped: Any = None
            if count:
                mapped = array.map().transpose([array.order.index(axis) for axis in axes])
            shape = (samples, count, planes) if len(axes) == 3 else (samples, count)
            blocks = (
                (mapped[k] if len(axes) == 3 else mapped)[rows]
                for k in range(planes if mapped is not None else 0)
                for rows in _runs(found, max((1 << 19) // max(samples, 1), 1))
            )
            _member(archive, name, dtype, shape, blocks)
        _member(archive, "in_outgroup", np.bool_, (samples,), [np.array(table.outgroup, np.bool_)])
        if found.predicted:
            take = _Aligned(found.probabilities()).take
            _member(archive, "prob", np.float32, (count,), (take(rows) for rows in _runs(found)))
            take = _Aligned(found.probabilities()).take
            _member(archive, "label", np.bool_, (count,), (take(rows) > 0.5 for rows in _runs(found)))
        _member(archive, "recomb", np.bool_, (count,), (np.zeros(len(rows)) for rows in _runs(found)))
        _member(archive, "samples_exclude_bool", np.bool_, (samples,), [np.array(excluded, np.bool_)])


def _runs(found: Found, step: int = _ROWS) -> Iterator[NDArray[np.int64]]:
    for at in range(0, found.count, step):
        yield np.asarray(found.rows[at : at + step])


def _member(archive: zipfile.ZipFile, name: str, dtype: Any, shape: tuple[int, ...], blocks: Any) -> None:
    entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))  # the same bytes at any time
    entry.compress_type, entry._compresslevel = zipfile.ZIP_DEFLATED, 1  # type: ignore[attr-defined]
    with archive.open(entry, "w", force_zip64=True) as out:
        header = {"descr": np.dtype(dtype).str, "fortran_order": len(shape) > 1, "shape": shape}
        np.lib.format.write_array_header_2_0(out, header)
        for block in blocks:
            out.write(np.ascontiguousarray(block, dtype).data)


# ------------------------------------------------------------------ fast mode


def write_predictions(found: Found, path: Path) -> None:
    """``pred_res.txt``: position, label, probability, and the major base of every sample, tab-separated.

    A label of 0 may be rescued by the reads of all samples, outgroup and excluded ones too.
    """
    blocks = Blocks(found.table, kept=(found.kept, found.count))
    take = _Aligned(found.probabilities()).take
    with open(path, "w", encoding="utf-8") as file:
        file.write("\t".join(("Pos", "Pred", "Prob", *found.table.names)) + "\n")
        for block in blocks.read(0, len(blocks)):
            prob, p = take(block.rows), found.positions(block.rows)
            major, rescued = rescue(block)
            label = prob > 0.5
            turned = ~label & rescued & ~np.isnan(prob)
            label |= turned
            prob = np.where(turned, 1 - prob, prob)
            letters = _LETTERS[major].astype("U1")
            for i in range(len(p)):
                told = "" if np.isnan(prob[i]) else f"{int(label[i])}\t{prob[i]!s}"
                file.write(f"{p[i]}\t{told or chr(9)}\t" + "\t".join(letters[i]) + "\n")


def rescue(block: Block) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """The major bases of all samples, and which positions their reads speak for.

    Args:
        block: of all samples of the file.

    Returns int32 (positions, samples), codes of N A T C G, and bool (positions,).
    """
    from penstock.workloads.snv import kernel

    limit = 0.1 if block.counts.shape[2] > 20 else 0.25
    major = np.empty((len(block.rows), block.counts.shape[2]), np.int32)
    rescued = np.empty(len(block.rows), np.bool_)
    kernel.rescue(block.counts, limit, major, rescued)
    return major, rescued
