"""The page of a run: one self-contained HTML file, drawn from the events alone.

Covers reading ``events.jsonl``, the words and tables, and writing ``report.html``. The page
needs no script and no network, is under 500 kB for a run of any length, and escapes every text
that it did not write itself.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from penstock import events as ev
from penstock import layout
from penstock.budget import format_size
from penstock.durations import format_seconds
from penstock.files import atomic
from penstock.foreign import in_html, line
from penstock.plurals import plural
from penstock.report import charts
from penstock.report.report import Report, over_all_runs
from penstock.report.style import CSS
from penstock.report.timeline import Timeline

_ROWS = 200
"""The most rows of a table."""
_LONGEST = 600
"""The most letters of a message that came from outside."""

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E"
    "%3Crect y='4' width='16' height='8' rx='2' fill='%23c6d0d8'/%3E"
    "%3Crect y='4' width='11' height='8' rx='2' fill='%231f6296'/%3E%3C/svg%3E"
)

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
    "load": "an item could not be unpickled in a worker; halves find it",
    "interrupted": "the run was asked to stop",
}


def write_page(run_folder: Path, events: Iterable[ev.Event], reports: Iterable[Report] = ()) -> Path:
    """Draw a run and write ``report.html`` at the top of its folder.

    Args:
        run_folder: the run folder.
        events: its events in order; read once, never gathered.
        reports: the last run's own reports of its stages: how each item stands now.

    Returns:
        The page.

    Raises:
        OSError: the page cannot be written.
    """
    timeline = Timeline()
    for event in events:
        timeline(event)
    counted = [
        tally.report(folder=run_folder) for name, tally in timeline.tallies.items() if name or tally.items
    ]
    stages = over_all_runs(counted, reports)
    page = run_folder / layout.PAGE
    with atomic(page) as draft:
        draft.write_text(render(run_folder, timeline, stages), encoding="utf-8", errors="replace")
    return page


def render(run_folder: Path, timeline: Timeline, stages: Sequence[Report]) -> str:
    """The page as text."""
    whole = stages[0] if len(stages) == 1 else Report.of_stages(stages, folder=run_folder)
    name = run_folder.resolve().name
    body = [_head(name, run_folder, timeline, whole, recorded=bool(stages))]
    if stages:
        body.append(_ending(run_folder, whole))
        body.append(_budget_bar(whole))
        body.append(_memory(timeline))
        body.append(_work(timeline))
        numbers = f"<div>{_origins(timeline)}{_failures(whole)}</div>"
        body.append(f'<div class="two">{_predictions(timeline)}{numbers}</div>')
        body.append(_stages(stages))
        body.append(_set_aside(whole))
    else:
        body.append(_section("Nothing was recorded", "<p>This run has no events yet.</p>"))
    body.append("<footer>Penstock · drawn from the events of the run; memory is anonymous + shared memory "
                "of the whole process tree</footer>")  # fmt: skip
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<link rel="icon" href="{_ICON}"><title>{in_html(name)} · Penstock</title>'
        f"<style>{CSS}</style></head><body><main>{''.join(body)}</main></body></html>\n"
    )


# --------------------------------------------------------------------------- the top


def _head(name: str, run_folder: Path, timeline: Timeline, whole: Report, *, recorded: bool) -> str:
    outcome = whole.outcome if recorded else "empty"
    if outcome == "done" and whole.set_aside_total:
        outcome = f"done, {whole.set_aside_total:,} set aside"
    when = str(run_folder)
    if timeline.start is not None:
        when += f" · {time.strftime('%Y-%m-%d %H:%M', time.localtime(timeline.start))}"
    badge = f'<span class="badge {in_html(whole.outcome)}">{in_html(outcome)}</span>'
    return f'<header><h1>{in_html(name)}</h1>{badge}<p class="when">{in_html(when)}</p></header>'


_ENDINGS = {"interrupted": "Interrupted", "died": "Died without a word"}


def _ending(run_folder: Path, whole: Report) -> str:
    if whole.outcome == "done":
        return ""
    if whole.outcome == "running":
        return _section("Still running", f"<p>{in_html(_short(whole.message))}</p>")
    said = f"<p>{in_html(_short(whole.message))}</p>" if whole.message else ""
    return _section(_ENDINGS.get(whole.outcome, "Failed"),
                    f"{said}<p>{_resume(run_folder)}</p>", css="note")  # fmt: skip


def _resume(run_folder: Path) -> str:
    if (run_folder / layout.STATE / layout.EXEC).exists():
        return "To do it again, run the command again with the same folder."
    if (run_folder / layout.STATE / layout.COMMAND).exists():
        command = f"penstock resume {shlex.quote(str(run_folder))}"
        return f"What is done is kept. To go on: <code>{in_html(command)}</code>"
    return "What is done is kept. To go on, run your script again with the same folder."


def _budget_bar(whole: Report) -> str:
    peak, budget = format_size(whole.peak), format_size(whole.budget)
    percent = int(100 * whole.peak / whole.budget) if whole.budget else 0
    share = f" ({percent} %)" if percent else ""
    if whole.headroom >= 0:
        lead = f"Peaked at <b>{peak}</b>{share} of a budget of <b>{budget}</b>"
    else:
        lead = f"Peaked at <b>{peak}</b>, over the budget of <b>{budget}</b>"
    legend = _legend(
        ("own", f"reserved {format_size(whole.reserved)}"),
        ("band0", f"measured {peak}"),
        ("projected", f"projected {format_size(whole.projected)}"),
        ("pipe", f"headroom {format_size(whole.headroom)}"),
        ("budget", f"budget {budget}, {_short(whole.origin)}"),
    )
    numbers = "".join(
        f"<div><dt>{in_html(term)}</dt><dd>{in_html(value)}<small>{in_html(about)}</small></dd></div>"
        for term, value, about in _numbers(whole)
    )
    advised = "".join(f'<p class="soft">{in_html(sentence)}</p>' for sentence in whole.next_time())
    bar = f'<p class="lead">{lead}</p>{charts.pipe(whole)}{legend}{advised}'
    return f'<section>{bar}<dl class="numbers">{numbers}</dl></section>'


def _numbers(whole: Report) -> Iterator[tuple[str, str, str]]:
    yield (
        "Items done",
        f"{whole.done:,}",
        f"of {whole.items:,}" + (f", {whole.resumed_from:,} from before" if whole.resumed_from else ""),
    )
    yield "Set aside", f"{whole.set_aside_total:,}", "named below" if whole.set_aside_total else "none"
    busy = f"{whole.cpu / whole.seconds:.1f} cores busy" if whole.cpu and whole.seconds >= 1 else "wall time"
    yield "Time", format_seconds(whole.seconds), busy
    failed = sum(whole.failures.values())
    yield "Batches", f"{whole.batches:,}", f"and {failed:,} that did not end" if failed else "all ended"
    yield (
        "Workers started", f"{whole.workers_started:,}",
        f"{whole.recycled:,} recycled, {plural(whole.paused, 'pause')}",
    )  # fmt: skip
    if whole.coverage is not None:
        predicted, held = whole.predictions
        yield "Bounds held", f"{_percent(held, predicted)} %", f"{held:,} of {predicted:,} predictions"


def _percent(part: int, whole: int) -> str:
    """A share that reads 100 only when nothing is missing."""
    return "100" if part == whole else f"{int(1000 * part / whole) / 10:g}"


# --------------------------------------------------------------------------- the charts


def _memory(timeline: Timeline) -> str:
    if not timeline.peaks.moments:
        return _section(
            "Memory over time", '<p class="soft">No reading was taken: the run was over too soon.</p>'
        )
    parts = [("own", "this process and the fork server")]
    if timeline.rows.count:
        parts.append(("band0", "workers, one band each"))
    parts.append(("tree", "process tree"))
    if timeline.projected.changes:
        parts.append(("projected", "projected by the plan"))
    parts.append(("budget", "budget"))
    if timeline.marks["resumed"].marks:
        parts.append(("break", "resumed; the time between is left out"))
    return _section("Memory over time", f'<div class="wide">{charts.memory(timeline)}</div>{_legend(*parts)}')


def _work(timeline: Timeline) -> str:
    if not timeline.rows.count:
        return ""
    seen = {charts.COLOUR_OF_CAUSE.get(cause, "idle") for bar in timeline.failed for cause in bar.causes}
    words = {"over": "out of memory", "died": "died or stalled", "raised": "raised", "idle": "interrupted"}
    parts = [("done", "batches kept"), *((css, word) for css, word in words.items() if css in seen)]
    if timeline.paused.total:
        parts.append(("paused", "paused by the governor"))
    return _section(
        "What each worker did", f'<div class="wide">{charts.work(timeline)}</div>{_legend(*parts)}'
    )


def _predictions(timeline: Timeline) -> str:
    if not timeline.pairs.total:
        return _section("Predicted and measured", '<p class="soft">No batch had a predicted peak.</p>')
    over = timeline.pairs.over
    about = "every batch stayed under its bound" if not over else (
        f"{over:,} of {timeline.pairs.total:,} batches went over their bound")  # fmt: skip
    note = f'<p class="soft">Peak of each batch above an idle worker; {about}.</p>'
    return _section("Predicted and measured", note + charts.predictions(timeline))


# --------------------------------------------------------------------------- the tables


def _origins(timeline: Timeline) -> str:
    changes = timeline.budget.changes
    rows = [
        (format_seconds(at) if at else "the start", format_size(value), _short(origin))
        for at, value, origin in changes[-20:]
    ]
    parts = [_table(("since", ">budget", "where it comes from"), rows)]
    if timeline.plans:
        plans = [
            (
                stage or "run", f"{plan.workers:,}", f"{plan.call:,}", f"{plan.batch:,}",
                format_size(plan.reserved), format_size(plan.footprint), format_size(plan.projected),
            )
            for stage, plan in timeline.plans.items()
        ]  # fmt: skip
        head = ("last plan", ">workers", ">call", ">batch", ">reserved", ">footprint", ">projected")
        parts.append(f'<div class="wide">{_table(head, plans)}</div>')
        parts.append('<p class="soft">Calls and batches in items; the footprint is of one call.</p>')
    return _section("Limits and plan", "".join(parts))


def _stages(stages: Sequence[Report]) -> str:
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
    return _section("Stages", f'<div class="wide">{_table(head, rows)}</div>')


def _failures(whole: Report) -> str:
    if not whole.failures:
        return ""
    rows = [(cause, f"{count:,}", _CAUSES.get(cause, "")) for cause, count in sorted(whole.failures.items())]
    note = "Their items were tried again, smaller or alone; nothing of a failed batch is kept."
    return _section(
        "Batches that did not end",
        f'<p class="soft">{note}</p>' + _table(("cause", ">batches", "what it means"), rows),
    )


def _set_aside(whole: Report) -> str:
    if not whole.set_aside_total:
        return ""
    shown = whole.set_aside[:_ROWS]
    rows = [(_short(item.name), item.reason, _short(item.message)) for item in shown]
    table = _table(("item", "reason", "what happened"), rows)
    more = whole.set_aside_total - len(shown)
    note = f'<p class="soft">and {more:,} more: <code>penstock report --json</code></p>' if more > 0 else ""
    return _section("Items set aside", f'<div class="tall">{table}</div>{note}')


def _section(title: str, content: str, *, css: str = "") -> str:
    return f'<section class="{css}"><h2>{in_html(title)}</h2>{content}</section>'


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of plain texts; a heading that begins with ``>`` is of a column of numbers."""
    css = [' class="right"' if word.startswith(">") else "" for word in head]
    css[0] = css[0] or ' class="name"'
    top = "".join(f"<th{c}>{in_html(word.lstrip('>'))}</th>" for c, word in zip(css, head, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{c}>{in_html(cell)}</td>" for c, cell in zip(css, row, strict=True)) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _legend(*entries: tuple[str, str]) -> str:
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


def _short(message: str) -> str:
    return line(message, _LONGEST)
