import errno
import os
from pathlib import Path

import pytest

from penstock.abc import Batch, SetAside
from penstock.errors import UsageError
from penstock.sharing import Share, set_share, share
from penstock.sinks import Files
from penstock.testing import SinkSuite


@pytest.fixture(autouse=True)
def scratch(tmp_path_factory):
    """A share as a worker has it, with a folder for the items' folders."""
    folder = tmp_path_factory.mktemp("state_dir") / "scratch"
    set_share(Share(memory=1 << 20, threads=1, attempt=0, scratch=folder))
    yield folder
    set_share(None)


def write(name, text):
    """What a function does: a file (or a folder, with a slash) in its item's folder."""
    path = share().folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return share().folder / Path(name).parts[0]


def contents(path):
    if path.is_dir():
        return {
            str(inner.relative_to(path)): inner.read_text() for inner in path.rglob("*") if inner.is_file()
        }
    return path.read_text()


class _Files(SinkSuite):
    def opened(self, result):
        return [(path.name, contents(path)) for path in result]

    def in_folder(self, item, *names):
        share().next_item()
        return [write(*name) for name in names]


class TestFilesSink(_Files):
    def make(self):
        return Files()

    def result_of(self, item):
        (path,) = self.in_folder(item, ("result.txt", f"item {item}"))
        return path

    def expected(self, results):
        return [
            (f"{item:09d}-result.txt", f"item {item}")
            for item, result in enumerate(results)
            if not isinstance(result, SetAside)
        ]


class TestFoldersAndLists(_Files):
    def make(self):
        return Files(grain=3)

    def result_of(self, item):
        if item % 5 == 4:
            return None
        if item % 2:
            return self.in_folder(item, ("tree/deep/er.txt", f"{item}"))[0]
        return self.in_folder(item, ("b.txt", "second"), ("a.txt", f"{item}"))

    def expected(self, results):
        kept = []
        for item, result in enumerate(results):
            if isinstance(result, SetAside) or item % 5 == 4:
                continue
            if item % 2:
                kept.append((f"{item:09d}-tree", {"deep/er.txt": f"{item}"}))
            else:
                kept += [(f"{item:09d}-b.txt", "second"), (f"{item:09d}-a.txt", f"{item}")]
        return kept


del _Files


def kept(folder, results, start=0):
    return Files(grain=len(results)).write(Batch(start, start + len(results)), iter(results), folder)


def test_files_are_moved_and_not_copied(tmp_path):
    path = write("big.bin", "content")
    number = path.stat().st_ino
    (part,) = kept(tmp_path, [path], 31).parts
    assert part.name == "000000031-big.bin"
    assert (tmp_path / part.name).stat().st_ino == number
    assert not path.exists()


def test_a_path_may_be_text(tmp_path):
    assert kept(tmp_path, [str(write("a.txt", "a"))]).parts[0].name == "000000000-a.txt"


def test_what_is_not_the_functions_own_is_never_moved(tmp_path):
    precious = tmp_path / "input.nii"
    precious.write_text("the only copy")
    with pytest.raises(
        ValueError, match=r"item 7: .*input\.nii' is not in the folder of its item, so it is not moved"
    ):
        kept(tmp_path, [precious], 7)
    link = share().folder / "link"
    link.symlink_to(precious)
    with pytest.raises(ValueError, match=r"is not in the folder of its item"):
        kept(tmp_path, [link])
    with pytest.raises(ValueError, match=r"is not in the folder of its item"):
        kept(tmp_path, [share().folder / ".." / ".." / ".." / precious.parent.name / precious.name])
    assert precious.read_text() == "the only copy"


@pytest.mark.parametrize("wrong", [5, b"bytes", {"a": 1}, [1]])
def test_another_kind_of_result_names_its_item(tmp_path, wrong):
    with pytest.raises(TypeError, match=r"item 12: Files keeps paths"):
        kept(tmp_path, [None, None, wrong], 10)


def test_paths_that_cannot_be_kept(tmp_path):
    with pytest.raises(ValueError, match=r"item 0: the path '.*none' is not there"):
        kept(tmp_path, [share().folder / "none"])
    one, other = write("x/same", "1"), write("y/same", "2")
    with pytest.raises(ValueError, match=r"item 0: two of its paths are called 'same'"):
        kept(tmp_path, [[one / "same", other / "same"]])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_takes_the_place_of_a_file_and_back(tmp_path):
    kept(tmp_path, [write("out", "a file")])
    share().next_item()
    kept(tmp_path, [write("out/inner", "in a folder")])
    assert contents(tmp_path / "000000000-out") == {"inner": "in a folder"}
    share().next_item()
    kept(tmp_path, [write("out", "a file")])
    assert contents(tmp_path / "000000000-out") == "a file"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_scratch_folder_on_another_disk(tmp_path, monkeypatch):
    def refuse(self, target):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(Path, "rename", refuse)
    kept(tmp_path, [write("tree/a.txt", "a")])
    share().next_item()
    kept(tmp_path, [write("b.txt", "b")], 1)
    assert contents(tmp_path / "000000000-tree") == {"a.txt": "a"}
    assert contents(tmp_path / "000000001-b.txt") == "b"


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def refuse(self, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    first = write("tree/a.txt", "a")
    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="No space left"):
        kept(tmp_path, [first])
    assert list(tmp_path.iterdir()) == []


def test_outside_a_worker_the_temporary_folder_counts(tmp_path, tmp_path_factory, monkeypatch):
    import tempfile

    set_share(None)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("tmp")))
    path = Path(tempfile.mkdtemp()) / "a.txt"
    path.write_text("a")
    kept(tmp_path, [path])
    assert contents(tmp_path / "000000000-a.txt") == "a"


def test_a_grain_has_items():
    with pytest.raises(UsageError, match="at least 1 was expected"):
        Files(grain=0)


def test_a_name_may_hold_any_byte_but_a_line_break(tmp_path):
    """Of a file that a tool has written: no text at all, or with a carriage return."""
    sink, names = Files(), [os.fsdecode(b"\xff.dat"), "a\rb", "a\x85b", "\x1b[31m", " "]

    def results():
        for name in names:
            yield write(name, "whole")

    receipt = sink.write(Batch(0, 5), results(), tmp_path)
    sink.close([(Batch(0, 5), receipt)], tmp_path)
    kept = sink.result(tmp_path)
    assert [path.name.partition("-")[2] for path in kept] == names
    assert [path.read_text() for path in kept] == ["whole"] * 5
