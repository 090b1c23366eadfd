"""The documentation: its code runs, its commands parse, its links lead somewhere, and nothing is left out.

Of a page (a Markdown file in ``docs/`` or ``docs/recipes/``, and ``README.md``) every block fenced as
``python`` runs, all of one page in one program, in a temporary folder and a small budget. A comment on the
line before a fence says otherwise:

    <!-- file: NAME -->        the block is that file in the folder; a test_*.py is run by pytest afterwards
    <!-- not run: REASON -->   it is only compiled

In a block, ``expression  # -> value`` is checked: the expression's repr must be the value. A block with a
line marked ``# before`` shows two versions of a line, and is only compiled.
"""

import dataclasses
import importlib.util
import inspect
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
from doc_pages import DOCS, RECIPES, TOP, blocks, text, write_files
from waiting import LIMIT

import penstock
from penstock import abc, errors, registry
from penstock.budget import GiB
from penstock.cli import VERBS, main, target
from penstock.engine.decide.plan import Plan, Reserved
from penstock.report.heavy import NamedCall
from penstock.report.report import Report

PAGES = [
    *sorted(DOCS.glob("*.md")),
    *sorted(RECIPES.glob("*.md")),
    *(path for path in [TOP / "README.md"] if path.exists()),
]
BUDGET = "400MiB"
STAND_INS = {"README.md": "similarity = float"}
"""What a page speaks of and does not show, on its first line: something small instead."""

page_of = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(TOP).as_posix())


# --------------------------------------------------------------------------- reading pages


def prose(page):
    """A page without its blocks, the lines counted as they were."""
    return re.sub(r"^```.*?^```$", lambda block: "\n" * block[0].count("\n"), text(page), flags=re.M | re.S)


def written_by_hand():
    return "\n".join(text(page) for page in PAGES if page.name != "cli.md")


# --------------------------------------------------------------------------- code


def program(page):
    """The blocks of a page that run, on the lines where they stand, so that a traceback tells the place."""
    lines = [STAND_INS.get(page.name, "")]
    for block in blocks(page):
        if block.language == "python" and not block.said and "# before" not in block.text:
            lines += [""] * (block.line - 1 - len(lines))
            lines += [checked(line) for line in block.text.splitlines()]
    return "\n".join(lines) + "\n"


def checked(line):
    """``expression  # -> value`` as a test of it."""
    shown = re.fullmatch(r"(\S.*?)\s+# -> (.+)", line)
    if shown is None:
        return line
    return f"_ = repr(({shown[1]})); assert _ == {shown[2]!r}, _"


def python(*arguments, cwd):
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    return subprocess.run(
        [sys.executable, "-W", "error", "-W", "default::RuntimeWarning", *arguments],
        cwd=cwd, env=environ | {"PENSTOCK_BUDGET": BUDGET}, capture_output=True, text=True, timeout=LIMIT,
    )  # fmt: skip


