"""Everything Penstock raises, in one tree.

    PenstockError
    ├── UsageError           an option or argument that makes no sense; a ValueError too
    ├── CannotFit            the memory is not available
    │   ├── ItemTooLarge     one item alone needs more than one worker may use; a MemoryError too
    │   └── NoBudget         the budget is under the smallest possible
    ├── RunFailed            the run ended early; carries the report so far and how to resume
    │   ├── WorkerDied       a worker was killed or crashed on the same item again and again
    │   ├── FunctionRaised   your function raised; its exception is the __cause__
    │   ├── Stalled          no CPU and no I/O, or over ``timeout=``
    │   ├── CannotKeep       a result has a type or size that its sink does not accept
    │   ├── ResultsDamaged   a file of the results is gone, or its content has changed
    │   └── StorageFailed    the run folder cannot be written; quotes the system's error
    │       └── DiskFull     it is full
    ├── CannotResume         the run folder does not hold the beginning of this job
    │   ├── SourceChanged    an input of finished items has changed
    │   ├── JobChanged       the function or its options have changed
    │   ├── JournalDamaged   a line of the journal does not match its checksum, or two keep one item
    │   └── RunLocked        another process is running in this folder
    ├── RunTakenOver         another process has taken the folder over; this one wrote nothing more
    ├── BadInput             the file, the place in it, what was expected
    ├── PluginError          a source, sink or other plug-in that cannot be loaded, or violates its protocol
    │   ├── UnknownPlugin    lists the known names
    │   └── MissingExtra     names the extra to install
    └── PenstockBug          should never happen; asks for a report

Each class carries the exit code of the command line as ``exit_code``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock import foreign

if TYPE_CHECKING:
    from collections.abc import Iterable


class PenstockError(Exception):
    """Base of everything Penstock raises on purpose."""

    exit_code = 1

    def __str__(self) -> str:
        # File names, items and messages of others stand in it, and this goes to a terminal.
        return foreign.lines(super().__str__())


class UsageError(PenstockError, ValueError):
    """An option or argument that makes no sense: a budget without a unit, a negative count."""

    exit_code = 2


class CannotFit(PenstockError):
    """The memory is not available.

    Args:
        message: what, why, and what to do next.
        needed: the smallest budget, in bytes, that would do; None when not known.
    """

    exit_code = 3

    def __init__(self, message: str, *, needed: int | None = None) -> None:
        super().__init__(message)
        self.needed = needed
        self.report: Any = None
        """The report so far, where a run had begun."""


class ItemTooLarge(CannotFit, MemoryError):
    """One item alone needs more memory than one worker may use.

    Also a :class:`MemoryError`, which is what people catch.
    """


class NoBudget(CannotFit):
    """The budget is smaller than the smallest in which anything can run."""


class RunFailed(PenstockError):
    """The run ended before all items were done.

    Args:
        message: what, why, and what to do next.
        report: the report so far (``report.set_aside`` names the items).
    """

    def __init__(self, message: str, *, report: Any = None) -> None:
        super().__init__(message)
        self.report = report


class WorkerDied(RunFailed):
    """A worker was killed or crashed on the same item again and again."""


class FunctionRaised(RunFailed):
    """The function raised; its own exception is the ``__cause__``."""


class Stalled(RunFailed):
    """A worker did nothing for ``stall=``, or an item took longer than ``timeout=``."""


class ResultsDamaged(RunFailed):
    """A file of the results is gone, or its content has changed.

    Args:
        message: the file, what was expected, what was found, and what to do next.
        file: the file.
    """

    def __init__(self, message: str, *, file: object = None, report: Any = None) -> None:
        super().__init__(message, report=report)
        self.file = None if file is None else str(file)

    def __reduce__(self) -> tuple[Any, ...]:
        return _results_damaged, (str(self), self.file)


def _results_damaged(message: str, file: str | None) -> ResultsDamaged:
    return ResultsDamaged(message, file=file)


class CannotKeep(RunFailed):
    """A result has a type or a size that its sink does not accept."""


class StorageFailed(RunFailed):
    """The run folder or the temporary folder cannot be read or written; quotes the system's error."""


