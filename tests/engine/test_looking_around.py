"""How often the governor looks at what others hold: the ceilings, and the backend beside the workers."""

import pytest

from penstock.abc import Reading
from penstock.budget import Budget, BudgetInForce, Ceiling, GiB, MiB
from penstock.discover import Gauge
from penstock.engine.decide import governor
from penstock.engine.parent.governor_thread import GovernorThread
from penstock.engine.parent.options import Host, Options
from penstock.testing import FakeClock


class Straw:
    """One worker, which holds what it is told to; counts looks at what is beside it."""

    def __init__(self):
        self.memory, self.looks = 20 * MiB, 0

    def read(self):
        return {1: Reading(self.memory, 0.0)}

    def overhead(self):
        self.looks += 1
        return 10 * MiB

    def wake(self):
        pass


class Others:
    """A ceiling for all, of which others hold a part."""

    def __init__(self, most):
        self.most, self.held, self.looks = most, 0, 0

    def read(self):
        self.looks += 1
        return [Ceiling(self.most, "tree", "a group", used=110 * MiB + self.held)]


@pytest.fixture(params=[300 * MiB, 512 * MiB, GiB, 16 * GiB])
def budget(request):
    return request.param


@pytest.fixture
def straw():
    return Straw()


@pytest.fixture
def others(budget):
    return Others(2 * budget)


@pytest.fixture
def watch(straw, others, budget):
    given = Budget(budget, "test")
    host = Host(Gauge([others]), FakeClock(), held=lambda: 100 * MiB)
    made = GovernorThread(straw, host, BudgetInForce(given), Options(given, governs=False))
    made.ready(1, 20 * MiB, 20 * MiB)
    made.began(1, 0)
    made.tick()
    return made


def turns(watch, count):
    for _ in range(count):
        watch._clock.sleep(watch.tick())


def test_while_there_is_room_they_are_read_at_every_fifth_turn(straw, others, watch):
    before = others.looks, straw.looks
    turns(watch, 100)
    assert 16 <= others.looks - before[0] <= 25
    assert 16 <= straw.looks - before[1] <= 25


def test_when_memory_is_short_they_are_read_at_every_turn(straw, others, watch, budget):
    straw.memory = budget - 130 * MiB - governor.headroom(budget)
    turns(watch, 1)
    assert watch.memory.free < 2 * governor.headroom(budget)
    before = others.looks, straw.looks
    turns(watch, 50)
    assert (others.looks - before[0], straw.looks - before[1]) == (50, 50)


def test_what_others_take_is_seen_within_five_turns(others, watch, budget):
    turns(watch, 20)
    others.held = 2 * budget
    turns(watch, 6)
    assert watch.memory.free < 0
