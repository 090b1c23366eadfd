"""What one small ``Parallel`` after another takes: loky's reusable workers beside ours.

    python benchmarks/joblib/small.py --parallels 30 --repeat 3

Each subject is a program of its own that makes so many ``Parallel`` calls of a few short tasks, as
scikit-learn does; every result is checked. Told are the wall seconds of the first one (with the start of
the workers), of the median one after it, and the CPU seconds of a whole program with all its processes.
Medians over ``--repeat`` runs, taken in turns. Needs joblib; ``model`` needs scikit-learn.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from statistics import median
from typing import Any

TASKS = 8
TARGET = 1.5
"""Times loky's, for a Parallel after the first."""


def trivial() -> Callable[[], bool]:
    """A built-in function: nothing is imported."""
    from joblib import Parallel, delayed

    return lambda: Parallel(n_jobs=2)(delayed(abs)(-n) for n in range(TASKS)) == list(range(TASKS))


def model() -> Callable[[], bool]:
    """``cross_val_score`` of a small model: the class comes from a heavy module."""
    import numpy
    from sklearn.datasets import make_classification
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score

    points, labels = make_classification(200, 8, random_state=0)
    serial = cross_val_score(LogisticRegression(), points, labels, cv=4)
    return lambda: numpy.array_equal(
        cross_val_score(LogisticRegression(), points, labels, cv=4, n_jobs=2), serial
    )


WORK = {"trivial": trivial, "model": model}
BACKENDS = ("loky", "penstock")


def be_subject(work: str, backend: str, parallels: int) -> None:
    """Make the calls, and tell how long each took."""
    import joblib

    if backend == "penstock":
        import penstock.joblib  # noqa: F401 - registers it
    once, seconds = WORK[work](), []
    with joblib.parallel_config(backend=backend):
        for _ in range(parallels):
            began = time.perf_counter()
            right = once()
            seconds.append(time.perf_counter() - began)
            if not right:
                raise SystemExit(f"{work} with {backend}: another result than the serial one")
    print(json.dumps(seconds))


def measure(work: str, backend: str, parallels: int) -> dict[str, float]:
    """Run a subject; its figures."""
    before = os.times()
    command = [sys.executable, __file__, "--subject", work, backend, "--parallels", str(parallels)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    after = os.times()
    seconds = json.loads(done.stdout)
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return {"first": seconds[0], "next": median(seconds[1:]), "cpu": cpu}


def main() -> int:
    """Measure and print; 1 where a target was missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parallels", type=int, default=30)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--subject", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.subject:
        be_subject(*options.subject, options.parallels)
        return 0
    missed = False
    print("| what | first, s | next, s | of loky's | at most | CPU s |\n|---|--:|--:|--:|--:|--:|")
    for work in WORK:
        if work == "model" and find_spec("sklearn") is None:
            continue
        runs: dict[str, list[dict[str, float]]] = {backend: [] for backend in BACKENDS}
        for _ in range(options.repeat):
            for backend, told in runs.items():
                told.append(measure(work, backend, options.parallels))
        seen: dict[str, Any] = {
            backend: {name: median(each[name] for each in told) for name in told[0]}
            for backend, told in runs.items()
        }
        for backend, figures in seen.items():
            ratio = figures["next"] / seen["loky"]["next"]
            missed |= ratio > TARGET
            print(
                f"| {work}, {backend} | {figures['first']:.3f} | {figures['next']:.4f} | {ratio:.2f} "
                f"| {TARGET if backend != 'loky' else ''} | {figures['cpu']:.2f} |",
                flush=True,
            )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
