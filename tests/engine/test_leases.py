"""Leases: nothing lost, nothing counted twice, whatever nodes do; and how large each one is."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from penstock.engine.decide.leases import OPEN, Leases


class Anything(RuleBasedStateMachine):
    """Nodes that come, lend, tell, tell late, tell twice, die and are fenced, in any order."""

    @initialize(
        items=st.integers(0, 60),
        unit=st.integers(1, 7),
        starts=st.none() | st.lists(st.integers(0, 60), max_size=6),
    )
    def begin(self, items, unit, starts):
        starts = None if starts is None else [start for start in starts if start < items]
        self.leases = Leases(items, unit, starts=starts)
        self.stream = starts is not None
        self.nodes, self.open, self.closed, self.count = [], {}, [], [0] * items

    @rule(alone=st.integers(0, 3))
    def come(self, alone):
        name = f"n{len(self.nodes)}"
        self.nodes.append(name)
        self.leases.join(name, alone)

    @precondition(lambda self: self.nodes)
    @rule(data=st.data())
    def lend(self, data):
        node = data.draw(st.sampled_from(self.nodes))
        lent = self.leases.lend(node)
        if lent is not None:
            assert node in self.leases.living
            assert 0 <= lent.start < lent.stop <= self.leases.items
            # Its borders are those of grains, or of what is done beside it.
            for border in (lent.start, lent.stop):
                assert border % self.leases.unit == 0 or border == self.leases.items
            self.open[lent.ticket] = node, lent

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def tell(self, data):
        ticket = data.draw(st.sampled_from(sorted(self.open)))
        node, lent = self.open[ticket]
        unit = self.leases.unit
        grains = [(a, min(a + unit, lent.stop)) for a in range(lent.start, lent.stop, unit)]
        kept = [pair for pair in grains if data.draw(st.booleans())]
        too_large = data.draw(st.sets(st.integers(lent.start, lent.stop - 1), max_size=3))
        lives = node in self.leases.living
        settled = self.leases.settle(node, ticket, kept, too_large=too_large, rate=data.draw(st.floats(0, 5)))
        assert (settled is not None) == lives
        if not lives:  # held back, until it is fenced
            return
        del self.open[ticket]
        self.closed.append((node, ticket, kept))
        for start, stop in settled.kept if settled else ():
            for item in range(start, stop):
                self.count[item] += 1

    @precondition(lambda self: self.closed)
    @rule(data=st.data())
    def tell_again(self, data):
        node, ticket, kept = data.draw(st.sampled_from(self.closed))
        assert self.leases.settle(node, ticket, kept) is None

    @precondition(lambda self: self.nodes)
    @rule(data=st.data())
    def die(self, data):
        node = data.draw(st.sampled_from(self.nodes))
        known = node in self.leases.living
        assert self.leases.lose(node) == known
        assert node not in self.leases.living

    @precondition(lambda self: self.leases.held_back)
    @rule(data=st.data())
    def fence(self, data):
        node = data.draw(st.sampled_from(self.leases.held_back))
        self.leases.fenced(node)
        for ticket in [ticket for ticket, (holder, _) in self.open.items() if holder == node]:
            self.closed.append((node, ticket, []))
            del self.open[ticket]

    @rule(data=st.data())
    def sample(self, data):
        if self.leases.items:
            items = st.lists(st.integers(0, self.leases.items - 1), max_size=3)
            self.leases.try_first(data.draw(items))

    @invariant()
    def every_item_is_in_one_place(self):
        if not hasattr(self, "leases"):
            return
        leases, places = self.leases, [0] * self.leases.items
        spans = [(lent.start, lent.stop) for _, lent in self.open.values()]
        for start, stop in [*leases.done, *leases._pending, *spans, *(each[:2] for each in leases._heavy)]:
            for item in range(start, stop):
                places[item] += 1
        assert places == [1] * leases.items
        assert all(count == (item in leases.done) for item, count in enumerate(self.count))
        assert leases.finished == all(self.count)
        assert leases.count == len(leases.living)
        assert leases.lent == sum(node in leases.living for node, _ in self.open.values())

    def teardown(self):
        """From wherever it is, one node that lives ends it."""
        if not hasattr(self, "leases"):
            return
        for node in list(self.leases.living):
            self.leases.lose(node)
        for node in self.leases.held_back:
            self.leases.fenced(node)
        self.leases.join("last")
        while not self.leases.finished:
            lent = self.leases.lend("last")
            assert self.leases.settle("last", lent.ticket, [(lent.start, lent.stop)])


TestAnything = Anything.TestCase
TestAnything.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)


def test_a_lost_node_keeps_its_items_until_it_is_fenced():
    leases = Leases(4, unit=4)
    leases.join("a")
    leases.join("b")
    lent = leases.lend("a")
    leases.lose("a")
    assert leases.lend("b") is None  # the only grain, which a zombie may still be writing
    assert leases.settle("a", lent.ticket, [(0, 4)]) is None
    leases.fenced("a")
    again = leases.lend("b")
    assert (again.start, again.stop) == (0, 4)
    assert again.ticket != lent.ticket


@pytest.mark.parametrize("kept", [[(0, 9)], [(4, 6), (5, 7)], [(3, 3)], [(-1, 2)]])
def test_what_a_node_was_not_given_does_not_count(kept):
    leases = Leases(64)
    leases.join("a")
    lent = leases.lend("a")
    assert lent.stop < 9
    with pytest.raises(ValueError, match="cannot be kept"):
        leases.settle("a", lent.ticket, kept)
    assert leases.tickets("a") == [lent.ticket]
    assert not len(leases.done)


def test_a_node_has_two_leases_at_most():
    leases = Leases(1000)
    leases.join("a")
    assert [leases.lend("a") is None for _ in range(OPEN + 1)] == [False] * OPEN + [True]


def test_an_item_too_large_for_a_node_is_tried_on_a_larger_one_and_kept_once():
    leases = Leases(8, unit=4)
    leases.join("small", 100)
    leases.join("large", 900)
    lent = leases.lend("small")
    assert (lent.start, lent.stop) == (0, 4)
    settled = leases.settle("small", lent.ticket, [(0, 4)], too_large=[2])
    assert settled.kept == ()
    assert settled.heavier == ((0, 4),)
    other = leases.lend("small")
    assert other.start == 4  # not what was too large for it
    heavy = leases.lend("large")
    assert (heavy.start, heavy.stop, heavy.floor) == (0, 4, 100)
    # There it is too large as well, and no larger one lives: so it is set aside.
    assert leases.settle("large", heavy.ticket, [(0, 4)], too_large=[2]).kept == ((0, 4),)


def test_what_waits_for_a_larger_node_is_worked_where_it_can_be_when_that_is_lost():
    leases = Leases(4, unit=4)
    leases.join("small", 100)
    leases.join("large", 900)
    lent = leases.lend("small")
    leases.settle("small", lent.ticket, [(0, 4)], too_large=[1])
    assert leases.lend("small") is None
    leases.lose("large")
    again = leases.lend("small")
    assert leases.settle("small", again.ticket, [(0, 4)], too_large=[1]).kept == ((0, 4),)
    assert leases.finished


def test_the_sample_is_lent_first_grain_by_grain():
    leases = Leases(100, unit=10)
    leases.join("a")
    leases.try_first([95, 41])
    assert [(lent.start, lent.stop) for lent in (leases.lend("a"), leases.lend("a"))] == [(90, 100), (40, 50)]


def test_a_stream_is_lent_in_whole_stretches():
    starts = [0, 30, 40, 200, 900]
    leases = Leases(1000, starts=starts)
    leases.join("a")
    borders = []
    while not leases.finished:
        lent = leases.lend("a")
        borders.append((lent.start, lent.stop))
        leases.settle("a", lent.ticket, [(lent.start, lent.stop)])
    assert {border for pair in borders for border in pair} <= {*starts, 1000}


def test_a_slow_node_has_work_for_no_longer_than_the_others():
    items, left, nodes = 10**9, 10**7, 10_000
    leases = Leases(items, done=[(0, items - left)])
    for node in range(nodes):
        leases.join(str(node))
    rates = {"0": 16.0, "1": 15.0, "2": 4.0}

    def settle(node):
        lent = leases.lend(node)
        leases.settle(node, lent.ticket, [(lent.start, lent.stop)], rate=rates[node])
        return (lent.stop - lent.start) / rates[node]

    for node in rates:
        settle(node)
    seconds = {node: settle(node) for node in rates}
    assert max(seconds.values()) < 1.02 * min(seconds.values())
    assert leases._rates == pytest.approx(35.0)
    leases.lose("2")
    assert leases._rates == pytest.approx(31.0)
    assert leases._rated == 2


def test_after_a_node_far_faster_than_the_others_is_lost_they_still_get_leases():
    leases = Leases(10**9)
    for node, rate in (("slow", 1.0), ("fast", 1e17)):
        leases.join(node)
        lent = leases.lend(node)
        leases.settle(node, lent.ticket, [(lent.start, lent.stop)], rate=rate)
    leases.lose("fast")
    assert leases._rates == 0  # 1e17 + 1 - 1e17, rounded
    lent = leases.lend("slow")
    assert lent.stop > lent.start


@given(items=st.integers(1, 10**9), nodes=st.integers(1, 5000), rate=st.floats(0, 1000))
@settings(deadline=None, max_examples=60)
def test_no_lease_is_more_than_may_be_lost(items, nodes, rate):
    leases = Leases(items)
    for number in range(nodes):
        leases.join(str(number))
    leases._nodes["0"].rate = rate
    lent = leases.lend("0")
    size = lent.stop - lent.start
    assert size <= max(items / nodes / 16, 1)
    if rate:
        assert size <= max(max(60.0, 0.03 * nodes) * rate, 1)


def test_the_number_of_leases_grows_with_the_logarithm_of_the_items():
    counts = []
    for items in (10**5, 10**7, 10**9):
        leases, count = Leases(items), 0
        leases.join("a")
        leases.join("b")
        while not leases.finished:
            for node in ("a", "b"):
                lent = leases.lend(node)
                if lent is not None:
                    count += 1
                    leases.settle(node, lent.ticket, [(lent.start, lent.stop)])
        counts.append(count)
    assert counts[0] == counts[-1] < 200
