"""A ranking table as LightGBM, XGBoost and PyTorch read it, beside the same in memory."""

from __future__ import annotations

import sys
import types

import lightgbm
import numpy as np
import pytest
import xgboost
from training_tables import edit, make, matrix, tell, with_column

from penstock.errors import BadInput, UsageError
from penstock.workloads.recsys import readers
from penstock.workloads.recsys.readers.table import open_table

GROW = {"num_leaves": 7, "min_data_in_leaf": 5, "verbosity": -1, "num_threads": 1, "deterministic": True,
        "force_col_wise": True, "objective": "lambdarank", "bin_construct_sample_cnt": 200_000}  # fmt: skip


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return make(tmp_path_factory.mktemp("table"))


def test_values_are_those_in_memory_for_any_choice_of_queries(table):
    features, labels = matrix(table)
    opened = open_table(table)
    assert len(opened.groups) > 3
    chosen = np.random.default_rng(0).random(len(opened.sizes)) < 0.4
    rows = readers.TrainingRows(opened, chosen)
    mask = np.repeat(chosen, opened.sizes)
    found = np.concatenate([rows.features(group) for group in rows.groups])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, features[mask].astype(np.float32))
    np.testing.assert_array_equal(rows.labels(), labels[mask])
    np.testing.assert_array_equal(rows.positions(), np.load(table / "positions.npy")[mask])
    assert len(rows) == mask.sum() == rows.sizes.sum()


def test_queries_come_whole_even_where_one_goes_on_in_another_row_group(table, tmp_path):
    features, labels = matrix(table)
    whole = list(readers.queries(table))
    assert [len(query.labels) for query in whole] == np.load(table / "groups.npy").tolist()
    np.testing.assert_array_equal(
        np.concatenate([query.features for query in whole]), features.astype(np.float32)
    )
    np.testing.assert_array_equal(np.concatenate([query.labels for query in whole]), labels)
    cut = make(tmp_path / "cut")
    sizes = np.load(cut / "groups.npy")
    end = int(np.searchsorted(np.cumsum(sizes), open_table(cut).groups[0].rows))
    joined = np.concatenate([sizes[:end], [sizes[end] + sizes[end + 1]], sizes[end + 2 :]]).astype(np.int32)
    np.save(cut / "groups.npy", joined)
    assert [len(query.labels) for query in readers.queries(cut)] == joined.tolist()
    with pytest.raises(BadInput, match=r"query r\d+ goes on in another row group"):
        readers.TrainingRows(open_table(cut)).check_whole()


def test_lightgbms_model_is_the_one_of_the_matrix_in_memory(table):
    features, labels = matrix(table)
    names = open_table(table).features
    categorical = [names.index("channel")]
    whole = lightgbm.Dataset(features, labels, group=np.load(table / "groups.npy"), params=GROW,
                             feature_name=list(names), categorical_feature=categorical)  # fmt: skip
    mine = readers.lightgbm_dataset(table, GROW)
    models = [lightgbm.train(GROW, data, 8).model_to_string() for data in (whole, mine)]
    assert models[0] == models[1]
    assert "Tree=7" in models[0]


def test_xgboosts_model_is_the_one_of_the_matrix_in_memory(table, tmp_path):
    features, labels = matrix(table)
    grow = {"objective": "rank:ndcg", "tree_method": "hist", "max_bin": 64, "nthread": 1, "seed": 1}
    numbers = np.repeat(np.arange(len(np.load(table / "groups.npy"))), np.load(table / "groups.npy"))
    rows = readers.TrainingRows(open_table(table))
    with xgboost.config_context(verbosity=0):
        matrices = [
            xgboost.QuantileDMatrix(features.astype(np.float32), labels, qid=numbers, max_bin=64, nthread=1),
            xgboost.QuantileDMatrix(readers.RowGroupIter(rows), max_bin=64, nthread=1),
            readers.xgboost_matrix(table, tmp_path / "cache", max_bin=64, nthread=1),
        ]
        boosters = [xgboost.train(grow, data, 6) for data in matrices]
        found = [each.inplace_predict(features, predict_type="margin") for each in boosters]
        del matrices
    np.testing.assert_allclose(
        found[1], found[0], atol=1e-6
    )  # quantiles of a stream may be merged in other order
    np.testing.assert_array_equal(found[1], found[2])
    assert len(set(found[0].tolist())) > 10


@pytest.mark.parametrize("workers", [0, 2])
def test_torch_gets_every_query_once(table, workers):
    torch = pytest.importorskip("torch")
    data = readers.QueryDataset(table, shuffle=3)
    found = {}
    for features, labels, number in torch.utils.data.DataLoader(data, batch_size=None, num_workers=workers):
        assert int(number) not in found
        found[int(number)] = (np.array(features), np.array(labels))
    for query in readers.queries(table):
        np.testing.assert_array_equal(found[query.number][0], query.features)
        np.testing.assert_array_equal(found[query.number][1], query.labels)
    order = list(found)
    assert len(order) == len(np.load(table / "groups.npy"))
    assert order != sorted(order)
    data.set_epoch(1)
    assert [int(each[2]) for each in data] != order


class Torch(types.ModuleType):
    """As much of torch as the reader uses, and which worker of a DataLoader this is."""

    def __init__(self, worker):
        super().__init__("torch")
        data = types.SimpleNamespace(IterableDataset=object, get_worker_info=lambda: worker)
        self.utils, self.from_numpy = types.SimpleNamespace(data=data), np.asarray


