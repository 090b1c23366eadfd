"""Files that are nearly right: what hypothesis makes of those to begin with."""

from __future__ import annotations

import gc
import itertools
import resource
import time
from collections.abc import Callable, Sequence

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

_WORDS = [
    b"",
    b"\0",
    b"\xff" * 4,
    b"\x7f\xff",
    b"[" * 400,
    b"9" * 30,
    b"-1",
    b"1e999",
    b"null",
    b'"',
    b"\n",
    b"../x",
]
_CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["put", "flip", "cut", "drop", "twice"]),
        st.floats(0, 1),
        st.sampled_from(_WORDS) | st.binary(max_size=6),
        st.integers(1, 255),
    ),
    max_size=8,
)


def changed(data: bytes, changes: list[tuple[str, float, bytes, int]]) -> bytes:
    """A file after some changes, each at a share of its length."""
    for what, share, word, count in changes:
        at = int(share * len(data))
        if what == "put":
            data = data[:at] + word + data[at + len(word) * (count % 2) :]
        elif what == "flip" and at < len(data):
            data = data[:at] + bytes([data[at] ^ count]) + data[at + 1 :]
        elif what == "cut":
            data = data[:at] if count % 3 == 0 else data
        elif what == "drop":
            data = data[:at] + data[at + count :]
        elif what == "twice":
            data = data[:at] + data[at : at + count] + data[at:]
    return data


def drive(read: Callable[[bytes], None], files: Sequence[bytes], seconds: float) -> int:
    """Give ``read`` nearly right files for so long, the same ones each time; how many.

    Raises:
        Exception: whatever it raised, with the file.
    """
    done = 0
    until = time.monotonic() + seconds
    for number in itertools.count():

        @seed(number)
        @settings(
            max_examples=100, deadline=None, database=None, phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck), print_blob=False,
        )  # fmt: skip
        @given(st.sampled_from(files), _CHANGES)
        def one(data: bytes, changes: list[tuple[str, float, bytes, int]]) -> None:
            nonlocal done
            if done and time.monotonic() > until:
                return
            read(changed(data, changes))
            done += 1

        one()
        if time.monotonic() > until:
            return done
    raise AssertionError


def held() -> int:
    """The most memory that this process has held so far, in bytes."""
    gc.collect()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
