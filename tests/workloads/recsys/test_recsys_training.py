"""rank-train from end to end: the same bytes always, what it measures, what it refuses."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import lightgbm
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xgboost
from click.testing import CliRunner
from training_tables import FEW, edit, make, matrix, regroup, tell, train, with_column
from waiting import LIMIT, until

import penstock
from penstock.cli import main
from penstock.errors import BadInput, CannotFit, FunctionRaised, MissingExtra, PluginError, UsageError
from penstock.sharing import Share, set_share
from penstock.workloads.recsys import Ranking, RankTrain
from penstock.workloads.recsys.readers import lightgbm_library
from penstock.workloads.recsys.readers.lightgbm_library import merge_models, model_names, plain_model
from penstock.workloads.recsys.shared.peak import RESERVED, Training, limit, most_rows_within, usable
from penstock.workloads.recsys.training import command, growing, sampling, scoring
from penstock.workloads.recsys.training.sampling import choose_rows
from penstock.workloads.recsys.training.survey import Wanted, survey

PENSTOCK = str(Path(sys.executable).with_name("penstock"))


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return make(tmp_path_factory.mktemp("table"))


@pytest.fixture(scope="module")
def trained(table, tmp_path_factory):
    """A run with a curve, and its metrics."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    return folder, train(folder, table, curve="25,50,100")


class Steps:
    """The steps of a training, called as plain functions."""

    def __init__(self, folder, table, *, threads=1, most=None, **wanted):
        self.folder, self.threads = folder, threads
        self.rows = {"table": str(table), "survey": self.new("survey"), "sample": self.new("sample")}
        self.rows |= {"label": wanted.get("label", "label"), "weight": wanted.get("weight")}
        self.bin_options = {"bin_sample": 200_000, "seed": 42}
        self.facts = survey(self.rows["survey"], table=str(table), fingerprint="", wanted=wanted)
        (self.rows["sample"] / "most.json").write_text(json.dumps(most))

    def new(self, name):
        path = self.folder / name
        path.mkdir(parents=True)
        return path

    def bins(self, name="bins"):
        self.made = self.new(name)
        return self.call(growing.make_bins, self.made, **self.rows, **self.bin_options, library="")

    def grow(self, name, block, trees, before=None, *, most=None, **how):
        options = {"leaves": 7, "positions": False} | how
        facts = self.call(
            growing.grow_trees, self.new(name), bins=self.made, **self.rows, **self.bin_options, block=block,
            trees=trees, before=self.folder / before if before else None, most=most,
            growing=asdict(growing.Growing(**options)),
        )  # fmt: skip
        return facts["trees"]

    def call(self, function, *args, **options):
        set_share(Share(memory=1 << 30, threads=self.threads, attempt=0))
        try:
            return function(*args, **options)
        finally:
            set_share(None)

    def text(self, name):
        return (self.folder / name / "trees.txt").read_text()

    def scores(self, name):
        return np.load(self.folder / name / "scores.npy")


def trees_of(text):
    return text[text.index("\nTree=0") : text.index("end of trees")]


# ------------------------------------------------------------------ the same model


def test_the_model_is_the_one_of_the_matrix_in_memory(table, tmp_path):
    """Where the bins are learnt from all rows, and without blocks, the trees are the same bytes."""
    steps = Steps(tmp_path, table)
    steps.bins()
    steps.grow("all", 0, 8)
    features, labels = matrix(table)
    told = np.load(steps.rows["survey"] / "parts.npy")
    sizes = np.load(table / "groups.npy")
    rows = np.repeat(told == 0, sizes)
    params = {**growing.bin_params(200_000, 42), **growing.Growing(7, positions=False).params(0, 1)}
    data = lightgbm.Dataset(
        features[rows], labels[rows], group=sizes[told == 0], params=params,
        categorical_feature=[features.shape[1] - 1],
    )  # fmt: skip
    whole = lightgbm.Booster(params, data)
    for _ in range(8):
        whole.update()
    assert trees_of(whole.model_to_string()) == trees_of(steps.text("all"))


