"""The files that a run leaves at the top of its folder are known to it, all of them: verify reads each."""

import json

import pytest

import penstock
from penstock.workloads.codons import Codons
from penstock.workloads.kmers import Kmers
from penstock.workloads.sequences import Sequences

FASTA = b"".join(b">s%d\n%s\n" % (at, b"ATGAAACTGGGNCCTTAA" * (at + 3)) for at in range(30))
REPORTS = {"report.html", "report.json"}


@pytest.fixture
def fasta(tmp_path):
    (tmp_path / "a.fa").write_bytes(FASTA)
    return tmp_path / "a.fa"


def run(workload, folder, *inputs, **options):
    with penstock.Run(folder, budget="1GiB", backend="inline") as opened:
        workload().run(opened, inputs=[str(path) for path in inputs], **options)


def at_the_top(folder):
    return {path.name for path in folder.iterdir() if path.is_file() and path.name[0] != "."} - REPORTS


@pytest.mark.parametrize(
    ("workload", "options", "names"),
    [
        (Codons, {}, {"codons.parquet"}),
        (
            Codons,
            {"per_record": True, "per_file": True, "format": "cusp", "reference": True},
            {"codons.parquet", "files.parquet", "codons.cusp"},
        ),
        (Codons, {"sample": 9, "compare": True}, {"codons.parquet", "comparison.parquet"}),
        (Codons, {"compat": "upstream", "rscu": True}, {"codon.parquet", "codon_rscu.parquet"}),
        (Kmers, {"k": 4}, {"kmers.parquet"}),
        (Kmers, {"k": 13}, set()),
        (Sequences, {}, set()),
        (Sequences, {"plot": True}, {f"records.{kind}" for kind in ("png", "svg", "pdf")}),
    ],
)
def test_every_file_is_verified(tmp_path, fasta, workload, options, names):
    if "reference" in options:
        options = options | {"reference": str(fasta)}
    if "compare" in options:
        run(Codons, tmp_path / "whole", fasta)
        options = options | {"compare": str(tmp_path / "whole")}
    folder = tmp_path / "run"
    run(workload, folder, fasta, **options)
    if options.get("compat") != "upstream":
        names = names | {"summary.json"}
    assert at_the_top(folder) == names
    found = penstock.verify(folder)
    assert found.ok
    assert found.beside == ()
    for name in sorted(names):
        whole = (folder / name).read_bytes()
        (folder / name).unlink()  # the stage has another name of the same file
        (folder / name).write_bytes(whole[:-1])
        (fault,) = penstock.verify(folder).faults
        assert fault.file.endswith(name)
        (folder / name).write_bytes(whole)
    assert penstock.verify(folder).ok


def test_the_same_run_again_does_nothing_and_puts_back_what_is_gone(tmp_path, fasta):
    for workload, name in ((Codons, "codons.parquet"), (Kmers, "kmers.parquet"), (Sequences, "summary.json")):
        folder = tmp_path / workload.__name__
        run(workload, folder, fasta)
        told = json.loads((folder / "report.json").read_text())
        kept = {path: path.read_bytes() for path in (folder / name, folder / "summary.json")}
        for path in kept:
            path.unlink()
        (folder / "summary.json").write_bytes(b"{}")  # of its own, as earlier versions wrote it
        run(workload, folder, fasta)
        assert {path: path.read_bytes() for path in kept} == kept
        assert json.loads((folder / "report.json").read_text()) == told  # no stage was worked
        assert penstock.verify(folder).ok
