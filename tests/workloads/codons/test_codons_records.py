"""Records one by one: tables of records and files, codes by name, indices, a sample beside the whole."""

import gzip
import json
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import penstock
from penstock.errors import BadInput, UsageError
from penstock.record.job_key import function_key
from penstock.sources import FastaRecords
from penstock.sources.fasta import Block
from penstock.testing import ReducerSuite
from penstock.workloads.codons import (
    Codons,
    by_record,
    code_map,
    genetic_codes,
    indices,
    reckoning,
    rows,
    usage,
    vectorised,
)
from penstock.workloads.codons.coding import CountCoding
from penstock.workloads.codons.job import CountCodons
from penstock.workloads.codons.summary import CODONS
from penstock.workloads.codons.usage_job import CountHeaders, CountRecords, FirstNames

DATA = Path(__file__).parent / "data"
EXAMPLE = Path(__file__).parents[3] / "examples" / "organelles.fa.gz"
CODONW = json.loads((DATA / "codonw.json").read_text())
BIOPYTHON = json.loads((DATA / "biopython_cai.json").read_text())


def run(folder, *inputs, backend="inline", **options):
    """The summary; tables are in the folder."""
    with penstock.Run(folder, budget="1GiB", backend=backend) as opened:
        Codons().run(opened, inputs=[str(path) for path in inputs], **options)
    return json.loads((folder / "summary.json").read_text())


def table(folder):
    parts = sorted(
        (folder / "usage" / "records").glob("part-*.parquet"), key=lambda path: int(path.name.split("-")[1])
    )
    return ds.dataset([str(part) for part in parts]).to_table().to_pylist()


def records_of(text):
    """Header, sequence and letters of each record, by a plain reading of lines."""
    found = []
    for line in text.replace(b"\r", b"").split(b"\n"):
        if line.startswith(b">"):
            found.append((line[1:].decode("latin-1").strip(), []))
        elif found and not line.startswith(b";"):
            found[-1][1].append(line.decode("latin-1").upper().replace("U", "T"))
    return [(header, "".join(lines).replace(" ", "").replace("\t", "")) for header, lines in found]


def slow(text, frame=0, drop=False):
    """What a row says of each record, counted in plain Python."""
    told = []
    for header, letters in records_of(text):
        triplets = [letters[at : at + 3] for at in range(frame, len(letters) - 2, 3)]
        dropped = int(drop and len(triplets) > 0)
        triplets = triplets[dropped:]
        pure = Counter(each for each in triplets if set(each) <= set("ACGT"))
        skipped = min(frame, len(letters)) + 3 * dropped
        strong = sum(letters.count(each) for each in "GCS")
        known = strong + sum(letters.count(each) for each in "ATW")
        told.append(
            {
                "id": header.split()[0] if header else "", "description": header, "length": len(letters),
                "codons": len(triplets), "ambiguous": len(triplets) - sum(pure.values()), "skipped": skipped,
                "partial": len(letters) - skipped - 3 * len(triplets), "dropped": dropped,
                "gc": strong / known if known else None, **{codon: pure[codon] for codon in CODONS},
            }
        )  # fmt: skip
    return told


def failing(at, kind, text):
    return BadInput(f"{at} {kind}")


def counted(pieces, together=3, **options):
    """Rows of what a reader counts, some records of several pieces together."""
    found = []
    for each in usage.gathered(usage.Reader(failing, **options).read(pieces), together):
        codes = np.ones(len(each), np.int64)
        found += rows.of_records(each, "x", np.arange(len(each)), codes, None).to_pylist()
    return found


def same(found, expected):
    assert len(found) == len(expected)
    for mine, want in zip(found, expected, strict=True):
        assert {name: mine[name] for name in want} == {
            name: pytest.approx(value) if name == "gc" else value for name, value in want.items()
        }


