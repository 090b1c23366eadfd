"""Whom a run fences: its own nodes, and never the one that took it over."""

from types import SimpleNamespace

import pytest

from penstock.errors import RunTakenOver
from penstock.runs.on_nodes import OwnedByRun


def owned(tmp_path, prove, state_dir):
    """A run whose folder has the drafts of two nodes beside its own."""
    drafts = tmp_path / "run" / ".penstock" / "drafts"
    for token in ("ours", "one", "two"):
        (drafts / token).mkdir(parents=True)
    return drafts, OwnedByRun(SimpleNamespace(prove=prove), drafts / "ours", state_dir)


def test_at_the_end_every_node_is_fenced_with_its_scratch(tmp_path):
    scratch = tmp_path / "run" / ".penstock" / "job" / "scratch" / "one"
    scratch.mkdir(parents=True)
    drafts, run = owned(tmp_path, lambda: None, scratch.parents[1])
    run.fence_all()
    assert [path.name for path in drafts.iterdir()] == ["ours"]
    assert not scratch.exists()


def test_a_run_that_was_taken_over_fences_nobody(tmp_path):
    def prove():
        raise RunTakenOver("it is another's now")

    drafts, run = owned(tmp_path, prove, tmp_path)
    with pytest.raises(RunTakenOver):
        run.fence_all()
    (drafts / "ours").rmdir()  # as its successor leaves it
    run.fence_all()
    assert sorted(path.name for path in drafts.iterdir()) == ["one", "two"]
