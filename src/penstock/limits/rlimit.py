"""Per-process limits that the kernel enforces: ``ulimit -v`` and ``ulimit -d``.

RLIMIT_AS counts address space, touched or not, mapped files included; RLIMIT_DATA counts private
writable memory. RLIMIT_RSS has had no effect since Linux 2.4.30 and is not read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from penstock.budget import Ceiling
from penstock.proc import SYSTEM, KernelFile, find

# name in /proc/self/limits, name for people, line of /proc/self/status, name in the module resource
_LIMITS = (
    (b"Max address space", "RLIMIT_AS (ulimit -v)", b"VmSize:", "RLIMIT_AS"),
    (b"Max data size", "RLIMIT_DATA (ulimit -d)", b"VmData:", "RLIMIT_DATA"),
)


class ResourceLimit:
    """Ceilings of ``scope="process"``; ``used`` is what counts against each in this process.

    Args:
        root: where ``/proc`` lies.
        environ: not used; every limit takes it.
    """

    def __init__(self, root: Path = SYSTEM, environ: Mapping[str, str] | None = None) -> None:
        self._limits = KernelFile(root / "proc/self/limits")
        self._status = KernelFile(root / "proc/self/status")
        self._is_real = root == SYSTEM

    def read(self) -> Sequence[Ceiling]:
        """The current ceilings. Never raises."""
        content = self._limits.read()
        if not content and self._is_real:
            return _from_system()
        ceilings = []
        for line, origin, name, _ in _LIMITS:
            soft = find(content, line)  # "unlimited" is no number
            if soft is not None and soft > 0:
                used = (self._status.value(name) or 0) * 1024
                ceilings.append(Ceiling(soft, "process", origin, used))
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
