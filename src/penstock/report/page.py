"""The page of a run: one self-contained HTML file, drawn from the events alone.

Covers reading ``events.jsonl``, the words and tables, and writing ``report.html``. The page
needs no script and no network, is under 500 kB for a run of any length, and escapes every text
that it did not write itself.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from penstock import advice, layout
from penstock import events as ev
from penstock.budget import format_size
from penstock.durations import format_seconds
from penstock.files import atomic
from penstock.foreign import in_html
from penstock.plurals import plural
from penstock.report import charts, command, drawn, made_with, node_logs, tables
from penstock.report.report import Report
from penstock.report.style import CSS
from penstock.report.timeline import Timeline

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E"
    "%3Crect y='4' width='16' height='8' rx='2' fill='%23c6d0d8'/%3E"
    "%3Crect y='4' width='11' height='8' rx='2' fill='%231f6296'/%3E%3C/svg%3E"
)


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
    stages = _over_all_runs(counted, reports)
    page = run_folder / layout.PAGE
    with atomic(page) as draft:
        draft.write_text(render(run_folder, timeline, stages), encoding="utf-8", errors="replace")
    return page


def _over_all_runs(counted: Iterable[Report], told: Iterable[Report]) -> list[Report]:
    """The stages of a folder, over all its runs.

    Args:
        counted: counted from the events of all runs.
        told: the last run's own, which know how each item stands now, and where a stage that was
            finished before took no time and no memory.
    """
    stages = {report.stage: report for report in counted}
    for last in told:
        known = stages.get(last.stage)
        stages[last.stage] = last if known is None else replace(
            known, outcome=last.outcome, message=last.message, items=last.items, done=last.done,
            set_aside=last.set_aside, set_aside_total=last.set_aside_total, open_result=last.open_result,
        )  # fmt: skip
    return list(stages.values())


def render(run_folder: Path, timeline: Timeline, stages: Sequence[Report]) -> str:
    """The page as text."""
    return document(run_folder.resolve().name, _POLICY, body(run_folder, timeline, stages))


def document(title: str, policy: str, content: str, *, script: str = "") -> str:
    """A whole document.

    Args:
        title: plain text.
        policy: what it may load and run, as a Content-Security-Policy.
        content: HTML.
        script: an element of it, behind the content.
    """
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<link rel="icon" href="{_ICON}"><title>{in_html(title)} · Penstock</title>'
        f"<style>{CSS}</style></head><body><main>{content}</main>{script}</body></html>\n"
    )


def body(run_folder: Path, timeline: Timeline, stages: Sequence[Report], *, now: str = "") -> str:
    """The page's content; ``now`` is HTML of the present state, for a run in progress."""
    whole = stages[0] if len(stages) == 1 else Report.of_stages(stages, folder=run_folder)
    name = run_folder.resolve().name
    parts = [_head(name, run_folder, timeline, whole, recorded=bool(stages)), now]
    if stages and timeline.command.argv:
        parts.append(command.sections(run_folder, timeline, whole))
    elif stages:
        parts.append(_ending(run_folder, whole))
        parts.append(_budget_bar(whole))
        parts.append(_memory(timeline, name))
        parts.append(_nodes(run_folder, timeline, name))
        parts.append(_work(timeline, name))
        numbers = f"<div>{tables.origins(timeline)}{tables.failures(whole)}</div>"
        parts.append(f'<div class="two">{_predictions(timeline, name)}{numbers}</div>')
        parts.append(tables.heavy(whole))
        parts.append(tables.stages(stages))
        parts.append(tables.set_aside(whole))
        parts.append(tables.made_with(made_with.facts(run_folder)))
    elif not now:
        parts.append(tables.section("Nothing was recorded", "<p>This run has no events yet.</p>"))
    parts.append("<footer>Penstock · drawn from the events of the run; memory is anonymous + shared memory "
                 "of the whole process tree</footer>")  # fmt: skip
    return "".join(parts)


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
        if not whole.message:
            return ""
        return tables.section("Still running", f"<p>{in_html(tables.short(whole.message))}</p>")
    said = f"<p>{in_html(tables.short(whole.message))}</p>" if whole.message else ""
    return tables.section(_ENDINGS.get(whole.outcome, "Failed"),
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
    legend = tables.legend(
        ("own", f"reserved {format_size(whole.reserved)}"),
        ("band0", f"measured {peak}"),
        ("projected", f"projected {format_size(whole.projected)}"),
        ("pipe", f"headroom {format_size(whole.headroom)}"),
        ("budget", f"budget {budget}, {tables.short(whole.origin)}"),
    )
    numbers = "".join(
        f"<div><dt>{in_html(term)}</dt><dd>{in_html(value)}<small>{in_html(about)}</small></dd></div>"
        for term, value, about in _numbers(whole)
    )
    advised = "".join(f'<p class="soft">{_unbroken(sentence)}</p>' for sentence in whole.next_time())
    bar = f'<p class="lead">{lead}</p>{charts.pipe(whole)}{legend}{advised}'
    return f'<section>{bar}<dl class="numbers">{numbers}</dl></section>'


def _unbroken(sentence: str) -> str:
    """As HTML in which no line ends within what is to be copied."""
    parts = [in_html(part) for part in advice.phrases(sentence)]
    parts[1::2] = [f'<code class="whole">{part}</code>' for part in parts[1::2]]
    return "".join(parts)


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


def _memory(timeline: Timeline, name: str) -> str:
    if timeline.nodes:  # this process only tells them what to work
        return ""
    if not timeline.peaks.moments:
        return tables.section(
            "Memory over time", '<p class="soft">No reading was taken: the run was over too soon.</p>'
        )
    parts = [("own", "this process and the fork server")]
    if timeline.rows.count:
        parts.append(("band0", "workers, one band each"))
    parts.append(("tree", "process tree"))
    if any(value for _, value, _ in timeline.projected.changes):
        parts.append(("projected", "projected by the plan"))
    parts.append(("budget", "budget"))
    if timeline.marks["resumed"].marks:
        parts.append(("break", "resumed; the time between is left out"))
    link = drawn.link(f"{name} memory", drawn.memory(timeline))
    return tables.section("Memory over time", charts.memory(timeline) + tables.legend(*parts), aside=link)


def _nodes(run_folder: Path, timeline: Timeline, name: str) -> str:
    if not timeline.nodes:
        return ""
    link = drawn.link(f"{name} nodes", drawn.nodes(timeline))
    words = tables.legend(("band0", "the most that it held"), ("budget", "its budget"))
    rows = tables.nodes(timeline) + node_logs.tails(run_folder, timeline)
    return tables.section("Nodes", charts.nodes(timeline) + words + rows, aside=link)


def _work(timeline: Timeline, name: str) -> str:
    if not timeline.rows.count:
        return ""
    seen = {charts.COLOUR_OF_CAUSE.get(cause, "idle") for bar in timeline.failed for cause in bar.causes}
    words = {"over": "out of memory", "died": "died or stalled", "raised": "raised", "idle": "interrupted"}
    parts = [("done", "batches kept"), *((css, word) for css, word in words.items() if css in seen)]
    if timeline.paused.total:
        parts.append(("paused", "paused by the governor"))
    link = drawn.link(f"{name} work", drawn.work(timeline))
    return tables.section("What each worker did", charts.work(timeline) + tables.legend(*parts), aside=link)


def _predictions(timeline: Timeline, name: str) -> str:
    if not timeline.pairs.total:
        return tables.section("Predicted and measured", '<p class="soft">No batch had a predicted peak.</p>')
    over = timeline.pairs.over
    about = "every batch stayed under its bound" if not over else (
        f"{over:,} of {timeline.pairs.total:,} batches went over their bound")  # fmt: skip
    note = f'<p class="soft">Peak of each batch above an idle worker; {about}.</p>'
    link = drawn.link(f"{name} predictions", drawn.predictions(timeline))
    return tables.section("Predicted and measured", note + charts.predictions(timeline), aside=link)
