"""Labels from clicks: a row is positive if one of its clicks follows within a window after its impression.

A click before the row was shown is none of it, and a row of which the while is not over when the log ends
has no label: it would count as not clicked only because nobody waited.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import penstock
from penstock.errors import BadInput
from penstock.workloads.recsys.ranking.columns import DATASET, IDENTITY, REQUEST, TIME
from penstock.workloads.recsys.ranking.drawing import pair_hashes
from penstock.workloads.recsys.shared.tables import is_time, keys_of, microseconds_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

CLICK_TIMES = ("server_time", "timestamp")
"""Names of the column that says when a click was."""
_PASS = 4_000_000
"""Clicks that are sorted at once."""
_BATCH = 65_536
_BUCKETS = 4096
_NEVER = np.iinfo(np.int64).min


@dataclass(frozen=True)
class Attribution:
    """How clicks become labels.

    Attributes:
        window: microseconds from a row's time within which a click counts, the last included; None for any
            time after it.
        end: of the log, microseconds since 1970: rows of which the window is over later have no label.
        always: clicks count whenever they were (compat).
    """

    window: int | None
    end: int
    always: bool = False


@dataclass(frozen=True)
class Labelled:
    """The labels of rows.

    Attributes:
        labels: float64, 0 or 1; NaN where the row has no time.
        open: bool: the window is not over when the log ends.
        early: bool: there are clicks, but all came before the row was shown.
        late: bool: there are clicks, and none within the window, but one after it.
    """

    labels: NDArray[np.float64]
    open: NDArray[np.bool_]
    early: NDArray[np.bool_]
    late: NDArray[np.bool_]


def time_column(names: Sequence[str], file: object) -> str:
    """The time column of the clicks.

    Raises:
        BadInput: there is none.
    """
    for name in CLICK_TIMES:
        if name in names:
            return name
    raise BadInput(
        f"has no column {' or '.join(CLICK_TIMES)}, which would say when a click was; it has "
        f"{', '.join(names)}",
        file=file,
    )


def write_clicks(
    folder: Path, *, paths: Sequence[Path], time: str, samples: Sequence[Path], told: str, samples_told: str
) -> dict[str, int]:
    """Write ``pairs.npy`` uint64 and ``times.npy`` int64 (clicks,): hash of request and item, sorted by time.

    Args:
        folder: of the step.
        paths: of the clicks.
        time: their column of times.
        samples: files of the samples, whose last time may be the end of the log.
        told, samples_told: for messages.

    Returns facts: ``{"clicks", "without_key", "end"}``.

    Raises:
        BadInput: a column is not what it should be.
    """
    rows = penstock.sources.ParquetRows(paths, [REQUEST, DATASET, time])
    buckets = np.zeros(_BUCKETS, np.int64)
    end = _last(samples, samples_told)
    for pairs, times in _clicks(rows, time, told):
        buckets += np.bincount(pairs >> np.uint64(52), minlength=_BUCKETS)
        end = max(end, int(times.max(initial=_NEVER)))
    count = int(buckets.sum())
    made = [
        np.lib.format.open_memmap(folder / f"{name}.npy", "w+", kind, (count,))
        for name, kind in (("pairs", np.dtype(np.uint64)), ("times", np.dtype(np.int64)))
        if count
    ]
    if not made:
        np.save(folder / "pairs.npy", np.zeros(0, np.uint64))
        np.save(folder / "times.npy", np.zeros(0, np.int64))
    at = 0
    for low, high in _turns(buckets):
        pairs, times = _between(_clicks(rows, time, told), low, high)
        order = np.lexsort((times, pairs))
        for whole, values in zip(made, (pairs, times), strict=True):
            whole[at : at + len(order)] = values[order]
        at += len(order)
    for whole in made:
        whole.flush()
    return {"clicks": count, "without_key": len(rows) - count, "end": end}


def _turns(buckets: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Ranges of buckets with so many clicks together, or one of more."""
    low, held = 0, 0
    for number, count in enumerate(buckets.tolist()):
        if held and held + count > _PASS:
            yield low, number
            low, held = number, 0
        held += count
    if held:
        yield low, len(buckets)


