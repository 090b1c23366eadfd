"""Plans: never more workers than fit, workers before calls, no wild growth, and every number told."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from penstock.budget import GiB, MiB
from penstock.engine.decide.futures import PeakRatios, fitting
from penstock.engine.decide.governor import headroom
from penstock.engine.decide.plan import (
    Plan,
    Reserved,
    Sizing,
    batch_items,
    batch_seconds,
    room,
    shortened,
    size_up,
)

SIZES = st.integers(0, 2 * GiB)


def sized(budget, reserved, *, each, fixed=0, most=8, **more):
    options = {
        "bound": lambda call: fixed + each * call,
        "available": lambda workers: room(budget, reserved, workers),
        "most_workers": most,
        "measured_call": 1,
        "seconds_per_item": 0.001,
        "batched": True,
        "fixed_call": None,
        "most_call": None,
        **more,
    }
    return size_up(**options)


def planned(sizing, budget, reserved, **more):
    options = {
        "budget": budget, "origin": "as asked for", "reserved": reserved, "footprint": sizing.bound,
        "median": sizing.bound // 2, "tried": 24, "declared": False, "workers": sizing.workers,
        "call": sizing.call, "batch": 640, "seconds_per_item": 0.03, "items": 10_000, "cores": 8,
        **more,
    }  # fmt: skip
    return Plan(**options)


@given(
    budget=st.integers(64 * MiB, 64 * GiB),
    parent=SIZES,
    worker=st.integers(0, 200 * MiB),
    each=st.integers(1, GiB),
    fixed=st.integers(0, GiB),
    most=st.integers(1, 16),
    measured=st.integers(1, 1000),
    seconds=st.just(0.0) | st.floats(1e-9, 2),
    fixed_call=st.none() | st.integers(1, 64),
)
def test_what_is_projected_fits(budget, parent, worker, each, fixed, most, measured, seconds, fixed_call):
    reserved = Reserved(parent, 50 * MiB, worker)
    sizing = sized(
        budget, reserved, each=each, fixed=fixed, most=most, measured_call=measured,
        seconds_per_item=seconds, fixed_call=fixed_call,
    )  # fmt: skip
    plan = planned(sizing, budget, reserved)
    assert 1 <= sizing.workers <= most
    assert sizing.call >= 1
    assert plan.headroom == plan.budget - plan.projected
    if sizing.workers > 1:
        assert plan.projected <= budget - headroom(budget)
    if fixed_call is None:
        assert sizing.call <= 4 * measured
        if sizing.call > 1:
            assert sizing.workers * sizing.bound <= room(budget, reserved, sizing.workers)
    else:
        assert sizing.call == fixed_call


def test_workers_first_then_the_call():
    reserved = Reserved(100 * MiB, 50 * MiB, 10 * MiB)
    sizing = sized(4 * GiB, reserved, each=100 * MiB, measured_call=100)
    assert sizing.workers == 8
    assert sizing.call == 3
    assert sized(1 * GiB, reserved, each=300 * MiB, measured_call=100).workers == 2


def test_most_call_and_time_bound_the_call():
    reserved = Reserved(0, 0, 0)
    assert sized(4 * GiB, reserved, each=1, measured_call=10**6, most_call=7).call == 7
    assert sized(4 * GiB, reserved, each=1, measured_call=10**6, seconds_per_item=0.1).call == 5
    assert sized(4 * GiB, reserved, each=1, measured_call=10**6, seconds_per_item=0).call == 1


def test_a_limit_that_kills_the_group_keeps_more_free():
    reserved = Reserved(0, 0, 0)
    assert room(GiB, reserved, 2) - room(GiB, reserved, 2, kills_group=True) == headroom(GiB)


@given(
    call=st.integers(1, 1000),
    left=st.integers(0, 10**7),
    workers=st.integers(1, 64),
    seconds=st.floats(0.01, 60),
    each=st.just(0.0) | st.floats(1e-9, 10),
    measured=st.integers(0, 10**6),
)
def test_batches_hold_a_call_and_grow_by_steps(call, left, workers, seconds, each, measured):
    items = batch_items(
        call=call, left=left, workers=workers, seconds=seconds, seconds_per_item=each, measured_batch=measured
    )
    assert items >= call
    assert items <= max(call, 64 * max(measured, 1))
    if each > 0:
        assert items * each <= max(seconds, call * each) + 1e-6


def test_batches_are_short_at_first_and_commit_now_and_then():
    assert batch_seconds(0) == 0.05
    assert batch_seconds(4) == 1
    assert batch_seconds(10**6) == 30


def test_the_printed_plan_has_the_words_of_the_design():
    reserved = Reserved(200 * MiB, 90 * MiB, 110 * MiB, results=MiB, others=2 * MiB)
    plan = planned(sized(12 * GiB, reserved, each=MiB, measured_call=160), 12 * GiB, reserved, stage="embed")
    lines = str(plan).splitlines()
    assert lines[0] == "embed:"
    assert [line.split()[0] for line in lines[1:7]] == [
        "budget", "reserved", "footprint", "plan", "projected", "time",
    ]  # fmt: skip
    text = str(plan)
    for words in (
        "12.0 GiB   as asked for", "this process 200 MiB", "8 idle workers x 110 MiB", "fork server 90.0 MiB",
        "results 1.0 MiB", "shared files 2.0 MiB", "bound of 24 tried (median", "8 workers, calls of",
        "batches of about 19 s", "headroom",
    ):  # fmt: skip
        assert words in text
    assert "a call of" in text
    assert all(
        f"<th style='text-align:left'>{word}</th>" in plan._repr_html_() for word in ("budget", "plan")
    )


def test_a_plan_says_why_not_one_worker_more():
    peaks = PeakRatios([float(k * MiB) for k in range(2, 451, 4)])
    available = lambda workers: room(GiB, Reserved(0, 0, 0), workers)  # noqa: E731
    sizing = sized(
        GiB, Reserved(0, 0, 0), each=430 * MiB, together=lambda call: fitting(peaks, 1.0, available, 8)
    )
    n = sizing.workers
    assert 2 < n < 8, "more than the two that fit by their bounds"
    why = f"{n}, not {n + 1}: {sizing.one_more}"
    share = available(n) // n
    plan = planned(sizing, GiB, Reserved(0, 0, 0), why=why, share=share, most_workers=8)
    assert ("why", "", why) in plan.rows()
    assert plan.projected <= GiB - headroom(GiB)
    assert plan.budget_for(n) <= GiB + 1
    silent = planned(sized(GiB, Reserved(0, 0, 0), each=MiB), GiB, Reserved(0, 0, 0), most_workers=8)
    assert "why" not in str(silent)
    assert "8, not more: there are no more cores or items" in silent.as_text(verbose=True)
    assert "8, not more: there are 8 cores" in replace(silent, limit="there are 8 cores").as_text(
        verbose=True
    )


def test_batches_are_short_where_memory_binds():
    sizing = sized(GiB, Reserved(0, 0, 0), each=MiB)
    options = {"seconds_per_item": 0.01, "call": 2}
    free = planned(sizing, GiB, Reserved(0, 0, 0), **options)
    bound = planned(sizing, GiB, Reserved(0, 0, 0), **options, most_calls=4)
    assert shortened(1000, free, 20.0) == 1000
    assert shortened(1000, bound, 20.0) == 8, "four calls of two"
    assert shortened(3, bound, 20.0) == 3
    assert shortened(1000, replace(bound, most_calls=1), 20.0) == 5, (
        "never less than what makes dispatch small"
    )
    assert shortened(10**6, bound, 5000.0) == 1000, "a long run keeps a short journal"


def test_a_plan_says_what_else_matters():
    reserved = Reserved(0, 0, 0)
    sizing = sized(GiB, reserved, each=MiB, most=1)
    plan = planned(sizing, GiB, reserved, declared=True, kills_group=True, seconds_per_item=0.0)
    assert "declared" in str(plan)
    assert "kills the whole group" in str(plan)
    assert "time" not in [word for word, _, _ in plan.rows()]
    assert plan.threads == 8


def test_a_plan_without_a_trial_says_that_it_does_not_know():
    """A job's only item: no 0 B that looks like a measurement, and no headroom that looks like a promise."""
    reserved = Reserved(40 * MiB, 30 * MiB, 4 * MiB)
    sizing = sized(GiB, reserved, each=0, most=1)
    found = {"tried": 0, "items": 1, "footprint": 0, "median": 0, "seconds_per_item": 0.0}
    plan = planned(sizing, GiB, reserved, **found)
    told = {word: f"{number} {text}" for word, number, text in plan.rows()}
    assert told["footprint"].startswith("unknown nothing was tried")
    assert "for which there are 950 MiB" in told["projected"]
    several = planned(sizing, GiB, reserved, **found | {"items": 5})
    assert "no call that was tried came to its end" in str(several)
    some = planned(sizing, GiB, reserved, **found | {"items": 5, "tried": 3, "died": 2})
    assert "2 calls ran out of memory" in str(some)
    assert "1 idle worker x 4.0 MiB" in str(some)
    known = str(planned(sizing, GiB, reserved, **found | {"tried": 1}))
    assert "bound of 1 tried" in known
    assert "headroom 950 MiB" in known


@given(
    parent=SIZES, worker=st.integers(0, 200 * MiB), each=st.integers(1, GiB), workers=st.integers(1, 64),
    kills_group=st.booleans(),
)  # fmt: skip
def test_the_budget_for_so_many_workers_is_the_smallest_that_holds_them(
    parent, worker, each, workers, kills_group
):
    reserved = Reserved(parent, 50 * MiB, worker)
    plan = planned(Sizing(workers=1, call=1, bound=each), GiB, reserved, kills_group=kills_group)

    def fits(budget):
        return room(budget, reserved, workers, kills_group=kills_group) >= workers * each

    enough = plan.budget_for(workers)
    assert fits(enough)
    assert not fits(enough - MiB)
