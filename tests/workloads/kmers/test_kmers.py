"""k-mers from end to end: the oracle, a slow obvious count, any budget, kill and resume, bad inputs."""

import gzip
import json
import signal
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import LIMIT, until

import penstock
from penstock.cli import main
from penstock.errors import BadInput
from penstock.record.job_key import function_key
from penstock.testing import SinkSuite
from penstock.workloads.codons import Codons
from penstock.workloads.kmers import Kmers, words
from penstock.workloads.kmers.counting import CountWords
from penstock.workloads.kmers.dense import Dense
from penstock.workloads.kmers.joining import JoinBlocks
from penstock.workloads.kmers.packing import Blocks, rows_of
from penstock.workloads.kmers.reading import BadByte, Compiled, Plain
from penstock.workloads.sequences import Sequences

CODONS = Path(__file__).parents[1] / "codons" / "data"
EXAMPLE = Path(__file__).parents[3] / "examples" / "organelles.fa.gz"
ORACLE = json.loads(gzip.decompress((Path(__file__).parent / "data" / "kmer_counts.json.gz").read_bytes()))
FILES = {
    "dirty.fa": CODONS / "dirty.fa",
    "genomes.fa": EXAMPLE,
    "syn300.fa": CODONS / "syn300.fa.gz",
}
EVERY = 2**64 - 1


def run(folder, *inputs, backend="inline", budget="1GiB", workers=None, **options):
    """The counts, their order, and the summary."""
    with penstock.Run(folder, budget=budget, backend=backend, workers=workers) as opened:
        Kmers().run(opened, inputs=[str(path) for path in inputs], **options)
    return results(folder)


def results(folder):
    table = pq.read_table(folder / "kmers.parquet")
    found = dict(zip(table["kmer"].to_pylist(), table["count"].to_pylist(), strict=True))
    assert list(found) == sorted(found)
    assert len(found) == table.num_rows
    return found, json.loads((folder / "summary.json").read_text())


def result_bytes(folder):
    path = folder / "kmers.parquet"
    files = sorted(path.glob("part-*")) if path.is_dir() else [path]
    return {each.name: each.read_bytes() for each in files}


def back(word):
    return word[::-1].translate(str.maketrans("ACGT", "TGCA"))


def slowly(text, k, canonical=False):
    """The counts of FASTA text by the rules, one word at a time."""
    counts = Counter()
    for part in (b"\n" + text).split(b"\n>")[1:]:
        lines = part.split(b"\n")[1:]
        letters = b"".join(line for line in lines if not line.startswith(b";")).decode("latin-1")
        letters = "".join(letters.split()).upper().replace("U", "T")
        for at in range(len(letters) - k + 1):
            word = letters[at : at + k]
            if set(word) <= set("ACGT"):
                counts[min(word, back(word)) if canonical else word] += 1
    return dict(counts)


def sequences_of(path):
    return [part.split(b"\n", 1)[1].replace(b"\n", b"") for part in text_of(path).split(b">")[1:]]


def few_of(path, count=100):
    """The text of the first records."""
    return b">".join(text_of(path).split(b">")[: count + 1])


def text_of(path):
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


# ------------------------------------------------------------------ results


@pytest.mark.parametrize("key", [key for key in ORACLE if key.split("|")[0] in FILES])
@pytest.mark.parametrize("canonical", [False, True])
def test_counts_equal_the_oracle(tmp_path, key, canonical):
    name, k = key.split("|k")
    found, told = run(tmp_path / "run", FILES[name], k=int(k), canonical=canonical)
    assert found == ORACLE[key]["canonical" if canonical else "forward"]
    assert told["counted"] == sum(found.values())
    assert told["distinct"] == len(found)


@pytest.mark.parametrize("k", [8, 9, 12, 13, 21, 31])
@pytest.mark.parametrize("canonical", [False, True])
def test_counts_equal_a_slow_count_at_any_length(tmp_path, k, canonical):
    expected = slowly(text_of(FILES["dirty.fa"]) + text_of(EXAMPLE)[:60_000], k, canonical)
    path = tmp_path / "a.fa"
    path.write_bytes(text_of(FILES["dirty.fa"]) + text_of(EXAMPLE)[:60_000])
    found, told = run(tmp_path / "run", path, k=k, canonical=canonical, top=3)
    assert found == expected
    best = sorted(expected.items(), key=lambda entry: (-entry[1], entry[0]))[:3]
    assert told["top"] == [{"kmer": word, "count": count} for word, count in best]


