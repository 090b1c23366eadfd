"""What results weigh."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest

from penstock.budget import MiB
from penstock.engine.messages import Work
from penstock.engine.weight import weight
from penstock.engine.worker.batch import WorkedBatch


class Shy:
    """Says nothing of itself."""

    def __sizeof__(self):
        raise RuntimeError("no")


class Braggart:
    nbytes = "1 TiB"


class Holder:
    """Says nothing of what its fields take."""

    def __init__(self):
        self.data = bytes(10_000)


@dataclass(slots=True)
class Slotted:
    data: bytes
    more: bytes = b""


class Named(NamedTuple):
    data: bytes


class Lying(list):
    def __len__(self):
        return 10**12

    def __iter__(self):
        raise RuntimeError("no")


class Trap:
    @property
    def nbytes(self):
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("results", "least", "most"),
    [
        (None, 0, 0),
        ([], 0, 100),
        ([b"x" * 1000] * 1000, 1_000_000, 1_200_000),
        ([list(range(1000))] * 10, 10 * 8000, 10 * 40_000),
        ([{"a": "x" * 1000, "b": ("y" * 1000,)}] * 10, 20_000, 30_000),
        ([np.zeros(1000)] * 10, 80_000, 90_000),  # once, and not what it owns beside what it is
        (np.zeros(1000), 8000, 9000),
        ([Shy(), Trap()], 0, 1000),
        ([Braggart()], 0, 1000),
        ([{"a": {"b": {"c": [{"d": bytes(10_000)}]}}}] * 10, 100_000, 120_000),
        ([Holder()] * 10, 100_000, 110_000),
        ([Slotted(bytes(10_000))] * 10, 100_000, 110_000),
        ([Named(bytes(10_000))] * 10, 100_000, 110_000),
        ([Lying([1, 2])], 0, 1000),
        ([Holder], 0, 10_000),
        ([b"x" * 1_000_000, *range(999)], 1_000_000, 100_000_000),
    ],
)
def test_weight(results, least, most):
    assert least <= weight(results) <= most


def test_weight_of_a_list_that_holds_itself():
    circle = []
    circle.append(circle)
    assert weight(circle) < 1000


def batch_of(results, call=64, each=0.0):
    work = Work(
        0,
        1000,
        (),
        call=call,
        seconds=60.0,
        memory=MiB,
        fence=0,
        granted=0,
        threads=1,
        attempt=0,
        results=results,
    )
    return WorkedBatch(work, [], each)


def test_a_call_has_as_many_items_as_may_go_up_together():
    batch = batch_of(10 * MiB)
    assert batch.most_items() == 1  # nothing is known yet
    batch.stop = 1
    batch.weigh([bytes(MiB)])
    assert batch.most_items() == 8  # each is a little more than a MiB
    batch.stop = 9
    batch.weigh([bytes(MiB)] * 8)
    assert not batch.is_heavy()
    assert batch.most_items() == 1
    after = batch_of(10 * MiB, each=batch.each)
    assert after.most_items() == 9
    assert batch_of(10 * MiB, each=28.0).most_items() == 64


def test_results_that_stay_with_the_worker_shorten_no_call():
    batch = batch_of(0)
    batch.weigh([bytes(MiB)])
    assert batch.most_items() == 64
