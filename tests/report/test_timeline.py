"""The gatherers of the page: bounded, and nothing that matters is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_runs import RUNS, START, killed, on_nodes, resumed, stages, usual

from penstock import events as ev
from penstock.budget import GiB
from penstock.report import svg
from penstock.report.downsample import Bar, Bars, Marks, Moment, Pairs, Peaks, Steps
from penstock.report.timeline import Timeline, WorkerRows

_times = st.lists(st.floats(0, 1e5, allow_nan=False), min_size=1, max_size=300).map(sorted)


@given(_times, st.data())
def test_peaks_are_few_and_the_highest_of_each_session_is_among_them(times, data):
    used = [data.draw(st.integers(0, 1000)) for _ in times]
    peaks = Peaks(limit=20)
    for index, (at, value) in enumerate(zip(times, used, strict=True)):
        peaks.add(Moment(at, value, {}, 0, session=2 * index // len(times)))
    assert len(peaks.moments) <= 20
    for session in (0, 1):
        of_it = [value for index, value in enumerate(used) if 2 * index // len(times) == session]
        kept = [moment.used for moment in peaks.moments if moment.session == session]
        assert max(kept, default=0) == max(of_it, default=0)
    assert [moment.at for moment in peaks.moments] == sorted(moment.at for moment in peaks.moments)


@given(_times)
def test_bars_are_few_and_count_every_batch_and_second(times):
    bars = Bars(limit=12)
    for index, at in enumerate(times):
        bars.add(Bar(index % 3, at, at + 0.5, 1, index, index, 0.5, peak=index))
    kept = list(bars)
    assert len(kept) == bars.total <= 12
    assert sum(bar.count for bar in kept) == len(times)
    assert sum(bar.busy for bar in kept) == 0.5 * len(times)
    assert max(bar.peak for bar in kept) == len(times) - 1
    assert {bar.row for bar in kept} == {index % 3 for index in range(len(times))}


def test_more_rows_and_sessions_than_places_are_all_kept():
    bars, peaks = Bars(limit=10), Peaks(limit=10)
    for index in range(100):
        bars.add(Bar(index % 50, index, index + 1.0, 1, 0, 0, 1.0, 0))
        peaks.add(Moment(index, 1, {}, 0, session=index // 2))
    assert len(bars.rows) == 50
    assert {moment.session for moment in peaks.moments} == set(range(50))


@given(_times)
def test_marks_are_few_and_count_all(times):
    marks = Marks("died", limit=8)
    for at in times:
        marks.add(at, "worker 1")
    assert len(marks.marks) <= 8
    assert sum(mark.count for mark in marks.marks) == len(times) == marks.total


@given(st.lists(st.tuples(st.integers(1, 1 << 40), st.integers(0, 1 << 40)), min_size=1, max_size=200))
def test_a_bound_that_broke_is_never_averaged_away(pairs):
    gathered = Pairs(limit=10)
    for predicted, measured in pairs:
        gathered.add(predicted, measured, "items 0 to 9")
    assert sum(cell.count for cell in gathered.cells.values()) == len(pairs)
    over = [cell for cell in gathered.cells.values() if cell.measured > cell.predicted]
    assert sum(cell.count for cell in over) == gathered.over == sum(m > p for p, m in pairs)


@given(st.lists(st.integers(0, 5), max_size=2000))
def test_steps_are_few_and_keep_the_first_and_the_last(values):
    steps = Steps()
    for at, value in enumerate(values):
        steps.add(at, value)
    assert len(steps.changes) <= 400
    if values:
        assert steps.changes[0][1] == values[0]
        assert steps.changes[-1][1] == values[-1]


def test_a_worker_gets_the_row_of_one_that_left():
    rows = WorkerRows()
    assert [rows.of(worker) for worker in (7, 8, 7, 9)] == [0, 1, 0, 2]
    rows.leave(8)
    assert rows.get(8) == 1  # for its last reading
    assert rows.of(10) == 1
    rows.leave_all()
    assert [rows.of(worker) for worker in (20, 21, 22, 23)] == [0, 1, 2, 3]
    assert rows.count == 4


def test_ten_thousand_workers_one_after_the_other_need_one_row():
    timeline = Timeline()
    timeline(ev.StageStarted(at=START, items=1, done=0, budget=GiB, origin="", workers=1))
    for worker in range(10_000):
        at = START + worker
        timeline(ev.WorkerStarted(at=at, worker=worker))
        timeline(ev.MemoryRead(at=at, used=9, workers={str(worker): 5, str(worker - 1): 1}, free=0))
        timeline(ev.WorkerEnded(at=at, worker=worker, why="recycled"))
    assert timeline.rows.count == 1
    assert timeline.marks["recycled"].total == 10_000
    assert timeline.peaks.moments[-1].rows == {0: 6}  # the old one's last reading is in the same row


def test_a_clock_that_is_set_back_stands_still():
    timeline = Timeline()
    timeline(ev.StageStarted(at=START, items=1, done=0, budget=GiB, origin="", workers=1))
    for at in (0.0, 10.0, 4.0, 12.0):
        timeline(ev.MemoryRead(at=START + at, used=1, workers={}, free=0))
    times = [moment.at for moment in timeline.peaks.moments]
    assert times == sorted(times)
    assert timeline.seconds == 12.0


def test_splits_are_seen():
    timeline = Timeline()
    for event in usual():
        timeline(event)
    failed = [event for event in usual() if isinstance(event, ev.BatchFailed)]
    assert timeline.marks["split"].total == len(failed)


def test_stages_are_told_apart():
    timeline = Timeline()
    for event in stages():
        timeline(event)
    assert [span.name for span in timeline.spans] == ["survey", "sort", "tensor of genotypes", "train"]
    assert all(span.start < span.stop for span in timeline.spans)
    assert timeline.plans["sort"].workers == 1


@pytest.mark.parametrize("name", sorted(RUNS))
def test_the_axis_is_as_long_as_the_time_that_the_report_tells(name):
    timeline = Timeline()
    for event in RUNS[name]():
        timeline(event)
    told = sum(tally.report().seconds for tally in timeline.tallies.values())
    assert timeline.seconds == pytest.approx(told, abs=0.11)  # when it ends, and when that is told


@pytest.mark.parametrize("pause", [0.5, 4.0, 86400.0])
@pytest.mark.parametrize("run", [killed, resumed])
def test_no_time_passes_between_two_runs(run, pause):
    timeline, shorter = Timeline(), Timeline()
    for event in run(pause):
        timeline(event)
    for event in run(1.0):
        shorter(event)
    assert timeline.seconds == pytest.approx(shorter.seconds, abs=1e-3)
    resumes = timeline.marks["resumed"].marks
    assert len(resumes) == 1
    assert {moment.session for moment in timeline.peaks.moments} == {0, 1}


def test_a_stage_without_a_plan_has_no_line_of_the_one_before():
    timeline = Timeline()
    timeline(ev.StageStarted(at=START, stage="a", items=1, done=0, budget=GiB, origin="", workers=1))
    timeline(ev.Planned(at=START + 1, stage="a", workers=1, call=1, batch=1, reserved=1, footprint=1,
                        projected=500))  # fmt: skip
    for at, stage in ((5, "sum up"), (8, "b")):
        timeline(ev.StageEnded(at=START + at, stage="a", outcome="done", done=1, set_aside=0, seconds=at,
                               cpu=0, peak=1, projected=0))  # fmt: skip
        timeline(ev.StageStarted(at=START + at, stage=stage, items=1, done=0, budget=GiB, origin="",
                                 workers=1))  # fmt: skip
    drawn = svg.steps(svg.Frame(10.0, 1000, 0, 100), timeline.projected.changes)
    assert drawn == "M100 50H500"  # it ends where its stage ends


def test_what_nodes_tell_late_is_drawn_when_it_happened():
    timeline = Timeline()
    for event in on_nodes():
        timeline(event)
    assert timeline.rows.nodes == ["n1", "n2"]
    drawn = [(bar.row, round(bar.start, 3), round(bar.stop, 3)) for bar in timeline.done]
    assert drawn == [(0, 1.0, 4.0), (0, 4.0, 9.0), (1, 1.0, 6.0)]
    assert timeline.nodes["n2"].readings == [(10.0, 300)]
    assert timeline.seconds == 12.0
    died = [(round(mark.at, 3), mark.count) for mark in timeline.marks["died"].marks]
    assert died == sorted(died)
