"""Every test here leaves no process behind, whatever it did to them."""

import os
import uuid
from contextlib import suppress

import pytest
from waiting import MARK, left_behind


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
