"""Which signals are taken as wishes, and what they are afterwards."""

import os
import signal
import threading

import pytest

from penstock.engine.parent.interrupts import Interrupt, Interrupts


@pytest.fixture
def ctrl_c():
    """Gives a way to say what Ctrl-C does; it does what it did again afterwards."""
    before = signal.getsignal(signal.SIGINT)
    yield lambda handler: signal.signal(signal.SIGINT, handler)
    signal.signal(signal.SIGINT, before)


def test_the_first_is_a_wish_and_the_second_ends_it_now(ctrl_c):
    ctrl_c(signal.default_int_handler)
    interrupts = Interrupts()
    interrupts.install()
    os.kill(os.getpid(), signal.SIGTERM)
    assert interrupts.number == signal.SIGTERM
    with pytest.raises(Interrupt) as caught:
        os.kill(os.getpid(), signal.SIGINT)
    assert caught.value.number == signal.SIGTERM, "the first says how it ends"
    interrupts.restore()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_job_in_the_background_of_a_script_ignores_ctrl_c_and_heeds_sigterm(ctrl_c):
    ctrl_c(signal.SIG_IGN)
    interrupts = Interrupts()
    interrupts.install()
    os.kill(os.getpid(), signal.SIGINT)
    assert interrupts.number == 0
    os.kill(os.getpid(), signal.SIGTERM)
    assert interrupts.number == signal.SIGTERM
    interrupts.restore()
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_a_run_in_a_thread_takes_none(ctrl_c):
    ctrl_c(signal.default_int_handler)
    interrupts = Interrupts()
    thread = threading.Thread(target=interrupts.install)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
