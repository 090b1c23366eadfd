"""Writes results to sinks and reducers, grain by grain, in a worker.

Covers cutting the stream of results into grains, several outputs fed from one function, states
too large for a receipt, and what comes before the first and after the last batch.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from penstock import asking, foreign, forks, layout, values
from penstock.abc import Batch, Closed, Part, Receipt, Reducer, SetAside, Sink
from penstock.budget import format_size
from penstock.engine.worker.feeding import Entry, Feed, GrainEntries, OutputPlace, one_each
from penstock.errors import ResultsDamaged
from penstock.files import atomic, differs, digest, last_touched, proof, prove
from penstock.outputs import is_reducer
from penstock.record import journal, journal_schema

INLINE = 64 << 10
"""Bytes of a state or value that may ride inside a receipt."""

_MOST_TEXT = 96 << 10
"""What that may be as text, where an array takes a third more."""
_TEXT_PER_ITEM = 64

Kept = tuple[int, int, Receipt]
"""(start, stop, receipt) of one grain."""


class Keeper:
    """The sinks and reducers of a job.

    Args:
        outputs: by name; the name is empty where there is only one.
        folder: where results are kept; several outputs get a folder each inside.
        state_dir: where states are kept.
        batched: whether the function takes a call at once.
    """

    def __init__(
        self, outputs: Mapping[str, Sink | Reducer], folder: Path, state_dir: Path, *, batched: bool
    ) -> None:
        self._outputs = outputs
        self._folder = folder
        self._state_dir = state_dir
        self._batched = batched
        self._proved: set[str] = set()
        """Outputs of which a part was read again: one that tells a wrong digest does so of all."""
        # Asked once: in Python 3.11 a protocol takes 30 us to look at an object.
        self._reducers = frozenset(name for name, output in outputs.items() if is_reducer(output))
        self._here = forks.Here()
        self._grain_of = {name: asking.grain(output) for name, output in outputs.items()}
        self._grains = [grain for grain in self._grain_of.values() if grain]
        self._whole = math.lcm(*self._grains) if self._grains else 1
        self.at = -1
        """The item whose result was handed on last; blamed when it cannot be kept."""

    @property
    def threaded(self) -> bool:
        """Whether other threads write results while the function continues."""
        return len(self._outputs) > 1

    def border(self, item: int) -> int:
        """Where the first grain that holds ``item`` ends: no call crosses it."""
        return min((item // grain * grain + grain for grain in self._grains), default=1 << 62)

    def may_cut(self, item: int) -> bool:
        """Whether a batch may end before ``item``."""
        return item % self._whole == 0

    def open(self, items: int) -> None:
        """Open the outputs, once per stage."""
        for name, output in self._outputs.items():
            if isinstance(output, Sink):  # a reducer keeps no files of its own
                folder = self._folder_of(name)
                folder.mkdir(parents=True, exist_ok=True)
                output.open(folder, items)

    def keep(
        self, stream: Iterator[Entry], start: int, stop: int, known: Mapping[int, SetAside]
    ) -> dict[str, tuple[Kept, ...]]:
        """Pull the stream through every output; returns what each kept."""
        if self.threaded:
            return self._several(stream, start, stop, known)
        ((name, output),) = self._outputs.items()
        place = OutputPlace()
        try:
            return {name: self._one(name, output, stream, start, stop, known, place)}
        finally:
            self.at = place.at

    def close(
        self, journal_path: Path, *, durable: bool
    ) -> tuple[dict[str, Any] | None, dict[str, Closed | None]]:
        """Close every output, once per stage, streaming the receipts from the journal.

        What reducers made is kept as a file; a run that is not durable gets it back instead.

        Returns:
            What the reducers made, or None where it is kept; and what each output wrote in the end.

        Raises:
            ResultsDamaged: a part is gone, or is not what was kept.
        """
        made: dict[str, Any] = {}
        told: dict[str, Closed | None] = {}
        for name, output in self._outputs.items():
            receipts = journal.receipts(journal_path, name)
            if is_reducer(output):
                made[name] = output.finish(self._states(receipts))
                self._here.stay()
                if durable:
                    kept = self._state_dir / layout.result_name(name)
                    with atomic(kept) as path:
                        path.write_text(values.dumps(made[name]))
                    told[name] = Closed((Part(kept.name, *proof(kept)),))
            else:
                folder = self._folder_of(name)
                answer = cast(Sink, output).close(_standing(receipts, folder), folder)
                # A stranger's sink may return whatever it likes, and always could.
                told[name] = answer if isinstance(answer, Closed) else None
                self._believe_close(told[name], journal.receipts(journal_path, name), output, folder)
        return (None if durable else made), told

    def _believe_close(
        self, told: Closed | None, receipts: Iterable[tuple[Batch, Receipt]], output: Any, folder: Path
    ) -> None:
        """See that what a sink tells of its close can be journaled, and that it left the parts as they were.

        Raises:
            TypeError, ValueError: it cannot, or did not.
        """
        name = foreign.kind_of(output)
        if told is not None:
            if type(told.replaced) is not bool or not isinstance(told.pattern, str):
                raise TypeError(
                    f"close() of {name} gave a Closed with replaced={foreign.shown(told.replaced, 60)} and "
                    f"pattern={foreign.shown(told.pattern, 60)}: True or False, and a text, were expected"
                )
            for part in told.parts:
                _believe(Receipt((part,)), output, folder, method="close", top=self._is_top(folder))
            if told.replaced:
                return
        try:
            for _ in _standing(receipts, folder):
                pass
        except ResultsDamaged as error:
            raise ValueError(
                f"close() of {name} changed a part that was kept ({error}): write another file, or say with "
                "Closed(parts, replaced=True) what stands for the parts"
            ) from error

    # ------------------------------------------------------------------ one output

    def _is_top(self, folder: Path) -> bool:
        """Whether a sink's folder is the run folder itself, where files of the engine's lie too."""
        return self._state_dir.parent == folder / layout.STATE

    def _folder_of(self, name: str) -> Path:
        return self._folder / name if name else self._folder

    def _one(
        self,
        name: str,
        output: Sink | Reducer,
        stream: Iterator[Entry],
        start: int,
        stop: int,
        known: Mapping[int, SetAside],
        place: OutputPlace,
    ) -> tuple[Kept, ...]:
        kept: list[Kept] = []
        at, grain = start, self._grain_of[name]
        while at < stop:
            end = min(at // grain * grain + grain, stop) if grain else stop
            segment = GrainEntries(stream, at, end)
            if not segment.begun:
                break
            without = tuple(sorted(item for item in known if at <= item < end))
            results = self._unpack(segment, getattr(output, "unit", "item"), place)
            if name in self._reducers:
                receipt = self._fold(name, cast(Reducer, output), results, at)
            else:
                folder = self._folder_of(name)
                receipt = cast(Sink, output).write(Batch(at, end, without), results, folder)
                self._here.stay()
                for _ in results:  # a sink that stopped early still gets the whole grain worked
                    pass
                _believe(receipt, output, folder, end - at, top=self._is_top(folder))
                if receipt.parts and name not in self._proved:
                    _prove_first(receipt.parts[0], output, folder)
                    self._proved.add(name)
                receipt = _timed(receipt, folder)
            kept.append((at, segment.at, receipt))
            at = segment.at
        return tuple(kept)

    def _unpack(self, segment: Iterator[Entry], unit: str, place: OutputPlace) -> Iterator[Any]:
        for start, stop, results in segment:
            place.at = start
            if not self._batched:
                for place.at, result in zip(range(start, stop), results, strict=True):
                    yield result
            elif isinstance(results, SetAside) or unit == "call":
                yield results
            else:
                for place.at, result in enumerate(one_each(results, stop - start), start):
                    yield result

    def _fold(self, name: str, output: Reducer, results: Iterator[Any], start: int) -> Receipt:
        state = output.start()
        step = output.step
        for result in results:
            if not isinstance(result, SetAside):
                state = step(state, result)
        self._here.stay()
        text = values.dumps(state)
        if len(text) <= INLINE:
            return Receipt(value=state)
        file = f"state-{name}-{start:012d}.json" if name else f"state-{start:012d}.json"
        states = self._state_dir / layout.STATES
        states.mkdir(exist_ok=True)
        with atomic(states / file) as path:
            path.write_text(text)
        return Receipt(parts=(Part(file, len(text), digest(states / file)),))

    def _states(self, receipts: Iterable[tuple[Batch, Receipt]]) -> Iterator[Any]:
        for _, receipt in receipts:
            if receipt.parts:
                part = receipt.parts[0]
                path = self._state_dir / layout.STATES / part.name
                prove(path, part.bytes, part.digest)
                yield values.loads(path.read_bytes())
            else:
                yield receipt.value

    # ------------------------------------------------------------------ several outputs

    def _several(
        self, stream: Iterator[Entry], start: int, stop: int, known: Mapping[int, SetAside]
    ) -> dict[str, tuple[Kept, ...]]:
        """One thread an output, each handed one call's results at a time: nobody runs ahead."""
        feeds = {name: Feed(name) for name in self._outputs}
        kept: dict[str, tuple[Kept, ...]] = {}

        def serve(name: str, output: Sink | Reducer, feed: Feed) -> None:
            try:
                kept[name] = self._one(name, output, iter(feed), start, stop, known, feed.place)
            except BaseException as error:  # carried to the thread that feeds
                self._here.stay(error)
                feed.error = error
            finally:
                feed.ended.set()

        threads = [
            threading.Thread(target=serve, args=(name, output, feeds[name]), daemon=True)
            for name, output in self._outputs.items()
        ]
        for thread in threads:
            thread.start()
        error: BaseException | None = None
        try:
            for entry in stream:
                for name, feed in feeds.items():
                    feed.put(self._for_output(name, entry))
        except BaseException as raised:
            error = raised
        # Every output is told, whatever has failed: a thread that is not would wait for ever.
        for feed in feeds.values():
            feed.stop(error)
            error = error or feed.error
        for thread in threads:
            thread.join()
        for feed in feeds.values():
            if feed.error is not None and (error is None or feed.error is error):
                self.at, error = feed.place.at, feed.error
        try:
            if error is not None:
                raise error
        finally:
            # Its frames hold these, and what the function made: as a circle that waits for a collection.
            for feed in feeds.values():
                feed.let_go()
            error = None
        return kept

    def _for_output(self, name: str, entry: Entry) -> Entry:
        start, stop, results = entry
        if isinstance(results, SetAside):
            return entry
        try:
            if self._batched:
                return start, stop, results[name]
            return start, stop, [each if isinstance(each, SetAside) else each[name] for each in results]
        except (KeyError, TypeError, IndexError) as error:
            raise TypeError(
                f"into= names {', '.join(map(repr, self._outputs))}, so the function must return a dict with "
                f"these names; {name!r} was not in what it returned"
            ) from error