LETTERS = st.text("ACGTACGTACGTacgtUuNnRYSW-*.", max_size=120)
LINES = st.one_of(
    LETTERS, LETTERS, LETTERS, st.sampled_from(["", ">", ">id of > it;", ">é x", ";comment > 1"])
)
TEXTS = st.builds(
    lambda end, lines, last: (">first\n" + "\n".join(lines) + last).replace("\n", end).encode("latin-1"),
    st.sampled_from(["\n", "\r\n"]),
    st.lists(LINES, max_size=25),
    st.sampled_from(["", "\n"]),
)


@given(
    TEXTS,
    st.lists(st.integers(0, 1500), max_size=8),
    st.integers(0, 3),
    st.sampled_from([9, 1 << 18]),
    st.sampled_from([0, 16, 4096]),
)
@settings(deadline=None, max_examples=150)
def test_each_record_is_counted_as_by_hand_however_its_text_comes(text, cuts, reading, long, short):
    frame, drop = (0, True) if reading == 3 else (reading, False)
    cuts = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [(start, text[start:stop]) for start, stop in pairwise(cuts)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(usage, "_LONG_LINE", long)  # lines are taken in parts, too
        patch.setattr(usage, "_SHORT", short)  # segments one by one, or all together
        found = counted(pieces, frame=frame, drop_start=drop)
    same(found, slow(text, frame, drop))


def found_by(kind, pieces, **options):
    """All that a reader finds, or what it raises."""
    try:
        parts = list(usage.gathered(kind(failing, **options).read(pieces), 3))
    except BadInput as error:
        return str(error)
    names = ("offsets", *usage._ADDED)
    return [
        (header, *(getattr(part, name)[at].tolist() for name in names))
        for part in parts
        for at, header in enumerate(part.headers)
    ]


ODD = st.one_of(
    TEXTS,
    st.text(">>;\nACGTNSW-1 \r", max_size=200).map(str.encode),
    st.text(">>;\nACGTNSWE- \r", max_size=300).map(lambda text: f">a\n{text}".encode()),
)


@given(
    ODD,
    st.lists(st.integers(0, 400), max_size=8),
    st.integers(0, 3),
    st.sampled_from([9, 1 << 18]),
    st.sampled_from([2, 2048]),
)
@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
def test_the_compiled_reader_gives_the_same_and_refuses_the_same(text, cuts, reading, long, many):
    options = {"frame": 0, "drop_start": True} if reading == 3 else {"frame": reading}
    cuts = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [(start, text[start:stop]) for start, stop in pairwise(cuts)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(usage, "_LONG_LINE", long)
        patch.setattr(usage, "_ROWS", many)  # records that have room together
        found = found_by(usage.CompiledReader, pieces, **options)
    assert found == found_by(usage.Reader, pieces, **options)


@given(
    st.sampled_from(genetic_codes.numbers()),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.05, 0.5, 3, 40, 1e5, 1e9]),
    st.integers(1, 9),
)
@settings(deadline=None, max_examples=150)
def test_compiled_code_reckons_the_same_indices_to_the_last_bit(code, seed, mean, rows):
    made = np.random.default_rng(seed)
    counts = made.poisson(mean, (rows, 64)) * made.integers(0, 2, (rows, 64))
    mine, stops = reckoning.compiled(counts, code)
    plain, of_plain = reckoning.plain(counts, code)
    assert stops.tolist() == of_plain.tolist()
    assert mine.keys() == plain.keys() == set(reckoning.NAMES)
    for name, column in plain.items():
        np.testing.assert_array_equal(mine[name], column, name)


def test_a_table_of_records_does_not_depend_on_whether_code_is_compiled(tmp_path, monkeypatch):
    inputs = DATA / "dirty.fa", DATA / "syn300.fa.gz"
    for each in (False, True):
        monkeypatch.setattr("penstock.sequences.inputs._SMALL", 0 if each else 1 << 30)
        run(tmp_path / f"run{each}", *inputs, per_record=True, per_file=True, sample=200, seed=3)
    names = [path.relative_to(tmp_path / "runTrue") for path in (tmp_path / "runTrue").rglob("*.parquet")]
    assert len(names) > 3
    for name in names:
        assert (tmp_path / "runTrue" / name).read_bytes() == (tmp_path / "runFalse" / name).read_bytes()


