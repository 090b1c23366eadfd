"""The memory that a batch system says it gave this job on this node: SLURM, PBS, LSF.

Read from the environment, and only when a job id says that we are in such a job. Where the batch
system also sets a control group, that is read too (``penstock.limits.cgroup``); here are the sites
that only count and then kill. What the job uses is not told: ``used`` is 0.

Sources: the manual of sbatch, "output environment variables" (mebibytes; 0 asks for all of the node);
``PBS_VMEM`` and ``PBS_RESC_MEM`` are set by sites' PBS hooks, in bytes; ``LSB_CG_MEMLIMIT`` is set by
LSF where it enforces with groups, in bytes, in hexadecimal.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from penstock import foreign
from penstock.budget import Ceiling, MiB, parse_size
from penstock.errors import UsageError
from penstock.proc import SYSTEM


class Scheduler:
    """The ceilings of a SLURM, PBS or LSF job on this node.

    Args:
        root: not used; every limit takes it.
        environ: the environment to look at, this process's own by default.
    """

    def __init__(self, root: Path = SYSTEM, environ: Mapping[str, str] | None = None) -> None:
        self._environ = os.environ if environ is None else environ

    def read(self) -> Sequence[Ceiling]:
        """The ceilings named in the environment. Never raises."""
        ceilings = []
        for job, find in (("SLURM_JOB_ID", _slurm), ("PBS_JOBID", _pbs), ("LSB_JOBID", _lsf)):
            number = self._environ.get(job)
            bytes_, variables = find(self._environ) if number else (0, "")
            if bytes_ > 0:
                ceilings.append(Ceiling(bytes_, "tree", f"{variables} of job {number}"))
        return ceilings


def _slurm(environ: Mapping[str, str]) -> tuple[int, str]:
    """SLURM sets one of three; a unit after the number is rare but allowed."""
    if "SLURM_MEM_PER_NODE" in environ:
        return _size(environ["SLURM_MEM_PER_NODE"], MiB), "SLURM_MEM_PER_NODE"
    for memory, count in (
        ("SLURM_MEM_PER_CPU", "SLURM_CPUS_ON_NODE"),
        ("SLURM_MEM_PER_GPU", "SLURM_GPUS_ON_NODE"),
    ):
        if memory in environ:
            each = _size(environ[memory], MiB)
            return each * _size(environ.get(count, "1"), 1), f"{memory} x {count}"
    return 0, ""


def _pbs(environ: Mapping[str, str]) -> tuple[int, str]:
    for name in ("PBS_RESC_MEM", "PBS_VMEM"):
        if name in environ:
            return _size(environ[name], 1), name
    return 0, ""


def _lsf(environ: Mapping[str, str]) -> tuple[int, str]:
    try:
        return int(environ.get("LSB_CG_MEMLIMIT", ""), 16), "LSB_CG_MEMLIMIT"
    except ValueError:
        return 0, ""


def _size(value: str, unit: int) -> int:
    """A bare number times ``unit``, or a number with its own unit; 0 for anything else."""
    value = value.strip()
    if (number := foreign.whole(value)) is not None:
        return number * unit
    try:
        return parse_size(value)
    except UsageError:
        return 0
