"""The progress of a run: one live line on a terminal, plain lines elsewhere, and the last word."""

import io
import re
import subprocess
import sys
from pathlib import Path

import made_up_runs
import pytest
from made_up_runs import Stage, stages, tiny, usual
from rich.console import Console

from penstock import events as ev
from penstock.budget import GiB
from penstock.cli.summary import summary
from penstock.display.progress import Progress
from penstock.display.screen import live_line
from penstock.errors import SetAside
from penstock.report.live import LiveState
from penstock.report.report import Report
from penstock.report.tally import Tally


class Clock:
    """Stands where the last event left it."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def told(events, **options):
    stream, clock = io.StringIO(), Clock()
    with Progress(stream=stream, clock=clock, **options) as progress:
        start = None
        for event in events:
            start = event.at if start is None else start
            clock.now = event.at - start
            progress(event)
    return stream.getvalue()


def test_elsewhere_than_on_a_terminal_a_plain_line_comes_every_30_s():
    beginning, plan, *lines = told(Stage(batches=250)).splitlines()  # about 120 s
    (changed,) = [line for line in lines if line.startswith("plan now: ")]
    lines.remove(changed)
    assert "; budget 4.0 GiB (" in beginning
    assert plan.startswith("plan: 4 workers, calls of ")
    assert "= projected" in plan
    assert 3 <= len(lines) <= 5
    assert all("of 2,500 items" in line for line in lines)
    assert "of 4.0 GiB" in lines[-1]
    assert "4 workers" in lines[-1]
    assert "left" in lines[0]
    assert "\x1b" not in "".join(lines)


def test_a_short_run_says_only_what_it_is_about_to_do():
    lines = told(tiny()).splitlines()
    assert "budget" in lines[0]
    assert all(line.startswith("plan: ") for line in lines[1:])


@pytest.mark.parametrize("quiet", [False, True])
def test_the_death_of_the_run_before_is_told_at_once(quiet):
    died = ev.RunDied(at=5.0, died=1.0, message="the run before this one died at noon")
    assert told([died], quiet=quiet) == ("" if quiet else "the run before this one died at noon\n")


def test_a_terminal_has_one_live_line_that_goes_away():
    text = told(stages(), live=True)
    assert "survey" in text
    assert "about" in text
    assert "\x1b[2K" in text  # erased
    assert text.count("\n") < 24


@pytest.mark.parametrize(("encoding", "bar"), [("ascii", "-"), ("utf-8", "━")])
@pytest.mark.parametrize("columns", [40, 100])
def test_the_line_has_only_letters_that_the_terminal_has(encoding, bar, columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    data = io.BytesIO()
    stream, clock = io.TextIOWrapper(data, encoding=encoding), Clock()
    with Progress(stream=stream, clock=clock, live=True) as progress:
        for event in stages():
            clock.now = event.at
            progress(event)
    stream.flush()
    drawn = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", data.getvalue().decode(encoding))
    lines = [line for line in re.split(r"[\r\n]", drawn) if " of " in line and "items" in line]
    assert lines
    assert all(len(line) <= columns for line in lines if "budget" not in line)
    assert columns < 80 or any(bar * 6 in line for line in lines)


def test_no_color_is_heeded(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[36m" not in told(stages(), live=True)
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b[36m" in told(stages(), live=True)


def test_quiet_says_nothing_on_a_terminal_either():
    assert told(stages(), live=True, quiet=True) == ""


def test_verbose_tells_what_goes_wrong_as_it_does():
    text = told(usual(), verbose=1)
    failed = [event for event in usual() if isinstance(event, ev.BatchFailed)]
    assert text.count("it held <b>too much</b>") == len(failed)
    assert text.count("set aside sub-") == 2
    assert "ended: recycled" in text
    assert "batch_done" not in text
    assert "batch_done" in told(usual(), verbose=2)


def test_verbose_lines_do_not_break_the_live_line():
    assert "set aside sub-" in told(usual(), verbose=1, live=True)


def test_the_summary_says_where_the_output_of_workers_is(tmp_path):
    log = tmp_path / ".penstock" / "workers.log"
    log.parent.mkdir()
    log.touch()
    report = Report(items=1, done=1)
    assert "workers" not in summary(report, tmp_path)
    log.write_text("hello\n")
    assert f"what workers printed {log}" in summary(report, tmp_path)


def test_the_summary_says_where_the_results_are(tmp_path):
    for name in ("usage.parquet", "report.html", ".hidden"):
        (tmp_path / name).touch()
    (tmp_path / "tensor").mkdir()
    (tmp_path / "tensor" / "part-0").touch()
    report = Report(
        items=100, done=93, budget=4 * GiB, origin="--budget", peak=3 * GiB, projected=3 * GiB,
        set_aside=tuple(SetAside(i, f"sub-{i}", "memory", "too large") for i in range(7)), set_aside_total=7,
    )  # fmt: skip
    text = summary(report, tmp_path)
    assert "93 of 100 items, 7 set aside" in text
    assert "measured peak 3.0 GiB of 4.0 GiB (--budget), projected 3.0 GiB" in text
    assert "sub-4: too large" in text
    assert "sub-5" not in text
    assert "and 2 more set aside" in text
    assert f"results in {tmp_path}: usage.parquet, tensor/" in text
    assert f"report {tmp_path / 'report.html'}" in text


def test_no_thread_is_started():
    code = (
        "import io, sys, threading; sys.path.insert(0, sys.argv[1])\n"
        "from made_up_runs import tiny\nfrom penstock.display.progress import Progress\n"
        "with Progress(stream=io.StringIO(), live=True) as p:\n"
        "    for event in tiny(): p(event)\n"
        "    print(threading.active_count())"
    )
    place = str(Path(made_up_runs.__file__).parent)
    result = subprocess.run([sys.executable, "-c", code, place], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "1"


def test_the_tally_and_the_progress_agree():
    tally = Tally()
    for event in usual():
        tally(event)
    assert "898 of 900 items" in summary(tally.report(), Path("no such folder"))


# --------------------------------------------------------------------------- a plan that changes


def planned(at, workers, footprint, reserved=100):
    projected = (reserved + workers * footprint) << 20
    return ev.Planned(
        at=at,
        workers=workers,
        call=1,
        batch=1,
        reserved=reserved << 20,
        footprint=footprint << 20,
        projected=projected,
    )


def plans(*events, end=100):
    start = ev.StageStarted(at=0, items=9, done=0, budget=GiB, origin="", workers=None)
    ended = ev.StageEnded(
        at=end, outcome="done", done=9, set_aside=0, seconds=9, cpu=9, peak=1, projected=1, message=""
    )
    return [line for line in told([start, *events, ended]).splitlines() if line.startswith("plan")]


def test_a_plan_that_misleads_by_now_is_told_anew():
    first, now = plans(planned(0, 2, 1), planned(7, 2, 107))
    assert first.startswith("plan: 2 workers")
    assert "2 workers x 107 MiB = projected 314 MiB" in now


def test_a_plan_that_changes_within_seconds_is_told_as_it_is_then():
    assert len(plans(planned(0, 2, 1), planned(1, 2, 50), planned(2, 1, 107), planned(6, 1, 108))) == 2
    told_last = plans(planned(0, 2, 1), planned(1, 2, 107), end=2)[-1]
    assert "2 workers x 107 MiB" in told_last, "in a short run, at its end"


def test_a_plan_that_comes_back_or_hardly_changes_is_not_told():
    assert len(plans(planned(0, 2, 100), planned(1, 1, 100), planned(2, 2, 100), planned(50, 2, 101))) == 1


def test_a_plan_that_changes_to_and_fro_is_told_seldom():
    many = [planned(at / 10, 1 + at % 2, 100) for at in range(300)]
    assert 2 <= len(plans(*many, end=31)) <= 8


# --------------------------------------------------------------------------- numbers that agree


def set_aside(at, item):
    return ev.ItemSetAside(at=at, item=item, name=str(item), reason="raised", message="no")


def test_items_set_aside_are_not_counted_as_done():
    stream = io.StringIO()
    progress = Progress(stream=stream, live=False, clock=Clock())
    tally = Tally()
    started = ev.StageStarted(at=0, items=20, done=4, budget=GiB, origin="", workers=None, set_aside=1)
    done = ev.BatchDone(at=2, batch=1, worker=1, start=5, stop=15, seconds=1, peak=1, projected=0, retained=0)
    for event in (started, set_aside(1, 7), set_aside(1, 9), done):
        progress(event)
        tally(event)
    assert progress.reached() == " at 12 of 20 items; these are kept"
    assert tally.report().done == 12
    assert stream.getvalue().startswith("20 items, 4 done before, 1 set aside before; budget")
    assert "3 set aside" in progress._plain()


@pytest.mark.parametrize(
    ("width", "says"),
    [
        (200, "63 of 300 items  1 set aside  155 MiB of 400 MiB  2 workers  about 80 s left"),
        (52, "63 of 300 items  155 MiB of 400 MiB  about 80 s left"),
        (40, "63 of 300 items  about 80 s left"),
        (20, "63 of 300 items"),
    ],
)
def test_a_narrow_line_leaves_out_parts_and_cuts_none(width, says):
    state = LiveState()
    parts = ["63 of 300 items", "1 set aside", "155 MiB of 400 MiB", "2 workers", "about 80 s left"]
    state.parts, state.memory = lambda now: parts, lambda: parts[2]
    console = Console(width=width, file=io.StringIO(), legacy_windows=False)
    console.print(live_line(state, 0.0, console))
    assert console.file.getvalue().strip().endswith(says)
