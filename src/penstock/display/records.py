"""Events as log records of the standard logger ``penstock``, at conventional levels."""

from __future__ import annotations

import logging

from penstock import event_lines, foreign
from penstock import events as ev
from penstock.budget import format_size
from penstock.plurals import plural

logger = logging.getLogger("penstock")
logger.addHandler(logging.NullHandler())  # nothing on stderr where nobody has set up logging


def log_event(event: ev.Event) -> None:
    """Log an event; it is also the record's ``event`` attribute."""
    level = level_of(event)
    if logger.isEnabledFor(level):
        logger.log(level, "%s", foreign.line(message_of(event)), extra={"event": event})


def level_of(event: ev.Event) -> int:
    """The level: failures are warnings, a failed stage an error, each batch debug."""
    match event:
        case ev.StageEnded():
            return logging.INFO if event.outcome == "done" else logging.ERROR
        case ev.BatchFailed() | ev.ItemSetAside() | ev.RunDied() | ev.TakenBack() | ev.KernelKill():
            return logging.WARNING
        case ev.CallsWait() | ev.BudgetChanged():
            return logging.WARNING
        case ev.WorkerEnded() if event.why not in ("done", "interrupted", "evicted", "recycled"):
            return logging.WARNING
        case ev.StageStarted() | ev.Planned() | ev.Looking() | ev.Recalled():
            return logging.INFO
    return logging.DEBUG


def message_of(event: ev.Event) -> str:
    """The event in words."""
    stage = f"{event.stage}: " if event.stage else ""
    match event:
        case ev.StageStarted():
            before = f", {event.done:,} done before" if event.done else ""
            budget = f"{format_size(event.budget)} ({event.origin})"
            return f"{stage}{plural(event.items, 'item')}{before}; budget {budget}"
        case ev.Planned():
            return f"{stage}plan: {plural(event.workers, 'worker')}, projected {format_size(event.projected)}"
        case ev.BatchFailed():
            return f"{stage}items {event.start} to {event.stop - 1}: {event.cause} {event.message}".rstrip()
        case ev.ItemSetAside():
            return f"{stage}set aside {event.name}: {event.message}"
        case ev.BudgetChanged():
            return f"{stage}the budget is now {format_size(event.budget)} ({event.origin})"
        case ev.WorkerEnded():
            return f"{stage}worker {event.worker} ended: {event.why}"
        case ev.StageEnded():
            aside = f", {event.set_aside:,} set aside" if event.set_aside else ""
            why = f": {event.message}" if event.message else ""
            return f"{stage}{event.outcome}, {event.done:,} done{aside}, peak {format_size(event.peak)}{why}"
        case ev.RunDied() | ev.Looking() | ev.Recalled() | ev.TakenBack() | ev.KernelKill():
            return f"{stage}{event.message}"
    return f"{stage}{event_lines.to_line(event)}"
