"""Events of runs that never were: the shapes that a page must be able to draw."""

import heapq
import math
import random
from collections.abc import Iterator
from functools import cache

from penstock import events as ev
from penstock.budget import GiB, MiB

START = 1.79e9
OWN, IDLE = 210 * MiB, 70 * MiB
TOO_LARGE = "needs 3.1 GiB; one worker alone may use 2.4 GiB of the budget of 4.0 GiB"


class Stage:
    """One stage: workers that take batches, hold memory, fail, pause and are recycled."""

    def __init__(
        self, name="", *, start=START, workers=4, batches=60, seconds=2.0, memory=850 * MiB, budget=4 * GiB,
        done=0, trouble=0.06, outcome="done", message="", set_aside=2, seed=1, readings=0.1,
    ):  # fmt: skip
        self.start, self.workers, self.batches, self.seconds = start, workers, batches, seconds
        self.memory, self.budget, self.done, self.trouble = memory, budget, done, trouble
        self.outcome, self.message, self.may_set_aside, self.readings = outcome, message, set_aside, readings
        self.more = {"stage": name}
        self.chance = random.Random(seed)
        self.newest = workers - 1
        self.events: list[ev.Event] = []
        self.aside = self.peak = 0
        self.end = start

    def __iter__(self) -> Iterator[ev.Event]:
        last_batch = self.work()
        self.events.sort(key=lambda event: event.at)
        reserved = OWN + self.workers * IDLE
        items = self.batches * 10
        yield ev.StageStarted(at=self.start, items=items, done=self.done, budget=self.budget,
                              origin="cgroup memory limit", workers=None, **self.more)  # fmt: skip
        for share in (0.4, 0.85, 1.0):
            yield ev.Planned(
                at=self.start + share / 10, workers=self.workers, call=5, batch=10,
                reserved=reserved, footprint=self.memory,
                projected=int(reserved + self.workers * self.memory * share), **self.more,
            )  # fmt: skip
        yield from self.with_readings()
        yield ev.StageEnded(
            at=self.end + 0.1, outcome=self.outcome, done=min(items, last_batch * 10) - self.aside,
            set_aside=self.aside, seconds=self.end - self.start, peak=self.peak, message=self.message,
            cpu=(self.end - self.start) * self.workers * 0.9,
            projected=reserved + self.workers * self.memory, **self.more,
        )  # fmt: skip

    def say(self, kind, at, **values):
        self.events.append(kind(at=at, **values, **self.more))

    def work(self):
        free = [(self.start + 0.3 + 0.25 * worker, worker) for worker in range(self.workers)]
        for at, worker in free:
            self.say(ev.WorkerStarted, at, worker=worker)
        heapq.heapify(free)
        batch, limit = self.done // 10, self.batches if self.outcome == "done" else int(self.batches * 0.6)
        while batch < limit:
            now, worker = heapq.heappop(free)
            heapq.heappush(free, self.one_batch(batch, now, worker))
            batch += 1
        for _, worker in free:
            self.say(ev.WorkerEnded, self.end, worker=worker, why="done")
        return batch

    def one_batch(self, batch, now, worker):
        first, used = batch * 10, int(self.memory * self.chance.uniform(0.45, 0.96))
        took = self.seconds * self.chance.uniform(0.5, 1.4)
        given = {"batch": batch, "start": first, "projected": self.memory}
        self.say(ev.BatchStarted, now, worker=worker, stop=first + 10, call=5, **given)
        if self.chance.random() < self.trouble:
            now, worker = self.failure(batch, now + took / 2, worker, used)
            self.say(ev.BatchStarted, now, worker=worker, stop=first + 5, call=2, **given)
        elif self.chance.random() < self.trouble:
            self.say(ev.WorkerPaused, now + took * 0.5, worker=worker, free=80 * MiB)
            self.say(ev.WorkerResumed, now + took * 0.8, worker=worker)
        end = now + took
        self.end = max(self.end, end)
        if self.aside < self.may_set_aside and self.chance.random() < self.trouble:
            self.aside += 1
            self.say(
                ev.ItemSetAside,
                end,
                item=first + 4,
                name=f"sub-{first + 4:03}",
                reason="memory",
                message=TOO_LARGE,
            )
        peak = int(used * (1.06 if self.chance.random() < 0.02 else 0.98))
        bound = int(used * self.chance.uniform(1.02, 1.25))
        self.say(ev.BatchDone, end, batch=batch, worker=worker, start=first, stop=first + 10, seconds=took,
                 peak=peak, projected=bound, retained=0)  # fmt: skip
        if self.chance.random() < self.trouble / 2:
            worker = self.replace(worker, end, "recycled")
        return end + 0.04, worker

    def failure(self, batch, now, worker, used):
        cause = self.chance.choice(["memory", "governor", "kernel", "raised", "crashed"])
        self.say(ev.BatchFailed, now, batch=batch, worker=worker, start=batch * 10, stop=batch * 10 + 10,
                 cause=cause, item=batch * 10 + 3, held=used, message="it held <b>too much</b>")  # fmt: skip
        if cause in ("governor", "kernel", "crashed"):
            worker = self.replace(worker, now, "signal 11" if cause == "crashed" else cause)
        return now + 0.15, worker

    def replace(self, worker, now, why):
        self.say(ev.WorkerEnded, now, worker=worker, why=why)
        self.newest += 1
        self.say(ev.WorkerStarted, now + 0.03, worker=self.newest)
        return self.newest

    def with_readings(self) -> Iterator[ev.Event]:
        """The events, and between them what the workers hold: it rises through a batch, and falls."""
        living: dict[int, tuple[float, int]] = {}
        reading = self.start
        for event in self.events:
            while reading < event.at:
                held = {
                    str(worker): int(
                        IDLE
                        + top * min(1, 0.35 + (reading - since) / self.seconds) * self.chance.uniform(0.9, 1)
                    )
                    for worker, (since, top) in living.items()
                }
                used = OWN + sum(held.values()) + int(9 * MiB * math.sin(reading))
                self.peak = max(self.peak, used)
                yield ev.MemoryRead(at=reading, used=used, workers=held, free=self.budget - used, **self.more)
                reading += self.readings
            match event:
                case ev.WorkerStarted():
                    living[event.worker] = (event.at, 0)
                case ev.WorkerEnded():
                    living.pop(event.worker, None)
                case ev.BatchStarted():
                    living[event.worker] = (event.at, int(event.projected * self.chance.uniform(0.5, 0.96)))
                case ev.BatchDone():
                    living[event.worker] = (event.at, 0)
            yield event


