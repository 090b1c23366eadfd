"""Drawing futures: nothing that is certain to exceed starts, and the share that goes over is right."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.budget import GiB, MiB
from penstock.engine.decide.futures import (
    DRAWS,
    ExpectedBatch,
    PeakRatios,
    _mixed,
    farthest,
    fitting,
    weigh,
    worth,
)

PEAKS = st.lists(st.floats(1 * MiB, 2 * GiB), min_size=1, max_size=128).map(
    lambda seen: PeakRatios(sorted(seen))
)
BATCHES = st.lists(
    st.builds(
        ExpectedBatch,
        worker=st.integers(0, 10**6),
        scale=st.floats(0.01, 100.0),
        least=st.integers(0, 2 * GiB),
        calls=st.integers(1, 1000),
        start=st.integers(0, 100 * MiB),
    ),
    min_size=1,
    max_size=8,
)


@given(peaks=PEAKS, batches=BATCHES, room=st.integers(-GiB, 8 * GiB), most=st.integers(MiB, 4 * GiB))
def test_never_starts_what_is_certain_to_exceed(peaks, batches, room, most):
    weighed = weigh(peaks, batches, room, most)
    assert 0 <= weighed.over <= DRAWS
    assert weighed.worth == worth(len(batches)) < DRAWS
    if sum(batch.least for batch in batches) > room:
        assert weighed.over == DRAWS
        assert not weighed.admits
    if sum(max(most, batch.least, batch.start) for batch in batches) <= room:
        assert weighed.over == 0
        assert weighed.admits
    assert weigh(peaks, batches, room, most) == weighed, "the draws are the same each time"


@given(peaks=PEAKS, batches=BATCHES, room=st.integers(0, 8 * GiB), more=st.integers(0, GiB))
def test_more_room_is_never_worse(peaks, batches, room, more):
    assert weigh(peaks, batches, room + more, GiB).over <= weigh(peaks, batches, room, GiB).over


@given(
    peaks=PEAKS,
    scale=st.floats(0.01, 10.0),
    room=st.integers(-GiB, 8 * GiB),
    idle=st.integers(0, 20 * MiB),
    most=st.integers(1, 16),
)
def test_always_lets_one_in(peaks, scale, room, idle, most):
    workers, weighed = fitting(peaks, scale, lambda count: room - count * idle, most)
    assert 1 <= workers <= most
    assert (weighed is None) == (workers == most)
    if weighed is not None:
        assert weighed.calls == workers + 1
        assert not weighed.admits


def drawn(peaks, power, batch, most):
    """The futures of a batch, one by one, as they are defined."""
    calls = 1 << (batch.calls - 1).bit_length()
    held = batch.least / batch.scale
    above = [ratio for ratio in peaks.ratios if ratio >= held or calls > 1]
    for draw in sorted(range(DRAWS), key=lambda draw: _mixed(batch.worker * DRAWS + draw)):
        place = ((draw + 0.5) / DRAWS) ** (1 / calls) * (len(above) + 1)
        if place < len(above):
            ratio = above[int(place)]
        else:
            ratio = max(peaks.ratios[-1], held) * (1 - min(place - len(above), 0.999)) ** -power
        yield max(min(batch.scale * ratio, most), batch.least, batch.start)


def over(peaks, power, batches, room, most):
    each = [list(drawn(peaks, power, batch, most)) for batch in batches]
    # Sums in another order differ in their last digits.
    return [sum(sum(future) > room + apart for future in zip(*each, strict=True)) for apart in (1, -1)]


@given(peaks=PEAKS, batches=BATCHES, room=st.integers(0, 8 * GiB), most=st.integers(MiB, 4 * GiB))
def test_draws_what_it_says(peaks, batches, room, most):
    if sum(batch.least for batch in batches) > room:
        return
    median = peaks.ratios[len(peaks.ratios) // 2]
    living = [ratio for batch in batches[:-1] if (ratio := batch.least / batch.scale) > median]
    seen = PeakRatios(sorted([*peaks.ratios, *living]))
    least, most_over = over(seen, seen.power, batches, room, most)
    assert least <= weigh(peaks, batches, room, most).over <= most_over


@given(peaks=PEAKS, scale=st.floats(0.01, 10.0), room=st.integers(GiB, 8 * GiB), calls=st.integers(1, 300))
def test_as_many_fit_together_as_are_weighed_one_by_one(peaks, scale, room, calls):
    """The plan counts no other futures than admission does."""
    workers, weighed = fitting(peaks, scale, lambda count: room, 8, calls)
    for count in range(2, min(workers + 1, 8) + 1):
        batches = [ExpectedBatch((1 << 32) + k, scale, 0, calls) for k in range(1, count + 1)]
        least, most_over = over(peaks, peaks.power, batches, room, room)
        if count <= workers:
            assert least <= worth(count)
        elif weighed is not None:
            assert least <= weighed.over <= most_over


def test_the_share_that_goes_over_is_that_of_the_distribution():
    """Two of a uniform distribution of 0 to 100: both over 150 in an eighth of the cases."""
    peaks = PeakRatios([float(k) for k in range(1, 101)])
    pairs = [
        weigh(peaks, [ExpectedBatch(k, 1.0), ExpectedBatch(1000 + k, 1.0)], 150, 10**6).over / DRAWS
        for k in range(200)
    ]
    assert sum(pairs) / len(pairs) == pytest.approx(1 / 8, abs=0.02)


def test_the_sum_of_bounds_is_no_bound_of_the_sum():
    """Items of 2 to 450 MiB in 1 GiB: by their bounds two fit; all four do in most futures."""
    peaks = PeakRatios([float(k * MiB) for k in range(2, 451, 4)])
    four = [ExpectedBatch(k, 1.0) for k in range(4)]
    assert weigh(peaks, four, 1024 * MiB, 900 * MiB).admits
    assert not weigh(
        peaks, [*four, ExpectedBatch(4, 1.0), ExpectedBatch(5, 1.0)], 1024 * MiB, 900 * MiB
    ).admits


def test_no_future_may_exceed_what_none_may():
    seen = PeakRatios([10 * MiB] * 40 + [100 * MiB] * 20)
    batches = [ExpectedBatch(1, 1.0), ExpectedBatch(2, 1.0)]
    bet = weigh(seen, batches, 150 * MiB, GiB)
    assert 0 < bet.over <= bet.worth
    assert bet.admits
    assert not weigh(seen, batches, 150 * MiB, GiB, 180 * MiB).admits
    assert weigh(seen, batches, 150 * MiB, GiB, 400 * MiB).admits


def test_what_is_held_counts_and_tells():
    peaks = PeakRatios([float(k * MiB) for k in range(1, 101)])
    fresh = [ExpectedBatch(k, 1.0) for k in range(4)]
    grown = [ExpectedBatch(k, 1.0, least=90 * MiB) for k in range(3)] + [ExpectedBatch(3, 1.0)]
    assert weigh(peaks, grown, 300 * MiB, GiB).over > weigh(peaks, fresh, 300 * MiB, GiB).over
    small = PeakRatios([float(MiB)] * 40)
    one_large = [ExpectedBatch(0, 1.0, least=200 * MiB), ExpectedBatch(1, 1.0)]
    assert weigh(small, one_large, 300 * MiB, GiB).over > 0, "what was never seen may come again"


def test_of_many_calls_the_largest_counts():
    peaks = PeakRatios([float(MiB)] * 95 + [100.0 * MiB] * 5)
    short, long = ([ExpectedBatch(k, 1.0, calls=calls) for k in range(4)] for calls in (1, 200))
    assert weigh(peaks, short, 150 * MiB, GiB).over < weigh(peaks, long, 150 * MiB, GiB).over == DRAWS


def test_a_declared_peak_is_taken_as_it_is():
    declared = PeakRatios([100.0 * MiB], exact=True)
    three = [ExpectedBatch(k, 1.0) for k in range(3)]
    assert weigh(declared, three, 300 * MiB, GiB).over == 0
    assert weigh(declared, three, 300 * MiB - 1, GiB).over == DRAWS
    assert fitting(declared, 1.0, lambda count: 300 * MiB, 8)[0] == 3


def test_few_that_were_seen_tell_little():
    room = 4 * 150 * MiB
    few, many = (PeakRatios([100.0 * MiB] * seen) for seen in (2, 100))
    four = [ExpectedBatch(k, 1.0) for k in range(4)]
    assert weigh(few, four, room, GiB).over > weigh(many, four, room, GiB).over == 0
    assert farthest(few, four[0], GiB) > farthest(many, four[0], GiB)


def test_it_says_why():
    peaks = PeakRatios([float(k * MiB) for k in range(2, 451, 4)])
    workers, weighed = fitting(peaks, 1.0, lambda count: GiB, 16)
    assert f"of 64 draws of what {workers + 1} calls may take, {weighed.over} go over 1.0 GiB" in str(weighed)
    assert f"up to {weighed.worth} are worth it" in str(weighed)