@pytest.mark.parametrize(
    "how", [{}, {"bagging": 0.6}, {"positions": True}, {"bagging": 0.6, "positions": True}]
)
def test_the_merged_model_predicts_the_running_scores(table, tmp_path, how):
    steps = Steps(tmp_path, table)
    steps.bins()
    steps.grow("a", 0, 4, **how)
    steps.grow("b", 4, 4, "a", **how)
    steps.grow("c", 8, 2, "b", **how)
    text = merge_models([steps.text(name) for name in "abc"])
    model = lightgbm.Booster(model_str=text)
    assert model.num_trees() == 10
    features, _ = matrix(table)
    rows = np.repeat(np.load(steps.rows["survey"] / "parts.npy") == 0, np.load(table / "groups.npy"))
    np.testing.assert_allclose(
        model.predict(features[rows], raw_score=True), steps.scores("c"), rtol=0, atol=1e-14
    )
    assert model.model_to_string().count("Tree=") == 10
    importance = dict(re.findall(r"^(\w+)=(\d+)$", text[text.index("feature_importances:") :], re.MULTILINE))
    splits = dict(zip(model.feature_name(), model.feature_importance("split"), strict=True))
    assert {name: int(count) for name, count in importance.items()} == {
        name: count for name, count in splits.items() if count
    }
    if not how:  # without chance and positions, blocks change nothing at all
        steps.grow("whole", 0, 10)
        assert trees_of(text) == trees_of(steps.text("whole"))


def test_biases_of_positions_go_on_from_block_to_block(table, tmp_path):
    steps = Steps(tmp_path, table)
    steps.bins()
    steps.grow("a", 0, 5, positions=True)
    steps.grow("b", 5, 5, "a", positions=True)
    steps.grow("whole", 0, 10, positions=True)
    learnt, whole = (json.loads((tmp_path / name / "biases.json").read_text()) for name in ("b", "whole"))
    assert set(learnt) == set(whole) == {str(at) for at in np.unique(np.load(table / "positions.npy"))}
    assert all(abs(learnt[place] - whole[place]) < 1e-3 for place in whole)
    assert whole["0"] > whole["12"]  # clicks come from above
    np.testing.assert_allclose(steps.scores("b"), steps.scores("whole"), atol=1e-3)
    again = json.loads((tmp_path / "a" / "biases.json").read_text())
    assert max(abs(learnt[place] - again[place]) for place in again) > 1e-3


def test_threads_change_no_byte(table, tmp_path):
    texts = []
    for threads in (1, 2):
        steps = Steps(tmp_path / str(threads), table, threads=threads)
        steps.bins()
        steps.grow("a", 0, 4, bagging=0.7, positions=True)
        steps.grow("b", 4, 4, "a", bagging=0.7, positions=True)
        texts.append((steps.text("a"), steps.text("b"), steps.scores("b").tobytes()))
    assert texts[0] == texts[1]


def test_deaths_at_any_tree_change_no_byte(table, trained, tmp_path, monkeypatch):
    """Training dies again and again, at another tree each time, and goes on where it was."""
    update, rng, alive = growing._update, np.random.default_rng(5), [0]

    def dies(booster, trees):
        if alive[0] < 4:
            alive[0] += 1
            update(booster, int(rng.integers(0, trees + 1)))
            raise RuntimeError("killed")
        return update(booster, trees)

    monkeypatch.setattr(growing, "_update", dies)
    deaths = 0
    for _ in range(6):
        try:
            train(tmp_path / "run", table)
            break
        except FunctionRaised:
            deaths += 1
    assert deaths >= 2  # the engine tries a step twice
    assert (tmp_path / "run/model.txt").read_bytes() == (trained[0] / "model.txt").read_bytes()


@pytest.mark.long
def test_a_run_that_is_killed_between_trees_goes_on_to_the_same_model(table, trained, tmp_path):
    folder = tmp_path / "run"
    options = [f"--{name.replace('_', '-')}={value}" for name, value in FEW.items()]
    command = [PENSTOCK, "run", "rank-train", str(table), *options, "--into", str(folder), "--budget", "1GiB"]
    child = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    until(lambda: (folder / "train-trees-000").exists() or child.poll() is not None)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait(LIMIT)
    subprocess.run([PENSTOCK, "resume", str(folder)], check=True, timeout=LIMIT, capture_output=True)
    assert (folder / "model.txt").read_bytes() == (trained[0] / "model.txt").read_bytes()
    assert penstock.verify(folder).ok
    told = json.loads((folder / "metrics.json").read_text())
    assert told["test"] == trained[1]["test"]
    assert told["cost"]["peak"] > 0


