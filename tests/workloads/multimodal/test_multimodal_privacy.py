"""No word of a note in anything but the data: good, failing, killed and resumed runs, and what they print."""

import gzip
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
from runs import published, run
from waiting import LIMIT

import penstock
from penstock.errors import PenstockError
from penstock.workloads.multimodal import records

SECRETS = {"triage": b"grumblesomeness", "report": b"quibbleworthy", "medrecon": b"florbitolate"}
DATA = ("train/*.tar", "val/*.tar", "test/*.tar", "tables/joined.arrow", "plan/*.arrow")
"""What a run keeps of people: shards, and the tables that they are made from."""
OPTIONS = ["--split", "quota", "--window", "24h", "--image-size", "32", "--shard-size", "32kB"]


@pytest.fixture
def tree(sample, tmp_path):
    """The sample with a word of its own in every complaint, medicine and report."""
    root = tmp_path / "root"
    shutil.copytree(sample, root)
    path = root / "mimic-iv-ed/2.2/ed/triage.csv.gz"
    head, *lines = gzip.decompress(path.read_bytes()).splitlines()
    # The last field; one complaint has quotes and a line break, and stays.
    lines = [line + b" " + SECRETS["triage"] if b'"' not in line else line for line in lines]
    path.write_bytes(gzip.compress(b"\n".join([head, *lines, b""]).replace(b"\narm", b" arm")))
    path = root / "mimic-iv-ed/2.2/ed/medrecon.csv.gz"
    path.write_bytes(
        gzip.compress(gzip.decompress(path.read_bytes()).replace(b"aspirin", SECRETS["medrecon"]))
    )
    for path in root.rglob("s*.txt"):
        path.write_bytes(path.read_bytes().replace(b"year old", b"year old " + SECRETS["report"]))
    return root


def search(folder, drafts=False):
    """Files of a run folder, other than its data, with a secret in them; and how many were looked at."""
    data = {path for pattern in DATA for path in folder.glob(pattern)}
    looked, found = 0, []
    for path in folder.rglob("*"):
        draft = drafts and "drafts" in str(path)  # of a killed run: data on their way
        if path.is_file() and path not in data and not draft:
            looked += 1
            content = path.read_bytes()
            found += [path for secret in SECRETS.values() if secret in content]
    return found, looked


def in_data(folder):
    content = b"".join(path.read_bytes() for pattern in DATA for path in folder.glob(pattern))
    return all(secret in content for secret in SECRETS.values())


def clean(*texts):
    return not [secret for secret in SECRETS.values() for text in texts if secret.decode() in str(text)]


PENSTOCK = [sys.executable, "-c", "from penstock.cli import main; main()"]


def command(root, folder, *more):
    return [*PENSTOCK, "run", "multimodal", str(root), "--into", str(folder), *OPTIONS, *more]


def test_a_good_run_says_nothing(tree, tmp_path, capfd):
    told = []
    run(tmp_path / "run", tree, observers=[told.append], picture="png", log_ids=True)
    assert in_data(tmp_path / "run"), "or nothing would be shown by its absence"
    found, looked = search(tmp_path / "run")
    assert not found
    assert looked > 15
    assert clean(told, *capfd.readouterr())


def test_without_text_there_is_none_anywhere(tree, tmp_path):
    run(tmp_path / "run", tree, text="off")
    for path in (tmp_path / "run").rglob("*"):
        assert path.is_dir() or not any(secret in path.read_bytes() for secret in SECRETS.values()), path


def test_a_record_that_raises_says_nothing(tree, tmp_path, monkeypatch, capfd):
    """Whatever a library puts into its message: here, the whole row."""

    def fail(self, row):
        raise ValueError(f"cannot make {row}")

    monkeypatch.setattr(records.MakeRecord, "__call__", fail)
    told = []
    with (
        pytest.raises(PenstockError) as caught,
        penstock.Run(tmp_path / "run", private=True, backend="inline", observers=[told.append]) as opened,
    ):
        penstock.workloads.multimodal.Multimodal().run(opened, root=str(tree), split="quota", window="24h")
    assert clean(told, caught.value, repr(caught.value.__cause__), *capfd.readouterr())
    assert not search(tmp_path / "run")[0]


def test_a_table_with_a_broken_row_says_nothing_of_it(tree, tmp_path):
    path = tree / "mimic-iv-ed/2.2/ed/triage.csv.gz"
    text = gzip.decompress(path.read_bytes()) + b"1,2," + SECRETS["triage"] + b"\n"
    path.write_bytes(gzip.compress(text))
    done = subprocess.run(command(tree, tmp_path / "run", "-vv"), capture_output=True, timeout=LIMIT)
    assert done.returncode == 4
    assert b"3 fields, where 11 were expected" in done.stderr
    assert clean(done.stdout.decode(), done.stderr.decode())
    assert not search(tmp_path / "run")[0]


def test_a_killed_run_says_nothing_and_is_resumed_to_the_same_bytes(tree, tmp_path):
    """Killed hard, each time after another shard; by the same command it goes on."""
    run(tmp_path / "whole", tree)
    folder, rng, output = tmp_path / "run", random.Random(3), []
    kills = 0
    for shards in (1, 3, 4):
        with open(tmp_path / "output", "w+b") as out:
            process = subprocess.Popen(
                command(tree, folder, "-vv"), stdout=out, stderr=out, start_new_session=True
            )
            deadline = time.monotonic() + LIMIT
            while len(list(folder.glob("t*/*.tar"))) < shards and process.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.005)
            time.sleep(rng.random() / 50)
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
                kills += 1
            process.wait(timeout=LIMIT)
            out.seek(0)
            output.append(out.read().decode())
        assert not search(folder, drafts=True)[0]
    assert kills
    done = subprocess.run(command(tree, folder, "-vv"), capture_output=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    assert clean(*output, done.stdout.decode(), done.stderr.decode())
    assert published(folder) == published(tmp_path / "whole")
    assert not search(folder)[0]
    assert not list(folder.rglob("*.tmp"))
    assert not penstock.verify(folder).faults
