"""What killed runs left is removed by the next, and nothing else is."""

import atexit
import ctypes
import json
import os
import re
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import time
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from types import SimpleNamespace

import pytest
import waiting

import penstock
from penstock import identity, temporary
from penstock.backends import segments
from penstock.backends.forkserver import Server
from penstock.backends.segments import Segment, is_left
from penstock.budget import MiB
from penstock.groups.ways import VARIABLE

RUN = """
import ctypes, os, sys, tempfile, penstock

def hold(item):
    libc = ctypes.CDLL(None)
    number = libc.shmget(0, 1 << 16, 0o1600)
    print(number, flush=True)
    import time
    while True:
        time.sleep(1)

if __name__ == "__main__":
    with penstock.Executor(budget="600MiB", workers=1) as executor:
        executor.submit(hold, 1).result()
"""


@pytest.fixture
def place(tmp_path):
    temporary.sweep.cache_clear()
    yield tmp_path
    temporary.sweep.cache_clear()


def left(place, name="penstock-x", **more):
    """A folder of a process that is gone."""
    child = subprocess.Popen(["true"])
    child.wait()
    folder = place / name
    folder.mkdir()
    here = temporary._here(os.getpid())
    (folder / ".owner").write_text(json.dumps({**here, "pid": child.pid, "started": "1", **more}))
    return folder


def test_what_a_process_that_is_gone_left_is_removed(place):
    folder, reused = left(place), left(place, "penstock-reused", pid=os.getpid())
    made = temporary.make("penstock-calls-", place)
    assert not folder.exists()
    assert not reused.exists()  # the number is ours now, and it began at another time
    assert made.is_dir()
    assert not temporary.is_left(made)


def test_a_folder_is_marked_as_long_as_anything_of_it_is_there(place, monkeypatch):
    """So that wherever a kill comes, the next run knows whose it was."""
    unmarked = []

    def look(folder):
        unmarked.extend(each for each in place.iterdir() if not (each / ".owner").exists())

    monkeypatch.setattr(temporary, "sweep", look)
    made = temporary.make("penstock-", place)
    assert unmarked == [], "while others are looked at"
    (made / "sub").mkdir()
    for name in ("a", "z", "sub/b"):
        (made / name).touch()
    order = []
    unlink = os.unlink

    def tell(path, **options):
        order.append(Path(path).name)
        unlink(path, **options)

    monkeypatch.setattr(os, "unlink", tell)
    temporary.remove(made)
    assert not made.exists()
    assert sorted(order[:-1]) == ["a", "b", "z"]
    assert order[-1] == ".owner"


def test_what_may_be_somebodys_stays(place):
    alive = temporary.make("penstock-", place)
    temporary.sweep.cache_clear()
    outside = place / "outside"
    outside.mkdir()
    (place / "penstock-link").symlink_to(outside)
    kept = [
        alive, outside, place / "penstock-link", left(place, "another-name"),
        left(place, "penstock-boot", boot="another"), left(place, "penstock-container", processes="pid:[1]"),
        left(place, "penstock-number", pid="7"), left(place, "penstock-negative", pid=-1),
    ]  # fmt: skip
    for name, text in (
        ("none", None),
        ("nonsense", "{"),
        ("deep", "[" * 5000),
        ("list", "[]"),
        ("word", '"x"'),
    ):
        folder = place / f"penstock-{name}"
        folder.mkdir()
        if text is not None:
            (folder / ".owner").write_text(text)
        kept.append(folder)
    fifo = place / "penstock-fifo"
    fifo.mkdir()
    os.mkfifo(fifo / ".owner")
    temporary.sweep(place)
    assert all(folder.exists() for folder in [*kept, fifo])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives folders to others")
def test_another_users_folder_stays(place):
    folder = left(place)
    os.chown(folder, 12345, 12345)
    temporary.sweep(place)
    assert folder.exists()


@pytest.mark.parametrize(
    ("segment", "gone"),
    [
        (Segment(1, 7, 0, 0, 100.0), True),
        (Segment(1, 7, 0, 0, 200.0), True),
        (Segment(1, 7, 1, 0, 100.0), False),  # somebody has it mapped
        (Segment(1, 8, 0, 0, 100.0), False),  # another's
        (Segment(1, 7, 0, 5, 100.0), False),  # another user's
        (Segment(1, 7, 0, 0, 50.0), False),  # of a process before that had the number
        (Segment(1, 7, 0, 0, 250.0), False),  # of one after
    ],
)
def test_a_segment_is_left_only_where_that_is_certain(segment, gone):
    assert is_left(segment, {7: (99.0, 200.0)}, 0) is gone


