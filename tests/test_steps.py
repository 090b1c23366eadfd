"""A step keeps its folder as the function left it, whatever lies in it."""

import os
import stat

import penstock


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
