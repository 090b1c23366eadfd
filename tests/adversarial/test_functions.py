"""Functions of every kind, from programs of every kind, and results that cannot be kept."""

import functools
import importlib
import os
import sys
import warnings
from pathlib import Path

import pytest
from functions import Counter, shares
from programs import answers, beside, finished, python, run, start, write

import penstock
from penstock.budget import MiB
from penstock.sources import Range
from penstock.testing import misfortune as mf
from penstock.testing.misfortune import answer


def with_keyword(extra, item, *, more=0):
    return answer(item) + extra + more - 3


def test_lambda_closure_partial_method_object_class_and_builtin():
    captured = 5

    def closure(item):
        return answer(item) + captured - 5

    kinds = {
        "lambda": lambda item: answer(item),
        "closure": closure,
        "partial": functools.partial(with_keyword, 1, more=2),
        "method": Counter().method,
        "object": Counter(),
    }
    for kind, function in kinds.items():
        assert run(function, 12).set_aside == (), kind
    assert penstock.run(str, 5, budget=beside(150)).result == ["0", "1", "2", "3", "4"]
    assert penstock.run(bytearray().__class__, 3, budget=beside(150)).result == [
        bytearray(i) for i in range(3)
    ]


def test_a_function_that_is_too_large_names_what_it_captures():
    weights = os.urandom(20 * MiB)

    def heavy(item):
        return weights[item]

    with pytest.raises(penstock.errors.UsageError, match=r"captures 'weights' \(20.0 MiB\)"):
        penstock.run(heavy, 5, budget=beside(150))


class Listed:
    """A source that lists where its items are, as a million paths do."""

    def __init__(self, listing):
        self.listing = listing

    def __len__(self):
        return 3

    def read(self, start, stop):
        return [self.listing[item] for item in range(start, stop)]

    def fingerprint(self):
        return {"listing": str(len(self.listing))}


def test_a_source_may_list_more_than_a_function_may_capture():
    report = penstock.run(answer, Listed(bytes(range(3)) + os.urandom(20 * MiB)), budget=beside(250))
    assert report.result == [answer(item) for item in range(3)]


def test_what_is_too_large_to_send_is_named_function_or_source(monkeypatch):
    from penstock.runs import spec

    monkeypatch.setattr(spec, "_LARGEST_SOURCE", 18 * MiB)
    with pytest.raises(penstock.errors.UsageError, match=r"the source takes 20.0 MiB.* 18.0 MiB: a Listed"):
        penstock.run(answer, Listed(os.urandom(20 * MiB)), budget=beside(150))
    weights = os.urandom(17 * MiB)
    with pytest.raises(penstock.errors.UsageError, match=r"the function takes 17.0 MiB .*'weights'"):
        penstock.run(lambda item: weights[item], Listed(os.urandom(9 * MiB)), budget=beside(150))


def test_a_function_that_cannot_be_sent_says_what_to_do():
    import threading

    lock = threading.Lock()

    def locked(item):
        with lock:
            return item

    with pytest.raises(penstock.errors.UsageError, match="prepare"):
        penstock.run(locked, 5, budget=beside(150))


def test_no_items_and_one_item(tmp_path):
    empty = run(mf.Allocate(1 * MiB), 0)
    assert (empty.items, empty.done, empty.outcome) == (0, 0, "done")
    for into in ("collect", "parquet", "arrays", "files", "sum", "count"):
        penstock.Job(source=Range(0), function=answer, into=into).run(tmp_path / into, budget=beside(250))
    assert run(mf.Allocate(60 * MiB), 1).set_aside == ()
    plan = penstock.Job(source=Range(1), function=mf.Exit(1, (0,))).plan(budget=beside(150))
    assert plan.items == 1  # a job's only item is never tried


@pytest.mark.parametrize("folder", [None, "r"])
def test_a_result_that_cannot_be_kept_is_named(folder, tmp_path):
    folder = tmp_path / folder if folder else None
    job = penstock.Job(source=Range(20), function=mf.Unkeepable((6,)))
    with pytest.raises(penstock.errors.CannotKeep, match=r"item 6\b.*lock"):
        job.run(folder, budget=beside(150))
    report = job.run(folder, budget=beside(150), set_aside=True)
    assert [(each.item, each.reason) for each in report.set_aside] == [(6, "kept")]
    assert [each for each in report.result if not isinstance(each, Exception)] == answers(20, aside=(6,))


def test_a_temporary_run_keeps_anything_that_pickles_and_a_folder_does_not(tmp_path):
    assert penstock.run(complex, 3, budget=beside(150)).result == [0j, 1 + 0j, 2 + 0j]
    with pytest.raises(penstock.errors.CannotKeep, match="complex"):
        penstock.run(complex, 3, tmp_path / "r", budget=beside(150))


def test_prints_go_to_the_log_and_not_to_the_parents_streams(tmp_path, capfd):
    job = penstock.Job(source=Range(12), function=mf.Print(200))
    report = job.run(tmp_path / "r", budget=beside(150), output="log")
    assert list(report.result) == answers(12)
    assert capfd.readouterr() == ("", "")
    log = (tmp_path / "r" / ".penstock" / "workers.log").read_text()
    assert log.count("item 7 ...") == 4
    run(mf.Print(200), 12, output="log")
    assert capfd.readouterr() == ("", "")


def test_prints_are_shown_where_the_run_was_started_whole_prefixed_and_not_without_end(capfd):
    run(mf.Print(200), 12)
    shown, said = capfd.readouterr()
    assert said == ""
    lines = shown.splitlines()
    assert all(line.startswith("worker: ") for line in lines)
    assert sum("item 7 ..." in line for line in lines) == 4
    assert len(shown) < 600_000


