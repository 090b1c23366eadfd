"""The functions and reducers of the stages that read the table's positions.

Each function takes one block; what it returns of a position does not depend on the block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

import penstock
from penstock import compiling
from penstock.workloads.snv.bits import LOW_QUALITY, MINOR_LOST, SWITCH, UNKNOWN, VARIES
from penstock.workloads.snv.coverage_unit import Cover
from penstock.workloads.snv.reading.chunked import STATISTICS
from penstock.workloads.snv.table import Block

if TYPE_CHECKING:
    from numpy.typing import NDArray

KERNEL = Path(__file__).parent / "kernel"
NETWORK = Path(__file__).parent / "network"

_NAN = np.float32(np.nan)


@dataclass(frozen=True)
class AddUp:
    """Sums numbers and arrays by name, exactly."""

    order: Literal["any", "items"] = "any"
    grain: None = None

    def start(self) -> dict[str, Any]:
        """The empty state."""
        return {}

    def step(self, state: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
        """Add one block's counts."""
        return {name: state.get(name, 0) + value for name, value in result.items()}

    def merge(self, left: dict[str, Any], right: dict[str, Any]) -> dict[str, Any]:
        """Add two states; either may be empty."""
        return self.step(left, right) if right else left

    def finish(self, states: Iterator[dict[str, Any]]) -> dict[str, Any]:
        """The final value."""
        total: dict[str, Any] = {}
        for state in states:
            total = self.merge(total, state)
        return total


@dataclass(frozen=True)
class CountCarriers:
    """Counts, for each sample, the positions at which it has the second most frequent allele."""

    def warming(self) -> str:
        """A note to print before code is compiled; empty if none will be."""
        return compiling.note(KERNEL / "filters.py", "carriers")

    def warm(self) -> None:
        """Load the compiled code, once for all workers."""
        from penstock.workloads.snv import kernel

        kernel.carriers(_no_counts(), np.zeros(1, np.int64))

    def __call__(self, block: Block) -> dict[str, Any]:
        """Returns ``{"carried": int64 (samples,)}``."""
        from penstock.workloads.snv import kernel

        carried = np.zeros(block.counts.shape[2], np.int64)
        kernel.carriers(block.counts, carried)
        return {"carried": carried}


@dataclass(frozen=True)
class SurveyPositions:
    """Applies the first filter, and counts positions without reads per sample."""

    def warming(self) -> str:
        """A note to print before code is compiled; empty if none will be."""
        return compiling.note(KERNEL / "filters.py", "first_filter")

    def warm(self) -> None:
        """Load the compiled code, once for all workers."""
        from penstock.workloads.snv import kernel

        kernel.first_filter(_no_counts(), np.zeros(0, np.bool_), np.zeros(1, np.int64))

    def __call__(self, block: Block) -> dict[str, Any]:
        """Returns ``{"kept": positions kept, "zero": int64 (samples,)}``."""
        from penstock.workloads.snv import kernel

        zero = np.zeros(block.counts.shape[2], np.int64)
        keep = np.zeros(len(block.numbers), np.bool_)
        kernel.first_filter(block.counts, keep, zero)
        return {"kept": int(keep.sum()), "zero": zero}


@dataclass(frozen=True)
class JudgePositions:
    """Applies all filters, for both states of a switch that is known only at the end.

    Args:
        medians: of the samples, float64.
        inside: which of them the tensor has.
        quality: whether the rules about quality apply.
        rows: positions of a block.
        cover: the samples' coverage at some of the positions.

    Returns ``{"told": uint16 (rows,), see bits, "alive": {"positions", "switch", "ties", "ratio"}}``.
    """

    medians: NDArray[np.float64]
    inside: NDArray[np.bool_]
    quality: bool
    rows: int
    cover: Cover
    depth: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "depth", float(np.median(self.medians)))

    def warming(self) -> str:
        """A note to print before code is compiled; empty if none will be."""
        return compiling.note(KERNEL / "filters.py", "verdict", "count_ties")

    def warm(self) -> None:
        """Load the compiled code, once for all workers."""
        from penstock.workloads.snv import kernel

        one = np.ones(1, np.bool_)
        kernel.verdict(
            _no_counts(), one, False, True, True, True, np.ones(1), np.zeros(0, np.uint16)
        )  # fmt: skip
        kernel.count_ties(_no_counts())

    def __call__(self, block: Block) -> dict[str, Any]:
        """Judge the positions of a block."""
        from penstock.workloads.snv import kernel

        left = int(self.inside.sum())
        verdicts = np.full(self.rows, UNKNOWN, np.uint16)
        bits = verdicts[: len(block.numbers)]
        kernel.verdict(
            block.counts, self.inside, left < len(self.inside), self.quality,
            self.depth > 9, self.depth > 20 and left > 50, self.medians, bits,
        )  # fmt: skip
        known = VARIES | MINOR_LOST | LOW_QUALITY
        alive = (bits & known) == VARIES
        switch = int((alive & ((bits & SWITCH) != 0)).sum())
        counted = {
            "positions": int(alive.sum()),
            "switch": switch,
            "ties": int(kernel.count_ties(block.counts)),
        }
        return {"told": verdicts, "alive": counted | {"ratio": self.cover.count(block)}}


