"""Functions that fork, and whose children come back: a process that is not the worker says nothing for it."""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from concurrent.futures import ProcessPoolExecutor

import pytest
from waiting import LIMIT

import penstock
from penstock import sinks

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
ITEMS = list(range(6))
BUDGET = "600MiB"


def _waited(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class Forks:
    """What a function may do with a child; gives (item, exit code of the child) in the parent."""

    @staticmethod
    def returns(item):
        pid = os.fork()
        if pid == 0:
            return ("the child's", item)
        return item, _waited(pid)

    @staticmethod
    def raises(item):
        pid = os.fork()
        if pid == 0:
            raise ValueError("the child's")
        return item, _waited(pid)

    @staticmethod
    def no_memory(item):
        pid = os.fork()
        if pid == 0:
            raise MemoryError
        return item, _waited(pid)

    @staticmethod
    def exits(item):
        pid = os.fork()
        if pid == 0:
            sys.exit(7)
        return item, _waited(pid)

    @staticmethod
    def past_python(item):
        """As a library of C forks: nobody tells Python."""
        pid = ctypes.CDLL(None).fork()
        if pid == 0:
            return ("the child's", item)
        return item, _waited(pid)

    @staticmethod
    def terminal(item):
        pid, terminal = os.forkpty()
        if pid == 0:
            return ("the child's", item)
        code = _waited(pid)
        os.close(terminal)
        return item, code

    @staticmethod
    def outlives(item):
        """The child comes back when its parent has long answered."""
        here, there = os.pipe()
        if os.fork() == 0:
            os.close(there)
            os.read(here, 1)
            return ("the child's", item)
        os.close(here)
        KEPT.append(there)
        return item, 0

    @staticmethod
    def multiprocessing(item):
        child = multiprocessing.get_context("fork").Process(target=abs, args=(item,))
        child.start()
        child.join()
        return item, child.exitcode

    @staticmethod
    def pool(item):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
            return pool.submit(abs, item).result(), 0

    @staticmethod
    def thread(item):
        found = []

        def fork():
            pid = os.fork()
            if pid:
                found.append(_waited(pid))

        thread = threading.Thread(target=fork)
        thread.start()
        thread.join()
        return item, found[0]


KEPT = []
CODES = {"raises": 1, "no_memory": 1, "exits": 7}
WAYS = [name for name in vars(Forks) if not name.startswith("_")]


def one(item, way):
    warnings.simplefilter("ignore", DeprecationWarning)
    return list(getattr(Forks, way)(item))


def many(items, way):
    return [one(item, way) for item in items]


@pytest.mark.parametrize("way", WAYS)
def test_what_a_child_comes_back_with_is_nobodys(way, tmp_path):
    wanted = [[item, CODES.get(way, 0)] for item in ITEMS]
    report = penstock.run(one, ITEMS, tmp_path / "run", inputs={"way": way}, budget=BUDGET, workers=2)
    assert report.result == wanted
    assert (report.outcome, report.done, dict(report.failures)) == ("done", len(ITEMS), {})


@pytest.mark.parametrize("way", ["returns", "raises", "exits"])
def test_nor_where_a_call_takes_several(way):
    report = penstock.run(many, ITEMS, inputs={"way": way}, batched=3, budget=BUDGET, workers=2)
    assert report.result == [[item, CODES.get(way, 0)] for item in ITEMS]


@pytest.mark.parametrize("way", ["returns", "raises", "exits"])
def test_nor_in_this_very_process(way):
    report = penstock.run(one, ITEMS, inputs={"way": way}, backend="inline")
    assert report.result == [[item, CODES.get(way, 0)] for item in ITEMS]


@pytest.mark.parametrize("way", ["returns", "raises", "exits", "past_python"])
def test_nor_of_an_executor(way):
    with penstock.Executor(budget=BUDGET, workers=2) as executor:
        assert list(executor.map(one, ITEMS, [way] * len(ITEMS))) == [
            [item, CODES.get(way, 0)] for item in ITEMS
        ]


def test_nor_where_the_item_fails_too():
    """The parent's exception is the item's; the child's is nobody's."""
    report = penstock.run(forks_and_fails, ITEMS, budget=BUDGET, workers=2, set_aside=True)
    assert [each.message for each in report.set_aside] == ["raised KeyError: 'of the parent'"] * len(ITEMS)


def forks_and_fails(item):
    pid = os.fork()
    if pid == 0:
        raise ValueError("of the child")
    os.waitpid(pid, 0)
    raise KeyError("of the parent")


def _fork():
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
    return pid


class ForksEverywhere(sinks.Files):
    """A sink that forks wherever it is called."""

    def open(self, folder, items):
        _fork()
        super().open(folder, items)

    def write(self, batch, results, folder):
        receipt = super().write(batch, results, folder)
        _fork()
        return receipt

    def close(self, receipts, folder):
        _fork()
        return super().close(receipts, folder)


class Prepares:
    """Forks before its first item, and as a generator."""

    def prepare(self):
        _fork()

    def __call__(self, item):
        path = penstock.share().folder / "told.txt"
        path.write_text(f"{item}\n")
        return path


def test_nor_of_sinks_and_of_what_prepares(tmp_path):
    from penstock.record.verify import verify

    folder = tmp_path / "run"
    report = penstock.run(Prepares(), ITEMS, folder, into=ForksEverywhere(), budget=BUDGET, workers=2)
    assert (report.outcome, report.done, dict(report.failures)) == ("done", len(ITEMS), {})
    assert verify(folder).ok
    assert sorted(path.read_text() for path in folder.glob("*told.txt")) == [f"{item}\n" for item in ITEMS]


def gives_from_a_child(items):
    for item in items:
        _fork()
        yield item


def test_nor_of_results_that_are_made_as_they_are_taken():
    report = penstock.run(gives_from_a_child, ITEMS, batched=3, budget=BUDGET, workers=2)
    assert report.result == ITEMS


FORKS_AT_IMPORT = """
import os
pid = os.fork()
if pid:
    os.waitpid(pid, 0)

def same(item):
    return item
"""


def test_a_module_that_forks_gives_no_second_server(tmp_path, monkeypatch):
    (tmp_path / "forks_at_import.py").write_text(FORKS_AT_IMPORT)
    monkeypatch.syspath_prepend(tmp_path)
    pid = os.getpid()
    import forks_at_import

    if os.getpid() != pid:
        os._exit(0)
    assert penstock.run(forks_at_import.same, ITEMS, budget=BUDGET, workers=2).result == ITEMS


def test_a_child_of_the_caller_leaves_the_run_alone(tmp_path):
    """Its end of a ``with`` block ends no worker and removes no folder of its parent's."""
    with penstock.Executor(budget=BUDGET, workers=1) as executor:
        first = executor.submit(abs, -1)
        assert first.result() == 1
        pid = os.fork()
        if pid == 0:
            try:
                executor.__exit__(None, None, None)
            finally:
                os._exit(0)
        assert _waited(pid) == 0
        assert executor.submit(abs, -2).result() == 2
    with penstock.Run(tmp_path / "run", budget=BUDGET) as run:
        pid = os.fork()
        if pid == 0:
            try:
                run.__exit__(None, None, None)
            finally:
                os._exit(0)
        assert _waited(pid) == 0
        assert run.folder.is_dir()
        assert (run.folder / ".penstock" / "lock").exists()


def _in_a_child(*attempts):
    """What each of these raises in a child that this process forks; ends a child that waits."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(int(LIMIT))
            for attempt in attempts:
                try:
                    attempt()
                except Exception as error:
                    os.write(writer, f"{type(error).__name__}: {error}\n".encode())
                else:
                    os.write(writer, b"nothing\n")
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        told = pipe.read().decode().splitlines()
    assert _waited(pid) == 0
    return told


def test_a_child_of_the_caller_is_refused_its_parents_executor_and_run_at_once(tmp_path):
    """No worker would answer it; and it would write beside its parent, with the same lock."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    job = penstock.Job(source=penstock.sources.Range(3), function=abs)
    with penstock.Executor(budget=BUDGET, workers=1) as executor:
        pending, done = executor.submit(gate.read_bytes), executor.submit(abs, -1)
        told = _in_a_child(
            lambda: executor.submit(abs, -2),
            lambda: list(executor.map(abs, ITEMS)),
            lambda: pending.result(),
            lambda: pending.exception(),
            lambda: executor.shutdown(),
        )
        gate.write_bytes(b"go")
        assert pending.result() == b"go"
        assert done.result() == 1
    assert told[-1] == "nothing"
    assert all(each.startswith("RuntimeError: the ") for each in told[:-1])
    assert all(f"belongs to process {os.getpid()}" in each for each in told[:-1])
    with penstock.Run(tmp_path / "run", budget=BUDGET) as run:
        stored = run.stage("first", job)
        told = _in_a_child(
            lambda: run.stage("second", job), lambda: run.publish(stored), lambda: run.try_out(job)
        )
        assert not (tmp_path / "run" / "second").exists()
        assert not (tmp_path / "run" / ".penstock" / "second").exists()
    assert len(told) == 3
    assert all(each.startswith("UsageError: the run belongs to process") for each in told)