def test_a_folder_of_pooled_codons_goes_on_whether_code_is_compiled_or_not():
    keys = [function_key(CountCodons(compiled=each)) for each in (False, True)]
    assert keys[0] == keys[1] != function_key(CountCodons(seed=1))


@pytest.mark.parametrize("name", ["reference", "compare", "column"])
def test_an_option_given_as_nothing_is_an_error_and_not_left_out(tmp_path, name):
    (tmp_path / "a.fa").write_text(">a\nATGAAA\n")
    with pytest.raises(UsageError, match=f"--{name} is empty"):
        Codons().plan("1GiB", inputs=[str(tmp_path / "a.fa")], **{name: ""})


@pytest.mark.parametrize("kind", [CountRecords, CountCoding])
def test_a_folder_goes_on_whether_code_is_compiled_or_not_and_from_before_there_was_such_code(kind):
    keys = [function_key(kind(code_map.parse("1"), compiled=each)) for each in (False, True)]
    assert keys[0] == keys[1] != function_key(kind(code_map.parse("1"), frame=1))
    more = {"genbank"} if kind is CountCoding else set()
    assert keys[0]["state"]["parts"].keys() == more | {
        "codes", "frame", "drop_start", "seed", "limit", "by_record", "by_file", "moments", "reference",
        "compat", "first_rows",
    }  # fmt: skip


@pytest.mark.parametrize("options", [{"per_record": True}, {"compat": "upstream"}])
def test_a_header_that_is_too_long_for_a_row_is_named_and_long_ones_are_read(tmp_path, options):
    path = tmp_path / "a.fa"
    path.write_bytes(b"".join(b">%d %s\nACGTAC\n" % (n, b"h" * 900_000) for n in range(3)))
    with penstock.Run(tmp_path / "long", budget="1GiB", backend="inline") as opened:
        Codons().run(opened, inputs=[str(path)], **options)
    path.write_bytes(b">a\nACG\n>" + b"h" * 3_000_000 + b"\nACGTAC\n")
    with (
        pytest.raises(BadInput, match=r"a\.fa, line 3: a header line of over 1048576 bytes \(b'>hh"),
        penstock.Run(tmp_path / "run", budget="1GiB", backend="inline") as opened,
    ):
        Codons().run(opened, inputs=[str(path)], **options)


@pytest.mark.parametrize("mark", [">", "LOCUS "])
@given(text=TEXTS, block=st.integers(1, 200), rng=st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=40)
def test_items_of_any_size_have_each_record_once_whatever_was_read_before(
    tmp_path_factory, mark, text, block, rng
):
    path = tmp_path_factory.mktemp("records") / "a.fa"
    text = text.replace(b"\n>", b"\n" + mark.encode())
    for stored in (text, gzip.compress(text)):
        path.write_bytes(stored)
        source = FastaRecords(path, block=block, mark=mark)
        items = [b"".join(next(source.read(at, at + 1))) for at in range(len(source))]
        assert b"".join(items) == text
        assert all(not item or item.startswith(mark.encode()) for item in items[1:])
        if mark == ">":
            assert [CountHeaders()(each) for each in source.read(0, len(source))] == [
                item.count(b"\n>") + item.startswith(b">") for item in items
            ]
        for at in [rng.randrange(len(source)) for _ in range(6)]:
            again = next(source.read(at, at + 1))
            assert (b"".join(again), again.item) == (items[at], at)


@given(TEXTS, st.lists(st.integers(0, 60)))
def test_headers_are_counted_wherever_pieces_end(text, ends):
    borders = sorted({0, len(text), *(end for end in ends if end < len(text))})
    pieces = [memoryview(text[start:end]) for start, end in pairwise(borders)]
    block = Block("a.fa", 0, 0, True, True, iter([*pieces, memoryview(b"")]))
    assert CountHeaders()(block) == text.count(b"\n>") + text.startswith(b">")


