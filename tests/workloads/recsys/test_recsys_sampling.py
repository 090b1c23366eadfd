"""What goes into the table: whole requests, drawn by hashes that nothing else moves, and no hidden labels."""

import json
from functools import partial
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ranking_tables import items, log, ranked, table_of, write

import penstock
from penstock.errors import BadInput, PenstockError, UsageError
from penstock.workloads.recsys import Ranking
from penstock.workloads.recsys.hashing import SPLIT, hashes


@pytest.fixture
def tables(tmp_path):
    """Samples and items: keywords of a run."""
    return {"samples": log(tmp_path / "s.parquet"), "items": items(tmp_path / "i.parquet")}


def requests_of(folder):
    return set(table_of(folder).column("request_id").to_pylist())


def meta_of(folder):
    return json.loads((folder / "meta.json").read_text())


def sizes_of(path):
    requests = pq.read_table(path).column("request_id").to_pylist()
    return {each: requests.count(each) for each in set(requests)}


# ------------------------------------------------------------------ requests


def test_whole_requests_are_drawn_and_no_more_rows_than_asked_for(tmp_path, tables):
    sizes = sizes_of(tables["samples"])
    for most in (100, 500, 1500):
        folder = ranked(tmp_path / str(most), max_samples=most, span=200, **tables)
        table = table_of(folder)
        found = table.column("request_id").to_pylist()
        assert most - 20 < len(found) <= most  # the next request would have been too many
        assert all(found.count(each) == sizes[each] for each in set(found))
        assert np.load(folder / "groups.npy").tolist() == [sizes[each] for each in dict.fromkeys(found)]
        assert len(np.load(folder / "positions.npy")) == len(found)


def test_a_smaller_sample_lies_within_a_larger_one(tmp_path, tables):
    small, large = (requests_of(ranked(tmp_path / str(n), max_samples=n, **tables)) for n in (300, 900))
    assert small < large


def test_the_order_of_the_rows_and_the_spans_draw_nothing_else(tmp_path, tables):
    expected = requests_of(ranked(tmp_path / "a", max_samples=700, **tables))
    scattered = log(tmp_path / "scattered.parquet", scattered=True)
    given = {**tables, "samples": scattered}
    assert requests_of(ranked(tmp_path / "b", max_samples=700, span=100, **given)) == expected
    assert requests_of(ranked(tmp_path / "c", max_samples=700, seed=43, **tables)) != expected


def test_a_sample_leaves_both_sides_of_a_split(tmp_path, tables):
    found = pa.array(sorted(requests_of(ranked(tmp_path / "r", max_samples=700, **tables))))
    valid = hashes(found, SPLIT) >= np.uint64(int(0.8 * 2**64))
    assert 0.05 < valid.mean() < 0.4


def test_a_sample_in_which_no_request_fits_is_refused_with_what_to_do(tmp_path):
    samples = write(tmp_path / "s.parquet", request_id=["a"] * 50, dataset_id=range(50), label=[0] * 50)
    about = items(tmp_path / "i.parquet")
    with pytest.raises(PenstockError, match=r"--max-samples 10 holds no whole request.*--sample-by row"):
        ranked(tmp_path / "r", samples=samples, items=about, max_samples=10)
    folder = ranked(tmp_path / "row", samples=samples, items=about, max_samples=10, sample_by="row")
    assert table_of(folder).num_rows == 10


def test_strata_are_drawn_alike(tmp_path, tables):
    folder = ranked(tmp_path / "label", max_samples=1200, stratify="label", **tables)
    whole, found = pq.read_table(tables["samples"]), table_of(folder)

    def clicked(table):
        """Share of the rows that are of a request with a click."""
        requests = table.column("request_id").to_pylist()
        labels = table.column("label").to_pylist()
        with_click = {each for each, label in zip(requests, labels, strict=True) if label > 0}
        return sum(each in with_click for each in requests) / len(requests)

    assert abs(clicked(whole) - clicked(found)) < 0.02
    days = ranked(tmp_path / "day", max_samples=1200, stratify="day", **tables)
    share = np.unique(table_of(days).column("timestamp").to_numpy().astype("M8[D]"), return_counts=True)[1]
    every = np.unique(whole.column("timestamp").to_numpy().astype("M8[D]"), return_counts=True)[1]
    assert len(share) == len(every)
    assert np.abs(share / every - 1200 / whole.num_rows).max() < 0.15


