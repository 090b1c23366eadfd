"""The tables of the run page, and the HTML fragments of which it is made.

Every text that was not written here is escaped, and bounded.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence

from penstock.budget import format_size
from penstock.durations import format_seconds
from penstock.errors import SetAside
from penstock.foreign import in_html, line
from penstock.report.live import LiveState, LiveWorker
from penstock.report.report import Report
from penstock.report.timeline import Timeline

_ROWS = 200
"""The most rows of a table."""
_LONGEST = 600
"""The most letters of a message that came from outside."""
_WORKERS = 64
"""The most workers that are named."""
_TRACE, _TRACES = 3_000, 60_000
"""The most letters of a traceback, and of all of them."""

_CAUSES = {
    "memory": "the call ran out of memory, or into its own fence, and was made smaller",
    "governor": "stopped by the governor before the kernel would have",
    "kernel": "stopped by the kernel's out-of-memory killer",
    "killed": "killed from outside",
    "crashed": "the worker crashed (a signal, or an exit)",
    "stalled": "no CPU and no input or output for too long",
    "timeout": "took longer than its timeout",
    "raised": "the function raised",
    "kept": "the result could not be kept",
    "unfit": "the worker could not go on: the function took from it what our part needs",
    "load": "an item could not be unpickled in a worker; halves find it",
    "interrupted": "the run was asked to stop",
}


def going(state: LiveState, now: float) -> str:
    """The present state of a run in progress.

    Args:
        state: what its events told so far.
        now: of the run's clock.
    """
    if state.doing or not state.began:
        return section("Now", f"<p>{in_html(short(state.doing or 'It begins.'))}</p>")
    share = 100 * min(1.0, max(0.0, state.done / state.items)) if state.items else 0.0
    name = f"{state.stage}: " if state.stage else ""
    lead = f'<p class="lead">{in_html(short(name + ", ".join(state.parts(now))))}</p>'
    bar = "" if state.command else f'<p class="going"><i style="width:{share:.1f}%"></i></p>'
    rows = [
        (
            f"{number}", format_size(worker.held) if worker.held else "",
            format_seconds(max(0.0, now - worker.since)), short(_at(state, number, worker)),
        )
        for number, worker in sorted(state.workers.items())[:_WORKERS]
    ]  # fmt: skip
    kind = "process" if state.command else "worker"
    workers = table((kind, ">memory", ">for", "at"), rows) if rows else ""
    failed = [(time.strftime("%H:%M:%S", time.localtime(at)), short(said)) for at, said in state.failures]
    failures = table(("at", "last failures"), failed) if failed else ""
    return section("Now", f"{lead}{bar}{workers}{failures}")


def _at(state: LiveState, number: int, worker: LiveWorker) -> str:
    what = state.names.get(number, "") if state.command else worker.items or "waits"
    return f"{what}, paused" if worker.paused else what


def origins(timeline: Timeline) -> str:
    changes = timeline.budget.changes
    rows = [
        (format_seconds(at) if at else "the start", format_size(value), short(origin))
        for at, value, origin in changes[-20:]
    ]
    parts = [table(("since", ">budget", "where it comes from"), rows)]
    if timeline.plans:
        plans = [
            (
                stage or "run", f"{plan.workers:,}", f"{plan.call:,}", f"{plan.batch:,}",
                format_size(plan.reserved), format_size(plan.footprint), format_size(plan.projected),
            )
            for stage, plan in timeline.plans.items()
        ]  # fmt: skip
        head = ("last plan", ">workers", ">call", ">batch", ">reserved", ">footprint", ">projected")
        parts.append(f'<div class="wide">{table(head, plans)}</div>')
        parts.append('<p class="soft">Calls and batches in items; the footprint is of one call.</p>')
    return section("Limits and plan", "".join(parts))


def stages(stages: Sequence[Report]) -> str:
    if len(stages) < 2:
        return ""
    rows = [
        (
            stage.stage, stage.outcome, f"{stage.done:,} of {stage.items:,}", f"{stage.set_aside_total:,}",
            format_size(stage.projected) if stage.projected else "–", format_size(stage.peak),
            format_seconds(stage.seconds),
            f"{stage.batches:,}", f"{sum(stage.failures.values()):,}",
        )
        for stage in stages
    ]  # fmt: skip
    head = (
        "stage",
        "outcome",
        ">items",
        ">set aside",
        ">projected",
        ">measured",
        ">time",
        ">batches",
        ">failures",
    )
    return section("Stages", f'<div class="wide">{table(head, rows)}</div>')


def failures(whole: Report) -> str:
    if not whole.failures:
        return ""
    rows = [(cause, f"{count:,}", _CAUSES.get(cause, "")) for cause, count in sorted(whole.failures.items())]
    note = "Their items were tried again, smaller or alone; nothing of a failed batch is kept."
    return section(
        "Batches that did not end",
        f'<p class="soft">{note}</p>' + table(("cause", ">batches", "what it means"), rows),
    )


def heavy(whole: Report) -> str:
    """The calls that took most memory, beside those that took longest."""
    if whole.batches < 2 or not whole.heaviest:
        return ""
    by_peak = [(str(call), call.measured("peak"), call.measured("seconds")) for call in whole.heaviest]
    by_time = [(str(call), call.measured("seconds"), call.measured("peak")) for call in whole.slowest]
    return (
        f'<div class="two">{section("Heaviest", table(("item", ">peak", ">its batch took"), by_peak))}'
        f"{section('Slowest', table(('item', '>time', '>its batch peaked at'), by_time))}</div>"
    )


def set_aside(whole: Report) -> str:
    if not whole.set_aside_total:
        return ""
    shown = whole.set_aside[:_ROWS]
    head = _head(("item", "reason", "what happened"))
    rows = "".join(
        f'<tr><td class="name">{in_html(short(item.name))}</td><td>{in_html(item.reason)}</td>'
        f"<td>{in_html(short(item.message))}{trace}</td></tr>"
        for item, trace in zip(shown, _traces(shown), strict=True)
    )
    more = whole.set_aside_total - len(shown)
    note = f'<p class="soft">and {more:,} more: <code>penstock report --json</code></p>' if more > 0 else ""
    table = f"<table>{head}<tbody>{rows}</tbody></table>"
    return section("Items set aside", f'<div class="tall">{table}</div>{note}')


def _traces(shown: Iterable[SetAside]) -> Iterator[str]:
    """The traceback of each, folded; of many the first ones alone."""
    left = _TRACES
    for item in shown:
        trace = item.traceback[-_TRACE:].strip()
        left -= len(trace)
        told = bool(trace) and left >= 0
        yield (
            f"<details><summary>traceback</summary><pre>{in_html(trace, _TRACE)}</pre></details>"
            if told
            else ""
        )


def section(title: str, content: str, *, css: str = "", aside: str = "") -> str:
    """A card; ``aside`` is HTML to the right of its title."""
    return f'<section class="{css}">{aside}<h2>{in_html(title)}</h2>{content}</section>'


def made_with(facts: Sequence[tuple[str, str]]) -> str:
    """Command, function, code, host and versions of a run."""
    rows = "".join(f"<div><dt>{in_html(name)}</dt><dd>{in_html(value)}</dd></div>" for name, value in facts)
    return section("Made with", f'<dl class="facts">{rows}</dl>') if rows else ""


def nodes(timeline: Timeline) -> str:
    """The nodes of a cluster: location, memory, and how each ended."""
    rows = [
        (
            name, short(node.host), f"{node.cores:,}", format_size(node.budget), format_size(node.peak),
            short(node.left) or "–",
        )
        for name, node in list(timeline.nodes.items())[:_ROWS]
    ]  # fmt: skip
    head = ("node", "host", ">cores", ">budget", ">peak", "left")
    return f'<div class="wide">{table(head, rows)}</div>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of plain texts; a heading that starts with ``>`` marks a column of numbers."""
    css = _classes(head)
    body = "".join(
        "<tr>" + "".join(f"<td{c}>{in_html(cell)}</td>" for c, cell in zip(css, row, strict=True)) + "</tr>"
        for row in rows
    )
    return f"<table>{_head(head)}<tbody>{body}</tbody></table>"


def _head(words: Sequence[str]) -> str:
    cells = zip(_classes(words), words, strict=True)
    return (
        "<thead><tr>"
        + "".join(f"<th{c}>{in_html(word.lstrip('>'))}</th>" for c, word in cells)
        + "</tr></thead>"
    )


def _classes(words: Sequence[str]) -> list[str]:
    css = [' class="right"' if word.startswith(">") else "" for word in words]
    css[0] = css[0] or ' class="name"'
    return css


def legend(*entries: tuple[str, str]) -> str:
    lines = {"budget": "line", "tree": "line", "projected": "dash", "break": "dash"}
    spans = []
    for css, word in entries:
        colour = {"break": "soft"}.get(css, css)
        shape = lines.get(css)
        look = f"border-color:var(--{colour})" if shape else f"background:var(--{colour})"
        if css == "paused":
            look = "background:repeating-linear-gradient(45deg,var(--soft) 0 2px,var(--done) 2px 4px)"
        spans.append(f'<span><i class="{shape or ""}" style="{look}"></i>{in_html(word)}</span>')
    return f'<p class="legend">{"".join(spans)}</p>'


def short(message: str) -> str:
    return line(message, _LONGEST)
