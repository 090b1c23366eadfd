"""The note of a record, section by section, from what was known before anybody read the film.

Of a report only the question to the radiologist (INDICATION and the like) is taken: FINDINGS and IMPRESSION
are
the answer. No label is an input of anything here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from penstock import foreign
from penstock.files import is_file
from penstock.workloads.multimodal.clinical import VITALS
from penstock.workloads.multimodal.csvs import decoded
from penstock.workloads.multimodal.leakage import REDACTED, leakage_filter

DEID = "[deid]"
"""Stands where de-identification took something out; one token."""
_BLANK = re.compile(r"_{3,}|\[\*\*.*?\*\*\]", re.DOTALL)
_SPACE = re.compile(r"[\s\x00-\x1f\x7f]+")
_HEADING = re.compile(r"^[ \t]*([A-Z][A-Z /]{2,40}):", re.MULTILINE)
_QUESTIONS = frozenset(
    ("INDICATION", "INDICATIONS", "HISTORY", "CLINICAL HISTORY", "CLINICAL INFORMATION", "CLINICAL "
    "INDICATION",
     "REASON FOR EXAM", "REASON FOR EXAMINATION", "REASON FOR THIS EXAMINATION")
)  # fmt: skip
_NAMES = dict(zip(VITALS, ("T", "HR", "RR", "O2", "SBP", "DBP"), strict=True))
_UNITS = dict(zip(VITALS, ("\u00b0F", "bpm", "/min", "%", "mmHg", "mmHg"), strict=True))
_GENDERS = {"M": "male", "F": "female"}
_LARGEST_REPORT = 1 << 20
_ABBREVIATIONS = {
    "sob": "shortness of breath", "cp": "chest pain", "abd": "abdominal", "n/v": "nausea and vomiting",
    "s/p": "status post",
    "ams": "altered mental status", "ili": "influenza like illness",
    "doe": "dyspnea on exertion",
    "htn": "hypertension", "dm": "diabetes", "copd": "chronic obstructive pulmonary disease",
    "hr": "heart rate",
    "rr": "respiratory rate", "fx": "fracture", "loc": "loss of consciousness",
}  # fmt: skip
_LONG_FIRST = sorted(_ABBREVIATIONS, key=len, reverse=True)
_ABBREVIATION = re.compile(rf"(?<![\w/])(?:{'|'.join(map(re.escape, _LONG_FIRST))})(?![\w/])")


@dataclass(frozen=True)
class Note:
    """A note's sections, after the leakage filter.

    Attributes:
        sections: name -> text, in order; sections of which nothing is left are not there.
        removed: how many sentences the filter took out.
    """

    sections: Mapping[str, str]
    removed: int

    @property
    def text(self) -> str:
        """The sections as one text."""
        return " ".join(self.sections.values())


def plain(text: str) -> str:
    """A text on one line, with one mark for each place that de-identification blanked."""
    return _SPACE.sub(" ", _BLANK.sub(f" {DEID} ", text)).strip()


def write_note(row: Mapping[str, Any], indication: str, level: str) -> Note:
    """The note of a record.

    Args:
        row: of the joined table.
        indication: from the report, or nothing.
        level: of the leakage filter.
    """
    whole = {
        "patient": _patient(row),
        "complaint": _sentence("Presenting with", row["chiefcomplaint"]),
        "vitals": _vitals(row),
        "medicines": _sentence("Home medications", ", ".join(row["medicines"] or ())),
        "indication": _sentence("Indication", indication),
    }
    sections, removed = {}, 0
    for name, text in whole.items():
        # Not aggressive's remark, which is about the note as a whole.
        left, gone = leakage_filter(text, level)
        removed += gone
        if left and left != REDACTED:
            sections[name] = left
    total = sum(map(len, whole.values()))
    if level == "aggressive" and sum(map(len, sections.values())) < 0.2 * total:
        sections = {"patient": REDACTED}
    return Note(sections, removed)


def question(report: str) -> str:
    """The clinical question: the INDICATION, HISTORY or REASON FOR EXAM of a report."""
    found = []
    headings = list(_HEADING.finditer(report))
    ends = [heading.start() for heading in headings[1:]] + [len(report)]
    for heading, end in zip(headings, ends, strict=False):
        if heading[1].strip() in _QUESTIONS:
            found.append(plain(report[heading.end() : end]))
    return " ".join(part for part in found if part)


def read_report(path: Path) -> tuple[str, str]:
    """A report's text, and what was odd about it.

    Returns:
        The text; and ``""``, ``"missing"``, ``"unreadable"``, ``"empty"`` or ``"not_utf8"``.
    """
    if not is_file(path):
        return "", "missing"
    try:
        with foreign.opened(path) as file:
            content = file.read(_LARGEST_REPORT)
    except OSError:
        return "", "unreadable"
    if not content.strip():
        return "", "empty"
    try:
        return content.decode("utf-8"), ""
    except UnicodeDecodeError:
        return decoded(content), "not_utf8"


def as_query(text: str) -> str:
    """A note as a retrieval query: lower case, abbreviations spelled out."""
    return _ABBREVIATION.sub(lambda found: _ABBREVIATIONS[found[0]], plain(text).lower())


def _patient(row: Mapping[str, Any]) -> str:
    gender = _GENDERS.get(row["gender"] or "", "")
    if row["age_masked"]:
        return f"Patient is over 89 years old{f', {gender}' if gender else ''}."
    if row["age"] is None:
        return f"Patient is {gender}." if gender else ""
    return f"Patient is a {row['age']} year old{f' {gender}' if gender else ''}."


def _vitals(row: Mapping[str, Any]) -> str:
    signs = [f"{_NAMES[name]}: {row[name]:g}{_UNITS[name]}" for name in VITALS if row[name] is not None]
    if row["pain"] is not None:
        signs.append(f"Pain: {row['pain']:g}/10")
    return f"Vitals: {', '.join(signs)}." if signs else ""


def _sentence(heading: str, text: str | None) -> str:
    said = plain(text or "")
    return f"{heading}: {said}{'' if said.endswith(('.', '!', '?')) else '.'}" if said else ""


def clock(seconds: int) -> str:
    """Seconds since 1970 as ``2183-07-20T04:19:32``; no date of this data is in this century."""
    from datetime import datetime

    return (datetime(1970, 1, 1) + timedelta(seconds=seconds)).isoformat()
