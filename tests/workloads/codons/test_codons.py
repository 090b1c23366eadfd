"""The workload from end to end: results against the oracle, any batching, samples, bad inputs."""

import bz2
import gzip
import json
import lzma
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from backports import zstd
from compiled import check_warm, counted
from waiting import LIMIT

import penstock
from penstock.errors import BadInput, MissingExtra, PenstockError, UsageError
from penstock.sequences.inputs import RowRuns, open_inputs
from penstock.sequences.sampling import AddNumbers, Bracket, CountNumbers, narrow
from penstock.sequences.wrong import is_protein
from penstock.testing import ReducerSuite, SourceSuite
from penstock.workloads.codons import Codons, genetic_codes, summary
from penstock.workloads.codons.job import CountCodons, JoinSummaries
from penstock.workloads.codons.tables import codon_rows

DATA = Path(__file__).parent / "data"
EXAMPLE = Path(__file__).parents[3] / "examples" / "organelles.fa.gz"
EXPECTED = json.loads((DATA / "expected.json").read_text())
CODONS = EXPECTED["codons"].split()
SYN300 = gzip.decompress((DATA / "syn300.fa.gz").read_bytes())


def run(folder, *inputs, backend="inline", **options):
    """The table's rows and the summary."""
    with penstock.Run(folder, budget="1GiB", backend=backend) as opened:
        Codons().run(opened, inputs=[str(path) for path in inputs], **options)
    return results(folder)


def results(folder):
    rows = pq.read_table(folder / "codons.parquet").to_pylist()
    return rows, json.loads((folder / "summary.json").read_text())


def records_of(text):
    """(header, sequence) of each record."""
    parts = text.decode().split(">")[1:]
    return [(part.partition("\n")[0], part.partition("\n")[2].replace("\n", "")) for part in parts]


def blocks(path, block):
    """Summaries of all blocks of this size, joined; and the numbers of blocks."""
    source = penstock.sources.Fasta(path, block=block)
    reducer, function = JoinSummaries(), CountCodons()
    states = (reducer.step(reducer.start(), function(item)) for item in source.read(0, len(source)))
    return reducer.finish(states), len(source)


# ------------------------------------------------------------------ results


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("genomes.fa", EXAMPLE),
        ("dirty.fa", DATA / "dirty.fa"),
        ("dirty_crlf.fa", DATA / "dirty_crlf.fa"),
        ("syn300.fa", DATA / "syn300.fa.gz"),
    ],
)
def test_results_equal_the_oracle(tmp_path, name, path):
    rows, told = run(tmp_path / "run", path, frame="all", strand="both")
    assert len(rows) == 6 * 64
    assert rows == sorted(rows, key=lambda r: (r["strand"], r["frame"], -r["count"], r["codon"]))
    for ledger in told["tables"]:
        expected = EXPECTED["counts"][f"{name}|{ledger['strand']}{ledger['frame']}"]
        mine = {
            row["codon"]: row
            for row in rows
            if (row["strand"], row["frame"]) == (ledger["strand"], ledger["frame"])
        }
        assert [mine[codon]["count"] for codon in CODONS] == expected["counts"]
        assert ledger["ambiguous"] == expected["ambiguous"]
        assert ledger["counted"] == ledger["codons"] - ledger["ambiguous"] == sum(expected["counts"])
        assert 3 * ledger["codons"] + ledger["partial"] + ledger["skipped"] == told["bases"]
        assert sum(row["freq"] for row in mine.values()) == pytest.approx(1)
        assert sum(row["per_1000"] for row in mine.values()) == pytest.approx(1000)
    assert (told["records"], told["bases"]) == (expected["n_records"], expected["n_bases"])
    for key in ("codons", "ambiguous", "partial", "skipped"):
        assert told[key] == sum(ledger[key] for ledger in told["tables"])


@pytest.mark.parametrize("key", EXPECTED["rscu"])
def test_rscu_equals_the_oracle(tmp_path, key):
    expected = EXPECTED["rscu"][key]
    code = int(key.partition("|table")[2])
    rows, told = run(tmp_path / "run", EXAMPLE, genetic_code=code)
    mine = {row["codon"]: row for row in rows}
    assert "".join(mine[codon]["aa"] for codon in CODONS) == expected["aas"]
    for codon, rscu in zip(CODONS, expected["rscu"], strict=True):
        assert mine[codon]["rscu"] == (None if rscu is None else pytest.approx(rscu, abs=1e-8))
    assert told["genetic_code"]["number"] == code


