"""The report and the tally: nothing is counted twice, nothing is lost in JSON."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock import events as ev
from penstock.budget import GiB, MiB
from penstock.durations import format_seconds
from penstock.errors import SetAside
from penstock.report.report import NAMED, Report
from penstock.report.tally import Tally


def started(**changes):
    values = {"items": 100, "done": 0, "budget": GiB, "origin": "a test", "workers": None, "at": 0.0}
    return ev.StageStarted(**values | changes)


def ended(**changes):
    values = {
        "at": 9.0, "outcome": "done", "done": 100, "set_aside": 0, "seconds": 9.0, "cpu": 12.0,
        "peak": 0, "projected": 0,
    }  # fmt: skip
    return ev.StageEnded(**values | changes)


def batch_done(start=0, stop=10, *, peak=5, projected=9, at=1.0):
    return ev.BatchDone(
        at=at,
        batch=0,
        worker=0,
        start=start,
        stop=stop,
        seconds=1.0,
        peak=peak,
        projected=projected,
        retained=0,
    )


def batch_failed(cause):
    return ev.BatchFailed(at=1.0, batch=0, worker=0, start=0, stop=10, cause=cause, item=3, held=7)


def set_aside(item):
    return ev.ItemSetAside(at=2.0, item=item, name=f"sub-{item:03}", reason="memory", message="needs 3.1 GiB")


def tally_of(*events):
    tally = Tally()
    for event in events:
        tally(event)
    return tally


def test_a_run_that_has_not_ended_has_taken_its_time():
    died = [started(at=100.0), batch_done(at=107.5)]
    assert tally_of(*died).report().seconds == 7.5
    noticed = ev.RunDied(at=900.0, died=107.5, message="it died")
    assert tally_of(*died, noticed).report().seconds == 7.5
    whole = tally_of(*died, noticed, started(at=901.0), ended(at=905.0, seconds=4.0))
    assert whole.report().seconds == 11.5  # as of one that was interrupted


def test_tally_counts_each_kind_of_event_once():
    report = tally_of(
        started(stage="survey", done=20),
        ev.Planned(at=0, workers=2, call=4, batch=8, reserved=100, footprint=50, projected=600),
        ev.WorkerStarted(at=0, worker=0),
        ev.WorkerStarted(at=0, worker=1),
        ev.MemoryRead(at=1, used=300, workers={"0": 100}, free=10),
        ev.MemoryRead(at=2, used=700, workers={"0": 100}, free=10),
        ev.MemoryRead(at=3, used=200, workers={"0": 100}, free=10),
        batch_done(peak=5, projected=9),
        batch_done(peak=9, projected=9),
        batch_done(peak=10, projected=9),
        batch_done(peak=10, projected=0),  # nothing was predicted for it
        *(batch_failed(cause) for cause in ["kernel", "governor", "governor", "raised"]),
        ev.WorkerPaused(at=2, worker=0, free=3),
        ev.WorkerResumed(at=2, worker=0),
        ev.WorkerEnded(at=3, worker=0, why="recycled"),
        ev.WorkerEnded(at=3, worker=1, why="done"),
        set_aside(3),
        ev.BudgetChanged(at=4, budget=1000, origin="cgroup"),
        ended(stage="survey", done=99, set_aside=1, peak=650, projected=610),
    ).report(folder=Path("runs/x"))
    assert (report.stage, report.outcome, report.items, report.done) == ("survey", "done", 100, 99)
    assert (report.reserved, report.projected) == (100, 610)
    assert (report.peak, report.budget, report.origin) == (700, GiB, "a test")
    assert (report.batches, report.workers_started, report.paused, report.recycled) == (4, 2, 1, 1)
    assert report.failures == {"kernel": 1, "governor": 2, "raised": 1}
    assert report.predictions == (3, 2)
    assert report.coverage == pytest.approx(2 / 3)
    assert report.resumed_from == 20
    assert [item.name for item in report.set_aside] == ["sub-003"]
    assert (report.seconds, report.cpu) == (9.0, 12.0)
    assert report.held_over_time == pytest.approx((700 + 200) / (2 * GiB))


def test_time_that_was_lost_adds_up():
    begun = {"batch": 1, "start": 0, "stop": 1, "call": 1, "projected": 0, "alone": False}
    fell = {"batch": 1, "start": 0, "stop": 1, "cause": "governor", "item": 0, "held": 9, "message": ""}
    tally = tally_of(
        started(),
        ev.Planned(
            at=0,
            workers=2,
            call=1,
            batch=1,
            reserved=1,
            footprint=1,
            projected=1,
            why="2, not 3: of 64 draws",
        ),
        ev.BatchStarted(at=1, worker=0, **begun),
        ev.BatchStarted(at=1, worker=1, **begun),
        ev.WorkerPaused(at=2, worker=0, free=1),
        ev.WorkerPaused(at=3, worker=1, free=1),
        ev.WorkerResumed(at=4, worker=0),
        ev.BatchFailed(at=6, worker=1, **fell),
        ev.WorkerEnded(at=6.5, worker=1, why="governor"),
        ended(),
    )
    report = tally.report()
    assert report.paused_seconds == pytest.approx(2 + 3.5)
    assert report.repeated_seconds == pytest.approx(5)
    text = str(report)
    assert "2 pauses, 6 s of workers' time lost" in text or "2 pauses, 5" in text
    assert "5 s of workers' time lost" in text
    assert "2, not 3: of 64 draws" in text
    assert Report.from_json(report.to_json()) == report
    assert Report.of_stages([report, report]).paused_seconds == pytest.approx(11)


def read(used):
    return ev.MemoryRead(at=1, used=used, workers={}, free=0)


def changed(budget):
    return ev.BudgetChanged(at=1, budget=budget, origin=f"set to {budget}")


@pytest.mark.parametrize(
    ("events", "peak", "budget"),
    [
        ([read(80)], 80, 100),
        ([read(80), changed(50), read(40)], 80, 100),  # 80 was allowed when it was held
        ([read(80), changed(50), read(60)], 60, 50),  # 60 was not
        ([read(120), changed(50), read(60)], 120, 100),
        ([changed(50)], 0, 50),
    ],
)
def test_the_peak_is_compared_with_the_budget_of_its_moment(events, peak, budget):
    report = tally_of(started(budget=100), *events, ended(peak=peak)).report()
    assert (report.peak, report.budget) == (peak, budget)


def test_a_stage_that_never_ended_was_interrupted():
    report = tally_of(started(done=30), batch_done(30, 45)).report()
    assert (report.outcome, report.done, report.coverage) == ("interrupted", 45, 1.0)


def test_runs_of_one_stage_add_up():
    report = tally_of(
        started(), batch_done(0, 40), ended(outcome="interrupted", done=40, peak=70),
        started(done=40), batch_done(40, 100), ended(peak=60),
    ).report()  # fmt: skip
    assert (report.outcome, report.done, report.resumed_from) == ("done", 100, 0)
    assert (report.batches, report.seconds, report.peak) == (2, 18.0, 70)


def test_an_item_set_aside_and_then_done_is_not_named():
    report = tally_of(
        started(), set_aside(3), ended(done=99, set_aside=1), started(done=99), ended()
    ).report()
    assert (report.set_aside, report.set_aside_total) == ((), 0)


def test_the_journals_items_are_named_rather_than_the_events_and_no_more_than_the_cap():
    tally = tally_of(started(), set_aside(3))
    journaled = (SetAside(i, str(i), "raised", "no") for i in reversed(range(NAMED + 7)))
    report = tally.report(set_aside=journaled)
    assert (len(report.set_aside), report.set_aside_total) == (NAMED, NAMED + 7)
    assert report.set_aside[0].item < report.set_aside[1].item


def test_tally_does_not_grow_with_items():
    tally = tally_of(started(), *(set_aside(i) for i in range(NAMED + 100)))
    assert len(tally.set_aside) == NAMED
    assert tally.report().set_aside_total == NAMED + 100


def test_result_is_opened_when_asked_for_and_once():
    calls = []
    report = Report(open_result=lambda: calls.append(1) or "the result")
    assert not calls
    assert [report.result, report.result, len(calls)] == ["the result", "the result", 1]
    assert Report().result is None


COUNTS = st.integers(0, 1 << 60)


@settings(deadline=None)
@given(
    st.builds(
        Report,
        stage=st.text(), outcome=st.sampled_from(["done", "failed", "interrupted"]), message=st.text(),
        folder=st.none() | st.just(Path("a/b")), items=COUNTS, done=COUNTS,
        budget=COUNTS,
        peak=COUNTS, seconds=st.floats(0, 1e6), failures=st.dictionaries(st.text(), COUNTS),
        predictions=st.tuples(COUNTS, COUNTS),
        set_aside=st.lists(st.builds(SetAside, COUNTS, st.text(), st.text(), st.text())).map(tuple),
    )
)  # fmt: skip
def test_json_gives_the_same_report_back_and_every_form_can_be_printed(report):
    whole = Report.of_stages([report, report], folder=Path("x"))
    for each in (report, whole):
        text = each.to_json()
        assert Report.from_json(text).to_json() == text
        assert json.loads(text)["headroom"] == each.headroom
        assert str(each)
        assert each._repr_html_().startswith("<table>")


@pytest.mark.parametrize("text", ["[]", "{}", "no", '"schema"'])
def test_from_json_refuses_what_is_no_report(text):
    with pytest.raises(ValueError):
        Report.from_json(text)


def test_a_newer_versions_keys_are_left_out():
    assert Report.from_json('{"schema": 2, "items": 5, "colour": "red"}').items == 5


def test_html_is_escaped():
    assert (
        "<script>" not in Report(message="<script>", origin="<script>", folder=Path("<script>"))._repr_html_()
    )


def test_the_printed_report_says_where_its_numbers_come_from():
    report = Report(
        folder=Path("runs/embed"), items=12000, done=11997, set_aside_total=3, budget=4 * GiB,
        origin="--budget", reserved=GiB, projected=3 * GiB, peak=3 * GiB + 200 * MiB, seconds=61, cpu=120,
        batches=312, workers_started=8, recycled=2, paused=1, predictions=(312, 310),
        failures={"governor": 3, "raised": 1},
        set_aside=(SetAside(31, "sub-031", "memory", "needs 3.1 GiB"),),
    )  # fmt: skip
    text = str(report)
    for part in (
        "11,997 of 12,000 items, 3 set aside, 61 s, 2.0 cores busy", "4.0 GiB  --budget", "headroom 824 MiB",
        "8 workers started, 2 recycled, 1 pause, 310 of 312 stayed under", "governor 3, raised 1",
        "3  sub-031: needs",
        "runs/embed",
    ):  # fmt: skip
        assert part in text
    assert "OVER the budget by" in str(Report(budget=5, peak=7))


def test_stages_together_are_as_bad_as_the_worst_and_as_tight_as_the_tightest():
    survey = Report(stage="survey", items=10, done=10, budget=100, peak=40, seconds=2, failures={"raised": 1})
    tensor = Report(
        stage="tensor", outcome="failed", message="no", items=5, done=1, budget=100, peak=90, seconds=3,
        failures={"raised": 2, "kernel": 1},
    )  # fmt: skip
    whole = Report.of_stages([survey, tensor])
    assert (whole.outcome, whole.message, whole.items, whole.done, whole.seconds) == (
        "failed",
        "no",
        15,
        11,
        5,
    )
    assert (whole.peak, whole.headroom) == (90, 10)
    assert whole.failures == {"raised": 3, "kernel": 1}
    assert whole.stages == (survey, tensor)
    assert "tensor" in str(whole)
    assert Report.of_stages([]).outcome == "done"
    finished_before = Report(stage="x", items=3, done=3)
    assert Report.of_stages([finished_before, survey]).budget == 100


def test_steps_are_in_neither_count_of_items_and_not_in_the_plan():
    """They are of one item each, which nobody counts, and nothing is planned for them."""
    stage = Report(stage="work", items=17, done=17, resumed_from=17, projected=9 * MiB)
    step = Report(stage="tables", items=1, done=1, resumed_from=1)
    whole = str(Report.of_stages([stage, step]))
    assert "17 of 17 items, 17 from before" in whole
    assert "by the plan, without the steps" in whole
    assert "by the plan\n" in str(Report.of_stages([stage, stage]))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.42, "420 ms"),
        (6.04, "6.0 s"),
        (61, "61 s"),
        (720, "12 min"),
        (11100, "3 h 05 min"),
        (700_000, "8 d 02 h"),
        (4e8, "13 years"),
        (1e27, "over 10,000 years"),
    ],
)
def test_durations_are_printed_as_people_say_them(seconds, text):
    assert format_seconds(seconds) == text


def test_what_was_lost_to_waiting_is_told_and_adds_up():
    stages = [tally_of(started(), ended(waited=seconds)).report() for seconds in (4.0, 8.0)]
    assert [stage.waited_seconds for stage in stages] == [4.0, 8.0]
    whole = Report.of_stages(stages)
    assert whole.waited_seconds == 12.0
    assert "12 s of cores' time waited for memory" in str(whole)
    assert "waited" not in str(tally_of(started(), ended()).report())
    assert Report.from_json(whole.to_json()).waited_seconds == 12.0


# --------------------------------------------------------------------------- next time


def test_cores_that_were_in_use_cannot_be_had_twice():
    assert planned_run(cpu=6 * 1860.0 * 0.9).seconds_with_most == pytest.approx(0.9 * 1860)
    assert planned_run(cpu=1e9).seconds_with_most == 1860


def planned_run(*, seconds=1860.0, cpu=1.0, done=0, peak=1300 * MiB, projected=1400 * MiB, **changes):
    values = {
        "at": 1.0, "workers": 2, "call": 1, "batch": 10, "reserved": 100 * MiB, "footprint": 650 * MiB,
        "projected": projected, "enough": 1500 * MiB, "most_workers": 6, "enough_for_most": 3900 * MiB,
    }  # fmt: skip
    end = {"seconds": seconds, "cpu": cpu, "peak": peak, "projected": projected}
    return tally_of(
        started(done=done, budget=1600 * MiB), ev.Planned(**values | changes), ended(**end)
    ).report()


def test_a_report_says_what_to_ask_for_and_what_more_memory_would_buy():
    assert planned_run().next_time("slurm") == [
        "needed 1.3 GiB; next time ask for #SBATCH --mem=1536M",
        "with 4.0 GiB (#SBATCH --mem=4G): 6 workers instead of 2, about 10 min instead of 31 min",
    ]
    assert "advice" in str(planned_run())
    assert "--memory=1536m" in planned_run().as_text("docker")


def test_what_one_of_several_nodes_needed_is_not_what_to_ask_for():
    sizes = {"reserved": MiB, "footprint": MiB, "projected": 9 * MiB, "enough": 10 * MiB}
    plan = ev.Planned(at=1.0, workers=2, call=1, batch=1, **sizes)
    read = ev.NodeRead(at=1.0, node="n1", used=47 * MiB, budget=150 * MiB, origin="one share of two")
    assert tally_of(started(budget=300 * MiB), plan, ended(peak=8 * MiB)).report().next_time("docker")
    report = tally_of(started(budget=300 * MiB), plan, read, ended(peak=8 * MiB)).report()
    assert report.next_time("docker") == []
    assert (report.peak, report.budget) == (47 * MiB, 150 * MiB)


@pytest.mark.parametrize("changes", [{"seconds": 5.0}, {"most_workers": 2}, {"done": 50}])
def test_more_memory_is_not_praised_where_it_would_buy_little(changes):
    assert len(planned_run(**changes).next_time("k8s")) == 1


def test_a_run_that_held_more_than_planned_is_told_of_by_its_peak():
    (first, *_) = planned_run(peak=1550 * MiB).next_time("slurm")
    assert first == "needed 1.5 GiB; next time ask for #SBATCH --mem=1792M"


@pytest.mark.parametrize(("reason", "asks"), [("raised", "1536M"), ("memory", "7G")])
def test_what_was_set_aside_for_memory_counts_for_next_time(reason, asks):
    large = SetAside(3, "three", reason, "needs more", needed=4000 * MiB)
    told = replace(planned_run(), set_aside=(large,)).next_time("slurm")
    assert told[0].endswith(f"next time ask for #SBATCH --mem={asks}")
    assert ("without what was set aside for memory (1 item)" in told[0]) == (reason == "memory")
    # What is said to be quicker is not less than what is enough.
    assert len(told) == (1 if reason == "memory" else 2)


def test_nothing_is_said_of_next_time_where_nothing_is_known():
    assert tally_of(started(), ended()).report().next_time("slurm") == []
    assert tally_of(started(), ended(outcome="failed", peak=7)).report().next_time() == []


def test_of_several_stages_the_largest_counts_and_the_one_that_more_workers_shorten_most():
    stages = [planned_run(), planned_run(seconds=100.0, enough=2000 * MiB, most_workers=3)]
    whole = Report.of_stages(stages)
    assert whole.enough == 2000 * MiB
    assert (whole.workers, whole.most_workers) == (2, 6)
    assert whole.seconds_with_most == pytest.approx(100 + 1860 / 3)
    assert Report.from_json(whole.to_json()) == whole
