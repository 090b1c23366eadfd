"""Candidate variants on two nodes of a cluster."""

from on_nodes import check_same_on_nodes

from penstock.workloads.snv import Snv


def test_snv_on_nodes_is_the_same_bytes(tmp_path, small, model):
    check_same_on_nodes(tmp_path, Snv(), model=model, **small())
