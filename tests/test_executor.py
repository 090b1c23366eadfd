"""The executor: where it must be as ProcessPoolExecutor is, both are asked; then what only it promises."""

import asyncio
import concurrent.futures as cf
import gc
import os
import pickle
import resource
import signal
import threading
import time
import traceback
from concurrent.futures import ProcessPoolExecutor, as_completed, wait
from multiprocessing import get_context
from pathlib import Path

import drawing
import executor_programs as programs
import pytest
from executor_programs import MiB, beside, left_of, python
from waiting import LIMIT, bytes_in, said, until

import penstock
from penstock import events

FORKSERVER = get_context("forkserver")


def ours(**options):
    return penstock.Executor(2, budget=beside(250), **options)


def theirs(**options):
    return ProcessPoolExecutor(2, mp_context=FORKSERVER, **options)


def files_of(paths):
    """The files among these paths, when everything that nobody holds any more is gone."""
    gc.collect()
    return [path for path in paths if path.is_file()]


both = pytest.mark.parametrize("make", [ours, theirs])


def descriptors():
    """What this process has open that is no file."""
    gc.collect()
    names = [os.readlink(each) for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]  # noqa: PTH115
    return sorted(name for name in names if name.startswith(("socket:", "anon_inode:", "/memfd:")))


@pytest.mark.parametrize("left", [0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16])
def test_no_descriptor_left_is_told_as_that(left):
    """Wherever it is met: a module, the temporary folder, the fork server, the kernel's files."""
    assert penstock.Executor  # loaded when it is first asked for
    open_before = descriptors()
    lowest = os.open("/", os.O_RDONLY)
    os.close(lowest)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + left, before[1]))
    try:
        with pytest.raises(penstock.errors.PenstockError, match="ulimit -n says how many may be") as raised:
            ours()
        assert "journal" not in str(raised.value)  # an executor has none
        assert "the same command" not in str(raised.value)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    del raised
    assert descriptors() == open_before


# --------------------------------------------------------------------------- as the standard library


@both
def test_results_and_arguments(make):
    with make() as pool:
        assert pool.submit(programs.describe, 1, "two", key=3).result() == ((1, "two"), {"key": 3})
        assert pool.submit(programs.nothing).result() is None
        assert list(pool.map(pow, range(20), [2] * 20)) == [n * n for n in range(20)]
        assert list(pool.map(programs.nothing_of, range(3))) == [None] * 3
        assert list(pool.map(pow, [], [])) == []


@both
def test_an_exception_has_its_type_arguments_and_attributes(make):
    with make() as pool:
        error = pool.submit(programs.raises, 7).exception()
        assert type(error) is programs.Refused
        assert error.args == ("refused", 7)
        assert error.code == 7
        with pytest.raises(programs.Refused):
            pool.submit(programs.raises, 7).result()
        told = "".join(traceback.format_exception(error))
        assert "in raises" in told  # where in the worker
        results = pool.map(programs.raises_from, [1, 2, 0, 3])
        assert [next(results), next(results)] == [1, 2]
        with pytest.raises(ZeroDivisionError):
            next(results)
        assert pool.submit(programs.nothing).result() is None


@both
def test_an_exit_or_interrupt_in_a_call_is_its_own(make):
    with make() as pool:
        with pytest.raises(SystemExit):
            pool.submit(programs.exits, 3).result()
        with pytest.raises(KeyboardInterrupt):
            pool.submit(programs.interrupts).result()
        assert pool.submit(abs, -1).result() == 1


@both
def test_what_cannot_be_pickled_fails_its_own_future(make):
    with make() as pool:
        wrong = (TypeError, AttributeError, pickle.PicklingError)
        assert isinstance(pool.submit(abs, threading.Lock()).exception(LIMIT), wrong)
        assert isinstance(pool.submit(programs.a_lock).exception(LIMIT), wrong)
        with pytest.raises(wrong):
            list(pool.map(programs.describe, [threading.Lock()]))
        assert pool.submit(abs, -1).result() == 1


@both
def test_cancel_before_it_begins(make, tmp_path):
    with make() as pool:
        gate = tmp_path / "gate"
        running = [pool.submit(programs.until_there, str(gate)) for _ in range(2)]
        waiting = [pool.submit(programs.until_there, str(gate)) for _ in range(20)]
        until(lambda: all(future.running() for future in running))
        assert waiting[-1].cancel()
        assert waiting[-1].cancelled()
        assert not running[0].cancel()
        gate.touch()
        assert len(wait(waiting, LIMIT).done) == 20
        assert {future.cancelled() for future in as_completed(waiting)} == {True, False}
        with pytest.raises(cf.CancelledError):
            waiting[-1].result()
        assert waiting[0].result() == 1


