"""Files in /dev/shm that a killed worker leaves: only what its last batch made, and nobody has."""

import mmap
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from penstock.backends import left_memory
from penstock.backends.left_memory import FOLDER, LeftMemory

pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir() or left_memory.born(FOLDER) is None, reason="files here tell nothing of their birth"
)

WORKER = """
import sys
how, path = sys.argv[1:]
if how == "opened":
    file = open(path, "r+b")
else:
    file = open(path, "wb"); file.write(bytes(2 << 20)); file.flush()
if how == "closed":
    file.close()
print(flush=True); input()
"""


@pytest.fixture
def path():
    path = FOLDER / f"penstock-test-left-{os.getpid()}"
    yield path
    path.unlink(missing_ok=True)


def killed(left, how, path, *, killed=True, since=lambda left: left.given(1)):
    """A worker that does this with a file, and is killed; what else happens is the caller's."""
    if how == "opened":
        path.write_bytes(bytes(2 << 20))
        time.sleep(0.05)  # its birth is told in ticks of the kernel
    since(left)
    command = [sys.executable, "-c", WORKER, how, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"\n"
        left.look(1, [process.pid])
        process.kill()
    left.gone(1, killed=killed)
    left.tidy()


def test_what_a_killed_batch_made_and_had_open_is_removed(path):
    killed(LeftMemory(), "made", path)
    assert not path.exists()


@pytest.mark.parametrize("how", ["opened", "closed"])
def test_what_it_did_not_make_or_does_not_hold_stays(path, how):
    killed(LeftMemory(), how, path)
    assert path.exists()


def test_what_a_worker_made_that_ended_by_itself_stays(path):
    killed(LeftMemory(), "made", path, killed=False)
    assert path.exists()


def test_what_an_earlier_batch_made_stays(path):
    left = LeftMemory()
    killed(left, "made", path, since=lambda left: None)  # it was never given this one
    assert path.exists()
    left.given(1)
    command = [sys.executable, "-c", WORKER, "made", path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"\n"
        left.look(1, [process.pid])  # it was paused meanwhile
        time.sleep(0.05)
        left.given(1)
        left.look(1, [process.pid])
        process.kill()
    left.gone(1, killed=True)
    left.tidy()
    assert path.exists()


def test_what_somebody_else_has_stays_until_he_lets_go_of_it(path):
    left = LeftMemory()
    for hold in (lambda: path.open("rb"), lambda: mapped(path)):
        with hold_from(left, path, hold):
            left.tidy()
            assert path.exists()
        while path.exists():
            left.tidy()
            time.sleep(0.01)


def mapped(path):
    """Without its being open."""
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), 0)


def hold_from(left, path, hold):
    """Killed as above, while this process has the file."""
    left.given(1)
    command = [sys.executable, "-c", WORKER, "made", path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"\n"
        held = hold()
        left.look(1, [process.pid])
        process.kill()
    left.gone(1, killed=True)
    return held


def test_a_name_that_is_another_files_by_now_stays(path):
    left = LeftMemory()
    with hold_from(left, path, lambda: path.open("rb")):
        path.rename(Path(f"{path}-moved"))
        path.write_bytes(b"another's")
    try:
        left.tidy(last=True)
        assert path.read_bytes() == b"another's"
        assert Path(f"{path}-moved").exists()
    finally:
        Path(f"{path}-moved").unlink()


def test_small_files_are_of_no_interest(path):
    path.write_bytes(b"small")
    with path.open("rb"):
        assert list(left_memory._open_in(FOLDER, [os.getpid()])) == []
