"""Which process a number means."""

import os
import subprocess
from pathlib import Path

import pytest

from penstock import identity


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


def test_boot_and_namespace_are_told():
    assert len(identity.boot()) == 36
    assert identity.namespace().startswith("pid:[")
