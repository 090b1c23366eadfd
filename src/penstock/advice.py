"""What to ask for next time, in the words of a batch system or a container. Pure.

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
    """Bytes of a limit in which the same command passes: peak + 10 % (64 MiB, if that is more), rounded up.

    Args:
        peak: the most that the tree held, anonymous + shared bytes.
        tables: bytes that the kernel held for it besides, page tables and stacks.
    """
    return rounded(peak + tables + max(peak // 10, _MARGIN))


def rounded(size: int) -> int:
    """Up to a number that people write: whole GiB, under 4 GiB quarters of one, under 1 GiB 64 MiB."""
    step = GiB if size > 4 * GiB else GiB // 4 if size > GiB else _MARGIN
    return -(-size // step) * step


def request(system: str, size: int) -> str:
    """How to ask ``system`` (one of ``SYSTEMS``) for ``size`` bytes, a multiple of 1 MiB."""
    number, unit = (size // GiB, "G") if size % GiB == 0 else (size // MiB, "M")
    if system == "docker":
        return f"--memory={number}{unit.lower()}"
    if system == "k8s":
        return f"resources.limits.memory: {number}{unit}i"
    return f"#SBATCH --mem={number}{unit}"


def phrases(text: str) -> list[str]:
    """A text in parts of which every second one is a request, as :func:`request` says it."""
    return _REQUEST.split(text)


def here(environ: Mapping[str, str], root: Path = SYSTEM) -> str:
    """The system that this process runs in, as far as it tells; else SLURM."""
    if "SLURM_JOB_ID" in environ:
        return "slurm"
    if "KUBERNETES_SERVICE_HOST" in environ:
        return "k8s"
    if (root / ".dockerenv").exists() or (root / "run/.containerenv").exists():
        return "docker"
    return "slurm"
