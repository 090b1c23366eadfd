"""The columns of a ranking table: where each comes from, and why others are not features."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from penstock.errors import BadInput
from penstock.workloads.recsys.shared.tables import is_key, is_numeric, key_kind

if TYPE_CHECKING:
    import pyarrow as pa

REQUEST, DATASET, USER, PAGE = "request_id", "dataset_id", "user_id", "page_id"
LABEL, POSITION, TIME = "label", "position", "timestamp"
IDENTITY = "identity"
"""Salt of the hash that a request or an item is told by."""
KEYS = (REQUEST, DATASET, USER, PAGE)
NUMERIC = ("score", "channel_weight")
CATEGORICAL = ("channel", "device_type", "endpoint", "experiment_variant", "locale", "source", "variant")
OWN = frozenset({*KEYS, LABEL, POSITION, TIME, "row", "weight", *NUMERIC, *CATEGORICAL})
"""Names that a feature of another table cannot take."""

FROM_THE_LOG = (
    "slot_*", "*ctr", "*cvr", "ctr_*", "cvr_*", "interaction_*", "*_interactions", "popularity*",
    "weight_log", "total_weight", "days_since_*", "last_event_*", "*click*", "*conversion*", "*exposure*",
    "*impression*", "label_*", "*_label", "revenue*",
)  # fmt: skip
"""Columns that are counted over the whole log, and so over the labels that are to be predicted."""


@dataclass(frozen=True)
class Dimension:
    """A table that adds features to rows by a key.

    Attributes:
        name: ``"items"``, ``"users"`` or ``"page_items"``.
        option: on the command line.
        key: its key column.
        by: the samples' column that is looked up.
        features: its column -> the feature.
        found: the feature that says whether the key was there; empty for none.
        left_out: column -> why it is no feature.
    """

    name: str
    option: str
    key: str
    by: str
    features: Mapping[str, str]
    found: str
    left_out: Mapping[str, str]

    @property
    def names(self) -> list[str]:
        """All its features, in order."""
        return [*self.features.values(), *([self.found] if self.found else [])]


@dataclass(frozen=True)
class Columns:
    """The samples' columns by their role.

    Attributes:
        numeric: features as they are.
        absent: features that the samples do not have, and that are 0 in each row (compat).
        categorical: features as numbers of texts.
        texts: those of them that the samples have.
        user, page, time, position, label: whether the samples have these.
    """

    numeric: tuple[str, ...]
    absent: tuple[str, ...]
    categorical: tuple[str, ...]
    texts: tuple[str, ...]
    user: bool
    page: bool
    time: bool
    position: bool
    label: bool

    def needed(self) -> list[str]:
        """The columns that are read."""
        there = [(USER, self.user), (PAGE, self.page), (TIME, self.time), (POSITION, self.position)]
        names = [REQUEST, DATASET, *(name for name, has in there if has)]
        names += [LABEL] if self.label else []
        return names + [name for name in (*self.numeric, *self.texts) if name not in names]

    def surveyed(self) -> list[str]:
        """The columns that decide which rows count, their request and item, and their texts."""
        there = [(TIME, self.time), (LABEL, self.label)]
        return [REQUEST, DATASET, *(name for name, has in there if has), *self.texts]


def of_samples(
    schema: pa.Schema, *, upstream: bool, pages: bool, file: object, clicks: bool = False
) -> Columns:
    """The columns of the samples.

    Args:
        schema: theirs.
        upstream: the original's features: position too, and what is absent is 0.
        pages: whether ``page_id`` is looked up.
        file: for messages.
        clicks: whether clicks make the labels, so that the samples' own are not read.

    Raises:
        BadInput: a key is missing or is none, or a feature has no numbers.
    """
    there = set(schema.names) - ({LABEL} if clicks else set())
    for name in (REQUEST, DATASET, *((PAGE,) if pages else ())):
        if name not in there:
            raise BadInput(f"has no column {name}; it has {', '.join(schema.names)}", file=file)
    for name in KEYS:
        if name in there and not is_key(schema.field(name).type):
            raise BadInput(
                f"is {schema.field(name).type}; ids are integers or texts", file=file, place=f"column {name}"
            )
    wanted = (NUMERIC[0], POSITION, NUMERIC[1]) if upstream else NUMERIC
    numeric = tuple(name for name in wanted if name in there)
    for name in {*numeric, *({POSITION, LABEL} & there)}:
        if not is_numeric(schema.field(name).type):
            raise BadInput(
                f"is {schema.field(name).type}; numbers were expected", file=file, place=f"column {name}"
            )
    return Columns(
        numeric=numeric,
        absent=tuple(name for name in wanted if name not in there) if upstream else (),
        categorical=tuple(name for name in CATEGORICAL if name in there or upstream),
        texts=tuple(name for name in CATEGORICAL if name in there),
        user=USER in there,
        page=pages,
        time=TIME in there,
        position=POSITION in there,
        label=LABEL in there,
    )


def of_dimension(
    name: str, option: str, key: str, by: str, schema: pa.Schema, samples: pa.Schema,
    *, prefix: str, upstream: bool, frozen: bool, file: object,
) -> Dimension:  # fmt: skip
    """The features that a table gives.

    Args:
        name, option, key, by: see :class:`Dimension`.
        schema: of the table.
        samples: of the samples.
        prefix: of every feature's name.
        upstream: the original's features: those from the log too, and nobody says what was found.
        frozen: whether the table is known to be older than all requests.
        file: for messages.

    Raises:
        BadInput: no key, a key of another kind than that of the samples, or two features of one name.
    """
    if key not in schema.names:
        raise BadInput(f"has no column {key}; it has {', '.join(schema.names)}", file=file)
    see_keys(schema.field(key).type, samples.field(by).type, key, by, file)
    features: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for column in schema:
        if column.name == key:
            continue
        why = _why_not(column, upstream=upstream, frozen=frozen)
        if why:
            left_out[column.name] = why
            continue
        feature = prefix + column.name
        if not prefix and (column.name in OWN or column.name.startswith("user_")):
            feature = f"item_{column.name}"
        if feature in features.values():
            raise BadInput(
                f"two features would be called {feature}", file=file, place=f"column {column.name}"
            )
        features[column.name] = feature
    found = "" if upstream else f"{prefix or 'item_'}found"
    return Dimension(name, option, key, by, features, found, left_out)


def _why_not(column: pa.Field, *, upstream: bool, frozen: bool) -> str:
    if column.name in (*KEYS, LABEL):
        return "an id" if column.name != LABEL else "the label"
    if not is_numeric(column.type, booleans=not upstream):
        return f"{column.type}, no numbers"
    if not upstream and not frozen and any(fnmatchcase(column.name, each) for each in FROM_THE_LOG):
        return "counted over the whole log, the labels to be predicted included"
    return ""


def see_keys(mine: pa.DataType, theirs: pa.DataType, key: str, by: str, file: object) -> None:
    """Check that ids of two tables can match.

    Raises:
        BadInput: a column holds no ids, or one texts and the other numbers.
    """
    import pyarrow as pa

    if not is_key(mine):
        raise BadInput(f"is {mine}; ids are integers or texts", file=file, place=f"column {key}")
    if pa.types.is_null(mine) or pa.types.is_null(theirs):
        return
    if key_kind(mine) != key_kind(theirs):
        raise BadInput(
            f"is {mine}, and {by} of the samples is {theirs}: a text and a number are never the same id "
            '("007" is not 7). Write both as one of them',
            file=file,
            place=f"column {key}",
        )


def left_out_of_samples(schema: pa.Schema, columns: Columns) -> dict[str, str]:
    """Why columns of the samples are no features."""
    why = {
        LABEL: "the label",
        POSITION: "known only after ranking; see positions.npy",
        TIME: "the time",
        **dict.fromkeys(KEYS, "an id"),
    }
    used = {*columns.numeric, *columns.categorical}
    return {name: why.get(name, "no feature of the ranking") for name in schema.names if name not in used}


def key_type(kind: pa.DataType) -> pa.DataType:
    """The type of an id in the table: string, uint64 or int64."""
    import pyarrow as pa

    if key_kind(kind) == "text":
        return pa.string()
    return pa.uint64() if pa.types.is_uint64(kind) else pa.int64()


def distinct(named: Iterable[tuple[str, str]]) -> Sequence[str]:
    """All features, each once.

    Args:
        named: of each feature its name, and the option of the table that gives it.

    Raises:
        BadInput: two of one name.
    """
    found: dict[str, str] = {}
    for name, option in named:
        if name in found:
            tables = " and ".join(dict.fromkeys((found[name], option)))
            raise BadInput(
                f"{tables} give two features that would be called {name}: rename one of the columns"
            )
        found[name] = option
    return list(found)
