"""Odd and bad input, the whole list: what is read all the same, and what is refused, by which words.

Every row is tried with all that read sequences: pooled codons, a row for each record, k-mers short and
long, and rows of sequences. A row that is read gives what its plain text gives, however the file is cut into
blocks; one that is refused is named by file and place, and nothing is left that looks like a result.

Elsewhere: a line of gigabytes (test_kmers: one large record; test_codons_vectorised: any cuts), ten million
records (benchmarks/codons), standard input, pipes and formats by their names (test_sequences), records of
one id (test_codons_records), columns of Parquet (test_codons), a kill and a resume (test_codons_laws,
test_kmers), a run folder that holds something else (tests/record).
"""

import bz2
import errno
import gzip
import lzma
import os
import struct
import zlib

import numpy as np
import pytest
from backports import zstd

import penstock
from penstock.errors import BadInput, DiskFull, PenstockError
from penstock.sources import Fasta, FastaRecords
from penstock.workloads.codons import Codons, code_map, summary
from penstock.workloads.codons.job import CountCodons, JoinSummaries
from penstock.workloads.codons.usage_job import CountRecords
from penstock.workloads.kmers import Kmers
from penstock.workloads.kmers.counting import CountWords
from penstock.workloads.sequences import Sequences, TakeRecords

PLAIN = b">a one\nATGAAACCCGGGTTTTGA\n>b\nACGTACGTACGTAC\n"
LONG = b"".join(b">s%d\n%s\n" % (at, b"ATGAAACTGGGNCCTTAA" * (at % 40 + 3)) for at in range(200))


def bgzip(text, size=1000, *, end=True):
    """As bgzip writes it: gzip members that tell their sizes, and an empty one last."""
    out = b""
    for at in [*range(0, len(text), size), *([len(text)] if end else [])]:
        packer = zlib.compressobj(6, zlib.DEFLATED, -15)
        body = text[at : at + size]
        packed = packer.compress(body) + packer.flush()
        head = (
            b"\x1f\x8b\x08\x04" + bytes(5) + b"\xff" + struct.pack("<HBBHH", 6, 66, 67, 2, len(packed) + 25)
        )
        out += head + packed + struct.pack("<II", zlib.crc32(body), len(body))
    return out


PACK = {
    "gzip": gzip.compress, "bgzip": bgzip, "zstd": zstd.compress, "bzip2": bz2.compress, "xz": lzma.compress,
}  # fmt: skip

# ------------------------------------------------------------------ what is read

READ = {
    "lower case": (PLAIN.replace(b"ACGT", b"acgt"), PLAIN),
    "mixed case": (PLAIN.replace(b"CG", b"cG"), PLAIN),
    "RNA": (PLAIN.replace(b"T", b"U"), PLAIN),
    "IUPAC letters in lower case": (b">a\nATGryswkmbdhvxnAA\n", b">a\nATGRYSWKMBDHVXNAA\n"),
    "gaps and stops are alike": (b">a\nATG-.*AAA\n", b">a\nATG---AAA\n"),
    "CRLF": (PLAIN.replace(b"\n", b"\r\n"), PLAIN),
    "CR at the ends of some lines": (PLAIN.replace(b"TGA\n", b"TGA\r\n"), PLAIN),
    "tabs and trailing blanks": (PLAIN.replace(b"CCC", b"CCC \t").replace(b"TGA\n", b"TGA  \n"), PLAIN),
    "blank lines": (PLAIN.replace(b"CCC", b"CCC\n\n").replace(b"\n>b", b"\n\n \n>b"), PLAIN),
    "blank lines before the first record": (b"\n\n" + PLAIN, PLAIN),
    "no line end at the end": (PLAIN[:-1], PLAIN),
    "comments": (PLAIN.replace(b"one\n", b"one\n;ACGT ACGT\n"), PLAIN),
    "a comment first": (b";made by hand\n" + PLAIN, PLAIN),
    "lines of any length": (PLAIN.replace(b"GGG", b"G\nG\nG").replace(b"TAC\n", b"T\nAC\n"), PLAIN),
    "'>' inside a header": (PLAIN.replace(b"one", b"a>b >c"), PLAIN),
    "a header that is not UTF-8": (PLAIN.replace(b"one", b"\xe9\xff\x80"), PLAIN),
    "a header in UTF-8": (PLAIN.replace(b"one", "Öl".encode()), PLAIN),
    "a byte order mark": (b"\xef\xbb\xbf" + PLAIN, PLAIN),
    "another name": (PLAIN, PLAIN),
    **{f"{kind}, by content": (pack(PLAIN), PLAIN) for kind, pack in PACK.items()},
    **{f"{kind}, of two": (pack(PLAIN[:30]) + pack(PLAIN[30:]), PLAIN) for kind, pack in PACK.items()},
    "gzip with zeros behind": (gzip.compress(PLAIN) + bytes(512), PLAIN),
}  # fmt: skip


