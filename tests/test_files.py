"""Files are whole or absent, and told apart when they change."""

import errno
import os

import pytest

from penstock import atomic
from penstock.files import digest, fingerprint


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_appears_when_it_is_whole(tmp_path, durable):
    final = tmp_path / "part"
    with atomic(final, durable=durable) as draft:
        draft.write_text("new")
        assert not final.exists()
        assert draft.parent == final.parent
        assert draft.name.startswith(".")
    assert final.read_text() == "new"
    assert list(tmp_path.iterdir()) == [final]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_what_was_there(tmp_path, error):
    final = tmp_path / "part"
    final.write_text("old")

    def fail():
        with atomic(final) as draft:
            draft.write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert final.read_text() == "old"
    assert list(tmp_path.iterdir()) == [final]


def test_what_finds_no_room_says_for_which_file(tmp_path):
    """The draft is gone then, and its room with it."""
    final = tmp_path / "part"
    with pytest.raises(OSError, match="part") as told, atomic(final):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert told.value.filename == str(final)


def test_a_file_that_was_never_written_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic(tmp_path / "part"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_stale_draft_is_written_over(tmp_path):
    (tmp_path / f".part.{os.getpid()}.tmp").write_text("stale and long")
    with atomic(tmp_path / "part") as draft:
        draft.write_text("new")
    assert (tmp_path / "part").read_text() == "new"


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic(tmp_path / "no" / "part") as draft:
        draft.write_text("x")


@pytest.mark.parametrize("size", [0, 1, 64 << 10, (64 << 10) + 1, 300_000, 8 << 20])
def test_a_fingerprint_of_a_small_file_sees_all_of_it_and_no_time(tmp_path, size):
    path = tmp_path / "data"
    path.write_bytes(bytes(size))
    os.utime(path, ns=(1, 1))
    before = fingerprint(path)
    for place in {0, size // 2, size - 1} if size else ():
        data = bytearray(size)
        data[place] = 1
        path.write_bytes(data)
        os.utime(path, ns=(1, 1))
        assert fingerprint(path) != before
    path.write_bytes(bytes(size))
    os.utime(path, ns=(2, 2))  # a copy of it
    assert fingerprint(path) == before
    path.write_bytes(bytes(size + 1))
    assert fingerprint(path) != before


def test_a_fingerprint_of_a_large_file_sees_size_time_and_both_ends(tmp_path):
    path, size = tmp_path / "data", (8 << 20) + 1
    path.write_bytes(bytes(size))
    os.utime(path, ns=(1, 1))
    before = fingerprint(path)
    assert fingerprint(path) == before
    for place in (0, size - 1):
        data = bytearray(size)
        data[place] = 1
        path.write_bytes(data)
        os.utime(path, ns=(1, 1))
        assert fingerprint(path) != before
    path.write_bytes(bytes(size))
    os.utime(path, ns=(2, 2))  # what lies between may have changed
    assert fingerprint(path) != before


def test_a_digest_is_of_the_whole_file(tmp_path):
    path = tmp_path / "data"
    path.write_bytes(bytes(3 << 20))
    before = digest(path)
    data = bytearray(3 << 20)
    data[2_000_000] = 1
    path.write_bytes(data)
    assert digest(path) != before
    assert len(before) == 32
