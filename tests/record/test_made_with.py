"""What a run says that it was made with: its command, and of a repository the commit alone."""

import json
import sys
import types

import pytest

import penstock
from penstock import layout
from penstock.record import made_with
from penstock.report.made_with import facts
from penstock.report.page import write_page

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def item(number):
    return number


def repository(folder, head="ref: refs/heads/main"):
    (folder / ".git" / "refs" / "heads").mkdir(parents=True)
    (folder / ".git" / "HEAD").write_text(head)
    return folder / "package" / "code.py"


@pytest.mark.parametrize("kind", ["loose", "packed", "detached", "work tree"])
def test_the_commit_is_read_however_it_is_kept(kind, tmp_path):
    code = repository(tmp_path)
    git = tmp_path / ".git"
    if kind == "packed":
        (git / "packed-refs").write_text(f"# peeled\n{'9' * 40} refs/x\n{COMMIT} refs/heads/main\n")
    elif kind == "detached":
        (git / "HEAD").write_text(COMMIT + "\n")
    else:
        (git / "refs/heads/main").write_text(COMMIT + "\n")
    if kind == "work tree":
        (git / "worktrees" / "w").mkdir(parents=True)
        (git / "worktrees/w/HEAD").write_text("ref: refs/heads/main\n")
        (git / "worktrees/w/commondir").write_text("../..\n")
        (tmp_path / "w").mkdir()
        (tmp_path / "w/.git").write_text(f"gitdir: {git}/worktrees/w\n")
        code = tmp_path / "w" / "code.py"
    assert made_with.commit_of(code) == COMMIT


@pytest.mark.parametrize("head", ["", "ref: ../../x", "ref: refs/heads/none", "nonsense", "ref: /etc/passwd"])
def test_a_repository_that_is_odd_has_no_commit(head, tmp_path):
    assert made_with.commit_of(repository(tmp_path, head)) == ""


def test_what_is_installed_is_of_no_repository_around_it(tmp_path):
    repository(tmp_path, COMMIT)
    assert made_with.commit_of(tmp_path / "venv/lib/site-packages/x.py") == ""
    assert made_with.commit_of(tmp_path / "x.py") == COMMIT


def test_versions_are_of_the_packages_that_a_module_names(monkeypatch, tmp_path):
    module, package = types.ModuleType("code_of_mine"), types.ModuleType("a_package")
    package.__version__ = "4.5"
    module.a_package = package
    monkeypatch.setitem(sys.modules, "a_package", package)
    monkeypatch.setitem(sys.modules, "code_of_mine", module)
    function = types.FunctionType(item.__code__, vars(module))
    function.__module__ = "code_of_mine"
    made_with.note(tmp_path, "", {"function": {"name": "code_of_mine.item"}}, function, private=False)
    told = json.loads((tmp_path / layout.MADE_WITH).read_text())
    assert told["versions"]["a_package"] == "4.5"
    assert told["stages"][""]["function"] == "code_of_mine.item"


@pytest.mark.parametrize("private", [False, True])
def test_a_run_and_its_page_say_it(private, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/prog", "of <Mr. Smith>"])
    with penstock.Run(tmp_path / "run", workers=1, private=private) as run:
        run.stage("one", penstock.Job(source=penstock.sources.Range(2), function=item))
    told = dict(facts(tmp_path / "run"))
    assert told["function"].startswith("one: ")
    assert told["function"].endswith(".item")
    assert f"Penstock {penstock.__version__}" in told["versions"]
    assert ("command" in told) is not private
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Made with" in page
    assert ("of &lt;Mr. Smith&gt;" in page) is not private
    assert penstock.verify(tmp_path / "run").ok


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"stages": 3, "versions": []}', '{"stages": {"": 1}}'])
def test_a_file_that_is_odd_tells_nothing(content, tmp_path):
    (tmp_path / layout.STATE).mkdir()
    (tmp_path / layout.STATE / layout.MADE_WITH).write_text(content)
    assert facts(tmp_path) == []
    assert "Made with" not in write_page(tmp_path, ()).read_text()