def test_auto_draws_what_can_be_trained_on_and_stays_with_the_run(tmp_path, tables, monkeypatch, capsys):
    """Told with the memory it follows from; a resume with another budget goes on with the same number."""
    from penstock.workloads.recsys.ranking import stages
    from penstock.workloads.recsys.shared.peak import RESERVED, Training, most_rows_within

    # Of row groups as large as real ones the peak of so few rows would be the same for all of them.
    small = partial(Training, row_group=16)
    monkeypatch.setattr(stages, "Training", small)
    room = small(600, 4).peak - RESERVED  # for this many rows, and no more
    monkeypatch.setattr(stages.penstock, "share", lambda: SimpleNamespace(memory=room))
    folder = ranked(tmp_path / "r", max_samples="auto", **tables)
    told = capsys.readouterr().err
    meta = meta_of(folder)
    most = most_rows_within(room + RESERVED, small(1, len(meta["features"])))
    assert meta["sampling"]["max_samples"] == most
    assert most - 20 < meta["rows"]["table"] <= most
    assert f"--max-samples auto: {most:,} rows of {len(meta['features'])} features" in told
    monkeypatch.setattr(stages.penstock, "share", lambda: SimpleNamespace(memory=8 * room))
    assert meta_of(ranked(tmp_path / "r", max_samples="auto", **tables)) == meta
    monkeypatch.setattr(stages.penstock, "share", lambda: SimpleNamespace(memory=1))
    with pytest.raises(PenstockError, match="--max-samples auto: no row fits"):
        ranked(tmp_path / "none", max_samples="auto", **tables)


# ------------------------------------------------------------------ rows


@pytest.mark.parametrize("scattered", [False, True])
def test_rows_are_drawn_exactly_and_whatever_their_order(tmp_path, tables, scattered):
    folder = ranked(tmp_path / "a", max_samples=777, sample_by="row", span=150, **tables)
    table = table_of(folder)
    assert table.num_rows == 777
    assert np.load(folder / "groups.npy").sum() == 777
    other = {**tables, "samples": log(tmp_path / "other.parquet", scattered=True)}
    again = table_of(ranked(tmp_path / "b", max_samples=777, sample_by="row", **other))

    def pairs(found):
        return sorted(
            zip(*(found.column(name).to_pylist() for name in ("request_id", "dataset_id")), strict=True)
        )

    # Pairs that come twice have one hash: of those at the border the first rows count.
    assert len(set(pairs(table)) ^ set(pairs(again))) <= 1


def test_rows_as_pandas_draws_them(tmp_path, tables):
    """DataFrame.sample(n, random_state=42) takes the first n of that generator's permutation."""
    rows = pq.read_metadata(tables["samples"]).num_rows
    expected = sorted(np.random.RandomState(42).permutation(rows)[:300].tolist())
    found = table_of(ranked(tmp_path / "r", max_samples=300, sample_by="pandas", **tables))
    assert sorted(found.column("row").to_pylist()) == expected
    sorted_too = ranked(tmp_path / "s", max_samples=300, sample_by="pandas", sort=True, **tables)
    assert sorted(table_of(sorted_too).column("row").to_pylist()) == expected


def test_a_random_seed_is_drawn_once_for_a_folder(tmp_path, tables):
    first = meta_of(ranked(tmp_path / "r", max_samples=500, seed="random", **tables))["sampling"]["seed"]
    assert (
        meta_of(ranked(tmp_path / "r", max_samples=500, seed="random", **tables))["sampling"]["seed"] == first
    )
    other = meta_of(ranked(tmp_path / "o", max_samples=500, seed="random", **tables))["sampling"]["seed"]
    assert other != first