def _believe(
    receipt: Any, output: Any, folder: Path, items: int = 0, method: str = "write", *, top: bool = False
) -> None:
    """See that what a sink tells can be journaled and stands: else every later reader would refuse it.

    Args:
        receipt: what it tells.
        output: the sink.
        folder: where its parts lie.
        items: of the batch; a few bytes for each may be told, of those that are missing, say.
        method: of the sink, that told it.
        top: whether the parts lie beside files of the engine's.

    Raises:
        TypeError, ValueError: it cannot, or does not.
    """
    name = foreign.kind_of(output)
    if type(receipt) is not Receipt:
        raise TypeError(
            f"{method}() of {name} gave a {foreign.kind_of(receipt)}, where a Receipt was expected"
        )
    for part in receipt.parts:
        told = [part.name, part.bytes, part.digest] if type(part) is Part else part
        if not journal_schema.is_part(told):
            raise ValueError(
                f"{method}() of {name} told of the part {foreign.shown(told, 200)}: a Part with a plain name "
                "inside its folder, its bytes and its digest was expected"
            )
        if top and (part.name == "." or part.name.split("/")[0] in layout.OURS):
            raise ValueError(
                f"{method}() of {name} told of the part {foreign.shown(part.name, 200)}, and in a run folder "
                "the engine keeps something of that name: choose another"
            )
        if odd := differs(folder / part.name, part.bytes, part.digest, since=math.inf):
            raise ValueError(
                f"{method}() of {name} told of the part {foreign.line(part.name, 200)}: "
                f"expected {odd[0]}, found {odd[1]}"
            )
    if receipt.value is None or getattr(output, "anything", False):  # it goes nowhere as text
        return
    try:
        size = _text_bytes(receipt.value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{method}() of {name} gave a receipt whose value cannot be kept: {error}") from None
    if size > _MOST_TEXT + _TEXT_PER_ITEM * items:
        raise ValueError(
            f"{method}() of {name} gave a receipt whose value takes {format_size(size)} as text: up to "
            f"{format_size(INLINE)} of value travel in a receipt, which the parent journals and keeps in "
            "memory; write what is larger into a part"
        )


def _prove_first(part: Part, output: Any, folder: Path) -> None:
    """Read a part again: its digest is what every later reader goes by.

    Raises:
        ValueError: it is that of something else.
    """
    if odd := differs(folder / part.name, part.bytes, part.digest):
        raise ValueError(
            f"write() of {foreign.kind_of(output)} told of the part {foreign.line(part.name, 200)}: expected "
            f"{odd[0]}, found {odd[1]}; penstock.files.digest gives the digest of a file"
        )


def _timed(receipt: Receipt, folder: Path) -> Receipt:
    """With the time at which its parts were as they are kept: whoever changes one in place makes it later."""
    times = [last_touched(folder / part.name) for part in receipt.parts]
    return replace(receipt, touched=max(times) // 1000) if times else receipt


def _text_bytes(value: Any) -> int:
    if type(value) is list and all(type(each) is str for each in value):  # no look at each for its type
        return len(json.dumps(value))
    return len(values.dumps(value))


def _standing(receipts: Iterable[tuple[Batch, Receipt]], folder: Path) -> Iterator[tuple[Batch, Receipt]]:
    """The same receipts, each once its parts were seen to be there, in their size.

    Parts that were touched since they were kept are read: a function may have written into one.

    Raises:
        ResultsDamaged: one is not.
    """
    for batch, receipt in receipts:
        since = receipt.touched * 1000 + 999
        for part in receipt.parts:
            prove(folder / part.name, part.bytes, part.digest, since=since)
        yield batch, receipt