@dataclass(frozen=True)
class MakeFeatures:
    """Computes the tensor of blocks of positions.

    Args:
        medians: of the samples, float64.
        inside: which of them the tensor has.
    """

    medians: NDArray[np.float64]
    inside: NDArray[np.bool_]
    chosen: NDArray[np.int64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "chosen", np.flatnonzero(self.inside))

    def warming(self) -> str:
        """A note to print before code is compiled; empty if none will be."""
        return compiling.note(KERNEL / "features.py", "features")

    def warm(self) -> None:
        """Load the compiled code, once for all workers."""
        from penstock.workloads.snv import kernel

        none, indel = np.zeros((0, 1), np.int32), np.zeros((0, 2, 1), np.int32)
        kernel.features(
            _no_counts(), none, indel, np.ones(1), np.zeros(0, np.int64), np.zeros((0, 0, 8, 4), np.float32)
        )

    def __call__(self, block: Block) -> NDArray[np.float32]:
        """Returns float32 (positions, samples inside, 8, 4)."""
        from penstock.workloads.snv import kernel

        out = np.empty((len(block.numbers), len(self.chosen), 8, 4), np.float32)
        kernel.features(block.counts, block.quals, block.indel, self.medians, self.chosen, out)
        return out


@dataclass(frozen=True)
class Predict:
    """Computes the network's probability of positions.

    Args:
        features: how the tensor is made.
        weights: of the network, see ``weights``.
        rows: positions of a block.
    """

    features: MakeFeatures
    weights: dict[str, NDArray[np.float32]]
    rows: int

    def warming(self) -> str:
        """A note to print before code is compiled; empty if none will be."""
        return self.features.warming() or compiling.note(NETWORK / "sparse.py", "_forward")

    def warm(self) -> None:
        """Load the compiled code, once for all workers."""
        from penstock.workloads.snv.network import sparse

        self.features.warm()
        sparse.probabilities(np.zeros((0, 1, 8, 4), np.float32), self.weights)

    def __call__(self, block: Block) -> NDArray[np.float32]:
        """Returns float32 (rows,); NaN past the last position."""
        prob = np.full(self.rows, np.nan, np.float32)
        prob[: len(block.numbers)] = self._probabilities(self.features(block), penstock.share().threads)
        return prob

    def _probabilities(self, tensor: NDArray[np.float32], threads: int) -> Any:
        from penstock.workloads.snv.network import sparse

        if threads == 1:
            return sparse.probabilities(tensor, self.weights)
        from threadpoolctl import threadpool_limits

        # Positions are alone with their thread, and BLAS must not split what it is given any further.
        with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads) as pool:
            runs = np.array_split(tensor, threads)
            return np.concatenate(list(pool.map(lambda run: sparse.probabilities(run, self.weights), runs)))


def flattened(
    blocks: Sequence[Any], rows: int, start: int, stop: int, fill: np.generic = _NAN
) -> NDArray[Any]:
    """Values ``start`` to ``stop`` of a result that was kept in blocks.

    Args:
        blocks: (rows,) each, of the type of ``fill``, which stands for one that was set aside.
        rows: positions of a block.
    """
    first, last = start // rows, -(-stop // rows)
    try:
        found = [blocks[item] for item in range(first, last)]
    except IndexError:  # all were set aside
        return np.full(stop - start, fill)
    return np.concatenate([np.empty(0, fill.dtype), *found])[start - first * rows :][: stop - start]


def _no_counts() -> NDArray[np.int32]:
    return np.zeros((0, STATISTICS, 1), np.int32)
