"""When a worker releases free memory: only where more is held than what the last time could not release."""

import gc

import pytest

from penstock.budget import MiB
from penstock.engine.worker.process import give_back


@pytest.fixture
def collections(monkeypatch):
    """The number of collections so far, in a list."""
    seen = []
    monkeypatch.setattr(gc, "collect", lambda: seen.append(len(seen)))
    return seen


def holding(*readings):
    """What is held, reading by reading."""
    following = iter(readings)
    return lambda: next(following)


def test_little_is_not_collected(collections):
    assert give_back(holding(4 * MiB), 0) == (4 * MiB, 0)
    assert give_back(holding(-1), 0) == (0, 0)
    assert collections == []


def test_what_cannot_be_released_is_collected_once(collections):
    held, kept = give_back(holding(90 * MiB, 60 * MiB), 0)
    assert (held, kept) == (60 * MiB, 60 * MiB)
    for _ in range(5):
        held, kept = give_back(holding(64 * MiB), kept)
        assert (held, kept) == (64 * MiB, 60 * MiB)
    assert len(collections) == 1
    assert give_back(holding(65 * MiB, 60 * MiB), kept) == (60 * MiB, 60 * MiB)
    assert len(collections) == 2


def test_what_was_let_go_counts_when_it_is_held_again(collections):
    _, kept = give_back(holding(500 * MiB, 500 * MiB), 0)
    _, kept = give_back(holding(10 * MiB), kept)
    assert kept == 10 * MiB
    give_back(holding(400 * MiB, 10 * MiB), kept)
    assert len(collections) == 2
