"""From tables to records: joins, times, vital signs, ages, labels and splits, against two oracles."""

import gzip
import json
import shutil

import numpy as np
import plain_oracle
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import BadInput, UsageError
from penstock.workloads.multimodal import (
    clinical,
    csvs,
    films,
    labels,
    layout,
    planning,
    splits,
    stays,
    upstream,
)
from penstock.workloads.multimodal.joining import Joined, Rules, join

DAY = 24 * 3600
VITALS = clinical.VITALS


@pytest.fixture(scope="module")
def found(sample):
    return layout.find(str(sample))


@pytest.fixture(scope="module")
def published(found):
    """The sample under the original's rules."""
    return join(found, Rules(window=DAY, upstream=True))


def rows_of(joined: Joined):
    return joined.records.to_pylist()


# ------------------------------------------------------------------ as published


def test_published_joins_count_what_the_oracle_counts(published, oracle):
    counts, told = oracle["counts"], published.counts
    assert told["rows"] == counts["metadata_rows"]
    assert told["views"] == counts["view_counts"]
    assert told["frontal"] == counts["frontal_rows"]
    assert told["joined"] == counts["in_window"]
    assert told["skipped"]["no_ed_stay"] == counts["no_ed_stay_for_subject"]
    assert told["skipped"]["outside_stay"] == counts["ed_stay_but_outside_24h"]
    assert sum(told["skipped"].values()) + told["joined"] == told["rows"]


def test_published_joins_are_the_oracles_row_by_row(published, oracle):
    stay = {row["dicom_id"]: row for row in oracle["frontal_status"]}
    mine = {row["dicom_id"]: row for row in rows_of(published)}
    assert set(mine) == {dicom for dicom, row in stay.items() if row["stay_id"]}
    for dicom, row in mine.items():
        assert str(row["stay_id"]) == stay[dicom]["stay_id"]
        time = np.datetime64(row["time"], "s")
        assert str(time).replace("T", " ") == stay[dicom]["study_dt"]
        assert row["view"] == stay[dicom]["ViewPosition"]


def joined_rows(published, oracle):
    """Ours beside the oracle's: a film that is there as often as its rows."""
    missing = {row["dicom_id"] for row in oracle["defects"] if row["kind"] == "missing"}
    ours = [row for row in rows_of(published) if row["dicom_id"] not in missing]
    assert [row["dicom_id"] for row in ours] == [row["dicom_id"] for row in oracle["joined"]]
    return list(zip(ours, oracle["joined"], strict=True))


def test_published_notes_and_filter_are_the_oracles(published, oracle):
    pairs = joined_rows(published, oracle)
    assert len(pairs) == 101
    removed = 0
    for ours, theirs in pairs:
        note = upstream.pseudo_note(ours)
        assert note == theirs["pseudo_note"]
        positive = upstream.positive_findings(ours["labels"])
        assert positive == json.loads(theirs["positive_findings"])
        text, dropped = upstream.leakage_filter(note + upstream.CONTEXT, positive, aggressive=True)
        assert (text, str(dropped)) == (theirs["filtered_note"], theirs["removed_sentences"])
        removed += dropped
    counts = oracle["counts"]
    assert removed == counts["filter_removed_sentences_total"]
    assert sum("nan" in upstream.pseudo_note(ours) for ours, _ in pairs) == counts["notes_with_nan_text"]
    assert sum(not ours["has_triage"] for ours, _ in pairs) == counts["joined_stays_without_triage"]


def test_splits_are_the_oracles(oracle, found):
    subjects = [int(row["subject_id"]) for row in oracle["splits"]]
    quota = splits.plan_splits(subjects, "quota")
    hashed = splits.plan_splits(subjects, "hash")
    table = csvs.table(found.tables["split"], ("subject_id", "study_id", "split"))
    people, _ = splits.official_people(
        (int(row["subject_id"]), int(row["study_id"]), row["split"]) for row in table.to_pylist()
    )
    official = splits.plan_splits(subjects, "official", official=people)
    for row in oracle["splits"]:
        person = int(row["subject_id"])
        assert quota[person] == row["split_quota"]
        assert hashed[person] == row["split_hash"]
        assert (official[person] or "") == row["split_official"]
        assert splits.keyed(42, row["dicom_id"]) == int(row["shuffle_key"])


# ------------------------------------------------------------------ by default


