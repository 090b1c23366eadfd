"""What runs the parts: all of them are run, two at a time, and one that fails fails the whole."""

from collections import defaultdict

import run_parts

FAILS = "def test_no():\n    print('what it saw')\n    assert False\n"


def put(folder, name, text="def test_yes():\n    pass\n"):
    path = folder / "tests" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def run(folder, monkeypatch):
    monkeypatch.setattr(run_parts, "HERE", folder / "tests")
    return run_parts.run_all(2, [])


def test_a_failing_part_is_shown_and_named_and_the_others_are_run(tmp_path, monkeypatch, capfd):
    put(tmp_path, "test_a.py")
    put(tmp_path, "adversarial/test_b.py", FAILS)
    put(tmp_path, "deep/er/test_c.py")
    put(tmp_path, "deep/er/test_d.py")
    put(tmp_path, "broken/test_e.py", "import no_such_module\n")
    monkeypatch.setattr(run_parts, "HERE", tmp_path / "tests")
    assert run_parts.parts() == ["adversarial", "broken", "deep/er", "test_a.py"]
    counts, failed = run(tmp_path, monkeypatch)
    assert counts == {"passed": 3, "failed": 1, "error": 1}
    assert sorted(failed) == ["tests/adversarial (exit code 1)", "tests/broken (exit code 2)"]
    said = capfd.readouterr().out
    assert "what it saw" in said
    assert [line for line in said.splitlines() if line == "== tests/deep/er"]


def test_a_part_without_a_single_test_fails(tmp_path, monkeypatch):
    put(tmp_path, "test_a.py", "")
    assert run(tmp_path, monkeypatch)[1] == ["tests/test_a.py (exit code 5)"]


def test_every_file_of_tests_belongs_to_one_part():
    parts = run_parts.parts()
    assert len(parts) == len(set(parts))
    for file in run_parts.HERE.rglob("test_*.py"):
        name = file.relative_to(run_parts.HERE)
        assert (name.as_posix() in parts) != (name.parent.as_posix() in parts), file
    assert set(run_parts.FIRST) | set(run_parts.KILLING) <= set(parts)


def test_all_parts_can_be_collected_in_one_process():
    """Plain ``pytest``: two files of one name would be one module, and nothing would be collected."""
    places = defaultdict(list)
    for file in run_parts.HERE.rglob("*.py"):
        if file.name not in ("conftest.py", "__init__.py") and not (file.parent / "__init__.py").exists():
            places[file.name].append(file.relative_to(run_parts.HERE).as_posix())
    assert len(places) > 150
    assert not {name: files for name, files in places.items() if len(files) > 1}


def test_what_the_kernel_kills_in_one_part_is_not_laid_at_the_door_of_another():
    class Of:
        def __init__(self, part):
            self.part = part

    assert run_parts.choose(["supervise", "cli"], [Of("adversarial")]) == "cli"
    assert run_parts.choose(["supervise", "cli"], [Of("engine")]) == "supervise"
    assert run_parts.choose(["supervise"], [Of("adversarial")]) is None
