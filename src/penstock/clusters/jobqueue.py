"""The clusters ``slurm``, ``pbs``, ``lsf`` and ``sge``: nodes as jobs of a batch system, by dask-jobqueue.

``slurm:4,memory=64GiB,cores=16,partition=long,walltime=12h`` asks for four jobs, each of which has a Dask
worker and so a node. What is not said here, dask-jobqueue's own configuration says
(``~/.config/dask/jobqueue.yaml``).
"""

from __future__ import annotations

import math
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, ClassVar

import dask
import dask_jobqueue

from penstock import foreign
from penstock.abc import NodeOffer, NodeOptions
from penstock.budget import MiB, parse_size
from penstock.clusters.dask import DaskNodes
from penstock.clusters.submitted import Submitted
from penstock.durations import parse_duration
from penstock.errors import UsageError
from penstock.plurals import plural

_OPTIONS = ("memory", "cores", "partition", "walltime", "account", "host", "interface")
_MOST = 10_000
_ASK_SECONDS = 10.0
_CLOCK = re.compile(r"(\d+-)?\d+(:\d+){0,2}")


class BatchNodes(DaskNodes):
    """Nodes that are jobs of a batch system.

    Args:
        where: how many jobs, and behind commas what each of them asks for.
    """

    kind: ClassVar[str]
    cluster: ClassVar[str]
    """Name of dask-jobqueue's class."""
    submit: ClassVar[str]
    """The command that submits a job."""
    account: ClassVar[str] = "account"
    """What dask-jobqueue calls whom the job is charged to."""

    def __init__(self, where: str = "") -> None:
        count, *told = where.split(",")
        if not 1 <= (foreign.whole(count) or 0) <= _MOST:
            raise UsageError(
                f"{self.kind}:{foreign.line(count)} is no number of jobs from 1 to {_MOST:,}: write "
                f"{self.kind}:4,memory=64GiB,cores=16"
            )
        super().__init__(f"{self.kind}:{where}")
        self._count = int(count)
        self._asked = self._options(told)
        self._jobs: Submitted | None = None
        self._asked_at, self._standing = -_ASK_SECONDS, ""

    def _options(self, told: list[str]) -> dict[str, Any]:
        """As dask-jobqueue calls them.

        Raises:
            UsageError: one that is not known, or cannot be read.
        """
        given = dict(each.partition("=")[::2] for each in told)
        if unknown := [name for name in given if name not in _OPTIONS]:
            raise UsageError(
                f"{self.kind}: has no option {foreign.line(unknown[0])!r}; there are {', '.join(_OPTIONS)}"
            )
        made: dict[str, Any] = {}
        for name, value in given.items():
            if name == "memory":
                made["memory"] = f"{parse_size(value)}B"
            elif name == "cores":
                if not foreign.whole(value):
                    raise UsageError(f"{self.kind}: cores={foreign.line(value)} is no number of cores")
                made["cores"] = int(value)
            elif name == "partition":
                made["queue"] = value
            elif name == "account":
                made[self.account] = value
            elif name == "walltime":
                made["walltime"] = (
                    value if _CLOCK.fullmatch(value) else self.clock(parse_duration(value, name))
                )
            elif name == "host":
                made["scheduler_options"] = {"host": value}
            else:
                made[name] = value
        return made

    def open(self, job: Any, digest: str, options: NodeOptions) -> None:
        """Submit the jobs, unless that was done for an earlier stage.

        Raises:
            UsageError: they cannot be submitted.
        """
        if self._jobs is None:
            self._submit(options.drafts.parent / "jobs")  # in the run's own folder, which may be private
        super().open(job, digest, options)

    def survey(self, folder: Path | None, requested: str | int, patience: float) -> list[NodeOffer]:
        """Submit the jobs and ask the first that start."""
        if self._jobs is None:
            self._submit(None)
        return super().survey(folder, requested, patience)

    def _submit(self, folder: Path | None) -> None:
        if shutil.which(self.submit) is None:
            raise UsageError(
                f"{self.kind}: there is no {self.submit} here: run this where jobs can be submitted, as on a "
                "login node"
            )
        jobs = None
        try:
            cluster = self.theirs(folder)
            jobs = Submitted(cluster, self._count)
            jobs.expect_one()
        except Exception as error:
            if jobs is not None:
                jobs.end()
            why = str(error) if isinstance(error, UsageError) else foreign.reason_of(error)
            raise UsageError(
                f"{self.kind}: no jobs can be had ({why}): give memory= and cores= of "
                f"a node, as in {self.kind}:4,memory=64GiB,cores=16, or set them in dask-jobqueue's "
                "configuration"
            ) from error
        self._jobs, self._link.where = jobs, cluster

    def theirs(self, folder: Path | None) -> Any:
        """dask-jobqueue's cluster object, without jobs yet: it defines what a job looks like.

        Args:
            folder: for what jobs say.
        """
        more = {"processes": 1, "worker_extra_args": ["--memory-limit", "0"], **self._asked}
        # Any free port for its page: that of a second run on this host would be in use.
        configured = dask.config.get(f"jobqueue.{self.kind}.scheduler-options", None) or {}
        more["scheduler_options"] = {
            "dashboard_address": ":0",
            **configured,
            **more.get("scheduler_options", {}),
        }
        if folder is not None:  # else what jobs say lies where this was started
            more["log_directory"] = str(folder)
        more |= self.in_its_words()
        return getattr(dask_jobqueue, self.cluster)(**more)

    def coming(self) -> str:
        """The state of the jobs while none has started."""
        said = super().coming()
        if self._open is None or self._open.places or not said:
            return said
        if time.monotonic() - self._asked_at >= _ASK_SECONDS:
            self._asked_at, self._standing = time.monotonic(), self._look()
        standing = self._standing or f"{plural(self._count, 'job')} submitted, none has begun"
        refused = self._jobs.refused if self._jobs is not None else ""
        return f"{standing}; {refused}" if refused else standing

    def in_its_words(self) -> dict[str, Any]:
        """Options for this batch system that dask-jobqueue does not derive by itself."""
        return {}

    @staticmethod
    def clock(seconds: float) -> str:
        """A duration in the format that most batch systems read."""
        minutes, left = divmod(math.ceil(seconds), 60)
        return f"{minutes // 60:02d}:{minutes % 60:02d}:{left:02d}"

    def jobs(self) -> list[str]:
        """Ids of the submitted jobs."""
        return self._jobs.numbers if self._jobs is not None else []

    def _look(self) -> str:
        """How the batch system says they stand; empty where it does not."""
        return ""

    def leave(self) -> None:
        """Cancel the jobs."""
        super().leave()
        jobs, self._jobs = self._jobs, None
        if jobs is not None:
            jobs.end()


