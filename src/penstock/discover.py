"""How much memory we may use, who set that limit, and how many CPUs.

Covers the choice of the budget from ceilings and the user's word (:func:`choose`, pure), and reading
the ceilings of every known limit, once (:func:`discover`) and again during a run (:class:`Gauge`).
Does not decide what to do when memory gets short: that is the governor's.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from penstock import foreign, proc, registry
from penstock.budget import Budget, Ceiling, MiB, format_size, parse_size
from penstock.errors import NoBudget, UsageError
from penstock.warned import warn

if TYPE_CHECKING:
    from penstock.abc import Limit

VARIABLE = "PENSTOCK_BUDGET"
"""Environment variable that takes the place of ``"auto"``."""
WORKERS_VARIABLE = "PENSTOCK_WORKERS"
"""Environment variable that says how many workers there are at most, where nothing else does."""
_PERCENT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*")
_MEMORY_FILE_SYSTEMS = ("tmpfs", "ramfs", "hugetlbfs")


@dataclass(frozen=True, slots=True)
class Discovery:
    """What was found, and the budget that follows."""

    budget: Budget
    """The bytes that all our processes together may use."""
    ceilings: tuple[Ceiling, ...]
    """Every ceiling found, of the tree and of one process, in the order of the limits' names."""
    requested: str | int
    """What the user asked for: ``"auto"``, ``"12GiB"``, ``"80%"``, or bytes."""


def discover(
    requested: str | int = "auto",
    limits: Sequence[Limit] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
) -> Discovery:
    """Find the budget: the smallest that any ceiling leaves us, or the user's number if that is less.

    Args:
        requested: ``"auto"`` (then ``PENSTOCK_BUDGET`` counts, if set), a size, or a share of what is found.
        limits: where to look; every registered limit by default.
        environ: the environment to look at, this process's own by default.

    Raises:
        UsageError: the request cannot be read, or is a number too small to be meant as bytes.
        NoBudget: others hold all of it.
    """
    requested = foreign.as_int(requested)
    if not isinstance(requested, str):  # of anything else it is not even asked whether it is "auto"
        parse_size(requested)
    if isinstance(requested, int | float) and requested is not True and 0 < requested < MiB:
        raise UsageError(
            f"budget={requested} would be {requested} bytes: write a size, such as '{requested}GiB'; "
            f"for a number of workers, workers={requested}"
        )
    word = (os.environ if environ is None else environ).get(VARIABLE, "").strip()
    gauge = Gauge(limits)
    ceilings, ours = gauge.read(), tree_memory()
    gauge.tell()
    if requested != "auto" or not word:
        return Discovery(choose(ceilings, requested, ours), ceilings, requested)
    try:
        return Discovery(choose(ceilings, word, ours, who=VARIABLE), ceilings, word)
    except UsageError as error:
        raise UsageError(f"the environment variable {VARIABLE}: {error}") from None


def most_workers(stated: int | None, environ: Mapping[str, str] | None = None) -> int | None:
    """The most workers allowed: as stated, else ``PENSTOCK_WORKERS``; None: as many as fit.

    Raises:
        UsageError: not a number of at least 1.
    """
    if stated is None:
        text = (os.environ if environ is None else environ).get(WORKERS_VARIABLE, "").strip()
        if not text:
            return None
        found = foreign.whole(text)
        if found is None:
            raise UsageError(
                f"the environment variable {WORKERS_VARIABLE} is {foreign.shown(text, 60)}: a number of "
                "workers was expected"
            )
        stated = found
    stated = foreign.as_int(stated)
    if not isinstance(stated, int) or isinstance(stated, bool) or not 1 <= stated < 1 << 63:
        raise UsageError(f"workers must be a number of at least 1, not {foreign.shown(stated, 60)}")
    return stated


