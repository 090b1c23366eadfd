"""The user's code that comes back into ours in its midst: finalizers, handlers, callbacks, arguments."""

import ast
import asyncio
import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy
import pytest

import penstock
from penstock import forks, script
from penstock.backends.local import Local
from penstock.backends.processes import Helper
from penstock.backends.sentinel import Sentinel
from penstock.engine.parent.clock import Clock
from penstock.patience import Unwaiting, may_wait
from penstock.pool import executor
from penstock.pool.ahead import Ahead
from penstock.pool.by_value import Bindings
from penstock.pool.futures import CallFuture, fulfil
from penstock.pool.pickling import pack


def soon(act):
    """Do this on another thread, which must end."""
    told = []
    thread = threading.Thread(target=lambda: told.append(act()), daemon=True)
    thread.start()
    thread.join(60)
    assert told, "it waits for ever, or raised"
    return told[0]


def done(number):
    future = CallFuture(None, forks.Here())
    future.set_result(number)
    return future


# --------------------------------------------------------------------------- finalizers on threads of ours


def test_no_thread_that_calls_need_may_wait_for_them():
    told = {}

    def tell(name):
        told.setdefault(name, may_wait())

    turns = Clock().repeat(lambda: tell("governor"), "penstock-governor")
    turns.end(60)
    helper = Helper()
    helper.ask(lambda: tell("helper"))
    helper.stop()
    heard = threading.Event()
    sentinel = Sentinel(lambda: (tell("sentinel"), heard.set()))
    appeared = Path(f"/dev/shm/penstock-test-{os.getpid()}-reentry")
    appeared.touch()
    assert heard.wait(60)
    sentinel.close()
    appeared.unlink()
    assert told == {"governor": False, "helper": False, "sentinel": False}
    assert may_wait()


def test_a_finalizer_on_such_a_thread_does_not_wait(tmp_path):
    release = tmp_path / "release"
    pool = penstock.Executor(1)
    future = pool.submit(wait_for, str(release))
    told = []

    class Finalizes(Unwaiting):
        def run(self):
            try:
                future.result()
            except RuntimeError as error:
                told.append(str(error))
            pool.shutdown()
            told.append("shut down")

    thread = Finalizes("penstock-governor")
    thread.start()
    thread.join(60)
    release.touch()
    assert told == ["a finalizer, run by a thread that calls wait for, cannot wait for a call", "shut down"]
    assert future.result(60) == 5, "what was submitted is done"
    pool.shutdown()


def wait_for(path):
    while not Path(path).exists():
        time.sleep(0.01)
    return 5


# --------------------------------------------------------------------------- arguments that shut down


@pytest.mark.parametrize("by_signal", [False, True], ids=["arguments", "handler"])
def test_arguments_may_ask_for_all_the_rest(by_signal):
    """As ``shutdown()`` does, in the arguments themselves or in a handler while they are read."""
    ahead = None

    def arguments():
        for number in range(8):
            if number == 4 and by_signal:
                signal.raise_signal(signal.SIGUSR2)
            elif number == 4:
                ahead.read_all()
            yield (number,)

    def consume():
        nonlocal ahead
        ahead = Ahead(lambda each: done(*each), arguments(), most=2, a_few=1)
        got = []
        while len(ahead):
            got.append(ahead.result())
        return got

    if not by_signal:
        assert soon(consume) == [*range(8)]
        return
    before = signal.signal(signal.SIGUSR2, lambda *_: ahead.read_all())
    try:
        assert consume() == [*range(8)]
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_who_is_in_the_midst_of_sending_may_send():
    """A handler that submits, or a finalizer, while the globals of the main script are numbered."""
    bindings = Bindings()

    def twice():
        with bindings._lock:
            return bindings.numbers({"name": 5})

    assert soon(twice) == {"name": 1}


def test_a_child_is_refused_before_any_lock():
    """Another thread may have held it at the fork: in the child nobody gives it back."""
    with penstock.Executor(1) as pool:
        held, over = threading.Event(), threading.Event()

        def hold():
            with pool._service._lock, pool._service.sent._lock:
                held.set()
                over.wait()

        threading.Thread(target=hold, daemon=True).start()
        held.wait()
        told, tells = os.pipe()
        child = os.fork()
        if child == 0:
            for ask in (lambda: pool.map(abs, ARRAYS), lambda: pool.submit(abs, *ARRAYS), lambda: pool.idle):
                try:
                    os.write(tells, str(ask())[:20].encode() + b"\n")
                except RuntimeError as error:
                    os.write(tells, str(error)[:20].encode() + b"\n")
            pool.shutdown()
            os._exit(0)
        try:
            soon(lambda: os.waitpid(child, 0))
        finally:
            over.set()
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        os.close(tells)
        with open(told) as file:
            assert file.read().splitlines() == ["the executor belongs"] * 2 + ["False"]


ARRAYS = [numpy.zeros(1 << 18)]
"""So large that it is sent once for all, under a lock."""


def test_a_helper_begins_when_it_can(monkeypatch):
    """A function may have all threads that there may be: that is no end of the governor."""

    def refuse(self):
        raise RuntimeError("can't start new thread")

    helper, told = Helper(), threading.Event()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        helper.ask(told.set)
    assert not told.is_set()
    helper.begin()
    assert told.wait(60)
    helper.stop()


def test_a_script_is_parsed_though_others_parse(monkeypatch):
    parse, failures = ast.parse, [SystemError("AST constructor recursion depth mismatch")] * 3

    def fails_first(source):
        if failures:
            raise failures.pop()
        return parse(source)

    monkeypatch.setattr(ast, "parse", fails_first)
    assert script.has_guard('if __name__ == "__main__":\n    pass\n')
    assert not failures


# --------------------------------------------------------------------------- callbacks, and the end


@pytest.mark.parametrize("kind", [asyncio.CancelledError, SystemExit, type("Own", (BaseException,), {})])
def test_nothing_that_a_callback_raises_ends_the_engine(kind, tmp_path):
    def fails(_):
        raise kind

    future = CallFuture(None, forks.Here())
    future.add_done_callback(fails)
    with pytest.warns(RuntimeWarning, match="a callback of a call raised"):
        fulfil(future, pack((True, 5), tmp_path), None)
    assert future.result(0) == 5


class _Unclosable(Local):
    def close(self):
        super().close()
        raise OSError(5, "no end of it")


def test_a_backend_that_cannot_be_closed_keeps_nobody_waiting(monkeypatch, tmp_path):
    monkeypatch.setattr(executor, "new_backend", lambda _: _Unclosable())
    pool = penstock.Executor(1)
    future = pool.submit(wait_for, str(tmp_path / "never"))
    with pytest.warns(RuntimeWarning, match="the executor's backend could not be closed: OSError"):
        pool.abandon()
    with pytest.raises(BaseException, match=r"told to end at once|^$"):
        future.result(60)
    assert future.done()
