"""A signal that another thread was given, or that came just before a wait began, ends the wait too."""

import signal
import threading
import time
from concurrent.futures import CancelledError, Future

import pytest

import penstock
from penstock import forks
from penstock.patience import slices
from penstock.pool.futures import CallFuture
from penstock.rescue.pool import Result


class Rang(Exception):
    """What the handler raises, as that of Ctrl-C does."""


@pytest.fixture
def ring():
    """Have another thread be given a signal soon: the main one is not woken by it."""

    def raise_it(number, frame):
        raise Rang

    def give():
        time.sleep(0.3)
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR2)

    before = signal.signal(signal.SIGUSR2, raise_it)
    giver = threading.Thread(target=give)
    yield giver.start
    giver.join()
    signal.signal(signal.SIGUSR2, before)


def call():
    return CallFuture(None, forks.Here())


@pytest.mark.parametrize(
    "wait",
    [
        lambda: call().result(), lambda: call().exception(), lambda: call().result(600),
        lambda: Result([Future()]).get(), lambda: Result([Future()]).wait(600),
    ],
    ids=["result", "exception", "timeout", "get", "wait"],
)  # fmt: skip
def test_a_wait_for_a_call_ends(ring, wait):
    ring()
    with pytest.raises(Rang):
        wait()


def test_the_wait_for_an_executors_end_ends(ring):
    pool = penstock.Executor(1)
    pool.submit(time.sleep, 600)
    ring()
    with pytest.raises(Rang):
        pool.shutdown()
    pool.abandon()


def test_slices_are_as_long_as_was_asked_for():
    begin = time.monotonic()
    for seconds in slices(1.2):
        assert 0 < seconds <= 1
        time.sleep(seconds)
    assert time.monotonic() - begin >= 1.2
    assert [*slices(0)] == [*slices(-1)] == [0]
    endless = slices()
    assert [next(endless) for _ in range(3)] == [1, 1, 1]


def test_a_future_in_time_is_no_later():
    future = call()
    with pytest.raises(TimeoutError):
        future.result(0.01)
    threading.Timer(0.05, future.set_result, [5]).start()
    assert (future.result(60), future.exception(0)) == (5, None)
    never = call()
    never.cancel()
    with pytest.raises(CancelledError):
        never.result()
