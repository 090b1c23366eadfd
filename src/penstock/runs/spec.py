"""The description of a job: its fields, their checks, and what the rest of a run derives from them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from penstock import asking, foreign, registry
from penstock.abc import Sink, Source
from penstock.budget import MiB, format_size, parse_size
from penstock.durations import parse_duration
from penstock.engine.decide.estimate import Wishes
from penstock.engine.worker.main import Setup
from penstock.errors import UnknownPlugin, UsageError
from penstock.outputs import is_reducer
from penstock.record.job_key import job_key
from penstock.record.listing import Listing
from penstock.runs import checks
from penstock.stored import Stored

_LARGEST_FUNCTION = 16 * MiB
_LONGEST_SEED = 4096
"""Bits: more than any generator takes, and still a number that can be printed."""
_LARGEST_SOURCE = 256 * MiB
"""Some ten million paths: a source holds where its items are, for as many as there are."""


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """The fields of :class:`penstock.Job`, which explains its arguments."""

    source: Source
    function: Callable[..., Any]
    into: Any = "collect"
    inputs: Mapping[str, Any] = field(default_factory=dict)
    batched: bool | int = False
    memory: str | int | None = None
    threads: int | None = None
    seed: int = 0
    private: bool = False
    timeout: str | float | None = None
    stall: str | float = "10min"

    def __post_init__(self) -> None:
        if not isinstance(self.source, Source):
            methods = ("__len__", "read", "fingerprint")
            missing = ", ".join(name for name in methods if not hasattr(self.source, name))
            raise UsageError(
                f"source is a {type(self.source).__name__}, which has no {missing}; for a list "
                "write penstock.sources.Items(...), for numbers penstock.sources.Range(...)"
            )
        powers = [name for name in ("weigh", "carry", "load") if hasattr(self.source, name)]
        if "carry" in powers and len(powers) < 3:
            raise UsageError(
                f"source is a {type(self.source).__name__}, whose items travel with their batch: it "
                f"needs weigh, carry and load, and has only {', '.join(powers)}"
            )
        checks.called("function", self.function)
        for name in ("threads", "batched", "seed"):
            object.__setattr__(self, name, foreign.as_int(getattr(self, name)))
        checks.positive("threads", self.threads)
        checks.how_many("batched", self.batched, least=1)
        checks.named("inputs", self.inputs)
        if not isinstance(self.seed, int) or self.seed.bit_length() > _LONGEST_SEED:
            raise UsageError(f"seed must be a whole number, not {foreign.shown(self.seed, 60)}")
        _ = self.timeout_seconds, self.stall_seconds, self.wishes(None, None)

    def key(self, listing: Listing | None = None) -> dict[str, Any]:
        """What resume compares, with the listing of the source's files if it was made."""
        return job_key(
            function=self.function,
            source=self.source,
            outputs=self.outputs(temporary=False),
            inputs=self._stages_before(),
            options={"batched": self.batched, "seed": self.seed},
            listing=listing,
        )

    def _stages_before(self) -> Mapping[str, Any]:
        """The inputs, and the stage whose results are the items, where they are such."""
        stage = getattr(self.source, "stage", None)
        return {**self.inputs, "the items": stage} if isinstance(stage, Stored) else self.inputs

    def outputs(self, *, temporary: bool) -> dict[str, Any]:
        """Sinks and reducers by name; a single one has an empty name.

        Raises:
            UsageError: neither, or one that needs a folder in a temporary run.
        """
        if isinstance(self.into, Mapping):
            if not self.into:
                raise UsageError("into={} names no sink: give at least one")
            # An empty name is that of a single one, and may stand beside others.
            outputs = {
                name if name == "" else checks.folder_name("an output (into=)", name): _output(output)
                for name, output in self.into.items()
            }
        else:
            outputs = {"": _output(self.into)}
        if not temporary and any(getattr(output, "anything", False) is True for output in outputs.values()):
            raise UsageError(
                "Collect(anything=True) writes nothing, so a run folder would keep no results: leave it "
                "out, or give the run no folder"
            )
        if temporary:
            outputs = {
                name: _for_temporary(output, single=len(outputs) == 1) for name, output in outputs.items()
            }
        return outputs

    @property
    def stall_seconds(self) -> float:
        """``stall`` in seconds."""
        return parse_duration(self.stall, "stall")

    @property
    def timeout_seconds(self) -> float | None:
        """``timeout`` in seconds."""
        return None if self.timeout is None else parse_duration(self.timeout, "timeout")

    def most_threads(self, cores: int) -> int:
        """The most threads for a call that has all cores to itself."""
        return min(cores, self.threads or cores)

    def wishes(self, workers: int | None, call: int | None) -> Wishes:
        """What was stated about sizes."""
        fixed = None if isinstance(self.batched, bool) else self.batched
        memory = None if self.memory is None else parse_size(self.memory)
        return Wishes(workers=workers, call=call, fixed_call=fixed, memory=memory, threads=self.threads)

    def setup(self, outputs: Mapping[str, Any], results: Path, state_dir: Path, *, durable: bool) -> Setup:
        """The job as a worker receives it."""
        return Setup(
            function=self.function,
            source=self.source,
            outputs=outputs,
            folder=results,
            state_dir=state_dir,
            items=asking.count(self.source),
            batched=bool(self.batched),
            fixed_call=None if isinstance(self.batched, bool) else self.batched,
            inputs=dict(self.inputs),
            seed=self.seed,
            private=self.private,
            durable=durable,
        )

    def pack(self, setup: Setup) -> bytes:
        """The setup, pickled. What is defined only in a script or notebook goes by value.

        Raises:
            UsageError: it cannot be pickled; or it is over 16 MiB, and names the variable, or its source over
                256 MiB.
        """
        import cloudpickle

        try:
            packed: bytes = cloudpickle.dumps(setup, protocol=5)
        except Exception as error:
            raise UsageError(
                f"the job cannot be sent to workers: {error}. Open files, connections and locks belong in an "
                "object with prepare(), which each worker calls for itself."
            ) from error
        if len(packed) > _LARGEST_FUNCTION:
            source = len(cloudpickle.dumps(self.source, protocol=5))
            self._check_sizes(len(packed) - source, source)
        return packed

    def _check_sizes(self, function: int, source: int) -> None:
        """What workers are sent, in bytes when pickled: the function and all beside the source, and that."""
        if source > _LARGEST_SOURCE:
            raise UsageError(
                f"the source takes {format_size(source)} to send to workers, more than "
                f"{format_size(_LARGEST_SOURCE)}: a {type(self.source).__name__} should hold where items "
                "are, not the items. Make larger items, or read what it holds from a file in its read()."
            )
        if function > _LARGEST_FUNCTION:
            name, size = _heaviest(self.function)
            raise UsageError(
                f"the function takes {format_size(function)} to send to workers, more than "
                f"{format_size(_LARGEST_FUNCTION)}: it captures {name} ({format_size(size)}). Save "
                "that to a file and pass inputs={...: Path(...)}, which every worker maps."
            )


