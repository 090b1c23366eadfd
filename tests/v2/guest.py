"""Penstock in real control groups of version 2: limits found, deaths named, mixes of items finished.

Runs inside the guest only (``make test-v2``), as root; what is tested runs in a group of its own:

    /sys/fs/cgroup/job        holds the limit, as a batch system or a container's runtime sets it
    /sys/fs/cgroup/job/step   holds the processes; its own memory.max says "max"

and sees its groups in one of four ways (``VIEWS``).
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

MiB = 1 << 20
LIMIT = 256 * MiB
TOP = Path("/sys/fs/cgroup")
HERE = Path(__file__).parent
USER = 1000
_numbers = itertools.count()


# --------------------------------------------------------------------------- groups and who is in them


@dataclass(frozen=True)
class Nest:
    """A group with a limit, and the step in it."""

    job: Path
    step: Path

    @property
    def kills(self) -> int:
        """Processes that the kernel has killed for the limit."""
        return events(self.job)["oom_kill"]


def events(group: Path) -> dict[str, int]:
    """What memory.events counts."""
    pairs = (line.split() for line in (group / "memory.events").read_text().splitlines())
    return {name: int(value) for name, value in pairs}


@pytest.fixture
def nest() -> Iterator[Nest]:
    """Two new groups; the outer one with the limit. They must be empty in the end."""
    (TOP / "cgroup.subtree_control").write_text("+memory +cpu")
    job = TOP / f"job{next(_numbers)}"
    made = Nest(job, job / "step")
    job.mkdir()
    (job / "cgroup.subtree_control").write_text("+memory +cpu")
    made.step.mkdir()
    (job / "memory.max").write_text(str(LIMIT))
    yield made
    left = [pid for group in (made.step, *made.step.iterdir()) for pid in inside(group)]
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert not left, "processes were left behind"
    for group in (*(g for g in made.step.iterdir() if g.is_dir()), made.step, job):
        group.rmdir()


def inside(group: Path) -> list[int]:
    """The processes of a group."""
    return [int(pid) for pid in (group / "cgroup.procs").read_text().split()] if group.is_dir() else []


_libc = ctypes.CDLL(None, use_errno=True)
_NEWNS, _NEWCGROUP = 0x00020000, 0x02000000
_DETACH = 2
_RDONLY, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 32, 4096, 16384, 1 << 18


def _call(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def own_mounts(more: int = 0) -> None:
    """Mounts of this process's own."""
    _call(_libc.unshare(_NEWNS | more))
    _call(_libc.mount(None, b"/", None, _REC | _PRIVATE, None))


def freeze() -> None:
    """Let groups be seen and not changed."""
    _call(_libc.mount(None, bytes(TOP), None, _REMOUNT | _BIND | _RDONLY, None))


def read_only() -> None:
    """The groups as they are, and not even root may change them."""
    own_mounts()
    freeze()


def container() -> None:
    """What docker and Kubernetes show: the own group as if it were the outermost, read-only."""
    own_mounts(_NEWCGROUP)
    _call(_libc.umount2(bytes(TOP), _DETACH))
    _call(_libc.mount(b"none", bytes(TOP), b"cgroup2", 0, None))
    freeze()


def ordinary_user() -> None:
    """No rights over anything that was not handed over."""
    os.setgroups([])
    os.setgid(USER)
    os.setuid(USER)


VIEWS: dict[str, Callable[[], None]] = {
    "root": lambda: None,
    "read-only": read_only,
    "delegated": ordinary_user,
    "container": container,
}


