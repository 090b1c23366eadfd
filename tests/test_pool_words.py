"""What a script finds where it looks for what the original pools say and hold."""

import gc
import os
import pickle
import signal
import threading
import weakref
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.pool import MaybeEncodingError

import pytest
from executor_programs import beside
from waiting import LIMIT, until

import penstock
from penstock import errors
from penstock.rescue.pool import Pool
from penstock.rescue.process_pool import ProcessPool


@pytest.fixture(autouse=True)
def budget(monkeypatch):
    monkeypatch.setenv("PENSTOCK_BUDGET", f"{beside(250) >> 20}MiB")


def ends(how):
    if how == "dies":
        os.kill(os.getpid(), signal.SIGSEGV)
    return bytearray(b"x") * (4 << 30)


@pytest.mark.parametrize(("how", "kind"), [("dies", errors.WorkerDied), ("grows", errors.ItemTooLarge)])
def test_under_rescue_a_script_that_looks_for_a_broken_pool_finds_it(how, kind):
    with ProcessPool(1) as pool:
        failed, fine = pool.submit(ends, how), pool.submit(abs, -3)
        with pytest.raises(BrokenProcessPool) as caught:
            failed.result(LIMIT)
        assert isinstance(caught.value, kind)
        assert type(pickle.loads(pickle.dumps(caught.value))) is type(caught.value)
        assert fine.result(LIMIT) == 3  # and the pool goes on
    with penstock.Executor(1) as pool, pytest.raises(kind) as caught:
        pool.submit(ends, how).result(LIMIT)
    assert not isinstance(caught.value, BrokenProcessPool)


def three_then_wrong():
    yield from range(3)
    raise LookupError("the input ends badly")


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
def test_results_before_an_input_that_raises_come_first(method):
    with Pool(2) as pool:
        results = getattr(pool, method)(abs, three_then_wrong())
        assert sorted(next(results) for _ in range(3)) == [0, 1, 2]
        with pytest.raises(LookupError, match="ends badly"):
            next(results)
        with pytest.raises(StopIteration):
            next(results)
        with pytest.raises(LookupError, match="ends badly"):
            pool.map(abs, three_then_wrong())


def lock(_):
    return threading.Lock()


def test_a_result_that_cannot_be_sent_is_told_in_the_pool_s_words():
    with Pool(1) as pool:
        for get in (pool.apply_async(lock, (1,)).get, lambda: pool.map(lock, [1]), pool.imap(lock, [1]).next):
            with pytest.raises(MaybeEncodingError, match=r"Error sending result: '<unlocked _thread"):
                get()
        assert pool.apply(abs, (-2,)) == 2
    with penstock.Executor(1) as pool, pytest.raises(TypeError, match="pickle"):
        pool.submit(lock, 1).result(LIMIT)


class Large:
    pass


def make(_):
    return Large()


@pytest.mark.parametrize("method", ["map", "imap", "imap_unordered"])
def test_a_result_that_was_taken_is_held_by_nobody(method):
    pool = penstock.Executor(1) if method == "map" else Pool(1)
    with pool:
        results = getattr(pool, method)(make, range(3))
        for _ in range(3):
            held = weakref.ref(next(results))
            until(lambda held=held: gc.collect() is not None and held() is None)
