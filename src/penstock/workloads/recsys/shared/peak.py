"""Projects the memory of training, in bytes, before it starts: pure arithmetic.

Training is two kinds of steps. ``bins`` reads the table by row groups and keeps one byte for each value;
``trees`` loads these and grows a block of trees. For N rows of F features:

    bins   BASE + 20 S F + N (1.05 F + 20) + 2 row groups as float32
    trees  BASE + N (1.05 F + 65) + 16 x leaves x 256 x F
    test   BASE + 5 row groups as float32, or BASE + 150 x the rows that are tested

S: the rows that the bins are learnt from (``--bin-sample``), at most N. Fitted to measured peaks of whole
process trees by ``benchmarks/recsys/training.py``, from above.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from penstock.budget import GiB, MiB, format_size
from penstock.errors import BadInput, UsageError
from penstock.plurals import plural
from penstock.workloads.recsys.shared.later import Reckoned

BASE = 115 * MiB
"""Parent, fork server and a worker with LightGBM, without its optional imports."""
BIN_SAMPLE = 200_000
RESERVED = 34 * MiB
"""What of BASE is there before any step: parent, fork server, an idle worker."""
_BINS = 256
_ROWS_IN_GROUP = 65_536
_MOST_ROWS = 1 << 40
_SHAPE = re.compile(r"\s*(\d+)\s*[xX*]\s*(\d+)\s*")
_GROW = re.compile(r"\s*(rows|features)\s*=\s*(\d+(?:\.\d+)?)\s*")
BUDGETS = tuple(each * MiB for each in (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536))
_ORIGINAL = ((50 * GiB, 2_000_000), (100 * GiB, 5_000_000))


@dataclass(frozen=True)
class Training:
    """What training memory depends on.

    Attributes:
        rows: that the trees learn from.
        features: columns.
        leaves: of a tree, at most.
        bin_sample: rows that the borders of the bins are learnt from.
        row_group: rows of the largest row group of the table.
        tested: rows of the test part.
    """

    rows: int
    features: int
    leaves: int = 63
    bin_sample: int = BIN_SAMPLE
    row_group: int = _ROWS_IN_GROUP
    tested: int = 0

    @property
    def bins_peak(self) -> int:
        """Bytes at the peak of the step that makes the bins."""
        sample = min(self.bin_sample, self.rows)
        kept = self.rows * (1.05 * self.features + 20)
        return BASE + int(20 * sample * self.features + kept + 8 * self.row_group * self.features)

    @property
    def trees_peak(self) -> int:
        """Bytes at the peak of a step that grows trees."""
        histograms = 16 * self.leaves * _BINS * self.features
        return BASE + int(self.rows * (1.05 * self.features + 65)) + histograms

    @property
    def test_peak(self) -> int:
        """Bytes at the peak of the steps that score and evaluate the test part, with one worker."""
        return BASE + max(20 * self.row_group * self.features, 150 * self.tested)

    @property
    def peak(self) -> int:
        """Bytes at the peak of the whole training."""
        return max(self.bins_peak, self.trees_peak, self.test_peak)

    @property
    def needed(self) -> int:
        """The smallest budget that holds the peak, in bytes."""
        # Of small budgets an eighth is kept free, then 64 MiB, of large ones 6 %.
        by_part = min(self.peak + 64 * MiB, -(-self.peak * 8 // 7))
        return max(by_part, int(self.peak / 0.94) + 1)


def usable(budget: int) -> int:
    """Bytes of a budget available to plans: Penstock keeps the rest free, to act in time."""
    return budget - int(max(budget * 0.06, min(64 * MiB, budget / 8)))


def most_rows(budget: int, like: Training) -> int:
    """The most rows whose training fits in a budget; 0 if nothing does.

    Args:
        budget: bytes.
        like: all but its ``rows``.
    """
    return most_rows_within(usable(budget), like)


def most_rows_within(room: int, like: Training) -> int:
    """As :func:`most_rows`, for bytes of which nothing more is kept free."""
    low, high = 0, _MOST_ROWS  # the peak grows with rows: search between what fits and what does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if replace(like, rows=middle).peak <= room else (low, middle)
    return low


def limit(max_samples: int | str, memory: int, like: Training) -> int | None:
    """The most rows; None for no limit.

    Args:
        max_samples: rows, 0 for all, or ``"auto"``.
        memory: bytes that one worker may use; 0 where nobody says so.
        like: what else the peak depends on.

    Raises:
        BadInput: for ``"auto"``, that not even one row fits.
    """
    if max_samples != "auto":
        return int(max_samples) or None
    if not memory:  # nobody governs: the backend inline
        return None
    found = most_rows_within(memory + RESERVED, like)
    if not found:
        needed = format_size(replace(like, rows=1).peak)
        raise BadInput(
            f"--max-samples auto: no row fits into {format_size(memory)} for one worker, since one takes "
            f"{needed} with row groups of {plural(like.row_group, 'row')} of "
            f"{plural(like.features, 'feature')}: raise the budget, or lower --bin-sample"
        )
    return found


def smallest_bin_sample(budget: int, like: Training) -> int | None:
    """The largest of a few smaller bin samples that fits; None if none does."""
    for sample in (100_000, 50_000, 20_000):
        if sample < like.bin_sample and replace(like, bin_sample=sample).needed <= budget:
            return sample
    return None


def rows_of_original(budget: int) -> int | None:
    """The rows that the original's rule keeps in such a budget; None for all."""
    return next((rows for below, rows in _ORIGINAL if budget < below), None)


