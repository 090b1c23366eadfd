import os
from pathlib import Path

import pytest
from borrowing import borrower
from waiting import until

from penstock import proc
from penstock.budget import MiB
from penstock.testing.machine import FakeMachine


def test_a_line_is_found_by_its_whole_name():
    content = b"oom_kill_disable 0\nunder_oom 7\noom_kill 3\nVmData:\t  12 kB\nwords none\nlast 9"
    assert proc.find(content, b"oom_kill ") == 3
    assert proc.find(content, b"oom_kill_disable ") == 0
    assert proc.find(content, b"oom ") is None
    assert proc.find(content, b"VmData:") == 12
    assert proc.find(content, b"words ") is None
    assert proc.find(content, b"last ") == 9
    assert proc.find(b"", b"last ") is None


def test_fields_are_bytes_and_counts():
    assert proc.fields("MemTotal:   2 kB\nanon 5\nName:\tx\n\n") == {"MemTotal": 2048, "anon": 5}


def test_a_kernel_file_is_read_again_from_its_beginning(tmp_path):
    path = tmp_path / "file"
    path.write_text("used 1\n")
    file = proc.KernelFile(path)
    assert file.value(b"used ") == 1
    path.write_text("used 22\n")
    assert file.value(b"used ") == 22
    assert proc.KernelFile(tmp_path / "none").read() == b""


def open_files():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_a_kernel_file_is_closed_with_its_object(tmp_path):
    (tmp_path / "file").write_text("x")
    before = open_files()
    files = [proc.KernelFile(tmp_path / "file") for _ in range(5)]
    assert open_files() == before + 5
    del files
    assert open_files() == before


def test_mounts_of_this_machine():
    points = [mount.point for mount in proc.mounts()]
    assert "/proc" in points
    assert len(points) == len(set(points))


def test_mounts_with_blanks_and_torn_lines(tmp_path):
    machine = FakeMachine(tmp_path)
    machine.mount("/a folder", "tmpfs")
    with open(tmp_path / "proc/self/mountinfo", "a") as file:
        file.write("99 torn\n")
    assert proc.mounts(tmp_path)[-1].point == "/a folder"


def test_what_a_process_holds():
    assert proc.held(os.getpid()) > 1 << 20
    assert proc.held(1 << 30) == 0
    assert list(proc.descendants(1 << 30)) == []


# --------------------------------------------------------------------------- two in one memory


@pytest.mark.parametrize("asked", [True, False])
def test_a_child_in_the_memory_of_its_parent_is_told_from_one_of_its_own(tmp_path, monkeypatch, asked):
    """Also where the kernel may not be asked, as in a container."""
    if not asked:
        monkeypatch.setattr(proc, "_kcmp", lambda: None)
    with borrower(tmp_path, 40) as (parent, child, pipe):
        assert proc.same_memory(child, parent)
        assert not proc.same_memory(child, os.getpid())
        with open(pipe, "w"):
            until(lambda: not proc.same_memory(child, parent))  # it runs its own program
            assert proc.held(child) < 20 * MiB


@pytest.mark.parametrize("asked", [True, False])
def test_a_forked_copy_is_a_memory_of_its_own(monkeypatch, asked):
    if not asked:
        monkeypatch.setattr(proc, "_kcmp", lambda: None)
    here, there = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(there)
        os.read(here, 1)
        os._exit(0)
    try:
        assert not proc.same_memory(child, os.getpid())
        assert proc.same_memory(os.getpid(), os.getpid())
    finally:
        os.close(there)
        os.waitpid(child, 0)
        os.close(here)
    assert not proc.same_memory(child, os.getpid())  # it is gone


@pytest.mark.parametrize(
    ("told", "seconds"), [("900 5000000 4\n", 0.00125), ("9 0 0\n", 0.0), ("", 0.0), ("x y z", 0.0)]
)
def test_how_long_it_waits_for_a_core_each_time(tmp_path, told, seconds):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/schedstat").write_text(told)
    assert proc.core_wait(tmp_path) == seconds
    assert proc.core_wait(tmp_path / "none") == 0
    assert proc.core_wait() >= 0
