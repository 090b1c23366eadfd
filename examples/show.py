"""Print the first rows of every table in a run folder: python examples/show.py runs/demo."""

import sys
from pathlib import Path

import pyarrow.parquet as pq
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from penstock.foreign import line

ROWS = 8


def show(path: Path, console: Console) -> None:
    """Print the first rows of a Parquet file; reads one row group at most.

    No value is cut: where the terminal is narrower than the table, its lines go on below.
    """
    file = pq.ParquetFile(path)
    first = next(file.iter_batches(batch_size=ROWS), None)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for field in file.schema_arrow:
        number = str(field.type) not in ("string", "large_string", "bool")
        table.add_column(line(field.name), no_wrap=True, justify="right" if number else "left")
    for row in first.to_pylist() if first is not None else []:
        table.add_row(*map(shown, row.values()))
    own = Measurement.get(console, console.options.update(width=10_000), table).maximum
    console.print(line(f"{path}: {file.metadata.num_rows} rows"), soft_wrap=True)
    console.width = max(console.width, own)
    console.print(table)


def shown(value: object) -> str:
    """A value of a row, numbers to four digits."""
    return f"{value:.4g}" if isinstance(value, float) else line(str(value))


def main(folder: str) -> int:
    """Show the tables in a run folder, each once; the state folder ``.penstock`` is left out."""
    tables = sorted(path for path in Path(folder).rglob("*.parquet") if ".penstock" not in path.parts)
    # What a run publishes at the top is a second name of a stage's file.
    tables = sorted({path.stat().st_ino: path for path in reversed(tables)}.values())
    console = Console(markup=False, highlight=False, emoji=False)
    for path in tables[:4]:
        show(path, console)
    if not tables:
        print(f"no table in {line(folder)}", file=sys.stderr)
    return 0 if tables else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
