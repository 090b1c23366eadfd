"""One owner of a run folder; a dead one keeps nobody out, a sleeping one writes nothing more."""

import errno
import fcntl
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
from waiting import LIMIT, until

from penstock import identity
from penstock.errors import RunLocked, RunTakenOver
from penstock.record import holding, lock_file
from penstock.record import lock as locks
from penstock.record.holding import LockEntry, LockSilence, ThisMachine, life_of, read_entry
from penstock.record.lock import Edge, RunLock

HERE = ThisMachine("box", "boot-1", "pid:[1]")
CLONE = ThisMachine("box", "boot-2", "pid:[1]")
CONTAINER = ThisMachine("box", "boot-1", "pid:[2]")
ELSEWHERE = ThisMachine("other", "boot-3", "pid:[1]")


class World:
    """Machines, their processes, and a clock of each; nothing sleeps."""

    def __init__(self):
        self.now = 0.0
        self.said = []
        self.meanwhile = []
        """Called with each sleep."""

    def edge(self, here=HERE, started=lambda pid: f"start of {pid}"):
        def sleep(seconds):
            self.now += seconds
            for each in list(self.meanwhile):
                each()

        def clock():
            self.now += 1e-6
            return self.now

        return Edge(here=lambda: here, started=started, clock=clock, sleep=sleep,
                    say=self.said.append, beats=False)  # fmt: skip


@pytest.fixture
def world():
    return World()


@pytest.fixture
def state_dir(tmp_path):
    folder = tmp_path / "run" / ".penstock"
    folder.mkdir(parents=True)
    return folder


def entry(where=HERE, **changes):
    """What a lock of process 9 says."""
    return replace(
        LockEntry(where, 9, "start of 9", "2026-01-01 00:00:00", "t" * 32, 4, 17, 100.0), **changes
    )


def put(state_dir, what):
    path = state_dir / "lock"
    path.write_bytes(what.to_bytes() if isinstance(what, LockEntry) else what)
    return path


# --------------------------------------------------------------------------- who is dead, decided purely


def alive(pid):
    return "start of 9" if pid == 9 else ""


@pytest.mark.parametrize(
    ("where", "started", "silent", "life"),
    [
        (HERE, alive, 1e6, "alive"),  # suspended for as long as you like
        (HERE, lambda pid: "", 0, "dead"),
        (HERE, lambda pid: "another start", 0, "dead"),
        (HERE, lambda pid: identity.UNSEEN, 59.9, "unknown"),
        (ThisMachine("renamed", "boot-1", "pid:[1]"), alive, 1e6, "alive"),
        (CLONE, lambda pid: "", 59.9, "unknown"),
        (CLONE, alive, 60, "dead"),
        (CONTAINER, alive, 59.9, "unknown"),
        (CONTAINER, lambda pid: "", 60, "dead"),
        (ELSEWHERE, lambda pid: "", 59.9, "unknown"),
        (ELSEWHERE, alive, 60, "dead"),
        (ThisMachine("box", "", ""), alive, 59.9, "unknown"),
    ],
)
def test_what_is_known_of_a_holder(where, started, silent, life):
    assert life_of(entry(), where, started, silent) == life


def test_where_nothing_tells_places_apart_nothing_is_seen():
    nowhere = ThisMachine("box", "", "")
    assert life_of(entry(nowhere), nowhere, alive) == "unknown"


def test_a_lock_that_cannot_be_read_is_as_one_elsewhere():
    assert life_of(None, HERE, alive, 59) == "unknown"
    assert life_of(None, HERE, alive, 60) == "dead"


def test_a_sleep_of_ours_is_no_silence_of_the_other():
    """Both may have slept, as two containers of one paused machine."""
    silence = LockSilence("a", 0.0)
    assert silence.look("a", 1.0)
    assert silence.look("a", 1000.0)
    assert silence.seconds < 10
    assert not silence.look("b", 1001.0)


def test_a_lock_is_read_as_it_was_written_and_keeps_its_length():
    first = entry(ELSEWHERE)
    assert read_entry(first.to_bytes()) == first
    beaten = first
    for _ in range(100):
        beaten = beaten.beaten(time.time())
    assert beaten.count == first.count + 100
    assert len(beaten.to_bytes()) == len(first.to_bytes())


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"7", b"\xff\xfe", b'{"host": 7}', b"[" * 10_000,
     b'{"host": "h", "boot": "b", "pid": 1e999, "started": "", "since": ""}'],
)  # fmt: skip
def test_nonsense_is_no_lock(data):
    assert read_entry(data) is None


