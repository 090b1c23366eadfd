"""What a worker's world looks like: as in the pools that the executor stands in for."""

import os
import traceback
from concurrent.futures import process

import numpy
import pytest
from executor_programs import beside, python
from waiting import LIMIT

import penstock
from penstock import foreign
from penstock.calls.work import Call, keep_words


def ours(**options):
    return penstock.Executor(2, budget=beside(250), **options)


# --------------------------------------------------------------------------- what a call is told by


class Aborts:
    """Ends whoever loads it."""

    def __reduce__(self):
        return os.abort, ()


ABORTS = """
import os, penstock

class Aborts:
    def __reduce__(self):
        return os.abort, ()

if __name__ == "__main__":
    with penstock.Executor(1, budget="300MiB") as pool:
        error = pool.submit(print, 17, Aborts()).exception()
        print(type(error).__name__, "print(17, ...)" in str(error), pool.submit(abs, -1).result())
"""


def test_a_call_that_aborts_when_it_is_loaded_ends_no_caller(tmp_path):
    assert python(tmp_path, ABORTS).stdout == "WorkerDied True 1\n"


def told(*args, **kwargs):
    return str(Call("f", b"", [], None, keep_words(args, kwargs)))


def test_a_call_is_told_by_what_its_caller_had():
    assert told(17, "a", b=2.5) == "f(17, 'a', b=2.5)"
    assert told(10**10_000) == "f(...)"
    assert told((1, 2), [3, "x"], None) == "f((1, 2), [3, 'x'], None)"
    assert told({"a": 1}, Aborts(), [Aborts()]) == "f(..., ..., [...])"
    assert told("x" * 1000) == f"f({'x' * 17!r}".rstrip("'") + "..." + "x" * 18 + "')"
    assert len(told(list(range(10**6)), "y" * 10**7)) < 120


def test_what_a_call_is_told_by_holds_nothing_large():
    large = [bytes(10**6)] * 100
    ((kept, text), _) = keep_words((large, "z" * 10**6), {})
    assert all(len(each) <= 41 for each in kept if isinstance(each, bytes))
    assert len(text) <= 41


# --------------------------------------------------------------------------- tracebacks


def fails(_):
    raise KeyError("seven")  # as it stands here


def test_a_workers_traceback_is_the_cause():
    with ours() as pool:
        error = pool.submit(fails, 7).exception(LIMIT)
    assert type(error.__cause__) is process._RemoteTraceback
    assert "raise KeyError" in str(error.__cause__)
    assert "as it stands here" in "".join(traceback.format_exception(error))


def test_lines_that_only_the_caller_knows_are_put_in(monkeypatch):
    import linecache

    lines = ["def f():\n", "    raise ValueError(1)\n"]
    monkeypatch.setitem(linecache.cache, "<cell 3>", (0, None, lines, "<cell 3>"))
    text = 'Traceback (most recent call last):\n  File "<cell 3>", line 2, in f\nValueError: 1\n'
    assert '  File "<cell 3>", line 2, in f\n    raise ValueError(1)\nValueError' in foreign.with_sources(
        text
    )
    there = '  File "<cell 3>", line 2, in f\n    another\nValueError: 1\n'
    assert foreign.with_sources(there) == there
    unknown = '  File "<cell 4>", line 2, in f\nValueError: 1\n'
    assert foreign.with_sources(unknown) == unknown


# --------------------------------------------------------------------------- arguments


def kind_of(array):
    return type(array).__name__, float(array.sum())


def test_a_memmap_stays_one(tmp_path):
    path = tmp_path / "array"
    numpy.full(1 << 18, 2.0).tofile(path)
    mapped = numpy.memmap(path, mode="r")
    plain = numpy.ones(1 << 18)
    with ours() as pool:
        assert pool.submit(kind_of, mapped).result(LIMIT)[0] == "memmap"
        assert pool.submit(kind_of, plain).result(LIMIT) == ("ndarray", float(1 << 18))


def nested(_):
    import joblib

    return joblib.Parallel(n_jobs=2, backend="penstock")(joblib.delayed(abs)(-n) for n in range(3))


def test_our_backend_is_known_by_name_inside_a_worker_too():
    joblib = pytest.importorskip("joblib")
    import penstock.joblib  # noqa: F401 - registers it

    with joblib.parallel_config(backend="penstock", n_jobs=2):
        assert joblib.Parallel()(joblib.delayed(nested)(n) for n in range(2)) == [[0, 1, 2]] * 2
