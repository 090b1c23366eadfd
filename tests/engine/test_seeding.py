"""The same draws for an item, whatever it is grouped with."""

import random
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import penstock
from penstock.engine.seeding import Seeder


def draw_python(item):
    return random.random(), random.gauss(0, 1)


def draw_numpy(item):
    return float(np.random.random()), float(np.random.normal())


def draw_now_and_then(item):
    """Only some items draw: the first group may have none of them."""
    return np.random.bytes(4) if item % 5 == 4 else b""


def draw_many(item):
    return float(np.random.random(312 + item).sum()), random.getrandbits(32)


def worked(function, cuts, seed=0, seeder=None):
    """As a worker does it: in groups, and a group again when somebody drew."""
    seeder = seeder or Seeder(seed)
    results = []
    for start, stop in pairwise(cuts):
        before = seeder.begin(start)
        group = attempt(function, start, stop, seeder)
        if stop - start > 1 and seeder.was_used(before):
            group = attempt(function, start, stop, seeder)
        results += group
    return results


def attempt(function, start, stop, seeder):
    results = []
    for item in range(start, stop):
        if seeder.each_item:
            seeder.seed(item)
        results.append(function(item))
    return results


@settings(deadline=None)
@given(
    function=st.sampled_from([draw_python, draw_numpy, draw_now_and_then, draw_many]),
    cuts=st.sets(st.integers(1, 29), max_size=8),
    seed=st.integers(0, 3),
)
def test_grouping_is_no_matter(function, cuts, seed):
    alone = worked(function, list(range(31)), seed)
    assert worked(function, sorted({0, 30, *cuts}), seed) == alone[:30]


def test_items_and_seeds_differ():
    draws = [worked(draw_python, [0, 20], seed) + worked(draw_numpy, [0, 20], seed) for seed in (0, 1)]
    assert len({*draws[0], *draws[1]}) == 80


def test_a_function_that_never_draws_is_never_worked_again():
    seeder = Seeder(0)
    worked(lambda item: item, [0, 10, 20], seeder=seeder)
    assert not seeder.each_item


IMPORTS_INSIDE = """
import sys
from penstock.engine.seeding import Seeder
assert "numpy.random" not in sys.modules

def draw(item):
    if item < {first}:
        return 0
    import numpy as np
    return int(np.random.randint(1 << 30))

def attempt(start, stop, seeder):
    for item in range(start, stop):
        if seeder.each_item:
            seeder.seed(item)
        yield draw(item)

seeder, cuts, results = Seeder(0), {cuts}, []
for start, stop in zip(cuts, cuts[1:]):
    before = seeder.begin(start)
    group = list(attempt(start, stop, seeder))
    if stop - start > 1 and seeder.was_used(before):
        group = list(attempt(start, stop, seeder))
    results += group
print(results)
assert not any(type(each).__name__ == "_Importer" for each in sys.meta_path)
"""


@pytest.mark.parametrize("first", [0, 3])
def test_numpy_may_be_imported_inside_the_function(first):
    def told(cuts):
        program = IMPORTS_INSIDE.format(cuts=cuts, first=first)
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        return done.stdout

    assert told([0, 1, 2, 3, 4, 5, 6]) == told([0, 6]) == told([0, 2, 5, 6]) == told([0, 1, 6])


def draw_inside(item):
    import numpy as np

    return float(np.random.random())


def test_a_run_draws_the_same_for_any_workers_and_calls():
    """Every worker's first item too, where numpy.random is not loaded yet."""
    runs = [
        penstock.run(draw_inside, 12, budget="300MiB", workers=workers, call=call).result
        for workers, call in ((1, 1), (2, 1), (2, 5))
    ]
    assert runs[0] == runs[1] == runs[2]
    assert len(set(runs[0])) == 12
