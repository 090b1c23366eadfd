"""A pytest plug-in: puts our pools in the place of the original ones, and writes down how each test ends.

PENSTOCK_DROPIN_DOOR says which way: ``stock`` leaves everything as it is. PENSTOCK_DROPIN_RECORD names the
file; each line of it is JSON about a test that began or ended, so that one that ends the process is known.
PENSTOCK_DROPIN_PART, ``[2, 5]``, has only the second fifth of the tests run.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

DOOR = os.environ["PENSTOCK_DROPIN_DOOR"]
RECORD = os.environ["PENSTOCK_DROPIN_RECORD"]


def _executor() -> None:
    import concurrent.futures

    import penstock

    concurrent.futures.ProcessPoolExecutor = penstock.Executor


def _rescue() -> None:
    from penstock import rescue

    rescue.install()


def _backend() -> None:
    import joblib

    import penstock.joblib

    joblib.register_parallel_backend("loky", penstock.joblib.Backend, make_default=True)


{"stock": lambda: None, "executor": _executor, "rescue": _rescue, "backend": _backend}[DOOR]()


def _write(**told: Any) -> None:
    with open(RECORD, "a") as file:
        file.write(json.dumps(told) + "\n")


@pytest.hookimpl(trylast=True)  # after -k
def pytest_collection_modifyitems(items: list[Any]) -> None:
    """Leave out what was done before this process was started, and what is not of the suite or its part."""
    done = set(json.loads(os.environ.get("PENSTOCK_DROPIN_DONE", "[]")))
    only = json.loads(os.environ.get("PENSTOCK_DROPIN_ONLY", "null"))
    part, parts = json.loads(os.environ.get("PENSTOCK_DROPIN_PART", "[1, 1]"))
    items[:] = items[len(items) * (part - 1) // parts : len(items) * part // parts]
    items[:] = [
        item
        for item in items
        if _name(item.nodeid) not in done and (only is None or _name(item.nodeid) in only)
    ]
    _write(selected=len(items))


def _name(nodeid: str) -> str:
    """A test's name, without the folders that differ from machine to machine."""
    path, _, rest = nodeid.partition("::")
    return f"{Path(path).name}::{rest}"


def pytest_runtest_logstart(nodeid: str) -> None:
    """One begins."""
    _write(test=_name(nodeid), began=time.time())


def pytest_runtest_logreport(report: Any) -> None:
    """One step of one has ended: what it says counts where it is no success, or the call itself."""
    if report.when == "call" or report.outcome != "passed":
        text = str(report.longrepr or "").strip()
        crash = getattr(report.longrepr, "reprcrash", None)
        _write(
            test=_name(report.nodeid),
            outcome="xfailed" if hasattr(report, "wasxfail") else report.outcome,
            seconds=report.duration,
            said=" ".join(str(crash.message if crash is not None else text).split())[:200],
            text=text[-6000:] if report.outcome == "failed" else "",
        )


def pytest_runtest_logfinish(nodeid: str) -> None:
    """One is over."""
    _write(test=_name(nodeid), over=True)
