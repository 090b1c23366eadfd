"""The program of a node: the engine of one machine, whose items arrive as leases.

Frames (:mod:`penstock.backends.frames`) on the two descriptors that it was started with, whatever prints goes
to the log. It ends when these close, so it never outlives whoever started it.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from penstock import discover, drafts, registry, storage
from penstock import events as ev
from penstock.abc import Broken, Carried, Cut, Event, Lease, Node, Refused, Returned, Sequential
from penstock.backends.frames import packed, packed_size
from penstock.backends.lineage import offer_to_kernel
from penstock.budget import Budget
from penstock.clusters.delivered import Delivered, delivered
from penstock.clusters.far import BudgetShare, Hello, HostUnsuited, Parcel
from penstock.clusters.line import Line, beat, leave_unborn
from penstock.engine.decide.estimate import Wishes
from penstock.engine.decide.learnt import from_json
from penstock.engine.parent.interrupts import Interrupt
from penstock.engine.parent.ledger import Ledger
from penstock.engine.parent.loop import Loop
from penstock.engine.parent.options import Host, Options
from penstock.engine.parent.stage import Stage
from penstock.engine.worker.main import Setup
from penstock.engine.worker.process import THREAD_VARIABLES
from penstock.errors import UsageError
from penstock.files import digest_of
from penstock.intervals import Intervals
from penstock.record import journal
from penstock.record.job_key import module_code

_SEEN_SECONDS = 60.0
"""In which a folder shows a file that was made on another host."""
_END_SECONDS = 15.0
_SCORE = 500
"""How willingly the kernel ends a node: before whoever leads it, and after the node's workers."""
_NO_MORE = (ev.MemoryRead, ev.ItemSetAside, ev.BudgetChanged)
"""Not passed on: what is held goes as one number, and the parent counts what is set aside itself."""


class Wish:
    """A request to stop, in the form that a loop polls."""

    number = 0
    grace = 3.0


