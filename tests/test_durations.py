"""Durations: read in one place, wherever one is taken."""

import math

import pytest

import penstock
from penstock.durations import parse_duration
from penstock.errors import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5s", 5), ("10min", 600), ("2h", 7200), ("250 ms", 0.25), ("1.5h", 5400), ("5m", 300), ("1D", 86_400),
     (" 30 sec ", 30), (7, 7), (0.5, 0.5), (math.inf, math.inf)],
)  # fmt: skip
def test_what_people_write(text, seconds):
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [("30", "write 30s or 30min"), ("soon", "30s, 10min or 2h"), ("5 parsecs", "unknown unit 'parsecs'"),
     ("-5s", "30s, 10min or 2h"), ("0s", "positive"), (0, "positive"), (-1, "positive"),
     (math.nan, "positive"),
     (True, "bool"), ([1], "list"), ("", "30s, 10min or 2h")],
)  # fmt: skip
def test_what_makes_no_sense_is_told_with_its_name(wrong, why):
    with pytest.raises(UsageError, match=why) as caught:
        parse_duration(wrong, "timeout")
    assert "timeout" in str(caught.value)


def taken_by():
    """Everything that takes a duration, as a call with one."""
    items = penstock.sources.Range(2)
    yield "Job(timeout)", lambda value: penstock.Job(source=items, function=str, timeout=value)
    yield "Job(stall)", lambda value: penstock.Job(source=items, function=str, stall=value)
    for name in ("timeout", "stall"):
        yield f"run({name})", lambda value, name=name: penstock.run(str, 2, backend="inline", **{name: value})
        yield f"Executor({name})", lambda value, name=name: penstock.Executor(**{name: value}).shutdown()
        yield f"Run.step({name})", lambda value, name=name: _step(**{name: value})


def _step(**options):
    with penstock.Run(backend="inline") as run:
        run.step("one", lambda folder: None, **options)


@pytest.mark.parametrize(("name", "take"), list(taken_by()), ids=[name for name, _ in taken_by()])
def test_a_text_wherever_one_is_taken(name, take):
    with pytest.raises(UsageError, match="write 30s or 30min"):
        take("30")
    with pytest.raises(UsageError, match="must be positive"):
        take(-1)
    if "step" not in name:  # a step needs a folder
        take("30s")


def test_the_standard_librarys_timeout_of_map_may_be_nothing():
    with penstock.Executor(workers=1) as pool:
        assert list(pool.map(str, [1], timeout="30s")) == ["1"]
        with pytest.raises(UsageError, match="unknown unit"):
            pool.map(str, [1], timeout="3 parsecs")