@pytest.mark.parametrize("k", [6, 13])
def test_rare_words_are_left_out(tmp_path, k):
    path = tmp_path / "a.fa"
    path.write_bytes(text_of(EXAMPLE)[:40_000])
    expected = {word: n for word, n in slowly(path.read_bytes(), k).items() if n >= 3}
    found, told = run(tmp_path / "run", path, k=k, min_count=3)
    assert found == expected
    assert expected
    assert told["least"] >= 3


@pytest.mark.parametrize("k", [6, 13])
def test_a_word_is_said_where_no_word_is_left(tmp_path, k):
    path = tmp_path / "a.fa"
    path.write_bytes(text_of(EXAMPLE)[:4_000])
    found, told = run(tmp_path / "run", path, k=k, min_count=10**6)
    assert found == {}
    assert "nothing is left: none of the words is there 1,000,000 times" in str(told["warnings"])


def test_the_ledger_balances(tmp_path):
    _, told = run(tmp_path / "run", FILES["syn300.fa"], k=6)
    parts = [
        part.split(b"\n", 1)[1].replace(b"\n", b"") for part in text_of(FILES["syn300.fa"]).split(b">")[1:]
    ]
    assert told["records"] == len(parts)
    assert told["bases"] == sum(map(len, parts))
    assert told["windows"] == sum(max(len(part) - 5, 0) for part in parts)
    assert told["shorter_than_k"] == sum(len(part) < 6 for part in parts)
    assert told["counted"] == sum(slowly(text_of(FILES["syn300.fa"]), 6).values())


@pytest.mark.parametrize("k", [5, 10, 15])
def test_rows_of_parquet_count_as_records_do(tmp_path, k):
    text = few_of(FILES["syn300.fa"])
    parts = [part.split(b"\n", 1)[1].replace(b"\n", b"") for part in text.split(b">")[1:]]
    pq.write_table(
        pa.table({"seq": [part.decode() for part in parts]}), tmp_path / "a.parquet", row_group_size=37
    )
    found, told = run(tmp_path / "run", tmp_path / "a.parquet", k=k, column="seq")
    assert found == slowly(text, k)
    assert told["records"] == 100


# ------------------------------------------------------------------ the same bytes, whatever happens


@pytest.mark.parametrize(("k", "canonical"), [(6, True), (11, False), (19, True)])
def test_bytes_do_not_depend_on_workers_budget_or_storage(tmp_path, k, canonical):
    plain, packed = tmp_path / "a.fa", tmp_path / "a.fa.gz"
    plain.write_bytes(few_of(FILES["syn300.fa"]))
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    run(tmp_path / "one", plain, k=k, canonical=canonical)
    run(tmp_path / "two", plain, k=k, canonical=canonical, backend="local", budget="600MiB", workers=2)
    assert result_bytes(tmp_path / "one") == result_bytes(tmp_path / "two")
    found, _ = run(tmp_path / "gz", packed, k=k, canonical=canonical)
    assert found == results(tmp_path / "one")[0]


def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(tmp_path, monkeypatch):
    path = tmp_path / "a.fa"
    path.write_bytes(few_of(FILES["syn300.fa"]))
    run(tmp_path / "whole", path, k=17)
    before = JoinBlocks.__call__
    monkeypatch.setattr(JoinBlocks, "__call__", lambda self, partition: 1 / 0)
    with pytest.raises(penstock.errors.RunFailed):
        run(tmp_path / "run", path, k=17)
    monkeypatch.setattr(JoinBlocks, "__call__", before)
    found, _ = run(tmp_path / "run", path, k=17)
    assert result_bytes(tmp_path / "run") == result_bytes(tmp_path / "whole")
    assert found == slowly(path.read_bytes(), 17)


