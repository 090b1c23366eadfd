"""The built-in backends keep every promise of the seam."""

import select

import pytest
from waiting import until

from penstock import registry
from penstock.backends.inline import Inline
from penstock.backends.local import Local
from penstock.testing import BackendSuite


def readable(connection):
    return select.select([connection], [], [], 0.05)[0]


class TestLocal(BackendSuite):
    def make(self):
        return Local()

    def server(self, backend):
        return backend._server.pid

    def test_who_has_spoken_can_be_read(self, backend, monkeypatch):
        """Its work would begin unread, and could not be killed, where the server is slower to tell of it."""
        monkeypatch.setattr(backend, "_listen", lambda: None)
        self.open(backend)
        worker = backend.start()
        until(lambda: readable(backend._workers[worker].connection))
        assert [backend.wait(0.02) for _ in range(5)] == [[]] * 5
        monkeypatch.undo()
        self.next(backend, worker)
        assert worker in backend.read()


class TestInline(BackendSuite):
    isolates = pauses = measures = False

    def make(self):
        return Inline()


@pytest.mark.parametrize(("name", "kind"), [("local", Local), ("inline", Inline)])
def test_they_go_by_name(name, kind):
    assert registry.load("backend", name) is kind
