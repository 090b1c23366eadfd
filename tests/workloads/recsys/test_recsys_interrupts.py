"""Ctrl-C as each stage begins, and when it has kept something: the same command goes on to the same bytes."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ranking_tables import items, log
from training_tables import FEW, make

import penstock
from penstock.events import BatchDone, StageStarted
from penstock.workloads.recsys import Behavior, Ranking, RankTrain, Shrink, Similar

TOLD = {"metrics.json", "report.html", "report.json"}
"""Files at the top that tell what a run took."""


def texts(path):
    words = np.random.default_rng(1).choice(list("abcdef"), (60, 4)).tolist()
    tags = [" ".join(2 * letter for letter in each) for each in words]
    pq.write_table(pa.table({"dataset_id": np.arange(60), "tag": tags}), path)
    return str(path)


def ranking(tmp_path):
    return Ranking, {
        "samples": log(tmp_path / "s.parquet", 80, scattered=True), "items": items(tmp_path / "i.parquet"),
        "span": 200, "max_samples": 400,
    }  # fmt: skip


def rank_train(tmp_path):
    return RankTrain, {"table": str(make(tmp_path / "t", 900)), **FEW, "trees": 2, "block": 1}


def similar(tmp_path):
    return Similar, {"items": texts(tmp_path / "i.parquet"), "text": "tag", "export": "json"}


def behavior(tmp_path):
    return Behavior, {"interactions": [log(tmp_path / "c.parquet", 60)], "top_k": 5}


def shrink(tmp_path):
    return Shrink, {"table": [log(tmp_path / "t.parquet", 60)]}


def run(folder, workload, options, *observers):
    with penstock.Run(folder, budget="2GiB", backend="inline", observers=observers) as opened:
        workload().run(opened, **options)


class Interrupts:
    """Ctrl-C at the first place that none came at before."""

    def __init__(self):
        self.places = set()

    def __call__(self, event):
        if isinstance(event, StageStarted | BatchDone):
            place = (event.stage, type(event))
            if place not in self.places:
                self.places.add(place)
                raise KeyboardInterrupt


def results(folder):
    """What stands at the top, and in stages whose results do."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".penstock" not in path.parts and path.name not in TOLD
    }


@pytest.mark.parametrize("made", [ranking, rank_train, similar, behavior, shrink])
def test_ctrl_c_at_every_stage_changes_no_byte(tmp_path, made):
    workload, options = made(tmp_path)
    run(tmp_path / "whole", workload, options)
    interrupts = Interrupts()
    while True:
        before = len(interrupts.places)
        try:
            run(tmp_path / "run", workload, options, interrupts)
            break
        except KeyboardInterrupt:
            assert len(interrupts.places) == before + 1
    stages = {stage for stage, _ in interrupts.places}
    assert len(stages) >= 2
    assert len(interrupts.places) == 2 * len(stages)
    assert results(tmp_path / "run") == results(tmp_path / "whole")
    assert penstock.verify(tmp_path / "run").ok