@dataclass
class HeldLease:
    """A lease that this node holds."""

    lease: Lease
    lines: list[Mapping[str, Any]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    weight: int = 0
    ends: float = 0.0
    """When no more of it is begun; 0 before the first of it is."""


class Engine:
    """Works on leases until told to end.

    Args:
        line: to the parent.
        hello: what it said first.
    """

    def __init__(self, line: Line, hello: Hello) -> None:
        self._line = line
        self._wish = Wish()
        self._came: deque[Lease] = deque()
        self._open: dict[int, HeldLease] = {}
        self._said: list[Event] = []
        self._used = 0
        self._told = False
        self._learnt = 0
        """How many calls had been measured when it was told last what they took."""
        self._source: Delivered | None = None
        """The job's source, where it carries its items."""
        self._stage: Stage | None = None
        self._loop = self._make_loop(hello)
        threading.Thread(target=self._hear, name="penstock-node", daemon=True).start()

    def _make_loop(self, hello: Hello) -> Loop:
        options = hello.options
        os.umask(options.umask)
        setup = _load_job(hello)
        budget = hello.budget_here()
        cores = hello.cores or discover.cpus()
        workers = self._workers = min(options.workers or cores, cores)
        self._backend = _open_backend(setup, hello, workers, cores)
        if isinstance(setup.source, Carried):
            self._source = delivered(setup.source)
            setup = replace(setup, source=self._source)
        wishes = Wishes(
            workers=workers, call=options.call, fixed_call=setup.fixed_call,
            memory=options.memory, threads=options.threads,
        )  # fmt: skip
        stage = self._stage = Stage(
            setup,
            Options(
                budget=budget,
                requested=hello.budget,
                wishes=wishes,
                set_aside=options.set_aside,
                stall=options.stall,
                timeout=options.timeout,
                cores=cores,
            ),
            self._backend,
            Host(),
            Ledger(self, self._emit, "", setup.state_dir),
            journal.Past(done=Intervals([(0, setup.items)]), opened=True),
        )
        self._node = _describe(setup, hello, budget, cores)
        return Loop(stage, collect=None, interrupts=self._wish, beat=lambda: None)

    # ------------------------------------------------------------------ the thread that listens

    def _hear(self) -> None:
        try:
            while True:
                for message in self._line.hear():
                    if isinstance(message, Cut):
                        self._wish.number = signal.SIGINT
                    elif isinstance(message, BudgetShare):
                        self._follow(message)
                    else:
                        self._came.append(message)
                self._backend.wake()
        except (EOFError, OSError):
            self._wish.grace, self._wish.number = 0.0, signal.SIGTERM
            self._backend.wake()
            time.sleep(_END_SECONDS)
            os._exit(75)

    def _follow(self, share: BudgetShare) -> None:
        """Work within a share that is another now; a limit of this host may be lower."""
        assert self._stage is not None
        least, asked = min(share.bytes, self._stage.options.budget.bytes), self._stage.budget
        asked.now = replace(asked.now, bytes=least, beside=share.beside)

    # ------------------------------------------------------------------ the loop's thread

    def work(self) -> None:
        """Work until told to end.

        Raises:
            PenstockError: it cannot go on.
        """
        try:
            self._loop.serve(self._take_in)
        except Interrupt:
            for ticket in list(self._open):
                self._return(ticket)
        finally:
            self._backend.close()

    def _take_in(self) -> bool:
        assert self._stage is not None
        schedule, now = self._stage.schedule, self._stage.clock()
        if not self._told:
            self._told = True
            self._line.say(replace(self._node, alone=max(self._stage.admission.spare(), 0)))
        for ticket, held in list(self._open.items()):
            span = held.lease.start, held.lease.stop
            if now >= held.ends > 0 or held.weight >= held.lease.most_bytes:
                schedule.take_no_more(*span)
            if not schedule.has(*span):
                self._return(ticket)
        while self._came:
            self._take(self._came.popleft())
        if self._open:  # the time of a lease begins when those before it are on their end
            first = next(iter(self._open.values()))
            first.ends = first.ends or now + first.lease.seconds
        return True

    def _take(self, lease: Lease) -> None:
        assert self._stage is not None
        if self._source is not None:
            self._source.deliver(lease.start, lease.stop, lease.cargo)
        if lease.learnt is not None:
            with suppress(ValueError):  # what cannot be believed is learnt anew
                self._stage.estimate.recall.begin(from_json(lease.learnt))
        for each in lease.without:
            self._stage.aside.items[each.item] = each
            self._stage.schedule.aside.add(each.item)
        self._stage.most_results = max(lease.most_bytes // self._workers, 1)
        self._open[lease.ticket] = HeldLease(replace(lease, cargo=None, learnt=None))
        self._stage.schedule.lend(lease.start, lease.stop)

    def _return(self, ticket: int) -> None:
        stage = self._stage
        assert stage is not None
        held = self._open.pop(ticket)
        stage.schedule.give_back(held.lease.start, held.lease.stop)
        if self._source is not None:
            self._source.forget(held.lease.start)
        events, self._said = [*self._said, *held.events], []
        plan, each = stage.admission.plan, stage.estimate.seconds_per_item
        cpu = time.process_time() + self._backend.cpu
        used, self._used = self._used, 0
        rate = plan.workers / each if plan and each else 0.0
        told = Returned(ticket, tuple(held.lines), rate, used, cpu, tuple(events), self._news(stage))
        parcel = Parcel(ticket, packed(told))
        del held, told  # the results, which are in the parcel now
        self._line.say(parcel)

    def _news(self, stage: Stage) -> Mapping[str, Any] | None:
        """What calls took here; told ever more rarely."""
        measured = stage.estimate.recall.measured
        if measured < 2 * self._learnt or (learnt := stage.learnt()) is None:
            return None
        self._learnt = measured
        return learnt.as_json()

    def write(self, *entries: Mapping[str, Any]) -> None:
        """Take lines of the journal: they are returned to the parent with their lease."""
        for line in entries:
            if "kept" not in line and "aside" not in line:
                continue
            held = self._holder(line["kept"][0] if "kept" in line else line["aside"][0]["item"])
            if held is not None:
                held.lines.append(line)
                held.weight += packed_size(line)

    def _emit(self, event: Event) -> None:
        if isinstance(event, ev.MemoryRead):
            self._used = max(self._used, event.used)
        if isinstance(event, _NO_MORE):
            return
        held = self._holder(event.start) if isinstance(event, ev.BatchDone) else None
        (self._said if held is None else held.events).append(event)

    def _holder(self, item: int) -> HeldLease | None:
        for held in self._open.values():
            if held.lease.start <= item < held.lease.stop:
                return held
        return None


def _load_job(hello: Hello) -> Setup:
    """The job, unpickled and ready for this host, whose drafts go to the node's own folder.

    Raises:
        HostUnsuited: this host cannot work on it.
    """
    import cloudpickle

    own = hello.options.drafts / hello.token
    setup: Setup = cloudpickle.loads(_read(hello.job, hello.digest, own))
    # A stage of reducers alone has no folder of results.
    there = next(path for path in (setup.folder, *setup.folder.parents) if path.exists())
    if own.stat().st_dev != there.stat().st_dev:
        raise HostUnsuited(
            f"{socket.gethostname()} has {setup.folder} on another file system than {own}: nothing "
            "could be renamed into it"
        )
    _check_code(hello.options.code)
    drafts.make_in(own)
    return replace(setup, drafts=own)


def _open_backend(setup: Setup, hello: Hello, workers: int, cores: int) -> Any:
    """The local backend, open for the job; a single worker may use all cores."""
    import cloudpickle

    source = setup.source
    alone = workers == 1 or (isinstance(source, Sequential) and len(source.starts()) == 1)
    threads = str(min(cores, hello.options.threads or cores) if alone else 1)
    backend = registry.load("backend", "local")()
    backend.open(
        cloudpickle.dumps(setup, protocol=5),
        dict.fromkeys((name for name in THREAD_VARIABLES if name not in os.environ), threads),
        hello.log,
    )
    return backend


def _describe(setup: Setup, hello: Hello, budget: Budget, cores: int) -> Node:
    """This node, as its parent knows it."""
    ask = getattr(setup.function, "warming", None)  # of its first items here: another host compiled others
    warming = str(ask()) if callable(ask) and not setup.private else ""
    log = hello.log.name if hello.log is not None else ""
    host, shares = socket.gethostname(), {"shares": budget.shares, "beside": budget.beside}
    return Node(host, budget.bytes, budget.origin, cores, warming=warming, log=log, **shares)


def _read(job: Path, told: str, own: Path) -> bytes:
    """The packed job, believed only where its digest is the one that was told.

    Raises:
        HostUnsuited: this host does not see the run folder.
    """
    deadline = time.monotonic() + _SEEN_SECONDS
    while not (job.exists() and own.is_dir()):
        if time.monotonic() > deadline:
            raise HostUnsuited(
                f"{socket.gethostname()} does not see {job.parent}: give a path on a file system that all "
                "nodes share"
            )
        time.sleep(0.2)
    packed = job.read_bytes()  # once: what is proven is what is unpickled
    if digest_of(packed) != told:
        raise UsageError(f"{job} is not what was packed: another run, or a file system that lags behind")
    return packed


def _check_code(code: Mapping[str, str]) -> None:
    """The modules of the job, now that they are imported, are those that the parent has.

    Raises:
        HostUnsuited: one is not.
    """
    for module, there in code.items():
        here = module_code(module)
        if here != there and module in sys.modules:  # what is not imported came by value
            raise HostUnsuited(
                f"{socket.gethostname()} has another {module} than this run began with: {here}, not {there}. "
                "All nodes need the same code"
            )


def main(incoming: int, outgoing: int) -> None:
    """Run a node."""
    line = Line(incoming, outgoing)
    offer_to_kernel(_SCORE)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the parent's to heed
    with storage.told(Path()), suppress(EOFError):
        came: list[Any] = []
        while not came:
            came = line.hear()
        threading.Thread(target=beat, args=(line,), name="penstock-beat", daemon=True).start()
        try:
            born = threading.Event()
            threading.Thread(target=leave_unborn, args=(line, born), daemon=True).start()
            engine = Engine(line, came[0])
            born.set()
            engine.work()
        except HostUnsuited as error:
            line.say(Refused(str(error)))
        except Exception as error:
            line.say(Broken(type(error).__name__, str(error), getattr(error, "needed", None)))
    sys.stderr.flush()
    os._exit(0)
