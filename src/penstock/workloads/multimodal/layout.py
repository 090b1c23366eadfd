"""Where the tables, films and reports of a credentialed download lie.

ROOT holds the folders as PhysioNet ships them, each with its version below it or not::

    mimic-cxr-jpg/2.1.0   mimic-cxr-2.0.0-{metadata,split,chexpert}.csv.gz,
                          files/p10/p10000032/s50414267/DICOM_ID.jpg
    mimic-iv-ed/2.2/ed    edstays triage vitalsign medrecon
    mimiciv/3.1/hosp      patients
    mimic-cxr/2.1.0       files/p10/p10000032/s50414267.txt (reports)

Every table may be ``.csv`` or ``.csv.gz``. Nothing is read here but the names of files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from penstock.errors import BadInput
from penstock.files import is_file, is_folder

CXR_TABLES = {
    "metadata": "mimic-cxr-2.0.0-metadata",
    "split": "mimic-cxr-2.0.0-split",
    "chexpert": "mimic-cxr-2.0.0-chexpert",
}
ED_TABLES = {name: name for name in ("edstays", "triage", "vitalsign", "medrecon")}
HOSP_TABLES = {"patients": "patients"}
_OPTIONAL = {"medrecon"}
_ROOTS = {
    "cxr": ("mimic-cxr-jpg",),
    "ed": ("mimic-iv-ed",),
    "hosp": ("mimiciv", "mimic-iv"),
    "reports": ("mimic-cxr",),
}
_BELOW = {"cxr": "", "ed": "ed", "hosp": "hosp", "reports": ""}


@dataclass(frozen=True)
class Layout:
    """The places of all inputs.

    Attributes:
        tables: the path of each table that is there, by its short name.
        films: what the paths of films begin in.
        reports: what the paths of reports begin in; None where there are none.
    """

    tables: dict[str, Path] = field(default_factory=dict)
    films: Path = Path()
    reports: Path | None = None


def find(
    root: str | None, *, cxr: str | None = None, ed: str | None = None, hosp: str | None = None,
    reports: str | None = None, official: bool = True,
) -> Layout:  # fmt: skip
    """Find all tables, or say which are missing.

    Args:
        root: the folder of the download; None where the others are all given.
        cxr, ed, hosp, reports: folders that lie elsewhere.
        official: whether the table of the official split is needed.

    Raises:
        BadInput: tables are missing (all of them are named), or ``root`` has no known layout.
    """
    given = {"cxr": cxr, "ed": ed, "hosp": hosp, "reports": reports}
    folders = {kind: _folder(kind, root, path) for kind, path in given.items()}
    if root is not None and not any(folders.values()):
        raise BadInput(
            "holds no known layout: one of mimic-cxr-jpg, mimic-iv-ed, mimiciv was expected in it, as "
            "PhysioNet "
            "ships them; or name the folders with --cxr, --ed and --hosp",
            file=root,
        )
    tables: dict[str, Path] = {}
    missing: list[str] = []
    for kind, names in (("cxr", CXR_TABLES), ("ed", ED_TABLES), ("hosp", HOSP_TABLES)):
        for short, name in names.items():
            found = _table(folders[kind], name)
            if found is not None:
                tables[short] = found
            elif short not in _OPTIONAL and (short != "split" or official):
                where = folders[kind] or f"the folder of --{kind}"
                missing.append(f"{name}.csv.gz (looked in {where})")
    if missing:
        _tell_dicom(folders["cxr"])
        raise BadInput(f"missing tables: {'; '.join(missing)}", file=root or cxr or "")
    place = folders["cxr"]
    assert place is not None  # or its tables would be missing
    texts = folders["reports"]
    return Layout(tables, place, texts if texts is not None and is_folder(texts / "files") else None)


def film_path(subject: int, study: int, dicom: str) -> str:
    """A film's path below ``films``: ``files/p10/p10000032/s50414267/DICOM.jpg``."""
    person = f"{subject:08d}"
    return f"files/p{person[:2]}/p{person}/s{study:08d}/{dicom}.jpg"


def report_path(subject: int, study: int) -> str:
    """A report's path below ``reports``."""
    person = f"{subject:08d}"
    return f"files/p{person[:2]}/p{person}/s{study:08d}.txt"


def _folder(kind: str, root: str | None, given: str | None) -> Path | None:
    """The folder of one part: what was given, or the highest version below ROOT."""
    if given is not None:
        path = Path(given)
        if not is_folder(path):
            raise BadInput("no such folder", file=given)
        return _below(path, kind)
    if root is None:
        return None
    if not is_folder(root):
        raise BadInput("no such folder", file=root)
    for name in _ROOTS[kind]:
        path = Path(root) / name
        if is_folder(path):
            return _below(path, kind)
    # ROOT itself may be the folder of all tables.
    return Path(root) if kind != "reports" and _holds(Path(root), kind) else None


def _below(path: Path, kind: str) -> Path:
    """The part itself, its newest version, or the folder of its tables below either."""
    for place in (path, *sorted(_versions(path), key=_version, reverse=True)):
        for folder in (place, place / _BELOW[kind]) if _BELOW[kind] else (place,):
            if _holds(folder, kind):
                return folder
    return path


def _holds(folder: Path, kind: str) -> bool:
    if kind == "reports":
        return is_folder(folder / "files")
    names = {"cxr": CXR_TABLES, "ed": ED_TABLES, "hosp": HOSP_TABLES}[kind]
    return any(_table(folder, name) is not None for name in names.values())


def _versions(path: Path) -> list[Path]:
    return [each for each in path.iterdir() if each.name[:1].isdigit() and is_folder(each)]


def _version(path: Path) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else -1 for part in path.name.split("."))


def _table(folder: Path | None, name: str) -> Path | None:
    if folder is None:
        return None
    for suffix in (".csv.gz", ".csv"):
        if is_file(folder / f"{name}{suffix}"):
            return folder / f"{name}{suffix}"
    return None


def _tell_dicom(folder: Path | None) -> None:
    """MIMIC-CXR is the same films as DICOM; say so where somebody gave that."""
    if folder is not None and is_file(folder / "cxr-record-list.csv.gz"):
        raise BadInput(
            "this is MIMIC-CXR, whose films are DICOM, which is not read: give the folder of MIMIC-CXR-JPG, "
            "which has the same films as JPEG and their tables",
            file=folder,
        )