def empty():
    """A run that was stopped before its first event."""
    return iter(())


def tiny():
    """Two batches of one worker, over in a blink."""
    small = {"stage": "", "worker": 0}
    yield ev.StageStarted(at=START, items=3, done=0, budget=8 * GiB, origin="MemAvailable", workers=1)
    yield ev.WorkerStarted(at=START + 0.02, **small)
    for batch, first, stop, bound in ((0, 0, 2, 0), (1, 2, 3, 5 * MiB)):
        at = START + 0.03 * (batch + 1)
        yield ev.BatchStarted(at=at, batch=batch, start=first, stop=stop, call=1, projected=bound, **small)
        yield ev.BatchDone(at=at + 0.02, batch=batch, start=first, stop=stop, seconds=0.02, peak=2 * MiB,
                           projected=bound, retained=0, **small)  # fmt: skip
    yield ev.MemoryRead(at=START + 0.082, used=61 * MiB, workers={"0": 20 * MiB}, free=7 * GiB)
    yield ev.WorkerEnded(at=START + 0.085, why="done", **small)
    yield ev.StageEnded(at=START + 0.09, outcome="done", done=3, set_aside=0, seconds=0.09, cpu=0.05,
                        peak=61 * MiB, projected=70 * MiB)  # fmt: skip


