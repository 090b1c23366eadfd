"""JSON values and arrays, there and back, to the last bit."""

import enum
import json
import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from penstock.testing.comparing import comparable
from penstock.values import dumps, loads

KEYS = st.text(max_size=5) | st.sampled_from(["__array__", "__dict__", "scalar"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
ARRAYS = hnp.arrays(
    hnp.boolean_dtypes()
    | hnp.integer_dtypes(endianness="?")
    | hnp.floating_dtypes(endianness="?")
    | hnp.complex_number_dtypes()
    | hnp.unicode_string_dtypes(max_len=4)
    | hnp.byte_string_dtypes(max_len=4)
    | hnp.datetime64_dtypes()
    | hnp.timedelta64_dtypes(),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)
VALUES = st.recursive(
    SCALARS | ARRAYS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


def little(value):
    """As it is expected back: numbers of the other byte order are turned."""
    if isinstance(value, np.ndarray):
        return value.astype(value.dtype.newbyteorder("<"))
    if isinstance(value, dict):
        return {key: little(part) for key, part in value.items()}
    return [little(part) for part in value] if isinstance(value, list) else value


def typed(value):
    """With the types, so that True is not 1."""
    if isinstance(value, dict):
        return {key: typed(part) for key, part in value.items()}
    if isinstance(value, list):
        return [typed(part) for part in value]
    return type(value).__name__, comparable(value)


@given(VALUES)
@example({"__array__": ["<f8", [1], "AAAA"]})
@example({"__dict__": {"__array__": 1}})
@example({"__dict__": "nan"})
@example({"scalar": True, "__array__": None})
@example([math.nan, math.inf, -math.inf, -0.0])
@example(10**5000)
@example(-(1 << 20_000))
@example("\ud800 lone")
@example(np.array(3.5))
@example(np.zeros((0, 3), ">i4"))
@example(np.asfortranarray(np.arange(6).reshape(2, 3)))
@example(np.arange(10)[::-3])
def test_round_trip(value):
    text = dumps(value)
    assert "\n" not in text
    assert typed(loads(text)) == typed(little(value))
    assert typed(loads(text.encode())) == typed(little(value))


@given(VALUES)
def test_is_plain_json(value):
    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    json.loads(dumps(value), parse_constant=refuse)


@pytest.mark.parametrize(
    "scalar",
    [np.float32(1.5), np.float64(math.nan), np.int8(-3), np.bool_(True), np.str_("ä"), np.datetime64("2020")],
)
def test_array_scalars_stay_what_they_are(scalar):
    back = loads(dumps({"x": [scalar]}))["x"][0]
    assert type(back) is type(scalar)
    assert comparable(back) == comparable(scalar)


def test_tuples_come_back_as_lists():
    assert loads(dumps((1, (2,)))) == [1, [2]]


def test_an_array_is_writable_and_its_own():
    array = loads(dumps(np.zeros(3)))
    array += 1
    assert array.sum() == 3


class Colour(enum.IntEnum):
    RED = 1


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (b"x", r"the value is a bytes"),
        ({"a": [1, {2}]}, r"the value\['a'\]\[1\] is a set"),
        ({"a": object()}, r"the value\['a'\] is a object"),
        ({1: 2}, r"the key 1: keys must be strings"),
        (Colour.RED, "is a Colour"),
        (1j, "is a complex"),
        ([np.array([None])], r"the value\[0\] is a NumPy array of objects"),
        (np.zeros(2, [("a", "i4")]), "structured NumPy array"),
        (np.array(["a"], dtype=np.dtypes.StringDType()), "objects"),
        (np.ma.array([1, 2], mask=[0, 1]), "is a MaskedArray"),
    ],
)
def test_refuses_what_would_not_come_back(value, words):
    with pytest.raises(TypeError, match=words):
        dumps(value)


@pytest.mark.parametrize("text", ["", "{", "[1,", "nul"])
def test_refuses_what_is_no_such_text(text):
    with pytest.raises(ValueError):
        loads(text)