@page_of
def test_the_code_of_a_page_runs(page, tmp_path):
    write_files(page, tmp_path)
    (tmp_path / f"{page.stem}_page.py").write_text(program(page))
    done = python(f"{page.stem}_page.py", cwd=tmp_path)
    assert done.returncode == 0, f"{page.name}:\n{done.stdout}\n{done.stderr}"
    if tests := sorted(path.name for path in tmp_path.glob("test_*.py")):
        # A configuration of its own, so that this repository's does not count.
        (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
        done = python("-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, cwd=tmp_path)
        assert done.returncode == 0, f"{page.name}:\n{done.stdout}\n{done.stderr}"


@page_of
def test_the_code_that_does_not_run_says_why_and_compiles(page):
    for block in blocks(page):
        if block.language == "python":
            assert not block.said or re.match(r"file: [\w./-]+$|not run: .{15}", block.said), block
            compile(block.text, f"{page.name}:{block.line}", "exec")


@page_of
def test_every_fence_says_what_is_in_it(page):
    odd = [
        f"line {block.line}: {block.language!r}"
        for block in blocks(page)
        if block.language not in ("python", "console", "sh", "bash", "text", "toml", "yaml", "json", "groovy")
        and not (page.name == "README.md" and not block.language)
    ]
    assert odd == []


@page_of
def test_entry_points_shown_are_ours_and_lead_somewhere(page):
    files = {
        block.said.removeprefix("file: "): block.text
        for block in blocks(page)
        if block.said.startswith("file: ")
    }
    for block in blocks(page):
        if block.language != "toml":
            continue
        for group, entries in tomllib.loads(block.text)["project"]["entry-points"].items():
            assert group.removeprefix("penstock.").removesuffix("s") in registry.KINDS, group
            for place in entries.values():
                module, _, name = place.partition(":")
                source = files[f"{module.replace('.', '/')}.py"]
                assert re.search(rf"^(class|def) {name}\b|^{name} = ", source, re.M), place


# --------------------------------------------------------------------------- commands


def commands(page):
    """The lines of a page that call ``penstock``, as words, with their numbers."""
    found = []
    for block in blocks(page):
        if block.language not in ("console", "sh", "bash", ""):
            continue
        joined = block.text.replace("\\\n", " ")
        for line in joined.splitlines():
            if not block.language:  # a plain block: what a command does stands behind it
                line = re.split(r" {3,}", line)[0] if line.startswith("penstock ") else ""
            words = shlex.split(line.removeprefix("$ "), comments=True)
            while words and re.fullmatch(r"[A-Z_]+=.*|srun|exec|\d*[<>].*", words[0]):
                words.pop(0)
            if words[:1] == ["penstock"] and (block.language != "console" or line.startswith("$ ")):
                ends = [number for number, word in enumerate(words) if re.fullmatch(r"[|;&>].*|\d>.*", word)]
                found.append((block.line, words[1 : ends[0] if ends else None]))
    return found


@pytest.fixture
def nothing_is_looked_for(monkeypatch):
    """Files named in a page are not there, and need not be to see whether a command is well formed."""
    monkeypatch.setattr(click.Path, "convert", lambda self, value, param, ctx: value)
    monkeypatch.setattr(target, "find_job", target.Target)


@page_of
def test_the_commands_of_a_page_parse(page, nothing_is_looked_for):
    for line, words in commands(page):
        try:
            parse(main, "penstock", words, None)
        except click.exceptions.Exit:  # --help, --version
            continue
        except click.UsageError as error:
            pytest.fail(f"{page.name}:{line}: penstock {shlex.join(words)}: {error.format_message()}")


def parse(command, name, words, parent):
    if isinstance(command, click.Group) and words and not words[0].startswith("-"):
        context = click.Context(command, info_name=name, parent=parent, **command.context_settings)
        inner = command.get_command(context, words[0])
        if inner is None:
            raise click.UsageError(f"no such command: {words[0]}")
        parse(inner, words[0], words[1:], context)
    else:
        command.make_context(name, list(words), parent=parent)


def test_a_wrong_command_is_noticed(nothing_is_looked_for):
    for words in (["run", "a.py:job"], ["run", "a.py:job", "--into", "x", "--budgets", "1GiB"], ["stop"]):
        with pytest.raises(click.UsageError):
            parse(main, "penstock", words, None)


def generated():
    spec = importlib.util.spec_from_file_location("generate_cli", DOCS / "generate_cli.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.text()


def test_the_page_of_the_command_line_is_up_to_date():
    assert text(DOCS / "cli.md") == generated(), "run: python docs/generate_cli.py"


# --------------------------------------------------------------------------- nothing is left out


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_shown_with_every_option(verb):
    page = text(DOCS / "running.md")
    assert f"$ penstock {verb}" in page
    command = main.get_command(click.Context(main), verb)
    options = [*command.params, *(command.ours() if hasattr(command, "ours") else ())]
    flags = [flag for option in options if isinstance(option, click.Option) for flag in option.opts]
    assert [flag for flag in flags if flag.startswith("--") and flag not in page] == []


def test_every_exit_code_is_told():
    tree = [errors.PenstockError]
    for each in tree:
        tree += each.__subclasses__()
    codes = {0, 5, 130, 143} | {each.exit_code for each in tree if each.__module__ == errors.__name__}
    table = text(DOCS / "running.md")
    assert [code for code in sorted(codes) if not re.search(rf"^\| {code} \|", table, re.M)] == []


def test_every_environment_variable_is_told():
    read = set()
    for file in (TOP / "src").rglob("*.py"):
        read |= set(re.findall(r"\bPENSTOCK_[A-Z]+\b", file.read_text()))
    read -= {"PENSTOCK_RESCUE"}  # set by ourselves, for a process that we start
    assert {name for name in read if name not in text(DOCS / "running.md")} == set()


def test_every_public_name_is_told():
    page = text(DOCS / "python.md")
    assert [name for name in penstock.__all__ if not re.search(rf"\b{name}\b", page)] == []


def test_every_source_sink_and_reducer_is_told():
    page = text(DOCS / "python.md")
    packages = (penstock.sources, penstock.sinks, penstock.reducers)
    assert [name for package in packages for name in package.__all__ if f"`{name}" not in page] == []


@pytest.mark.parametrize("what", [penstock.Job, penstock.Run, penstock.run, penstock.Run.step])
def test_every_option_in_python_is_told(what):
    page = text(DOCS / "python.md")
    names = [name for name in inspect.signature(what).parameters if name != "self"]
    assert [name for name in names if not re.search(rf"[`(, ]{name}\b", page)] == []


def test_every_seam_is_told():
    page = text(DOCS / "writing-plugins.md")
    seams = [name for name in abc.__all__ if getattr(getattr(abc, name), "_is_protocol", False)]
    assert len(seams) > 10
    assert [name for name in seams if f"`{name}`" not in page] == []


def test_every_suite_is_used_in_an_example():
    import penstock.testing

    page = text(DOCS / "writing-plugins.md")
    suites = [name for name in penstock.testing.__all__ if name.endswith("Suite")]
    assert len(suites) >= 3
    assert [name for name in suites if f"({name})" not in page] == []


PLAN = Plan(
    budget=2 * GiB, origin="test", reserved=Reserved(1, 1, 1), footprint=1, median=1, tried=3, declared=False,
    workers=2, call=1, batch=1, seconds_per_item=1.0, items=3, kills_group=True,
)  # fmt: skip


REPORT = Report(
    items=3, batches=2, projected=1, peak=1, enough=1, failures={"memory": 1}, set_aside_total=1,
    folder=Path("x"),
    set_aside=(errors.SetAside(0, "0", "memory", "needs more"),),
    heaviest=(NamedCall(start=0, stop=1, peak=1),),
)  # fmt: skip
PRINTED = {
    "plan": {row[0] for row in PLAN.rows()},
    "report": {row[0] for row in REPORT._rows() if row[0]},
}


def test_every_word_that_is_printed_is_in_the_glossary():
    words = set(re.findall(r"^\*\*([a-z ]+)\*\*", text(DOCS / "words.md"), re.M))
    assert PRINTED["plan"] - {"time", "note"} - words == set()
    assert PRINTED["report"] - {"run", "batches", "failures", "folder"} - words == set()


def test_tables_are_shown_as_they_are_printed():
    shown = {"plan": set(), "report": set()}
    for page in PAGES:
        for block in blocks(page):
            verb = ""
            for line in block.text.splitlines() if block.language == "console" else ():
                if line.startswith("$ "):
                    verb = line.split()[2] if line.startswith("$ penstock ") else ""
                elif verb in shown:
                    shown[verb].add(line.partition("  ")[0])
    assert {verb: words - PRINTED[verb] for verb, words in shown.items()} == {"plan": set(), "report": set()}
    assert all(len(words) > 5 for words in shown.values())


def test_the_fields_of_what_is_returned_are_told():
    page = text(DOCS / "python.md")
    fields = {field.name for field in dataclasses.fields(Report)} - {"open_result", "stage", "origin"}
    assert [name for name in sorted(fields) if not re.search(rf"\b{name}\b", page)] == []


# --------------------------------------------------------------------------- links


def slug(heading):
    """The anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower().replace("`", "")).replace(" ", "-")


@page_of
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"https?://|mailto:", link):
            continue
        file, _, anchor = link.partition("#")
        aim = (page.parent / file).resolve() if file else page
        assert aim.exists(), f"{page.name}: {link}"
        if anchor:
            anchors = {slug(heading) for heading in re.findall(r"^#+ (.+)$", prose(aim), re.M)}
            assert anchor in anchors, f"{page.name}: {link}"


def test_every_page_is_reached_from_the_index():
    linked = set(re.findall(r"\]\(([\w-]+\.md)", text(DOCS / "index.md")))
    assert {page.name for page in DOCS.glob("*.md")} - linked == {"index.md"}
    assert "](recipes/index.md)" in text(DOCS / "index.md")
    linked = set(re.findall(r"\]\(([\w-]+\.md)", text(RECIPES / "index.md")))
    assert {page.name for page in RECIPES.glob("*.md")} - linked == {"index.md"}


def test_every_file_that_developers_are_led_to_is_there():
    page = text(DOCS / "developing.md")
    named = set(re.findall(r"`((?:tests/)?[\w/]+\.py|[\w/]+/)`", page))
    assert len(named) > 40
    folders = {
        "",
        "engine/",
        *(f"engine/{package}/" for package in ("decide", "parent", "worker")),
        "record/",
        "runs/",
    }
    ours = TOP / "src" / "penstock"
    places = {name: [TOP / name, *(ours / folder / name for folder in folders)] for name in named}
    assert [name for name, found in sorted(places.items()) if not any(path.exists() for path in found)] == []


def test_every_promise_names_a_test_that_is_there():
    page = text(DOCS / "reliability.md")
    named = set(re.findall(r"`(tests/[\w/]+\.py)`", page))
    assert len(named) > 5
    assert [name for name in sorted(named) if not (TOP / name).exists()] == []
    promises = page.partition("## What is promised")[2].partition("\n## ")[0]
    for row in re.findall(r"^\| .* \|$", promises, re.M)[2:]:
        assert "`tests/" in row, row
