"""Control groups of our own, of version 2, on the real kernel: where they can be made, and what they do.

Runs inside the guest only (``make test-v2``), beside ``guest.py``.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import time
from collections.abc import Callable

import guest
import pytest
from guest import MiB, Nest, finish, inside, nest, say, start  # noqa: F401

FIND = """
import json, os, sys
from penstock.groups import find
before = open("/proc/self/cgroup").read()
found = find()
said = {"way": found.way, "refused": found.refused, "moved": open("/proc/self/cgroup").read() != before}
if found.run:
    said["closed"] = found.run.close()
said["back"] = open("/proc/self/cgroup").read() == before
print(json.dumps(said))
"""


def handed_over() -> None:
    """A container that may make groups in its own."""
    guest.own_mounts(guest._NEWCGROUP)
    guest._call(guest._libc.umount2(bytes(guest.TOP), guest._DETACH))
    guest._call(guest._libc.mount(b"none", bytes(guest.TOP), b"cgroup2", 0, None))


os.environ["ORDERS"] = str(guest.HERE)
guest.VIEWS |= {"own container": handed_over, "user": guest.ordinary_user}


def until(there: Callable[[], object], seconds: float = 500) -> None:
    """Wait for something."""
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("view", ["root", "delegated", "own container"])
def test_groups_are_made_where_they_were_handed_over(nest, view, say):  # noqa: F811
    said = json.loads(finish(start(nest, view, "-c", FIND)))
    say(said)
    assert said == {"way": "v2", "refused": [], "moved": True, "closed": True, "back": True}
    assert [each for each in nest.step.iterdir() if each.is_dir()] == []
    assert (nest.step / "cgroup.subtree_control").read_text().split() == []


@pytest.mark.parametrize(
    ("view", "words"),
    [
        ("read-only", "Read-only file system"),
        ("container", "Read-only file system"),
        ("user", "Permission denied"),
    ],
)
def test_where_they_may_not_be_made_that_is_told(nest, view, words):  # noqa: F811
    said = json.loads(finish(start(nest, view, "-c", FIND)))
    assert (said["way"], said["moved"], said["back"]) == ("none", False, True)
    assert words in said["refused"][0]
    assert [each for each in nest.step.iterdir() if each.is_dir()] == []


def test_with_another_process_in_the_group_they_are_not(nest):  # noqa: F811
    other = subprocess.Popen(["/bin/busybox", "sleep", "1000"])
    (nest.step / "cgroup.procs").write_text(str(other.pid))
    try:
        said = json.loads(finish(start(nest, "root", "-c", FIND)))
        assert said["way"] == "none"
        assert f"other processes are in the group ({other.pid})" in said["refused"][0]
        assert inside(nest.step) == [other.pid]
    finally:
        other.kill()
        other.wait()


def test_in_a_threaded_group_they_are_not(nest):  # noqa: F811
    """It has no memory controller. Only a process of the domain may enter, so this one is moved by hand."""
    threads = nest.step / "threads"
    threads.mkdir()
    (threads / "cgroup.type").write_text("threaded")
    program = subprocess.Popen(
        [guest.sys.executable, "-c", "input()\n" + FIND],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    (nest.step / "cgroup.procs").write_text(str(program.pid))
    (threads / "cgroup.procs").write_text(str(program.pid))
    out, told = program.communicate("\n", timeout=60)
    threads.rmdir()
    assert program.returncode == 0, told
    said = json.loads(out)
    assert (said["way"], said["moved"]) == ("none", False)
    assert "no control group with the memory controller" in said["refused"][0]


DRIVE = """
import json, os, pickle, signal, sys, time
from pathlib import Path
sys.path.insert(0, os.environ["ORDERS"])
from penstock.abc import Death
from penstock.backends.local import Local
from penstock.testing import puppet
from penstock.testing.puppet import Puppet
MiB = 1 << 20
backend = Local()
backend.open(pickle.dumps(Puppet()), {}, None)
def next_of(worker):
    end = time.monotonic() + 500
    while time.monotonic() < end:
        for each in backend.wait(0.05):
            if each.worker == worker:
                return each if isinstance(each, Death) else each.content
    raise AssertionError("nothing was heard")
def begin():
    worker = backend.start()
    pid = next_of(worker)[2]
    ask(worker, puppet.Echo(1))
    return worker, pid
def ask(worker, order):
    backend.send(worker, order)
    return next_of(worker)
