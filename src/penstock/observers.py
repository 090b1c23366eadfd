"""Observers are told every event; none of them can end what it observes."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from penstock import foreign
from penstock.abc import Event, Observer
from penstock.errors import PenstockError, UsageError
from penstock.warned import warn


class Observers:
    """Passes every event to each observer, in order.

    One that raises is named in a warning, once, and is told the next event all the same: it may have
    stumbled over one kind. Our own errors (the run is another's now) pass, and in the main thread Ctrl-C and
    ``SystemExit`` do: elsewhere they would end an engine, and no program.

    Args:
        observers: called with every event.

    Raises:
        UsageError: one cannot be called.
    """

    def __init__(self, observers: Iterable[Observer] = ()) -> None:
        listed = foreign.listed(observers)
        if callable(observers) or listed is None:
            raise UsageError(f"observers is a {foreign.kind_of(observers)}: a list of functions was expected")
        self._observers = listed
        for each in self._observers:
            if not callable(each):
                raise UsageError(f"observers has a {foreign.kind_of(each)} in it, which cannot be called")
        self._failed: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self._observers)

    def __call__(self, event: Event) -> None:
        for number, observer in enumerate(self._observers):
            try:
                observer(event)
            except PenstockError:
                raise
            except BaseException as error:
                in_main = threading.current_thread() is threading.main_thread()
                if in_main and not foreign.is_a(error, Exception):
                    raise
                self._warn(number, observer, event, error)

    def _warn(self, number: int, observer: Observer, event: Event, error: BaseException) -> None:
        if number in self._failed:
            return
        self._failed.add(number)
        # One of our own says what people know it as.
        name = getattr(observer, "known_as", None) or f"the observer {foreign.name_of(observer)}"
        warn(
            f"{name} raised {foreign.reason_of(error)}, told of {type(event).__name__}; "
            "the run goes on, and this is said once",
            stacklevel=3,
        )
