"""The limits on one process alone that the kernel enforces: ``ulimit -v`` and ``ulimit -d``.

RLIMIT_AS counts address space, touched or not, mapped files included; RLIMIT_DATA counts private
writable memory. RLIMIT_RSS has had no effect since Linux 2.4.30 and is not read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from penstock.budget import Ceiling
from penstock.proc import SYSTEM, fields, text

# name in /proc/self/limits, name for people, name in /proc/self/status, name in the module resource
_LIMITS = (
    ("Max address space", "RLIMIT_AS (ulimit -v)", "VmSize", "RLIMIT_AS"),
    ("Max data size", "RLIMIT_DATA (ulimit -d)", "VmData", "RLIMIT_DATA"),
)


class ResourceLimit:
    """Ceilings of ``scope="process"``; ``used`` is what this process has against each.

    Args:
        root: where ``/proc`` lies.
        environ: not used; every limit takes it.
    """

    def __init__(self, root: Path = SYSTEM, environ: Mapping[str, str] | None = None) -> None:
        self._root = root

    def read(self) -> Sequence[Ceiling]:
        """The ceilings as they stand now. Never raises."""
        content = text(self._root / "proc/self/limits")
        if not content and self._root == SYSTEM:
            return _from_system()
        ceilings = []
        for line, origin, name, _ in _LIMITS:
            soft = re.search(rf"^{line}\s+(\d+)", content, re.MULTILINE)
            if soft:
                used = fields(text(self._root / "proc/self/status")).get(name, 0)
                ceilings.append(Ceiling(int(soft[1]), "process", origin, used))
        return ceilings


def _from_system() -> list[Ceiling]:
    """The same where there is no ``/proc`` (macOS)."""
    import resource

    ceilings = []
    for _, origin, _, constant in _LIMITS:
        soft, _ = resource.getrlimit(getattr(resource, constant))
        if soft not in (resource.RLIM_INFINITY, -1):
            ceilings.append(Ceiling(soft, "process", origin))
    return ceilings
