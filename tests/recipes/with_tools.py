"""What recipes show, tried and linted with the tools that they name: make recipes.

The tools are those of requirements-docs.lock, which ``make test`` does without.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from doc_pages import RECIPES, TOP, blocks, text, write_files

PROGRAMS = Path(sys.executable).parent


def run(program, *arguments, cwd=TOP, code=0, **variables):
    """Run a program of this environment; what it printed."""

    done = subprocess.run(
        [PROGRAMS / program, *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"PATH": f"{PROGRAMS}:{os.environ['PATH']}"} | variables,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.mark.parametrize("link", ["words.md", "words.md#a-word", "nowhere.md", "words.md#nothing"])
def test_the_site_is_not_built_where_a_link_leads_nowhere(link, tmp_path):
    """By the command of the Makefile, and what mkdocs.yml says of links."""
    (command,) = re.findall(r"/mkdocs (build [^#\n]*)", text(TOP / "Makefile"))
    ours = text(TOP / "mkdocs.yml")
    strict = re.findall(r"^(?:strict: true|validation:(?:\n  .*)+)$", ours, re.M)
    assert len(strict) == 2
    (tmp_path / "mkdocs.yml").write_text("\n".join(["site_name: x", *strict]))
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/index.md").write_text(f"# Page\n[link]({link})\n")
    (tmp_path / "docs/words.md").write_text("# Words\n## A word\n")
    lost = link in ("nowhere.md", "words.md#nothing")
    said = run("mkdocs", *shlex.split(command), cwd=tmp_path, code=int(lost))
    assert ("Aborted" in said) == lost


def test_the_dockerfile_is_clean():
    run("hadolint", TOP / "Dockerfile")


def test_a_dockerfile_that_is_not_clean_is_noticed(tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM python\nRUN cd / && sudo apt-get install libgomp1\n")
    assert "DL3004" in run("hadolint", tmp_path / "Dockerfile", code=1)


def test_the_workflows_of_this_repository_are_workflows():
    for path in sorted((TOP / ".github/workflows").glob("*.yml")):
        run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", path)


def test_the_citation_is_one():
    run("check-jsonschema", "--builtin-schema", "vendor.citation-file-format", TOP / "CITATION.cff")


@pytest.mark.parametrize("version", ["1.31", ""])
def test_the_job_of_kubernetes_is_one(version, tmp_path):
    wanted = ["--kubernetes-version", version] if version else []
    run("kubernetes-validate", "--strict", *wanted, TOP / "examples/kubernetes/job.yaml")
    wrong = text(TOP / "examples/kubernetes/job.yaml").replace("backoffLimit", "backOffLimit")
    (tmp_path / "job.yaml").write_text(wrong)
    run("kubernetes-validate", "--strict", *wanted, tmp_path / "job.yaml", code=1)


def test_the_workflow_of_the_recipe_is_one(tmp_path):
    write_files(RECIPES / "workflows.md", tmp_path)
    path = tmp_path / ".github/workflows/table.yml"
    run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", path)


def test_snakemake_makes_the_table_and_a_later_try_goes_on(tmp_path):
    page = RECIPES / "workflows.md"
    write_files(page, tmp_path)
    job = tmp_path / "table.py"
    fault = """\
    if number == 999 and not Path("go").exists():
        raise RuntimeError("not yet")
    return"""
    job.write_text("from pathlib import Path\n" + text(job).replace("    return", fault, 1))
    (command,) = [
        line for block in blocks(page) for line in block.text.splitlines() if line.startswith("snakemake ")
    ]
    run(*shlex.split(command), cwd=tmp_path, code=1)
    assert not (tmp_path / "table.parquet").exists()
    failed = json.loads(text(tmp_path / "runs/table/report.json"))
    assert failed["resumed_from"] == 900, "the later tries of the rule began anew"
    (tmp_path / "go").touch()
    run(*shlex.split(command), cwd=tmp_path)
    assert (tmp_path / "table.parquet").exists()
    report = json.loads(text(tmp_path / "runs/table/report.json"))
    assert report["done"] == report["items"] == 1_000
    assert report["resumed_from"] == 900, "the later command began anew"
    assert "Nothing to be done" in run(*shlex.split(command), cwd=tmp_path)


def test_memray_names_the_line(tmp_path):
    page = RECIPES / "memory-line.md"
    write_files(page, tmp_path)
    line = 1 + text(tmp_path / "mycode.py").splitlines().index(
        "    pairs = [(start, start + 3) for start in ends]    # the line: a tuple for each"
    )
    assert f"line {line} of `mycode.py`" in text(page)
    (shown,) = [block.text for block in blocks(page) if "memray" in block.text and block.language == "sh"]
    for command in shown.splitlines():
        words = shlex.split(command)
        assert words.pop(0) == "python"
        said = run("python", *words, cwd=tmp_path)
        if words[2] == "stats":
            largest = said.partition("Top 5 largest allocating locations (by size)")[2].splitlines()[1]
            assert f"mycode.py:{line}" in largest
    assert (tmp_path / "memray-flamegraph-item.html").stat().st_size > 10_000
    assert "/mycode.py" in text(tmp_path / "memray-flamegraph-item.html")


@pytest.mark.parametrize("pool", ["multiprocessing", "mpire"])
def test_before_and_after_give_the_same(pool, tmp_path):
    (before,) = [block.text for block in blocks(RECIPES / "moving.md") if f"from {pool} import" in block.text]
    program = "def area(x):\n    return x * 0.5\n\n" + before + "\nprint(areas)\n"
    (tmp_path / "before.py").write_text(program)
    assert "[0.0, 0.5, 1.0, 1.5, 2.0]" in run("python", "before.py", cwd=tmp_path)
