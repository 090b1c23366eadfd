"""Cgroup against the kernel's own v1 groups, in real and nested groups and in a container's view."""

import ctypes
import os
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from waiting import LIMIT

from penstock.budget import MiB
from penstock.proc import hierarchies

ROOT = Path("/sys/fs/cgroup/memory")
WRITABLE = (
    os.access(ROOT / "memory.limit_in_bytes", os.R_OK) and os.access(ROOT, os.W_OK) and os.geteuid() == 0
)
pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(not WRITABLE, reason="needs root and a writable cgroup v1 memory hierarchy"),
]

READ = """
import json
from dataclasses import asdict
from penstock.limits.cgroup import Cgroup
limit = Cgroup()
def show():
    print(json.dumps([asdict(ceiling) for ceiling in limit.read()]), flush=True)
"""


@contextmanager
def groups(*names):
    """Real groups, the outer ones first; removed afterwards, with whatever still runs in them."""
    top = ROOT / f"penstock-test-{os.getpid()}"
    folders = [top, *(top / name for name in names)]
    for folder in folders:
        folder.mkdir()
    try:
        yield folders
    finally:
        for folder in reversed(folders):
            for _ in range(100):
                with suppress(OSError):
                    for pid in (folder / "cgroup.procs").read_text().split():
                        os.kill(int(pid), 9)
                    folder.rmdir()
                    break
                time.sleep(0.02)


def limit(folder, size):
    (folder / "memory.limit_in_bytes").write_text(str(size))


def run(folder, body, container=None):
    """Run a program in a group; with ``container`` that group lies over the mount point, as in one."""
    import json

    libc = ctypes.CDLL(None, use_errno=True)

    def enter():
        (folder / "cgroup.procs").write_text(str(os.getpid()))
        if container is not None:
            assert libc.unshare(0x00020000) == 0  # CLONE_NEWNS
            assert libc.mount(b"none", b"/", None, 0x4000 | 1 << 18, None) == 0  # MS_REC | MS_PRIVATE
            assert libc.mount(bytes(container), bytes(ROOT), None, 4096, None) == 0  # MS_BIND

    program = READ + textwrap.dedent(body)
    # A child of this process makes no difference to pytest: it only enters a group before it starts.
    out = subprocess.run(
        [sys.executable, "-c", program], preexec_fn=enter, capture_output=True, text=True, timeout=LIMIT
    )
    assert out.returncode == 0, out.stderr
    return [json.loads(line) for line in out.stdout.splitlines()]


def test_own_limit_and_what_is_used_of_it():
    with groups() as (top,):
        limit(top, 256 * MiB)
        before, after = run(top, "show(); kept = bytearray(b'x') * (64 << 20); show()")
        assert [ceiling["bytes"] for ceiling in before] == [256 * MiB]
        assert str(top) in before[0]["origin"]
        grown = after[0]["used"] - before[0]["used"]
        assert 63 * MiB < grown < 70 * MiB


def test_page_cache_is_not_counted(tmp_path):
    with groups() as (top,):
        limit(top, 256 * MiB)
        (tmp_path / "file").write_bytes(bytes(48 * MiB))
        body = f"""
        show()
        with open({str(tmp_path / "copy")!r}, "wb") as to, open({str(tmp_path / "file")!r}, "rb") as source:
            while block := source.read(1 << 20):
                to.write(block)
        show()
        """
        before, after = run(top, body)
        assert abs(after[0]["used"] - before[0]["used"]) < 8 * MiB


def test_shared_memory_files_are_counted():
    name = f"/dev/shm/penstock-test-{os.getpid()}"
    body = f"""
    import os
    show()
    with open({name!r}, "wb") as file:
        file.write(bytes(32 << 20))
    show()
    os.unlink({name!r})
    """
    with groups() as (top,):
        limit(top, 256 * MiB)
        before, after = run(top, body)
        assert after[0]["used"] - before[0]["used"] >= 32 * MiB


def test_a_limit_on_an_ancestor_as_in_a_slurm_step():
    with groups("step") as (top, step):
        limit(top, 256 * MiB)
        (ceilings,) = run(step, "show()")
        assert [ceiling["bytes"] for ceiling in ceilings] == [256 * MiB]
        assert str(top / "memory.limit_in_bytes") in ceilings[0]["origin"]


def test_a_container_sees_its_group_at_the_mount_point():
    with groups() as (top,):
        limit(top, 256 * MiB)
        (ceilings,) = run(top, "show()", container=top)
        assert [ceiling["bytes"] for ceiling in ceilings] == [256 * MiB]
        assert ceilings[0]["origin"].endswith("(/sys/fs/cgroup/memory/memory.limit_in_bytes)")


def test_a_container_below_the_group_with_the_limit():
    with groups("inner") as (top, inner):
        limit(top, 256 * MiB)
        (ceilings,) = run(inner, "show()", container=inner)
        assert [ceiling["bytes"] for ceiling in ceilings] == [256 * MiB]
        assert "outer group" in ceilings[0]["origin"]


def test_a_kernel_kill_of_a_child_is_counted():
    body = """
    import subprocess, sys
    show()
    greedy = "open('/proc/self/oom_score_adj', 'w').write('1000'); kept = bytearray(b'x') * (400 << 20)"
    print(subprocess.run([sys.executable, "-c", greedy]).returncode)
    show()
    """
    with groups("step") as (top, step):
        limit(top, 128 * MiB)
        before, status, after = run(step, body)
        assert status == -9
        assert after[0]["kernel_kills"] - before[0]["kernel_kills"] == 1


def test_this_process_is_in_a_memory_hierarchy():
    (found,) = [each for each in hierarchies("memory") if each.version == 1]
    assert found.folders[-1] == ROOT
