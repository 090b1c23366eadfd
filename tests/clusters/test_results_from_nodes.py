"""Results that nodes return to a run that wants them in its own process, and the budget that they share."""

import json
import subprocess
import sys

from memory_groups import group, needs_groups

from penstock.budget import MiB

PROGRAM = """
import json, sys, warnings
import penstock
from penstock.errors import CannotFit
import jobs_with_results as jobs

warnings.simplefilter("ignore")
function, items = getattr(jobs, sys.argv[1]), int(sys.argv[2])
if __name__ == "__main__":
    try:
        report = penstock.run(function, range(items), cluster="local:2")
    except CannotFit as error:
        print(json.dumps([0, str(error)]))
    else:
        right = all(result == jobs.expected(function, item) for item, result in enumerate(report.result))
        print(json.dumps([report.done, right]))
"""
JOBS = """
MIB = 1 << 20

def one_mib(item):
    return bytes([item % 256]) * MIB

def beside_its_result(item):
    held = bytearray(60 * MIB)
    for page in range(0, len(held), 4096):
        held[page] = 1
    return 3 * one_mib(item)

def expected(function, item):
    return one_mib(item) if function is one_mib else 3 * one_mib(item)
"""


def run_inside(tmp_path, function, items, mib):
    """What came of it in a control group with that limit, and how many the kernel killed in it."""
    (tmp_path / "jobs_with_results.py").write_text(JOBS)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    with group(mib * MiB) as inside:
        command = inside.command(sys.executable, str(program), function, str(items))
        out = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert out.stdout, out.stderr
        return json.loads(out.stdout), inside.kills


@needs_groups
def test_results_that_cannot_fit_end_the_run_before_the_kernel_must(tmp_path):
    """The parent and the nodes have one budget; it was 473 of 304 MiB."""
    (done, said), kills = run_inside(tmp_path, "one_mib", 1000, 320)
    assert (done, kills) == (0, 0)
    assert "take about 1000 MiB, and leave no call room in the budget of" in said
    assert "Give the run a folder" in said


@needs_groups
def test_what_results_take_here_the_nodes_do_not_use(tmp_path):
    (done, right), kills = run_inside(tmp_path, "beside_its_result", 50, 560)
    assert (done, right, kills) == (50, True, 0)
