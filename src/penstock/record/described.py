"""A workload's description of its input and settings, stored where it outlives a killed run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from penstock import foreign, layout
from penstock.files import atomic

_MOST = 64 << 10
"""Bytes that are read, at most."""


def describe(state: Path, told: Mapping[str, object]) -> None:
    """Add to a run's description; an earlier value of the same name is replaced.

    Args:
        state: the run's state folder.
        told: a few lines by name.
    """
    known = described(state) | {str(name): str(value) for name, value in told.items()}
    with atomic(state / layout.DESCRIBED, durable=False) as draft:
        draft.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


def described(state: Path) -> dict[str, str]:
    """The description, safe to print; empty if there is none, or if it cannot be read."""
    try:
        found = foreign.read_json(state / layout.DESCRIBED, _MOST)
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {
        foreign.line(name): foreign.line(value) for name, value in found.items() if isinstance(value, str)
    }