def test_the_parent_of_a_small_run_loads_only_what_it_needs(tmp_path):
    (tmp_path / "a.fa").write_text(">a\nACGTTG\n>a\nACG\n")
    program = (
        "import sys; from penstock.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print([name for name in ('numpy', 'numpy.ma', 'pyarrow', 'pyarrow.compute', 'pyarrow.dataset', "
        "'importlib.metadata', 'numba', 'llvmlite') if name in sys.modules])"
    )
    args = ["run", "codons", "a.fa", "--per-record", "--into", "run", "--budget", "300MiB", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-c", program, *args], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.splitlines()[-1] == "['numpy', 'pyarrow']"
    assert (tmp_path / "run" / "codons.parquet").exists()


class TestFirstNames(ReducerSuite):
    count = 30

    def make(self):
        return FirstNames()

    def result_of(self, item):
        return [f"{item}.{n}" for n in range(item % 3)]


# ------------------------------------------------------------------ indices


def test_indices_equal_those_of_codonw_within_its_rounding(tmp_path):
    """The CAI's reference set is the first 30 genes; codonW was given their weights."""
    text = gzip.decompress((DATA / "yeast111.fa.gz").read_bytes())
    (tmp_path / "reference.fa").write_bytes(b">".join(text.split(b">")[: CODONW["reference"] + 1]))
    told = run(
        tmp_path / "run", DATA / "yeast111.fa.gz", per_record=True, reference=tmp_path / "reference.fa"
    )
    mine = table(tmp_path / "run")
    assert [row["id"] for row in mine] == CODONW["title"]
    half = {"CAI": 0.0005, "Nc": 0.005, "GC3s": 0.0005, "GC": 0.0005}
    for name, most in half.items():
        theirs = [float(value) for value in CODONW[name]]
        if name == "GC":  # of its codons without stops
            sense = [CODONS[at] for at in indices.sense(1)]
            found = [
                sum(row[c] * sum(b in "GC" for b in c) for c in sense) / 3 / sum(row[c] for c in sense)
                for row in mine
            ]
        else:
            found = [row[name.lower()] for row in mine]
        np.testing.assert_allclose(found, theirs, atol=most + 1e-9, rtol=0)
    for name, codons in (("L_sym", indices.synonymous(1)), ("L_aa", indices.sense(1))):
        assert [sum(row[CODONS[at]] for at in codons) for row in mine] == [int(n) for n in CODONW[name]]
    assert told["tables"][0]["indices"]["cai"] is not None


def test_cai_equals_biopython_where_that_is_asked_for(tmp_path):
    path = DATA / "cds_cp_pl.fa.gz"
    run(tmp_path / "theirs", path, per_record=True, reference=path, compat="biopython")
    theirs = [row["cai"] for row in table(tmp_path / "theirs")][: len(BIOPYTHON["cai"])]
    assert theirs == pytest.approx(BIOPYTHON["cai"], rel=1e-12)
    run(tmp_path / "ours", path, per_record=True, reference=path)
    ours = [row["cai"] for row in table(tmp_path / "ours")][: len(BIOPYTHON["cai"])]
    assert 0.01 < max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) < 0.02  # they count stops
    with pytest.raises(UsageError, match="needs --reference"):
        run(tmp_path / "none", path, compat="biopython")


