"""Thousands of nodes that are a script, led by the real deciding code on a clock that nobody waits for.

What a node tells is packed and unpacked as on its pipe, and lines go to a real journal (not synchronised).
"""

from __future__ import annotations

import random
import resource
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock.abc import Cut, Lease, Told
from penstock.backends.frames import Unpacker, pack
from penstock.record.journal import Journal
from penstock.testing import FakeClock, FakeCluster, FakeNode, lead

WORKERS = 16
"""Of each node."""
SILENCE = 60.0
MiB = 1 << 20


@dataclass(frozen=True)
class World:
    """Nodes, of which some are slow and some die."""

    nodes: int
    items: int
    seconds: float
    """An item takes so long."""
    slow: float = 0.01
    """Part of the nodes that are four times slower."""
    die: float = 0.01
    """Part of the nodes that die."""

    @property
    def ideal(self) -> float:
        """Seconds, if all nodes lived, and none waited at the end."""
        return self.items / sum(node.speed for node in self.made())

    def made(self) -> list[FakeNode]:
        """The nodes. All differ by up to a tenth: what ends in one moment would be one turn of the lead."""
        chance = random.Random(16)
        speeds = [chance.uniform(0.9, 1.1) * WORKERS / self.seconds for _ in range(self.nodes)]
        speeds = [speed / 4 if chance.random() < self.slow else speed for speed in speeds]
        ideal = self.items / sum(speeds)
        dies = [chance.uniform(0, ideal) if chance.random() < self.die else float("inf") for _ in speeds]
        return [FakeNode(speed, dies=when, silence=SILENCE) for speed, when in zip(speeds, dies, strict=True)]


@dataclass(frozen=True)
class Seen:
    """What came of it."""

    leases: int
    again: int
    """Items that were lent again: of nodes that died, and given back."""
    over_ideal: float
    lines: int
    journal: int
    """Bytes."""
    grown_early: int
    grown: int
    """Bytes that this process grew by from before the first lease: at a tenth of the leases, at the end."""
    cpu: float
    """CPU seconds of this process, the script's own among them."""
    script: float
    """CPU seconds of the script alone: what plays nodes and packs for them."""


class _Piped(FakeCluster):
    """Counts, keeps no lease, and has all that is said go through frames as on a pipe."""

    def __init__(self, world: World, clock: FakeClock) -> None:
        super().__init__(world.made(), clock, batch=WORKERS, folds=True)
        self._unpacker = Unpacker()
        self.leases = self.lent = 0
        self.script = 0.0

    def send(self, node: str, message: Lease | Cut) -> None:
        pack(message)
        began = time.process_time()
        super().send(node, message)
        self.sent.clear()
        if isinstance(message, Lease):
            self.leases += 1
            self.lent += message.stop - message.start
        self.script += time.process_time() - began

    def wait(self, timeout: float) -> list[tuple[str, Told]]:
        began = time.process_time()
        frames = [pack(each) for each in super().wait(timeout)]
        self.script += time.process_time() - began
        return [each for frame in frames for each in self._unpacker.feed(frame)]


def play(world: World) -> Seen:
    """Have it worked to the end.

    Raises:
        AssertionError: an item is in no line, or in two.
    """
    clock = FakeClock()
    cluster = _Piped(world, clock)
    with tempfile.TemporaryDirectory(prefix="penstock-benchmark-") as folder:
        path = Path(folder, "journal")
        book = _Counted(Journal(path, durable=False), cluster, world)
        led = lead(cluster, world.items, clock, book=book)
        before, cpu, began = _rss(), time.process_time(), clock()
        led.lead.run()
        cpu = time.process_time() - cpu
        assert book.items == world.items, f"{book.items:,} items of {world.items:,} are in lines"
        return Seen(
            cluster.leases, cluster.lent - world.items, (clock() - began) / world.ideal, book.lines,
            path.stat().st_size, book.early - before, _rss() - before, cpu, cluster.script,
        )  # fmt: skip


class _Counted:
    def __init__(self, journal: Journal, cluster: _Piped, world: World) -> None:
        self._journal, self._cluster, self._world = journal, cluster, world
        self.lines = self.items = self.early = 0

    def write(self, *entries: Mapping[str, Any]) -> None:
        self._journal.write(*entries)
        self.lines += len(entries)
        self.items += sum(line["kept"][1] - line["kept"][0] for line in entries if "kept" in line)
        if not self.early and self.items >= self._world.items / 10:
            self.early = _rss()


def _rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
