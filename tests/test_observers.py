"""An observer (a progress bar, say) that fails ends nothing: it is named once."""

import threading
import warnings

import pytest

import penstock
from penstock import events as ev
from penstock.errors import RunTakenOver
from penstock.observers import Observers
from penstock.warned import warn

EVENT = ev.WorkerStarted(at=0.0, stage="", worker=1)


GATE = threading.Event()


def waits():
    """A call that ends when the test lets it: it is done in this process."""
    assert GATE.wait(600)
    return 1


class Bar:
    """Counts what it is told, and falls over some of it."""

    def __init__(self, error):
        self.error, self.told = error, 0

    def __call__(self, event):
        self.told += 1
        raise self.error


def test_an_observer_that_raises_is_named_once_and_told_the_next_event_too():
    bar, heard = Bar(ZeroDivisionError("by\nnothing")), []
    observers = Observers([bar, heard.append])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        observers(EVENT)
        observers(EVENT)
    (one,) = caught
    assert str(one.message) == (
        "the observer Bar raised ZeroDivisionError: by\\nnothing, told of WorkerStarted; the run goes on, "
        "and this is said once"
    )
    assert bar.told == len(heard) == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), RunTakenOver("another's")])
def test_who_wants_to_stop_is_let(error):
    with pytest.raises(type(error)):
        Observers([Bar(error)])(EVENT)


class Hostile(Exception):
    def __str__(self):
        raise RuntimeError

    __repr__ = __str__


@pytest.mark.parametrize(
    "error", [ValueError("\ud800"), Hostile(), OSError(28, "full"), Exception("x" * 10**6)]
)
def test_a_run_does_not_end_for_its_progress_bar(error, tmp_path):
    with pytest.warns(RuntimeWarning, match="the observer Bar raised"):
        report = penstock.run(str, 5, tmp_path / "r", backend="inline", observers=[Bar(error)])
    assert report.result == list("01234")
    assert report.outcome == "done"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
def test_in_another_thread_nobody_can_stop_by_raising(error):
    """It would end the engine of an executor, and no program."""
    said = []

    def tell():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            Observers([Bar(error)])(EVENT)
            said.extend(str(each.message) for each in caught)

    thread = threading.Thread(target=tell)
    thread.start()
    thread.join()
    assert [f"Bar raised {type(error).__name__}" in each for each in said] == [True]


def test_a_callback_of_a_call_does_not_end_the_engine_of_the_others():
    def leave(future):
        raise SystemExit(3)

    GATE.clear()
    with warnings.catch_warnings(record=True) as caught, penstock.Executor(backend="inline") as pool:
        warnings.simplefilter("always")
        first = pool.submit(waits)
        first.add_done_callback(leave)
        GATE.set()
        assert first.result() == 1
        assert pool.submit(abs, -2).result() == 2
    said = "a callback of a call raised SystemExit: 3; the executor goes on"
    assert said in [str(each.message) for each in caught]


def test_nor_does_the_engine_of_an_executor():
    bar = Bar(ValueError("broken bar"))
    with (
        pytest.warns(RuntimeWarning, match="the observer Bar raised ValueError: broken bar"),
        penstock.Executor(backend="inline", observers=[bar]) as pool,
    ):
        assert list(pool.map(abs, [-1, -2])) == [1, 2]
    assert bar.told > 1


def test_a_warning_ends_nothing_where_warnings_are_errors_or_cannot_be_shown(capsys, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn("look here")
        Observers([Bar(ValueError("x"))])(EVENT)
    said = capsys.readouterr().err
    assert "penstock: warning: look here" in said
    assert "the observer Bar raised ValueError: x" in said

    def show(*_):
        raise OSError(32, "Broken pipe")

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", show)
        warn("once more")
    assert "once more" in capsys.readouterr().err
