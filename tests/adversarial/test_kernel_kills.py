"""Whole runs in real memory cgroups of 300 MiB, where the kernel kills what goes over."""

import ctypes
import json
import os
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from memory_groups import Kills, remove
from programs import finished, python, write

from penstock.budget import MiB

ROOT = Path("/sys/fs/cgroup/memory")
WRITABLE = (
    os.access(ROOT / "memory.limit_in_bytes", os.R_OK) and os.access(ROOT, os.W_OK) and os.geteuid() == 0
)
pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(not WRITABLE, reason="needs root and a writable cgroup v1 memory hierarchy"),
]
LIMIT = 300 * MiB
CROWDED = 0.1
"""Seconds per second that the parent waited for a core; alone it waits for hundredths, and comes in time."""

SCRIPT = """
# A parent that is stopped goes on when the kernel has taken somebody, however long that takes.
CONTINUE = '''
import os, signal, time
def kills():
    total = 0
    for folder, _, _ in os.walk(os.environ["GROUP"]):
        try:
            total += int(open(folder + "/memory.oom_control").read().split()[-1])
        except OSError:
            pass
    return total
parent = os.getppid()
while True:
    before, end = kills(), time.monotonic() + 60
    while open(f"/proc/{parent}/stat").read().rpartition(") ")[2][0] != "T":
        before = kills()
        time.sleep(0.05)
    while kills() <= before and time.monotonic() < end:
        time.sleep(0.05)
    os.kill(parent, signal.SIGCONT)
    time.sleep(0.05)
'''
import json, os, signal, subprocess, sys, time
import penstock
from functions import BlindParent, Outrun
from penstock.budget import MiB
from penstock.testing import misfortune as mf

ITEMS = 24
MIXES = {
    "spikes": mf.Spike(120 * MiB, range(0, ITEMS, 6), 0.05),
    "second half": mf.SecondHalfHeavy(90 * MiB, ITEMS, 0.05),
    "thread": mf.AllocateInThread(70 * MiB, 0.05),
    "children": mf.Children(70 * MiB, 1, 0.1),
    "shm": mf.FillShm(70 * MiB, 0.05),
    "leak": mf.Leak(20 * MiB),
    "one too large": mf.Spike(500 * MiB, (7,), 0.05),
    "outrun": Outrun(900 * MiB, frozenset((7,))),
    "outrun by all": Outrun(150 * MiB, frozenset(range(ITEMS)), 8),
    "blind": BlindParent(900 * MiB, frozenset((7,))),
}
os.environ["PARENT"] = str(os.getpid())
continues = subprocess.Popen([sys.executable, "-I", "-S", "-c", CONTINUE])
def core_wait():  # seconds, of all threads
    tasks = [f"/proc/self/task/{task}/schedstat" for task in os.listdir("/proc/self/task")]
    return sum(int(open(path).read().split()[1]) for path in tasks) / 1e9

told = []
began, waited = time.monotonic(), core_wait()
report = penstock.run(MIXES[sys.argv[1]], ITEMS, set_aside=True, observers=[told.append])
continues.kill()
continues.wait()
assert len(report.result) == ITEMS
for item, result in enumerate(report.result):
    assert isinstance(result, penstock.SetAside) or result == mf.answer(item), item
print(json.dumps({
    "done": report.done, "budget": report.budget, "origin": report.origin, "peak": report.peak,
    "aside": [[each.item, each.reason, each.message] for each in report.set_aside],
    "causes": dict(report.failures),
    "waited": (core_wait() - waited) / (time.monotonic() - began),
}))
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
        remove(top)


def in_group(tmp_path, mix, view):
    """Run a mix as in a container (its group at the mount point) or in a SLURM step (limit on the job)."""
    libc = ctypes.CDLL(None, use_errno=True)
    names = ("step", "task") if view == "slurm" else ()
    with groups(*names) as folders:
        top, inner = folders[0], folders[-1]
        (top / "memory.limit_in_bytes").write_text(str(LIMIT))
        kills = Kills(top)

        def enter():
            (inner / "cgroup.procs").write_text(str(os.getpid()))
            if view == "container":
                assert libc.unshare(0x00020000) == 0  # CLONE_NEWNS
                assert libc.mount(b"none", b"/", None, 0x4000 | 1 << 18, None) == 0  # MS_REC | MS_PRIVATE
                assert libc.mount(bytes(top), bytes(ROOT), None, 4096, None) == 0  # MS_BIND

        path = os.pathsep.join((str(Path(__file__).parent), *filter(None, sys.path)))
        program = python(
            write(tmp_path, "script.py", SCRIPT), mix, cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path, "GROUP": str(ROOT if view == "container" else top)},
            preexec_fn=enter,
        )  # fmt: skip
        out, _ = finished(program)
        report = json.loads(out)
        assert report["budget"] == LIMIT
        kills.end()
        return report, kills.count


@pytest.mark.parametrize(
    ("mix", "view"),
    [
        ("spikes", "slurm"), ("second half", "container"), ("thread", "slurm"), ("children", "container"),
        ("shm", "container"), ("leak", "slurm"),
    ],
)  # fmt: skip
def test_heavy_mixes_are_done_without_a_kernel_kill(mix, view, tmp_path):
    report, kills = in_group(tmp_path, mix, view)
    assert report["aside"] == []
    assert report["done"] == 24
    no_kernel_kill(report, kills)


def no_kernel_kill(report, kills):
    """None, unless the governor waited for a core for long: then each is told as what it was."""
    assert report["causes"].get("kernel", 0) == kills
    assert kills == 0 or report["waited"] > CROWDED, report["waited"]


def test_an_item_over_the_limit_is_named_without_a_kernel_kill(tmp_path):
    report, kills = in_group(tmp_path, "one too large", "slurm")
    ((item, reason, message),) = report["aside"]
    assert (item, reason) == (7, "memory")
    assert "budget 300 MiB" in message
    assert report["done"] == 23
    no_kernel_kill(report, kills)


@pytest.mark.parametrize("view", ["container", "slurm"])
def test_where_the_kernel_kills_it_is_told_and_the_parent_lives(view, tmp_path):
    """The parent is stopped while the memory is taken, as if it had been too slow."""
    report, kills = in_group(tmp_path, "blind", view)
    assert kills >= 1
    assert report["causes"]["kernel"] == kills  # each one is told as what it was
    assert set(report["causes"]) <= {"kernel", "governor"}
    assert [(item, reason) for item, reason, _ in report["aside"]] == [(7, "memory")]
    assert report["done"] == 23


@pytest.mark.parametrize("mix", ["outrun", "outrun by all"])
def test_threads_that_touch_memory_all_at_once(mix, tmp_path):
    report, kills = in_group(tmp_path, mix, "container")
    assert [item for item, _, _ in report["aside"]] == ([7] if mix == "outrun" else [])
    assert report["causes"].get("kernel", 0) == kills
    assert "killed" not in report["causes"]
