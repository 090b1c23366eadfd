"""Projects what a table of a given shape will need, before there is one: memory, temporary disk, time.

Memory and disk are arithmetic: blocks have a fixed number of cells. Times are rates measured in a run of
700 x 800,000 (see ``README.md``); another machine's differ, in proportion.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from penstock.budget import MiB, format_size
from penstock.errors import UsageError
from penstock.workloads.snv.table import CELLS

_PARENT = 85 * MiB
"""Parent and fork server, with the compiler loaded."""
_WORKER = 40 * MiB
"""A worker before its first block: Arrow, pages of its own."""
_CELL = 8 * 4 + 2 * 4 + 128 + 16
"""Bytes of a cell of a block: reads, quality and indels, its features, and what is between."""
_BRACKET = 2048 * 4
"""Bytes for each sample while medians are counted."""
_COPY = 8 + 2 + 2
"""Bytes of a cell in the scratch copy, while no count is over 255; 22 up to 65,535."""
FINAL_BYTES = 6
"""Compressed bytes of a kept cell in the final table, about."""
_READ, _JUDGED, _FINISHED, _PREDICTED = 19e6, 11e6, 2.4e6, 0.65e6
"""Cells a second: inflating and copying; and of each worker: all filters, the final table, the network."""
_SHAPE = re.compile(r"\s*(\d+)\s*[xX*]\s*(\d+)\s*")


@dataclass(frozen=True)
class Projection:
    """The projection of one shape.

    Attributes:
        samples, positions: the shape.
        workers: how many the budget has room for, as far as cores are there.
        memory: bytes of the whole process tree; does not depend on positions.
        disk: bytes of the copies and of the final table while it is put together of its parts, if every
            position is kept.
        filters, network: seconds, if every position is kept.
    """

    samples: int
    positions: int
    workers: int
    memory: int
    disk: int
    filters: float
    network: float


def project(samples: int, positions: int, budget: int, cores: int) -> Projection:
    """Project one shape."""
    block = max(CELLS, samples) * _CELL
    each = _WORKER + max(block, samples * _BRACKET)
    workers = max(min(cores, (budget - _PARENT) // each), 1)
    cells = samples * positions
    return Projection(
        samples=samples,
        positions=positions,
        workers=workers,
        memory=_PARENT + workers * each,
        disk=cells * (_COPY + 2 * FINAL_BYTES),
        # Members are streams: a second worker reads the small ones meanwhile.
        filters=cells / _READ + cells / _JUDGED / workers + cells / _FINISHED / workers,
        network=cells / _PREDICTED / workers,
    )


@dataclass(frozen=True)
class ShapePlan:
    """The projection of a shape, and of others around it.

    Attributes:
        budget: bytes.
        asked: of the shape that was asked for.
        around: of half, the same, and twice the samples and positions.
    """

    budget: int
    asked: Projection
    around: tuple[Projection, ...]

    @property
    def projected(self) -> int:
        """Bytes of memory."""
        return self.asked.memory

    @property
    def headroom(self) -> int:
        """Bytes of the budget that are left."""
        return self.budget - self.asked.memory

    @property
    def threads(self) -> int:
        """Threads per worker."""
        return 1

    @property
    def seconds(self) -> float:
        """Filters and network."""
        return self.asked.filters + self.asked.network

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        asked = self.asked
        yield f"budget      {format_size(self.budget)}"
        yield f"projected   {format_size(self.projected)}   headroom {format_size(self.headroom)}"
        yield f"plan        workers: {asked.workers}, blocks of about 65,536 cells"
        size = asked.samples * asked.positions
        yield f"disk        about {format_size(asked.disk)}, while the final table is put together"
        yield (
            f"            {format_size(size * _COPY)} of it for copies (of compressed tables; "
            f"{format_size(size * 22)} where a count is over 255), {format_size(size * FINAL_BYTES)} stay"
        )
        yield "times       if every position is kept, by rates measured on two cores of a Xeon at 2.1 GHz"
        yield ""
        head = ("samples", "positions", "memory", "disk", "filters", "network")
        yield "".join(f"{each:>12}" for each in head)
        for each in self.around:
            cells = (
                f"{each.samples:,}", f"{each.positions:,}", format_size(each.memory), format_size(each.disk),
                _duration(each.filters), _duration(each.network),
            )  # fmt: skip
            yield "".join(f"{cell:>12}" for cell in cells)


def plan_shape(shape: str, budget: int, cores: int) -> ShapePlan:
    """Project a shape, written as samples x positions: ``"700x800000"``.

    Raises:
        UsageError: it is written otherwise.
    """
    match = _SHAPE.fullmatch(shape)
    if match is None or not int(match[1]) or not int(match[2]):
        raise UsageError(f"cannot read the shape {shape!r}: write samples x positions, such as 700x800000")
    samples, positions = int(match[1]), int(match[2])
    around = [
        project(max(round(samples * s), 1), max(round(positions * p), 1), budget, cores)
        for s in (0.5, 1, 2)
        for p in (0.5, 1, 2)
    ]
    return ShapePlan(budget, project(samples, positions, budget, cores), tuple(around))


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"
