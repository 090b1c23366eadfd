"""Laws of snv: what must not change the answer, and what must be told when it does."""

import numpy as np
import pytest
from snv_runs import DATA, EXPECTED, coverage, positions, run, small_table

from penstock.errors import BadInput, UsageError

FATES = ("pos", "kept", "removed_by", "gap", "read_support")


def table(name):
    with np.load(DATA / f"{name}_cmt.npz") as saved:
        members = {member: saved[member] for member in saved.files}
    with np.load(DATA / f"{name}_cov.npz") as saved:
        return members, saved["all_coverage_per_bp"]


def fates(folder, members, cover, **options):
    folder.mkdir()
    np.savez(folder / "cmt.npz", **members)
    np.savez(folder / "cov.npz", all_coverage_per_bp=cover)
    paths = {"table": str(folder / "cmt.npz"), "coverage": str(folder / "cov.npz")}
    rows, summary = run(folder / "run", **paths, **options)
    return {name: rows[name].tolist() for name in FATES}, summary


def of_samples(members, order):
    inner = {name: members[name][order] for name in ("sample_names", "counts", "quals", "indel_counter")}
    return members | inner | {"in_outgroup": members["in_outgroup"].ravel()[order]}


def of_positions(members, span):
    inner = {name: members[name][:, span] for name in ("counts", "quals", "indel_counter")}
    return members | inner | {"p": members["p"][span]}


def test_the_order_and_the_names_of_samples_have_no_part_in_the_filters(tmp_path):
    members, cover = table("s1_small40")
    expected, _ = fates(tmp_path / "plain", members, cover)
    order = np.random.default_rng(1).permutation(len(members["sample_names"]))
    found, _ = fates(tmp_path / "permuted", of_samples(members, order), cover[order])
    assert found == expected
    renamed = members | {"sample_names": np.array([f"patient {i}" for i in order])}
    found, _ = fates(tmp_path / "renamed", renamed, cover)
    assert found == expected
    assert 0 < sum(expected["kept"]) < len(expected["kept"])


def test_the_genome_has_no_origin(tmp_path):
    """Positions and coverage moved behind 700 more bases, of which a third of the samples has reads."""
    members, cover = table("s1_small40")
    expected, _ = fates(tmp_path / "plain", members, cover)
    more = np.tile(np.median(cover, axis=1).astype(cover.dtype)[:, None], 700)
    moved = members | {"p": members["p"] + 700}
    found, _ = fates(tmp_path / "moved", moved, np.concatenate([more, cover], axis=1))
    assert [place - 700 for place in found.pop("pos")] == expected.pop("pos")
    assert found == expected


def test_a_table_cut_in_two_gives_the_same_where_nothing_is_left_to_its_vote(tmp_path):
    """The vote on low depth is of the whole table, and so are the dropped samples: both are fixed here."""
    members, cover = table("s3_shallow")
    options = {"low_depth": "on", "min_cov_samp": 100}
    whole, told = fates(tmp_path / "whole", members, cover, **options)
    assert told["thresholds"]["low_depth_filter"] is True
    middle = len(members["p"]) // 2
    halves = [
        fates(tmp_path / f"half{i}", of_positions(members, span), cover, **options)[0]
        for i, span in enumerate((slice(None, middle), slice(middle, None)))
    ]
    assert {name: halves[0][name] + halves[1][name] for name in FATES} == whole
    without, told = fates(tmp_path / "off", members, cover, low_depth="off", min_cov_samp=100)
    assert told["thresholds"]["low_depth_filter"] is False
    assert without != whole


@pytest.mark.parametrize("layout", ["sample-major", "position-major"])
@pytest.mark.parametrize(("name", "ratio"), [("s1_small40", 1.0), ("s2_lowcov", 2.74)])
def test_the_unit_of_the_coverage_is_measured(name, ratio, layout, tmp_path, capsys):
    members, cover = table(name)
    cover = np.asarray(cover, order="C" if layout == "sample-major" else "F")
    _, summary = fates(tmp_path / "run", members, cover)
    assert summary["coverage"]["ratio"] == pytest.approx(ratio, rel=0.01)
    assert summary["coverage"]["unit"] == ("reads" if ratio == 1 else None)
    assert "warning" not in capsys.readouterr().err


