"""Whatever a file holds, its reader says that it is bad, or reads it: no crash, no hang, no growth."""

import warnings

import mutating
import pytest
from targets import TARGETS

_SECONDS = 5.0
_GROWTH = 192 << 20
"""Bytes that a reader of small files may come to hold; libraries that are loaded count too."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", TARGETS)
def test_no_file_is_too_odd(name):
    read, files = TARGETS[name]
    made = files()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy warns of headers that it then refuses
        for file in made:  # what is right is read
            read(file)
        before = mutating.held()
        assert mutating.drive(read, made, _SECONDS) > 0
    assert mutating.held() - before < _GROWTH
