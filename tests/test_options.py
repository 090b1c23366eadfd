"""Options of a wrong kind: a value of any type is taken, or refused by the option's name."""

import inspect
import math
import warnings

import pytest

import penstock
from penstock.errors import PenstockError

NOT_OPTIONS = ("function", "items", "folder", "into", "observers", "backend")
OPTIONS = [name for name in inspect.signature(penstock.run).parameters if name not in NOT_OPTIONS]
VALUES = (
    None, True, 0, 1, -1, 1.5, 10**400, math.nan, math.inf, "", "x", "no", b"x", [], {}, {1: 2}, len,
)  # fmt: skip


@pytest.mark.parametrize("option", OPTIONS)
def test_no_option_of_a_run_ends_in_an_error_that_is_not_ours(option):
    taken, refused = [], []
    for value in VALUES:
        options = {"budget": "2GiB", "backend": "inline", option: value}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                taken.append(penstock.run(str, range(3), **options).result)
            except PenstockError as error:
                refused.append(str(error))
    assert all(result == ["0", "1", "2"] for result in taken)
    named = [said for said in refused if option in said or "size" in said]
    assert len(named) > len(VALUES) / 2 or option in TAKE_MOST, refused


TAKE_MOST = ("progress", "output", "cluster")
"""What anything may be, or is looked up by name."""
