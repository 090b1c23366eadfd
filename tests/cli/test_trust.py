"""``penstock resume`` says which file it runs, and runs none that somebody else could have put there."""

import json
import os

import pytest
from click.testing import CliRunner

from penstock.cli import main, target, trust
from penstock.cli.target import Target
from penstock.errors import BadInput, UsageError

JOB = """
import pathlib
pathlib.Path(__file__).with_name("it-ran").touch()
import penstock
job = penstock.Job(source=[1, 2], function=abs)
"""


def folder_of(tmp_path, name, **more):
    """A run folder whose command names a job."""
    folder = tmp_path / "run"
    (folder / ".penstock").mkdir(parents=True, exist_ok=True)
    (folder / ".penstock" / "command.json").write_text(json.dumps({"schema": 1, "job": name, **more}))
    return folder


def resume(folder, *options):
    return CliRunner().invoke(main, ["resume", str(folder), *options])


def test_it_says_which_file_it_runs(tmp_path):
    code = tmp_path / "own_job.py"
    code.write_text(JOB)
    told = resume(folder_of(tmp_path, f"{code}:job"), "--budget", "1MiB")
    assert f"runs {code}:job" in told.stderr


@pytest.mark.parametrize("where", ["run/inside.py", "run/.penstock/deep.py", "run/link.py"])
def test_a_file_in_the_folder_runs_only_when_it_is_trusted(tmp_path, where):
    code = tmp_path / where
    folder = folder_of(tmp_path, f"{code}:job")
    outside = tmp_path / f"outside_{code.stem}.py"
    outside.write_text(JOB)
    if code.stem == "link":
        code.symlink_to(outside)
    else:
        code.write_text(JOB)
    told = resume(folder)
    assert told.exit_code == 2
    assert "--trust" in told.stderr
    assert str(code) in told.stderr
    assert not list(tmp_path.rglob("it-ran"))
    if code.stem != "link":
        resume(folder, "--trust", "--budget", "1MiB")
        assert list(tmp_path.rglob("it-ran"))


def test_nor_does_a_module_in_it(tmp_path):
    folder = folder_of(tmp_path, "hidden_in_run:job", where=str(tmp_path / "run"))
    (folder / "hidden_in_run.py").write_text(JOB)
    assert "--trust" in resume(folder).stderr
    package = folder / "package_in_run"
    package.mkdir()
    (package / "__init__.py").write_text(JOB)
    folder_of(tmp_path, "package_in_run.jobs:job", where=str(folder))
    assert "--trust" in resume(folder).stderr
    assert not list(tmp_path.rglob("it-ran"))


@pytest.mark.parametrize("what", ["file", "its folder", "command"])
def test_what_others_may_write_is_not_run(tmp_path, what):
    code = tmp_path / "own" / "job.py"
    code.parent.mkdir()
    code.write_text(JOB)
    folder = folder_of(tmp_path, f"{code}:job")
    trust.check(Target(f"{code}:job"), folder)
    loose = {"file": code, "its folder": code.parent, "command": target.path_of(folder)}[what]
    loose.chmod(0o777)
    with pytest.raises(UsageError, match="everybody may write"):
        trust.check(Target(f"{code}:job"), folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
def test_another_users_file_is_not_run(tmp_path):
    code = tmp_path / "job.py"
    code.write_text(JOB)
    os.chown(code, 12345, 12345)
    with pytest.raises(UsageError, match="owned by another user"):
        trust.check(Target(f"{code}:job"), folder_of(tmp_path, f"{code}:job"))


@pytest.mark.parametrize(
    "command",
    [
        {"job": 7}, {"job": ""}, {"job": ":"}, {"job": "a b:c"}, {"job": "../x.py:job"},
        {"job": "x:y", "where": 3},
        {"job": "x:y", "workload": "codons"}, {"workload": []}, {"workload": "codons", "options": []},
        {"workload": "codons", "options": {"fasta": {"a": {}}}},
        {"workload": "codons", "options": {"no such": 1}},
        {"job": "x:y", "asked": {"budget": "a lot"}}, {"job": "x:y", "asked": {"workers": -1}},
        {"schema": "9"},
        {"job": "x:y", "asked": {"trust": True}}, [], 7, None,
    ],
)  # fmt: skip
def test_a_command_is_what_a_command_may_be(tmp_path, command):
    folder = folder_of(tmp_path, "x:y")
    values = {"schema": 1, **command} if isinstance(command, dict) else command
    target.path_of(folder).write_text(json.dumps(values))
    with pytest.raises(BadInput):
        target.read(folder), target.read_asked(folder)
    told = resume(folder)
    assert told.exit_code == 4
    assert "Traceback" not in told.stderr


@pytest.mark.parametrize("text", [b"", b"[" * 5000, b"\xff", b'{"schema":1,"job":"x:y"' + b" " * 10])
def test_nor_is_any_text_one(tmp_path, text):
    folder = folder_of(tmp_path, "x:y")
    target.path_of(folder).write_bytes(text)
    assert resume(folder).exit_code == 4
