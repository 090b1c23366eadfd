"""A source is told once a batch what its worker will read, before it reads, and nothing else changes."""

from pathlib import Path

import pytest

import penstock
from penstock.abc import Expecting
from penstock.sources import Chain, Range


class Told:
    """Numbers; writes down what it is told and what is read, in the worker."""

    def __init__(self, count, log, *, broken=False):
        self.count, self.log, self.broken = count, str(log), broken

    def __len__(self):
        return self.count

    def _note(self, what, start, stop):
        with open(self.log, "a") as log:
            log.write(f"{what} {start} {stop}\n")

    def expect(self, start, stop):
        self._note("expect", start, stop)
        if self.broken:
            raise RuntimeError("fetching ahead is broken")

    def read(self, start, stop):
        self._note("read", start, stop)
        return range(start, stop)

    def fingerprint(self):
        return {"numbers": str(self.count)}


def square(number):
    return number * number


def batches(log):
    """(what it was told, what was read) of each batch."""
    found = []
    for line in Path(log).read_text().splitlines():
        what, start, stop = line.split()
        if what == "expect":
            found.append(((int(start), int(stop)), []))
        else:
            assert found, "something was read before the source was told of it"
            found[-1][1].append((int(start), int(stop)))
    return found


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("into", [None, "grain"])
def test_is_told_once_a_batch_before_its_first_read(tmp_path, batched, into):
    log = tmp_path / "log"
    options = {"into": penstock.sinks.Arrays(grain=5)} if into else {}
    if batched:
        options["batched"] = True

    def function(given):
        return [each * each for each in given] if batched else given * given

    report = penstock.run(function, Told(23, log), tmp_path / "run", backend="inline", call=2, **options)
    assert [int(each) for each in report.result] == [number * number for number in range(23)]
    seen = []
    for (start, stop), reads in batches(log):
        assert reads, "told, and nothing read"
        assert all(start <= low <= high <= stop for low, high in reads)
        seen += [item for low, high in reads for item in range(low, high)]
        if into:
            assert (start % 5, stop) == (0, min(start + 5, 23))
    assert set(seen) == set(range(23))


def test_what_it_raises_is_not_heard_of(tmp_path):
    report = penstock.run(square, Told(6, tmp_path / "log", broken=True), backend="inline")
    assert list(report.result) == [0, 1, 4, 9, 16, 25]
    assert batches(tmp_path / "log")


def test_the_workers_of_processes_are_told_too(tmp_path):
    report = penstock.run(square, Told(6, tmp_path / "log"), budget="1GiB", workers=1)
    assert list(report.result) == [0, 1, 4, 9, 16, 25]
    assert batches(tmp_path / "log")


def test_a_chain_tells_each_of_its_sources(tmp_path):
    logs = [tmp_path / "a", tmp_path / "b"]
    chain = Chain(Told(3, logs[0]), Range(4), Told(5, logs[1]))
    assert isinstance(chain, Expecting)
    chain.expect(1, 9)
    chain.expect(0, 3)
    assert logs[0].read_text().splitlines() == ["expect 1 3", "expect 0 3"]
    assert logs[1].read_text().splitlines() == ["expect 0 2", "expect 0 0"]
    assert not isinstance(Chain(Range(2), Range(3)), Expecting)
