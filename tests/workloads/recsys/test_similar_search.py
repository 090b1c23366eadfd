"""The search: the given oracles, brute force, ties, guesses that are wrong, what is missing."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from similar_tables import DATA, check_neighbors, cosines, rows_of

from penstock.workloads.recsys.similar import kernel, search
from penstock.workloads.recsys.similar.search import Rows, Search, Wanted, rounding, unit_vectors


def find(rows, wanted):
    return Search(rows, wanted).find(0, len(rows))


@pytest.mark.parametrize("kind", ["text", "dense", "fused"])
@pytest.mark.parametrize("case", ["clean", "dirty"])
def test_the_neighbours_are_those_of_the_oracle(case, kind):
    texts, vectors = sp.load_npz(DATA / case / "text.npz"), np.load(DATA / case / "embed.npy")
    both = kind == "fused"
    rows = rows_of(vectors if kind != "text" else None, texts if kind != "dense" else None)
    wanted = Wanted(50, 0.01, both, *((0.6, 0.4) if both else (1.0, 1.0)), renormalise=False)
    ids, scores, counts = find(rows, wanted)
    with np.load(DATA / case / "topk.npz") as expected:
        np.testing.assert_array_equal(ids, expected[f"{kind}_ids"])
        there = ids >= 0
        np.testing.assert_allclose(scores[there], expected[f"{kind}_val"][there], rtol=0, atol=1e-7)
    np.testing.assert_array_equal(counts, there.sum(axis=1))


@pytest.fixture
def small_tiles(monkeypatch):
    """Tiles, blocks and samples so small that a few hundred items need many."""
    monkeypatch.setattr(search, "ROWS", 16)
    monkeypatch.setattr(search, "COLUMNS", 24)
    monkeypatch.setattr(search, "_LEAST_SAMPLE", 32)


@pytest.mark.usefixtures("small_tiles")
@settings(max_examples=25)
@given(
    seed=st.integers(0, 1000), items=st.integers(1, 330), dimensions=st.integers(1, 40),
    most=st.integers(1, 60), threshold=st.sampled_from([0.001, 0.2, 0.9]), copies=st.integers(0, 200),
    kind=st.sampled_from(["dense", "text", "both"]),
)  # fmt: skip
def test_any_search_is_that_of_brute_force(seed, items, dimensions, most, threshold, copies, kind):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(items, dimensions)) + rng.normal(size=dimensions)
    vectors[: min(copies, items)] = vectors[0]  # more that tie than are wanted
    vectors[rng.random(items) < 0.05] = 0
    texts = sp.random_array((items, 50), density=0.1, rng=rng, format="csr")
    lengths = np.sqrt(np.asarray(texts.power(2).sum(axis=1))).clip(1e-300)
    texts = sp.csr_array(sp.diags_array(1 / lengths) @ texts)
    both = kind == "both"
    wanted = Wanted(most, threshold, both, *((0.6, 0.4) if both else (1.0, 1.0)))
    rows = rows_of(vectors if kind != "text" else None, texts if kind != "dense" else None, columns=24)
    by_text, by_vector = (texts @ texts.T).toarray(), cosines(vectors)
    has_text, has_vector = np.diff(texts.indptr) > 0, vectors.any(axis=1)
    scores = {"text": by_text, "dense": by_vector}.get(kind)
    if scores is None:
        text, vector = np.outer(has_text, has_text), np.outer(has_vector, has_vector)
        mean = 0.6 * by_text + 0.4 * by_vector
        scores = np.where(text & vector, mean, np.where(text, by_text, np.where(vector, by_vector, 0)))
    check_neighbors(find(rows, wanted), scores, most, threshold, strict=both, close=1e-8)


def test_equal_scores_go_by_id_however_many_tie():
    rng = np.random.default_rng(5)
    vectors = np.repeat(rng.normal(size=(6, 8)), 500, axis=0)[rng.permutation(3000)]
    ids, scores, counts = find(rows_of(vectors), Wanted(20, 0.01))
    assert (counts == 20).all()
    same = cosines(vectors) > 1 - 1e-12
    np.fill_diagonal(same, False)
    for item in range(0, 3000, 37):
        assert ids[item].tolist() == np.flatnonzero(same[item])[:20].tolist()
    assert (scores == scores[:, :1]).all()
    assert scores.max() <= 1


def test_a_guess_that_was_too_high_is_made_good(monkeypatch):
    rows = rows_of(np.random.default_rng(6).normal(size=(4200, 12)))
    expected = Search(rows, Wanted(40, 0.01)).find(0, 200)

    def too_high(scores, rank, floor):
        return np.full(len(scores), 0.99, np.float32)

    monkeypatch.setattr(search, "sampled_thresholds", too_high)
    for one, other in zip(Search(rows, Wanted(40, 0.01)).find(0, 200), expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_float32_scores_are_within_the_bound():
    rng = np.random.default_rng(7)
    vectors = rng.normal(size=(400, 300)) * 10.0 ** rng.integers(-3, 4, (400, 1))
    rows = rows_of(vectors)
    approximate = rows.vectors @ rows.vectors.T
    assert np.abs(approximate - cosines(vectors)).max() < rounding(rows)


def test_vectors_of_any_length_become_unit_vectors():
    tiny, huge = np.array([[3e-300, 4e-300]]), np.array([[3e300, 4e300]])
    given = np.concatenate([tiny, huge, [[0, 0], [np.nan, 1], [np.inf, 1], [-1, 0]]])
    vectors, fixed, scales = unit_vectors(given)
    np.testing.assert_allclose(vectors[:2], [[0.6, 0.8]] * 2, rtol=1e-7)
    assert not vectors[2:5].any()
    assert not scales[2:5].any()
    assert vectors[5].tolist() == [-1, 0]
    assert fixed[5, 0] == -(2**31 - 1)  # the least number has no opposite


def test_a_score_depends_on_nothing_but_the_two_items():
    rng = np.random.default_rng(8)
    vectors = rng.normal(size=(700, 33))
    order = rng.permutation(700)
    ids, scores, counts = find(rows_of(vectors), Wanted(699, 0.001))
    other_ids, other_scores, other_counts = find(rows_of(vectors[order]), Wanted(699, 0.001))
    for place in range(0, 700, 11):
        item = order[place]
        assert counts[item] == other_counts[place]
        own = dict(zip(ids[item].tolist(), scores[item].tolist(), strict=True))
        other = dict(zip(other_ids[place].tolist(), other_scores[place].tolist(), strict=True))
        assert {i: s for i, s in own.items() if i >= 0} == {
            int(order[i]): s for i, s in other.items() if i >= 0
        }


def test_kth_largest_is_that_of_a_sort():
    rng = np.random.default_rng(9)
    for size in (1, 2, 7, 100, 1000):
        for values in (rng.normal(size=size), np.zeros(size), rng.integers(0, 3, size)):
            given = values.astype(np.float32)
            for k in {1, size, (size + 1) // 2}:
                assert kernel.kth_largest(given.copy(), size, k) == np.sort(given)[::-1][k - 1]
                room = np.empty(size + 1, np.float32)
                assert kernel._best(given, size, k, room) == np.sort(given)[::-1][k - 1]


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("kind", ["text", "dense", "fused"])
def test_a_search_of_files_compiles_nothing_that_the_rehearsal_did_not(kind, tmp_path):
    search.rehearse()
    compiled = {name: each for name, each in vars(kernel).items() if hasattr(each, "signatures")}
    before = {name: list(each.signatures) for name, each in compiled.items()}
    texts, vectors = sp.load_npz(DATA / "dirty" / "text.npz"), np.load(DATA / "dirty" / "embed.npy")
    rows = rows_of(vectors if kind != "text" else None, texts if kind != "dense" else None, 24)
    for name, array in vars(rows).items():
        if array is not None:
            np.save(tmp_path / name, array)
    assert find(Rows.load(tmp_path), Wanted(5, 0.01, False, 0.6, 0.4))[2].any()
    assert {name: list(each.signatures) for name, each in compiled.items()} == before
