"""Small patients for runs."""

import json

import pytest
from superres_oracle import cut, paths_of, write_volume


@pytest.fixture
def cohort(tmp_path):
    """Four small patients of two experts in two folds; (folder, path of a volume)."""

    def place(pid, name):
        folder = tmp_path / "in"
        return folder / "hr" / pid / f"{pid}-t1c.nii.gz" if name == "HR" else (
            folder / "models" / name / "3mm/output_volumes" / f"{pid}-t1c.nii.gz"
        )  # fmt: skip

    entries = {}
    for number in range(4):
        pid = f"P{number}"
        sources = paths_of(f"SYN-000{number}")
        for name, source in (("A", sources[1]), ("B", sources[2]), ("HR", sources[-1])):
            write_volume(place(pid, name), *cut(source))
        names = ("A", "B", "HR")
        entries[pid] = {n: {"3mm": {"t1c": str(place(pid, n).relative_to(tmp_path))}} for n in names}
    folds = []
    for test in (("P0", "P1"), ("P2", "P3")):
        halves = {
            "test": {p: entries[p] for p in test},
            "train": {p: e for p, e in entries.items() if p not in test},
        }
        folds.append(halves)
    (tmp_path / "manifest.json").write_text(json.dumps({"folds": folds}))
    return tmp_path, place
