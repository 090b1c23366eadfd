"""Shards on two nodes of a cluster."""

from on_nodes import check_same_on_nodes
from runs import SMALL

from penstock.workloads.multimodal import Multimodal


def test_multimodal_on_nodes_is_the_same_bytes(tmp_path, sample):
    check_same_on_nodes(tmp_path, Multimodal(), root=str(sample), **SMALL)
