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
from penstock import worker_note as note
from penstock.engine import messages as m
from penstock.engine.apart import frames
from penstock.engine.worker.main import Setup
from penstock.engine.worker.seeding import Seeder
from penstock.sinks import Collect
from penstock.sources import Range


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
        seeder.begin(start)
        group = attempt(function, start, stop, seeder)
        if seeder.was_used() and stop - start > 1:
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
from penstock.engine.worker.seeding import Seeder
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
    seeder.begin(start)
    group = list(attempt(start, stop, seeder))
    if seeder.was_used() and stop - start > 1:
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


# --------------------------------------------------------------------------- results that are told at once


class Drawing:
    """Some items draw, and some of these raise; notes what is told of the batch whenever one is called."""

    def __init__(self, draws, failing=()):
        self.draws, self.failing = draws, failing
        self.there = memoryview(bytearray(note.BYTES)).cast("q")
        self.called, self.early = [], []

    def __call__(self, item):
        self.called.append(item)
        told = bytes(self.there[note.HEAD :].cast("B")[: self.there[note.EARLY]])
        self.early.append(frames(told))
        drawn = self.draws.get(item, lambda item: item)(item)
        if item in self.failing:
            raise ValueError(str(drawn))
        return drawn

    def worked(self, folder, cuts):
        """By one worker, in batches whose results are told early; their results."""
        setup = Setup(self, Range(30), {"": Collect(anything=True)}, folder, folder, 30, False, None)
        worker = setup.worker(self.there)
        worker.prepare()
        results = []
        for start, stop in pairwise(cuts):
            work = m.Work(start, stop, (), stop - start, 1e9, 1 << 40, 0, 0, 1, 0, apart=start + 1)
            self.early.clear()
            done = worker.answer(work)
            ((_, _, receipt),) = done.receipts[""]
            mine = list(map(str, receipt.value))
            for told in self.early:
                assert list(map(str, told)) == mine[: len(told)], "another result was told early"
            results += mine
        return results


@settings(deadline=None, max_examples=60)
@given(
    draws=st.dictionaries(st.integers(0, 29), st.sampled_from([draw_python, draw_numpy, draw_many])),
    failing=st.sets(st.integers(0, 29), max_size=3),
    cuts=st.sets(st.integers(1, 29), max_size=8),
)
def test_what_is_told_early_was_drawn_from_the_calls_own_seed(tmp_path_factory, draws, failing, cuts):
    folder = tmp_path_factory.getbasetemp()
    alone = Drawing(draws, failing).worked(folder, list(range(31)))
    together = Drawing(draws, failing)
    assert together.worked(folder, sorted({0, 30, *cuts})) == alone
    again = sorted(item for item in set(together.called) if together.called.count(item) > 1)
    assert again in ([], [next(iter(sorted(draws)), None)]), "only the first call that drew is made again"


def test_no_call_is_made_again_where_the_first_draws(tmp_path):
    once = Drawing(dict.fromkeys(range(30), draw_python))
    once.worked(tmp_path, [0, 12, 30])
    assert once.called == list(range(30))
