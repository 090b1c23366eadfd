"""The loop of a worker: take two integers, read, call, write, answer with a receipt.

Runs in a forked process (or in this one, for the backend ``inline``). Covers calling the
function, measuring each call, keeping results, and finding the culprit among the items of a
call. Does not decide anything about memory or order: the parent does.
"""

from __future__ import annotations

import errno
import functools
import gc
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, MutableSequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from penstock import note
from penstock.abc import Carried, Itemised, Reducer, SetAside, Sink
from penstock.budget import MiB
from penstock.engine import messages as m
from penstock.engine.keeping import Keeper
from penstock.engine.meter import Meter, own_pages
from penstock.engine.process import limit_threads, set_fence, trim
from penstock.engine.seeding import Seeder
from penstock.errors import BadInput
from penstock.sharing import Share, set_share
from penstock.stored import open_input

_TRIM_ABOVE = 4 * MiB
"""Retained memory under this is not worth a collection."""

_SHAREABLE = ("numpy", "scipy", "pandas", "pyarrow", "numba", "PIL", "nibabel", "skimage", "cv2")
"""Packages that start no thread and open nothing when they are imported."""


@dataclass(frozen=True)
class Setup:
    """A job as a worker gets it."""

    function: Callable[..., Any]
    source: Any
    rooms: Mapping[str, Sink | Reducer]
    """Sinks and reducers by name; the name is empty where there is only one."""
    folder: Path
    """Where results are kept."""
    machinery: Path
    """Where states, scratch folders and the journal are."""
    items: int
    batched: bool
    fixed_call: int | None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    private: bool = False
    durable: bool = True

    def warm(self) -> None:
        """Load what all workers share; called once in the fork server, before any fork."""
        warm = getattr(self.function, "warm", None)
        if callable(warm):
            warm()

    def serve(self, channel: Any, words: MutableSequence[int]) -> None:
        """Be a worker until told to leave.

        Args:
            channel: has ``send(message)`` and ``receive()``; the latter raises EOFError at the end.
            words: the worker's note.
        """
        worker = self.worker(words)
        ready = worker.prepare()
        channel.send(ready)
        while isinstance(ready, m.Ready):
            answer = worker.answer(channel.receive())
            if answer is None:
                return
            channel.send(answer)

    def worker(self, words: MutableSequence[int]) -> Worker:
        """A worker for this job, not yet prepared; it answers None when it is told to leave."""
        return Worker(self, words, self.machinery / "scratch")


