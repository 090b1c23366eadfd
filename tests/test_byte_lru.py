"""ByteLRU: never above its limit, each key loaded once, and counts that add up."""

import os
import pickle
import threading
from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from waiting import LIMIT, until

from penstock import ByteLRU, UsageError

STEPS = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(["get", "get", "get", "discard"])))


@given(STEPS, st.integers(0, 30), st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 20)))
def test_keeps_what_was_used_last_and_is_never_above_its_limit(steps, limit, weights):
    model, loads, hits = OrderedDict(), 0, 0
    seen = []
    cache = ByteLRU(limit, weigh=lambda value: (seen.append(cache.bytes), weights.get(value, 3))[1])
    for key, what in steps:
        if what == "discard":
            cache.discard(key)
            model.pop(key, None)
        else:
            assert cache.get(key, lambda key=key: key) == key
            if key in model:
                hits += 1
                model.move_to_end(key)
            else:
                loads += 1
                weight = weights.get(key, 3)
                if weight <= limit:
                    while sum(model.values()) + weight > limit:
                        model.popitem(last=False)
                    model[key] = weight
        assert {key for key in "abcdefgh" if key in cache} == set(model)
        assert (cache.bytes, cache.hits, cache.misses) == (sum(model.values()), hits, loads)
        assert cache.bytes <= limit
    assert all(each <= limit for each in seen)


def test_one_key_is_loaded_once_however_many_ask_at_once():
    cache = ByteLRU(0)  # nothing is kept, so that only those who waited can have the value
    loads, got = [], []

    def load():
        loads.append(1)
        until(lambda: cache.hits == 7)
        return b"value"

    threads = [threading.Thread(target=lambda: got.append(cache.get("key", load))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert got == [b"value"] * 8
    assert len(loads) == 1
    assert (cache.hits, cache.misses, cache.bytes) == (7, 1, 0)


def test_what_a_load_raises_is_raised_to_all_who_wait_and_nothing_is_kept():
    cache = ByteLRU("1KiB")
    raised = []

    def load():
        until(lambda: cache.hits == 3)
        raise OSError("gone")

    def ask():
        with pytest.raises(OSError, match="gone"):
            cache.get("key", load)
        raised.append(1)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert len(raised) == 4
    assert cache.get("key", lambda: b"again") == b"again"


def test_an_interrupted_load_is_done_again_by_one_who_waits():
    cache = ByteLRU("1KiB")

    def interrupted():
        until(lambda: cache.hits == 1)
        raise KeyboardInterrupt

    def ask():
        with pytest.raises(KeyboardInterrupt):
            cache.get("key", interrupted)

    first = threading.Thread(target=ask)
    first.start()
    until(lambda: cache.misses == 1)
    assert cache.get("key", lambda: b"mine") == b"mine"
    first.join(LIMIT)
    assert (cache.hits, cache.misses) == (0, 2)


def test_what_is_forgotten_while_it_is_loaded_is_not_kept():
    cache = ByteLRU("1KiB")
    assert cache.get("key", lambda: (cache.discard("key"), b"old")[1]) == b"old"
    assert "key" not in cache
    assert cache.get("key", lambda: (cache.clear(), b"old")[1]) == b"old"
    assert cache.bytes == len(cache) == 0


def test_weighs_arrays_and_bytes_by_their_bytes():
    import numpy as np

    cache = ByteLRU(1 << 20)
    cache.get("array", lambda: np.zeros((3, 4), np.float64))
    assert cache.bytes == 96
    cache.get("bytes", lambda: b"12345")
    assert cache.bytes == 101
    cache.get("list", lambda: [1, 2])
    assert cache.bytes > 101


def test_is_pickled_empty_and_refuses_what_makes_no_sense():
    cache = ByteLRU("1KiB", weigh=len)
    cache.get("key", lambda: b"value")
    copy = pickle.loads(pickle.dumps(cache))
    assert (copy.limit, copy.bytes, len(copy), copy.hits, copy.misses) == (1024, 0, 0, 0, 0)
    with pytest.raises(UsageError):
        ByteLRU(-1)
    with pytest.raises(UsageError, match="itself"):
        cache.get("a", lambda: cache.get("a", bytes))
    with pytest.raises(UsageError, match="-1 bytes"):
        ByteLRU(10, weigh=lambda value: -1).get("a", bytes)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_does_not_wait_for_a_load_of_its_parent():
    cache = ByteLRU("1KiB")
    begun, go_on = threading.Event(), threading.Event()
    loader = threading.Thread(
        target=cache.get, args=("key", lambda: (begun.set(), go_on.wait(LIMIT), b"parent")[2])
    )
    loader.start()
    assert begun.wait(LIMIT)
    pid = os.fork()
    if not pid:
        os._exit(0 if cache.get("key", lambda: b"child") == b"child" else 1)
    assert os.waitpid(pid, 0)[1] == 0
    go_on.set()
    loader.join(LIMIT)
    assert cache.get("key", bytes) == b"parent"
