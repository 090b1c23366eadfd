"""The ranking table: the oracles, the right defaults, and the same bytes however it is made."""

import hashlib
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from ranking_tables import DATA, expected_of, items, log, problems, ranked, table_of, write
from waiting import LIMIT

import penstock
from penstock.cli import main

# ------------------------------------------------------------------ the checker


def swapped(table):
    """Two rows of one request change places."""
    order = np.arange(table.num_rows)
    order[[0, 1]] = [1, 0]
    return table.take(pa.array(order))


def more_of(name, much):
    def change(table):
        at = table.schema.names.index(name)
        return table.set_column(at, name, pc.add(table.column(name).cast(pa.float64()), much))

    return change


def last_bit(table):
    values = table.column("f003").to_numpy().copy()
    values[7] = np.nextafter(values[7], np.float32(np.inf))
    return table.set_column(table.schema.names.index("f003"), "f003", pa.array(values))


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (swapped, "dataset_id: 2 differ"),
        (more_of("label", 0.7), "label: 6000 differ"),
        (last_bit, "f003: 1 differ, the first in row 7"),
        (lambda table: table.slice(1), "5999 rows"),
        (lambda table: table.drop_columns(["channel"]), "no column channel"),
    ],
)
def test_nothing_slips_past_the_checker(harm, told):
    """The one that came with the oracle sorted both sides and cast labels to integers: it saw neither."""
    expected = expected_of("clean")
    assert problems(expected, expected) == []
    assert problems(expected, harm(expected))[0].startswith(told)


# ------------------------------------------------------------------ the oracles


@pytest.mark.parametrize("oracle", ["clean", "dirty"])
def test_the_original_is_reproduced_to_the_bit(tmp_path, oracle):
    folder = ranked(tmp_path / "r", oracle, compat="upstream", span=700)
    expected = expected_of(oracle)
    assert problems(expected, table_of(folder)) == []
    requests = expected.column("request_id").to_pylist()
    sizes = [requests.count(each) for each in dict.fromkeys(requests)]
    assert np.load(folder / "groups.npy").tolist() == sizes
    assert len(list((folder / "table").glob("part-*"))) > 5
    if oracle == "dirty":  # 245 where keys are float32
        assert json.loads((folder / "meta.json").read_text())["datasets"]["samples"] == 473
    assert sorted(path.relative_to(folder).parts[0] for path in folder.rglob("part-*.parquet"))[0] == "table"


def by_hand(oracle):
    """What the table must be by default, row by row with dicts: NaN where nothing is known."""
    samples = pq.read_table(DATA / oracle / "samples.parquet").to_pylist()
    tables = {}
    for name, key in (("dataset_profile", "dataset_id"), ("user_features", "user_id")):
        table = pq.read_table(DATA / oracle / f"{name}.parquet")
        numeric = [
            field.name
            for field in table.schema
            if field.name != key and (pa.types.is_integer(field.type) or pa.types.is_floating(field.type))
        ]
        first = {}
        for row in table.select([key, *numeric]).to_pylist():
            first.setdefault(row[key], row)
        tables[key] = (first, numeric)
    rows = []
    for number, row in enumerate(samples):
        if row["request_id"] is None or row["dataset_id"] is None or row["label"] is None:
            continue
        made = {"request_id": row["request_id"], "dataset_id": row["dataset_id"], "user_id": row["user_id"]}
        made |= {"row": number, "label": row["label"], "score": finite(row["score"])}
        made["channel_weight"] = finite(row["channel_weight"])
        for key, prefix, found in (("dataset_id", "", "item_found"), ("user_id", "user_", "user_found")):
            first, numeric = tables[key]
            there = row[key] is not None and row[key] in first
            for name in numeric:
                made[prefix + name] = finite(first[row[key]][name]) if there else float("nan")
            made[found] = float(there)
        made |= {name: row[name] for name in ("channel", "device_type", "locale")}
        rows.append(made)
    rows.sort(key=lambda row: (row["request_id"], samples[row["row"]]["position"], row["row"]))
    return pa.Table.from_pylist(rows)


def finite(value):
    return float(np.float32(value)) if value is not None and np.isfinite(value) else float("nan")


