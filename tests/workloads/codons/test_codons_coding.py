"""Coding sequences of GenBank and of FASTA with GFF3; text as others write it; the original's tables."""

import gzip
import json
import shutil
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import penstock
from penstock.errors import BadInput, JobChanged, UsageError
from penstock.workloads.codons import Codons, genetic_codes
from penstock.workloads.codons.annotated import GenBank
from penstock.workloads.codons.coding import Met
from penstock.workloads.codons.features import Cds, NoLocation, Part, location, of_gff
from penstock.workloads.codons.gather import Gatherer

DATA = Path(__file__).parent / "data"
EXAMPLE = Path(__file__).parents[3] / "examples" / "organelles.fa.gz"
PLASTID, PLASMID = DATA / "NC_000932.gb.gz", DATA / "NC_005816.gb.gz"
UPSTREAM = json.loads((DATA / "upstream_frame0.json").read_text())
COMPLEMENT = str.maketrans("ACGT", "TGCA")


def run(folder, *inputs, backend="inline", **options):
    """The summary; tables are in the folder."""
    with penstock.Run(folder, budget="1GiB", backend=backend) as opened:
        Codons().run(opened, inputs=[str(path) for path in inputs], **options)
    path = folder / "summary.json"
    return json.loads(path.read_text()) if path.exists() else None


def table(folder):
    parts = sorted((folder / "usage" / "records").glob("part-*.parquet"), key=lambda path: path.name)
    return [row for part in parts for row in pq.read_table(part).to_pylist()]


def counts_of(row):
    return {
        name: count for name, count in row.items() if len(name) == 3 and set(name) <= set("ACGT") and count
    }


def codons_of(sequence):
    triplets = (sequence[at : at + 3] for at in range(0, len(sequence) - 2, 3))
    return Counter(each for each in triplets if set(each) <= set("ACGT"))


def oracle():
    """Names and sequences of the coding sequences that Biopython took from plastid and plasmid."""
    text = gzip.decompress((DATA / "cds_cp_pl.fa.gz").read_bytes()).decode()
    records = [part.partition("\n") for part in text.split(">")[1:]]
    return {name: body.replace("\n", "") for name, _, body in records}


# ------------------------------------------------------------------ GenBank


def test_coding_sequences_of_genbank_equal_the_oracle(tmp_path):
    told = run(tmp_path / "run", PLASTID, PLASMID, per_record=True)
    mine, want = table(tmp_path / "run"), oracle()
    assert sorted(sorted(counts_of(row).items()) for row in mine) == sorted(
        sorted(codons_of(sequence).items()) for sequence in want.values()
    )
    assert {row["genetic_code"] for row in mine} == {11}
    genes = {name.split("_", 2)[2] for name in want if "YP_" not in name}
    assert genes <= {row["id"] for row in mine}
    assert told["coding_sequences"]["read"] == len(want) == 95  # a trans-spliced one among them
    assert [each["code"] for each in told["tables"]] == [11]
    assert told["warnings"] == []  # a whole plasmid in frame 0 would be warned of


def test_any_piece_and_any_worker_give_the_same(tmp_path):
    text = gzip.decompress(PLASMID.read_bytes())
    whole = list(GenBank("x", Counter()).read([(0, text)]))
    for size in (1, 61, 5000):
        pieces = [(at, text[at : at + size]) for at in range(0, len(text), size)]
        assert list(GenBank("x", Counter()).read(pieces)) == whole
    (tmp_path / "two.gb").write_bytes(text + text)
    told = run(tmp_path / "local", tmp_path / "two.gb", backend="local", per_record=True)
    inline = run(tmp_path / "inline", tmp_path / "two.gb", per_record=True)
    assert told == inline
    assert table(tmp_path / "local") == table(tmp_path / "inline")
    assert told["coding_sequences"]["read"] == 20


def genbank(features, sequence, *, code=""):
    lines = [
        f"LOCUS       X {len(sequence)} bp",
        "FEATURES             Location/Qualifiers",
        "     gene            1..9",
    ]
    lines += [f"     {each}" for each in features]
    lines.append("ORIGIN")
    for at in range(0, len(sequence), 60):
        row = sequence[at : at + 60].lower()
        lines.append(f"{at + 1:>9} " + " ".join(row[i : i + 10] for i in range(0, len(row), 10)))
    return "\n".join([*lines, "//", ""])


