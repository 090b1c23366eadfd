"""The job of the run folder beside it, made by version 0.2.0. This text is its key: leave it."""

import os
import signal
from pathlib import Path

import penstock
from penstock.reducers import Sum
from penstock.sinks import Parquet


def prepare(folder: Path) -> dict[str, object]:
    (folder / "offset.txt").write_text("100\n")
    return {"offset": 100}


def shift(item: int, settings: Path) -> dict[str, object]:
    if item == 10 and "STOP_AT_10" in os.environ:
        signal.raise_signal(signal.SIGINT)
    value = item + int((settings / "offset.txt").read_text())
    return {"table": {"item": item, "value": value}, "total": value}


def do(run: penstock.Run) -> tuple[penstock.Stored, penstock.Stored, penstock.Stored]:
    settings = run.step("settings", prepare)
    rooms = {"table": Parquet(grain=3), "total": Sum()}
    inputs = {"settings": settings}
    few = run.stage(
        "few", penstock.Job(source=penstock.sources.Range(4), function=shift, into=rooms, inputs=inputs)
    )
    many = run.stage(
        "many", penstock.Job(source=penstock.sources.Range(12), function=shift, into=rooms, inputs=inputs)
    )
    return settings, few, many
