"""What a call costs: penstock.Executor beside ProcessPoolExecutor, the joblib backend beside loky.

    python benchmarks/executor/overhead.py --calls 10000 --repeat 5

Each subject is a program of its own; every result is checked. CPU seconds are of all its processes,
the interpreter's start and every import included; medians over ``--repeat`` runs, taken in turns.
Needs joblib.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from statistics import median

WORKERS = 2


def triple(number: int) -> int:
    """Nothing to speak of."""
    return 3 * number


def _executor_map(pool: type, count: int) -> Iterable[int]:
    with pool() as workers:
        yield from workers.map(_here().triple, range(count))


def _executor_submit(pool: type, count: int) -> Iterable[int]:
    with pool() as workers:
        futures = [workers.submit(_here().triple, number) for number in range(count)]
        yield from (future.result() for future in futures)


def _ours() -> Callable[[], object]:
    import penstock

    return lambda: penstock.Executor(workers=WORKERS)


def _theirs() -> Callable[[], object]:
    from concurrent.futures import ProcessPoolExecutor

    return lambda: ProcessPoolExecutor(WORKERS)


def _joblib(backend: str, count: int) -> Iterable[int]:
    import joblib

    if backend == "penstock":
        import penstock.joblib  # noqa: F401 - registers it
    with joblib.parallel_config(backend=backend):
        calls = (joblib.delayed(_here().triple)(number) for number in range(count))
        yield from joblib.Parallel(n_jobs=WORKERS)(calls)


def _here() -> object:
    """This file as a module, as functions of real programs are in one: workers import it by name."""
    import overhead

    return overhead


SUBJECTS: dict[str, Callable[[int], Iterable[int]]] = {
    "ProcessPoolExecutor.map": lambda count: _executor_map(_theirs(), count),
    "penstock.Executor.map": lambda count: _executor_map(_ours(), count),
    "ProcessPoolExecutor.submit": lambda count: _executor_submit(_theirs(), count),
    "penstock.Executor.submit": lambda count: _executor_submit(_ours(), count),
    "joblib, loky": lambda count: _joblib("loky", count),
    "joblib, penstock": lambda count: _joblib("penstock", count),
}
PEERS = {
    "penstock.Executor.map": "ProcessPoolExecutor.map",
    "penstock.Executor.submit": "ProcessPoolExecutor.submit",
    "joblib, penstock": "joblib, loky",
}
TARGET = 1.2


def main() -> None:
    """Measure all, in turns, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--subject", choices=SUBJECTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.subject:
        results = list(SUBJECTS[options.subject](options.calls))
        sys.exit(results != [triple(number) for number in range(options.calls)])
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in SUBJECTS}
    for _ in range(options.repeat):
        for name, seen in runs.items():
            seen.append(_measure(name, options.calls))
    print(f"{options.calls:,} calls, {WORKERS} workers, median of {options.repeat}\n")
    print("| what | CPU s | wall s | CPU, of the peer's | at most |\n|---|--:|--:|--:|--:|")
    for name, seen in runs.items():
        cpu, wall = (median(column) for column in zip(*seen, strict=True))
        peer = PEERS.get(name)
        of_peer = f"{cpu / median(each[0] for each in runs[peer]):.2f} | {TARGET}" if peer else " | "
        print(f"| {name} | {cpu:.2f} | {wall:.2f} | {of_peer} |")


def _measure(name: str, calls: int) -> tuple[float, float]:
    """CPU and wall seconds of one program and all that it starts and waits for."""
    before, began = _cpu(), time.perf_counter()
    command = [sys.executable, __file__, "--subject", name, "--calls", str(calls)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONWARNINGS": "ignore"})
    return _cpu() - before, time.perf_counter() - began


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