def test_what_a_lock_tells_is_made_harmless():
    told = read_entry(entry(ThisMachine("a\x1b]52;c;\n" + "x" * 1000, "b", "c")).to_bytes())
    assert "\x1b" not in str(told)
    assert "\n" not in str(told)
    assert len(str(told)) < 400


# --------------------------------------------------------------------------- taking it


def test_a_living_holder_is_named(state_dir):
    held = RunLock(state_dir)
    with pytest.raises(RunLocked) as told:
        RunLock(state_dir)
    who = f"process {os.getpid()} on {socket.gethostname()}"
    assert str(told.value).startswith(f"{state_dir.parent} is in use: {who} has been running there since 2")
    held.release()
    again = RunLock(state_dir)
    assert (held.number, again.number) == (1, 2)
    assert not again.taken
    again.release()
    assert sorted(path.name for path in state_dir.iterdir()) == ["owner"]


def test_one_that_is_suspended_is_alive(state_dir, world):
    put(state_dir, entry())
    with pytest.raises(RunLocked, match="suspended"):
        RunLock(state_dir, world.edge())
    assert world.now < 1
    assert not world.said


@pytest.mark.parametrize("started", [lambda pid: "", lambda pid: "another start"])
def test_one_whose_process_is_gone_is_replaced_at_once(state_dir, world, started):
    put(state_dir, entry())
    lock = RunLock(state_dir, world.edge(started=started))
    assert world.now < 1
    assert not world.said
    assert lock.taken
    assert (lock.number, lock.dead.pid, lock.dead.alive) == (5, 9, False)
    assert read_entry((state_dir / "lock").read_bytes()).token == lock.token


@pytest.mark.parametrize("where", [CLONE, CONTAINER, ELSEWHERE], ids=["a clone", "a container", "a host"])
def test_one_that_cannot_be_seen_is_waited_for_and_then_replaced(state_dir, world, where):
    """Whatever its clock says, and its file's."""
    path = put(state_dir, entry(where, at=1e12))
    os.utime(path, (1.0, 1.0))
    lock = RunLock(state_dir, world.edge())
    assert 60 <= world.now < 65
    (line,) = world.said
    for part in (f"process 9 on {where.host}", "2026-01-01 00:00:00", "up to 60 s", str(state_dir.parent)):
        assert part in line
    assert "\n" not in line
    assert lock.dead.rebooted == (where is CLONE)


@pytest.mark.parametrize("where", [CLONE, CONTAINER, ELSEWHERE], ids=["a clone", "a container", "a host"])
def test_as_soon_as_the_counter_moves_the_newcomer_is_refused(state_dir, world, where):
    path = put(state_dir, entry(where))
    os.utime(path, (1.0, 1.0))

    def beat():
        if world.now >= 7:
            put(state_dir, entry(where, count=18))
            os.utime(path, (1.0, 1.0))

    world.meanwhile.append(beat)
    with pytest.raises(RunLocked, match="process 9 on"):
        RunLock(state_dir, world.edge())
    assert world.now < 8


def test_one_that_gives_it_back_while_we_wait_is_waited_for_no_longer(state_dir, world):
    path = put(state_dir, entry(ELSEWHERE))
    world.meanwhile.append(lambda: path.unlink(missing_ok=True))
    lock = RunLock(state_dir, world.edge())
    assert world.now < 1
    assert not lock.taken


def test_another_newcomer_that_was_quicker_is_respected(state_dir, world):
    put(state_dir, entry(ELSEWHERE))
    world.meanwhile.append(
        lambda: put(state_dir, entry(CONTAINER, token="u" * 32)) if world.now > 50 else None
    )
    with pytest.raises(RunLocked, match="process 9 on box"):
        RunLock(state_dir, world.edge())


OLD = {"host": "other", "boot": "b", "pid": 9, "started": "1", "since": "then"}


@pytest.mark.parametrize("processes", [{}, {"processes": "pid:[1]"}])
def test_a_lock_of_an_earlier_version_is_watched_by_its_touches(state_dir, world, processes):
    path = put(state_dir, json.dumps(OLD | processes).encode())
    touches = [world.now]

    def touch():
        os.utime(path, (1.0, len(touches)))
        touches.append(world.now)

    world.meanwhile.append(touch)
    with pytest.raises(RunLocked, match="process 9 on other has been running there since then"):
        RunLock(state_dir, world.edge())
    world.meanwhile.clear()
    began = world.now
    lock = RunLock(state_dir, world.edge())
    assert world.now - began >= 60
    assert lock.number == 1


