"""Penstock runs memory-hungry Python jobs inside a fixed memory budget, and they finish.

A function over many items, and the bytes that all processes together may use:

    import penstock

    report = penstock.run(function, items, budget="4GiB")
    report.result, report.peak, report.headroom

Penstock finds the limit that really holds (every cgroup above this process, SLURM, rlimits), tries
a few items, learns the memory per item, and plans workers and batches. Data does not pass through
this process: down go two integers, up comes a receipt. A worker that grows too far is paused,
killed or replaced before the kernel must; what died is tried again, smaller or alone; an item that
cannot fit is set aside by name. The same call again resumes. The answer is the same for any budget,
batch, worker count, kill or resume.

    Source -> plan -> schedule -> worker: read, call, write -> Sink | Reducer -> report

`Job` says what is to be done, `Run` holds a folder with several stages, `penstock.abc` has the seams
to write sources, sinks, reducers and backends of your own.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from penstock.errors import (
    BadInput,
    CannotFit,
    CannotKeep,
    CannotResume,
    DiskFull,
    FunctionRaised,
    ItemTooLarge,
    JobChanged,
    JournalDamaged,
    MissingExtra,
    NoBudget,
    PenstockBug,
    PenstockError,
    PluginError,
    ResultsDamaged,
    RunFailed,
    RunLocked,
    RunTakenOver,
    SetAside,
    SourceChanged,
    Stalled,
    StorageFailed,
    UnknownPlugin,
    UsageError,
    WorkerDied,
)
from penstock.version import __version__ as __version__

if TYPE_CHECKING:
    from penstock import reducers, sinks, sources
    from penstock.byte_lru import ByteLRU
    from penstock.engine.decide.plan import Plan
    from penstock.files import atomic
    from penstock.pool.executor import Executor
    from penstock.record.verify import Verification, verify
    from penstock.report.report import Report
    from penstock.runs.job import Job, run
    from penstock.runs.run import Run
    from penstock.sharing import share
    from penstock.stored import Stored


__all__ = [
    "BadInput",
    "ByteLRU",
    "CannotFit",
    "CannotKeep",
    "CannotResume",
    "DiskFull",
    "Executor",
    "FunctionRaised",
    "ItemTooLarge",
    "Job",
    "JobChanged",
    "JournalDamaged",
    "MissingExtra",
    "NoBudget",
    "PenstockBug",
    "PenstockError",
    "Plan",
    "PluginError",
    "Report",
    "ResultsDamaged",
    "Run",
    "RunFailed",
    "RunLocked",
    "RunTakenOver",
    "SetAside",
    "SourceChanged",
    "Stalled",
    "StorageFailed",
    "Stored",
    "UnknownPlugin",
    "UsageError",
    "Verification",
    "WorkerDied",
    "atomic",
    "reducers",
    "run",
    "share",
    "sinks",
    "sources",
    "verify",
]

# Loaded when first used: importing penstock must cost nothing worth mentioning.
_HOMES = {
    "Job": "penstock.runs.job",
    "run": "penstock.runs.job",
    "Run": "penstock.runs.run",
    "Stored": "penstock.stored",
    "Executor": "penstock.pool.executor",
    "Plan": "penstock.engine.decide.plan",
    "Report": "penstock.report.report",
    "Verification": "penstock.record.verify",
    "verify": "penstock.record.verify",
    "ByteLRU": "penstock.byte_lru",
    "share": "penstock.sharing",
    "atomic": "penstock.files",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    elif name in ("reducers", "sinks", "sources"):
        value = import_module(f"penstock.{name}")
    else:
        raise AttributeError(f"module 'penstock' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
