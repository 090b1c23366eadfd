"""Conformance suite for a sink."""

from __future__ import annotations

import pickle
import random
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from penstock import drafts, values
from penstock.abc import Batch, Closed, Receipt, SetAside, Sink
from penstock.errors import RunTakenOver
from penstock.files import digest, proof
from penstock.testing.comparing import comparable


class SinkSuite:
    """Subclass it, give ``make``, ``result_of`` and ``opened``.

    ``make()`` returns a sink, ``result_of(item)`` what the function would return for an item,
    ``opened(result)`` turns what ``sink.result()`` gives into a list with one entry for each item (or
    each row), and ``expected(results)`` says what that list must be; a SetAside in ``results``
    stands for an item that was set aside.
    """

    count = 23
    """How many items the tests keep; no multiple of the grain."""

    def make(self) -> Any:
        """The sink under test."""
        raise NotImplementedError("a SinkSuite needs make()")

    def result_of(self, item: int) -> Any:
        """The result of an item, made afresh: a sink may consume it."""
        raise NotImplementedError("a SinkSuite needs result_of(item)")

    def opened(self, result: Any) -> list[Any]:
        """What was kept, as a list."""
        return list(result)

    def expected(self, results: list[Any]) -> list[Any]:
        """What must be kept of these results."""
        return results

    # ------------------------------------------------------------------ what the tests share

    @pytest.fixture
    def sink(self) -> Any:
        return self.make()

    def aside(self, item: int) -> SetAside:
        """An item that was set aside."""
        return SetAside(item, f"item-{item}", "memory", "needs 3 GiB of 2 GiB", "", "", 3 << 30)

    def batches(self, sink: Any, without: Iterable[int] = ()) -> list[Batch]:
        """The batches of all items: single grains, or of any length where there are none."""
        step = sink.grain or 5
        borders = [(at, min(at + step, self.count)) for at in range(0, self.count, step)]
        return [Batch(low, high, tuple(i for i in without if low <= i < high)) for low, high in borders]

    def results(self, batch: Batch) -> Iterator[Any]:
        """The results of a batch, one by one."""
        for item in range(batch.start, batch.stop):
            yield self.aside(item) if item in batch.without else self.result_of(item)

    def journaled(self, receipt: Receipt) -> Receipt:
        """A receipt after a round trip through the journal."""
        text = values.dumps(receipt.value)
        assert len(text) <= 96 << 10, "a receipt carries at most 64 KiB"
        return Receipt(receipt.parts, values.loads(text))

    def keep(self, folder: Path, batches: list[Batch] | None = None, *, order: int | None = None) -> Any:
        """Write all batches (in another order, with ``order``), close, and open the result again."""
        folder.mkdir(exist_ok=True)
        sink = self.make()
        batches = self.batches(sink) if batches is None else batches
        sink.open(folder, self.count)
        turns = batches if order is None else random.Random(order).sample(batches, len(batches))
        receipts = {}
        for batch in turns:
            worker = pickle.loads(pickle.dumps(sink))
            receipts[batch] = self.journaled(worker.write(batch, self.results(batch), folder))
        sink.close(((batch, receipts[batch]) for batch in batches), folder)
        return comparable(self.opened(self.make().result(folder)))

    def contents(self, folder: Path) -> dict[str, str]:
        """Every file in the folder and the digest of its bytes."""
        return {str(path.relative_to(folder)): digest(path) for path in folder.rglob("*") if path.is_file()}

    # ------------------------------------------------------------------ the promises

    def test_is_a_sink(self, sink: Any) -> None:
        assert isinstance(sink, Sink)
        assert sink.grain is None or 1 <= sink.grain < self.count, "the suite needs several grains"
        assert getattr(sink, "unit", "item") in ("item", "call")

    def test_gives_back_what_was_kept(self, tmp_path: Path) -> None:
        expected = self.expected([self.result_of(item) for item in range(self.count)])
        assert self.keep(tmp_path / "kept") == comparable(expected)

    def test_the_order_of_batches_leaves_no_trace(self, tmp_path: Path) -> None:
        kept = self.keep(tmp_path / "one")
        for seed in (1, 2):
            assert self.keep(tmp_path / f"other-{seed}", order=seed) == kept
            assert self.contents(tmp_path / f"other-{seed}") == self.contents(tmp_path / "one")

    def test_says_truly_what_it_wrote(self, sink: Any, tmp_path: Path) -> None:
        sink.open(tmp_path, self.count)
        for batch in self.batches(sink):
            for part in sink.write(batch, self.results(batch), tmp_path).parts:
                assert proof(tmp_path / part.name) == (part.bytes, part.digest)

    def test_says_truly_what_is_there_in_the_end(self, sink: Any, tmp_path: Path) -> None:
        sink.open(tmp_path, self.count)
        receipts = [
            (batch, self.journaled(sink.write(batch, self.results(batch), tmp_path)))
            for batch in self.batches(sink)
        ]
        answer = sink.close(iter(receipts), tmp_path)
        closed = answer if isinstance(answer, Closed) else Closed()
        parts = [part for _, receipt in receipts for part in receipt.parts]
        if closed.replaced:  # as the engine does, once that is journaled
            for part in parts:
                (tmp_path / part.name).unlink(missing_ok=True)
            parts = []
        for part in (*parts, *closed.parts):
            assert proof(tmp_path / part.name) == (part.bytes, part.digest)
        if closed.pattern:
            matching = {path.name for path in tmp_path.glob(closed.pattern)}
            assert matching <= {part.name for part in parts}, "what looks like a part is one"

    def test_the_same_batch_twice_leaves_the_same(self, sink: Any, tmp_path: Path) -> None:
        sink.open(tmp_path, self.count)
        for batch in self.batches(sink)[:2]:
            first = sink.write(batch, self.results(batch), tmp_path)
            before = self.contents(tmp_path)
            second = sink.write(batch, self.results(batch), tmp_path)
            assert comparable((first.parts, first.value)) == comparable((second.parts, second.value))
            assert self.contents(tmp_path) == before

    def test_a_failing_batch_leaves_nothing(self, sink: Any, tmp_path: Path) -> None:
        sink.open(tmp_path, self.count)
        before = self.contents(tmp_path)
        batch = self.batches(sink)[0]

        def results() -> Iterator[Any]:
            yield from list(self.results(batch))[:-1]
            raise RuntimeError("the function failed")

        with pytest.raises(RuntimeError, match="the function failed"):
            sink.write(batch, results(), tmp_path)
        assert self.contents(tmp_path) == before
        expected = self.expected([self.result_of(item) for item in range(self.count)])
        assert self.keep(tmp_path) == comparable(expected)

    def test_a_stale_draft_never_shows(self, tmp_path: Path) -> None:
        folder = tmp_path / "kept"
        kept = self.keep(folder)
        for path in list(folder.iterdir()):
            (folder / f".{path.name}.999999.tmp").write_bytes(b"half a")
        assert comparable(self.opened(self.make().result(folder))) == kept

    def test_behind_a_fence_nothing_is_written_or_removed(self, tmp_path: Path) -> None:
        """A worker that slept through a takeover leaves its successor's files alone."""
        folder, sink = tmp_path / "run" / "kept", self.make()
        folder.mkdir(parents=True)
        sink.open(folder, self.count)
        batch = self.batches(sink)[0]
        sink.write(batch, self.results(batch), folder)
        before = self.contents(folder)
        place = tmp_path / "run" / ".penstock" / "drafts" / ("0" * 32)

        def fenced(results: Iterator[Any], *, fail: bool) -> Iterator[Any]:
            yield next(results)
            drafts.fence(place, place.parent)
            yield from results
            if fail:
                raise RuntimeError("a late failure")

        for without in ((), tuple(range(batch.start, batch.stop))):
            late = Batch(batch.start, batch.stop, without)
            for fail in (False, True):
                place.mkdir(parents=True)
                drafts.make_in(place)
                try:
                    with suppress(RunTakenOver, RuntimeError):
                        sink.write(late, fenced(self.results(late), fail=fail), folder)
                finally:
                    drafts.forget(place)
                assert self.contents(folder) == before

    def test_items_set_aside_have_their_place(self, tmp_path: Path) -> None:
        sink = self.make()
        without = (0, 3, 4, self.count - 1)
        results = [
            self.aside(item) if item in without else self.result_of(item) for item in range(self.count)
        ]
        kept = self.keep(tmp_path / "kept", self.batches(sink, without))
        assert kept == comparable(self.expected(results))

    def test_a_whole_batch_may_be_set_aside(self, tmp_path: Path) -> None:
        sink = self.make()
        for number in (0, -1):
            whole = self.batches(sink)[number]
            without = tuple(range(whole.start, whole.stop))
            results = [
                self.aside(item) if item in without else self.result_of(item) for item in range(self.count)
            ]
            kept = self.keep(tmp_path / f"kept{number}", self.batches(sink, without))
            assert kept == comparable(self.expected(results))

    def test_close_can_be_repeated(self, sink: Any, tmp_path: Path) -> None:
        sink.open(tmp_path, self.count)
        receipts = [
            (batch, self.journaled(sink.write(batch, self.results(batch), tmp_path)))
            for batch in self.batches(sink)
        ]
        sink.close(iter(receipts), tmp_path)
        before = self.contents(tmp_path)
        kept = comparable(self.opened(sink.result(tmp_path)))
        sink.close(iter(receipts), tmp_path)
        assert self.contents(tmp_path) == before
        assert comparable(self.opened(sink.result(tmp_path))) == kept

    def test_a_batch_may_end_early_where_there_is_no_grain(self, sink: Any, tmp_path: Path) -> None:
        if sink.grain is not None:
            pytest.skip("this sink has grains, which are always whole")
        sink.open(tmp_path, self.count)
        cuts = [0, 4, 5, self.count]
        receipts = []
        for low, high in pairwise(cuts):
            kept = Batch(low, high)
            receipts.append(
                (kept, self.journaled(sink.write(Batch(low, self.count), self.results(kept), tmp_path)))
            )
        sink.close(iter(receipts), tmp_path)
        expected = self.expected([self.result_of(item) for item in range(self.count)])
        assert comparable(self.opened(sink.result(tmp_path))) == comparable(expected)
