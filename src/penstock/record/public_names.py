"""Names of our own code in a job's key: public names, never present locations.

A step is ``step``; a sink or reducer that is registered goes by that name; anything else of a workload by
the workload and its own name. Keys of folders from before name places instead: they are read as if they
named the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from penstock import registry
from penstock.version import __version__

STEP = "step"
_PLACES = {
    "penstock.runs.step.Step": STEP,
    "penstock.runs.step.StepFolder": STEP,
    "penstock.steps.Step": STEP,
    "penstock.steps.StepFolder": STEP,
    "penstock.sinks.arrays.Arrays": "arrays",
    "penstock.sinks.collect.Collect": "collect",
    "penstock.sinks.files.Files": "files",
    "penstock.sinks.parquet.Parquet": "parquet",
    "penstock.sinks.partitions.Partitions": "partitions",
    "penstock.reducers.count.Count": "count",
    "penstock.reducers.fold.Fold": "fold",
    "penstock.reducers.sum.Sum": "sum",
}
"""Where something has lain in any version -> what a key calls it. A place that is left stays listed."""
_OURS, _WORKLOADS = "penstock.", "penstock.workloads."
_UNTOLD = "penstock 0.2.0"
"""The last version whose keys hold a digest of our source, where they were made in a source checkout."""


def version() -> str:
    """The version of our code, for a key."""
    return f"penstock {__version__}"


def of(place: str) -> str:
    """The name of an object in a key.

    Args:
        place: module and qualified name; what a key calls it already stays.
    """
    known = _PLACES.get(place) or registry.name_of("sink", place) or registry.name_of("reducer", place)
    if known:
        return known
    if not place.startswith(_OURS):
        return place
    root, rest = _OURS, place.removeprefix(_OURS)
    if place.startswith(_WORKLOADS):
        name, _, rest = place.removeprefix(_WORKLOADS).partition(".")
        root = f"{_WORKLOADS}{name}."
    names = rest.split(".")
    while len(names) > 1 and names[0].lstrip("_")[:1].islower():  # a module
        names.pop(0)
    return root + ".".join(names)


def as_named_now(key: Mapping[str, Any]) -> dict[str, Any]:
    """A job's key with the private names of earlier versions replaced by public ones."""
    parts = ("function", "rooms", "inputs")
    return {name: _named(value) if name in parts else value for name, value in key.items()}


def _named(value: Any) -> Any:
    if isinstance(value, list):
        return [_named(each) for each in value]
    if not isinstance(value, dict):
        return value
    told = {name: _named(each) for name, each in value.items()}
    if isinstance(told.get("name"), str) and isinstance(told.get("code"), str):
        told["name"] = of(told["name"])
        if told["name"] == STEP:
            del told["code"]
        elif told["name"].startswith(_OURS) and not told["code"].startswith("penstock "):
            told["code"] = _UNTOLD
    elif told.keys() == {"type", "options"} and isinstance(told["type"], str):
        told["type"] = of(told["type"])
    return told
