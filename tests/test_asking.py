"""What sources and sinks answer when the parent asks: a line that names those that fail, or talk nonsense."""

import functools
import inspect
import math
from types import SimpleNamespace

import pytest

import penstock
from penstock import asking
from penstock.abc import Receipt
from penstock.backends.frames import Unpacker, pack
from penstock.errors import BadInput, CannotKeep, PluginError, UsageError
from penstock.record import journal


class Odd(penstock.sources.Range):
    """Numbers, with one method that does what the test wants."""

    def __init__(self, method, deed, items=12):
        super().__init__(items)
        self.method, self.deed = method, deed

    def _do(self, method, value):
        return self.deed() if method == self.method else value

    def __len__(self):
        return self._do("__len__", 12)

    def sizes(self, start, stop):
        return self._do("sizes", [8] * (stop - start))

    def starts(self):
        return self._do("starts", [0, 6])

    def fingerprint(self):
        return self._do("fingerprint", {"numbers": "12"})

    def spans(self):
        return self._do("spans", {"numbers": (0, 12)})

    def name(self, item):
        return self._do("name", f"number {item}")


class Travelling(Odd):
    def weigh(self, start, stop):
        return self._do("weigh", 8 * (stop - start))

    def carry(self, start, stop):
        return self._do("carry", list(range(start, stop)))

    def load(self, start, cargo):
        self.start, self.cargo = start, cargo

    def read(self, start, stop):
        return self.cargo[start - self.start : stop - self.start]


class Told(Odd):
    def fingerprint_kind(self):
        return self._do("fingerprint_kind", "content")

    def fingerprint_by(self, kind):
        return self._do("fingerprint_by", {"numbers": "12"})


def fails():
    raise OSError(5, "the tape\x1b[2J broke", "/dev/tape")


def run(source, folder, **more):
    return penstock.run(str, source, folder, backend="inline", **more)


ASKED = [
    *((Odd, method) for method in ("__len__", "sizes", "starts", "fingerprint", "spans")),
    *((Travelling, method) for method in ("weigh", "carry")),
    *((Told, method) for method in ("fingerprint_kind", "fingerprint_by")),
]


@pytest.mark.parametrize(("kind", "method"), ASKED)
def test_a_source_that_raises_in_the_parent_is_named_in_one_line(kind, method, tmp_path):
    with pytest.raises(PluginError) as caught:
        run(kind(method, fails), tmp_path / "r")
    said = f"{method}() of {kind.__name__} raised OSError: [Errno 5] the tape\\x1b[2J broke: '/dev/tape'"
    assert str(caught.value) == said
    assert isinstance(caught.value.__cause__, OSError)


def test_nothing_is_lost_when_a_source_raises_later(tmp_path):
    calls = iter(range(100))

    def later():
        if next(calls) >= 2:
            raise RuntimeError("no more")
        return 1

    with pytest.raises(PluginError, match=r"weigh\(\) of Travelling raised RuntimeError: no more"):
        run(Travelling("weigh", later), tmp_path / "r", call=1)
    kept = journal.read(tmp_path / "r/.penstock/job/journal").kept
    report = run(Travelling("", None), tmp_path / "r", accept_changes=True)
    assert report.result == [str(each) for each in range(12)]
    assert report.resumed_from == kept > 0


@pytest.mark.parametrize(
    ("method", "answer", "said"),
    [
        ("sizes", [1, 2], "sizes() of Odd, asked for the 12 items from 0 on, gave 2 sizes"),
        ("sizes", [-5] * 12, "the largest is -5 and the sum -60"),
        ("sizes", [5] * 11 + [-99], "the largest is 5 and the sum -44"),
        ("sizes", [math.nan] * 12, "the largest is nan"),
        ("sizes", [1.0] * 11 + [math.inf], "the sum inf"),
        ("sizes", ["many"] * 12, "sizes() of Odd raised"),
        ("sizes", None, "sizes() of Odd raised TypeError"),
        ("starts", [0, 6, 3], "starts() of Odd gave [0, 6, 3]: ascending numbers"),
        ("starts", [3], "below 12"),
        ("starts", [0, 12], "below 12"),
        ("starts", [], "gave []"),
        ("fingerprint", {"a": 5}, "fingerprint() of Odd gave 'a': 5, where a text for each name"),
        ("fingerprint", ["a"], "fingerprint() of Odd raised"),
        ("spans", {"a": 5}, "spans() of Odd gave 'a': 5, where the numbers of its first item"),
        ("spans", {"a": (0, "b")}, "spans() of Odd gave 'a'"),
        ("spans", [1], "spans() of Odd raised AttributeError"),
        ("__len__", -1, "__len__() of Odd raised ValueError"),
        ("__len__", "12", "__len__() of Odd raised TypeError"),
    ],
)
def test_a_source_that_answers_nonsense_is_refused(method, answer, said, tmp_path):
    with pytest.raises(PluginError) as caught:
        run(Odd(method, lambda: answer), tmp_path / "r")
    assert said in str(caught.value)