def test_by_default_what_is_missing_stays_missing_and_is_counted(tmp_path):
    folder = ranked(tmp_path / "r", "dirty", span=900)
    expected = by_hand("dirty")
    assert problems(expected, table_of(folder)) == []
    meta = json.loads((folder / "meta.json").read_text())
    assert meta["rows"] == {
        "samples": 5000, "without_key": 30, "without_label": 4970 - expected.num_rows, "before_as_of": 0,
        "window_open": 0, "repeated": 0,
        "not_sampled": 0, "table": expected.num_rows,
    }  # fmt: skip
    assert meta["rows"]["without_label"] > 30
    assert not {"position", "user_id", "page_id", "dataset_id", "label"} & set(meta["features"])
    assert meta["duplicates"] == {"items": 40, "users": 40}
    assert meta["order"] == "request"  # the samples were scattered
    assert meta["datasets"]["samples"] == len(set(expected.column("dataset_id").to_pylist()))


def test_positions_lie_beside_the_table(tmp_path):
    folder = ranked(tmp_path / "r", "clean")
    table = table_of(folder)
    samples = pq.read_table(DATA / "clean" / "samples.parquet")
    rows = table.column("row").to_numpy()
    assert np.load(folder / "positions.npy").tolist() == samples.column("position").to_numpy()[rows].tolist()
    assert rows.tolist() == list(range(6000))  # requests lie together: the order is that of the samples
    upstream = json.loads((ranked(tmp_path / "u", "clean", compat="upstream") / "meta.json").read_text())
    assert "position" in upstream["features"]


def test_the_layout_is_the_one_that_is_described(tmp_path):
    """Columns, types and keys of meta.json as the README has them, for rank-train and the readers."""
    folder = ranked(tmp_path / "r", "clean", negatives=0.5)
    meta = json.loads((folder / "meta.json").read_text())
    schema = pq.read_schema(next((folder / "table").glob("part-*")))
    head = ["request_id", "dataset_id", "user_id", "timestamp", "row", "label", "weight"]
    assert schema.names == [*head, *meta["features"]]
    assert meta["types"] == {field.name: str(field.type) for field in schema}
    numeric = [name for name in meta["features"] if name not in meta["categorical"]]
    assert {meta["types"][name] for name in numeric} == {"float"}
    assert {meta["types"][name] for name in meta["categorical"]} == {"int32"}
    assert meta["features"][-len(meta["categorical"]) :] == meta["categorical"]
    assert set(meta["origins"]) == set(meta["features"])
    readme = (DATA.parents[3] / "src/penstock/workloads/recsys/README.md").read_text()
    for key in meta:
        assert f"| `{key}` |" in readme, key


# ------------------------------------------------------------------ the same bytes


def digests(folder):
    """Of everything that is read afterwards."""
    paths = [*sorted((folder / "table").iterdir()), *(folder / each for each in
             ("groups.npy", "positions.npy", "meta.json"))]  # fmt: skip
    return {str(path.relative_to(folder)): hashlib.md5(path.read_bytes()).hexdigest() for path in paths}


def test_the_same_bytes_for_any_budget_workers_and_calls(tmp_path):
    expected = digests(ranked(tmp_path / "one", "dirty", span=700))
    ways = [{"workers": 1, "budget": "450MiB"}, {"workers": 2, "call": 3}]
    for number, way in enumerate(ways):
        folder = ranked(tmp_path / str(number), "dirty", span=700, backend="local", **way)
        assert digests(folder) == expected
    assert penstock.verify(folder).ok


KILLED = """
import sys
from ranking_tables import ranked
ranked(sys.argv[1], "dirty", span=500, backend="local", workers=1, call=1)
"""


def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path):
    """Killed after each stage in turn, and within the table."""
    expected = digests(ranked(tmp_path / "whole", "dirty", span=500))
    folder = tmp_path / "killed"
    environment = {**os.environ, "PYTHONPATH": str(DATA.parent)}
    for stage in ("ranking-survey", "ranking-sort", "table", "ranking-meta"):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(folder)], env=environment, start_new_session=True,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        book = folder / ".penstock" / stage / "journal"
        wait_for(lambda book=book: book.is_file() and b'"kept"' in book.read_bytes(), process)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(LIMIT)
        if stage == "table":  # the facts that the original asks for after a death
            told = CliRunner().invoke(main, ["report", str(folder)]).stdout
            assert "samples     5,000 rows of 16 columns\nitems       540 rows of 27 columns" in told
            assert "sampling    --max-samples 0 (all rows), --sample-by request, --seed 42" in told
            assert "died" in told
    again = ranked(folder, "dirty", span=500, backend="local")
    assert digests(again) == expected
    assert penstock.verify(folder).ok


def wait_for(ready, process):
    import time

    end = time.monotonic() + LIMIT
    while not ready():
        if process.poll() is not None:
            return  # it was done before it could be killed
        assert time.monotonic() < end, "the stage was not reached"
        time.sleep(0.005)