class SlurmNodes(BatchNodes):
    """Jobs of SLURM."""

    kind, cluster, submit = "slurm", "SLURMCluster", "sbatch"

    def _look(self) -> str:
        jobs = self.jobs()
        if not jobs or shutil.which("squeue") is None:
            return ""
        asked = ["squeue", "--noheader", "--jobs", ",".join(jobs), "--format", "%i %T %r"]
        try:
            told = subprocess.run(asked, capture_output=True, text=True, timeout=5).stdout
        except (OSError, subprocess.SubprocessError):
            return ""
        lines = [line.split(maxsplit=2) for line in told.splitlines()]
        each = [
            f"job {job} {state.lower()}" + ("" if why == "None" else f" ({why})")  # None: not looked at yet
            for job, state, why in (x for x in lines if len(x) == 3)
        ]
        more = f" and {len(each) - 3} more" if len(each) > 3 else ""
        return foreign.line(", ".join(each[:3]) + more)


class PbsNodes(BatchNodes):
    """Jobs of PBS."""

    kind, cluster, submit = "pbs", "PBSCluster", "qsub"


class LsfNodes(BatchNodes):
    """Jobs of LSF."""

    kind, cluster, submit, account = "lsf", "LSFCluster", "bsub", "project"

    @staticmethod
    def clock(seconds: float) -> str:
        """A duration for LSF, which counts no seconds."""
        minutes = math.ceil(seconds / 60)
        return f"{minutes // 60:02d}:{minutes % 60:02d}"


class SgeNodes(BatchNodes):
    """Jobs of Grid Engine."""

    kind, cluster, submit, account = "sge", "SGECluster", "qsub", "project"

    def in_its_words(self) -> dict[str, Any]:
        """Cores and memory, which dask-jobqueue does not pass to Grid Engine.

        A parallel environment and a resource are called as each site likes. These are the usual names; others
        are set in dask-jobqueue's configuration.
        """
        told: dict[str, Any] = {}
        cores = self._asked.get("cores", 1)
        extra = dask.config.get("jobqueue.sge.job-extra-directives", None) or []
        if cores > 1 and not any(str(each).startswith("-pe ") for each in extra):
            told["job_extra_directives"] = [*extra, f"-pe smp {cores}"]
        if "memory" in self._asked and not dask.config.get("jobqueue.sge.resource-spec", None):
            each = math.ceil(int(self._asked["memory"].removesuffix("B")) / cores / MiB)  # of a slot
            told["resource_spec"] = f"h_vmem={each}M"
        return told
