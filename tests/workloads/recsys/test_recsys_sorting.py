"""Sorting the samples: the order of the original, and what is done where memory or disk do not suffice."""

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ranking_tables import log, write

from penstock.errors import BadInput
from penstock.workloads.recsys.ranking import sorting

COLUMNS = ["request_id", "dataset_id", "position"]


def test_rows_are_in_the_order_of_a_stable_sort_over_all_files(tmp_path):
    paths = [tmp_path / f"{name}.parquet" for name in "ab"]
    for seed, path in enumerate(paths):
        log(path, requests=40, seed=seed, scattered=True)
    sorting.sort_samples(tmp_path, paths=paths, columns=COLUMNS, position=True)
    found = pq.read_table(tmp_path / "sorted.parquet")
    given = pa.concat_tables([pq.read_table(path, columns=COLUMNS) for path in paths])
    order = np.lexsort([given["position"].to_numpy(), np.array(given["request_id"].to_pylist())])
    assert found.column("row").to_pylist() == order.tolist()
    assert found.select(COLUMNS).to_pylist() == given.take(pa.array(order)).to_pylist()
    assert not (tmp_path / "spill").exists()


def test_odd_names_and_missing_values_keep_their_place(tmp_path):
    path = tmp_path / 'it\'s "odd".parquet'
    write(path, request_id=["b", "a", None, "a", "a"], position=[1, None, 2, 3, None])
    sorting.sort_samples(tmp_path, paths=[path], columns=["request_id", "position"], position=True)
    assert pq.read_table(tmp_path / "sorted.parquet").column("row").to_pylist() == [3, 1, 4, 0]


def test_it_is_tried_with_less_where_duckdb_asks_for_too_much(tmp_path, monkeypatch):
    asked = []

    def sort(folder, paths, columns, position, codes, memory):
        asked.append(memory)
        if len(asked) < 3:
            raise duckdb.OutOfMemoryException("could not allocate block")

    monkeypatch.setattr(sorting, "_sort", sort)
    sorting.sort_samples(tmp_path, paths=[], columns=COLUMNS, position=True)
    assert asked == [asked[0], asked[0] // 2, asked[0] // 4]
    monkeypatch.setattr(sorting, "LEAST", asked[0])
    asked.clear()
    with pytest.raises(MemoryError, match=r"DuckDB cannot do with \d+ MiB: could not allocate block"):
        sorting.sort_samples(tmp_path, paths=[], columns=COLUMNS, position=True)


def test_a_full_disk_is_a_full_disk_and_a_bad_file_a_bad_file(tmp_path, monkeypatch):
    def full(*_):
        raise duckdb.IOException("Could not write file: No space left on device")

    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(BadInput, match=r"bad\.parquet: not a Parquet file"):
        sorting.sort_samples(tmp_path, paths=[tmp_path / "bad.parquet"], columns=COLUMNS, position=True)
    monkeypatch.setattr(sorting, "_sort", full)
    with pytest.raises(OSError, match="no space left for sorting"):
        sorting.sort_samples(tmp_path, paths=[], columns=COLUMNS, position=True)
    monkeypatch.setattr(sorting, "_sort", lambda *_: (_ for _ in ()).throw(duckdb.IOException("cut off")))
    with pytest.raises(BadInput, match=r"s\.parquet: cannot be sorted: cut off"):
        sorting.sort_samples(tmp_path, paths=["s.parquet"], columns=COLUMNS, position=True)


def test_categories_of_few_texts_come_back_from_their_codes(tmp_path):
    """Nulls, quotes, more categories than a number has bytes, one of too many texts, one of none."""
    draw = np.random.default_rng(0)
    few = [None, "", "it's", "ä", "x"]
    given = {f"few {number}": [few[at] for at in draw.integers(0, 5, 500)] for number in range(9)}
    given |= {"many": [f"m{at}" for at in range(500)], "none": pa.array([None] * 500, pa.string())}
    path = tmp_path / "samples.parquet"
    write(path, request_id=[f"r{at}" for at in draw.integers(0, 40, 500)], **given)
    texts = {name: [] if name == "none" else sorted({*few} - {None}) for name in given if name != "many"}
    codes = sorting.Codes.of({**texts, "many": [f"m{at}" for at in range(500)]}, list(given))
    assert codes.texts == texts
    columns = ["request_id", *given]
    sorting.sort_samples(tmp_path, paths=[path], columns=columns, position=False, texts=codes.texts)
    rows = sorting.SortedRows(tmp_path / "sorted.parquet", columns, codes, list(given))
    table = pa.concat_tables([rows.read(at, min(at + 170, 500)) for at in (0, 170, 340)]).combine_chunks()
    expected = pq.read_table(path).take(table["row"])
    for name in columns:
        assert table[name].cast(pa.string()).to_pylist() == expected[name].to_pylist(), name
    requests = pq.read_table(path)["request_id"].to_pylist()
    assert table["row"].to_pylist() == sorted(range(500), key=lambda at: (requests[at], at))


def test_texts_that_sql_cannot_spell_are_sorted_as_texts():
    assert sorting.Codes.of({"a": ["x\0y"], "b": ["x"], "c": None}, ["a", "b", "c"]).texts == {"b": ["x"]}
