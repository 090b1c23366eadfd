"""What must not change an answer, and what must change it in a known way, for any sequences."""

import bz2
import gzip
import lzma
from collections import Counter
from itertools import product

import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import BadInput
from penstock.sequences.inputs import open_inputs
from penstock.workloads.codons import genetic_codes, summary
from penstock.workloads.codons.job import CountCodons, JoinSummaries
from penstock.workloads.codons.tables import codon_rows

BOTH = list(product("+-", range(3)))
COMPLEMENT = str.maketrans("ACGTUNRYKMSWacgtunrykmsw-", "TGCAANYRMKSWtgcaanyrmksw-")
SEQUENCES = st.lists(st.text("ACGTACGTACGTacgtUuNnRYKMSW-", max_size=150), min_size=1, max_size=6)
BASES = st.lists(st.text("ACGT", max_size=150), min_size=1, max_size=6)
PACKED = {"fa": bytes, "gz": gzip.compress, "zst": zstd.compress, "bz2": bz2.compress, "xz": lzma.compress}
any_sequences = settings(max_examples=30, deadline=None)


def fasta(sequences, *, width=60, name="record {}"):
    lines = []
    for number, sequence in enumerate(sequences):
        lines.append(">" + name.format(number))
        lines += [sequence[at : at + width] for at in range(0, len(sequence), width)]
    return ("\n".join(lines) + "\n").encode()


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    """Counts files of these bytes: by strand and frame, what each codon and each kind of base is."""
    folder = tmp_path_factory.mktemp("laws")

    def count(*contents, kinds=None):
        paths = [folder / f"{at}.{kind}" for at, kind in enumerate(kinds or ["fa"] * len(contents))]
        for path, content in zip(paths, contents, strict=True):
            path.write_bytes(PACKED[path.suffix[1:]](content))
        source = open_inputs([str(path) for path in paths]).source
        function, reducer = CountCodons(), JoinSummaries()
        state = reducer.start()
        for item in source.read(0, len(source)):
            state = reducer.step(state, function(item))
        found = reducer.finish(iter([state]))
        told = {}
        for strand, frame in BOTH:
            counts = dict(zip(summary.CODONS, summary.frames(found, strand)[frame].tolist(), strict=True))
            told[strand, frame] = counts, summary.ledger(found, strand, frame)
        return told

    return count


def only_counts(told):
    return {place: counts for place, (counts, _) in told.items()}


def usage(told, place):
    rows = codon_rows(told[place][0], genetic_codes.translation(11), strand=place[0], frame=place[1])
    return {row["codon"]: (row["freq"], row["per_1000"], row["rscu"]) for row in rows}


@given(SEQUENCES)
@any_sequences
def test_the_reverse_complement_changes_strands_over(counted, sequences):
    forward = counted(fasta(sequences))
    turned = counted(fasta([sequence.translate(COMPLEMENT)[::-1] for sequence in sequences]))
    for frame in range(3):
        for one, other in ("+-", "-+"):
            counts, ledger = forward[one, frame]
            assert turned[other, frame][0] == counts
            assert turned[other, frame][1] == ledger


@given(SEQUENCES, st.data())
@any_sequences
def test_order_and_names_of_records_do_not_matter(counted, sequences, data):
    other = data.draw(st.permutations(sequences))
    name = data.draw(st.sampled_from(["", "x", "ACGT {} > 12 ;", "\tgi|{}|né", "N" * 300]))
    assert counted(fasta(other, name=name)) == counted(fasta(sequences))


@given(SEQUENCES, st.integers(1, 200), st.data())
@any_sequences
def test_how_a_text_is_written_does_not_matter(counted, sequences, width, data):
    expected = counted(fasta(sequences))
    text = fasta(sequences, width=width).decode()
    for change in data.draw(st.lists(st.sampled_from(sorted(WRITTEN)), max_size=4)):
        text = WRITTEN[change](text)
    assert counted(text.encode()) == expected


def sequence_lines(change):
    def changed(text):
        return "".join(
            line if line.startswith((">", ";", "\ufeff")) else change(line) for line in text.splitlines(True)
        )

    return changed


