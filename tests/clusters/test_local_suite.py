"""The cluster ``local:N`` does what every cluster must."""

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from waiting import until

from penstock.abc import Broken, Node, NodeLost, NodeOptions, Returned
from penstock.budget import MiB
from penstock.clusters.far import BudgetShare, Parcel
from penstock.clusters.local import LocalNodes, SharedBudget
from penstock.errors import UsageError
from penstock.meter import Meter
from penstock.testing import ClusterSuite


class TestLocal(ClusterSuite):
    def make(self):
        return LocalNodes("2")

    def kill(self, cluster, node):
        os.kill(cluster.pid(node), signal.SIGKILL)


class Silent:
    """A node's program that says what a test has it say."""

    def __init__(self, hello, said):
        self.token, self.said = hello.token, said
        Silent.last = self

    def close(self):
        pass

    join = close


def options_of(drafts, held=0):
    return NodeOptions(
        drafts=drafts, budget=2 << 30, requested="auto", workers=None, call=None, memory=None, threads=None,
        stall=600.0, timeout=None, set_aside=False, umask=0o022, log=None, held=held,
    )  # fmt: skip


def test_nothing_is_heard_of_nodes_of_an_earlier_job_nor_of_one_that_was_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr("penstock.clusters.local.Far", Silent)
    monkeypatch.setattr(Silent, "kill", lambda self, why: None, raising=False)
    cluster = LocalNodes("1")
    cluster.open(tmp_path / "job", "", options_of(tmp_path))
    before = Silent.last
    cluster.close()
    cluster.open(tmp_path / "job", "", options_of(tmp_path))
    before.said(NodeLost("its program ended with exit code 0"))
    assert cluster.wait(0.0) == []
    cluster.end(Silent.last.token)
    Silent.last.said(Node("here", 1 << 30, "given", 1))
    assert cluster.wait(0.0) == []
    assert cluster.nodes() == {}
    cluster.close()


def test_in_small_shares_the_first_node_tries_before_the_others_begin(tmp_path, monkeypatch):
    """All together they took more than there was, before one could say that its share is too small."""
    begun = []
    monkeypatch.setattr(
        "penstock.clusters.local.Far", lambda hello, said: begun.append(Silent(hello, said)) or begun[-1]
    )
    monkeypatch.setattr(Silent, "send", lambda self, message: None, raising=False)
    cluster = LocalNodes("16")
    cluster.open(tmp_path / "job", "", options_of(tmp_path))
    assert len(begun) == 1
    assert cluster.coming() == "16 of 16 begin"
    begun[0].said(Node("here", 128 << 20, "given", 1))
    cluster.wait(0.0)
    assert len(begun) == 16
    assert cluster.coming() == "15 of 16 begin"
    cluster.close()
    begun.clear()
    cluster.open(tmp_path / "job", "", options_of(tmp_path))
    begun[0].said(NodeLost("it was killed"))
    cluster.wait(0.0)
    assert (len(begun), cluster.coming()) == (2, "15 of 16 begin")
    begun[1].said(Broken("NoBudget", "its share is too small"))
    begun[1].said(NodeLost("it ended"))
    cluster.wait(0.0)
    assert (len(begun), cluster.coming()) == (2, "")
    cluster.close()


def test_what_this_process_takes_more_the_nodes_have_less():
    """On one machine a share is of one budget: results that are collected here are of it too."""
    shared = SharedBudget(2, 600 * MiB, 100 * MiB, 40 * MiB)
    assert shared.share() == BudgetShare(250 * MiB, 100 * MiB)
    assert not shared.follow(45 * MiB)
    assert shared.follow(65 * MiB)
    assert shared.share() == BudgetShare(237.5 * MiB, 125 * MiB)  # as much is kept free as before
    assert shared.follow(140 * MiB)
    assert shared.share() == BudgetShare(200 * MiB, 200 * MiB)
    assert not shared.follow(147 * MiB)  # hardly more
    assert shared.follow(40 * MiB)  # it was given back
    assert shared.share() == BudgetShare(250 * MiB, 100 * MiB)
    assert shared.follow(5000 * MiB)
    assert shared.share().bytes == MiB


@given(st.lists(st.integers(0, 2000), max_size=20), st.integers(1, 64))
def test_shares_leave_what_this_process_holds_and_what_may_come(held, count):
    shared = SharedBudget(count, 1000 * MiB, 90 * MiB, 20 * MiB)
    for each in held:
        shared.follow(each * MiB)
        share = shared.share().bytes
        assert share == MiB or count * share + (each + 70 - 8) * MiB <= 1000 * MiB


def test_a_node_that_is_ready_late_is_told_what_its_share_is_by_then(tmp_path, monkeypatch):
    sent = []
    monkeypatch.setattr("penstock.clusters.local.Far", Silent)
    monkeypatch.setattr(
        Silent, "send", lambda self, message: sent.append((self.token, message)), raising=False
    )
    holds = [50 * MiB]
    monkeypatch.setattr(Meter, "held", lambda self: holds[0])
    cluster = LocalNodes("2")
    cluster.open(tmp_path / "job", "", options_of(tmp_path, held=100 * MiB))
    first, second = cluster._far
    node = Node("here", 1 << 30, "given", 1)
    cluster._far[first].said(node)
    cluster.wait(0.0)
    holds[0] = 300 * MiB
    cluster._far[first].said(Parcel(1, pickle.dumps(Returned(1, ()))))
    cluster.wait(0.0)
    cluster._far[second].said(node)
    cluster.wait(0.0)
    less = BudgetShare((2048 - 350) * MiB // 2, 350 * MiB)
    assert sent == [(first, BudgetShare((2048 - 100) * MiB // 2, 100 * MiB)), (first, less), (second, less)]
    cluster.close()


PARENT = """
import sys, time
from pathlib import Path
from penstock.abc import NodeOptions
from penstock.clusters.far import Far, Hello
gone = Path(sys.argv[1])
options = NodeOptions(
    drafts=gone, budget=2 << 30, requested="auto", workers=None, call=None, memory=None, threads=None,
    stall=600.0, timeout=None, set_aside=False, umask=0o022, log=None, held=0,
)
node = Far(Hello("token", gone / "job", "", options, "auto", 1, None), print)
print(node.process.pid, flush=True)
time.sleep(600)
"""


def test_a_node_that_waits_for_its_folder_ends_with_its_parent(tmp_path):
    script = [sys.executable, "-c", PARENT, str(tmp_path / "gone")]
    with subprocess.Popen(script, stdout=subprocess.PIPE, text=True) as parent:
        node = int(parent.stdout.readline())
        parent.kill()
    # In a second or so; it would wait for the folder for a minute.
    until(lambda: not Path(f"/proc/{node}").exists(), seconds=40)


@pytest.mark.parametrize("where", ["", "0", "two", "-1", "65", "²"])
def test_a_number_that_is_none_is_refused(where):
    with pytest.raises(UsageError, match="write local:2"):
        LocalNodes(where)


def test_what_is_offered_is_what_a_run_would_share_out(monkeypatch):
    monkeypatch.setattr(Meter, "held", lambda self: 36 * MiB)
    first, second = LocalNodes("2").survey(None, 300 * MiB, 0.0)
    assert first == second
    assert (first.budget, first.why) == (100 * MiB, "")
    (offer, *_) = LocalNodes("2").survey(None, 10 * MiB, 0.0)
    assert (offer.budget, offer.why) == (0, "of 10.0 MiB nothing is left beside this process")