def test_other_row_groups_give_the_same_model(table, trained, tmp_path):
    """Also such as cut queries in two."""
    other = regroup(table, 997, tmp_path / "table")
    train(tmp_path / "run", other)
    assert (tmp_path / "run/model.txt").read_bytes() == (trained[0] / "model.txt").read_bytes()


@pytest.fixture
def raw(tmp_path):
    """Samples and items whose depth says what is clicked, as options of ranking."""
    rng = np.random.default_rng(2)
    rows, items = 4000, 100
    item, request = rng.integers(0, items, rows), np.sort(rng.integers(0, 400, rows))
    quality = rng.normal(size=items)
    samples = pa.table({
        "request_id": [f"r{each}" for each in request], "dataset_id": item, "user_id": request % 50,
        "timestamp": pa.array(1_764_000_000_000_000 + request * 1_000_000, pa.timestamp("us")),
        "position": pa.array(rng.integers(0, 9, rows)), "channel": [("a", "b")[each] for each in item % 2],
        "label": (rng.random(rows) < 1 / (1 + np.exp(1 - 2 * quality[item]))).astype(np.int64),
    })  # fmt: skip
    pq.write_table(samples, tmp_path / "samples.parquet")
    pq.write_table(pa.table({"dataset_id": range(items), "depth": quality}), tmp_path / "items.parquet")
    return {"samples": str(tmp_path / "samples.parquet"), "items": str(tmp_path / "items.parquet")}


def test_the_table_and_the_ranker_in_one_run(raw, tmp_path):
    """What ranking writes is what rank-train reads, in one folder too."""
    with penstock.Run(tmp_path / "run", budget="2GiB", backend="inline") as run:
        Ranking().run(run, **raw)
        RankTrain().run(run, table=str(run.folder), **FEW)
    told = json.loads((tmp_path / "run/metrics.json").read_text())
    assert told["test"]["auc"] > 0.75
    assert told["split"]["split"] == "time"
    best = pq.read_table(tmp_path / "run/importance.parquet").to_pylist()[0]
    assert best["feature"] == "depth"
    assert penstock.verify(tmp_path / "run").ok


def test_a_table_of_as_many_rows_as_can_be_trained_on(raw, tmp_path, monkeypatch):
    from penstock.workloads.recsys.ranking import stages

    told = []
    for fits in (1500, 900):  # what a budget has room for, and a smaller one when it is resumed
        monkeypatch.setattr(stages, "limit", lambda asked, memory, like, fits=fits: fits)
        with penstock.Run(tmp_path / "run", budget="2GiB", backend="inline") as run:
            Ranking().run(run, max_samples="auto", **raw)
        told.append(json.loads((tmp_path / "run/meta.json").read_text()))
    assert told[0] == told[1]
    assert 1400 < told[0]["rows"]["table"] <= told[0]["sampling"]["max_samples"] == 1500


# ------------------------------------------------------------------ what comes out


def test_what_a_run_leaves(table, trained):
    folder, told = trained
    model = lightgbm.Booster(model_file=str(folder / "model.txt"))
    assert told["model"] == {"file": "model.txt", "trees": 6, "rows": told["split"]["train"]["rows"]}
    assert model.num_trees() == 6
    features, labels = matrix(table)
    parts = np.load(folder / "train-survey/parts.npy")
    sizes = np.load(table / "groups.npy")
    rows = np.repeat(parts == 1, sizes)
    scores = model.predict(features[rows], raw_score=True)
    expected = [
        scoring.metrics.mean_known(scoring.metrics.ndcg(labels[rows], scores, sizes[parts == 1], k))[0]
        for k in (5, 10)
    ]
    assert [told["test"]["ndcg@5"], told["test"]["ndcg@10"]] == pytest.approx(expected)
    assert told["test"]["auc"] == pytest.approx(scoring.metrics.auc(labels[rows], scores))
    assert told["test"]["auc"] > 0.7  # there is something to learn
    assert told["test"]["ndcg_lightgbm@10"] > told["test"]["ndcg@10"]
    assert told["test"]["queries_ndcg"] <= told["split"]["valid"]["with_click"]
    assert sum(each["rows"] for each in told["test"]["segments"].values()) == rows.sum()
    assert 0 < told["test"]["coverage@10"] <= 1
    importance = pq.read_table(folder / "importance.parquet").to_pydict()
    gains = dict(zip(model.feature_name(), model.feature_importance("gain"), strict=True))
    assert importance["feature"][0] == max(gains, key=gains.get)
    assert dict(zip(importance["feature"], importance["gain"], strict=True)) == pytest.approx(gains)


