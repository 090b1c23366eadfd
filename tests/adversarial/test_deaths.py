"""Workers that die, hang or will not leave; each way ends in a name, and the others are done."""

import itertools
import os
import random
import signal
import sys
import threading
from contextlib import suppress

import pytest
from functions import Tell
from programs import Told, answers, beside, run, server_of, workers_of
from waiting import LIMIT, read_bytes

import penstock
from penstock.budget import MiB
from penstock.sources import Range
from penstock.testing import misfortune as mf
from penstock.testing.misfortune import answer


def exit_politely(item):
    if item == 6:
        sys.exit(3)
    return answer(item)


def raise_keyboard_interrupt(item):
    if item == 6:
        raise KeyboardInterrupt
    return answer(item)


@pytest.mark.parametrize(
    ("function", "reason", "says"),
    [
        (mf.Crash(signal.SIGSEGV, (6,)), "died", "signal 11 (SIGSEGV)"),
        (mf.Crash(signal.SIGABRT, (6,)), "died", "signal 6 (SIGABRT)"),
        (mf.Crash(signal.SIGBUS, (6,)), "died", "signal 7 (SIGBUS)"),
        (mf.Exit(3, (6,)), "died", "exit code 3"),
        (mf.Exit(0, (6,)), "died", "exit code 0"),
        (exit_politely, "raised", "SystemExit: 3"),
        (raise_keyboard_interrupt, "raised", "KeyboardInterrupt"),
        (mf.Raise((6,), error=LookupError), "raised", "LookupError: 'item 6 was asked to fail'"),
        (mf.Raise((6,), error=StopIteration), "raised", "StopIteration"),
        (mf.Raise((6,), error=GeneratorExit), "raised", "GeneratorExit"),
    ],
    ids=str,
)
def test_a_function_that_ends_its_process_or_raises(function, reason, says):
    report = run(function, 40, set_aside=True)
    ((each),) = report.set_aside
    assert (each.item, each.reason) == (6, reason)
    assert says.replace("'", "") in each.message.replace("'", "")


def test_every_way_to_die_fails_the_run_with_its_own_error():
    for function, error in (
        (mf.Crash(signal.SIGSEGV, (6,)), penstock.errors.WorkerDied),
        (mf.Raise((6,)), penstock.errors.FunctionRaised),
        (mf.Spike(400 * MiB, (6,), LIMIT), penstock.errors.ItemTooLarge),
        (mf.BusyLoop((6,)), penstock.errors.Stalled),
        (mf.Unkeepable((6,)), penstock.errors.CannotKeep),
    ):
        timeout = 1.0 if isinstance(function, mf.BusyLoop) else None
        with pytest.raises(error, match=r"item '?6'?") as caught:
            penstock.run(function, 20, budget=beside(150), timeout=timeout)
        if error is penstock.errors.CannotKeep:
            assert caught.value.report.done < 19  # a mistake of the program, not of an item: at once
        elif error is not penstock.errors.ItemTooLarge:
            assert caught.value.report.done == 19  # the others were finished first


def test_all_items_failing_stops_after_a_sample_and_says_so():
    with pytest.raises(
        penstock.errors.FunctionRaised, match="All of a sample of items spread over the input failed"
    ) as caught:
        penstock.run(mf.Raise(range(100_000)), 100_000, budget=beside(150))
    assert isinstance(caught.value.__cause__, ValueError)
    assert "was asked to fail" in str(caught.value)
    with pytest.raises(penstock.errors.WorkerDied, match="failed, so the run stopped before"):
        penstock.run(mf.Exit(1, range(1000)), 1000, budget=beside(150))


@pytest.mark.parametrize(
    "how", [mf.Raise, lambda items: mf.Exit(1, items), lambda items: mf.Spike(400 * MiB, items, LIMIT)]
)
def test_the_first_of_the_items_fail_and_all_others_are_done(how):
    first = range(20) if how is mf.Raise else range(6)
    report = run(how(first), 60, set_aside=True)
    assert [each.item for each in report.set_aside] == list(first)
    assert report.done == 60 - len(first)


def test_killed_at_the_first_try_is_no_fault_of_the_item(tmp_path):
    report = run(mf.DieOnce(tmp_path, frozenset(range(0, 40, 5))), 40)
    assert report.set_aside == ()
    assert report.failures["killed"] == 8


