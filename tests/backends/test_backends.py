"""The built-in backends keep every promise of the seam."""

import pytest

from penstock import registry
from penstock.backends.inline import Inline
from penstock.backends.local import Local
from penstock.testing import BackendSuite


class TestLocal(BackendSuite):
    def make(self):
        return Local()

    def server(self, backend):
        return backend._server.pid


class TestInline(BackendSuite):
    isolates = pauses = measures = False

    def make(self):
        return Inline()


@pytest.mark.parametrize(("name", "kind"), [("local", Local), ("inline", Inline)])
def test_they_go_by_name(name, kind):
    assert registry.load("backend", name) is kind
