"""Counting with NumPy alone gives the compiled kernel's summaries, number by number, errors included."""

import gzip
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.workloads.codons import scanning, summary, vectorised

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
OF_BAD = [summary.BAD, summary.BAD_FILE, summary.BAD_KIND]

LETTERS = st.text("ACGTACGTACGTacgtUuNnRYSW-*.EI \t", max_size=200)
RARELY_WRONG = st.sampled_from(["", ""] + ["ACGT"] * 12 + ["AC1", "A>C", "é"])
LINES = st.one_of(
    LETTERS, LETTERS, RARELY_WRONG, st.just(""), st.just(">"),
    st.text(">;ACG 12", max_size=80).map(">".__add__), st.just(";comment > 12"), st.just(">lone\rreturn"),
)  # fmt: skip
TEXTS = st.builds(
    lambda first, end, lines, last: (first + "\n".join(lines) + last).replace("\n", end).encode(),
    st.sampled_from([">first\n", ">first\n", "\n", "; comment\n\n>", "AC", "\n \nN", ""]),
    st.sampled_from(["\n", "\n", "\r\n"]),
    st.lists(LINES, max_size=50),
    st.sampled_from(["", "\n"]),
)


def compiled(text, origin, *, at_start, salt, limit):
    scan = scanning.begin(3, at_start=at_start)
    scanning.scan(np.frombuffer(text, np.uint8), origin, *scan, np.uint64(salt), np.uint64(limit))
    if not scan[-1][summary.BAD]:
        scanning.settle(*scan)
    return scan[-1]


def same(text, origin, **options):
    want = compiled(text, origin, **options)
    found = vectorised.scan(text, origin, 3, **options)
    assert found[OF_BAD].tolist() == want[OF_BAD].tolist()
    if not want[summary.BAD]:
        np.testing.assert_array_equal(found, want)
    return found


@given(TEXTS, st.data())
@settings(deadline=None, max_examples=120)
def test_every_stretch_has_the_summary_of_the_compiled_kernel(text, data):
    start = data.draw(st.just(0) | st.integers(0, len(text)))
    stop = data.draw(st.just(len(text)) | st.integers(start, len(text)))
    salt, limit = data.draw(st.integers(0, ALL)), data.draw(st.just(ALL) | st.integers(0, ALL))
    at_start = start == 0 and data.draw(st.booleans())
    same(text[start:stop], start, at_start=at_start, salt=salt, limit=limit)


@given(TEXTS, st.data())
@settings(deadline=None, max_examples=40)
def test_pieces_joined_are_the_whole(text, data):
    whole = compiled(text, 0, at_start=True, salt=7, limit=ALL // 3)
    cuts = sorted({0, len(text), *data.draw(st.lists(st.integers(0, len(text)), max_size=6))})
    total = summary.empty()
    for start, stop in pairwise(cuts):
        part = vectorised.scan(text[start:stop], start, 3, at_start=start == 0, salt=7, limit=ALL // 3)
        total = summary.join(total, part)
    if not whole[summary.BAD]:
        np.testing.assert_array_equal(total if text else whole, whole)
    elif whole[summary.BAD_KIND] != summary.BAD_RETURN:  # its line feed may be in the next piece
        assert total[summary.BAD] or summary.end_file(total)[summary.BAD] or total[summary.OFFENCE]


@pytest.mark.parametrize(
    ("name", "piece"),
    [("dirty.fa", 37), ("dirty_crlf.fa", 37), *((name, size) for name in FILES for size in (5000, 1 << 17))],
)
def test_counts_equal_the_oracle(name, piece):
    total = summary.empty()
    for at in range(0, len(FILES[name]), piece):
        part = vectorised.scan(FILES[name][at : at + piece], at, 0, at_start=at == 0, salt=0, limit=ALL)
        total = summary.join(total, part)
    total = summary.end_file(total)
    for strand in "+-":
        for frame in range(3):
            expected = EXPECTED["counts"][f"{name}|{strand}{frame}"]
            counts = dict(zip(summary.CODONS, summary.frames(total, strand)[frame].tolist(), strict=True))
            assert [counts[codon] for codon in EXPECTED["codons"].split()] == expected["counts"]
            assert summary.ledger(total, strand, frame)["ambiguous"] == expected["ambiguous"]


ROWS = st.lists(
    st.one_of(LETTERS, st.sampled_from(["", "ACGT\nACG\n", "AC1", ">", ";AC", "A\n>b"])),
    min_size=1, max_size=8,
)  # fmt: skip


@given(ROWS, st.integers(0, 2**40), st.sampled_from([1, 50, 1 << 17]))
@settings(deadline=None, max_examples=60)
def test_rows_have_the_summary_of_the_compiled_kernel(rows, first, together):
    text = np.frombuffer("".join(rows).encode(), np.uint8)
    offsets = np.cumsum([0, *map(len, rows)])
    text.flags.writeable = offsets.flags.writeable = False
    scan = scanning.begin(0, at_start=True)
    scanning.scan_rows(text, offsets, first, *scan, np.uint64(9), np.uint64(ALL // 2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vectorised, "_ROWS", together)
        found, bad = vectorised.scan_rows(text, offsets, first, salt=9, limit=ALL // 2)
    if scan[-1][summary.BAD]:
        assert bad == scan[-1][summary.BAD] - 1 - first
    else:
        scanning.settle(*scan)
        assert bad is None
        np.testing.assert_array_equal(found, summary.end_file(scan[-1]))
