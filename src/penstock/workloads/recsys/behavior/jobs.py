"""The functions of the stages: partition rows by user, list the items, count pairs, write the table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.workloads.recsys.behavior.pairs import (
    Baskets,
    add_up,
    count_pairs,
    most_frequent,
    shares,
)
from penstock.workloads.recsys.hashing import PAIRS, hashes
from penstock.workloads.recsys.shared.tables import keys_of

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

IDS, TABLE = "ids.parquet", "behavior.parquet"
_SEED_OF_USERS = 1


@dataclass(frozen=True)
class TakeInteractions:
    """Rows as ``user`` and ``item``; drops those without either.

    Args:
        user, item: columns.
        file: for messages.
    """

    user: str
    item: str
    file: str

    def __call__(self, table: pa.Table) -> pa.Table:
        import pyarrow as pa
        import pyarrow.compute as pc

        found = pa.table(
            {
                name: keys_of(table[column], f"column {column}", self.file)
                for name, column in (("user", self.user), ("item", self.item))
            }
        )
        return found.filter(pc.and_(pc.is_valid(found["user"]), pc.is_valid(found["item"])))


def list_items(folder: Path, *, users: Iterable[Any], most: int) -> dict[str, Any]:
    """A step: ``ids.parquet``, the distinct items in ascending order of id.

    Args:
        folder: to write into.
        users: the partitions by user.
        most: items of a user that count.

    Returns how many ``users``, ``ids`` and ``rows`` there are, and how many ``pairs`` will be counted.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    known: Any = None
    facts = {"users": 0, "rows": 0, "pairs": 0}
    for partition in users:
        table = partition.table()
        if not table.num_rows:
            continue
        own = pc.unique(table["item"])
        own = own.combine_chunks() if isinstance(own, pa.ChunkedArray) else own
        known = own if known is None else pc.unique(pa.concat_arrays([known, own]))
        codes = table["item"].combine_chunks().dictionary_encode()
        baskets = Baskets.of(_codes(table["user"]), codes.indices.to_numpy(), len(codes.dictionary))
        counts = np.minimum(np.diff(baskets.starts), most)
        facts["users"] += len(counts)
        facts["rows"] += table.num_rows
        facts["pairs"] += int((counts * (counts - 1)).sum())
    known = pa.array([], pa.int64()) if known is None else known
    ordered = known.take(pc.sort_indices(known))
    pq.write_table(pa.table({"item_id": ordered}), folder / IDS)
    return {**facts, "ids": len(ordered)}


def _codes(column: Any) -> NDArray[np.int64]:
    found: NDArray[np.int64] = column.combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    return found


@dataclass
class CountPairs:
    """Counts the pairs of a partition's users: ``pairs`` in both directions, and ``capped`` users.

    Args:
        most: items of a user that count.
    """

    most: int
    _ids: Any = field(default=None, init=False, repr=False, compare=False)

    def __call__(self, partition: Any, *, items: Path) -> dict[str, Any]:
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        if self._ids is None:
            ids = pq.read_table(items / IDS)["item_id"].combine_chunks()
            self._ids = ids, hashes(ids, PAIRS)
        ids, draws = self._ids
        table = partition.table()
        if not table.num_rows:
            return {"pairs": None, "capped": None}
        users = table["user"].combine_chunks().dictionary_encode()
        numbers = pc.index_in(table["item"].combine_chunks(), value_set=ids).to_numpy()
        baskets = Baskets.of(users.indices.to_numpy().astype(np.int64), numbers.astype(np.int64), len(ids))
        counts = np.diff(baskets.starts)
        many = np.flatnonzero(counts > self.most)
        names = users.dictionary.take(pa.array(many))
        kept = baskets.capped(self.most, draws, hashes(users.dictionary, PAIRS, _SEED_OF_USERS))
        capped = pa.table({"user": names, "items": pa.array(counts[many])})
        reader = pa.RecordBatchReader.from_batches(pairs_schema(), _batches(kept, len(ids)))
        return {"pairs": reader, "capped": capped.sort_by("user")}


