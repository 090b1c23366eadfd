"""A private run: nobody else can read it, and what is told of it quotes nothing."""

import os
import stat
import sys
from pathlib import Path

import pytest

import penstock
from penstock.sources import Range
from penstock.testing import misfortune as mf

SECRET = "Agnes Doe"


class Patients(Range):
    """A source whose items are called after people."""

    def name(self, item):
        return f"{SECRET} {item}"


def read_note(item):
    print(f"working on {SECRET}", flush=True)
    print(f"working on {SECRET}", file=sys.stderr, flush=True)
    if item == 3:
        raise ValueError(f"{SECRET} has no note")
    if item == 5:
        os.abort()
    return item


def cannot_begin():
    raise ValueError(f"no notes of {SECRET}")


class Preparing:
    prepare = staticmethod(cannot_begin)

    def __call__(self, item):
        return item


def step(folder, **inputs):
    print(SECRET, flush=True)
    (folder / "sub").mkdir()
    (folder / "sub" / "one.txt").write_text("1")
    return {"umask": os.umask(0o077)}


@pytest.fixture(autouse=True)
def usual_umask():
    before = os.umask(0o022)
    yield
    after = os.umask(before)
    assert after == 0o022, "the umask is as it was before the run"


def modes(folder):
    """Permission bits of others and the group, by path."""
    return {path: stat.S_IMODE(path.lstat().st_mode) & 0o077 for path in [folder, *folder.rglob("*")]}


def quoted(folder):
    return [path for path in folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


def test_a_private_run_of_stages_and_steps(tmp_path):
    told = []
    with penstock.Run(
        tmp_path / "r", private=True, set_aside=True, workers=1, observers=[told.append]
    ) as run:
        run.stage("notes", penstock.Job(source=Patients(8), function=read_note))
        made = run.step("step", step)
    assert made.facts["umask"] == 0o077, "workers have it too"
    assert not any(modes(tmp_path / "r").values())
    assert not quoted(tmp_path / "r")
    assert SECRET not in repr(told)
    report = run.report()
    assert [(each.item, each.name) for each in report.set_aside] == [(3, "3"), (5, "5")]
    assert SECRET not in repr(report) + report.to_json() + str(report)
    assert not list((tmp_path / "r").rglob("workers.log"))


@pytest.mark.parametrize("function", [read_note, Preparing()], ids=["raises", "prepare"])
def test_a_private_job_that_fails_says_nothing_either(function, tmp_path):
    told = []
    with pytest.raises(penstock.PenstockError) as caught:
        penstock.run(function, Patients(8), tmp_path / "r", private=True, workers=1, observers=[told.append])
    assert SECRET not in f"{caught.value!r}{caught.value.__cause__!r}{told!r}"
    assert not quoted(tmp_path / "r")
    assert not any(modes(tmp_path / "r").values()), "the run of a private job is private"


def test_what_a_module_says_when_it_is_imported_is_not_kept(tmp_path, monkeypatch):
    """It fails in the fork server, before any worker is there."""
    (tmp_path / "strict.py").write_text(
        "import os\nif os.getpid() != int(os.environ['HERE']):\n"
        f"    raise ValueError('{SECRET} is missing')\ndef function(item):\n    return item\n"
    )
    monkeypatch.setenv("HERE", str(os.getpid()))
    monkeypatch.syspath_prepend(tmp_path)
    import strict

    with pytest.raises(penstock.PenstockError, match=SECRET):  # to who called it
        penstock.run(strict.function, 3, tmp_path / "r", private=True)
    assert not quoted(tmp_path / "r")


def test_a_run_that_is_not_private_can_have_a_private_stage(tmp_path):
    with penstock.Run(tmp_path / "r", set_aside=True, workers=1) as run:
        run.stage("open", penstock.Job(source=Range(2), function=read_note))
        before = (tmp_path / "r/.penstock/workers.log").read_text()
        assert SECRET in before
        run.stage("closed", penstock.Job(source=Patients(8), function=read_note, private=True))
        run.step("step", step, private=True)
    assert (tmp_path / "r/.penstock/workers.log").read_text() == before
    assert quoted(tmp_path / "r") == [tmp_path / "r/.penstock/workers.log"]


def test_a_folder_that_others_could_read_is_closed(tmp_path):
    penstock.run(str, 3, tmp_path / "r", backend="inline")
    assert modes(tmp_path / "r")[tmp_path / "r"] == 0o055
    penstock.run(str, 3, tmp_path / "r", backend="inline", private=True)
    assert modes(tmp_path / "r")[tmp_path / "r"] == 0


@pytest.mark.parametrize("private", [True, False])
def test_the_umask_is_given_back_whatever_happens(private, tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "r"):
        with pytest.raises(penstock.PenstockError):
            penstock.run(mf.Raise(range(3)), 3, folder, backend="inline", private=private)
        assert os.umask(0o022) == 0o022


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_the_folder_of_a_step_follows_the_umask(umask, tmp_path):
    os.umask(umask)
    try:
        with penstock.Run(tmp_path / "r") as run:
            run.step("step", step)
    finally:
        os.umask(0o022)
    expected = 0o777 & ~umask
    for path in (tmp_path / "r/step", tmp_path / "r/step/sub", tmp_path / "r"):
        assert stat.S_IMODE(path.stat().st_mode) == expected, path


def test_a_scratch_folder_outside_a_worker_is_nobody_elses():
    folder = penstock.share().folder
    assert stat.S_IMODE(Path(folder).stat().st_mode) == 0o700
    folder.rmdir()


def refuse(item):
    raise penstock.BadInput("row 3 has 2 fields", file="triage.csv", quotes_nothing=item == 1)


def test_what_quotes_nothing_of_the_input_is_told_of_a_private_job_too(tmp_path):
    report = penstock.run(refuse, Range(2), tmp_path / "r", private=True, set_aside=True, workers=1)
    told = [each.message for each in report.set_aside]
    assert told == ["raised BadInput", "triage.csv: row 3 has 2 fields"]
    assert not any("Traceback" in each.traceback for each in report.set_aside)
