"""Prefetcher: in order, several at once, never above its bound, and the same values as without it."""

import os
import pickle
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import LIMIT, until

from penstock import UsageError
from penstock.remote import Prefetcher


class Files:
    """Values that are as large as they say; knows how much is under way or held, and who loads."""

    def __init__(self, sizes):
        self.sizes, self.loaded = sizes, []
        self.lock = threading.Lock()
        self.now = self.most = 0

    def load(self, key):
        with self.lock:
            self.loaded.append(key)
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            return bytes([key % 256]) * self.sizes[key]
        finally:
            with self.lock:
                self.now -= 1

    def expected(self, keys):
        return [(key, self.sizes[key]) for key in keys]


def settled(ahead):
    until(lambda: ahead._working == 0)
    return ahead


@given(
    sizes=st.lists(st.integers(0, 30), min_size=1, max_size=12),
    bound=st.integers(0, 60),
    fetch=st.integers(1, 4),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_gives_the_same_in_any_order_and_is_never_above_its_bound(sizes, bound, fetch, data):
    files = Files(sizes)
    ahead = Prefetcher(files.load, fetch=fetch, bound=bound)
    keys = st.lists(st.integers(0, len(sizes) - 1), max_size=15)
    for _ in range(data.draw(st.integers(1, 3))):
        ahead.expect(files.expected(data.draw(keys)))
        for key in data.draw(keys):
            assert ahead.get(key, sizes[key]) == bytes([key]) * sizes[key]
            assert ahead.bytes <= bound
    ahead.expect([])
    settled(ahead)
    assert ahead.bytes == 0
    assert ahead.most <= bound
    assert files.most <= fetch + 1  # the consumer's own


@given(st.lists(st.integers(0, 30), min_size=1, max_size=20), st.integers(0, 60), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_loads_each_once_where_it_is_had_as_expected(sizes, bound, fetch):
    files = Files(sizes)
    ahead = Prefetcher(files.load, fetch=fetch, bound=bound)
    ahead.expect(files.expected(range(len(sizes))))
    assert [ahead.get(key) for key in range(len(sizes))] == [bytes([k]) * n for k, n in enumerate(sizes)]
    settled(ahead)
    assert sorted(files.loaded) == list(range(len(sizes)))
    assert ahead.bytes == 0


def test_fetches_several_at_once_before_they_are_asked_for():
    together = threading.Barrier(4)
    ahead = Prefetcher(lambda key: (together.wait(LIMIT), key)[1], fetch=4, bound=100)
    ahead.expect([(key, 10) for key in range(8)])  # loads end only four at a time
    assert [ahead.get(key) for key in range(8)] == list(range(8))


def test_keeps_a_value_as_often_as_it_is_expected():
    files = Files([10, 10])
    ahead = Prefetcher(files.load, bound=100)
    ahead.expect(files.expected([0, 1, 0, 0]))
    for key in (0, 1, 0, 0):
        ahead.get(key)
    assert sorted(files.loaded) == [0, 1]
    assert ahead.bytes == 0


def test_what_is_left_out_does_not_stand_in_the_way():
    files = Files([50, 50, 50, 50])
    ahead = settled_with(files, bound=100)
    assert ahead.bytes == 100  # 0 and 1
    for key in (2, 3):
        assert len(ahead.get(key)) == 50
    settled(ahead)
    assert files.loaded.count(2) == files.loaded.count(3) == 1
    assert ahead.most <= 100


def settled_with(files, bound):
    ahead = Prefetcher(files.load, fetch=1, bound=bound)
    ahead.expect(files.expected(range(len(files.sizes))))
    return settled(ahead)


def test_what_was_fetched_for_another_batch_goes_and_what_both_expect_stays():
    files = Files([10] * 6)
    ahead = Prefetcher(files.load, bound=100)
    ahead.expect(files.expected([0, 1, 2, 3]))
    settled(ahead)
    ahead.expect(files.expected([3, 4]))
    settled(ahead)
    assert ahead.bytes == 20
    assert [ahead.get(key) for key in (3, 4)] == [b"\x03" * 10, b"\x04" * 10]
    assert sorted(files.loaded) == [0, 1, 2, 3, 4]
    ahead.expect([])
    assert ahead.bytes == 0


def test_what_a_load_raises_is_raised_to_who_asks_and_only_then():
    tries = []

    def load(key):
        tries.append(key)
        if len(tries) == 1:
            raise OSError("gone")
        return b"there"

    ahead = Prefetcher(load, bound=100)
    ahead.expect([(1, 5)])
    settled(ahead)
    with pytest.raises(OSError, match="gone"):
        ahead.get(1)
    assert ahead.bytes == 0
    assert ahead.get(1, 5) == b"there"


def test_no_thread_is_left_when_there_is_nothing_to_do():
    files = Files([10] * 4)
    ahead = Prefetcher(files.load, bound=15)
    ahead.expect(files.expected(range(4)))
    until(lambda: not [each for each in threading.enumerate() if each.name == "prefetch"])
    assert ahead.bytes == 10
    assert ahead.get(0) == bytes(10)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_is_pickled_empty_and_a_forked_child_begins_anew():
    go_on = threading.Event()
    ahead = Prefetcher(Slow(go_on), bound=100)
    ahead.expect([(1, 5), (2, 5)])
    until(lambda: ahead._working == 2)
    pid = os.fork()
    if not pid:
        go_on._flag = True  # its lock may be held by a thread that is not here
        os._exit(0 if ahead.get(1, 5) == 1 and ahead.bytes == 0 else 1)
    assert os.waitpid(pid, 0)[1] == 0
    go_on.set()
    assert ahead.get(1) == 1
    copy = pickle.loads(pickle.dumps(Prefetcher(abs, fetch=3, bound="1KiB")))
    assert (copy.fetch, copy.bound, copy.bytes, copy.get(-4, 1)) == (3, 1024, 0, 4)
    for wrong in ({"fetch": 0}, {"bound": -1}):
        with pytest.raises(UsageError):
            Prefetcher(abs, **wrong)


class Slow:
    def __init__(self, event):
        self.event = event

    def __call__(self, key):
        if not self.event.is_set():
            self.event.wait(LIMIT)
        return key


def test_what_is_waited_for_is_begun_once():
    """Begun by a thread too, while its consumer waited for room, it was counted twice for ever."""
    begun, go = threading.Semaphore(0), threading.Event()
    loaded = []

    def load(key):
        loaded.append(key)
        if key == "first":
            begun.release()
            assert go.wait(LIMIT)
        return key

    ahead = Prefetcher(load, fetch=1, bound=20)
    ahead.expect([("first", 15)])
    assert begun.acquire(timeout=LIMIT)
    ahead.expect([("second", 8)])  # there is no room for it yet
    had = []
    consumer = threading.Thread(target=lambda: had.append(ahead.get("second")))
    consumer.start()
    until(lambda: ahead._changed._waiters)  # for room
    go.set()
    consumer.join(LIMIT)
    settled(ahead)
    assert had == ["second"]
    assert loaded == ["first", "second"]
    assert ahead.bytes == 0
