"""A function of one item gets items, whatever container the sources of a chain read."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

import penstock


def value(item: object) -> int:
    """The number in a row, or the number itself."""
    return item["a"] if isinstance(item, dict) else item  # type: ignore[return-value]


def test_rows_and_numbers_across_the_border(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": list(range(10)), "b": ["x"] * 10}), tmp_path / "t.parquet")
    rows = penstock.sources.ParquetRows([tmp_path / "t.parquet"])
    source = penstock.sources.Chain(penstock.sources.Range(range(100, 105)), rows, rows)
    result = penstock.run(value, source, call=4, workers=1).result
    assert result == [*range(100, 105), *range(10), *range(10)]


def test_groups_come_as_tables(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": list(range(10))}), tmp_path / "t.parquet", row_group_size=4)
    groups = penstock.sources.ParquetRows([tmp_path / "t.parquet"], item="group")
    assert penstock.run(len, groups, workers=1).result == [4, 4, 2]
