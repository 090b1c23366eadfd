"""The global random generators as an initializer seeded them, for all calls of its worker.

A run reseeds them from (seed, item), so that its results depend on nothing else. A pool promises other
things: what its initializer does holds for the calls after it, a seed too.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_State = tuple[Any, Any]


class RandomState:
    """Whether an initializer seeded a generator, and the position of its stream."""

    def __init__(self) -> None:
        self._kept: _State | None = None

    @contextmanager
    def initializing(self) -> Iterator[None]:
        """Context in which the initializer runs."""
        before = _now()
        yield
        after = _now()
        if not _same(before, after):
            self._kept = after

    @contextmanager
    def calling(self) -> Iterator[None]:
        """Context in which a call draws from the stream, if there is one; draws stay inside."""
        if self._kept is None:
            yield
            return
        outside = _now()
        _set(self._kept)
        try:
            yield
        finally:
            self._kept = _now()
            _set(outside)


def _now() -> _State:
    numpy_random = sys.modules.get("numpy.random")
    return random.getstate(), None if numpy_random is None else numpy_random.get_state()


def _set(state: _State) -> None:
    random.setstate(state[0])
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None and state[1] is not None:
        numpy_random.set_state(state[1])


def _same(before: _State, after: _State) -> bool:
    """A generator that was loaded meanwhile counts as seeded: whether it was cannot be seen."""
    if before[0] != after[0] or (before[1] is None) != (after[1] is None):
        return False
    return before[1] is None or all(
        bool((old == new).all()) if hasattr(old, "all") else old == new
        for old, new in zip(before[1], after[1], strict=True)
    )
