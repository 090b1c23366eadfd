"""Programs to be measured, each in a process of its own: ``python subjects.py NAME ARGUMENTS``.

Each prints one line of JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import work


def nothing() -> dict[str, Any]:
    """The interpreter and our imports alone."""
    import penstock

    return {"right": callable(penstock.run)}


# --------------------------------------------------------------------------- trivial items


def penstock_collect(count: str) -> dict[str, Any]:
    """``penstock.run``, a list as result."""
    return _penstock(int(count), "collect")


def penstock_sum(count: str) -> dict[str, Any]:
    """``penstock.run``, folded by a reducer."""
    return _penstock(int(count), "sum")


def executor(count: str) -> dict[str, Any]:
    """``ProcessPoolExecutor.map`` with a chunk size as ``Pool.map`` chooses it."""
    from concurrent.futures import ProcessPoolExecutor

    def results(items: range) -> Iterator[int]:
        with ProcessPoolExecutor() as pool:
            yield from pool.map(work.triple, items, chunksize=-(-len(items) // (4 * (os.cpu_count() or 1))))

    return _timed(results, int(count))


def pool(count: str) -> dict[str, Any]:
    """``Pool.map``."""
    from multiprocessing import Pool

    def results(items: range) -> Iterator[int]:
        with Pool() as workers:
            yield from workers.map(work.triple, items)
            workers.close()
            workers.join()  # else their CPU is not counted

    return _timed(results, int(count))


def joblib(count: str) -> dict[str, Any]:
    """``Parallel(n_jobs=-1)``."""
    from joblib import Parallel, delayed

    def results(items: range) -> Iterator[int]:
        yield from Parallel(n_jobs=-1)(delayed(work.triple)(item) for item in items)

    return _timed(results, int(count))


def _penstock(count: int, into: str) -> dict[str, Any]:
    import penstock
    from penstock.events import BatchDone

    first: list[float] = []
    began = time.perf_counter()

    def observe(event: Any) -> None:
        if not first and isinstance(event, BatchDone):
            first.append(time.perf_counter() - began)

    result = penstock.run(work.triple, range(count), into=into, observers=[observe]).result
    wall, peak = time.perf_counter() - began, _peak()
    expected = _expected(count)
    return _told(first[0], wall, result == (sum(expected) if into == "sum" else expected), peak)


def _timed(results: Callable[[range], Iterator[int]], count: int) -> dict[str, Any]:
    began = time.perf_counter()
    stream = results(range(count))
    collected = [next(stream)]
    first = time.perf_counter() - began
    collected.extend(stream)
    wall, peak = time.perf_counter() - began, _peak()
    return _told(first, wall, collected == _expected(count), peak)


def _expected(count: int) -> list[int]:
    """What ``work.triple`` gives, cheaply: checking must not cost what is measured."""
    return list(range(1, 3 * count + 1, 3))


def _told(first: float, wall: float, right: bool, peak: int) -> dict[str, Any]:
    return {"first": first, "wall": wall, "right": right, "peak": peak}


def _peak() -> int:
    """Peak resident bytes of this process. (ru_maxrss would begin with the parent's.)"""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


# --------------------------------------------------------------------------- batches, workers, deaths


def batches(count: str, folder: str = "") -> dict[str, Any]:
    """A batch for each item; in a named folder, or a temporary run."""
    import penstock
    from penstock.events import BatchDone

    seen = 0

    def observe(event: Any) -> None:
        nonlocal seen
        seen += isinstance(event, BatchDone)

    job = penstock.Job(source=work.Singles(int(count)), function=work.triple)
    result = job.run(folder or None, observers=[observe]).result
    return {"batches": seen, "right": result == _expected(int(count))}


def workers(count: str) -> dict[str, Any]:
    """Start and replace idle workers of the local backend: seconds each, and bytes of their own."""
    import tempfile

    import penstock
    from penstock.backends.local import Local
    from penstock.proc import descendants, fields

    job = penstock.Job(source=penstock.sources.Range(1), function=work.triple)
    starts, replacements, private = [], [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        setup = job.setup(job.outputs(temporary=True), folder, folder, durable=False)
        backend = Local()
        backend.open(job.pack(setup), {}, None)
        try:
            for _ in range(int(count)):
                before = set(descendants(os.getpid()))
                began = time.perf_counter()
                worker = backend.start()
                _hear(backend, worker)
                starts.append(time.perf_counter() - began)
                (pid,) = set(descendants(os.getpid())) - before
                pages = fields(Path(f"/proc/{pid}/smaps_rollup").read_text())
                private.append(pages["Private_Clean"] + pages["Private_Dirty"])
                began = time.perf_counter()
                backend.kill(worker)
                _hear(backend, worker)
                worker = backend.start()
                _hear(backend, worker)
                replacements.append(time.perf_counter() - began)
                backend.kill(worker)
                _hear(backend, worker)
        finally:
            backend.close()
    return {"starts": starts, "replacements": replacements, "private": private, "right": True}


def _hear(backend: Any, worker: int) -> None:
    """Wait for a worker's next word, or its death."""
    while not any(each.worker == worker for each in backend.wait(1.0)):
        pass


def killable(count: str, seconds: str, folder: str, calls: str) -> dict[str, Any]:
    """A run in a named folder that is to be killed; again, it resumes."""
    import penstock

    job = penstock.Job(
        source=penstock.sources.Range(int(count)),
        function=work.triple_slowly,
        inputs={"calls": calls, "seconds": float(seconds)},
    )
    result = job.run(folder).result
    kept = (Path(folder) / "results.jsonl").read_bytes()
    right = result == _expected(int(count))
    return {"right": right, "digest": hashlib.sha256(kept).hexdigest()}


SUBJECTS: dict[str, Callable[..., dict[str, Any]]] = {
    "nothing": nothing,
    "penstock-collect": penstock_collect,
    "penstock-sum": penstock_sum,
    "executor": executor,
    "pool": pool,
    "joblib": joblib,
    "batches": batches,
    "workers": workers,
    "killable": killable,
}

if __name__ == "__main__":
    print(json.dumps(SUBJECTS[sys.argv[1]](*sys.argv[2:])))
