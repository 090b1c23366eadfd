"""Builds queries from runs of rows: whether they are contiguous, which are drawn, and borders of spans."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.errors import BadInput
from penstock.workloads.recsys.hashing import SAMPLE, hashes

if TYPE_CHECKING:
    from numpy.typing import NDArray

PASS = 4_000_000
"""Hashes that are compared at once."""
_BUCKETS = 4096
_DAY = 86_400_000_000
_REACH = 4
"""A span reaches over at most so many times the rows that it has drawn ones, at most."""
WIDE = 30 << 20
"""Bytes of the rows of a span in the table, the most: they stay one row group."""


@dataclass(frozen=True)
class Runs:
    """Runs of rows of one request, joined where the survey's spans cut them.

    Args:
        path: a Parquet file with columns hash, first, rows, positives, time.
    """

    path: Path

    def __iter__(self) -> Iterator[dict[str, NDArray[Any]]]:
        """Columns of the runs, in chunks; the last run is held back until its end is seen."""
        import pyarrow.parquet as pq

        held: dict[str, NDArray[Any]] | None = None
        with pq.ParquetFile(self.path) as file:
            for batch in file.iter_batches(1 << 18):
                found = {
                    name: column.to_numpy(zero_copy_only=False)
                    for name, column in zip(batch.schema.names, batch.columns, strict=True)
                }
                if held is not None:
                    found = {name: np.append(held[name], values) for name, values in found.items()}
                found = _joined(found)
                held = {name: values[-1:] for name, values in found.items()}
                yield {name: values[:-1] for name, values in found.items()}
        if held is not None:
            yield held

    def in_one_piece(self) -> bool:
        """Whether no request appears in two separate runs."""
        count = sum(len(part["hash"]) for part in self)
        passes = max(-(-count // PASS), 1)
        for turn in range(passes):
            chosen = [
                part["hash"][(((part["hash"] >> np.uint64(32)) * np.uint64(passes)) >> np.uint64(32)) == turn]
                for part in self
            ]
            together = np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, np.uint64)
            if (together[1:] == together[:-1]).any():
                return False
        return True


def _joined(runs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    starts = np.append(True, runs["hash"][1:] != runs["hash"][:-1])
    if starts.all():
        return runs
    at = np.flatnonzero(starts)
    added = {name: np.add.reduceat(runs[name], at) for name in ("rows", "positives")}
    return {name: added.get(name, values[at]) for name, values in runs.items()}


@dataclass(frozen=True)
class Draw:
    """Which queries are drawn.

    Attributes:
        most: rows of the table, at most; 0 for all.
        seed: of the draw.
        stratify: ``"label"``, ``"day"`` or empty: the same share of the rows of each stratum.
    """

    most: int
    seed: int
    stratify: str = ""


def _strata(part: Mapping[str, NDArray[Any]], by: str) -> NDArray[np.int64]:
    if by == "label":
        return (part["positives"] > 0).astype(np.int64)
    if by == "day":
        return np.asarray(np.floor_divide(part["time"], _DAY), np.int64)
    return np.zeros(len(part["hash"]), np.int64)


def limits_of(runs: Runs, draw: Draw) -> dict[int, int]:
    """The largest drawn hash in each stratum; -1 if none is drawn.

    Whole queries are taken by ascending hash while their rows are at most the stratum's share of ``most``.
    """
    counted: dict[int, NDArray[np.int64]] = {}
    for part in runs:
        strata, drawn = _strata(part, draw.stratify), _drawn(part, draw)
        for stratum in np.unique(strata).tolist():
            mine = strata == stratum
            rows = np.bincount(_bucket(drawn[mine]), part["rows"][mine], _BUCKETS).astype(np.int64)
            counted[stratum] = counted.get(stratum, 0) + rows
    total = sum(int(rows.sum()) for rows in counted.values())
    if total <= draw.most:
        return dict.fromkeys(counted, (1 << 64) - 1)
    return {
        stratum: _limit(runs, draw, stratum, rows, draw.most * int(rows.sum()) // total)
        for stratum, rows in counted.items()
    }


def _limit(runs: Runs, draw: Draw, stratum: int, rows: NDArray[np.int64], share: int) -> int:
    """The cut lies in the first bucket that is not whole below the share; it alone is looked into."""
    before = np.append(0, np.cumsum(rows))
    cut = int(np.searchsorted(before[1:], share, "right"))
    if cut == _BUCKETS:
        return (1 << 64) - 1
    hash_parts, row_parts = [], []
    for part in runs:
        drawn = _drawn(part, draw)
        mine = (_strata(part, draw.stratify) == stratum) & (_bucket(drawn) == cut)
        hash_parts.append(drawn[mine])
        row_parts.append(part["rows"][mine])
    inside, counts = np.concatenate(hash_parts), np.concatenate(row_parts)
    order = np.argsort(inside, kind="stable")
    fit = int(np.searchsorted(before[cut] + np.cumsum(counts[order]), share, "right"))
    if fit:
        return int(inside[order[fit - 1]])
    return (cut << 52) - 1


def _drawn(part: Mapping[str, NDArray[Any]], draw: Draw) -> NDArray[np.uint64]:
    return hashes(part["hash"].view(np.int64), SAMPLE, draw.seed)


def _bucket(drawn: NDArray[np.uint64]) -> NDArray[np.int64]:
    return (drawn >> np.uint64(52)).astype(np.int64)


def is_drawn(part: Mapping[str, NDArray[Any]], draw: Draw, limits: Mapping[int, int]) -> NDArray[np.bool_]:
    """Which of these queries are drawn."""
    strata, drawn = _strata(part, draw.stratify), _drawn(part, draw)
    chosen = np.zeros(len(drawn), np.bool_)
    for stratum, limit in limits.items():
        if limit >= 0:
            chosen |= (strata == stratum) & (drawn <= np.uint64(limit))
    return chosen


def write_queries(
    folder: Path, *, runs: Path, rows: int, most: int, draw: Mapping[str, Any] | None, must_fit: bool
) -> dict[str, Any]:
    """Write where queries begin, which are drawn, and the borders of spans of whole queries.

    Args:
        folder: of the step; gets firsts.npy int64, drawn.npy bool (both by query) and spans.npy int64
            (spans + 1, 2): row of the samples and query at which each begins.
        runs: of the survey.
        rows: of the samples.
        most: rows of a span that are drawn.
        draw: a :class:`Draw` as keywords, or None for all.
        must_fit: whether queries that are not in one piece are an error of ours.

    Returns facts: ``{"in_one_piece", "queries", "drawn", "rows", "drawn_rows", "largest"}``; only the first
    where they are not in one piece.

    Raises:
        BadInput: not even one query is small enough to be drawn.
    """
    found = Runs(runs)
    if not found.in_one_piece():
        if must_fit:
            raise AssertionError("requests are scattered behind the sort by request")
        return {"in_one_piece": False}
    drawing = Draw(**draw) if draw is not None else None
    limits = limits_of(found, drawing) if drawing is not None else {}
    cutter = _Cutter(most)
    facts = {"in_one_piece": True, "queries": 0, "drawn": 0, "rows": 0, "drawn_rows": 0, "largest": 0}
    with open(folder / "firsts.raw", "wb") as firsts, open(folder / "drawn.raw", "wb") as chosen:
        for part in found:
            drawn = is_drawn(part, drawing, limits) if drawing else np.ones(len(part["hash"]), np.bool_)
            firsts.write(part["first"].astype(np.int64).tobytes())
            chosen.write(drawn.tobytes())
            cutter.add(part["first"], part["rows"], drawn)
            facts["queries"] += len(drawn)
            facts["drawn"] += int(drawn.sum())
            facts["rows"] += int(part["rows"].sum())
            facts["drawn_rows"] += int(part["rows"][drawn].sum())
            facts["largest"] = max(facts["largest"], int(part["rows"][drawn].max(initial=0)))
    if drawing is not None and facts["queries"] and not facts["drawn"]:
        raise BadInput(
            f"--max-samples {drawing.most} holds no whole request: the first that is drawn has more rows. "
            "Raise it, or draw rows with --sample-by row"
        )
    _as_array(folder, "firsts", np.dtype(np.int64), facts["queries"])
    _as_array(folder, "drawn", np.dtype(np.bool_), facts["queries"])
    np.save(folder / "spans.npy", cutter.borders(rows, facts["queries"]))
    return facts


def _as_array(folder: Path, name: str, kind: np.dtype[Any], count: int) -> None:
    raw = folder / f"{name}.raw"
    whole = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", kind, (count,))
    if count:
        whole[:] = np.memmap(raw, kind, "r", shape=(count,))
        whole.flush()
    raw.unlink()


class _Cutter:
    """Cuts where a query ends, or within one that is larger than a span."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._borders: list[tuple[int, int]] = []
        self._drawn = self._query = 0
        self._begin = 0
        self._large: tuple[int, int, int] | None = None

    def add(self, firsts: NDArray[np.int64], rows: NDArray[np.int64], drawn: NDArray[np.bool_]) -> None:
        """Some more queries."""
        for first, count, is_in in zip(firsts.tolist(), rows.tolist(), drawn.tolist(), strict=True):
            self._finish_large(first)
            taken = count if is_in else 0
            if self._query and (
                self._drawn + taken > self._most or first - self._begin >= _REACH * self._most
            ):
                self._cut(first, self._query)
            self._drawn += taken
            step = self._most if is_in else _REACH * self._most
            if count > step:
                self._large = (first, self._query, step)
            self._query += 1

    def _finish_large(self, stop: int) -> None:
        """Cut within a query of more rows than a span has."""
        if self._large is None:
            return
        first, query, step = self._large
        self._large = None
        for at in range(first + step, stop, step):
            self._cut(at, query)
        self._drawn = self._most

    def _cut(self, row: int, query: int) -> None:
        if not self._borders or row > self._borders[-1][0]:
            self._borders.append((row, query))
        self._drawn, self._begin = 0, row

    def borders(self, rows: int, queries: int) -> NDArray[np.int64]:
        """(row of the samples, query) of each border, the first and the last included."""
        self._finish_large(rows)
        found = [(0, 0), *[each for each in self._borders if each[0] > 0], (rows, queries)]
        return np.array(found, np.int64)