def answers(path, block=1 << 20):
    """What each command makes of a file: numbers and letters, without headers and places."""
    reducer, whole = JoinSummaries(), Fasta(path, block=block)
    state = reducer.start()
    for item in whole.read(0, len(whole)):
        state = reducer.step(state, CountCodons(compiled=False)(item))
    assert not state[summary.BAD]
    source = FastaRecords([str(path)], block=block)
    items = lambda: source.read(0, len(source))  # noqa: E731
    count = CountRecords(code_map.parse("1"), by_record=True)
    firsts = np.zeros(len(source) + 1, np.int64)
    tables = [found for item in items() if (found := count(item, firsts)["records"]) is not None]
    by_record = [row for table in tables for row in table.to_pylist()]
    short = [CountWords(3)(item) for item in items()]
    long = [CountWords(13, canonical=True)(item)["ledger"] for item in items()]
    take = TakeRecords("x", 0, 2**64 - 1)
    rows = [row for item in items() for row in take(item)["shards"].to_pylist()]
    assert state[summary.RECORDS] == len(by_record) == len(rows)
    assert state[summary.BASES] == sum(row["length"] for row in rows)
    return {
        "codons": [summary.frames(state, strand).tolist() for strand in "+-"],
        "letters": summary.letters(state),
        "records": [
            [value for name, value in row.items() if name not in ("id", "description", "file", "ordinal")]
            for row in by_record
        ],
        "ids": [row["id"] for row in by_record],
        "files": len({row["file"] for row in by_record}),
        "k = 3": sum(found["counts"] for found in short).tolist(),
        "ledger": sum(found["ledger"] for found in short).tolist(),
        "k = 13": sum(long).tolist(),
        "rows": [(row["seq_id"], row["length"]) for row in rows],
    }


@pytest.mark.parametrize("case", READ)
def test_what_is_odd_is_read_as_what_it_means(tmp_path, case):
    given, plain = READ[case]
    (tmp_path / "odd.fa").write_bytes(given)
    (tmp_path / "plain.fa").write_bytes(plain)
    want = answers(tmp_path / "plain.fa")
    assert want["ids"][0] == "a"
    for block in (1 << 20, 13):
        assert answers(tmp_path / "odd.fa", block) == want


@pytest.mark.parametrize("letters", ["RYS", "-.*", "KMB", "~?-"])
def test_letters_that_are_no_base_hold_their_place_and_make_their_codon_ambiguous(tmp_path, letters):
    (tmp_path / "a.fa").write_text(f">a\nATG{letters}AAACC{letters[0]}TTT\n")
    found = answers(tmp_path / "a.fa")
    assert np.sum(found["codons"][0][0]) == 3
    assert [found["codons"][0][0][summary.CODONS.index(codon)] for codon in ("ATG", "AAA", "TTT")] == [1] * 3
    assert found["rows"] == [("a", 15)]


@pytest.mark.parametrize("text", [b">a\n", b">a", b">a\n>b\n\n>c\nAC\n", b">\nA\n>"])
def test_records_without_a_codon_are_records(tmp_path, text):
    (tmp_path / "a.fa").write_bytes(text)
    for block in (1 << 20, 2):
        found = answers(tmp_path / "a.fa", block)
        assert found["ids"] == [part.split(b"\n")[0].decode() for part in text.split(b">")[1:]]
        assert np.sum(found["codons"]) == 0


# ------------------------------------------------------------------ what is refused

