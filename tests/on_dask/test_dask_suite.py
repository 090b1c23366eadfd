"""The cluster ``dask`` does what every cluster must."""

import os
import signal

import pytest
from on_dask_cluster import ours, start

from penstock.clusters.dask import DaskNodes
from penstock.testing import ClusterSuite


@pytest.fixture(scope="module")
def theirs():
    cluster = start()
    yield cluster
    cluster.close()


class TestDask(ClusterSuite):
    @pytest.fixture(autouse=True)
    def workers(self, theirs):
        self.theirs = theirs

    def make(self):
        return DaskNodes(self.theirs)

    def kill(self, cluster, node):
        os.killpg(cluster.pid(node), signal.SIGKILL)

    def left(self, mark):
        """Dask's workers were there before and stay: what they started for us must not."""
        return ours(self.theirs)
