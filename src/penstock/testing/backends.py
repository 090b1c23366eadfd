"""Conformance suite for a backend."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from penstock.abc import Death
from penstock.errors import PenstockError
from penstock.testing import puppet
from penstock.testing.driving import BackendDriver
from penstock.testing.puppet import Puppet


class BackendSuite(BackendDriver):
    """Subclass it, give ``make``, and say which powers the backend lacks.

    Workers are driven with a :class:`penstock.testing.puppet.Puppet` in place of a job. Powers that
    a backend lacks are class attributes set to False; their tests are skipped with a sentence.
    """

    isolates = True
    """Workers are processes of their own: they can die, be killed, and be several."""
    pauses = True
    """Workers can be stopped and go on."""
    measures = True
    """``read`` tells what workers hold."""

    # ------------------------------------------------------------------ messages

    def test_a_worker_says_that_it_is_ready(self, backend: Any) -> None:
        _, pid = self.begin(backend)
        assert (pid != os.getpid()) == self.isolates

    def test_answers_what_it_is_asked_in_order(self, backend: Any) -> None:
        worker, _ = self.begin(backend)
        for number in range(50):
            backend.send(worker, puppet.Echo(number))
        assert [self.next(backend, worker) for _ in range(50)] == [(number,) for number in range(50)]

    def test_messages_may_be_large_both_ways(self, backend: Any) -> None:
        worker, _ = self.begin(backend)
        data = os.urandom(3 << 20)
        assert self.ask(backend, worker, puppet.Echo(data)) == data

    def test_workers_are_told_apart(self, backend: Any) -> None:
        self.need("isolates")
        workers = [self.begin(backend)[0] for _ in range(3)]
        assert len(set(workers)) == 3
        for worker in workers:
            backend.send(worker, puppet.Echo(worker))
        assert [self.next(backend, worker) for worker in workers] == [(worker,) for worker in workers]

    def test_a_number_is_never_used_twice(self, backend: Any) -> None:
        seen = set()
        for _ in range(4):
            worker, _ = self.begin(backend)
            assert worker not in seen
            seen.add(worker)
            backend.send(worker, None)
            assert isinstance(self.next(backend, worker), Death)

    def test_who_is_told_to_leave_leaves(self, backend: Any) -> None:
        worker, _ = self.begin(backend)
        backend.send(worker, None)
        death = self.next(backend, worker)
        assert (death.signal, death.code) == (None, 0)
        self.no_matter(backend, worker)

    def no_matter(self, backend: Any, worker: int) -> None:
        """Check that calls about a dead worker do nothing."""
        backend.send(worker, puppet.Echo(1))
        for what in (backend.cut, backend.pause, backend.resume, backend.kill, backend.noted, backend.io):
            what(worker)
        assert worker not in backend.read()
        assert [each for each in backend.wait(0.05) if each.worker == worker] == []

    def test_another_job_may_be_opened(self, backend: Any) -> None:
        worker, _ = self.begin(backend)
        backend.send(worker, None)
        self.next(backend, worker)
        self.open(backend, Puppet("second"))
        worker = backend.start()
        assert self.next(backend, worker)[1] == "second"

    def test_a_job_that_cannot_be_loaded_is_told(self, backend: Any) -> None:
        self.need("isolates")
        with pytest.raises(PenstockError, match="this puppet is broken"):
            self.open(backend, Puppet(broken=True))
        self.open(backend)
        self.begin(backend)

    # ------------------------------------------------------------------ waiting

    def test_wait_ends_in_time(self, backend: Any) -> None:
        backend.wait(0)
        began = time.monotonic()
        assert backend.wait(0.1) == []
        assert time.monotonic() - began < 2.0

    def test_wait_is_woken_from_another_thread(self, backend: Any) -> None:
        backend.wait(0)
        timer = threading.Timer(0.1, backend.wake)
        timer.start()
        began = time.monotonic()
        backend.wait(10.0)
        assert time.monotonic() - began < 5.0
        timer.join()

    # ------------------------------------------------------------------ notes

    def test_a_note_is_read_while_it_works(self, backend: Any) -> None:
        worker, _ = self.begin(backend)
        assert self.ask(backend, worker, puppet.NoteItem(7, 4, 9)) is None
        assert backend.noted(worker) == (7, 4, 9)

    def test_a_new_worker_has_noted_nothing(self, backend: Any) -> None:
        self.need("isolates")
        worker, _ = self.begin(backend)
        backend.send(worker, puppet.Die(code=1, noted=(7, 4, 9)))
        assert self.next(backend, worker).noted == (7, 4, 9)
        assert backend.noted(self.begin(backend)[0]) == (-1, -1, -1)

    def test_a_cut_reaches_a_worker_that_is_busy(self, backend: Any) -> None:
        self.need("isolates")
        worker, _ = self.begin(backend)
        backend.send(worker, puppet.Burn(60))
        backend.cut(worker)
        assert self.next(backend, worker) == (True,)

    # ------------------------------------------------------------------ deaths

    @pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL, signal.SIGTERM])
    def test_a_signal_is_told_with_the_note(self, backend: Any, number: int) -> None:
        self.need("isolates")
        worker, pid = self.begin(backend)
        backend.send(worker, puppet.Die(signal=number, noted=(5, 4, 6)))
        assert self.next(backend, worker) == Death(worker, number, None, (5, 4, 6))
        self.gone(pid)
        self.no_matter(backend, worker)

    @pytest.mark.parametrize("code", [0, 1, 3, 255])
    def test_an_exit_code_is_told_with_the_note(self, backend: Any, code: int) -> None:
        self.need("isolates")
        worker, _ = self.begin(backend)
        backend.send(worker, puppet.Die(code=code, noted=(5, 4, 6)))
        assert self.next(backend, worker) == Death(worker, None, code, (5, 4, 6))

    def test_what_was_said_before_a_death_comes_before_it(self, backend: Any) -> None:
        self.need("isolates")
        worker, _ = self.begin(backend)
        for order in (puppet.Echo("last"), puppet.Large(300_000), puppet.Die(code=1)):
            backend.send(worker, order)
        assert self.next(backend, worker) == ("last",)
        assert len(self.next(backend, worker)[0]) == 300_000
        assert isinstance(self.next(backend, worker), Death)

    def test_a_message_torn_by_death_is_dropped(self, backend: Any) -> None:
        self.need("isolates")
        worker, _ = self.begin(backend)
        backend.send(worker, puppet.Large(64 << 20))
        time.sleep(0.3)  # it has begun to send, and nobody takes it
        backend.kill(worker)
        assert isinstance(self.next(backend, worker), Death)
        other, _ = self.begin(backend)
        assert self.ask(backend, other, puppet.Echo(1)) == 1

    def test_a_worker_may_be_killed_before_it_is_born(self, backend: Any) -> None:
        self.need("isolates")
        worker = backend.start()
        backend.kill(worker)
        while not isinstance(said := self.next(backend, worker), Death):
            assert said[0] == puppet.READY
            self.gone(said[2])
        assert said.signal == signal.SIGKILL

    def test_kill_ends_the_whole_tree(self, backend: Any) -> None:
        self.need("isolates")
        worker, pid = self.begin(backend)
        children = self.ask(backend, worker, puppet.Spawn(2)) + self.ask(
            backend, worker, puppet.Spawn(detached=True)
        )
        backend.kill(worker)
        assert self.next(backend, worker).signal == signal.SIGKILL
        self.gone(pid, *children)

    def test_children_do_not_outlive_their_worker(self, backend: Any) -> None:
        self.need("isolates")
        worker, _ = self.begin(backend)
        children = self.ask(backend, worker, puppet.Spawn(2)) + self.ask(
            backend, worker, puppet.Spawn(detached=True)
        )
        backend.send(worker, puppet.Die(signal=signal.SIGKILL))
        self.next(backend, worker)
        self.gone(*children)

    def test_the_others_live_on(self, backend: Any) -> None:
        self.need("isolates")
        worker, _ = self.begin(backend)
        other, _ = self.begin(backend)
        backend.kill(worker)
        self.next(backend, worker)
        assert self.ask(backend, other, puppet.Echo(1)) == 1

    # ------------------------------------------------------------------ watching

    def test_tells_what_a_worker_and_its_children_hold(self, backend: Any) -> None:
        self.need("measures")
        worker, _ = self.begin(backend)
        before = backend.read()[worker]
        self.ask(backend, worker, puppet.Hold(40 << 20))
        after = backend.read()[worker]
        assert 38 << 20 <= after.memory - before.memory <= 50 << 20
        self.ask(backend, worker, puppet.Spawn(1))
        self.until(lambda: backend.read()[worker].memory > after.memory + (2 << 20), "a child is not counted")
        assert backend.overhead() >= 0
        assert backend.io(worker) >= 0

    def test_tells_the_cpu_of_a_worker_and_of_those_that_ended(self, backend: Any) -> None:
        self.need("measures")
        worker, _ = self.begin(backend)
        before = backend.cpu
        self.ask(backend, worker, puppet.Burn(0.3))
        assert backend.read()[worker].cpu >= 0.1
        backend.send(worker, None)
        self.next(backend, worker)
        assert backend.cpu - before >= 0.1

    def test_a_paused_tree_uses_no_cpu_until_it_goes_on(self, backend: Any) -> None:
        self.need("pauses")
        worker, _ = self.begin(backend)
        self.ask(backend, worker, puppet.Spawn(1))
        backend.send(worker, puppet.Burn(600))
        self.busy(backend, worker)
        backend.pause(worker)
        time.sleep(0.1)
        stopped = backend.read()[worker].cpu
        time.sleep(0.4)
        assert backend.read()[worker].cpu - stopped <= 0.02
        backend.resume(worker)
        self.busy(backend, worker)
        backend.cut(worker)
        assert self.next(backend, worker) == (True,)

    def busy(self, backend: Any, worker: int) -> None:
        """Wait until a worker uses CPU."""
        at = backend.read()[worker].cpu
        self.until(lambda: backend.read()[worker].cpu > at + 0.05, "it uses no CPU")

    def test_a_paused_worker_can_be_killed(self, backend: Any) -> None:
        self.need("pauses")
        worker, pid = self.begin(backend)
        children = self.ask(backend, worker, puppet.Spawn(1))
        backend.pause(worker)
        backend.kill(worker)
        assert self.next(backend, worker).signal == signal.SIGKILL
        self.gone(pid, *children)

    # ------------------------------------------------------------------ surroundings

    def test_sets_the_environment_and_writes_the_log(self, tmp_path: Path) -> None:
        self.need("isolates")
        backend, self.inbox = self.make(), []
        try:
            self.open(backend, log=tmp_path / "log", PENSTOCK_TEST_WORD="set")
            worker, _ = self.begin(backend)
            assert self.ask(backend, worker, puppet.Environment("PENSTOCK_TEST_WORD")) == "set"
            self.ask(backend, worker, puppet.Say("hello"))
        finally:
            backend.close()
        assert (tmp_path / "log").read_text().splitlines().count("hello") == 2

    def test_leaves_nothing_behind(self) -> None:
        self.need("isolates")
        backend, self.inbox = self.make(), []
        descriptors = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0
        backend.close()
        backend = self.make()
        self.open(backend)
        pids = []
        for _ in range(3):
            worker, pid = self.begin(backend)
            pids += [pid, *self.ask(backend, worker, puppet.Spawn(1))]
        backend.pause(worker)
        pids += self.ask_detached(backend)
        if (server := self.server(backend)) is not None:
            pids.append(server)
        backend.start()  # one that is not born yet
        backend.close()
        self.gone(*pids)
        if descriptors:
            assert len(list(Path("/proc/self/fd").iterdir())) <= descriptors

    def ask_detached(self, backend: Any) -> list[int]:
        """Children of a busy worker, in sessions of their own."""
        worker, _ = self.begin(backend)
        children: list[int] = self.ask(backend, worker, puppet.Spawn(detached=True))
        backend.send(worker, puppet.Burn(600))
        return children

    # ------------------------------------------------------------------ the server

    @pytest.mark.parametrize("owes", ["a birth", "a death", "a job"])
    def test_a_server_that_does_not_answer_is_replaced(self, backend: Any, owes: str) -> None:
        server = self.server(backend)
        if server is None:
            pytest.skip("this backend has no server")
        worker, _ = self.begin(backend)
        os.kill(server, signal.SIGSTOP)
        if owes == "a birth":
            backend.start()
        elif owes == "a death":
            backend.kill(worker)
        else:
            self.open(backend, Puppet("another"))
        assert self.next(backend, worker, patience=90.0).signal == signal.SIGKILL
        self.gone(server)
        worker, _ = self.begin(backend)
        assert self.ask(backend, worker, puppet.Echo(1)) == 1

    @pytest.mark.parametrize("noticed", [True, False])
    def test_a_server_that_is_killed_is_replaced(self, backend: Any, noticed: bool) -> None:
        server = self.server(backend)
        if server is None:
            pytest.skip("this backend has no server")
        workers = [self.begin(backend) for _ in range(2)]
        children = self.ask(backend, workers[0][0], puppet.Spawn(1))
        os.kill(server, signal.SIGKILL)
        if not noticed:
            self.gone(server)
            fresh, _ = self.begin(backend)
        deaths = [self.next(backend, worker) for worker, _ in workers]
        assert [type(death) for death in deaths] == [Death, Death]
        self.gone(*(pid for _, pid in workers), *children)
        if noticed:
            fresh, _ = self.begin(backend)
        assert self.ask(backend, fresh, puppet.Echo(1)) == 1
