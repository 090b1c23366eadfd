"""Synthetic MIMIC-IV / MIMIC-IV-ED / MIMIC-CXR-JPG look-alike (no real person, no real text).

Writes the PhysioNet folder layout, file names and column names with invented people, so that a
preprocessing pipeline can be tested without credentialed data.  Needs numpy + Pillow only.

    make_input.py OUT --subjects 60 --seed 7 --scale 0.15          # small
    make_input.py OUT --subjects 40000 --distinct-images 64        # 100k-record layout, few bytes

Properties: rows are streamed (memory does not grow with --subjects); subject i's rows depend only
on (seed, i), never on --subjects (prefix-stable); CSV bytes are reproducible (gzip mtime 0); JPEG
bytes are reproducible for one Pillow version.  Subjects 0..27 are fixed edge cases unless
--no-edge-cases; --defects P breaks a random share P of the other images.
Ground truth of what was broken goes to OUT/_truth/defects.csv (not part of the MIMIC layout).
"""

import argparse
import csv
import datetime as dt
import gzip
import hashlib
import io
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

META = [
    "dicom_id",
    "subject_id",
    "study_id",
    "PerformedProcedureStepDescription",
    "ViewPosition",
    "Rows",
    "Columns",
    "StudyDate",
    "StudyTime",
    "ProcedureCodeSequence_CodeMeaning",
    "ViewCodeSequence_CodeMeaning",
    "PatientOrientationCodeSequence_CodeMeaning",
]
LABELS = [
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Enlarged Cardiomediastinum",
    "Fracture",
    "Lung Lesion",
    "Lung Opacity",
    "No Finding",
    "Pleural Effusion",
    "Pleural Other",
    "Pneumonia",
    "Pneumothorax",
    "Support Devices",
]
T = {  # relative path -> columns
    "cxr/mimic-cxr-2.0.0-metadata.csv": META,
    "cxr/mimic-cxr-2.0.0-split.csv": ["dicom_id", "study_id", "subject_id", "split"],
    "cxr/mimic-cxr-2.0.0-chexpert.csv": ["subject_id", "study_id", *LABELS],
    "cxr/mimic-cxr-2.0.0-negbio.csv": ["subject_id", "study_id", *LABELS],
    "rep/cxr-record-list.csv": ["subject_id", "study_id", "dicom_id", "path"],
    "rep/cxr-study-list.csv": ["subject_id", "study_id", "path"],
    "iv/hosp/patients.csv": ["subject_id", "gender", "anchor_age", "anchor_year", "anchor_year_group", "dod"],
    "iv/hosp/admissions.csv": [
        "subject_id",
        "hadm_id",
        "admittime",
        "dischtime",
        "deathtime",
        "admission_type",
        "admit_provider_id",
        "admission_location",
        "discharge_location",
        "insurance",
        "language",
        "marital_status",
        "race",
        "edregtime",
        "edouttime",
        "hospital_expire_flag",
    ],
    "iv/hosp/diagnoses_icd.csv": ["subject_id", "hadm_id", "seq_num", "icd_code", "icd_version"],
    "iv/hosp/d_labitems.csv": ["itemid", "label", "fluid", "category"],
    "iv/hosp/labevents.csv": [
        "labevent_id",
        "subject_id",
        "hadm_id",
        "specimen_id",
        "itemid",
        "order_provider_id",
        "charttime",
        "storetime",
        "value",
        "valuenum",
        "valueuom",
        "ref_range_lower",
        "ref_range_upper",
        "flag",
        "priority",
        "comments",
    ],
    "iv/hosp/prescriptions.csv": [
        "subject_id",
        "hadm_id",
        "pharmacy_id",
        "poe_id",
        "poe_seq",
        "order_provider_id",
        "starttime",
        "stoptime",
        "drug_type",
        "drug",
        "formulary_drug_cd",
        "gsn",
        "ndc",
        "prod_strength",
        "form_rx",
        "dose_val_rx",
        "dose_unit_rx",
        "form_val_disp",
        "form_unit_disp",
        "doses_per_24_hrs",
        "route",
    ],
    "ed/ed/edstays.csv": [
        "subject_id",
        "hadm_id",
        "stay_id",
        "intime",
        "outtime",
        "gender",
        "race",
        "arrival_transport",
        "disposition",
    ],
    "ed/ed/triage.csv": [
        "subject_id",
        "stay_id",
        "temperature",
        "heartrate",
        "resprate",
        "o2sat",
        "sbp",
        "dbp",
        "pain",
        "acuity",
        "chiefcomplaint",
    ],
    "ed/ed/vitalsign.csv": [
        "subject_id",
        "stay_id",
        "charttime",
        "temperature",
        "heartrate",
        "resprate",
        "o2sat",
        "sbp",
        "dbp",
        "rhythm",
        "pain",
    ],
    "ed/ed/diagnosis.csv": ["subject_id", "stay_id", "seq_num", "icd_code", "icd_version", "icd_title"],
    "ed/ed/medrecon.csv": [
        "subject_id",
        "stay_id",
        "charttime",
        "name",
        "gsn",
        "ndc",
        "etc_rn",
        "etccode",
        "etcdescription",
    ],
    "ed/ed/pyxis.csv": ["subject_id", "stay_id", "charttime", "med_rn", "name", "gsn_rn", "gsn"],
}
ROOTS = {"cxr": "mimic-cxr-jpg/2.1.0", "rep": "mimic-cxr/2.1.0", "iv": "mimiciv/3.1", "ed": "mimic-iv-ed/2.2"}
LABITEMS = [
    (51301, "White Blood Cells", "K/uL", 4, 10),
    (50912, "Creatinine", "mg/dL", 0.5, 1.2),
    (50963, "NTproBNP", "pg/mL", 0, 300),
    (51222, "Hemoglobin", "g/dL", 12, 16),
]
COMPLAINTS = [
    "Chest pain",
    "SOB",
    "Dyspnea",
    "Fever, Cough",
    "Abd pain",
    "s/p Fall",
    "Altered mental status",
    "Weakness",
    "Syncope",
    "N/V",
    "Headache",
    "Cough, sob",
    "Hypotension",
    "ILI",
    "CP and fatigue",
]
RACES = ["WHITE", "BLACK/AFRICAN AMERICAN", "HISPANIC/LATINO", "ASIAN", "UNKNOWN", "OTHER"]
MEDS = [
    "furosemide",
    "aspirin",
    "lisinopril",
    "albuterol sulfate",
    "metformin",
    "ceftriaxone",
    "azithromycin",
]
ICD = [
    ("J189", 10, "PNEUMONIA, UNSPECIFIED ORGANISM"),
    ("I509", 10, "HEART FAILURE, UNSPECIFIED"),
    ("R0789", 10, "OTHER CHEST PAIN"),
    ("78650", 9, "CHEST PAIN NOS"),
    ("J9600", 10, "ACUTE RESPIRATORY FAILURE"),
]
NEG = {
    "Pneumonia": "There is no focal consolidation to suggest pneumonia.",
    "Pleural Effusion": "There is no pleural effusion.",
    "Pneumothorax": "No pneumothorax is seen.",
    "Cardiomegaly": "The cardiac silhouette is normal in size.",
}
POS = {
    "Atelectasis": "Bibasilar atelectasis is present.",
    "Cardiomegaly": "There is moderate cardiomegaly.",
    "Consolidation": "Consolidation is seen in the right lower lobe.",
    "Edema": "Mild interstitial pulmonary edema.",
    "Enlarged Cardiomediastinum": "The mediastinum is widened.",
    "Fracture": "There is a healed rib fracture.",
    "Lung Lesion": "A nodule projects over the left upper lobe.",
    "Lung Opacity": "Patchy opacity at the left base.",
    "No Finding": "Normal chest radiograph.",
    "Pleural Effusion": "Small bilateral pleural effusions.",
    "Pleural Other": "Biapical pleural thickening.",
    "Pneumonia": "Findings compatible with pneumonia.",
    "Pneumothorax": "Small left apical pneumothorax.",
    "Support Devices": "An ET tube ends 4 cm above the carina.",
}
BROKEN = ["missing", "zero_byte", "truncated", "not_an_image", "cmyk", "png16", "rgb"]


