"""Detects a process that was forked from ours and must not act as if it were us.

A function may call ``os.fork()``, and its child comes back from the function as well: into our loop, with
our channel, our note and our drafts. Here is how it is told, at hardly any cost, and how it ends: as Python
would end a program whose last line this was, and without a word to anybody.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import NoReturn

count = 0
"""Forks between the process that imported this and this one: differs in a child from what it was before."""


def _count() -> None:
    global count
    count += 1


os.register_at_fork(after_in_child=_count)


class Here:
    """This process, so that a fork of it can be recognised later."""

    __slots__ = ("count", "pid")

    def __init__(self) -> None:
        self.count = count
        self.pid = os.getpid()

    def left(self) -> bool:
        """Whether we are in a child by now, including one forked without Python's knowledge."""
        return count != self.count or os.getpid() != self.pid

    def refusal(self, what: str) -> str | None:
        """Why a child may not use what is its parent's, in a sentence; None if we are no child.

        Args:
            what: that is the parent's, as one names it.
        """
        if not self.left():
            return None
        return (
            f"{what} belongs to process {self.pid}, and this one, {os.getpid()}, was forked from it: no "
            "worker would answer here. Make one of its own in this process, or go on with it in the other"
        )

    def stay(self, error: BaseException | None = None) -> None:
        """End this process if it is a child.

        Args:
            error: what it comes back with, if it raised.
        """
        if self.left():
            end(error)


def end(error: BaseException | None = None) -> NoReturn:
    """Exit a child with a program's usual exit code, running none of our clean-up."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(_code(error))


def _code(error: BaseException | None) -> int:
    # By its type and slot: an exception's own class may raise when it is asked.
    if error is None or not issubclass(type(error), SystemExit):
        return 0 if error is None else 1
    code = SystemExit.__dict__["code"].__get__(error)
    if code is None:
        return 0
    return code & 0xFF if type(code) is int else 1
