"""Which record goes into which shard, from the tables and the first bytes of films, before any pixel.

A shard is a fixed list of records: people in one split, records in the order of a keyed hash, cut by a fixed
number. What cannot be made shrinks its shard and moves no other record.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from penstock.errors import BadInput
from penstock.workloads.multimodal import csvs, layout
from penstock.workloads.multimodal.elsewhere import Elsewhere
from penstock.workloads.multimodal.headers import BadImage, read_header
from penstock.workloads.multimodal.images import open_image
from penstock.workloads.multimodal.splits import SPLITS, keyed, official_people, plan_splits

MOST_RECORDS = 4096
"""Of a shard, so that what failed in it fits into its receipt."""
_ROWS = 1024
"""Of a record batch of a plan: what is read at once."""
_START = 4096
_MORE = 1 << 20
_UNKNOWN_MEMORY = 32 << 20


@dataclass(frozen=True)
class SplitRules:
    """How records are split and cut; see ``Multimodal.run``."""

    method: str = "official"
    ratios: tuple[float, float, float] = (70.0, 15.0, 15.0)
    seed: int = 42
    unmatched: str = "exclude"
    records: int = 256
    """Records of a shard."""


@dataclass
class Planned:
    """Records by split, in the order of their shards.

    Attributes:
        splits: the records of each split.
        counts: records, patients and bytes of films of each split, and what was left out by reason.
        lost: (row, reason) of records without a film, in the order of the file.
    """

    splits: dict[str, pa.Table]
    counts: dict[str, Any]
    lost: list[tuple[int, str]]


def plan_records(
    records: pa.Table, films: Path | Elsewhere, rules: SplitRules, official: Path | None = None
) -> Planned:
    """Look for the films, split the people, and order the records.

    Args:
        records: see ``joining.join``.
        films: what their paths begin in, or where they lie elsewhere.
        rules: how.
        official: path of the table of the official split.

    Raises:
        BadInput: the official table tears people apart.
    """
    seen = _look_elsewhere(records, films) if isinstance(films, Elsewhere) else _look(records, films)
    skipped = Counter(reason for reason in seen["reason"].to_pylist() if reason)
    lost = [
        (row, reason)
        for row, reason in zip(records["row"].to_pylist(), seen["reason"].to_pylist(), strict=True)
        if reason
    ]
    there = seen["reason"].is_null()
    records = (
        records.append_column("bytes", seen["bytes"]).append_column("memory", seen["memory"]).filter(there)
    )
    split = _split(records, rules, official)
    skipped["not_in_split"] += split.count(None)
    order = np.array([keyed(rules.seed, each) for each in records["dicom_id"].to_pylist()], np.uint64)
    found, counts = {}, {}
    for name in SPLITS:
        rows = np.flatnonzero(np.array([each == name for each in split], np.bool_))
        mine = records.take(pa.array(rows[np.lexsort((rows, order[rows]))]))
        found[name] = mine.append_column("shard", pa.array(np.arange(len(rows)) // rules.records))
        counts[name] = {
            "records": len(rows),
            "patients": len(np.unique(mine["subject_id"].to_numpy())),
            "shards": -(-len(rows) // rules.records),
            "film_bytes": int(mine["bytes"].to_numpy().sum()),
        }
    return Planned(found, {"splits": counts, "skipped": dict(+skipped), **_shared_people(found)}, lost)


def write_plan(folder: Path, planned: Planned) -> None:
    """Write ``SPLIT.arrow`` of each split, to be entered anywhere."""
    for name, table in planned.splits.items():
        with (
            pa.OSFile(str(folder / f"{name}.arrow"), "wb") as file,
            pa.ipc.new_file(file, table.schema) as out,
        ):
            out.write_table(table, max_chunksize=_ROWS)


def read_rows(path: str, start: int, stop: int) -> pa.Table:
    """Some records of a split's plan; only the batches that hold them are looked at."""
    with pa.memory_map(path) as file:
        reader = pa.ipc.open_file(file)
        first = start // _ROWS
        batches = [reader.get_batch(at) for at in range(first, -(-stop // _ROWS))]
        return pa.Table.from_batches(batches, reader.schema).slice(start - first * _ROWS, stop - start)


def read_column(path: str, name: str) -> pa.ChunkedArray:
    """One column of a split's plan, mapped."""
    with pa.memory_map(path) as file:
        return pa.ipc.open_file(file).read_all()[name]


def count_rows(path: str) -> int:
    """Records of a split's plan."""
    with pa.memory_map(path) as file:
        reader = pa.ipc.open_file(file)
        last = reader.num_record_batches
        return (last - 1) * _ROWS + int(reader.get_batch(last - 1).num_rows) if last else 0


def paths_of(table: pa.Table) -> list[str]:
    """Where the films of some records lie."""
    columns = (table[name].to_pylist() for name in ("subject_id", "study_id", "dicom_id"))
    return [layout.film_path(*each) for each in zip(*columns, strict=True)]


def _look(records: pa.Table, films: Path) -> pa.Table:
    """Bytes of each film and what decoding takes; one that is not there is told now, other faults later."""
    reasons: list[str | None] = []
    sizes, memory = np.zeros(records.num_rows, np.int64), np.zeros(records.num_rows, np.int64)
    starts = range(0, records.num_rows, _ROWS)
    paths = itertools.chain.from_iterable(paths_of(records.slice(start, _ROWS)) for start in starts)
    for at, path in enumerate(paths):
        try:
            sizes[at], memory[at] = _look_at(f"{films}/{path}")
        except BadImage as error:
            reasons.append(error.reason)
        else:
            reasons.append(None)
    return pa.table({"reason": pa.array(reasons, pa.string()), "bytes": sizes, "memory": memory})


def _look_elsewhere(records: pa.Table, films: Elsewhere) -> pa.Table:
    """The same from a listing: what decoding takes is not known before a film is had."""
    paths = paths_of(records)
    there = films.sizes(paths)
    reasons = [None if path in there else "image_missing" for path in paths]
    sizes = np.array([there.get(path, 0) for path in paths], np.int64)
    columns = {"bytes": sizes, "memory": sizes + _UNKNOWN_MEMORY}
    return pa.table({"reason": pa.array(reasons, pa.string()), **columns})


def _look_at(path: str) -> tuple[int, int]:
    with open_image(path, buffering=0) as file:  # of 10^5 films: a read, and nothing else
        size, start = os.fstat(file.fileno()).st_size, b""
        for most in (_START, _MORE):
            try:
                start += file.read(most)
                header = read_header(start)
            except (BadImage, OSError):
                return size, 0
            if header is not None:
                return size, header.memory + size
        return size, _UNKNOWN_MEMORY


def _split(records: pa.Table, rules: SplitRules, official: Path | None) -> list[str | None]:
    subjects = records["subject_id"].to_pylist()
    if rules.method == "record":
        return _by_record(records, rules)
    if rules.method != "official":
        by_person = plan_splits(subjects, rules.method, ratios=rules.ratios, seed=rules.seed)
        return [by_person[person] for person in subjects]
    if official is None:
        raise BadInput("the official split needs its table", quotes_nothing=True)
    people, studies = official_people(_official_rows(official))
    by_person = plan_splits(
        subjects, "official", ratios=rules.ratios, seed=rules.seed, official=people, unmatched=rules.unmatched
    )
    pairs = zip(subjects, records["study_id"].to_pylist(), strict=True)
    if rules.unmatched == "hash":
        return [by_person[person] for person, _ in pairs]
    return [studies.get(pair) for pair in pairs]


def _official_rows(path: Path) -> Any:
    for batch in csvs.batches(path, ("subject_id", "study_id", "split")):
        columns = [csvs.integers(batch.column(name)).to_pylist() for name in ("subject_id", "study_id")]
        for subject, study, word in zip(*columns, batch.column("split").to_pylist(), strict=True):
            if subject is not None and study is not None:
                yield subject, study, word or ""


def _by_record(records: pa.Table, rules: SplitRules) -> list[str | None]:
    """As published: 70, 15 and the rest of the records, whoever they are of; but always the same ones."""
    keys = [keyed(rules.seed, f"record:{row}") for row in records["row"].to_pylist()]
    train, val = int(len(keys) * rules.ratios[0] / 100), int(len(keys) * rules.ratios[1] / 100)
    found: list[str | None] = ["test"] * len(keys)
    for place, at in enumerate(sorted(range(len(keys)), key=keys.__getitem__)):
        if place < train + val:
            found[at] = "train" if place < train else "val"
    return found


def _shared_people(found: Mapping[str, pa.Table]) -> dict[str, Any]:
    """How many people are in more than one split: none, unless that was asked for."""
    people = [set(table["subject_id"].to_pylist()) for table in found.values()]
    shared = sum(map(len, people)) - len(set().union(*people))
    return {"patients_in_two_splits": shared}
