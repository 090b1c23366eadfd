"""What penstock plan says of the stages that it cannot try: enough, and not without end."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from ranking_tables import items, log, ranked

from penstock.cli import main
from penstock.workloads.recsys import Behavior, Ranking, Similar
from penstock.workloads.recsys.ranking.foreseen import later_stages
from penstock.workloads.recsys.ranking.given import Asked
from penstock.workloads.recsys.ranking.given_tables import Tables


def planned(*command):
    told = CliRunner().invoke(main, ["plan", *command, "--budget", "1GiB"])
    assert told.exit_code == 0, told.output
    return told.stdout


def test_the_later_stages_of_a_ranking_are_those_of_its_run(tmp_path):
    samples = log(tmp_path / "s.parquet", 60)
    given = {"samples": samples, "items": items(tmp_path / "i.parquet"), "sort": True}
    clicks = {"request_id": ["r00001"], "dataset_id": [1], "server_time": pa.array([1], pa.timestamp("us"))}
    pq.write_table(pa.table(clicks), tmp_path / "c.parquet")
    given |= {"clicks": str(tmp_path / "c.parquet"), "max_samples": 20, "sample_by": "row"}
    _, later = Ranking().plan("1GiB", **given)
    names = [stage.name for stage in later.stages]
    folder = ranked(tmp_path / "r", **given)
    done = {stage["stage"] for stage in json.loads((folder / "report.json").read_text())["stages"]}
    assert done - {"ranking-survey", "ranking-sorted-survey"} == {
        "ranking-sorted-queries" if name == "ranking-queries" else name for name in names
    }
    assert 0 < later.projected == later.budget - later.headroom < later.budget


def test_a_table_that_is_looked_up_costs_by_its_keys(tmp_path):
    samples = log(tmp_path / "s.parquet", 20)
    plans = []
    for count in (1000, 400_000):
        table = str(tmp_path / f"{count}.parquet")
        pq.write_table(pa.table({"dataset_id": np.arange(count), "price": np.zeros(count)}), table)
        asked = Asked(samples=samples, items=table)
        plans.append(later_stages(100 << 20, asked, Tables(asked)))
    small, large = ({stage.name: stage.takes for stage in plan.stages} for plan in plans)
    assert large["ranking-items"] - small["ranking-items"] == pytest.approx(80 * 399_000)
    assert "does not fit: the largest takes" in str(plans[1])
    assert plans[1].headroom < 0


def test_vectors_are_planned_though_there_is_nothing_to_count(tmp_path):
    """500,000 x 64 is planned without being run; the file is as good as empty."""
    shape = (500_000, 64)
    np.lib.format.open_memmap(tmp_path / "v.npy", "w+", np.float32, shape).flush()
    told = planned("similar", "--matrix", str(tmp_path / "v.npy"))
    assert "32.00 TFLOP" in told
    assert "written and never held: at most 100,000,000 neighbours" in told
    (plan,) = Similar().plan("1GiB", matrix=[str(tmp_path / "v.npy")])
    assert plan.projected < 300 << 20
    values = json.loads(planned("similar", "--matrix", str(tmp_path / "v.npy"), "--json"))["plans"]
    assert values[0]["projected"] == plan.projected


def test_behavior_tells_of_its_partitions(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"user_id": np.arange(3000) % 90, "dataset_id": np.arange(3000) % 70}), path)
    first, later = Behavior().plan("1GiB", interactions=[str(path)])
    assert first.items == 3000
    assert [stage.name for stage in later.stages][-1] == "behavior-neighbors"
    assert "at most 2,997,000 pairs are counted" in str(later)
