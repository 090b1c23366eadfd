"""Codons on two nodes of a cluster."""

from pathlib import Path

from on_nodes import check_same_on_nodes

from penstock.workloads.codons import Codons

DATA = Path(__file__).parent / "data"


def test_codons_on_nodes_are_the_same_bytes(tmp_path):
    check_same_on_nodes(tmp_path, Codons(), inputs=[str(DATA / "syn300.fa.gz")])
