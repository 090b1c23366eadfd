"""A group's memory now, even while the kernel's own numbers for it are stale.

The kernel gathers ``memory.stat`` when enough has changed since the last time, and counts the changes
of a group that nobody reads only up to there: what happens in a group then no longer counts as a change
of those around it. So the numbers of a group with groups below it are seconds old again and again, by
tens of MiB; those of a group without are not, nor are the page counters, of which there is one for
everything that is charged. They tell when the numbers are old; then those of the groups below count,
and what was in none of them when the numbers were last borne out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from penstock.groups.files import GroupFiles
from penstock.groups.memory import (
    LAG,
    NOTHING,
    GroupMemory,
    add_up,
    in_none,
    local_of_v1,
    of_v1,
    of_v2,
    together,
)
from penstock.groups.pipes import PipeBuffers
from penstock.proc import KernelFile

_LEARN_EVERY = 0.25
"""Seconds between looks at what is in none of the groups below."""
_MOST = 64
"""So many groups directly below one are looked at; with more its own numbers are taken as they are."""


_Readings = list[tuple["GroupReader", GroupMemory | None]]
"""Groups below one, each with its reading if that is of this turn."""


class GroupReader:
    """Reads one group repeatedly.

    Args:
        folder: of the group.
        version: of the control groups.
        below: the groups directly below it, where it is known that there are no others, kept up to date by
            who makes them; else they are looked for when they are needed.
        clock: seconds, monotonic.
        pipes: whether what pipes hold is to be told from what else the kernel holds for it, where that takes
            a look at its processes.
    """

    def __init__(
        self,
        folder: Path,
        version: Literal[1, 2],
        files: GroupFiles | None = None,
        below: Sequence[GroupReader] | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        pipes: bool = False,
    ) -> None:
        self.folder = folder
        self.version = version
        self._files = files or GroupFiles()
        self._stat = KernelFile(folder / "memory.stat")
        self._kernel = KernelFile(folder / "memory.kmem.usage_in_bytes") if version == 1 else None
        self._charged = KernelFile(folder / ("memory.usage_in_bytes" if version == 1 else "memory.current"))
        self._pipes = PipeBuffers(folder, self._files, clock=clock) if pipes else None
        self._below = below
        self._found: dict[str, GroupReader] = {}
        self._clock = clock
        # Nothing is in no group where all of them are known from the start.
        self._rest: GroupMemory | None = None if below is None else NOTHING
        self._learnt = clock()
        self._right: GroupMemory | None = None
        self._text = b""
        self.missing = 0
        """What of its last reading its page counter did not explain."""
        self._fresh: GroupMemory | None = None

    def held(self) -> GroupMemory | None:
        """Bytes that it holds now; None when it is gone."""
        own = self._look()
        if own is None:
            return None
        # What is charged ahead to a group below is so to this one too.
        known = [] if self._below is None else [(each, each._take()) for each in tuple(self._below)]
        excused = sum([each.missing for each, _ in known])
        if abs(own.missing - excused) > LAG:
            return self._added_up(own, known)
        self._right = own
        if self._rest is not None and (known or self._found) and self._is_time():
            self._learn(own, known)
        return own

    def read_for_sum(self) -> GroupMemory | None:
        """The same, cached for the sum over the groups around it."""
        self._fresh = self.held()
        return self._fresh

    def _take(self) -> GroupMemory | None:
        fresh, self._fresh = self._fresh, None
        return fresh

    def _look(self) -> GroupMemory | None:
        """What its own files tell."""
        self._text = self._stat.read()
        if not self._text:
            return None
        if self._kernel is None:
            told = of_v2(self._text, _number(self._charged.read()))
        else:
            told = of_v1(self._text, _number(self._kernel.read()) or 0, _number(self._charged.read()))
            if told.pipes and self._pipes is not None:
                told = told._replace(pipes=self._pipes.most(told.kernel))
        self.missing = told.missing
        return told

    def _parts(self, known: _Readings) -> GroupMemory | None:
        """What the groups below hold, and what processes in this one do; None where none is below."""
        if self._below is None and not (known := self._listed()):
            return None
        read = [fresh or each.held() for each, fresh in known]
        if self.version == 1:  # of v2, where processes are in none that has groups below
            read.append(local_of_v1(self._text))
        return together([reading for reading in read if reading is not None])

    def _listed(self) -> _Readings:
        folders = self._files.groups(self.folder)
        if len(folders) > _MOST:
            return []
        found = self._found
        self._found = {
            folder.name: found.get(folder.name)
            or GroupReader(folder, self.version, self._files, clock=self._clock)
            for folder in folders
        }
        return [(each, None) for each in self._found.values()]

    def _added_up(self, own: GroupMemory, known: _Readings) -> GroupMemory:
        parts = self._parts(known)
        if parts is None:  # the numbers are of two moments, or something is charged that is not told
            return own
        if self._rest is None:  # on v2 what processes were charged with before they left for one below
            self._rest, self._learnt = self._right or in_none(own, parts), -math.inf
        return add_up(own, parts, self._rest, knows_kernel=self.version == 1)

    # ------------------------------------------------------------------ what is in none of them

    def left(self, reading: GroupMemory | None) -> None:
        """A group below is gone, with what it held last; its shared memory may still exist."""
        if reading is not None and self._rest is not None:
            rest = self._rest
            self._rest = rest._replace(
                memory=rest.memory + reading.shared, shared=rest.shared + reading.shared
            )
            self._learnt = -math.inf

    def _is_time(self) -> bool:
        return self._clock() - self._learnt >= _LEARN_EVERY

    def _learn(self, own: GroupMemory, known: _Readings) -> None:
        parts = self._parts(known)
        if parts is not None:
            self._rest, self._learnt = in_none(own, parts), self._clock()


def _number(text: bytes) -> int | None:
    text = text.strip()
    return int(text) if text.isdigit() else None
