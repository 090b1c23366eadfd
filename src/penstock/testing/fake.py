"""A scripted backend: runs the engine's loop without processes and without waiting.

    backend = FakeBackend(lambda item, tries: Deed(memory=900 * MiB if item == 12 else 5 * MiB))
    done = simulate(backend, items=25, budget=300 * MiB)
    assert done.aside == {12: "memory"}

The real loop, schedule, admission and governor run; what a worker takes, says and dies of is told by a
:class:`Deed` for each time that an item is worked. Time goes by only where the loop waits, so a run of
hours takes as long as what happens in it, and the same script gives the same run. Covers the parent's
side. Does not cover what happens inside a worker, nor files.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from penstock import worker_note as note
from penstock.abc import Death, Message, Reading, SetAside
from penstock.budget import MiB
from penstock.engine import messages as m
from penstock.engine.apart import frame
from penstock.testing.deeds import ANSWERS, ENDLESS, NUMBERS, SIGNALS, Deed, FakeWorker
from penstock.testing.fakeclock import FakeClock

Answer = Message | Death
_WHY = "as the script says"


class FakeBackend:
    """A backend whose workers follow a script.

    Args:
        deeds: (item, how often it was begun before) -> what happens; the default for every item.
        clock: that time goes by.
        chores: the same for ``("open" | "close", times before)``.
        births: (worker's number) -> ``"ready"``, ``"unborn"`` (the fork failed), ``"dies"``, ``"hangs"`` or
            ``"prepare"`` (its ``prepare()`` raises).
        latency: seconds until the loop hears what a worker says; called for each message.
        batched: whether the function takes a call at once: then the note names no item.
        grain: items per part, as the sink's.
    """

    governs = True
    output = False

    def __init__(
        self,
        deeds: Callable[[int, int], Deed] | None = None,
        *,
        clock: FakeClock | None = None,
        chores: Callable[[str, int], Deed] | None = None,
        births: Callable[[int], str] | None = None,
        latency: Callable[[], float] = lambda: 0.0,
        batched: bool = False,
        grain: int | None = None,
        idle: int = 20 * MiB,
        own: int = 2 * MiB,
    ) -> None:
        self.clock = clock or FakeClock()
        self._deeds = deeds or (lambda item, tries: Deed())
        self._chores = chores or (lambda what, tries: Deed(0.01, 0))
        self._births = births or (lambda number: "ready")
        self._latency = latency
        self.batched = batched
        self.grain = grain
        self._ready_says = m.Ready(idle, own)
        self._workers: dict[int, FakeWorker] = {}
        self._events: list[Answer] = []
        self._woken = False
        self._number = 0
        self.cpu = 0.0
        self.tries: dict[int, int] = {}
        """How often each item was begun."""
        self.chores_tried: dict[str, int] = {}
        self.kernel_kills = 0
        """As a limit's counter tells them."""
        self.killed: list[int] = []
        """The workers that were killed through the backend."""
        self.paused: list[int] = []
        """The workers that were paused, each time."""
        self.given: list[m.Work] = []
        """The batches, in order."""
        self.peak = 0
        """The most that all workers together held at a reading, above idle."""

    # ------------------------------------------------------------------ what a script may do

    def kill_from_outside(self, number: int, by: signal.Signals = signal.SIGKILL) -> None:
        """Another program kills a worker."""
        if number in self._workers:
            self._die(self._workers[number], by)

    def stop_from_outside(self, number: int) -> None:
        """Another program stops a worker for good; it keeps its memory."""
        worker = self._workers.get(number)
        if worker is not None and not worker.gone:
            self.pause(number)
            worker.stopped = True

    def continue_from_outside(self, number: int) -> None:
        """Another program continues a stopped worker."""
        worker = self._workers.get(number)
        if worker is not None and worker.stopped:
            worker.stopped = False
            self.resume(number)

    def lose_server(self) -> None:
        """The fork server dies, and all workers with it."""
        for worker in list(self._workers.values()):
            self._die(worker, signal.SIGKILL)

    @property
    def alive(self) -> list[int]:
        """The workers alive now."""
        return [worker.number for worker in self._workers.values() if not worker.gone]

    @property
    def held(self) -> int:
        """Bytes that all workers hold above idle now."""
        return sum(self._held(worker) for worker in self._workers.values())

    # ------------------------------------------------------------------ the backend: workers

    def open(self, setup: bytes, environment: Mapping[str, str], log: Path | None) -> None:
        """Does nothing."""

    def preload(self, modules: Iterable[str]) -> None:
        """Does nothing."""

    def start(self) -> int:
        """Start a worker, ready after a moment."""
        self._number += 1
        worker = self._workers[self._number] = FakeWorker(self._number)
        fate = self._births(self._number)
        if fate == "unborn":
            self._die(worker, signal.SIGKILL, why="the fork failed, as the script says")
        elif fate == "dies":
            self.clock.after(0.01, lambda: self._die(worker, None, code=1))
        elif fate == "prepare":
            failed = m.Failed("prepare", -1, (-1, -1), 0, "ValueError", "prepare() says no")
            self.clock.after(0.01, lambda: self._say(worker, failed))
        elif fate == "ready":
            self.clock.after(0.01, lambda: self._ready(worker))
        return self._number

    def _ready(self, worker: FakeWorker) -> None:
        if not worker.gone:
            worker.ready = True
            self._say(worker, self._ready_says)

    def send(self, worker: int, content: Any) -> None:
        """Begin what the message asks."""
        here = self._workers.get(worker)
        if here is None or here.gone or here.stopped:
            return
        if isinstance(content, m.Leave):
            self._die(here, None, code=0)
        elif isinstance(content, m.Chore):
            tries = self.chores_tried.get(content.what, 0)
            self.chores_tried[content.what] = tries + 1
            here.chore = content
            self._begin(here, self._chores(content.what, tries), -1)
        elif isinstance(content, m.Work):
            self.given.append(content)
            here.work, here.cut, here.calls, here.raised = content, False, [], []
            here.batch_began = self.clock()
            self._begin_call(here, content.start)

    def wait(self, timeout: float) -> list[Answer]:
        """Advance the clock until something happens, at most so many seconds."""
        end = self.clock() + max(timeout, self.clock.grain)
        while not self._events and not self._woken and self.clock() < end:
            self.clock.advance(min(self.clock.next_due(), end))
        self._woken = False
        happened, self._events = self._events, []
        return happened

    def wake(self) -> None:
        """Make :meth:`wait` return."""
        self._woken = True

    def close(self) -> None:
        """Remove all workers."""
        self._workers.clear()

    # ------------------------------------------------------------------ the backend: watching

    def noted(self, worker: int) -> tuple[int, int, int]:
        """The item and call that a worker is working on."""
        here = self._workers.get(worker)
        return (-1, -1, -1) if here is None else (here.item, *here.call)

    def early(self, worker: int) -> tuple[int, bytes]:
        """The results so far of a batch whose calls are independent."""
        here = self._workers.get(worker)
        if here is None or here.work is None or not here.work.apart or here.at < here.work.start:
            return 0, b""
        return here.work.apart, b"".join(map(frame, range(here.work.start, here.at)))

    def cut(self, worker: int) -> None:
        """End the batch after the current call."""
        if worker in self._workers:
            self._workers[worker].cut = True

    def read(self) -> Mapping[int, Reading]:
        """Readings from the script."""
        now = self.clock()
        self.peak = max(self.peak, self.held)
        return {
            number: Reading(
                self._ready_says.memory + self._held(worker), worker.cpu + worker.cpu_of_deed(now)
            )
            for number, worker in self._workers.items()
            if worker.ready
        }

    def io(self, worker: int) -> int:
        """0."""
        return 0

    def overhead(self) -> int:
        """0."""
        return 0

    def shared(self) -> int:
        """0."""
        return 0

    def total(self) -> int | None:
        """None: the workers are added up."""
        return None

    def top(self) -> int:
        """0: see :meth:`total`."""
        return 0

    def fence(self, worker: int, most: int) -> None:
        """Does nothing."""

    @property
    def measure(self) -> str:
        """Says that nothing is measured."""
        return "memory is what a script says"

    def pause(self, worker: int) -> None:
        """Stop a worker's time."""
        here = self._workers.get(worker)
        if here is not None and here.paused_at is None:
            self.paused.append(worker)
            here.paused_at = self.clock()
            here.token += 1

    def resume(self, worker: int) -> None:
        """Continue a worker's time."""
        here = self._workers.get(worker)
        if here is None or here.paused_at is None or here.stopped or here.gone:
            return
        here.began += self.clock() - here.paused_at
        here.paused_at = None
        self._expect(here)

    def kill(self, worker: int) -> None:
        """Kill a worker; its memory is free after a moment."""
        here = self._workers.get(worker)
        if here is not None and not here.gone:
            self.killed.append(worker)
            self._die(here, signal.SIGKILL)

    # ------------------------------------------------------------------ a worker's life

    def _held(self, worker: FakeWorker) -> int:
        return worker.held(self.clock())

    def _begin_call(self, worker: FakeWorker, start: int) -> None:
        work = worker.work
        assert work is not None
        border = work.stop if self.grain is None else (start // self.grain + 1) * self.grain
        worker.call = (start, min(start + work.call, border, work.stop))
        worker.call_began, worker.peak = self.clock(), 0
        self._next_item(worker, start)

    def _next_item(self, worker: FakeWorker, item: int) -> None:
        """Go on with an item, or with what comes behind it that is not set aside."""
        work = worker.work
        assert work is not None
        out = {each.item for each in work.without}
        while item < worker.call[1] and item in out:
            item += 1
        if work.apart and worker.cut and work.start < item < worker.call[1]:
            worker.call = (worker.call[0], item)
        if item >= worker.call[1]:
            self._end_call(worker)
            return
        tries = self.tries.get(item, 0)
        self.tries[item] = tries + 1
        self._begin(worker, self._deeds(item, tries), item)

    def _begin(self, worker: FakeWorker, deed: Deed, item: int) -> None:
        worker.deed, worker.began, worker.paused_at = deed, self.clock(), None
        worker.at, worker.item = item, -1 if self.batched else item
        fence = worker.work.fence if worker.work is not None and worker.warm else 0
        if fence and deed.memory > fence:
            deed = worker.deed = Deed(deed.seconds / 4, fence, end="memory error")
        self._expect(worker)

    def _expect(self, worker: FakeWorker) -> None:
        """Have the present deed end when it is time."""
        worker.token += 1
        token, deed = worker.token, worker.deed
        if deed is not None and deed.end not in ENDLESS:
            self.clock.at(worker.began + deed.seconds, lambda: self._over(worker, token))

    def _over(self, worker: FakeWorker, token: int) -> None:
        """The present deed has ended, if it is still that one."""
        if worker.gone or worker.token != token or worker.deed is None:
            return
        deed, item = worker.deed, worker.at
        worker.peak = max(worker.peak, deed.memory)
        if deed.end in SIGNALS or deed.end == "exits":
            self.kernel_kills += deed.end == "kernel"
            self._die(worker, SIGNALS.get(deed.end), code=3)
            return
        worker.cpu += worker.cpu_of_deed(self.clock())
        worker.deed = None
        if deed.end in ANSWERS:
            cause, error = ANSWERS[deed.end]
            number = NUMBERS.get(deed.end, 0)
            unseen = cause == "unfit" and worker.work is not None and not worker.work.wary
            item = -1 if unseen else item
            failed = m.Failed(cause, item, worker.call, deed.memory, error, _WHY, errno=number)
            worker.work = worker.chore = None
            worker.item = -1
            self._say(worker, failed)
        elif worker.chore is not None:
            what, worker.chore = worker.chore.what, None
            if deed.end == "raises":
                self._say(worker, m.Failed("raised", -1, (-1, -1), 0, "ValueError", _WHY))
            else:
                self._say(worker, m.ChoreDone((None, {}) if what == "close" else None))
        else:
            if deed.end == "raises":
                worker.raised.append(
                    SetAside(item, str(item), "raised", "raised ValueError: as the script says", "ValueError")
                )
            self._next_item(worker, item + 1)

    def _end_call(self, worker: FakeWorker) -> None:
        work, now = worker.work, self.clock()
        assert work is not None
        start, stop = worker.call
        first, last, without = m.worked_span(start, stop, {each.item for each in work.without})
        if first < last:
            seconds = max(now - worker.call_began, 1e-6)
            worker.calls.append(m.MeasuredCall(first, last, worker.peak, seconds, without=without))
        worker.item = note.KEEPING
        may_cut = self.grain is None or stop % self.grain == 0
        over = worker.cut or now - worker.batch_began > work.seconds
        if stop < work.stop and not (may_cut and over):
            self._begin_call(worker, stop)
            return
        self._say(worker, worker.finish(work, stop, self.grain, now))

    def _say(self, worker: FakeWorker, content: Any) -> None:
        """The loop hears of it in a moment; what one worker says is heard in order."""
        if worker.gone:
            return
        worker.said_at = max(worker.said_at, self.clock() + self._latency())
        self.clock.at(worker.said_at, lambda: self._events.append(Message(worker.number, content)))

    def _die(
        self, worker: FakeWorker, by: signal.Signals | None, code: int | None = None, why: str = ""
    ) -> None:
        if worker.gone:
            return
        worker.gone = True
        worker.token += 1
        if worker.paused_at is None:
            worker.paused_at = self.clock()
        death = Death(worker.number, by, code if by is None else None, (worker.item, *worker.call), why)
        told = max(worker.said_at, self.clock() + (0.04 if by else 0.001) + self._latency())
        self.clock.at(told, lambda: self._reap(worker, death))

    def _reap(self, worker: FakeWorker, death: Death) -> None:
        self.cpu += worker.cpu
        self._workers.pop(worker.number, None)
        self._events.append(death)
