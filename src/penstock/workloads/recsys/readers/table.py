"""A ranking table: its files, whether they belong together, and its values by row group.

Covers what ``penstock run ranking`` leaves: ``table/part-*.parquet``, ``groups.npy``, ``positions.npy`` and
``meta.json`` (see the README). Nothing is held but the numbers of rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock import foreign
from penstock.errors import BadInput
from penstock.plurals import plural

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SCHEMA = 1
_CHUNK = 8192
"""Rows that are laid out at once: their values stay in the processor's cache."""
_FOOTER = 8
"""Bytes at the end of a Parquet file: the length of its footer, and its mark."""


@dataclass(frozen=True)
class RowGroup:
    """A row group of the table.

    Attributes:
        path: the part.
        group: its number within the part.
        first: number of its first row in the table.
        rows: how many it has.
    """

    path: Path
    group: int
    first: int
    rows: int


@dataclass(frozen=True)
class RankingTable:
    """An open ranking table.

    Attributes:
        folder: where it lies.
        meta: what ``meta.json`` says.
        features: names of the features, in the order of the columns.
        categorical: those of them that are numbers of categories.
        groups: the row groups, in order.
    """

    folder: Path
    meta: dict[str, Any]
    features: tuple[str, ...]
    categorical: tuple[str, ...]
    groups: tuple[RowGroup, ...]

    @property
    def rows(self) -> int:
        """Rows of all parts."""
        return self.groups[-1].first + self.groups[-1].rows

    @property
    def largest_group(self) -> int:
        """Rows of the largest row group."""
        return max(group.rows for group in self.groups)

    @cached_property
    def sizes(self) -> NDArray[np.int32]:
        """Rows of each query, int32 (queries,), mapped."""
        return _mapped(self.folder / "groups.npy", np.int32)

    @cached_property
    def positions(self) -> NDArray[np.int32]:
        """The position at which each row was shown, int32 (rows,), mapped; -1 where it is not known."""
        return _mapped(self.folder / "positions.npy", np.int32)

    @property
    def types(self) -> dict[str, str]:
        """Column -> Arrow type, as text."""
        return dict(self.meta.get("types") or {})

    def columns(self, group: RowGroup, names: Sequence[str]) -> Any:
        """Some columns of a row group, as an Arrow table.

        Raises:
            BadInput: the file is cut off, damaged, or has no such column.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(group.path, pre_buffer=False) as file:
                return file.read_row_group(group.group, columns=list(names), use_threads=False)
        except (OSError, pa.ArrowException, EOFError) as error:
            raise BadInput(f"cannot be read: {error}", file=group.path) from error

    def values(self, group: RowGroup, kept: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
        """The features of a row group, float32 (rows, features); unknown values are NaN.

        Args:
            group: of this table.
            kept: the rows that are wanted, bool (rows,); None for all.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        if kept is not None and kept.all():
            kept = None
        rows = group.rows if kept is None else int(np.count_nonzero(kept))
        found: NDArray[np.float32] = np.empty((rows, len(self.features)), np.float32)
        at = first = 0
        try:
            with pq.ParquetFile(group.path, pre_buffer=False) as file:
                batches = file.iter_batches(_CHUNK, [group.group], list(self.features), use_threads=False)
                for batch in batches:
                    wanted = None if kept is None else kept[first : first + batch.num_rows]
                    at += self._lay_out(batch, wanted, found[at:])
                    first += batch.num_rows
        except (OSError, pa.ArrowException, EOFError) as error:
            raise BadInput(f"cannot be read: {error}", file=group.path) from error
        return found

    def _lay_out(self, batch: Any, wanted: NDArray[np.bool_] | None, out: NDArray[np.float32]) -> int:
        """Put the wanted rows of a batch into ``out``; how many they are."""
        rows = batch.num_rows if wanted is None else int(np.count_nonzero(wanted))
        if not rows:
            return 0
        block = np.empty((len(self.features), rows), np.float32)
        for number, (name, column) in enumerate(zip(self.features, batch.columns, strict=True)):
            values = column.to_numpy(zero_copy_only=False)
            block[number] = values if wanted is None else values[wanted]
            if name in self.categorical:
                block[number, block[number] < 0] = np.nan
        out[:rows] = block.T
        return rows

    def fingerprint(self) -> str:
        """A digest of the table: its small files, and its parts' footers.

        A footer has the place and the statistics of every column of every row group.
        """
        digest = hashlib.blake2b(digest_size=16)
        for name in ("meta.json", "groups.npy", "positions.npy"):
            with (self.folder / name).open("rb") as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
        for path in dict.fromkeys(group.path for group in self.groups):
            digest.update(f"{path.name} {path.stat().st_size}\n".encode())
            digest.update(_footer(path))
        return digest.hexdigest()


def open_table(folder: str | Path) -> RankingTable:
    """Open a ranking table, after checking that its files belong together.

    Raises:
        BadInput: something is missing, is not what it should be, or does not agree, naming the file.
    """
    folder = Path(folder)
    meta = _meta(folder)
    features, categorical = (tuple(meta[name]) for name in ("features", "categorical"))
    table = RankingTable(
        folder, meta, features, categorical, tuple(_row_groups(folder, features, meta.get("types") or {}))
    )
    _check_sizes(table)
    return table


