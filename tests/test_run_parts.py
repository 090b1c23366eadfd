"""What runs the parts: all of them are run, some at a time, and one that fails fails the whole."""

import re
import tempfile
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import pytest
import run_parts

from penstock import discover

OWN = "BUDGET = dict(budget='1GiB')\n\ndef test_yes():\n    pass\n"
FAILS = "def test_no():\n    print('what it saw')\n    assert False\n"


def put(folder, name, text="def test_yes():\n    pass\n"):
    path = folder / "tests" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def run(folder, monkeypatch):
    monkeypatch.setattr(run_parts, "HERE", folder / "tests")
    return run_parts.run_all(2, [])


def test_a_failing_part_is_shown_and_named_and_the_others_are_run(tmp_path, monkeypatch, capfd):
    put(tmp_path, "test_a.py", OWN)
    put(tmp_path, "adversarial/test_b.py", FAILS)
    put(tmp_path, "deep/er/test_c.py")
    put(tmp_path, "deep/er/test_d.py", OWN)
    put(tmp_path, "broken/test_e.py", OWN + "import no_such_module\n")
    monkeypatch.setattr(run_parts, "HERE", tmp_path / "tests")
    assert list(run_parts.parts()) == ["adversarial", "broken", "deep/er", "test_a.py"]
    counts, failed = run(tmp_path, monkeypatch)
    assert counts == {"passed": 3, "failed": 1, "error": 1}
    assert sorted(failed) == ["tests/adversarial (exit code 1)", "tests/broken (exit code 2)"]
    said = capfd.readouterr().out
    assert "what it saw" in said
    assert [line for line in said.splitlines() if line.startswith("== tests/deep/er (")]


def test_what_is_short_and_needs_no_process_of_its_own_shares_one(tmp_path, monkeypatch, capfd):
    put(tmp_path, "test_a.py", "import os\n\nos.shared = True\n\ndef test_yes():\n    pass\n")
    put(tmp_path, "test_b.py", OWN)
    put(tmp_path, "test_c.py", "import os\n\ndef test_same_process():\n    assert os.shared\n")
    put(tmp_path, "test_rescue.py")  # one of the long ones
    put(tmp_path, "folder/test_d.py", FAILS)
    put(tmp_path, "mixed/test_e.py")
    put(tmp_path, "mixed/test_f.py", OWN)
    put(tmp_path, "workloads/any/test_g.py")
    tests = tmp_path / "tests"
    monkeypatch.setattr(run_parts, "HERE", tests)
    assert run_parts.parts() == {
        "test_rescue.py": [tests / "test_rescue.py"],
        "together": [tests / "folder", tests / "test_a.py", tests / "test_c.py"],
        "mixed": [tests / "mixed"],
        "test_b.py": [tests / "test_b.py"],
        "workloads/any": [tests / "workloads/any"],
    }
    counts, failed = run(tmp_path, monkeypatch)
    assert counts == {"passed": 7, "failed": 1}
    assert failed == ["tests/together (exit code 1)"]
    assert "folder/test_d.py::test_no" in capfd.readouterr().out


def test_the_folders_of_a_part_are_its_own_and_stay_only_where_it_fails(tmp_path, monkeypatch, capfd):
    """Else each pytest that ends removes what the others left, all at once, and warns of the others."""
    says = "def test_it(tmp_path):\n    print('folder', tmp_path)\n    assert {}\n"
    for name, right in (("test_a.py", 0), ("test_b.py", 0), ("test_c.py", 1)):
        put(tmp_path, name, OWN + says.format(right))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    assert len(run(tmp_path, monkeypatch)[1]) == 2
    told = re.findall(r"^folder (\S+)", capfd.readouterr().out, re.MULTILINE)
    left = list((tmp_path / "temporary").iterdir())
    assert len(left) == 2
    assert sorted(Path(each).is_relative_to(folder) for each in told for folder in left) == [0, 0, 1, 1]


def test_a_part_without_a_single_test_fails(tmp_path, monkeypatch):
    put(tmp_path, "test_a.py", "BUDGET = dict(budget='1GiB')\n")
    assert run(tmp_path, monkeypatch)[1] == ["tests/test_a.py (exit code 5)"]


def test_every_file_has_a_test():
    """In a part of several, none would be missed."""
    for file in run_parts.HERE.rglob("test_*.py"):
        assert re.search(r"^(def test_|class Test)", file.read_text(), re.MULTILINE), file


def test_every_file_of_tests_belongs_to_one_part():
    parts = run_parts.parts()
    places = [place for part in parts.values() for place in part]
    assert len(places) == len(set(places))
    for file in run_parts.HERE.rglob("test_*.py"):
        if file.relative_to(run_parts.HERE).parts[0] in run_parts.OTHERS:
            continue
        assert (file in places) != (file.parent in places), file
    assert set(run_parts.FIRST) <= set(parts)


def test_all_parts_can_be_collected_in_one_process():
    """Plain ``pytest``: two files of one name would be one module, and nothing would be collected."""
    places = defaultdict(list)
    for file in run_parts.HERE.rglob("*.py"):
        if file.name not in ("conftest.py", "__init__.py") and not (file.parent / "__init__.py").exists():
            places[file.name].append(file.relative_to(run_parts.HERE).as_posix())
    assert len(places) > 150
    assert not {name: files for name, files in places.items() if len(files) > 1}


@pytest.mark.parametrize(("cpus", "gib", "lanes"), [(2, 16, 4), (8, 7, 3), (1, 1, 1), (4, 100, 8)])
def test_as_many_parts_at_a_time_as_the_machine_can_carry(cpus, gib, lanes, monkeypatch):
    monkeypatch.setattr(discover, "cpus", lambda: cpus)
    found = SimpleNamespace(budget=SimpleNamespace(bytes=gib << 30))
    monkeypatch.setattr(discover, "discover", lambda requested: found)
    assert run_parts.lanes() == lanes


def test_what_each_part_took_is_told_and_is_all_that_was_used(tmp_path, monkeypatch, capfd):
    put(tmp_path, "test_a.py")
    put(tmp_path, "test_b.py", OWN)
    before = run_parts.cpu_seconds()
    run(tmp_path, monkeypatch)
    told = re.findall(r"== tests/\S+ \(\d+ s, (\d+) CPU s\)", capfd.readouterr().out)
    assert len(told) == 2
    assert sum(map(int, told)) == pytest.approx(run_parts.cpu_seconds() - before, abs=1)  # they are rounded