@pytest.mark.long
def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path):
    path = tmp_path / "a.fa"
    path.write_bytes(text_of(FILES["syn300.fa"]))
    run(tmp_path / "whole", path, k=17)
    folder = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "penstock",
        "run",
        "kmers",
        str(path),
        "--k",
        "17",
        "--into",
        str(folder),
    ]
    for workers, after in ((2, "count"), (1, "kmers.parquet"), (2, None)):
        process = subprocess.Popen(
            [*command, "--workers", str(workers), "--budget", "600MiB" if workers == 1 else "2GiB"],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        if after is None:
            _, said = process.communicate(timeout=LIMIT)
            assert process.returncode == 0, said
        else:
            until(lambda name=after: (folder / ".penstock" / name).exists(), program=process)
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=LIMIT)
    assert result_bytes(folder) == result_bytes(tmp_path / "whole")
    assert CliRunner().invoke(main, ["verify", str(folder)]).exit_code == 0


def test_a_record_larger_than_a_run_is_counted_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("penstock.workloads.kmers.counting.RUN", 1000)
    monkeypatch.setattr("penstock.workloads.kmers.counting.IN_MEMORY", 9000)
    for k in (9, 14):
        found, _ = run(tmp_path / f"run{k}", EXAMPLE, k=k)
        assert found == slowly(text_of(EXAMPLE), k)


@pytest.mark.parametrize("piece", [61, 1000])
def test_bytes_do_not_depend_on_the_pieces_that_are_read_and_sorted(tmp_path, monkeypatch, piece):
    path = tmp_path / "a.fa"
    path.write_bytes(text_of(FILES["dirty.fa"]) + text_of(EXAMPLE)[:20_000].replace(b"\n", b"\r\n"))
    for k in (5, 11, 14, 21):
        run(tmp_path / f"whole{k}", path, k=k)
    monkeypatch.setattr("penstock.workloads.kmers.counting._PIECE", piece)
    monkeypatch.setattr("penstock.workloads.kmers.counting.RUN", 3 * piece)
    monkeypatch.setattr("penstock.workloads.kmers.dense._SLICE", 1 << 10)
    for k in (5, 11, 14, 21):
        run(tmp_path / f"run{k}", path, k=k)
        assert result_bytes(tmp_path / f"run{k}") == result_bytes(tmp_path / f"whole{k}")


@pytest.mark.parametrize("k", ["12", "13"])
def test_one_large_record_is_counted_inside_a_small_budget(tmp_path, k):
    # A process of its own: the budget has the parent in it, and that of these tests is large already.
    lines = np.frombuffer(b"ACGT", np.uint8)[np.random.default_rng(5).integers(0, 4, (50_000, 100))]
    path = tmp_path / "one.fa"
    path.write_bytes(b">one\n" + b"\n".join(line.tobytes() for line in lines) + b"\n")
    asked = ["kmers", str(path), "--k", k, "--budget", "300MiB", "--into", str(tmp_path / "run")]
    ended = subprocess.run(
        [sys.executable, "-m", "penstock", "run", *asked], capture_output=True, text=True, timeout=600
    )
    assert ended.returncode == 0, ended.stderr
    told = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert told["counted"] == told["windows"] == 5_000_000 - int(k) + 1


NUMBERS = st.lists(st.integers(0, 4**31 - 1) | st.integers(0, 9), max_size=60)


@pytest.mark.parametrize(("k", "canonical"), [(8, True), (9, True), (10, False), (12, True), (21, False)])
def test_bytes_do_not_depend_on_what_code_counts(tmp_path, monkeypatch, k, canonical):
    made = []
    path = tmp_path / "a.fa"
    path.write_bytes(few_of(FILES["syn300.fa"]))
    for compiled in (False, True):
        folder = tmp_path / str(compiled)
        monkeypatch.setattr("penstock.workloads.kmers._compiled", lambda inputs, which=compiled: which)
        if not compiled:
            monkeypatch.setattr("penstock.workloads.kmers.scanning.add._entry", None)
        run(folder, path, k=k, canonical=canonical)
        monkeypatch.undo()
        made.append({each.name: each.read_bytes() for each in (folder / "count").rglob("split*")})
    assert made[0] == made[1]
    assert bool(made[0]) == (k > 12)
    assert result_bytes(tmp_path / "False") == result_bytes(tmp_path / "True")


