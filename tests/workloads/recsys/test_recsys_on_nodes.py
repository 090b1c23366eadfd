"""Neighbours by behaviour on two nodes of a cluster."""

import pyarrow.parquet as pq
from on_nodes import check_same_on_nodes
from test_behavior import made_up

from penstock.workloads.recsys import Behavior


def test_behavior_on_nodes_is_the_same_bytes(tmp_path):
    pq.write_table(made_up(1), tmp_path / "table.parquet", row_group_size=700)
    check_same_on_nodes(tmp_path, Behavior(), interactions=[str(tmp_path / "table.parquet")])
