"""Calls the function with items, one by one or a call at a time, and finds the culprit of a failure.

Seeds, second chances, set-aside items and the worker's note are looked after here; measuring,
cutting and keeping are the worker's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableSequence
from pathlib import Path
from typing import Any

from penstock import foreign, forks, storage
from penstock import worker_note as note
from penstock.abc import Itemised, SetAside
from penstock.engine.apart import Apart
from penstock.engine.worker.exceptions import out_of_memory, set_aside
from penstock.engine.worker.fitness import Fitness, Unfit
from penstock.engine.worker.process import set_fence
from penstock.engine.worker.seeding import Seeder
from penstock.errors import BadInput
from penstock.meter import Meter
from penstock.sharing import Share

_BELIEVED = 2
"""When it was tried so often, in as many processes, an item is believed to use up what one may have."""


class Fence:
    """RLIMIT_DATA as a fence around a call: an allocation far beyond raises MemoryError instead.

    Args:
        meter: of this process.
    """

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self.up = False

    def put(self, size: int) -> None:
        """Allow so many bytes of private memory beyond what is mapped now; 0 lifts the fence."""
        if size or self.up:
            set_fence(self._meter.data() + size if size else 0)
            self.up = bool(size)

    def lift(self) -> None:
        """Lift the fence."""
        self.put(0)


class Caller:
    """Calls one job's function.

    Args:
        function: with its inputs bound.
        source: of the items.
        words: the worker's note.
        seed: the job's.
        fence: lifted before a failure is believed.
        fitness: of this process.
        folder: where results are kept.
        private: keep messages of exceptions to ourselves.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        source: Any,
        words: MutableSequence[int],
        seed: int,
        fence: Fence,
        fitness: Fitness,
        *,
        folder: Path,
        private: bool,
    ) -> None:
        self._call = function
        self._source = source
        self._itemised = source if isinstance(source, Itemised) else None
        self._note = words
        self._seeder = Seeder(seed)
        self._fence = fence
        self._fitness = fitness
        self._folder = folder
        self.first = -1
        """The first item that this process works, where that is of this batch."""
        self.each_result = 0.0
        """Estimated bytes of what it gives for an item, where results go up."""
        self._private = private
        self._here = forks.Here()
        self.begin({}, Share(memory=0, threads=1, attempt=0))

    def begin(self, known: Mapping[int, SetAside], share: Share, apart: Apart | None = None) -> None:
        """Begin a batch.

        Args:
            known: items set aside before; not called.
            share: what the function may use.
            apart: of a batch whose items may be had back.
        """
        self._apart = apart
        self.known = known
        self.share = share
        self.aside: list[SetAside] = []
        """Items set aside in this batch."""
        self.unread: BaseException | None = None
        """Why the batch's only item cannot be read, where that is known already."""

    def _given_up(self, item: int, error: BaseException) -> SetAside:
        return set_aside(self._source, item, error, private=self._private)

    def one_by_one(self, start: int, stop: int) -> Iterator[tuple[int, int, Any]]:
        """Call the function with each item; seeds, failures and folders are per item."""
        self._seeder.begin(start)
        apart = self._apart
        results, aside = self._items(start, stop, apart)
        if apart is not None:
            self._settle(start, results, aside)
            apart.lay_down(start, results)
        elif self._seeder.was_used() and stop - start > 1:
            # The items of this group drew from one stream: draw again, each from its own.
            results, aside = self._items(start, stop)
        self.aside.extend(aside)
        yield start, start + len(results), results

    def _items(self, start: int, stop: int, apart: Apart | None = None) -> tuple[list[Any], list[SetAside]]:
        self._here.stay()  # a sink that forked asks for more
        call, words, share, here = self._call, self._note, self.share, self._here.count
        seed = self._seeder.seed if self._seeder.each_item and apart is None else None
        results: list[Any] = []
        aside: list[SetAside] = []
        append, wary = results.append, self._fitness.wary
        called = -1
        while (at := start + len(results)) < stop:
            if at in self.known:
                append(self.known[at])
                continue
            limit = min((item for item in self.known if at < item < stop), default=stop)
            try:
                words[note.ITEM] = at  # reading it is part of working it
                items = self._each(at, limit)
                if apart is not None:
                    items = apart.feed(at, self._settled(at, items, results, aside), results)
                for item_number, item in zip(range(at, limit), items, strict=False):
                    called = item_number
                    if seed is not None:
                        seed(item_number)
                    append(call(item))
                    if forks.count != here:
                        forks.end()
                    if share.used_folder:
                        share.next_item()
                    if wary:
                        self._fitness.check(item_number)
                    words[note.ITEM] = item_number + 1  # last: until then whatever is raised is this item's
                if apart is not None and apart.ended:
                    break
                if start + len(results) < limit:
                    raise BadInput(
                        f"the source gave {len(results)} items where {limit - start} were expected"
                    )
            except BaseException as error:
                self._here.stay(error)
                failed = min(max(words[note.ITEM], at), start + len(results), stop - 1)
                del results[failed - start :]  # a late signal may raise when its result is there already
                if out_of_memory(error) or foreign.is_a(error, Unfit):
                    raise
                append(self._second_chance(failed, error, called == failed, aside))
        return results, aside

    def _settled(
        self, at: int, items: Iterable[Any], results: list[Any], aside: list[SetAside]
    ) -> Iterator[Any]:
        """The items from ``at`` on; each is given when what came of those before it is final."""
        base = at - len(results)
        for item, each in enumerate(items, at):
            self._settle(base, results, aside)
            if self._seeder.each_item:
                self._seeder.seed(item)
            yield each

    def _settle(self, base: int, results: list[Any], aside: list[SetAside]) -> None:
        """Work the last item again where it is the first that drew, from a seed that was not its own.

        Its result is told before the group ends, and cannot be mended then. The first item had its own.

        Args:
            base: the item of the first result.
            results, aside: so far.
        """
        if results and self._seeder.was_used() and len(results) > 1:
            item = base + len(results) - 1
            results[-1:], again = self._items(item, item + 1)
            aside[:] = [*(each for each in aside if each.item != item), *again]

    def _second_chance(
        self, item: int, error: BaseException, in_function: bool, aside: list[SetAside]
    ) -> Any:
        """Believe an exception only without the fence: libraries turn a refused allocation into anything."""
        if storage.is_out_of_room(error, self._folder):
            raise error
        if self._fence.up and in_function:
            self._fence.lift()
            try:
                if self._seeder.each_item:
                    self._seeder.seed(item)
                result = self._call(*self._each(item, item + 1))
                self._here.stay()
                return result
            except BaseException as again:
                self._here.stay(again)
                if out_of_memory(again):
                    raise
                error = again
        self._believe(item, error)
        aside.append(self._given_up(item, error))
        return aside[-1]

    def _believe(self, item: int, error: BaseException) -> None:
        """Believe an exception only in a process that is fit for the item."""
        fresh = item == self.first or self.share.attempt >= _BELIEVED
        self._fitness.blame(error, item, fresh=fresh)
        self._fitness.check(item)

    def batched(self, start: int, stop: int) -> Iterator[tuple[int, int, Any]]:
        """Call the function with all items of the call; on failure bisect, to find the culprit."""
        for at, end in _runs(start, stop, self.known):
            if at in self.known:
                yield at, end, self.known[at]
            else:
                yield from self._call_or_halve(at, end)

    def _call_or_halve(self, start: int, stop: int) -> Iterator[tuple[int, int, Any]]:
        culprits: dict[int, SetAside] = {}
        try:
            result = self._call_once(start, stop)
        except BaseException as error:
            if out_of_memory(error) or foreign.is_a(error, Unfit):
                raise
            self._fence.lift()  # believed only without it
            self._find(start, stop, error, culprits)
        else:
            yield start, stop, result
            return
        self.aside.extend(culprits.values())
        for at, end in _runs(start, stop, culprits):
            yield at, end, culprits[at] if at in culprits else self._call_once(at, end)

    def _call_once(self, start: int, stop: int) -> Any:
        self._here.stay()
        self._note[note.ITEM] = start if stop - start == 1 else -1
        self._note[note.CALL_START], self._note[note.CALL_STOP] = start, stop
        self._seeder.seed(start)
        try:
            result = self._call(self._read(start, stop))
        except BaseException as error:
            self._here.stay(error)
            self._fitness.check(self._note[note.ITEM])
            raise
        self._here.stay()
        self._fitness.check(self._note[note.ITEM])
        return result

    def _find(self, start: int, stop: int, error: BaseException, culprits: dict[int, SetAside]) -> None:
        """Halve a failing call until single items fail; results are dropped on the way."""
        if storage.is_out_of_room(error, self._folder):
            raise error
        middle = (start + stop) // 2
        halves = ((start, middle), (middle, stop)) if stop - start > 1 else ((start, stop),)
        for at, end in halves:
            try:
                self._call_once(at, end)
            except BaseException as again:
                if out_of_memory(again) or foreign.is_a(again, Unfit):
                    raise
                if end - at == 1:
                    self._believe(at, again)
                    culprits[at] = self._given_up(at, again)
                else:
                    self._find(at, end, again, culprits)

    def _read(self, start: int, stop: int) -> Any:
        if self.unread is not None:
            raise self.unread
        return self._source.read(start, stop)

    def _each(self, start: int, stop: int) -> Any:
        """The items one by one: iterating an Arrow table, say, would give its columns."""
        container = self._read(start, stop)
        if self._itemised is None or isinstance(container, Iterator):
            return container
        return self._itemised.each(container)


def _runs(start: int, stop: int, without: Mapping[int, Any]) -> Iterator[tuple[int, int]]:
    """Runs of items with none of ``without`` among them, and these one by one, in order."""
    at = start
    for item in sorted(item for item in without if start <= item < stop):
        if at < item:
            yield at, item
        yield item, item + 1
        at = item + 1
    if at < stop:
        yield at, stop
