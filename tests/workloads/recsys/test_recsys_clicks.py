"""Labels from clicks: the window, what comes before it and after the log, and rows that repeat each other."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from ranking_tables import items, log, ranked, table_of, write

from penstock.cli import main
from penstock.errors import BadInput, UsageError
from penstock.workloads.recsys.ranking import clicks as clicks_of
from penstock.workloads.recsys.ranking.repeats import Shown

HOUR = 3_600_000_000


def times(*hours):
    return pa.array([None if hour is None else round(hour * HOUR) for hour in hours], pa.timestamp("us"))


def clicked(path, *rows):
    """Clicks as (request, item, hour)."""
    requests, datasets, hours = zip(*rows, strict=True)
    return write(path, request_id=list(requests), dataset_id=list(datasets), server_time=times(*hours))


def exposed(path, *rows, positions=None):
    """Rows that were shown as (request, item, hour)."""
    requests, datasets, hours = zip(*rows, strict=True)
    return write(
        path, request_id=list(requests), dataset_id=pa.array(datasets, pa.int64()), timestamp=times(*hours),
        position=positions or list(range(len(rows))), score=[0.5] * len(rows),
    )  # fmt: skip


def labels(folder):
    table = table_of(folder)
    return dict(zip(table["row"].to_pylist(), table["label"].to_pylist(), strict=True))


def rows_of(folder):
    return json.loads((folder / "meta.json").read_text())["rows"]


def test_a_click_counts_within_its_window_alone(tmp_path):
    """By hand: the moment itself counts, and the end of the window does; the log ends at hour 100."""
    samples = exposed(
        tmp_path / "s.parquet",
        ("a", 1, 10), ("a", 2, 10), ("a", 3, 10), ("a", 4, 10), ("a", 5, 10), ("b", 1, 76), ("b", 2, 76.5),
        ("b", 3, None),
    )  # fmt: skip
    clicks = clicked(
        tmp_path / "c.parquet",
        ("a", 1, 10), ("a", 2, 34), ("a", 3, 34.001), ("a", 4, 9.999), ("b", 1, 100), ("b", 2, 77),
        ("a", 5, 3), ("a", 5, 11), (None, 5, 12), ("a", 9, None), ("c", 9, 100),
    )  # fmt: skip
    folder = ranked(
        tmp_path / "r", samples=samples, clicks=clicks, items=items(tmp_path / "i.parquet"),
    )  # fmt: skip
    assert labels(folder) == {0: 1, 1: 1, 2: 0, 3: 0, 4: 1, 5: 1}
    rows = rows_of(folder)
    assert (rows["window_open"], rows["without_label"]) == (1, 1)  # hour 76.5, clicked as it is; no time
    assert (rows["clicked_early"], rows["clicked_late"], rows["table"]) == (1, 1, 6)
    meta = json.loads((folder / "meta.json").read_text())
    assert meta["label"]["attribution"] == {
        "window": 86_400.0, "end": "1970-01-05T04:00:00", "clicks": 9, "without_key": 2,
    }  # fmt: skip

    anytime = ranked(
        tmp_path / "any", samples=samples, clicks=clicks, items=items(tmp_path / "i.parquet"),
        attribution="any",
    )  # fmt: skip
    assert labels(anytime) == {0: 1, 1: 1, 2: 1, 3: 0, 4: 1, 5: 1, 6: 1}

    original = ranked(
        tmp_path / "original", samples=samples, clicks=clicks, items=items(tmp_path / "i.parquet"),
        compat="upstream",
    )  # fmt: skip
    assert labels(original) == {0: 1, 1: 1, 2: 1, 3: 1, 4: 1, 5: 1, 6: 1, 7: 0}


def test_of_rows_that_repeat_an_item_the_first_shown_counts(tmp_path):
    """By time, then position, then row; a row without a time comes last."""
    samples = exposed(
        tmp_path / "s.parquet",
        ("a", 1, 11), ("a", 1, 10), ("a", 2, 10), ("a", 2, 10), ("a", 3, 10), ("a", 3, 10),
        ("b", 1, 10), ("c", 1, None), ("c", 1, 10),
        positions=[0, 1, 3, 2, 4, 4, 0, 0, 1],
    )  # fmt: skip
    clicks = clicked(tmp_path / "c.parquet", ("a", 1, 10.5), ("z", 1, 200))
    folder = ranked(tmp_path / "r", samples=samples, clicks=clicks, items=items(tmp_path / "i.parquet"))
    assert labels(folder) == {1: 1, 3: 0, 4: 0, 6: 0, 8: 0}
    assert (rows_of(folder)["repeated"], rows_of(folder)["without_label"]) == (3, 1)
    assert np.load(folder / "groups.npy").tolist() == [3, 1, 1]
    every = ranked(
        tmp_path / "all", samples=samples, clicks=clicks, items=items(tmp_path / "i.parquet"), repeats="keep"
    )
    assert rows_of(every)["table"] == 8


def by_hand(samples, clicks, window):
    """The rows of the table and their labels, by plain loops."""
    found, end = {}, max(*samples["timestamp"], *clicks["server_time"])
    moments = {}
    for request, item, moment in zip(*(clicks[name] for name in clicks), strict=True):
        moments.setdefault((request, item), []).append(moment)
    for row, (request, item, shown, position) in enumerate(
        zip(*(samples[name] for name in samples), strict=True)
    ):
        if shown + window > end:
            continue
        label = any(shown <= moment <= shown + window for moment in moments.get((request, item), ()))
        rank = (shown, position, row, float(label))
        found[request, item] = min(found.get((request, item), rank), rank)
    return {row: label for _, _, row, label in found.values()}


@pytest.mark.parametrize("scattered", [False, True])
@pytest.mark.parametrize("span", [13, 100_000])
def test_labels_are_those_of_plain_loops_for_any_span_and_order(tmp_path, scattered, span, monkeypatch):
    """Spans of 13 rows cut requests, so that rows of one repeat each other across spans."""
    monkeypatch.setattr(clicks_of, "_PASS", 50)
    path = log(tmp_path / "s.parquet", 60, seed=3, scattered=scattered)
    table = pq.read_table(path)
    draw = np.random.default_rng(5)
    moved = np.array(table["timestamp"].cast(pa.int64())) + draw.integers(0, 4, len(table)) * HOUR
    table = table.set_column(
        table.schema.names.index("timestamp"), "timestamp", pa.array(moved, pa.timestamp("us"))
    )
    table = table.set_column(
        table.schema.names.index("dataset_id"), "dataset_id", pa.array(draw.integers(0, 9, len(table)))
    )
    pq.write_table(table, path)
    chosen = draw.permutation(len(table))[:200]
    clicks = pa.table(
        {
            "request_id": table["request_id"].take(chosen), "dataset_id": table["dataset_id"].take(chosen),
            "server_time": pa.array(moved[chosen] + draw.integers(-3, 12, 200) * HOUR, pa.timestamp("us")),
        }
    )  # fmt: skip
    pq.write_table(clicks, tmp_path / "c.parquet")
    folder = ranked(
        tmp_path / "r", samples=path, clicks=str(tmp_path / "c.parquet"), items=items(tmp_path / "i.parquet"),
        attribution="5h", span=span,
    )  # fmt: skip
    plain = {name: table[name].to_pylist() for name in ("request_id", "dataset_id")}
    plain |= {"timestamp": moved.tolist(), "position": table["position"].to_pylist()}
    pressed = {name: clicks[name].to_pylist() for name in ("request_id", "dataset_id")}
    pressed["server_time"] = np.array(clicks["server_time"].cast(pa.int64())).tolist()
    wanted = by_hand(plain, pressed, 5 * HOUR)
    assert labels(folder) == wanted
    assert 0 < sum(wanted.values()) < len(wanted) < len(table)
    rows = rows_of(folder)
    dropped = ("without_key", "without_label", "before_as_of", "window_open", "repeated", "not_sampled")
    assert rows["samples"] == rows["table"] + sum(rows[name] for name in dropped)
    assert rows["repeated"] > 20
    assert int(np.load(folder / "groups.npy").sum()) == rows["table"]


def test_repeats_in_labelled_samples_are_kept_and_told(tmp_path):
    path = write(
        tmp_path / "s.parquet", request_id=["a", "a", "b"], dataset_id=[1, 1, 1], label=[0.0, 1.0, 0.0]
    )
    told = CliRunner().invoke(
        main,
        ["run", "ranking", "--samples", path, "--items", items(tmp_path / "i.parquet"), "--into",
         str(tmp_path / "r"), "--budget", "600MiB"],
    )  # fmt: skip
    assert told.exit_code == 0, told.stderr
    assert "1 row with an item that was in the request before, kept: --repeats first" in told.stderr
    first = ranked(tmp_path / "f", samples=path, items=str(tmp_path / "i.parquet"), repeats="first")
    assert labels(first) == {0: 0, 2: 0}


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ([0.0, 1.0, 30.0], None),
        ([0.0, 1.5, 1.0], "here they go from 0 to 1.5, and not all are whole"),
        ([-1.0, 0.0, 1.0], "here they go from -1 to 1\n"),
        ([0.0, 1.0, 31.0], "here they go from 0 to 31\n"),
    ],
)
def test_labels_that_no_ranker_is_trained_on_are_told(tmp_path, capsys, labels, told):
    path = write(tmp_path / "s.parquet", request_id=["a", "a", "b"], dataset_id=[1, 2, 1], label=labels)
    ranked(tmp_path / "r", samples=path, items=items(tmp_path / "i.parquet"))
    said = capsys.readouterr().err
    assert ("warning: rank-train takes labels that are whole numbers from 0 to 30" in said) is bool(told)
    assert told is None or told in said


def test_equal_hashes_of_other_items_are_no_repeats():
    """Rows are compared themselves where their hashes are equal."""
    query, items_ = np.array([0, 0, 1, 1]), np.array([7, 7, 7, 8], np.uint64)
    shown = Shown(query, items_, (np.array([1, 0, 0, 0]), np.arange(4)))
    assert shown.repeated().tolist() == [True, False, False, False]


def test_repeats_that_are_only_told_are_as_many_as_are_found():
    rng = np.random.default_rng(11)
    shown = Shown(rng.integers(0, 40, 3000), rng.integers(0, 50, 3000).astype(np.uint64), (np.arange(3000),))
    assert shown.count() == shown.repeated().sum() > 1000
    assert Shown(np.arange(3), np.zeros(3, np.uint64), (np.arange(3),)).count() == 0


@pytest.mark.parametrize(
    ("clicks", "told"),
    [
        ({"request_id": ["a"], "server_time": times(1)}, "no column dataset_id"),
        ({"request_id": ["a"], "dataset_id": [1]}, "no column server_time or timestamp"),
        ({"request_id": [1], "dataset_id": [1], "server_time": times(1)}, "a text and a number"),
        ({"request_id": ["a"], "dataset_id": [1], "server_time": [3.5]}, "a time was expected"),
    ],
)
def test_clicks_that_are_not_what_they_should_be_are_refused(tmp_path, clicks, told):
    samples = exposed(tmp_path / "s.parquet", ("a", 1, 10))
    path = write(tmp_path / "c.parquet", **clicks)
    with pytest.raises(BadInput, match=told):
        ranked(tmp_path / "r", samples=samples, clicks=path, items=items(tmp_path / "i.parquet"))


def test_clicks_need_times_and_a_duration(tmp_path):
    clicks = clicked(tmp_path / "c.parquet", ("a", 1, 1))
    samples = write(tmp_path / "s.parquet", request_id=["a"], dataset_id=[1])
    with pytest.raises(BadInput, match="no column timestamp, and --clicks is given"):
        ranked(tmp_path / "r", samples=samples, clicks=clicks, items=items(tmp_path / "i.parquet"))
    samples = exposed(tmp_path / "t.parquet", ("a", 1, 10))
    with pytest.raises(UsageError, match="--attribution"):
        ranked(
            tmp_path / "r2", samples=samples, clicks=clicks, items=items(tmp_path / "i.parquet"),
            attribution="24",
        )  # fmt: skip
