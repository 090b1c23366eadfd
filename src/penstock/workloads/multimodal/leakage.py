"""Removes sentences from a note that reveal what a radiologist read from the film.

Blind to labels: all patterns, for every record, in every split. A filter that takes out only the findings
which a film has tells the label by what is missing (the published one does: see ``upstream``), and cannot be
applied where the label is not known.
"""

from __future__ import annotations

import re

LEVELS = ("off", "standard", "aggressive")
REDACTED = "[Note heavily redacted due to diagnosis leakage]"

_FINDINGS = {
    "Atelectasis": r"atelecta\w*|collapsed? lungs?|lung collapse|volume loss|linear opacit\w*",
    "Cardiomegaly": r"cardiomegal\w*|enlarged (heart|cardiac\w*)|heart (size|is enlarged)"
    r"|cardiac (enlarge\w*|silhouette)"
    r"|cardiothoracic ratio|ctr ?>",
    "Consolidation": r"consolidat\w*|air ?space opacit\w*|alveolar infiltrat\w*|dense opacit\w*",
    "Edema": r"o?edema|vascular congestion|kerley|interstitial marking\w*|fluid overload|congestive heart"
    r"|chf",
    "Enlarged Cardiomediastinum": r"(enlarged|widen\w*) (cardio)?mediastin\w*|cardiomediastin\w*"
    r"|mediastin\w*",
    "Fracture": r"fractur\w*",
    "Lung Lesion": r"nodul\w*|lung (mass\w*|lesion\w*|cancer)|pulmonary (mass\w*|lesion\w*)|metasta\w*"
    r"|granuloma\w*",
    "Lung Opacity": r"opaci\w*|infiltrat\w*|haz(e|y|iness)",
    "Pleural Effusion": r"effusion\w*|pleural fluid|costophrenic|ha?emothora\w*|hydrothora\w*"
    r"|meniscus sign|layering fluid",
    "Pleural Other": r"pleural (thicken\w*|scar\w*|plaque\w*|calcif\w*)|fibrothorax",
    "Pneumonia": r"pneumonia\w*|infectious process|airspace disease|multilobar|pna",
    "Pneumothorax": r"pneumothora\w*|ptx|air in (the )?pleural|deep sulcus",
    "Support Devices": r"(endotracheal|et|ng|nasogastric|tracheostomy|chest|feeding) tubes?|picc"
    r"|pacemakers?|central (venous )?"
    r"(line|catheter)\w*|port-?a-?cath|sternotomy|icd lead\w*",
}
_RADIOLOGY = (
    r"chest (x-?rays?|radiograph\w*|films?|cxr)|cxr|x-?rays?|pa and lateral|portable (chest|cxr)"
    r"|imaging (show|reveal|demonstrate)\w*"
    r"|radiolog\w*|radiograph\w*|(increased|decreased) (opacity|density|lucency)|ground[- ]glass"
    r"|reticular|miliary|hilar"
    r"|parenchyma\w*|interstitial|compar(ison|ed) (with|to) (the )?prior|interval change|ards"
)
_IMAGING = r"imaging|scans?|ct|mri|ultrasound|echo(cardiogra\w*)?"
_DIAGNOSTIC = (
    r"consistent with|suggestive of|concerning for|(no )?evidence of|ruled out|cannot exclude"
    r"|differential includes|likely represents|compatible with|diagnos\w*"
)
_SPACE = re.compile(r"\s+")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
"""Where a sentence ends: a mark and white space, so that 98.6 is one number, or a line."""


def _whole(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(rf"\b(?:{pattern})(?!\w)" for pattern in patterns), re.IGNORECASE)


_STANDARD = _whole(*_FINDINGS.values(), _RADIOLOGY)
_AGGRESSIVE = _whole(*_FINDINGS.values(), _RADIOLOGY, _IMAGING, _DIAGNOSTIC)


def sentences(text: str) -> list[str]:
    """The sentences of a text, without the white space between them."""
    return [part.strip() for part in _SENTENCE.split(text) if part.strip()]


def leakage_filter(text: str, level: str = "standard") -> tuple[str, int]:
    """A text without the sentences that reveal a finding, and how many were removed.

    Args:
        text: a note.
        level: ``"off"``; ``"standard"``: names and signs of all findings, and words of radiology;
            ``"aggressive"``: also words of imaging and of diagnoses, and nothing but a remark where less than
            a fifth of the letters are left.

    Raises:
        ValueError: another level.
    """
    if level not in LEVELS:
        raise ValueError(f"no such level: {level!r}; known are {', '.join(LEVELS)}")
    if level == "off":
        return text, 0
    pattern = _AGGRESSIVE if level == "aggressive" else _STANDARD
    all_of_them = sentences(text)
    kept = [each for each in all_of_them if not pattern.search(_SPACE.sub(" ", each))]
    left = " ".join(kept)
    if level == "aggressive" and len(left) < 0.2 * len(text):
        left = REDACTED
    return left, len(all_of_them) - len(kept)
