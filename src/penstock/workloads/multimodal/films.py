"""The rows of the film table: which are frontal, when they were taken, and why others are excluded.

A row is known by its number in the file, from 0. Each row ends in exactly one state: it goes on, or it is
skipped for one reason.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock import foreign
from penstock.errors import BadInput
from penstock.workloads.multimodal import csvs

if TYPE_CHECKING:
    from numpy.typing import NDArray

COLUMNS = ("dicom_id", "subject_id", "study_id", "ViewPosition", "Rows", "Columns", "StudyDate", "StudyTime")
_ID = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
_LARGEST_ID = 99_999_999
NO_TIME = np.iinfo(np.int64).min


KNOWN_VIEWS = frozenset(
    f"{first}{turned}".strip()
    for first in ("AP", "PA", "LATERAL", "LL", "XTABLE LATERAL", "SWIMMERS", "LAO", "RAO", "LPO", "RPO")
    for turned in ("", " LLD", " RLD", " AXIAL")
)
"""Values of ViewPosition in MIMIC-CXR and beside it: what a message may quote of a table of people."""


@dataclass
class Films:
    """Frontal films with a time, in the order of the file.

    Attributes:
        table: row, dicom_id, subject_id, study_id, view, height, width, time (seconds since 1970),
            study_index (which of its study's films, from 0), study_films (how many it has).
        rows: rows of the file.
        views: how many rows have each ViewPosition; ``"null"`` for none.
        skipped: how many rows were left out, by reason.
    """

    table: pa.Table
    rows: int
    views: dict[str, int]
    skipped: Counter[str] = field(default_factory=Counter)


def read_films(path: Path, views: Collection[str], *, keep_duplicates: bool = False) -> Films:
    """Read the film table.

    Args:
        path: of the table.
        views: the values of ViewPosition that are kept.
        keep_duplicates: keep rows with a dicom_id that was there before, as the original does.

    Raises:
        BadInput: it cannot be read.
    """
    pieces: list[pa.Table] = []
    seen: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    rows = 0
    for batch in csvs.batches(path, COLUMNS):
        pieces.append(_frontal(batch, rows, views, seen, skipped))
        rows += batch.num_rows
    if rows and not any(piece.num_rows for piece in pieces):
        _see_views(path, views, rows, seen, skipped)
    table = pa.concat_tables(pieces) if pieces else _empty()
    if not keep_duplicates:
        table = _first_of_each(table, skipped)
    good = table["time"].is_valid()
    skipped["bad_time"] += table.num_rows - (pc.sum(good).as_py() or 0)
    return Films(_numbered(table.filter(good)), rows, dict(seen), +skipped)


def _see_views(
    path: Path, views: Collection[str], rows: int, seen: Counter[str], skipped: Counter[str]
) -> None:
    """A view that no film has is a slip of the pen: a run of nothing would look like a success."""
    if skipped["view_null"] + skipped["view_not_frontal"] < rows:
        return
    there = ", ".join(f"{name} ({count:,})" for name, count in seen.most_common() if name in KNOWN_VIEWS)
    raise BadInput(
        f"no film has a view of --views {foreign.line(','.join(sorted(views)))}; "
        f"there are {there or 'none that are known'}",
        file=path, place="column ViewPosition", quotes_nothing=True,
    )  # fmt: skip


def study_times(dates: Any, clocks: Any) -> NDArray[np.int64]:
    """Seconds since 1970 of StudyDate (YYYYMMDD) and StudyTime (HHMMSS.fff without its leading zeros).

    Args:
        dates, clocks: columns of text.

    Returns:
        int64; ``NO_TIME`` where either is none.
    """
    day = _filled(csvs.integers(dates))
    text = pc.utf8_trim_whitespace(clocks)
    whole = pc.replace_substring_regex(text, r"\..*$", "")
    shaped = pc.match_substring_regex(text, r"^[0-9]{1,6}(\.[0-9]*)?$")
    clock = _filled(csvs.integers(pc.if_else(shaped, whole, pa.scalar(None, pa.string()))))
    year, month, of_month = day // 10000, day // 100 % 100, day % 100
    hour, minute, second = clock // 10000, clock // 100 % 100, clock % 100
    good = (day > 0) & (year > 1800) & (year < 2500) & (month >= 1) & (month <= 12) & (of_month >= 1)
    good &= (clock >= 0) & (hour < 24) & (minute < 60) & (second < 60)
    months = np.where(good, (year - 1970) * 12 + month - 1, 0).astype("datetime64[M]")
    days = months.astype("datetime64[D]") + np.where(good, of_month - 1, 0)
    good &= days.astype("datetime64[M]") == months  # no 31st of a month of 30 days
    seconds = days.astype("datetime64[s]").astype(np.int64) + hour * 3600 + minute * 60 + second
    return np.where(good, seconds, NO_TIME)


def key_of(dicom: str) -> str:
    """A record's member name in a shard: readers cut names at the first dot, so it has none."""
    if "." not in dicom:
        return dicom
    return f"{dicom.replace('.', '_')}-{hashlib.blake2b(dicom.encode(), digest_size=4).hexdigest()}"


def _frontal(
    batch: pa.RecordBatch, start: int, views: Collection[str], seen: Counter[str], skipped: Counter[str]
) -> pa.Table:
    view = pc.utf8_trim_whitespace(batch.column("ViewPosition"))
    for name, count in zip(*(each.to_pylist() for each in pc.value_counts(view).flatten()), strict=True):
        # Nothing foreign becomes a name of ours: what is no view's name is counted together.
        seen["null" if name is None else name if re.fullmatch(r"[A-Z0-9 ]{1,16}", name) else "other"] += count
    frontal = pc.is_in(view, value_set=pa.array(sorted(views), pa.string()))
    skipped["view_null"] += view.null_count
    skipped["view_not_frontal"] += len(view) - view.null_count - (pc.sum(frontal).as_py() or 0)
    numbers = pa.array(np.arange(start, start + batch.num_rows))
    subject, study = (csvs.integers(batch.column(name)) for name in ("subject_id", "study_id"))
    dicom = pc.utf8_trim_whitespace(batch.column("dicom_id"))
    good = pc.and_(_is_id(subject), _is_id(study))
    good = pc.and_(good, pc.fill_null(pc.match_substring_regex(dicom, _ID), False))
    time = study_times(batch.column("StudyDate"), batch.column("StudyTime"))
    found = pa.table(
        {
            "row": numbers, "dicom_id": dicom, "subject_id": subject, "study_id": study, "view": view,
            "height": csvs.integers(batch.column("Rows")), "width": csvs.integers(batch.column("Columns")),
            "time": pa.array(time, mask=time == NO_TIME), "good": good,
        }
    ).filter(frontal)  # fmt: skip
    skipped["bad_id"] += found.num_rows - (pc.sum(found["good"]).as_py() or 0)
    return found.filter(found["good"]).drop_columns("good")


def _first_of_each(table: pa.Table, skipped: Counter[str]) -> pa.Table:
    """The first row of each dicom_id; the others are counted, apart where they say something else."""
    codes = table["dicom_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    _, first = np.unique(codes, return_index=True)  # codes count up from 0
    keep = np.zeros(table.num_rows, np.bool_)
    keep[first] = True
    others = np.flatnonzero(~keep)
    if len(others):
        plain = table.drop_columns("row")
        mine = plain.take(others).to_pylist()
        theirs = plain.take(first[codes[others]]).to_pylist()
        for one, other in zip(mine, theirs, strict=True):
            skipped["duplicate" if one == other else "duplicate_conflicting"] += 1
    return table.filter(pa.array(keep))


def _numbered(table: pa.Table) -> pa.Table:
    """Which of its study's films each is: a study with two frontal films is two records."""
    studies = table["study_id"].to_numpy()
    _, which, count = np.unique(studies, return_inverse=True, return_counts=True)
    order = np.argsort(which, kind="stable")
    begins = np.cumsum(count) - count
    index = np.empty(len(studies), np.int64)
    index[order] = np.arange(len(studies)) - np.repeat(begins, count)
    table = table.append_column("study_index", pa.array(index))
    return table.append_column("study_films", pa.array(count[which].astype(np.int64)))


def _is_id(column: Any) -> Any:
    return pc.fill_null(
        pc.and_(pc.greater(column, 0), pc.less_equal(column, _LARGEST_ID)), False
    )  # they become parts of paths


def _filled(column: Any) -> NDArray[np.int64]:
    filled: NDArray[np.int64] = pc.fill_null(column, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    return filled


def _empty() -> pa.Table:
    text, number = pa.string(), pa.int64()
    kinds = {"row": number, "dicom_id": text, "subject_id": number, "study_id": number, "view": text}
    return pa.schema([*kinds.items(), ("height", number), ("width", number), ("time", number)]).empty_table()
