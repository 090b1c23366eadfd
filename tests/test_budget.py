"""Sizes as people write and read them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.budget import Budget, GiB, KiB, MiB, TiB, format_size, parse_size
from penstock.errors import UsageError


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("12GiB", 12 * GiB), ("12 GiB", 12 * GiB), ("  1.5gib ", 3 * GiB // 2), ("16G", 16 * GiB),
        ("16GB", 16 * 10**9), ("800MB", 800 * 10**6), ("64k", 64 * KiB), ("64kB", 64_000),
        ("1T", TiB), ("2TB", 2 * 10**12), ("7B", 7), (4096, 4096), (2e9, 2 * 10**9),
    ],
)  # fmt: skip
def test_reads(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("12", "write 12MiB or 12GiB"),
        ("0", r"800MB$"),
        ("12XB", "unknown unit 'XB'; known: GiB"),
        ("", "a number and a unit"),
        ("GiB", "a number and a unit"),
        ("-3GiB", "a number and a unit"),
        ("1e9B", "a number and a unit"),
        ("0GiB", "must be positive"),
        ("0.1B", "must be positive"),
        (0, "must be positive"),
        (-5, "must be positive"),
        (math.nan, "must be positive"),
        (math.inf, "must be positive"),
        (10**400, "below 8 EiB"),
        (None, "a text such as '4GiB', or a number of bytes, not None"),
        (True, "a text such as"),
        (b"1GiB", "a text such as"),
        ([], "a text such as"),
    ],
)
def test_refuses(text, words):
    with pytest.raises(UsageError, match=words):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (320 * MiB, "320 MiB"),
        (12 * GiB, "12.0 GiB"),
        (-GiB, "-1.0 GiB"),
    ],
)
def test_prints(size, text):
    assert format_size(size) == text


@given(st.integers(1, 2**60))
def test_what_is_printed_is_read_back_nearly(size):
    assert abs(parse_size(format_size(size)) - size) <= 0.06 * size


def test_a_budget_says_who_set_it():
    assert str(Budget(4 * GiB, "as asked for")) == "4.0 GiB (as asked for)"
