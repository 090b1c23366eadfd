"""Joins tables to records: each frontal film with its stay and clinical data, or a reason why not.

Streams every table, and keeps of each only the rows of films that have a stay. What a row of the film table
became is counted by reason: the counts add up to the rows of the file.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from penstock.workloads.multimodal import clinical, csvs, films, labels, stays
from penstock.workloads.multimodal.layout import Layout

if TYPE_CHECKING:
    from numpy.typing import NDArray

WANTED = {
    "metadata": films.COLUMNS,
    "split": ("subject_id", "study_id", "split"),
    "chexpert": ("study_id", *labels.LABELS),
    "edstays": stays.COLUMNS,
    "triage": clinical.TRIAGE,
    "vitalsign": clinical.VITALSIGN,
    "medrecon": clinical.MEDRECON,
    "patients": clinical.PATIENTS,
}
"""The columns that are read of each table."""
RAW = tuple(f"{name}_text" for name in (*clinical.VITALS, "pain", "acuity"))


@dataclass(frozen=True)
class Rules:
    """How films are joined; see ``Multimodal.run``.

    Attributes:
        views: values of ViewPosition that are kept.
        window: seconds that an intime may lie from a film outside its stay; None for no film outside.
        celsius: convert temperatures that look like Celsius, instead of leaving them out.
        text: whether complaints, medicines and raw texts are kept.
        upstream: the original's rules.
    """

    views: tuple[str, ...] = ("AP", "PA")
    window: int | None = None
    celsius: bool = False
    text: bool = True
    upstream: bool = False


@dataclass
class Joined:
    """Records, and what happened to all rows of the film table.

    Attributes:
        records: a row for each film with a stay, in the order of the file.
        counts: how many rows: ``rows``, ``frontal``, ``joined``, and by reason in ``skipped``.
    """

    records: pa.Table
    counts: dict[str, Any] = field(default_factory=dict)


def join(layout: Layout, rules: Rules) -> Joined:
    """Read all tables and join them.

    Raises:
        BadInput: a table cannot be read.
    """
    csvs.check_columns(layout.tables, WANTED)
    read = films.read_films(layout.tables["metadata"], rules.views, keep_duplicates=rules.upstream)
    table = read.table
    subject, time = table["subject_id"].to_numpy(), table["time"].to_numpy()
    there = stays.read_stays(layout.tables["edstays"])
    matched = stays.match(subject, time, there, rules.window, first=rules.upstream)
    skipped = Counter(read.skipped)
    skipped["no_ed_stay"] += int((~matched.known).sum())
    skipped["outside_stay"] += int((matched.known & (matched.at < 0)).sum())
    chosen = np.flatnonzero(matched.at >= 0)
    at = matched.at[chosen]
    table = table.take(pa.array(chosen))
    table = _add(
        table, stay_id=there.stay[at], intime=there.intime[at], relation=matched.relation[chosen],
        gender=there.gender.take(pa.array(at)),
    )  # fmt: skip
    table = _with_clinical(table, layout, rules)
    counts = {
        "rows": read.rows,
        "views": read.views,
        "frontal": sum(read.views.get(view, 0) for view in rules.views),
        "joined": table.num_rows,
        "relation": {name: int((matched.relation == n).sum()) for n, name in enumerate(stays.RELATIONS)},
        "bad_stay_rows": there.bad_rows,
        "skipped": dict(sorted((+skipped).items())),
    }
    return Joined(table, counts)


def _with_clinical(table: pa.Table, layout: Layout, rules: Rules) -> pa.Table:
    subject, time = table["subject_id"].to_numpy(), table["time"].to_numpy()
    stay, intime = table["stay_id"].to_numpy(), table["intime"].to_numpy()
    known = np.unique(stay)
    triage = clinical.read_triage(layout.tables["triage"], known)
    row = _rows_of(triage["stay_id"].to_numpy(), stay)
    if not rules.upstream:
        row = np.where(intime <= time, row, -1)  # nobody was at triage before arrival
    values = np.stack([_floats(triage[name], row) for name in clinical.VITALS], axis=1)
    signs = clinical.read_signs(layout.tables["vitalsign"], known)
    last, has_rows = clinical.latest(signs, stay, None if rules.upstream else time)
    if rules.upstream:  # rows of the table stand in the place of triage, also where they say nothing
        values = np.where(has_rows[:, None], last, values)
    else:
        values = np.where(np.isnan(last), values, last)
    suspected = np.zeros(len(stay), np.bool_)
    if not rules.upstream:
        values[:, 0], suspected = clinical.fahrenheit(values[:, 0], convert=rules.celsius)
    age, masked = clinical.ages(layout.tables["patients"], subject, intime)
    chexpert = labels.read_labels(layout.tables["chexpert"], table["study_id"].to_numpy())
    pain, acuity = _floats(triage["pain"], row), _floats(triage["acuity"], row)
    if not rules.upstream:  # a scale of 0 to 10, and of 1 to 5: nothing is guessed from a 13
        pain = np.where((pain >= 0) & (pain <= 10), pain, np.nan)
        acuity = np.where((acuity >= 1) & (acuity <= 5), acuity, np.nan)
    table = _add(
        table, has_triage=row >= 0, has_signs=has_rows,
        **{name: _nullable(values[:, n]) for n, name in enumerate(clinical.VITALS)},
        pain=_nullable(pain), acuity=_nullable(acuity), celsius=suspected,
        age=pa.array(age, mask=age < 0), age_masked=masked,
        labels=pa.FixedSizeListArray.from_arrays(pa.array(chexpert.ravel()), len(labels.LABELS)),
    )  # fmt: skip
    return _with_text(table, triage, row, layout, rules) if rules.text else table


def _with_text(
    table: pa.Table, triage: pa.Table, row: NDArray[np.int64], layout: Layout, rules: Rules
) -> pa.Table:
    taken = pa.array(row, mask=row < 0)
    columns = {name: triage[name].take(taken) for name in ("chiefcomplaint", *RAW)}
    stay, time = table["stay_id"].to_numpy(), table["time"].to_numpy()
    path = None if rules.upstream else layout.tables.get("medrecon")
    names = clinical.medicines(path, stay, time)
    return _add(table, **columns, medicines=names)


def _rows_of(keys: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """The row of each wanted key among sorted ones, -1 where there is none."""
    at = np.searchsorted(keys, wanted)
    there = at < len(keys)
    there[there] = keys[at[there]] == wanted[there]
    return np.where(there, at, -1)


def _floats(column: Any, row: NDArray[np.int64]) -> NDArray[np.float64]:
    values = column.to_numpy() if column.null_count == 0 else column.fill_null(np.nan).to_numpy()
    found = np.full(len(row), np.nan)
    found[row >= 0] = values[row[row >= 0]]
    return found


def _nullable(values: NDArray[np.float64]) -> pa.Array:
    return pa.array(values, mask=np.isnan(values))


def _add(table: pa.Table, **columns: Any) -> pa.Table:
    for name, values in columns.items():
        table = table.append_column(name, values if not isinstance(values, np.ndarray) else pa.array(values))
    return table