def test_the_curve_is_of_smaller_samples_on_the_same_test(trained):
    folder, told = trained
    curve = told["curve"]
    assert [point["percent"] for point in curve] == [25, 50, 100]
    rows = told["model"]["rows"]
    assert all(
        0.8 * rows * point["percent"] / 100 < point["rows"] <= rows * point["percent"] / 100
        for point in curve
    )
    assert curve[-1]["ndcg@10"] == told["test"]["ndcg@10"]
    assert [point["loss"] for point in curve][-1] is None
    assert curve[0]["loss"] == pytest.approx(1 - curve[0]["ndcg@10"] / curve[-1]["ndcg@10"])
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert len(list(folder.glob("train-bins*"))) == 1


def test_a_point_of_the_curve_is_the_model_of_that_sample(table, trained, tmp_path):
    """Bins apart, which are those of all rows: as if only these queries had been given."""
    most = trained[1]["model"]["rows"] // 2
    steps = Steps(tmp_path, table)
    steps.bins()
    steps.grow("half", 0, 3, most=most)
    rows = growing.Rows(str(table), steps.rows["survey"], most)
    sizes = np.load(table / "groups.npy")
    assert len(steps.scores("half")) == sizes[rows.chosen()].sum() <= most
    model = lightgbm.Booster(model_str=steps.text("half"))
    features, _ = matrix(table)
    found = model.predict(features[np.repeat(rows.chosen(), sizes)], raw_score=True)
    np.testing.assert_allclose(steps.scores("half"), found, atol=1e-14)


def test_a_sweep_tells_settings_and_makes_no_model(table, trained, tmp_path):
    assert train(tmp_path / "run", table, sweep=["leaves=4,7"]) is None
    told = json.loads((tmp_path / "run/sweep.json").read_text())
    assert "test part" in told["selected_on"]
    found = {each["leaves"]: each["ndcg@10"] for each in told["settings"]}
    assert found[7] == pytest.approx(trained[1]["test"]["ndcg@10"])
    assert [each["ndcg@10"] for each in told["settings"]] == sorted(found.values(), reverse=True)
    assert not (tmp_path / "run/model.txt").exists()


def test_xgboost_does_it_too(table, tmp_path):
    told = train(tmp_path / "run", table, engine="xgboost")
    booster = xgboost.Booster(model_file=str(tmp_path / "run/model.ubj"))
    assert booster.num_boosted_rounds() == told["model"]["trees"] == 6
    assert told["test"]["auc"] > 0.7
    assert not list((tmp_path / "run").rglob(".cache*"))


def test_a_model_without_a_test(table, tmp_path):
    told = train(tmp_path / "run", table, valid=0.0, trees=2)
    assert told["test"] is None
    assert told["model"]["rows"] == 3000


def test_a_coin_is_not_foreseen(tmp_path):
    """Corrections R2: labels of a coin, a share of clicks of each item among the features."""
    table = make(tmp_path / "table", 40_000, clicks="coin", features=6, items=800, row_group=12_000)
    steps = Steps(tmp_path / "steps", table, valid=0.5)
    told = np.load(steps.rows["survey"] / "parts.npy")
    rows = np.repeat(told == 1, np.load(table / "groups.npy"))
    whole = [pq.read_table(path) for path in sorted((table / "table").glob("*"))]
    items = np.concatenate([part.column("dataset_id").to_numpy() for part in whole])
    labels = np.concatenate([part.column("label").to_numpy() for part in whole])
    aucs = {}
    for name, counted in (("before", ~rows), ("all", np.ones_like(rows))):
        shown = np.bincount(items[counted], minlength=800)
        share = np.bincount(items[counted], labels[counted], minlength=800) / np.maximum(shown, 1)

        def change(part, first, share=share):
            values = share[part.column("dataset_id").to_numpy()].astype(np.float32)
            return with_column(part, "f000", values)

        edit(table, change)
        told = train(tmp_path / name, table, trees=10, block=10, leaves=15, valid=0.5, bin_sample=8_000)
        aucs[name] = told["test"]["auc"]
    assert 0.49 < aucs["before"] < 0.51
    assert aucs["all"] > 0.55  # what a feature that knows the test part pretends


