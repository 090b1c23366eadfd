"""A run folder of version 0.2.0, whose keys name places in the code that are no longer there, goes on.

``tests/kept_by_0_2/run`` was made by that version in a source checkout: a finished step, a finished stage,
and a stage that was interrupted with 6 of 12 items kept, both with a Parquet sink and a reducer.
"""

import importlib
import shutil
import sys
from pathlib import Path

import pytest

import penstock

HERE = Path(__file__).parent / "kept_by_0_2"


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(HERE / "run", tmp_path / "run"))


@pytest.fixture
def job(monkeypatch):
    """The module of its functions, under the name that its key tells."""
    monkeypatch.syspath_prepend(str(HERE))
    yield importlib.import_module("kept_by_0_2")
    del sys.modules["kept_by_0_2"]


def test_it_is_verified(folder):
    found = penstock.verify(folder)
    assert [(stage.stage, stage.done, stage.missing) for stage in found.stages] == [
        ("settings", 1, 0),
        ("few", 4, 0),
        ("many", 6, 6),
    ]
    assert [fault.file for fault in found.faults] == [".penstock/many/journal"]
    assert "6 missing: 3-8" in found.faults[0].found


@pytest.mark.parametrize("backend", ["inline", "local"])
def test_it_is_resumed(folder, job, backend):
    before = {path: path.stat().st_mtime_ns for path in (folder / "many/table").iterdir()}
    with penstock.Run(folder, budget="500MiB", workers=1, backend=backend) as run:
        settings, few, many = job.do(run)
    assert [report.resumed_from for report in run.reports] == [1, 4, 6]
    assert settings.facts["offset"] == 100
    assert few.open("total") == 406
    assert many.open("total") == sum(range(100, 112))
    assert many.open("table").to_table().column("value").to_pylist() == list(range(100, 112))
    assert before.items() <= {path: path.stat().st_mtime_ns for path in before}.items()
    assert penstock.verify(folder).ok


def test_it_is_resumed_twice(folder, job):
    for _ in range(2):
        with penstock.Run(folder, budget="500MiB", backend="inline") as run:
            job.do(run)
    assert [report.resumed_from for report in run.reports] == [1, 4, 12]


def test_an_edited_function_is_still_told(folder, job, monkeypatch):
    monkeypatch.setattr(job, "prepare", job.shift)
    with (
        pytest.raises(penstock.JobChanged, match="function"),
        penstock.Run(folder, budget="500MiB", backend="inline") as run,
    ):
        job.do(run)
