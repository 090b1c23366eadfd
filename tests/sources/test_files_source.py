import glob
import os
from pathlib import Path

import pytest

from penstock.errors import BadInput
from penstock.sources import Files, files, telling
from penstock.testing import SourceSuite


class TestFiles(SourceSuite):
    def make(self, folder):
        for number in range(6):
            path = folder / f"item-{number}.txt"
            if not path.exists():
                path.write_text("x" * number)
        return Files(folder / "*.txt")

    def change(self, folder):
        (folder / "item-3.txt").write_text("changed")
        return True


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b.txt", "a.txt", "c.dat", "sub/d.txt", "odd[1].txt"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(name)
    return tmp_path


def paths(source):
    return [str(path) for path in source.read(0, len(source))]


def test_order_is_as_given_and_sorted_within_a_pattern(folder):
    assert paths(Files(["c.dat", "?.txt"])) == ["c.dat", "a.txt", "b.txt"]
    assert paths(Files("[ab].txt")) == ["a.txt", "b.txt"]
    assert paths(Files("**/d.txt")) == ["sub/d.txt"]
    assert paths(Files(Path("a.txt"))) == ["a.txt"]
    assert paths(Files(str(folder / "*.dat"))) == [str(folder / "c.dat")]
    assert paths(Files(f"{name}.txt" for name in "ba")) == ["b.txt", "a.txt"]


@pytest.mark.parametrize(
    "pattern",
    [
        "**/*.txt",
        "*/*",
        "**/*",
        "./**/*.t?t",
        "./*.txt",
        "s*/**/*",
        "*/.*",
        ".*/*",
        "**/.*",
        "../*/*.txt",
        "**",
    ],
)
def test_a_pattern_finds_what_glob_does(folder, pattern):
    """Links to folders followed and to nowhere left out, hidden names only where they are asked for."""
    for name in (".hidden/e.txt", "sub/.f.txt", "sub/deep/er/g.txt", "sub/tub/h.txt", "sub/dir.txt/i.txt"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(name)
    Path("link").symlink_to("sub/tub")
    Path("sub/k.txt").symlink_to("d.txt")
    Path("sub/nowhere.txt").symlink_to("none")
    found = glob.glob(pattern, recursive=True)  # noqa: PTH207
    expected = sorted(name for name in found if Path(name).is_file())
    assert expected
    assert Files(pattern)._paths == expected


def test_a_file_whose_name_looks_like_a_pattern(folder):
    assert paths(Files("odd[1].txt")) == ["odd[1].txt"]


def test_a_pattern_leaves_folders_out(folder):
    assert paths(Files("s*/*")) == ["sub/d.txt"]
    with pytest.raises(BadInput, match=r"s\*: no file matches this pattern"):
        Files("s*")


def test_sizes_names_and_spans(folder):
    source = Files(["c.dat", "a.txt"])
    assert source.sizes(0, 2) == [5, 5]
    assert source.name(1) == "a.txt"
    assert source.spans() == {"c.dat": (0, 1), "a.txt": (1, 2)}
    assert repr(source) == "Files(2 files)"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("none.txt", r"^none\.txt: no such file; looked from the folder "),
        ("*.none", r"^\*\.none: no file matches this pattern; looked from the folder "),
        ("sub", r"^sub: a folder, where a file was expected: name its files, as in 'sub/\*'"),
        (["a.txt", "?.txt"], r"^a\.txt: given twice"),
        ([], r"^no files were given"),
    ],
)
def test_what_is_not_there_is_said(folder, given, message):
    with pytest.raises(BadInput, match=message):
        Files(given)


def test_an_unreadable_file_is_said(folder, monkeypatch):
    # Root may read everything, so the answer of the system is made up.
    monkeypatch.setattr(os, "access", lambda path, mode: path != "b.txt")
    with pytest.raises(BadInput, match=r"^b\.txt: not readable by this user"):
        Files("?.txt")


def test_of_many_files_an_unreadable_one_is_said_when_each_is_looked_at(folder, monkeypatch):
    """Asking for each of 10^5 takes a quarter of a second; the look says it of most."""
    asked = []

    def access(path, mode):
        asked.append(path)
        return False

    monkeypatch.setattr(telling, "MOST_FILES", 1)
    monkeypatch.setattr(files, "MOST_FILES", 1)
    monkeypatch.setattr(os, "access", access)
    for path in folder.glob("?.txt"):
        path.chmod(0o644)
    source = Files("?.txt")
    assert len(source) > 1
    assert source.fingerprint_kind() == "stat"
    source.fingerprint()
    assert asked == []
    Path("b.txt").chmod(0o200)
    with pytest.raises(BadInput, match=r"^b\.txt: not readable by this user"):
        source.fingerprint()
    assert asked == ["b.txt"]
    with pytest.raises(BadInput, match="not readable"):
        Files("?.txt", fingerprint="content")


def test_a_file_that_is_gone_since_is_said(folder):
    source = Files("?.txt")
    Path("b.txt").unlink()
    with pytest.raises(BadInput, match=r"^b\.txt: was there, and cannot be read now: No such file"):
        source.fingerprint()