SEQUENCE = "ATGAAACCCGGGTTTTGATAACATCATCATGGGTTTCCCAAATTTGGGCCCAAACCCTTTGGGATGTGACAT"


def feature(location, *qualifiers):
    lines = [f"CDS             {location}"] + [f"{' ' * 16}/{each}" for each in qualifiers]
    return "\n     ".join(lines)


@pytest.mark.parametrize(
    ("place", "qualifiers", "expected"),
    [
        ("1..18", [], "ATGAAACCCGGGTTTTGA"),
        ("complement(1..18)", [], "TCAAAACCCGGGTTTCAT"),
        ("join(1..4,8..12)", [], "ATGACGGGT"[:4] + SEQUENCE[7:12]),
        ("complement(join(1..4,8..12))", [], (SEQUENCE[:4] + SEQUENCE[7:12])[::-1].translate(COMPLEMENT)),
        (
            "join(complement(1..6),10..15)", [],
            SEQUENCE[:6][::-1].translate(COMPLEMENT) + SEQUENCE[9:15],
        ),
        ("join(60..72,1..5)", [], SEQUENCE[59:72] + SEQUENCE[:5]),
        ("<2..>18", ["codon_start=3"], SEQUENCE[3:18]),
        ("1..18", ['transl_except="(pos:4..6,aa:Sec)"'.replace('"', "")], "ATGNNNCCCGGGTTTTGA"),
        ("complement(1..18)", ["transl_except=(pos:complement(4..6),aa:Sec)"], "TCAAAACCCGGGNNNCAT"),
    ],
)  # fmt: skip
def test_places_and_qualifiers(tmp_path, place, qualifiers, expected):
    (tmp_path / "a.gb").write_text(genbank([feature(place, 'gene="x y"', *qualifiers)], SEQUENCE))
    run(tmp_path / "run", tmp_path / "a.gb", per_record=True)
    (row,) = table(tmp_path / "run")
    assert (row["id"], row["length"], counts_of(row)) == ("x_y", len(expected), dict(codons_of(expected)))


def test_what_is_left_out_is_counted_by_reason_and_codes_are_told_apart(tmp_path):
    features = [
        feature("1..6", 'gene="a"', "transl_table=4"),
        feature("7..12", 'gene="b"'),
        feature("1..6", 'gene="c"', "pseudo"),
        feature("order(1..3,7..9)", 'gene="d"'),
        feature("join(J00194.1:100..202,1..6)", 'gene="e"'),
        feature("1..100", 'gene="f"'),
        feature("<1..6", 'note="one that goes', 'on /over "" lines"', 'locus_tag="g"'),
    ]
    (tmp_path / "a.gb").write_text(genbank(features, SEQUENCE))
    told = run(tmp_path / "run", tmp_path / "a.gb", genetic_code="2", per_record=True)
    assert told["coding_sequences"] == {
        "features": 7, "read": 3, "partial": 1, "excepted": 0,
        "left_out": {"pseudo": 1, "order": 1, "remote": 1, "outside": 1},
    }  # fmt: skip
    assert "4 of 7 coding sequences were left out: 1 (pseudo)" in told["warnings"][-1]
    assert {row["id"]: row["genetic_code"] for row in table(tmp_path / "run")} == {"a": 4, "b": 2, "g": 2}
    rows = pq.read_table(tmp_path / "run" / "codons.parquet").to_pylist()
    for row in rows:
        assert row["aa"] == genetic_codes.translation(row["code"])[row["codon"]]
    assert sum(row["count"] for row in rows if row["code"] == 4) == 2


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda text: text.replace("\n//\n", "\n"), "has no end"),
        (lambda text: text.replace("1..18", "1..x"), "cannot be read"),
        (lambda text: text.replace("1 atg", "x atg"), "line of sequence was expected"),
        (lambda text: text.replace("gene=", "transl_table=7 gene="), "cannot be read"),
        (lambda text: text.replace("gene=x", "codon_start=12"), "codon_start=12"),
        (lambda text: text.replace("gene=x", "transl_table=7"), "number 7"),
        (lambda text: text + "what\n", "outside a record"),
        (lambda text: text.replace("       61 ", "      121 "), r"'121', and 61 follows the 60 letters"),
        (lambda text: text.replace("at\n//", "a\n//"), "has 71 letters, .* says 72 bp"),
        (lambda text: text.replace("72 bp", "71 BP"), "a.gb, .*'LOCUS       X 71 BP' has 72 letters"),
        (lambda text: text.replace("aaaccc", "aaacc", 1), "'61', and 60 follows the 59 letters"),
        (lambda text: "".join(text.splitlines(True)[:-2]) + "//\n", "has 60 letters"),
        (lambda text: text.replace("atgaaaccc", "atg!aaccc"), "b'!' in a coding sequence"),
        (lambda text: text.replace("CDS ", "exon"), "no coding sequence to count"),
    ],
)
def test_genbank_that_is_none_is_named(tmp_path, change, match):
    text = genbank([feature("1..18", "gene=x")], SEQUENCE)
    (tmp_path / "a.gb").write_text(change(text))
    with pytest.raises(penstock.PenstockError, match=match) as caught:
        run(tmp_path / "run", tmp_path / "a.gb")
    assert "Traceback" not in str(caught.value)


