"""One run at a time in a folder; a dead holder keeps nobody out."""

import json
import multiprocessing
import os
import socket
import subprocess
import sys
import time

import pytest

from penstock.engine import lock as locks
from penstock.engine.lock import RunLock
from penstock.errors import RunLocked


def holder(**changes):
    """What a lock of this very process says."""
    return {
        "host": socket.gethostname(),
        "boot": locks._boot(),
        "processes": locks._namespace(),
        "pid": os.getpid(),
        "started": locks._started(os.getpid()),
        "since": "2026-01-01 00:00:00",
        **changes,
    }


def put(folder, entry, *, silent=0.0):
    path = folder / "lock"
    path.write_text(entry if isinstance(entry, str) else json.dumps(entry))
    then = time.time() - silent
    os.utime(path, (then, then))
    return path


def test_a_living_holder_is_named(tmp_path):
    machinery = tmp_path / "run" / ".penstock"
    machinery.mkdir(parents=True)
    held = RunLock(machinery)
    with pytest.raises(RunLocked) as told:
        RunLock(machinery)
    who = f"process {os.getpid()} on {socket.gethostname()}"
    assert str(told.value).startswith(f"{tmp_path / 'run'} is in use: {who} has been running there since 2")
    held.release()
    RunLock(machinery).release()


def dead_pid():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


DEAD = {
    "a dead process": lambda: (holder(pid=dead_pid()), 0),
    "its number belongs to another process now": lambda: (holder(started="12"), 0),
    "before the last boot": lambda: (holder(boot="another"), 0),
    "another host, silent": lambda: (holder(host="elsewhere"), 61),
    "another container, silent": lambda: (holder(processes="pid:[1]"), 61),
    "torn, and left so": lambda: ('{"host": "h', 3),
    "empty, and left so": lambda: ("", 3),
    "no process": lambda: (holder(pid=0, started=""), 0),
}
ALIVE = {
    "this process": lambda: (holder(), 3600),
    "another host, talking": lambda: (holder(host="elsewhere"), 55),
    "another container, talking": lambda: (holder(processes="pid:[1]", pid=1), 55),
}


@pytest.mark.parametrize("case", DEAD)
def test_a_dead_holder_is_replaced(tmp_path, case):
    entry, silent = DEAD[case]()
    path = put(tmp_path, entry, silent=silent)
    RunLock(tmp_path)
    assert json.loads(path.read_text())["pid"] == os.getpid()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["lock", "lock.guard"]


@pytest.mark.parametrize("case", ALIVE)
def test_a_living_one_is_not(tmp_path, case):
    entry, silent = ALIVE[case]()
    path = put(tmp_path, entry, silent=silent)
    with pytest.raises(RunLocked, match="is in use"):
        RunLock(tmp_path)
    assert json.loads(path.read_text()) == entry


def test_a_zombie_is_dead(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = locks._started(child.pid)
    assert started
    child.stdin.close()
    deadline = time.monotonic() + 20
    while locks._started(child.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    put(tmp_path, holder(pid=child.pid, started=started))
    RunLock(tmp_path)
    child.wait()


def test_one_that_is_being_written_is_waited_for(tmp_path):
    put(tmp_path, "")
    began = time.monotonic()
    RunLock(tmp_path)
    assert time.monotonic() - began > 0.5


def test_only_its_own_is_released(tmp_path):
    held = RunLock(tmp_path)
    path = put(tmp_path, holder(host="elsewhere"))
    held.release()
    assert json.loads(path.read_text())["host"] == "elsewhere"
    path.unlink()
    held.release()
    held.beat()


def test_a_beat_is_a_sign_of_life(tmp_path):
    held = RunLock(tmp_path)
    path = tmp_path / "lock"
    os.utime(path, (1.0, 1.0))
    held.beat()
    assert time.time() - path.stat().st_mtime < 60


def take(folder, barrier, winners):
    barrier.wait()
    try:
        RunLock(folder)
    except RunLocked:
        winners.put(False)
    else:
        winners.put(True)
        barrier.wait(60)  # a winner lives until all have tried


def test_of_many_who_find_a_dead_holder_one_wins(tmp_path):
    """The one who is slow must not take away the lock of the one who was quick."""
    several = multiprocessing.get_context("fork")
    count = 8
    for turn in range(5):
        folder = tmp_path / str(turn)
        folder.mkdir()
        put(folder, holder(started="1"))
        barrier, winners = several.Barrier(count), several.Queue()
        takers = [
            several.Process(target=take, args=(folder, barrier, winners), daemon=True) for _ in range(count)
        ]
        for taker in takers:
            taker.start()
        won = [winners.get(timeout=60) for _ in range(count)]
        barrier.abort()
        for taker in takers:
            taker.join()
        assert sum(won) == 1


def test_a_slow_judge_does_not_take_the_winners_lock(tmp_path, monkeypatch):
    """It has read the dead holder's file; then another takes over; then it goes on."""
    put(tmp_path, holder(started="1"))
    judge = locks._alive
    others = []

    def slowly(entry, age, here):
        dead = judge(entry, age, here)
        monkeypatch.undo()
        others.append(
            subprocess.run(
                [
                    sys.executable,
                    "-c",
                    "import sys; from pathlib import Path; from penstock.engine.lock import RunLock; "
                    "RunLock(Path(sys.argv[1]))",
                    str(tmp_path),
                ],
                capture_output=True,
                text=True,
            )
        )
        return dead

    monkeypatch.setattr(locks, "_alive", slowly)
    RunLock(tmp_path)
    assert "RunLocked" in others[0].stderr
    assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()


# --------------------------------------------------------------------------- who it is, without taking it


def test_nobody_holds_a_folder_without_a_lock(tmp_path):
    assert locks.holder_of(tmp_path) is None
    put(tmp_path, "torn")
    assert locks.holder_of(tmp_path) is None


def test_a_living_holder_can_be_looked_at(tmp_path):
    held = RunLock(tmp_path)
    found = locks.holder_of(tmp_path)
    assert (found.pid, found.host, found.alive) == (os.getpid(), socket.gethostname(), True)
    assert abs(found.seen - time.time()) < 60
    assert str(found) == f"process {os.getpid()} on {socket.gethostname()}"
    held.release()
    assert locks.holder_of(tmp_path) is None


@pytest.mark.parametrize("rebooted", [False, True])
def test_a_dead_holder_can_be_looked_at(tmp_path, rebooted):
    changes = {"boot": "another"} if rebooted else {}
    pid = dead_pid()
    put(tmp_path, holder(pid=pid, **changes), silent=90.0)
    found = locks.holder_of(tmp_path)
    assert (found.pid, found.alive, found.rebooted) == (pid, False, rebooted)
    assert 80 < time.time() - found.seen < 120
