"""The kernel against an oracle and a slow, obvious count, however the text is cut."""

import gzip
import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.workloads.codons import scanning, summary

DATA = Path(__file__).parent / "data"
EXAMPLE = Path(__file__).parents[3] / "examples" / "organelles.fa.gz"
EXPECTED = json.loads((DATA / "expected.json").read_text())
ALL = 2**64 - 1
FILES = {
    "dirty.fa": (DATA / "dirty.fa").read_bytes(),
    "dirty_crlf.fa": (DATA / "dirty_crlf.fa").read_bytes(),
    "genomes.fa": gzip.decompress(EXAMPLE.read_bytes()),
    "syn300.fa": gzip.decompress((DATA / "syn300.fa.gz").read_bytes()),
}


def scanned(text, start=0, stop=None, chunk=1 << 18, salt=0, limit=ALL):
    """The summary of a stretch of a file's text, read in chunks."""
    stop = len(text) if stop is None else stop
    bytes_ = np.frombuffer(text, np.uint8)
    scan = scanning.begin(3, at_start=start == 0)
    for at in range(start, stop, chunk):
        scanning.scan(bytes_[at : min(at + chunk, stop)], at, *scan, salt, limit)
    scanning.settle(*scan)
    return scan[-1]


def whole(text, **options):
    return summary.end_file(scanned(text, **options))


def table(found, strand, frame):
    return dict(zip(summary.CODONS, summary.frames(found, strand)[frame].tolist(), strict=True))


def slow_records(text):
    records = []
    for line in text.decode().replace("\r", "").split("\n"):
        if line.startswith(">"):
            records.append("")
        elif records and not line.startswith(";"):
            records[-1] += line.upper().replace("U", "T").replace(" ", "").replace("\t", "")
    return records


def slow(text, strand, frame):
    """Counts, ambiguous codons, partial and skipped bases, records and bases, record by record."""
    records = slow_records(text)
    counts, ambiguous, partial, skipped = Counter(), 0, 0, 0
    for record in records:
        if strand == "-":
            record = record[::-1].translate(str.maketrans("ACGT", "TGCA"))
        read = record[frame:]
        codons = [read[i : i + 3] for i in range(0, len(read) - 2, 3)]
        valid = [codon for codon in codons if set(codon) <= set("ACGT")]
        counts.update(valid)
        ambiguous += len(codons) - len(valid)
        partial += len(read) % 3
        skipped += len(record) - len(read)
    return counts, ambiguous, partial, skipped, len(records), sum(map(len, records))


def check_against_slow(found, text):
    for strand in "+-":
        for frame in range(3):
            counts, ambiguous, partial, skipped, records, bases = slow(text, strand, frame)
            ledger = summary.ledger(found, strand, frame)
            assert {c: n for c, n in table(found, strand, frame).items() if n} == counts
            assert (ledger["ambiguous"], ledger["partial"], ledger["skipped"]) == (
                ambiguous,
                partial,
                skipped,
            )
            assert (found[summary.RECORDS], found[summary.BASES]) == (records, bases)
            assert 3 * ledger["codons"] + partial + skipped == bases
    check_without_starts(found, text)


def check_without_starts(found, text):
    """The first codons: what is left is what a text without its records' first three letters has."""
    records = slow_records(text)
    rest = "".join(f">\n{record[3:] if len(record) >= 3 else record}\n" for record in records).encode()
    counts, ambiguous, partial, _, _, bases = slow(rest, "+", 0)
    dropped = sum(len(record) >= 3 for record in records)
    left = summary.frames(found, "+")[0] - summary.starts(found)
    assert {c: n for c, n in zip(summary.CODONS, left.tolist(), strict=True) if n} == counts
    assert summary.ledger(found, "+", 0, drop_start=True) == {
        "codons": (bases - partial) // 3, "ambiguous": ambiguous, "partial": partial,
        "skipped": 3 * dropped, "dropped": dropped,
    }  # fmt: skip


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("strand", "+-")
@pytest.mark.parametrize("frame", range(3))
def test_counts_equal_the_oracle(name, strand, frame):
    expected = EXPECTED["counts"][f"{name}|{strand}{frame}"]
    found = whole(FILES[name])
    counts = table(found, strand, frame)
    assert [counts[codon] for codon in EXPECTED["codons"].split()] == expected["counts"]
    ledger = summary.ledger(found, strand, frame)
    assert ledger["ambiguous"] == expected["ambiguous"]
    assert found[summary.RECORDS] == expected["n_records"]
    assert found[summary.BASES] == expected["n_bases"]


def test_line_ends_and_a_missing_last_one_do_not_matter():
    for one, other in (
        (FILES["dirty.fa"], FILES["dirty_crlf.fa"]),
        (FILES["syn300.fa"], FILES["syn300.fa"].rstrip(b"\n")),
        (FILES["syn300.fa"], FILES["syn300.fa"].replace(b"\n", b"\n\n").replace(b"G", b"G \t")),
    ):
        np.testing.assert_array_equal(
            whole(one)[summary.CLOSED : summary.HAS_NEWLINE],
            whole(other)[summary.CLOSED : summary.HAS_NEWLINE],
        )


def test_line_width_and_case_do_not_matter():
    sequence = "".join(FILES["genomes.fa"].decode().split("\n")[1:200])
    want = whole(b">a\n" + sequence.encode())[: summary.HAS_NEWLINE]
    for width in (1, 59, 60, 61, 63, 64, 65, 80, 127, 128, 129, 8191, 8192, 8193):
        lines = "\n".join(sequence[i : i + width] for i in range(0, len(sequence), width))
        for text in (lines, lines.lower(), lines.replace("T", "u")):
            np.testing.assert_array_equal(whole(b">a\n" + text.encode())[: summary.HAS_NEWLINE], want)


