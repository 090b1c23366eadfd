"""The type of a result, as a checker sees it. Never run: checked by ``mypy --strict``."""

from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, assert_type

import numpy as np
import numpy.typing as npt

import penstock
from penstock.errors import SetAside


def area(item: int) -> float:
    return item * 0.5


def areas(items: list[int]) -> list[float]:
    return [area(item) for item in items]


def arrays(items: Any) -> npt.NDArray[np.float64]:
    return np.sqrt(np.asarray(items, np.float64))


def untyped(item):  # type: ignore[no-untyped-def]
    return item


@dataclass(frozen=True)
class Longest:
    """A reducer of one's own."""

    grain: None = None
    order: Literal["any"] = "any"

    def start(self) -> str:
        return ""

    def step(self, state: str, result: str) -> str:
        return max(state, result, key=len)

    def merge(self, left: str, right: str) -> str:
        return max(left, right, key=len)

    def finish(self, states: Iterator[str]) -> str:
        return max(states, key=len)


# What is collected is a list of what the function returns.
assert_type(penstock.run(area, 3).result, list[float])
assert_type(penstock.run(area, 3, "runs/x", budget="1GiB", seed=3, inputs=None).result, list[float])
assert_type(penstock.run(area, 3, into=penstock.sinks.Collect()).result, list[float])
assert_type(penstock.run(str, [1, 2]).result, list[str])
assert_type(penstock.run(lambda item: (item, "x"), 3).result, list[tuple[Any, str]])
assert_type(penstock.run(untyped, 3).result, list[Any])

# Of a function of many items, each thing in what it returns.
assert_type(penstock.run(areas, 3, batched=True).result, list[float])
assert_type(penstock.run(areas, 3, batched=64).result, list[float])
assert_type(penstock.run(arrays, 3, batched=64).result, list[Any])

# An item that was set aside has its place.
assert_type(penstock.run(area, 3, set_aside=True).result, list[float | SetAside])
assert_type(penstock.run(areas, 3, batched=True, set_aside=5).result, list[float | SetAside])
assert_type(penstock.run(area, 3, set_aside=False).result, list[float])

# A sink or a reducer says what it makes.
assert_type(penstock.run(area, 3, "runs/x", into=penstock.sinks.Files()).result, list[Path])
assert_type(penstock.run(str, 3, into=penstock.reducers.Count()).result, dict[str, int])
assert_type(penstock.run(str, 3, into=Longest(), set_aside=True).result, str)
assert_type(penstock.run(area, 3, into={"sum": penstock.reducers.Sum(), "all": "collect"}).result, Any)
assert_type(penstock.run(area, 3, into="sum").result, Any)

# The same of a Job, which can be named in an annotation, with its result or without.
source = penstock.sources.Range(3)
job = penstock.Job(source=source, function=area, memory="1MiB")
assert_type(job, penstock.Job[list[float]])
assert_type(job.run(), penstock.Report[list[float]])
assert_type(job.run("runs/x", budget="1GiB", private=True).result, list[float])
assert_type(job.run(set_aside=3).result, list[float | SetAside])
assert_type(penstock.Job(source=source, function=areas, batched=8).run().result, list[float])
assert_type(penstock.Job(source=source, function=str, into=Longest()).run(set_aside=True).result, str)
assert_type(penstock.Job(source=source, function=area, into={"a": "sum"}).run().result, Any)


def made() -> penstock.Job[list[float]]:
    return penstock.Job(source=source, function=area)


def without(job: penstock.Job) -> penstock.Report:
    return job.run()


assert_type(made().run().result, list[float])
assert_type(without(job).result, Any)

# Calls of an executor.
with penstock.Executor(budget="1GiB") as pool:
    assert_type(pool.submit(area, 3), Future[float])
    assert_type(pool.submit(area, 3).result(), float)
    assert_type(list(pool.map(area, range(3))), list[float])
    pool.submit(area, "3")  # type: ignore[arg-type]

# What is wrong is noticed.
texts: list[str] = penstock.run(area, 3).result  # type: ignore[assignment]
whole: list[float] = penstock.run(area, 3, set_aside=True).result  # type: ignore[assignment]
penstock.run(area, 3, into=3)  # type: ignore[call-overload]
penstock.run(area, 3, budgets="1GiB")  # type: ignore[call-overload]
penstock.Job(source=source, function=areas, batch=8)  # type: ignore[call-overload]
job.run(fodler="runs/x")  # type: ignore[call-overload]