@pytest.mark.parametrize("hours", [None, 24])
def test_records_are_those_of_a_plain_program(found, sample, hours):
    joined = join(found, Rules(window=None if hours is None else hours * 3600))
    expected = plain_oracle.records(sample, hours)
    ours = rows_of(joined)
    assert [row["row"] for row in ours] == [row["row"] for row in expected]
    for mine, theirs in zip(ours, expected, strict=True):
        assert str(mine["stay_id"]) == theirs["stay_id"]
        assert stays.RELATIONS[mine["relation"]] == theirs["relation"]
        assert {name: mine[name] for name in VITALS} == theirs["vitals"]
        for name in (
            "celsius",
            "pain",
            "acuity",
            "chiefcomplaint",
            "gender",
            "age",
            "age_masked",
            "medicines",
        ):
            assert mine[name] == theirs[name], name
        told = [None if value == labels.BLANK else value for value in mine["labels"]]
        assert told == theirs["labels"]
    assert joined.counts["joined"] == len(expected)
    assert sum(joined.counts["skipped"].values()) + len(expected) == joined.counts["rows"]


def test_64_films_of_the_sample_were_taken_inside_a_stay(found, oracle):
    """Of the 101 that the original joins, in the stay that it gives them; and one is inside another stay."""
    ours = {row["dicom_id"]: str(row["stay_id"]) for row in rows_of(join(found, Rules()))}
    inside = [row for row in oracle["joined"] if row["dicom_id"] in ours]
    assert sum(ours[row["dicom_id"]] == row["stay_id"] for row in inside) == 64
    assert len(inside) - 64 == oracle["counts"]["nearest_differs_from_first"]


def test_films_before_arrival_have_no_values_that_were_measured_later(found, oracle):
    ours = {row["dicom_id"]: row for row in rows_of(join(found, Rules(window=DAY)))}
    early = [row for row in ours.values() if row["relation"] == 1]
    there = [row["dicom_id"] for row in oracle["joined"]]
    assert sum(there.count(row["dicom_id"]) for row in early) == 8
    for row in early:
        assert all(row[name] is None for name in (*VITALS, "pain", "acuity", "chiefcomplaint"))
    compared = 0
    for theirs in oracle["joined"]:
        row = ours[theirs["dicom_id"]]
        if str(row["stay_id"]) == theirs["stay_id"] and row["relation"] != 1 and not row["celsius"]:
            compared += 1
            assert {name: row[name] for name in VITALS} == json.loads(theirs["vitals_causal"])
    assert compared > 80


def test_a_film_belongs_to_the_stay_that_holds_it_then_to_the_nearest():
    three = stays.Stays(
        subject=np.array([1, 1, 1, 2]), stay=np.array([10, 11, 12, 13]), intime=np.array([0, 50, 80, 0]),
        outtime=np.array([100, 60, 90, 10]), gender=pa.array(["F"] * 4), bad_rows=0,
    )  # fmt: skip
    time = np.array([55, 70, 95, 200, -5, 5])
    subject = np.array([1, 1, 1, 1, 1, 3])
    assert stays.match(subject, time, three, None).at.tolist() == [1, 0, 0, -1, -1, -1]
    wide = stays.match(subject, time, three, 1000)
    assert wide.at.tolist() == [1, 0, 0, 2, 0, -1]
    assert wide.relation.tolist() == [0, 0, 0, 2, 1, -1]
    assert stays.match(subject, time, three, 1000, first=True).at.tolist() == [0, 0, 0, 0, 0, -1]
    assert wide.known.tolist() == [True] * 5 + [False]


@pytest.mark.parametrize(
    ("anchor", "year", "visit", "age", "masked"),
    [(91, 2180, 2183, 91, True), (91, 2180, 2178, 91, True), (88, 2180, 2184, 91, True),
     (52, 2180, 2183, 55, False),     (88, 2180, 2181, 89, False), (20, 2180, 2150, -1, False)],
)  # fmt: skip
def test_nobody_is_told_to_be_over_89(anchor, year, visit, age, masked):
    found, over = clinical.age_at(np.array([anchor]), np.array([year]), np.array([visit]))
    assert (found.tolist(), over.tolist()) == ([age], [masked])


@pytest.mark.parametrize(
    "options",
    [{"ratios": (7, 1, 1)}, {"ratios": (float("nan"), 50, 50)}, {"ratios": (50, 50)},
     {"ratios": (110, -5, -5)}, {"unmatched": "hashed"}, {"method": "random"}],
)  # fmt: skip
def test_splits_are_not_planned_by_numbers_that_are_no_shares(options):
    with pytest.raises(UsageError):
        splits.plan_splits([1, 2, 3], **options)


@pytest.mark.parametrize("words", [("zero", "zeros"), ("ignore", "ones"), (None, "zeros"), ("ones", True)])
def test_another_word_for_what_labels_become_is_refused(words):
    with pytest.raises(UsageError, match=r"uncertain=.*blank="):
        labels.targets(np.array([0, labels.BLANK], np.int8), *words)


