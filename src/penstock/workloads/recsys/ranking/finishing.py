"""Writes the facts about the whole table: groups.npy, positions.npy and meta.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.errors import BadInput

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.workloads.recsys.ranking.table import Written


DROPPED = ("without_key", "without_label", "before_as_of", "window_open")
"""Rows of the samples that go into no table, by why."""


def write_meta(
    folder: Path, *, table: Written, survey: Mapping[str, Any], meta: Mapping[str, Any], file: str
) -> dict[str, Any]:
    """Write the three files.

    Args:
        folder: of the step.
        table: as it is kept.
        survey: of the samples; its datasets are hashes of items and their rows, by span.
        meta: what is known already.
        file: the samples, for messages.

    Returns the facts that are whole: rows, queries, items.

    Raises:
        BadInput: the table has no rows.
    """
    queries, rows, largest = _write_arrays(folder, table)
    if not rows:
        counts = meta["rows"]
        late = counts["before_as_of"]
        raise BadInput(
            f"no row is left of {counts['samples']:,}: {counts['without_key']:,} have no request_id or "
            f"dataset_id, {counts['without_label']:,} no label, {late:,} come before --as-of, of "
            f"{counts['window_open']:,} the time for clicks is not over",
            file=file,
        )
    whole = dict(meta)
    labels, times = _ends(table)
    there, _ = _merged((each["items"], each["items_rows"]) for each in table.each_about())
    every, counts = _merged(_batches(Path(survey["datasets"].files[0])))
    whole["rows"] = {**meta["rows"], "table": rows}
    repeated = sum(int(each["repeated"]) for each in table.each_about())
    whole["repeats"] = {**meta["repeats"], "rows": repeated}
    repeated = 0 if meta["repeats"]["kept"] else repeated
    whole["rows"]["repeated"] = repeated
    whole["rows"]["not_sampled"] = (
        meta["rows"]["samples"] - sum(meta["rows"][name] for name in DROPPED) - repeated - rows
    )
    whole["queries"] = {"samples": meta["queries"]["samples"], "table": queries, "largest": largest}
    whole["label"] = {**meta["label"], **labels}
    whole["time"] = None if times is None else {**(meta["time"] or {}), **times}
    whole["rounded"] = _rounded(table, meta["numeric"]) + meta["rounded"]
    del whole["numeric"]
    whole["datasets"] = {"samples": len(every), "table": len(there)}
    whole["coverage"] = coverage(every, counts, there)
    whole["bytes"] = {
        "before": rows * meta["width"],
        "after": sum(int(each["bytes"]) for each in table.each_about()),
    }
    del whole["width"]
    (folder / "meta.json").write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    return {
        name: whole[name]
        for name in ("rows", "queries", "datasets", "bytes", "coverage", "repeats", "rounded", "label")
    }


def _write_arrays(folder: Path, table: Written) -> tuple[int, int, int]:
    """groups.npy and positions.npy; (queries, rows, rows of the largest query)."""
    rows = queries = largest = held = 0
    last = -1
    with open(folder / "groups.raw", "wb") as groups, open(folder / "positions.raw", "wb") as positions:
        for each in table.each_about():
            query, counts = each["query"], each["groups"].astype(np.int64)
            positions.write(each["positions"].astype(np.int32).tobytes())
            rows += int(counts.sum())
            if not len(query):
                continue
            if held and query[0] == last:  # a query that was cut
                counts[0] += held
            elif held:
                groups.write(np.int32(held).tobytes())
                queries, largest = queries + 1, max(largest, held)
            groups.write(counts[:-1].astype(np.int32).tobytes())
            queries += len(counts) - 1
            largest = max(largest, int(counts[:-1].max(initial=0)))
            held, last = int(counts[-1]), int(query[-1])
        if held:
            groups.write(np.int32(held).tobytes())
            queries, largest = queries + 1, max(largest, held)
    for name, count in (("groups", queries), ("positions", rows)):
        raw = folder / f"{name}.raw"
        whole = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.int32, (count,))
        if count:
            whole[:] = np.memmap(raw, np.int32, "r", shape=(count,))
            whole.flush()
        raw.unlink()
    return queries, rows, largest


def _ends(table: Written) -> tuple[dict[str, Any], dict[str, str] | None]:
    low, high, positives, odd = np.inf, -np.inf, 0, 0
    first = last = ""
    for each in table.each_about():
        if len(each["labels"]):
            low, high = min(low, each["labels"][0]), max(high, each["labels"][1])
            positives, odd = positives + int(each["labels"][2]), odd + int(each["labels"][3])
        if len(each["times"]):
            begin, end = (str(text) for text in each["times"])
            first = min(filter(None, (first, begin)), default="")
            last = max(last, end)
    some = low <= high
    labels = {
        "integer": not odd, "min": float(low) if some else None, "max": float(high) if some else None,
        "positives": positives,
    }  # fmt: skip
    return labels, {"first": first, "last": last} if last else None


def _rounded(table: Written, numeric: Sequence[str]) -> list[str]:
    """Features of the samples that float32 does not hold exactly."""
    found = np.zeros(len(numeric), np.bool_)
    for each in table.each_about():
        found |= each["rounded"]
    return [name for name, lost in zip(numeric, found.tolist(), strict=True) if lost]


def _batches(path: Path) -> Any:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(1 << 18):
            yield batch.column(0).to_numpy(), batch.column(1).to_numpy()


def _merged(parts: Any) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Hashes of items, ascending, and their rows added up."""
    keys, rows = np.zeros(0, np.uint64), np.zeros(0, np.int64)
    held: list[tuple[Any, Any]] = []
    size = 0

    def merge() -> None:
        nonlocal keys, rows, size
        every = np.concatenate([keys, *(each for each, _ in held)])
        counts = np.concatenate([rows, *(each for _, each in held)])
        keys, inverse = np.unique(every, return_inverse=True)
        rows = np.bincount(inverse, counts, len(keys)).astype(np.int64)
        held.clear()
        size = 0

    for found, counts in parts:
        held.append((found, counts))
        size += len(found)
        if size > max(1 << 18, len(keys)):
            merge()
    if held:
        merge()
    return keys, rows


def coverage(
    every: NDArray[np.uint64], rows: NDArray[np.int64], there: NDArray[np.uint64]
) -> dict[str, float | None]:
    """Share of the samples' items in the table, by frequency class.

    The head are the most frequent items that make half of the rows, the tail the rarest that make a tenth.

    Args:
        every: hashes of the samples' items.
        rows: of each.
        there: hashes of the table's items.
    """
    order = np.argsort(-rows, kind="stable")
    share = np.cumsum(rows[order]) / max(int(rows.sum()), 1)
    before = np.append(0, share[:-1])
    found = np.isin(every[order], there)
    classes = {"head": before < 0.5, "middle": (before >= 0.5) & (before < 0.9), "tail": before >= 0.9}
    shares: dict[str, float | None] = {
        name: float(found[mask].mean()) if mask.any() else None for name, mask in classes.items()
    }
    return shares