def test_rows_left_out_change_shares_but_not_rscu():
    meaning = genetic_codes.translation(1)
    counts = dict.fromkeys(meaning, 0) | {"AAA": 6, "AAG": 2, "TAA": 2, "ATG": 1}
    rows = {
        row["codon"]: row
        for row in codon_rows(counts, meaning, strand="+", frame=0, skip_stops=True, min_count=2)
    }
    assert list(rows) == ["AAA", "AAG"]
    assert [row["freq"] for row in rows.values()] == [0.75, 0.25]
    assert [row["per_1000"] for row in rows.values()] == [750, 250]
    assert [row["rscu"] for row in rows.values()] == [1.5, 0.5]
    every = codon_rows(counts, meaning, strand="+", frame=0)
    assert len(every) == 64
    assert {row["codon"]: row["rscu"] for row in every}["GGG"] is None
    assert {row["codon"]: row["rscu"] for row in every}["TAA"] == 3


def coding(records, codons, seed=0):
    """FASTA of open reading frames: sense codons, then a stop."""
    rng = np.random.default_rng(seed)
    sense = [codon for codon, aa in genetic_codes.translation(1).items() if aa != "*"]
    return "".join(f">{i}\n{''.join(rng.choice(sense, codons))}TAA\n" for i in range(records))


def test_stops_inside_records_are_warned_of(tmp_path, capsys):
    (tmp_path / "cds.fa").write_text(coding(40, 300))
    _, told = run(tmp_path / "cds", tmp_path / "cds.fa")
    assert told["warnings"] == []
    assert (told["tables"][0]["stops"], told["tables"][0]["internal_stops"]) == (40, 0)
    _, told = run(tmp_path / "shifted", tmp_path / "cds.fa", frame="1")
    assert "not coding sequence in this frame" in told["warnings"][0]
    # Where a coding frame is among those asked for, the others are no fault.
    _, told = run(tmp_path / "all", tmp_path / "cds.fa", frame="all", strand="both")
    assert told["warnings"] == []
    capsys.readouterr()
    rows, told = run(tmp_path / "genomes", EXAMPLE)
    stops = sum(row["count"] for row in rows if row["aa"] == "*")
    assert told["tables"][0]["internal_stops"] == stops - told["records"] > 0.05 * told["codons"]
    assert "are stops inside records (strand +, frame 0)" in capsys.readouterr().err


def test_families_and_codons_of_two_meanings_are_marked(tmp_path):
    (tmp_path / "a.fa").write_text(coding(3, 50))
    rows, told = run(tmp_path / "standard", tmp_path / "a.fa")
    family = {row["codon"]: row["family"] for row in rows}
    assert (family["ATG"], family["TGG"], family["TAA"], family["CTG"], family["ATA"]) == (1, 1, 3, 6, 3)
    assert not any(row["dual"] for row in rows)
    for code, dual in ((27, {"TGA"}), (28, {"TAA", "TAG", "TGA"}), (31, {"TAA", "TAG"})):
        rows, told = run(tmp_path / f"code{code}", tmp_path / "a.fa", genetic_code=code, skip_stops=True)
        assert {row["codon"] for row in rows if row["dual"]} == dual
        what = "is a stop and an amino acid" if len(dual) == 1 else "are stops and amino acids"
        assert what in told["warnings"][-1]


def test_nothing_counted_gives_no_shares(tmp_path):
    (tmp_path / "a.fa").write_text(">short\nAC\n>none\n")
    rows, told = run(tmp_path / "run", tmp_path / "a.fa", frame="1")
    assert len(rows) == 64
    assert {(row["count"], row["freq"], row["per_1000"], row["rscu"]) for row in rows} == {
        (0, None, None, None)
    }
    assert (told["records"], told["bases"], told["codons"]) == (2, 2, 0)
    assert (told["partial"], told["skipped"]) == (1, 1)


