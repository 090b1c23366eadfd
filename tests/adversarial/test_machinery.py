"""Our own processes and threads fail: the run goes on, or says so and ends; it never hangs."""

import os
import signal
import threading
import time
from concurrent.futures import BrokenExecutor
from contextlib import closing
from pathlib import Path

import pytest

import penstock
from penstock import discover
from penstock.abc import Backend, Ceiling, MoreOfABackend
from penstock.budget import Budget, GiB, MiB
from penstock.errors import PenstockBug


def nap(item):
    time.sleep(0.02)
    return item


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def fork_server():
    """The child of ours that has the workers."""
    (server,) = [
        child
        for child in children(os.getpid())
        if b"forkserver" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]
    return server


def stop_the_server_once(seen):
    """An observer that stops it when the first batch was done."""

    def observe(event):
        if event.kind == "batch_done" and not seen:
            seen.append(fork_server())
            os.kill(seen[0], signal.SIGSTOP)
            for worker in children(seen[0]):  # what they have is lost, and nobody tells of it
                os.kill(worker, signal.SIGKILL)

    return observe


def test_a_stopped_fork_server_is_replaced_and_the_run_is_done():
    seen = []
    done = penstock.run(nap, range(60), budget="2GiB", workers=2, observers=[stop_the_server_once(seen)])
    assert done.result == list(range(60))
    assert seen
    assert not Path(f"/proc/{seen[0]}").exists()


def test_a_stopped_fork_server_is_replaced_under_an_executor():
    seen = []
    with penstock.Executor(budget="2GiB", workers=2, observers=[stop_the_server_once(seen)]) as pool:
        assert list(pool.map(nap, range(60))) == list(range(60))
    assert seen


class Broken:
    """A backend whose readings fail from a moment on."""

    def __init__(self):
        from penstock.backends.local import Local

        self._local = Local()
        self.broken = threading.Event()

    def __getattr__(self, name):
        return getattr(self._local, name)

    def read(self):
        if self.broken.is_set():
            raise ZeroDivisionError("a bug of ours")
        return self._local.read()


def test_a_governor_that_failed_ends_the_run_and_every_worker():
    backend = Broken()
    pids = []

    def observe(event):
        if event.kind == "batch_done" and not pids:
            pids.extend(children(fork_server()))
            backend.broken.set()

    with pytest.raises(PenstockBug, match=r"governor.*ZeroDivisionError: a bug of ours"):
        penstock.run(nap, range(10_000), budget="2GiB", workers=2, backend=backend, observers=[observe])
    assert pids
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert not [thread for thread in threading.enumerate() if thread.name == "penstock-governor"]


def test_a_governor_that_failed_breaks_an_executor():
    backend = Broken()
    with penstock.Executor(budget="2GiB", backend=backend) as pool:
        futures = [pool.submit(nap, item) for item in range(200)]
        futures[0].result()
        backend.broken.set()
        with pytest.raises(PenstockBug, match="governor"):
            futures[-1].result()
        with pytest.raises(BrokenExecutor, match="governor"):
            pool.submit(nap, 1)
    backend.close()


def test_a_strangers_limit_that_raises_now_and_then_ends_nothing(monkeypatch):
    class Now:
        count = 0

        def read(self):
            self.count += 1
            if self.count % 3 == 0:
                raise OSError(116, "Stale file handle")
            return [Ceiling(2 * GiB, "tree", "a stranger's")]

    gauge = discover.Gauge([Now()])
    monkeypatch.setattr(discover, "Gauge", lambda limits=None: gauge)
    with pytest.warns(RuntimeWarning, match="memory limit 'Now 0' cannot be read"):
        done = penstock.run(nap, range(30), budget="1GiB", workers=2)
    assert done.result == list(range(30))


NEEDED = [name for name in vars(Backend) if not name.startswith("_")]


class Plain:
    """A backend with what it must have, and nothing besides."""

    def __init__(self):
        from penstock.backends.local import Local

        local = Local()
        for name in set(NEEDED) - {"cpu"}:
            setattr(self, name, getattr(local, name))
        self._local = local

    @property
    def cpu(self):
        return self._local.cpu


def test_the_engine_does_without_what_a_backend_need_not_have():
    assert len(NEEDED) == 15
    assert not any(name in NEEDED for name in vars(MoreOfABackend) if not name.startswith("_"))
    done = penstock.run(nap, range(40), budget="2GiB", workers=2, backend=Plain())
    assert done.result == list(range(40))
    with closing(Plain()) as backend, penstock.Executor(budget="2GiB", workers=2, backend=backend) as pool:
        assert list(pool.map(nap, range(10))) == list(range(10))


def test_an_executor_goes_by_the_budget_in_force():
    """One that followed a limit counts for the room of a result that is asked for, too."""
    with penstock.Executor(budget="2GiB", workers=1) as pool:
        future = pool.submit(nap, 1)
        assert future.result() == 1
        in_force = pool._service._loop.stage.budget
        in_force.now = Budget(64 * MiB, "a limit that moved")
        assert pool._service.budget is in_force
        with pytest.raises(penstock.CannotFit, match=r"64.0 MiB \(a limit that moved\)"):
            future._check_room(64 * MiB)
