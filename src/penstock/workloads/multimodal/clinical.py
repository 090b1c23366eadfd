"""Clinical data known when the film was taken: triage, vital signs, medicines, age.

Nothing measured after the film is used, and triage counts from the moment of arrival. What is only known
later (the ED's diagnosis, disposition and outtime, the hospital's ICD codes) is never read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.workloads.multimodal import csvs

if TYPE_CHECKING:
    from numpy.typing import NDArray

VITALS = ("temperature", "heartrate", "resprate", "o2sat", "sbp", "dbp")
TRIAGE = ("stay_id", *VITALS, "pain", "acuity", "chiefcomplaint")
VITALSIGN = ("stay_id", "charttime", *VITALS)
MEDRECON = ("stay_id", "charttime", "name")
PATIENTS = ("subject_id", "anchor_age", "anchor_year")
OVER_89 = 91
"""How MIMIC stores the age of everybody over 89."""
MEDICINES = 5
"""At most so many in a note."""
CELSIUS = (30.0, 43.0)
"""A temperature between these can be no Fahrenheit of a living patient."""
_TIME_BITS = 35
_AT_ONCE = 4096
_NAMES = pa.list_(pa.string())


@dataclass(frozen=True)
class Signs:
    """Rows of the vital-signs table for the selected stays, in file order.

    Attributes:
        stay: int64.
        time: int64, seconds since 1970; -1 where unknown.
        values: float64 (rows, 6), NaN where missing or no number.
    """

    stay: NDArray[np.int64]
    time: NDArray[np.int64]
    values: NDArray[np.float64]


def of_stays(path: Path, columns: Sequence[str], stays: NDArray[np.int64]) -> pa.Table:
    """A table's rows for some stays, with the column ``stay_id`` as int64.

    Args:
        path: of the table.
        columns: those that are read; ``stay_id`` is one of them.
        stays: sorted.
    """
    wanted = pa.array(stays)
    schema = pa.schema([(name, pa.int64() if name == "stay_id" else pa.string()) for name in columns])
    pieces = []
    for batch in csvs.batches(path, columns):
        number = csvs.integers(batch.column("stay_id"))
        rest = [number if name == "stay_id" else batch.column(name) for name in columns]
        pieces.append(pa.Table.from_arrays(rest, schema=schema).filter(pc.is_in(number, value_set=wanted)))
    return pa.concat_tables(pieces) if pieces else schema.empty_table()


def read_triage(path: Path, stays: NDArray[np.int64]) -> pa.Table:
    """The triage of some stays: the first row of each, with vital signs, pain and acuity as numbers too.

    ``pain_text`` and ``temperature_text`` and the like keep what stands there and is no number.
    """
    table = of_stays(path, TRIAGE, stays)
    _, first = np.unique(table["stay_id"].to_numpy(), return_index=True)
    table = table.take(pa.array(first))
    columns: dict[str, Any] = {"stay_id": table["stay_id"], "chiefcomplaint": table["chiefcomplaint"]}
    for name in (*VITALS, "pain", "acuity"):
        columns[name] = csvs.numbers(table[name])
        odd = pc.and_(table[name].is_valid(), columns[name].is_null())
        columns[f"{name}_text"] = pc.if_else(odd, table[name], pa.scalar(None, pa.string()))
    return pa.table(columns)


def read_signs(path: Path, stays: NDArray[np.int64]) -> Signs:
    """The vital signs of some stays."""
    table = of_stays(path, VITALSIGN, stays)
    time = pc.fill_null(csvs.times(table["charttime"]), -1).to_numpy()
    values = np.empty((table.num_rows, len(VITALS)))
    for at, name in enumerate(VITALS):
        values[:, at] = pc.fill_null(csvs.numbers(table[name]), np.nan).to_numpy()
    return Signs(table["stay_id"].to_numpy(), time, values)


def latest(
    signs: Signs, stay: NDArray[np.int64], time: NDArray[np.int64] | None
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The last known value of each vital sign of each film.

    Args:
        signs: see ``read_signs``.
        stay: int64 (films,).
        time: of the films: what was measured later does not count, and of what was measured at once the
            later row does. None: whatever stands last in the file, at any time, as the original has it.

    Returns:
        float64 (films, 6), NaN where there is none; and whether the stay has any row at all.
    """
    known, films = np.unique(stay, return_inverse=True)
    found = np.full((len(stay), len(VITALS)), np.nan)
    row_stay = np.searchsorted(known, signs.stay)
    until = np.arange(len(signs.stay)) if time is None else signs.time
    limit = np.full(len(stay), len(signs.stay)) if time is None else time
    for at in range(len(VITALS)):
        rows = np.flatnonzero(~np.isnan(signs.values[:, at]) & (until >= 0))
        keys = (row_stay[rows] << _TIME_BITS) + until[rows]
        order = np.argsort(keys, kind="stable")
        place = np.searchsorted(keys[order], (films << _TIME_BITS) + np.maximum(limit, 0), "right") - 1
        if len(order):
            chosen = rows[order[np.maximum(place, 0)]]
            there = (place >= 0) & (row_stay[chosen] == films)
            found[there, at] = signs.values[chosen[there], at]
    return found, np.isin(stay, signs.stay)


