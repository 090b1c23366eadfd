"""Every way a worker can die is one cause."""

import itertools
import signal
from typing import get_args

import pytest

from penstock import worker_note as note
from penstock.abc import Death
from penstock.engine import messages as m
from penstock.engine.decide.tasks import Cause
from penstock.engine.parent.workers import Workers, WorkerState, diagnose
from penstock.errors import WorkerDied
from penstock.testing import FakeClock


def death(number=None, code=None, noted=(3, 2, 5), by_kernel=None):
    return Death(1, number, code, noted, kernel_killed=by_kernel)


def cause_of(dead, why="", *, leaving="", kills=0, before=0):
    worker = WorkerState(1, ready=True, leaving=leaving, kills_before=before, reserved=70)
    return diagnose(worker, dead, why, 50, lambda: kills)


KILL, TERM = signal.SIGKILL, signal.SIGTERM

WAYS = {
    "told to leave": (cause_of(death(code=0), leaving="done"), "dropped"),
    "told to leave, and killed": (cause_of(death(KILL), "governor", leaving="evicted"), "dropped"),
    "governor: memory": (cause_of(death(KILL), "governor"), "governor"),
    "governor: a lock": (cause_of(death(KILL), "lock"), "dropped"),
    "governor: stalled": (cause_of(death(KILL), "stalled"), "stalled"),
    "governor: timeout": (cause_of(death(KILL), "timeout"), "timeout"),
    "governor, though the kernel killed somebody too": (
        cause_of(death(KILL), "governor", kills=1),
        "governor",
    ),
    "kernel": (cause_of(death(KILL), kills=2, before=1), "kernel"),
    "kernel, as its own group tells": (cause_of(death(KILL, by_kernel=True)), "kernel"),
    "kernel, and the governor a moment later": (cause_of(death(KILL, by_kernel=True), "governor"), "kernel"),
    "governor, and its own group tells of no kill": (
        cause_of(death(KILL, by_kernel=False), "governor", kills=1),
        "governor",
    ),
    "somebody else, as its own group tells": (cause_of(death(KILL, by_kernel=False), kills=1), "killed"),
    "timeout, though one of its children was killed": (
        cause_of(death(KILL, by_kernel=True), "timeout"),
        "timeout",
    ),
    "somebody else": (cause_of(death(KILL), kills=1, before=1), "killed"),
    "somebody else, politely": (cause_of(death(TERM), kills=2, before=1), "killed"),
    "exit 0": (cause_of(death(code=0)), "crashed"),
    "exit 3": (cause_of(death(code=3)), "crashed"),
    "it can speak no more": (cause_of(death(code=note.MUTE)), "unfit"),
    "it has no memory to say why": (cause_of(death(code=note.NARROW)), "unfit"),
}


@pytest.mark.parametrize("way", WAYS)
def test_way(way):
    failure, cause = WAYS[way]
    assert failure.cause == cause
    assert (failure.item, failure.call, failure.held, failure.reserved) == (3, (2, 5), 50, 70)


@pytest.mark.parametrize("number", sorted({*range(1, signal.NSIG)} - {KILL, TERM}))
def test_every_other_signal_is_a_crash_with_its_name(number):
    failure = cause_of(death(number), kills=5)
    assert failure.cause == "crashed"
    assert f"signal {number} (" in failure.detail


def test_the_governors_words_are_causes():
    """What the governor's thread may say when it kills, and what the worker may say when it lives."""
    told = {cause_of(death(KILL), why).cause for why in ("governor", "lock", "stalled", "timeout")}
    seen = told | {failure.cause for failure, _ in WAYS.values()}
    assert seen <= set(get_args(Cause))
    # Those that only a living worker tells:
    assert set(get_args(Cause)) - seen == {"memory", "kept", "load"}


def test_every_combination_has_exactly_one_cause():
    for number, why, leaving, kills in itertools.product(
        [None, *range(1, signal.NSIG)],
        ["", "governor", "lock", "stalled", "timeout"],
        ["", "evicted"],
        [0, 1],
    ):
        dead = death(number, None if number else 1)
        assert cause_of(dead, why, leaving=leaving, kills=kills).cause in get_args(Cause)


def test_the_kernels_count_is_read_only_for_a_kill():
    def never():
        raise AssertionError("read without need")

    assert diagnose(WorkerState(1), death(signal.SIGSEGV), "", 0, never).cause == "crashed"


# --------------------------------------------------------------------------- the crew


class Backend:
    """Notes what it is asked."""

    def __init__(self):
        self.said, self.number = [], 0

    def start(self):
        self.number += 1
        return self.number

    def send(self, worker, content):
        self.said.append(("send", worker, content))

    def kill(self, worker):
        self.said.append(("kill", worker))


class Watch:
    memory = None

    def expect(self, worker):
        pass

    def ready(self, worker, memory, own, *, mapped, own_mapped):
        pass

    def gone(self, worker):
        return "", 0

    def kills_before(self, worker):
        return 0

    def held(self, worker):
        return 7


@pytest.fixture
def crew():
    return Workers(Backend(), Watch(), FakeClock(), {})


def test_the_ready_are_asked_to_leave_and_the_unborn_are_killed(crew):
    crew.start()
    crew.start()
    crew.welcome(crew.get(1), m.Ready(10, 4))
    assert crew.get(1).free
    assert not crew.get(2).free
    crew.dismiss(crew, "done")
    crew.dismiss(crew, "again")
    assert crew._backend.said == [("send", 1, m.Leave()), ("kill", 2)]
    assert [worker.leaving for worker in crew] == ["done", "done"]


def test_five_stillborn_in_a_row_end_the_run(crew):
    def reap():
        crew.clock.sleep(10)  # the next is not started at once
        crew.start()
        return crew.reap(list(crew)[-1], death(signal.SIGSEGV), lambda: 0)

    for _ in range(4):
        reap()
    crew.start()
    assert len(crew) == 0
    crew.clock.sleep(10)
    crew.start()
    crew.welcome(list(crew)[-1], m.Ready(10, 4))
    for _ in range(6):  # one is there, and goes on
        reap()
    crew.dismiss(crew, "done")
    crew.reap(next(iter(crew)), death(signal.SIGKILL), lambda: 0)
    with pytest.raises(WorkerDied, match=r"5 workers in a row .*SIGSEGV"):
        reap()


def test_who_was_told_to_leave_is_not_stillborn(crew):
    for _ in range(9):
        crew.start()
        worker = list(crew)[-1]
        crew.dismiss([worker], "evicted")
        crew.reap(worker, death(signal.SIGKILL), lambda: 0)
    assert len(crew) == 0
