"""What nodes tell in their own numbers, and late: passed on in numbers that no two of them share."""

from pathlib import Path
from unittest import mock

import pytest

from penstock import events as ev
from penstock.abc import Lease, Node, Returned
from penstock.budget import GiB
from penstock.engine.parent.interrupts import Interrupt
from penstock.engine.parent.ledger import Ledger
from penstock.engine.parent.nodes import Nodes, Numbers
from penstock.testing import FakeClock, FakeCluster, FakeNode, lead

HERE = Path("/nonexistent")


def begun(worker, batch, start, at=1.0):
    return ev.BatchStarted(
        at=at, worker=worker, batch=batch, start=start, stop=start + 1, call=1, projected=1
    )


def done(worker, batch, start, at=2.0):
    return ev.BatchDone(
        at=at, worker=worker, batch=batch, start=start, stop=start + 1, seconds=1.0, peak=1, projected=1,
        retained=0,
    )  # fmt: skip


def world(*tokens, numbers=None):
    """Nodes that have joined, and the events that they have told of."""
    events = []
    journal = mock.Mock(spec=["write"])
    ledger = Ledger(journal, events.append, "", HERE, clock=FakeClock())
    nodes = Nodes(ledger, numbers or Numbers())
    for token in tokens:
        assert nodes.meet(token, Node("a host", GiB, "a script", 1, GiB))

    def tell(token, *told, kept=(), **more):
        nodes.report(token, Returned(1, (), events=tuple(told), **more), set(kept))
        ledger.commit()

    return nodes, events, tell


def of(kind, events):
    return [event for event in events if isinstance(event, kind)]


def test_workers_and_batches_of_two_nodes_have_numbers_of_their_own():
    _, events, tell = world("a", "b")
    for token, start in (("a", 0), ("b", 5)):
        told = ev.WorkerStarted(at=0.5, worker=1), begun(1, 1, start), done(1, 1, start)
        tell(token, *told, kept=[(start, start + 1)])
    first, second = of(ev.WorkerStarted, events)
    assert (first.node, second.node) == ("n1", "n2")
    assert first.worker != second.worker
    starts, ends = of(ev.BatchStarted, events), of(ev.BatchDone, events)
    assert [each.batch for each in starts] == [1, 2]
    assert [(each.batch, each.worker, each.start) for each in starts] == [
        (each.batch, each.worker, each.start) for each in ends
    ]


def test_a_batch_that_is_told_after_its_workers_end_is_still_its_workers():
    _, events, tell = world("a")
    tell(
        "a", ev.WorkerStarted(at=0.5, worker=3), begun(3, 9, 0), ev.WorkerEnded(at=1.5, worker=3, why="done")
    )
    tell("a", done(3, 9, 0), kept=[(0, 1)])
    (started,), (begin,), (end,) = (
        of(kind, events) for kind in (ev.WorkerStarted, ev.BatchStarted, ev.BatchDone)
    )
    assert end.worker == begin.worker == started.worker
    assert end.batch == begin.batch


def test_what_comes_in_another_order_is_told_by_its_time():
    _, events, tell = world("a")
    told = [done(1, 4, 0, at=3.0), ev.WorkerStarted(at=1.0, worker=1), begun(1, 4, 0, at=2.0)]
    tell("a", *told, kept=[(0, 1)])
    passed = [event for event in events if not isinstance(event, ev.NodeJoined)]
    assert [event.at for event in passed] == [1.0, 2.0, 3.0]
    assert passed[1].batch == passed[2].batch != 0


def test_a_batch_that_is_not_kept_is_not_told_as_done():
    _, events, tell = world("a")
    tell("a", begun(1, 1, 0), done(1, 1, 0), kept=[])
    assert of(ev.BatchStarted, events)
    assert not of(ev.BatchDone, events)


def test_a_node_that_is_gone_ends_its_living_workers_and_no_number_comes_again():
    numbers = Numbers()
    nodes, events, tell = world("a", numbers=numbers)
    tell("a", *(ev.WorkerStarted(at=0.1, worker=number) for number in (1, 2)))
    tell("a", ev.WorkerEnded(at=0.2, worker=2, why="done"))
    ours = [each.worker for each in of(ev.WorkerStarted, events)]
    nodes.gone("a", "killed by a script")
    nodes.gone("a", "killed by a script")
    assert [(each.worker, each.why) for each in of(ev.WorkerEnded, events)] == [
        (ours[1], "done"), (ours[0], "node lost"),
    ]  # fmt: skip
    _, later, tell = world("a", numbers=numbers)  # the next stage
    tell("a", ev.WorkerStarted(at=0.1, worker=1))
    (again,) = of(ev.WorkerStarted, later)
    assert again.worker not in ours
    assert again.node == "n2"


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_node_that_ends_with_an_interrupted_run_is_not_told_as_gone(interrupted):
    class Stop:
        number = 0

    clock = FakeClock()
    nodes = [FakeNode(speed=0.01, dies=70.5, silence=0.1), FakeNode(speed=0.01)]
    led = lead(FakeCluster(nodes, clock), 4, clock, interrupts=Stop)
    if interrupted:
        clock.after(70.0, lambda: setattr(Stop, "number", 2))
        led.cluster.send = keep_its_lease(led.cluster.send)
        with pytest.raises(Interrupt):
            led.lead.run()
    else:
        led.lead.run()
    assert [each.why for each in led.events_of(ev.NodeLeft)] == (
        [] if interrupted else ["killed by a script"]
    )
    assert led.fenced == [f"{0:032x}"]


def keep_its_lease(send):
    """Has nodes not give back what they have when they are asked to."""
    return lambda node, message: send(node, message) if isinstance(message, Lease) else None


def test_nodes_that_share_a_budget_with_this_process_are_told_of_as_a_whole():
    """Their peak is that of all: a budget of what the fullest held would not do."""
    events = []
    ledger = Ledger(mock.Mock(spec=["write"]), events.append, "", HERE, clock=FakeClock())
    nodes = Nodes(ledger, Numbers(), held=lambda: 30)
    for token in "ab":
        nodes.meet(token, Node("a host", 100, "a share", 1, 50, shares=2, beside=40))
    for token, used in (("a", 60), ("b", 70), ("a", 20)):
        nodes.report(token, Returned(1, (), used=used), set())
    nodes.gone("b", "killed")
    nodes.report("a", Returned(2, (), used=25), set())
    ledger.commit()
    assert [(each.used, each.free) for each in of(ev.MemoryRead, events)] == [
        (90, 150), (160, 80), (120, 120), (55, 185),
    ]  # fmt: skip
