"""Who waits and who goes: a table of situations, and laws for all of them."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.budget import GiB, MiB
from penstock.engine.decide.governor import (
    Lateness,
    Orders,
    Watched,
    decide,
    headroom,
    interval,
    is_punctual,
)

BUDGET = 2 * GiB
ROOM = headroom(BUDGET)
HIGH = 4 * ROOM // 5
LONG_AGO = -math.inf


def worker(number, *, began=None, memory=100 * MiB, reserved=200 * MiB, paused=False, idle=0.0, grows=True):
    return Watched(number, float(number if began is None else began), memory, reserved, paused, idle, grows)


A, B, C = worker(1), worker(2), worker(3)
B_WAITS, C_WAITS = worker(2, paused=True), worker(3, paused=True)
STUCK = worker(1, idle=3.0)
FULL_A, FULL_B, FULL_C = (worker(number, grows=False) for number in (1, 2, 3))
BELOW = 7 * ROOM // 10

CASES = {
    "calm as long as admission's line is kept": (ROOM, [A, B, C], Orders()),
    "calm": (5 * ROOM, [A, B, C], Orders()),
    "calm, nobody works": (5 * ROOM, [], Orders()),
    "high water pauses the youngest": (HIGH, [A, B, C], Orders(pause=(3,), admit=False, drop_idle=True)),
    "high water, then the next youngest": (
        HIGH,
        [A, B, C_WAITS],
        Orders(pause=(2,), admit=False, drop_idle=True),
    ),
    "high water: what grows is paused, and no other": (
        HIGH,
        [FULL_A, B, FULL_C],
        Orders(pause=(2,), admit=False, drop_idle=True),
    ),
    "high water, the oldest grows alone: it waits for the others": (
        HIGH,
        [A, FULL_B, FULL_C],
        Orders(pause=(1,), admit=False, drop_idle=True),
    ),
    "high water, nothing grows: they go on, and give it back": (
        HIGH,
        [FULL_A, FULL_B, C_WAITS],
        Orders(admit=False, drop_idle=True),
    ),
    "below, though nothing is seen to grow": (
        BELOW,
        [FULL_A, FULL_B, FULL_C],
        Orders(pause=(3,), admit=False, drop_idle=True),
    ),
    "high water, one running": (HIGH, [A, B_WAITS, C_WAITS], Orders(admit=False, drop_idle=True)),
    "high water, nobody runs any more": (
        HIGH,
        [B_WAITS, C_WAITS],
        Orders(resume=(2,), admit=False, drop_idle=True),
    ),
    "high water, nobody works: somebody always may": (HIGH, [], Orders(admit=True, drop_idle=True)),
    "critical kills the youngest and stops all others, the oldest too": (
        ROOM // 4,
        [A, B, C],
        Orders(kill=(3,), pause=(1, 2), admit=False, drop_idle=True),
    ),
    "critical kills the youngest though it is paused": (
        ROOM // 4,
        [A, B, C_WAITS],
        Orders(kill=(3,), pause=(1, 2), admit=False, drop_idle=True),
    ),
    "critical with one": (ROOM // 4, [A], Orders(kill=(1,), admit=False, drop_idle=True)),
    "over the budget": (-ROOM, [A, B], Orders(kill=(2,), pause=(1,), admit=False, drop_idle=True)),
    "critical with nobody to kill": (ROOM // 4, [], Orders(admit=False, drop_idle=True)),
    "calm again: the oldest of those who wait goes on first": (
        5 * ROOM,
        [A, B_WAITS, C_WAITS],
        Orders(resume=(2,), admit=False),
    ),
    "calm again, without room for the rest of what it may take": (
        2 * ROOM,
        [A, worker(2, paused=True, memory=0, reserved=10 * ROOM)],
        Orders(admit=False),
    ),
    "calm again, nobody runs: the oldest goes on whatever it may take": (
        2 * ROOM,
        [worker(2, paused=True, memory=0, reserved=10 * ROOM), C_WAITS],
        Orders(resume=(2,), admit=False),
    ),
    "a lock: the youngest who waits is killed": (
        5 * ROOM,
        [STUCK, B_WAITS, C_WAITS],
        Orders(kill=(3,), admit=False),
    ),
    "a lock held by the oldest: it goes on": (
        5 * ROOM,
        [worker(1, paused=True), worker(2, idle=3.0)],
        Orders(resume=(1,), admit=False),
    ),
    "no lock while one still works": (
        5 * ROOM,
        [STUCK, B, worker(3, paused=True, memory=0, reserved=10 * ROOM)],
        Orders(admit=False),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_table(case):
    free, watched, orders = CASES[case]
    assert decide(free, BUDGET, watched, now=100.0, last_kill=LONG_AGO) == orders
    assert decide(free, BUDGET, watched[::-1], now=100.0, last_kill=LONG_AGO) == orders, "order is no matter"


def test_waits_for_the_memory_of_the_last_victim():
    soon = decide(0, BUDGET, [A, B], now=100.0, last_kill=99.8)
    assert soon == Orders(pause=(1, 2), admit=False, drop_idle=True), "nobody fills what comes back"
    assert decide(0, BUDGET, [A, B], now=100.0, last_kill=99.4).kill == (2,)


WATCHED = st.lists(
    st.builds(
        Watched,
        worker=st.integers(1, 50),
        began=st.floats(0, 100),
        memory=st.integers(0, 4 * GiB),
        reserved=st.integers(0, 4 * GiB),
        paused=st.booleans(),
        cpu_idle=st.floats(0, 10),
        grows=st.booleans(),
    ),
    max_size=6,
    unique_by=lambda each: each.worker,
)


@settings(max_examples=500)
@given(
    free=st.integers(-GiB, 4 * GiB),
    budget=st.integers(16 * MiB, 4 * GiB),
    watched=WATCHED,
    since_kill=st.floats(0, 5),
)
def test_somebody_always_makes_progress(free, budget, watched, since_kill):
    orders = decide(free, budget, watched, now=100.0, last_kill=100.0 - since_kill)
    running = {each.worker for each in watched if not each.paused}
    paused = {each.worker for each in watched if each.paused}
    assert set(orders.pause) <= running
    assert set(orders.resume) <= paused
    assert set(orders.kill) <= running | paused
    assert not set(orders.pause) & set(orders.kill)
    if len(watched) > 1:
        oldest = min(watched, key=lambda each: (each.began, each.worker))
        assert oldest.worker not in orders.kill, "the oldest is killed only when it is the only one"
    critical = free < 0.5 * headroom(budget)
    if critical:
        assert running <= {*orders.pause, *orders.kill}, "nobody fills what the victim gives back"
    elif len(running) == 1:
        assert not orders.pause, "the only one who runs is never paused"
    elif free < 0.75 * headroom(budget) and len(running) > 1:
        assert orders.pause, "something grows unseen"
    elif free < headroom(budget) and any(each.grows and not each.paused for each in watched):
        assert set(orders.pause) <= {each.worker for each in watched if each.grows}
        assert len(orders.pause) == 1, "what grows is stopped"
    if watched and not orders.kill and free >= 0.5 * headroom(budget):
        assert (running - set(orders.pause)) | set(orders.resume), "somebody runs"
    assert len(orders.kill) <= 1


@given(st.integers(1 * MiB, 1 << 50))
def test_headroom(budget):
    kept = headroom(budget)
    assert 0 < kept <= budget / 8 + 1
    assert kept >= min(0.06 * budget, 64 * MiB) - 1


@given(free=st.integers(-GiB, 100 * GiB), budget=st.integers(16 * MiB, 100 * GiB))
def test_looks_again_before_the_critical_line_can_be_reached(free, budget):
    pause = interval(free, budget)
    assert 0.001 <= pause <= 0.02
    distance = free - 0.5 * headroom(budget)
    if pause > 0.001:
        assert pause * 4 * 6 * GiB <= distance * 1.001


def test_the_last_turns_tell_how_late_the_next_may_be():
    late = Lateness()
    assert late.expected == 0
    for seconds in [-0.01, 0.0, 0.002, 0.003]:
        late.note(seconds)
    assert late.expected == 0.002
    for _ in range(1000):
        late.note(0.03)
    assert late.expected == 0.03
    for _ in range(1000):
        late.note(-1.0)
    assert late.expected == 0


def test_until_there_were_turns_enough_the_process_tells():
    late = Lateness(0.004)
    assert late.expected == 0.004
    for _ in range(63):
        late.note(0.0005)
        assert late.expected == 0.004
    late.note(0.02)
    assert late.expected == 0.0005
    late = Lateness(0.004)
    late.note(0.03)
    assert late.expected == 0.03


def test_a_machine_that_is_late_now_and_then_is_late():
    """Seen beside three busy loops: 0.7 ms in the median, 14 ms in one turn of twenty."""
    late = Lateness()
    for turn in range(200):
        late.note(0.014 if turn % 15 == 0 else 0.0007)
    assert late.expected == pytest.approx(0.014 / 3)
    for _ in range(64):
        late.note(0.0007)
    assert late.expected == pytest.approx(0.014 / 3), "a moment without a crowd says little"
    for turn in range(600):
        late.note(0.014 if turn % 40 == 0 else 0.0007)
    assert late.expected == 0.0007


def test_who_comes_late_cannot_keep_a_small_budget():
    assert is_punctual(0.0, 64, 100 * MiB)
    # 4 ms on two cores: 48 MiB.
    assert not is_punctual(0.004, 2, GiB)
    assert is_punctual(0.004, 2, 4 * GiB)
    assert is_punctual(0.002, 2, GiB)
    assert not is_punctual(0.002, 2, 200 * MiB)
    # More than four cores fill no more in the same time.
    assert is_punctual(0.002, 64, 4 * GiB) == is_punctual(0.002, 4, 4 * GiB)
