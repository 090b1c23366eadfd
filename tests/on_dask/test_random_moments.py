"""A round of each kind of the benchmark that kills at random moments: what it asserts holds at any load."""

import os
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "cluster"))

import moments


@pytest.mark.parametrize("kind", ["local: the parent", "local: a node frozen", "dask: a worker"])
def test_nothing_is_lost_and_nothing_twice_whatever_is_killed_when(kind, tmp_path):
    seed = time.time_ns() % 10**6
    seen = moments.play(kind, 1, seed, tmp_path, patient=True)
    assert not seen.faults, (f"seed {seed}", os.getloadavg(), seen.faults)
    assert seen.rounds == 1