def test_every_genetic_code_has_64_codons_and_unknown_ones_are_named():
    for number in genetic_codes.numbers():
        meaning = genetic_codes.translation(number)
        assert len(meaning) == 64
        assert set(meaning.values()) <= set("ACDEFGHIKLMNPQRSTVWY*")
        assert genetic_codes.name(number)
    for key, expected in EXPECTED["rscu"].items():
        meaning = genetic_codes.translation(int(key.partition("|table")[2]))
        assert "".join(meaning[codon] for codon in CODONS) == expected["aas"]
    with pytest.raises(UsageError, match=r"number 7; .*tables: 1, 2, 3"):
        genetic_codes.translation(7)


# ------------------------------------------------------------------ any batching, any container


@pytest.mark.parametrize("block", [1, 7, 100, 331, 1 << 20])
@pytest.mark.parametrize("name", ["dirty.fa", "dirty_crlf.fa"])
def test_the_size_of_a_block_does_not_matter(name, block):
    found, count = blocks(DATA / name, block)
    whole, one = blocks(DATA / name, 1 << 30)
    assert one == 1
    assert count >= 330 // block
    assert found.tolist() == whole.tolist()


def test_containers_do_not_matter(tmp_path):
    want, _ = blocks(DATA / "syn300.fa.gz", 1 << 30)
    for compress in (bytes, gzip.compress, bz2.compress, lzma.compress, zstd.compress):
        (tmp_path / "x").write_bytes(compress(SYN300))
        for block in (5000, 70_000):
            found, count = blocks(tmp_path / "x", block)
            assert count > 2
            assert found.tolist() == want.tolist()


def parquet(path, records, kind=None, **options):
    table = pa.table({"id": [name for name, _ in records], "sequence": [seq for _, seq in records]})
    if kind is not None:
        table = table.set_column(1, "sequence", table.column("sequence").cast(kind))
    pq.write_table(table, path, **options)


@pytest.mark.parametrize(
    "kind", [None, pa.large_string(), pa.binary(), pa.dictionary(pa.int32(), pa.string())]
)
def test_parquet_gives_what_fasta_gives(tmp_path, kind):
    parquet(tmp_path / "a.parquet", records_of(SYN300), kind, row_group_size=37)
    assert run(tmp_path / "a", tmp_path / "a.parquet", frame="all", strand="both") == run(
        tmp_path / "b", DATA / "syn300.fa.gz", frame="all", strand="both"
    )


def test_fasta_and_parquet_are_counted_together(tmp_path):
    records = records_of(SYN300)
    parquet(tmp_path / "a.parquet", records[:100])
    rest = "".join(f">{name}\n{seq}\n" for name, seq in records[100:])
    (tmp_path / "b.fa").write_text(rest)
    inputs = tmp_path / "a.parquet", tmp_path / "b.fa"
    assert run(tmp_path / "x", *inputs) == run(tmp_path / "y", DATA / "syn300.fa.gz")


def test_many_files_and_a_pattern(tmp_path):
    for i, (name, sequence) in enumerate(records_of(SYN300)[:40]):
        (tmp_path / f"{i:02}.fa").write_text(f">{name}\n{sequence}")
    _, told = run(tmp_path / "x", tmp_path / "*.fa")
    assert told["records"] == 40
    assert told["bases"] == sum(len(sequence) for _, sequence in records_of(SYN300)[:40])


class TestRowRuns(SourceSuite):
    def make(self, folder):
        if not (folder / "a.parquet").exists():
            parquet(folder / "a.parquet", [("a", "ACGT" * 400_000)] * 8, row_group_size=3)
            parquet(folder / "b.parquet", [("b", "ACGTT" * 500_000)] * 4, row_group_size=1)
        return RowRuns([str(folder / "a.parquet"), str(folder / "b.parquet")])

    def change(self, folder):
        parquet(folder / "a.parquet", [("a", "ACGA" * 400_000)] * 8, row_group_size=3)
        return True

    def items(self, source, start, stop):
        return [(rows.name, rows.first, rows.table.to_pydict()) for rows in source.read(start, stop)]


class OverBlocks(ReducerSuite):
    """Over the blocks of a small file; a pair in a codon, a header or a line is among them."""

    count = 26

    def block(self, item):
        return next(penstock.sources.Fasta(DATA / "dirty.fa", block=13).read(item, item + 1))