def test_a_record_without_letters_or_length_is_no_fault(tmp_path):
    whole = genbank([feature("1..18", "gene=x")], SEQUENCE)
    bare = genbank([feature("1..18", "gene=y")], "").replace(" 0 bp", " 72 bp")
    (tmp_path / "a.gb").write_text(whole.replace("72 bp", "") + bare)
    told = run(tmp_path / "run", tmp_path / "a.gb")["coding_sequences"]
    assert (told["read"], told["left_out"]) == (1, {"no sequence": 1})


@pytest.mark.parametrize(
    "text",
    [
        "join(" * 5000,
        "1.." + "9" * 5000,
        "",
        "1",
        "1..",
        "9..1",
        "join(1..3",
        "1..3)",
        "x(1..2)",
        "0..3",
        "join()",
    ],
)
def test_what_is_no_location(text):
    if text == "1":
        assert location(text) == ((Part(0, 1, False),), False, "")
        return
    with pytest.raises(NoLocation):
        location(text)


PARTS = st.lists(st.tuples(st.integers(0, 90), st.integers(1, 30), st.booleans()), min_size=1, max_size=4)


@given(st.lists(PARTS, max_size=5), st.lists(st.integers(0, 100), max_size=5))
@settings(deadline=None, max_examples=100)
def test_parts_are_gathered_whatever_the_stretches(features, cuts):
    letters = (b"ACGTTGCAATCCGGA" * 8)[:100]
    sequences = [
        Cds(str(at), tuple(Part(start, start + size, reverse) for start, size, reverse in parts))
        for at, parts in enumerate(features)
    ]
    gatherer = Gatherer(sequences)
    found = {}
    for start, stop in pairwise(sorted({0, 100, *cuts})):
        found |= {cds.name: read for cds, read in gatherer.feed(letters[start:stop])}
    for cds in sequences:
        if any(part.stop > 100 for part in cds.parts):
            assert cds in gatherer.beyond()
            continue
        want = ""
        for part in cds.parts:
            text = letters[part.start : part.stop].decode()
            want += text[::-1].translate(COMPLEMENT) if part.reverse else text
        assert found[cds.name].decode() == want


# ------------------------------------------------------------------ FASTA and GFF3


def gff_of(sequences):
    lines = ["##gff-version 3"]
    for number, (seqid, parts, strand, extra) in enumerate(sequences):
        for start, stop in parts:
            lines.append(
                f"{seqid}\t.\tCDS\t{start}\t{stop}\t.\t{strand}\t0\tID=cds{number};gene=g{number}{extra}"
            )
        lines.append(f"{seqid}\t.\tgene\t1\t9\t.\t+\t.\tID=gene{number}")
    return "\n".join([*lines, ""])