def until(there):
    end = time.monotonic() + 500
    while not there():
        assert time.monotonic() < end
        time.sleep(0.02)
def state(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except OSError:
        return ""
def frozen(pid):
    group = Path("/sys/fs/cgroup" + Path(f"/proc/{pid}/cgroup").read_text().split("::")[1].strip())
    return "frozen 1" in (group / "cgroup.events").read_text()
worker, pid = begin()
"""


def driven(nest: Nest, body: str, view: str = "delegated") -> dict:  # noqa: F811
    """Run a program with a backend and a worker; what it said. No group is left."""
    program = start(nest, view, "-c", DRIVE + body + "\nbackend.close()\nprint(json.dumps(said))")
    said: dict = json.loads(finish(program))
    assert [each for each in nest.step.iterdir() if each.is_dir()] == []
    return said


def test_what_is_held_is_exact(nest, say):  # noqa: F811
    said = driven(
        nest,
        """
before = backend.read()[worker].charged
ask(worker, puppet.Hold(60 * MiB))
grown = backend.read()[worker].charged - before
said = {"grown": grown, "total": backend.total(), "measure": backend.measure}
""",
    )
    say(said)
    assert 59 * MiB <= said["grown"] <= 64 * MiB
    assert said["total"] >= said["grown"]
    assert "(v2, " in said["measure"]


def test_a_pause_freezes_and_a_kill_ends_everybody_in_the_group(nest):  # noqa: F811
    said = driven(
        nest,
        """
((daemon,),) = ask(worker, puppet.Spawn(detached=True))
backend.pause(worker)
until(lambda: frozen(pid) and frozen(daemon))
backend.resume(worker)
until(lambda: not frozen(pid))
backend.pause(worker)
until(lambda: frozen(pid))
backend.kill(worker)
death = next_of(worker)
until(lambda: state(daemon) in ("", "Z"))
said = {"signal": death.signal, "by the kernel": death.kernel_killed}
""",
    )
    assert said == {"signal": signal.SIGKILL, "by the kernel": False}


def test_a_fence_ends_the_worker_alone_and_is_told(nest):  # noqa: F811
    said = driven(
        nest,
        """
other, _ = begin()
backend.fence(worker, 40 * MiB)
death = ask(worker, puppet.Hold(120 * MiB))
said = {"signal": death.signal, "by the kernel": death.kernel_killed, "others": ask(other, puppet.Echo(7))}
""",
    )
    assert said == {"signal": signal.SIGKILL, "by the kernel": True, "others": [7]}


SPIKE = """
from orders import Spike
def spike(size):
    backend.read()
    ask(worker, Spike(size))
    reading = backend.read()[worker]
    return [reading.charged_peak - reading.charged, reading.charged_bound - reading.charged]
said = {"first": spike(60 * MiB), "second": spike(30 * MiB)}
"""


def test_a_spike_between_two_readings_is_told(nest, say):  # noqa: F811
    """Linux 6.12 begins a mark anew for whoever asks; before, only a record tells something."""
    said = driven(nest, SPIKE)
    release = tuple(int(word) for word in platform.release().split("-")[0].split(".")[:2])
    say(release, said)
    first, bound = said["first"]
    assert 58 * MiB <= first <= 62 * MiB
    assert bound >= first
    second, bound = said["second"]
    assert (28 * MiB <= second <= 32 * MiB) if release >= (6, 12) else second <= MiB
    assert bound >= 28 * MiB


def test_a_killed_run_is_swept_by_the_next(nest):  # noqa: F811
    """In a container of its own: there a process can still enter."""
    program = start(nest, "delegated", "-c", DRIVE + "print(pid, flush=True); time.sleep(1000)")
    worker = int(program.stdout.readline())
    run = next(each for each in nest.step.iterdir() if each.is_dir() and (each / "server").is_dir())
    servers = inside(run / "server")
    for pid in (program.pid, *servers):
        os.kill(pid, signal.SIGKILL)
    program.communicate()
    until(lambda: worker not in [pid for group in run.iterdir() if group.is_dir() for pid in inside(group)])
    guest.subprocess.run(
        [guest.sys.executable, "-c",
         "import sys; from pathlib import Path; from penstock.groups import run; "
         "print(run.sweep(Path(sys.argv[1]), 2))", str(nest.step)],
        check=True, user=guest.USER, cwd="/tmp",
    )  # fmt: skip
    assert [each for each in nest.step.iterdir() if each.is_dir()] == []
    (nest.step / "cgroup.subtree_control").write_text("-memory")
