"""The batch jobs that run our nodes: submitted, and cancelled.

dask-jobqueue says how a job looks and is submitted. Not by ``scale`` of its cluster: that tells of no job
that was refused, cancels one that was requeued and is not back in 15 s, and cannot be closed after it has had
jobs (it waits for a state that they never take).
"""

from __future__ import annotations

import asyncio
import shlex
import subprocess
import threading
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from typing import Any

from penstock import foreign
from penstock.errors import UsageError

_AT_ONCE = 8
"""Commands that submit a job, at one time."""
_HOPELESS = 3
"""So many jobs that were refused before any was taken: all will be."""
_SUBMIT_SECONDS = 60.0
"""In which a job has its number: one without cannot be ended, only left to end when it finds no scheduler."""
_CANCEL_SECONDS = 30.0
_CLOSE_SECONDS = 20
_CANCELLED_AT_ONCE = 100


class Submitted:
    """Jobs that were submitted or are being submitted.

    Args:
        cluster: of dask-jobqueue, which has no jobs. It is closed with these.
        count: how many.
    """

    def __init__(self, cluster: Any, count: int) -> None:
        self._cluster = cluster
        self._count = count
        self._stopping = False
        self._changed = threading.Condition()
        self._numbers: list[str] = []
        self._refused: list[str] = []
        self._submitting = asyncio.run_coroutine_threadsafe(self._submit(), cluster.loop.asyncio_loop)

    @property
    def numbers(self) -> list[str]:
        """The ids by which the batch system knows them."""
        return list(self._numbers)

    @property
    def refused(self) -> str:
        """Why some were not accepted; empty if all were."""
        if not self._refused:
            return ""
        return f"{len(self._refused)} of {self._count} were refused: {self._refused[-1]}"

    def expect_one(self) -> None:
        """Wait until the batch system has accepted one.

        Raises:
            UsageError: it takes none.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._numbers or len(self._refused) >= min(_HOPELESS, self._count), _SUBMIT_SECONDS
            )
        if not self._numbers:
            raise UsageError(self.refused or f"no job was taken in {_SUBMIT_SECONDS:.0f} s")

    def end(self) -> None:
        """Cancel all. Waits for a submission in progress, which has no id yet."""
        self._stopping = True
        with suppress(FutureTimeout):
            self._submitting.result(_SUBMIT_SECONDS)
        cancel = shlex.split(self._cluster.job_cls.cancel_command)
        numbers = self.numbers
        for first in range(0, len(numbers), _CANCELLED_AT_ONCE):
            _run([*cancel, *numbers[first : first + _CANCELLED_AT_ONCE]])
        with suppress(Exception):  # what could go wrong there holds nobody up any more
            self._cluster.close(timeout=_CLOSE_SECONDS)

    async def _submit(self) -> None:
        gate = asyncio.Semaphore(_AT_ONCE)
        ((name, spec),) = self._cluster.new_worker_spec().items()
        await asyncio.gather(*(self._submit_one(gate, f"{name}-{each}", spec) for each in range(self._count)))

    async def _submit_one(self, gate: asyncio.Semaphore, name: str, spec: Any) -> None:
        async with gate:
            if self._stopping or (len(self._refused) >= _HOPELESS and not self._numbers):
                return
            try:
                job = spec["cls"](self._cluster.scheduler_address, name=name, **spec["options"])
                await job.start()
            except Exception as error:
                why = str(error).rpartition("stderr:\n")[2].strip()  # of the command that submits
                self._refused.append(foreign.line(why) or foreign.reason_of(error))
            else:
                self._numbers.append(str(job.job_id))
            with self._changed:
                self._changed.notify_all()


def _run(command: list[str]) -> None:
    """Run a command that may meet a busy batch system: twice at most."""
    for _ in range(2):
        with suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(command, capture_output=True, timeout=_CANCEL_SECONDS)
            if done.returncode == 0:
                return
