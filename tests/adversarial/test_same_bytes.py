"""The same bytes whatever the budget, the workers, the calls, and who was killed on the way."""

import json
import os
import random
import signal
import threading
from contextlib import contextmanager, nullcontext, suppress

import pytest
from functions import draw, draw_sometimes
from programs import beside, digest, workers_of

import penstock
from penstock.errors import SetAside
from penstock.reducers import Count, Fold, Sum
from penstock.sinks import Arrays, Collect, Files, Parquet
from penstock.sources import Range

ITEMS = 90


@contextmanager
def killing(seconds):
    """SIGKILL a random worker so often, meanwhile, up to five times."""
    over, chance, dead = threading.Event(), random.Random(7), []

    def kill():
        while len(dead) < 5 and not over.wait(seconds):
            if workers := workers_of():
                with suppress(ProcessLookupError):
                    os.kill(chance.choice(workers), signal.SIGKILL)
                    dead.append(1)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    try:
        yield dead
    finally:
        over.set()
        thread.join()


def number(item):
    """A value whose sums depend on their order, after taking some memory and time."""
    held = bytearray(b"x") * ((item % 5) << 22)
    threading.Event().wait(0.003)
    del held
    return ((item * 7919) % 101) / 7.0


def rows(item):
    return {
        "item": [item] * (item % 4),
        "value": [number(item)] * (item % 4),
        "text": ["é" * item] * (item % 4),
    }


def array(item):
    import numpy as np

    return np.arange(60, dtype=np.float32) * np.float32(number(item))


def file(item):
    path = penstock.share().folder / f"out-{item % 3}.txt"
    path.write_text(f"{number(item)}\n" * 100)
    return path


def everything(item):
    value = number(item)
    return {
        "list": {"item": item, "value": value},
        "table": {"item": [item], "value": [value]},
        "stack": array(item),
        "total": value,
        "mean": value,
        "kinds": [str(item % 7)],
    }


def add(state, value):
    return [state[0] + 1, state[1] + value]


def join(left, right):
    return [left[0] + right[0], left[1] + right[1]]


def several():
    return {
        "list": Collect(),
        "table": Parquet(grain=30),
        "stack": Arrays(grain=20),
        "total": Sum(grain=10),
        "mean": Fold(add, lambda: [0, 0.0], join, grain=15),
        "kinds": Count(),
    }


# Collect and Arrays are among several; alone they are called as Parquet is.
JOBS = {
    "parquet": (lambda: Parquet(grain=25), rows),
    "files": (lambda: Files(), file),
    "several": (several, everything),
}


@pytest.mark.parametrize("kind", JOBS)
def test_any_budget_workers_calls_and_kills_leave_the_same_bytes(kind, tmp_path):
    into, function = JOBS[kind]
    found = {}
    for name, mib, workers, call, kill in (
        ("plain", 300, 1, None, None),
        ("small budget", 110, 2, 3, None),
        ("large budget", 500, 3, 17, None),
        ("killed", 250, 2, None, 0.6),
    ):
        job = penstock.Job(source=Range(ITEMS), function=function, into=into())
        with killing(kill) if kill else nullcontext():
            report = job.run(tmp_path / name, budget=beside(mib), workers=workers, call=call)
        assert report.done == ITEMS
        found[name] = digest(tmp_path / name)
        assert report.result is not None
    assert len(set(found.values())) == 1, found


def test_the_serial_sum_is_what_the_reducer_gives():
    # The order is fixed: first within each grain, then over the grains.
    grains = [range(start, min(start + 10, ITEMS)) for start in range(0, ITEMS, 10)]
    expected = 0.0
    for grain in grains:
        part = 0.0
        for item in grain:
            part += ((item * 7919) % 101) / 7.0
        expected += part
    report = penstock.run(number, ITEMS, into=Sum(grain=10), budget=beside(250), workers=3)
    assert report.result == pytest.approx(expected, rel=1e-12)


# ------------------------------------------------------------------ seeds


