"""What follows for nodes from what is known of the workers of a Dask cluster."""

import sys
from pathlib import Path

import pytest

from penstock.clusters.dask_places import DaskPlace, failed, share, unfit, warning
from penstock.version import __version__

HERE = f"{sys.version_info.major}.{sys.version_info.minor}.9"


def facts(**changes):
    return {
        "version": __version__, "python": HERE, "host": "alpha", "boot": "a", "group": "g", "cores": 4,
        "sees": True, "left": 900, "budget": 900, "origin": "the machine", "why": "", "shares": {}, **changes,
    }  # fmt: skip


def place(address, **changes):
    return DaskPlace(address, "alpha", 1, 0, 100 << 20, facts=facts(**changes))


def test_nodes_that_one_limit_holds_share_what_it_leaves():
    places, rooms = [place("one"), place("two"), place("three")], {}
    for each in places:
        each.budget, origin = share(each, places, rooms)
        each.token = each.address
        assert origin == "shared by 3 nodes; the machine"
        assert each.budget == 300
    # One that is born anew has what the one before it had, whatever the others hold meanwhile.
    places[1].token, places[1].budget, places[1].facts = "", 0, facts(left=350, budget=350)
    assert share(places[1], places, rooms)[0] == 300


def test_nodes_with_limits_of_their_own_share_nothing():
    places = [place("one", group="job 1"), place("two", group="job 2"), place("three", boot="b")]
    assert [share(each, places, {}) for each in places] == [(900, "the machine")] * 3


def test_one_that_comes_when_all_is_taken_has_no_room():
    first, late = place("one"), place("two")
    first.token, first.budget = "one", 900
    assert share(late, [first, late], {}) == (0, "other nodes there have all of 900 B")


def test_the_limit_that_dask_has_holds_too():
    only = place("one")
    only.limit = 500
    assert share(only, [only], {}) == (500, "the memory limit of its Dask worker")


@pytest.mark.parametrize(
    ("odd", "why"),
    [
        ({"version": "0.1.7"}, "alpha has Penstock 0.1.7, and this is"),
        ({"python": "3.9.2"}, "alpha has Python 3.9.2, and this is"),
        ({"sees": False}, "alpha does not see /data/run: give a path on a file system that all nodes share"),
        ({"why": "alpha: no memory is left"}, "alpha: no memory is left"),
    ],
)
def test_a_host_that_cannot_have_a_node_is_named_with_the_reason(odd, why):
    assert unfit(facts(**odd), Path("/data/run"), "a").startswith(why)
    assert unfit(facts(), Path("/data/run"), "a") == ""


def test_a_folder_in_memory_is_refused_on_another_host_only():
    assert unfit(facts(boot="b"), Path("/dev/shm"), "a").startswith("alpha is another host: /dev/shm lies on")
    assert unfit(facts(), Path("/dev/shm"), "a") == ""


def test_a_worker_without_penstock_is_told_from_one_that_does_not_answer():
    assert failed(ModuleNotFoundError("No module named 'penstock'", name="penstock")).startswith("has no Pen")
    assert failed(TimeoutError()).startswith("does not answer")


def test_a_limit_of_dasks_that_would_end_a_node_is_warned_of_with_its_setting():
    tight = place("tcp://one")
    tight.limit = 150 << 20
    assert "memory.terminate: false" in warning(tight, facts(shares={"terminate": 0.95, "pause": 0.0}))
    assert warning(tight, facts(shares={"terminate": 0.0, "pause": 0.0})) == ""
    tight.limit = 4 << 30
    assert warning(tight, facts(shares={"terminate": 0.95, "pause": 0.8})) == ""
