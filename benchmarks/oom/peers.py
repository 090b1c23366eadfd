"""Who takes part: each with its defaults, as its own first example shows it.

A peer gives (item, result or exception) pairs for a task. One that is not installed is left out.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import mixes

Pair = tuple[int, Any]


@dataclass(frozen=True)
class Task:
    """A mix, and where its function notes what it does."""

    mix: str
    scale: float
    folder: Path
    workers: int

    @property
    def items(self) -> range:
        """The items."""
        return range(mixes.MIXES[self.mix].items)

    @property
    def function(self) -> Callable[[int], Any]:
        """The function of one item."""
        return mixes.worker(self.mix, self.scale, self.folder)


def with_penstock(task: Task) -> Iterable[Pair]:
    """The budget is discovered; what cannot fit is set aside by name, the rest goes on."""
    import penstock

    report = penstock.run(
        task.function, task.items, into=_into(task.mix), workers=task.workers, set_aside=True
    )
    return zip(task.items, report.result, strict=True)


def _into(mix: str) -> Any:
    """Large results are consumed where they are made; others consume them in the parent, as they must."""
    import penstock

    return penstock.reducers.Fold(_append, list, _join, grain=None) if mix == "bigout" else "collect"


def _append(checksums: list[int], result: Any) -> list[int]:
    checksums.append(mixes.checksum_of(result))
    return checksums


def _join(left: list[int], right: list[int]) -> list[int]:
    return left + right


def with_executor(task: Task) -> Iterator[Pair]:
    """concurrent.futures: ``executor.map``."""
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(task.workers) as executor:
        yield from zip(task.items, executor.map(task.function, task.items), strict=True)


def with_pool(task: Task) -> Iterable[Pair]:
    """multiprocessing: ``pool.map``."""
    from multiprocessing import Pool

    with Pool(task.workers) as pool:
        return zip(task.items, pool.map(task.function, task.items), strict=True)


def with_joblib(task: Task) -> Iterable[Pair]:
    """joblib: ``Parallel(n_jobs)(delayed(f)(i) ...)``, which uses loky."""
    from joblib import Parallel, delayed

    results = Parallel(n_jobs=task.workers)(delayed(task.function)(item) for item in task.items)
    return zip(task.items, results, strict=True)


def with_gnu_parallel(task: Task) -> Iterator[Pair]:
    """GNU parallel: a process for each item, ``--jobs`` at once."""
    command = [sys.executable, mixes.__file__, task.mix, str(task.scale), str(task.folder), "{}"]
    numbers = "\n".join(map(str, task.items))
    jobs = ["parallel", "--will-cite", "--jobs", str(task.workers), *command]
    seen = set()
    with subprocess.Popen(jobs, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        with process.stdin:
            process.stdin.write(numbers)
        for line in process.stdout:
            item, result = map(int, line.split())
            seen.add(item)
            yield item, result
    for item in task.items:
        if item not in seen:
            yield item, RuntimeError("its process failed")


def with_client_map(task: Task) -> Iterator[Pair]:
    """Dask: ``client.map`` on workers of one thread, each with its default memory limit."""
    from distributed import Client, LocalCluster

    limits = {"n_workers": task.workers, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(**limits) as cluster, Client(cluster) as client:
        for item, future in zip(task.items, client.map(task.function, task.items), strict=True):
            error = future.exception()
            yield item, future.result() if error is None else error


def with_penstock_on_dask(task: Task) -> Iterable[Pair]:
    """A Dask worker with a node of ours, which has the workers."""
    from distributed import LocalCluster

    import penstock

    one = {"n_workers": 1, "threads_per_worker": task.workers, "memory_limit": 0, "dashboard_address": None}
    with LocalCluster(**one) as cluster:
        report = penstock.run(
            task.function,
            task.items,
            task.folder / "run",
            into=_into(task.mix),
            set_aside=True,
            cluster=cluster,
        )
        return zip(task.items, report.result, strict=True)


BEFORE = "before"
"""The peer that is another version of penstock."""
PEERS: dict[str, Callable[[Task], Iterable[Pair]]] = {
    "penstock": with_penstock,
    BEFORE: with_penstock,
    "executor": with_executor,
    "joblib": with_joblib,
    "pool": with_pool,
    "gnu-parallel": with_gnu_parallel,
    "client.map": with_client_map,
    "penstock on dask": with_penstock_on_dask,
}
NOT_FOR = {("gnu-parallel", "trivial"), ("gnu-parallel", "leak")}
"""A process for each item: starting 10,000 of them measures nothing new, and nothing leaks."""


def installed(peer: str) -> bool:
    """Whether a peer can take part here."""
    if peer == "gnu-parallel":
        return shutil.which("parallel") is not None
    needed = {"client.map": "distributed", "penstock on dask": "distributed"}.get(peer, peer)
    return peer != BEFORE and (needed in ("executor", "pool") or find_spec(needed) is not None)
