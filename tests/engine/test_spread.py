"""What a plan becomes on nodes, by arithmetic."""

import json
import sys

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from penstock.abc import NodeOffer
from penstock.budget import GiB, MiB
from penstock.cli import main
from penstock.engine.decide.plan import Plan, Reserved
from penstock.engine.decide.spread import spread


def plan_of(items, seconds=1.0, footprint=100 * MiB):
    reserved = Reserved(parent=30 * MiB, backend=0, worker=5 * MiB)
    return Plan(
        4 * GiB, "a test", reserved, footprint, footprint, 8, False, 2, 1, 10, seconds, items, cores=2
    )


def offer(budget, cores=4, why=""):
    return NodeOffer("a host", budget, "a test", cores, "1", "3.11", why)


def test_each_node_has_as_many_workers_as_have_room_there():
    plan = plan_of(1000)
    least = plan.budget_for(1)
    offers = [offer(least - 1), offer(least), offer(plan.budget_for(3)), offer(64 * GiB), offer(0, why="old")]
    found = spread(plan, offers)
    assert [node.workers for node in found.nodes] == [0, 1, 3, 4, 0]
    assert "for a worker" in found.nodes[0].why
    assert (found.nodes[4].why, found.nodes[3].why, found.least) == ("old", "", least)
    assert [node.workers for node in spread(plan, offers, workers=2).nodes] == [0, 1, 2, 2, 0]


@given(cores=st.lists(st.integers(1, 9), min_size=1, max_size=6), items=st.integers(1, 5000))
def test_the_time_is_what_the_nodes_together_need_and_an_end(cores, items):
    found = spread(plan_of(items), [offer(64 * GiB, count) for count in cores])
    ideal = items / sum(node.workers for node in found.nodes)
    share = items / len(cores)
    # One lease of the slowest may be left when the others have none: a sixteenth of a share, or an item.
    assert ideal <= found.seconds + 1e-6
    assert found.seconds <= ideal + 2 * max(share / 16, 1) / min(node.workers for node in found.nodes)
    assert 1 <= found.leases <= items


def test_without_a_time_of_items_none_is_told():
    found = spread(plan_of(100, seconds=0.0), [offer(GiB)])
    assert (found.leases, found.seconds) == (0, 0.0)
    assert [word for word, *_ in found.rows()] == ["nodes"]
    assert spread(plan_of(100), [offer(MiB)]).rows()[0][1] == "none"


@pytest.fixture
def mine(tmp_path, monkeypatch):
    text = "import penstock\n\njob = penstock.Job(function=len, source=penstock.sources.Items(['a'] * 50))\n"
    (tmp_path / "mine_on_nodes.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    yield "mine_on_nodes.py:job"
    sys.modules.pop("mine_on_nodes", None)


def test_the_verb_says_who_is_there_and_what_they_would_do(mine):
    words = ["plan", mine, "--budget", "1GiB", "--cluster", "local:2"]
    told = CliRunner().invoke(main, words)
    assert told.exit_code == 0, told.stderr
    assert "2 of 2 nodes can work" in told.stdout
    assert "nodes              2   of 2, with" in told.stdout
    (plan,) = json.loads(CliRunner().invoke(main, [*words, "--json"]).stdout)["plans"]
    first, second = (node["budget"] for node in plan["cluster"]["nodes"])
    assert GiB // 4 < first == second < GiB // 2  # this process has its part of it
    assert all(node["workers"] for node in plan["cluster"]["nodes"])
    assert plan["cluster"]["leases"] >= 2
    unknown = CliRunner().invoke(main, ["plan", mine, "--cluster", "nothing:2"])
    assert unknown.exit_code in (2, 4)
    assert "local" in unknown.stderr


def test_nodes_that_are_too_small_are_code_3_with_what_would_do(mine):
    told = CliRunner().invoke(main, ["plan", mine, "--budget", "900MiB", "--cluster", "local:60"])
    assert told.exit_code == 3, told.stderr
    assert "a node needs at least" in told.stdout
