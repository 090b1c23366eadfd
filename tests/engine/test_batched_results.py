"""What a batched function may give to an output that wants one result for each item."""

import itertools

import numpy as np
import pytest

import penstock


def run(function, into="collect"):
    return penstock.run(function, range(6), into=into, batched=3, budget="400MiB", backend="inline")


@pytest.mark.parametrize(
    "function", [list, tuple, np.asarray, iter], ids=["list", "tuple", "array", "iterator"]
)
def test_any_container_of_one_result_each_will_do(function):
    assert list(run(function).result) == list(range(6))


@pytest.mark.parametrize(
    ("gives", "says"),
    [
        (7, "gave a int for a call of 3 items"),
        ("abc", "gave a str for a call of 3 items"),
        ({"a": 1, "b": 2, "c": 3}, "gave a dict for a call of 3 items"),
        ([1, 2], "gave 2 results for a call of 3 items"),
        ([1, 2, 3, 4], "gave 4 results for a call of 3 items"),
        (lambda: iter([1, 2]), "gave 2 results for a call of 3 items"),
        (itertools.count, "gave more than 3 results for a call of 3 items"),
    ],
    ids=["number", "text", "dict", "few", "many", "short iterator", "endless iterator"],
)
@pytest.mark.parametrize("into", ["collect", "sum"])
def test_anything_else_says_what_was_given_and_what_is_wanted(gives, says, into):
    def function(items):
        return gives() if callable(gives) else gives

    with pytest.raises(penstock.CannotKeep, match=says) as caught:
        run(function, into)
    assert "one result for each item, in order" in str(caught.value)
    assert any(f"item {item} cannot be kept" in str(caught.value) for item in range(3))
