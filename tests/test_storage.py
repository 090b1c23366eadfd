"""Errors of files are told as what they are, and tried again where that may help."""

import errno
import os
import re

import numpy as np
import pytest

import penstock
from penstock import files, storage
from penstock.errors import DiskFull, StorageFailed
from penstock.sinks import Files


def error(number, name=None):
    return OSError(number, os.strerror(number), name)


def test_a_full_disk_names_a_folder_that_exists(tmp_path):
    told = storage.failure(errno.ENOSPC, tmp_path / "no" / "such" / "file")
    assert f"the disk of {tmp_path} is full (" in str(told)
    assert isinstance(told, DiskFull)
    assert os.strerror(errno.ENOSPC) not in str(told), "said in our words"
    assert "quota" in str(storage.failure(errno.EDQUOT, tmp_path))


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EROFS, errno.ENOENT, errno.EMFILE, 10**6])
def test_what_is_no_full_disk_is_not_called_one(number, tmp_path):
    told = storage.failure(number, tmp_path / "journal")
    assert type(told) is StorageFailed
    assert f"{tmp_path}/journal cannot be read or written: {os.strerror(number)}" in str(told)
    assert errno.errorcode.get(number, str(number)) in str(told)
    assert "is full" not in str(told)
    assert " left)" not in str(told)


def test_whose_fault_an_error_is(tmp_path):
    for number in (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EIO,
        errno.ESTALE,
        errno.EROFS,
        errno.EMFILE,
        errno.EACCES,
    ):
        assert storage.is_at_fault(error(number), tmp_path)
    # What is written has such a name, or such a size.
    for number in (errno.ENAMETOOLONG, errno.EISDIR, errno.EINVAL, errno.EFBIG, errno.ENOENT):
        assert not storage.is_at_fault(error(number), tmp_path)
    assert storage.is_at_fault(error(errno.ENOENT), tmp_path / "gone")
    assert not storage.is_at_fault(ValueError("no"), tmp_path)
    assert not storage.is_at_fault(OSError("of a library"), tmp_path)


@pytest.mark.parametrize("free", [0, 1 << 30])
def test_no_room_is_the_runs_matter_where_its_own_disk_has_none(free, tmp_path, monkeypatch):
    """Of a named file its disk decides; where none is named, what is left."""
    monkeypatch.setattr(storage, "_free", lambda folder: free)
    disks = {str(tmp_path): 1, "/other": 2}
    monkeypatch.setattr(storage, "_disk", lambda place: disks.get(str(place)))
    for place, ours in ((None, free == 0), (str(tmp_path), True), ("/other", False), ("/unknown", True)):
        told = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), place)
        assert storage.is_out_of_room(told, tmp_path) == ours
    assert storage.is_out_of_room(error(errno.EDQUOT), tmp_path)
    assert not storage.is_out_of_room(error(errno.EIO), tmp_path)


def test_an_array_of_which_less_was_written_is_of_a_full_disk(tmp_path, monkeypatch):
    """NumPy tells no error number: /dev/full is a disk that is always full."""
    with pytest.raises(OSError, match="requested and") as caught:
        np.zeros(1 << 20).tofile("/dev/full")
    assert caught.value.errno is None
    assert storage.is_full(caught.value)
    assert storage.is_at_fault(caught.value, tmp_path)
    assert not storage.is_full(OSError("3 requested and some written"))
    monkeypatch.setattr(storage, "_free", lambda folder: 1 << 30)  # once the draft is gone again

    def keep():
        with storage.told(tmp_path), files.atomic(tmp_path / "a.npy") as draft:
            draft.touch()
            raise caught.value

    with pytest.raises(DiskFull, match="is full"):
        keep()


def test_what_may_pass_is_tried_again_with_growing_waits(tmp_path):
    waits, left = [], [error(errno.EIO)] * 3

    def do():
        if left:
            raise left.pop()

    storage.insist(do, tmp_path, waits.append)
    assert waits == [0.1, 0.2, 0.4]


@pytest.mark.parametrize(
    ("number", "free", "full"),
    [(errno.ENOSPC, 4096, True), (errno.ENOSPC, 1 << 30, False), (errno.EDQUOT, 1 << 30, True),
     (errno.EIO, 0, False)],
)  # fmt: skip
def test_an_error_of_writing_names_no_file_and_is_told_where_the_disk_is_full(
    number, free, full, tmp_path, monkeypatch
):
    monkeypatch.setattr(storage, "_free", lambda folder: free)
    with pytest.raises(DiskFull if full else OSError) as told, storage.told(tmp_path):
        raise error(number)
    assert isinstance(told.value, DiskFull) == full
    assert not full or str(tmp_path) in str(told.value)


def test_a_run_on_a_full_disk_is_told_so(tmp_path, monkeypatch):
    """From the very first write, which is the lock's, and the same call goes on when there is room."""

    def full(descriptor, data):
        raise error(errno.ENOSPC)

    monkeypatch.setattr(storage, "_free", lambda folder: 0)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(DiskFull, match="make room"), penstock.Run(tmp_path / "run"):
            pytest.fail("it was entered")
    with penstock.Run(tmp_path / "run"):
        pass


@pytest.mark.parametrize(("number", "tries"), [(errno.EIO, 6), (errno.ENOSPC, 1), (errno.EROFS, 1)])
def test_what_does_not_pass_is_told(number, tries, tmp_path):
    count = []

    def do():
        count.append(1)
        raise error(number, str(tmp_path / "journal"))

    with pytest.raises(StorageFailed) as told:
        storage.insist(do, "elsewhere", lambda seconds: None)
    assert len(count) == tries
    assert str(tmp_path) in str(told.value)
    assert isinstance(told.value.__cause__, OSError)


def test_errors_of_others_files_stay(tmp_path):
    with pytest.raises(StorageFailed, match="job"), storage.told(tmp_path):
        (tmp_path / "job" / "journal").read_bytes()
    with pytest.raises(FileNotFoundError), storage.told(tmp_path / "a"):
        (tmp_path / "b").read_bytes()


class Bad(Files):
    """A sink whose folder cannot be written."""

    def __init__(self, number):
        super().__init__()
        self.number = number

    def write(self, batch, results, folder):
        list(results)
        raise error(self.number, str(folder / "part"))


@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS, errno.EACCES])
def test_a_run_whose_results_cannot_be_written_says_so(number, tmp_path):
    with pytest.raises(StorageFailed, match=re.escape(f"{tmp_path}/r/part")) as told:
        penstock.run(
            str,
            range(3),
            folder=tmp_path / "r",
            budget="2GiB",
            into=Bad(number),
            backend="inline",
            set_aside=True,
        )
    assert errno.errorcode[number] in str(told.value)


def test_a_run_whose_journal_cannot_be_read_says_so(tmp_path):
    penstock.run(str, range(3), folder=tmp_path / "r", budget="2GiB", into="collect", backend="inline")
    journal = tmp_path / "r" / ".penstock" / "job" / "journal"
    journal.unlink()
    journal.symlink_to(journal)
    with pytest.raises(StorageFailed, match="job/journal cannot be read or written: Too many levels"):
        penstock.run(str, range(3), folder=tmp_path / "r", budget="2GiB", into="collect", backend="inline")
