"""The job of the run folder beside it, made when a journal had no owners. This text is its key: leave it."""

from pathlib import Path

import penstock
from penstock.reducers import Count
from penstock.sinks import Collect, Files


def square(item: int) -> dict[str, object]:
    if item == 3:
        raise ValueError("three is no good")
    return {"squares": item * item, "parity": "odd" if item % 2 else "even"}


def write(item: int) -> Path:
    path = penstock.share().folder / "text.txt"
    path.write_text(f"item {item}\n")
    return path


def do(run: penstock.Run) -> tuple[penstock.Stored, penstock.Stored]:
    rooms = {"squares": Collect(), "parity": Count()}
    squares = run.stage(
        "squares", penstock.Job(source=penstock.sources.Range(10), function=square, into=rooms)
    )
    texts = run.stage(
        "texts", penstock.Job(source=penstock.sources.Range(12), function=write, into=Files(grain=2))
    )
    return squares, texts