@pytest.mark.parametrize("packed", [False, True])
def test_coding_sequences_by_gff3_equal_those_by_genbank(tmp_path, packed, capsys):
    features = [
        ("chr1", [(1, 18)], "+", ""), ("chr1", [(1, 4), (8, 12)], "-", ""),
        ("chr2", [(4, 12)], "+", ";transl_table=2"),
        ("chr2", [(1, 6)], "+", ";pseudo=true"), ("chr9", [(1, 6)], "+", ""), ("chr1", [(1, 99)], "+", ""),
    ]  # fmt: skip
    pack = gzip.compress if packed else bytes
    (tmp_path / "a.fa").write_bytes(
        pack(f">chr1 first\n{SEQUENCE[:30]}\n{SEQUENCE[30:]}\n>chr2\n{SEQUENCE}\n".encode())
    )
    (tmp_path / "a.gff").write_bytes(pack(gff_of(features).encode()))
    told = run(tmp_path / "run", tmp_path / "a.fa", tmp_path / "a.gff", cds=True, per_record=True)
    assert "a GFF3 file is among" not in capsys.readouterr().err
    found = {row["id"]: (row["genetic_code"], counts_of(row)) for row in table(tmp_path / "run")}
    reverse = (SEQUENCE[:4] + SEQUENCE[7:12])[::-1].translate(COMPLEMENT)
    assert found == {
        "g0": (1, dict(codons_of(SEQUENCE[:18]))),
        "g1": (1, dict(codons_of(reverse))),
        "g2": (2, dict(codons_of(SEQUENCE[3:12]))),
    }
    assert told["coding_sequences"]["left_out"] == {"pseudo": 1, "outside": 1, "no such sequence": 1}
    assert (
        run(tmp_path / "local", tmp_path / "a.fa", tmp_path / "a.gff", backend="local", per_record=True)
        == told
    )
    assert "a GFF3 file is among the inputs: its coding sequences" in capsys.readouterr().err


def test_gff3_that_was_edited_is_refused_as_a_changed_input(tmp_path):
    (tmp_path / "a.fa").write_text(f">chr1\n{SEQUENCE}\n")
    annotation, copy = tmp_path / "a.gff", tmp_path / "b.gff"
    annotation.write_text(gff_of([("chr1", [(1, 18)], "+", "")]))
    copy.write_text(gff_of([("chr1", [(31, 36)], "+", "")]))
    told = run(tmp_path / "run", tmp_path / "a.fa", annotation, copy, cds=True)
    annotation.touch()
    assert run(tmp_path / "run", tmp_path / "a.fa", annotation, copy, cds=True) == told
    copy.write_text(gff_of([("chr1", [(31, 39)], "+", "")]))
    for _ in range(2):
        with pytest.raises(JobChanged, match=r"the input 'paths' changed \(\S*/b.gff\)"):
            run(tmp_path / "run", tmp_path / "a.fa", annotation, copy, cds=True)


def test_coding_sequences_of_sequences_that_are_not_there_are_counted_and_named(tmp_path):
    (tmp_path / "a.fa").write_text(f">chr1\n{SEQUENCE}\n>chr2\n{SEQUENCE}\n")
    features = [("chr1", [(1, 18)], "+", ""), ("2", [(1, 4), (8, 12)], "+", ""), ("2", [(1, 9)], "+", "")]
    features += [(f"x{number}", [(1, 6)], "+", "") for number in range(6)]
    (tmp_path / "a.gff").write_text(gff_of(features))
    for backend in ("inline", "local"):
        told = run(tmp_path / backend, tmp_path / "a.fa", tmp_path / "a.gff", cds=True, backend=backend)
        found = told["coding_sequences"]
        assert (found["features"], found["read"], found["left_out"]) == (9, 1, {"no such sequence": 8})
        assert found["absent"] == {"sequences": 7, "first": ["2", "x0", "x1", "x2", "x3"]}
        assert told["warnings"][-2:] == [
            "8 of 9 coding sequences were left out: 8 (no such sequence)",
            "7 sequences named in CDS lines are in no FASTA record that was read: '2', 'x0', 'x1', "
            "'x2', 'x3' and 2 more. The first column of GFF3 must be the first word of a FASTA header",
        ]