@pytest.mark.parametrize("torn", [b"", b'{"host": "h'])
def test_a_torn_lock_is_waited_for(state_dir, world, torn):
    put(state_dir, torn)
    lock = RunLock(state_dir, world.edge())
    assert world.now >= 60
    assert lock.taken
    assert lock.dead is None
    assert "whose lock cannot be read" in world.said[0]


def dead_pid():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_a_real_process_that_is_gone(state_dir):
    put(state_dir, replace(entry(lock_file.here()), pid=dead_pid()))
    RunLock(state_dir).release()


def test_a_zombie_is_dead(state_dir):
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = identity.started(child.pid)
    assert started
    child.stdin.close()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    put(state_dir, replace(entry(lock_file.here()), pid=child.pid, started=started))
    RunLock(state_dir).release()
    child.wait()


def test_without_links_a_lock_is_made_all_the_same(state_dir, world, monkeypatch):
    def no_links(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", no_links)
    lock = RunLock(state_dir, world.edge())
    lock.prove()
    lock.beat()
    with pytest.raises(RunLocked):
        RunLock(state_dir, world.edge())
    assert sorted(path.name for path in state_dir.iterdir()) == ["lock", "owner"]


def take(folder, barrier, winners):
    barrier.wait()
    try:
        RunLock(folder)
    except RunLocked:
        winners.put(False)
    else:
        winners.put(True)
        barrier.wait(LIMIT)  # a winner lives until all have tried


def test_of_many_who_find_a_dead_holder_one_wins(tmp_path):
    """The one who is slow must not take away the lock of the one who was quick."""
    several = multiprocessing.get_context("fork")
    count = 8
    for turn in range(5):
        folder = tmp_path / str(turn)
        folder.mkdir()
        put(folder, replace(entry(lock_file.here()), pid=os.getpid(), started="1"))
        barrier, winners = several.Barrier(count), several.Queue()
        takers = [
            several.Process(target=take, args=(folder, barrier, winners), daemon=True) for _ in range(count)
        ]
        for taker in takers:
            taker.start()
        won = [winners.get(timeout=LIMIT) for _ in range(count)]
        barrier.abort()
        for taker in takers:
            taker.join()
        assert sum(won) == 1


def test_a_slow_judge_does_not_take_the_winners_lock(state_dir, world, monkeypatch):
    """It has read the dead holder's lock; then another takes over; then it goes on."""
    put(state_dir, entry(started="1"))
    winner = []
    judge = locks.life_of

    def slowly(*arguments):
        monkeypatch.undo()
        life = judge(*arguments)
        winner.append(RunLock(state_dir, world.edge()))
        return life

    monkeypatch.setattr(locks, "life_of", slowly)
    with pytest.raises(RunLocked):
        RunLock(state_dir, world.edge())
    winner[0].prove()


def test_a_lock_that_was_taken_away_by_mistake_is_put_back(state_dir, world, monkeypatch):
    """Two machines without a kernel's lock in common: the quick one's lock comes between look and rename."""
    put(state_dir, entry(ELSEWHERE))
    rename = locks.Path.rename
    quick = []

    def between(path, target):
        if not quick:
            (state_dir / "lock").unlink()
            quick.append(RunLock(state_dir, world.edge(CONTAINER)))
        return rename(path, target)

    monkeypatch.setattr(locks.Path, "rename", between)
    world.meanwhile.append(lambda: quick and quick[0].beat())
    with pytest.raises(RunLocked):
        RunLock(state_dir, world.edge())
    quick[0].prove()


def test_a_sleeper_that_gives_it_back_does_not_give_back_its_successors(state_dir, world, monkeypatch):
    """Between its proof and the removal."""
    lock = RunLock(state_dir, world.edge())
    rename = locks.Path.rename
    successor = []

    def between(path, target):
        if not successor and path.name == "lock":
            successor.append(None)
            successor.append(RunLock(state_dir, world.edge(ELSEWHERE)))
        return rename(path, target)

    monkeypatch.setattr(locks.Path, "rename", between)
    lock.release()
    successor[1].prove()


# --------------------------------------------------------------------------- having it


def test_its_owner_proves_it(state_dir, world):
    lock = RunLock(state_dir, world.edge())
    for _ in range(3):
        lock.prove()
        lock.beat()
    assert read_entry((state_dir / "lock").read_bytes()).count == 3


def taken_over(state_dir, world, lock):
    """By process 9 on another host, which has seen nothing move for a minute."""
    other = RunLock(state_dir, replace(world.edge(ELSEWHERE)))
    assert other.number == lock.number + 1
    assert other.token != lock.token
    return other


def test_an_owner_that_was_taken_over_is_told_by_whom(state_dir, world):
    lock = RunLock(state_dir, world.edge())
    other = taken_over(state_dir, world, lock)
    for act in (lock.prove, lock.beat, lock.awake, lock.prove):
        with pytest.raises(RunTakenOver, match=f"taken over by process {os.getpid()} on other"):
            act()
    assert lock.lost
    lock.release()
    other.prove()
    assert read_entry((state_dir / "lock").read_bytes()).count == 0, "nobody else moves its counter"


def test_the_successor_may_have_given_it_back_already(state_dir, world):
    lock = RunLock(state_dir, world.edge())
    taken_over(state_dir, world, lock).release()
    with pytest.raises(RunTakenOver, match=f"taken over by process {os.getpid()} on other"):
        lock.prove()


def test_a_lock_that_somebody_removed_is_lost(state_dir, world):
    lock = RunLock(state_dir, world.edge())
    (state_dir / "lock").unlink()
    with pytest.raises(RunTakenOver, match="somebody, who left no name"):
        lock.prove()
    third = RunLock(state_dir, world.edge(ELSEWHERE))
    with pytest.raises(RunTakenOver):
        lock.prove()
    third.prove()


@pytest.mark.parametrize("write", [None, b"", b"nonsense"])
def test_files_that_were_only_removed_are_not_a_folder_that_was_moved(state_dir, world, write):
    lock = RunLock(state_dir, world.edge())
    (state_dir / "owner").unlink()
    (state_dir / "lock").unlink()
    if write is not None:
        (state_dir / "lock").write_bytes(write)
    with pytest.raises(RunTakenOver, match=r"the lock of .* was removed or overwritten") as told:
        lock.prove()
    assert "was moved" not in str(told.value)


def test_a_folder_that_was_moved_is_called_that(state_dir, world):
    lock = RunLock(state_dir, world.edge())
    state_dir.rename(state_dir.with_name("elsewhere"))
    with pytest.raises(RunTakenOver, match="was moved or removed"):
        lock.prove()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.ESTALE, errno.EACCES])