class Worker:
    """Works for one job.

    Args:
        setup: the job.
        words: its note, shared with the parent (see ``penstock.note``).
        scratch: folder for scratch folders of items.
    """

    def __init__(self, setup: Setup, words: MutableSequence[int], scratch: Path) -> None:
        self._setup = setup
        self._note = words
        self._scratch = scratch
        self._meter = Meter(children=True)
        self._seeder = Seeder(setup.seed)
        self._call: Callable[..., Any] = setup.function
        self._keeper = Keeper(setup.rooms, setup.folder, setup.machinery, batched=setup.batched)
        self._idle = 0
        self._warm = False
        self._settled = 0
        self._modules = frozenset(sys.modules)
        self._fenced = False
        self._known: dict[int, SetAside] = {}
        self._stop = 0
        self._threads: int | None = None
        # Of the batch being worked:
        self._work: m.Work | None = None
        self._share = Share(memory=0, threads=1, attempt=0)
        self._calls: list[m.Call] = []
        self._aside: list[SetAside] = []
        self._held = 0
        self._deadline = 0.0

    # ------------------------------------------------------------------ outside in

    def prepare(self) -> m.Ready | m.Failed:
        """Open the inputs and let the function prepare itself."""
        try:
            inputs = {name: open_input(value) for name, value in self._setup.inputs.items()}
            if inputs:
                self._call = functools.partial(self._setup.function, **inputs)
            prepare = getattr(self._setup.function, "prepare", None)
            if callable(prepare):
                prepare()
        except MemoryError as error:
            return self._failure("memory", -1, error)
        except BaseException as error:
            return self._failure("prepare", -1, error)
        self._idle = self._meter.held()
        return m.Ready(self._idle, own_pages() + self._meter.children())

    def answer(self, message: Any) -> Any:
        """Do what a message asks for; the answer tells what came of it."""
        if isinstance(message, m.Work):
            return self._batch(message)
        if isinstance(message, m.Chore):
            return self._chore(message)
        if isinstance(message, m.Leave):
            return None
        raise TypeError(f"a worker cannot do a {type(message).__name__}")

    def _chore(self, chore: m.Chore) -> m.ChoreDone | m.Failed:
        try:
            if chore.what == "open":
                self._keeper.open(self._setup.items)
                return m.ChoreDone()
            return m.ChoreDone(self._keeper.close(chore.argument, durable=self._setup.durable))
        except MemoryError as error:
            return self._failure("memory", -1, error)
        except BaseException as error:
            return self._failure("disk" if _disk_full(error) else "raised", -1, error)

    # ------------------------------------------------------------------ a batch

    def _batch(self, work: m.Work) -> m.Done | m.Failed:
        began = time.perf_counter()
        self._begin(work, began)
        first = not self._warm
        try:
            stream = self._stream(work)
            if work.keep:
                receipts = self._keeper.keep(stream, work.start, work.stop, self._known)
            else:
                receipts = {}
                for _ in stream:
                    pass
        except MemoryError as error:
            return self._failure("memory", max(self._note[note.ITEM], -1), error)
        except BaseException as error:
            return self._failure("disk" if _disk_full(error) else "kept", self._keeper.at, error)
        finally:
            self._fence(0)
            set_share(None)
        retained = self._give_back()
        return m.Done(
            stop=self._stop,
            receipts=receipts,
            set_aside=tuple(self._aside),
            calls=_telling(self._calls),
            seconds=time.perf_counter() - began,
            retained=retained,
            grown=max(retained - self._settled, 0),
            first=first,
            imported=self._imported() if first else (),
        )

    def _begin(self, work: m.Work, began: float) -> None:
        self._work = work
        self._deadline = began + work.seconds
        self._known = {each.item: each for each in work.without}
        self._calls, self._aside, self._held = [], [], 0
        self._stop = work.start
        self._note[note.CUT] = 0
        self._share = Share(work.memory, work.threads, work.attempt, self._scratch)
        set_share(self._share)
        if work.threads != self._threads:
            limit_threads(work.threads)
            self._threads = work.threads
        self._note[note.ITEM] = self._note[note.CALL_START] = self._note[note.CALL_STOP] = -1
        if isinstance(self._setup.source, Carried) and work.cargo is not None:
            self._setup.source.load(work.start, work.cargo)

    def _stream(self, work: m.Work) -> Iterator[tuple[int, int, Any]]:
        """(start, stop, results) call by call, in item order; ends early where the batch is cut."""
        at = work.start
        worked = self._batched if self._setup.batched else self._one_by_one
        while at < work.stop:
            stop = min(at + work.call, self._keeper.border(at), work.stop)
            if self._setup.fixed_call:  # the same calls whatever the batch: they begin at multiples
                stop = min(
                    stop, at // self._setup.fixed_call * self._setup.fixed_call + self._setup.fixed_call
                )
            # Set before the results are handed on: nobody pulls again behind the last of them.
            start, at = at, stop
            self._stop = stop
            yield from self._measured(start, stop, worked)
            if at < work.stop and self._keeper.may_cut(at) and self._cut(work):
                return

    def _cut(self, work: m.Work) -> bool:
        return (
            self._held - self._settled > work.memory
            or self._note[note.CUT] != 0
            or time.perf_counter() > self._deadline
        )

    def _measured(
        self, start: int, stop: int, worked: Callable[[int, int], Iterator[tuple[int, int, Any]]]
    ) -> Iterator[tuple[int, int, Any]]:
        words = self._note
        words[note.CALL_START], words[note.CALL_STOP] = start, stop
        if self._warm and self._work is not None and not self._keeper.threaded:
            self._fence(self._work.fence)
        self._meter.reset()
        began = time.perf_counter()
        # The results are handed on only when the call has ended: what the sink does with them
        # is measured with the next call.
        results = list(worked(start, stop))
        seconds = time.perf_counter() - began
        peak, held = self._meter.peak()
        # The fence is the call's: a sink that first imports Arrow maps more at once than it allows.
        self._fence(0)
        words[note.STEPS] += 1
        words[note.ITEM] = note.KEEPING
        self._held = max(held - self._idle, 0)
        if not self._warm:
            self._warm = True
            self._settled = self._held
        self._calls.append(m.Call(start, stop, max(peak - self._idle, 0), seconds))
        if len(self._calls) > 64:
            self._calls = list(_telling(self._calls))
        yield from results

    # ------------------------------------------------------------------ calling the function

    def _one_by_one(self, start: int, stop: int) -> Iterator[tuple[int, int, Any]]:
        """Call the function with each item; seeds, failures and folders are each item's own."""
        before = self._seeder.begin(start)
        results, aside = self._items(start, stop)
        if stop - start > 1 and self._seeder.was_used(before):
            # The items of this group drew from one stream: draw again, each from its own.
            results, aside = self._items(start, stop)
        self._aside.extend(aside)
        yield start, stop, results

    def _items(self, start: int, stop: int) -> tuple[list[Any], list[SetAside]]:
        call, words, share = self._call, self._note, self._share
        seed = self._seeder.seed if self._seeder.each_item else None
        results: list[Any] = []
        aside: list[SetAside] = []
        append = results.append
        called = -1
        while (at := start + len(results)) < stop:
            if at in self._known:
                append(self._known[at])
                continue
            limit = min((item for item in self._known if at < item < stop), default=stop)
            try:
                words[note.ITEM] = at  # reading it is part of working it
                for item_number, item in zip(range(at, limit), self._each(at, limit), strict=False):
                    called = item_number
                    if seed is not None:
                        seed(item_number)
                    append(call(item))
                    words[note.ITEM] = item_number + 1
                    if share.used_folder:
                        share.next_item()
                if start + len(results) < limit:
                    raise BadInput(
                        f"the source gave {len(results)} items where {limit - start} were expected"
                    )
            except MemoryError:
                words[note.ITEM] = start + len(results)
                raise
            except BaseException as error:
                failed = start + len(results)
                words[note.ITEM] = failed
                append(self._second_chance(failed, error, called == failed, aside))
        return results, aside

    def _second_chance(
        self, item: int, error: BaseException, in_function: bool, aside: list[SetAside]
    ) -> Any:
        """Believe an exception only without the fence: libraries turn a refused allocation into anything."""
        if _disk_full(error):
            raise error
        if self._fenced and in_function:
            self._fence(0)
            try:
                if self._seeder.each_item:
                    self._seeder.seed(item)
                return self._call(*self._each(item, item + 1))
            except MemoryError:
                raise
            except BaseException as again:
                error = again
        aside.append(self._set_aside(item, error))
        return aside[-1]

    def _batched(self, start: int, stop: int) -> Iterator[tuple[int, int, Any]]:
        """Call the function with all items of the call; on failure, with halves, to find the culprit."""
        for at, end in _runs(start, stop, self._known):
            if at in self._known:
                yield at, end, self._known[at]
            else:
                yield from self._call_or_halve(at, end)

    def _call_or_halve(self, start: int, stop: int) -> Iterator[tuple[int, int, Any]]:
        culprits: dict[int, SetAside] = {}
        try:
            result = self._call_once(start, stop)
        except MemoryError:
            raise
        except BaseException as error:
            self._fence(0)  # believed only without it
            self._find(start, stop, error, culprits)
        else:
            yield start, stop, result
            return
        self._aside.extend(culprits.values())
        for at, end in _runs(start, stop, culprits):
            yield at, end, culprits[at] if at in culprits else self._call_once(at, end)

    def _call_once(self, start: int, stop: int) -> Any:
        self._note[note.ITEM] = start if stop - start == 1 else -1
        self._note[note.CALL_START], self._note[note.CALL_STOP] = start, stop
        self._seeder.seed(start)
        return self._call(self._read(start, stop))

    def _find(self, start: int, stop: int, error: BaseException, culprits: dict[int, SetAside]) -> None:
        """Halve a failing call until single items fail; results are dropped on the way."""
        if _disk_full(error):
            raise error
        middle = (start + stop) // 2
        halves = ((start, middle), (middle, stop)) if stop - start > 1 else ((start, stop),)
        for at, end in halves:
            try:
                self._call_once(at, end)
            except MemoryError:
                raise
            except BaseException as again:
                if end - at == 1:
                    culprits[at] = self._set_aside(at, again)
                else:
                    self._find(at, end, again, culprits)

    def _read(self, start: int, stop: int) -> Any:
        return self._setup.source.read(start, stop)

    def _each(self, start: int, stop: int) -> Any:
        """The items one by one: iterating an Arrow table, say, would give its columns."""
        source = self._setup.source
        container = source.read(start, stop)
        own = isinstance(source, Itemised) and not isinstance(container, Iterator)
        return source.each(container) if own else container

    # ------------------------------------------------------------------ failures and memory

    def _set_aside(self, item: int, error: BaseException) -> SetAside:
        name = item_name(self._setup.source, item)
        error.__context__ = None  # the first of two tries says nothing more
        if self._setup.private:
            return SetAside(
                item, name, "raised", f"raised {type(error).__qualname__}", type(error).__qualname__
            )
        text = "".join(traceback.format_exception(type(error), error, _user_frames(error)))
        sentence = (
            str(error) if isinstance(error, BadInput) else f"raised {type(error).__qualname__}: {error}"
        )
        return SetAside(item, name, "raised", sentence[:2000], _qualified(error), text[-20_000:])

    def _failure(self, cause: str, item: int, error: BaseException) -> m.Failed:
        text = ""
        if not self._setup.private:
            text = "".join(traceback.format_exception(type(error), error, _user_frames(error)))[-20_000:]
        failed = m.Failed(
            cause,
            item,
            call=(self._note[note.CALL_START], self._note[note.CALL_STOP]),
            held=max(self._meter.peak()[0] - self._idle, 0),
            error=_qualified(error),
            message="" if self._setup.private else str(error)[:2000],
            traceback=text,
            file=str(error.filename) if isinstance(error, OSError) and error.filename else "",
        )
        self._note[note.ITEM] = -1
        # The traceback holds the frames that hold the memory.
        error.__traceback__ = None
        self._give_back()
        return failed

    def _imported(self) -> tuple[str, ...]:
        """Large, well-behaved packages that the first call imported: worth sharing with later workers."""
        return tuple(name for name in _SHAREABLE if name in sys.modules and name not in self._modules)

    def _give_back(self) -> int:
        """Return free memory to the system; say what is still held above idle."""
        self._work = None
        held = self._meter.held() - self._idle
        if held > _TRIM_ABOVE:
            gc.collect()
            release = getattr(sys.modules.get("pyarrow"), "default_memory_pool", None)
            if release is not None:
                release().release_unused()
            trim()
            held = self._meter.held() - self._idle
        return max(held, 0)

    def _fence(self, size: int) -> None:
        if size or self._fenced:
            set_fence(self._meter.data() + size if size else 0)
            self._fenced = bool(size)


def item_name(source: Any, item: int) -> str:
    """What the source calls the item, or its number."""
    name = getattr(source, "name", None)
    try:
        return str(name(item)) if callable(name) else str(item)
    except Exception:  # a name is never worth a failure
        return str(item)


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


def _telling(calls: list[m.Call]) -> tuple[m.Call, ...]:
    """The first call, the one with the highest peak and the last: what a footprint can learn from."""
    if len(calls) <= 3:
        return tuple(calls)
    highest = max(calls, key=lambda call: call.peak)
    return tuple(dict.fromkeys((calls[0], highest, calls[-1])))


def _disk_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _qualified(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _user_frames(error: BaseException) -> TracebackType | None:
    """The traceback from the function on: our own frames say nothing to its author."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None and frame.tb_frame.f_code.co_filename == __file__:
        frame = frame.tb_next
    return frame
