"""Calls of an executor: none waits for another while a worker is free, and trivial ones stay cheap."""

import math
import struct

import pytest

from penstock import discover
from penstock import events as ev
from penstock import worker_note as note
from penstock.abc import SetAside
from penstock.budget import GiB, MiB
from penstock.engine.apart import Apart, frame, frames
from penstock.engine.decide.schedule import Schedule
from penstock.engine.parent.overdue import LATE, Running, decide
from penstock.errors import PenstockBug
from penstock.testing import Deed, FakeBackend, FakeClock, simulate, simulation


@pytest.fixture(autouse=True)
def quiet_machine(monkeypatch):
    monkeypatch.setattr(discover, "shared_files", lambda: 0, raising=False)


def calls(seconds, workers=4, memory=1 * MiB, grain=0.002, **more):
    """A run of calls that take so long, all submitted at once; nothing was worked twice."""
    backend = FakeBackend(lambda item, tries: Deed(seconds[item], memory), clock=FakeClock(grain=grain))
    run = simulate(backend, len(seconds), GiB, workers=workers, endless=True, **more)
    assert run.results == list(range(len(seconds)))
    assert set(backend.tries.values()) == {1}
    return run


def began(run):
    return min(event.at for event in run.events_of(ev.BatchStarted))


# --------------------------------------------------------------------------- as a whole


def test_long_and_short_calls_take_as_long_as_the_long_ones():
    run = calls([0, 2] * 4)
    assert max(run.when.values()) - min(run.when.values()) < 3


def test_the_result_of_a_short_call_does_not_wait_for_a_long_one():
    run = calls([0, 0, 6])
    assert run.when[1] < run.when[2] - 5


def test_calls_run_at_the_same_time_though_those_before_them_were_short():
    run = calls([0.00001] * 200 + [5] * 4)
    assert max(run.when[item] for item in range(200, 204)) - max(run.when[item] for item in range(200)) < 6


@pytest.mark.parametrize("long", [0, 1, 500, 1990, 1999])
def test_nobody_waits_for_a_long_call_among_short_ones(long):
    seconds = [0.0001] * 2000
    seconds[long] = 8.0
    run = calls(seconds, workers=2)
    others = max(at for item, at in run.when.items() if item != long)
    assert others < run.when[long] - 4


def test_every_call_is_long_after_all():
    seconds = [0.0001] * 1000 + [1.0] * 100
    run = calls(seconds, workers=4)
    assert max(run.when.values()) - max(run.when[item] for item in range(1000)) < 100 / 4 + 5


def test_ten_thousand_trivial_calls_travel_together():
    run = calls([0.00002] * 10_000, grain=0.0001)
    assert len(run.events_of(ev.BatchStarted)) < 600


def in_rounds(seconds, rounds):
    """Four calls, and when they are done four others, as often; who starts when another one is worth it."""
    clock = FakeClock(grain=0.0005)
    backend = FakeBackend(lambda item, tries: Deed(seconds, 1 * MiB), clock=clock)
    run = simulation(backend, 4, GiB, workers=2, endless=True)
    stage = run.loop.stage

    def take_in():
        if stage.schedule.finished and stage.schedule.items < 4 * rounds:
            stage.extend(stage.schedule.items + 4)
        return stage.schedule.items < 4 * rounds

    run.loop.serve(take_in)
    assert run.results == list(range(4 * rounds))
    return run


def test_a_few_calls_again_and_again_get_another_worker_in_the_end():
    assert len(in_rounds(0.015, 2).events_of(ev.WorkerStarted)) == 1
    assert len(in_rounds(0.015, 10).events_of(ev.WorkerStarted)) == 2


def test_a_few_trivial_calls_travel_together_and_one_worker_does():
    run = in_rounds(0.00005, 50)
    assert len(run.events_of(ev.WorkerStarted)) == 1
    assert len(run.events_of(ev.BatchStarted)) < 60


def test_memory_alone_holds_calls_back_and_then_it_is_said_once():
    backend = FakeBackend(lambda item, tries: Deed(1000.0, 600 * MiB), clock=FakeClock(grain=2.0))
    run = simulate(backend, 3, GiB, memory=600 * MiB, endless=True, stall=600.0)
    told = run.events_of(ev.CallsWait)[0]
    assert (told.waiting, told.running) == (2, 1)
    assert told.seconds >= 600
    assert len(run.events_of(ev.CallsWait)) == 2  # for the first and for the second that ran
    assert calls([1000.0] * 3, workers=1, grain=2.0).events_of(ev.CallsWait) == []  # as was asked for


class Preempted(FakeBackend):
    """Its workers begin a batch late: until then their note is of the batch before."""

    stale = 0

    def early(self, worker):
        here = self._workers[worker]
        if here.work is None or self.clock() - here.batch_began >= 0.1:
            return super().early(worker)
        self.stale += 1
        return here.work.apart - 1, b"".join(map(frame, range(50)))


