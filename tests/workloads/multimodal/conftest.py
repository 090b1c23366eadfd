"""The sample: 90 made-up patients with 27 odd cases, and what an independent program says of them."""

import csv
import json
import tarfile
from pathlib import Path

import pytest

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("multimodal")
    with tarfile.open(DATA / "sample.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="session")
def sample(unpacked):
    """The folder of the download; nobody writes into it."""
    return unpacked / "sample"


@pytest.fixture(scope="session")
def oracle(unpacked):
    """What a pandas program says of the sample, file by file."""
    found = {"counts": json.loads((unpacked / "oracle/counts.json").read_text())}
    for name in ("joined", "splits", "frontal_status", "defects"):
        with open(unpacked / f"oracle/{name}.csv", encoding="utf-8", newline="") as file:
            found[name] = list(csv.DictReader(file))
    return found