@pytest.mark.parametrize("options", [{}, {"per_record": True, "per_file": True}])
def test_records_of_one_id_are_refused_where_coding_sequences_are_in_them(tmp_path, options):
    many = "".join(f">n{number}\n{SEQUENCE}\n" for number in range(400))  # several items
    one, two = tmp_path / "one.fa", tmp_path / "two.fa"
    one.write_text(f">chr1\n{SEQUENCE}\n>free\n{SEQUENCE}\n{many}>free\n{SEQUENCE}\n")
    two.write_text(f">chr1 again\n{SEQUENCE}\n")
    annotation = tmp_path / "a.gff"
    annotation.write_text(gff_of([("chr1", [(1, 18)], "+", ""), ("n7", [(1, 6)], "+", "")]))
    told = run(tmp_path / "run", one, annotation, cds=True, **options)  # none is in either ``free``
    assert told["coding_sequences"]["read"] == 2
    for number, files in enumerate(([one, two], [tmp_path / "both.fa"])):
        (tmp_path / "both.fa").write_text(one.read_text() + two.read_text())
        folder = tmp_path / f"run{number}"
        for _ in range(2):
            with pytest.raises(BadInput, match=r"^1 id .*\('chr1'\)|both.fa: 1 id .*\('chr1'\)"):
                run(folder, *files, annotation, cds=True, **options)
        assert not (folder / "files.parquet").exists()


@given(st.lists(st.lists(st.integers(0, 5), max_size=6), max_size=6))
@settings(deadline=None, max_examples=50)
def test_what_was_met_twice_is_known_however_items_are_put_together(items):
    met = Met()
    states = [met.step(met.start(), np.array(each, np.int64)) for each in items]
    count = Counter(number for each in items for number in each)
    want = sorted(number for number, times in count.items() for _ in range(min(times, 2)))
    assert met.finish(iter(states)).tolist() == want
    assert met.finish(iter(states[::-1])).tolist() == want


def test_gff3_files_are_read_apart_and_one_that_is_given_again_as_a_copy_counts_once(tmp_path):
    (tmp_path / "a.fa").write_text(f">chr1\n{SEQUENCE}\n")
    one = gff_of([("chr1", [(1, 18)], "+", ""), ("chr1", [(1, 4), (8, 12)], "-", "")])
    (tmp_path / "a.gff").write_text(one)
    (tmp_path / "b.gff").write_text(one.splitlines(True)[0] + one.splitlines(True)[1])
    (tmp_path / "c.gff").write_text(gff_of([("chr1", [(19, 24)], "+", "")]))  # of the id of another
    names = [tmp_path / name for name in ("a.fa", "a.gff", "b.gff", "c.gff")]
    told = run(tmp_path / "run", *names, per_record=True)
    assert told["coding_sequences"]["left_out"] == {"annotated twice": 1}
    assert sorted(row["length"] for row in table(tmp_path / "run")) == [6, 9, 18]
    assert told["warnings"][-1] == "1 of 4 coding sequences was left out: 1 (annotated twice)"


@pytest.mark.parametrize("packed", [False, True])
def test_gff3_with_its_sequences_inside_is_read_alone(tmp_path, packed):
    """As Prokka writes it; two genomes whose contigs and genes have the same names are told apart."""
    pack = gzip.compress if packed else bytes
    inside = []
    for number, sequence in enumerate((SEQUENCE, SEQUENCE[3:] + "AAA")):
        features = [("c1", [(1, 18)], "+", ""), ("c1", [(1, 4), (8, 12)], "-", ""), ("c9", [(1, 3)], "+", "")]
        text = f"{gff_of(features)}##FASTA\n>c1 contig\n{sequence[:30]}\n{sequence[30:]}\n>c2\n{sequence}\n"
        inside.append(tmp_path / f"{number}.gff")
        inside[-1].write_bytes(pack(text.encode()))
    for backend in ("inline", *["local"] * packed):
        told = run(tmp_path / backend, *inside, backend=backend, per_record=True)
        assert [told["coding_sequences"][name] for name in ("features", "read")] == [6, 4]
        assert told["coding_sequences"]["left_out"] == {"no such sequence": 2}
        assert [(row["id"], counts_of(row)) for row in table(tmp_path / backend)] == [
            (name, dict(codons_of(read)))
            for sequence in (SEQUENCE, SEQUENCE[3:] + "AAA")
            for name, read in (
                ("g0", sequence[:18]),
                ("g1", (sequence[:4] + sequence[7:12])[::-1].translate(COMPLEMENT)),
            )
        ]
    (tmp_path / "a.fa").write_text(f">c1\n{SEQUENCE}\n")  # sequences that are named count, not those inside
    told = run(tmp_path / "beside", tmp_path / "a.fa", inside[1])
    assert told["tables"][0]["codons"] == 9
    (tmp_path / "none.gff").write_text(gff_of([("c1", [(1, 18)], "+", "")]))
    with pytest.raises(BadInput, match=r"none\.gff: GFF3 without its sequences"):
        run(tmp_path / "none", inside[0], tmp_path / "none.gff")


