"""What is learnt of a stage, and what is predicted from it."""

import pytest

from penstock.budget import Budget, GiB, MiB
from penstock.engine.decide.estimate import Estimate, Wishes
from penstock.engine.decide.plan import Reserved
from penstock.engine.messages import MeasuredCall
from penstock.sources import Range


class Sized:
    def __init__(self, sizes):
        self._sizes = sizes

    def __len__(self):
        return len(self._sizes)

    def read(self, start, stop):
        return self._sizes[start:stop]

    def fingerprint(self):
        return {}

    def sizes(self, start, stop):
        return self._sizes[start:stop]


def estimate(source=None, *, batched=False, **wishes):
    source = Range(1000) if source is None else source
    return Estimate(source, batched=batched, wishes=Wishes(**wishes), cores=4)


def test_hints():
    assert estimate().hints(3, 8) == (1.0, 5.0)
    assert estimate(Sized([5, 1, 9, 2])).hints(1, 4) == (9.0, 12.0)


def test_probes_are_the_first_the_largest_the_last_and_a_few_between():
    probes = estimate(Sized([1] * 30 + [99] + [1] * 69)).probes()
    assert probes[:3] == [0, 30, 99]
    assert len(probes) == len(set(probes)) == 8
    assert estimate(Range(0)).probes() == []
    assert estimate(Range(1)).probes() == [0]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 1000])
def test_probes_are_items(count):
    assert all(0 <= item < count for item in estimate(Range(count)).probes(24))


def test_the_time_of_an_item_leaves_the_first_call_out():
    learnt = estimate()
    learnt.learn([MeasuredCall(0, 1, MiB, 5.0), MeasuredCall(1, 11, MiB, 1.0)], 11, 6.0, first=True, seen=0)
    assert learnt.seconds_per_item == pytest.approx(0.1)
    assert (learnt.measured_call, learnt.measured_batch) == (10, 11)


def test_children_count_for_the_highest_call():
    learnt = estimate()
    learnt.learn(
        [MeasuredCall(0, 1, 10 * MiB, 1.0), MeasuredCall(1, 2, 20 * MiB, 1.0)],
        2,
        2.0,
        first=False,
        seen=500 * MiB,
    )
    assert learnt.bound(learnt.shape(0, 1, 1), first=False) >= 500 * MiB


def test_a_batch_is_bounded_by_its_largest_call():
    learnt = estimate(Sized([10, 10, 1000, 10] * 10), batched=True)
    for n in range(40):
        size = 10 * (1 + n % 8)
        learnt.footprint.observe(type_of(size))
    many = learnt.bound(learnt.shape(0, 40, 2), first=False)
    assert many <= learnt.footprint.bound(1000.0, 2000.0)


def type_of(size):
    from penstock.engine.decide.footprint import Observation

    return Observation(size, size, size * MiB)


def test_the_plan_follows():
    learnt = estimate(workers=3, call=5, memory=100 * MiB)
    plan = learnt.plan(Budget(4 * GiB, "as asked for"), Reserved(50 * MiB, 0, 10 * MiB))
    assert (plan.workers, plan.call, plan.footprint, plan.declared) == (3, 1, 100 * MiB, True)
    assert plan.items == 1000
    small = estimate(memory=100 * MiB).plan(
        Budget(350 * MiB, "as asked for"), Reserved(50 * MiB, 0, 10 * MiB)
    )
    assert small.workers == 2


def test_no_more_workers_than_items():
    plan = estimate(Range(2)).plan(Budget(4 * GiB, "x"), Reserved(0, 0, 0))
    assert plan.workers == 2


@pytest.mark.parametrize(
    ("items", "asked", "says"),
    [(100, None, "there are 4 cores"), (3, None, "there are 3 items"), (100, 2, "so many were asked for")],
)
def test_one_reason_is_told_why_there_are_not_more_workers(items, asked, says):
    plan = estimate(Range(items), workers=asked).plan(Budget(4 * GiB, "x"), Reserved(0, 0, 0))
    assert plan.limit == says


@pytest.mark.parametrize(
    ("sizes", "several"), [([100, 101] * 500, True), ([10, 60, 20, 300, 40] * 200, False)]
)
def test_a_batch_is_as_short_as_its_items_differ_where_memory_binds(sizes, several):
    """A batch counts with its largest item as long as it runs: of unlike ones it has one."""
    learnt = estimate(Sized(sizes))
    calls = [MeasuredCall(n, n + 1, sizes[n] * MiB, 0.5) for n in range(100)]
    learnt.learn(calls, 100, 50.0, first=False, seen=0)
    plan = learnt.plan(Budget(400 * MiB, "test"), Reserved(20 * MiB, 0, 2 * MiB))
    assert plan.workers > 1
    assert (plan.most_calls > 8) == several
    assert (plan.most_calls == 1) != several
