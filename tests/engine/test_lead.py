"""A stage on nodes that are a script: whatever befalls them, each item is kept once."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock import events as ev
from penstock.budget import GiB, MiB
from penstock.engine.decide.footprint import Observation
from penstock.engine.decide.governor import headroom
from penstock.engine.decide.learnt import Learnt
from penstock.engine.decide.plan import Reserved
from penstock.engine.parent.interrupts import Interrupt
from penstock.errors import CannotKeep, ItemTooLarge, RunFailed
from penstock.testing import FakeClock, FakeCluster, FakeNode, lead

NODES = st.builds(
    FakeNode,
    speed=st.sampled_from([0.2, 1.0, 7.0]),
    born=st.sampled_from([0.0, 3.0, 50.0]),
    dies=st.sampled_from([math.inf, 0.0, 1.0, 10.0, 60.0]),
    silence=st.sampled_from([0.0, 5.0, 60.0]),
    zombie=st.booleans(),
    twice=st.booleans(),
    alone=st.sampled_from([1, 5]),
)

LEARNT = Learnt(observations=(Observation(1.0, 1.0, 5 << 20),) * 3, reserved=Reserved(1, 2, 3))


def check(led, items):
    """Every item is in exactly one line, and every node that was lost is fenced once."""
    at = 0
    for start, stop in led.kept:
        assert start == at
        at = stop
    assert at == items
    assert len(set(led.fenced)) == len(led.fenced)


@given(nodes=st.lists(NODES, max_size=5), items=st.integers(0, 200), grain=st.sampled_from([None, 1, 6]))
@settings(deadline=None, max_examples=80)
def test_nothing_is_lost_and_nothing_counted_twice(nodes, items, grain):
    clock = FakeClock()
    cluster = FakeCluster(
        [*nodes, FakeNode(alone=5)], clock, batch=grain or 4, needs=lambda item: (item % 7 == 3) + item % 3
    )
    led = lead(cluster, items, clock, grain=grain)
    led.lead.run()
    check(led, items)
    # Its place does not decide: an item that the largest node can do is never set aside.
    assert led.aside == {} or max(node.alone for node in nodes) == 1


def test_a_run_that_fails_for_memory_says_what_the_largest_node_has():
    clock = FakeClock()
    nodes = [FakeNode(alone=1 << 20), FakeNode(alone=5 << 20), FakeNode(alone=2 << 20)]
    led = lead(FakeCluster(nodes, clock, needs=lambda item: (item == 3) << 30), 20, clock, set_aside=False)
    with pytest.raises(ItemTooLarge, match=r"alone may use 5.0 MiB \(budget 4.0 GiB, a script") as told:
        led.lead.run()
    assert told.value.needed > 5 << 30  # what is taken on that node, and more than the item
    check(led, 20)


def test_what_a_node_tells_after_it_was_given_up_does_not_count():
    clock = FakeClock()
    zombie = FakeNode(speed=0.5, dies=1.0, silence=1.0, zombie=True)
    led = lead(FakeCluster([zombie, FakeNode(speed=0.5)], clock), 100, clock)
    led.lead.run()
    check(led, 100)
    (left,) = led.events_of(ev.NodeLeft)
    assert left.why == "killed by a script"
    assert led.cluster.worked > 100  # it went on, for nothing
    tokens = {token for line in led.lines for *_, token in line["receipts"][""]}
    assert f"{0:032x}" not in tokens


def test_no_item_goes_to_another_node_before_the_fence_stands():
    clock, refusals = FakeClock(), 3

    def fence(token):
        nonlocal refusals
        assert not [node for node, lease in led.cluster.sent if node != token and lease.start == 0]
        if refusals:
            refusals -= 1
            raise OSError("busy")

    led = lead(FakeCluster([FakeNode(dies=0.5), FakeNode(born=0.1)], clock), 50, clock, fence=fence)
    led.lead.run()
    check(led, 50)
    assert refusals == 0


def test_a_fence_that_never_stands_ends_the_run():
    def fence(token):
        raise OSError("not ours")

    clock = FakeClock()
    led = lead(FakeCluster([FakeNode(dies=0.5)], clock), 50, clock, fence=fence)
    with pytest.raises(RunFailed, match=r"cannot be taken away.*not ours"):
        led.lead.run()


def test_without_nodes_it_ends_and_says_why():
    clock = FakeClock()
    led = lead(FakeCluster([FakeNode(dies=70.0), FakeNode(dies=90.0)], clock), 1000, clock)
    with pytest.raises(RunFailed, match=r"no node is left to work\. n1 on a host: killed by a script; n2"):
        led.lead.run()
    assert led.kept  # what was told before stays
    clock = FakeClock()
    led = lead(FakeCluster([FakeNode(born=1000.0)], clock), 10, clock, patience=100)
    with pytest.raises(RunFailed, match=r"no node was there for 100 s \(1 are not born\)"):
        led.lead.run()


def test_a_node_that_cannot_work_is_left_out_and_three_of_them_are_the_job():
    clock = FakeClock()
    led = lead(FakeCluster([FakeNode(broken="no numba"), FakeNode()], clock), 20, clock)
    led.lead.run()
    check(led, 20)
    clock = FakeClock()
    broken = [FakeNode(broken=f"no numba on {n}") for n in range(3)]
    led = lead(FakeCluster([*broken, FakeNode(born=90.0)], clock), 20, clock)
    with pytest.raises(RunFailed, match="no numba on 2"):
        led.lead.run()


def test_the_fault_of_the_job_is_told_as_on_one_machine_and_not_once_a_node():
    clock = FakeClock()
    nodes = [FakeNode(broken=f"item {n}: cannot be pickled", kind="CannotKeep") for n in range(2)]
    led = lead(FakeCluster(nodes, clock), 20, clock)
    with pytest.raises(CannotKeep) as told:
        led.lead.run()
    assert str(told.value) == "item 0: cannot be pickled"


@pytest.mark.parametrize("number", [1, 2])
def test_a_node_on_which_all_fails_is_left_out_and_others_work_what_it_had(number):
    clock = FakeClock()
    sick = [FakeNode(sick=True, speed=9.0)] * number
    led = lead(FakeCluster([*sick, FakeNode(), FakeNode()], clock), 3000, clock)
    led.lead.run()
    check(led, 3000)
    left = led.events_of(ev.NodeLeft)
    assert [each.node for each in left] == [f"n{each + 1}" for each in range(number)]
    assert all("every item raised there and none elsewhere" in each.why for each in left)
    assert len(led.aside) < 3000 / 2  # what it told before others were known to be well


def test_a_node_whose_function_fails_for_some_items_is_never_left_out():
    clock = FakeClock()
    led = lead(FakeCluster([FakeNode()] * 2, clock, raises=lambda item: item % 9 > 0), 900, clock)
    led.lead.run()
    assert not led.events_of(ev.NodeLeft)
    assert len(led.aside) == 800


def test_a_host_that_is_refused_is_named_and_the_others_go_on():
    clock = FakeClock()
    refused = [FakeNode(refused=f"h{n} has Python 3.9, and this is 3.11") for n in range(5)]
    led = lead(FakeCluster([*refused, FakeNode(born=1.0)], clock), 20, clock)
    led.lead.run()
    check(led, 20)
    assert [each.why for each in led.events_of(ev.NodeLeft)] == [each.refused for each in refused]
    assert len(led.events_of(ev.NodeJoined)) == 1


def test_where_every_host_is_refused_each_reason_is_told_once():
    clock = FakeClock()
    reasons = ["h1 has Python 3.9.", "h2 does not see /data", "h2 does not see /data", "h3: no memory."]
    led = lead(FakeCluster([FakeNode(refused=each) for each in reasons], clock), 20, clock)
    with pytest.raises(RunFailed) as caught:
        led.lead.run()
    assert str(caught.value).startswith(
        "no node is left to work. h1 has Python 3.9; h2 does not see /data; h3: no memory"
    )


def test_ctrl_c_lets_nodes_give_back_what_they_have():
    class Stop:
        number = 0

    clock = FakeClock()
    led = lead(FakeCluster([FakeNode(), FakeNode()], clock), 1000, clock, interrupts=Stop)
    clock.after(70.0, lambda: setattr(Stop, "number", 2))
    with pytest.raises(Interrupt):
        led.lead.run()
    assert not any(map(led.lead.leases.tickets, led.lead.leases.living))
    assert 0 < sum(stop - start for start, stop in led.kept) < 1000


def test_what_nodes_have_learnt_is_kept_and_told_to_those_that_come_later():
    """With their first lease; those that were there from the beginning have learnt it themselves."""
    clock, kept = FakeClock(), []
    cluster = FakeCluster([FakeNode(), FakeNode(born=70.0)], clock)
    cluster.learnt = LEARNT.as_json()
    led = lead(cluster, 300, clock, keep=kept.append)
    led.lead.run()
    check(led, 300)
    assert kept[-1] == LEARNT
    early, late = ([lease.learnt for node, lease in cluster.sent if node == f"{n:032x}"] for n in (0, 1))
    assert early == [None] * len(early)
    assert late == [cluster.learnt, *[None] * (len(late) - 1)]


def test_nodes_begin_with_what_earlier_runs_took():
    clock = FakeClock()
    cluster = FakeCluster([FakeNode(), FakeNode()], clock)
    led = lead(cluster, 100, clock, before=LEARNT, keep=pytest.fail)  # no node has any news
    led.lead.run()
    assert [lease.learnt for _, lease in cluster.sent].count(LEARNT.as_json()) == 2


def test_what_a_lease_costs_the_parent_does_not_grow_with_the_nodes():
    """Who is there is looked through when their number changes, and else every few seconds."""

    class Counting(dict):
        looks = 0

        def items(self):
            Counting.looks += 1
            return super().items()

    class Many(FakeCluster):
        def nodes(self):
            return Counting(super().nodes())

    clock = FakeClock()
    nodes = [FakeNode(speed=1 + number / 100) for number in range(100)]
    led = lead(Many(nodes, clock, folds=True), 100_000, clock)
    began = clock()
    led.lead.run()
    check(led, 100_000)
    # Each comes back at a time of its own, and has a turn of the lead for itself.
    assert len(led.cluster.sent) > 1_500
    assert Counting.looks <= (clock() - began) / 5 + 5


def test_a_function_that_fails_everywhere_ends_the_run_after_the_sample():
    clock = FakeClock()
    led = lead(FakeCluster([FakeNode()] * 2, clock, raises=lambda item: True), 10_000, clock, set_aside=False)
    with pytest.raises(RunFailed):
        led.lead.run()
    assert led.cluster.worked < 2_000
    clock = FakeClock()
    led = lead(
        FakeCluster([FakeNode()] * 2, clock, raises=lambda item: item % 9 == 0), 500, clock, set_aside=9
    )
    with pytest.raises(RunFailed):
        led.lead.run()


def test_items_set_aside_before_travel_with_their_lease():
    clock = FakeClock()
    led = lead(FakeCluster([FakeNode()], clock, raises=lambda item: item == 7), 30, clock)
    led.lead.run()
    assert led.aside == {7: "raised"}
    assert [event.item for event in led.events_of(ev.ItemSetAside)] == [7]


def test_slow_nodes_do_not_hold_up_the_end():
    """One of forty nodes is four times slower, one dies; at most a tenth more than all would need."""
    clock = FakeClock(grain=0.5)
    nodes = [FakeNode(speed=4.0 if number else 1.0) for number in range(40)]
    nodes[-1] = FakeNode(speed=4.0, dies=700.0, silence=60.0)
    items = 400_000
    began = clock()
    led = lead(FakeCluster(nodes, clock, batch=50), items, clock, grain=50)
    led.lead.run()
    check(led, items)
    ideal = items / sum(node.speed for node in nodes)
    assert clock() - began < 1.1 * ideal


def test_a_node_a_little_slower_than_it_was_gives_nothing_back():
    """Else each lease leaves a rest of a few items, which costs as much as a lease of a minute."""
    clock = FakeClock()
    nodes = [FakeNode(speed=16.0 - number / 10) for number in range(4)]
    led = lead(FakeCluster(nodes, clock, batch=16, folds=True), 400_000, clock)
    led.lead.run()
    check(led, 400_000)
    sizes = [stop - start for start, stop in led.kept]
    assert sum(size < 100 for size in sizes) < len(sizes) / 10


@pytest.mark.parametrize("nodes", [1, 3, 40])
def test_results_on_their_way_here_are_bounded_by_the_leases_that_are_open(nodes):
    """Whoever leads has a budget of its own; each node has two leases, and may return both at once."""
    clock = FakeClock()
    taken = []
    cluster = FakeCluster([FakeNode() for _ in range(nodes)], clock)
    led = lead(cluster, 2000, clock, collect=lambda first, results: taken.append(first))
    led.lead.run()
    assert sorted(taken) == list(range(2000))
    last = cluster.sent[-1][1]
    assert 2 * nodes * last.most_bytes <= headroom(4 * GiB) / 4
    assert last.most_bytes >= min(MiB // 2, 16 * MiB)


def test_lines_that_tell_of_files_are_bounded_alike_for_any_number_of_nodes():
    clock = FakeClock()
    cluster = FakeCluster([FakeNode() for _ in range(40)], clock)
    lead(cluster, 2000, clock).lead.run()
    assert {lease.most_bytes for _, lease in cluster.sent} == {16 * MiB}
