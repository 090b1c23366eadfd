"""Two owners that take a folder from each other at any moment leave the answer of one writer.

Both live in this process, on two machines of which neither sees the other: an owner does one thing at a
time, and may be suspended between any two of them, while the other one waits its minute on a clock that is
not real, takes over, and goes on. Whatever the order, what the journal counts as kept is there, as kept.
"""

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock import drafts, event_lines, events, files
from penstock.abc import Part, Receipt
from penstock.errors import RunLocked, RunTakenOver
from penstock.record import entries, journal
from penstock.record.folder import RunFolder
from penstock.record.holding import ThisMachine
from penstock.record.lock import Edge

ITEMS = 6


class Machines:
    """Two machines and a clock; who is not suspended gives signs of life."""

    def __init__(self, folder):
        self.folder = folder
        self.now = 0.0
        self.owners = [None, None]

    def edge(self, number):
        here = ThisMachine(f"host{number}", f"boot{number}", "pid:[1]")
        return Edge(
            here=lambda: here,
            started=lambda pid: "1",
            clock=lambda: self.now,
            sleep=lambda seconds: self.sleep(seconds, number),
            say=lambda line: None,
            beats=False,
        )

    def sleep(self, seconds, number):
        self.now += seconds
        for other, owner in enumerate(self.owners):
            # Whoever sleeps holds what its own heartbeat waits for.
            if owner is not None and not owner.suspended and other != number:
                with contextlib.suppress(RunTakenOver):
                    owner.run.owner.beat()

    def do(self, number, act):
        owner = self.owners[number]
        if owner is None:
            if act == "enter":
                with contextlib.suppress(RunLocked):
                    self.owners[number] = Owner(self, number)
        elif act in ("suspend", "wake"):
            owner.suspended = act == "suspend"
        elif act != "enter" and not owner.suspended:
            drafts.make_in(owner.place)  # what this process writes now is that owner's
            try:
                getattr(owner, act)()
            except RunTakenOver:
                owner.leave()
                self.owners[number] = None
            if act == "leave":
                self.owners[number] = None

    def end(self):
        for owner in self.owners:
            if owner is not None:
                owner.leave()


class Owner:
    """Works item by item in the order of a real one: draft, final name, line."""

    def __init__(self, machines, number):
        self.suspended = False
        self.run = RunFolder(machines.folder, edge=machines.edge(number))
        self.run.enter()
        self.place = self.run.drafts
        (self.run.state_dir / "job").mkdir(exist_ok=True)
        path = self.run.state_dir / "job" / "journal"
        self.past = journal.read(path)
        self.run.owner.outnumber(self.past.owner)
        self.me = f"owner {self.run.owner.number}"
        self.book = journal.Journal(path, durable=False, owner=self.run.owner)
        self.made = None
        self.drafted = None

    def _next(self):
        return next((item for item in range(ITEMS) if item not in self.past.done), None)

    def _part(self):
        return self.run.path / f"part-{self._next()}"

    def draft(self):
        if self._next() is not None and self.drafted is None and self.made is None:
            drafted = files.atomic(self._part(), durable=False)
            drafted.__enter__().write_text(f"{self.me} made {self._next()}")
            self.drafted = drafted

    def rename(self):
        if self.drafted is not None:
            drafted, self.drafted = self.drafted, None
            drafted.__exit__(None, None, None)
            self.made = Part(self._part().name, *files.proof(self._part()))

    def fail(self):
        """A late failure: what has its final name and no line is removed."""
        if self.made is not None:
            self.made = None
            files.discard(self._part())

    def commit(self):
        if self.made is not None:
            item = self._next()
            self.book.write(entries.kept(item, item + 1, {"": [(item, item + 1, Receipt((self.made,)))]}, ()))
            self.past.done.add(item, item + 1)
            self.made = None

    def tell(self):
        self.run.write(events.RunDied(at=0.0, died=0.0, message=self.me))

    def leave(self):
        """End, as a run does that is done, or may write nothing more."""
        drafts.make_in(self.place)
        if self.drafted is not None:
            with contextlib.suppress(RuntimeError, RunTakenOver):
                self.drafted.__exit__(RuntimeError, RuntimeError(), None)
        self.book.close()
        self.run.close()
        self.run.leave()


ACTS = ["enter", "draft", "rename", "commit", "fail", "tell", "suspend", "wake", "leave"]
STEPS = st.lists(st.tuples(st.integers(0, 1), st.sampled_from(ACTS)), max_size=60)


def holds(folder):
    """Everything that the journal counts is there as it was kept, once; how many items that are."""
    book = folder / ".penstock" / "job" / "journal"
    if not book.exists():
        return 0
    kept = list(journal.receipts(book, ""))
    done = [item for start, stop in journal.read(book).done for item in range(start, stop)]
    assert [batch.start for batch, _ in kept] == done
    for _, receipt in kept:
        for part in receipt.parts:
            assert files.proof(folder / part.name) == (part.bytes, part.digest)
    return len(done)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_any_order_of_two_owners_leaves_the_answer_of_one(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("two") / "run"
    machines = Machines(folder)
    try:
        for number, act in steps:
            machines.do(number, act)
            holds(folder)
    finally:
        machines.end()
    told = folder / ".penstock" / "events.jsonl"
    owners = [int(event.message.split()[-1]) for event in event_lines.read(told)] if told.exists() else []
    assert owners == sorted(owners), "nobody says anything after a successor did"


SLEEPER = [(0, act) for act in ("enter", "draft", "rename", "commit", "draft", "rename", "suspend")]
SUCCESSOR = [(1, act) for act in ("enter", "draft", "rename", "commit", "draft")]


def test_a_sleeper_that_fails_late_takes_nothing_from_its_successor(tmp_path):
    folder = tmp_path / "run"
    machines = Machines(folder)
    for number, act in [*SLEEPER, *SUCCESSOR, (0, "wake")]:
        machines.do(number, act)
    assert (folder / "part-1").read_text() == "owner 2 made 1"
    machines.do(0, "fail")
    assert machines.owners[0] is None, "it has ended"
    assert (folder / "part-1").read_text() == "owner 2 made 1"
    for act in ("rename", "commit"):
        machines.do(1, act)
    assert holds(folder) == 3
    machines.end()


def test_a_sleeper_that_commits_late_says_nothing(tmp_path):
    folder = tmp_path / "run"
    machines = Machines(folder)
    for number, act in [*SLEEPER, *SUCCESSOR, (0, "wake"), (0, "commit")]:
        machines.do(number, act)
    assert machines.owners[0] is None
    assert holds(folder) == 2
    machines.end()


def test_a_living_owner_is_not_taken_over(tmp_path):
    machines = Machines(tmp_path / "run")
    machines.do(0, "enter")
    machines.do(1, "enter")
    assert machines.owners[1] is None
    machines.do(0, "leave")
    machines.do(1, "enter")
    assert machines.owners[1] is not None
    machines.end()
