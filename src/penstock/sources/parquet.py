"""Rows of Parquet files, read one row group at a time and never a whole file."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal

from penstock.errors import BadInput, UsageError
from penstock.sources.paths import AnyPath, find_files
from penstock.sources.telling import Fingerprint, Telling

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH_BYTES = 4 << 20
_BATCH_ROWS = 65_536
_BUFFER = 256 << 10
"""Bytes read ahead of each column."""


class ParquetRows:
    """Rows of Parquet files, or their row groups, as items; read as Arrow tables.

    A call of rows is one Arrow table with exactly these rows and columns. Only the row groups
    that it touches are decoded, in steps of about 4 MiB, and where it ends inside one the cursor
    stays, so that the next call goes on from there without decoding anything twice.

    The chosen columns must have the same types in all files, where null (a column that was empty)
    becomes any type and an integer a wider one or a float.

    Args:
        paths: one or more paths or glob patterns; rows come in this order.
        columns: the columns to read, in this order; None for all. Nothing else is decoded.
        item: what an item is: ``"row"``, or ``"group"`` for a whole row group. A call of groups is
            an iterator that gives one table for each, so that only one is in memory at a time.
        fingerprint: how a changed file is told, as for :class:`~penstock.sources.Files`.
        dictionary: columns of texts that come as Arrow dictionaries, as they lie in the file: far less to
            decode where values repeat.

    Raises:
        BadInput: a file that is missing, cut off or not Parquet, a column that is not there,
            columns or types that do not agree between files.
        UsageError: no columns, a column twice, or another ``item`` or ``fingerprint``.
    """

    def __init__(
        self,
        paths: AnyPath | Iterable[AnyPath],
        columns: Sequence[str] | None = None,
        *,
        item: Literal["row", "group"] = "row",
        fingerprint: Fingerprint = "auto",
        dictionary: Sequence[str] = (),
    ) -> None:
        if item not in ("row", "group"):
            raise UsageError(f"ParquetRows(item={item!r}): an item is a 'row' or a 'group'")
        self._paths = find_files(paths)
        self._telling = Telling(self._paths, fingerprint, "ParquetRows")
        self._item = item
        self._columns = _distinct(columns)
        self._dictionary = tuple(dictionary)
        self._rows = array("q")  # of each row group
        self._bytes = array("q")  # of each row group, the chosen columns, uncompressed
        self._first_groups = array("q", [0])  # of each file, and one past the last
        self._schema: pa.Schema = None
        for path in self._paths:
            self._survey(path)
        self._ends = array("q", accumulate(self._rows))
        self._cursor: _RowCursor | None = None

    @property
    def schema(self) -> pa.Schema:
        """The chosen columns, with types that fit all files."""
        return self._schema

    def __len__(self) -> int:
        return len(self._rows) if self._item == "group" else self._rows_before(len(self._rows))

    def __repr__(self) -> str:
        columns = "all columns" if self._columns is None else f"columns {', '.join(self._columns)}"
        return f"ParquetRows({len(self._paths)} files, {len(self)} {self._item}s, {columns})"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cursor": None}

    def read(self, start: int, stop: int) -> pa.Table | Iterator[pa.Table]:
        """These rows as one table; or an iterator with a table for each of these row groups.

        Raises:
            BadInput: a file is cut off or damaged, or is not the one it was.
        """
        if self._item == "group":
            return (self._group_rows(group, 0, self._rows[group]) for group in range(start, stop))
        import pyarrow as pa

        pieces = []
        group = bisect_right(self._ends, start)
        while group < len(self._rows) and self._rows_before(group) < stop:
            before = self._rows_before(group)
            low, high = max(start - before, 0), min(stop - before, self._rows[group])
            if low < high:
                pieces.append(self._group_rows(group, low, high))
            group += 1
        # An empty interval still has columns.
        return pa.concat_tables(pieces) if pieces else self._group_rows(0, 0, 0)

    def each(self, table: pa.Table) -> Iterator[dict[str, Any]]:
        """The rows of a call one by one, as dicts, for a function of one item."""
        for batch in table.to_batches(max_chunksize=256):
            yield from batch.to_pylist()

    def sizes(self, start: int, stop: int) -> list[int]:
        """Uncompressed bytes of the chosen columns: of a row group, or a row's share of one."""
        if self._item == "group":
            return self._bytes[start:stop].tolist()
        hints: list[int] = []
        group = bisect_right(self._ends, start)
        while len(hints) < stop - start and group < len(self._rows):
            low, high = max(start, self._rows_before(group)), min(stop, self._ends[group])
            hints.extend([self._bytes[group] // max(self._rows[group], 1)] * (high - low))
            group += 1
        return hints

    def name(self, item: int) -> str:
        """``"samples.parquet, row 17"``; rows and row groups are counted from 0 in each file."""
        group = item if self._item == "group" else bisect_right(self._ends, item)
        file = bisect_right(self._first_groups, group) - 1
        first = self._first_groups[file]
        if self._item == "group":
            return f"{self._paths[file]}, row group {item - first}"
        return f"{self._paths[file]}, row {item - self._rows_before(first)}"

    def fingerprint(self) -> Mapping[str, str]:
        """A fingerprint of each file and the chosen columns, by path."""
        return self.fingerprint_by("")

    def fingerprint_kind(self) -> str:
        """``"content"`` or ``"stat"``."""
        return self._telling.choose()

    def fingerprint_by(self, kind: str) -> Mapping[str, str]:
        """The fingerprint of this kind."""
        chosen = "" if self._columns is None else f" {self._columns}"
        chosen += f" dictionary {self._dictionary}" if self._dictionary else ""
        return {path: text + chosen for path, text in self._telling.tell(kind).items()}

    def spans(self) -> Mapping[str, tuple[int, int]]:
        """The items of each file."""
        count = (lambda group: group) if self._item == "group" else self._rows_before
        firsts = [count(group) for group in self._first_groups]
        return {path: (firsts[i], firsts[i + 1]) for i, path in enumerate(self._paths)}

    def _rows_before(self, group: int) -> int:
        return self._ends[group - 1] if group else 0

    def _survey(self, path: str) -> None:
        """Take the counts of a file's footer, and bring its columns together with those before."""
        with _open(path, self._dictionary) as file:
            found = _chosen(file.schema_arrow, self._columns, path)
            self._schema = (
                found if self._schema is None else _unified(self._schema, found, path, self._paths[0])
            )
            footer = file.metadata
            there, wanted = set(file.schema_arrow.names), set(found.names)
            leaves = [
                leaf
                for leaf in range(footer.num_columns)
                if _root(footer.schema.column(leaf).path, there) in wanted
            ]
            for group in range(footer.num_row_groups):
                record = footer.row_group(group)
                self._rows.append(record.num_rows)
                self._bytes.append(sum(record.column(leaf).total_uncompressed_size for leaf in leaves))
            self._first_groups.append(len(self._rows))

    def _group_rows(self, group: int, low: int, high: int) -> pa.Table:
        """Rows ``low <= row < high`` of a row group; goes on from the cursor where it stands before them."""
        cursor = self._cursor
        if cursor is None or cursor.group != group or cursor.at > low:
            if cursor is not None:
                cursor.close()
            self._cursor = cursor = self._enter(group)
        table = cursor.take(low, high)
        if high == self._rows[group]:
            cursor.close()
            self._cursor = None
        return table

    def _enter(self, group: int) -> _RowCursor:
        file = bisect_right(self._first_groups, group) - 1
        if not self._rows:  # files without any row group
            return _RowCursor(self._paths[0], None, 0, self._schema, 1, self._dictionary)
        row = max(self._bytes[group] // max(self._rows[group], 1), 1)
        rows = min(max(_BATCH_BYTES // row, 1), _BATCH_ROWS)
        cursor = _RowCursor(
            self._paths[file], group - self._first_groups[file], self._rows[group], self._schema, rows,
            self._dictionary,
        )  # fmt: skip
        cursor.group = group
        return cursor


class _RowCursor:
    """Decodes one row group from its beginning, a few rows at a time."""

    def __init__(
        self, path: str, group: int | None, rows: int, schema: pa.Schema, step: int,
        dictionary: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.group = -1
        self.at = 0
        """Rows given out or passed over."""
        self._path = path
        self._place = f"row group {group}"
        self._file = _open(path, dictionary)
        try:
            self._check(group, rows)
            groups = [] if group is None else [group]
            self._batches = self._file.iter_batches(
                step, row_groups=groups, columns=schema.names, use_threads=False
            )
        except BaseException:
            self._file.close()
            raise
        self._schema = schema
        self._rest: pa.Table = schema.empty_table()

    def _check(self, group: int | None, rows: int) -> None:
        footer = self._file.metadata
        if group is not None and (group >= footer.num_row_groups or footer.row_group(group).num_rows != rows):
            raise BadInput(
                f"was changed while it was being read: {rows} rows were expected",
                file=self._path,
                place=self._place,
            )

    def take(self, low: int, high: int) -> pa.Table:
        import pyarrow as pa

        pieces = []
        while self.at < high:
            if not self._rest.num_rows:
                self._rest = self._decode()
            skip = min(max(low - self.at, 0), self._rest.num_rows)
            stop = min(high - self.at, self._rest.num_rows)
            if skip < stop:
                pieces.append(self._rest.slice(skip, stop - skip))
            self._rest = self._rest.slice(stop)
            self.at += stop
        if not self._rest.num_rows:
            self._rest = self._schema.empty_table()  # an empty slice would keep its batch in memory
        return pa.concat_tables(pieces) if pieces else self._schema.empty_table()

    def _decode(self) -> pa.Table:
        import pyarrow as pa

        try:
            table = pa.Table.from_batches([next(self._batches)])
            # Columns come in the order of the file, and null where another file has a type.
            return table.select(self._schema.names).cast(self._schema)
        except StopIteration:
            raise BadInput(
                "holds fewer rows than its footer says", file=self._path, place=self._place
            ) from None
        except MemoryError:
            raise
        except (OSError, pa.ArrowException) as error:
            raise BadInput(
                f"cannot be decoded ({_first_line(error)}): cut off or damaged; copy or make it again",
                file=self._path,
                place=self._place,
            ) from error

    def close(self) -> None:
        self._rest = None
        self._batches = None
        self._file.close()


def _open(path: str, dictionary: Sequence[str] = ()) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # With a buffer a column chunk is streamed. It is not mapped: a file cut while it is mapped
        # ends the process, and mapped pages blur the measured peak.
        return pq.ParquetFile(
            path, buffer_size=_BUFFER, pre_buffer=False, read_dictionary=list(dictionary) or None
        )
    except MemoryError:
        raise
    except FileNotFoundError as error:
        raise BadInput("was there, and is gone now", file=path) from error
    except (OSError, pa.ArrowException) as error:
        raise BadInput(
            f"not a Parquet file, or cut off ({_first_line(error)}); copy or make it again", file=path
        ) from error


def _distinct(columns: Sequence[str] | None) -> list[str] | None:
    if columns is None:
        return None
    names = [columns] if isinstance(columns, str) else list(columns)
    if not names or len(set(names)) < len(names):
        raise UsageError(
            f"ParquetRows(columns={names}): name at least one column, and each once; None takes all"
        )
    return names


def _chosen(schema: pa.Schema, columns: list[str] | None, path: str) -> pa.Schema:
    """The columns to be read, by name and type alone."""
    import pyarrow as pa

    there = Counter(schema.names)
    names = list(there) if columns is None else columns
    twice = [name for name in names if there[name] > 1]
    if twice:
        raise BadInput("two columns have this name", file=path, place=f"column {twice[0]}")
    missing = [name for name in names if name not in there]
    if missing:
        raise BadInput(
            f"no such column; there are: {', '.join(schema.names)}", file=path, place=f"column {missing[0]}"
        )
    return pa.schema([pa.field(name, schema.field(name).type) for name in names])


def _unified(expected: pa.Schema, found: pa.Schema, path: str, first: str) -> pa.Schema:
    """The schema that both files fit into, null into any type and integers into wider ones."""
    import pyarrow as pa

    from penstock.arrow import promoted

    if found.names != expected.names:
        odd = sorted(set(found.names) ^ set(expected.names)) or ["their order"]
        raise BadInput(
            f"its columns are not those of {first} ({', '.join(odd)}): choose columns= that all files have",
            file=path,
        )
    fields = []
    for field, other in zip(found, expected, strict=True):
        both = promoted(other.type, field.type)
        if both is None:
            raise BadInput(
                f"is {field.type} here and {other.type} in {first}: the files of one source must agree",
                file=path,
                place=f"column {field.name}",
            )
        fields.append(pa.field(field.name, both))
    return pa.schema(fields)


def _root(path: str, there: set[str]) -> str:
    """The top column of a leaf such as ``"items.list.element"``; a column's own name may hold dots."""
    while path not in there and "." in path:
        path = path.rpartition(".")[0]
    return path


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0][:200]
