"""The suites that others wrote for their own pools, and where they are found on this machine."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "libpython3.11-testsuite"
HERE = Path(__file__).resolve().parent
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or HERE.parents[1] / ".cache") / "dropin"


class Missing(Exception):
    """A suite is not on this machine, and cannot be had; says why."""


@dataclass(frozen=True)
class Found:
    """A suite that is here: the files that pytest is to run, and where the package that they import is."""

    files: list[Path]
    path: Path | None = None


@dataclass(frozen=True)
class Suite:
    """One suite.

    Args:
        name: as it is called in ``expected.toml``.
        find: where it is.
        doors: the ways in which our pools can stand in for those that it was written for.
        select: what pytest's ``-k`` takes.
        timed: whether its seconds are compared with those of the original: then both run all of it.
    """

    name: str
    find: Callable[[], Found]
    doors: tuple[str, ...]
    select: str = ""
    timed: bool = False


def _cpython(wrapper: str, needed: str) -> Callable[[], Found]:
    """A file here that takes its tests from CPython's own ``test`` package."""

    def find() -> Found:
        if importlib.util.find_spec(f"test.{needed}") is not None:
            return Found([HERE / wrapper])
        return Found([HERE / wrapper], _with_tests_of_debian())

    return find


def _with_tests_of_debian() -> Path:
    """This Python's ``test`` package and Debian's in one; Debian's is got by apt-get, and not installed."""
    if sys.version_info[:2] != (3, 11):
        raise Missing(f"this Python comes without its tests, and {PACKAGE} is for 3.11")
    joined = _CACHE / "joined" / "test"
    if (joined / "complete").exists():
        return joined.parent
    joined.mkdir(parents=True, exist_ok=True)
    spec = importlib.util.find_spec("test")
    assert spec is not None
    places = [Path(place) for place in spec.submodule_search_locations or ()]
    for place in [_tests_of_debian(), *places]:  # the interpreter's own win
        for each in place.iterdir():
            (joined / each.name).unlink(missing_ok=True)
            (joined / each.name).symlink_to(each)
    (joined / "complete").touch()
    return joined.parent


def _tests_of_debian() -> Path:
    _CACHE.mkdir(parents=True, exist_ok=True)
    try:
        get = ["apt-get", "-qq", "download", PACKAGE]
        subprocess.run(get, cwd=_CACHE, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        said = str(getattr(error, "stderr", "") or error).strip().splitlines()
        raise Missing(f"apt-get gives no {PACKAGE}: {said[0] if said else error}") from error
    for package in _CACHE.glob("*.deb"):
        subprocess.run(["dpkg", "--extract", package, _CACHE], check=True)
        package.unlink()
    return _CACHE / "usr/lib/python3.11/test"


def _installed(package: str, name: str) -> Callable[[], Found]:
    def find() -> Found:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise Missing(f"{package} is not installed")
        return Found([Path(spec.origin).parent / name])

    return find


SUITES = [
    # Ours takes every start method for its own: one of CPython's three tells all.
    Suite(
        "futures",
        _cpython("test_futures.py", "test_concurrent_futures"),
        ("executor", "rescue"),
        "ProcessPoolFork and not ProcessPoolForkserver",
    ),
    Suite(
        "pool",
        _cpython("test_pool.py", "_test_multiprocessing"),
        ("rescue",),
        "WithProcessesTestPool and not Lifetime",
    ),
    Suite("joblib", _installed("joblib", "test/test_parallel.py"), ("backend", "rescue")),
    Suite("sklearn", _installed("sklearn", "model_selection/tests"), ("backend",), timed=True),
]
