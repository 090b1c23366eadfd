"""Draws rows one by one, regardless of their request: by hash, or as pandas draws them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import penstock
from penstock.budget import format_size
from penstock.errors import CannotFit
from penstock.workloads.recsys.hashing import NEGATIVES, SAMPLE
from penstock.workloads.recsys.ranking.columns import DATASET, REQUEST
from penstock.workloads.recsys.shared.tables import keys_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BATCH = 65_536


def pair_hashes(requests: Any, datasets: Any, salt: str, seed: int) -> NDArray[np.uint64]:
    """The hash of each pair of a request and an item.

    Args:
        requests, datasets: ids as ``keys_of`` gives them, without nulls.
        salt, seed: as for ``hashing.hashes``.
    """
    from penstock import hashing
    from penstock.workloads.recsys.hashing import hashes

    return hashing.hashes(datasets, hashes(requests, salt, seed))


def kept_negatives(requests: Any, datasets: Any, rate: float, seed: int) -> NDArray[np.bool_]:
    """Which rows would be kept of those without a click."""
    drawn = pair_hashes(requests, datasets, NEGATIVES, seed)
    return drawn < np.uint64(min(int(rate * 2.0**64), 2**64 - 1))


def draw_rows(
    folder: Path, *, paths: Sequence[Path], by: str, most: int, seed: int, told: str
) -> dict[str, Any]:
    """Write ``rows.npy``, bool (rows of the samples,): the drawn rows.

    Args:
        folder: of the step.
        paths: of the samples.
        by: ``"row"``: by the hash of request and item, whatever order the rows come in; or ``"pandas"``: as
            ``DataFrame.sample(n=most, random_state=seed)`` draws.
        most: rows that are drawn.
        seed: of the draw.
        told: for messages.
    """
    rows = penstock.sources.ParquetRows(paths, [REQUEST, DATASET])
    mask = np.lib.format.open_memmap(folder / "rows.npy", "w+", np.bool_, (len(rows),))
    if most >= len(rows):
        mask[:] = True
    elif by == "pandas":
        _see_room(
            16 * len(rows), f"--sample-by pandas draws as pandas does, from a list of all {len(rows):,} rows"
        )
        mask[np.random.RandomState(seed).permutation(len(rows))[:most]] = True
    else:
        _see_room(
            32 * min(most, len(rows)) + 64 * _BATCH,
            f"--sample-by row compares the hashes of the {most:,} rows that it draws",
        )
        _by_hash(mask, rows, most, seed, told)
    mask.flush()
    return {"drawn": int(mask.sum())}


def _see_room(bytes_: int, why: str) -> None:
    """Refuse a draw that this process has no room for, before anything is drawn.

    Raises:
        CannotFit: there is not so much.
    """
    memory = penstock.share().memory
    if memory and bytes_ > memory:
        raise CannotFit(
            f"{why}, which takes {format_size(bytes_)}, and there are {format_size(memory)}: raise the "
            "budget, or draw whole requests (--sample-by request), which takes no memory"
        )


def _by_hash(
    mask: NDArray[np.bool_], rows: penstock.sources.ParquetRows, most: int, seed: int, told: str
) -> None:
    """The rows of the ``most`` smallest hashes; of equal ones at the border the first."""
    smallest = np.zeros(0, np.uint64)
    for _, drawn, _ in _hashed(rows, seed, told):
        smallest = np.append(smallest, drawn)
        if len(smallest) > 2 * most + _BATCH:
            smallest = np.partition(smallest, most - 1)[:most]
    smallest = np.partition(smallest, most - 1)[:most] if len(smallest) > most else smallest
    limit = smallest.max(initial=0)
    ties = int((smallest == limit).sum())
    for start, drawn, places in _hashed(rows, seed, told):
        chosen = drawn < limit
        equal = np.flatnonzero(drawn == limit)[:ties]
        ties -= len(equal)
        chosen[equal] = True
        mask[start + places[chosen]] = True


def _hashed(rows: penstock.sources.ParquetRows, seed: int, told: str) -> Any:
    """(first row, hashes, their rows) of the rows that have both ids."""
    import pyarrow as pa

    for start in range(0, len(rows), _BATCH):
        table: Any = rows.read(start, min(start + _BATCH, len(rows)))
        ids = [keys_of(table.column(name), f"column {name}", told) for name in (REQUEST, DATASET)]
        there = np.logical_and(*(each.is_valid().to_numpy(zero_copy_only=False) for each in ids))
        kept = [each.filter(pa.array(there)) for each in ids]
        yield start, pair_hashes(kept[0], kept[1], SAMPLE, seed), np.flatnonzero(there)