def test_features_that_lose_digits_are_told(tmp_path, capsys):
    draw = np.random.default_rng(0)
    table = items(
        tmp_path / "i.parquet", exact=np.arange(50) / 8, tenth=np.arange(50) / 10,
        large=np.arange(50) + 2**24, small=np.arange(50).astype(np.int32), flag=np.arange(50) % 2 == 0,
        single=draw.random(50).astype(np.float32), holes=[None, np.nan, np.inf, *[0.5] * 47],
    )  # fmt: skip
    samples = log(tmp_path / "s.parquet", 40)
    folder = ranked(tmp_path / "r", samples=samples, items=table, span=64)
    assert json.loads((folder / "meta.json").read_text())["rounded"] == ["score", "large", "tenth"]
    assert "rounded: 3 features not exact as float32" in capsys.readouterr().err
    ranked(tmp_path / "meant", samples=samples, items=table, lossy_float32=True)
    assert "rounded:" not in capsys.readouterr().err


def test_spans_change_parts_and_nothing_else(tmp_path):
    small, large = (ranked(tmp_path / str(span), "clean", span=span) for span in (300, 65_536))
    assert problems(table_of(small), table_of(large)) == []
    for name in ("groups.npy", "positions.npy"):
        assert (small / name).read_bytes() == (large / name).read_bytes()


def test_a_part_holds_whole_requests(tmp_path):
    folder = ranked(tmp_path / "r", "clean", span=300)
    seen = set()
    for part in sorted((folder / "table").glob("part-*")):
        file = pq.ParquetFile(part)
        assert file.num_row_groups == 1
        requests = set(file.read(["request_id"]).column(0).to_pylist())
        assert not seen & requests
        seen |= requests


def test_a_request_of_more_rows_than_a_part_is_cut_and_counted_once(tmp_path):
    samples = log(tmp_path / "s.parquet", requests=20)
    table = pq.read_table(samples)
    large = table.set_column(0, "request_id", pa.array(["large"] * table.num_rows))
    pq.write_table(pa.concat_tables([table, large, table.slice(0, 0)]), samples)
    folder = ranked(tmp_path / "r", samples=samples, items=items(tmp_path / "i.parquet"), span=50)
    groups = np.load(folder / "groups.npy")
    assert groups[-1] == table.num_rows
    assert groups.sum() == 2 * table.num_rows
    assert json.loads((folder / "meta.json").read_text())["queries"]["largest"] == table.num_rows


# ------------------------------------------------------------------ on the command line


@pytest.mark.usefixtures("worked_here")
def test_the_command_reads_the_variables_of_before_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("MAX_RANKING_SAMPLES", "1000")
    monkeypatch.setenv("SIMILARITY_BATCH_SIZE", "2000")
    command = [
        "ranking", "--samples", str(DATA / "clean/samples.parquet"),
        "--items", str(DATA / "clean/dataset_profile.parquet"),
        "--users", str(DATA / "clean/user_features.parquet"),
    ]  # fmt: skip
    planned = CliRunner().invoke(main, ["plan", *command, "--budget", "600MiB"])
    assert planned.exit_code == 0, planned.output
    assert "--max-samples 1000, from MAX_RANKING_SAMPLES" in planned.output
    assert "ranking-queries" in planned.output
    assert "table " in planned.output
    assert "SIMILARITY_BATCH_SIZE has no effect: the budget decides" in planned.output
    result = CliRunner().invoke(main, ["run", *command, "--into", str(tmp_path / "r"), "--budget", "600MiB"])
    assert result.exit_code == 0, result.output
    meta = json.loads((tmp_path / "r/meta.json").read_text())
    rows, told = meta["rows"], result.output
    assert f"rows: {rows['table']:,} of 6,000 ({rows['not_sampled']:,} not drawn)" in told
    assert f"datasets: {meta['datasets']['table']} of 621" in told
    assert "columns: 16 of samples, 27 of items, 10 of users" in told
    assert f"features: {len(meta['features'])}" in told
    assert f"{meta['bytes']['after'] / 1e6:,.1f} MB in the table" in told
    assert 900 < rows["table"] <= 1000
    assert set(meta["coverage"]) == {"head", "middle", "tail"}
    assert meta["coverage"]["head"] > meta["coverage"]["tail"]


