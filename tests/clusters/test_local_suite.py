"""The cluster ``local:N`` does what every cluster must."""

import os
import signal

import pytest

from penstock.clusters.local import LocalNodes
from penstock.errors import UsageError
from penstock.testing import ClusterSuite


class TestLocal(ClusterSuite):
    def make(self):
        return LocalNodes("2")

    def kill(self, cluster, node):
        os.kill(cluster.pid(node), signal.SIGKILL)


@pytest.mark.parametrize("where", ["", "0", "two", "-1", "65", "²"])
def test_a_number_that_is_none_is_refused(where):
    with pytest.raises(UsageError, match="write local:2"):
        LocalNodes(where)
