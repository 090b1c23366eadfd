"""The cluster ``local:N`` does what every cluster must."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import until

from penstock.abc import Node, NodeLost, NodeOptions
from penstock.clusters.local import LocalNodes
from penstock.errors import UsageError
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


def test_nothing_is_heard_of_nodes_of_an_earlier_job_nor_of_one_that_was_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr("penstock.clusters.local.Far", Silent)
    monkeypatch.setattr(Silent, "kill", lambda self, why: None, raising=False)
    options = NodeOptions(
        drafts=tmp_path, budget=2 << 30, requested="auto", workers=None, call=None, memory=None, threads=None,
        stall=600.0, timeout=None, set_aside=False, umask=0o022, log=None, held=0,
    )  # fmt: skip
    cluster = LocalNodes("1")
    cluster.open(tmp_path / "job", "", options)
    before = Silent.last
    cluster.close()
    cluster.open(tmp_path / "job", "", options)
    before.said(NodeLost("its program ended with exit code 0"))
    assert cluster.wait(0.0) == []
    cluster.end(Silent.last.token)
    Silent.last.said(Node("here", 1 << 30, "given", 1))
    assert cluster.wait(0.0) == []
    assert cluster.nodes() == {}
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
