"""Our errors for a script that looks for the end of its pool."""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool

from penstock import errors


class PoolWorkerDied(errors.WorkerDied, BrokenProcessPool):
    """What a script expects that looks for the end of a pool: here one call has failed, and no other."""


class PoolItemTooLarge(errors.ItemTooLarge, BrokenProcessPool):
    """The same, for a call that its pool would not have survived."""