@both
def test_shutdown_with_cancel_futures(make, tmp_path):
    gate = tmp_path / "gate"
    pool = make()
    futures = [pool.submit(programs.until_there, str(gate)) for _ in range(30)]
    until(futures[0].running)
    pool.shutdown(wait=False, cancel_futures=True)
    gate.touch()
    until(lambda: all(future.done() for future in futures))
    assert futures[0].result() == 1
    assert futures[-1].cancelled()


@both
def test_no_call_after_shutdown(make):
    pool = make()
    future = pool.submit(abs, -1)
    pool.shutdown()
    pool.shutdown()
    assert future.result() == 1
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(abs, -1)
    with pytest.raises(RuntimeError):
        pool.map(abs, [1])


@both
def test_map_waits_no_longer_than_its_timeout(make, tmp_path):
    with make() as pool:
        results = pool.map(programs.until_there, [str(tmp_path / "gate")], timeout=0.2)
        with pytest.raises(TimeoutError):
            next(results)
        (tmp_path / "gate").touch()
        with pytest.raises(ValueError, match="chunksize"):
            pool.map(abs, [1], chunksize=0)


@both
def test_results_of_map_may_be_taken_after_the_end(make):
    with make() as pool:
        results = pool.map(abs, range(-3000, 0))
    assert sum(results) == 3000 * 3001 // 2


def test_workers_write_where_we_write(capfd):
    with ours() as pool:
        pool.submit(print, "from a worker", flush=True).result()
    assert capfd.readouterr().out == "from a worker\n"


@both
def test_wait_as_completed_and_callbacks(make):
    seen = []
    with make() as pool:
        futures = [pool.submit(abs, -n) for n in range(50)]
        for future in futures:
            future.add_done_callback(lambda each: seen.append(each.result()))
        _, left = wait(futures, return_when=cf.ALL_COMPLETED)
        assert not left
        assert {each.result() for each in as_completed(futures)} == set(range(50))
        first, _ = wait([pool.submit(programs.raises, 1), pool.submit(abs, 1)], LIMIT, cf.FIRST_EXCEPTION)
        assert first
    assert sorted(seen) == list(range(50))


@both
def test_a_callback_may_submit(make):
    ended = threading.Event()
    with make() as pool:

        def again(future):
            if future.result() < 5:
                pool.submit(programs.add, future.result(), 1).add_done_callback(again)
            else:
                ended.set()

        pool.submit(programs.add, 0, 1).add_done_callback(again)
        assert ended.wait(LIMIT)


@both
def test_made_and_used_in_threads(make):
    seen = []

    def use():
        with make() as pool:
            seen.extend(pool.map(abs, range(-5, 0)))

    thread = threading.Thread(target=use)
    thread.start()
    thread.join(LIMIT)
    assert seen == [5, 4, 3, 2, 1]
    with make() as pool:
        threads = [
            threading.Thread(target=lambda: seen.append(sum(pool.map(abs, range(100))))) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT)
    assert seen[5:] == [4950] * 4


@both
def test_in_an_event_loop(make):
    async def main(pool):
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(pool, abs, -n) for n in range(5)))

    with make() as pool:
        assert asyncio.run(main(pool)) == [0, 1, 2, 3, 4]


@both
def test_the_initializer_runs_in_every_worker(make):
    with make(initializer=programs.remember, initargs=(17,)) as pool:
        assert set(pool.map(programs.remembered, range(20))) == {17}
    with pytest.raises(TypeError):
        make(initializer=3)


def test_modules_are_imported_before_the_first_worker():
    with ours(modules=["colorsys", "no_such_module"]) as pool:
        assert pool.submit(programs.has_module, "colorsys").result()


@both
def test_forgotten_it_finishes_and_leaves_no_worker(make):
    pool = make()
    workers = {pool.submit(os.getpid).result()}
    future = pool.submit(abs, -2)
    del pool
    gc.collect()
    assert future.result(LIMIT) == 2
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))