@pytest.mark.parametrize("shuffle", [None, 3])
def test_workers_of_a_loader_share_the_queries_out(table, monkeypatch, shuffle):
    """Without torch too: each query once, among any number of workers, and mixed anew each epoch."""
    whole = {query.number: query for query in readers.queries(table)}
    for workers in (1, 3):
        found = []
        for number in range(workers):
            worker = types.SimpleNamespace(id=number, num_workers=workers) if workers > 1 else None
            monkeypatch.setitem(sys.modules, "torch", Torch(worker))
            monkeypatch.delitem(sys.modules, "penstock.workloads.recsys.readers.torch", raising=False)
            data = readers.QueryDataset(table, shuffle=shuffle)
            mine = list(data)
            assert mine
            found += mine
            data.set_epoch(1)
            again = [each[2] for each in data]
            assert sorted(again) == sorted(each[2] for each in mine) or workers > 1
            assert (again == [each[2] for each in mine]) == (shuffle is None)
        assert sorted(each[2] for each in found) == list(whole)
        for features, labels, number in found:
            np.testing.assert_array_equal(features, whole[number].features)
            np.testing.assert_array_equal(labels, whole[number].labels)
    monkeypatch.delitem(sys.modules, "penstock.workloads.recsys.readers.torch")


def test_what_is_missing_without_torch_is_named(table, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "penstock.workloads.recsys.readers.torch", raising=False)
    with pytest.raises(UsageError, match="pip install torch"):
        readers.QueryDataset(table)
    monkeypatch.delitem(sys.modules, "penstock.workloads.recsys.readers.torch")


# ------------------------------------------------------------------ tables that are none


def test_a_folder_without_a_table_says_who_makes_one(tmp_path):
    with pytest.raises(BadInput, match=r"there is no ranking table here.*penstock run ranking"):
        open_table(tmp_path)


def test_parts_in_another_order_than_meta_says_are_refused(tmp_path):
    table = make(tmp_path)
    names = list(open_table(table).features)
    names[1], names[2] = names[2], names[1]
    tell(table, features=names)
    with pytest.raises(
        BadInput, match=r"the features come in another order than meta.json says: f001 was expected"
    ):
        open_table(table)
    tell(table, features=[*names[:3], "gone", *names[3:]])
    with pytest.raises(BadInput, match=r"another order|no column gone"):
        open_table(table)


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    table = make(tmp_path)
    sizes, positions = np.load(table / "groups.npy"), np.load(table / "positions.npy")
    np.save(table / "groups.npy", sizes[:-1])
    with pytest.raises(
        BadInput, match=r"groups.npy: is of [\d,]+ rows, and the parts of the table have 3,000"
    ):
        open_table(table)
    np.save(table / "groups.npy", sizes.astype(np.int64))
    with pytest.raises(BadInput, match="an array of int32 with one axis was expected"):
        open_table(table)
    np.save(table / "groups.npy", sizes)
    np.save(table / "positions.npy", positions[1:])
    with pytest.raises(BadInput, match=r"positions.npy: is of 2,999 rows"):
        open_table(table)
    np.save(table / "positions.npy", np.array([{}] * 3))
    with pytest.raises(BadInput, match=r"positions.npy: cannot be read as an array"):
        open_table(table)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "{", "cannot be read as JSON"),
        (lambda text: text.replace('"schema": 1', '"schema": 9'), "schema 1 was expected, and it is 9"),
        (lambda text: text.replace('"f000"', '"f001"'), "names a feature twice"),
        (
            lambda text: text.replace('"categorical": [', '"categorical": ["nobody", '),
            "must be a list of features",
        ),
    ],
)
def test_a_description_that_is_none_is_refused(tmp_path, change, message):
    table = make(tmp_path)
    path = table / "meta.json"
    path.write_text(change(path.read_text()))
    with pytest.raises(BadInput, match=message):
        open_table(table)


def test_a_part_that_is_cut_off_is_named(tmp_path):
    table = make(tmp_path)
    last = sorted((table / "table").glob("*"))[-1]
    last.write_bytes(last.read_bytes()[:-100])
    with pytest.raises(BadInput, match=rf"{last.name}: cannot be read as Parquet"):
        open_table(table)


def test_text_is_no_feature(tmp_path):
    table = edit(make(tmp_path), lambda part, first: with_column(part, "f002", ["x"] * part.num_rows))
    with pytest.raises(BadInput, match="column f002: a feature must be a number, and this is string"):
        open_table(table)


def test_another_table_in_the_same_place_has_another_fingerprint(tmp_path):
    table = make(tmp_path)
    before = open_table(table).fingerprint()
    assert open_table(table).fingerprint() == before
    edit(table, lambda part, first: with_column(part, "f002", np.zeros(part.num_rows, np.float32)))
    assert open_table(table).fingerprint() != before


def test_a_query_that_is_too_long_is_named(tmp_path):
    table = make(tmp_path, 10_100)
    np.save(table / "groups.npy", np.array([50, 10_001, 49], np.int32))
    edit(table, lambda part, first: with_column(part, "request_id", [f"r{first}"] * part.num_rows))
    with pytest.raises(
        BadInput, match=r"query 1: query r\d+ has 10,001 rows, and LightGBM takes 10,000 of one"
    ):
        readers.TrainingRows(open_table(table))
    readers.TrainingRows(open_table(table), np.array([True, False, True]))


@pytest.mark.parametrize("label", [31, 0.5, -1, np.nan])
def test_a_label_without_a_gain_is_named(tmp_path, label):
    def change(part, first):
        labels = part.column("label").to_numpy().copy()
        if first <= 1234 < first + part.num_rows:
            labels[1234 - first] = label
        return with_column(part, "label", labels)

    table = edit(make(tmp_path), change)
    with pytest.raises(BadInput, match=r"column label, row 1234 of the table: the label is .* from 0 to 30"):
        readers.TrainingRows(open_table(table)).labels()