def _between(
    parts: Iterator[tuple[NDArray[np.uint64], NDArray[np.int64]]], low: int, high: int
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """The clicks of a range of buckets."""
    found = []
    for pairs, times in parts:
        bucket = pairs >> np.uint64(52)
        mine = (bucket >= low) & (bucket < high)
        found.append((pairs[mine], times[mine]))
    return np.concatenate([each for each, _ in found]), np.concatenate([each for _, each in found])


def _clicks(
    rows: penstock.sources.ParquetRows, time: str, told: str
) -> Iterator[tuple[NDArray[np.uint64], NDArray[np.int64]]]:
    """(hashes of request and item, times) of the clicks that have all three."""
    import pyarrow as pa

    for start in range(0, len(rows), _BATCH):
        table: Any = rows.read(start, min(start + _BATCH, len(rows)))
        ids = [keys_of(table.column(name), f"column {name}", told) for name in (REQUEST, DATASET)]
        times = _times(table.column(time), time, told)
        there = times != _NEVER
        for each in ids:
            there &= each.is_valid().to_numpy(zero_copy_only=False)
        kept = [each.filter(pa.array(there)) for each in ids]
        yield pair_hashes(kept[0], kept[1], IDENTITY, 0), times[there]


def _last(samples: Sequence[Path], told: str) -> int:
    """The latest time of the samples."""
    rows = penstock.sources.ParquetRows(samples, [TIME])
    last = int(_NEVER)
    for start in range(0, len(rows), _BATCH):
        table: Any = rows.read(start, min(start + _BATCH, len(rows)))
        times = _times(table.column(TIME), TIME, told)
        last = max(last, int(times.max(initial=_NEVER)))
    return last


def _times(column: Any, name: str, told: str) -> NDArray[np.int64]:
    if not is_time(column.type):
        raise BadInput(
            f"is {column.type}; a time was expected, to tell which clicks a row has",
            file=told, place=f"column {name}",
        )  # fmt: skip
    return microseconds_of(column)


@lru_cache(maxsize=2)
def _opened(folder: Path) -> tuple[Any, Any]:
    pairs, times = (
        np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ("pairs", "times")
    )
    return pairs, times


def label(folder: Path, requests: Any, datasets: Any, shown: NDArray[np.int64], how: Attribution) -> Labelled:
    """The labels of rows that have both ids.

    Args:
        folder: of ``write_clicks``.
        requests, datasets: ids as ``keys_of`` gives them, without nulls.
        shown: microseconds since 1970, the least int64 where it is not known.
        how: see :class:`Attribution`.
    """
    pairs, times = _opened(folder)
    wanted = pair_hashes(requests, datasets, IDENTITY, 0)
    low, high = np.searchsorted(pairs, wanted), np.searchsorted(pairs, wanted, "right")
    some = high > low
    if how.always:
        nothing = np.zeros(len(wanted), np.bool_)
        return Labelled(some.astype(np.float64), nothing, nothing, nothing)
    after = _first_from(times, low, high, shown)
    follows = after < high
    late = np.zeros(len(wanted), np.bool_)
    over = np.zeros(len(wanted), np.bool_)
    if how.window is not None:
        until = np.where(shown == _NEVER, _NEVER, shown + how.window)
        late[follows] = times[after[follows]] > until[follows]
        over = until > how.end
    labels = (follows & ~late).astype(np.float64)
    labels[shown == _NEVER] = np.nan
    return Labelled(labels, over, some & ~follows, late)


def _first_from(
    times: NDArray[np.int64], low: NDArray[np.int64], high: NDArray[np.int64], shown: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The first place from ``low`` whose time is not before ``shown``; ``high`` where there is none."""
    low, high = low.copy(), high.copy()
    while (open_ := np.flatnonzero(low < high)).size:
        middle = (low[open_] + high[open_]) // 2
        before = times[middle] < shown[open_]
        low[open_] = np.where(before, middle + 1, low[open_])
        high[open_] = np.where(before, high[open_], middle)
    return low
