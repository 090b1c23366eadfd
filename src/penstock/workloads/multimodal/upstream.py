"""The published program's texts of a record, with its faults: ``--compat upstream``.

Its filter takes out sentences about the findings that a film has, so that what is missing tells the label
(Edema can be read off its notes with an AUC of 1), its age is always None, and the context is the same two
texts for everybody.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from penstock.workloads.multimodal.clinical import VITALS
from penstock.workloads.multimodal.labels import LABELS
from penstock.workloads.multimodal.leakage import REDACTED

WARNING = (
    "compat upstream: the leakage filter depends on the labels, so that they can be read off what is "
    "missing in a "
    "note; triage and vital signs may be later than the film; the age is missing; records of one patient "
    "may be "
    "in several splits. Results of a model that learns from this are not to be trusted."
)
_NAMES = dict(zip(VITALS, ("T", "HR", "RR", "O2", "SBP", "DBP"), strict=True))
_UNITS = dict(zip(VITALS, ("\u00b0F", "bpm", "/min", "%", "mmHg", "mmHg"), strict=True))
_KNOWN = (
    "Pneumonia typically presents with fever, productive cough, and consolidation on chest X-ray. Common "
    "findings "
    "include air bronchograms and lobar consolidation.",
    "Congestive heart failure shows cardiomegaly, pulmonary edema, and pleural effusions on chest X-ray. "
    "Kerley B "
    "lines may be visible.",
)
CONTEXT = "\n[Clinical Context]: " + " ".join((_KNOWN[0], _KNOWN[1], _KNOWN[1]))
_PATTERNS = {
    "Atelectasis": r"atelecta\w*|collapse\w*\s*lung|volume\s*loss|subsegmental\s*collapse|linear\s*opacity",
    "Cardiomegaly": r"cardiomegal\w*|enlarge\w*\s*heart|cardiac\s*enlarge\w*|heart\s*size"
    r"|cardiac\s*silhouette"
    r"|cardiothoracic\s*ratio",
    "Consolidation": r"consolidat\w*|air\s*?space\s*opacit\w*|alveolar\s*infiltrat\w*|lobar\s*pneumonia"
    r"|dense\s*opacit\w*",
    "Edema": r"edema|vascular\s*congestion|kerley\s*[ab]\s*lines|interstitial\s*marking|fluid\s*overload"
    r"|congestive\s*heart",
    "Pleural Effusion": r"effusion|pleural\s*fluid|costophrenic\s*angle|hemothorax|hydrothorax"
    r"|meniscus\s*sign"
    r"|layering\s*fluid|blunt\w*\s*costophrenic",
    "Pneumonia": r"pneumonia|infectious\s*process|infiltrat\w*|airspace\s*disease|focal\s*opacit\w*"
    r"|multilobar",
    "Pneumothorax": r"pneumothora\w*|collapsed?\s*lung|air\s*in\s*pleural|tension\s*pneumo"
    r"|visceral\s*pleural\s*line|deep\s*sulcus",
}
_RADIOLOGY = (
    r"chest\s*(?:x-?ray|radiograph|film|cxr)|pa\s*and\s*lateral|portable\s*(?:chest|cxr)"
    r"|imaging\s*(?:show|reveal|demonstrate)|radiolog\w*\s*(?:finding|report|impression)"
    r"|(?:increased|decreased)\s*(?:opacity|density|lucency)|ground[- ]glass|reticular|nodular|miliary|hilar"
    r"|mediastin\w*|parenchyma\w*|interstitial|radiograph\w*\s*(?:normal|clear|unremarkable)"
    r"|comparison\s*(?:with|to)\s*prior|interval\s*change"
)
_IMAGING = ("imaging", "scan", "ct", "mri", "ultrasound", "echo")
_DIAGNOSTIC = (
    "consistent with", "suggestive of", "concerning for", "evidence of", "no evidence", "ruled out",
    "cannot exclude", "differential includes", "likely represents", "compatible with",
)  # fmt: skip


def pseudo_note(row: Mapping[str, Any]) -> str:
    """The note of a record: missing numbers print as nan, or not at all if later rows have none."""
    parts = [f"Patient is a None year old {row['gender']}."]
    if row["has_triage"]:
        complaint = row["chiefcomplaint"]
        parts.append(f"Presenting with: {'nan' if complaint is None else complaint}.")
    signs = [
        f"{_NAMES[name]}: {value}{_UNITS[name]}"
        for name in VITALS
        if (value := _printed(row, name)) is not None
    ]
    if signs:
        parts.append(f"Vitals: {', '.join(signs)}.")
    return " ".join(parts)


def _printed(row: Mapping[str, Any], name: str) -> float | None:
    if row[name] is not None:
        return float(row[name])
    return float("nan") if row["has_triage"] and not row["has_signs"] else None


def positive_findings(labels: Sequence[int]) -> list[str]:
    """Names of the labels that are 1, except No Finding."""
    return [name for name, value in zip(LABELS, labels, strict=True) if value == 1 and name != "No Finding"]


def leakage_filter(text: str, findings: Sequence[str], *, aggressive: bool) -> tuple[str, int]:
    """The note without sentences that name its own findings, and how many were removed."""
    kept, dropped = [], 0
    for sentence in text.split("."):
        lower = sentence.lower()
        leaks = any(re.search(_PATTERNS[name], lower) for name in findings if name in _PATTERNS)
        leaks = leaks or re.search(_RADIOLOGY, lower) is not None
        if aggressive:
            leaks = leaks or any(word in lower for word in (*_IMAGING, *_DIAGNOSTIC))
        if leaks:
            dropped += 1
        else:
            kept.append(sentence)
    left = ". ".join(kept).strip()
    return (REDACTED if aggressive and len(left) < 0.2 * len(text) else left), dropped
