"""How bytes are printed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.budget import GiB, KiB, MiB, TiB, format_size


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (KiB, "1.0 KiB"),
        (320 * MiB, "320 MiB"),
        (1023 * MiB, "1023 MiB"),
        (GiB - 1, "1.0 GiB"),
        (1.5 * GiB, "1.5 GiB"),
        (-2 * TiB, "-2.0 TiB"),
    ],
)
def test_printed(size, text):
    assert format_size(size) == text


@given(st.integers(0, 1 << 49))
def test_never_1024_of_a_unit_and_true_to_a_twentieth(size):
    number, unit = format_size(size).split()
    assert float(number) < 1024
    width = {"B": 1, "KiB": KiB, "MiB": MiB, "GiB": GiB, "TiB": TiB}[unit]
    assert abs(float(number) * width - size) <= max(size, 1) / 20
