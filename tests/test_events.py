"""Events: one line each, there and back, none forgotten."""

import dataclasses
import json
from collections.abc import Mapping
from typing import get_type_hints

import pytest

from penstock import events
from penstock.event_lines import from_line, to_line
from penstock.events import Event

KINDS = [
    each
    for each in vars(events).values()
    if isinstance(each, type) and issubclass(each, Event) and each is not Event
]
SAMPLES = {int: 3, float: 1.5, str: "ü\n", bool: True}


def made(kind):
    values = {}
    for name, hint in get_type_hints(kind).items():
        if name == "kind":
            continue
        values[name] = (
            {"1": 5}
            if hint == Mapping[str, int]
            else SAMPLES.get(hint, ("ls", "ü") if hint == tuple[str, ...] else 2)
        )
    return kind(**values)


@pytest.mark.parametrize("kind", KINDS)
def test_every_event_is_a_line_and_back(kind):
    event = made(kind)
    line = to_line(event)
    assert "\n" not in line
    assert json.loads(line)["event"] == kind.kind
    assert from_line(line) == event


def test_every_event_has_a_kind_of_its_own_and_says_what_its_fields_mean():
    assert len({kind.kind for kind in KINDS}) == len(KINDS) >= 13
    for kind in KINDS:
        assert kind.__doc__
        assert dataclasses.is_dataclass(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_events_do_not_change(kind):
    with pytest.raises(dataclasses.FrozenInstanceError):
        made(kind).at = 0


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "[]",
        "3",
        "null",
        '{"event":"unknown","at":1}',
        '{"at":1}',
        '{"event":"planned","at":1}',
        '{"event":[]}',
    ],
)
def test_a_torn_or_newer_line_is_none(line):
    assert from_line(line) is None


def test_every_prefix_of_a_line_is_none():
    line = to_line(made(events.BatchDone))
    assert all(from_line(line[:end]) is None for end in range(len(line)))


def test_a_worker_that_made_room_is_named_as_now_though_it_was_written_before():
    line = to_line(events.WorkerEnded(at=1.0, stage="s", worker=3, why="evicted"))
    assert from_line(line.replace("evicted", "room")) == from_line(line)