def test_synonymous_is_by_the_genetic_code():
    counts = np.zeros((1, 64), np.int64)
    counts[0, [CODONS.index(codon) for codon in ("ATG", "ATA", "TGG", "TGA")]] = 71, 78, 76, 75
    assert indices.gc3s(counts, 1)[0] == 0  # ATA alone has another codon beside it
    assert indices.gc3s(counts, 2)[0] == pytest.approx((71 + 76) / 300)
    assert sorted(map(len, indices.families(2).values())) == [2] * 12 + [4] * 7 + [6] * 2
    assert len(indices.sense(2)) == 60
    even = np.ones((1, 64), np.int64) * 1000
    for code in genetic_codes.numbers():
        most = len(indices.sense(code))
        assert indices.nc(even, code)[0] == pytest.approx(most, rel=0.01)
        assert indices.nc_weighted(even, code)[0] == pytest.approx(most)
        assert indices.nc(even * 0, code)[0] != indices.nc(even * 0, code)[0]
        one_each = np.zeros((1, 64), np.int64)
        for amino_acid, codons in indices.families(code).items():
            one_each[0, codons[0]] = 50 if amino_acid != "*" else 0
        assert indices.nc(one_each, code)[0] == pytest.approx(
            len(indices.families(code)) - ("*" in indices.families(code))
        )
    short = np.zeros((1, 64), np.int64)
    short[0, [CODONS.index("TTT"), CODONS.index("TTC")]] = 1  # F of one each is 0: there is nothing to tell
    assert np.isnan(indices.nc(short, 1)[0])


# ------------------------------------------------------------------ tables


def test_a_table_of_records_is_the_same_from_blocks_rows_and_workers(tmp_path):
    text = gzip.decompress((DATA / "syn300.fa.gz").read_bytes())
    told = run(tmp_path / "a", DATA / "dirty.fa", DATA / "syn300.fa.gz", per_record=True, per_file=True)
    found = table(tmp_path / "a")
    same(found, slow((DATA / "dirty.fa").read_bytes()) + slow(text))
    assert [row["ordinal"] for row in found] == list(range(told["records"]))
    pooled = {
        row["codon"]: row["count"] for row in pq.read_table(tmp_path / "a" / "codons.parquet").to_pylist()
    }
    assert pooled == {codon: sum(row[codon] for row in found) for codon in CODONS}
    of_files = pq.read_table(tmp_path / "a" / "files.parquet").to_pylist()
    assert [(row["file"], row["records"]) for row in of_files] == [
        (str(DATA / "dirty.fa"), 14), (str(DATA / "syn300.fa.gz"), 300),
    ]  # fmt: skip
    for row in of_files:
        own = [each for each in found if each["file"] == row["file"]]
        for name in ("length", "codons", "ambiguous", "partial", "stops", *CODONS):
            assert row[name] == sum(each[name] for each in own)
    run(
        tmp_path / "b",
        DATA / "dirty.fa",
        DATA / "syn300.fa.gz",
        per_record=True,
        per_file=True,
        backend="local",
    )
    assert table(tmp_path / "b") == found
    assert pq.read_table(tmp_path / "b" / "files.parquet").to_pylist() == of_files
    records = records_of(text)
    parquet = pa.table({"seq_id": [name for name, _ in records], "sequence": [each for _, each in records]})
    pq.write_table(parquet, tmp_path / "c.parquet", row_group_size=37)
    run(tmp_path / "c", DATA / "dirty.fa", tmp_path / "c.parquet", per_record=True)
    path = {"file": str(tmp_path / "c.parquet")}
    assert [row | path for row in table(tmp_path / "c")] == [row | path for row in found]


