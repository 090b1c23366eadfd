"""Why nodes are gone, and the error of a run that ends for want of one."""

from __future__ import annotations

from penstock import errors
from penstock.abc import Broken, NodeLost, Refused
from penstock.errors import CannotFit, PenstockError, RunFailed, WorkerDied

_SHOWN = 12
"""Reasons that an error quotes, at most."""
_BROKEN = 3
"""So many nodes that cannot continue: the job is to blame."""

_OF_A_HOST = (RunFailed, WorkerDied)
"""Errors that may be a host's: another may have another reason, or none."""

Gone = Broken | Refused | NodeLost


class GoneNodes:
    """The nodes of a stage that are gone, with their reasons.

    Args:
        durable: whether what was done is kept.
    """

    def __init__(self, *, durable: bool) -> None:
        self._durable = durable
        self._tokens: set[str] = set()
        self._reasons: list[tuple[str, Gone]] = []
        self.broken = 0
        """How many of them could not continue."""

    def __contains__(self, token: str) -> bool:
        return token in self._tokens

    def add(self, token: str, name: str, told: Gone) -> None:
        """Add a node, with its display name, which is empty for one that was never ready."""
        self._tokens.add(token)
        self._reasons.append((name, told))
        self.broken += isinstance(told, Broken)

    @property
    def too_many_broken(self) -> bool:
        """Whether so many nodes could not continue that the job is to blame."""
        return self.broken >= _BROKEN

    def error(self, what: str) -> PenstockError:
        """Why the run ends: an error of the class that the first broken node named, if one did."""
        broken = [(name, told) for name, told in self._reasons if isinstance(told, Broken)]
        kind = _ours(broken[0][1].kind) if broken else None
        if kind is not None and kind not in _OF_A_HOST:
            # The job is to blame, or its budget: other nodes say the same in other numbers.
            return _made(kind, broken[0][1].message, broken[0][1])
        said = [(name, why(told).removesuffix(".")) for name, told in broken or self._reasons]
        every = [f"{name}: {reason}" if name else reason for name, reason in said]
        reasons = list(dict.fromkeys(reversed(every)))[:_SHOWN][::-1]
        if (more := len(set(every)) - len(reasons)) > 0:
            reasons.append(f"and {more} more")
        message = f"{what}. " + "; ".join(reasons) if reasons else what
        if self._durable:
            message = f"{message}. What was done is kept: the same command again goes on."
        return _made(kind or RunFailed, message, broken[0][1] if broken else None)


def _made(kind: type[PenstockError], message: str, told: Broken | None) -> PenstockError:
    if issubclass(kind, CannotFit) and told is not None:
        return kind(message, needed=told.needed)
    return kind(message)


def why(told: Gone) -> str:
    """The reason as the node, or whoever lost it, gave it."""
    return told.why if isinstance(told, NodeLost) else told.message


def quoting_nothing(told: Broken) -> Broken:
    """For a private job: a message in others' words may quote the input."""
    if _ours(told.kind):
        return told
    return Broken(told.kind, f"a {told.kind}, whose message is not told of a private job")


def _ours(kind: str) -> type[PenstockError] | None:
    """The class of errors that say in our own words why a run ended; None for any other name."""
    found = getattr(errors, kind, None)
    return found if isinstance(found, type) and issubclass(found, RunFailed | CannotFit) else None