def _output(into: Any) -> Any:
    if not isinstance(into, str):
        if isinstance(into, type):
            raise UsageError(f"into is the class {into.__name__}; write {into.__name__}()")
        with asking.Asking(into, "grain"):  # a property, which is asked for when it is looked for
            fits = isinstance(into, Sink) or is_reducer(into)
        if not fits:
            raise UsageError(f"into is a {type(into).__name__}, which is neither a sink nor a reducer")
        return into
    for kind in ("sink", "reducer"):
        if into in registry.names(kind):
            return registry.make(kind, into)
    raise UnknownPlugin("sink or reducer", into, {*registry.names("sink"), *registry.names("reducer")})


def _for_temporary(output: Any, *, single: bool) -> Any:
    from penstock.sinks.collect import Collect

    if is_reducer(output):
        return output
    if isinstance(output, Collect) and single:
        return Collect(cap=output.cap, anything=True)
    what = type(output).__name__
    raise UsageError(f"{what} keeps files, and a temporary run keeps none: give the run a folder")


def _heaviest(function: Any) -> tuple[str, int]:
    """The captured variable that pickles largest."""
    import cloudpickle

    if isinstance(function, functools.partial):
        found = {f"argument {n}": value for n, value in enumerate(function.args)} | dict(function.keywords)
        function = function.func
    else:
        found = {}
    code = getattr(function, "__code__", None)
    if code is not None:
        cells = getattr(function, "__closure__", None) or ()
        found |= dict(zip(code.co_freevars, (cell.cell_contents for cell in cells), strict=True))
        found |= {name: function.__globals__[name] for name in code.co_names if name in function.__globals__}
    else:
        found |= vars(function) if hasattr(function, "__dict__") else {}
    sizes = {}
    for name, value in found.items():
        try:
            sizes[name] = len(cloudpickle.dumps(value))
        except Exception:
            sizes[name] = 0
    name = max(sizes, key=sizes.__getitem__, default="")
    return (repr(name), sizes[name]) if name else ("something large", 0)
