"""What results weigh."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest

from penstock.engine.weight import weight


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
