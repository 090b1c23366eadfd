"""--approximate: only where the measured recall proves what is asked for; else exact."""

import json

import numpy as np
import pytest
import scipy.sparse as sp
from similar_tables import run_similar

from penstock.errors import UsageError
from penstock.workloads.recsys.similar.approximate import lower_bound

pytest.importorskip("faiss", reason="faiss-cpu (penstock[recsys-ann]) is not installed")


@pytest.fixture(scope="module")
def clustered(tmp_path_factory):
    """8,000 vectors in 80 clusters, that lists of an index suit."""
    rng = np.random.default_rng(1)
    vectors = np.repeat(rng.normal(size=(80, 16)), 100, axis=0) + 0.05 * rng.normal(size=(8000, 16))
    path = tmp_path_factory.mktemp("clustered") / "vectors.npy"
    np.save(path, vectors.astype(np.float32))
    return str(path)


@pytest.fixture(scope="module")
def exact(clustered, tmp_path_factory):
    """Their neighbours without an index."""
    return run_similar(tmp_path_factory.mktemp("exact") / "run", matrix=[clustered], top_k=10)


def told(folder):
    return json.loads((folder / "similar.json").read_text())["approximate"]


def test_an_index_is_used_where_its_recall_is_proven(clustered, exact, tmp_path):
    options = {"matrix": [clustered], "top_k": 10}
    found = run_similar(tmp_path / "index", **options, approximate=True, recall=0.95)
    facts = told(tmp_path / "index")
    assert facts["probes"] > 0
    assert 0.95 <= facts["proven"] <= facts["recall"] <= 1
    pairs = [
        dict(zip(zip(*(t[c].to_pylist() for c in ("item_id", "neighbor_id")), strict=True),
                 t["score"].to_pylist(), strict=True))
        for t in (exact, found)
    ]  # fmt: skip
    both = pairs[0].keys() & pairs[1].keys()
    assert len(both) >= 0.95 * len(pairs[0])
    assert all(pairs[0][pair] == pairs[1][pair] for pair in both)  # scores are exact
    run_similar(tmp_path / "again", **options, approximate=True, recall=0.95)
    name = "neighbors.parquet"
    assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "index" / name).read_bytes()


def test_where_no_recall_can_be_proven_the_search_is_exact(clustered, exact, tmp_path, capsys):
    options = {"matrix": [clustered], "top_k": 10}
    found = run_similar(tmp_path / "asked", **options, approximate=True, recall=0.9999)
    assert told(tmp_path / "asked")["probes"] == 0
    assert found.equals(exact)
    assert "the search is exact: no index is both good enough and faster" in capsys.readouterr().err


def test_few_items_are_searched_exactly(tmp_path, capsys):
    np.save(tmp_path / "few.npy", np.eye(5) + 1)
    table = run_similar(tmp_path / "run", matrix=[str(tmp_path / "few.npy")], approximate=True)
    assert table.num_rows == 20
    assert "too few items to measure the recall" in capsys.readouterr().err


def test_texts_have_no_index(tmp_path):
    sp.save_npz(tmp_path / "few.npz", sp.csr_array(np.eye(3)))
    with pytest.raises(UsageError, match="--approximate searches vectors alone"):
        run_similar(tmp_path / "run", matrix=[str(tmp_path / "few.npz")], approximate=True)


def test_the_bound_is_that_of_the_theorem():
    even = np.array([0.998 - 0.01, 0.998 + 0.01] * 500).clip(0, 1)
    assert even.mean() - lower_bound(even) == pytest.approx(0.0095, abs=5e-4)
    assert lower_bound(np.ones(2000)) == pytest.approx(1 - 7 * np.log(40) / (3 * 1999))
    assert lower_bound(np.ones(1)) == 0
    rng = np.random.default_rng(2)
    assert np.mean([lower_bound((rng.random(500) < 0.9).astype(float)) <= 0.9 for _ in range(400)]) >= 0.95
