"""Blending on two nodes of a cluster."""

from on_nodes import check_same_on_nodes

from penstock.workloads.superres import Superres


def test_superres_on_nodes_is_the_same_bytes(tmp_path, cohort):
    base, _ = cohort
    check_same_on_nodes(
        tmp_path,
        Superres(),
        manifest=str(base / "manifest.json"),
        root=str(base),
        fold="1",
        patch=8,
        stride=4,
        maps=False,
    )