class Gauge:
    """Reads all ceilings repeatedly: some 100 us each time, once per turn of the governor.

    A limit may be a stranger's. One that raises, or answers what is no ceiling, ends nothing: it is named
    once, and left out. What it had said last still stands, as that was true: only what is used there is no
    longer known.

    Args:
        limits: where to look; every registered limit by default.
    """

    def __init__(self, limits: Sequence[Limit] | None = None) -> None:
        self._limits: list[tuple[str, Limit]] = []
        self._last: dict[str, tuple[Ceiling, ...]] = {}
        self._failed: set[str] = set()
        self._troubles: list[str] = []
        if limits is not None:
            self._limits = [(f"{type(each).__name__} {number}", each) for number, each in enumerate(limits)]
            return
        for name in registry.names("limit"):
            try:
                self._limits.append((name, registry.load("limit", name)()))
            except (Exception, SystemExit, GeneratorExit) as error:
                self._fail(name, error)

    def read(self) -> tuple[Ceiling, ...]:
        """All ceilings as they stand now."""
        found: list[Ceiling] = []
        for name, limit in self._limits:
            try:
                ceilings = tuple(limit.read())
                for each in ceilings:
                    _check(each)
                self._last[name] = ceilings
            except (Exception, SystemExit, GeneratorExit) as error:
                self._fail(name, error)
                ceilings = tuple(replace(each, used=0) for each in self._last.get(name, ()))
            found += ceilings
        return tuple(found)

    def _fail(self, name: str, error: BaseException) -> None:
        if name not in self._failed:
            self._failed.add(name)
            self._troubles.append(
                f"the memory limit {name!r} cannot be read and is left out: {type(error).__name__}"
            )

    def tell(self) -> None:
        """Warn of limits that have proved unreadable since the last call."""
        while self._troubles:
            warn(self._troubles.pop(0))


def _check(ceiling: object) -> None:
    if not isinstance(ceiling, Ceiling) or not isinstance(ceiling.bytes, int) or ceiling.bytes < 0:
        raise TypeError("that is no ceiling")


# --------------------------------------------------------------------------- arithmetic, pure


def room(ceiling: Ceiling, ours: int) -> int:
    """Bytes that our whole tree may hold under a ceiling, beside what others hold there now."""
    return ceiling.bytes - max(0, ceiling.used - ours)


def choose(
    ceilings: Iterable[Ceiling], requested: str | int = "auto", ours: int = 0, *, who: str = "as asked for"
) -> Budget:
    """The budget that follows from ceilings and a request.

    Args:
        ceilings: of the tree and of one process; the latter only fill ``per_process``.
        requested: ``"auto"``, a size, or a share such as ``"80%"`` of what the ceilings leave.
        ours: anonymous + shared bytes that our process tree holds now.
        who: the origin of a budget that is the request itself.

    Raises:
        UsageError: the request cannot be read, or is a share and there is no ceiling to take it of.
        NoBudget: others hold all of it.
    """
    ceilings = tuple(ceilings)
    per_process = min((ceiling.bytes for ceiling in ceilings if ceiling.scope == "process"), default=None)
    tree = [ceiling for ceiling in ceilings if ceiling.scope == "tree"]
    lowest = min(tree, key=lambda ceiling: room(ceiling, ours), default=None)
    if lowest is None:
        return _of_request(requested, per_process, who)
    left = room(lowest, ours)
    if left <= 0:
        others = format_size(lowest.used - ours)
        raise NoBudget(
            f"no memory is left: {lowest.origin} is {format_size(lowest.bytes)}, others hold {others} of it. "
            "End what else runs there, or ask for a larger limit."
        )
    share = _share(requested)
    if share is not None:
        return Budget(
            int(left * share), f"{requested} of {format_size(left)}, {lowest.origin}", False, per_process
        )
    if requested == "auto" or parse_size(requested) > left:
        origin = lowest.origin
        if requested != "auto":
            origin += f"; {_text(requested)} were asked for"
        return Budget(left, origin, lowest.kills_group, per_process)
    return Budget(parse_size(requested), who, False, per_process)