class TestJoinSummaries(OverBlocks):
    def make(self):
        return JoinSummaries()

    def result_of(self, item):
        return CountCodons()(self.block(item))


class TestAddNumbers(OverBlocks):
    def make(self):
        return AddNumbers()

    def result_of(self, item):
        return CountNumbers(3, 0, 64)(self.block(item))


# ------------------------------------------------------------------ samples


def chosen(path, wanted, seed, block):
    """The limit that a sample of ``wanted`` records has, and the records that it takes."""
    source = penstock.sources.Fasta(path, block=block)
    bracket, passes, left = Bracket(), 0, wanted
    while bracket is not None:
        adder, count = AddNumbers(), CountNumbers(seed, bracket.low, bracket.width)
        bins = adder.finish(adder.step(adder.start(), count(b)) for b in source.read(0, len(source)))
        bracket, left = narrow(bracket, bins, left)
        passes += 1
        assert passes < 6
    reducer, function = JoinSummaries(), CountCodons(seed, left)
    return left, reducer.finish(
        reducer.step(reducer.start(), function(b)) for b in source.read(0, len(source))
    )


@pytest.mark.parametrize("wanted", [1, 2, 100, 299, 300, 1000])
def test_a_sample_is_exact_and_the_same_for_any_block(tmp_path, wanted):
    (tmp_path / "a.fa").write_bytes(SYN300)
    limit, found = chosen(tmp_path / "a.fa", wanted, 5, 1 << 30)
    assert found[summary.RECORDS] == min(wanted, 300)
    for block in (311, 5000, 100_000):
        again = chosen(tmp_path / "a.fa", wanted, 5, block)
        assert again[0] == limit
        assert again[1].tolist() == found.tolist()


def test_samples_of_one_seed_are_nested_and_seeds_differ(tmp_path):
    (tmp_path / "a.fa").write_bytes(SYN300)
    limits = [chosen(tmp_path / "a.fa", n, 5, 4000)[0] for n in (10, 20, 30)]
    assert limits == sorted(limits)
    bases = {int(chosen(tmp_path / "a.fa", 20, seed, 4000)[1][summary.BASES]) for seed in range(6)}
    assert len(bases) > 3


def test_a_sample_of_a_run(tmp_path):
    records = records_of(SYN300)
    parquet(tmp_path / "a.parquet", records, row_group_size=50)
    for inputs in (
        [DATA / "syn300.fa.gz"],
        [tmp_path / "a.parquet"],
        [DATA / "dirty.fa", tmp_path / "a.parquet"],
    ):
        name = f"{len(inputs)}{inputs[0].name}"
        _, told = run(tmp_path / name, *inputs, sample=77, seed=1)
        assert told["records"] == 77
        assert told["sample"] == {"records": 77, "seed": 1}
        assert [each for each in told["warnings"] if "stops inside" not in each] == []
        assert 3 * told["codons"] + told["partial"] + told["skipped"] == told["bases"]
    _, told = run(tmp_path / "all", DATA / "dirty.fa", sample=77)
    assert told["records"] == 14
    assert any("only 14 records" in each for each in told["warnings"])


# ------------------------------------------------------------------ bad inputs

BAD = {
    "protein": (">a\nMKVLILACLVALALARELEELNVPGEIVESLSSSEESITRINKKIE\n", "this is protein"),
    "protein in one line": (">a\n" + "MKFIPQE" * 4000, "this is protein"),
    "fastq": ("@a\nACGT\n+\nIIII\n", "this is FASTQ"),
    "genbank": ("LOCUS       NC_1   4 bp\nORIGIN\n        1 acgt\n//\n", "no coding sequence to count"),
    "no header": ("\n;ACG\n ACGT\nACGT\n>a\nACGT\n", r"line 3: text before the first '>' \('ACGT'\)"),
    "numbered": (">a\n        1 acgtacgt\n       11 acg\n", "the digit 1 in a sequence"),
    "old macintosh": (">a\rACGT\r>b\rAC\r", "carriage return"),
    "glued": (">a\nACGT>b\nACGT\n", "'>' inside a line"),
    "binary": (">a\nAC\x00GT\n", r"byte b'\\x00'"),
    "nothing but blanks": ("\n\n \n", "no sequences"),
    "nothing but a comment": ("; hello\n", "no sequences"),
}