def test_negatives_that_are_kept_weigh_for_those_that_are_not(tmp_path, tables):
    whole = table_of(ranked(tmp_path / "a", **tables))
    found = table_of(ranked(tmp_path / "b", negatives=0.25, **tables))
    labels, weights = (found.column(name).to_numpy() for name in ("label", "weight"))
    positives = int((whole.column("label").to_numpy() > 0).sum())
    assert int((labels > 0).sum()) == positives
    assert set(weights[labels > 0]) == {1}
    assert set(weights[labels == 0]) == {4}
    assert abs(weights.sum() / whole.num_rows - 1) < 0.1


# ------------------------------------------------------------------ nothing that holds the label


def leaking(tmp_path, requests=1500):
    """Labels by the toss of a coin, and items with their click rate over the whole log."""
    samples = log(tmp_path / "s.parquet", requests=requests, size=6)
    table = pq.read_table(samples)
    datasets = np.random.default_rng(5).integers(0, 2000, table.num_rows)
    labels = np.random.default_rng(6).integers(0, 2, table.num_rows).astype(float)
    table = table.set_column(1, "dataset_id", pa.array(datasets))
    table = table.set_column(table.schema.names.index("label"), "label", pa.array(labels))
    pq.write_table(table, samples)
    shown = np.bincount(datasets, minlength=2000)
    rate = np.bincount(datasets, labels, 2000) / np.maximum(shown, 1)
    about = items(
        tmp_path / "i.parquet", 2000, slot_ctr=rate, interaction_count=shown, size=np.arange(2000) % 7
    )
    return {"samples": samples, "items": about}


def auc_of(folder):
    """Of a small model, learnt from the earlier four fifths and tried on the rest."""
    import lightgbm
    from sklearn.metrics import roc_auc_score

    meta, table = meta_of(folder), pq.read_table(folder / "table")
    values = np.stack([table.column(name).to_numpy() for name in meta["features"]], axis=1)
    labels = table.column("label").to_numpy()
    cut = int(0.8 * len(labels))
    data = lightgbm.Dataset(values[:cut], labels[:cut])
    model = lightgbm.train({"objective": "binary", "verbosity": -1, "num_threads": 1}, data, 20)
    return roc_auc_score(labels[cut:], model.predict(values[cut:]))


def test_coin_tosses_cannot_be_predicted(tmp_path):
    """With the click rates of the whole log they can: AUC 0.7, and nobody notices."""
    tables = leaking(tmp_path)
    honest = ranked(tmp_path / "honest", **tables)
    assert meta_of(honest)["left_out"]["items"].keys() == {"slot_ctr", "interaction_count"}
    assert 0.45 < auc_of(honest) < 0.55
    assert auc_of(ranked(tmp_path / "compat", compat="upstream", **tables)) > 0.6


def test_features_that_were_frozen_are_kept_for_what_came_later(tmp_path, capsys):
    tables = leaking(tmp_path, requests=100)
    ranked(tmp_path / "plain", **tables)
    assert (
        "left out, as they are counted over the labels to be predicted: slot_ctr" in capsys.readouterr().err
    )
    folder = ranked(tmp_path / "frozen", as_of="1970-01-03T00:00:00", **tables)
    meta = meta_of(folder)
    assert "slot_ctr" in meta["features"]
    assert meta["time"]["first"] == "1970-01-03T00:00:00"
    assert meta["rows"]["before_as_of"] > 0
    assert sum(meta["rows"].values()) == 2 * meta["rows"]["samples"]
    zoned = ranked(tmp_path / "zoned", as_of="1970-01-03T02:00:00+02:00", **tables)
    assert meta_of(zoned)["rows"] == meta["rows"]
    kept = meta_of(ranked(tmp_path / "kept", log_features="keep", **tables))
    assert "slot_ctr" in kept["features"]
    assert kept["rows"]["before_as_of"] == 0


def test_a_label_among_the_features_is_none(tmp_path, tables):
    about = items(tmp_path / "i2.parquet", label=np.arange(50), user_id=np.arange(50), score=np.arange(50))
    meta = meta_of(ranked(tmp_path / "r", **{**tables, "items": about}))
    assert meta["left_out"]["items"] == {"label": "the label", "user_id": "an id"}
    assert "item_score" in meta["features"]


