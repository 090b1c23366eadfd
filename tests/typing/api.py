"""User code with types. Never run: checked by ``mypy --strict``."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import penstock
from penstock.abc import Batch, Event, Observer, Receipt, Reducer, Sink, Source
from penstock.events import BatchDone


def embed(item: int, *, weights: object = None, minimum: int = 0) -> float:
    share = penstock.share()
    threads: int = share.threads
    scratch: Path = share.folder
    return float(item + threads + len(scratch.parts))


@dataclass(frozen=True)
class Squares:
    """A source of one's own."""

    count: int

    def __len__(self) -> int:
        return self.count

    def read(self, start: int, stop: int) -> list[int]:
        return [item * item for item in range(start, stop)]

    def fingerprint(self) -> Mapping[str, str]:
        return {"squares": str(self.count)}


@dataclass(frozen=True)
class Texts:
    """A sink of one's own."""

    grain: int | None = 16

    def open(self, folder: Path, items: int) -> None: ...

    def write(self, batch: Batch, results: Iterator[Any], folder: Path) -> Receipt:
        with penstock.atomic(folder / f"{batch.start}.txt") as path:
            path.write_text("\n".join(str(each) for each in results))
        return Receipt()

    def close(self, receipts: Any, folder: Path) -> None: ...

    def result(self, folder: Path) -> list[Path]:
        return sorted(folder.glob("*.txt"))


source: Source = Squares(100)
sink: Sink = Texts()
reducer: Reducer = penstock.reducers.Sum()


def watch(event: Event) -> None:
    if isinstance(event, BatchDone):
        print(event.stop - event.start, event.peak)


observer: Observer = watch

job = penstock.Job(
    source=source,
    function=embed,
    into={"texts": sink, "sum": reducer},
    inputs={"weights": Path("w.npz"), "minimum": 45},
    batched=256,
    memory="600MiB",
    timeout=30.0,
    stall="10min",
)
plan: penstock.Plan = job.plan(budget="4GiB", workers=2)
bytes_left: int = plan.headroom
report: penstock.Report = job.run(
    "runs/embed", budget="4GiB", set_aside=3, observers=[watch, observer], accept_changes=True
)
peak: int = report.peak
for aside in report.set_aside:
    words: tuple[int, str, str] = (aside.item, aside.name, aside.message)

quick = penstock.run(embed, range(10), workers=4, set_aside=True, timeout="5s", private=True)
chained = penstock.sources.Chain([penstock.sources.Range(3), source])
anything: Any = quick.result


def sort(folder: Path, table: object) -> dict[str, Any]:
    return {"rows": 3}


with penstock.Run("runs/all", budget="80%", private=True) as run:
    survey: penstock.Stored = run.stage("survey", job)
    order = run.step("sort", sort, inputs={"table": survey}, memory="600MiB", seed=3, stall="2h")
    facts: dict[str, Any] = order.facts
    opened: Any = survey.open()
    whole: penstock.Report = run.report()

try:
    job.run(budget=1 << 30)
except penstock.ItemTooLarge as error:
    needed: int | None = error.needed
except penstock.BadInput as error:
    place: str | None = error.place
except penstock.RunFailed as error:
    so_far: Any = error.report
except penstock.PenstockError as error:
    code: int = error.exit_code
