"""Which process a number means."""

import errno
import os
import signal
import subprocess
from pathlib import Path

import pytest

from penstock import identity
from penstock.groups import run


def test_a_process_is_told_by_when_it_began_until_it_ends():
    child = subprocess.Popen(["sleep", "600"])
    try:
        first = identity.started(child.pid)
        assert first.isdigit()
        assert identity.started(child.pid) == first != identity.started(1)
        assert identity.started("self") == identity.started(os.getpid())
    finally:
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert identity.started(child.pid) == ""  # only waits to be reaped
    child.wait()
    assert identity.started(child.pid) == ""


@pytest.mark.parametrize("error", [PermissionError(1, "not ours"), None])
def test_a_process_that_proc_hides_is_not_taken_for_gone(monkeypatch, error):
    """As under ``hidepid``: no file of it is there, and a signal finds it."""
    hidden = (1 << 22) + 1  # above every number that Linux gives
    monkeypatch.setattr(os, "kill", lambda pid, number: (_ for _ in ()).throw(error) if error else None)
    assert not Path(f"/proc/{hidden}").exists()
    assert identity.started(hidden) == identity.UNSEEN


@pytest.mark.parametrize("number", [(1 << 22) + 1, 0, -1, 1 << 70])
def test_a_number_without_a_process_is_nobody(number):
    assert identity.started(number) == ""


def test_in_another_time_namespace_the_same_number_and_start_are_not_the_same_process(tmp_path):
    """There ``/proc`` tells of each process that it began at another time, so that it seems gone."""
    names = tmp_path / "proc/self/ns"
    names.mkdir(parents=True)
    (names / "pid").symlink_to("pid:[7]")
    assert identity.namespace(tmp_path) == "pid:[7]"  # a kernel that has no such namespaces
    (names / "time").touch()
    other = (names / "time").stat().st_ino
    assert identity.time_namespace(tmp_path) == other > 0
    assert identity.namespace(tmp_path) == f"pid:[7] time:[{other}]"


def test_where_proc_is_that_of_other_namespaces_nobody_is_taken_for_dead_by_it(monkeypatch):
    """As after ``unshare --pid`` alone: our number there is another process's, which may outlive us."""
    assert identity.namespace()
    assert run.namespace()
    monkeypatch.setattr(os, "getpid", lambda: 3)
    assert identity.namespace() == ""
    assert run.namespace() == 0


# --------------------------------------------------------------------------- signals


@pytest.fixture
def sleeper():
    child = subprocess.Popen(["sleep", "600"])
    yield child
    child.kill()
    child.wait()


def test_a_process_is_signalled_where_it_is_still_ours(sleeper):
    since = identity.began(sleeper.pid)
    assert identity.send(sleeper.pid, signal.SIGKILL, lambda pid: identity.began(pid) == since)
    assert sleeper.wait(60) == -signal.SIGKILL


def test_a_process_that_has_got_the_number_since_is_left_alone(sleeper):
    assert not identity.send(sleeper.pid, signal.SIGKILL, lambda pid: identity.began(pid) == "1")
    assert sleeper.poll() is None


def test_it_is_looked_at_while_its_number_is_held(sleeper):
    """What ends meanwhile is not reaped before: nobody can get its number."""

    def dies(pid):
        sleeper.kill()
        sleeper.wait()
        return True

    assert not identity.send(sleeper.pid, signal.SIGTERM, dies)
    assert not identity.send(sleeper.pid, signal.SIGTERM, lambda pid: True)  # gone


def test_one_can_be_ended_although_no_descriptor_is_left(sleeper, monkeypatch):
    def refuse(pid):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "pidfd_open", refuse)
    assert not identity.send(sleeper.pid, signal.SIGKILL, lambda pid: False)
    assert sleeper.poll() is None
    assert identity.send(sleeper.pid, signal.SIGKILL, lambda pid: True)
    assert sleeper.wait(60) == -signal.SIGKILL


def test_only_the_child_that_was_meant_is_reaped(sleeper):
    since = identity.began(sleeper.pid)
    identity.reap(sleeper.pid, since)  # lives
    sleeper.send_signal(signal.SIGTERM)
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert identity.began(sleeper.pid) == since  # also while it waits
    identity.reap(sleeper.pid, "1")  # another process of that number: its parent wants to hear of its end
    identity.reap(sleeper.pid, "")
    assert os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT).si_status == signal.SIGTERM
    identity.reap(sleeper.pid, since)
    with pytest.raises(ChildProcessError):
        os.waitpid(sleeper.pid, os.WNOHANG)


def test_boot_and_namespace_are_told():
    assert len(identity.boot()) == 36
    assert identity.namespace().startswith("pid:[")