def _of_request(requested: str | int, per_process: int | None, who: str) -> Budget:
    if requested == "auto" or _share(requested) is not None:
        raise UsageError(
            f"no memory limit could be found here to take {requested!r} of; write a size, such as '4GiB'"
        )
    return Budget(parse_size(requested), who, False, per_process)


def _share(requested: str | int) -> float | None:
    match = _PERCENT.fullmatch(requested) if isinstance(requested, str) else None
    if match is None:
        return None
    share = float(match[1]) / 100
    if not 0 < share <= 1:
        raise UsageError(f"a share of the memory must be over 0% and at most 100%, not {requested}")
    return share


def _text(requested: str | int) -> str:
    return requested if isinstance(requested, str) else format_size(requested)


def free(ceilings: Iterable[Ceiling], budget: int, ours: int, then: int | None = None) -> int:
    """Bytes left now under the budget and all ceilings of the tree; negative when over.

    A ceiling that does not tell what is used counts as used by us alone.

    Args:
        ceilings: as they were read last.
        budget: for all our processes together.
        ours: what these hold now.
        then: what they held when the ceilings were read; the same by default.
    """
    left = budget - ours
    since = 0 if then is None else ours - then
    for ceiling in ceilings:
        if ceiling.scope == "tree":
            left = min(left, ceiling.bytes - (ceiling.used + since if ceiling.used else ours))
    return left


def kernel_kills(ceilings: Iterable[Ceiling]) -> int:
    """Processes that the kernel has killed for memory so far, from the narrowest counter.

    Compare with an earlier reading: killed workers of other groups of the machine count as well
    where only the machine's own counter is there.
    """
    groups = [c.kernel_kills for c in ceilings if c.scope == "tree" and c.kernel_kills is not None]
    return min(groups, default=0)


# --------------------------------------------------------------------------- this machine


def tree_memory(pid: int | None = None, root: Path = proc.SYSTEM) -> int:
    """Anonymous + shared bytes of a process (by default this one) and all its descendants.

    Pages shared after a fork count once for each process: an upper bound.
    """
    pid = os.getpid() if pid is None else pid
    return sum(proc.held(each, root) for each in (pid, *proc.descendants(pid, root)))


def cpus(root: Path = proc.SYSTEM) -> int:
    """CPUs that this process may use: its affinity and the quotas of its groups, rounded up."""
    if hasattr(os, "sched_getaffinity"):
        count = float(len(os.sched_getaffinity(0)))
    else:
        count = float(os.cpu_count() or 1)
    for hierarchy in proc.hierarchies("cpu", root):
        for folder in hierarchy.folders:
            count = min(count, _quota(folder, hierarchy.version))
    return max(1, math.ceil(count))


def _quota(folder: Path, version: int) -> float:
    """CPUs that a group may use on average; infinite without a quota."""
    if version == 2:
        words = proc.text(folder / "cpu.max").split()
    else:
        words = [proc.text(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    if len(words) != 2 or not all(word.isdigit() for word in words):  # "max", or -1
        return math.inf
    quota, period = map(int, words)
    return quota / period if period else math.inf


def in_memory(path: str | os.PathLike[str], root: Path = proc.SYSTEM) -> str | None:
    """A warning when a folder's files are kept in memory, where they count against the budget; else None."""
    where = os.path.realpath(path)
    holder = None
    for mount in proc.mounts(root):
        if os.path.commonpath((where, mount.point)) == mount.point and (
            holder is None or len(mount.point) >= len(holder.point)
        ):
            holder = mount
    if holder is None or holder.type not in _MEMORY_FILE_SYSTEMS:
        return None
    return (
        f"{where} lies on {holder.type} ({holder.point}), which is memory: what is written there counts "
        "against the budget. Choose a folder on a disk."
    )