def test_a_span_that_was_set_aside_is_told_and_the_rest_is_whole(tmp_path, tables, monkeypatch):
    """Arrays beside the table agree with the rows that are there."""
    from penstock.workloads.recsys.ranking.gather import Gather

    make = Gather.__call__

    def fail(self, span, queries, **inputs):
        if span.number == 2:
            raise RuntimeError("cannot be done")
        return make(self, span, queries, **inputs)

    whole = table_of(ranked(tmp_path / "whole", span=300, **tables))
    monkeypatch.setattr(Gather, "__call__", fail)
    with penstock.Run(tmp_path / "r", budget="1200MiB", backend="inline", set_aside=True) as run:
        Ranking().run(run, span=300, **tables)
    table, meta = table_of(tmp_path / "r"), meta_of(tmp_path / "r")
    assert meta["spans_set_aside"] == 1
    assert meta["rows"]["table"] == table.num_rows < whole.num_rows
    assert (
        np.load(tmp_path / "r/groups.npy").sum()
        == len(np.load(tmp_path / "r/positions.npy"))
        == table.num_rows
    )
    requests = table.column("request_id").to_pylist()
    assert np.load(tmp_path / "r/groups.npy").tolist() == [
        requests.count(each) for each in dict.fromkeys(requests)
    ]
    assert penstock.verify(tmp_path / "r").ok


# ------------------------------------------------------------------ bad input


def bad(tmp_path, tables, **other):
    ranked(tmp_path / "bad", **{**tables, **other})


def rows(**columns):
    count = len(next(iter(columns.values())))
    plain = {"request_id": ["a"] * count, "dataset_id": list(range(count)), "label": [0] * count}
    return plain | columns