def test_coverage_in_another_unit_is_told(tmp_path, capsys):
    members, cover = table("s3_shallow")
    plain, _ = fates(tmp_path / "plain", members, cover)
    found, summary = fates(tmp_path / "tenfold", members, cover * 10)
    assert summary["coverage"]["unit"] == "all40"
    assert summary["coverage"]["ratio"] == pytest.approx(10, rel=0.01)
    assert "the coverage is 10" in capsys.readouterr().err
    assert (sum(plain["kept"]), sum(found["kept"])) == (513, 478)
    _, summary = fates(tmp_path / "stated", members, cover * 10, coverage_unit="all40")
    assert summary["coverage"]["stated"] == "all40"
    assert "warning" not in capsys.readouterr().err
    fates(tmp_path / "wrong", members, cover, coverage_unit="all40")
    assert "it counts reads" in capsys.readouterr().err


def test_coverage_below_the_reads_is_told(tmp_path, capsys):
    members, cover = table("s3_shallow")
    _, summary = fates(tmp_path / "half", members, cover // 2)
    assert 0.35 < summary["coverage"]["ratio"] < 0.55  # rounded down
    assert "it is of another table" in capsys.readouterr().err


def test_coverage_that_has_none_of_the_positions_has_no_unit(tmp_path):
    _, summary = run(
        tmp_path / "run",
        table=str(DATA / "s1_small40_cmt.npz"),
        coverage=coverage(tmp_path / "cov.npz", EXPECTED["small40"]["medians"]),
    )
    assert summary["coverage"] == {"unit": None, "stated": "auto", "ratio": None, "cells": 0}


def test_tied_cells_are_counted(tmp_path):
    members, cover = table("s1_small40")
    _, summary = fates(tmp_path / "plain", members, cover)
    before = summary["tied_cells"]
    counts = members["counts"].copy()
    sample = int(np.flatnonzero(~members["in_outgroup"].ravel())[0])
    counts[sample, 3:7, :8] = (5, 5, 0, 0, 5, 5, 0, 0)
    reads = members["counts"][sample, 3:7, :4] + members["counts"][sample, 3:7, 4:8]
    tied = sum((row == row.max()).sum() > 1 and row.max() > 0 for row in reads)
    _, summary = fates(tmp_path / "tied", members | {"counts": counts}, cover)
    assert summary["tied_cells"] == before - tied + 4


def clustered(folder, **options):
    """Positions that went for gaps in a table in which many gaps are near each other."""
    told = EXPECTED["deepgap"]
    path = DATA / f"{told['table']}_cmt.npz"
    cover = coverage(folder / "cov.npz", told["medians"])
    rows, _ = run(folder / "run", table=str(path), coverage=cover, **options)
    return rows


def test_gaps_of_two_contigs_are_no_neighbours(tmp_path):
    from penstock.workloads.snv import verdicts
    from penstock.workloads.snv.reading.arrays import Array

    places = np.array([10, 20, 30, 40, 1000, 1090, 1110, 1180], np.int64)
    np.save(tmp_path / "p.npy", places)
    p = Array(str(tmp_path / "p.npy"), "", "<i8", places.shape, "s", 128)

    def gaps(ends):
        np.arange(len(places)).tofile(tmp_path / "weak")
        codes = np.zeros(len(places), np.uint8)
        verdicts._cluster(tmp_path / "weak", p, codes, verdicts._ends(ends, p))
        return [int(code == verdicts.GAP) for code in codes]

    assert gaps(()) == [1, 1, 1, 1, 0, 1, 0, 0]
    assert gaps([2000]) == gaps(())
    assert gaps([25, 1075, 900]) == [0] * 8
    assert gaps([9, 1991]) == gaps(())
    with pytest.raises(BadInput, match="has 2 contigs of 1,150 bases together, and the last position"):
        gaps([50, 1100])


def test_contigs_are_read_from_an_index_of_fasta(tmp_path):
    rows = clustered(tmp_path)
    (tmp_path / "ref.fai").write_text(f"chromosome\t{rows['pos'][-1] + 9}\t12\t60\t61\n")
    (tmp_path / "again").mkdir()
    again = clustered(tmp_path / "again", contigs=str(tmp_path / "ref.fai"))
    assert positions(again, again["kept"]) == positions(rows, rows["kept"])
    (tmp_path / "bad.fai").write_text("chromosome\tlong\n")
    (tmp_path / "bad").mkdir()
    with pytest.raises(BadInput, match="line 1: a contig's name and its length"):
        clustered(tmp_path / "bad", contigs=str(tmp_path / "bad.fai"))
    with pytest.raises(UsageError, match="there is no such file"):
        clustered(tmp_path / "bad", contigs=str(tmp_path / "none.fai"))


def test_small_tables_have_support_by_reads_too(small, tmp_path, model):
    rows, _ = run(tmp_path / "run", model=model, **small())
    kept = rows["kept"].astype(bool)
    assert set(rows["read_support"][kept]) <= {True, False}
    assert kept.sum() < len(small_table()["p"])
