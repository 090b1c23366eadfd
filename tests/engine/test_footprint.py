"""The learnt bound on simulated workloads: how often it is exceeded, and how far above the need it lies."""

import random

import pytest

from penstock.budget import MiB
from penstock.engine.decide.footprint import Footprint, Observation

CALLS = 2000


def constant(rng, n):
    return 1.0, 80 * MiB * rng.uniform(0.97, 1.03)


def proportional(rng, n):
    size = rng.lognormvariate(0, 1) * 10 * MiB
    return size, 20 * MiB + 3 * size * rng.uniform(0.95, 1.05)


def unhinted(rng, n):
    return 1.0, rng.lognormvariate(0, 0.3) * 50 * MiB


def outliers(rng, n):
    return 1.0, (1000 if rng.random() < 0.01 else 50) * MiB * rng.uniform(0.95, 1.05)


def growing(rng, n):
    return 1.0, 50 * MiB * (1 + 3 * n / CALLS) * rng.uniform(0.97, 1.03)


def simulate(workload, seed, *, scales=False):
    """(share of calls over their bound, mean of bound / need) once a few are known."""
    rng, footprint = random.Random(seed), Footprint(scales=scales)
    over, ratios = 0, []
    for n in range(CALLS):
        hint, need = workload(rng, n)
        bound = footprint.bound(hint, hint)
        if n >= 20:
            over += need > bound
            ratios.append(bound / need)
        footprint.observe(Observation(hint, hint, int(need)))
    return over / len(ratios), sum(ratios) / len(ratios)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("workload", "most_over", "most_ratio"),
    [
        (constant, 0.005, 1.4),
        (proportional, 0.02, 1.6),
        (unhinted, 0.06, 3.0),
        (outliers, 0.06, 3.0),
        (growing, 0.06, 1.5),
    ],
)
def test_the_bound_holds_and_is_near_the_need(workload, most_over, most_ratio, seed):
    """No more than the 5 % that the module claims are missed, with a little for chance."""
    over, ratio = simulate(workload, seed)
    assert over <= most_over
    assert ratio <= most_ratio


def test_nothing_is_known_at_first():
    footprint = Footprint(scales=False)
    assert not footprint.known
    assert footprint.bound(1.0, 1.0) is None
    assert footprint.median == 0
    footprint.observe(Observation(1, 1, 30 * MiB))
    assert footprint.known
    assert 30 * MiB < footprint.bound(1, 1) <= 1.2 * 30 * MiB + MiB


def test_what_has_changed_is_foretold_by_the_last_calls_alone():
    """A hundred small ones say little of the large ones that come now; what is drawn stands for those."""
    rng, footprint = random.Random(1), Footprint(scales=False)
    for n in range(124):
        usual = 30 if n < 100 else 580
        footprint.observe(Observation(1, 1, int(usual * rng.uniform(0.95, 1.05) * MiB)))
    assert min(footprint.peaks().ratios) > 500 * MiB
    assert len(footprint.ratios) == 124, "what they took is not forgotten"


@pytest.mark.parametrize("kind", ["uniform", "lognormal", "bimodal"])
def test_what_comes_in_no_order_is_foretold_by_all_of_the_last_calls(kind):
    draw = {
        "uniform": lambda rng: rng.uniform(1, 100),
        "lognormal": lambda rng: rng.lognormvariate(3, 1),
        "bimodal": lambda rng: 10 * rng.choice((10, 10, 10, 10, 90)),
    }[kind]
    few = 0
    for seed in range(10):
        rng, footprint = random.Random(seed), Footprint(scales=False)
        for n in range(300):
            footprint.observe(Observation(1, 1, int(draw(rng) * MiB)))
            few += n >= 128 and len(footprint.peaks().ratios) < 128
    assert few < 0.01 * 10 * 172


def test_a_lone_heavy_one_is_not_forgotten_for_those_that_came_since():
    footprint = Footprint(scales=False)
    for n in range(100):
        footprint.observe(Observation(1, 1, (600 if n in (60, 61, 62) else 30) * MiB))
    assert max(footprint.peaks().ratios) == 600 * MiB


def test_a_declared_bound_is_believed_until_it_is_exceeded():
    footprint = Footprint(scales=False, declared=100 * MiB)
    assert footprint.bound(1, 1) == 100 * MiB
    for peak in (10, 90, 100):
        footprint.observe(Observation(1, 1, peak * MiB))
        assert footprint.bound(1, 1) == 100 * MiB
    footprint.observe(Observation(1, 1, 120 * MiB))
    assert footprint.bound(1, 1) > 120 * MiB


def test_a_first_call_is_bounded_apart():
    footprint = Footprint(scales=False)
    for _ in range(10):
        footprint.observe(Observation(1, 1, 50 * MiB))
    footprint.observe(Observation(1, 1, 200 * MiB), first=True)
    assert footprint.bound(1, 1) < 70 * MiB
    assert footprint.bound(1, 1, first=True) >= 200 * MiB


@pytest.mark.parametrize("scales", [False, True])
@pytest.mark.parametrize("calls", [2, 6, 40])
def test_one_item_too_large_says_nothing_of_the_others(scales, calls):
    footprint = Footprint(scales=scales)
    for n in range(calls):
        footprint.observe(Observation(1 + n % 3, 1 + n % 3, (50 + n % 3) * MiB))
    before = footprint.bound(2, 2)
    footprint.at_least(Observation(2, 2, 5000 * MiB))
    for n in range(20):
        assert footprint.bound(2, 2) <= 1.5 * before + MiB
        footprint.observe(Observation(1 + n % 3, 1 + n % 3, (50 + n % 3) * MiB))


def test_a_call_of_several_that_is_too_large_says_that_such_calls_are():
    footprint = Footprint(scales=True)
    for _ in range(6):
        footprint.observe(Observation(1, 10, 50 * MiB))
    footprint.at_least(Observation(1, 40, 900 * MiB))
    assert footprint.bound(1, 40) >= 900 * MiB


def test_where_nothing_else_is_known_a_death_teaches():
    footprint = Footprint(scales=False)
    footprint.at_least(Observation(1, 1, 300 * MiB))
    footprint.observe(Observation(1, 1, 20 * MiB))
    assert footprint.bound(1, 1) > 0


def test_batched_calls_scale_with_their_items():
    rng, footprint = random.Random(0), Footprint(scales=True)
    for n in range(60):
        items = (1, 4, 16, 64)[n % 4]
        need = 30 * MiB + items * 2 * MiB * rng.uniform(0.95, 1.05)
        footprint.observe(Observation(1, items, int(need)))
    for items in (1, 16, 64, 200):
        need = 30 * MiB + items * 2 * MiB
        assert need <= footprint.bound(1, items) <= 1.5 * need


def test_a_call_larger_than_any_seen_is_stretched():
    footprint = Footprint(scales=True)
    for _ in range(3):
        footprint.observe(Observation(1, 10, 100 * MiB))
    assert footprint.bound(1, 40) >= 400 * MiB
    alone = Footprint(scales=False)
    for _ in range(3):
        alone.observe(Observation(1, 1, 100 * MiB))
    assert alone.bound(1, 40) <= 130 * MiB, "items worked one after another do not add up"