def test_one_word_that_is_most_of_the_input_is_counted_without_holding_it(tmp_path, monkeypatch):
    path = tmp_path / "a.fa"
    path.write_bytes(b">a\n" + b"A" * 5000 + b"CCGT" * 9 + b"\n>b\n" + b"A" * 3000 + b"\n")
    monkeypatch.setattr("penstock.workloads.kmers.counting.RUN", 512)
    monkeypatch.setattr("penstock.workloads.kmers.counting.IN_MEMORY", 9000)
    most = 1000
    monkeypatch.setattr("penstock.workloads.kmers.joining.MOST", most)
    monkeypatch.setattr(JoinBlocks.__init__, "__defaults__", (1, most))
    found, _ = run(tmp_path / "run", path, k=15)
    assert found == slowly(path.read_bytes(), 15)
    assert found["A" * 15] == 5000 - 14 + 3000 - 14


@settings(max_examples=40, deadline=None)
@given(data=st.data(), compiled=st.booleans())
def test_a_partition_larger_than_memory_is_joined_in_shares(data, compiled):
    codes = data.draw(st.lists(st.integers(0, 4**14 - 1) | st.integers(7, 9), min_size=1, max_size=300))
    blocks = Blocks(14, 1, compiled)
    tables = [blocks.packed(np.array(codes[at : at + 50], np.uint64)) for at in range(0, len(codes), 50)]
    for least in (1, 3):
        expected = {code: n for code, n in Counter(codes).items() if n >= least}
        for most in (1, 7, 10_000):
            table = JoinBlocks(blocks, least, most)(tables).read_all()
            assert words.codes_of_words(table["kmer"].to_pylist()) == sorted(expected)
            assert table["count"].to_pylist() == [expected[code] for code in sorted(expected)]


@settings(deadline=None)
@given(k=st.integers(13, 31), bits=st.integers(1, 10), numbers=NUMBERS)
def test_words_are_packed_in_the_same_bytes_with_and_without_compiled_code(k, bits, numbers):
    codes = np.array([number % 4**k for number in numbers], np.uint64)
    numpy, compiled = (Blocks(k, bits, each) for each in (False, True))
    packed = numpy.packed(codes)
    assert packed.equals(compiled.packed(codes))
    assert packed["part"].to_pylist() == sorted({int(code) >> (2 * k - bits) for code in codes})
    for each in (numpy, compiled):
        found = np.concatenate([np.zeros(0, np.uint64), *each.unpacked(packed)])
        order = np.argsort(codes >> np.uint64(2 * k - bits), kind="stable")
        assert found.tolist() == codes[order].tolist()


@settings(deadline=None)
@given(k=st.integers(13, 31), numbers=NUMBERS, least=st.integers(1, 3))
def test_rows_are_the_same_with_and_without_compiled_code(k, numbers, least):
    codes = np.array([number % 4**k for number in numbers], np.uint64)
    counts = sorted((code, n) for code, n in Counter(codes.tolist()).items() if n >= least)
    for compiled in (False, True):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("penstock.workloads.kmers.packing.ROWS", 7)
            tables = list(rows_of(codes.copy(), k, least, compiled=compiled))
        assert all(0 < each.num_rows <= 7 for each in tables)
        names = [name for each in tables for name in each["kmer"].to_pylist()]
        found = [n for each in tables for n in each["count"].to_pylist()]
        assert list(zip(words.codes_of_words(names), found, strict=True)) == counts


# ------------------------------------------------------------------ the two ways of reading

PIECES = st.sampled_from(
    [b"\n", b">", b"\n>", b">r\n", b"A", b"CGT", b"acgu", b"N", b"RY", b"-", b"EF", b" ", b"\r\n", b"\n;c\n",
     b"1", b"ACGTACGT" * 9]
)  # fmt: skip


def whole(kind, text, cuts, k, canonical, limit):
    """(words, ledger, table), or what is wrong."""
    try:
        reader, found = kind(k, canonical, 5, limit), []
        for low, high in cuts:
            found += [each.astype(np.uint64).copy() for each in reader.words(text[low:high], low)]
        ledger = reader.finish().tolist()
        table = np.zeros(4 ** min(k, 4), np.uint32)
        reader = kind(min(k, 4), False, 5, limit)
        for low, high in cuts:
            reader.count(text[low:high], low, table)
        return np.concatenate([np.zeros(0, np.uint64), *found]).tolist(), ledger, table.tolist()
    except BadByte as bad:
        return bad.offset, bad.kind