def radiograph(rng, h, w):
    """Smooth chest-like grey picture with film-like grain; (h, w) uint8."""
    sh, sw = max(24, h // 8), max(20, w // 8)
    y, x = np.mgrid[0 : 1 : sh * 1j, 0 : 1 : sw * 1j].astype(np.float32)
    cx = 0.5 + rng.normal(0, 0.02)
    img = 190 * np.exp(-(((x - cx) / 0.42) ** 4) - ((y - 0.55) / 0.62) ** 4)
    for s in (-1, 1):  # lungs
        a, b = rng.uniform(0.13, 0.18), rng.uniform(0.26, 0.34)
        img -= rng.uniform(95, 125) / (
            1 + np.exp(np.minimum(60, 12 * (((x - cx - s * 0.2) / a) ** 2 + ((y - 0.45) / b) ** 2 - 1)))
        )
    img += 40 * np.exp(-(((x - cx) / 0.05) ** 2))  # spine
    img += rng.uniform(40, 70) * np.exp(-(((x - cx - 0.07) / 0.13) ** 2) - ((y - 0.62) / 0.14) ** 2)  # heart
    img += (
        9 * np.sin(2 * np.pi * (y * rng.uniform(9, 12) + 1.6 * (x - cx) ** 2)) * (np.abs(x - cx) > 0.06)
    )  # ribs
    for k, amp in ((6, 9.0), (24, 5.0), (96, 3.0)):  # soft tissue
        n = Image.fromarray(rng.normal(0, amp, (min(k, sh), min(k, sw))).astype(np.float32))
        img += np.asarray(n.resize((sw, sh), Image.BICUBIC))
    img = np.asarray(Image.fromarray(img).resize((w, h), Image.BICUBIC)).copy()
    im = Image.fromarray(np.clip(img, 0, 255).astype(np.uint8))
    d = ImageDraw.Draw(im)
    k = w / 2544  # sharp parts:
    mx, my = int(w * rng.uniform(0.05, 0.12)), int(h * rng.uniform(0.05, 0.15))  # side marker "L"
    d.rectangle([mx, my, mx + 45 * k, my + 190 * k], fill=250)
    d.rectangle([mx, my + 150 * k, mx + 130 * k, my + 190 * k], fill=250)
    if rng.random() < 0.5:  # monitor lead
        ex, ey = w * rng.uniform(0.3, 0.7), h * rng.uniform(0.25, 0.6)
        r = 38 * k
        d.line([ex, ey, ex + w * 0.1, h * 0.8, w * 0.9, h], fill=245, width=max(1, int(10 * k)))
        d.ellipse([ex - r, ey - r, ex + r, ey + r], fill=252)
    img = np.asarray(im).astype(np.float32)
    t = rng.normal(0, 2.2, (min(h, 512), min(w, 512))).astype(np.float32)  # grain tile
    img += np.tile(t, (-(-h // t.shape[0]), -(-w // t.shape[1])))[:h, :w]
    return np.clip(img, 0, 255).astype(np.uint8)


def jpeg_bytes(arr, q, mode=None, exif_orientation=None):
    im, b, kw = Image.fromarray(arr), io.BytesIO(), {}
    if mode:
        im = im.convert(mode)
    if exif_orientation:
        e = Image.Exif()
        e[0x0112] = exif_orientation
        kw["exif"] = e
    im.save(b, "JPEG", quality=q, **kw)
    return b.getvalue()


class Sink:
    def __init__(self, out, plain):
        self.f, self.plain = {}, plain
        for rel, cols in T.items():
            root, name = rel.split("/", 1)
            p = out / ROOTS[root] / name
            p.parent.mkdir(parents=True, exist_ok=True)
            raw = open(str(p) + ".gz", "wb")  # noqa: SIM115 (closed in close)
            gz = gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0)
            fs = [(io.TextIOWrapper(gz, encoding="utf-8", newline=""), raw)]
            if plain:
                fs.append((open(p, "w", encoding="utf-8", newline=""), None))  # noqa: SIM115
            self.f[rel] = [(csv.writer(t, lineterminator="\n"), t, r) for t, r in fs]
            self.row(rel, cols)
        self.names = open(out / ROOTS["cxr"] / "IMAGE_FILENAMES", "w")  # noqa: SIM115

    def row(self, rel, vals):
        for wr, _, _ in self.f[rel]:
            wr.writerow(vals)

    def close(self):
        for lst in self.f.values():
            for _, t, raw in lst:
                t.close()
                if raw:
                    raw.close()
        self.names.close()


def ts(t):
    return t.strftime("%Y-%m-%d %H:%M:%S")


def vit(rng, p_nan=0.06):
    v = [
        round(float(rng.normal(98.3, 1.1)), 1),
        int(rng.normal(88, 18)),
        int(rng.normal(18, 3)),
        int(min(100, rng.normal(97, 2.5))),
        int(rng.normal(132, 22)),
        int(rng.normal(75, 14)),
    ]
    return ["" if rng.random() < p_nan else k for k in v]


class Maker:
    def __init__(self, a):
        self.a, self.out = a, Path(a.out)
        self.s = Sink(self.out, a.plain_csv)
        for it, lab, *_r in LABITEMS:
            self.s.row("iv/hosp/d_labitems.csv", [it, lab, "Blood", "Chemistry"])
        self.truth = []
        self.pool = ThreadPoolExecutor(a.threads)
        self.pending, self.n_img, self.templates, self.lab = [], 0, {}, 0

    def emit_image(self, path, dicom, h, w, kind):
        a = self.a
        if kind == "missing":
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        self.n_img += 1
        if a.distinct_images and kind in ("ok",):
            k = int(hashlib.md5(dicom.encode()).hexdigest(), 16) % a.distinct_images
            if k not in self.templates:
                self.write_image(path, f"template{k}", *a.base_hw, "ok")
                self.templates[k] = path
            else:
                os.link(self.templates[k], path)
            return
        self.pending.append(self.pool.submit(self.write_image, path, dicom, h, w, kind))
        if len(self.pending) >= 4 * a.threads:
            self.pending.pop(0).result()

    def write_image(self, path, dicom, h, w, kind):
        q = self.a.quality
        rng = np.random.default_rng([self.a.seed, int(hashlib.md5(dicom.encode()).hexdigest()[:8], 16)])
        if kind == "zero_byte":
            path.write_bytes(b"")
            return
        if kind == "not_an_image":
            path.write_bytes(b"<html><body>403 Forbidden: requester pays</body></html>\n")
            return
        if kind == "one_pixel":
            path.write_bytes(jpeg_bytes(np.full((1, 1), 128, np.uint8), q))
            return
        if kind == "flat":
            path.write_bytes(jpeg_bytes(np.full((h, w), 90, np.uint8), q))
            return
        g = radiograph(rng, h, w)
        if kind == "png16":
            b = io.BytesIO()
            Image.fromarray(g.astype(np.uint16) << 8).save(b, "PNG")
            path.write_bytes(b.getvalue())
            return
        if kind == "cmyk":
            path.write_bytes(jpeg_bytes(np.dstack([g] * 3), q, "CMYK"))
            return
        if kind == "rgb":
            path.write_bytes(jpeg_bytes(np.dstack([g] * 3), q))
            return
        if kind == "exif6":
            path.write_bytes(jpeg_bytes(g, q, None, 6))
            return
        b = jpeg_bytes(g, q)
        path.write_bytes(b[: len(b) * 6 // 10] if kind == "truncated" else b)

    def subject(self, i):
        a, s = self.a, self.s
        rng = np.random.default_rng([a.seed, 1000003, i])
        edge = i if (a.edge_cases and i < 28) else -1
        sid = 10000032 + i * 37 + int(rng.integers(0, 30))
        gender, age = "MF"[int(rng.integers(2))], int(rng.integers(18, 92))
        age = 91 if age > 89 else age  # as MIMIC stores everybody over 89
        year = int(rng.integers(2110, 2200))
        race = RACES[int(rng.integers(len(RACES)))]
        s.row(
            "iv/hosp/patients.csv",
            [sid, gender, age, year, "2011 - 2013", f"{year + 1}-03-04" if rng.random() < 0.1 else ""],
        )
        r = rng.random()
        split = "train" if r < 0.9 else "validate" if r < 0.95 else "test"  # official file is patient-level
        base = dt.datetime(
            year,
            int(rng.integers(1, 12)),
            int(rng.integers(1, 28)),
            int(rng.integers(0, 24)),
            int(rng.integers(60)),
            int(rng.integers(60)),
        )
        # ED stays
        n_stay = int(rng.choice([0, 1, 2, 3, 4], p=[0.30, 0.40, 0.17, 0.08, 0.05]))
        if edge >= 0:
            n_stay = {5: 0, 3: 2}.get(edge, 1)
        stays = []
        for k in range(n_stay):
            intime = base + dt.timedelta(
                days=k * int(rng.integers(20, 200)), minutes=int(rng.integers(0, 600))
            )
            if edge == 3:
                intime = base + dt.timedelta(hours=10 * k)  # two stays inside 24 h
            stay, admitted = 30000000 + i * 16 + k, rng.random() < 0.5
            hadm = 20000000 + i * 16 + k if admitted else ""
            out = intime + dt.timedelta(hours=float(rng.uniform(2, 14)))
            s.row(
                "ed/ed/edstays.csv",
                [
                    sid,
                    hadm,
                    stay,
                    ts(intime),
                    ts(out),
                    gender,
                    race,
                    ["AMBULANCE", "WALK IN", "UNKNOWN"][int(rng.integers(3))],
                    "ADMITTED" if admitted else "HOME",
                ],
            )
            if edge != 10 and not (edge < 0 and rng.random() < 0.01):
                pain = rng.choice(["0", "3", "5", "8", "10", "13", "unable", "uta", "", "7-8"])
                cc = COMPLAINTS[int(rng.integers(len(COMPLAINTS)))]
                if edge == 23:
                    cc = 'Chest pain, "crushing"\nradiating \u2192 arm \u00e9\U0001f494'
                if rng.random() < 0.03 and edge < 0:
                    cc = ""
                v = vit(rng)
                if edge == 11:
                    v = ["", "", "", "", "", ""]
                if rng.random() < 0.02 and v[0] != "":
                    v[0] = round((v[0] - 32) / 1.8, 1)  # Celsius slip
                s.row(
                    "ed/ed/triage.csv",
                    [sid, stay, *v, pain, "" if rng.random() < 0.03 else int(rng.integers(1, 6)), cc],
                )
            times = sorted(
                intime + dt.timedelta(minutes=float(rng.uniform(5, 600)))
                for _ in range(int(rng.integers(0, 5)))
            )
            if edge == 11:
                times = [
                    intime + dt.timedelta(hours=3),
                    intime + dt.timedelta(hours=1),
                ]  # unsorted file order
            for t in times:
                s.row(
                    "ed/ed/vitalsign.csv",
                    [sid, stay, ts(t), *vit(rng, 0.15), "" if rng.random() < 0.8 else "Sinus Rhythm", "0"],
                )
            c = ICD[int(rng.integers(len(ICD)))]
            s.row("ed/ed/diagnosis.csv", [sid, stay, 1, *c])
            for m in rng.choice(MEDS, int(rng.integers(0, 4)), replace=False):
                s.row(
                    "ed/ed/medrecon.csv",
                    [sid, stay, ts(intime), m, "008209", "0", 1, "00000297", "synthetic class"],
                )
            if rng.random() < 0.5:
                s.row(
                    "ed/ed/pyxis.csv",
                    [sid, stay, ts(intime + dt.timedelta(hours=1)), 1, "Acetaminophen", 1, "004490"],
                )
            if admitted:
                s.row(
                    "iv/hosp/admissions.csv",
                    [
                        sid,
                        hadm,
                        ts(out),
                        ts(out + dt.timedelta(days=3)),
                        "",
                        "EW EMER.",
                        "P00XYZ",
                        "EMERGENCY ROOM",
                        "HOME",
                        "Medicare",
                        "English",
                        "SINGLE",
                        race,
                        ts(intime),
                        ts(out),
                        0,
                    ],
                )
                s.row("iv/hosp/diagnoses_icd.csv", [sid, hadm, 1, c[0], c[1]])
                for it, _name, unit, lo, hi in LABITEMS:
                    self.lab += 1
                    val = round(float(rng.uniform(lo * 0.5, hi * 1.6)), 1)
                    s.row(
                        "iv/hosp/labevents.csv",
                        [
                            self.lab,
                            sid,
                            hadm,
                            self.lab,
                            it,
                            "",
                            ts(out),
                            ts(out),
                            val,
                            val,
                            unit,
                            lo,
                            hi,
                            "" if lo <= val <= hi else "abnormal",
                            "ROUTINE",
                            "",
                        ],
                    )
                s.row(
                    "iv/hosp/prescriptions.csv",
                    [
                        sid,
                        hadm,
                        1,
                        "",
                        "",
                        "",
                        ts(out),
                        ts(out + dt.timedelta(days=2)),
                        "MAIN",
                        MEDS[int(rng.integers(len(MEDS)))],
                        "",
                        "",
                        "0",
                        "40mg Tab",
                        "TAB",
                        "40",
                        "mg",
                        "1",
                        "TAB",
                        1,
                        "PO",
                    ],
                )
            stays.append(intime)
        # studies
        when = []
        for t in stays:
            if edge >= 0 or rng.random() < 0.75:
                when.append(t + dt.timedelta(minutes=float(rng.uniform(-30, 600))))
            if edge < 0 and rng.random() < 0.55:
                when.append(t + dt.timedelta(hours=float(rng.uniform(26, 400))))  # in-patient film
        if edge < 0 and (not stays or rng.random() < 0.25):
            when.append(base - dt.timedelta(days=int(rng.integers(30, 300))))
        t0 = stays[0] if stays else base
        fixed = {
            0: t0 + dt.timedelta(hours=24),
            1: t0 + dt.timedelta(hours=24, seconds=1),
            2: t0 - dt.timedelta(hours=24),
            3: t0 + dt.timedelta(hours=11),
            4: t0 + dt.timedelta(days=5),
            5: base,
            8: (t0 + dt.timedelta(hours=12)).replace(hour=0, minute=0, second=7),
        }
        if edge in fixed:
            when = [fixed[edge]]
        for k, t in enumerate(when):
            study = 50000000 + i * 16 + k
            lab = {}
            for L in rng.choice(LABELS, int(rng.integers(1, 4)), replace=False):
                lab[L] = rng.choice([1.0, 1.0, 1.0, 0.0, -1.0])
            if "No Finding" in lab:
                lab = {"No Finding": 1.0}
            row = [sid, study] + [lab.get(L, "") for L in LABELS]
            s.row("cxr/mimic-cxr-2.0.0-chexpert.csv", row)
            s.row("cxr/mimic-cxr-2.0.0-negbio.csv", row)
            fol = f"files/p{str(sid)[:2]}/p{sid}"
            if edge != 20:
                find = [POS[L] for L, v in lab.items() if v == 1.0] + [
                    NEG[L] for L in NEG if lab.get(L) != 1.0
                ]
                who = "man" if gender == "M" else "woman"
                why = COMPLAINTS[int(rng.integers(len(COMPLAINTS)))].lower()
                rep = (
                    "                                 FINAL REPORT\n EXAMINATION:  CHEST RADIOGRAPH\n\n"
                    f" INDICATION:  ___ year old {who} with {why}\n\n"
                    f" COMPARISON:  ___.\n\n FINDINGS:\n\n {' '.join(find)}\n\n IMPRESSION:\n\n {find[0]}\n"
                )
                rb = rep.encode()
                if edge == 21:
                    rb = rep.replace("COMPARISON", "COMPARAIS\u00c9N \u00b0").encode("latin-1")
                if edge == 22:
                    rb = b""
                rp = self.out / ROOTS["rep"] / fol / f"s{study}.txt"
                rp.parent.mkdir(parents=True, exist_ok=True)
                rp.write_bytes(rb)
            s.row("rep/cxr-study-list.csv", [sid, study, f"{fol}/s{study}.txt"])
            views = (
                [rng.choice(["AP", "PA"], p=[0.6, 0.4])]
                + (["LATERAL"] if rng.random() < 0.4 else [])
                + (["AP"] if rng.random() < 0.1 else [])
            )
            if edge == 6:
                views = ["LATERAL", "LL"]
            elif edge == 7:
                views = [""]
            elif edge >= 0:
                views = views[:1]
            frac = rng.choice([".0", ".531", ".25", ""])
            stime = str(int(t.strftime("%H%M%S"))) + frac  # leading zeros are lost, as in MIMIC
            for j, v in enumerate(views):
                dicom = (
                    "-".join(
                        hashlib.md5(f"{a.seed}/{sid}/{study}/{j}".encode()).hexdigest()[q : q + 8]
                        for q in range(0, 32, 8)
                    )
                    + f"-{j:08x}"
                )
                h, w = (
                    a.base_hw
                    if rng.random() < 0.6
                    else a.base_hw[::-1]
                    if rng.random() < 0.4
                    else (int(a.base_hw[0] * 0.82), int(a.base_hw[1] * 0.8))
                )
                kind = {
                    9: "missing",
                    12: "zero_byte",
                    13: "truncated",
                    14: "cmyk",
                    15: "png16",
                    16: "exif6",
                    17: "one_pixel",
                    18: "not_an_image",
                    24: "flat",
                    25: "rgb",
                }.get(edge, "ok")
                if edge < 0 and rng.random() < a.defects:
                    kind = str(rng.choice(BROKEN))
                rel = f"{fol}/s{study}/{dicom}.jpg"
                vt = {
                    "AP": "antero-posterior",
                    "PA": "postero-anterior",
                    "LATERAL": "lateral",
                    "LL": "left lateral",
                }.get(v, "")
                row = [
                    dicom,
                    sid,
                    study,
                    "CHEST (PORTABLE AP)" if v == "AP" else "CHEST (PA AND LAT)",
                    v,
                    h,
                    w,
                    t.strftime("%Y%m%d"),
                    stime,
                    "CHEST (PORTABLE AP)" if v == "AP" else "CHEST (PA AND LAT)",
                    vt,
                    "Erect",
                ]
                for _ in range(2 if edge == 19 else 1):
                    s.row("cxr/mimic-cxr-2.0.0-metadata.csv", row)
                if edge != 26:
                    s.row(
                        "cxr/mimic-cxr-2.0.0-split.csv", [dicom, study, sid, split]
                    )  # 26: absent from the split file
                s.row("rep/cxr-record-list.csv", [sid, study, dicom, rel.replace(".jpg", ".dcm")])
                s.names.write(rel + "\n")
                if kind != "ok" or edge >= 0:
                    self.truth.append((dicom, sid, study, kind, edge if edge >= 0 else ""))
                self.emit_image(self.out / ROOTS["cxr"] / rel, dicom, h, w, kind)

    def run(self):
        for i in range(self.a.subjects):
            self.subject(i)
        for p in self.pending:
            p.result()
        self.s.close()
        d = self.out / "_truth"
        d.mkdir(exist_ok=True)
        with open(d / "defects.csv", "w", newline="") as f:
            w = csv.writer(f, lineterminator="\n")
            w.writerow(["dicom_id", "subject_id", "study_id", "kind", "edge_case"])
            w.writerows(self.truth)
        print(f"subjects={self.a.subjects} images={self.n_img} seed={self.a.seed}", file=sys.stderr)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("out")
    p.add_argument("--subjects", type=int, default=60)
    p.add_argument("--seed", type=int, default=7)
    p.add_argument(
        "--scale", type=float, default=1.0, help="image size factor; 1.0 = 3056x2544 px as in MIMIC-CXR"
    )
    p.add_argument("--quality", type=int, default=95, help="JPEG quality (MIMIC-CXR-JPG used 95)")
    p.add_argument("--defects", type=float, default=0.03)
    p.add_argument("--no-edge-cases", dest="edge_cases", action="store_false")
    p.add_argument(
        "--distinct-images",
        type=int,
        default=0,
        help="N>0: only N pictures are drawn, the rest are hard links",
    )
    p.add_argument("--plain-csv", action="store_true", help="also write uncompressed .csv beside .csv.gz")
    p.add_argument("--threads", type=int, default=2)
    a = p.parse_args()
    a.base_hw = (max(24, round(3056 * a.scale)), max(20, round(2544 * a.scale)))
    if Path(a.out).exists() and any(Path(a.out).iterdir()):
        p.error(f"{a.out} is not empty")
    Maker(a).run()


if __name__ == "__main__":
    main()