@pytest.mark.parametrize("pool", programs.POOLS)
def test_the_interpreter_finishes_what_was_submitted(pool, tmp_path):
    out = python(tmp_path, programs.EXIT_WITHOUT_SHUTDOWN, pool)
    assert out.returncode == 0, out.stderr
    assert said(out.stderr) == ""
    assert sorted(each.name for each in tmp_path.glob("done-*")) == [f"done-{n}" for n in range(6)]
    assert left_of(out) == []


# --------------------------------------------------------------------------- what only ours does


def test_a_script_needs_no_guard(tmp_path):
    out = python(tmp_path, programs.NO_GUARD)
    assert (out.returncode, said(out.stderr)) == (0, "")
    assert out.stdout == "[0, 2, 4] Point(3) True Odd(3) 7\n"


@pytest.mark.parametrize("pool", programs.POOLS)
def test_globals_of_the_main_script_are_one_namespace_in_a_worker(pool, tmp_path):
    out = python(tmp_path, programs.GLOBALS, pool)
    assert (out.returncode, said(out.stderr), out.stdout) == (0, "", "ok\n")


def test_a_global_bound_anew_is_sent_anew(tmp_path):
    out = python(tmp_path, programs.BOUND_ANEW)
    assert (out.returncode, said(out.stderr)) == (0, "")
    assert out.stdout == "[1, 1] [2, 2] [3, 3] 3 7\n"


def test_lambdas_and_closures():
    factor = 3
    with ours() as pool:
        assert list(pool.map(lambda n: factor * n, range(5))) == [0, 3, 6, 9, 12]
        assert pool.submit(lambda: [lambda: factor]).result()[0]() == 3


def test_an_exception_that_does_not_unpickle_keeps_its_class():
    with ours() as pool:
        error = pool.submit(programs.raises_awkward).exception()
        assert type(error) is programs.Awkward
        assert (str(error), error.b) == ("1 and 2", 2)
        assert "in raises_awkward" in str(error.__cause__)
        assert not hasattr(error, "lock")
        error = pool.submit(programs.raises_hopeless).exception()
        assert "Hopeless" in str(error)
        error = pool.submit(programs.does_not_load).exception()
        assert isinstance(error, ValueError)
        assert "cannot be loaded here" in error.__notes__[-1]
        large = pool.submit(programs.raises_much).exception()
        assert len(large.args[0]) == 1 << 20
        assert pool.submit(abs, -1).result() == 1


def test_map_reads_its_input_only_as_results_are_taken():
    read = []

    def numbers():
        for n in range(10_000):
            read.append(n)
            yield n

    with ours() as pool:
        results = pool.map(abs, numbers(), buffersize=8)
        assert len(read) == 8
        assert [next(results) for _ in range(20)] == list(range(20))
        assert len(read) <= 28
        results.close()
        results = pool.map(abs, numbers())
        assert next(results) == 0
        assert len(read) < 28 + 2000


def test_map_reads_less_ahead_where_arguments_are_large():
    with ours() as pool:
        folder = pool._service.folder.path
        results = pool.map(len, (bytes([n]) * (8 * MiB) for n in range(200)))
        for _ in range(20):
            assert next(results) == 8 * MiB
            assert bytes_in(folder) < 80 * MiB  # a call's file may go while we look
        results.close()


@pytest.mark.parametrize("how", ["map", "as_completed"])
def test_large_results_do_not_pile_up_here(how, tmp_path):
    out = python(tmp_path, programs.LARGE_RESULTS, how)
    assert out.returncode == 0, out.stderr
    assert int(out.stdout) < 40, "MiB that the parent grew by"


def test_a_large_result_is_the_same_object_while_somebody_holds_it():
    with ours() as pool:
        future = pool.submit(programs.ones, 1 * MiB)
        first = future.result()
        assert future.result() is first


def test_results_outlive_the_executor_and_their_files_go_with_them():
    with ours() as pool:
        futures = [pool.submit(bytes, MiB) for _ in range(3)]
        folder = pool._service.folder.path
    del pool
    gc.collect()
    assert [len(future.result()) for future in futures] == [MiB] * 3
    assert len(list(folder.glob("scratch/*"))) == 3
    futures.pop()
    gc.collect()
    assert len(list(folder.glob("scratch/*"))) == 2
    futures.clear()
    gc.collect()
    assert not folder.exists()


def test_cancelled_and_done_calls_leave_no_file():
    with ours() as pool:
        folder = pool._service.folder.path
        futures = [pool.submit(len, bytes(MiB)) for _ in range(30)]
        for future in futures[10:]:
            future.cancel()
        wait(futures, LIMIT)
        assert futures[0].result() == MiB
        del future
        futures.clear()
        until(lambda: not files_of(folder.rglob("[!.]*")))