def test_a_lock_that_cannot_be_read_now_is_not_taken_over(state_dir, world, monkeypatch, number):
    lock = RunLock(state_dir, world.edge())

    def fails(*_, **__):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(locks.os, "open", fails)
        with pytest.raises(OSError, match=os.strerror(number)) as caught:
            lock.prove()
        assert caught.value.errno == number
        with pytest.raises(OSError, match=os.strerror(number)):
            lock.beat()
        world.now += 4
        lock.awake()
        assert not lock.lost
    (state_dir / "lock").unlink()
    with pytest.raises(RunTakenOver):
        lock.awake()  # it asks again, though no pause came between


def odd(path, kind):
    """Something at this path that is no file, and that would have us wait if we read it."""
    path.unlink(missing_ok=True)
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to({"endless": "/dev/zero", "nowhere": "/nowhere"}[kind])


@pytest.mark.parametrize("kind", ["pipe", "folder", "endless", "nowhere"])
def test_what_is_no_file_is_no_lock_and_nobody_waits_for_it(state_dir, world, kind):
    odd(state_dir / "lock", kind)
    assert lock_file.holder_of(state_dir) is None
    with pytest.raises(RunLocked, match="is no regular file, so no run made it"):
        RunLock(state_dir, world.edge())
    assert world.said == []


@pytest.mark.parametrize("kind", ["pipe", "endless", "nowhere"])
@pytest.mark.parametrize("name", ["owner", "lock.guard"])
def test_what_lies_beside_the_lock_and_is_no_file_is_not_waited_for(state_dir, world, name, kind):
    (state_dir / "lock").write_bytes(entry(HERE, pid=1).to_bytes())
    odd(state_dir / name, kind)
    lock = RunLock(state_dir, world.edge(started=lambda pid: "" if pid == 1 else "now"))
    assert lock.taken
    lock.prove()