WRITTEN = {
    "lower case": sequence_lines(str.lower),
    "upper case": sequence_lines(str.upper),
    "RNA": sequence_lines(lambda line: line.replace("T", "U").replace("t", "u")),
    "DNA": sequence_lines(lambda line: line.replace("U", "T").replace("u", "t")),
    "N for what is ambiguous": sequence_lines(
        lambda line: line.translate(str.maketrans("RYKMSW-", "NNNNNNN"))
    ),
    "blanks": sequence_lines(lambda line: line.replace("A", " A\t")),
    "empty lines": lambda text: text.replace("\n", "\n\n"),
    "comments": sequence_lines(lambda line: ";ACGT 12 >\n" + line),
    "CRLF": lambda text: text.replace("\r\n", "\n").replace("\n", "\r\n"),
    "no last line end": lambda text: (
        text.rstrip("\r\n") + ("\n" if text.rstrip("\r\n").endswith(">") else "")
    ),
    "byte order mark": lambda text: "\ufeff" + text.removeprefix("\ufeff"),
}


@given(SEQUENCES, st.data())
@any_sequences
def test_records_in_any_files_of_any_kind_give_the_same(counted, sequences, data):
    homes = [data.draw(st.integers(0, 2)) for _ in sequences]
    files = [[s for s, home in zip(sequences, homes, strict=True) if home == at] for at in set(homes)]
    kinds = [data.draw(st.sampled_from(sorted(PACKED))) for _ in files]
    assert counted(*map(fasta, files), kinds=kinds) == counted(fasta(sequences))


@given(SEQUENCES)
@any_sequences
def test_everything_twice_doubles_counts_and_leaves_usage(counted, sequences):
    once, twice = counted(fasta(sequences)), counted(fasta(sequences + sequences))
    for place in BOTH:
        assert twice[place][0] == {codon: 2 * n for codon, n in once[place][0].items()}
        assert usage(twice, place) == usage(once, place)


@given(SEQUENCES, st.sampled_from("ACGT"))
@any_sequences
def test_a_base_in_front_moves_each_frame_by_one(counted, sequences, base):
    before, after = counted(fasta(sequences)), counted(fasta([base + each for each in sequences]))
    behind = counted(fasta([each + base for each in sequences]))
    for frame in (0, 1):
        assert after["+", frame + 1][0] == before["+", frame][0]
        assert behind["-", frame + 1][0] == before["-", frame][0]
    first = Counter((base + each[:2]).upper().replace("U", "T") for each in sequences)
    more = {codon: n - before["+", 2][0][codon] for codon, n in after["+", 0][0].items()}
    assert more == {codon: first[codon] for codon in more}


@given(BASES, st.integers(0, 49), st.integers(1, 90), st.sampled_from("Nn-R"))
@any_sequences
def test_unknown_bases_between_codons_add_no_codon_and_take_none(counted, sequences, codon, codons, letter):
    gapped = [each[: 3 * codon] + letter * 3 * codons + each[3 * codon :] for each in sequences]
    before, after = counted(fasta(sequences)), counted(fasta(gapped))
    assert after["+", 0][0] == before["+", 0][0]
    assert after["+", 0][1]["ambiguous"] == before["+", 0][1]["ambiguous"] + codons * len(sequences)


@given(SEQUENCES)
@any_sequences
def test_frames_together_are_all_triplets_whichever_strand_is_read(counted, sequences):
    told = only_counts(counted(fasta(sequences)))
    triplets = Counter(
        text[at : at + 3]
        for text in (each.upper().replace("U", "T") for each in sequences)
        for at in range(len(text) - 2)
    )
    for codon in summary.CODONS:
        assert sum(told["+", frame][codon] for frame in range(3)) == triplets[codon]
        turned = codon.translate(COMPLEMENT)[::-1]
        assert sum(told["-", frame][turned] for frame in range(3)) == triplets[codon]


@given(SEQUENCES, st.sampled_from(genetic_codes.numbers()))
@any_sequences
def test_rscu_of_a_family_that_was_seen_adds_up_to_its_size(counted, sequences, number):
    counts = counted(fasta(sequences))["+", 0][0]
    families = {}
    for row in codon_rows(counts, genetic_codes.translation(number), strand="+", frame=0):
        families.setdefault((row["aa"], row["family"]), []).append(row["rscu"])
    for (_, size), values in families.items():
        assert len(values) == size
        assert values == [None] * size or sum(values) == pytest.approx(size)


def test_lone_carriage_returns_are_refused_not_read_as_one_line(counted):
    with pytest.raises(BadInput, match="lone carriage return"):
        counted(fasta(["ACGTACGT"]).replace(b"\n", b"\r"))