@pytest.mark.parametrize(
    ("name", "columns", "told"),
    [
        ("samples", rows(dataset_id=["7", "007"]), r"i\.parquet.*dataset_id: is int64.*is string.*007"),
        ("samples", rows(dataset_id=[1.5, 2.0]), r"dataset_id: holds 1\.5; ids are whole"),
        ("samples", rows(label=pa.nulls(2, pa.float64())), r"no row is left of 2: 0 have no.*2 no label"),
        ("samples", rows(dataset_id=[2.0**53, 1]), r"float64 and holds the id 9007199254740992"),
        ("samples", rows(dataset_id=[[1], [2]]), r"dataset_id: is list.*ids are integers or texts"),
        ("samples", rows(label=["yes", "no"]), r"label: is string; numbers were expected"),
        ("samples", rows(label=[np.inf, 0]), r"label: holds an infinite label"),
        ("samples", rows(score=["high", "low"]), r"score: is string; numbers were expected"),
        ("samples", {"request_id": ["a"], "label": [1]}, r"has no column dataset_id; it has request"),
        ("items", {"price": [1.0]}, r"i2\.parquet: has no column dataset_id; it has price"),
        ("items", {"dataset_id": pa.array([], pa.int64())}, r"i2\.parquet: has no rows.*--items"),
        ("samples", {name: pa.array([], pa.int64()) for name in rows(label=[1])}, r"has no rows.*--samples"),
        ("users", {"user_id": ["x"], "age": [1]}, r"user_id: is string, and user_id of .* int64"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_table_is_named(tmp_path, tables, name, columns, told):
    path = write(tmp_path / f"{name[0]}2.parquet", **columns)
    with pytest.raises(PenstockError, match=told):
        bad(tmp_path, tables, **{name: path})


def test_files_that_are_not_what_they_seem_are_named(tmp_path, tables):
    cut = tmp_path / "cut.parquet"
    cut.write_bytes((tmp_path / "s.parquet").read_bytes()[:-20])
    with pytest.raises(BadInput, match=r"cut\.parquet: not a Parquet file, or cut off"):
        bad(tmp_path, tables, samples=str(cut))
    other = write(tmp_path / "x.parquet", **rows(label=["a", "b"]))
    with pytest.raises(
        BadInput, match=r"column (label|request_id|dataset_id).*must agree|columns are not those"
    ):
        bad(tmp_path, tables, samples=[write(tmp_path / "y.parquet", **rows(label=[1, 0])), other])
    with pytest.raises(PenstockError, match=r"nothing\.parquet"):
        bad(tmp_path, tables, samples=str(tmp_path / "nothing.parquet"))


def test_duplicate_keys_multiply_no_rows_and_can_be_an_error(tmp_path, tables, capsys):
    twice = write(tmp_path / "t.parquet", dataset_id=[1, 1, 2], price=[5.0, 6.0, 7.0])
    table = table_of(ranked(tmp_path / "r", **{**tables, "items": twice}))
    assert table.num_rows == pq.read_metadata(tables["samples"]).num_rows
    prices = table.column("price").to_numpy()[table.column("dataset_id").to_numpy() == 1]
    assert set(prices) == {5.0}
    assert "--items has 1 row with a key that was there before" in capsys.readouterr().err
    with pytest.raises(PenstockError, match=r"holds 1 keys more than once.*--duplicates"):
        bad(tmp_path, tables, items=twice, duplicates="error")


def test_null_keys_match_nothing_also_where_the_table_has_one(tmp_path):
    samples = write(
        tmp_path / "s.parquet",
        request_id=["a", "a"],
        dataset_id=[1, 2],
        user_id=pa.array([None, 3.0]),
        label=[1, 0],
    )
    users = write(tmp_path / "u.parquet", user_id=pa.array([np.nan, None, 3.0]), age=[1.0, 2.0, 30.0])
    table = table_of(
        ranked(tmp_path / "r", samples=samples, items=items(tmp_path / "i.parquet"), users=users)
    )
    assert [None if np.isnan(age) else age for age in table.column("user_age").to_pylist()] == [None, 30]
    assert table.column("user_found").to_pylist() == [0, 1]
    assert table.column("user_id").to_pylist() == [None, 3]


def test_odd_columns_come_through(tmp_path, tables):
    """Constant, all NaN, all null, infinite, boolean, decimal, with time zone, row groups of one row."""
    about = items(
        tmp_path / "odd.parquet", constant=np.ones(50), nothing=np.full(50, np.nan), inf=np.full(50, np.inf),
        null=pa.nulls(50, pa.float64()), flag=np.arange(50) % 2 == 0,
        money=pa.array([7] * 50).cast(pa.decimal128(30)),
    )  # fmt: skip
    table = pq.read_table(tables["samples"])
    at = table.schema.names.index("timestamp")
    zoned = table.set_column(
        at, "timestamp", table.column("timestamp").cast(pa.timestamp("ns", "Asia/Shanghai"))
    )
    samples = str(tmp_path / "zoned.parquet")
    pq.write_table(zoned.slice(0, 200), samples, row_group_size=1)
    folder = ranked(tmp_path / "r", samples=samples, items=about)
    found = table_of(folder)
    assert set(found.column("constant").to_pylist()) == {1}
    for name in ("nothing", "inf", "null"):
        assert np.isnan(found.column(name).to_numpy()).all()
    assert set(found.column("flag").to_pylist()) == {0, 1}
    assert set(found.column("money").to_pylist()) == {7}
    assert str(found.schema.field("timestamp").type) == "timestamp[ns, tz=Asia/Shanghai]"


def test_options_that_make_no_sense_are_refused(tmp_path, tables):
    with pytest.raises(UsageError, match="--stratify draws whole requests"):
        bad(tmp_path, tables, max_samples=5, stratify="label", sample_by="row")
    with pytest.raises(UsageError, match="ranking needs --items"):
        ranked(tmp_path / "r", samples=tables["samples"])
    with pytest.raises(UsageError, match="--as-of yesterday: a time was expected"):
        bad(tmp_path, tables, as_of="yesterday")
    plain = write(tmp_path / "plain.parquet", **rows(label=[1, 0]))
    with pytest.raises(BadInput, match="has no column timestamp, and --as-of is given"):
        bad(tmp_path, tables, samples=plain, as_of="2025-01-01")
