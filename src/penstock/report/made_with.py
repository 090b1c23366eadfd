"""Provenance of a run for its report: read from what :mod:`penstock.record.made_with` kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from penstock import foreign, layout
from penstock.foreign import line

_MOST = 1 << 20
"""Bytes that are read."""
_STAGES = 50
"""The most stages whose functions are named."""


def facts(run_folder: Path) -> list[tuple[str, str]]:
    """A few named lines; empty if nothing is known."""
    try:
        told = foreign.read_json(run_folder / layout.STATE / layout.MADE_WITH, _MOST)
    except (OSError, ValueError):
        return []
    if not isinstance(told, dict):
        return []
    stages = _dict(told.get("stages"))
    functions = [
        f"{stage}: {_text(_dict(of).get('function'))}" if stage else _text(_dict(of).get("function"))
        for stage, of in list(stages.items())[:_STAGES]
        if _text(_dict(of).get("function"))
    ]
    commits = dict.fromkeys(_text(_dict(of).get("commit"))[:12] for of in stages.values())
    versions = [f"{name} {_text(value)}" for name, value in _dict(told.get("versions")).items()]
    rows = [
        ("command", _text(told.get("command"))),
        ("function", ", ".join(functions)),
        ("code", ", ".join(f"commit {commit}" for commit in commits if commit)),
        ("host", _text(told.get("host"))),
        ("versions", ", ".join(versions)),
    ]
    return [(name, line(value, 2_000)) for name, value in rows if value]


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