# ------------------------------------------------------------------ who is tested


def test_the_last_queries_are_tested_and_users_are_told_apart(table, trained):
    folder, told = trained
    parts = np.load(folder / "train-survey/parts.npy")
    split = told["split"]
    assert split["split"] == "time"
    assert sorted(parts.tolist()) == parts.tolist()  # the table is in the order of time
    assert split["train"]["queries"] + split["valid"]["queries"] == len(parts)
    assert split["valid"]["queries"] == pytest.approx(0.2 * len(parts), abs=1)
    assert 0 < told["test"]["new_users"]["rows"] < told["test"]["rows"]


def test_users_are_on_one_side_of_a_split_by_user(table, tmp_path):
    steps = Steps(tmp_path, table, split="user", valid=0.3)
    assert steps.facts["split"] == "user"
    parts = np.repeat(np.load(steps.rows["survey"] / "parts.npy"), np.load(table / "groups.npy"))
    whole = [pq.read_table(path) for path in sorted((table / "table").glob("*"))]
    users = np.array([-1 if user is None else user for part in whole for user in part["user_id"].to_pylist()])
    sides = {user: set(parts[users == user].tolist()) for user in set(users.tolist()) - {-1}}
    assert all(len(side) == 1 for side in sides.values())
    assert not np.load(steps.rows["survey"] / "new_user.npy")[
        np.load(steps.rows["survey"] / "parts.npy") == 0
    ].any()


def test_a_table_without_times_is_parted_by_user_and_says_so(tmp_path, capsys):
    table = make(tmp_path / "table")
    meta = json.loads((table / "meta.json").read_text())
    tell(table, time=None, types={name: kind for name, kind in meta["types"].items() if name != "timestamp"})
    told = train(tmp_path / "run", table, trees=2)
    assert told["split"]["split"] == "user"
    assert "no time of its requests: they are parted by user" in capsys.readouterr().err


def test_requests_before_as_of_are_left_out(table, tmp_path):
    steps = Steps(tmp_path, table, as_of="2025-12-01T00:05:00")
    parts = np.load(steps.rows["survey"] / "parts.npy")
    assert (parts[:100] == 2).all()
    assert (parts[100:] != 2).all()
    assert steps.facts["left_out"]["queries"] == 100
    with pytest.raises(BadInput, match=r"no request is from 2031-01-01 on"):
        Steps(tmp_path / "late", table, as_of="2031-01-01")


def test_a_split_by_request_does_not_depend_on_the_order_of_the_table(table, tmp_path):
    steps = Steps(tmp_path / "a", table, split="request")
    other = regroup(table, 271, tmp_path / "other")
    again = Steps(tmp_path / "b", other, split="request")
    for name in ("parts", "hashes", "labels", "items"):
        np.testing.assert_array_equal(
            np.load(steps.rows["survey"] / f"{name}.npy"), np.load(again.rows["survey"] / f"{name}.npy")
        )


# ------------------------------------------------------------------ memory


def test_auto_is_what_fits_and_stays_when_the_budget_changes(table, tmp_path, monkeypatch):
    like = asdict(Training(1, 8, 7, 1000, 700))
    (tmp_path / "sample").mkdir()
    memory = Training(1500, 8, 7, 1000, 700).peak - RESERVED
    survey_of = Steps(tmp_path / "steps", table).rows["survey"]
    set_share(Share(memory=memory, threads=1, attempt=0))
    try:
        told = choose_rows(
            tmp_path / "sample", table=str(table), survey=survey_of, max_samples="auto", like=like
        )
    finally:
        set_share(None)
    assert told["most"] == most_rows_within(memory + RESERVED, Training(**like)) >= 1500
    assert 1400 < told["rows"] <= told["most"]
    assert told["of_rows"] > told["rows"]
    samples = []
    for fits in (1500, 900):  # what a budget has room for, and a smaller one
        monkeypatch.setattr(sampling, "limit", lambda asked, memory, like, fits=fits: fits)
        samples.append(train(tmp_path / "run", table, trees=3, max_samples="auto")["sample"])
    assert samples[0] == samples[1]
    assert samples[0]["most"] == 1500