@settings(max_examples=400, deadline=None)
@given(parts=st.lists(PIECES, max_size=30), k=st.integers(1, 31), canonical=st.booleans(),
       limit=st.sampled_from([EVERY, EVERY // 2]), seed=st.randoms())  # fmt: skip
def test_the_compiled_reader_equals_numpy_however_the_text_is_cut(parts, k, canonical, limit, seed):
    text = b">r\n" + b"".join(parts)
    places = sorted(seed.sample(range(len(text) + 1), min(len(text), 4)))
    # Sources never part a line end from what follows it.
    places = [place for place in places if text[place - 1 : place] not in (b"\n", b"\r")]
    cuts = list(zip([0, *places], [*places, len(text)], strict=True))
    expected = whole(Plain, text, [(0, len(text))], k, canonical, limit)
    assert whole(Plain, text, cuts, k, canonical, limit) == expected
    assert whole(Compiled, text, cuts, k, canonical, limit) == expected
    if len(expected) == 3 and limit == EVERY:
        names = Counter(np.array(expected[0], np.uint64).tolist())
        slow = slowly(text, k, canonical)
        assert names == dict(zip(words.codes_of_words(list(slow)), slow.values(), strict=True))


@given(st.lists(st.integers(0, 4**31 - 1)), st.integers(1, 31))
def test_words_and_numbers_are_each_others_reverse(numbers, k):
    codes = np.array([number % 4**k for number in numbers], np.uint64)
    text = words.text_of(codes, k).tobytes().decode()
    found = [text[at : at + k] for at in range(0, len(text), k)]
    assert words.codes_of_words(found) == codes.tolist()
    assert (
        words.codes_of_words([back(word) for word in found]) == words.reverse_complements(codes, k).tolist()
    )


def test_a_folder_goes_on_whether_code_is_compiled_or_not():
    keys = [function_key(CountWords(6, compiled=each)) for each in (False, True)]
    assert keys[0] == keys[1] != function_key(CountWords(6, canonical=True))


@settings(max_examples=20)
@given(
    st.lists(st.text("ACGTacgtuN-", max_size=99), max_size=3),
    st.sampled_from([60, 80, 10_000]), st.integers(1, 8), st.lists(st.integers(0, 20_000), max_size=3),
    st.integers(0, 2**32),
)  # fmt: skip
def test_long_runs_of_bases_are_counted_as_numpy_does(odd, width, k, cuts, seed):
    """More than are put together, and every length of what is left of them."""
    bases = np.frombuffer(b"ACGT", np.uint8)[np.random.default_rng(seed).integers(0, 4, 9000 + seed % 70)]
    sequence = bases.tobytes().decode() + "N".join(odd)
    lines = [sequence[at : at + width] for at in range(0, len(sequence), width)]
    text = "\n".join([">a", *lines, ""]).encode()
    edges = sorted({0, len(text), *(at for at in cuts if 0 < at < len(text) and text[at - 1] != 10)})
    found = []
    for kind in (Plain, Compiled):
        reader = kind(k, False, 0, EVERY)
        table = np.zeros(4**k, np.uint32)
        for low, high in pairwise(edges):
            reader.count(text[low:high], low, table)
        found.append((table.tolist(), reader.finish().tolist()))
    assert found[0] == found[1]


def test_small_inputs_load_no_compiled_code(tmp_path):
    from penstock.sequences.options import open_asked
    from penstock.workload_options import read_options
    from penstock.workloads.kmers import _counting

    asked = read_options(Kmers.command, {"inputs": [str(EXAMPLE)]})
    assert _counting(open_asked(asked, records=True), asked, None).function.compiled is False


# ------------------------------------------------------------------ samples and bad inputs


@pytest.mark.parametrize("k", [4, 13])
def test_a_sample_has_exactly_so_many_records_and_the_same_ones_as_rows_do_not_matter(tmp_path, k):
    found, told = run(tmp_path / "run", FILES["syn300.fa"], k=k, sample=50, seed=3)
    assert told["records"] == 50
    again, _ = run(tmp_path / "again", FILES["syn300.fa"], k=k, sample=50, seed=3)
    other, _ = run(tmp_path / "other", FILES["syn300.fa"], k=k, sample=50, seed=4)
    assert found == again != other


@pytest.mark.parametrize("k", [6, 14])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"ACGT\n>a\nACGT\n", r"line 1: text before the first '>' \('ACGT'\)"),
        (b">a\nACGT\nAC1T\n", r"line 3: the digit 1 in a sequence"),
        (b">a\nACGT>b\nACGT\n", r"line 2: '>' inside a line"),
        (b">a\nMKEFLPQIE\n", r"this is protein"),
        (b">a\rACGT\r>b\rAC\r", r"lone carriage return"),
        (b"@r\nACGT\n+\nIIII\n", r"FASTQ"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, said, k):
    path = tmp_path / "a.fa"
    path.write_bytes(text)
    with pytest.raises(penstock.errors.PenstockError, match=said) as error:
        run(tmp_path / "run", path, k=k)
    assert str(path) in str(error.value)


def test_a_bad_row_is_named(tmp_path):
    pq.write_table(pa.table({"sequence": ["ACGT", "AC!T"]}), tmp_path / "a.parquet")
    with pytest.raises(penstock.errors.PenstockError, match="row 1 of these holds a byte"):
        run(tmp_path / "run", tmp_path / "a.parquet", k=2)


@pytest.mark.parametrize("workload", [Kmers, Codons, Sequences])
def test_a_little_protein_is_told_of_by_whatever_reads_it(tmp_path, capsys, workload):
    path = tmp_path / "a.fa"
    path.write_bytes(b">a\n" + b"ACGT" * 50 + b"EF\n")
    for number, options in enumerate([{}] + [{"per_record": True, "compare": None}] * (workload is Codons)):
        with penstock.Run(tmp_path / f"run{number}", budget="1GiB", backend="inline") as opened:
            workload().run(opened, inputs=[str(path)], **options)
        told = json.loads((tmp_path / f"run{number}" / "summary.json").read_text())
        assert "2 of 202 letters are of proteins" in "".join(told["warnings"])
        assert "warning: 2 of 202 letters" in capsys.readouterr().err


def test_words_that_no_record_has_are_an_empty_table_to_whoever_reads_it(tmp_path):
    path = tmp_path / "a.fa"
    path.write_bytes(b">a\nACGTACGTAC\n")
    for k in (12, 21):
        found, told = run(tmp_path / f"run{k}", path, k=k)
        assert (found, told["distinct"], told["shorter_than_k"]) == ({}, 0, 1)
        table = pq.read_table(tmp_path / f"run{k}" / "kmers.parquet")
        assert [(field.name, str(field.type)) for field in table.schema] == [
            ("kmer", "string"),
            ("count", "int64"),
        ]
        assert list((tmp_path / f"run{k}").glob("kmers.parquet/*.parquet" if k > 12 else "kmers.parquet"))


def test_files_without_a_record_are_an_error(tmp_path):
    path = tmp_path / "a.fa"
    path.write_bytes(b"\n\n")
    with pytest.raises(BadInput, match="no sequences"):
        run(tmp_path / "run", path, k=2)


# ------------------------------------------------------------------ the sink


class TestDense(SinkSuite):
    def make(self):
        return Dense(2)

    def result_of(self, item):
        return np.random.default_rng(item).integers(0, 9, 16).astype(np.uint32)

    def opened(self, result):
        return result.to_table().to_pylist()

    def expected(self, results):
        kept = [each for each in results if isinstance(each, np.ndarray)]
        total = sum(kept, np.zeros(16, np.uint32)).tolist()
        names = [a + b for a in "ACGT" for b in "ACGT"]
        return [{"kmer": name, "count": n} for name, n in zip(names, total, strict=True) if n]


def test_one_record_is_told_of_as_one(tmp_path):
    path = tmp_path / "a.fa"
    path.write_bytes(b">a\n" + b"ACGT" * 50 + b"E\n")
    for number, workload in enumerate([Kmers(), Codons(), Sequences()]):
        with penstock.Run(tmp_path / f"run{number}", budget="1GiB", backend="inline") as opened:
            workload.run(opened, inputs=[str(path)], sample=3)
        told = "".join(json.loads((tmp_path / f"run{number}" / "summary.json").read_text())["warnings"])
        assert "1 of 201 letters is of proteins alone" in told
        assert "there is only 1 record: the sample of 3 is all of them" in told
