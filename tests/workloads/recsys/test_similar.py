"""The workload similar from end to end: texts, vectors, both, the same bytes always, bad input."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp
from click.testing import CliRunner
from similar_tables import (
    CHINESE,
    DATA,
    PACKAGES,
    check_neighbors,
    cosines,
    run_similar,
    write_items,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from waiting import LIMIT, until

import penstock
from penstock.cli import main
from penstock.errors import BadInput, UsageError
from penstock.workloads.recsys.similar import items as reading
from penstock.workloads.recsys.similar import tfidf

PENSTOCK = str(Path(sys.executable).parent / "penstock")


def packages():
    table = pq.read_table(PACKAGES)
    return [
        f"{d} {t}" for d, t in zip(table["description"].to_pylist(), table["tag"].to_pylist(), strict=True)
    ]


def as_found(table, items, most):
    """The table of neighbours as (ids, scores, counts) of items that are numbers from 0."""
    item, rank, other, score = (table[name].to_numpy() for name in table.column_names)
    ids, scores = np.full((items, most), -1), np.zeros((items, most))
    ids[item, rank - 1], scores[item, rank - 1] = other, score
    return ids, scores, np.bincount(item, minlength=items)


def scores_of(table):
    rows = zip(*(table[name].to_pylist() for name in ("item_id", "neighbor_id", "score")), strict=True)
    return {(one, other): score for one, other, score in rows}


# ------------------------------------------------------------------ texts


@pytest.mark.parametrize(
    ("analyzer", "options"), [("word", {}), ("char", {"analyzer": "char", "ngram_range": (2, 3)})]
)
@pytest.mark.parametrize("texts", [packages()[:200], list(CHINESE)], ids=["english", "chinese"])
def test_weights_are_those_of_scikit_learn(analyzer, options, texts):
    counted = [tfidf.count_terms(texts[start : start + 60], analyzer) for start in range(0, len(texts), 60)]
    table, found = tfidf.choose([counted], 10**6)
    vocabulary = tfidf.Vocabulary.of(
        table["term"].to_pylist(), tfidf.idf(table["rows"].to_numpy(), len(texts))
    )
    expected = TfidfVectorizer(**options)
    matrix = expected.fit_transform(texts)
    matrix.sort_indices()
    assert vocabulary.columns == expected.vocabulary_
    assert found == len(expected.vocabulary_)
    indptr, terms, weights = tfidf.weigh(texts, vocabulary, analyzer)
    np.testing.assert_array_equal(indptr, matrix.indptr)
    np.testing.assert_array_equal(terms, matrix.indices)
    np.testing.assert_allclose(weights, matrix.data, rtol=1e-14)


def test_of_equal_counts_the_first_terms_are_kept():
    texts = packages()
    counted = tfidf.count_terms(texts, "word")
    ordered = sorted(
        zip(counted["count"].to_pylist(), counted["term"].to_pylist(), strict=True),
        key=lambda e: (-e[0], e[1]),
    )
    table, _ = tfidf.choose([[counted]], 300)
    assert table["term"].to_pylist() == sorted(term for _, term in ordered[:300])
    # scikit-learn leaves ties to its sort, and agrees where there are none.
    expected = set(TfidfVectorizer(max_features=300).fit(texts).vocabulary_)
    odd = expected ^ set(table["term"].to_pylist())
    assert {count for count, term in ordered if term in odd} <= {ordered[299][0]}


def test_neighbours_by_text_are_those_of_scikit_learn(tmp_path):
    table = run_similar(tmp_path / "run", items=str(PACKAGES), text="description,tag", top_k=30)
    matrix = TfidfVectorizer(max_features=5000).fit_transform(packages())
    check_neighbors(as_found(table, 500, 30), (matrix @ matrix.T).toarray(), 30, 0.01)
    told = json.loads((tmp_path / "run" / "similar.json").read_text())
    assert told["analyzer"] == "word"
    assert told["neighbors"] == table.num_rows


def test_chinese_is_compared_by_characters(tmp_path):
    path = write_items(tmp_path / "items.parquet", dataset_id=range(len(CHINESE)), description=list(CHINESE))
    found = scores_of(run_similar(tmp_path / "auto", items=path, text="description"))
    assert json.loads((tmp_path / "auto" / "similar.json").read_text())["analyzer"] == "char"
    matrix = TfidfVectorizer(analyzer="char", ngram_range=(2, 3)).fit_transform(CHINESE)
    assert found[0, 1] == pytest.approx((matrix @ matrix.T).toarray()[0, 1], abs=1e-12)
    assert found[0, 1] > 0.7
    original = scores_of(run_similar(tmp_path / "words", items=path, text="description", compat="upstream"))
    assert (0, 1) not in original  # a clause is a word there


def test_a_share_of_chinese_decides():
    assert tfidf.count_cjk("数据 ab\n") == (2, 4)
    assert tfidf.count_cjk("データ 한국") == (5, 5)
    assert tfidf.count_cjk("") == (0, 0)


# ------------------------------------------------------------------ vectors, and both


def vector_table(path, vectors, **more):
    columns = {f"image_embed_mean_{d}": vectors[:, d] for d in range(vectors.shape[1])}
    return write_items(path, **more, **columns)


def test_neighbours_by_vectors(tmp_path):
    vectors = np.random.default_rng(1).normal(size=(300, 9))
    path = vector_table(tmp_path / "items.parquet", vectors, dataset_id=range(300))
    table = run_similar(tmp_path / "run", items=path, vectors="image_embed_mean_*", top_k=25)
    check_neighbors(as_found(table, 300, 25), cosines(vectors), 25, 0.01)


def test_a_column_of_lists_is_a_vector(tmp_path):
    vectors = np.random.default_rng(1).normal(size=(40, 9)).astype(np.float32)
    many = vector_table(tmp_path / "many.parquet", vectors, dataset_id=range(40))
    lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 9)
    for number, kind in enumerate((lists, lists.cast(pa.list_(pa.float32())))):
        one = write_items(tmp_path / f"{number}.parquet", dataset_id=range(40), embedding=kind)
        found = run_similar(tmp_path / f"run{number}", items=one, vectors="embedding")
        assert found.equals(run_similar(tmp_path / f"many{number}", items=many, vectors="image*"))


def test_a_missing_modality_leaves_the_other_one(tmp_path):
    """Two items with one text, one of them without a picture: 1 by the text, and 0.6 in the original."""
    vectors = np.array([[1, 0], [np.nan, np.nan], [1, 1], [0, 1]])
    path = vector_table(
        tmp_path / "items.parquet", vectors, dataset_id=[1, 2, 3, 4],
        description=["red car", "red car", "blue boat", None],
    )  # fmt: skip
    options = {"items": path, "text": "description", "vectors": "image*"}
    found = scores_of(run_similar(tmp_path / "ours", **options))
    assert found[1, 2] == pytest.approx(1)  # by text alone
    assert found[3, 4] == pytest.approx(0.5**0.5)  # by vectors alone
    assert found[1, 3] == pytest.approx(0.4 * 0.5**0.5)
    assert (2, 4) not in found  # nothing in common
    original = scores_of(run_similar(tmp_path / "original", **options, compat="upstream"))
    assert original[1, 2] == pytest.approx(0.6)
    assert original[3, 4] == pytest.approx(0.4 * 0.5**0.5)


def test_matrices_give_the_oracle(tmp_path):
    table = run_similar(
        tmp_path / "run", matrix=[str(DATA / "clean" / "text.npz"), str(DATA / "clean" / "embed.npy")],
        top_k=50, compat="upstream", export=("csr", "json"),
    )  # fmt: skip
    ids, scores, _ = as_found(table, 700, 50)
    with np.load(DATA / "clean" / "topk.npz") as expected:
        np.testing.assert_array_equal(ids, expected["fused_ids"])
    matrix = sp.load_npz(tmp_path / "run" / "neighbors.npz")
    assert matrix.has_sorted_indices
    assert matrix.nnz == table.num_rows
    assert (matrix[3, ids[3]].toarray() == scores[3]).all()
    exported = json.loads((tmp_path / "run" / "neighbors.json").read_text())
    assert exported["3"] == {str(i): s for i, s in zip(ids[3].tolist(), scores[3].tolist(), strict=True)}
    assert penstock.__version__


# ------------------------------------------------------------------ the same answer


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """1,100 packages (with repeats), their vectors and what a run makes of them."""
    folder = tmp_path_factory.mktemp("many")
    table = pq.read_table(PACKAGES)
    table = pa.concat_tables([table, table, table]).slice(0, 1100)
    vectors = np.random.default_rng(2).normal(size=(1100, 6))
    path = vector_table(
        folder / "items.parquet", vectors, dataset_id=np.arange(1100) * 7 + 2**60,
        description=table["description"], tag=table["tag"],
    )  # fmt: skip
    options = {"items": path, "text": "description,tag", "vectors": "image*", "top_k": 40}
    run_similar(folder / "run", **options)
    return path, options, (folder / "run" / "neighbors.parquet").read_bytes()


def test_rows_in_another_order_give_the_same_bytes(many, tmp_path):
    path, options, expected = many
    table = pq.read_table(path)
    mixed = table.take(np.random.default_rng(3).permutation(table.num_rows))
    for part in range(3):
        pq.write_table(mixed.slice(part * 400, 400), tmp_path / f"part-{part}.parquet", row_group_size=90)
    run_similar(tmp_path / "run", **options | {"items": str(tmp_path / "part-*.parquet")})
    assert (tmp_path / "run" / "neighbors.parquet").read_bytes() == expected


def command(options, folder, *more):
    given = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    return [PENSTOCK, "run", "similar", *given, "--into", str(folder), *more]


@pytest.mark.long
def test_a_killed_run_goes_on_and_gives_the_same_bytes(many, tmp_path):
    _, options, expected = many
    folder = tmp_path / "run"
    for workers, after in ((2, "similar-order"), (1, "similar-texts"), (2, None)):
        more = ("--workers", str(workers), "--budget", "700MiB" if workers == 1 else "2GiB")
        process = subprocess.Popen(
            command(options, folder, *more),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        if after is None:
            _, said = process.communicate(timeout=LIMIT)
            assert process.returncode == 0, said
        else:
            until(lambda name=after: (folder / ".penstock" / name / "report.json").exists(), program=process)
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=LIMIT)
    assert (folder / "neighbors.parquet").read_bytes() == expected
    assert CliRunner().invoke(main, ["verify", str(folder)]).exit_code == 0


# ------------------------------------------------------------------ ids


def test_ids_keep_their_type_and_value(tmp_path):
    vectors = np.random.default_rng(4).normal(size=(4, 3)) + 3
    kinds = {
        "int64": pa.array([2**53, 2**53 + 1, -5, 7], pa.int64()),
        "uint64": pa.array([2**64 - 1, 2**64 - 2, 0, 7], pa.uint64()),
        "text": pa.array(["007", "7", "é", "a\nb"]),
        "dictionary": pa.array(["x", "y", "z", "w"]).dictionary_encode(),
    }
    for name, ids in kinds.items():
        path = vector_table(tmp_path / f"{name}.parquet", vectors, dataset_id=ids)
        table = run_similar(tmp_path / name, items=path, vectors="image*")
        plain = ids.to_pylist()
        assert {one for one, _ in scores_of(table)} == set(plain)
        path = vector_table(tmp_path / "places.parquet", vectors, dataset_id=range(4))
        by_place = scores_of(run_similar(tmp_path / f"{name}-by-place", items=path, vectors="image*"))
        assert scores_of(table) == {(plain[a], plain[b]): s for (a, b), s in by_place.items()}
        assert table["item_id"].to_pylist() == sorted(table["item_id"].to_pylist())


def test_the_first_row_of_an_id_counts(tmp_path, capsys):
    vectors = np.array([[1, 0], [1, 1], [0, 1], [9, 9], [5, 1]])
    path = vector_table(tmp_path / "items.parquet", vectors, dataset_id=[3, 1, None, 3, None])
    table = run_similar(tmp_path / "run", items=path, vectors="image*")
    assert scores_of(table) == {(1, 3): pytest.approx(0.5**0.5), (3, 1): pytest.approx(0.5**0.5)}
    said = capsys.readouterr().err
    assert "2 of 5 rows, without an id" in said
    assert "1 of 5 rows, with the id of an earlier row" in said
    with pytest.raises(BadInput, match="1 of 5 rows repeat the id of an earlier one"):
        run_similar(tmp_path / "other", items=path, vectors="image*", duplicates="error")


def test_places_are_those_of_a_sort():
    ids = pa.chunked_array([["b", None, "a"], ["b", "c", None, "a"]])
    places, kept = reading.places_of(ids)
    assert places.tolist() == [1, -1, 0, -1, 2, -1, -1]
    assert kept.tolist() == [2, 0, 4]


# ------------------------------------------------------------------ bad input


def test_few_or_no_items(tmp_path, capsys):
    vectors = np.ones((3, 2))
    for items, neighbors in ((0, 0), (1, 0), (2, 2), (3, 6)):
        path = vector_table(
            tmp_path / f"{items}.parquet", vectors[:items], dataset_id=pa.array(range(items), pa.int64())
        )
        table = run_similar(tmp_path / str(items), items=path, vectors="image*", export=("csr", "json"))
        assert table.num_rows == neighbors
        assert sp.load_npz(tmp_path / str(items) / "neighbors.npz").shape == (items, items)
        assert len(json.loads((tmp_path / str(items) / "neighbors.json").read_text())) == (
            items if neighbors else 0
        )
    told = capsys.readouterr().err
    assert "--top-k 200: each has 1 other item\n" in told
    assert "--top-k 200: each has 2 other items\n" in told


def test_items_without_text_or_vector_have_no_neighbours(tmp_path, capsys):
    vectors = np.array([[1, 0], [0, 0], [np.nan, 1], [np.inf, 1], [1, 1]])
    path = vector_table(tmp_path / "items.parquet", vectors, dataset_id=range(5))
    assert set(scores_of(run_similar(tmp_path / "run", items=path, vectors="image*"))) == {(0, 4), (4, 0)}
    assert "2 vectors with values that are null, NaN or infinite" in capsys.readouterr().err
    original = run_similar(tmp_path / "original", items=path, vectors="image*", compat="upstream")
    assert (2, 4) in scores_of(original)  # [0, 1] there
    texts = write_items(tmp_path / "texts.parquet", dataset_id=range(3), tag=pa.array(["", None, "a a"]))
    assert run_similar(tmp_path / "texts", items=texts, text="tag").num_rows == 0


def bad_tables(tmp_path):
    good = pa.table({"dataset_id": [1, 2], "tag": ["a b", "b c"], "v0": [1.0, 2.0], "v1": [1.0, 3.0]})
    path = tmp_path / "good.parquet"
    pq.write_table(good, path)
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(path.read_bytes()[:-50])
    floats = write_items(tmp_path / "floats.parquet", dataset_id=[1.0, None], tag=["a", "b"])
    lists = write_items(
        tmp_path / "lists.parquet", dataset_id=[1, 2], v0=[[1.0], [1.0, 2.0]], v1=[[1.0], [2.0]]
    )
    for name in ("device.npy", "device.npz"):
        (tmp_path / name).symlink_to("/dev/null")
    np.save(tmp_path / "cube.npy", np.zeros((2, 2, 2)))
    np.save(tmp_path / "three.npy", np.zeros((3, 2)))
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    sp.save_npz(tmp_path / "two.npz", sp.csr_array(np.eye(2)))
    sp.save_npz(tmp_path / "csc.npz", sp.csc_array(np.eye(2)))
    np.savez(tmp_path / "other.npz", a=np.eye(2))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "two.npz").read_bytes()[:300])
    np.savez(
        tmp_path / "wild.npz", format=b"csr", shape=[2, 2], indptr=[0, 1, 2], indices=[0, 7], data=[1.0, 1.0]
    )
    np.savez(
        tmp_path / "back.npz", format=b"csr", shape=[2, 2], indptr=[0, 2, 1], indices=[0, 1], data=[1.0, 1.0]
    )
    return str(path), str(cut), floats, lists


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("gone.parquet", {"text": "tag"}, "no such file"),
        ("cut.parquet", {"text": "tag"}, "not a Parquet file, or cut off"),
        ("good.parquet", {"text": "description"}, "column description: no such column; there are: dataset"),
        ("good.parquet", {"text": "tag", "key": "id"}, "column id: no such column"),
        ("good.parquet", {"text": "v0"}, "column v0: holds double, and text was expected"),
        ("good.parquet", {"vectors": "tag"}, "column tag: holds string, and numbers were expected"),
        ("good.parquet", {"vectors": "w*"}, r"no column matches 'w\*'; there are"),
        ("floats.parquet", {"text": "tag"}, r"ids are integers or text: numbers above 2\*\*53"),
        ("lists.parquet", {"vectors": "v0"}, "row 1: a vector of 2 numbers, and those before have 1"),
        ("lists.parquet", {"vectors": "v*"}, "a whole vector, and --vectors names 2 columns"),
        ("good.parquet", {}, "--items needs --text, --vectors or both"),
        ("good.parquet", {"text": "tag,tag"}, "names one column twice"),
        ("good.parquet", {"text": "tag", "vectors": "v*", "weights": "1"}, "two numbers were expected"),
        ("good.parquet", {"text": "tag", "vectors": "v*", "weights": "1,0"}, "both must be above 0"),
        ("good.parquet", {"text": "tag", "vectors": "v*", "weights": "1e400,1"}, "must be finite"),
        ("good.parquet", {"text": "tag", "vectors": "v*", "weights": "1e308,1e308"}, "must be finite"),
        ("cube.npy", {}, r"float64 of shape \(2, 2, 2\), and a matrix of numbers was expected"),
        ("objects.npy", {}, "no .npy file of numbers, or cut off"),
        ("csc.npz", {}, "is in the format 'csc': save it as matrix.tocsr"),
        ("other.npz", {}, "holds no format.npy"),
        ("cut.npz", {}, "no .npz archive, or cut off"),
        ("device.npy", {}, "no regular file"),
        ("device.npz", {}, "no regular file"),
        ("wild.npz", {}, "row 1: column 7 of 2"),
        ("back.npz", {}, "its indptr does not ascend"),
        ("good.parquet?", {}, "one .npz, one .npy, or one of each"),
        ("two.npz+three.npy", {}, "two.npz has 2 rows and .*three.npy has 3 rows"),
        ("", {}, "give either --items"),
    ],
)  # fmt: skip
def test_bad_input_is_named(tmp_path, name, options, said):
    bad_tables(tmp_path)
    if name.endswith(".parquet"):
        given = {"items": str(tmp_path / name)}
    else:
        given = {"matrix": [str(tmp_path / part) for part in name.split("+")] if name else []}
    with pytest.raises((BadInput, UsageError), match=said) as caught:
        run_similar(tmp_path / "run", **given, **options)
    assert "Traceback" not in str(caught.value)


# ------------------------------------------------------------------ the environment


@pytest.mark.usefixtures("worked_here")
def test_variables_of_the_original_are_defaults(tmp_path, monkeypatch):
    given = {"matrix": str(DATA / "dirty" / "embed.npy")}
    monkeypatch.setenv("SIMILARITY_TOP_K", "7")
    monkeypatch.setenv("SIMILARITY_BATCH_SIZE", "1000")
    result = CliRunner().invoke(
        main, [*command(given, tmp_path / "run")[1:], "--budget", "2GiB"], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    assert "--top-k 7, from SIMILARITY_TOP_K" in result.output
    assert "SIMILARITY_BATCH_SIZE has no effect" in result.output
    assert pq.read_table(tmp_path / "run" / "neighbors.parquet")["rank"].to_numpy().max() == 7
    run_similar(tmp_path / "python", matrix=[given["matrix"]])
    same = "neighbors.parquet"
    assert (tmp_path / "python" / same).read_bytes() == (tmp_path / "run" / same).read_bytes()


def test_all_that_is_told_is_in_the_file(many, tmp_path):
    assert os.environ.get("SIMILARITY_TOP_K") is None
    _, options, _ = many
    run_similar(tmp_path / "run", **options, analyzer="char", max_features=50)
    told = json.loads((Path(tmp_path) / "run" / "similar.json").read_text())
    assert (told["analyzer"], told["terms"], told["items"], told["top_k"]) == ("char", 50, 1100, 40)
    assert told["terms_found"] > 5000
    assert told["weights"] == [0.6, 0.4]
    assert told["order"]["rows"] == 1100
