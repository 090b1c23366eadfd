"""A step keeps its folder as the function left it, whatever lies in it."""

import errno
import os
import stat
from pathlib import Path

import pytest

import penstock
from penstock.sinks import Files
from penstock.sources import Range


def linked(folder):
    """Fill a folder with links that would lead elsewhere, or nowhere, once it has another name."""
    (folder / "sub").mkdir()
    (folder / "sub" / "text").write_text("kept")
    (folder / "sub" / "whole").symlink_to(folder / "sub" / "text")
    (folder / "resolved").symlink_to(folder.resolve() / "sub")
    (folder / "out").symlink_to(os.path.relpath("/etc/hosts", folder.resolve()))
    (folder / "away").symlink_to("/etc/hosts")
    os.mkfifo(folder / "sub" / "pipe")


def reads_as_linked(folder):
    assert (folder / "sub" / "whole").read_text() == (folder / "resolved" / "text").read_text() == "kept"
    assert (folder / "sub" / "whole").readlink() == Path("text")
    assert (folder / "out").read_text() == (folder / "away").read_text() == Path("/etc/hosts").read_text()


def test_links_of_a_step_hold_when_its_folder_has_its_final_name(tmp_path):
    with penstock.Run(tmp_path / "run", backend="inline") as run:
        stored = run.step("one", linked)
    reads_as_linked(stored.folder)
    (tmp_path / "run").rename(tmp_path / "moved")
    reads_as_linked(tmp_path / "moved" / "one")
    assert penstock.verify(tmp_path / "moved").ok


@pytest.mark.parametrize("elsewhere", [False, True])
def test_links_and_pipes_of_a_folder_that_an_item_gives_do_too(tmp_path, monkeypatch, elsewhere):
    if elsewhere:
        rename = Path.rename

        def another_disk(path, target):
            if path.name == "made":
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
            return rename(path, target)

        monkeypatch.setattr(Path, "rename", another_disk)

    def work(item):
        made = penstock.share().folder / "made"
        made.mkdir()
        linked(made)
        if elsewhere:
            (made / "sub" / "pipe").unlink()  # what no copy can take
        return made

    job = penstock.Job(source=Range(2), function=work, into=Files())
    report = job.run(tmp_path / "run", backend="inline", budget="2GiB")
    for folder in report.result:
        reads_as_linked(folder)
    assert penstock.verify(tmp_path / "run").ok


def odd(folder):
    (folder / "sub").mkdir()
    (folder / "sub" / "text").write_text("kept")
    (folder / "link").symlink_to("sub/text")
    (folder / "nowhere").symlink_to("gone")
    os.mkfifo(folder / "pipe")
    return {"made": 5}


def test_links_to_nothing_and_pipes_are_kept_and_not_waited_for(tmp_path):
    with penstock.Run(tmp_path / "run", backend="inline") as run:
        stored = run.step("one", odd)
    assert stored.facts["made"] == 5
    assert (stored.folder / "link").read_text() == "kept"
    assert (stored.folder / "nowhere").is_symlink()
    assert stat.S_ISFIFO((stored.folder / "pipe").stat().st_mode)
    found = penstock.verify(tmp_path / "run")
    assert found.ok, found