REFUSED = {
    "digits, as GenBank has": (b">a\n        1 acgt acgt\n", r"line 2: the digit 1 in a sequence"),
    "a byte that no sequence has": (b">a\nACGT\nAC\0T\n", r"line 3: the byte b'\\x00'"),
    "lone CR": (b">a\rACGT\r>b\rAC\r", r"lone carriage return \(old Macintosh\)"),
    "CR CR LF": (b">a\r\r\nACGT\r\r\n", r"two carriage returns and a line feed"),
    "text before the first record": (b"\nACGT\n>a\nAC\n", r"line 2: text before the first '>' \('ACGT'\)"),
    "'>' inside a line": (b">a\nACGT>b\nAC\n", r"line 2: '>' inside a line"),
    "protein": (b">a\nMKVLILACLVALALARELEELNVPGEIVESLSSSEE\n", r"this is protein"),
    "FASTQ": (b"@a\nACGT\n+\nIIII\n", r"line 1: this is FASTQ.*--input-format fastq"),
    "nothing": (b"", r"empty: no bytes in it"),
    "blanks alone": (b"\n \n", r"no sequences in any of the files"),
    "a comment alone": (b"; hello\n", r"no sequences in any of the files"),
    "zip": (b"PK\x03\x04" + bytes(40), r"a zip archive: unpack it"),
    "UTF-16": (PLAIN.decode().encode("utf-16"), r"text in UTF-16: iconv"),
    **{f"{kind}, cut": (pack(LONG)[: len(pack(LONG)) * 2 // 3], r"cut off") for kind, pack in PACK.items()},
    **{f"{kind}, its last byte gone": (pack(LONG)[:-1], r"cut off") for kind, pack in PACK.items()},
    **{f"{kind}, cut at once": (pack(LONG)[:11], r"cut off") for kind, pack in PACK.items()},
    **{f"{kind}, with text behind": (pack(LONG) + b">x\nACGT\n", r"something else follows")
       for kind, pack in PACK.items()},
    **{f"{kind}, a second member cut": (pack(PLAIN) + pack(LONG)[:-9], r"cut off")
       for kind, pack in PACK.items()},
    "bgzip without its end": (bgzip(LONG, end=False), r"no end mark"),
}  # fmt: skip
COMMANDS = {
    "codons": (Codons, {}),
    "codons --per-record": (Codons, {"per_record": True}),
    "kmers": (Kmers, {"k": 3}),
    "kmers, long": (Kmers, {"k": 14}),
    "sequences": (Sequences, {}),
}
LEFT = ("codons.parquet", "summary.json", "kmers.parquet", "files.parquet")


def run(command, folder, path, **more):
    workload, options = COMMANDS[command]
    with penstock.Run(folder, budget="1GiB", backend="inline") as opened:
        workload().run(opened, inputs=[str(path)], **options, **more)


# Rows may be of proteins too: of these sequences tells by a warning.
TRIED = [(name, case) for name in COMMANDS for case in REFUSED if (name, case) != ("sequences", "protein")]


@pytest.mark.parametrize(("command", "case"), TRIED)
def test_what_is_no_sequence_is_refused_by_name_and_leaves_no_result(tmp_path, command, case):
    content, said = REFUSED[case]
    (tmp_path / "bad.fa").write_bytes(content)
    with pytest.raises(PenstockError, match=said) as caught:
        run(command, tmp_path / "run", tmp_path / "bad.fa")
    if "no sequences" not in said:
        assert "bad.fa" in str(caught.value)
    assert not [name for name in LEFT if (tmp_path / "run" / name).exists()]


@pytest.mark.parametrize("given", ["", "none.fa", "*.fna"])
def test_what_is_no_file_is_refused(tmp_path, given):
    said = {
        "": r"a folder, where a file was expected: name its files, as in '.*/\*'",
        "none.fa": "no such file",
    }
    with pytest.raises(BadInput, match=said.get(given, "no file matches this pattern")):
        run("codons", tmp_path / "run", tmp_path / given)


# ------------------------------------------------------------------ a full disk


@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_is_told_and_the_same_run_goes_on_when_there_is_room(tmp_path, monkeypatch, command):
    (tmp_path / "a.fa").write_bytes(LONG)
    run(command, tmp_path / "want", tmp_path / "a.fa")
    full = {"now": True}
    replace = os.replace

    def no_room(*arguments, **options):
        if full["now"] and ".parquet" in str(arguments[1]):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(arguments[0]))
        return replace(*arguments, **options)

    monkeypatch.setattr(os, "replace", no_room)
    with pytest.raises(DiskFull, match="is full"):
        run(command, tmp_path / "run", tmp_path / "a.fa")
    full["now"] = False
    run(command, tmp_path / "run", tmp_path / "a.fa")
    assert penstock.verify(tmp_path / "run").ok
    assert contents(tmp_path / "run") == contents(tmp_path / "want")


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*.parquet")
        if path.is_file()
    }