def server_and_threads(folder):
    """Which process this worker was forked from, and the threads that it was told of."""
    told = penstock.share().threads
    return {"server": os.getppid(), "told": told, "libraries": os.environ.get("OMP_NUM_THREADS")}


def test_a_step_without_use_for_threads_needs_no_new_server(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cores = len(os.sched_getaffinity(0))
    with penstock.Run(tmp_path / "run", budget=beside(150)) as opened:
        opened.stage("many", penstock.Job(source=Range(5), function=answer))
        one = opened.step("one", server_and_threads, threads=1).facts
        two = opened.step("two", server_and_threads, threads=1).facts
        every = opened.step("every", server_and_threads).facts
    assert (one["told"], one["libraries"]) == (1, "1")
    assert two["server"] == one["server"]
    assert (every["told"], every["libraries"]) == (cores, str(cores))
    with pytest.raises(penstock.errors.UsageError, match="threads must be a number of at least 1, not 0"):
        penstock.Job(source=Range(5), function=answer, threads=0)


def test_the_share_is_told_and_does_not_change_with_workers(tmp_path):
    for workers in (1, 2):
        report = penstock.run(shares, 12, budget=(budget := beside(200)), workers=workers)
        memory, threads, left, attempt, folders = zip(*report.result, strict=True)
        assert all(0 < each <= budget for each in memory)
        assert set(threads) <= {1, os.cpu_count()}
        assert set(left) == {1}  # a fresh, empty folder for each item
        assert set(attempt) == {0}
        assert len(set(folders)) == 12
        assert not any(Path(folder).exists() for folder in folders)


# ------------------------------------------------------------------ programs

SCRIPT = """
import penstock

def double(item):
    return helper(item)

def helper(item):
    return CONSTANT * item

CONSTANT = 2
report = penstock.run(double, 50, budget="300MiB")
print(sum(report.result))
"""


def test_a_script_needs_no_main_guard(tmp_path):
    script = write(tmp_path, "script.py", SCRIPT)
    out, told = finished(python(script, cwd=tmp_path))
    assert (out, told) == ("2450\n", "")


def test_a_program_from_the_command_line_or_standard_input(tmp_path):
    out, _ = finished(start(sys.executable, "-c", SCRIPT, cwd=tmp_path))
    assert out == "2450\n"
    write(tmp_path, "script.py", SCRIPT)
    with open(tmp_path / "script.py") as script:
        out, _ = finished(start(sys.executable, "-", cwd=tmp_path, stdin=script))
    assert out == "2450\n"


def test_a_notebook_whose_cells_are_executed_in_main(tmp_path):
    notebook = """
    import sys, types
    main = types.ModuleType("__main__")
    main.__builtins__ = __builtins__
    sys.modules["__main__"] = main
    cells = ["import penstock", "scale = 3", "def cell(item):\\n    return scale * item",
             "report = penstock.run(cell, range(40), budget='300MiB')", "print(sum(report.result))",
             "def cell(item):\\n    return -scale * item",
             "print(sum(penstock.run(cell, range(40), budget='300MiB').result))"]
    for number, cell in enumerate(cells):
        exec(compile(cell, f"<ipython-input-{number}>", "exec"), main.__dict__)
    """
    out, _ = finished(python(write(tmp_path, "notebook.py", notebook), cwd=tmp_path))
    assert out == "2340\n-2340\n"


def test_standard_streams_that_are_closed(tmp_path):
    script = write(
        tmp_path, "script.py", SCRIPT.replace("print(", "open('out', 'w').write(str(").rstrip() + ")\n"
    )
    program = start("sh", "-c", f"exec {sys.executable} {script} <&- >&- 2>&-", cwd=tmp_path)
    finished(program)
    assert (tmp_path / "out").read_text() == "2450"


def test_a_program_in_a_thread_and_with_its_own_children(tmp_path):
    script = """
    import subprocess, sys, threading
    import penstock
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"])
    results = []
    def go():
        results.extend(penstock.run(lambda item: item * 2, 50, budget="300MiB").result)
    threads = [threading.Thread(target=go) for _ in range(2)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    print(sum(results), child.poll())
    child.kill(); child.wait()
    """
    out, told = finished(python(write(tmp_path, "script.py", script), cwd=tmp_path))
    assert (out, told) == ("4900 None\n", "")


def test_the_words_of_the_command_line_are_the_same_in_workers(tmp_path):
    script = """
    import sys
    import penstock
    print(penstock.run(lambda item: sys.argv[item], 3, budget="300MiB").result == sys.argv, sys.argv[1:])
    """
    out, _ = finished(python(write(tmp_path, "script.py", script), "one", "two", cwd=tmp_path))
    assert out == "True ['one', 'two']\n"


def unloads(item):
    for name in [name for name in sys.modules if name.split(".")[0] == "penstock"]:
        del sys.modules[name]
    return answer(item)


def reloads(item):
    if item == 7:
        for module in [sys.modules[name] for name in sys.modules if name.startswith("penstock.engine")]:
            importlib.reload(module)
    return answer(item)


@pytest.mark.parametrize("function", [unloads, reloads])
def test_modules_of_ours_that_a_function_unloads_or_loads_again(function):
    """Classes of messages are found by their names: else an answer would be no message, and be waited for."""
    report = run(function, 12, set_aside=True)
    assert [result for item, result in enumerate(report.result) if item != 7] == [
        answer(item) for item in range(12) if item != 7
    ]
    assert [each.item for each in report.set_aside] in ([], [7])


def test_a_function_that_makes_errors_of_warnings_leaves_nothing_to_warn_of(capfd):
    def strict(item):
        warnings.simplefilter("error")
        return answer(item)

    assert run(strict, 12).set_aside == ()
    assert "ResourceWarning" not in "".join(capfd.readouterr())
