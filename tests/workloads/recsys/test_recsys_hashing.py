"""What hashes draw: the same rows whatever their order and type, and another salt draws others."""

import numpy as np
import pyarrow as pa
import pytest

from penstock.workloads.recsys import environment
from penstock.workloads.recsys.hashing import SAMPLE, SPLIT, hashes, mix

REQUESTS = pa.array([f"r{number:07x}" for number in range(100_000)])


def test_mixes_as_splitmix64_does():
    """The first outputs of the published generator, started at 0 and at 1234567."""
    golden = 0x9E3779B97F4A7C15
    zero = np.array([0, golden], np.uint64)
    assert mix(zero).tolist() == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]
    assert mix(np.array([1234567], np.uint64)).tolist() == [6457827717110365317]


def test_a_sample_and_a_split_do_not_exclude_each_other():
    """With one hash for both, a sample of the smallest quarter has nothing above 0.8."""
    sampled = hashes(REQUESTS, SAMPLE) < np.uint64(2**62)
    valid = hashes(REQUESTS, SPLIT) >= np.uint64(int(0.8 * 2**64))
    assert 0.24 < sampled.mean() < 0.26
    assert 0.19 < valid[sampled].mean() < 0.21


def test_seeds_draw_independently():
    first, second = (hashes(REQUESTS, SAMPLE, seed) < np.uint64(2**63) for seed in (42, 43))
    assert 0.49 < (first == second).mean() < 0.51


@pytest.mark.parametrize("kind", [pa.int16(), pa.int64(), pa.uint8()])
def test_a_narrower_column_draws_the_same(kind):
    numbers = np.arange(100)
    assert hashes(pa.array(numbers, kind), SAMPLE).tolist() == hashes(numbers, SAMPLE).tolist()


def test_texts_are_told_apart_by_every_byte_and_by_their_length():
    texts = ["", "\0", "\0" * 8, "\0" * 9, "7", "007", "é", "12345678", "123456789", "12345678\0"]
    assert len(set(hashes(pa.array(texts), SAMPLE).tolist())) == len(texts)


def test_slices_chunks_and_dictionaries_are_the_same_values():
    whole = hashes(REQUESTS, SAMPLE)
    assert hashes(REQUESTS[30:70], SAMPLE).tolist() == whole[30:70].tolist()
    assert hashes(pa.chunked_array([REQUESTS[:9], REQUESTS[9:]]), SAMPLE).tolist() == whole.tolist()
    assert hashes(REQUESTS[:50].dictionary_encode(), SAMPLE).tolist() == whole[:50].tolist()
    assert hashes(pa.chunked_array([], pa.string()), SAMPLE).tolist() == []


def test_what_the_budget_has_superseded_is_said():
    assert environment.superseded({}) == ""
    assert environment.superseded({"SIMILARITY_BATCH_SIZE": "1000"}).startswith(
        "SIMILARITY_BATCH_SIZE has no effect"
    )


def test_defaults_from_the_environment_are_told(monkeypatch):
    import click

    @click.command()
    @click.option("--top-k", type=int, default=200, envvar="SIMILARITY_TOP_K")
    @click.option("--threshold", type=float, default=0.01)
    def command(**options):
        pass

    monkeypatch.setenv("SIMILARITY_TOP_K", "50")
    assert environment.defaults(command.make_context("similar", [])) == ["--top-k 50, from SIMILARITY_TOP_K"]
    assert environment.defaults(command.make_context("similar", ["--top-k", "9"])) == []
    assert environment.defaults() == []
