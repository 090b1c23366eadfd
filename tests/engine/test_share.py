"""What a call is told that it may use is what it was admitted with."""

import pytest

import penstock
from penstock.budget import GiB, MiB
from penstock.errors import ItemTooLarge
from penstock.testing import Deed, FakeBackend, simulate


@pytest.mark.parametrize("workers", [1, 3])
def test_what_was_stated_is_told(workers):
    backend = FakeBackend(lambda item, tries: Deed(0.5, 20 * MiB))
    simulate(backend, 40, GiB, workers=workers, memory=100 * MiB)
    assert {work.granted for work in backend.given} == {100 * MiB}


def test_before_anything_is_known_a_lone_call_may_use_all():
    backend = FakeBackend(lambda item, tries: Deed(0.5, 20 * MiB))
    run = simulate(backend, 1, GiB)
    (work,) = backend.given
    assert work.granted == pytest.approx(run.loop.stage.admission.spare(), rel=0.01)


def test_what_is_predicted_is_told_and_all_together_fit():
    backend = FakeBackend(lambda item, tries: Deed(0.5, 100 * MiB))
    simulate(backend, 60, GiB, workers=4)
    later = [work.granted for work in backend.given[-20:]]
    assert all(100 * MiB <= granted < 130 * MiB for granted in later)


def test_an_item_that_is_tried_alone_is_told_that_it_may_use_all():
    refused = Deed(0.5, 20 * MiB, end="memory error")
    backend = FakeBackend(lambda item, tries: refused if item == 33 and not tries else Deed(0.5, 20 * MiB))
    run = simulate(backend, 60, GiB, workers=4)
    assert run.aside == {}
    (again,) = [work for work in backend.given if work.attempt]
    assert (again.start, again.stop) == (33, 34)
    assert again.granted == pytest.approx(run.loop.stage.admission.spare(), rel=0.01)


@pytest.mark.parametrize("items", [1, 20])
@pytest.mark.parametrize("set_aside", [True, False])
def test_more_than_one_worker_may_use_is_refused_before_any_call(items, set_aside):
    backend = FakeBackend()
    with pytest.raises(MemoryError, match=r"2.0 GiB by memory=, and one worker alone may use 9") as caught:
        simulate(backend, items, GiB, memory=2 * GiB, set_aside=set_aside)
    assert isinstance(caught.value, ItemTooLarge)
    assert backend.given == []
    simulate(FakeBackend(), items, caught.value.needed, memory=2 * GiB)  # the budget that it names does
    with pytest.raises(ItemTooLarge):
        simulate(FakeBackend(), items, caught.value.needed - 4 * MiB, memory=2 * GiB)


def told(item):
    return penstock.share().memory


def told_step(folder):
    (folder / "told").write_text(str(penstock.share().memory))


def test_in_real_workers(tmp_path):
    assert penstock.run(told, 3, memory="40MiB", budget="1GiB").result == [40 * MiB] * 3
    with penstock.Run(tmp_path / "r", budget="1GiB") as run:
        made = run.step("one", told_step, memory="400MiB")
    assert (made.folder / "told").read_text() == str(400 * MiB)
    with pytest.raises(ItemTooLarge, match="by memory="):
        penstock.run(told, 3, memory="3GiB", budget="1GiB")
    with pytest.raises(ItemTooLarge, match="by memory="), penstock.Executor(budget="1GiB", memory="3GiB"):
        pass
    with pytest.raises(ItemTooLarge, match="by memory="):
        penstock.Job(source=penstock.sources.Range(3), function=told, memory="3GiB").plan(budget="1GiB")
