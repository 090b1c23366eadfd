"""Events read as they are written: through torn lines, a copy in the file's place, other runs after it."""

import os

import pytest
from made_up_runs import tiny, usual

from penstock import event_lines, layout
from penstock import events as ev
from penstock.files import renew
from penstock.record.following import Follower, LockWatch, RunLife
from penstock.record.holding import SILENT
from penstock.record.lock_file import Holder


@pytest.fixture
def path(tmp_path):
    state = tmp_path / layout.STATE
    state.mkdir()
    return state / layout.EVENTS


def lines(events):
    return "".join(f"{event_lines.to_line(event)}\n" for event in events)


def append(path, text):
    with open(path, "a") as file:
        file.write(text)


def test_each_event_is_told_once_however_the_file_grows(tmp_path, path):
    events = list(usual())
    text, follower, told = lines(events), Follower(tmp_path), []
    assert list(follower.new()) == []
    for start in range(0, len(text), 7001):  # in the middle of lines
        append(path, text[start : start + 7001])
        told += follower.new()
    assert told == events
    assert list(follower.new()) == []
    follower.close()


def test_a_copy_in_its_place_is_gone_on_with(tmp_path, path):
    first, second = list(tiny()), list(usual())
    follower = Follower(tmp_path)
    torn = event_lines.to_line(second[0])
    append(path, lines(first) + torn[:10])
    told = list(follower.new())
    inode = path.stat().st_ino
    renew(path)
    assert path.stat().st_ino != inode
    append(path, torn[10:] + "\n" + lines(second[1:]))
    told += follower.new()
    assert told == first + second
    follower.close()


def test_another_run_in_the_folder_is_told_from_its_beginning(tmp_path, path):
    follower = Follower(tmp_path)
    append(path, lines(usual()))
    assert list(follower.new())
    path.unlink()
    assert list(follower.new()) == []
    append(path, lines(tiny()))
    assert list(follower.new()) == list(tiny())
    path.write_text("")
    assert list(follower.new()) == []
    append(path, lines(tiny()))
    assert list(follower.new()) == list(tiny())
    follower.close()


def test_what_is_no_event_is_left_out_and_no_line_is_held_whole(tmp_path, path, monkeypatch):
    monkeypatch.setattr("penstock.record.following._LONGEST", 4096)
    monkeypatch.setattr("penstock.record.following._CHUNK", 1024)
    events = list(tiny())
    append(path, "x" * 50_000 + "\n" + "[1]\n" + lines(events) + "\x00\n")
    follower = Follower(tmp_path)
    assert list(follower.new()) == events
    follower.close()


def test_a_pipe_in_its_place_is_not_waited_for(tmp_path, path):
    os.mkfifo(path)
    follower = Follower(tmp_path)
    assert list(follower.new()) == []
    follower.close()


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize(
    ("holder", "held"),
    [
        (None, False),
        (Holder(1, "here", "", 0.0, alive=True), True),
        (Holder(1, "here", "", 0.0, alive=False), False),
    ],
)
def test_a_holder_that_can_be_seen_is_believed(tmp_path, holder, held):
    assert LockWatch(tmp_path, holder=lambda _: holder).is_held() is held


def test_one_elsewhere_counts_as_dead_when_its_lock_does_not_move(tmp_path):
    clock, seen = Clock(), [1000.0]
    holder = lambda _: Holder(1, "elsewhere", "", seen[0], alive=True, known=False)  # noqa: E731
    watched = LockWatch(tmp_path, holder=holder, clock=clock)
    for _ in range(100):  # it beats
        clock.now, seen[0] = clock.now + 2, seen[0] + 2
        assert watched.is_held()
    for _ in range(int(SILENT / 2) - 1):
        clock.now += 2
        assert watched.is_held()
    clock.now += 4
    assert not watched.is_held()
    seen[0] += 1  # and again not, when it does
    assert watched.is_held()


@pytest.mark.parametrize(
    ("outcome", "now"), [("done", "ended"), ("failed", "ended"), ("interrupted", "interrupted"), ("", "died")]
)
def test_how_a_run_stands_is_told_by_its_last_event_once_nobody_holds_it(outcome, now):
    life = RunLife()
    assert (life.now(False), life.now(True)) == ("nothing", "running")
    life.take(ev.Looking(at=1.0, message="looking"))
    assert life.now(False) == "nothing"  # it may have been refused
    life.take(ev.StageStarted(at=1.0, items=1, done=0, budget=1, origin="", workers=None))
    if outcome:
        life.take(ev.StageEnded(at=2.0, outcome=outcome, done=1, set_aside=0, seconds=1.0, cpu=1.0, peak=1,
                                projected=1))  # fmt: skip
    assert (life.now(False), life.now(True)) == (now, "running")
