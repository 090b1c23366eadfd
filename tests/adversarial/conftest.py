"""Every test here leaves no process and no control group behind, whatever it did to them."""

import os
import uuid
from contextlib import suppress

import pytest
from waiting import MARK, left_behind, until

from penstock.groups import ways
from penstock.groups.files import GroupFiles
from penstock.groups.run import is_left, sweep


@pytest.fixture(autouse=True)
def no_process_left(monkeypatch):
    """Mark everything that a test starts; it must be gone soon after the test."""
    mark = uuid.uuid4().hex
    monkeypatch.setenv(MARK, mark)
    yield
    left = left_behind(mark)
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, 9)
    assert not left


@pytest.fixture(autouse=True)
def no_group_left():
    """Of this process none is there; of those that were killed none after the next start, which sweeps."""
    yield
    try:
        version, home = ways.home(GroupFiles())
    except OSError:  # none can be made here
        return
    ours = f"penstock-{os.getpid()}-"
    assert [each.name for each in GroupFiles().groups(home) if each.name.startswith(ours)] == []

    def swept():
        sweep(home, version)
        return not any(is_left(each) for each in GroupFiles().groups(home))

    until(swept)
