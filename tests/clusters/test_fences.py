"""Whom a run fences: its own nodes, and never the one that took it over."""

from types import SimpleNamespace

import pytest

from penstock.errors import RunTakenOver
from penstock.runs.on_nodes import OnNodes


def nodes_of(tmp_path, prove):
    """The nodes of a run whose folder has two folders of drafts beside its own."""
    drafts = tmp_path / "run" / ".penstock" / "drafts"
    for token in ("ours", "one", "two"):
        (drafts / token).mkdir(parents=True)
    folder = SimpleNamespace(drafts=drafts / "ours", prove=prove)
    return drafts, OnNodes(SimpleNamespace(folder=folder), None)


def test_at_the_end_every_node_is_fenced_with_its_scratch(tmp_path):
    drafts, nodes = nodes_of(tmp_path, lambda: None)
    scratch = tmp_path / "run" / ".penstock" / "job" / "scratch" / "one"
    scratch.mkdir(parents=True)
    nodes._fence_all(scratch.parents[1])
    assert [path.name for path in drafts.iterdir()] == ["ours"]
    assert not scratch.exists()


def test_a_run_that_was_taken_over_fences_nobody(tmp_path):
    def prove():
        raise RunTakenOver("it is another's now")

    drafts, nodes = nodes_of(tmp_path, prove)
    with pytest.raises(RunTakenOver):
        nodes._fence_all(tmp_path)
    (drafts / "ours").rmdir()  # as its successor leaves it
    nodes._fence_all(tmp_path)
    assert sorted(path.name for path in drafts.iterdir()) == ["one", "two"]
