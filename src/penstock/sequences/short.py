"""``summary.json`` of a run: written by a step, so that resume and verify know its content; published."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import penstock
from penstock import foreign

STEP = "summary"


def publish(run: penstock.Run, told: Mapping[str, Any]) -> None:
    """Publish it, and print its warnings."""
    run.publish(run.step(STEP, write, inputs={"told": told}, threads=1))
    warn(told)


def write(folder: Path, told: Mapping[str, Any]) -> None:
    """Write it into a step's folder."""
    (folder / "summary.json").write_text(text_of(told), encoding="utf-8")


def text_of(summary: Mapping[str, Any]) -> str:
    """Its text."""
    return json.dumps(summary, indent=1) + "\n"


def warn(summary: Mapping[str, Any]) -> None:
    """Print its warnings."""
    for warning in summary["warnings"]:
        foreign.warn(str(warning))