def refused(path, block):
    try:
        found, _ = blocks(path, block)
    except BadInput as error:
        return error.file == str(path)
    return bool(found[summary.BAD]) or is_protein(*summary.protein(found))


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_nucleotide_fasta_is_refused(tmp_path, name):
    text, match = BAD[name]
    (tmp_path / "bad.fa").write_text(text, newline="")
    with pytest.raises(PenstockError, match=match):
        run(tmp_path / "run", tmp_path / "bad.fa")
    assert not (tmp_path / "run" / "codons.parquet").exists()
    # Wherever the blocks are cut: known in a block, or when its neighbours are known.
    if match not in ("no sequences", "carriage return"):
        (tmp_path / "bad.fa").write_text(text[:3000], newline="")  # a longer text is only more of the same
        for block in (1, 5, 16):
            assert refused(tmp_path / "bad.fa", block)


def test_the_line_is_named_even_when_it_is_known_late(tmp_path, monkeypatch):
    monkeypatch.setattr("penstock.sequences.inputs.block_of", lambda paths: 9)
    (tmp_path / "bad.fa").write_text(">a\nACGT\nACGT\nACG7ACGT\n")
    with pytest.raises(BadInput, match="digit 7") as caught:
        run(tmp_path / "run", tmp_path / "bad.fa")
    assert "bad.fa, line 4:" in str(caught.value)


def test_line_ends_that_were_converted_twice_are_called_so(tmp_path):
    (tmp_path / "a.fa").write_bytes(b">a\r\r\nACGT\r\r\n")
    with pytest.raises(PenstockError, match="two carriage returns and a line feed"):
        run(tmp_path / "run", tmp_path / "a.fa")
    (tmp_path / "b.fa").write_bytes(b">a\rACGT\r")
    with pytest.raises(PenstockError, match="old Macintosh"):
        run(tmp_path / "run2", tmp_path / "b.fa")


def test_a_pipe_that_nobody_writes_to_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    out = penstock_cli("run", "codons", tmp_path / "pipe", "--into", tmp_path / "run", "--budget", "1GiB")
    assert out.returncode == 4
    assert "a pipe or device must be saved to a file first" in out.stderr


@pytest.mark.parametrize("compress", [gzip.compress, zstd.compress])
def test_a_cut_off_stream_gives_no_result(tmp_path, compress):
    (tmp_path / "a.fa.gz").write_bytes(compress(SYN300)[:-3])
    with pytest.raises(PenstockError, match="cut off"):
        run(tmp_path / "run", tmp_path / "a.fa.gz")
    assert not (tmp_path / "run" / "codons.parquet").exists()
    assert not (tmp_path / "run" / "summary.json").exists()


def test_files_that_cannot_be_used(tmp_path):
    (tmp_path / "empty.fa").touch()
    (tmp_path / "table.parquet").write_bytes(b"PAR1 and no more")
    pq.write_table(pa.table({"seq": ["ACGT"]}), tmp_path / "column.parquet")
    pq.write_table(pa.table({"sequence": pa.array([], pa.string())}), tmp_path / "rows.parquet")
    for name, match in (
        ("empty.fa", "empty"),
        ("none.fa", "no such file"),
        ("*.fna", "no file matches"),
        ("", "folder"),
        ("table.parquet", "Parquet"),
        ("column.parquet", "sequence"),
        ("rows.parquet", "no rows"),
    ):
        with pytest.raises(BadInput, match=match):
            open_inputs([str(tmp_path / name)])


def test_an_unreadable_file(tmp_path, monkeypatch):
    (tmp_path / "a.fa").write_text(">a\nACGT\n")
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may read everything
    with pytest.raises(BadInput, match="not readable"):
        open_inputs([str(tmp_path / "a.fa")])


@pytest.mark.parametrize(
    ("column", "match"),
    [
        (["ACGT", None], "no sequence"),
        ([1, 2], "holds int64"),
        ([["ACGT"]], "holds list"),
        (["ACGT", "AC1T"], "row 1 of these"),
        (["ACGT\n>b\nACGT", "A"], "row 0 of these"),
        (["MKVLIEELFFPQ"], "this is protein"),
    ],
)
def test_a_column_that_holds_no_sequences(tmp_path, column, match):
    pq.write_table(pa.table({"sequence": column}), tmp_path / "a.parquet")
    with pytest.raises(PenstockError, match=match):
        run(tmp_path / "run", tmp_path / "a.parquet")


