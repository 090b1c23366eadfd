"""The summary of a run on stderr, printed last."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from penstock import foreign, layout
from penstock.budget import format_size
from penstock.report.report import Report

_LOOKED_AT = 100
"""Files of a folder that are looked at."""


def summary(report: Report, folder: Path, *, began: bool = True, system: str | None = None) -> str:
    """The lines to print at the end of a run.

    Args:
        report: of the run.
        folder: the run folder.
        began: whether any stage had work left.
        system: whose words say what to ask for next time; by default the one that this runs in.
    """
    lines = [f"{report.outcome}: {report.progress()}"]
    if not began:
        lines.append("  nothing was left to do: it was finished before")
    if report.budget:
        measured = f"measured peak {format_size(report.peak)} of {format_size(report.budget)}"
        projected = f", projected {format_size(report.projected)}" if report.projected else ""
        lines.append(f"  {measured} ({report.origin}){projected}")
    lines += [
        f"  set aside {foreign.line(item.name)}: {foreign.line(item.message)}"
        for item in report.set_aside[:5]
    ]
    if report.set_aside_total > 5:
        lines.append(f"  and {report.set_aside_total - 5:,} more set aside")
    results = _results(folder)
    if results:
        lines.append(f"  results in {folder}: {', '.join(map(foreign.line, results))}")
    log = folder / layout.STATE / layout.WORKERS_LOG
    if log.exists() and log.stat().st_size:
        lines.append(f"  what workers printed {log}")
    if began:
        lines += [f"  {sentence}" for sentence in report.next_time(system)]
    page = folder / layout.PAGE
    if page.exists():
        lines.append(f"  report {page}")
    return "\n".join(lines)


def _results(folder: Path, most: int = 8) -> list[str]:
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    kept = [path for path in paths if not path.name.startswith(".") and path.name not in layout.OURS]
    # What is at the top comes first; what stages keep for each other may lie in folders.
    kept.sort(key=lambda path: (path.is_dir() and not path.suffix, path.name))
    kept = [path for path in kept if not (path.is_dir() and _is_seen(path))]
    names = [f"{path.name}/" if path.is_dir() else path.name for path in kept]
    return [*names[:most], f"and {len(names) - most} more"] if len(names) > most else names


def _is_seen(folder: Path) -> bool:
    """Whether nothing is in a folder that is not at the top too: it is empty, or all of it is published."""
    files = (each for each in folder.rglob("*") if each.is_file() and not each.name.startswith("."))
    return all(each.stat().st_nlink > 1 for each in islice(files, _LOOKED_AT))
