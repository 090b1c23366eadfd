"""What a workload says of its input and its settings, kept where it outlives a run that is killed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from penstock import foreign, layout
from penstock.files import atomic

_MOST = 64 << 10
"""Bytes that are read, at most."""


def describe(state: Path, told: Mapping[str, object]) -> None:
    """Add to what is known of a run; what was said under the same name before is replaced.

    Args:
        state: the run's state folder.
        told: a few lines by name.
    """
    known = described(state) | {str(name): str(value) for name, value in told.items()}
    with atomic(state / layout.DESCRIBED, durable=False) as draft:
        draft.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


def described(state: Path) -> dict[str, str]:
    """What was said, fit for a terminal; nothing where nothing was, or where it cannot be read."""
    try:
        with open(state / layout.DESCRIBED, "rb") as file:
            found = json.loads(file.read(_MOST))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {
        foreign.line(name): foreign.line(value) for name, value in found.items() if isinstance(value, str)
    }
