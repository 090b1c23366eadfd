"""The samples sorted by request: narrow columns alone, so that the features are joined to sorted rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import penstock
from penstock.budget import MiB
from penstock.errors import BadInput
from penstock.workloads.recsys.ranking.columns import POSITION, REQUEST

ROW = "row"
_SHARE = 0.6
"""Of the memory of this step, for DuckDB: it goes above what it is told."""
LEAST = 48 * MiB


def sort_samples(
    folder: Path, *, paths: Sequence[Path], columns: Sequence[str], position: bool
) -> dict[str, Any]:
    """Write ``sorted.parquet``: by request, position, row of the samples; with a column ``row``.

    Args:
        folder: of the step.
        paths: of the samples, in order.
        columns: those to be kept.
        position: whether the samples have one; rows without go last.

    Raises:
        MemoryError: DuckDB cannot do with the memory that there is.
        BadInput: the samples cannot be read.
    """
    import duckdb

    memory = int(_SHARE * penstock.share().memory)
    while True:
        try:
            _sort(folder, paths, columns, position, max(memory, LEAST))
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


def _sort(folder: Path, paths: Sequence[Path], columns: Sequence[str], position: bool, memory: int) -> None:
    import duckdb

    spill = folder / "spill"
    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": f"{memory}B", "threads": 1, "temp_directory": str(spill),
    }  # fmt: skip
    names = ", ".join(_name(column) for column in columns)
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
