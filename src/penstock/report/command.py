"""The page of a supervised command: command, verdict and advice, then its programs."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from penstock import advice, foreign, layout
from penstock.budget import format_size
from penstock.durations import format_seconds
from penstock.foreign import in_html, line
from penstock.report import charts, drawn, made_with, tables
from penstock.report.report import Report
from penstock.report.timeline import Timeline

_FACTS = 1 << 20
"""Bytes of what was told at the end that are read."""
_SMALL, _NAME = 50, 80
"""A program with less than this part of the largest is not in the legend; letters of a name there."""


def sections(run_folder: Path, timeline: Timeline, whole: Report) -> str:
    """Everything below the heading."""
    parts = [_top(run_folder, timeline, whole)]
    if timeline.peaks.moments:
        legend = [("tree", "process tree")]
        seen = max(timeline.command.programs.values(), default=0) // _SMALL
        legend += [
            (f"band{row % 2}", line(name, _NAME))
            for row, (name, peak) in enumerate(timeline.command.programs.items())
            if peak > seen
        ]
        if whole.budget:
            legend.append(("budget", f"limit, {tables.short(whole.origin)}"))
        link = drawn.link(f"{run_folder.resolve().name} memory", drawn.memory(timeline))
        chart = charts.memory(timeline) + tables.legend(*legend)
        parts.append(tables.section("Memory over time", chart, aside=link))
        most = sorted(timeline.command.programs.items(), key=lambda program: -program[1])
        rows = [(tables.short(name), format_size(peak)) for name, peak in most]
        parts.append(tables.section("Programs", tables.table(("program", ">most that all of it held"), rows)))
    told = [fact for fact in made_with.facts(run_folder) if fact[0] != "command"]
    parts.append(tables.made_with(told))
    return "".join(parts)


def _top(run_folder: Path, timeline: Timeline, whole: Report) -> str:
    command = " ".join(shlex.quote(each) for each in timeline.command.argv)
    spent = f", {format_seconds(whole.cpu)} of CPU" if whole.cpu else ""
    of = f" of <b>{format_size(whole.budget)}</b>" if whole.budget else ""
    lead = f"Peaked at <b>{format_size(whole.peak)}</b>{of}, in {format_seconds(whole.seconds)}{spent}"
    told = [whole.message, *timeline.command.kills]
    said = "".join(f"<p>{in_html(tables.short(each))}</p>" for each in dict.fromkeys(told) if each)
    how, ask = _advised(run_folder)
    advised = f'<p class="soft">{how} <code class="whole">{in_html(ask)}</code></p>' if ask else ""
    css = "" if whole.outcome in ("done", "running") else "note"
    return (
        f'<section class="{css}"><p><code>{in_html(tables.short(command))}</code></p>'
        f'<p class="lead">{lead}</p>{said}{advised}</section>'
    )


def _advised(run_folder: Path) -> tuple[str, str]:
    """In which words to ask for what next time, from what was told at the end; empty where nothing was."""
    try:
        told = foreign.read_json(run_folder / layout.STATE / layout.EXEC, _FACTS)
    except (OSError, ValueError):
        return "", ""
    told = told if isinstance(told, dict) else {}
    limit = told.get("advised")
    if not foreign.is_count(limit) or not limit or limit < 0:
        return "", ""
    how = "it needed more than that; try" if told.get("complete") is False else "next time ask for"
    return how, advice.request(advice.here(os.environ), limit)