def test_labels_become_targets_with_a_mask():
    given = np.array([1, 0, -1, labels.BLANK], np.int8)
    for blank, last in (("zeros", [0.0, True]), ("ignore", [np.nan, False])):
        value, mask = labels.targets(given, "ignore", blank)
        np.testing.assert_array_equal(value, np.array([1, 0, np.nan, last[0]], np.float32))
        assert mask.tolist() == [True, True, False, last[1]]
    assert labels.targets(given, "ones")[0][2] == 1
    assert labels.targets(given, "zeros")[0][2] == 0
    none = np.full(14, labels.NO_ROW, np.int8)
    assert not labels.targets(none, "ones", "zeros")[1].any(), "a study without a row has no 14 zeros"


def labels_table(path, *rows):
    lines = [",".join(("subject_id", "study_id", *labels.LABELS))]
    lines += [",".join(("1", str(study), *values)) for study, values in enumerate(rows, 50000001)]
    path.write_bytes(gzip.compress("\n".join([*lines, ""]).encode()))
    return path


def test_what_is_written_for_a_blank_is_one(tmp_path):
    blanks = ["", " ", "nan", "NaN", "NA", "null", "None", "1", "1.0", "0", "0.0", "-1", "-1.0", ""]
    table = labels_table(tmp_path / "c.csv.gz", blanks)
    found = labels.read_labels(table, np.array([50000001, 50000002]))
    assert found[0].tolist() == [labels.BLANK] * 7 + [1, 1, 0, 0, -1, -1, labels.BLANK]
    assert set(found[1].tolist()) == {labels.NO_ROW}


@pytest.mark.parametrize("code", ["2", "0.5", "positive", "True", "-9"])
def test_labels_of_another_code_are_refused_and_not_taken_for_blanks(tmp_path, code):
    """A blank is an absent finding by default: all targets would be 0, and nothing would say so."""
    plain = ["1.0"] * 14
    table = labels_table(tmp_path / "c.csv.gz", plain, [*plain[:13], code], [code, *plain[:12], code])
    with pytest.raises(BadInput, match=r"Atelectasis in 1 row, Support Devices in 2 rows") as caught:
        labels.read_labels(table, np.array([50000001]))
    assert "c.csv.gz" in str(caught.value)
    if code.isalpha():
        assert code not in str(caught.value)


def test_celsius_is_not_read_as_fahrenheit():
    given = np.array([36.6, 93.2, 98.6, 106.1, np.nan, 43.0])
    value, suspected = clinical.fahrenheit(given)
    np.testing.assert_array_equal(value, [np.nan, 93.2, 98.6, 106.1, np.nan, np.nan])
    assert suspected.tolist() == [True, False, False, False, False, True]
    assert clinical.fahrenheit(given, convert=True)[0][0] == 97.9


@pytest.mark.parametrize(
    ("date", "time", "expected"),
    [("21830720", "41932.25", "2183-07-20T04:19:32"), ("21830720", "7", "2183-07-20T00:00:07"),
     ("21840229", "235959", "2184-02-29T23:59:59"), ("21830229", "0", None), ("21831301", "0", None),
     ("21830720", "240000", None), ("21830720", "126000", None), ("21830720", "noon", None), ("", "7", None),
     ("21830720", "", None), ("2183-07-20", "7", None), ("21830720", "1234567", None),
     ("21830720", "-7", None)],
)  # fmt: skip
def test_study_times(date, time, expected):
    (found,) = films.study_times(pa.array([date or None], pa.string()), pa.array([time or None], pa.string()))
    assert (None if found == films.NO_TIME else str(np.datetime64(int(found), "s"))) == expected


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 5)), min_size=1, max_size=60), st.integers(0, 9))
def test_no_person_is_in_two_splits_and_quotas_are_met_to_one_person(people, seed):
    subjects = [person for person, count in people for _ in range(count)]
    for method in ("hash", "quota"):
        found = splits.plan_splits(subjects, method, seed=seed)
        assert set(found) == set(subjects)
        assert found == splits.plan_splits(subjects[::-1], method, seed=seed), (
            "the order of records is nothing"
        )
    quota = [splits.plan_splits(subjects, "quota", seed=seed)[person] for person in subjects]
    most = max(subjects.count(person) for person in set(subjects))
    assert abs(quota.count("train") - 0.7 * len(subjects)) <= most
    assert abs(quota.count("test") - 0.15 * len(subjects)) <= most


