"""Where a disturbed run has its nodes: on this machine, or on a Dask cluster of processes of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from left_over import marked, until

from penstock import proc

WORKERS = 2


def tree(pid: int) -> set[int]:
    """A process and all below it."""
    return {pid, *proc.descendants(pid)}


def signal_all(pids: set[int], number: int) -> None:
    """Send a signal to each that is there."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


class Local:
    """``local:2``."""

    where = f"local:{WORKERS}"

    def __init__(self, folder: Path, mark: str) -> None:
        self.mark = mark

    def up(self) -> None:
        """Nothing is needed."""

    def mend(self) -> None:
        """Nothing is broken."""

    def down(self) -> None:
        """Nothing was started."""


class Dask:
    """A scheduler and two Dask workers with nannies, which a round may kill."""

    host = "127.0.0.1"
    """Of the scheduler."""
    ttl = "5s"
    """After which a worker that does not say anything is given up by the scheduler."""

    def __init__(self, folder: Path, mark: str) -> None:
        self.mark = mark
        self._folder = folder
        self._place = folder / "scheduler.json"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def where(self) -> str:
        """For ``cluster=``."""
        return f"dask:{self._place}"

    def up(self) -> None:
        """Start it."""
        self._place.unlink(missing_ok=True)
        self._start("scheduler", "--port", "0", "--scheduler-file", str(self._place))
        until(self._place.exists, what="the scheduler")
        for number in range(WORKERS):
            self._worker(number)
        until(lambda: len(self.workers()) == WORKERS, what="the Dask workers")

    def _worker(self, number: int) -> None:
        options = ["--scheduler-file", str(self._place), "--nthreads", "1", "--memory-limit", "0"]
        self._start(f"worker-{number}", *options, "--local-directory", str(self._folder))

    def _start(self, name: str, *options: str) -> None:
        program = "distributed.cli.dask_" + name.partition("-")[0]
        environ = {
            **os.environ,
            self.mark.partition("=")[0]: self.mark.partition("=")[2],
            "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": self.ttl,
        }
        with open(self._folder / f"{name}.log", "ab") as log:
            self._processes[name] = subprocess.Popen(
                [
                    *self.prefix(name), sys.executable, "-m", program, *options,
                    "--no-dashboard", "--host", self.address(name),
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environ,
            )  # fmt: skip

    def prefix(self, name: str) -> Sequence[str]:
        """Before the command of one of the processes."""
        return ()

    def address(self, name: str) -> str:
        """At which it listens."""
        return self.host

    @property
    def scheduler(self) -> int:
        """Its process."""
        return self._processes["scheduler"].pid

    def workers(self) -> list[int]:
        """Processes of the Dask workers, below their nannies."""
        found = []
        for name, nanny in self._processes.items():
            if name.startswith("worker"):
                found += [pid for pid in proc.descendants(nanny.pid) if b"spawn_main" in _command(pid)]
        return found

    def mend(self) -> None:
        """Start anew what has ended."""
        if self._processes["scheduler"].poll() is not None:
            self.down()
            self.up()
            return
        for name, process in list(self._processes.items()):
            if process.poll() is not None:
                self._worker(int(name.rpartition("-")[2]))
        until(lambda: len(self.workers()) == WORKERS, what="the Dask workers")

    def down(self) -> None:
        """End it."""
        for process in self._processes.values():
            pids = tree(process.pid)
            signal_all(pids, signal.SIGKILL)
            process.wait()
        self._processes.clear()
        signal_all(set(marked(self.mark)), signal.SIGKILL)


def _command(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""