def test_what_has_no_strand_or_border_is_left_out_and_a_bad_line_has_its_place(tmp_path):
    (tmp_path / "a.fa").write_text(f">chr1\n{SEQUENCE}\n")
    annotation = tmp_path / "a.gff"
    annotation.write_text(gff_of([("chr1", [(1, 18)], ".", ""), ("chr1", [(4, 9)], "+", "")]))
    told = run(tmp_path / "run", tmp_path / "a.fa", annotation)["coding_sequences"]
    assert (told["read"], told["left_out"]) == (1, {"no strand": 1})
    places = ["(1.3)..18", "1..(16.18)", "complement((1.3)..18)", "one-of(1,4)..18", "1..18"]
    (tmp_path / "a.gb").write_text(genbank([feature(place, "gene=x") for place in places], SEQUENCE))
    told = run(tmp_path / "gb", tmp_path / "a.gb")["coding_sequences"]
    assert (told["read"], told["left_out"]) == (1, {"order": 4})
    for number, line in enumerate(("chr1\t.\tCDS\t6\t1\t.\t+\t0\tID=x", "chr1\t.\tCDS\tx\t1\t.\t+\t0\tID=x")):
        annotation.write_text(f"{gff_of([('chr1', [(1, 18)], '+', '')])}{line}\n")
        with pytest.raises(BadInput, match=r"a\.gff, line 4: a CDS line of GFF3 that cannot be read"):
            run(tmp_path / f"bad{number}", tmp_path / "a.fa", annotation)


def test_a_new_run_in_the_place_of_another_has_its_own_annotation(tmp_path):
    (tmp_path / "a.fa").write_text(f">chr1\n{SEQUENCE}\n")
    for name in ("other", "chr1"):
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        features = [(name, [(1, 18)], "+", ""), ("chr1", [(1, 6)], "+", "")]
        (tmp_path / "a.gff").write_text(gff_of(features))
        told = run(tmp_path / "run", tmp_path / "a.fa", tmp_path / "a.gff", cds=True)
    assert told["coding_sequences"]["read"] == 2


def test_trans_splicing_and_phases_of_gff3():
    lines = [
        "c\t.\tCDS\t10\t18\t.\t-\t1\tID=x;exception=trans-splicing",
        "c\t.\tCDS\t30\t40\t.\t+\t0\tID=x;exception=trans-splicing",
        "c\t.\tCDS\t30\t40\t.\t-\t0\tID=y%3B1;partial=true",
        "c\t.\tCDS\t50\t60\t.\t-\t2\tID=y%3B1;partial=true",
    ]
    first, second = of_gff(lines)
    assert first.parts == (Part(9, 18, True), Part(29, 40, False))
    assert (first.offset, first.partial) == (1, False)
    assert second.parts == (Part(49, 60, True), Part(29, 40, True))
    assert (second.name, second.offset, second.partial) == ("y;1", 2, True)


