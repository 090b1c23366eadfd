"""Dimension tables: float32 columns in a memory-mapped file, and the row of each key."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import penstock
from penstock.errors import BadInput
from penstock.workloads.recsys.ranking.few_values import FewValues, open_few_values, write_few_values
from penstock.workloads.recsys.shared.tables import floats_of, is_rounded, keys_of, numbers_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BATCH = 32_768
_DENSE = 4
"""Keys are looked up in an array of their whole range where it is at most so many times their number."""


def write_dimension(
    folder: Path, *, paths: Sequence[Path], key: str, columns: Sequence[str], duplicates: str, zero: bool,
    found: bool, told: str,
) -> dict[str, Any]:  # fmt: skip
    """Write a table as ``values.npy``, float32 (features, rows + 1); the last row is for unknown keys.

    Of a key that is there twice the first row counts.

    Args:
        folder: of the step.
        paths: the table's files.
        key: its key column.
        columns: those that become features, in this order.
        duplicates: ``"first"`` or ``"error"``.
        zero: whether what is missing is 0; else NaN.
        found: whether a last feature says that the key was there.
        told: the table's name in messages.

    Raises:
        BadInput: the table has no rows, or a key twice where that is an error.
    """
    rows = penstock.sources.ParquetRows(paths, [key, *columns])
    count = len(rows)
    features = len(columns) + found
    values = np.lib.format.open_memmap(folder / "values.npy", "w+", np.float32, (max(features, 1), count + 1))
    keys: list[NDArray[Any]] = []
    there = np.zeros(count, np.bool_)
    kind = "number"
    rounded: set[str] = set()
    for start in range(0, count, _BATCH):
        table: Any = rows.read(start, min(start + _BATCH, count))
        stop = start + table.num_rows
        for number, name in enumerate(columns):
            values[number, start:stop] = made = floats_of(table.column(name), zero=zero)
            if name not in rounded and is_rounded(table.column(name), made):
                rounded.add(name)
        ids = keys_of(table.column(key), f"column {key}", told)
        there[start:stop] = ids.is_valid().to_numpy(zero_copy_only=False)
        kind = str(ids.type)
        keys.append(numbers_of(ids.drop_null()))
    values[:, count] = 0 if zero else np.nan
    if found:
        values[features - 1, :count] = 1
        values[features - 1, count] = 0
    values.flush()
    write_few_values(folder, values)
    numbers = np.concatenate(keys) if keys else np.zeros(0, np.int64)
    twice = _index(folder, numbers, np.flatnonzero(there), count)
    if twice and duplicates == "error":
        raise BadInput(
            f"holds {twice} keys more than once, so that a join would multiply rows: leave --duplicates at "
            "first, or make the table anew with one row for each",
            file=told, place=f"column {key}",
        )  # fmt: skip
    facts = {
        "rows": count, "keys": len(numbers) - twice, "duplicates": twice,
        "without_key": count - len(numbers), "kind": kind, "rounded": sorted(rounded),
    }  # fmt: skip
    (folder / "dimension.json").write_text(json.dumps(facts))
    return facts


def _index(folder: Path, numbers: NDArray[Any], rows: NDArray[np.int64], count: int) -> int:
    """Write where each key's row is; how many rows were of a key that was there before."""
    order = np.argsort(numbers, kind="stable")
    ordered = numbers[order]
    first = np.ones(len(ordered), np.bool_)
    first[1:] = ordered[1:] != ordered[:-1]
    unique, where = ordered[first], rows[order[first]].astype(np.int64)
    low = int(unique[0]) if len(unique) else 0
    reach = int(unique[-1]) - low + 1 if len(unique) else 0
    if len(unique) and reach <= _DENSE * len(unique) + 1024:
        dense = np.full(reach, count, np.int64)
        dense[(unique - unique[0]).astype(np.int64)] = where
        np.save(folder / "dense.npy", dense)
    np.save(folder / "keys.npy", unique)
    np.save(folder / "where.npy", where)
    return int(len(ordered) - len(unique))


@dataclass(frozen=True)
class Looked:
    """A dimension table, memory-mapped."""

    values: NDArray[np.float32]
    keys: NDArray[Any]
    where: NDArray[np.int64]
    dense: NDArray[np.int64] | None
    few: FewValues | None

    def rows(self, ids: Any) -> NDArray[np.int64]:
        """The row of each id; one past the last for unknown or null ids.

        Args:
            ids: Arrow, as ``keys_of`` gives them.
        """
        missing = self.values.shape[1] - 1
        found = np.full(len(ids), missing, np.int64)
        if not len(self.keys):
            return found
        there = ids.is_valid().to_numpy(zero_copy_only=False)
        whole = bool(there.all())
        numbers = numbers_of(ids if whole else ids.drop_null())
        found[slice(None) if whole else there] = self._of(numbers, missing)
        return found

    def _of(self, numbers: NDArray[Any], missing: int) -> NDArray[np.int64]:
        if numbers.dtype != self.keys.dtype:  # int64 and uint64: what one cannot hold is not there
            numbers, outside = _as(numbers, self.keys.dtype)
        else:
            outside = None
        if self.dense is not None:
            inside = (numbers >= self.keys[0]) & (numbers <= self.keys[-1])
            at = np.where(inside, numbers - self.keys[0], 0).astype(np.int64)
            found = np.where(inside, self.dense[at], missing)
        else:
            at = np.minimum(np.searchsorted(self.keys, numbers), len(self.keys) - 1)
            found = np.where(self.keys[at] == numbers, self.where[at], missing)
        if outside is not None:
            found[outside] = missing
        return found


def _as(numbers: NDArray[Any], kind: np.dtype[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    outside = numbers > np.iinfo(np.int64).max if numbers.dtype == np.uint64 else numbers < 0
    return np.where(outside, 0, numbers).astype(kind), outside


@lru_cache(maxsize=8)
def open_dimension(folder: Path) -> Looked:
    """Map what ``write_dimension`` wrote; once per process."""

    def mapped(name: str) -> Any:
        return np.load(folder / name, mmap_mode="r", allow_pickle=False)

    dense = mapped("dense.npy") if (folder / "dense.npy").is_file() else None
    few = open_few_values(folder)
    return Looked(mapped("values.npy"), mapped("keys.npy"), mapped("where.npy"), dense, few)
