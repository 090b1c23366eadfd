"""Projects a run from the tables, the films' headers and a few records: counts, bytes, time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from penstock import temporary
from penstock.budget import format_size
from penstock.workloads.multimodal.building import make_plan, make_tables
from penstock.workloads.multimodal.elsewhere import copy_tables
from penstock.workloads.multimodal.options import Asked
from penstock.workloads.multimodal.splits import SPLITS
from penstock.workloads.multimodal.stages import (
    copy_inputs,
    films_elsewhere,
    plan_inputs,
    prepare,
    tables_inputs,
)


@dataclass(frozen=True)
class RunPlan:
    """The projection of a run.

    Attributes:
        budget: bytes of memory.
        rows, frontal, joined: rows of the film table, those of the views, and those with a stay.
        skipped: rows by reason.
        records: records of each split.
        shard_bytes: bytes of all shards, about.
        work_bytes: bytes of the joined tables and the plan.
        projected: bytes of memory.
        threads, workers: of each worker, and how many.
        seconds: all records.
    """

    budget: int
    rows: int
    frontal: int
    joined: int
    skipped: dict[str, int]
    records: dict[str, int]
    shard_bytes: int
    work_bytes: int
    projected: int
    threads: int
    workers: int
    seconds: float

    @property
    def headroom(self) -> int:
        """Bytes of the budget that are left."""
        return self.budget - self.projected

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        share = self.joined / self.frontal if self.frontal else 0.0
        total = sum(self.records.values())
        joined = f"{self.joined:,} joined ({share:.2%})"
        yield f"rows        {self.rows:,} of the film table, {self.frontal:,} frontal, {joined}"
        for reason, count in sorted(self.skipped.items()):
            yield f"            {count:,} left out: {reason}"
        counts = ", ".join(f"{name} {count:,}" for name, count in self.records.items())
        yield f"records     {total:,}: {counts}"
        tables = f"{format_size(self.work_bytes)} of tables"
        yield f"disk        about {format_size(self.shard_bytes)} of shards, {tables}"
        if self.seconds and total:
            rate = total / self.seconds
            yield f"time        {self.seconds / 3600:.2f} h at {rate:,.1f} records a second"


def plan_run(asked: Asked, budget: str | int, *, workers: int | None, call: int | None) -> list[Any]:
    """The projection of a run, and the plan of the stage with the most records.

    Raises:
        BadInput: tables that are missing or are not what they should be.
    """
    elsewhere = films_elsewhere(asked)
    with temporary.folder("penstock-plan-") as folder:
        for inner in ("tables", "plan", "copied"):
            (folder / inner).mkdir(mode=0o700)
        if elsewhere is not None:
            copy_tables(folder / "copied", **copy_inputs(elsewhere))
        recipe = prepare(asked, elsewhere, None if elsewhere is None else folder / "copied")
        joined = make_tables(folder / "tables", **tables_inputs(recipe))["counts"]
        planned = make_plan(folder / "plan", **plan_inputs(recipe, folder / "tables"))
        records = {split: planned["splits"][split]["records"] for split in SPLITS}
        largest = max(records, key=lambda split: records[split])
        stage = recipe.job(folder / "plan", largest).plan(budget=budget, workers=workers, call=call)
        total = sum(records.values())
        share = total / max(records[largest], 1)
        work = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        whole = RunPlan(
            budget=stage.budget, rows=joined["rows"], frontal=joined["frontal"], joined=joined["joined"],
            skipped={**joined["skipped"], **planned["skipped"]}, records=records,
            shard_bytes=total * recipe.record_bytes, work_bytes=work, projected=stage.projected,
            threads=stage.threads, workers=stage.workers, seconds=stage.seconds * share,
        )  # fmt: skip
    return [whole, stage]
