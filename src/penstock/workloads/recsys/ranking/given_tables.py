"""The input tables of a run: opened, checked against each other, and the columns they yield."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from penstock.errors import BadInput
from penstock.workloads.recsys.ranking import columns as c
from penstock.workloads.recsys.ranking.clicks import time_column
from penstock.workloads.recsys.ranking.given import Asked, path_of
from penstock.workloads.recsys.ranking.queries import WIDE
from penstock.workloads.recsys.ranking.sorting import ROW
from penstock.workloads.recsys.shared.spans import Spans
from penstock.workloads.recsys.shared.tables import opened

if TYPE_CHECKING:
    import pyarrow as pa

    import penstock

_KINDS = {
    "items": ("--items", c.DATASET, c.DATASET, ""),
    "users": ("--users", c.USER, c.USER, "user_"),
    "page_items": ("--page-items", c.DATASET, c.PAGE, "page_"),
}
"""Table -> its option, its key, the samples' column that is looked up, how names of its features begin."""


class Tables:
    """The tables.

    Args:
        asked: what the user wants.

    Attributes:
        whole: the samples with all their columns.
        samples: with those that are read.
        looked_up: items, users, page_items: those that are given.
        clicks: those that make labels, or None.
        columns, dimensions, features: of the ranking table.
        file, clicks_file: for messages: the same text wherever the run is resumed from.

    Raises:
        BadInput: a table is not what it should be.
        UsageError: options that make no sense together.
    """

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        given = {"items": asked.items, "users": asked.users, "page_items": asked.page_items}
        self.looked_up = {
            name: opened(f"--{name.replace('_', '-')}", each) for name, each in given.items() if each
        }
        self.whole = opened("--samples", asked.samples)
        self.file = path_of(self.whole)
        self.clicks = opened("--clicks", asked.clicks) if asked.clicks else None
        self.clicks_file = path_of(self.clicks) if self.clicks is not None else ""
        for name, rows in self.all().items():
            if not len(rows):
                option = name.replace("_", "-")
                raise BadInput(f"has no rows: there is nothing in --{option}", file=path_of(rows))
        self.columns = c.of_samples(
            self.whole.schema, upstream=asked.upstream, pages="page_items" in self.looked_up, file=self.file,
            clicks=self.clicks is not None,
        )  # fmt: skip
        self._see()
        self.samples = opened("--samples", asked.samples, self.columns.needed(), self.dictionaries())
        self.dimensions = self._find_dimensions()
        self.features = self._find_features()

    def all(self) -> dict[str, penstock.sources.ParquetRows]:
        """Samples, items, users, page_items: those that are given."""
        return {"samples": self.whole, **self.looked_up}

    def surveyed(self) -> Spans:
        """The columns of the samples that the survey looks at."""
        rows = opened("--samples", self._asked.samples, self.columns.surveyed(), self.dictionaries())
        return Spans.of(rows, self._asked.span)

    def rows_of_span(self) -> int:
        """The most rows in a part of the ranking table."""
        width = 4 * len(self.features) + 64
        return max(min(self._asked.span, WIDE // width), 1)

    def dictionaries(self) -> list[str]:
        """The categories that are texts."""
        import pyarrow as pa

        return [name for name in self.columns.texts if pa.types.is_string(self.whole.schema.field(name).type)]

    def schema(self) -> pa.Schema:
        """The schema of the ranking table."""
        import pyarrow as pa

        given = self.whole.schema
        names = [c.REQUEST, c.DATASET, *([c.USER] if self.columns.user else [])]
        fields = [pa.field(name, c.key_type(given.field(name).type)) for name in names]
        if self.columns.time:
            fields.append(pa.field(c.TIME, given.field(c.TIME).type))
        texts = set(self.columns.categorical)
        # Never null: what is not known is NaN, or -1.
        numbers = [(ROW, pa.int64()), (c.LABEL, pa.float32())]
        if self._asked.negatives is not None:
            numbers.append(("weight", pa.float32()))
        numbers += [(name, pa.int32() if name in texts else pa.float32()) for name in self.features]
        return pa.schema(fields + [pa.field(name, kind, nullable=False) for name, kind in numbers])

    def _see(self) -> None:
        if "users" in self.looked_up and not self.columns.user:
            raise BadInput(f"has no column {c.USER}, and --users is given", file=self.file)
        for option, wanted in (("--as-of", self._asked.as_of is not None), ("--clicks", self.clicks)):
            if wanted and not self.columns.time and not self._asked.upstream:
                raise BadInput(f"has no column {c.TIME}, and {option} is given", file=self.file)
        if self.clicks is None:
            self._see_label()
            return
        there = self.clicks.schema
        for name in (c.REQUEST, c.DATASET):
            if name not in there.names:
                raise BadInput(
                    f"has no column {name}; it has {', '.join(there.names)}", file=self.clicks_file
                )
            mine, theirs = there.field(name).type, self.whole.schema.field(name).type
            c.see_keys(mine, theirs, name, name, self.clicks_file)
        time_column(there.names, self.clicks_file)
        _ = self._asked.window  # a duration that is none is told before anything is read

    def _see_label(self) -> None:
        if self.columns.label or self._asked.upstream or self._asked.null_label == "zero":
            return
        raise BadInput(
            f"has no column {c.LABEL}, and no --clicks are given: nothing says which rows were clicked; it "
            f"has {', '.join(self.whole.schema.names)}. To take all as not clicked, give --null-label zero",
            file=self.file,
        )

    def _find_dimensions(self) -> list[c.Dimension]:
        frozen = self._asked.as_of is not None or self._asked.log_features == "keep"
        return [
            c.of_dimension(
                name, option, key, by, rows.schema, self.whole.schema,
                prefix=prefix, upstream=self._asked.upstream, frozen=frozen, file=path_of(rows),
            )
            for name, (option, key, by, prefix) in _KINDS.items()
            if (rows := self.looked_up.get(name)) is not None
        ]  # fmt: skip

    def _find_features(self) -> Sequence[str]:
        named = [(name, "--samples") for name in (*self.columns.numeric, *self.columns.absent)]
        named += [(name, each.option) for each in self.dimensions for name in each.names]
        return c.distinct(named + [(name, "--samples") for name in self.columns.categorical])
