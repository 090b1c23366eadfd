"""Waiting for what comes about, in tests that are right at any load of the machine.

A test waits for a condition, never for a time; the limits here only turn a hang into a failure, and are
far beyond what the busiest machine needs.
"""

import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

LIMIT = 300.0
"""Seconds after which what has not come about never will."""
MARK = "PENSTOCK_TEST_MARK"
"""In the environment of what a test starts, so that whatever it leaves behind can be found."""


def until(there, seconds=LIMIT, program=None):
    """Wait for something and give it; fail when it does not come, or when the program has ended before."""
    deadline = time.monotonic() + seconds
    while not (value := there()):
        assert time.monotonic() < deadline, f"it did not come about within {seconds:g} s"
        assert program is None or program.poll() is None, program.communicate()
        time.sleep(0.005)
    return value


def read_bytes(path):
    """What a file holds; nothing, while it is not there."""
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


def bytes_in(folder):
    """Bytes of the files right in a folder; those that go meanwhile count nothing."""
    total = 0
    for entry in os.scandir(folder):
        with suppress(FileNotFoundError):
            if entry.is_file(follow_symlinks=False):
                total += entry.stat(follow_symlinks=False).st_size
    return total


def said(errors):
    """What a program wrote to standard error, but that it waited for what others left on this machine."""
    lines = errors.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("penstock: waiting, "))


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


def left_behind(mark, seconds=60.0):
    """The processes with this mark that do not end by themselves."""
    deadline = time.monotonic() + seconds
    while (left := marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)  # a look at every process of the machine takes milliseconds
    return left


class Lateness:
    """How late this machine was to wake somebody who slept, at most, inside ``with``.

    What is bounded in time is late with everybody else on a busy machine: a test allows it ``slack``
    besides, which is next to nothing on an idle one.
    """

    def __enter__(self):
        self._worst, self._over = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._sleep, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    def _sleep(self):
        over = False
        while not over:
            began = time.monotonic()
            over = self._over.wait(0.02)
            self._worst = max(self._worst, time.monotonic() - began - 0.02)

    @property
    def slack(self):
        """Seconds: who works a little between two rests is woken late several times."""
        return 20 * self._worst


def heed_interrupts():
    """Undo what a shell without job control does to commands that end in ``&``: Ctrl-C and Ctrl-\\ ignored.

    What a test starts would inherit it, and tests send these signals.
    """
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGQUIT, signal.SIG_DFL)):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, usual)
