"""Results of tasks that Dask loses: a living node is asked again, and answers the same."""

import asyncio
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from waiting import until

from penstock.abc import NodeLost
from penstock.clusters import dask_errands, dask_worker
from penstock.clusters.dask_errands import Errands, Opened


class Link:
    """Fails so many times for each question, then answers."""

    def __init__(self, failures, answer=b"all of it"):
        self.failures, self.answer, self.asked = failures, answer, []

    async def call(self, address, word, *told):
        return {address: ("", 7)}

    async def task(self, key, address, word, *told):
        if word == "attend":
            await asyncio.Event().wait()
        self.asked.append((key, word, told))
        if len([each for _, each, _ in self.asked if each == word]) <= self.failures:
            raise RuntimeError("the scheduler gave it to nobody")
        return self.answer


def heard(link, leases):
    """What is heard of a node that is begun and has so many leases, one after another."""
    now = Opened(Path("job"), "", None)

    async def work():
        errands = Errands(link, 1.0)
        await errands.begin(now, "here", "token", b"")
        for ticket in range(leases):
            await errands.lend(now, "here", "token", ticket, b"frame")
            await asyncio.gather(*now.tasks["token"].values())
        return [now.said.get_nowait() for _ in range(now.said.qsize())]

    return asyncio.run(work())


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(dask_errands, "_AGAIN_SECONDS", 0.0)


def test_what_dask_lost_is_asked_for_again():
    link = Link(2)
    assert heard(link, 3)[1:] == [("returned", "token", b"all of it")] * 3
    # Each time under another key, and told what was heard before.
    keys = [key for key, _, _ in link.asked]
    assert len(set(keys)) == len(keys)
    assert [told[3] for _, word, told in link.asked if word == "lease"] == [(), (), (), (0,), (1,)]


@pytest.mark.parametrize("link", [Link(10**6), Link(0, None)])
def test_a_node_of_which_nothing_is_ever_heard_is_lost(link):
    said = heard(link, 1)
    assert [what for what, *_ in said] == ["lost", "lost"]  # of its beginning, and of the lease
    assert isinstance(said[-1][2], NodeLost)
    assert "5 times" in said[-1][2].why


def test_a_lease_is_passed_on_once_however_often_it_is_asked_for(monkeypatch):
    passed = []
    node = object.__new__(dask_worker._Attended)
    node.changed, node.ended = threading.Condition(), None
    node.taken, node.passed, node.returned = set(), set(), {}
    node.far = SimpleNamespace(pass_on=passed.append)
    monkeypatch.setattr(dask_worker.distributed, "secede", lambda: None)
    monkeypatch.setitem(dask_worker._nodes, "token", node)
    answers = []
    asking = [
        threading.Thread(target=lambda: answers.append(dask_worker.lease("token", 1, b"frame")))
        for _ in range(3)
    ]
    for each in asking:
        each.start()
    until(lambda: node.passed)
    with node.changed:
        node.returned[1] = b"lines"
        node.changed.notify_all()
    for each in asking:
        each.join()
    assert answers == [b"lines"] * 3
    assert dask_worker.lease("token", 1, b"frame") == b"lines"
    assert passed == [b"frame"]
    node.returned[2] = b"more"
    assert dask_worker.lease("token", 2, b"frame", (1,)) == b"more"
    assert (list(node.returned), node.taken, node.passed) == ([2], {2}, {2})
