"""A process is acted on only while it is known to be ours: another may have got its number."""

import os
import signal
import subprocess
import sys

import pytest
from borrowing import borrower
from waiting import until

from penstock import identity
from penstock.backends import census, marks, processes
from penstock.backends.processes import WorkerTree, end_sessions
from penstock.budget import MiB
from penstock.peaks import HugePages
from penstock.proc import same_memory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has these")


@pytest.fixture
def start():
    """Start processes that sleep, and end them."""
    started = []

    def begin(**more):
        started.append(subprocess.Popen(["sleep", "600"], **more))
        return started[-1]

    yield begin
    for child in started:
        child.kill()
        child.wait()


def marked(run):
    return {**os.environ, marks.VARIABLE: marks.of_server(run)}


def test_a_process_that_bears_our_mark_is_signalled(start):
    run = marks.new_run()
    child = start(env=marked(run))
    seen = marks.Marked(run)
    until(lambda: child.pid in seen.look(now=True))
    assert seen.signal(child.pid, signal.SIGKILL)
    assert child.wait(60) == -signal.SIGKILL


def test_one_that_has_got_its_number_since_is_not(start, monkeypatch):
    run = marks.new_run()
    child = start(env=marked(run))
    seen = marks.Marked(run)
    until(lambda: child.pid in seen.look(now=True))
    monkeypatch.setattr(marks, "began", lambda pid: "1")  # as of another
    assert not seen.signal(child.pid, signal.SIGKILL)
    assert child.poll() is None
    assert child.pid not in seen.look(now=True)  # nor is it counted
    assert not seen.signal(os.getpid(), signal.SIGKILL)  # never seen


def test_the_end_of_a_child_of_the_users_is_left_to_them(start):
    """It has the number of one that bore a mark; the script still waits for it."""
    child = start()
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert marks.end([child.pid], marks.new_run()) == 0
    census._send(child.pid, signal.SIGKILL, "1")
    identity.reap(child.pid, "1")
    assert child.wait(60) == -signal.SIGKILL  # 0 had it been taken


def test_nobody_is_signalled_for_a_worker_that_is_gone(start, monkeypatch):
    """Its number may be another's, whose children are none of ours."""
    worker, stranger = start(), start()
    tree = WorkerTree(worker.pid, HugePages())
    worker.kill()
    worker.wait()
    monkeypatch.setattr(processes, "descendants", lambda pid: [stranger.pid])
    tree.send(signal.SIGKILL)
    tree.close()
    assert stranger.poll() is None


def test_nobody_is_signalled_who_left_the_family_meanwhile(start, monkeypatch):
    worker, stranger = start(), start()
    tree = WorkerTree(worker.pid, HugePages())
    monkeypatch.setattr(processes, "descendants", lambda pid: [stranger.pid])  # as it was a moment ago
    tree.send(signal.SIGKILL)
    tree.close()
    assert worker.wait(60) == -signal.SIGKILL
    assert stranger.poll() is None


def test_a_session_is_ended_whose_leader_was_ours():
    script = (
        "import subprocess, sys; print(subprocess.Popen(['sleep', '600']).pid, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-S", "-c", script]
    with subprocess.Popen(
        command, start_new_session=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as leader:
        child = int(leader.stdout.readline())
        since, of_child = identity.began(leader.pid), identity.began(child)
        end_sessions({leader.pid: "1"})  # another has that number, and a session of its own
        assert identity.started(child) == of_child
        leader.kill()
    end_sessions({leader.pid: since})
    until(lambda: identity.started(child) == "")


def test_a_child_in_a_workers_memory_counts_once(tmp_path):
    """Where processes are added up; also when pages that forked ones have in common are looked at."""
    with borrower(tmp_path, 60) as (worker, child, pipe):
        tree = WorkerTree(worker, HugePages())
        try:
            for _ in range(3):
                assert 60 * MiB < tree.read().memory < 80 * MiB
                tree._forked.add_up()
            assert tree.children == [child]
            with open(pipe, "w"):
                until(lambda: not same_memory(child, worker))
                assert 60 * MiB < tree.read().memory < 100 * MiB
        finally:
            tree.close()