def medicines(path: Path | None, stay: NDArray[np.int64], time: NDArray[np.int64]) -> pa.ChunkedArray:
    """Each film's home medicines, as the ED recorded them up to the film: sorted by time and name.

    Args:
        path: of the table; None where it is not there.
        stay, time: int64 (films,).

    Returns:
        a list of texts for each film.
    """
    if path is None or not len(stay):
        return pa.chunked_array([pa.array([[]] * len(stay), _NAMES)])
    table = of_stays(path, MEDRECON, np.unique(stay))
    when = csvs.times(table["charttime"])
    name = pc.utf8_trim_whitespace(table["name"])
    table = pa.table({"stay": table["stay_id"], "time": when, "name": name}).drop_null().combine_chunks()
    table = table.sort_by([("stay", "ascending"), ("time", "ascending"), ("name", "ascending")])
    known, rows = np.unique(table["stay"].to_numpy(), return_inverse=True)
    films = np.searchsorted(known, stay)
    there = films < len(known)
    there[there] = known[films[there]] == stay[there]
    keys = (rows << _TIME_BITS) + table["time"].to_numpy()
    low = np.searchsorted(keys, films << _TIME_BITS)
    high = np.searchsorted(keys, (films << _TIME_BITS) + np.maximum(time, 0), "right")
    names = table["name"]
    high = np.where(there, high, low)
    pieces = []
    for start in range(0, len(stay), _AT_ONCE):  # as Python's lists they take many times as much
        ends = zip(
            low[start : start + _AT_ONCE].tolist(), high[start : start + _AT_ONCE].tolist(), strict=True
        )
        lists = [
            list(dict.fromkeys(names.slice(a, b - a).to_pylist()))[:MEDICINES] if b > a else []
            for a, b in ends
        ]
        pieces.append(pa.array(lists, _NAMES))
    return pa.chunked_array(pieces, _NAMES)


def ages(
    path: Path, subject: NDArray[np.int64], intime: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Age at arrival, and whether it is one over 89, which is withheld.

    Args:
        path: of the table of patients.
        subject, intime: int64 (films,).

    Returns:
        int64, -1 where unknown; bool.
    """
    wanted = pa.array(np.unique(subject))
    pieces = []
    for batch in csvs.batches(path, PATIENTS):
        columns = [csvs.integers(batch.column(name)) for name in PATIENTS]
        table = pa.table(dict(zip(PATIENTS, columns, strict=True)))
        pieces.append(table.filter(pc.is_in(table["subject_id"], value_set=wanted)).drop_null())
    schema = pa.schema([(name, pa.int64()) for name in PATIENTS])
    patients = pa.concat_tables(pieces) if pieces else schema.empty_table()
    person, first = np.unique(patients["subject_id"].to_numpy(), return_index=True)
    at = np.searchsorted(person, subject)
    there = at < len(person)
    there[there] = person[at[there]] == subject[there]
    row = first[at[there]]
    found, masked = np.full(len(subject), -1, np.int64), np.zeros(len(subject), np.bool_)
    year = intime[there].astype("datetime64[s]").astype("datetime64[Y]").astype(np.int64) + 1970
    anchor = patients["anchor_age"].to_numpy()[row]
    age, over = age_at(anchor, patients["anchor_year"].to_numpy()[row], year)
    found[there], masked[there] = age, over
    return found, masked


def age_at(
    anchor_age: NDArray[np.int64], anchor_year: NDArray[np.int64], year: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The age in a year; everybody over 89 is stored as 91, whatever the age: 91, and True."""
    age = anchor_age + year - anchor_year
    masked = (anchor_age >= 90) | (age > 89)
    return np.where(masked, OVER_89, np.where(age < 0, -1, age)), masked


def fahrenheit(
    values: NDArray[np.float64], *, convert: bool = False
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Temperatures, with apparent Celsius values nulled or converted (to 0.1 degrees); and which they are."""
    suspected = (values >= CELSIUS[0]) & (values <= CELSIUS[1])
    other = np.round(values * 1.8 + 32, 1) if convert else np.nan
    return np.where(suspected, other, values), suspected