def pairs_schema() -> Any:
    """Schema of the pairs between stages: item numbers, and how many users have both."""
    import pyarrow as pa

    return pa.schema([("item", pa.int32()), ("other", pa.int32()), ("users", pa.int32())])


def best_schema() -> Any:
    """Schema of the most frequent pairs: item numbers, and how many users have both."""
    import pyarrow as pa

    return pa.schema([(name, pa.int32()) for name in ("item", "rank", "other", "users")])


def _batches(baskets: Baskets, size: int) -> Iterator[Any]:
    import pyarrow as pa

    for keys, counts in count_pairs(baskets, size):
        columns = (keys // size, keys % size, counts)
        arrays = [pa.array(column.astype(np.int32)) for column in columns]
        yield pa.record_batch(arrays, pairs_schema())


@dataclass(frozen=True)
class TakeMostFrequent:
    """The most frequent partners of a partition's items.

    Args:
        size: items that there are.
        most: others of an item.
    """

    size: int
    most: int

    def __call__(self, partition: Any) -> pa.Table:
        import pyarrow as pa

        def counted() -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
            for table in partition:
                item, other, users = (table[name].to_numpy().astype(np.int64) for name in table.column_names)
                yield item * self.size + other, users

        item, rank, other, users = most_frequent(*add_up(counted()), self.size, self.most)
        columns = [pa.array(column.astype(np.int32)) for column in (item, rank, other, users)]
        return pa.table(columns, best_schema())


def write_table(folder: Path, *, best: Any, items: Path) -> dict[str, Any]:
    """A step: ``behavior.parquet`` by item and rank.

    The items of a partition are any; their rows are put in order in files that are mapped.

    Args:
        folder: to write into.
        best: the dataset of all partitions.
        items: what :func:`list_items` wrote.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    ids = pq.read_table(items / IDS)["item_id"].combine_chunks()
    counts = np.zeros(len(ids), np.int64)
    for batch in best.to_batches(columns=["item"], use_threads=False):
        counts += np.bincount(batch["item"].to_numpy(), minlength=len(ids))
    starts = np.concatenate([[0], np.cumsum(counts)])
    others, users = (_scratch(folder / name, int(starts[-1])) for name in ("others.npy", "users.npy"))
    for batch in best.to_batches(use_threads=False):
        to = starts[batch["item"].to_numpy()] + batch["rank"].to_numpy() - 1
        others[to], users[to] = batch["other"].to_numpy(), batch["users"].to_numpy()
    schema = pa.schema([
        ("item_id", ids.type), ("rank", pa.int32()), ("neighbor_id", ids.type), ("users", pa.int32()),
        ("score", pa.float64()),
    ])  # fmt: skip
    with pq.ParquetWriter(folder / TABLE, schema, compression="zstd") as writer:
        for low, high in _spans(starts):
            rows = slice(starts[low], starts[high])
            own = np.repeat(np.arange(low, high), counts[low:high])
            rank = np.arange(rows.start, rows.stop) - starts[own] + 1
            score = shares(own, np.asarray(users[rows], np.int64))
            columns = [
                ids.take(pa.array(own)), pa.array(rank.astype(np.int32)),
                ids.take(pa.array(np.asarray(others[rows]))), pa.array(np.asarray(users[rows])),
                pa.array(score),
            ]  # fmt: skip
            writer.write_table(pa.table(columns, schema))
    del others, users
    for name in ("others.npy", "users.npy"):
        (folder / name).unlink()
    return {"neighbors": int(starts[-1]), "without": int((counts == 0).sum())}


def _spans(starts: Sequence[int] | NDArray[np.int64], rows: int = 1 << 18) -> Iterator[tuple[int, int]]:
    """Items with about so many rows together."""
    low = 0
    while low < len(starts) - 1:
        high = max(int(np.searchsorted(starts, starts[low] + rows, "right")) - 1, low + 1)
        yield low, min(high, len(starts) - 1)
        low = high


def _scratch(path: Path, size: int) -> Any:
    if not size:
        np.save(path, np.zeros(0, np.int32))
        return np.zeros(0, np.int32)
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.int32, shape=(size,))
