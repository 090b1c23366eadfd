"""Notes and the leakage filter: no label is an input, decimals stay whole, blanks are one token."""

import numpy as np
import pytest

from penstock.workloads.multimodal import labels, layout, leakage, notes
from penstock.workloads.multimodal.joining import Rules, join
from penstock.workloads.multimodal.leakage import leakage_filter


@pytest.fixture(scope="module")
def rows(sample):
    return join(layout.find(str(sample)), Rules()).records.to_pylist()


ROW = {
    "gender": "F", "age": 55, "age_masked": False, "chiefcomplaint": "Chest pain", "medicines": ["aspirin"],
    "temperature": 98.6, "heartrate": 88.0, "resprate": None, "o2sat": 97.0, "sbp": 132.0, "dbp": 75.0,
    "pain": None,
}  # fmt: skip


def test_a_note_leaves_out_what_is_not_known():
    text = notes.write_note(ROW, "cough", "standard").text
    assert text == (
        "Patient is a 55 year old female. Presenting with: Chest pain. Vitals: T: 98.6\u00b0F, HR: 88bpm, "
        "O2: 97%, "
        "SBP: 132mmHg, DBP: 75mmHg. Home medications: aspirin. Indication: cough."
    )
    nothing = dict.fromkeys(ROW) | {"age_masked": False}
    assert notes.write_note(nothing, "", "standard").text == ""
    over = notes.write_note(ROW | {"age": 91, "age_masked": True}, "", "standard")
    assert over.sections["patient"] == "Patient is over 89 years old, female."


def test_no_note_of_the_sample_says_nan_or_none(rows):
    for row in rows:
        text = notes.write_note(row, "", "off").text
        assert "nan" not in text.lower().split()
        assert "none" not in text.lower()
        assert "92 year" not in text


def test_what_de_identification_took_out_is_one_token_and_ends_no_sentence():
    text = notes.plain("___ year old man with cough.  Seen on [**2183-7-20**] by Dr. _______.")
    assert text == "[deid] year old man with cough. Seen on [deid] by Dr. [deid] ."
    assert leakage.sentences("[deid] year old man with cough.") == ["[deid] year old man with cough."]
    assert notes.plain("__ and _ stay") == "__ and _ stay"


def test_a_decimal_is_no_end_of_a_sentence():
    text = "T: 98.6F, HR: 88. No consolidation is seen. Stable."
    assert leakage_filter(text) == ("T: 98.6F, HR: 88. Stable.", 1)


@pytest.mark.parametrize("name", [name for name in labels.LABELS if name != "No Finding"])
def test_every_finding_is_known_to_the_filter(name):
    said = {"Enlarged Cardiomediastinum": "The mediastinum is widened", "Support Devices": "An ET tube "
    "ends there",
            "Pleural Other": "pleural thickening", "Lung Lesion": "a nodule"}.get(name, name)  # fmt: skip
    for text in (said, said.upper(), said.lower()):
        assert leakage_filter(f"Cough. {text}. Fever.") == ("Cough. Fever.", 1)


@pytest.mark.parametrize("text", ["productive cough", "Fever, Cough", "infection",
                                  "Altered mental status", "s/p Fall", "the actual scandal"])  # fmt: skip
def test_words_that_only_contain_a_pattern_stay(text):
    assert leakage_filter(text, "aggressive")[0] == text


def test_upper_case_patterns_match():
    assert leakage_filter("Known CHF. ARDS. CXR pending. Fine.") == ("Fine.", 3)


def test_a_note_of_which_hardly_anything_is_left():
    text = "Pneumonia. " * 20 + "Ok."
    assert leakage_filter(text, "aggressive")[0] == leakage.REDACTED
    assert leakage_filter(text, "standard")[0] == "Ok."
    assert leakage_filter(text, "off") == (text, 0)
    with pytest.raises(ValueError, match="strict"):
        leakage_filter(text, "strict")


def test_labels_at_random_leave_every_note_as_it_is(rows):
    rng = np.random.default_rng(0)
    for row in rows:
        other = row | {"labels": rng.integers(-1, 2, 14).tolist()}
        assert notes.write_note(other, "", "standard") == notes.write_note(row, "", "standard")


def test_what_is_missing_tells_no_label(rows):
    """The same sentences are taken from every note, so no flag tells a label: an AUC of 0.5."""
    text = "Kerley B lines may be visible. Findings include lobar consolidation. Fever is common."
    left = {leakage_filter(text) for _ in rows}
    assert left == {("Fever is common.", 2)}


def test_only_the_question_of_a_report_is_read():
    report = (
        "  FINAL REPORT\n EXAMINATION:  CHEST RADIOGRAPH\n\n INDICATION:  ___ year old woman with\n  sob\n\n"
        " COMPARISON:  ___.\n\n FINDINGS:\n\n Consolidation. HISTORY of this: none\n\n IMPRESSION:\n\n Bad.\n"
    )
    assert notes.question(report) == "[deid] year old woman with sob"
    assert notes.question("FINDINGS: clear") == ""
    assert notes.question("") == ""


def test_reports_that_are_missing_empty_or_of_another_code(sample, oracle, tmp_path):
    cases = {row["edge_case"]: row for row in oracle["defects"]}
    found = layout.find(str(sample))
    for case, expected in (("19", ""), ("20", "missing"), ("21", "not_utf8"), ("22", "empty")):
        row = cases[case]
        path = found.reports / layout.report_path(int(row["subject_id"]), int(row["study_id"]))
        text, flag = notes.read_report(path)
        assert flag == expected
        assert bool(text) == (expected in ("", "not_utf8"))
        if text:
            assert notes.question(text).startswith("[deid] year old")
    (tmp_path / "folder").mkdir()
    assert notes.read_report(tmp_path / "folder") == ("", "missing")


def test_abbreviations_are_spelled_out_for_the_search_only_as_whole_words():
    assert notes.as_query("SOB, N/V; s/p fall. Sobering CPR.") == (
        "shortness of breath, nausea and vomiting; status post fall. sobering cpr."
    )