def test_quota_of_as_many_people_as_records():
    """The published count, if each of its records were a person."""
    found = list(splits.plan_splits(range(107_949), "quota").values())
    for name, most in zip(splits.SPLITS, (75_564, 16_192, 16_193), strict=True):
        assert abs(found.count(name) - most) <= 1


def test_whom_the_official_table_does_not_name():
    official = {1: "train", 2: "test"}
    found = splits.plan_splits([1, 2, 3], "official", official=official)
    assert found == {1: "train", 2: "test", 3: None}
    hashed = splits.plan_splits([1, 2, 3], "official", official=official, unmatched="hash")
    assert (hashed[1], hashed[2]) == ("train", "test")
    assert hashed[3] == splits.plan_splits([3], "hash")[3]


def test_an_official_table_that_tears_people_apart_is_refused():
    with pytest.raises(BadInput, match="1 person in two splits"):
        splits.official_people([(1, 1, "train"), (1, 2, "test"), (2, 3, "validate")])
    with pytest.raises(BadInput, match="another word"):
        splits.official_people([(1, 1, "holdout")])


@pytest.mark.parametrize("text", ["70,15", "70,15,14", "a,b,c", "120,-10,-10", "nan,50,50", ""])
def test_ratios_that_do_not_sum_to_100(text):
    with pytest.raises(UsageError, match="sum to 100"):
        splits.parse_ratios(text)


# ------------------------------------------------------------------ tables that are not what they should be


@pytest.fixture
def copy(sample, tmp_path):
    """A copy of the sample's tables that may be changed."""

    def ignore(folder, names):
        return [name for name in names if name == "files"]

    shutil.copytree(sample, tmp_path / "root", ignore=ignore)
    return tmp_path / "root"


def rewrite(path, change):
    path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes()))))


def test_all_missing_tables_are_named_at_once(copy):
    (copy / "mimic-iv-ed/2.2/ed/triage.csv.gz").unlink()
    shutil.rmtree(copy / "mimiciv")
    with pytest.raises(BadInput) as caught:
        layout.find(str(copy))
    assert "triage.csv.gz" in str(caught.value)
    assert "patients.csv.gz" in str(caught.value)


def test_all_missing_columns_are_named_at_once(copy):
    rewrite(copy / "mimic-iv-ed/2.2/ed/triage.csv.gz", lambda text: text.replace(b"o2sat", b"spo2", 1))
    rewrite(
        copy / "mimiciv/3.1/hosp/patients.csv.gz", lambda text: text.replace(b"anchor_year,", b"year,", 1)
    )
    with pytest.raises(BadInput, match=r"missing columns: .*triage.*o2sat.*patients.*anchor_year"):
        join(layout.find(str(copy)), Rules())


def test_a_root_without_a_known_layout(tmp_path):
    with pytest.raises(BadInput, match="no known layout"):
        layout.find(str(tmp_path))
    with pytest.raises(BadInput, match="no such folder"):
        layout.find(str(tmp_path / "nowhere"))


def test_tables_without_gz_in_folders_of_their_own(copy, found, tmp_path):
    for path in list(copy.rglob("*.csv.gz")):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    (copy / "mimic-cxr-jpg/2.1.0").rename(tmp_path / "films")
    (copy / "mimic-iv-ed").rename(tmp_path / "ed")
    (copy / "mimiciv/3.1/hosp").rename(tmp_path / "people")
    apart = layout.find(
        None, cxr=str(tmp_path / "films"), ed=str(tmp_path / "ed"), hosp=str(tmp_path / "people")
    )
    assert apart.reports is None
    assert join(apart, Rules()).records.equals(join(found, Rules()).records)


@pytest.mark.parametrize("how", ["bom", "crlf", "quoted", "shuffled columns"])
def test_a_table_may_be_written_in_several_ways(copy, found, how):
    path = copy / "mimic-iv-ed/2.2/ed/edstays.csv.gz"
    ways = {
        "bom": lambda text: b"\xef\xbb\xbf" + text,
        "crlf": lambda text: text.replace(b"\n", b"\r\n"),
        "quoted": lambda text: text.replace(b"WALK IN", b'"WALK\nIN, ""so to speak"""'),
        "shuffled columns": lambda text: b"".join(
            b",".join(line.split(b",")[::-1]) + b"\n" for line in text.splitlines()
        ),
    }
    rewrite(path, ways[how])
    assert join(layout.find(str(copy)), Rules()).records.equals(join(found, Rules()).records)