def test_a_pipe_in_its_place_is_no_lock_of_ours(state_dir, world):
    lock = RunLock(state_dir, world.edge())
    odd(state_dir / "lock", "pipe")
    with pytest.raises(RunTakenOver):
        lock.prove()


def test_a_copy_of_the_lock_from_before_is_no_proof(state_dir, world):
    lock = RunLock(state_dir, world.edge())
    before = (state_dir / "lock").read_bytes()
    for _ in range(2):
        lock.beat()
    (state_dir / "lock").write_bytes(before)
    with pytest.raises(RunTakenOver):
        lock.prove()


def test_it_is_proved_again_after_a_pause_and_else_not_read(state_dir, world):
    lock = RunLock(state_dir, world.edge())
    (state_dir / "lock").rename(state_dir / "away")
    world.now += 2
    lock.awake()
    world.now += 64
    with pytest.raises(RunTakenOver):
        lock.awake()


def test_a_beat_that_failed_is_no_loss(state_dir, world, monkeypatch):
    lock = RunLock(state_dir, world.edge())

    def fail(*_):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="Input/output"):
            lock.beat()
    lock.prove()
    lock.beat()
    lock.prove()


def test_the_counter_moves_by_itself(state_dir, monkeypatch):
    monkeypatch.setattr(locks, "_BEAT", 0.01)
    lock = RunLock(state_dir)
    until(lambda: read_entry((state_dir / "lock").read_bytes()).count >= 3)
    lock.prove()
    lock.release()


def test_its_thread_takes_no_signal(state_dir):
    """Else ``penstock exec`` ended by one that came while it did not wait for any."""
    lock = RunLock(state_dir)
    try:
        (beats,) = [each for each in threading.enumerate() if each.name == "penstock-lock"]
        with open(f"/proc/self/task/{beats.native_id}/status") as status:
            blocked = int(next(line for line in status if line.startswith("SigBlk:")).split()[1], 16)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGTSTP):
            assert blocked >> (number - 1) & 1
        assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        lock.release()


def test_only_its_own_is_released(state_dir, world):
    lock = RunLock(state_dir, world.edge())
    path = put(state_dir, entry(ELSEWHERE))
    lock.release()
    assert read_entry(path.read_bytes()) == entry(ELSEWHERE)
    lock.release()


def test_numbers_go_on_where_the_note_of_the_last_owner_was_lost(state_dir, world):
    for _ in range(3):
        lock = RunLock(state_dir, world.edge())
        lock.release()
    assert lock.number == 3
    (state_dir / "owner").unlink()
    lock = RunLock(state_dir, world.edge())
    assert lock.number == 1
    lock.outnumber(3)
    assert lock.number == 4
    lock.beat()
    lock.prove()
    lock.release()
    assert RunLock(state_dir, world.edge()).number == 5


# --------------------------------------------------------------------------- who it is, without taking it


def test_nobody_holds_a_folder_without_a_lock(state_dir):
    assert lock_file.holder_of(state_dir) is None
    put(state_dir, b"torn")
    assert lock_file.holder_of(state_dir) is None


def test_a_living_holder_can_be_looked_at(state_dir):
    held = RunLock(state_dir)
    found = lock_file.holder_of(state_dir)
    assert (found.pid, found.host, found.alive) == (os.getpid(), socket.gethostname(), True)
    assert str(found) == f"process {os.getpid()} on {socket.gethostname()}"
    held.release()
    assert lock_file.holder_of(state_dir) is None


def test_a_dead_holder_can_be_looked_at(state_dir):
    put(state_dir, replace(entry(lock_file.here()), pid=dead_pid()))
    found = lock_file.holder_of(state_dir)
    assert (found.alive, found.known, found.rebooted, found.seen) == (False, True, False, 100.0)


def test_of_one_elsewhere_it_is_said_that_nothing_is_known(state_dir):
    put(state_dir, entry(replace(lock_file.here(), boot="another")))
    found = lock_file.holder_of(state_dir)
    assert (found.alive, found.known, found.rebooted) == (True, False, True)
    assert "cannot be seen from here" in found.at_it


def test_the_time_of_silence_is_a_minute():
    assert holding.SILENT == 60.0


def test_who_stopped_in_the_midst_of_judging_a_lock_is_not_waited_for_for_ever(world, state_dir):
    (state_dir / "lock").write_text("{}")
    with open(state_dir / "lock.guard", "ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(RunLocked, match="does not get on: it may be stopped"):
            RunLock(state_dir, world.edge())
    assert 30 <= world.now < 150