def test_genetic_codes_by_name_are_never_mixed(tmp_path):
    text = gzip.decompress(EXAMPLE.read_bytes()).decode()
    names = [line[1:].split()[0] for line in text.splitlines() if line.startswith(">")]
    (tmp_path / "map.tsv").write_text(f"# id\tcode\n{names[0]}\t2\n\n{names[1][:4]}*\t11\n{names[0]}\t4\n")
    told = run(tmp_path / "run", EXAMPLE, genetic_code=str(tmp_path / "map.tsv"), per_record=True)
    rows = pq.read_table(tmp_path / "run" / "codons.parquet").to_pylist()
    by_record = {row["id"]: row for row in table(tmp_path / "run")}
    assert {name: row["genetic_code"] for name, row in by_record.items()} == {
        names[0]: 2, names[1]: 11, names[2]: 11 if names[2].startswith(names[1][:4]) else None,
    }  # fmt: skip
    assert {row["code"] for row in rows} == {2, 11}
    for row in rows:
        own = [each for each in by_record.values() if each["genetic_code"] == row["code"]]
        assert row["count"] == sum(each[row["codon"]] for each in own)
        assert row["aa"] == genetic_codes.translation(row["code"])[row["codon"]]
    left = [name for name, row in by_record.items() if row["genetic_code"] is None]
    if left:
        assert told["unmatched"] == {"records": len(left), "first": left}
        assert "fit no line of" in told["warnings"][-1]
    with pytest.raises(UsageError, match="read each record once"):
        run(tmp_path / "all", EXAMPLE, genetic_code=str(tmp_path / "map.tsv"), frame="all")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("a 2\n", "line 1.*'a 2' is no id"), ("#\na\t2\nb\t7\n", "line 3.*number 7"), ("\n", "no line of it"),
        ("a\tx\n", "line 1"),
    ],
)  # fmt: skip
def test_a_table_of_codes_that_is_none_is_named(tmp_path, text, match):
    (tmp_path / "map.tsv").write_text(text)
    with pytest.raises(BadInput) as caught:
        code_map.parse(str(tmp_path / "map.tsv"))
    assert all(part in str(caught.value) for part in match.split(".*"))
    with pytest.raises(UsageError, match="neither a number"):
        code_map.parse(str(tmp_path / "none.tsv"))
    with pytest.raises(UsageError, match="no regular file"):
        code_map.parse("/dev/null")


def test_the_first_line_that_fits_counts():
    codes = code_map.CodeMap((("b?", 4), ("a", 2), ("*x", 5), ("a*", 11), ("ax", 3)), default=1)
    assert codes.of(["a", "ax", "ay", "b1", "bx", "c"]) == [2, 5, 11, 4, 4, 1]
    assert codes.codes == [1, 2, 3, 4, 5, 11]


def test_a_sample_is_within_its_expected_error_of_the_whole(tmp_path):
    rng = np.random.default_rng(4)
    lines = []
    for n in range(400):  # records differ in composition and length
        shares = rng.dirichlet([3, 3, 3, 3])
        lines.append(f">r{n}\n{''.join(rng.choice(list('ACGT'), rng.integers(30, 900), p=shares))}\n")
    (tmp_path / "a.fa").write_text("".join(lines))
    run(tmp_path / "whole", tmp_path / "a.fa")
    within = []
    for seed in range(5):
        folder = tmp_path / f"sample{seed}"
        told = run(folder, tmp_path / "a.fa", sample=100, seed=seed, compare=tmp_path / "whole")["comparison"]
        assert (told["records"], told["records_compared"], told["of_codons"]) == (100, 400, 64)
        within.append(told["within_2_standard_errors"])
        rows = pq.read_table(folder / "comparison.parquet").to_pylist()
        n = sum(row["count"] for row in rows)
        ratios = []
        for row in rows:
            assert row["difference"] == pytest.approx(row["freq"] - row["freq_compared"])
            ratios.append(row["standard_error"] / (row["freq"] * (1 - row["freq"]) / n) ** 0.5)
        assert np.mean(ratios) > 1.5  # than of codons drawn alone: those of one record are alike
    assert 0.85 * 64 < np.mean(within) < 64
    with pytest.raises(UsageError, match="no folder of a finished run"):
        run(tmp_path / "x", tmp_path / "a.fa", compare=tmp_path)
    run(tmp_path / "few", tmp_path / "a.fa", min_count=10**6)
    with pytest.raises(UsageError, match="0 of the 64 codons"):
        run(tmp_path / "y", tmp_path / "a.fa", compare=tmp_path / "few")


def test_a_sample_takes_the_same_records_in_every_table(tmp_path):
    inputs = DATA / "dirty.fa", DATA / "syn300.fa.gz"
    pooled = run(tmp_path / "a", *inputs, sample=50, seed=2, per_record=True)
    assert len(table(tmp_path / "a")) == 50
    by_code = run(tmp_path / "b", *inputs, sample=50, seed=2, genetic_code=_all(tmp_path))
    for name in ("records", "bases", "codons", "ambiguous", "partial"):
        assert by_code[name] == pooled[name]