# ------------------------------------------------------------------ the plan of a shape


@dataclass(frozen=True)
class TrainingPlan(Reckoned):
    """The projected peak of a shape, and the rows that other budgets allow.

    Attributes:
        budget: bytes.
        asked: the training that was asked for.
        grown: the same after growth, where that was asked for.
        defaults: what the environment set of the options, a line each.
    """

    asked: Training
    grown: Training | None = None
    defaults: tuple[str, ...] = ()

    @property
    def projected(self) -> int:
        """Bytes of memory at the peak."""
        return self.asked.peak

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"budget      {format_size(self.budget)}"
        yield f"projected   {format_size(self.projected)}   headroom {_signed(self.headroom)}"
        yield from self._steps("plan", self.asked)
        if self.asked.needed > self.budget:
            yield f"does not fit: {what_fits(self.budget, self.asked)}"
        if self.grown is not None:
            yield from self._steps("grown", self.grown)
        yield from (f"default     {line}" for line in self.defaults)
        yield ""
        yield f"rows of {self.asked.features} features that fit (--max-samples auto), by bin sample"
        samples = sorted({self.asked.bin_sample, 50_000}, reverse=True)
        head = [f"S={sample:,}" for sample in samples]
        yield "".join(f"{each:>16}" for each in ("budget", *head, "original's rule"))
        for budget in sorted({*BUDGETS, self.budget}):
            rows = [f"{most_rows(budget, replace(self.asked, bin_sample=sample)):,}" for sample in samples]
            kept = rows_of_original(budget)
            original = "all" if kept is None else f"{kept:,}"
            yield "".join(f"{each:>16}" for each in (format_size(budget), *rows, original))

    @staticmethod
    def _steps(word: str, training: Training) -> Iterator[str]:
        yield (
            f"{word:<12}{training.rows:,} rows x {training.features:,} features: bins "
            f"{format_size(training.bins_peak)} ({min(training.bin_sample, training.rows):,} rows for their "
            f"borders), trees {format_size(training.trees_peak)}, test {format_size(training.test_peak)}"
        )


def what_fits(budget: int, training: Training) -> str:
    """A sentence of advice for a training that does not fit."""
    ways = []
    sample = smallest_bin_sample(budget, training)
    if sample is not None:
        ways.append(f"--bin-sample {sample}")
    rows = most_rows(budget, training)
    if rows:
        ways.append(f"--max-samples auto (here {rows:,} rows)")
    ways.append(f"a budget of {format_size(training.needed)}")
    ways.append("--engine xgboost, which keeps the bins on disk")
    return "what would do: " + ", or ".join(ways)


def plan_shape(
    shape: str, budget: int, *, leaves: int = 63, bin_sample: int = BIN_SAMPLE, grow: str | None = None,
    defaults: tuple[str, ...] = (),
) -> TrainingPlan:  # fmt: skip
    """Project a shape, written as rows x features: ``"8500000x105"``.

    Args:
        shape: rows to learn from, and features; a quarter as many rows are tested, as by default.
        budget: bytes.
        leaves, bin_sample: as for a run.
        grow: factors, as in ``"rows=10,features=2"``.
        defaults: what the environment set of the options, to tell.

    Raises:
        UsageError: shape or growth is written otherwise.
    """
    match = _SHAPE.fullmatch(shape)
    if match is None or not int(match[1]) or not int(match[2]):
        raise UsageError(f"cannot read the shape {shape!r}: write rows x features, such as 8500000x105")
    asked = Training(int(match[1]), int(match[2]), leaves, bin_sample)
    asked = replace(asked, row_group=min(asked.row_group, asked.rows), tested=asked.rows // 4)
    return TrainingPlan(budget, asked, None if grow is None else grown(asked, grow), defaults)


def grown(training: Training, grow: str) -> Training:
    """The training after growth by the given factors.

    Raises:
        UsageError: it is written otherwise.
    """
    factors: dict[str, float] = {}
    for part in grow.split(","):
        match = _GROW.fullmatch(part)
        if match is None or match[1] in factors or not float(match[2]):
            raise UsageError(f"cannot read the growth {grow!r}: write factors, such as rows=10,features=2")
        factors[match[1]] = float(match[2])
    return replace(
        training,
        rows=max(round(training.rows * factors.get("rows", 1)), 1),
        tested=round(training.tested * factors.get("rows", 1)),
        features=max(round(training.features * factors.get("features", 1)), 1),
    )


def _signed(size: int) -> str:
    return format_size(size) if size >= 0 else f"-{format_size(-size)}"
