"""What a run shows to whoever started it from Python: progress, what workers print, log records."""

import io
import logging
import subprocess
import sys

import pytest
from made_up_runs import START, usual

import penstock
from penstock import display
from penstock import events as ev
from penstock.display.called import Called
from penstock.display.output import PREFIX, WorkerOutput
from penstock.display.records import level_of, log_event, message_of

READ = ev.MemoryRead(at=START, used=1, workers={}, free=1)


def prints(x):
    print(f"line of {x}")
    print("\x1b[2Jcleared?", file=sys.stderr)
    return x


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_what_workers_print_appears_here_unless_it_is_to_be_kept_quiet(tmp_path, capsys):
    penstock.run(prints, 3, tmp_path / "shown")
    shown, said = capsys.readouterr()
    assert said == ""
    assert sorted(shown.splitlines()) == sorted(
        [f"{PREFIX}line of {x}" for x in range(3)] + [f"{PREFIX}\\x1b[2Jcleared?"] * 3
    )
    penstock.run(prints, 3, tmp_path / "quiet", output="log")
    assert capsys.readouterr() == ("", "")
    penstock.run(prints, 3, private=True)
    assert capsys.readouterr() == ("", "")


def test_only_what_is_new_is_shown_in_whole_lines(tmp_path):
    log, stream, clock = tmp_path / "workers.log", io.StringIO(), Clock()
    log.write_bytes(b"of an earlier run\n")
    cleared = []
    output = WorkerOutput(log, stream=stream, clock=clock, clear=lambda: cleared.append(1))
    output(READ)
    assert (stream.getvalue(), cleared) == ("", [])
    with open(log, "ab") as file:
        file.write(b"one\nhalf")
    output(READ)  # not due yet
    assert stream.getvalue() == ""
    clock.now += 1
    output(READ)
    assert (stream.getvalue(), cleared) == (f"{PREFIX}one\n", [1])
    with open(log, "ab") as file:
        file.write(b" a line\n\xffend")
    output.close()
    assert stream.getvalue().splitlines()[1:] == [f"{PREFIX}half a line", f"{PREFIX}\ufffdend"]


@pytest.mark.parametrize("text", [b"x\n" * 5_000, b"y" * 3_000_000, (b"z" * 1_000 + b"\n") * 2_000])
@pytest.mark.parametrize("stays", [True, False])
def test_no_more_than_so_much_is_shown_and_it_says_where_the_rest_is(tmp_path, text, stays):
    log, stream, clock = tmp_path / "workers.log", io.StringIO(), Clock()
    output = WorkerOutput(log, stream=stream, clock=clock, stays=stays)
    for _ in range(20):
        with open(log, "ab") as file:
            file.write(text)
        clock.now += 1
        output(READ)
    output.close()
    assert len(stream.getvalue()) < 600_000
    *_, last = stream.getvalue().splitlines()
    assert "no more is shown" in last
    assert (str(log) in last) is stays


def test_a_function_is_called_now_and_then_and_with_each_end():
    told, clock = [], Clock()
    called = Called(lambda state: told.append((state.done, state.items)), clock=clock)
    events = list(usual())
    for event in events:
        clock.now = event.at - START
        called(event)
    assert told[-1] == (events[-1].done, 900)
    assert len(told) <= 2 + 10 * (events[-1].at - START)
    assert told == sorted(told)


def test_progress_can_be_asked_for_refused_and_taken_over(tmp_path, capsys):
    penstock.run(abs, 3, progress=True, backend="inline")
    assert "3 items; budget" in capsys.readouterr().err
    penstock.run(abs, 3, progress=False, backend="inline")
    penstock.run(abs, 3, backend="inline")  # nobody sees it: no terminal
    assert capsys.readouterr() == ("", "")
    told = []
    penstock.run(abs, 3, progress=lambda state: told.append(state.done), backend="inline")
    assert told[-1] == 3


def test_on_a_terminal_it_is_shown_by_default(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    penstock.run(abs, 3, backend="inline")
    assert "3 items; budget" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [{"progress": "yes"}, {"output": "quiet"}])
def test_what_makes_no_sense_is_refused(wrong):
    with pytest.raises(penstock.UsageError, match=next(iter(wrong))):
        penstock.run(abs, 3, backend="inline", **wrong)


def test_a_finished_run_shows_nothing(tmp_path, capsys):
    for _ in range(2):
        penstock.run(abs, 3, tmp_path / "run", backend="inline", progress=True)
        said = capsys.readouterr().err
    assert said == ""


def test_events_are_records_at_levels_that_people_expect(caplog):
    with caplog.at_level(logging.DEBUG, logger="penstock"):
        for event in usual():
            log_event(event)
    levels = {}
    for record in caplog.records:
        levels.setdefault(type(record.event), set()).add(record.levelname)
    assert levels[ev.StageStarted] == levels[ev.StageEnded] == levels[ev.Planned] == {"INFO"}
    assert levels[ev.BatchFailed] == levels[ev.ItemSetAside] == {"WARNING"}
    assert levels[ev.MemoryRead] == levels[ev.BatchDone] == {"DEBUG"}
    assert "\n" not in "".join(record.getMessage() for record in caplog.records)
    failed = ev.StageEnded(at=1.0, outcome="failed", done=0, set_aside=0, seconds=1.0, cpu=0.0, peak=0,
                           projected=0, message="no\nroom")  # fmt: skip
    assert level_of(failed) == logging.ERROR
    assert message_of(failed).endswith("no\nroom")


def test_a_run_logs_and_is_silent_where_nobody_has_set_up_logging(caplog):
    def fails(x):
        raise ValueError("no header")

    with caplog.at_level(logging.INFO, logger="penstock"):
        penstock.run(fails, 1, backend="inline", set_aside=True)
    assert any("no header" in record.getMessage() for record in caplog.records)
    script = (
        "import logging, penstock\n"
        "def fails(x): raise ValueError('no header')\n"
        "penstock.run(fails, 1, backend='inline', set_aside=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_logging_is_not_imported_for_those_who_do_not():
    script = (
        "import sys, penstock\n"
        "penstock.run(abs, 1, backend='inline')\n"
        "print('penstock.display.records' in sys.modules, 'rich' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.stderr == ""
    logs, rich = done.stdout.split()
    assert rich == "False"
    assert logs in ("True", "False")  # numpy may import logging itself


def test_the_display_is_made_with_the_first_event(tmp_path):
    shown = display.Display(True, "show", tmp_path / "log", stays=True)
    shown.close()
    assert shown._shown is None