def usual():
    """A minute of four workers with some trouble."""
    return Stage(batches=90)


@cache
def huge():
    """10^5 batches of eight workers, with trouble all the time; made once, as that takes seconds."""
    return tuple(Stage(batches=100_000, workers=8, seconds=3.0, set_aside=400, readings=1.0, budget=8 * GiB))


def crowded():
    """96 workers at once."""
    return Stage(batches=4000, workers=96, seconds=20, budget=96 * GiB, trouble=0.02, readings=0.5)


def failed():
    """A function that raises for an item."""
    return Stage(
        outcome="failed", message="FunctionRaised: item 'sub-013': ValueError: <not> a number. Fix it."
    )


def resumed(later=86400.0):
    """Interrupted, and gone on with a day later, with less of a budget."""
    for event in Stage(outcome="interrupted", message="interrupted by Ctrl-C"):
        yield event
    yield from Stage(start=event.at + later, done=370, budget=3 * GiB, seed=7, workers=2, set_aside=0)


def killed(later=86400.0):
    """The same after a kill that nobody could tell of."""
    for event in Stage(outcome="interrupted"):
        if not isinstance(event, ev.StageEnded):
            yield event
            last = event.at
    yield ev.RunDied(at=last + later, died=last, message="the run before this one died")
    yield from Stage(start=last + later + 0.1, done=370, seed=7, set_aside=0)


def on_nodes():
    """Two nodes, which tell late what they did: each when a lease is back."""
    yield ev.StageStarted(at=START, items=30, done=0, budget=GiB, origin="as asked for", workers=None)
    for node in ("n1", "n2"):
        yield ev.NodeJoined(
            at=START + 0.5, node=node, host=f"host-{node}", budget=400, origin="cgroup", cores=1
        )
    for node, worker, ends in (("n1", 1001, (4.0, 9.0)), ("n2", 1002, (6.0,))):
        begin = START + 1.0
        yield ev.WorkerStarted(at=begin, worker=worker, node=node)
        for place, end in enumerate(ends):
            batch = {
                "batch": 10 * worker + place,
                "worker": worker,
                "start": 10 * place,
                "stop": 10 * place + 10,
            }
            yield ev.BatchStarted(at=begin, call=1, projected=90, **batch)
            yield ev.BatchDone(at=START + end, seconds=START + end - begin, peak=80, projected=90, retained=0,
                               **batch)  # fmt: skip
            begin = START + end
        yield ev.NodeRead(at=START + 10.0, node=node, used=300, budget=400, origin="cgroup")
        yield ev.WorkerEnded(at=begin, worker=worker, why="governor")
    yield ev.NodeLeft(at=START + 11.0, node="n2", why="no word for 60 s <i>")
    yield ev.StageEnded(at=START + 12.0, outcome="done", done=30, set_aside=0, seconds=12.0, cpu=9.0, peak=0,
                        projected=90)  # fmt: skip


def stages():
    """Three stages and a step between them."""
    start = START
    for name, batches, workers, memory in (
        ("survey", 60, 4, 250 * MiB), ("sort", 1, 1, 900 * MiB), ("tensor of genotypes", 120, 4, 850 * MiB),
        ("train", 30, 2, 600 * MiB),
    ):  # fmt: skip
        for event in Stage(name, start=start, batches=batches, workers=workers, memory=memory, seed=batches):
            yield event
            last = event.at
        start = last + 0.2


def roomy():
    """A budget a hundred times what is used."""
    return Stage(budget=256 * GiB, memory=90 * MiB, workers=2, trouble=0, set_aside=0)


RUNS = {
    run.__name__: run
    for run in (empty, tiny, usual, huge, crowded, failed, resumed, killed, on_nodes, stages, roomy)
}
