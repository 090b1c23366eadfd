"""Spans of a table as items: a source, whose neighbours one worker reads."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import penstock
from penstock.testing import SourceSuite
from penstock.workloads.recsys.shared.spans import Spans


def spans_of(path, each):
    return Spans.of(penstock.sources.ParquetRows(path), each)


class TestSpans(SourceSuite):
    """Row groups of 10 rows, spans of 3: most begin within a row group."""

    def make(self, folder):
        path = folder / "rows.parquet"
        if not path.is_file():
            pq.write_table(pa.table({"row": range(58)}), path, row_group_size=10)
        return spans_of(path, 3)

    def change(self, folder):
        pq.write_table(pa.table({"row": range(1, 59)}), folder / "rows.parquet", row_group_size=10)
        return True


@pytest.mark.parametrize(
    ("count", "starts"),
    [(0, []), (5, [0, 1, 2, 3, 4]), (33, [*range(0, 33, 4)]), (100, [*range(0, 100, 8)])],
)
def test_neighbours_are_one_workers(tmp_path, count, starts):
    """In pieces of equal size, of which small tables have enough for several workers."""
    pq.write_table(pa.table({"row": pa.array(range(2 * count), pa.int64())}), tmp_path / "rows.parquet")
    assert spans_of(tmp_path / "rows.parquet", 2).starts() == starts
