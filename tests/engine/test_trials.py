"""A plan from trials that run out of memory: it says what does not fit, and none that fits is made up."""

import pytest

from penstock import discover
from penstock.budget import MiB
from penstock.engine.parent.probes import try_out
from penstock.errors import ItemTooLarge
from penstock.testing import Deed, FakeBackend, simulation


@pytest.fixture(autouse=True)
def quiet_machine(monkeypatch):
    """What others keep in the shared memory of this machine is no part of a script."""
    monkeypatch.setattr(discover, "shared_files", lambda: 0, raising=False)


def tried(memory, items=12):
    done = simulation(FakeBackend(lambda item, tries: Deed(1.0, memory(item) * MiB)), items, 400 * MiB)
    return try_out(done.loop, done.loop.stage.setup, threads=1)


def test_where_nothing_that_was_tried_fits_there_is_no_plan():
    with pytest.raises(ItemTooLarge, match=r"every call that was tried ran out of memory") as told:
        tried(lambda item: 600)
    assert told.value.exit_code == 3
    assert told.value.needed > 400 * MiB


def test_where_some_fit_the_others_are_told_of():
    plan = tried(lambda item: 600 if item % 2 else 20)
    assert plan.tried > 0
    assert plan.died > 0
    assert "ran out of memory: such items need more than is known" in str(plan)
    assert "ran out of memory" not in str(tried(lambda item: 20))
