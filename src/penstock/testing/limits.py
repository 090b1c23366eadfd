"""Conformance suite for a limit: subclass :class:`LimitSuite` and say how to make yours.

::

    class TestMine(LimitSuite):
        limit_class = MyLimit

        def set(self, machine):             # put a ceiling there ...
            machine.group("/", limit=1 << 30)
            return 1 << 30                  # ... and say how many bytes it is

Needs pytest to run it, but does not import it.
"""

from __future__ import annotations

import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from penstock.abc import Limit
from penstock.budget import Ceiling
from penstock.testing.machine import FakeMachine


class LimitSuite(ABC):
    """Conformance suite for a limit."""

    limit_class: Callable[[Path, Mapping[str, str]], Limit]
    """Called with ``(root, environ)``."""
    machine_options: Mapping[str, Any] = {}
    """Given to :class:`FakeMachine`."""

    @abstractmethod
    def set(self, machine: FakeMachine) -> int:
        """Set one ceiling of this kind on the machine; returns its bytes."""

    def make(self, folder: Path) -> tuple[FakeMachine, Limit]:
        """A machine, and a limit that reads it."""
        machine = FakeMachine(folder, **self.machine_options)
        return machine, type(self).limit_class(machine.root, machine.environ)

    def test_finds_the_ceiling(self, tmp_path: Path) -> None:
        """The bytes that were set are among those read."""
        machine, _ = self.make(tmp_path)
        expected = self.set(machine)
        limit = type(self).limit_class(machine.root, machine.environ)
        assert expected in [ceiling.bytes for ceiling in limit.read()]

    def test_sees_a_ceiling_that_is_set_during_a_run(self, tmp_path: Path) -> None:
        """An earlier reading is not cached."""
        machine, limit = self.make(tmp_path)
        limit.read()
        expected = self.set(machine)
        assert expected in [ceiling.bytes for ceiling in limit.read()]

    def test_reads_the_same_twice(self, tmp_path: Path) -> None:
        """Reading changes nothing."""
        machine, limit = self.make(tmp_path)
        self.set(machine)
        assert list(limit.read()) == list(limit.read())

    def test_ceilings_are_well_formed(self, tmp_path: Path) -> None:
        """Bytes are positive, counts are not negative, and the origin says something."""
        machine, limit = self.make(tmp_path)
        self.set(machine)
        for ceiling in limit.read():
            assert isinstance(ceiling, Ceiling)
            assert type(ceiling.bytes) is int
            assert ceiling.bytes > 0
            assert ceiling.scope in ("tree", "process")
            assert ceiling.used >= 0
            assert len(ceiling.origin) > 3
            assert "\n" not in ceiling.origin
            assert ceiling.kernel_kills is None or ceiling.kernel_kills >= 0

    def test_finds_nothing_on_a_machine_without_files(self, tmp_path: Path) -> None:
        """No ``/proc``, no variables: no ceiling, and no error."""
        assert list(type(self).limit_class(tmp_path / "nothing", {}).read()) == []

    def test_survives_files_that_vanish(self, tmp_path: Path) -> None:
        """A group may be removed while we look at it."""
        machine, limit = self.make(tmp_path)
        self.set(machine)
        limit.read()
        shutil.rmtree(machine.root)
        limit.read()

    def test_survives_garbage(self, tmp_path: Path) -> None:
        """Files and variables that hold something else are no ceiling, and no error."""
        machine, _ = self.make(tmp_path)
        self.set(machine)
        for garbage in (b"", b"\xff\xfe\x00", b"nonsense\n", b"-1\n", b"9" * 400 + b"\n"):
            for file in sorted(machine.root.rglob("*")):
                if file.is_file():
                    file.write_bytes(garbage)
            environ = dict.fromkeys(machine.environ, garbage.decode("latin1").replace("\0", ""))
            for ceiling in type(self).limit_class(machine.root, environ).read():
                assert ceiling.bytes > 0

    def test_is_quick(self, tmp_path: Path) -> None:
        """The governor reads every few milliseconds: a read takes less than 2 ms."""
        machine, limit = self.make(tmp_path)
        self.set(machine)
        limit.read()
        best = 1.0
        for _ in range(20):
            begin = time.perf_counter()
            limit.read()
            best = min(best, time.perf_counter() - begin)
        assert best < 2e-3
