"""What the sample's records are by default, by nothing but csv and datetime: an oracle for the joins.

Shares no code with the workload. Rules: a film belongs to the stay that it was taken in; triage counts from
the arrival; of vital signs the latest until the film; everybody over 89 is 91; labels are as they stand.
"""

import csv
import gzip
from datetime import datetime

VITALS = ["temperature", "heartrate", "resprate", "o2sat", "sbp", "dbp"]
LABELS = ["Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Enlarged Cardiomediastinum", "Fracture",
          "Lung Lesion", "Lung Opacity", "No Finding", "Pleural Effusion", "Pleural Other", "Pneumonia",
          "Pneumothorax", "Support Devices"]  # fmt: skip


def rows(path):
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def when(text):
    return datetime.strptime(text, "%Y-%m-%d %H:%M:%S")


def number(text):
    try:
        return float(text)
    except ValueError:
        return None


def records(root, hours=None):
    """A dict for each film with a stay, in the order of the file, the first of each dicom_id.

    Args:
        root: of the download.
        hours: films so far from the arrival count too.
    """
    cxr, ed = root / "mimic-cxr-jpg/2.1.0", root / "mimic-iv-ed/2.2/ed"
    stays, signs, medicines = {}, {}, {}
    for row in rows(ed / "edstays.csv.gz"):
        stays.setdefault(row["subject_id"], []).append(row)
    triage = {row["stay_id"]: row for row in reversed(rows(ed / "triage.csv.gz"))}
    for row in rows(ed / "vitalsign.csv.gz"):
        signs.setdefault(row["stay_id"], []).append(row)
    for row in rows(ed / "medrecon.csv.gz"):
        medicines.setdefault(row["stay_id"], []).append(row)
    labels = {row["study_id"]: row for row in rows(cxr / "mimic-cxr-2.0.0-chexpert.csv.gz")}
    people = {row["subject_id"]: row for row in rows(root / "mimiciv/3.1/hosp/patients.csv.gz")}
    found, seen = [], set()
    for line, film in enumerate(rows(cxr / "mimic-cxr-2.0.0-metadata.csv.gz")):
        if film["ViewPosition"] not in ("AP", "PA") or film["dicom_id"] in seen:
            continue
        seen.add(film["dicom_id"])
        taken = datetime.strptime(
            film["StudyDate"] + film["StudyTime"].split(".")[0].zfill(6), "%Y%m%d%H%M%S"
        )
        stay = best_stay(stays.get(film["subject_id"], []), taken, hours)
        if stay is not None:
            record = {"row": line, **{name: film[name] for name in ("dicom_id", "subject_id", "study_id")}}
            record |= clinical(stay, taken, triage, signs, medicines, people[film["subject_id"]])
            label = labels.get(film["study_id"])
            record["labels"] = [number(label[name]) if label else None for name in LABELS]
            found.append(record)
    return found


def best_stay(stays, taken, hours):
    best = None
    for stay in stays:
        inside = when(stay["intime"]) <= taken <= when(stay["outtime"])
        distance = abs((taken - when(stay["intime"])).total_seconds())
        if inside or (hours is not None and distance <= hours * 3600):
            rank = (not inside, distance, when(stay["intime"]), int(stay["stay_id"]))
            if best is None or rank < best[0]:
                best = (rank, stay)
    return best and best[1]


def clinical(stay, taken, triage, signs, medicines, person):
    arrived, name = when(stay["intime"]), stay["stay_id"]
    first = triage.get(name) if arrived <= taken else None
    values = {vital: number(first[vital]) if first else None for vital in VITALS}
    earlier = [row for row in signs.get(name, []) if when(row["charttime"]) <= taken]
    for row in sorted(earlier, key=lambda row: row["charttime"]):
        values |= {vital: number(row[vital]) for vital in VITALS if number(row[vital]) is not None}
    celsius = values["temperature"] is not None and 30 <= values["temperature"] <= 43
    if celsius:
        values["temperature"] = None
    anchor = int(person["anchor_age"])
    age = anchor + arrived.year - int(person["anchor_year"])
    taken_before = sorted(
        (row["charttime"], row["name"]) for row in medicines.get(name, []) if when(row["charttime"]) <= taken
    )
    pain = number(first["pain"]) if first else None
    return {
        "stay_id": name,
        "relation": "before" if taken < arrived else "after" if taken > when(stay["outtime"]) else "inside",
        "vitals": values,
        "celsius": celsius,
        "pain": pain if pain is not None and 0 <= pain <= 10 else None,
        "acuity": number(first["acuity"]) if first else None,
        "chiefcomplaint": first["chiefcomplaint"] or None if first else None,
        "gender": stay["gender"],
        "age": 91 if anchor >= 90 or age > 89 else age if age >= 0 else None,
        "age_masked": anchor >= 90 or age > 89,
        "medicines": list(dict.fromkeys(name for _, name in taken_before))[:5],
    }
