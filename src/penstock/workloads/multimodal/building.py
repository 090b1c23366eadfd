"""The steps before any pixel: join the tables, and write the plan of shards, each into its own folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from penstock import files
from penstock.workloads.multimodal import csvs, planning
from penstock.workloads.multimodal import layout as layouts
from penstock.workloads.multimodal.elsewhere import Elsewhere
from penstock.workloads.multimodal.joining import Rules, join
from penstock.workloads.multimodal.planning import SplitRules

JOINED, LOST, SPLITS = "joined.arrow", "lost.csv", "splits.parquet"


def make_tables(
    folder: Path, *, tables: Mapping[str, Path], films: str, rules: Mapping[str, Any]
) -> dict[str, Any]:
    """Join the tables into ``joined.arrow``; returns counts and digests."""
    layout = layouts.Layout(dict(tables), Path(films))
    with csvs.sparing():
        joined = join(layout, _rules(rules))
        schema = joined.records.schema
        with pa.OSFile(str(folder / JOINED), "wb") as file, pa.ipc.new_file(file, schema) as out:
            out.write_table(joined.records, max_chunksize=4096)
    digests = {name: files.digest(path) for name, path in sorted(tables.items())}
    return {"counts": joined.counts, "tables": digests}


def make_plan(
    folder: Path,
    *,
    joined: Path,
    films: str,
    rules: Mapping[str, Any],
    official: Path | None,
    shards: str,
    elsewhere: Elsewhere | None = None,
) -> dict[str, Any]:
    """Write the plan of each split, and ``splits.parquet``; returns counts."""
    with csvs.sparing(), pa.memory_map(str(joined / JOINED)) as file:
        records = pa.ipc.open_file(file).read_all()
        planned = planning.plan_records(records, elsewhere or Path(films), _split_rules(rules), official)
        planning.write_plan(folder, planned)
        _write_splits(folder / SPLITS, planned, shards)
        with open(folder / LOST, "w", encoding="utf-8") as lost:
            lost.writelines(f"{row},{reason}\n" for row, reason in planned.lost)
    return planned.counts


def _write_splits(path: Path, planned: planning.Planned, suffix: str) -> None:
    import pyarrow.parquet as pq

    names = ["row", "dicom_id", "subject_id", "study_id"]
    kinds = [pa.int64(), pa.string(), pa.int64(), pa.int64()]
    schema = pa.schema([*zip(names, kinds, strict=True), ("split", pa.string()), ("shard", pa.string())])
    with pq.ParquetWriter(path, schema, compression="zstd") as out:
        for split in planned.order:
            for table in planned.tables(split, names):
                if not table.num_rows:
                    continue
                shards = [f"{split}/{split}-{number:05d}.{suffix}" for number in table["shard"].to_pylist()]
                columns = [table[name] for name in names]
                columns += [pa.array([split] * table.num_rows, pa.string()), pa.array(shards, pa.string())]
                out.write_table(pa.Table.from_arrays(columns, schema=schema))


def _rules(options: Mapping[str, Any]) -> Rules:
    return Rules(**{**options, "views": tuple(options["views"])})


def _split_rules(options: Mapping[str, Any]) -> SplitRules:
    return SplitRules(**{**options, "ratios": tuple(options["ratios"])})