def test_killed_every_time_ends_too():
    report = run(mf.Crash(signal.SIGKILL, (6,)), 20, set_aside=True)
    assert [(each.item, each.reason) for each in report.set_aside] == [(6, "died")]
    assert "11 times" in report.set_aside[0].message


class After(Told):
    """An observer that does something once, when so many batches are done."""

    def __init__(self, batches, action):
        self.batches, self.action, self.acted = batches, action, False

    def __call__(self, event):
        super().__call__(event)
        if not self.acted and len(self.of("batch_done")) == self.batches:
            self.action()
            self.acted = True


# ------------------------------------------------------------------ hanging


def test_no_cpu_and_no_io_is_a_crash():
    report = run(mf.Hang((6,)), 20, stall="1s", set_aside=True)
    assert [(each.item, each.reason) for each in report.set_aside] == [(6, "stalled")]
    assert "used no CPU and did no I/O for 1 s, 3 times" in report.set_aside[0].message


def test_a_timeout_bounds_a_busy_loop_and_nothing_else():
    report = run(mf.BusyLoop((6,)), 20, timeout=1.0, set_aside=True)
    assert [(each.item, each.reason) for each in report.set_aside] == [(6, "stalled")]
    assert "took longer than the timeout of 1 s, 2 times" in report.set_aside[0].message
    # A batch may take longer than the timeout of an item.
    report = run(mf.Allocate(1000, 0.1), 40, timeout=1.0, workers=1)
    assert report.set_aside == ()


def test_a_worker_that_will_not_be_told_to_end_is_ended():
    report = run(mf.IgnoreTerm(0.05), 10)
    assert report.set_aside == ()


def test_a_worker_stopped_from_outside_is_replaced():
    stop = After(1, lambda: os.kill(workers_of()[0], signal.SIGSTOP))
    report = run(mf.Allocate(1 * MiB, 0.05), 60, stall="1s", told=stop)
    assert stop.acted
    assert report.set_aside == ()
    assert report.failures == {"stalled": 1}


# ------------------------------------------------------------------ killed from outside


def test_random_workers_killed_again_and_again(tmp_path):
    """Again after every few items; a batch that survives is kept once, and nobody is set aside."""
    told, dead = Told(), []
    chance = random.Random(4)
    over = threading.Event()
    worked = tmp_path / "worked"

    def kill():
        enough = 8
        while not over.wait(0.01):
            begun = read_bytes(worked).count(b"\n")
            if begun >= enough and (workers := workers_of()):
                enough = begun + chance.randrange(4, 12)
                with suppress(ProcessLookupError):
                    os.kill(chance.choice(workers), signal.SIGKILL)
                    dead.append(1)

    job = penstock.Job(source=Range(150), function=Tell(str(worked), 0.04))
    killer = threading.Thread(target=kill)
    killer.start()
    try:
        report = job.run(tmp_path / "r", budget=beside(250), workers=2, observers=[told])
    finally:
        over.set()
        killer.join()
    assert len(dead) >= 8
    assert list(report.result) == answers(150)
    assert report.set_aside == ()
    kept = sorted((event.start, event.stop) for event in told.of("batch_done"))
    assert kept[0][0] == 0
    assert all(a[1] == b[0] for a, b in itertools.pairwise(kept))  # each item was kept once


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_the_fork_server_killed_in_the_middle(number, tmp_path):
    kill = After(3, lambda: os.kill(server_of(), number))
    job = penstock.Job(source=Range(60), function=mf.Allocate(1 * MiB, 0.03))
    report = job.run(tmp_path / "r", budget=beside(200), observers=[kill])
    assert kill.acted
    assert list(report.result) == answers(60)


def test_the_fork_server_killed_with_every_worker_stopped(tmp_path):
    """A stopped fork server answers nobody; a killed one is replaced."""

    def stop_and_kill():
        server = server_of()
        os.kill(server, signal.SIGSTOP)
        threading.Timer(0.3, go_on, [server]).start()  # meanwhile nobody is answered

    def go_on(server):
        os.kill(server, signal.SIGCONT)
        for worker in workers_of():
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
        gone_on.set()

    gone_on = threading.Event()
    report = run(mf.Allocate(1 * MiB, 0.1), 60, told=After(3, stop_and_kill))
    assert gone_on.is_set()
    assert report.set_aside == ()
