"""CSV tables, read as a stream of Arrow batches of a few columns.

Covers ``.csv`` and ``.csv.gz``, a byte order mark, CRLF, quoted line breaks, bytes that are no UTF-8, and
errors that name the file and the row and never quote what is in it: these tables hold people's notes.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from penstock import foreign
from penstock.errors import BadInput

_BLOCK = 1 << 20
_NUMBER = r"^[+-]?([0-9]{1,15}(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,2})?$"
_WHOLE = r"^[+-]?[0-9]{1,18}(\.0*)?$"


@contextmanager
def sparing() -> Iterator[None]:
    """Make Arrow release memory that it no longer needs: its own pool keeps twice the peak."""
    before = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(before)


def check_columns(tables: dict[str, Path], wanted: Mapping[str, Sequence[str]]) -> None:
    """Check that each table has its columns, before any is read.

    Raises:
        BadInput: columns are missing; all of them are named.
    """
    missing = []
    for name, columns in wanted.items():
        if name in tables:
            there = header(tables[name])
            lost = [column for column in columns if column not in there]
            if lost:
                missing.append(f"{tables[name]}: {', '.join(lost)}")
    if missing:
        raise BadInput(f"missing columns: {'; '.join(missing)}", quotes_nothing=True)


def header(path: Path) -> list[str]:
    """The names of a table's columns.

    Raises:
        BadInput: it cannot be read.
    """
    with _reading(path), _opened(path) as file:
        text = io.TextIOWrapper(io.BytesIO(file.readline(_BLOCK)), "utf-8-sig", errors="replace", newline="")
        return next(csv.reader(text), [])


def batches(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Batches of these columns as text, empty fields as null.

    Raises:
        BadInput: a row has too few or too many fields, or the file is cut off; names file and row.
    """
    pa.default_memory_pool().release_unused()  # of the table before
    with _reading(path), _opened(path) as file:
        if not _has_rows(path):
            return
        for batch in _batches(file, path, columns):
            if batch.num_rows:
                arrays = [_text(batch.column(at)) for at in range(batch.num_columns)]
                yield pa.RecordBatch.from_arrays(arrays, names=list(columns))


def table(path: Path, columns: Sequence[str]) -> pa.Table:
    """All rows of these columns as text."""
    schema = pa.schema([(name, pa.string()) for name in columns])
    return pa.Table.from_batches(list(batches(path, columns)), schema=schema)


def integers(column: Any) -> Any:
    """Integers, int64; null where the text is none."""
    return _parsed(column, _WHOLE, pa.int64())


def numbers(column: Any) -> Any:
    """Numbers, float64; null where the text is none: ``unable``, ``7-8``, ``NaN``."""
    return _parsed(column, _NUMBER, pa.float64())


def times(column: Any) -> Any:
    """``2183-07-20 04:19:32`` as seconds since 1970, int64; null where the text is no time."""
    found = pc.strptime(
        pc.utf8_trim_whitespace(column), format="%Y-%m-%d %H:%M:%S", unit="s", error_is_null=True
    )
    return found.cast(pa.int64())


def _parsed(column: Any, pattern: str, kind: pa.DataType) -> Any:
    trimmed = pc.utf8_trim_whitespace(column)
    good = pc.if_else(pc.match_substring_regex(trimmed, pattern), trimmed, pa.scalar(None, pa.string()))
    found = good.cast(pa.float64())
    return found if kind == pa.float64() else pc.replace_substring_regex(good, r"\.0*$", "").cast(kind)


def _text(column: Any) -> Any:
    """Bytes as text: UTF-8, or what Windows-1252 makes of them where they are none."""
    try:
        return column.cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array(
            [None if value is None else decoded(value) for value in column.to_pylist()], pa.string()
        )


def decoded(value: bytes) -> str:
    """Decode bytes: UTF-8, or else Windows-1252."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("cp1252", errors="replace")


def _note(odd: list[str], row: Any) -> str:
    """What is wrong with a row: not its text, which may be anybody's note."""
    place = "a row" if row.number is None else f"row {row.number}"
    odd.append(f"{place} has {row.actual_columns} fields, where {row.expected_columns} were expected")
    return "error"


def _batches(file: Any, path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    odd: list[str] = []
    try:
        yield from pa.csv.open_csv(
            file,
            read_options=pa.csv.ReadOptions(use_threads=False, block_size=_BLOCK),
            parse_options=pa.csv.ParseOptions(
                newlines_in_values=True, invalid_row_handler=lambda row: _note(odd, row)
            ),
            convert_options=pa.csv.ConvertOptions(
                include_columns=list(columns), column_types=dict.fromkeys(columns, pa.binary()),
                strings_can_be_null=True, null_values=[""], quoted_strings_can_be_null=True,
            ),
        )  # fmt: skip
    except pa.ArrowInvalid:
        if odd:
            raise BadInput(odd[0], file=path, quotes_nothing=True) from None
        raise


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    with foreign.opened(path) as file:
        if path.suffix == ".gz":
            with gzip.open(file) as inflated:
                yield inflated
        else:
            yield file


def _has_rows(path: Path) -> bool:
    """Whether anything stands below the header; Arrow takes an empty file for an error."""
    with _opened(path) as file:
        start = file.read(_BLOCK)
    return b"\n" in bytes(start).removeprefix(codecs.BOM_UTF8).strip()


class _reading:
    """Tell what goes wrong with a table as what it is, without its words."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, EOFError | zlib.error | gzip.BadGzipFile):
            raise BadInput("is cut off or damaged: its compressed data end too early or make no sense; "
                           "download it again", file=self._path, quotes_nothing=True) from None  # fmt: skip
        if isinstance(error, OSError):
            raise BadInput(
                f"cannot be read: {error.strerror or type(error).__name__}",
                file=self._path,
                quotes_nothing=True,
            ) from None
        if isinstance(error, pa.ArrowException):
            what = (
                "a row is larger than 1 MiB: a quote is not closed"
                if "straddl" in str(error)
                else "is no CSV table"
            )
            raise BadInput(what, file=self._path, quotes_nothing=True) from None
