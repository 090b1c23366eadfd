"""The history in the user's cache: small, this user's alone, and never a reason to fail."""

import json
import os

import pytest

from penstock import Run
from penstock.errors import UsageError
from penstock.record import history

KEY = "0123456789abcdef" * 2


def test_where_it_lies(tmp_path):
    home, cache, own = tmp_path / "home", tmp_path / "cache", tmp_path / "own"
    assert history.folder({"HOME": str(home)}) is None
    home.mkdir()
    assert history.folder({"HOME": str(home)}) == home / ".cache" / "penstock" / "history"
    assert history.folder({"HOME": str(home), "XDG_CACHE_HOME": str(cache)}) == cache / "penstock" / "history"
    assert history.folder({"HOME": str(home), "XDG_CACHE_HOME": "relative"}) == history.folder(
        {"HOME": str(home)}
    )
    assert history.folder({}) is None
    assert history.folder({"HOME": str(home), "PENSTOCK_HISTORY": "off"}) is None
    assert history.folder({"PENSTOCK_HISTORY": str(own)}) == own
    with pytest.raises(UsageError, match="PENSTOCK_HISTORY is 'here': 'off' or a folder"):
        history.folder({"PENSTOCK_HISTORY": "here"})


def test_what_is_kept_is_found_and_the_folder_is_closed_to_others(tmp_path):
    place = tmp_path / "a" / "b"
    assert history.find(place, KEY) is None
    history.keep(place, KEY, {"items": 3})
    assert history.find(place, KEY) == {"schema": 1, "items": 3}
    assert history.find(place, KEY[::-1]) is None
    assert place.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in place.iterdir()] == [f"{KEY}.json"]


def test_it_stays_small(tmp_path, monkeypatch):
    monkeypatch.setattr(history, "MOST_FILES", 5)
    names = [f"{n:032x}" for n in range(9)]
    (tmp_path / "notes.txt").write_text("somebody's")
    for age, name in enumerate(names):
        history.keep(tmp_path, name, {"items": age})
        os.utime(tmp_path / f"{name}.json", (1000 + age, 1000 + age))
    history.keep(tmp_path, names[-1], {"items": 99})
    found = sorted(path.name for path in tmp_path.iterdir())
    assert found == [*(f"{name}.json" for name in names[-5:]), "notes.txt"]
    history.keep(tmp_path, KEY, {"text": "x" * history.LARGEST})
    assert history.find(tmp_path, KEY) is None


def test_a_draft_that_somebody_left_goes_and_one_being_written_stays(tmp_path):
    old, new = tmp_path / f".{KEY}.json.1234", tmp_path / f".{KEY}.json.5678"
    old.touch()
    new.touch()
    os.utime(old, (1000, 1000))
    history.keep(tmp_path, KEY, {})
    assert sorted(tmp_path.iterdir()) == sorted([new, tmp_path / f"{KEY}.json"])


ODD = [
    b"",
    b"[]",
    b"{}",
    b'{"schema":2}',
    b'{"schema":1',
    b"[" * 10_000,
    b'{"schema":1,"a":' + b"[" * 300 + b"]" * 300 + b"}",
    b'{"schema":1}' + b" " * (16 << 10),
    b"\xff\xfe\x00",
]


@pytest.mark.parametrize("data", ODD, ids=range(len(ODD)))
def test_what_cannot_be_read_is_not_there(tmp_path, data):
    (tmp_path / f"{KEY}.json").write_bytes(data)
    assert history.find(tmp_path, KEY) is None
    history.keep(tmp_path, KEY, {"items": 1})
    assert history.find(tmp_path, KEY) is not None


def test_nothing_else_than_a_file_is_read(tmp_path):
    path = tmp_path / f"{KEY}.json"
    other = tmp_path / "other"
    other.write_text('{"schema":1}')
    path.symlink_to(other)
    assert history.find(tmp_path, KEY) is None
    path.unlink()
    os.mkfifo(path)
    assert history.find(tmp_path, KEY) is None
    path.unlink()
    path.mkdir()
    assert history.find(tmp_path, KEY) is None
    history.keep(tmp_path, KEY, {"items": 1})  # a folder cannot be replaced, and nothing is said


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777])
def test_a_folder_that_others_may_write_is_not_used(tmp_path, mode):
    place = tmp_path / "shared"
    place.mkdir()
    history.keep(place, KEY, {"items": 1})
    assert history.find(place, KEY) is not None
    place.chmod(mode)
    assert history.find(place, KEY) is None
    history.keep(place, KEY[::-1], {"items": 1})
    assert len(list(place.iterdir())) == 1


def test_nor_a_folder_or_file_of_another_user(tmp_path, monkeypatch):
    history.keep(tmp_path, KEY, {"items": 1})
    here = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: here + 1)
    assert history.find(tmp_path, KEY) is None
    history.keep(tmp_path, KEY[::-1], {"items": 1})
    assert len(list(tmp_path.iterdir())) == 1


def test_nor_is_a_link_to_a_folder(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    history.keep(tmp_path / "link", KEY, {"items": 1})
    assert not list((tmp_path / "real").iterdir())


def test_where_nothing_can_be_written_nothing_is(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    history.keep(tmp_path / "file" / "below", KEY, {"items": 1})

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    history.keep(tmp_path, KEY, {"items": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_is_plain_json(tmp_path):
    history.keep(tmp_path, KEY, {"items": 1, "observations": [[1.0, 1.0, 5]]})
    told = json.loads((tmp_path / f"{KEY}.json").read_text())
    assert told == {"schema": 1, "items": 1, "observations": [[1.0, 1.0, 5]]}


@pytest.mark.parametrize("name", ["history", "private", "accept_changes", "retry_set_aside"])
@pytest.mark.parametrize("value", ["off", "no", 1, 0, None])
def test_a_switch_is_true_or_false_and_no_word(tmp_path, name, value):
    with pytest.raises(UsageError, match=f"{name} must be True or False, not "):
        Run(tmp_path / "run", **{name: value})
    assert not list(tmp_path.iterdir())