def test_a_cancelled_call_in_a_batch_that_is_tried_again(tmp_path):
    """The batch crashes; its cancelled call must not be begun twice."""
    with ours() as pool:
        gate = tmp_path / "gate"
        blocked = [pool.submit(programs.until_there, str(gate)) for _ in range(2)]
        calls = [pool.submit(programs.dies_once, str(tmp_path / f"died-{n}")) for n in range(4)]
        calls[1].cancel()
        gate.touch()
        assert [call.result(LIMIT) for call in (calls[0], *calls[2:])] == ["alive"] * 3
        assert calls[1].cancelled()
        assert all(each.result() for each in blocked)


def test_a_call_too_large_fails_alone():
    with ours() as pool:
        futures = [pool.submit(programs.holds, 2000 if n == 7 else 5) for n in range(20)]
        for n, future in enumerate(futures):
            if n != 7:
                assert future.result(LIMIT) == 5
        with pytest.raises(penstock.ItemTooLarge, match=r"the call holds\(2000\) needs more than"):
            futures[7].result(LIMIT)
        assert pool.submit(programs.holds, 5).result(LIMIT) == 5


def test_a_call_that_crashes_each_time_fails_alone(tmp_path):
    with ours() as pool:
        crashing = pool.submit(os.abort)
        others = [pool.submit(abs, -n) for n in range(20)]
        assert [other.result(LIMIT) for other in others] == list(range(20))
        with pytest.raises(penstock.WorkerDied, match=r"the call abort\(\).*SIGABRT"):
            crashing.result(LIMIT)
        once = pool.submit(programs.dies_once, str(tmp_path / "died"))
        assert once.result(LIMIT) == "alive"


def test_a_call_over_its_timeout_fails_alone():
    with ours(timeout=1.5) as pool:
        slow = pool.submit(time.sleep, 2 * LIMIT)
        assert pool.submit(abs, -3).result(LIMIT) == 3
        with pytest.raises(penstock.Stalled, match=r"timeout of 1\.5 s"):
            slow.result(LIMIT)


def test_workers_that_leak_are_replaced():
    told = []
    with penstock.Executor(1, budget=beside(150), observers=[told.append]) as pool:
        assert sum(pool.map(programs.leaks, range(40))) == 40
    ended = [event for event in told if isinstance(event, events.WorkerEnded)]
    assert [event for event in ended if event.why == "recycled"]


def test_declared_memory_bounds_what_runs_at_once(tmp_path):
    with penstock.Executor(2, budget=beside(250), memory="120MiB") as pool:
        assert max(pool.map(programs.at_once, [str(tmp_path)] * 6)) == 1


@pytest.mark.parametrize("shut", [0, 7, 150, 299])
def test_no_result_waits_for_a_call_that_is_long(shut, tmp_path):
    gate = tmp_path / "gate"
    with ours() as pool:
        assert list(pool.map(abs, range(100))) == list(range(100))  # all calls so far were short
        futures = [
            pool.submit(programs.wait_for, gate) if n == shut else pool.submit(abs, -n) for n in range(300)
        ]
        for n, future in enumerate(futures):
            if n != shut:
                assert future.result(LIMIT) == n
        assert not futures[shut].done()
        gate.touch()
        assert futures[shut].result(LIMIT) == str(gate)


def test_calls_may_wait_for_one_another(tmp_path):
    with penstock.Executor(3, budget=beside(300)) as pool:
        assert list(pool.map(abs, range(300))) == list(range(300))
        for number in range(2):
            folder = tmp_path / str(number)
            folder.mkdir()
            futures = [pool.submit(programs.meet, folder, 3, n) for n in range(3)]
            assert [future.result(LIMIT) for future in futures] == [0, 1, 2]


def test_many_tiny_calls():
    with ours() as pool:
        assert sum(pool.map(abs, range(20_000))) == sum(range(20_000))
        assert sum(f.result() for f in [pool.submit(abs, n) for n in range(3000)]) == sum(range(3000))


def test_a_budget_too_small_is_refused_at_once():
    with pytest.raises(penstock.NoBudget, match="smallest budget"):
        penstock.Executor(budget="2MiB")
    with pytest.raises(penstock.UsageError, match="workers"):
        penstock.Executor(workers=0)


