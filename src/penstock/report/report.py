"""The report of a run: its numbers, as text, HTML and JSON.

It is counted by :mod:`penstock.report.tally`, and drawn as a page by :mod:`penstock.report.page`; nothing
here reads files or asks the engine anything.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic

from penstock import advice, foreign
from penstock.budget import format_size
from penstock.durations import format_seconds
from penstock.errors import SetAside
from penstock.foreign import in_html, line
from penstock.plurals import plural
from penstock.report.heavy import NamedCall, as_json, top
from penstock.report.schema import OUTCOMES, SCHEMA, checked

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # part of every type checker

    Result_co = TypeVar("Result_co", covariant=True, default=Any)
else:
    from typing import TypeVar

    Result_co = TypeVar("Result_co", covariant=True)

NAMED = 10_000
"""The most set-aside items that a report names; the others are counted and stand in the journal."""

_LONG = 20.0
"""Seconds; a shorter run is not worth more memory."""
_SHORT = 0.1
"""Seconds; less is not told as lost."""
_WORTH = 0.8
"""More memory is named where the run would take at most this share of its time."""

_ADDED_UP = (
    "items", "done", "set_aside_total", "seconds", "cpu", "batches", "workers_started", "paused", "recycled",
    "resumed_from", "waited_seconds", "paused_seconds", "repeated_seconds",
)  # fmt: skip
"""What the stages of a run have together."""
_LARGEST = ("reserved", "projected", "enough")
"""What the stages have one after the other."""


@dataclass(frozen=True, kw_only=True)
class Report(Generic[Result_co]):
    """The numbers of one run of a job, or of several stages. Sizes in bytes, times in seconds."""

    folder: Path | None = None
    """The run folder; None for a run in a temporary one."""
    stage: str = ""
    """The stage's name; empty for a run of one job, or of several stages together."""
    outcome: str = "done"
    """``"done"``, ``"failed"``, ``"interrupted"``; told from outside also ``"running"`` or ``"died"``."""
    message: str = ""
    """Why it failed, or what is known of its death."""
    items: int = 0
    """How many items there are."""
    done: int = 0
    """How many are kept, over all runs of this folder."""
    set_aside: tuple[SetAside, ...] = ()
    """The items given up, with their reasons; the first 10,000 of them."""
    set_aside_total: int = 0
    """How many items were given up in all."""
    budget: int = 0
    """Bytes that all our processes together may use; if it changed, as it was at the peak."""
    origin: str = ""
    """Who set the budget."""
    reserved: int = 0
    """Bytes taken before any item."""
    projected: int = 0
    """Peak of the process tree by the last plan."""
    workers: int = 0
    """Workers at once by the last plan."""
    enough: int = 0
    """Bytes of the smallest budget in which the last plan fits; 0 when none was made."""
    most_workers: int = 0
    """The most workers that there are cores and items for."""
    enough_for_most: int = 0
    """Bytes of a budget in which so many would fit."""
    why: str = ""
    """Why not one worker more, by the last plan, where memory is the reason."""
    waited_seconds: float = 0.0
    """Seconds that cores had no call because there was no room for one, added up."""
    paused_seconds: float = 0.0
    """Seconds that workers were paused, added up."""
    repeated_seconds: float = 0.0
    """Seconds that workers spent on batches that did not end, added up."""
    held_over_time: float = 0.0
    """Share of the budget that was held over time: each reading for the while before it, 0 to 1."""
    peak: int = 0
    """Measured peak of the process tree."""
    seconds: float = 0.0
    """Wall seconds of this run."""
    cpu: float = 0.0
    """CPU seconds of all our processes in this run."""
    batches: int = 0
    """Batches kept in this run."""
    workers_started: int = 0
    """Workers started in this run, replacements included."""
    failures: Mapping[str, int] = field(default_factory=dict)
    """Batches that did not end, by cause (``BatchFailed.cause``); their items were tried again."""
    paused: int = 0
    """How often the governor paused a worker."""
    recycled: int = 0
    """Workers replaced because they retained too much."""
    predictions: tuple[int, int] = (0, 0)
    """Batches whose peak was predicted, and how many of them stayed under the bound."""
    resumed_from: int = 0
    """Items that were done before this run."""
    heaviest: tuple[NamedCall, ...] = ()
    """The ten calls that took most memory, over all runs of this folder."""
    slowest: tuple[NamedCall, ...] = ()
    """The ten calls that took longest."""
    stages: tuple[Report, ...] = ()
    """One report for each stage, for a run of several."""
    open_result: Callable[[], Result_co] | None = field(default=None, repr=False, compare=False)
    """Opens what is kept; called at most once, by ``result``."""

    @cached_property
    def result(self) -> Result_co:
        """The kept result, opened when first asked for; None if nothing can be opened."""
        return None if self.open_result is None else self.open_result()  # type: ignore[return-value]

    @property
    def headroom(self) -> int:
        """Budget minus measured peak, in bytes; negative if the run went over."""
        return self.budget - self.peak

    @property
    def seconds_with_most(self) -> float:
        """Estimated wall seconds with ``most_workers``."""
        if self.stages:
            slowed = max(self.stages, key=lambda stage: stage.seconds - stage.seconds_with_most)
            return self.seconds - slowed.seconds + slowed.seconds_with_most
        if not self.most_workers:
            return self.seconds
        # No more cores than there may be workers: what these took of them cannot be had in less.
        least = max(self.workers * self.seconds, self.cpu) / self.most_workers
        return min(self.seconds, least)

    @property
    def coverage(self) -> float | None:
        """Share of predicted batches that stayed under their bound, 0 to 1; None if there are none."""
        predicted, held = self.predictions
        return held / predicted if predicted else None

    @classmethod
    def of_stages(cls, stages: Sequence[Report], *, folder: Path | None = None) -> Report:
        """Combine the reports of a run's stages: sums, and the maximum of each memory."""
        if not stages:
            return cls(folder=folder)
        # The budget is the one that left least room: its own headroom must be this report's headroom.
        # A stage that was finished before has none.
        tightest = min(stages, key=lambda stage: (stage.budget == 0, stage.headroom))
        worst = min(stages, key=lambda stage: OUTCOMES.index(stage.outcome))
        # What more workers would buy is told of the stage that they would shorten most.
        slowed = max(stages, key=lambda stage: stage.seconds - stage.seconds_with_most)
        return cls(
            folder=folder,
            outcome=worst.outcome,
            message=worst.message,
            set_aside=tuple(item for stage in stages for item in stage.set_aside)[:NAMED],
            budget=tightest.budget,
            origin=tightest.origin,
            peak=tightest.peak,
            workers=slowed.workers,
            most_workers=slowed.most_workers,
            enough_for_most=max(slowed.enough_for_most, *(stage.enough for stage in stages)),
            why=slowed.why,
            held_over_time=_over_time(stages),
            failures=dict(sum((Counter(stage.failures) for stage in stages), Counter())),
            predictions=(
                sum(stage.predictions[0] for stage in stages),
                sum(stage.predictions[1] for stage in stages),
            ),
            heaviest=top((call for stage in stages for call in stage.heaviest), "peak"),
            slowest=top((call for stage in stages for call in stage.slowest), "seconds"),
            stages=tuple(stages),
            open_result=stages[-1].open_result,
            **{name: sum(getattr(stage, name) for stage in stages) for name in _ADDED_UP},
            **{name: max(getattr(stage, name) for stage in stages) for name in _LARGEST},
        )

    def next_time(self, system: str | None = None) -> list[str]:
        """Advice: what to request next time, and what more memory would buy, one sentence each.

        None of a run that made no plan or did not come to its end.

        Args:
            system: one of :data:`penstock.advice.SYSTEMS`; by default the one that this process runs in.
        """
        if not self.enough or not self.peak or self.outcome != "done":
            return []
        system = system or advice.here(os.environ)
        # Where the run held more than was planned, its peak counts, with the margin of a command's.
        limit = max(
            advice.rounded(self.enough), advice.enough(self.peak) if self.peak > self.projected else 0
        )
        needed = format_size(self.peak)
        if short := [item.needed for item in self.set_aside if item.reason == "memory"]:
            # What was seen of them is less than what they need: they were ended for it.
            wanted = max(max(short) * 8 // 5 + self.reserved, self.budget + 1)
            limit = max(limit, advice.rounded(wanted))
            needed += f" without what was set aside for memory ({plural(len(short), 'item')})"
        said = [f"needed {needed}; next time ask for {advice.request(system, limit)}"]
        seconds = self.seconds_with_most
        if not short and self.seconds >= _LONG and seconds <= _WORTH * self.seconds and not self.resumed_from:
            more = advice.rounded(self.enough_for_most)
            said.append(
                f"with {format_size(more)} ({advice.request(system, more)}): {self.most_workers} workers "
                f"instead of {self.workers}, about {format_seconds(seconds)} instead of "
                f"{format_seconds(self.seconds)}"
            )
        return said

    # ------------------------------------------------------------------ as text

    def to_json(self) -> str:
        """Write as JSON text, without the result."""
        return json.dumps({"schema": SCHEMA, **self._values()}, indent=1)

    def _values(self) -> dict[str, Any]:
        values = {name: value for name, value in vars(self).items() if name in self.__dataclass_fields__}
        del values["open_result"]
        values["folder"] = None if self.folder is None else str(self.folder)
        values["failures"] = dict(self.failures)
        values["set_aside"] = [_fields_of(item) for item in self.set_aside]
        values |= {"heaviest": as_json(self.heaviest), "slowest": as_json(self.slowest)}
        values["stages"] = [stage._values() for stage in self.stages]
        # Derived, for readers of the file; from_json leaves them out again.
        return {**values, "headroom": self.headroom, "coverage": self.coverage}

    @classmethod
    def from_json(cls, text: str, *, open_result: Callable[[], Any] | None = None) -> Report:
        """Read what :meth:`to_json` wrote; fields of a newer version are ignored.

        Raises:
            ValueError: not such text.
        """
        values = foreign.parse(text)
        if not isinstance(values, dict) or "schema" not in values:
            raise ValueError("not a report: expected a JSON object with the key 'schema'")
        return cls._from_values(values, open_result)

    @classmethod
    def _from_values(cls, values: Mapping[str, Any], open_result: Callable[[], Any] | None) -> Report:
        known = checked(values)
        known["folder"] = None if known.get("folder") is None else Path(known["folder"])
        known["set_aside"] = tuple(SetAside(**item) for item in known.get("set_aside", ()))
        for name in ("heaviest", "slowest"):
            known[name] = tuple(NamedCall(**call) for call in known.get(name, ()))
        known["predictions"] = tuple(known.get("predictions", (0, 0)))
        known["stages"] = tuple(cls._from_values(stage, None) for stage in known.get("stages", ()))
        return cls(**known, open_result=open_result)

    def __str__(self) -> str:
        return self.as_text()

    def as_text(self, system: str | None = None) -> str:
        """The printed table; ``system`` as for :meth:`next_time`."""
        rows = list(self._rows(system))
        left, middle = (max(len(row[column]) for row in rows) for column in (0, 1))
        return "\n".join(f"{row[0]:<{left}}  {row[1]:>{middle}}  {row[2]}".rstrip() for row in rows)

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><th style='text-align:left'>{in_html(left)}</th>"
            f"<td style='text-align:right'>{in_html(middle)}</td>"
            f"<td style='text-align:left'>{in_html(right)}</td></tr>"
            for left, middle, right in self._rows()
        )
        return f"<table>{cells}</table>"

    def _rows(self, system: str | None = None) -> Iterator[tuple[str, str, str]]:
        """The printed table: a word, a number, and what is to be said about it."""
        yield line(self.stage) or "run", line(self.outcome), self.progress()
        if self.message:
            yield "", "", line(self.message)
        yield "budget", format_size(self.budget), line(self.origin)
        yield "reserved", format_size(self.reserved), "before any item"
        if self.projected:
            steps = any(each.items == 1 and not each.projected for each in self.stages)
            yield "projected", format_size(self.projected), "by the plan" + ", without the steps" * steps
        if self.why:
            yield "why", "", line(self.why)
        left = "headroom" if self.headroom >= 0 else "OVER the budget by"
        yield (
            "measured",
            format_size(self.peak),
            f"peak of the process tree; {left} {format_size(abs(self.headroom))}" + self._over_time(),
        )
        yield "batches", f"{self.batches:,}", self._batches()
        if self.failures:
            causes = ", ".join(f"{line(cause)} {count:,}" for cause, count in sorted(self.failures.items()))
            yield (
                "failures",
                f"{sum(self.failures.values()):,}",
                f"batches did not end: {causes}" + _lost(self.repeated_seconds),
            )
        for number, item in enumerate(self.set_aside[:5]):
            count = f"{self.set_aside_total:,}" if number == 0 else ""
            yield "set aside" if number == 0 else "", count, f"{line(item.name)}: {line(item.message)}"
        if self.set_aside_total > 5:
            yield "", "", f"and {self.set_aside_total - min(5, len(self.set_aside)):,} more"
        for number, stage in enumerate(self.stages):
            yield (
                ("stages" if number == 0 else ""),
                line(stage.stage),
                f"{line(stage.outcome)}, {stage.progress()}, peak {format_size(stage.peak)}",
            )
        if self.batches > 1:
            for number, call in enumerate(self.heaviest):
                yield "heaviest" if number == 0 else "", call.measured("peak"), str(call)
            for number, call in enumerate(self.slowest):
                yield "slowest" if number == 0 else "", call.measured("seconds"), str(call)
        for number, sentence in enumerate(self.next_time(system)):
            yield "advice" if number == 0 else "", "", sentence
        if self.folder is not None:
            yield "folder", "", line(str(self.folder))

    @property
    def counted(self) -> Sequence[Report]:
        """The stages whose items are told: one of one item, as each step is, has none that anybody counts."""
        return [stage for stage in self.stages if stage.items != 1] or [self]

    def progress(self) -> str:
        """One line: how many items, set aside, from before, in what time."""
        parts = []
        if self.stages:
            ended = sum(stage.outcome == "done" for stage in self.stages)
            parts.append(f"{ended:,} of {plural(len(self.stages), 'stage')}")
        counted = self.counted
        if not self.stages or counted != [self]:
            done, items = sum(each.done for each in counted), sum(each.items for each in counted)
            parts.append(f"{done:,} of {items:,} items")
        if self.set_aside_total:
            parts.append(f"{self.set_aside_total:,} set aside")
        if before := sum(each.resumed_from for each in counted):
            parts.append(f"{before:,} from before")
        parts.append(format_seconds(self.seconds))
        ended = self.outcome not in ("running", "died")  # CPU is told at the end
        if ended and self.cpu and self.seconds >= 1:
            parts.append(f"{self.cpu / self.seconds:.1f} cores busy")
        return ", ".join(parts)

    def _over_time(self) -> str:
        return f"; {self.held_over_time:.0%} of the budget held over time" if self.held_over_time else ""

    def _batches(self) -> str:
        parts = [f"{plural(self.workers_started, 'worker')} started"]
        if self.recycled:
            parts.append(f"{self.recycled:,} recycled")
        if self.waited_seconds >= _SHORT:
            parts.append(f"{format_seconds(self.waited_seconds)} of cores' time waited for memory")
        if self.paused:
            parts.append(f"{plural(self.paused, 'pause')}{_lost(self.paused_seconds)}")
        if self.coverage is not None:
            parts.append(
                f"{self.predictions[1]:,} of {self.predictions[0]:,} stayed under their predicted peak"
            )
        return ", ".join(parts)


def _lost(seconds: float) -> str:
    return f", {format_seconds(seconds)} of workers' time lost" if seconds >= _SHORT else ""


def _over_time(stages: Sequence[Report]) -> float:
    """What the stages held, each as long as it took."""
    seconds = sum(stage.seconds for stage in stages)
    return sum(stage.held_over_time * stage.seconds for stage in stages) / seconds if seconds else 0.0


def _fields_of(item: SetAside) -> dict[str, Any]:
    names = ("item", "name", "reason", "message", "error", "traceback", "needed")
    return {name: getattr(item, name) for name in names}
