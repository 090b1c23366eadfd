"""Retrievers: nothing twice, never more than there is, ties by id; and knowledge bases that are none."""

import json

import numpy as np
import pytest

from penstock.errors import BadInput, UsageError
from penstock.workloads.multimodal import retriever
from penstock.workloads.multimodal.retriever import BM25, Entry, Vectors, open_retriever, read_knowledge

ENTRIES = [Entry("a", "fever cough sputum"), Entry("b", "chest pain sweat"), Entry("c", "fever chest")]


def encode(texts):
    """Counts of three words: as good as a model for its order."""
    return np.array([[text.count(word) for word in ("fever", "chest", "cough")] for text in texts], float)


@pytest.mark.parametrize("found", [BM25(ENTRIES), Vectors(ENTRIES, encode)], ids=["bm25", "vectors"])
def test_the_nearest_come_first_once_and_no_more_than_there_are(found):
    assert [entry.id for entry in found.search("fever cough", 1)] == ["a"]
    everything = [entry.id for entry in found.search("fever chest pain cough", 50)]
    assert len(everything) == len(set(everything)) <= 3


def test_equal_scores_are_told_by_id():
    same = [Entry(name, "fever and cough") for name in "abc"]
    for found in (BM25(same), Vectors(same, encode)):
        assert [entry.id for entry in found.search("fever", 2)] == ["a", "b"]


def test_bm25_is_okapi_reckoned_by_hand():
    """One word in one of three texts of three, three and two words: ln(1 + 2.5/1.5) x tf."""
    rare, mean = np.log(1 + 2.5 / 1.5), 8 / 3
    expected = rare * 2.5 / (1 + 1.5 * (0.25 + 0.75 * 3 / mean))
    ((at, weight),) = BM25(ENTRIES)._weights["sputum"]
    assert (at, pytest.approx(weight)) == (0, expected)


def test_a_query_that_says_nothing_finds_nothing():
    assert BM25(ENTRIES).search("", 3) == []
    assert BM25([]).search("fever", 3) == []


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"id": "a"}', '{"id": 1, "text": "x"}', '{"id": "a", "text": "x"}']
)
def test_a_knowledge_base_that_is_none_is_named_by_its_line(tmp_path, line):
    path = tmp_path / "knowledge.jsonl"
    path.write_text(json.dumps({"id": "a", "text": "first"}) + f"\n{line}\n")
    with pytest.raises(BadInput, match=r"knowledge\.jsonl, line 2"):
        read_knowledge(path)


def test_a_folder_with_a_model(tmp_path, monkeypatch):
    (tmp_path / "knowledge.jsonl").write_text('{"id": "own", "text": "fever"}\n')
    monkeypatch.setattr(retriever, "_model", lambda folder: encode)
    found, told = open_retriever(str(tmp_path))
    assert told["name"] == "sentence-transformers"
    assert [entry.id for entry in found.search("fever", 5)] == ["own"]
    assert open_retriever("none")[0] is None


def test_a_folder_without_the_package_says_what_to_install(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(UsageError, match="pip install sentence-transformers"):
        open_retriever(str(tmp_path))
