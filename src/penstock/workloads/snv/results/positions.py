"""The verdict on each position, as a table of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from penstock.workloads.snv import verdicts
from penstock.workloads.snv.jobs import flattened
from penstock.workloads.snv.reading.arrays import Array
from penstock.workloads.snv.results.final import NOT_KNOWN

_ROWS = 1 << 16
_NOT_KNOWN = np.uint8(NOT_KNOWN)


def write_positions(
    path: Path, p: Array, settled: Path, network: Any, rows: int, support: Any, support_rows: int
) -> None:
    """Write one row per position of the table: pos, kept, removed_by, gap, prob, label, read_support.

    Args:
        path: of the Parquet file.
        p: where the positions of the table lie.
        settled: the folder of the settled verdicts.
        network: probabilities of the kept positions by blocks; None without a network.
        rows: positions of such a block.
        support: for which kept positions the reads alone speak, by blocks, as the final stage found it.
        support_rows: positions of such a block.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [
            ("pos", pa.int64()), ("kept", pa.bool_()), ("removed_by", pa.string()), ("gap", pa.bool_()),
            ("prob", pa.float32()), ("label", pa.int8()), ("read_support", pa.bool_()),
        ]
    )  # fmt: skip
    all_codes = np.load(settled / "codes.npy", mmap_mode="r", allow_pickle=False)
    places = p.map() if p.shape[0] else np.empty(0, np.int64)
    done = 0
    reasons = pa.array([*verdicts.REASONS[1:]])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for at in range(0, p.shape[0], _ROWS):
            codes = np.asarray(all_codes[at : at + _ROWS])
            kept = codes == verdicts.KEPT
            removed = (codes == verdicts.GAP) | (codes == verdicts.NO_VARIATION)
            prob = np.full(len(codes), np.nan, np.float32)
            spoken = np.full(len(codes), _NOT_KNOWN)
            stop = done + int(kept.sum())
            spoken[kept] = flattened(support, support_rows, done, stop, _NOT_KNOWN)
            if network is not None:
                prob[kept] = flattened(network, rows, done, stop)
            done = stop
            unknown = np.isnan(prob)
            columns = [
                pa.array(np.asarray(places[at : at + _ROWS]).astype(np.int64)),
                pa.array(kept),
                reasons.take(pa.array(codes.astype(np.int64) - 1, mask=kept)),
                pa.array(removed, mask=~(kept | removed)),
                pa.array(prob, mask=unknown),
                pa.array((prob > 0.5).astype(np.int8), mask=unknown),
                pa.array(spoken == 1, mask=spoken == _NOT_KNOWN),
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