def test_bytes_that_are_no_utf8(copy):
    path = copy / "mimic-iv-ed/2.2/ed/triage.csv.gz"
    rewrite(path, lambda text: text.replace(b"Chest pain", "Douleur à la poitrine".encode("latin-1")))
    joined = join(layout.find(str(copy)), Rules(window=DAY))
    assert "Douleur à la poitrine" in joined.records["chiefcomplaint"].to_pylist()


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.99])
def test_a_table_that_is_cut_off_is_named(copy, keep):
    path = copy / "mimic-iv-ed/2.2/ed/vitalsign.csv.gz"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(BadInput, match=r"vitalsign.*cut off or damaged"):
        join(layout.find(str(copy)), Rules())


def test_a_row_with_too_few_fields_is_named_and_not_quoted(copy):
    path = copy / "mimic-iv-ed/2.2/ed/triage.csv.gz"
    rewrite(path, lambda text: text + b"10000037,30000000,the secret complaint\n")
    with pytest.raises(BadInput, match=r"triage.*row \d+ has 3 fields, where 11 were expected") as caught:
        join(layout.find(str(copy)), Rules())
    assert "secret" not in str(caught.value)


def test_odd_rows_of_the_film_table_are_counted(copy):
    path = copy / "mimic-cxr-jpg/2.1.0/mimic-cxr-2.0.0-metadata.csv.gz"
    before = join(layout.find(str(copy)), Rules())
    head, *lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    names = head.split(",")
    (plain,) = [line for line in lines if line.startswith("e145c8a0")]

    def changed(**values):
        fields = dict(zip(names, plain.split(","), strict=True)) | values
        return ",".join(fields[name] for name in names)

    more = [
        changed(dicom_id="bad-time", StudyTime="soon"), changed(dicom_id="bad-date", StudyDate="21830231"),
        changed(dicom_id="../../etc/passwd"), changed(dicom_id="no-subject", subject_id="x"),
        changed(dicom_id="one-id another-id"),
        changed(dicom_id="no-view", ViewPosition=""), changed(dicom_id="odd-view", ViewPosition="\x1b[31m"),
        changed(), changed(Rows="7"),
    ]  # fmt: skip
    path.write_bytes(gzip.compress("\n".join([head, *lines, *more, ""]).encode()))
    after = join(layout.find(str(copy)), Rules())
    assert after.records.equals(before.records)
    grown = {
        name: count - before.counts["skipped"].get(name, 0) for name, count in after.counts["skipped"].items()
    }
    assert {name: count for name, count in grown.items() if count} == {
        "bad_time": 2, "bad_id": 3, "view_null": 1, "view_not_frontal": 1, "duplicate": 1,
        "duplicate_conflicting": 1,
    }  # fmt: skip
    assert "other" in after.counts["views"]


def test_empty_tables_give_no_records(copy):
    for path in copy.rglob("*.csv.gz"):
        rewrite(path, lambda text: text.splitlines(keepends=True)[0])
    joined = join(layout.find(str(copy)), Rules())
    assert (joined.records.num_rows, joined.counts["rows"]) == (0, 0)


def test_a_key_with_dots_has_none_in_a_shard():
    assert films.key_of("a-b-c") == "a-b-c"
    keys = {films.key_of(name) for name in ("a.b.c", "a_b.c", "a.b_c", "a_b_c")}
    assert len(keys) == 4
    assert not any("." in key for key in keys)


def test_arrows_pool_is_as_it_was_behind_the_tables():
    def fail():
        with csvs.sparing():
            inside.append(pa.default_memory_pool().backend_name)
            raise BadInput("is cut off")

    inside, before = [], pa.default_memory_pool().backend_name
    with pytest.raises(BadInput):
        fail()
    assert inside == ["system"]
    assert pa.default_memory_pool().backend_name == before


@pytest.mark.parametrize("split", ["official", "hash", "quota", "record"])
def test_a_plan_is_the_same_however_few_records_are_gathered_at_once(found, tmp_path, monkeypatch, split):
    joined = join(found, Rules(window=DAY)).records
    rules = planning.SplitRules(method=split, records=5)
    monkeypatch.setattr(planning, "_ROWS", 4)
    plans = []
    for at_once in (8, 1 << 20):
        monkeypatch.setattr(planning, "_AT_ONCE", at_once)
        folder = tmp_path / str(at_once)
        folder.mkdir()
        planned = planning.plan_records(joined, found.films, rules, found.tables["split"])
        planning.write_plan(folder, planned)
        paths = [str(folder / f"{name}.arrow") for name in splits.SPLITS]
        plans.append([planning.read_rows(path, 0, planning.count_rows(path)).to_pylist() for path in paths])
    few, many = plans
    assert few == many
    assert sum(map(len, many)) > 8
    assert [row["shard"] for row in many[0]] == [at // 5 for at in range(len(many[0]))]
