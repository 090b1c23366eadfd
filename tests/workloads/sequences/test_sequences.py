"""Sequences into shards, as rows into other workloads, from FASTQ and streams; what is no FASTA, by name."""

import bz2
import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from waiting import LIMIT

import penstock
from penstock.errors import BadInput, PenstockError
from penstock.sequences.given import check_files, kept_streams
from penstock.workloads.codons import Codons
from penstock.workloads.kmers import Kmers
from penstock.workloads.sequences import Sequences

CODONS = Path(__file__).parents[1] / "codons" / "data"
EXAMPLE = Path(__file__).parents[3] / "examples" / "organelles.fa.gz"
SYN300 = CODONS / "syn300.fa.gz"


def run(workload, folder, *inputs, backend="inline", **options):
    with penstock.Run(folder, budget="1GiB", backend=backend) as opened:
        workload().run(opened, inputs=[str(path) for path in inputs], **options)
    return json.loads((folder / "summary.json").read_text())


def shards(folder):
    return sorted((folder / "sequences" / "shards").glob("part-*.parquet"))


def rows(folder):
    tables = [pq.read_table(path) for path in shards(folder)]
    return pa.concat_tables(tables).to_pylist()


def parsed(path):
    """(description, sequence) of each record, obviously."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    parts = (b"\n" + data).split(b"\n>")[1:]
    return [
        (part.partition(b"\n")[0].decode().strip(), part.partition(b"\n")[2].replace(b"\n", b"").decode())
        for part in parts
    ]


# ------------------------------------------------------------------ shards


def test_rows_are_the_records_in_their_order(tmp_path):
    told = run(Sequences, tmp_path / "run", EXAMPLE, SYN300)
    expected = [
        {"seq_id": (name.split() or [""])[0], "description": name, "length": len(letters),
         "sequence": letters, "source": path.name}
        for path in (EXAMPLE, SYN300) for name, letters in parsed(path)
    ]  # fmt: skip
    assert rows(tmp_path / "run") == expected
    assert (told["records"], told["bases"]) == (len(expected), sum(row["length"] for row in expected))


def test_shards_are_cut_by_bytes_and_do_not_depend_on_workers(tmp_path):
    run(Sequences, tmp_path / "one", SYN300, shard="64KiB")
    with penstock.Run(tmp_path / "two", budget="600MiB", workers=2) as opened:
        Sequences().run(opened, inputs=[str(SYN300)], shard="64KiB")
    one, two = shards(tmp_path / "one"), shards(tmp_path / "two")
    assert len(one) > 2
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_a_sample_has_so_many_records_of_them(tmp_path):
    told = run(Sequences, tmp_path / "run", SYN300, sample=40, seed=2, source_name="syn")
    taken = rows(tmp_path / "run")
    assert told["records"] == len(taken) == 40
    assert {row["source"] for row in taken} == {"syn"}
    assert {row["description"] for row in taken} <= {name for name, _ in parsed(SYN300)}


def test_shards_give_what_the_files_gave(tmp_path):
    run(Sequences, tmp_path / "shards", SYN300)
    parts = shards(tmp_path / "shards")
    for name, workload, table in (("codons", Codons, "codons.parquet"), ("kmers", Kmers, "kmers.parquet")):
        run(workload, tmp_path / f"{name}-files", SYN300)
        run(workload, tmp_path / f"{name}-shards", *parts)
        files, rows_ = (pq.read_table(tmp_path / f"{name}-{kind}" / table) for kind in ("files", "shards"))
        assert files.equals(rows_)


def test_the_column_may_have_another_name(tmp_path):
    table = pa.table({"dna": [letters for _, letters in parsed(SYN300)], "sequence": ["A"] * 300})
    pq.write_table(table, tmp_path / "a.parquet")
    run(Codons, tmp_path / "files", SYN300)
    run(Codons, tmp_path / "rows", tmp_path / "a.parquet", column="dna")
    files, rows_ = (pq.read_table(tmp_path / kind / "codons.parquet") for kind in ("files", "rows"))
    assert files.equals(rows_)


def test_rows_become_rows_again(tmp_path):
    pq.write_table(pa.table({"sequence": ["ACGT", "GG"]}), tmp_path / "a.parquet")
    run(Sequences, tmp_path / "run", tmp_path / "a.parquet")
    assert [(row["seq_id"], row["sequence"]) for row in rows(tmp_path / "run")] == [
        ("row 0", "ACGT"),
        ("row 1", "GG"),
    ]


# ------------------------------------------------------------------ FASTQ


def fastq(records, end=b"\n"):
    return b"".join(
        b"@%s%s%s%s+%s%s%s" % (name, end, seq, end, end, b"@" * len(seq), end) for name, seq in records
    )


RECORDS = [(b"r%d x" % at, (b"ACGTN" * (at % 7 + 1))[: at % 23 + 1]) for at in range(500)]


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_fastq_is_read_as_its_sequences(tmp_path, pack, end):
    (tmp_path / "a.fq").write_bytes(pack(fastq(RECORDS, end)))
    (tmp_path / "a.fa").write_bytes(b"".join(b">%s\n%s\n" % record for record in RECORDS))
    run(Sequences, tmp_path / "run", tmp_path / "a.fq", input_format="fastq")
    assert [(row["description"], row["sequence"]) for row in rows(tmp_path / "run")] == [
        (name.decode(), letters.decode()) for name, letters in RECORDS
    ]
    for k in (4, 13):
        run(Kmers, tmp_path / f"q{k}", tmp_path / "a.fq", input_format="fastq", k=k)
        run(Kmers, tmp_path / f"a{k}", tmp_path / "a.fa", k=k)
        one, two = (pq.read_table(tmp_path / f"{kind}{k}" / "kmers.parquet") for kind in "qa")
        assert one.equals(two)
    run(Codons, tmp_path / "q", tmp_path / "a.fq", input_format="fastq")
    run(Codons, tmp_path / "a", tmp_path / "a.fa")
    assert pq.read_table(tmp_path / "q" / "codons.parquet").equals(
        pq.read_table(tmp_path / "a" / "codons.parquet")
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"@a\nACGT\n+\nIII\n", "line 4: a record has 4 letters, and 3 qualities"),
        (b"@a\nAC\n+\nII\n@b\nACGT\nACGT\n+\nIIIIIIII\n", "line 7: '\\+' is expected"),
        (b"@a\nAC\n+\nII\nb\nAC\n+\nII\n", "line 5: a record of FASTQ begins with '@'"),
        (b"@a\nAC\n+\nII\n@b\nAC\n", "line 5: the file ends in the middle of a record"),
        (b">a\nACGT\n>b\nACGT\n", "line 1: this is FASTA, and FASTQ was expected"),
        (b"@a\nAC\n+\nII\n@b\nA!\n+\nII\n", "line 6: the byte b'!'"),
    ],
)
def test_what_is_wrong_with_fastq_is_named(tmp_path, text, said):
    (tmp_path / "a.fq").write_bytes(text)
    with pytest.raises(PenstockError, match=said):
        run(Kmers, tmp_path / "run", tmp_path / "a.fq", input_format="fastq", k=2)


# ------------------------------------------------------------------ streams


def test_standard_input_is_kept_and_read(tmp_path):
    command = [
        sys.executable, "-m", "penstock", "run", "kmers", "-", "--k", "5", "--into", str(tmp_path / "run"),
    ]  # fmt: skip
    ran = subprocess.run(command, input=SYN300.read_bytes(), capture_output=True, timeout=LIMIT, check=False)
    assert ran.returncode == 0, ran.stderr.decode()
    assert "standard input is one stream, which cannot be read twice" in ran.stderr.decode()
    run(Kmers, tmp_path / "file", SYN300, k=5)
    one, two = (pq.read_table(tmp_path / kind / "kmers.parquet") for kind in ("run", "file"))
    assert one.equals(two)
    again = subprocess.run(command, input=b"", capture_output=True, timeout=LIMIT, check=False)
    assert again.returncode == 0, again.stderr.decode()
    assert "what the run before has kept of it is used" in again.stderr.decode()


def test_a_pipe_is_kept_and_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    data = SYN300.read_bytes()
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(data))
    writer.start()
    (kept,) = kept_streams(tmp_path, [str(tmp_path / "pipe")])
    writer.join()
    assert Path(kept).read_bytes() == data


def test_standard_input_twice_is_refused(tmp_path):
    with pytest.raises(BadInput, match="standard input can be read once"):
        kept_streams(tmp_path, ["-", "-"])


# ------------------------------------------------------------------ what was given


def in_tar(data):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        entry = tarfile.TarInfo("a.fa")
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


FASTA = b">a\nACGT\n"
SAM = b"@HD\tVN:1.6\n@SQ\tSN:chr1\tLN:10\n"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"LOCUS       NC_1 10 bp\n", "this is GenBank"),
        (gzip.compress(b"LOCUS       NC_1 10 bp\n"), "this is GenBank"),
        (b"ID   X56734; SV 1; linear\n", "this is EMBL"),
        (b"CLUSTAL W (1.83)\n\na ACGT\n", "CLUSTAL alignment"),
        (SAM, "this is SAM"),
        (bz2.compress(SAM), "this is SAM"),
        (in_tar(FASTA), "a tar archive, which"),
        (gzip.compress(in_tar(FASTA)), "a tar archive in gzip"),
        (bz2.compress(in_tar(FASTA)), "a tar archive in bzip2"),
        ((">a\nACGT\n" * 50).encode("utf-16"), "UTF-16"),
        ((">a\nACGT\n" * 50).encode("utf-16-le"), "UTF-16"),
        (b"\x04\x22\x4d\x18" + bytes(40), "compressed by lz4"),
        (b"\x1f\x9d\x90" + bytes(40), r"compressed by compress \(.Z\)"),
        (b"\x5d\x00\x00\x80\x00" + b"\xff" * 8 + bytes(20), r"compressed by lzma"),
        (gzip.compress(gzip.compress(FASTA)), "compressed twice"),
        (gzip.compress(bz2.compress(FASTA)), "compressed by bzip2, and that by gzip"),
        (b"<!DOCTYPE html><html>", "a page of a web site"),
    ],
)
@pytest.mark.parametrize("workload", [Kmers, Codons, Sequences])
def test_what_is_no_fasta_is_said_by_its_name(tmp_path, data, said, workload):
    path = tmp_path / "a.fa"
    path.write_bytes(data)
    if workload is Codons and said == "this is GenBank":  # which it reads, and this has no sequence
        said = "the record 'LOCUS       NC_1 10 bp' has no"
    with pytest.raises(BadInput, match=said) as error:
        run(workload, tmp_path / "run", path)
    assert str(path) in str(error.value)


def test_a_file_and_a_link_to_it_are_given_twice(tmp_path):
    (tmp_path / "a.fa").write_bytes(FASTA)
    (tmp_path / "b.fa").symlink_to(tmp_path / "a.fa")
    with pytest.raises(BadInput, match=r"b\.fa: given twice: it is the same file as .*a\.fa"):
        check_files([str(tmp_path / "a.fa"), str(tmp_path / "b.fa")])


def test_fasta_is_nothing_else(tmp_path):
    for at, data in enumerate((FASTA, gzip.compress(FASTA), b"\n\n" + FASTA, b"\xef\xbb\xbf" + FASTA)):
        (tmp_path / f"{at}.fa").write_bytes(data)
    check_files(str(path) for path in tmp_path.iterdir())
