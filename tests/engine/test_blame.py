"""Only the item that was being read or worked is blamed, through a whole run."""

import os
import signal
from dataclasses import dataclass

import pytest

import penstock
from penstock.abc import Receipt
from penstock.errors import SetAside


@dataclass(frozen=True)
class Deadly:
    """A source that kills its reader at one item."""

    item: int
    count: int = 16

    def __len__(self):
        return self.count

    def read(self, start, stop):
        for item in range(start, stop):
            if item == self.item:
                os.kill(os.getpid(), signal.SIGKILL if self.item % 2 else signal.SIGSEGV)
            yield item

    def fingerprint(self):
        return {}


@dataclass(frozen=True)
class Grains:
    """Keeps eight items a part, in the receipt; ``crash`` kills the worker that writes."""

    crash: bool = False
    grain: int = 8

    def open(self, folder, items):
        pass

    def write(self, batch, results, folder):
        kept = [None if isinstance(each, SetAside) else each for each in results]
        if self.crash and batch.start:
            os._exit(9)
        return Receipt(value=kept)

    def close(self, receipts, folder):
        kept = [value for _, receipt in receipts for value in receipt.value]
        (folder / "kept").write_text(repr(kept))

    def result(self, folder):
        return (folder / "kept").read_text()


def same(item):
    return item


@pytest.mark.parametrize("bad", [6, 8, 15])
def test_a_reader_that_dies_within_a_grain_costs_one_item(tmp_path, bad):
    job = penstock.Job(source=Deadly(bad), function=same, into=Grains())
    report = job.run(tmp_path / "run", budget="300MiB", workers=1, set_aside=True, call=8)
    assert [each.item for each in report.set_aside] == [bad]
    assert report.result == repr([None if item == bad else item for item in range(16)])


def test_a_sink_that_always_dies_ends_the_run(tmp_path):
    job = penstock.Job(source=penstock.sources.Range(16), function=same, into=Grains(crash=True))
    with pytest.raises(penstock.WorkerDied, match="items 8 to 16 fails again and again"):
        job.run(tmp_path / "run", budget="300MiB", workers=1, set_aside=True)


def too_large_inside(item):
    """A function that runs a job of its own, one item of which does not fit."""
    if item == 1:
        raise penstock.ItemTooLarge("item '7' needs more than 3 GiB", needed=4 << 30)
    return item


@pytest.mark.parametrize("batched", [False, True])
def test_what_an_inner_run_says_is_not_taken_for_our_own_memory(batched):
    """It is a MemoryError too, and yet no reason to try the item again alone, or to fear for the worker."""
    function = (lambda items: [too_large_inside(item) for item in items]) if batched else too_large_inside
    report = penstock.run(function, 3, set_aside=True, batched=batched, backend="inline")
    (aside,) = report.set_aside
    assert (aside.item, aside.reason, aside.error) == (1, "raised", "penstock.errors.ItemTooLarge")
    assert not report.failures
    assert [each for each in report.result if isinstance(each, int)] == [0, 2]


def dies_of_five(items):
    if 5 in items:
        os.kill(os.getpid(), signal.SIGSEGV)
    return [item + len(items) / 16 for item in items]


@pytest.mark.parametrize("workers", [1, 2])
def test_of_a_fixed_call_the_items_beside_the_one_that_dies_are_done(workers, tmp_path):
    """In the calls that are left of it: what each of them saw does not depend on workers either."""
    job = penstock.Job(source=penstock.sources.Items(list(range(16))), function=dies_of_five, batched=8)
    report = job.run(tmp_path / "r", workers=workers, set_aside=True, budget="400MiB")
    (aside,) = report.set_aside
    assert (aside.item, aside.reason) == (5, "died")
    assert "batched= keeps whole" in aside.message
    kept = [each for each in report.result if not isinstance(each, SetAside)]
    assert kept == [item + (5 if item < 5 else 2 if item < 8 else 8) / 16 for item in range(16) if item != 5]


# --------------------------------------------------------------------------- items that cannot travel


@dataclass(frozen=True)
class Traveller:
    """Can be pickled; not every one can be unpickled."""

    number: int
    bad: tuple[int, ...]

    def __reduce__(self):
        return arrive, (self.number, self.bad)


def arrive(number, bad):
    if number in bad:
        raise ValueError(f"{number} is no good")
    return Traveller(number, bad)


def number_of(item):
    return item.number


def numbers_of(items):
    return [item.number for item in items]


def travellers(*bad):
    return [Traveller(number, bad) for number in range(21)]


@pytest.mark.parametrize("bad", [(5,), (0, 20), (3, 4, 5)])
def test_an_item_that_cannot_be_unpickled_in_a_worker_is_set_aside_alone(bad):
    run = penstock.run(number_of, travellers(*bad), budget="300MiB", workers=2, set_aside=True)
    assert [each.item for each in run.set_aside] == list(bad)
    assert {each.reason for each in run.set_aside} == {"raised"}
    assert f"item {bad[0]} cannot be unpickled in a worker: ValueError: {bad[0]}" in run.set_aside[0].message
    assert [each for each in run.result if isinstance(each, int)] == [n for n in range(21) if n not in bad]


def test_an_item_that_cannot_be_unpickled_fails_the_run_by_its_name():
    with pytest.raises(penstock.BadInput, match=r"^item 5 cannot be unpickled in a worker: Val"):
        penstock.run(number_of, travellers(5), budget="300MiB", workers=1)


def test_of_items_that_belong_together_none_is_done_without_the_others():
    with pytest.raises(penstock.BadInput, match=r"^items 4 to 7, which are worked together, can"):
        penstock.run(numbers_of, travellers(5), batched=4, budget="300MiB", workers=1, set_aside=True)
