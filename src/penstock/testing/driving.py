"""Drives a backend's workers in a test: starts them, sends orders, waits for answers."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.abc import Death, Message
from penstock.identity import after_command
from penstock.testing import puppet
from penstock.testing.puppet import Puppet

PATIENCE = 20.0
"""Seconds after which something that should happen has not happened."""


class BackendDriver:
    """Shared by the tests of a backend."""

    def make(self) -> Any:
        """A backend, not yet opened."""
        raise NotImplementedError("a BackendSuite needs make()")

    def server(self, backend: Any) -> int | None:
        """The process that starts the workers, if there is one; it is killed."""
        return None

    @pytest.fixture
    def backend(self) -> Iterator[Any]:
        backend = self.make()
        self.open(backend)
        self.inbox: list[Message | Death] = []
        yield backend
        backend.close()

    def open(self, backend: Any, job: Any = None, log: Path | None = None, **environment: str) -> None:
        backend.open(pickle.dumps(job or Puppet()), environment, log)

    def need(self, power: str) -> None:
        if not getattr(self, power):
            pytest.skip(f"this backend says {power} = False")

    def next(self, backend: Any, worker: int, *, patience: float = PATIENCE) -> Any:
        """A worker's next message, or its Death."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            for number, each in enumerate(self.inbox):
                if each.worker == worker:
                    del self.inbox[number]
                    return each if isinstance(each, Death) else each.content
            self.inbox += backend.wait(0.05)
        raise AssertionError(f"worker {worker} was not heard of for {patience:g} s")

    def begin(self, backend: Any) -> tuple[int, int]:
        """Start a worker; returns (its number, its pid)."""
        worker: int = backend.start()
        ready, _, pid = self.next(backend, worker)
        assert ready == puppet.READY
        return worker, pid

    def ask(self, backend: Any, worker: int, order: Callable[..., Any]) -> Any:
        """Send an order and wait for the answer."""
        backend.send(worker, order)
        (answer,) = self.next(backend, worker)
        return answer

    def until(self, what: Callable[[], Any], why: str) -> None:
        """Wait until a condition holds."""
        deadline = time.monotonic() + PATIENCE
        while not what():
            assert time.monotonic() < deadline, why
            time.sleep(0.01)

    def gone(self, *pids: int) -> None:
        """Wait until all these processes have ended."""
        self.until(lambda: not any(_runs(pid) for pid in pids), f"some of {pids} are still there")


def _runs(pid: int) -> bool:
    """Whether a process is there and is no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return after_command(stat).split()[0] not in (b"Z", b"X")
