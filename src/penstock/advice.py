"""What memory to request next time, in the words of a batch system or a container. Pure.

Of a run it is the budget in which the same plan fits; of a command under supervision its peak and a margin.
A limit counts more than what a program holds: the kernel's page tables and stacks for it, this
supervisor, the files it cannot do without. The margin stands for these; the page cache needs none, since
the kernel takes it back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from penstock.budget import GiB, MiB
from penstock.proc import SYSTEM

SYSTEMS = ("slurm", "docker", "k8s")
_MARGIN = 64 * MiB
_REQUEST = re.compile(
    r"((?:--memory=\d+[gm]|resources\.limits\.memory: \d+[GM]i|#SBATCH --mem=\d+[GM])(?!\w))"
)


def enough(peak: int, tables: int = 0) -> int:
    """A limit in bytes in which the same command passes: peak + 10 % (at least 64 MiB), rounded up.

    Args:
        peak: the most that the tree held, anonymous + shared bytes.
        tables: bytes that the kernel held for it besides, page tables and stacks.
    """
    return rounded(peak + tables + max(peak // 10, _MARGIN))


def rounded(size: int) -> int:
    """Round up to a number that people write: whole GiB; quarters below 4 GiB; 64 MiB steps below 1 GiB."""
    step = GiB if size > 4 * GiB else GiB // 4 if size > GiB else _MARGIN
    return -(-size // step) * step


def request(system: str, size: int) -> str:
    """How to request ``size`` bytes, a multiple of 1 MiB, from ``system`` (one of ``SYSTEMS``)."""
    number, unit = (size // GiB, "G") if size % GiB == 0 else (size // MiB, "M")
    if system == "docker":
        return f"--memory={number}{unit.lower()}"
    if system == "k8s":
        return f"resources.limits.memory: {number}{unit}i"
    return f"#SBATCH --mem={number}{unit}"


def phrases(text: str) -> list[str]:
    """A text split into parts, every second of which is a request as made by :func:`request`."""
    return _REQUEST.split(text)


def here(environ: Mapping[str, str], root: Path = SYSTEM) -> str:
    """The system that this process runs in, as far as the environment tells; else SLURM."""
    if "SLURM_JOB_ID" in environ:
        return "slurm"
    if "KUBERNETES_SERVICE_HOST" in environ:
        return "k8s"
    if (root / ".dockerenv").exists() or (root / "run/.containerenv").exists():
        return "docker"
    return "slurm"