def test_what_lies_there_of_another_batch_is_nobody_s_result():
    seconds = [0.001] * 200 + [0.1] * 200
    backend = Preempted(lambda item, tries: Deed(seconds[item]), clock=FakeClock(grain=0.002))
    run = simulate(backend, 400, GiB, workers=2, endless=True)
    assert run.results == list(range(400))
    assert backend.stale


# --------------------------------------------------------------------------- the decision


def running(worker=1, start=0, stop=10, item=3, began=0.0, asked=math.inf):
    return Running(worker, start, stop, item, began, asked)


def test_a_late_batch_is_cut_and_then_what_it_has_not_begun_is_taken():
    assert decide([running()], idle=1, waiting=0, now=LATE) == ([1], [])
    asked = running(asked=LATE)
    assert decide([asked], idle=1, waiting=0, now=LATE) == ([], [])  # its worker may not have seen it
    assert decide([asked], idle=1, waiting=0, now=LATE + 0.002) == ([], [(1, 4)])
    assert decide([asked], idle=0, waiting=5, now=LATE + 0.002) == (
        [],
        [(1, 4)],
    )  # it begins nothing any more


@pytest.mark.parametrize(
    "batch",
    [running(began=1.0), running(item=9), running(item=-1), running(item=note.KEEPING), running(item=10)],
)
def test_what_is_young_or_at_its_last_call_or_between_calls_is_left_alone(batch):
    assert decide([batch], idle=3, waiting=0, now=1.0) == ([], [])


def test_nothing_is_taken_where_there_is_enough_to_do():
    assert decide([running()], idle=0, waiting=0, now=1.0) == ([], [])
    assert decide([running()], idle=2, waiting=2, now=1.0) == ([], [])


def test_the_batch_with_most_left_goes_first_and_only_as_many_as_are_needed():
    batches = [running(1, item=8), running(2, item=2), running(3, item=5)]
    assert decide(batches, idle=2, waiting=0, now=1.0) == ([2], [])
    assert decide(batches, idle=8, waiting=0, now=1.0) == ([2, 3], [])


# --------------------------------------------------------------------------- the schedule


def test_a_batch_advances_and_gives_back():
    schedule = Schedule(10)
    schedule.give(1, schedule.propose(1, 10))
    assert schedule.advance(1, 3).start == 3
    assert schedule.take_back(1, 6).stop == 6
    assert schedule.left == 4
    with pytest.raises(PenstockBug):
        schedule.advance(1, 6)
    with pytest.raises(PenstockBug):
        schedule.take_back(1, 3)
    schedule.give(2, schedule.propose(2, 10))
    schedule.finish(1, 3)  # it was cut before it began another
    assert schedule.left == 3
    schedule.finish(2, 10)
    schedule.give(1, schedule.propose(1, 10))
    schedule.finish(1, 6)
    assert schedule.finished


# --------------------------------------------------------------------------- the worker's side


def words():
    return memoryview(bytearray(note.BYTES)).cast("q")


def laid_down(there):
    return frames(bytes(there[note.HEAD :].cast("B")[: there[note.EARLY]]))


def test_each_result_lies_there_before_the_next_call_begins():
    there, results = words(), []
    apart = Apart(there, 5)
    for item in apart.feed(5, "abc", results):
        assert laid_down(there) == results
        assert there[note.ITEM] == 5 + len(results)
        results.append(item.encode() if item != "b" else None)
    apart.lay_down(5, results)
    assert laid_down(there) == [b"a", None, b"c"]


def test_what_is_forbidden_does_not_begin_but_the_first_does():
    there, results = words(), []
    there[note.CUT] = 1
    apart = Apart(there, 5)
    for item in apart.feed(5, "abc", results):
        results.append(item.encode())  # noqa: PERF401 - it is looked at meanwhile
    assert (results, apart.ended) == ([b"a"], True)
    assert list(apart.feed(6, "bc", [])) == []


def test_results_without_room_end_the_batch():
    there, results = words(), []
    apart = Apart(there, 0)
    for _ in apart.feed(0, range(100), results):
        results.append(b"x" * 5000)  # noqa: PERF401 - it is looked at meanwhile
    assert apart.ended
    assert 1 < len(results) < 10
    assert laid_down(there) == results[:-1]
    small = Apart(memoryview(bytearray(64)).cast("q"), 0)  # of a backend that has no room for any
    results = []
    for _ in small.feed(0, range(9), results):
        results.append(b"")
    assert len(results) == 1


def test_frames_hold_anything():
    kept = [b"", b"x" * 300, None, SetAside(1, "one", "died", "it died"), b"\x00" * 4]
    told = frames(b"".join(map(frame, kept)))
    assert told[:3] == kept[:3]
    assert str(told[3]) == str(kept[3])
    with pytest.raises(struct.error):
        frames(b"\x01")