def test_a_name_is_never_worth_a_failure(tmp_path):
    report = penstock.run(
        lambda item: 1 // (item - 3), Odd("name", fails), tmp_path / "r", backend="inline", set_aside=True
    )
    assert [each.name for each in report.set_aside] == ["3"]


def test_errors_of_ours_and_short_memory_pass_as_they_are():
    for error in (BadInput("is no table", file="a.csv"), MemoryError("none"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, asking.Asking("x", "sizes"):
            raise error
        assert caught.value is error


class Hostile(Exception):
    def __str__(self):
        raise SystemExit("gone")

    __repr__ = __reduce__ = __str__


def test_an_exception_that_cannot_be_told_is_told_by_its_type():
    with (
        pytest.raises(PluginError, match=r"sizes\(\) of str raised Hostile: <Hostile whose str"),
        asking.Asking("x", "sizes"),
    ):
        raise Hostile


class Grained:
    """A sink of somebody's."""

    def __init__(self, grain):
        self.given = grain

    @property
    def grain(self):
        if isinstance(self.given, Exception):
            raise self.given
        return self.given

    def open(self, folder, items): ...

    def write(self, batch, results, folder):
        return Receipt(value=[str(each) for each in results])

    def close(self, receipts, folder): ...

    def result(self, folder): ...


@pytest.mark.parametrize(
    ("grain", "said"),
    [
        (-3, "the grain of Grained is -3"),
        ("many", "grain() of Grained raised"),
        (KeyError("g"), "KeyError: 'g'"),
    ],
)
def test_a_sink_whose_grain_is_none_is_named(grain, said, tmp_path):
    with pytest.raises(PluginError) as caught:
        penstock.run(str, 5, tmp_path / "r", into=Grained(grain), backend="inline")
    assert said in str(caught.value)


def test_a_sink_that_cannot_open_its_results_is_named(tmp_path):
    class Shut(Grained):
        def result(self, folder):
            raise KeyError("result")

    report = penstock.run(str, 5, tmp_path / "r", into=Shut(None), backend="inline")
    with pytest.raises(PluginError, match=r"result\(\) of .*Shut raised KeyError: 'result'"):
        _ = report.result


@pytest.mark.parametrize("backend", [object(), 7, Grained(None)])
def test_a_backend_that_is_none_is_refused_before_anything_is_written(backend, tmp_path):
    with pytest.raises(UsageError, match=r"which has no .*start, send, wait"):
        penstock.Run(tmp_path / "r", backend=backend)
    assert not (tmp_path / "r").exists()


class Unloadable:
    """A result that can be pickled, and not loaded."""

    def __init__(self, error):
        self.error = error

    def __reduce__(self):
        return _fail_with, (self.error,)


def _fail_with(error):
    raise error


@pytest.mark.parametrize("error", [SystemExit("gone"), ValueError("no\x1b[2J")])
def test_a_result_that_cannot_be_loaded_in_the_parent_is_said_in_one_line(error):
    frame = Unpacker()
    with pytest.raises(CannotKeep, match=f"cannot be loaded here: {type(error).__name__}: [a-z]+"):
        list(frame.feed(pack({"results": [Unloadable(error)]})))


@pytest.mark.parametrize("folder", [7, b"bytes", object()])
def test_a_folder_that_is_no_path_is_refused(folder):
    with pytest.raises(UsageError, match="cannot be the folder of a run: a path was expected"):
        penstock.Run(folder)


def test_a_folder_named_from_a_working_directory_that_is_gone_is_said_to_be(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(UsageError, match="working directory, which was removed"):
        penstock.Run("r")
    with pytest.raises(BadInput, match="no such file; looked from the folder that was removed"):
        penstock.sources.Files("scan.txt")
    assert penstock.run(str, 3, tmp_path / "r", backend="inline").result == ["0", "1", "2"]


@pytest.mark.parametrize("observers", [print, [5], 7, [None]])
def test_observers_that_cannot_be_called_are_refused_before_anything_is_made(observers, tmp_path):
    with pytest.raises(UsageError, match="observers"):
        penstock.Run(tmp_path / "r", observers=observers)
    assert not (tmp_path / "r").exists()


def test_a_backend_with_nothing_besides_has_plain_answers_for_all_that_it_may_have():
    powers = asking.BackendPowers(object())
    assert powers.governs
    assert (powers.early(1), powers.shared(), powers.total(), powers.top()) == ((0, b""), None, None, 0)
    powers.preload(["numpy"])
    powers.fence(1, 1 << 30)
    powers.tell_short(True)


def test_a_backend_is_told_that_memory_is_short_where_it_asks_for_it():
    backend = SimpleNamespace(short=False, governs=False, total=lambda: 7)
    powers = asking.BackendPowers(backend)
    powers.tell_short(True)
    assert backend.short
    assert (powers.governs, powers.total()) == (False, 7)


def test_a_source_that_is_none_is_told_what_it_lacks_and_nothing_else():
    with pytest.raises(UsageError, match=r"source is a range, which has no read, fingerprint; .*Range"):
        penstock.Job(source=range(3), function=abs)


async def _later(item):
    """What nobody awaits."""


class _Later:
    async def __call__(self, item):
        """What nobody awaits."""


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (3, "function is a int, which cannot be called"),
        (_later, "async def"), (_Later(), "async def"), (functools.partial(_later, 1), "async def"),
    ],
)  # fmt: skip
def test_a_function_that_no_worker_can_call_is_refused_before_any_does(function, said, tmp_path):
    with pytest.raises(UsageError, match=said):
        penstock.Job(source=penstock.sources.Range(3), function=function)
    with penstock.Run(tmp_path, backend="inline") as run, pytest.raises(UsageError, match=said):
        run.step("one", function)


@pytest.mark.parametrize(
    ("positional", "named", "said"),
    [
        ((range(3), abs), {}, r"Job takes its arguments by name, and 2 came without one: write Job\(source="),
        ((), {"sorce": range(3), "function": abs}, "Job has no argument sorce: did you mean source"),
        ((), {"x\x1b[2J": 3}, r"Job has no argument x\S+: there are source, function, into"),
        ((), {"function": abs}, r"Job needs source: write Job\(source=..., function=...\)"),
        ((), {}, "Job needs source and function"),
    ],
)
def test_a_call_that_makes_no_job_is_told_by_the_name_that_users_know(positional, named, said):
    with pytest.raises(TypeError, match=said) as told:
        penstock.Job(*positional, **named)
    assert "JobSpec" not in str(told.value)
    assert "\x1b" not in str(told.value)
    assert list(inspect.signature(penstock.Job).parameters)[:3] == ["source", "function", "into"]


@pytest.mark.parametrize("change", [1, -1])
def test_a_source_whose_items_change_while_a_run_begins_has_those_of_its_key(tmp_path, change):
    """As one that counts what lies in a folder, or the rows of a table that others write to."""

    class Moving(penstock.sources.Range):
        def __init__(self, after):
            super().__init__(6)
            self.looks, self.after = 0, after

        def __len__(self):
            self.looks += 1
            return 6 if self.looks <= self.after else 6 + change

        def read(self, start, stop):
            return range(start, stop)

    steady = Moving(10**9)
    penstock.run(str, steady, tmp_path / "steady", backend="inline")
    assert steady.looks > 2
    for after in range(steady.looks + 1):
        report = penstock.run(str, Moving(after), tmp_path / str(after), backend="inline")
        checked = penstock.verify(tmp_path / str(after))
        assert checked.ok, str(checked)
        assert report.items == report.done == len(report.result)