def test_auto_says_where_nothing_fits():
    with pytest.raises(BadInput, match=r"no row fits into 10.0 MiB for one worker, since one takes"):
        limit("auto", 10 << 20, Training(1, 100))
    assert limit(0, 0, Training(1, 100)) is None
    assert limit("auto", 0, Training(1, 100)) is None
    assert limit(17, 0, Training(1, 100)) == 17


def test_what_will_not_fit_is_refused_before_it_begins(table, tmp_path):
    with pytest.raises(CannotFit, match=r"planned to take .* what would do: .*--engine xgboost") as caught:
        train(tmp_path / "run", table, leaves=100_000, budget="512MiB")
    assert caught.value.needed > 512 << 20
    assert usable(caught.value.needed) >= Training(2439, 8, 100_000, 1000, 700).peak
    assert not (tmp_path / "run/train-bins").exists()


# ------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (lambda rows: np.zeros(rows), r"none of the [\d,]+ rows to learn from has a label above 0"),
        (lambda rows: np.full(rows, 2.5), r"row 0 of the table: the label is 2.5"),
        (lambda rows: np.full(rows, np.nan), r"row 0 of the table: the label is nan"),
        (lambda rows: np.ones(rows), r"clicked as a whole or not at all"),
    ],
)
def test_labels_that_teach_nothing_are_refused(tmp_path, labels, message):
    table = edit(
        make(tmp_path / "table"),
        lambda part, first: with_column(part, "label", labels(part.num_rows).astype(np.float32)),
    )
    with pytest.raises(BadInput, match=message):
        Steps(tmp_path / "steps", table)


def test_one_query_cannot_be_parted(tmp_path):
    table = make(tmp_path / "table")
    np.save(table / "groups.npy", np.array([3000], np.int32))
    with pytest.raises(BadInput, match=r"of 1 queries none is left to \w+.*--valid 0"):
        Steps(tmp_path / "steps", table)
    steps = Steps(tmp_path / "whole", table, valid=0.0)
    steps.bins()
    assert steps.grow("a", 0, 2) == 2


def test_features_that_say_nothing_are_named(tmp_path, capsys):
    def change(part, first):
        part = with_column(part, "f001", np.full(part.num_rows, 7, np.float32))
        return with_column(part, "f002", np.full(part.num_rows, np.nan, np.float32))

    table = edit(make(tmp_path / "table"), change)
    told = train(tmp_path / "run", table, trees=2)
    assert told["unused"] == ["f001", "f002"]
    assert "not used, for one value or none in all rows: 2 features, f001, f002" in capsys.readouterr().err
    importance = pq.read_table(tmp_path / "run/importance.parquet").to_pylist()
    assert {row["feature"] for row in importance if row["unused"]} == {"f001", "f002"}


def test_rows_that_are_too_few_to_split_are_told(tmp_path, capsys):
    table = make(tmp_path / "table", 30, items=20, users=20, seed=2)
    told = train(tmp_path / "run", table, valid=0.0)
    assert told["model"]["trees"] == 0
    assert "training ended with 0 of 6 trees: no split of 30 rows gains anything" in capsys.readouterr().err
    model = lightgbm.Booster(model_file=str(tmp_path / "run/model.txt"))
    assert set(model.predict(matrix(table)[0]).tolist()) == {0.0}


def test_a_time_has_a_zone_or_is_utc():
    assert command.moment_asked("2025-12-01T08:00:03+08:00") == "2025-12-01T00:00:03"
    assert command.moment_asked("2025-12-01") == "2025-12-01T00:00:00"
    assert command.moment_asked("-17") == "-17"
    assert command.moment_asked(None) is None