def test_an_initializer_that_raises_is_told_at_once():
    with pytest.raises(penstock.FunctionRaised, match="no licence"):
        ours(initializer=programs.no_licence)


def test_the_environment_says_budget_and_workers(monkeypatch):
    monkeypatch.setenv("PENSTOCK_BUDGET", "2MiB")
    with pytest.raises(penstock.NoBudget):
        penstock.Executor()
    monkeypatch.setenv("PENSTOCK_BUDGET", "1GiB")
    monkeypatch.setenv("PENSTOCK_WORKERS", "1")
    with penstock.Executor() as pool:
        assert len(set(pool.map(programs.where, range(20)))) == 1
    monkeypatch.setenv("PENSTOCK_WORKERS", "many")
    with pytest.raises(penstock.UsageError, match="PENSTOCK_WORKERS"):
        penstock.Executor()


def test_gathering_more_than_the_budget_is_told_before_the_kernel_must(tmp_path):
    out = python(tmp_path, programs.GATHERS)
    assert out.returncode == 0, out.stderr
    assert "this process itself" in out.stdout
    assert "Take them one by one" in out.stdout


def test_ctrl_c_ends_the_calls_too(tmp_path):
    program = programs.start(tmp_path, programs.INTERRUPTED)
    until((tmp_path / "began").exists)
    program.send_signal(signal.SIGINT)
    out, told = program.communicate(timeout=LIMIT)  # the calls last far longer
    assert program.returncode == 7, told
    assert not list(tmp_path.glob("done-*"))
    assert out.split() == ["interrupted"]


def test_large_arrays_are_written_once_and_mapped():
    import numpy as np

    array = np.arange(4 * MiB // 8)
    turned = np.asfortranarray(np.arange(MiB, dtype="f4").reshape(512, -1))
    with ours() as pool:
        folder = pool._service.folder.path
        sums = [pool.submit(programs.total, array, turned) for _ in range(20)]
        assert bytes_in(folder) < 9 * MiB
        expected = (array.sum(), turned.sum(), True, False)
        assert {each.result() for each in sums} == {expected}
        array[0] = 5  # seen by the calls after it
        assert pool.submit(programs.total, array, turned).result()[0] == expected[0] + 5
        assert pool.submit(programs.total, array[::2], turned[1:]).result()[0] == array[::2].sum()
        assert list(pool.map(programs.item_of(array), [0, 1, 2])) == [5, 1, 2]
        del array, turned, sums
        until(lambda: not files_of(folder.glob("[!.]*")))


def test_what_a_call_needs_stays_while_it_waits(tmp_path):
    """The function's file and its arrays, though nobody holds the results of ``map``."""
    import numpy as np

    gate = tmp_path / "gate"
    with ours() as pool:
        first = [pool.submit(programs.until_there, str(gate)) for _ in range(2)]
        told = []
        ahead = pool.ahead(programs.item_of(np.arange(MiB)), ((n,) for n in range(5)), on_done=told.append)
        del ahead
        gc.collect()
        gate.touch()
        until(lambda: len(told) == 5)
        assert sorted(future.result() for future in told) == [0, 1, 2, 3, 4]
        assert all(future.result() for future in first)


def test_observers_hear_the_engine():
    told = []
    with ours(observers=[told.append]) as pool:
        pool.submit(abs, 1).result()
    assert {"worker_started", "batch_done"} <= {event.kind for event in told}


def test_an_executor_in_a_fork_of_its_owner_removes_nothing(tmp_path):
    out = python(tmp_path, programs.FORKS)
    assert (out.returncode, out.stdout) == (0, "1048576\n"), out.stderr


# --------------------------------------------------------------------------- random numbers


def test_what_an_initializer_seeds_is_seeded_for_the_calls_of_its_worker():
    def drawn(make):
        with make(1, initializer=drawing.seed_both, initargs=(7,)) as pool:
            return list(pool.map(drawing.draw_both, range(30)))

    expected = drawn(lambda *words, **more: ProcessPoolExecutor(*words, mp_context=FORKSERVER, **more))
    assert len(set(expected)) == 30
    assert drawn(lambda *words, **more: penstock.Executor(*words, budget=beside(250), **more)) == expected


def test_no_two_executors_draw_the_same():
    drawn = set()
    for _ in range(2):
        with ours() as pool:
            drawn |= set(pool.map(drawing.draw_both, range(5)))
    assert len(drawn) == 10
