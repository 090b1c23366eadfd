"""The schedule: nothing lost, nothing done twice at once, nobody blamed who did not work, always an end."""

from __future__ import annotations

from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from penstock.engine.decide.schedule import Schedule
from penstock.engine.decide.tasks import Cause, Failure, Task
from penstock.errors import PenstockBug, WorkerDied

CAUSES = get_args(Cause)
WORKERS = range(4)


@st.composite
def starts_of(draw, items):
    """Where streams begin: some long, some of one item."""
    cuts = draw(st.sets(st.integers(0, items - 1), max_size=items))
    return sorted({0, *cuts})


class ScheduleMachine(RuleBasedStateMachine):
    """A schedule beside a model that is assumed perfect: where every item is, by item."""

    @initialize(data=st.data(), items=st.integers(1, 30), grain=st.none() | st.integers(1, 7))
    def begin(self, data, items, grain):
        self.items, self.unit = items, grain or 1
        grains = [(a, min(a + self.unit, items)) for a in range(0, items, self.unit)]
        done = [each for each in grains if data.draw(st.integers(0, 3)) == 0]
        aside = data.draw(st.sets(st.integers(0, items - 1), max_size=3))
        starts = data.draw(st.none() | starts_of(items))
        self.fixed = data.draw(st.booleans())
        self.schedule = Schedule(
            items,
            grain,
            done=done,
            set_aside=aside,
            starts=starts,
            first=data.draw(st.lists(st.integers(-2, items + 2), max_size=4)),
            fixed_call=self.fixed,
        )
        self.starts = starts
        self.place: dict[int, object] = dict.fromkeys(range(items), "left")
        for a, b in done:
            self.place.update(dict.fromkeys(range(a, b), "done"))
        self.aside = set(aside)
        self.suspects: set[int] = set()
        self.has: dict[int, Task] = {}
        self.failures = 0
        self.dead_end = False

    def free(self):
        return [worker for worker in WORKERS if worker not in self.has]

    @precondition(lambda self: self.free() and not self.dead_end)
    @rule(data=st.data(), size=st.integers(1, 12), alone_first=st.booleans())
    def give(self, data, size, alone_first):
        worker = data.draw(st.sampled_from(self.free()))
        task = self.schedule.propose(worker, size, alone_first=alone_first)
        if any(other.alone for other in self.has.values()):
            assert task is None, "alone means alone"
        if task is None:
            return
        if task.alone and self.has:
            with pytest.raises(PenstockBug, match="alone"):
                self.schedule.give(worker, task)
            return
        self.check(worker, task, size)
        given_to = self.schedule.give(worker, task)
        assert given_to.without == tuple(sorted(i for i in self.aside if task.start <= i < task.stop))
        self.has[worker] = task
        self.place.update(dict.fromkeys(range(task.start, task.stop), worker))

    def check(self, worker, task, size):
        assert 0 <= task.start < task.stop <= self.items
        assert all(self.place[item] == "left" for item in range(task.start, task.stop)), "nothing twice"
        assert task.start % self.unit == 0
        assert task.stop % self.unit == 0 or task.stop == self.items
        if task.fresh:
            assert task.stop - task.start <= max(size, self.unit)
        if self.starts is not None:
            for other in self.has.values():
                assert self.stretch(other.start) != self.stretch(task.start), "one worker a stretch"

    def stretch(self, item):
        """The stretch of an item, where stretches begin with a whole grain."""
        rounded = {0, *(-(-start // self.unit) * self.unit for start in self.starts)}
        return max(start for start in rounded if start <= item)

    @precondition(lambda self: self.has)
    @rule(data=st.data())
    def finish(self, data):
        worker = data.draw(st.sampled_from(sorted(self.has)))
        task = self.has.pop(worker)
        if task.suspicion is not None:
            self.tried(worker, task, whole=data.draw(st.booleans()))
            return
        cuts = [i for i in range(task.start + 1, task.stop + 1) if i % self.unit == 0 or i == task.stop]
        stop = data.draw(st.sampled_from(cuts))
        raised = data.draw(st.sets(st.integers(task.start, stop - 1), max_size=2))
        assert self.schedule.finish(worker, stop, raised) == task
        self.aside |= raised
        self.suspects |= raised
        self.place.update(dict.fromkeys(range(task.start, stop), "done"))
        self.place.update(dict.fromkeys(range(stop, task.stop), "left"))

    def tried(self, worker, task, *, whole):
        """The parts of a call did not fail: nothing of them is kept, and the whole call is given up."""
        before = set(self.aside)
        verdict = self.schedule.tried(worker, task.stop if whole else task.start)
        self.place.update(dict.fromkeys(range(task.start, task.stop), "left"))
        assert (verdict is not None) == whole
        if verdict is not None:
            a, b = task.suspicion.call
            assert set(verdict.items) == set(range(a, b)) - before
            assert len(verdict.items) > 1
            self.aside |= set(verdict.items)

    @precondition(lambda self: self.has)
    @rule(
        data=st.data(),
        cause=st.sampled_from(CAUSES),
        item=st.integers(-1, 31),
        call=st.tuples(st.integers(-1, 31), st.integers(-1, 31)),
        held=st.integers(0, 100),
        gone=st.booleans(),
    )
    def fail(self, data, cause, item, call, held, gone):
        worker = data.draw(st.sampled_from(sorted(self.has)))
        task = self.has.pop(worker)
        self.failures += 1
        if gone:
            self.schedule.forget_worker(worker)
        failure = Failure(cause, item, call, held, reserved=50)
        before = set(self.aside)
        executing = set()
        if task.start <= item < task.stop:
            executing = {item}
        elif task.start <= call[0] < call[1] <= task.stop:
            executing = set(range(*call))
        self.place.update(dict.fromkeys(range(task.start, task.stop), "left"))
        try:
            verdict = self.schedule.fail(worker, failure)
        except WorkerDied:
            assert not set(range(task.start, task.stop)) - before, "only when no item is worked any more"
            self.dead_end = True
            return
        if verdict is None:
            assert self.schedule.aside == before
            return
        named = set(verdict.items)
        assert named
        assert not named & before, "nobody is set aside twice"
        if executing - before:
            assert named <= executing
        else:  # nobody was worked: one item of a lone grain
            assert len(named) == 1
            assert len({i // self.unit for i in range(task.start, task.stop)}) == 1
        assert verdict.times >= 1
        self.aside |= named

    @precondition(lambda self: self.free())
    @rule(data=st.data())
    def lose_an_idle_worker(self, data):
        self.schedule.forget_worker(data.draw(st.sampled_from(self.free())))

    @invariant()
    def agrees(self):
        if not hasattr(self, "place") or self.dead_end:
            return
        assert self.schedule.left == sum(place == "left" for place in self.place.values())
        assert len(self.schedule.done) == sum(place == "done" for place in self.place.values())
        assert {worker: given.task for worker, given in self.schedule.running.items()} == self.has
        assert self.schedule.aside == self.aside
        assert self.schedule.finished == all(place == "done" for place in self.place.values())

    def teardown(self):
        """From any state, workers that do not die finish everything, in as many steps as there are items."""
        if not hasattr(self, "place") or self.dead_end:
            return
        for worker in list(self.has):
            self.end(worker, self.has.pop(worker))
        for _ in range(2 * self.items + 1):
            if self.schedule.finished:
                break
            task = self.schedule.propose(0, 4) or self.schedule.propose(1, 4)
            if task is None:  # other workers have the cursors
                for worker in WORKERS:
                    self.schedule.forget_worker(worker)
                task = self.schedule.propose(0, 4)
            assert task is not None, "work is left and nobody is given any"
            self.schedule.give(0, task)
            self.end(0, task)
        assert self.schedule.finished
        assert list(self.schedule.done) == [(0, self.items)]

    def end(self, worker, task):
        if task.suspicion is None:
            self.schedule.finish(worker, task.stop)
        else:
            self.schedule.tried(worker, task.stop)


TestSchedule = ScheduleMachine.TestCase
TestSchedule.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


# --------------------------------------------------------------------------- workers that really execute


def work(
    schedule, deadly, *, workers=1, size=8, call=4, batched=False, fixed=False, transient=(), together=()
):
    """Run a schedule with workers that note what they do and die of it; how often somebody died."""
    deaths, transient = 0, list(transient)
    cap = 200 * schedule.items + 200
    while not schedule.finished:
        for worker in range(workers):
            if worker in schedule.running:
                continue
            task = schedule.propose(worker, size)
            if task is not None and not (task.alone and schedule.running):
                schedule.give(worker, task)
        assert schedule.running, "work is left and nobody works"
        for worker, given_to in list(schedule.running.items()):
            failure = (
                transient.pop() if transient else execute(given_to, deadly, call, batched, fixed, together)
            )
            if failure is None:
                end = schedule.finish if given_to.task.suspicion is None else schedule.tried
                end(worker, given_to.task.stop)
                continue
            deaths += 1
            assert deaths < cap, "it never ends"
            schedule.forget_worker(worker)
            schedule.fail(worker, failure)
    return deaths


def execute(given_to, deadly, call, batched, fixed, together=()):
    task, at = given_to.task, given_to.task.start
    size = min(1 if task.alone and not fixed else call, task.call or call)
    while at < task.stop:
        stop = min(at + size, task.stop)
        if fixed:
            stop = min(stop, at // call * call + call)
        for a, b in runs(at, stop, given_to.without) if batched else [(at, stop)]:
            for item in range(a, b):
                if item in deadly and item not in given_to.without:
                    noted = item if not batched or b - a == 1 else -1
                    return Failure(deadly[item], noted, (a, b), held=100, reserved=50)
            if batched and {each for each in together if a <= each < b} == set(together) != set():
                return Failure("crashed", -1, (a, b), held=100, reserved=50)
        at = stop
    return None


def runs(start, stop, without):
    """The calls that a worker makes of a call with items left out."""
    edges = [start - 1, *(item for item in without if start <= item < stop), stop]
    return [(a + 1, b) for a, b in pairwise(edges) if a + 1 < b]


GUILTY = [cause for cause in CAUSES if cause != "dropped"]


@settings(deadline=None, max_examples=200)
@given(
    data=st.data(),
    items=st.integers(1, 40),
    grain=st.none() | st.integers(2, 6),
    workers=st.integers(1, 3),
    size=st.integers(1, 20),
    call=st.integers(1, 9),
    batched=st.booleans(),
    sequential=st.booleans(),
)
def test_exactly_the_deadly_items_are_set_aside(data, items, grain, workers, size, call, batched, sequential):
    deadly = data.draw(st.dictionaries(st.integers(0, items - 1), st.sampled_from(GUILTY), max_size=4))
    starts = data.draw(starts_of(items)) if sequential else None
    schedule = Schedule(items, grain, starts=starts, first=[0, items - 1])
    work(schedule, deadly, workers=workers, size=size, call=call, batched=batched)
    assert schedule.aside == set(deadly)
    assert list(schedule.done) == [(0, items)]


@settings(deadline=None, max_examples=200)
@given(
    data=st.data(),
    items=st.integers(1, 40),
    grain=st.none() | st.integers(1, 3),
    call=st.integers(1, 9),
    workers=st.integers(1, 3),
    size=st.integers(1, 20),
)
def test_of_a_fixed_call_only_the_deadly_items_are_set_aside(data, items, grain, call, workers, size):
    deadly = data.draw(st.dictionaries(st.integers(0, items - 1), st.sampled_from(GUILTY), max_size=4))
    schedule = Schedule(items, call * (grain or 1), fixed_call=True)
    work(schedule, deadly, workers=workers, size=size, call=call, batched=True, fixed=True)
    assert schedule.aside == set(deadly)
    assert list(schedule.done) == [(0, items)]


@given(workers=st.integers(1, 3), together=st.sampled_from([(0, 7), (8, 12), (9, 10)]))
def test_a_fixed_call_that_fails_only_as_a_whole_is_set_aside_whole(workers, together):
    """No item does it: a call too large for the budget, or two that may not meet."""
    schedule = Schedule(24, 8, fixed_call=True)
    work(schedule, {}, workers=workers, call=8, batched=True, fixed=True, together=together)
    a = together[0] // 8 * 8
    assert schedule.aside == set(range(a, a + 8))


def test_how_often_workers_die_until_an_item_of_a_fixed_call_is_found():
    schedule = Schedule(256, 256, fixed_call=True)
    deaths = work(schedule, {77: "crashed"}, call=256, batched=True, fixed=True)
    assert schedule.aside == {77}
    assert deaths <= 3 + 8 + 3  # the call whole, its halves, the item


def test_a_search_that_was_told_to_end_goes_on_where_it_was():
    schedule = Schedule(8, 8, fixed_call=True)
    while (task := schedule.propose(0, 8)).suspicion is None:
        schedule.give(0, task)
        schedule.fail(0, Failure("crashed", -1, (0, 8)))
    schedule.give(0, task)
    assert schedule.tried(0, 4) is None
    assert schedule.propose(0, 8) == task
    schedule.give(0, task)
    verdict = schedule.tried(0, 8)
    assert (verdict.items, verdict.reason, verdict.times) == (tuple(range(8)), "died", 3)
    assert verdict.suspicion.failure.call == (0, 8)
    schedule.give(0, schedule.propose(0, 8))
    with pytest.raises(PenstockBug, match="not looking for a culprit"):
        schedule.tried(0, 8)


@settings(deadline=None)
@given(
    items=st.integers(1, 20),
    grain=st.none() | st.integers(2, 6),
    cause=st.sampled_from(GUILTY),
    whole=st.booleans(),
)
def test_what_dies_before_any_item_is_a_failed_run(items, grain, cause, whole):
    """A sink that crashes whatever it is given: all items are left out, then the run ends."""
    schedule = Schedule(items, grain)
    failure = Failure(cause, -1, (-1, -1), held=100, reserved=50)
    with pytest.raises(WorkerDied, match="none of them is worked any more"):
        work(schedule, {}, transient=[failure] * 100_000, size=items if whole else 3)


def test_a_reader_that_dies_is_found_by_its_call():
    """The item is noted only when the function has it: reading it kills before."""
    schedule = Schedule(16, 4)
    failures = 0
    while not schedule.finished:
        task = schedule.propose(0, 16)
        without = schedule.give(0, task).without
        call = task.call or 4
        bad = next((a for a in range(task.start, task.stop, call) if a <= 6 < a + call), None)
        if bad is None or 6 in without:
            schedule.finish(0, task.stop)
        else:
            failures += 1
            schedule.fail(0, Failure("crashed", -1, (bad, min(bad + call, task.stop))))
    assert schedule.aside == {6}
    assert failures == 5  # 4 -> 2 -> 1 items a call, then three deaths


# --------------------------------------------------------------------------- the ladder


def fail(schedule, task, cause, item=-1, call=(-1, -1), held=100, reserved=50):
    schedule.give(0, task)
    return schedule.fail(0, Failure(cause, item, call, held, reserved))


@pytest.mark.parametrize("cause", ["kernel", "governor"])
def test_a_batch_that_dies_while_its_results_are_kept_is_halved(cause):
    """Not the last of its calls is too much, but what all gave: one call less would be no help."""
    schedule = Schedule(8)
    schedule.give(0, schedule.propose(0, 8))
    schedule.fail(0, Failure(cause, -1, (7, 8), held=100, reserved=50, keeping=True))
    first = schedule.propose(0, 8)
    schedule.give(0, first)
    second = schedule.propose(1, 8)
    assert [(each.start, each.stop, each.alone) for each in (first, second)] == [
        (0, 4, False),
        (4, 8, False),
    ]


def test_an_item_whose_own_result_is_too_much_to_keep_is_blamed():
    schedule = Schedule(1)
    for _ in range(2):
        schedule.give(0, schedule.propose(0, 1))
        failure = Failure("governor", -1, (0, 1), held=100, reserved=50, keeping=True)
        verdict = schedule.fail(0, failure)
    assert verdict is not None
    assert verdict.reason == "memory"


@pytest.mark.parametrize("by_itself", ["done", "memory", "kernel", "governor"])
@pytest.mark.parametrize("cause", ["memory", "kernel", "governor"])
def test_what_earlier_items_left_behind_is_no_fault_of_the_one_that_is_worked(cause, by_itself):
    """A reducer's state, say: of several grains half are tried, of a grain the item by itself."""
    schedule = Schedule(12, 6)

    def fails(task, item):
        schedule.give(0, task)
        failure = Failure(cause, item, (item, item + 1), held=100, reserved=50, left=101)
        return schedule.fail(0, failure)

    assert fails(schedule.propose(0, 12), 4) is None
    task = schedule.propose(0, 12)
    assert (task.start, task.stop, task.alone) == (0, 6, False)
    assert fails(task, 5) is None
    while not (task := schedule.propose(0, 12)).alone:
        schedule.give(0, task)
        schedule.finish(0, task.stop)
    assert fails(task, 3) is None
    trial = schedule.propose(0, 12)
    assert (trial.start, trial.stop, trial.alone) == (3, 4, True)
    schedule.give(0, trial)
    if by_itself == "done":
        verdict = schedule.tried(0, 4)
        assert (verdict.items, verdict.reason, verdict.of_grain) == (tuple(range(6)), "memory", True)
    else:
        verdict = schedule.fail(0, Failure(by_itself, 3, (3, 4), held=100, reserved=50, left=0))
        assert (verdict.items, verdict.reason, verdict.of_grain) == ((3,), "memory", False)
    schedule.give(0, schedule.propose(0, 12))
    schedule.finish(0, 6)
    assert schedule.finished


@pytest.mark.parametrize(
    ("cause", "reason"), [("crashed", "died"), ("timeout", "stalled"), ("killed", "died")]
)
def test_a_trial_that_ends_otherwise_is_a_failure_of_its_grain_like_others(cause, reason):
    """And each counts, though the grain runs out of memory in between."""
    schedule = Schedule(6, 6)
    verdict, trials = None, 0
    while verdict is None:
        task = schedule.propose(0, 6)
        schedule.give(0, task)
        by_itself = task.suspicion is not None
        trials += by_itself
        failure = Failure(cause if by_itself else "governor", 3, (3, 4), held=100, reserved=50, left=101)
        verdict = schedule.fail(0, failure)
        assert trials < 20
    assert (verdict.items, verdict.reason) == ((3,), reason)


def test_who_takes_more_than_all_before_it_left_behind_is_blamed():
    schedule = Schedule(6, 6)
    for _ in range(2):
        schedule.give(0, schedule.propose(0, 6))
        verdict = schedule.fail(0, Failure("governor", 3, (3, 4), held=100, reserved=50, left=99))
    assert verdict.items == (3,)
    assert not verdict.of_grain


@pytest.mark.parametrize("cause", ["memory", "kernel", "governor"])
def test_out_of_memory_halves_the_call_then_isolates_then_drains_then_gives_up(cause):
    schedule = Schedule(8)
    calls = []
    task = schedule.propose(0, 8)
    for call in (8, 4, 2):
        assert fail(schedule, task, cause, 5, (call * (5 // call), call * (5 // call) + call)) is None
        task = schedule.propose(0, 8)
        calls.append(task.call)
    assert calls == [4, 2, 1]
    assert fail(schedule, task, cause, 5, (5, 6)) is None
    rest = [schedule.propose(0, 8)]
    while not rest[-1].alone:
        schedule.give(0, rest[-1])
        schedule.finish(0, rest[-1].stop)
        rest.append(schedule.propose(0, 8))
    assert (rest[-1].start, rest[-1].stop, rest[-1].floor) == (5, 6, 100)
    verdict = fail(schedule, rest[-1], cause, 5, (5, 6))
    assert (verdict.items, verdict.reason) == ((5,), "memory")


def test_a_worker_ended_to_make_room_is_not_guilty():
    schedule = Schedule(1)
    task = schedule.propose(0, 1)
    assert fail(schedule, task, "governor", 0, (0, 1), held=40) is None
    task = schedule.propose(0, 1)
    assert not task.alone
    assert fail(schedule, task, "governor", 0, (0, 1), held=40) is None
    task = schedule.propose(0, 1)
    assert task.alone
    assert task.floor > 40


def test_killed_from_outside_ten_times_more_the_last_three_alone():
    schedule = Schedule(1)
    alone = []
    verdict = None
    while verdict is None:
        task = schedule.propose(0, 1)
        alone.append(task.alone)
        verdict = fail(schedule, task, "killed", 0, (0, 1))
    assert alone == [False] * 8 + [True] * 3
    assert (verdict.items, verdict.reason, verdict.times) == ((0,), "died", 11)


def test_killed_from_outside_gets_smaller():
    schedule = Schedule(8)
    fail(schedule, schedule.propose(0, 8), "killed", 1, (0, 8))
    task = schedule.propose(0, 8)
    assert (task.start, task.stop, task.kills) == (0, 4, 1)
    rest = Schedule(8)
    fail(rest, rest.propose(0, 8), "killed", 1, (0, 8))
    rest.give(1, rest.propose(1, 8))
    assert rest.propose(2, 8) == Task(4, 8), "the half that was not being worked is as new"


@pytest.mark.parametrize(
    ("cause", "times", "reason"),
    [("crashed", 3, "died"), ("stalled", 3, "stalled"), ("timeout", 2, "stalled"), ("kept", 1, "kept")],
)
def test_how_often_an_item_is_tried(cause, times, reason):
    schedule = Schedule(4)
    verdict, tried = None, 0
    while verdict is None:
        task = schedule.propose(0, 4)
        if task.start <= 2 < task.stop:
            tried += 1
            verdict = fail(schedule, task, cause, 2, (0, 4))
        else:
            schedule.give(0, task)
            schedule.finish(0, task.stop)
    assert (tried, verdict.items, verdict.reason) == (times, (2,), reason)


def test_another_item_than_last_time_begins_its_own_count():
    schedule = Schedule(4, 4)
    task = schedule.propose(0, 4)
    for item in (1, 2, 1, 2, 1, 2):
        assert fail(schedule, task, "crashed", item, (item, item + 1)) is None
        task = schedule.propose(0, 4)


def test_dropped_leaves_no_trace():
    schedule = Schedule(8)
    task = schedule.propose(0, 8)
    assert fail(schedule, task, "dropped", 3, (0, 8)) is None
    assert (schedule.propose(0, 8).start, schedule.propose(0, 8).stop) == (task.start, task.stop)
    assert not schedule.aside


# --------------------------------------------------------------------------- stretches


def test_a_stretch_is_read_in_order_by_one_worker():
    schedule = Schedule(20, starts=[0, 10])
    read = {0: [], 1: []}
    while not schedule.finished:
        for worker in (0, 1, 2):
            task = schedule.propose(worker, 3)
            if worker == 2:
                assert task is None, "each stretch has its worker"
            elif task is not None:
                schedule.give(worker, task)
        for worker in list(schedule.running):
            task = schedule.running[worker].task
            read[worker] += range(task.start, task.stop)
            schedule.finish(worker, task.stop)
    assert read == {0: list(range(10)), 1: list(range(10, 20))}


def test_a_cursor_dies_with_its_worker():
    schedule = Schedule(10, starts=[0])
    schedule.give(0, schedule.propose(0, 4))
    schedule.finish(0, 4)
    assert schedule.holds_cursor(0)
    assert schedule.propose(1, 4) is None
    schedule.forget_worker(0)
    assert not schedule.holds_cursor(0)
    assert schedule.propose(1, 4) == Task(4, 8)


def test_a_finished_stretch_leaves_no_cursor():
    schedule = Schedule(10, starts=[0, 4])
    schedule.give(0, schedule.propose(0, 4))
    schedule.finish(0, 4)
    assert not schedule.holds_cursor(0)


def test_two_halves_of_a_killed_batch_wait_for_each_other():
    schedule = Schedule(10, starts=[0])
    schedule.give(0, schedule.propose(0, 10))
    schedule.fail(0, Failure("killed", 2, (0, 10)))
    schedule.give(0, schedule.propose(0, 10))
    assert schedule.propose(1, 10) is None


def test_stretches_of_one_item_are_worked_in_one_go():
    schedule = Schedule(10, starts=[0, 1, 2, 3, 4, 7, 8, 9])
    assert schedule.propose(0, 10) == Task(0, 4)  # then one of three items
    schedule.give(0, Task(0, 4))
    assert schedule.propose(1, 10) == Task(4, 7)
    schedule.give(1, Task(4, 7))
    assert schedule.propose(2, 10) == Task(7, 10)


@given(
    items=st.integers(1, 60),
    grain=st.integers(2, 9),
    size=st.integers(1, 30),
    data=st.data(),
)
def test_grains_stay_whole_where_streams_begin_anywhere(items, grain, size, data):
    starts = data.draw(starts_of(items))
    assume(len(starts) > 1)
    schedule = Schedule(items, grain, starts=starts)
    while not schedule.finished:
        task = schedule.propose(0, size)
        assert task.start % grain == 0
        assert task.stop % grain == 0 or task.stop == items
        schedule.give(0, task)
        schedule.finish(0, task.stop)


# --------------------------------------------------------------------------- small things


def test_the_first_items_come_first_in_their_order():
    schedule = Schedule(100, first=[0, 50, 99])
    seen = []
    for worker in range(4):
        task = schedule.propose(worker, 10)
        schedule.give(worker, task)
        seen.append((task.start, task.stop))
    assert seen == [(0, 1), (50, 51), (99, 100), (1, 11)]


def test_nothing_to_do():
    assert Schedule(0).finished
    assert Schedule(3, done=[(0, 3)]).finished


def test_misuse_is_a_bug():
    schedule = Schedule(4)
    with pytest.raises(PenstockBug, match="had no batch"):
        schedule.finish(0, 2)
    schedule.give(0, schedule.propose(0, 2))
    with pytest.raises(PenstockBug, match="second batch"):
        schedule.give(0, Task(2, 4))
    for stop in (0, 3):
        with pytest.raises(PenstockBug, match="kept up to"):
            schedule.finish(0, stop)
        schedule.give(0, Task(0, 2)) if stop == 0 else None
