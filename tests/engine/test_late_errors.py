"""An exception may come at any line of ours: a signal's handler raises where it likes.

Timeouts by SIGALRM do that, and so do debuggers and ``PyThreadState_SetAsyncExc``. Whatever the line, each
item has its own result or is set aside, or the whole call fails: nothing moves to another item's place.
"""

import sys
from array import array
from pathlib import Path

import pytest

from penstock import worker_note as note
from penstock.abc import SetAside
from penstock.engine.worker import calling
from penstock.engine.worker.fitness import Fitness
from penstock.meter import Meter
from penstock.sharing import Share
from penstock.sources.items import Items

ITEMS = 4


class Late(Exception):
    pass


def worked(function, source=None, known=()):
    words = array("q", [-1] * note.HEAD)
    source = source or Items(list(range(ITEMS)))
    fence, fitness = calling.Fence(Meter()), Fitness((0,), own_process=True)
    caller = calling.Caller(function, source, words, 0, fence, fitness, folder=Path(), private=False)
    asides = {item: SetAside(item, str(item), "raised", "before") for item in known}
    caller.begin(asides, Share(memory=1 << 30, threads=1, attempt=0))
    return list(caller.one_by_one(0, ITEMS)), caller.aside


def raising_at(count):
    """A tracer that raises at this line of those that go through the items."""
    left = [count]

    def in_items(frame, event, _):
        if event == "line":
            left[0] -= 1
            if left[0] == 0:
                raise Late
        return in_items

    return left, lambda frame, *_: in_items if frame.f_code is calling.Caller._items.__code__ else None


@pytest.mark.parametrize("known", [(), (2,), (3,)])
def test_an_exception_at_any_line_moves_no_result(known):
    seen = set()
    for count in range(1, 1_000):
        left, tracer = raising_at(count)
        sys.settrace(tracer)
        try:
            parts, aside = worked(lambda item: item * 10, known=known)
        except Late:
            seen.add("failed")
            continue
        finally:
            sys.settrace(None)
        if left[0] > 0:
            break
        ((start, stop, results),) = parts
        assert (start, stop, len(results)) == (0, ITEMS, ITEMS)
        for item, result in enumerate(results):
            seen.add(type(result))
            assert result == item * 10 or (isinstance(result, SetAside) and result.item == item)
        assert all(isinstance(results[each.item], SetAside) for each in aside)
        assert len(aside) <= 1
    else:
        pytest.fail("it never got through")
    assert seen == {"failed", int, SetAside}


@pytest.mark.parametrize("late", range(ITEMS))
def test_what_is_raised_behind_an_item_is_that_items(late, monkeypatch):
    """The last one too: what came behind it was once counted as one item more."""
    calls = []

    def used(self):
        if len(calls) == late + 1:
            calls.append("raised")
            raise Late
        return False

    monkeypatch.setattr(Share, "used_folder", property(used))
    ((start, stop, results),), aside = worked(lambda item: calls.append(item) or item)
    assert (start, stop, len(results)) == (0, ITEMS, ITEMS)
    assert [each.item for each in aside] == [late]
    assert [result for result in results if not isinstance(result, SetAside)] == [
        item for item in range(ITEMS) if item != late
    ]


def test_a_source_that_ends_early_is_told_at_the_item_it_has_not():
    class Short(Items):
        def read(self, start, stop):
            return super().read(start, min(stop, 2))

    ((_, _, results),), aside = worked(lambda item: item, Short(list(range(ITEMS))))
    assert [each.item for each in aside] == [2, 3]
    assert results[:2] == [0, 1]