def test_files_that_do_not_go_together_are_named(tmp_path):
    (tmp_path / "a.fa").write_text(">a\nATGAAA\n")
    (tmp_path / "a.gff").write_text("##gff-version 3\nb\t.\tCDS\t1\t6\t.\t+\t0\tID=x\n")
    (tmp_path / "bad.gff").write_text("##gff-version 3\nno columns\n")
    (tmp_path / "line.gff").write_text("##gff-version 3\na\t.\tCDS\t6\t1\t.\t+\t0\tID=x\n")
    for names, options, match in (
        (["a.fa"], {"cds": True}, "where the coding sequences are"),
        (["a.gff"], {}, "without its sequences"),
        (["a.fa", "a.gff"], {}, "no sequence of the FASTA files has a CDS line"),
        (["a.fa", "bad.gff"], {}, "no line of GFF3"),
        (["a.fa", "line.gff"], {}, "CDS line of GFF3 that cannot be read"),
    ):
        with pytest.raises(penstock.PenstockError, match=match):
            run(tmp_path / "-".join(["run", *names]), *(tmp_path / name for name in names), **options)
    with pytest.raises(
        BadInput, match="1 file of GenBank, whose coding sequences are counted, and 1 file of another"
    ):
        run(tmp_path / "both", tmp_path / "a.fa", PLASMID)
    for options in ({"frame": "all"}, {"strand": "both"}, {"sample": 2}, {"genetic_code": "map"}):
        (tmp_path / "map").write_text("*\t1\n")
        options = {
            **options,
            **({"genetic_code": str(tmp_path / "map")} if "genetic_code" in options else {}),
        }
        with pytest.raises(UsageError):
            run(tmp_path / "run2", PLASMID, **options)


# ------------------------------------------------------------------ text forms, the original's tables


def test_text_is_what_cusp_and_codonw_write(tmp_path):
    """Of the yeast genes, by EMBOSS 6.6.0 cusp and by codonW 1.4.4 -cutot."""
    for form in ("cusp", "codonw"):
        run(tmp_path / form, DATA / "yeast111.fa.gz", format=form)
        assert (tmp_path / form / f"codons.{form}").read_text() == (DATA / f"yeast111.{form}").read_text()
    run(tmp_path / "many", DATA / "dirty.fa", format="cusp", frame="all", strand="both")
    assert len(list((tmp_path / "many").glob("codons-code1-*-frame*.cusp"))) == 6


@pytest.mark.parametrize(
    ("name", "path"),
    [("dirty.fa", DATA / "dirty.fa"), ("syn300.fa", DATA / "syn300.fa.gz"), ("genomes.fa", EXAMPLE)],
)
def test_the_originals_tables(tmp_path, capsys, name, path):
    for skip, key in ((True, "skip_n"), (False, "no_skip_n")):
        run(tmp_path / key, path, compat="upstream", skip_n=skip, rscu=True)
        rows = pq.read_table(tmp_path / key / "codon.parquet").to_pylist()
        assert {row["codon"]: row["count"] for row in rows} == UPSTREAM[name][key]
        assert [list(rows[0]), [row["count"] for row in rows]] == [
            ["codon", "count", "freq", "aa"], sorted((row["count"] for row in rows), reverse=True),
        ]  # fmt: skip
        total = sum(row["count"] for row in rows)
        assert all(row["freq"] == row["count"] / total for row in rows)
        assert all((row["aa"] == "X") == (not set(row["codon"]) <= set("ACGT")) for row in rows)
        rscu = pq.read_table(tmp_path / key / "codon_rscu.parquet").to_pylist()
        assert rscu == sorted(rscu, key=lambda row: (-row["rscu"], row["codon"]))
        for row in rscu:
            family = [each["count"] for each in rows if each["aa"] == row["aa"]]
            assert row["rscu"] == pytest.approx(row["count"] * len(family) / sum(family))
    assert "unique codons" in capsys.readouterr().out


def test_the_originals_order_of_steps(tmp_path):
    (tmp_path / "a.fa").write_text(">a\nAAAAAAAAAAAGTAATAACCC\n")
    run(tmp_path / "run", tmp_path / "a.fa", compat="upstream", min_count=2, skip_stops=True)
    rows = pq.read_table(tmp_path / "run" / "codon.parquet").to_pylist()
    assert rows == [{"codon": "AAA", "count": 3, "freq": 3 / 5, "aa": "K"}]  # stops left out after the shares
    for options in ({"rscu": True}, {"skip_n": False}, {"compat": "upstream", "frame": "all"}):
        with pytest.raises(UsageError):
            run(tmp_path / "no", tmp_path / "a.fa", **options)
