"""What recipes show, tried and linted with the tools that they name: make recipes.

The tools are those of requirements-docs.lock, which ``make test`` does without.
"""

import os
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
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
