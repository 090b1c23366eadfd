"""What the governor makes of control groups' counters, with a backend of straw."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.abc import Reading
from penstock.budget import Budget, BudgetInForce, Ceiling, GiB, MiB
from penstock.discover import Gauge
from penstock.engine.decide import governor
from penstock.engine.messages import MeasuredCall
from penstock.engine.parent.governor_thread import GovernorThread
from penstock.engine.parent.options import Host, Options
from penstock.engine.parent.tree_total import MemorySample, within
from penstock.testing import FakeClock


class Straw:
    """Worker 1 and the run, as they are set."""

    def __init__(self):
        self.reading = Reading(20 * MiB, 0.0, charged=5 * MiB, charged_peak=5 * MiB, charged_bound=5 * MiB)
        self.sum = self.most = 15 * MiB
        self.killed, self.paused = [], []

    def kill(self, worker):
        self.killed.append(worker)

    def pause(self, worker):
        self.paused.append(worker)

    def read(self):
        return {1: self.reading}

    def hold(self, charged, *, peak=None, bound=None, pipes=0, memory=20 * MiB):
        peak = charged if peak is None else peak
        bound = peak if bound is None else bound
        self.reading = Reading(
            memory, 0.0, pipes=pipes, charged=charged, charged_peak=peak, charged_bound=bound
        )

    def overhead(self):
        return 10 * MiB

    def total(self):
        return self.sum

    def top(self):
        return self.most

    def wake(self):
        pass


@pytest.fixture
def straw():
    return Straw()


@pytest.fixture
def watch(straw):
    """Worker 1 is idle, holds 20 MiB, and 5 of them alone; this process holds 100."""
    budget = Budget(GiB, "test")
    host = Host(Gauge([]), FakeClock(), held=lambda: 100 * MiB)
    made = GovernorThread(straw, host, BudgetInForce(budget), Options(budget, governs=False))
    made.ready(1, 20 * MiB, 5 * MiB)
    made.tick()
    return made


def test_the_sum_is_the_runs_own(watch):
    assert watch.memory.used == 115 * MiB


def test_what_a_worker_holds_is_what_its_group_is_charged_with(straw, watch):
    """Its processes, added up, hold four times as much: they have it in common."""
    watch.began(1, 0)
    straw.hold(55 * MiB, memory=220 * MiB)
    watch.tick()
    assert watch.held(1) == 50 * MiB
    assert watch.ended(1) == 50 * MiB


def test_the_governor_is_told_what_grew_since_its_last_turn(straw, watch, monkeypatch):
    """Also where the loop has read in between: to refine what a call took."""
    told = []

    def decide(free, budget, watched, now, last_kill):
        told.append([each.grows for each in watched])
        return governor.Orders()

    monkeypatch.setattr(governor, "decide", decide)
    watch._options = replace(watch._options, governs=True)
    watch.began(1, 0)
    for charged in (55, 60, 60, 40):
        straw.hold(charged * MiB)
        watch.refine(1, [MeasuredCall(0, 1, 200 * MiB, 1.0)])
        watch.tick()
    assert told == [[True], [True], [False], [False]]
    watch._clock.sleep(0.1)
    watch.tick()
    assert told[-1] == [True], "who had no turn since then may still grow"


def test_pipes_count(straw, watch):
    watch.began(1, 0)
    straw.hold(5 * MiB, pipes=60 * MiB)
    watch.tick()
    assert watch.held(1) == 60 * MiB


def test_a_call_whose_processes_were_added_up_took_no_more_than_its_group_held(straw, watch):
    watch.began(1, 0)
    straw.hold(55 * MiB)
    watch.tick()
    (call,) = watch.refine(1, [MeasuredCall(0, 1, 200 * MiB, 1.0)])
    assert call.peak == 50 * MiB


def test_a_call_that_no_reading_saw_is_believed_as_far_as_the_next_one_goes(straw, watch):
    """It ended before the governor looked: it is looked at once more before anything is taken off."""
    watch.began(1, 0)
    straw.hold(6 * MiB, peak=6 * MiB, bound=85 * MiB)
    (call,) = watch.refine(1, [MeasuredCall(0, 1, 80 * MiB, 0.005)])
    assert call.peak == 80 * MiB


def test_without_a_mark_nothing_is_taken_off(straw, watch):
    watch.began(1, 0)
    straw.hold(6 * MiB, bound=math.inf)
    (call,) = watch.refine(1, [MeasuredCall(0, 1, 80 * MiB, 0.005)])
    assert call.peak == 80 * MiB


def test_without_a_group_nothing_is_taken_off(straw, watch):
    watch.began(1, 0)
    straw.reading = Reading(30 * MiB, 0.0)
    watch.tick()
    (call,) = watch.refine(1, [MeasuredCall(0, 1, 80 * MiB, 0.005)])
    assert call.peak == 80 * MiB


def test_a_spike_between_two_readings_is_in_the_runs_peak(straw, watch):
    watch.began(1, 0)
    straw.hold(5 * MiB, peak=305 * MiB)
    straw.most = 315 * MiB
    watch.tick()
    assert watch.memory.peak == 415 * MiB
    assert watch.memory.used == 115 * MiB


def test_spikes_of_several_at_once_are_one_sum(straw, watch):
    """What the workers held at most is not added up where the run's own mark says less."""
    watch.began(1, 0)
    straw.hold(5 * MiB, peak=305 * MiB)
    straw.most = 200 * MiB
    watch.tick()
    assert watch.memory.peak == 300 * MiB