def test_gaps_are_warned_of(tmp_path, capsys):
    (tmp_path / "a.fa").write_text(">a\nACG---ACG\n")
    _, told = run(tmp_path / "run", tmp_path / "a.fa")
    assert "looks aligned" in told["warnings"][0]
    assert "looks aligned" in capsys.readouterr().err
    assert (told["codons"], told["ambiguous"], told["letters"]["gap"]) == (3, 1, 3)


# ------------------------------------------------------------------ on the command line


def penstock_cli(*arguments):
    return subprocess.run(
        [sys.executable, "-c", "from penstock.cli import main; main()", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )


def test_the_command_line_with_workers(tmp_path):
    out = penstock_cli(
        "run", "codons", EXAMPLE, DATA / "dirty.fa", "--into", tmp_path / "a", "--budget", "1GiB",
        "--genetic-code", 2, "--frame", "all", "--strand", "both", "--skip-stops", "--min-count", 3,
    )  # fmt: skip
    assert out.returncode == 0, out.stderr
    want = run(
        tmp_path / "b", EXAMPLE, DATA / "dirty.fa", genetic_code=2, frame="all", strand="both",
        skip_stops=True, min_count=3,
    )  # fmt: skip
    assert results(tmp_path / "a") == want
    assert not any(row["aa"] == "*" or row["count"] < 3 for row in want[0])


@pytest.mark.parametrize("sample", [None, 7])
def test_first_codons_are_left_out(tmp_path, sample):
    """Against a count in plain Python; the same from FASTA, from Parquet and from workers."""
    sequences = ["GTGAAATAA", "ttgNNNccca", "ATGTAA", "NTGAAA", "AT", "", "RTGTTTG", "ATA", "uugacg"]
    (tmp_path / "a.fa").write_text("".join(f">s{n}\n{s}\n" for n, s in enumerate(sequences)))
    pq.write_table(pa.table({"sequence": sequences}), tmp_path / "a.parquet")
    rows, told = run(tmp_path / "run", tmp_path / "a.fa", drop_start=True)
    triplets = [s.upper().replace("U", "T")[at : at + 3] for s in sequences for at in range(3, len(s) - 2, 3)]
    assert {row["codon"]: row["count"] for row in rows if row["count"]} == {
        codon: triplets.count(codon) for codon in triplets if set(codon) <= set("ACGT")
    }
    (ledger,) = told["tables"]
    assert (ledger["codons"], ledger["ambiguous"], ledger["dropped"]) == (len(triplets), 1, 7)
    assert 3 * ledger["codons"] + ledger["partial"] + ledger["skipped"] == told["bases"]
    assert ledger["stops"] == 2
    assert run(tmp_path / "rows", tmp_path / "a.parquet", drop_start=True)[0] == rows
    every, before = run(tmp_path / "every", EXAMPLE, DATA / "syn300.fa.gz", sample=sample)
    left = run(tmp_path / "left", EXAMPLE, DATA / "syn300.fa.gz", drop_start=True, sample=sample)
    assert before["codons"] - left[1]["codons"] == left[1]["dropped"] == left[1]["records"]
    if sample is None:
        texts = gzip.decompress(EXAMPLE.read_bytes()), SYN300
        first = Counter(sequence[:3].upper() for text in texts for _, sequence in records_of(text))
        counts = [{row["codon"]: row["count"] for row in each} for each in (every, left[0])]
        assert {codon: counts[0][codon] - counts[1][codon] for codon in CODONS} == {
            codon: first[codon] for codon in CODONS
        }
    assert left == run(
        tmp_path / "workers", EXAMPLE, DATA / "syn300.fa.gz", drop_start=True, sample=sample, backend="local"
    )


@pytest.mark.parametrize("other", [{"frame": "all"}, {"frame": "1"}, {"strand": "both"}])
def test_first_codons_of_other_readings_are_refused(tmp_path, other):
    with pytest.raises(UsageError, match="--drop-start leaves out the start codon"):
        Codons().plan("1GiB", inputs=[str(EXAMPLE)], drop_start=True, **other)
    with pytest.raises(UsageError, match="--drop-start"):
        run(tmp_path / "run", EXAMPLE, drop_start=True, **other)


def test_usage_errors_on_the_command_line(tmp_path):
    for arguments, code, match in (
        ([EXAMPLE, "--genetic-code", 7], 2, "number 7"),
        ([EXAMPLE, "--frame", 3], 2, "'3' is not one of"),
        ([EXAMPLE, "--sample", 0], 2, "sample"),
        ([EXAMPLE, "--drop-start", "--frame", "all"], 2, "--drop-start"),
        ([], 2, "INPUT"),
        ([tmp_path / "none.fa"], 4, "no such file"),
    ):
        out = penstock_cli("run", "codons", *arguments, "--into", tmp_path / "run", "--budget", "1GiB")
        assert (out.returncode, "Traceback" in out.stderr) == (code, False), out.stderr
        assert match in out.stderr


def test_a_plan_runs_nothing():
    (plan,) = Codons().plan("1GiB", inputs=[str(EXAMPLE)])
    assert "1.0 GiB" in str(plan)


@pytest.mark.parametrize("small", [True, False])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.fa", {"sample": 2}),
        ("a.parquet", {}),
        ("a.fa", {"per_record": True}),
        ("a.parquet", {"per_file": True}),
    ],
)
def test_workers_of_large_inputs_find_all_compiled_code_loaded_and_others_load_none(
    name, options, small, tmp_path, monkeypatch
):
    if name == "a.fa":
        (tmp_path / name).write_bytes(SYN300)
    else:
        sequences = [sequence for _, sequence in records_of(SYN300)]
        pq.write_table(pa.table({"sequence": sequences}), tmp_path / name)
    if not small:
        monkeypatch.setattr("penstock.sequences.inputs._SMALL", 0)
    with counted(tmp_path / "notes") as calls:
        run(tmp_path / "run", tmp_path / name, backend="local", **options)
    if small:
        assert {call["used"] for call in calls()} == {0}
    else:
        check_warm(calls())


