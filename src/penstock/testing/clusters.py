"""Conformance suite for a cluster."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.abc import Broken, Cluster, Cut, Lease, NodeLost, NodeOptions, Returned
from penstock.budget import MiB
from penstock.files import digest
from penstock.reducers import Sum
from penstock.runs.job import Job
from penstock.runs.spec import JobSpec
from penstock.sinks import Collect
from penstock.sources import Range

_PATIENCE = 120.0
"""Seconds after which something that should happen has not happened."""
_MARK = "PENSTOCK_CLUSTER_SUITE"


def slowly(item: int) -> float:
    """The nodes' function: a twentieth of a second an item."""
    time.sleep(0.05)
    return item / 3


def largely(item: int) -> bytes:
    """Another: a result of a tenth of a megabyte an item."""
    return bytes(100_000)


class _Trap:
    """Says so, where it is unpickled."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._file,)


_SLOW = Job(source=Range(1000), function=slowly, into=Sum(grain=5))
_LARGE = Job(source=Range(1000), function=largely)


class ClusterSuite:
    """Subclass it, give ``make`` and ``kill``; nodes must see ``tmp_path`` of this machine."""

    def make(self) -> Any:
        """A cluster of two or more nodes, not yet opened."""
        raise NotImplementedError("a ClusterSuite needs make()")

    def kill(self, cluster: Any, node: str) -> None:
        """Kill a node's process tree with SIGKILL, behind the cluster's back."""
        raise NotImplementedError("a ClusterSuite needs kill()")

    # ------------------------------------------------------------------ what the tests share

    @pytest.fixture
    def mark(self, monkeypatch: pytest.MonkeyPatch) -> str:
        """A mark in the environment of everything that a test starts."""
        mark = uuid.uuid4().hex
        monkeypatch.setenv(_MARK, mark)
        return mark

    @pytest.fixture
    def cluster(self, mark: str) -> Iterator[Any]:
        cluster = self.make()
        self.inbox: list[tuple[str, Any]] = []
        yield cluster
        cluster.close()
        cluster.leave()

    def open(
        self,
        cluster: Cluster,
        folder: Path,
        *,
        spoil: bool = False,
        spec: JobSpec = _SLOW,
        durable: bool = True,
    ) -> None:
        """Open it with a job of 1,000 items."""
        place = folder / ".penstock" / "drafts" / ("0" * 32)
        place.mkdir(parents=True)
        outputs = spec.outputs(temporary=not durable)
        packed = spec.pack(spec.setup(outputs, folder, folder / ".penstock", durable=durable))
        job = place / "job"
        job.write_bytes(packed)
        told = digest(job)
        if spoil:
            import cloudpickle

            job.write_bytes(cloudpickle.dumps(_Trap(folder / "unpickled")))
        options = NodeOptions(
            drafts=place.parent, budget=600 * MiB, requested=600 * MiB, workers=1, call=None, memory=None,
            threads=None, stall=600.0, timeout=None, set_aside=True, umask=0o022,
            log=folder / "workers.log", held=0,
        )  # fmt: skip
        cluster.open(job, told, options)

    def hear(self, cluster: Cluster, wanted: Callable[[], Any]) -> Any:
        """Receive until a condition holds."""
        deadline = time.monotonic() + _PATIENCE
        while not (found := wanted()):
            assert time.monotonic() < deadline, f"it did not happen in {_PATIENCE:.0f} s; told: {self.inbox}"
            self.inbox += cluster.wait(0.2)
        return found

    def said(self, kind: type, node: str | None = None) -> list[Any]:
        """The messages of one kind from nodes."""
        return [
            told for token, told in self.inbox if isinstance(told, kind) and (node is None or token == node)
        ]

    def left(self, mark: str) -> list[int]:
        """Processes other than this one that carry the mark."""
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if f"{_MARK}={mark}".encode() in path.read_bytes() and int(path.parent.name) != os.getpid():
                    found.append(int(path.parent.name))
            except OSError:
                continue
        return found

    # ------------------------------------------------------------------ the tests

    def test_a_run_keeps_the_same_bytes_as_on_one_machine(self, cluster: Any, tmp_path: Path) -> None:
        """For a list and a sum of floats, whose bytes depend on the order."""
        job = Job(source=Range(60), function=lambda item: item / 7, into=Collect())
        for name, where in (("here", {}), ("there", {"cluster": cluster})):
            report = job.run(tmp_path / name, budget="700MiB", **where)
            assert report.result == [item / 7 for item in range(60)]
        here, there = (tmp_path / name / "results.jsonl" for name in ("here", "there"))
        assert here.read_bytes() == there.read_bytes()

    def test_leases_come_back_and_a_killed_node_is_told_of(
        self, cluster: Any, tmp_path: Path, mark: str
    ) -> None:
        """Whole, by time, and cut; then only the loss, with no process left."""
        self.open(cluster, tmp_path)
        assert not cluster.nodes()
        assert cluster.coming()
        nodes = self.hear(cluster, lambda: len(cluster.nodes()) > 1 and list(cluster.nodes()))
        first, second = nodes[:2]
        assert len({*nodes}) == len(nodes)
        for token, node in cluster.nodes().items():
            assert (tmp_path / ".penstock" / "drafts" / token).is_dir()
            assert node.budget > 0
            assert node.cores > 0
        # Two leases in a row, the second of which has hardly any time.
        cluster.send(first, Lease(1, 0, 5, 600.0))
        cluster.send(first, Lease(2, 5, 400, 0.01))
        self.hear(cluster, lambda: len(self.said(Returned, first)) == 2)
        whole, short = self.said(Returned, first)
        assert [line["kept"] for line in whole.lines] == [[0, 5]]
        kept = sum(line["kept"][1] - line["kept"][0] for line in short.lines)
        assert short.ticket == 2
        assert kept < 395
        # Cut: it gives back what it has, and ends.
        cluster.send(first, Lease(3, 400, 800, 600.0))
        cluster.send(first, Cut())
        self.hear(cluster, lambda: any(told.ticket == 3 for told in self.said(Returned, first)))
        self.hear(cluster, lambda: self.said(NodeLost, first))
        # Killed with a lease: nothing is told of that, and nobody is hurt by sending to it.
        cluster.send(second, Lease(4, 800, 1000, 600.0))
        self.kill(cluster, second)
        self.hear(cluster, lambda: self.said(NodeLost, second))
        assert not any(told.ticket == 4 for told in self.said(Returned))
        assert second not in cluster.nodes()
        cluster.send(second, Cut())
        cluster.end(second)
        cluster.close()
        deadline = time.monotonic() + _PATIENCE
        while self.left(mark):
            assert time.monotonic() < deadline, "a process of a node is left"
            time.sleep(0.05)

    def test_a_lease_brings_as_many_bytes_as_it_may_and_gives_the_rest_back(
        self, cluster: Any, tmp_path: Path
    ) -> None:
        """So that results do not come faster than they are taken."""
        self.open(cluster, tmp_path, spec=_LARGE, durable=False)
        node = self.hear(cluster, lambda: next(iter(cluster.nodes()), None))
        for ticket in (1, 2):
            cluster.send(node, Lease(ticket, 500 * ticket - 500, 500 * ticket, 600.0, most_bytes=MiB))
        self.hear(cluster, lambda: len(self.said(Returned, node)) == 2)
        for told in self.said(Returned, node):
            kept = sum(line["kept"][1] - line["kept"][0] for line in told.lines)
            # What was begun before that is brought too.
            assert MiB < kept * 100_000 < 3 * MiB

    def test_a_job_that_is_not_what_was_packed_is_not_unpickled(self, cluster: Any, tmp_path: Path) -> None:
        """Its digest is compared first."""
        self.open(cluster, tmp_path, spoil=True)
        self.hear(cluster, lambda: self.said(Broken))
        assert "not what was packed" in self.said(Broken)[0].message
        assert not (tmp_path / "unpickled").exists()

    def test_a_wait_ends_when_it_is_woken(self, cluster: Any, tmp_path: Path) -> None:
        """From another thread, or before the wait began."""
        self.open(cluster, tmp_path)
        began = time.monotonic()
        cluster.wake()
        self.inbox += cluster.wait(_PATIENCE)
        assert time.monotonic() - began < _PATIENCE
