"""Conformance suite for a source."""

from __future__ import annotations

import gc
import os
import pickle
import random
import time
from collections.abc import Iterable, Iterator
from collections.abc import Sized as HasLength
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from penstock.abc import Carried, Expecting, Named, Sequential, Sized, Source, Spanned
from penstock.testing.comparing import comparable


class SourceSuite:
    """Subclass it, give ``make``, and ``change`` if content can change.

    ``make(folder)`` returns a source of at least 4 items; called twice in one folder it must give
    an equal source. ``change(folder)`` changes the content of an item, so that the next ``make``
    sees it; return False where there is nothing to change.
    """

    def make(self, folder: Path) -> Any:
        """A source of 4 items or more; ``folder`` is the test's own and may hold its files."""
        raise NotImplementedError("a SourceSuite needs make(folder)")

    def change(self, folder: Path) -> bool:
        """Change the content of an item; returns False if that is impossible."""
        return False

    # ------------------------------------------------------------------ what the tests share

    @pytest.fixture
    def source(self, tmp_path: Path) -> Any:
        return self.make(tmp_path)

    @pytest.fixture
    def whole(self, source: Any) -> list[Any]:
        return self.items(source, 0, len(source))

    def items(self, source: Any, start: int, stop: int) -> list[Any]:
        """The items of an interval as a worker reads them, in a form that can be compared."""
        container = source.read(start, stop)
        each = getattr(source, "each", None)
        if each is not None and not isinstance(container, Iterator):
            container = each(container)
        return [comparable(item) for item in container]

    def in_worker(self, source: Any, start: int, stop: int) -> Any:
        """The source as a worker receives it: pickled, with its cargo loaded."""
        copy = pickle.loads(pickle.dumps(source))
        if isinstance(source, Carried):
            copy.load(start, pickle.loads(pickle.dumps(source.carry(start, stop))))
        return copy

    # ------------------------------------------------------------------ the promises

    def test_is_a_source(self, source: Any) -> None:
        assert isinstance(source, Source)
        assert len(source) >= 4, "the suite needs a source of at least 4 items"
        assert len(source) == len(source)

    def test_gives_every_item_once(self, source: Any, whole: list[Any]) -> None:
        assert len(whole) == len(source)

    def test_gives_the_same_one_by_one(self, source: Any, whole: list[Any]) -> None:
        assert [self.items(source, i, i + 1) for i in range(len(source))] == [[item] for item in whole]

    def test_gives_nothing_for_an_empty_interval(self, source: Any) -> None:
        for at in (0, len(source) // 2, len(source)):
            assert self.items(source, at, at) == []

    def test_reads_any_interval_in_any_order(self, source: Any, whole: list[Any]) -> None:
        draw = random.Random(1)
        for _ in range(40):
            start, stop = sorted(draw.sample(range(len(source) + 1), 2))
            assert self.items(source, start, stop) == whole[start:stop]

    def test_goes_on_where_the_last_call_ended(self, source: Any, whole: list[Any]) -> None:
        for step in (1, 2, 3, 7):
            copy = self.in_worker(source, 0, len(source))
            intervals = [(at, min(at + step, len(source))) for at in range(0, len(source), step)]
            assert [item for start, stop in intervals for item in self.items(copy, start, stop)] == whole

    def test_reads_an_interval_after_pickling(self, source: Any, whole: list[Any]) -> None:
        third = len(source) // 3
        for start, stop in ((0, len(source)), (third, 2 * third + 1), (len(source) - 1, len(source))):
            copy = self.in_worker(source, start, stop)
            assert len(copy) == len(source)
            assert self.items(copy, start, stop) == whole[start:stop]
            if stop - start > 1:
                assert self.items(copy, start + 1, stop) == whole[start + 1 : stop]

    def test_can_be_pickled_while_it_is_being_read(self, source: Any, whole: list[Any]) -> None:
        self.items(source, 0, 1)
        assert self.items(self.in_worker(source, 1, 3), 1, 3) == whole[1:3]

    def test_gives_up_a_call_half_way(self, source: Any, whole: list[Any]) -> None:
        container = source.read(0, len(source))
        if isinstance(container, Iterator):
            next(container)
        assert self.items(source, 0, 2) == whole[:2]

    def test_fingerprint_is_text_and_stays(self, source: Any, tmp_path: Path) -> None:
        before = dict(source.fingerprint())
        assert before, (
            "fingerprint() names nothing, so that resume cannot tell when the content changes; name at least "
            'one part, also where nothing can change: {"numbers": "1000"}'
        )
        assert all(isinstance(key, str) and isinstance(text, str) and text for key, text in before.items())
        self.items(source, 0, len(source))
        assert dict(source.fingerprint()) == before
        assert dict(self.make(tmp_path).fingerprint()) == before

    def test_fingerprint_changes_with_the_content(self, source: Any, tmp_path: Path) -> None:
        before = dict(source.fingerprint())
        if not self.change(tmp_path):
            pytest.skip("this suite says that the content of this source cannot change")
        assert dict(self.make(tmp_path).fingerprint()) != before

    def test_sizes_are_one_for_each_item(self, source: Any) -> None:
        if not _can(source, Sized):
            pytest.skip("this source does not know the sizes of its items")
        sizes = [int(size) for size in source.sizes(0, len(source))]
        assert len(sizes) == len(source)
        assert min(sizes) >= 0
        assert max(sizes) > 0
        for start, stop in ((1, 3), (0, 1), (2, 2), (len(source) - 1, len(source))):
            assert list(source.sizes(start, stop)) == sizes[start:stop]

    def test_names_are_text(self, source: Any) -> None:
        if not _can(source, Named):
            pytest.skip("this source does not name its items")
        names = [source.name(item) for item in range(len(source))]
        assert all(isinstance(name, str) and name and "\n" not in name for name in names)

    def test_spans_say_where_each_file_is(self, source: Any) -> None:
        if not _can(source, Spanned):
            pytest.skip("this source does not know which items come from which part")
        spans = source.spans()
        assert set(spans) == set(source.fingerprint())
        assert all(0 <= start <= stop <= len(source) for start, stop in spans.values())
        covered = {item for start, stop in spans.values() for item in range(start, stop)}
        assert covered == set(range(len(source)))

    def test_starts_are_where_reading_may_begin(self, source: Any, whole: list[Any]) -> None:
        if not _can(source, Sequential):
            pytest.skip("this source can be read from anywhere")
        starts = list(source.starts())
        assert starts[0] == 0
        assert all(low < high for low, high in pairwise(starts))
        assert starts[-1] < len(source)
        for start in starts[:5] + starts[-5:]:
            assert self.items(self.in_worker(source, start, start + 1), start, start + 1) == [whole[start]]

    def test_expecting_changes_nothing_that_is_read(self, source: Any, whole: list[Any]) -> None:
        if not _can(source, Expecting):
            pytest.skip("this source does not fetch ahead")
        count = len(source)
        copy = self.in_worker(source, 0, count)
        # All of a batch; a part of it, as when it is cut; others than were told; twice the same; none at all.
        for told, read in (
            ((0, count), (0, count)), ((0, count), (1, 2)), ((0, 2), (2, count)), ((0, 2), (0, 2)),
            ((1, count), (0, count)), ((count, count), (0, 1)),
        ):  # fmt: skip
            assert copy.expect(*told) is None
            assert self.items(copy, *read) == whole[slice(*read)]
        copy.expect(0, count)
        items = [self.items(copy, item, item + 1) for item in range(count)]
        assert items == [[item] for item in whole]
        assert dict(copy.fingerprint()) == dict(source.fingerprint())
        copy.expect(0, count)  # what was fetched ahead does not travel
        assert len(pickle.dumps(copy)) == len(pickle.dumps(self.in_worker(source, 0, count)))
        copy.expect(count, count)

    def test_cargo_is_weighed_and_all_that_is_pickled(self, source: Any) -> None:
        if not _can(source, Carried):
            halfway = [name for name in ("weigh", "carry", "load") if hasattr(source, name)]
            assert not halfway, f"a Carried source has weigh, carry and load; this one has only {halfway}"
            pytest.skip("this source does not travel with its batches")
        assert source.weigh(0, 0) == 0
        assert source.weigh(0, len(source)) >= source.weigh(0, 1) >= 0
        assert source.weigh(0, len(source)) > 0
        read = self.in_worker(source, 0, len(source))
        assert len(pickle.dumps(read)) == len(pickle.dumps(self.in_worker(source, 0, 1)))

    def test_a_part_of_what_was_loaded_is_carried_on(self, source: Any, whole: list[Any]) -> None:
        """A node has the items of a lease, and carries them on to its workers."""
        if not _can(source, Carried) or len(source) < 3:
            pytest.skip("this source does not travel with its batches, or is too short for a part of a part")
        node, worker = (pickle.loads(pickle.dumps(source)) for _ in range(2))
        node.load(1, source.carry(1, len(source)))
        assert node.weigh(2, len(source)) > 0
        worker.load(2, node.carry(2, len(source)))
        assert self.items(worker, 2, len(source)) == whole[2:]

    def test_what_is_given_up_half_way_closes_its_files(self, source: Any) -> None:
        # At once, not when garbage is collected: a worker that fails reads again at once.
        copy = self.in_worker(source, 0, len(source))
        gc.collect()
        gc.disable()
        try:
            before = len(os.listdir("/proc/self/fd"))
            container = copy.read(0, len(source))
            each = getattr(copy, "each", None)
            if each is not None and not isinstance(container, Iterator):
                container = each(container)
            item = next(iter(container), None)
            if isinstance(item, Iterable) and not isinstance(item, HasLength):
                next(iter(item), None)
            del copy, container, each, item
            until = time.monotonic() + 5
            while (still := len(os.listdir("/proc/self/fd"))) > before and time.monotonic() < until:
                time.sleep(0.05)  # a thread that fetches ahead ends in its own time
            assert still <= before
        finally:
            gc.enable()


def _can(source: Any, power: type) -> bool:
    """Whether a source has an optional power."""
    return isinstance(source, power)
