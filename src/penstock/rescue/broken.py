"""Our errors as subclasses of what scripts catch when their pool breaks."""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool

from penstock import errors


class PoolWorkerDied(errors.WorkerDied, BrokenProcessPool):
    """Caught by handlers of a broken pool; here one call has failed, and no other."""


class PoolItemTooLarge(errors.ItemTooLarge, BrokenProcessPool):
    """The same, for a call that its original pool would not have survived."""
