"""The first step: labels, items, users and times of all queries, and the split.

Reads the narrow columns, a row group at a time. What is as long as the table goes to mapped files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock import foreign
from penstock.errors import BadInput
from penstock.workloads.recsys.hashing import SAMPLE, SPLIT, hashes
from penstock.workloads.recsys.readers.rows import TrainingRows, check_labels
from penstock.workloads.recsys.readers.table import RankingTable, RowGroup, open_table
from penstock.workloads.recsys.training import split as parts

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Wanted:
    """The columns to read from a table, and how to split it.

    Attributes:
        label: column of the labels.
        weight: column of the weights, or None.
        split: ``"time"``, ``"user"`` or ``"request"``.
        valid: share that is tested.
        as_of: requests before it are left out, as numpy reads a date; None for none.
        seed: of the hashes.
    """

    label: str = "label"
    weight: str | None = None
    split: str = "time"
    valid: float = 0.2
    as_of: str | None = None
    seed: int = 42


def survey(folder: Path, *, table: str, fingerprint: str, wanted: dict[str, Any]) -> dict[str, Any]:
    """Write labels.npy, items.npy (both by row), parts.npy, hashes.npy and new_user.npy (by query).

    Returns numbers of rows, queries and clicks of each part, how they were parted, and the items.

    Raises:
        BadInput: a column that is missing or holds what it should not, or a part without a query or a click.
    """
    del fingerprint  # tells this table from another of the same path
    return _Survey(folder, open_table(table), Wanted(**wanted)).take()


class _Survey:
    def __init__(self, folder: Path, table: RankingTable, wanted: Wanted) -> None:
        self.folder, self.table, self.wanted = folder, table, wanted
        self.rows = TrainingRows(table, label=wanted.label, weight=wanted.weight)
        queries = len(table.sizes)
        self.sizes = np.asarray(table.sizes)
        self.starts = np.cumsum(self.sizes, dtype=np.int64) - self.sizes
        self.columns = [name for name in ("request_id", "dataset_id", "user_id") if name in table.types]
        self.time = (table.meta.get("time") or {}).get("column")
        self.requests = np.zeros(queries, np.uint64)
        self.draws = np.zeros(queries, np.uint64)
        self.users = np.zeros(queries, np.uint64)
        self.known = np.zeros(queries, np.bool_)
        self.times = np.full(queries, parts.NO_TIME)
        self.clicks = np.zeros(queries, np.int64)
        self._check_columns()

    def _check_columns(self) -> None:
        types, wanted = self.table.types, self.wanted
        for name in (wanted.label, wanted.weight):
            if name is not None and name not in types:
                raise BadInput(
                    f"there is no column {foreign.line(name)}; there are "
                    f"{foreign.line(', '.join(list(types)[:8]))} ...",
                    file=self.table.folder / "table",
                )
            if name in self.table.features:
                raise BadInput(
                    f"{foreign.line(str(name))} is a feature, and cannot be label or weight too",
                    file=self.table.folder / "meta.json",
                )

    def take(self) -> dict[str, Any]:
        labels = _new(self.folder / "labels.npy", np.float32, self.table.rows)
        found = _new(self.folder / "item_hashes.npy", np.uint64, self.table.rows)
        catalogue = np.zeros(0, np.uint64)
        for group in self.table.groups:
            place = slice(group.first, group.first + group.rows)
            labels[place] = self._labels(group)
            items = self._queries(group)
            if items is not None:
                found[place] = items
                catalogue = np.union1d(catalogue, items)
        part, cut = self._part()
        self._items(found, catalogue)
        (self.folder / "item_hashes.npy").unlink()
        np.save(self.folder / "parts.npy", part)
        np.save(self.folder / "hashes.npy", self.draws)
        np.save(self.folder / "new_user.npy", self._new_users(part))
        return self._facts(part, cut, len(catalogue))

    def _labels(self, group: RowGroup) -> NDArray[np.float32]:
        values = self.table.columns(group, [self.wanted.label]).column(0)
        found = np.asarray(values.to_numpy(), np.float64)
        check_labels(found, group, self.wanted.label, np.arange(group.rows))
        if self.wanted.weight is not None:
            self._weights(group)
        clicked = found > 0
        np.add.at(self.clicks, self.rows.queries(group)[clicked], 1)
        return found.astype(np.float32)

    def _weights(self, group: RowGroup) -> None:
        name = str(self.wanted.weight)
        found = np.asarray(self.table.columns(group, [name]).column(0).to_numpy(), np.float64)
        bad = np.flatnonzero(~(np.isfinite(found) & (found >= 0)))
        if len(bad):
            raise BadInput(
                f"the weight is {found[bad[0]]:g}, and a number of at least 0 was expected",
                file=group.path, place=f"column {name}, row {group.first + int(bad[0])} of the table",
            )  # fmt: skip

    def _queries(self, group: RowGroup) -> NDArray[np.uint64] | None:
        """What a row group says of its queries; the hashes of its items."""
        numbers = self.rows.queries(group)
        first = np.flatnonzero(self.starts[numbers] == group.first + np.arange(group.rows))
        begun = numbers[first]
        found = self.table.columns(group, self.columns)
        if "request_id" in self.columns:
            own = found["request_id"].take(first)
            self.requests[begun] = hashes(own, SPLIT, self.wanted.seed)
            self.draws[begun] = hashes(own, SAMPLE, self.wanted.seed)
        else:
            self.requests[begun] = hashes(begun, SPLIT, self.wanted.seed)
            self.draws[begun] = hashes(begun, SAMPLE, self.wanted.seed)
        if "user_id" in self.columns:
            self._of_users(found["user_id"].take(first), begun)
        if self.time is not None:
            np.minimum.at(self.times, numbers, self._moments(group))
        return hashes(found["dataset_id"], SAMPLE) if "dataset_id" in self.columns else None

    def _of_users(self, users: Any, queries: NDArray[np.int64]) -> None:
        there = users.is_valid().to_numpy(zero_copy_only=False)
        self.known[queries] = there
        if there.any():
            self.users[queries[there]] = hashes(users.drop_null(), SPLIT, self.wanted.seed)

    def _moments(self, group: RowGroup) -> NDArray[np.int64]:
        import pyarrow as pa
        import pyarrow.compute as pc

        values = self.table.columns(group, [str(self.time)]).column(0)
        try:
            if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
                values = values.cast(pa.timestamp("us"))
            if pa.types.is_temporal(values.type):
                values = values.cast(pa.timestamp("us", tz=getattr(values.type, "tz", None)), safe=False)
            elif not pa.types.is_integer(values.type):
                raise BadInput(
                    f"a time, a date, or a whole number was expected, and this is {values.type}",
                    file=group.path, place=f"column {self.time}",
                )  # fmt: skip
            whole = values.cast(pa.int64())
        except pa.ArrowInvalid as error:
            raise BadInput(
                f"cannot be read as a time: {error}", file=group.path, place=f"column {self.time}"
            ) from error
        found: NDArray[np.int64] = pc.fill_null(whole, parts.NO_TIME).to_numpy()
        return found

    # ------------------------------------------------------------------ parts

    def _part(self) -> tuple[NDArray[np.int8], int | None]:
        among, cut = self._since(), None
        if self.wanted.split == "time" and self.time is not None:
            part, cut = parts.split_by_time(self.times, among, self.wanted.valid)
        elif self.wanted.split == "request" or "user_id" not in self.columns:
            part = parts.split_by_hash(self.requests, among, self.wanted.valid)
        else:
            part = parts.split_by_hash(
                np.where(self.known, self.users, self.requests), among, self.wanted.valid
            )
        self._check_parts(part)
        return part, cut

    @property
    def way(self) -> str:
        """How the queries are parted: what was asked, or where the table has no such column the next best."""
        if self.wanted.split == "time" and self.time is not None:
            return "time"
        return "user" if self.wanted.split != "request" and "user_id" in self.columns else "request"

    def _since(self) -> NDArray[np.bool_]:
        """Queries whose features knew nothing of them."""
        as_of = self.wanted.as_of
        if as_of is None:
            return np.ones(len(self.sizes), np.bool_)
        if self.time is None:
            raise BadInput(
                "--as-of needs the time of each request, and the table has none",
                file=self.table.folder / "meta.json",
            )
        kind = self.table.types.get(self.time, "")
        moment = (
            int(as_of)
            if kind.startswith(("int", "uint"))
            else int(np.datetime64(as_of, "us").astype(np.int64))
        )
        if not (self.times != parts.NO_TIME).any() or moment > self.times[self.times != parts.NO_TIME].max():
            raise BadInput(
                f"no request is from {as_of} on: nothing is left", file=self.table.folder / "table"
            )
        return self.times >= moment

    def _check_parts(self, assigned: NDArray[np.int8]) -> None:
        for part, name in ((parts.TRAIN, "learn from"), (parts.VALID, "test")):
            chosen = assigned == part
            if part == parts.VALID and not self.wanted.valid:
                continue
            if not chosen.any():
                raise BadInput(
                    f"of {int((assigned != parts.LEFT_OUT).sum()):,} queries none is left to {name}, parted "
                    f"by {self.way} with --valid {self.wanted.valid:g}: use --split request, or --valid 0 to "
                    "train without a test",
                    file=self.table.folder / "groups.npy",
                )
            if not self.clicks[chosen].any():
                raise BadInput(
                    f"none of the {parts.rows_of(chosen, self.sizes):,} rows to {name} has a label above 0: "
                    "there is nothing to rank by",
                    file=self.table.folder / "table", place=f"column {self.wanted.label}",
                )  # fmt: skip
        train = assigned == parts.TRAIN
        mixed = (self.clicks > 0) & (self.clicks < self.sizes)
        if not (mixed & train).any() and self._binary(train):
            raise BadInput(
                "every query to learn from is clicked as a whole or not at all: no pair of rows says which "
                "one comes first",
                file=self.table.folder / "table", place=f"column {self.wanted.label}",
            )  # fmt: skip

    def _binary(self, train: NDArray[np.bool_]) -> bool:
        """Whether no label of the training part is above 1: with grades, rows of a query can still differ."""
        labels = np.load(self.folder / "labels.npy", mmap_mode="r")
        return all(
            float(np.max(labels[group.first : group.first + group.rows], initial=0)) <= 1
            for group in self.table.groups
        )

    def _new_users(self, part: NDArray[np.int8]) -> NDArray[np.bool_]:
        """Queries of users that no query to learn from is of."""
        seen = np.unique(self.users[self.known & (part == parts.TRAIN)])
        return self.known & ~np.isin(self.users, seen)

    def _items(self, found: NDArray[np.uint64], catalogue: NDArray[np.uint64]) -> None:
        """items.npy: the number of each row's item among all, -1 where the table does not name any."""
        items = _new(self.folder / "items.npy", np.int32, self.table.rows)
        for group in self.table.groups:
            place = slice(group.first, group.first + group.rows)
            items[place] = np.searchsorted(catalogue, found[place]) if len(catalogue) else -1

    def _facts(self, assigned: NDArray[np.int8], cut: int | None, items: int) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "split": self.way, "from": _as_text(cut, self.table.types.get(str(self.time), "")),
            "catalogue": items,
            "without_time": int((self.times == parts.NO_TIME).sum()) if self.way == "time" else 0,
        }  # fmt: skip
        for part, name in ((parts.TRAIN, "train"), (parts.VALID, "valid"), (parts.LEFT_OUT, "left_out")):
            chosen = assigned == part
            facts[name] = {
                "rows": parts.rows_of(chosen, self.sizes),
                "queries": int(chosen.sum()),
                "with_click": int((chosen & (self.clicks > 0)).sum()),
                "clicks": int(self.clicks[chosen].sum()),
            }
        return facts


def _new(path: Path, dtype: Any, rows: int) -> NDArray[Any]:
    found: NDArray[Any] = np.lib.format.open_memmap(path, "w+", dtype, (rows,))
    return found


def _as_text(moment: int | None, kind: str) -> str | int | None:
    if moment is None or kind.startswith(("int", "uint")):
        return moment
    return str(np.datetime64(moment, "us"))