def test_a_spike_is_told_of_the_worker_that_had_it(straw, watch):
    watch.began(1, 0)
    straw.hold(5 * MiB, peak=305 * MiB)
    straw.most = 315 * MiB
    watch.sample()
    watch.tick()
    assert watch.sample() == MemorySample(415 * MiB, {1: 305 * MiB}, GiB - 115 * MiB)


def test_a_worker_that_is_gone_holds_nothing_of_a_later_reading(straw, watch):
    watch.began(1, 0)
    straw.hold(305 * MiB)
    straw.sum = straw.most = 315 * MiB
    watch.tick()
    assert watch.sample() == MemorySample(415 * MiB, {1: 305 * MiB}, GiB - 415 * MiB)
    straw.read = dict
    straw.sum = straw.most = 10 * MiB
    watch.tick()
    assert watch.sample() == MemorySample(110 * MiB, {}, GiB - 110 * MiB)


def test_a_worker_that_lets_go_while_it_is_read_holds_no_more_than_the_whole(straw, watch):
    watch.began(1, 0)
    straw.hold(305 * MiB)
    straw.sum = straw.most = 60 * MiB
    watch.tick()
    assert watch.sample().workers == {1: 60 * MiB}


@given(st.dictionaries(st.integers(), st.integers(0, GiB)), st.integers(0, GiB))
def test_parts_are_cut_only_where_they_are_more_than_the_whole(parts, whole):
    kept = within(parts, whole)
    assert kept.keys() == parts.keys()
    assert all(kept[each] <= parts[each] for each in parts)
    assert sum(kept.values()) == min(whole, sum(parts.values())) or max(kept.values()) < max(parts.values())
    assert sum(kept.values()) <= whole


def test_a_file_that_came_and_went_is_no_memory(straw, watch):
    """The run's mark counts its pages; no worker's page faults explain them."""
    watch.began(1, 0)
    straw.most = 315 * MiB
    watch.tick()
    assert watch.memory.peak == 115 * MiB


def test_whom_the_kernel_took_gives_its_memory_back_before_another_is_ended(straw):
    """This process slept meanwhile; the kernel's victim is gone, and what it held is still charged."""
    used, kills = 200 * MiB, 0

    class Limit:
        def read(self):
            return [Ceiling(GiB, "tree", "made up", used, kernel_kills=kills)]

    budget, clock = Budget(GiB, "test"), FakeClock()
    host = Host(Gauge([Limit()]), clock, held=lambda: 100 * MiB)
    watch = GovernorThread(straw, host, BudgetInForce(budget), Options(budget))
    watch.ready(1, 20 * MiB, 5 * MiB)
    watch.began(1, 0)
    watch.tick()
    clock.sleep(10.0)
    used, kills = GiB, 1
    watch.tick()
    assert straw.killed == []
    clock.sleep(1.0)
    watch.tick()
    assert straw.killed == [1], "nothing came back: the next is ended"
