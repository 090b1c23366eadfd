"""The last lines of a run: what lies there, and what was done, without what stages keep for each other."""

from penstock.cli.summary import summary
from penstock.report.report import Report


def test_folders_that_hold_nothing_of_their_own_are_not_named(tmp_path):
    for name in ("count", "headers", "in-short", "kmers.parquet"):
        (tmp_path / name).mkdir()
    (tmp_path / "count" / "table.npy").touch()
    (tmp_path / "table.npy").hardlink_to(tmp_path / "count" / "table.npy")  # published
    (tmp_path / "in-short" / ".facts.json").touch()
    (tmp_path / "kmers.parquet" / "part-0").touch()
    (tmp_path / "headers" / "part-0").touch()
    told = summary(Report(), tmp_path)
    assert told.endswith(f"results in {tmp_path}: kmers.parquet/, table.npy, headers/")


def test_steps_are_counted_as_stages_and_not_as_items():
    stage, step = Report(stage="a", items=60, done=60), Report(stage="b", items=1, done=1)
    assert Report.of_stages([stage, step, step]).progress().startswith("3 of 3 stages, 60 of 60 items, ")
    assert Report.of_stages([step, step]).progress().startswith("2 of 2 stages, 0 ")
    waits = Report(stage="c", items=9, done=2, outcome="failed")
    assert Report.of_stages([stage, waits]).progress().startswith("1 of 2 stages, 62 of 69 items, ")
    assert step.progress().startswith("1 of 1 items, ")
