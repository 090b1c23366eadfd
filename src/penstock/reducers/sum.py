"""Sums that do not depend on how the work was cut."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from penstock.outputs import check_many


@dataclass(frozen=True, kw_only=True)
class Sum:
    """Adds results: numbers, or arrays of one shape.

    Integers and booleans are added exactly, in any order: numbers as Python ints, arrays as int64,
    where a sum past 2**63 raises. Floats and complex numbers are added in item order within
    fixed grains, in 64 (128) bits, so that the last bit is the same for any batch: they need
    ``grain``. The sum of no items is 0.

    Args:
        grain: items that are added up on their own; None takes integers only.

    Raises:
        UsageError: a grain that is no whole number of at least 1.
        TypeError: a result that cannot be added, or floats without a grain.
        ValueError: arrays of different shapes.
        OverflowError: an array's sum past 64 bits.
    """

    grain: int | None = None

    def __post_init__(self) -> None:
        if self.grain is not None:
            check_many(self, grain=self.grain)

    @property
    def order(self) -> Literal["any", "items"]:
        """``"items"`` when there are grains."""
        return "any" if self.grain is None else "items"

    def start(self) -> None:
        """No sum yet: the first result decides its kind."""

    def step(self, state: Any, result: Any) -> Any:
        """Add one result; an array state is changed in place."""
        addend = _addend(result, exact=self.grain is None)
        return addend if state is None else _add(state, addend)

    def merge(self, left: Any, right: Any) -> Any:
        """Add two states; an array on the left is changed in place."""
        if left is None or right is None:
            return right if left is None else left
        return _add(left, right)

    def finish(self, states: Iterator[Any]) -> Any:
        """Add the states from left to right."""
        total = None
        for state in states:
            total = self.merge(total, state)
        return 0 if total is None else total


def _addend(result: Any, *, exact: bool) -> Any:
    """The result as a Python number, or as a wide array that is ours to change."""
    if type(result) in (bool, int):
        return int(result)
    is_numpy = type(result).__module__ == "numpy" and hasattr(result, "dtype")
    kind = result.dtype.kind if is_numpy else {float: "f", complex: "c"}.get(type(result), "")
    if not kind or kind not in "biufc":
        raise TypeError(f"Sum adds numbers and NumPy arrays of numbers, not {_described(result)}")
    if exact and kind in "fc":
        raise TypeError(
            f"a sum of {_described(result)} values depends on their order: give a grain, as in "
            "Sum(grain=64), and they are added in item order within fixed grains; or return integers"
        )
    return result if kind == "f" and not is_numpy else _wide(result, kind)


def _described(result: Any) -> str:
    dtype = getattr(result, "dtype", None)
    return type(result).__qualname__ if dtype is None else f"NumPy {dtype}"


def _wide(value: Any, kind: str) -> Any:
    import numpy as np

    if isinstance(value, complex | np.complexfloating):
        return np.complex128(value)  # a Python complex is no JSON value, so no state
    if isinstance(value, np.generic):
        number = value.item()
        return int(number) if kind == "b" else number
    if value.dtype == np.uint64 and value.size and int(value.max()) >> 63:
        raise OverflowError(_OVER)
    wide = {"f": np.float64, "c": np.complex128}.get(kind, np.int64)
    return value.astype(wide, copy=True)


_OVER = "the sum of the arrays passes 2**63: return float64 arrays and give Sum a grain, or smaller numbers"


def _add(left: Any, right: Any) -> Any:
    if not hasattr(left, "dtype") or not hasattr(right, "dtype"):
        if hasattr(left, "dtype") or hasattr(right, "dtype"):
            raise ValueError("Sum was given a number and an array: every result must have one shape")
        return left + right
    if left.shape != right.shape:
        raise ValueError(
            f"Sum was given arrays of shapes {left.shape} and {right.shape}: they must have one shape"
        )
    if left.dtype != right.dtype:
        return left + right
    if left.dtype.kind != "i":
        left += right
        return left
    total = left + right
    # Signed addition overflows exactly when both addends have the sign that the sum has not.
    if (((left ^ total) & (right ^ total)) < 0).any():
        raise OverflowError(_OVER)
    return total
