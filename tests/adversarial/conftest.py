"""Every test here leaves no process behind, whatever it did to them."""

import os
import time
import uuid
from pathlib import Path

import pytest

MARK = "PENSTOCK_TEST_MARK"


def marked(mark):
    """Processes that were started, at whatever remove, with this mark in their environment."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (place / "environ").read_bytes():
                found[int(place.name)] = (place / "cmdline").read_bytes().replace(b"\0", b" ")[:300]
        except OSError:
            continue
    return found


@pytest.fixture(autouse=True)
def no_process_left(monkeypatch):
    """Mark everything that a test starts; it must be gone soon after the test."""
    mark = uuid.uuid4().hex
    monkeypatch.setenv(MARK, mark)
    yield
    deadline = time.monotonic() + 3
    while (left := marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in left:
        os.kill(pid, 9)
    assert not left