def _meta(folder: Path) -> dict[str, Any]:
    path = folder / "meta.json"
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(
            f"there is no ranking table here: meta.json, groups.npy, positions.npy and table/part-*.parquet "
            f"were expected, which penstock run ranking --into {foreign.line(str(folder))} makes",
            file=folder,
        ) from None
    except (OSError, ValueError) as error:
        raise BadInput(f"cannot be read as JSON: {error}", file=path) from error
    if not isinstance(meta, dict) or meta.get("schema") != _SCHEMA:
        found = meta.get("schema") if isinstance(meta, dict) else type(meta).__name__
        raise BadInput(f"schema {_SCHEMA} was expected, and it is {found!r}", file=path)
    _check_features(path, meta)
    kinds = {"types": dict, "time": dict, "origins": dict, "sampling": dict, "weight": str, "as_of": str}
    for name, kind in kinds.items():
        if meta.get(name) is not None and not isinstance(meta[name], kind):
            expected = "an object" if kind is dict else "a text"
            raise BadInput(f"{expected} or null was expected under {name!r}", file=path)
    if not all(isinstance(each, str) for each in (meta.get("types") or {}).values()):
        raise BadInput("'types' must give the type of each column as a text", file=path)
    column = (meta.get("time") or {}).get("column")
    if column is not None and column not in (meta.get("types") or {}):
        raise BadInput("the column of 'time' is not one of 'types'", file=path)
    return meta


def _check_features(path: Path, meta: dict[str, Any]) -> None:
    features = meta.get("features")
    if not isinstance(features, list) or not all(isinstance(each, str) for each in features) or not features:
        raise BadInput("a list of the names of features was expected under 'features'", file=path)
    if len(set(features)) < len(features):
        raise BadInput("'features' names a feature twice", file=path)
    categorical = meta.setdefault("categorical", [])
    if not isinstance(categorical, list) or not all(each in features for each in categorical):
        raise BadInput("'categorical' must be a list of features", file=path)


def _row_groups(folder: Path, features: tuple[str, ...], types: dict[str, str]) -> Iterator[RowGroup]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    paths = sorted((folder / "table").glob("part-*.parquet"))
    if not paths:
        raise BadInput("has no table/part-*.parquet", file=folder)
    first = 0
    for path in paths:
        try:
            with pq.ParquetFile(path) as file:
                _check_columns(path, file.schema_arrow, features)
                _check_types(path, file.schema_arrow, types)
                counts = [file.metadata.row_group(at).num_rows for at in range(file.num_row_groups)]
        except (OSError, pa.ArrowException) as error:
            raise BadInput(f"cannot be read as Parquet: {error}", file=path) from error
        for group, rows in enumerate(counts):
            if rows:
                yield RowGroup(path, group, first, rows)
                first += rows
    if not first:
        raise BadInput("has no rows", file=folder / "table")


def _check_columns(path: Path, schema: Any, features: tuple[str, ...]) -> None:
    """The features must come in the order that ``meta.json`` tells: a model knows them by their number."""
    import pyarrow as pa

    wanted = set(features)
    there = [name for name in schema.names if name in wanted]
    for expected, found in zip(features, there, strict=False):
        if expected != found:
            raise BadInput(
                f"the features come in another order than meta.json says: {foreign.line(expected)} was "
                f"expected, and {foreign.line(found)} is there. Make the table anew with penstock run "
                "ranking",
                file=path,
            )
    if missing := [name for name in features if name not in set(there)]:
        names = foreign.line(", ".join(missing[:3]))
        raise BadInput(f"has no column {names}, which meta.json names as a feature", file=path)
    for name in features:
        kind = schema.field(name).type
        if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
            raise BadInput(
                f"a feature must be a number, and this is {kind}", file=path, place=f"column {name}"
            )


def _check_types(path: Path, schema: Any, types: dict[str, str]) -> None:
    """Columns must be what ``meta.json`` says, in every part."""
    for name, expected in types.items():
        at = schema.get_field_index(name)
        found = None if at < 0 else str(schema.field(at).type)
        if found != expected:
            there = "is not there" if found is None else f"is {foreign.line(found)}"
            raise BadInput(
                f"column {foreign.line(name)} should be {foreign.line(expected)} by meta.json, and {there}: "
                "make the table anew with penstock run ranking",
                file=path,
            )


def _check_sizes(table: RankingTable) -> None:
    for name, count in (
        ("groups.npy", int(table.sizes.sum(dtype=np.int64))),
        ("positions.npy", len(table.positions)),
    ):
        if count != table.rows:
            raise BadInput(
                f"is of {plural(count, 'row')}, and the parts of the table have {table.rows:,}: they do not "
                "belong together. Make the table anew with penstock run ranking",
                file=table.folder / name,
            )
    if int(table.sizes.min()) < 1:
        raise BadInput("a query must have at least one row", file=table.folder / "groups.npy")


def _mapped(path: Path, dtype: Any) -> NDArray[Any]:
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BadInput(f"cannot be read as an array: {error}", file=path) from error
    if not isinstance(found, np.ndarray) or found.ndim != 1 or found.dtype != dtype:
        raise BadInput(f"an array of {np.dtype(dtype)} with one axis was expected", file=path)
    return found


def _footer(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-_FOOTER, 2)
        length = int.from_bytes(file.read(4), "little")
        file.seek(-min(length + _FOOTER, path.stat().st_size), 2)
        return file.read()