def test_what_a_killed_run_left_is_gone_before_or_with_the_next(place):
    script = place / "killed_run.py"
    script.write_text(RUN)
    environment = {**os.environ, "TMPDIR": str(place)}
    child = subprocess.Popen([sys.executable, script], env=environment, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    number = int(child.stdout.readline())
    assert number in {segment.number for segment in segments.read()}
    assert list(place.glob("penstock-calls-*"))
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    until = time.monotonic() + 60
    while number in {segment.number for segment in segments.read()}:
        assert time.monotonic() < until
        time.sleep(0.05)
    temporary.make("penstock-", place)
    assert len(list(place.glob("penstock-*"))) == 1


def makes_a_segment(told, dies):
    """Of System V; the first time it is killed then, where it should be."""
    if told.exists():
        return int(told.read_text())
    number = ctypes.CDLL(None).shmget(0, 1 << 16, 0o1600)
    told.write_text(str(number))
    if dies:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_what_a_killed_worker_left_is_gone_while_the_run_goes_on(tmp_path):
    def there():
        return {segment.number for segment in segments.read()}

    with penstock.Executor(budget="600MiB", workers=1) as executor:
        number = executor.submit(makes_a_segment, tmp_path / "killed", True).result()
        waiting.until(lambda: number not in there())
        kept = executor.submit(makes_a_segment, tmp_path / "alive", False).result()
        assert executor.submit(abs, -1).result() == 1
        assert kept in there()
    try:
        assert kept in there()  # of a worker that ended as it should, to whom it may be of use
    finally:
        ctypes.CDLL(None).shmctl(kept, 0, None)


def fills_shared_memory(item, beside=8):
    """700 MiB in /dev/shm for item 3, a few MiB for others; given back, if it gets there."""
    block = SharedMemory(create=True, size=(700 if item == 3 else beside) * MiB)
    for start in range(0, block.size, MiB):
        block.buf[start : start + MiB] = b"x" * MiB
    block.close()
    block.unlink()
    return item


@pytest.mark.parametrize("groups", ["auto", "none"])
def test_shared_memory_that_killed_calls_held_does_not_stay_in_the_budget(groups, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, groups)
    before = set(os.listdir("/dev/shm"))
    job = penstock.Job(source=penstock.sources.Range(12), function=fills_shared_memory)
    report = job.run(tmp_path / "run", budget="384MiB", workers=2, set_aside=True)
    assert [each.item for each in report.set_aside] == [3]
    assert report.result[4:] == list(range(4, 12))
    assert "files in memory" not in report.set_aside[0].message
    assert {name for name in os.listdir("/dev/shm") if name.startswith("psm_")} <= before


def test_what_belongs_to_a_process_that_proc_hides_stays(place, monkeypatch):
    folder = left(place)
    monkeypatch.setattr(temporary, "started", lambda pid: identity.UNSEEN)
    assert not temporary.is_left(folder)


def test_a_folder_of_a_context_is_marked_and_removed_with_it(place, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    with temporary.folder("penstock-warm-") as made:
        owner = json.loads((made / ".owner").read_text())
        assert owner == temporary._here(os.getpid())
        assert made.parent == place
    assert not made.exists()
    with pytest.raises(KeyError), temporary.folder("penstock-warm-"):
        raise KeyError
    assert list(place.iterdir()) == []


def test_the_folder_of_an_item_tried_by_hand_is_marked_and_empty(place, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    folder = penstock.share().folder
    assert list(folder.iterdir()) == []
    (made,) = place.iterdir()
    assert folder.parent == made
    assert json.loads((made / ".owner").read_text()) == temporary._here(os.getpid())


def test_what_is_lent_to_a_script_is_marked_and_swept_when_it_was_killed(place, monkeypatch):
    """The packages it links to stay."""
    package = place / "site" / "package"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(atexit, "register", lambda function: None)  # it is killed
    for name in ("PENSTOCK_RESCUE", "PYTHONPATH"):
        monkeypatch.delenv(name, raising=False)
    site = Path(penstock.__file__).with_name("rescue") / "site" / "sitecustomize.py"
    runpy.run_path(str(site))["_lend"]([str(package)])
    (lent,) = place.glob("penstock-lent-*")
    assert (lent / "package" / "__init__.py").exists()
    owner = json.loads((lent / ".owner").read_text())
    assert owner == temporary._here(os.getpid())
    temporary.sweep_again(place)
    assert lent.exists()
    (lent / ".owner").write_text(json.dumps({**owner, "started": "1"}))  # of another that had the number
    temporary.sweep_again(place)
    assert not lent.exists()
    assert (package / "__init__.py").exists()


def test_every_temporary_folder_of_ours_is_marked():
    """Made by ``temporary``, or marked by it where that cannot be imported yet."""
    root = Path(penstock.__file__).parent
    bare = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        if re.search(r"\b(mkdtemp|TemporaryDirectory)\(", path.read_text())
    }
    assert bare == {"temporary.py", "rescue/site/sitecustomize.py"}


def test_what_a_killed_process_left_is_removed_though_it_takes_a_moment_to_die(tmp_path, monkeypatch):
    """Its sockets are closed before it is gone: whoever hears that first was too early."""
    program = (
        "import sys\nfrom penstock.temporary import make\nprint(make('penstock-x-', sys.argv[1]))\ninput()"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        left = Path(owner.stdout.readline().strip())
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        server = SimpleNamespace(_parent=owner.pid, _parent_began=identity.started(owner.pid))
        threading.Timer(0.2, owner.kill).start()
        Server._sweep(server)
    assert not left.exists()