def start(nest: Nest, view: str, *command: str) -> subprocess.Popen[str]:
    """A program in the step's group, with a view of it."""
    if view == "delegated":  # what systemd hands over with Delegate=yes
        for file in (
            nest.step,
            *(nest.step / f"cgroup.{name}" for name in ("procs", "threads", "subtree_control")),
        ):
            os.chown(file, USER, USER)

    def enter() -> None:
        (nest.step / "cgroup.procs").write_text(str(os.getpid()))
        VIEWS[view]()

    return subprocess.Popen(
        [sys.executable, *command], preexec_fn=enter, cwd="/tmp", text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def finish(program: subprocess.Popen[str], seconds: float = 90) -> str:
    """What it printed."""
    out, told = program.communicate(timeout=seconds)
    assert program.returncode == 0, told
    return out


def is_all_of(bytes_: int, limit: int) -> bool:
    """Whether that is a limit, less what the kernel has counted for the group and not yet for the process.

    Before Linux 6.2 up to 64 pages for each thread.
    """
    return limit - MiB < bytes_ <= limit


def limits(nest: Nest, view: str) -> dict:
    """What ``penstock limits --json`` says."""
    return json.loads(
        finish(start(nest, view, "-c", "import penstock.cli as c; c.main()", "limits", "--json"))
    )


@pytest.fixture
def say(capsys):
    """Print at once, past pytest."""

    def print_(*words: object) -> None:
        with capsys.disabled():
            print("\n   ", *words, end=" ", flush=True)

    return print_


# --------------------------------------------------------------------------- limits


@pytest.mark.parametrize("view", ["root", "read-only", "delegated"])
def test_the_limit_of_the_parent_group_is_found(nest, view):
    (nest.job / "cpu.max").write_text("100000 100000")
    assert (nest.step / "memory.max").read_text() == "max\n"
    found = limits(nest, view)
    assert is_all_of(found["budget"]["bytes"], LIMIT)
    assert found["budget"]["origin"] == f"cgroup memory limit ({nest.job}/memory.max)"
    assert not found["budget"]["kills_group"]
    assert found["cpus"] == 1
    (ceiling,) = (each for each in found["ceilings"] if "cgroup" in each["origin"])
    assert 5 * MiB < ceiling["used"] < 60 * MiB
    assert ceiling["kernel_kills"] == 0


def test_the_limit_of_a_container_is_found(nest):
    (nest.step / "memory.max").write_text(str(LIMIT // 2))
    found = limits(nest, "container")
    assert is_all_of(found["budget"]["bytes"], LIMIT // 2)
    assert found["budget"]["origin"] == f"cgroup memory limit ({TOP}/memory.max)"


def test_a_limit_over_a_group_without_the_controller_is_found(nest):
    """The step then has no file of the memory controller at all."""
    (nest.job / "cgroup.subtree_control").write_text("-memory")
    assert not (nest.step / "memory.max").exists()
    assert is_all_of(limits(nest, "read-only")["budget"]["bytes"], LIMIT)


def test_a_throttle_and_the_killing_of_whole_groups_are_found(nest):
    (nest.job / "memory.high").write_text(str(LIMIT - 16 * MiB))
    (nest.job / "memory.oom.group").write_text("1")
    found = limits(nest, "read-only")
    assert is_all_of(found["budget"]["bytes"], LIMIT - 16 * MiB)
    assert "throttle" in found["budget"]["origin"]
    hard = [each for each in found["ceilings"] if each["bytes"] == LIMIT]
    assert [each["kills_group"] for each in hard] == [True]


# --------------------------------------------------------------------------- deaths


@pytest.mark.parametrize("view", ["read-only", "delegated", "container"])
def test_a_worker_that_the_kernel_killed_is_named_so(nest, view, say):
    """With the parent stopped no governor helps: the kernel must act, and the parent must say so.

    In the container the limit cannot even be seen: it is on the group outside.
    """
    program = start(nest, view, str(HERE / "workload.py"), "stopped")
    end = time.monotonic() + 60
    while nest.kills == 0 and program.poll() is None and time.monotonic() < end:
        time.sleep(0.1)
    program.send_signal(signal.SIGCONT)
    said = json.loads(finish(program))
    say(said, "kills", nest.kills)
    assert nest.kills == 1
    assert said["failures"] == {"kernel": 1}
    assert (said["wrong"], said["set_aside"]) == ([], {})


# --------------------------------------------------------------------------- mixes of items


@pytest.mark.parametrize("view", ["read-only", "delegated"])
@pytest.mark.parametrize("mix", ["uniform", "wide", "leak", "poison"])
def test_a_mix_finishes_without_a_kernel_kill(nest, mix, view, say):
    said = json.loads(finish(start(nest, view, str(HERE / "workload.py"), mix)))
    say(said, "kills", nest.kills, "peak of the group", int((nest.job / "memory.peak").read_text()) // MiB)
    assert nest.kills == 0
    assert said["wrong"] == []
    assert said["set_aside"] == ({"11": "memory"} if mix == "poison" else {})
    assert is_all_of(said["budget"], LIMIT)
    assert said["peak"] <= LIMIT


# --------------------------------------------------------------------------- what delegation allows

DELEGATED = """
import errno, json, os, sys
from pathlib import Path
step, said = Path(sys.argv[1]), {}
said["controllers"] = (step / "cgroup.controllers").read_text().split()
try:
    (step / "cgroup.subtree_control").write_text("+memory")
except OSError as error:
    said["with a process in the group"] = errno.errorcode[error.errno]
for name in ("parent", "worker"):
    (step / name).mkdir()
(step / "parent/cgroup.procs").write_text(str(os.getpid()))
(step / "cgroup.subtree_control").write_text("+memory")
(step / "worker/memory.max").write_text(str(32 << 20))
(step / "worker/memory.oom.group").write_text("1")
child = os.fork()
if child == 0:
    (step / "worker/cgroup.procs").write_text(str(os.getpid()))
    bytearray(b"x") * (64 << 20)
    os._exit(0)
said["status"] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
said["kills"] = (step / "worker/memory.events").read_text().split()
said["peak"] = int((step / "worker/memory.peak").read_text())
print(json.dumps(said))
"""


def test_a_delegated_group_can_hold_a_group_for_each_worker(nest, say):
    """Only from a leaf: the kernel refuses controllers below a group that holds processes itself."""
    said = json.loads(finish(start(nest, "delegated", "-c", DELEGATED, str(nest.step))))
    say(said)
    assert "memory" in said["controllers"]
    assert said["with a process in the group"] == "EBUSY"
    assert said["status"] == -signal.SIGKILL
    assert (
        int(said["kills"][said["kills"].index("oom_kill") + 1]) >= 1
    )  # Linux 6.1 counts a group's last twice
    assert said["peak"] <= 32 * MiB
    (nest.step / "cgroup.subtree_control").write_text("-memory")