def test_a_table_in_which_no_feature_says_anything_is_refused(tmp_path):
    def change(part, first):
        for name in ("score", "f000", "f001", "f002", "f003", "f004", "f005"):
            part = with_column(part, name, np.zeros(part.num_rows, np.float32))
        return with_column(part, "channel", np.full(part.num_rows, -1, np.int32))

    steps = Steps(tmp_path / "steps", edit(make(tmp_path / "table"), change))
    with pytest.raises(BadInput, match="each of the 8 features has one value, or none"):
        steps.bins()


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"label": "clicked"}, "there is no column clicked; there are request_id"),
        ({"weight": "score"}, "score is a feature, and cannot be label or weight too"),
        ({"weight": "row"}, None),
    ],
)
def test_columns_that_are_asked_for(table, tmp_path, wanted, message):
    if message is None:
        steps = Steps(tmp_path, table, **wanted)
        steps.bins()
        assert steps.grow("a", 0, 2) == 2
    else:
        with pytest.raises(BadInput, match=message):
            Steps(tmp_path, table, **wanted)


def test_weights_of_the_table_count_unless_told_not_to(tmp_path, capsys):
    """Rows that stand for others which were left out (ranking --negatives)."""

    def change(part, first):
        labels = part.column("label").to_numpy()
        return with_column(part, "row", np.where(labels > 0, 1, 10).astype(np.float32))

    table = edit(make(tmp_path / "table"), change)
    tell(table, weight="row")
    told = train(tmp_path / "weighed", table, trees=2)
    assert told["options"]["weight"] == "row"
    assert "rows count by the column row (--weight none: all alike)" in capsys.readouterr().err
    alike = train(tmp_path / "alike", table, trees=2, weight="none")
    assert alike["options"]["weight"] is None
    models = [(tmp_path / name / "model.txt").read_text() for name in ("weighed", "alike")]
    assert trees_of(models[0]) != trees_of(models[1])
    with pytest.raises(UsageError, match=r"weights of queries: use --engine lightgbm, or --weight none"):
        train(tmp_path / "xgboost", table, engine="xgboost")


def test_features_that_were_never_frozen_are_warned_of(table, tmp_path, capsys):
    train(tmp_path / "a", table, trees=1)
    assert "does not say when its features about items and users were frozen" in capsys.readouterr().err
    frozen = regroup(table, 5000, tmp_path / "frozen")
    tell(frozen, as_of="2025-11-30T00:00:00")
    told = train(tmp_path / "b", frozen, trees=1)
    assert "frozen" not in capsys.readouterr().err
    assert told["frozen"] == "2025-11-30T00:00:00"
    tell(frozen, as_of=None, left_out={}, compat="none")
    train(tmp_path / "c", frozen, trees=1)
    assert "frozen" not in capsys.readouterr().err
    tell(frozen, compat="upstream")
    train(tmp_path / "d", frozen, trees=1)
    assert "frozen" in capsys.readouterr().err


def test_a_weight_that_is_none_is_named(tmp_path):
    table = edit(
        make(tmp_path / "table"), lambda part, first: with_column(part, "row", np.full(part.num_rows, -1.0))
    )
    with pytest.raises(BadInput, match=r"column row, row 0 of the table: the weight is -1"):
        Steps(tmp_path / "steps", table, weight="row")


@pytest.mark.parametrize("damage", [b"", b"not bins at all"])
def test_bins_that_lightgbm_refuses_are_made_anew(table, tmp_path, damage, capsys):
    steps = Steps(tmp_path, table)
    steps.bins()
    steps.grow("a", 0, 3)
    (steps.made / "bins.bin").write_bytes(damage)
    steps.grow("b", 0, 3)
    assert steps.text("a") == steps.text("b")
    assert "are made anew" in capsys.readouterr().out
    assert not (tmp_path / "b/bins.bin").exists()


def test_bins_of_other_options_are_other_bins(table, trained, tmp_path):
    folder = tmp_path / "run"
    train(folder, table, trees=3)
    with pytest.raises(penstock.JobChanged), penstock.Run(folder, budget="2GiB", backend="inline") as run:
        RankTrain().run(run, table=str(table), **(FEW | {"trees": 3, "bin_sample": 1500}))


def test_another_table_in_the_same_place_is_not_resumed(tmp_path):
    table = make(tmp_path / "table")
    train(tmp_path / "run", table, trees=2)
    edit(table, lambda part, first: with_column(part, "f002", np.zeros(part.num_rows, np.float32)))
    with pytest.raises(penstock.JobChanged):
        train(tmp_path / "run", table, trees=2)


