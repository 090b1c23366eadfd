"""The run that is disturbed: a program of its own, that can be killed.

    python benchmarks/cluster/disturbed.py FOLDER WORKED VARIANT CLUSTER LOG

Items say in a file that they were worked, and every lease that is sent or comes back is a line of the log.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import penstock
from penstock import registry
from penstock.abc import Lease, Node, NodeLost, Returned, Told
from penstock.reducers import Fold, Sum
from penstock.sinks import Arrays, Collect, Files, Parquet
from penstock.sources import Range

STAGES = ("first", "second")
ITEMS = 240
ITEM_SECONDS = 0.02
BUDGET = "800MiB"


def add(state: list[float], value: float) -> list[float]:
    """A count and a sum, whose bytes depend on the order."""
    return [state[0] + 1, state[1] + value]


def join(left: list[float], right: list[float]) -> list[float]:
    """Two of them."""
    return [left[0] + right[0], left[1] + right[1]]


def some(item: int, *, stage: str, worked: str, seconds: float) -> dict[str, Any]:
    """For sinks and reducers that need no library; says in a file that the item was worked."""
    with open(worked, "ab", buffering=0) as file:
        file.write(f"{stage} {item}\n".encode())  # one write: those of several processes are not mixed
    time.sleep(seconds)
    value = ((item * 7919) % 101) / 7.0
    out = penstock.share().folder / "out.txt"
    out.write_text(f"{value}\n" * 50)
    return {"list": {"item": item, "value": value}, "files": out, "total": value, "mean": value}


def every(item: int, *, stage: str, worked: str, seconds: float) -> dict[str, Any]:
    """For every kind of sink."""
    import numpy as np

    made = some(item, stage=stage, worked=worked, seconds=seconds)
    value = made["total"]
    return {
        **made,
        "table": {"item": [item] * (item % 4), "value": [value] * (item % 4)},
        "stack": np.arange(60, dtype=np.float32) * np.float32(value),
    }


def job(stage: str, worked: str, *, full: bool, seconds: float) -> penstock.Job:
    """A job of one of the two functions."""
    into: dict[str, Any] = {
        "list": Collect(),
        "files": Files(),
        "total": Sum(grain=10),
        "mean": Fold(add, lambda: [0, 0.0], join, grain=10),
    }
    if full:
        into |= {"table": Parquet(grain=10), "stack": Arrays(grain=5)}
    function = partial(every if full else some, stage=stage, worked=worked, seconds=seconds)
    return penstock.Job(source=Range(ITEMS), function=function, into=into)


class Logged:
    """A cluster, with a line for each lease that is sent, comes back and is in the journal, or is lost.

    A file ``give-up`` beside the log has the node with that process told of as lost, as if nobody could reach
    it: it is not killed.
    """

    def __init__(self, inner: Any, log: Path) -> None:
        self._inner, self._log = inner, log
        self._met: set[str] = set()
        self._unreached: set[str] = set()
        self._back: list[tuple[str, int]] = []
        self.stage = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def _write(self, **values: Any) -> None:
        with open(self._log, "ab", buffering=0) as file:
            file.write((json.dumps({"stage": self.stage, **values}) + "\n").encode())

    def nodes(self) -> Mapping[str, Node]:
        there: Mapping[str, Node] = self._inner.nodes()
        for token in there.keys() - self._met:
            self._met.add(token)
            self._write(node=token, pid=self._inner.pid(token))
        return there

    def send(self, node: str, message: Any) -> None:
        if isinstance(message, Lease):
            self._write(sent=message.ticket, of=node, start=message.start, stop=message.stop)
        self._inner.send(node, message)

    def wait(self, timeout: float) -> list[tuple[str, Told]]:
        for node, ticket in self._back:  # what was heard before has been committed by now
            self._write(back=ticket, of=node)
        told: list[tuple[str, Told]] = self._inner.wait(timeout)
        told += self._given_up()
        self._back = [(node, each.ticket) for node, each in told if isinstance(each, Returned)]
        for node, each in told:
            if isinstance(each, Returned):
                self._write(heard=each.ticket, of=node)
            else:
                self._write(lost=node, why=str(each))
        return told

    def _given_up(self) -> list[tuple[str, Told]]:
        order = self._log.with_name("give-up")
        if not order.exists():
            return []
        pid = int(order.read_text())
        order.unlink()
        found = [token for token in self._inner.nodes() if self._inner.pid(token) == pid]
        self._unreached.update(found)
        return [(token, NodeLost("nobody reaches it")) for token in found]

    def end(self, node: str) -> None:
        if node in self._unreached:
            self._inner._forget(node)
        else:
            self._inner.end(node)

    def close(self) -> None:
        self._inner.close()
        for node, ticket in self._back:
            self._write(back=ticket, of=node)
        self._back = []


def work(folder: str, worked: str, variant: str, cluster: Logged | None) -> None:
    """Have it worked.

    Args:
        folder: of the run.
        worked: file that takes the items that were worked.
        variant: how many stages, the second of which begins with new nodes; behind a colon seconds of each;
            ``full`` for all sinks.
        cluster: None for a run without nodes, in this process.
    """
    here = __import__("disturbed")  # nodes import it by name, as they would a user's
    where: dict[str, Any] = {"cluster": cluster} if cluster else {"backend": "inline"}
    count, _, seconds = variant.removesuffix("full").partition(":")
    options = {"full": variant.endswith("full"), "seconds": float(seconds or ITEM_SECONDS)}
    with penstock.Run(folder, budget=BUDGET, progress=False, **where) as run:
        for stage in STAGES[: int(count)]:
            if cluster:
                cluster.stage = stage
            run.stage(stage, here.job(stage, worked, **options))


def main(folder: str, worked: str, variant: str, cluster: str, log: str) -> None:
    """Have nodes work it."""
    if cluster.startswith("dask"):
        from penstock.clusters import dask

        dask._BACK_SECONDS = 3.0  # a scheduler that was killed is not waited for so long here
    scheme, _, where = cluster.partition(":")
    work(folder, worked, variant, Logged(registry.load("cluster", scheme)(where), Path(log)))


if __name__ == "__main__":
    main(*sys.argv[1:])
