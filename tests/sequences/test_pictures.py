"""Pictures of sequences: what they are drawn of, and that the same numbers draw the same bytes."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import penstock
from penstock.sequences import histograms as h
from penstock.sequences import pictures
from penstock.sequences.plots import DrawAll
from penstock.sources import FastaRecords
from penstock.workloads.codons import Codons
from penstock.workloads.kmers import Kmers

KINDS = pictures.FORMATS
SYN300 = Path(__file__).parents[1] / "workloads" / "codons" / "data" / "syn300.fa.gz"


def measured(path, block=1 << 20):
    source = FastaRecords(path, block=block)
    return sum((h.CountRecords()(item) for item in source.read(0, len(source))), np.zeros(h.SIZE, np.int64))


@settings(max_examples=100, deadline=None)
@given(
    parts=st.lists(st.text("ACGTUNacgt-\n", max_size=40), min_size=1, max_size=8), block=st.integers(1, 99)
)
def test_records_are_measured_however_they_are_cut(tmp_path_factory, parts, block):
    path = tmp_path_factory.mktemp("fa") / "a.fa"
    path.write_text("".join(f">r;x\n{part}\n" for part in parts))
    counts = measured(path, block)
    letters = [part.replace("\n", "").upper() for part in parts]
    assert counts[: h.KNOWN + 1].tolist() == [
        len(letters),
        sum(not each for each in letters),
        sum(map(len, letters)),
        sum(each.count("G") + each.count("C") for each in letters),
        sum(sum(each.count(base) for base in "ACGTU") for each in letters),
    ]
    assert h.length_counts(counts).sum() == sum(bool(each) for each in letters)
    assert h.gc_counts(counts).sum() == sum(bool(set(each) & set("ACGTU")) for each in letters)


def test_lengths_and_gc_are_in_their_bins(tmp_path):
    path = tmp_path / "a.fa"
    path.write_text(">a\n" + "G" * 3 + "A" * 7 + "\n>b\n" + "C" * 1000 + "\n")
    counts = measured(path)
    assert np.flatnonzero(h.length_counts(counts)).tolist() == [h.DECADE, 3 * h.DECADE]
    assert np.flatnonzero(h.gc_counts(counts)).tolist() == [30, 99]


def run(workload, folder, **options):
    with penstock.Run(folder, budget="1GiB", backend="inline") as opened:
        workload().run(opened, inputs=[str(SYN300)], plot=True, **options)
    return {
        path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".png", ".svg", ".pdf")
    }


@pytest.mark.parametrize(
    ("workload", "names"), [(Codons, ("codons", "records")), (Kmers, ("kmers", "records"))]
)
def test_pictures_are_there_in_three_kinds_and_the_same_again(tmp_path, workload, names):
    made = run(workload, tmp_path / "one")
    assert sorted(made) == sorted(f"{name}.{kind}" for name in names for kind in pictures.FORMATS)
    starts = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
    assert all(data.startswith(starts[name[-3:]]) for name, data in made.items())
    assert run(workload, tmp_path / "two") == made
    assert b"300 records" in made["records.svg"]
    assert b"GC of a record" in made["records.svg"]


def test_a_codon_is_shown_with_its_rscu_and_an_amino_acid_that_is_not_there_has_no_row(tmp_path):
    rows = [
        {"aa": "K", "codon": "AAA", "count": 30, "rscu": 1.5, "strand": "+", "frame": 0},
        {"aa": "K", "codon": "AAG", "count": 10, "rscu": 0.5, "strand": "+", "frame": 0},
        {"aa": "W", "codon": "TGG", "count": 0, "rscu": None, "strand": "+", "frame": 0},
    ]
    DrawAll()(tmp_path, np.zeros(h.SIZE, np.int64), rows, None)
    drawn = (tmp_path / "codons.svg").read_text()
    assert "Lys K" in drawn
    assert "1.50" in drawn
    assert "Trp" not in drawn
