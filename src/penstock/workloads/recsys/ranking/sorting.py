"""Sorts the samples by request: narrow columns only; features are joined to the sorted rows later.

What DuckDB sorts it copies, and texts take longest: categories of few texts go through it as bytes of whole
numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import penstock
from penstock.budget import MiB
from penstock.errors import BadInput
from penstock.workloads.recsys.ranking.columns import POSITION, REQUEST

ROW = "row"
_SHARE = 0.6
"""Of the memory of this step, for DuckDB: it goes above what it is told."""
LEAST = 48 * MiB


_FEW = 64
"""Texts of a category that goes as a byte, at most: each is compared with all of them."""
_BYTES = 7
"""Of a whole number of 64 bits, without the one that has the sign."""


@dataclass(frozen=True)
class Codes:
    """Categories as small integers: 0 for null, else the text's index plus 1.

    Attributes:
        texts: of each category that is kept so.
    """

    texts: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, texts: Mapping[str, Sequence[str] | None], names: Sequence[str]) -> Codes:
        """Codes for the categories among ``names`` with few texts; None marks too many."""
        return cls(
            {
                name: found
                for name in names
                if (found := texts.get(name)) is not None
                and len(found) <= _FEW
                and not any("\0" in text for text in found)
            }
        )

    def columns(self) -> list[str]:
        """The coded columns."""
        return [f"_codes_{number}" for number in range(-(-len(self.texts) // _BYTES))]

    def expressions(self) -> list[str]:
        """SQL expressions for these columns."""
        bytes_of = [self._byte(number, name) for number, name in enumerate(self.texts)]
        return [
            f"{' + '.join(bytes_of[_BYTES * number : _BYTES * (number + 1)])} AS {name}"
            for number, name in enumerate(self.columns())
        ]

    def _byte(self, number: int, name: str) -> str:
        cases = " ".join(
            f"WHEN {_text(text)} THEN {at}::BIGINT" for at, text in enumerate(self.texts[name], start=1)
        )
        given = f"CASE {_name(name)}::VARCHAR {cases} ELSE 0::BIGINT END" if cases else "0::BIGINT"
        return f"({given}) * {256 ** (number % _BYTES)}"

    def decoded(self, table: Any) -> Any:
        """A table with the categories restored, as dictionaries."""
        import pyarrow as pa

        for number, (name, texts) in enumerate(self.texts.items()):
            words = table.column(f"_codes_{number // _BYTES}").to_numpy()
            found = (words >> (8 * (number % _BYTES)) & 0xFF).astype(np.int32) - 1
            column = pa.DictionaryArray.from_arrays(
                pa.array(found, mask=found < 0), pa.array(texts, pa.string())
            )
            table = table.append_column(name, column)
        return table.drop_columns(self.columns()) if self.texts else table


class SortedRows(penstock.sources.ParquetRows):
    """The rows of ``sorted.parquet``.

    Args:
        path: of the file.
        columns: of the samples that were sorted.
        codes: those of them that are kept as codes.
        dictionary: those that come as Arrow dictionaries.
    """

    def __init__(
        self, path: Path, columns: Sequence[str], codes: Codes, dictionary: Sequence[str] = ()
    ) -> None:
        self._codes = codes
        names = [name for name in columns if name not in codes.texts]
        super().__init__(
            path, [*names, *codes.columns(), ROW],
            dictionary=[name for name in dictionary if name not in codes.texts],
        )  # fmt: skip

    def read(self, start: int, stop: int) -> Any:
        """These rows as one table."""
        return self._codes.decoded(super().read(start, stop))


def sort_samples(
    folder: Path, *, paths: Sequence[Path], columns: Sequence[str], position: bool,
    texts: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Write ``sorted.parquet``, ordered by request, position, row; with a column ``row``.

    Args:
        folder: of the step.
        paths: of the samples, in order.
        columns: those to be kept.
        position: whether the samples have one; rows without go last.
        texts: of the columns that are kept as ``Codes``.

    Raises:
        MemoryError: DuckDB cannot do with the memory that there is.
        BadInput: the samples cannot be read.
    """
    import duckdb

    memory = int(_SHARE * penstock.share().memory)
    while True:
        try:
            _sort(folder, paths, columns, position, Codes(texts or {}), max(memory, LEAST))
            return {}
        except duckdb.OutOfMemoryException as error:
            if memory <= LEAST:
                raise MemoryError(
                    f"sorting the samples: DuckDB cannot do with {memory // MiB} MiB: {_first_line(error)}"
                ) from error
            memory //= 2  # it asks for less at once
        except duckdb.Error as error:
            if "No space left" in str(error):
                raise OSError(28, f"no space left for sorting in {folder}") from error
            raise BadInput(f"cannot be sorted: {_first_line(error)}", file=paths[0]) from error


def _sort(
    folder: Path, paths: Sequence[Path], columns: Sequence[str], position: bool, codes: Codes, memory: int
) -> None:
    import duckdb

    spill = folder / "spill"
    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": f"{memory}B", "threads": 1, "temp_directory": str(spill),
    }  # fmt: skip
    own = [_name(column) for column in columns if column not in codes.texts]
    names = ", ".join([*own, *codes.expressions()])
    files, first = [], 0
    for path in paths:
        files.append(
            f"SELECT {names}, file_row_number + {first} AS {ROW} "
            f"FROM read_parquet({_text(str(path))}, file_row_number = true)"
        )
        first += _rows(path)
    order = f"{_name(REQUEST)}, {_name(POSITION) + ' NULLS LAST, ' if position else ''}{ROW}"
    with duckdb.connect(config=settings) as db:
        db.execute("SET enable_progress_bar = false")
        db.execute(
            f"COPY (SELECT * FROM ({' UNION ALL BY NAME '.join(files)}) WHERE {_name(REQUEST)} IS NOT NULL "
            f"ORDER BY {order}) TO {_text(str(folder / 'sorted.parquet'))} "
            "(FORMAT parquet, COMPRESSION lz4_raw, ROW_GROUP_SIZE 30720)"
        )
    _remove(spill)


def _remove(folder: Path) -> None:
    if folder.is_dir():
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def _rows(path: Path) -> int:
    return len(penstock.sources.ParquetRows(path, [REQUEST]))


def _name(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]
