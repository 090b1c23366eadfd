"""Metadata of a ranking table: meta.json before its rows are known, and a run's closing lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from penstock.plurals import plural
from penstock.workloads.recsys.ranking import columns as c

if TYPE_CHECKING:
    import pyarrow as pa

    from penstock.sources import ParquetRows
    from penstock.workloads.recsys.ranking.given import Asked

_DROPPED = (
    ("without_key", "without request_id or dataset_id"), ("without_label", "without a label"),
    ("before_as_of", "from before --as-of"), ("window_open", "whose time for clicks is not over"),
    ("repeated", "that repeat an item of their request"), ("not_sampled", "not drawn"),
)  # fmt: skip
_CLICKED = (
    ("clicked_early", "only before they were shown"), ("clicked_late", "only after the time for it was over"),
)  # fmt: skip


def meta_of(
    asked: Asked, columns: c.Columns, dimensions: Sequence[c.Dimension], tables: Mapping[str, ParquetRows],
    schema: pa.Schema,
) -> dict[str, Any]:  # fmt: skip
    """Metadata from the options and the tables' columns.

    Args:
        asked: the options.
        columns, dimensions: where features come from.
        tables: those that are read, by name, the samples first.
        schema: of the ranking table.
    """
    own = [*columns.numeric, *columns.absent, *columns.categorical]
    origins = dict.fromkeys(own, "samples")
    left_out = {"samples": c.left_out_of_samples(tables["samples"].schema, columns)}
    for each in dimensions:
        origins.update(dict.fromkeys(each.names, each.name))
        left_out[each.name] = dict(each.left_out)
    if asked.clicks and c.LABEL in left_out["samples"]:
        left_out["samples"][c.LABEL] = "--clicks makes the labels"
    sampling = None
    if asked.max_samples or asked.negatives is not None:
        sampling = {
            "max_samples": asked.max_samples, "by": asked.sample_by, "seed": None,
            "stratify": asked.stratify, "negatives": asked.negatives,
        }  # fmt: skip
    first = [*columns.numeric, *columns.absent]
    features = [*first, *(name for each in dimensions for name in each.names), *columns.categorical]
    return {
        "schema": 1,
        "features": features,
        "categorical": list(columns.categorical),
        "categories": {},
        "types": {field.name: str(field.type) for field in schema},
        "origins": origins,
        "left_out": left_out,
        "label": {},
        "weight": "weight" if asked.negatives is not None else None,
        "time": {"column": c.TIME} if columns.time else None,
        "as_of": asked.as_of,
        "rows": {},
        "queries": {},
        "columns": {name: len(each.schema.names) for name, each in tables.items()}
        | {"table": len(schema.names)},
        "duplicates": {},
        "repeats": {"kept": asked.keeps_repeats},
        "width": 8 * (len(columns.needed()) + len(features)),
        "sampling": sampling,
        "order": "",
        "compat": asked.compat,
    }


def tables_told(tables: Mapping[str, ParquetRows]) -> dict[str, str]:
    """The size of each table."""
    return {
        name: f"{plural(len(rows), 'row')} of {plural(len(rows.schema.names), 'column')}"
        for name, rows in tables.items()
    }


def sampling_told(asked: Asked) -> str:
    """The options that decide which rows are drawn."""
    most = f"--max-samples {asked.max_samples}" + ("" if asked.max_samples else " (all rows)")
    drawn = [most, f"--sample-by {asked.sample_by}", f"--seed {asked.seed}"]
    drawn += [f"--stratify {asked.stratify}"] if asked.stratify else []
    drawn += [f"--negatives {asked.negatives}"] if asked.negatives is not None else []
    return ", ".join(drawn)


def lines_of(facts: Mapping[str, Any], meta: Mapping[str, Any], lossy: bool) -> Iterator[str]:
    """The closing lines of a run.

    Args:
        facts: of ``write_meta``.
        meta: what it was given.
        lossy: whether it is meant that features lose digits.
    """
    rows, queries, size = facts["rows"], facts["queries"], facts["bytes"]
    dropped = ", ".join(f"{rows[name]:,} {words}" for name, words in _DROPPED if rows[name])
    yield f"rows: {rows['table']:,} of {rows['samples']:,}" + (f" ({dropped})" if dropped else "")
    clicked = [
        f"{plural(rows[name], 'row')} with clicks {words}" for name, words in _CLICKED if rows.get(name)
    ]
    if clicked:
        yield f"labels: {', and '.join(clicked)}: counted as not clicked"
    again = facts["repeats"]
    if again["kept"] and again["rows"] and meta["compat"] == "none":
        yield (
            f"repeats: {plural(again['rows'], 'row')} with an item that was in the request before, kept: "
            "--repeats first keeps the first that was shown"
        )
    yield (
        f"requests: {queries['table']:,} of {queries['samples']:,}; "
        f"the largest has {plural(queries['largest'], 'row')}"
    )
    yield f"datasets: {facts['datasets']['table']:,} of {facts['datasets']['samples']:,}"
    tables = {name: count for name, count in meta["columns"].items() if name != "table"}
    yield "columns: " + ", ".join(f"{count} of {name}" for name, count in tables.items())
    yield f"features: {len(meta['features']):,}"
    if facts["rounded"] and not lossy and meta["compat"] == "none":
        some = ", ".join(facts["rounded"][:5]) + (", ..." if len(facts["rounded"]) > 5 else "")
        yield (
            f"rounded: {plural(len(facts['rounded']), 'feature')} not exact as float32, by 6e-8 of a value "
            f"at most: {some} (--lossy-float32: this is meant)"
        )
    yield f"memory: {size['before'] / 1e6:,.1f} MB as float64, {size['after'] / 1e6:,.1f} MB in the table"
    left = [
        column
        for name, columns in meta["left_out"].items()
        for column, why in columns.items()
        if name != "samples" and why.startswith("counted")
    ]
    if left:
        yield (
            "left out, as they are counted over the labels to be predicted: "
            f"{', '.join(dict.fromkeys(left))}; say with --as-of when the tables were frozen, or "
            "--log-features keep"
        )
    yield from _refused(facts)


def _refused(facts: Mapping[str, Any]) -> Iterator[str]:
    """What ``rank-train`` will not take of this table."""
    from penstock.workloads.recsys.readers.rows import MOST_LABELS, MOST_ROWS_OF_A_QUERY

    if facts["queries"]["largest"] > MOST_ROWS_OF_A_QUERY:
        yield f"warning: LightGBM refuses requests of more than {MOST_ROWS_OF_A_QUERY:,} rows"
    label = facts.get("label")  # not told by folders that were begun before
    if label and label["min"] is not None:
        whole = label["integer"] and label["min"] >= 0 and label["max"] < MOST_LABELS
        if not whole:
            yield (
                f"warning: rank-train takes labels that are whole numbers from 0 to {MOST_LABELS - 1}; "
                f"here they go from {label['min']:g} to {label['max']:g}"
                + ("" if label["integer"] else ", and not all are whole")
            )
