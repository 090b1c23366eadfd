"""Which record goes into which shard, from the tables and the films' headers, before any pixel.

A shard is a fixed list of records: people in one split, records in the order of a keyed hash, cut by a fixed
number. What cannot be made shrinks its shard and moves no other record.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from penstock.errors import BadInput
from penstock.workloads.multimodal import csvs, layout
from penstock.workloads.multimodal.elsewhere import Elsewhere
from penstock.workloads.multimodal.headers import BadImage, read_header
from penstock.workloads.multimodal.images import read_start
from penstock.workloads.multimodal.splits import (
    SPLITS,
    keyed_all,
    official_people,
    plan_splits,
    study_keys,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_RECORDS = 4096
"""Of a shard, so that what failed in it fits into its receipt."""
_ROWS = 1024
"""Of a record batch of a plan: what is read at once."""
_AT_ONCE = 16 * _ROWS
"""Records that are gathered at once: each time their columns are looked through."""
_START = 4096
_MORE = 1 << 20
_UNKNOWN_MEMORY = 32 << 20


@dataclass(frozen=True)
class SplitRules:
    """How records are split and sharded; see ``Multimodal.run``."""

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
        records: all of them, as they were joined; mapped from a file, they take no memory.
        order: the places in ``records`` of each split's records, in the order of their shards.
        found: what is known of each record's film.
        per_shard: records of a shard.
        counts: records, patients and bytes of films of each split, and what was left out by reason.
    """

    records: pa.Table
    order: dict[str, NDArray[np.int64]]
    found: Found
    per_shard: int
    counts: dict[str, Any]

    @property
    def lost(self) -> Iterator[tuple[int, str]]:
        """(row, reason) of records without a film, in the order of the file."""
        at = np.flatnonzero(self.found.reason)
        reasons = (self.found.reasons[each] for each in self.found.reason[at])
        return zip(self.records["row"].to_numpy()[at].tolist(), reasons, strict=True)

    def tables(self, split: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """A split's records with ``bytes``, ``memory`` and ``shard``, a few thousand at a time.

        Args:
            split: its name.
            columns: those of the joined records; all of them if not told.
        """
        records = self.records if columns is None else self.records.select(columns)
        for start in range(0, max(len(self.order[split]), 1), _AT_ONCE):  # also of none: for its columns
            at = self.order[split][start : start + _AT_ONCE]
            table = records.take(pa.array(at))
            table = table.append_column("bytes", pa.array(self.found.bytes[at]))
            table = table.append_column("memory", pa.array(self.found.memory[at]))
            shard = np.arange(start, start + len(at)) // self.per_shard
            yield table.append_column("shard", pa.array(shard)).combine_chunks()


@dataclass
class Found:
    """What is known of each record's film before it is decoded.

    Attributes:
        reason: int8; which of ``reasons`` keeps the record out, 0 if none.
        bytes, memory: int64; of the file, and what decoding takes.
        reasons: names, of which the first is empty.
    """

    reason: NDArray[np.int8]
    bytes: NDArray[np.int64]
    memory: NDArray[np.int64]
    reasons: list[str]


def plan_records(
    records: pa.Table, films: Path | Elsewhere, rules: SplitRules, official: Path | None = None
) -> Planned:
    """Find the films, split the people, and order the records.

    Args:
        records: see ``joining.join``.
        films: what their paths begin in, or where they lie elsewhere.
        rules: how.
        official: path of the table of the official split.

    Raises:
        BadInput: the official table tears people apart.
    """
    found = _look_elsewhere(records, films) if isinstance(films, Elsewhere) else look_at_films(records, films)
    counted = np.bincount(found.reason, minlength=len(found.reasons)).tolist()
    skipped = Counter(dict(zip(found.reasons[1:], counted[1:], strict=True)))
    there = np.flatnonzero(found.reason == 0)
    subjects = records["subject_id"].to_numpy()
    split = _split(records, there, rules, official)
    skipped["not_in_split"] += int((split < 0).sum())
    keys = _keys(records, there, rules.seed)
    order, counts = {}, {}
    for number, name in enumerate(SPLITS):
        mine = np.flatnonzero(split == number)
        order[name] = at = there[mine[np.lexsort((mine, keys[mine]))]]
        counts[name] = {
            "records": len(at),
            "patients": len(np.unique(subjects[at])),
            "shards": -(-len(at) // rules.records),
            "film_bytes": int(found.bytes[at].sum()),
        }
    people = [np.unique(subjects[at]) for at in order.values()]
    shared = sum(map(len, people)) - len(np.unique(np.concatenate(people)))
    summary = {"splits": counts, "skipped": dict(+skipped), "patients_in_two_splits": shared}
    return Planned(records, order, found, rules.records, summary)


def write_plan(folder: Path, planned: Planned) -> None:
    """Write ``SPLIT.arrow`` of each split, for random access."""
    for name in planned.order:
        with pa.OSFile(str(folder / f"{name}.arrow"), "wb") as file:
            tables = planned.tables(name)
            first = next(tables)
            with pa.ipc.new_file(file, first.schema) as out:
                for table in itertools.chain([first], tables):
                    out.write_table(table, max_chunksize=_ROWS)


def read_rows(path: str, start: int, stop: int) -> pa.Table:
    """Some records of a split's plan; reads only the batches that contain them."""
    with pa.memory_map(path) as file:
        reader = pa.ipc.open_file(file)
        first = start // _ROWS
        batches = [reader.get_batch(at) for at in range(first, -(-stop // _ROWS))]
        return pa.Table.from_batches(batches, reader.schema).slice(start - first * _ROWS, stop - start)


def read_column(path: str, name: str) -> pa.ChunkedArray:
    """One column of a split's plan, memory-mapped."""
    with pa.memory_map(path) as file:
        return pa.ipc.open_file(file).read_all()[name]


def count_rows(path: str) -> int:
    """The number of records in a split's plan."""
    with pa.memory_map(path) as file:
        reader = pa.ipc.open_file(file)
        last = reader.num_record_batches
        return (last - 1) * _ROWS + int(reader.get_batch(last - 1).num_rows) if last else 0


def paths_of(table: pa.Table) -> list[str]:
    """The paths of some records' films."""
    columns = (table[name].to_pylist() for name in ("subject_id", "study_id", "dicom_id"))
    return [layout.film_path(*each) for each in zip(*columns, strict=True)]


def look_at_films(records: pa.Table, films: Path) -> Found:
    """Bytes of each film and what decoding takes; one that is not there is told now, other faults later.

    Args:
        records: see ``joining.join``.
        films: what their paths begin in.
    """
    found, reasons = _found(records.num_rows, [""]), {"": 0}
    for start in range(0, records.num_rows, _ROWS):
        looked = [_look_at(f"{films}/{path}") for path in paths_of(records.slice(start, _ROWS))]
        part = slice(start, start + len(looked))
        sizes, memory, why = zip(*looked, strict=True)
        found.bytes[part], found.memory[part] = sizes, memory
        found.reason[part] = [reasons.setdefault(each, len(reasons)) for each in why]
    found.reasons = list(reasons)
    return found


def _look_elsewhere(records: pa.Table, films: Elsewhere) -> Found:
    """The same from a listing: what decoding takes is not known before a film is had."""
    paths = paths_of(records)
    there = films.sizes(paths)
    found = _found(records.num_rows, ["", "image_missing"])
    found.reason[:] = [path not in there for path in paths]
    found.bytes[:] = [there.get(path, 0) for path in paths]
    found.memory[:] = found.bytes + _UNKNOWN_MEMORY
    return found


def _found(count: int, reasons: list[str]) -> Found:
    return Found(np.zeros(count, np.int8), np.zeros(count, np.int64), np.zeros(count, np.int64), reasons)


def _look_at(path: str) -> tuple[int, int, str]:
    """Bytes, what decoding takes, and the reason why the film is left out."""
    for most in (_START, _MORE):
        try:
            size, start = read_start(path, most)
        except BadImage as error:
            return 0, 0, error.reason
        try:
            header = read_header(start)
        except BadImage:  # told when the film is decoded
            return size, 0, ""
        if header is not None:
            return size, header.memory + size, ""
    return size, _UNKNOWN_MEMORY, ""


def _keys(records: pa.Table, there: NDArray[np.int64], seed: int) -> NDArray[np.uint64]:
    """The key that orders each of these records."""
    names = records["dicom_id"]
    every = np.empty(records.num_rows, np.uint64)
    for start in range(0, records.num_rows, _ROWS):
        part = names.slice(start, _ROWS).to_pylist()
        every[start : start + len(part)] = keyed_all(seed, part)
    return every[there]


def _split(
    records: pa.Table, there: NDArray[np.int64], rules: SplitRules, official: Path | None
) -> NDArray[np.int8]:
    """Which of ``SPLITS`` each of these records is in; -1 for none."""
    if rules.method == "record":
        return _by_record(records["row"].to_numpy()[there], rules)
    subjects = records["subject_id"].to_numpy()[there]
    everyone, which = np.unique(subjects, return_inverse=True)
    if rules.method != "official":
        method, named, studies = rules.method, None, None
    elif official is None:
        raise BadInput("the official split needs its table", quotes_nothing=True)
    else:
        method = "official"
        named, studies = official_people(_official_rows(official))
    people = subjects.tolist() if method == "quota" else everyone.tolist()
    by_person = plan_splits(
        people, method, ratios=rules.ratios, seed=rules.seed, official=named, unmatched=rules.unmatched
    )
    numbers = {name: number for number, name in enumerate(SPLITS)}
    codes = np.array([numbers.get(by_person[each] or "", -1) for each in everyone.tolist()], np.int8)[which]
    if studies is not None and rules.unmatched != "hash":
        pairs = study_keys(subjects, records["study_id"].to_numpy()[there])
        codes[~np.isin(pairs, studies)] = -1
    return codes


def _official_rows(path: Path) -> Iterator[tuple[int, int, str]]:
    for batch in csvs.batches(path, ("subject_id", "study_id", "split")):
        columns = [csvs.integers(batch.column(name)).to_pylist() for name in ("subject_id", "study_id")]
        for subject, study, word in zip(*columns, batch.column("split").to_pylist(), strict=True):
            if subject is not None and study is not None:
                yield subject, study, word or ""


def _by_record(rows: NDArray[np.int64], rules: SplitRules) -> NDArray[np.int8]:
    """As published: 70, 15 and the rest of the records, whoever they are of; but always the same ones."""
    keys = keyed_all(rules.seed, (f"record:{row}" for row in rows.tolist()))
    train, val = int(len(keys) * rules.ratios[0] / 100), int(len(keys) * rules.ratios[1] / 100)
    found = np.full(len(keys), SPLITS.index("test"), np.int8)
    order = np.argsort(keys, kind="stable")
    found[order[:train]] = SPLITS.index("train")
    found[order[train : train + val]] = SPLITS.index("val")
    return found
