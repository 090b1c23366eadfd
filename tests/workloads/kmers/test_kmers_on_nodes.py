"""k-mers on two nodes of a cluster."""

from on_nodes import check_same_on_nodes
from test_kmers import CODONS

from penstock.workloads.kmers import Kmers


def test_kmers_on_nodes_are_the_same_bytes(tmp_path):
    check_same_on_nodes(tmp_path, Kmers(), inputs=[str(CODONS / "syn300.fa.gz")], k=5)
