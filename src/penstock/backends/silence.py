"""Liveness: whether a process that owes an answer had the CPU time to give it."""

from __future__ import annotations

import time

from penstock.backends.processes import cpu_seconds, state
from penstock.patience import Patience

_IDLE_SECONDS = 30.0
_STOPPED_SECONDS = 5.0
"""A process that somebody stopped is not waited for longer."""
_LOOK_EVERY = 0.5


class Silence:
    """How long a process has neither answered nor used CPU.

    Args:
        seconds: without CPU, that are too long.
    """

    def __init__(self, seconds: float = _IDLE_SECONDS) -> None:
        self._idle = Patience(seconds)
        self._stopped = Patience(_STOPPED_SECONDS)
        self._cpu = 0.0
        self._next = 0.0

    def renew(self) -> None:
        """It has answered, or owes nothing."""
        self._idle.renew()
        self._stopped.renew()

    def over(self, pid: int) -> str:
        """Why it is no longer waited for: ``"stopped"`` or ``"idle"``; "" while it is."""
        now = time.monotonic()
        if now < self._next:
            return ""
        self._next = now + _LOOK_EVERY
        used = cpu_seconds(pid)
        if used != self._cpu:
            self._cpu = used
            self._idle.renew()
        if state(pid) not in ("T", "t"):
            self._stopped.renew()
        elif self._stopped.over(now):
            return "stopped"
        return "idle" if self._idle.over(now) else ""


class Silent(Exception):
    """A process does not answer."""
