"""Matches films to stays in the emergency department.

By default the stay that the film was taken in: ``intime <= film <= outtime``. With a window also stays whose
intime is at most so far from the film; of several the one that contains it, then the nearest by intime, then
the earlier, then the smaller number. The original takes the first in the file within 24 hours.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.workloads.multimodal import csvs

if TYPE_CHECKING:
    from numpy.typing import NDArray

COLUMNS = ("subject_id", "stay_id", "intime", "outtime", "gender")
RELATIONS = ("inside", "before", "after")
_AT_ONCE = 20_000
_NEVER = np.iinfo(np.int64).min


@dataclass(frozen=True)
class Stays:
    """Stays with a person, an id and an arrival time, sorted by person, and in file order.

    Attributes:
        subject, stay, intime, outtime: int64; times in seconds since 1970; outtime is -2^63 where unknown.
        gender: ``M``, ``F``, or null.
        bad_rows: rows of the table that have no such thing.
    """

    subject: NDArray[np.int64]
    stay: NDArray[np.int64]
    intime: NDArray[np.int64]
    outtime: NDArray[np.int64]
    gender: pa.Array
    bad_rows: int


@dataclass(frozen=True)
class Matched:
    """For each film its stay's index in ``Stays``, and how the two relate in time.

    Attributes:
        at: int64; -1 where there is none.
        relation: int8: 0 inside the stay, 1 before it, 2 after it; -1 where there is none.
        known: whether the film's person has any stay.
    """

    at: NDArray[np.int64]
    relation: NDArray[np.int8]
    known: NDArray[np.bool_]


def read_stays(path: Path) -> Stays:
    """Read the table of stays.

    Raises:
        BadInput: it cannot be read.
    """
    pieces, rows = [], 0
    for batch in csvs.batches(path, COLUMNS):
        rows += batch.num_rows
        gender = pc.utf8_trim_whitespace(batch.column("gender"))
        gender = pc.if_else(
            pc.is_in(gender, value_set=pa.array(["M", "F"])), gender, pa.scalar(None, pa.string())
        )
        found = pa.table(
            {
                "subject": csvs.integers(batch.column("subject_id")),
                "stay": csvs.integers(batch.column("stay_id")),
                "intime": csvs.times(batch.column("intime")),
                "outtime": pc.fill_null(csvs.times(batch.column("outtime")), _NEVER),
                "gender": gender,
            }
        )
        whole = pc.and_(
            pc.and_(found["subject"].is_valid(), found["stay"].is_valid()), found["intime"].is_valid()
        )
        pieces.append(found.filter(whole))
    number = pa.int64()
    schema = pa.schema(
        [(name, number) for name in ("subject", "stay", "intime", "outtime")] + [("gender", pa.string())]
    )
    table = pa.concat_tables(pieces) if pieces else schema.empty_table()
    order = np.argsort(table["subject"].to_numpy(), kind="stable")
    table = table.take(pa.array(order))
    columns = {name: table[name].to_numpy() for name in ("subject", "stay", "intime", "outtime")}
    return Stays(**columns, gender=table["gender"].combine_chunks(), bad_rows=rows - table.num_rows)


def match(
    subject: NDArray[np.int64],
    time: NDArray[np.int64],
    stays: Stays,
    window: int | None,
    *,
    first: bool = False,
) -> Matched:
    """Find the stay of each film.

    Args:
        subject, time: int64 (films,).
        stays: all of them.
        window: seconds that an intime may lie from a film that is not inside the stay; None for none.
        first: take the first in the file within the window, inside a stay or not, as the original does.
    """
    low = np.searchsorted(stays.subject, subject, "left")
    high = np.searchsorted(stays.subject, subject, "right")
    at, relation = np.full(len(subject), -1, np.int64), np.full(len(subject), -1, np.int8)
    for start in range(0, len(subject), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        found = _match(low[part], high[part], time[part], stays, window, first)
        at[part] = found
        there = found >= 0
        relation[part][there] = _relations(time[part][there], stays, found[there])
    return Matched(at, relation, high > low)


def _match(
    low: NDArray[np.int64], high: NDArray[np.int64], time: NDArray[np.int64], stays: Stays, window: int |
    None,
    first: bool,
) -> NDArray[np.int64]:  # fmt: skip
    """The best pair of each film; all pairs of a film and a stay of its person are looked at."""
    count = high - low
    film = np.repeat(np.arange(len(low)), count)
    stay = np.arange(len(film)) - np.repeat(np.cumsum(count) - count, count) + np.repeat(low, count)
    when = time[film]
    distance = np.abs(when - stays.intime[stay])
    inside = _relations(when, stays, stay) == 0
    near = distance <= (window if window is not None else -1)
    chosen = near if first else near | inside
    film, stay, distance, inside = film[chosen], stay[chosen], distance[chosen], inside[chosen]
    if first:
        order = np.lexsort((stay, film))
    else:
        order = np.lexsort((stays.stay[stay], stays.intime[stay], distance, ~inside, film))
    film, stay = film[order], stay[order]
    found = np.full(len(low), -1, np.int64)
    best = np.flatnonzero(np.diff(film, prepend=-1))
    found[film[best]] = stay[best]
    return found


def _relations(time: NDArray[np.int64], stays: Stays, at: NDArray[np.int64]) -> NDArray[np.int8]:
    before, after = time < stays.intime[at], time > stays.outtime[at]
    return np.where(before, 1, np.where(after, 2, 0)).astype(np.int8)
