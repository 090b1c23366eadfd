"""What to ask for next time, as arithmetic and as words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import advice
from penstock.budget import GiB, MiB


@given(st.integers(0, 4096 * GiB), st.integers(0, GiB))
def test_the_margin_is_there_and_never_absurd(peak, tables):
    asked = advice.enough(peak, tables)
    needed = peak + tables
    assert asked >= needed + max(peak // 10, 64 * MiB)
    step = GiB if asked > 4 * GiB else GiB // 4 if asked > GiB else 64 * MiB
    assert asked <= needed + peak // 10 + 64 * MiB + step
    assert asked % (64 * MiB) == 0


def test_the_example_of_the_documentation():
    asked = advice.enough(int(2.1 * GiB))
    assert advice.request("slurm", asked) == "#SBATCH --mem=2560M"
    assert advice.request("docker", asked) == "--memory=2560m"
    assert advice.request("k8s", asked) == "resources.limits.memory: 2560Mi"


def test_small_sizes_are_told_in_mebibytes():
    asked = advice.enough(200 * MiB)
    assert advice.request("slurm", asked) == "#SBATCH --mem=320M"
    assert advice.request("docker", asked) == "--memory=320m"
    assert advice.request("k8s", asked) == "resources.limits.memory: 320Mi"


@pytest.mark.parametrize(
    ("environ", "files", "system"),
    [
        ({}, [], "slurm"),
        ({"SLURM_JOB_ID": "7"}, [".dockerenv"], "slurm"),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, [".dockerenv"], "k8s"),
        ({}, [".dockerenv"], "docker"),
        ({}, ["run/.containerenv"], "docker"),
    ],
)
def test_the_system_is_the_one_it_runs_in(environ, files, system, tmp_path):
    (tmp_path / "run").mkdir()
    for name in files:
        (tmp_path / name).touch()
    assert advice.here(environ, tmp_path) == system


@pytest.mark.parametrize("system", advice.SYSTEMS)
@pytest.mark.parametrize("size", [192 * MiB, 3 * GiB])
def test_a_request_is_found_in_a_sentence_whole(system, size):
    asked = advice.request(system, size)
    assert advice.phrases(f"with 3 GiB ({asked}): 6 workers") == ["with 3 GiB (", asked, "): 6 workers"]
    assert advice.phrases(f"next time ask for {asked}")[1] == asked
    assert advice.phrases(f"told of a file {asked}_2.txt") == [f"told of a file {asked}_2.txt"]