def _all(folder):
    (folder / "all.tsv").write_text("*\t1\n")
    return str(folder / "all.tsv")


@pytest.mark.parametrize("text", [b"ACGT\n>a\nACG\n", b">a\nAC1\n", b">a\rACG\r>b\rA\r", b"@a\nAC\n+\nII\n"])
def test_what_cannot_be_there_is_named_as_in_pooled_counting(tmp_path, text):
    (tmp_path / "a.fa").write_bytes(text)
    told = []
    for options in ({}, {"per_record": True}):
        with pytest.raises(penstock.PenstockError) as caught:
            run(tmp_path / f"run{len(told)}", tmp_path / "a.fa", **options)
        told.append(str(caught.value).replace("run1", "run0"))
    assert told[0].splitlines()[0] == told[1].splitlines()[0]


def test_letters_of_kinds_stand_for_their_bases():
    kinds = vectorised.letters_of(b"ACGTUacgtuSWNRY-", line_start=True).codes
    assert [bool(kind & 1) for kind in kinds] == [each in "CGcgS" for each in "ACGTUacgtuSWNRY-"]


@pytest.mark.parametrize("together", [2, 2_000_000])
def test_records_of_one_id_are_warned_of_and_kept_apart(tmp_path, monkeypatch, together):
    monkeypatch.setattr("penstock.workloads.codons.by_record._HASHES", together)
    (tmp_path / "a.fa").write_text(">a 1\nAC\n>b\nACGT\n>a 2\nACGTTG\n>\nA\n>a\n\n")
    (tmp_path / "b.fa").write_text(">c\nAC\n>b\nA\n")
    told = run(tmp_path / "run", tmp_path / "a.fa", tmp_path / "b.fa", per_record=True)
    assert told["duplicate_ids"]["records"] == 3
    assert told["duplicate_ids"]["first"] == ["a", "b"]
    assert "3 records have the id of an earlier one" in told["warnings"][-1]
    ids = [(row["ordinal"], row["id"]) for row in table(tmp_path / "run")]
    assert ids == list(enumerate(["a", "b", "a", "", "a", "c", "b"]))


@pytest.mark.parametrize("together", [3, 2_000_000])
def test_which_ids_are_named_does_not_depend_on_the_process(tmp_path, monkeypatch, together):
    """Hashes of texts are others in each process: a table whose ids hash otherwise stands for one."""
    monkeypatch.setattr(by_record, "_HASHES", together)
    names = [f"n{at}" for at in (5, 1, 9, 3, 7, 7, 3, 3, 9, 1, 5, 8, 8)]
    for first in (0, 8):
        part = pa.table({"id": names[first : first + 8]})
        pq.write_table(part, tmp_path / f"part-{first:09d}-{first + 7:09d}.parquet")
    assert by_record.duplicates(tmp_path, len(names)) == (7, ["n7", "n3", "n9"])
    for salt in range(5):
        monkeypatch.setattr(by_record, "hash", lambda name, salt=salt: hash((name, salt)), raising=False)
        assert by_record.duplicates(tmp_path, len(names)) == (7, ["n7", "n3", "n9"])


@given(
    st.lists(st.binary(max_size=12).map(lambda text: text.replace(b"\n", b" ")) | st.just("gén è".encode()))
)
def test_names_do_not_depend_on_the_headers_beside_them(headers):
    assert rows.names_of(headers) == [each for header in headers for each in rows.names_of([header])]
    for name, text in rows.names_of(headers):
        assert name == (text.split() or [""])[0]


@given(st.lists(st.text(" \t\r\x1c\x1f!a1|.éｚ\xa0", max_size=9).map(str.encode) | st.just(b"read1 lane 3")))
def test_ids_and_headers_of_a_table_are_the_names(headers):
    ids, texts = rows.texts_of(headers)
    assert list(zip(ids.to_pylist(), texts.to_pylist(), strict=True)) == rows.names_of(headers)
    ids.validate(full=True)
    texts.validate(full=True)