@pytest.mark.parametrize("function", [draw, draw_sometimes])
def test_random_numbers_depend_on_the_item_and_on_nothing_else(function, tmp_path):
    found = {}
    for name, workers, call, kill in (
        ("one", 1, 1, 0),
        ("three", 3, 7, 0),
        ("large", 2, 64, 0),
        ("killed", 2, None, 0.1),
    ):
        with killing(kill) if kill else nullcontext():
            found[name] = penstock.run(function, 400, budget=beside(300), workers=workers, call=call).result
    assert found["one"] == found["three"] == found["large"] == found["killed"]
    assert len({repr(each) for each in found["one"]}) == 400
    other = penstock.run(function, 400, budget=beside(300), seed=1).result
    assert other != found["one"]


# ------------------------------------------------------------------ what must not leak

SECRET = "Erika-Mustermann-1964"


def read_note(item):
    if item % 10 == 3:
        raise ValueError(f"cannot parse {SECRET}")
    if item == 17:
        raise MemoryError(SECRET)
    if item == 25:
        return lambda: SECRET
    return item


class Notes:
    """A source whose errors would quote what it read."""

    def __len__(self):
        return 40

    def read(self, start, stop):
        for item in range(start, stop):
            if item == 21:
                raise penstock.errors.BadInput(f"not a note: {SECRET}", file="notes.txt", place="line 21")
            yield item

    def fingerprint(self):
        return {"notes": "1"}


@pytest.mark.parametrize("set_aside", [True, False])
def test_a_private_job_keeps_messages_out_of_everything_under_its_folder(set_aside, tmp_path):
    job = penstock.Job(source=Notes(), function=read_note, private=True)
    told = []
    options = {"budget": beside(250), "set_aside": set_aside, "observers": [told.append]}
    if set_aside:
        report = job.run(tmp_path / "r", **options)
        assert {each.item for each in report.set_aside} == {3, 13, 17, 21, 23, 25, 33}
        assert SECRET not in "".join(map(str, report.set_aside)) + repr(report)
    else:
        with pytest.raises(penstock.PenstockError) as caught:
            job.run(tmp_path / "r", **options)
        assert SECRET not in f"{caught.value!r}{caught.value.__cause__!r}"
    assert SECRET not in repr(told)
    checked = 0
    for path in (tmp_path / "r").rglob("*"):
        if path.is_file():
            checked += 1
            assert SECRET.encode() not in path.read_bytes(), path
    assert checked >= 4


# ------------------------------------------------------------------ holes


def test_the_place_of_an_item_set_aside_is_a_hole_in_every_sink(tmp_path):
    def with_holes(item):
        if item in (31, 77):
            raise ValueError("no")
        return everything(item)

    found = set()
    for workers, call in ((1, None), (2, 9)):
        job = penstock.Job(source=Range(ITEMS), function=with_holes, into=several())
        folder = tmp_path / str(workers)
        report = job.run(folder, budget=beside(400), workers=workers, call=call, set_aside=True)
        assert [each.item for each in report.set_aside] == [31, 77]
        result = report.result
        assert [item for item, each in enumerate(result["list"]) if isinstance(each, SetAside)] == [31, 77]
        assert len(result["stack"]) == ITEMS
        assert json.loads((folder / "stack" / "holes.json").read_text())
        found.add(digest(folder))
    assert len(found) == 1


def test_calls_of_arrays_go_into_several_sinks(tmp_path):
    def columns(items):
        import numpy as np

        numbers = np.fromiter(items, dtype=np.int64)
        return {"square": (numbers**2).tolist(), "sum": numbers.tolist()}

    found = set()
    for workers, call in ((1, 1), (2, 64)):
        into = {"square": Arrays(grain=50), "sum": Sum()}
        job = penstock.Job(source=Range(500), function=columns, into=into, batched=True)
        report = job.run(tmp_path / str(workers), budget=beside(300), workers=workers, call=call)
        assert report.result["sum"] == sum(range(500))
        assert int(report.result["square"][499]) == 499**2
        found.add(digest(tmp_path / str(workers)))
    assert len(found) == 1
