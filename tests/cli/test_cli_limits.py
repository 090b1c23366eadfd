import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from penstock.budget import Budget, Ceiling, GiB, MiB
from penstock.cli.limits import describe, draw, limits, notes, workers
from penstock.discover import Discovery
from penstock.engine.decide.governor import headroom

FOUND = Discovery(
    Budget(3 * GiB, "group (a/memory.max)", True, 2 * GiB),
    (
        Ceiling(4 * GiB, "tree", "group (a/memory.max)", GiB + 50 * MiB, True),
        Ceiling(16 * GiB, "tree", "SLURM_MEM_PER_NODE of job 7"),
        Ceiling(2 * GiB, "process", "RLIMIT_AS (ulimit -v)"),
    ),
    "auto",
)


def test_lines_for_people():
    lines = draw(FOUND, 50 * MiB, 512 * MiB)
    assert lines[1].split() == ["4.0", "GiB", "1.0", "GiB", "3.0", "GiB", "group", "(a/memory.max)"]
    assert "not told" in lines[2]
    assert lines[2].endswith("SLURM_MEM_PER_NODE of job 7")
    assert "each process alone: RLIMIT_AS" in lines[3]
    assert "budget  3.0 GiB (group (a/memory.max))" in lines
    assert any(line.startswith("workers ") and "of 512 MiB each (memory for 5, " in line for line in lines)
    assert any("this one too" in line for line in lines)


def test_it_says_how_memory_is_measured_and_what_cannot_be_seen(monkeypatch):
    monkeypatch.setenv("PENSTOCK_GROUPS", "none")
    (line,) = [line for line in draw(FOUND, 50 * MiB) if line.startswith("memory ")]
    assert line.startswith("memory  is measured by ")
    assert "cannot see" in line
    assert line.endswith("no control group of our own: PENSTOCK_GROUPS=none")
    assert describe(FOUND, 50 * MiB)["measure"] == "memory " + line.split(maxsplit=1)[1]


def test_json_for_programs():
    answer = describe(FOUND, 50 * MiB, 512 * MiB)
    assert json.loads(json.dumps(answer)) == answer
    assert answer["schema"] == 1
    assert answer["budget"]["bytes"] == 3 * GiB
    assert [each["scope"] for each in answer["ceilings"]] == ["tree", "tree", "process"]
    assert answer["workers"] == min(5, answer["cpus"])
    assert "workers" not in describe(FOUND, 0)


@pytest.mark.parametrize("budget", [200 * MiB, GiB, 12 * GiB])
@pytest.mark.parametrize("each", [MiB, 90 * MiB, GiB])
def test_that_many_workers_fit_and_one_more_does_not(budget, each):
    ours = 30 * MiB
    count = workers(budget, ours, each, 1 << 30)
    assert count * each + ours + headroom(budget) <= budget or count == 0
    assert (count + 1) * each + ours + headroom(budget) > budget
    assert workers(budget, ours, each, 2) == min(count, 2)


def test_when_not_one_fits_it_says_what_would_do():
    found = Discovery(Budget(GiB, "as asked for"), (), "1GiB")
    (line,) = [line for line in draw(found, 20 * MiB, 2 * GiB) if line.startswith("workers")]
    assert line.startswith("workers 0 of 2.0 GiB each: not one fits; it would in about 2.")


def test_a_tight_limit_on_one_process_is_noted():
    assert notes(Budget(4 * GiB, "x", per_process=GiB))[-1] == "one process alone may use 1.0 GiB"
    assert not [note for note in notes(Budget(GiB, "x", per_process=GiB)) if "alone" in note]


def test_the_verb_on_this_machine():
    result = CliRunner().invoke(limits, ["--json", "--per-worker", "1MiB"], env={"PENSTOCK_BUDGET": "64MiB"})
    assert result.exit_code == 0
    answer = json.loads(result.stdout)
    assert answer["budget"]["bytes"] <= 64 * MiB
    assert answer["requested"] == "64MiB"
    result = CliRunner().invoke(limits, ["--budget", "50%"])
    assert "budget  " in result.stdout
    assert "50% of" in result.stdout


def test_help_is_the_docstring():
    result = CliRunner().invoke(limits, ["--help"])
    assert "who set it" in result.stdout
    assert "1.5GiB" in result.stdout


def test_a_limit_on_this_process_shows():
    program = (
        "import resource; resource.setrlimit(resource.RLIMIT_DATA, (3 << 30, 3 << 30))\n"
        "from penstock.cli.limits import limits; limits(['--json'])"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=os.environ)
    answer = json.loads(out.stdout)
    assert answer["budget"]["per_process"] == 3 * GiB
    (alone,) = [each for each in answer["ceilings"] if each["scope"] == "process"]
    assert 0 < alone["used"] < 3 * GiB