@pytest.mark.usefixtures("worked_here")
def test_a_run_with_relative_paths_is_resumed_from_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(DATA / "clean")
    tables = ["--samples", "samples.parquet", "--items", "dataset_profile.parquet"]
    into = str(tmp_path / "r")
    result = CliRunner().invoke(main, ["run", "ranking", *tables, "--into", into, "--budget", "600MiB"])
    assert result.exit_code == 0, result.output
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["resume", into])
    assert result.exit_code == 0, result.output
    shrunk = ["run", "shrink", "samples.parquet", "--into", into + "2", "--budget", "600MiB"]
    monkeypatch.chdir(DATA / "clean")
    assert CliRunner().invoke(main, shrunk).exit_code == 0
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["resume", into + "2"])
    assert result.exit_code == 0, result.output


def test_tables_may_be_folders_and_several_files(tmp_path):
    whole = pq.read_table(log(tmp_path / "whole.parquet"))
    (tmp_path / "parts").mkdir()
    for number, cut in enumerate((0, 500, 1000)):
        piece = whole.slice(cut, 500 if number < 2 else whole.num_rows)
        narrow = piece.set_column(
            1, "dataset_id", piece.column("dataset_id").cast([pa.int8(), pa.int64()][number % 2])
        )
        pq.write_table(narrow, tmp_path / "parts" / f"{number}.parquet")
    about = items(tmp_path / "i.parquet")
    one = ranked(tmp_path / "a", samples=str(tmp_path / "whole.parquet"), items=about)
    many = ranked(tmp_path / "b", samples=str(tmp_path / "parts"), items=about)
    assert problems(table_of(one), table_of(many)) == []


def test_pages_are_looked_up_as_items(tmp_path):
    samples = log(tmp_path / "s.parquet", requests=10)
    table = pq.read_table(samples)
    pages = pa.array([None if row % 5 == 0 else row % 60 for row in range(table.num_rows)])
    pq.write_table(table.append_column("page_id", pages), samples)
    about = items(tmp_path / "i.parquet")
    folder = ranked(tmp_path / "r", samples=samples, items=about, page_items=about)
    found = table_of(folder)
    expected = [row % 60 / 4 if row % 5 and row % 60 < 50 else None for row in range(table.num_rows)]
    prices = found.column("page_price").to_pylist()
    assert [None if np.isnan(each) else each for each in prices] == expected
    assert found.column("page_found").to_pylist() == [float(each is not None) for each in expected]


def test_texts_as_ids_are_looked_up_as_they_are(tmp_path):
    samples = write(
        tmp_path / "s.parquet", request_id=["a", "a", "b"], dataset_id=["7", "007", "8"], label=[1, 0, 0]
    )
    about = write(tmp_path / "i.parquet", dataset_id=["007", "7"], price=[1.5, 2.5])
    table = table_of(ranked(tmp_path / "r", samples=samples, items=about))
    assert table.column("price").to_pylist()[:2] == [2.5, 1.5]
    assert table.column("item_found").to_pylist() == [1, 1, 0]


@pytest.mark.parametrize("base", [2**24, 2**53, 2**63])
def test_large_ids_find_their_own_items(tmp_path, base):
    kind = pa.uint64() if base > 2**62 else pa.int64()
    ids = [base, base + 1, base + 2]
    samples = write(
        tmp_path / "s.parquet",
        request_id=[1, 1, 1, 2],
        dataset_id=pa.array([*ids, 5], kind),
        label=[1, 0, 0, 0],
    )
    about = write(tmp_path / "i.parquet", dataset_id=pa.array(ids[::-1], kind), price=[2.0, 1.0, 0.0])
    table = table_of(ranked(tmp_path / "r", samples=samples, items=about))
    assert table.column("price").to_pylist()[:3] == [0, 1, 2]
    assert np.isnan(table.column("price")[3].as_py())
    assert table.column("dataset_id").to_pylist() == [*ids, 5]


def test_a_category_of_very_many_texts_is_hashed_and_said(tmp_path, monkeypatch, capsys):
    from penstock.workloads.recsys.ranking import survey

    monkeypatch.setattr(survey, "TEXTS", 3)
    samples = log(tmp_path / "s.parquet")
    table = pq.read_table(samples)
    texts = pa.array([None if row == 0 else f"text {row % 10}" for row in range(table.num_rows)])
    pq.write_table(table.set_column(table.schema.names.index("channel"), "channel", texts), samples)
    folder = ranked(tmp_path / "r", samples=samples, items=items(tmp_path / "i.parquet"))
    meta = json.loads((folder / "meta.json").read_text())
    assert meta["categories"]["channel"] == {"hashed": 65_536}
    numbers = pq.read_table(folder / "table").column("channel").to_numpy()
    assert numbers[0] == -1
    assert len(set(numbers[1:].tolist())) == 10
    assert "channel has more than 50,000 different texts" in capsys.readouterr().err
