"""A stage that nodes of a cluster work on: what they are sent, and how they are fenced."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from penstock import drafts, foreign, layout, registry
from penstock.abc import Cluster, NodeOptions
from penstock.budget import MiB
from penstock.engine.parent.lead import Lead
from penstock.engine.parent.nodes import Numbers
from penstock.engine.parent.stage import Stage
from penstock.errors import UsageError
from penstock.files import digest_of
from penstock.meter import Meter
from penstock.record.folder import RunFolder
from penstock.record.job_key import imported_code
from penstock.runs.context import RunContext
from penstock.runs.stage_run import StageRun

_OBJECTS = {"distributed": "dask", "dask_jobqueue": "dask"}
"""Packages whose objects stand for a cluster (a ``distributed.Client``), and the name of ours that takes
them."""
GROWTH = 64 * MiB
"""Bytes that this process may grow by while it keeps the journal."""


def find(cluster: Any, backend: Any) -> Cluster | None:
    """The cluster named by ``"local:2"``, or one that was constructed already.

    Args:
        cluster: as a run is given it.
        backend: the same.

    Raises:
        UsageError: there is no such cluster, or the backend makes no sense beside one.
        PluginError: it cannot be had.
    """
    if cluster is None:
        return None
    if backend != "local":
        told = backend if isinstance(backend, str) else type(backend).__name__
        raise UsageError(
            f"the backend {told!r} is for workers of this process, and nodes of a cluster have their own: "
            "leave out either backend= or cluster="
        )
    if not isinstance(cluster, str):
        theirs = _OBJECTS.get(type(cluster).__module__.partition(".")[0])
        return registry.load("cluster", theirs)(cluster) if theirs else _checked(cluster)
    scheme, _, where = cluster.partition(":")
    made: Cluster = registry.load("cluster", scheme)(*([where] if where else []))
    return made


def _checked(cluster: Any) -> Cluster:
    """A cluster of somebody's, with all that one must have.

    Raises:
        UsageError: something of that is missing.
    """
    needed = [name for name in vars(Cluster) if not name.startswith("_")]
    if missing := [name for name in needed if not callable(getattr(cluster, name, None))]:
        raise UsageError(
            f"cluster is a {foreign.kind_of(cluster)}, which has no {', '.join(missing)}: name one, such as "
            "'local:2', or see penstock.abc.Cluster"
        )
    found: Cluster = cluster
    return found


class OnNodes:
    """Leads a cluster through the stages of a run.

    Args:
        context: of the run.
        cluster: not open.
    """

    def __init__(self, context: RunContext, cluster: Cluster) -> None:
        self._context = context
        self._cluster = cluster
        self._numbers = Numbers()
        self.cpu = 0.0
        """CPU seconds of all nodes so far."""
        self._code: dict[str, str] = {}
        """Of the modules that were needed so far, as this run began with them."""

    def leave(self) -> None:
        """The run is over: leave the cluster."""
        self._cluster.leave()

    def work(self, current: StageRun, stage: Stage) -> None:
        """Have the items of a prepared stage worked by nodes. Raises as :meth:`Lead.run`."""
        context, place = self._context, self._place
        folder = OwnedByRun(context.folder, place, current.state_dir)
        lead = Lead(
            stage,
            self._cluster,
            folder=folder,
            collect=current.collect(),
            interrupts=context.interrupts,
            numbers=self._numbers,
            patience=context.options.wait,
        )
        if lead.leases.finished:
            return
        job = place / f"job-{os.urandom(8).hex()}"
        with open(os.open(job, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            packed = current.job.pack(current.setup())
            file.write(packed)
        try:
            self._cluster.open(job, digest_of(packed), self._options(current, stage))
            lead.run()
        finally:
            self._cluster.close()
            self.cpu += lead.cpu
            folder.fence_all()
            job.unlink(missing_ok=True)

    @property
    def _place(self) -> Path:
        """The owner's folder for drafts."""
        place = self._context.folder.drafts
        assert place is not None
        return place

    def _options(self, current: StageRun, stage: Stage) -> NodeOptions:
        asked, job = self._context.options, current.job
        wishes = job.wishes(asked.workers, asked.call)
        umask = os.umask(0o077)
        os.umask(umask)
        return NodeOptions(
            drafts=self._place.parent,
            budget=current.found.budget.bytes,
            requested=asked.budget,
            workers=wishes.workers,
            call=wishes.call,
            memory=wishes.memory,
            threads=wishes.threads,
            stall=job.stall_seconds,
            timeout=job.timeout_seconds,
            set_aside=asked.set_aside is not False,
            umask=umask,
            log=None if job.private else self._context.folder.state_dir / layout.WORKERS_LOG,
            held=Meter().held() + stage.backend.overhead() + GROWTH,
            code=self._code_of(current),
        )

    def _code_of(self, current: StageRun) -> dict[str, str]:
        job = current.job
        code = imported_code(job.function, job.source, *current.stored.outputs.values())
        return {name: self._code.setdefault(name, told) for name, told in code.items()}


class OwnedByRun:
    """The folder of a run, for a stage that nodes work on.

    Args:
        folder: of the run.
        place: the owner's folder for drafts; those of nodes lie beside it.
        state_dir: of the stage.
    """

    def __init__(self, folder: RunFolder, place: Path, state_dir: Path) -> None:
        self._folder, self._place, self._state_dir = folder, place, state_dir

    def beat(self) -> None:
        """Heartbeat."""
        self._folder.beat()

    def awake(self) -> None:
        """Prove the ownership after a pause."""
        self._folder.awake()

    def fence_all(self) -> None:
        """Fence every node, dead or not, if the run is still ours: else these are its successor's."""
        if not self._place.is_dir():
            return
        for path in list(self._place.parent.iterdir()):
            if path != self._place:
                self.fence(path.name)

    def fence(self, token: str) -> None:
        """Have nothing that a node still writes get a final name."""
        self._folder.prove()
        drafts.fence(self._place.parent / token, self._place)
        shutil.rmtree(self._state_dir / layout.SCRATCH / token, ignore_errors=True)