@pytest.mark.parametrize("options", [{}, {"sample": 40, "seed": 3}])
def test_results_do_not_depend_on_whether_code_is_compiled(tmp_path, monkeypatch, options):
    parquet(tmp_path / "a.parquet", records_of(SYN300)[::-1], row_group_size=37)
    inputs = DATA / "dirty.fa", DATA / "syn300.fa.gz", tmp_path / "a.parquet"
    plain = run(tmp_path / "plain", *inputs, frame="all", strand="both", **options)
    monkeypatch.setattr("penstock.sequences.inputs._SMALL", 0)
    assert run(tmp_path / "compiled", *inputs, frame="all", strand="both", **options) == plain
    names = ("codons.parquet", "summary.json")
    both = [[(tmp_path / run / name).read_bytes() for name in names] for run in ("plain", "compiled")]
    assert both[0] == both[1]


def test_plain_counts_load_nothing_that_only_other_options_need():
    code = (
        "import sys; from penstock.workload_options import read_options; "
        "from penstock.workloads.codons import Codons; "
        "from penstock.workloads.codons.asking import asked_of; "
        f"asked_of(read_options(Codons.command, {{'inputs': [{str(EXAMPLE)!r}]}})); print(*sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=LIMIT)
    loaded = set(out.stdout.split())
    assert "penstock.workloads.codons.asking" in loaded, out.stderr
    own = ("coding", "features", "gff3", "usage_job", "kernel")
    others = {f"penstock.workloads.codons.{name}" for name in own} | {"penstock.sequences.pictures"}
    assert not loaded & (others | {"numba", "scipy", "pyarrow", "matplotlib"})


def test_only_large_inputs_ask_for_numba(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert Codons().plan("1GiB", inputs=[str(EXAMPLE)])
    with open(tmp_path / "large.fa", "wb") as file:
        file.write(b">a\n" + b"A" * 5000)
        file.truncate(100 << 20)  # of which only the size is looked at
    with pytest.raises(MissingExtra, match=r"penstock\[codons\]"):
        Codons().plan("1GiB", inputs=[str(tmp_path / "large.fa")])