class DiskFull(StorageFailed):
    """The disk of the run folder, or of the temporary folder, is full."""


class CannotResume(PenstockError):
    """The run folder does not hold the beginning of this job."""


class SourceChanged(CannotResume):
    """An input of finished items has changed."""

    exit_code = 4


class JobChanged(CannotResume):
    """The function, its module, its inputs or its options have changed."""


class JournalDamaged(CannotResume):
    """A line of the journal does not match its checksum, or two lines keep the same item."""


class RunLocked(CannotResume):
    """Another process is running in this folder."""


class RunTakenOver(PenstockError):
    """Another process has taken over the run folder, while this one could not be told from a dead one."""


class BadInput(PenstockError):
    """Input that is not in the format it should be in.

    Args:
        message: what was expected and what was found.
        file: the file, if there is one.
        place: where in it: a line, an offset, a column.
        quotes_nothing: whether nothing of the input itself is in any of these, so that a private job may say
            them too.
    """

    exit_code = 4

    def __init__(
        self, message: str, *, file: object = None, place: str | None = None, quotes_nothing: bool = False
    ) -> None:
        where = ", ".join(foreign.line(str(part)) for part in (file, place) if part is not None)
        super().__init__(f"{where}: {message}" if where else message)
        self.message = message
        self.file = None if file is None else str(file)
        self.place = place
        self.quotes_nothing = quotes_nothing

    def __reduce__(self) -> tuple[Any, ...]:
        return _bad_input, (self.message, self.file, self.place, self.quotes_nothing)


def _bad_input(message: str, file: str | None, place: str | None, quotes_nothing: bool = False) -> BadInput:
    return BadInput(message, file=file, place=place, quotes_nothing=quotes_nothing)


class PluginError(PenstockError):
    """A plug-in, or an object of yours in its place, that cannot be loaded or violates its protocol."""

    exit_code = 2


class UnknownPlugin(PluginError):
    """No plug-in has that name; the message lists the known ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self._told = kind, name, sorted(known)
        from difflib import get_close_matches

        close = get_close_matches(name, self._told[2], n=1)
        hint = f"did you mean {close[0]!r}? Known" if close else "known"
        super().__init__(f"no {kind} is called {name!r}; {hint}: {', '.join(self._told[2]) or 'none'}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._told


class MissingExtra(PluginError):
    """A package that an optional part needs is not installed."""

    def __init__(self, what: str, package: str, extra: str) -> None:
        self._told = what, package, extra
        super().__init__(f"{what} needs the package {package!r}: pip install 'penstock[{extra}]'")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._told


class PenstockBug(PenstockError):
    """Should never happen. If you see this, please report it with the run's events.jsonl."""


class SetAside(Exception):
    """The placeholder of an item that could not be done, with the reason.

    Attributes:
        item: the item's index in its source.
        name: the item's name, as the source tells it.
        reason: ``"memory"``, ``"raised"``, ``"died"``, ``"stalled"`` or ``"kept"`` (its
            result cannot be kept).
        message: one sentence with the numbers.
        error: type name of the function's exception, when it raised.
        traceback: its traceback as text; empty for a private job.
        needed: bytes that it was seen to need, for ``reason="memory"``.
    """

    def __init__(
        self,
        item: int,
        name: str,
        reason: str,
        message: str,
        error: str = "",
        traceback: str = "",
        needed: int = 0,
    ) -> None:
        super().__init__(item, name, reason, message, error, traceback, needed)
        self.item = item
        self.name = name
        self.reason = reason
        self.message = message
        self.error = error
        self.traceback = traceback
        self.needed = needed

    def __str__(self) -> str:
        return f"item {foreign.line(self.name)}: {foreign.lines(self.message)}"

    def __repr__(self) -> str:
        # Without the traceback: lists of results are printed with these inside.
        return f"SetAside({self.item}, {self.name!r}, {self.reason!r}, {self.message!r})"
