"""``make demo`` shows what it made, on any terminal, whole."""

import importlib.util
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from penstock.workloads.codons.genetic_codes import translation
from penstock.workloads.codons.tables import codon_rows

SHOW = Path(__file__).parents[3] / "examples" / "show.py"


@pytest.fixture(scope="module")
def show():
    found = importlib.util.spec_from_file_location("show", SHOW)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def shown(show, rows, folder, width):
    pq.write_table(pa.Table.from_pylist(rows), folder / "codons.parquet")
    text = io.StringIO()
    console = Console(file=text, width=width, markup=False, highlight=False)
    show.show(folder / "codons.parquet", console)
    return text.getvalue().splitlines()


def test_the_codons_of_a_genome_fit_into_80_columns(show, tmp_path):
    meaning = translation(11)
    counts = {codon: 123_456_789 + 7 * at for at, codon in enumerate(sorted(meaning))}
    rows = codon_rows(counts, meaning, strand="+", frame=0)
    title, names, *lines = shown(show, rows, tmp_path, 80)
    assert title.endswith("64 rows")
    assert names.split() == list(rows[0])
    assert max(map(len, (names, *lines))) <= 80
    for line, row in zip(lines, rows[:8], strict=True):
        assert line.split() == [show.shown(value) for value in row.values()]


@pytest.mark.parametrize("width", [20, 80, 400])
def test_no_value_is_cut_or_obeyed(width, show, tmp_path):
    rows = [{"name": "[red]" + "x" * 100 + "\x1b[2J", "number": 1234567890123, "share": 0.123456}] * 9
    _, names, *lines = shown(show, rows, tmp_path, width)
    assert names.split() == ["name", "number", "share"]
    assert [line.split() for line in lines] == [
        ["[red]" + "x" * 100 + "\\x1b[2J", "1234567890123", "0.1235"]
    ] * 8


def test_a_table_with_two_names_is_shown_once(show, tmp_path, capsys):
    (tmp_path / "tables").mkdir()
    for name in ("b", "c"):
        pq.write_table(pa.table({name: [1]}), tmp_path / "tables" / f"{name}.parquet")
    (tmp_path / "a.parquet").hardlink_to(tmp_path / "tables" / "c.parquet")
    assert show.main(str(tmp_path)) == 0
    titles = [line for line in capsys.readouterr().out.splitlines() if line.endswith("rows")]
    assert [Path(title.split(":")[0]).name for title in titles] == ["a.parquet", "b.parquet"]