LETTERS = st.text("ACGTacgtUuNnRYKM-*.", max_size=300)
GAPS = st.builds(lambda a, n, b: a + "Nn"[n % 2] * n + b, LETTERS, st.integers(1, 300), LETTERS)
LINES = st.one_of(LETTERS, GAPS, st.just(""), st.just(">"), st.just(">id ACGT 12;>"), st.just(";comment 12"))
TEXTS = st.builds(
    lambda end, lines, last: (">first\n" + "\n".join(lines) + last).replace("\n", end).encode(),
    st.sampled_from(["\n", "\r\n"]),
    st.lists(LINES, max_size=12),
    st.sampled_from(["", "\n"]),
)


@given(TEXTS, st.sampled_from([1, 2, 3, 7, 63, 64, 65, 1000]))
@settings(deadline=None, max_examples=60)
def test_counts_equal_a_slow_count_for_any_chunks(text, chunk):
    check_against_slow(whole(text, chunk=chunk), text)


@given(TEXTS, st.data())
@settings(deadline=None, max_examples=150)
def test_any_cut_and_any_order_of_joining_give_the_same_summary(text, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    cuts = [0, *(cut for cut in cuts if 0 < cut < len(text)), len(text)]
    limit = data.draw(st.sampled_from([ALL, ALL // 2]))
    options = {"salt": 11, "limit": limit, "chunk": data.draw(st.sampled_from([1, 5, 1000]))}
    pieces = [scanned(text, start, stop, **options) for start, stop in pairwise(cuts)]
    summary.end_file(pieces[-1])
    while len(pieces) > 1:
        at = data.draw(st.integers(0, len(pieces) - 2))
        pieces[at : at + 2] = [summary.join(pieces[at], pieces[at + 1])]
    np.testing.assert_array_equal(pieces[0], whole(text, **options))


def test_files_are_joined_one_after_the_other():
    a, b = FILES["dirty.fa"], FILES["syn300.fa"]
    both = summary.join(whole(a), whole(b))
    third = summary.join(summary.join(summary.empty(), both), summary.empty())
    np.testing.assert_array_equal(both, third)
    want = whole(a)[summary.CLOSED : summary.HAS_NEWLINE] + whole(b)[summary.CLOSED : summary.HAS_NEWLINE]
    np.testing.assert_array_equal(both[summary.CLOSED : summary.HAS_NEWLINE], want)


@pytest.mark.parametrize(
    ("text", "kind", "at"),
    [
        (b">a\nACG1\n", summary.BAD_BYTE, 6),
        (b">a\nAC>b\n", summary.BAD_BYTE, 5),
        (b">a\nAC\xc3\xa9\n", summary.BAD_BYTE, 5),
        (b"\n  \nACGT\n>a\nACG\n", summary.BAD_TEXT, 9),
        (b"@read\nACGT\n+\nIIII\n", summary.BAD_TEXT, 0),
        (b"LOCUS       X 12 bp\n", summary.BAD_TEXT, 0),
        (b">a\rACGT\r>b\rACGT\r", summary.BAD_RETURN, 2),
    ],
)
def test_what_cannot_be_there_is_named_with_its_offset(text, kind, at):
    found = whole(text)
    assert (found[summary.BAD_KIND], found[summary.BAD] - 1, found[summary.BAD_FILE]) == (kind, at, 3)
    # ... and so it is wherever the text was cut, though the place may be known more roughly.
    for cut in range(1, len(text)):
        parts = scanned(text, 0, cut), summary.end_file(scanned(text, cut))
        assert summary.join(*parts)[summary.BAD_KIND] == kind or kind == summary.BAD_RETURN


def test_a_digit_in_a_header_is_nothing_bad_wherever_it_is_cut():
    text = b">a 12 > @ 1\nACGT\n;comment 1\nACG\n"
    for cut in range(1, len(text)):
        joined = summary.join(scanned(text, 0, cut), summary.end_file(scanned(text, cut)))
        assert joined[summary.BAD] == 0
        assert joined[summary.BASES] == 7


def test_the_windows_are_folded_before_they_overflow():
    text = b">a\n" + b"A" * 30_000
    scan = scanning.begin(0, at_start=True)
    scan[0][scanning.WINDOWS] = (1 << 31) - 100
    scanning.scan(np.frombuffer(text, np.uint8), 0, *scan, 0, ALL)
    assert scan[0][scanning.WINDOWS] < 1 << 31
    scanning.settle(*scan)
    assert table(summary.end_file(scan[-1]), "+", 0)["AAA"] == 10_000


def test_the_hash_is_a_known_one():
    # splitmix64 seeded with 0 gives these first outputs; its state grows by the golden ratio.
    golden = 0x9E3779B97F4A7C15
    outputs = summary.mixed(np.array([golden * n % 2**64 for n in (1, 2, 3)], np.uint64)).tolist()
    assert outputs == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_only_records_of_the_sample_are_counted():
    text = FILES["syn300.fa"]
    headers = [at for at in range(len(text)) if text[at : at + 1] == b">"]
    numbers = summary.mixed(np.array(headers, np.uint64) + np.uint64(77))
    hashes = dict(zip(headers, numbers.tolist(), strict=True))
    limit = sorted(hashes.values())[49]
    chosen = b"".join(
        text[at:stop]
        for at, stop in zip(headers, [*headers[1:], len(text)], strict=True)
        if hashes[at] <= limit
    )
    found = whole(text, salt=77, limit=limit)
    assert found[summary.RECORDS] == 50
    check_against_slow(found, chosen)
