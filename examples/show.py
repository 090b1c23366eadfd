"""Print the first rows of every table in a run folder: python examples/show.py runs/demo."""

import sys
from pathlib import Path

import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

ROWS = 8


def show(path: Path, console: Console) -> None:
    """Print the first rows of a Parquet file; reads one row group at most."""
    file = pq.ParquetFile(path)
    names = file.schema_arrow.names
    first = next(file.iter_batches(batch_size=ROWS), None)
    table = Table(*names, title=f"{path}: {file.metadata.num_rows} rows", title_justify="left")
    for row in first.to_pylist() if first is not None else []:
        table.add_row(
            *(f"{row[name]:.4g}" if isinstance(row[name], float) else str(row[name]) for name in names)
        )
    console.print(table)


def main(folder: str) -> int:
    """Show the tables at the top of a run folder; the machinery below ``.penstock`` is left out."""
    tables = sorted(path for path in Path(folder).rglob("*.parquet") if ".penstock" not in path.parts)
    console = Console()
    for path in tables[:4]:
        show(path, console)
    if not tables:
        print(f"no table in {folder}", file=sys.stderr)
    return 0 if tables else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