def test_a_missing_package_is_named(table, tmp_path, monkeypatch):
    monkeypatch.setattr(lightgbm_library, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'penstock\[recsys\]'"):
        train(tmp_path / "run", table)


def test_a_missing_openmp_is_named(monkeypatch):
    def refuse(name):
        raise OSError(f"{name}: cannot open shared object file: No such file or directory")

    lightgbm_library.check_lightgbm()
    monkeypatch.setattr(lightgbm_library.ctypes, "CDLL", refuse)
    with pytest.raises(PluginError, match=r"libgomp.so.1 .*apt-get install libgomp1"):
        lightgbm_library.check_lightgbm()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"curve": "50", "valid": 0.0}, "--valid 0 leaves none"),
        ({"curve": "50", "sweep": ["leaves=3,4"]}, "give one of the two"),
        ({"shape": "10x10"}, "are for penstock plan"),
    ],
)
def test_options_that_make_no_sense_together(table, tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        train(tmp_path / "run", table, **options)


# ------------------------------------------------------------------ library and command


def test_lightgbm_is_imported_without_what_it_would_import():
    program = (
        "import sys\n"
        "from penstock.workloads.recsys.readers.lightgbm_library import lightgbm\n"
        "lightgbm()\n"
        "print([n for n in ('pandas', 'sklearn', 'pyarrow', 'dask', 'matplotlib') if n in sys.modules])\n"
        "import pyarrow, sklearn\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=LIMIT
    )
    assert done.stdout.strip() == "[]"


def test_names_that_lightgbm_does_not_take_are_changed_and_stay_different():
    assert model_names(["a", "b c", "d:e"]) == ["a", "b_c", "d_e"]
    assert model_names(["a b", "a:b", "c"]) == ["a_b_0", "a_b_1", "c"]
    assert len(set(model_names(["a b", "a:b", "a_b_0"]))) == 3


def test_a_plain_model_tells_no_threads():
    text = "[seed: 1]\n[num_threads: 2]\n[bagging_seed: 42]\n[num_leaves: 7]\n"
    assert plain_model(text) == "[seed: 1]\n[num_leaves: 7]\n"


def test_the_plan_of_a_shape_and_of_a_table(table, monkeypatch):
    monkeypatch.setenv("RANKER_NUM_LEAVES", "31")
    shape = ["--shape", "8500000x105", "--grow", "rows=10"]
    told = CliRunner().invoke(main, ["plan", "rank-train", *shape, "--budget", "1GiB"])
    assert told.exit_code == 0, told.output
    assert "8,500,000 rows x 105 features" in told.output
    assert "85,000,000 rows x 105 features" in told.output
    assert "--leaves 31, from RANKER_NUM_LEAVES" in told.output
    told = CliRunner().invoke(main, ["plan", "rank-train", str(table), "--budget", "1GiB", "--json"])
    plan = json.loads(told.output)["plans"][0]
    assert plan["asked"]["rows"] == 2400
    assert plan["asked"]["features"] == 8
    assert plan["asked"]["tested"] == 600
    assert plan["projected"] == Training(2400, 8, 31, row_group=plan["asked"]["row_group"], tested=600).peak


def test_the_environment_sets_defaults_in_python_too(table, tmp_path, monkeypatch):
    monkeypatch.setenv("RANKER_ESTIMATORS", "3")
    monkeypatch.setenv("MAX_RANKING_SAMPLES", "800")
    with penstock.Run(tmp_path / "run", budget="2GiB", backend="inline") as run:
        RankTrain().run(run, table=str(table), leaves=7)
    told = json.loads((tmp_path / "run/metrics.json").read_text())
    assert told["model"]["trees"] == 3
    assert told["model"]["rows"] <= 800


@pytest.mark.parametrize(
    "options",
    [["--max-samples", "many"], ["--curve", "0,50"], ["--curve", "ten"], ["--sweep", "depth=1"],
     ["--sweep", "leaves=1"], ["--sweep", "leaves=a"], ["--as-of", "yesterday"], ["--valid", "1"]],
)  # fmt: skip
def test_options_that_cannot_be_read(table, tmp_path, options):
    told = CliRunner().invoke(
        main, ["run", "rank-train", str(table), "--into", str(tmp_path / "run"), *options]
    )
    assert told.exit_code == 2
    assert options[0] in told.output or options[1] in told.output


def test_what_is_asked_of_a_survey_travels():
    assert Wanted(**asdict(Wanted(label="grade", valid=0.1))) == Wanted(label="grade", valid=0.1)
