"""Functions that take from their process what our part of the work needs: they are named, nobody else is."""

import errno
import math
import mmap
import os
import resource
import stat
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest

import penstock
from penstock import worker_note as note
from penstock.engine.messages import Ready
from penstock.engine.worker.fitness import Fitness, Unfit, is_used_up
from penstock.engine.worker.main import Setup
from penstock.sinks import Parquet
from penstock.sources import Range

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="limits and /proc as Linux has them")
kept = []


def use_up():
    with suppress(OSError):
        while True:
            kept.append(os.open("/", os.O_RDONLY))


def in_a_thread():
    thread = threading.Thread(target=use_up)
    thread.start()
    thread.join()


def replace():
    null = os.open("/dev/null", os.O_RDWR)
    for number in range(3, 100):
        with suppress(OSError):
            os.fstat(number)
            os.dup2(null, number)


def limit(what):
    resource.setrlimit(what, (0, resource.getrlimit(what)[1]))


DEEDS = {
    3: (use_up, "no file descriptor left"),
    9: (in_a_thread, "no file descriptor left"),
    14: (lambda: os.closerange(3, 1000), "a descriptor of its own"),
    21: (replace, "a descriptor of its own"),
    26: (lambda: limit(resource.RLIMIT_FSIZE), "files of 0 B at most"),
    33: (lambda: limit(resource.RLIMIT_NOFILE), "no file descriptor left"),
}


def takes(item):
    """Items behind these write a file of their own, which fails where something was taken."""
    if item in DEEDS:
        DEEDS[item][0]()
    else:
        (penstock.share().folder / "mine").write_text("x" * 100)
    return {"item": item}


def take_all(items):
    return [takes(item) for item in items]


def rows_of(path):
    return pq.read_table(path).to_pylist()


@LINUX
@pytest.mark.parametrize(("function", "batched"), [(takes, False), (take_all, 6)])
def test_what_takes_from_its_worker_what_that_needs_is_set_aside_and_nobody_else(function, batched, tmp_path):
    job = penstock.Job(source=Range(40), function=function, batched=batched, into=Parquet(grain=6))
    report = job.run(tmp_path / "r", workers=2, set_aside=True, budget="500MiB")
    assert [each.item for each in report.set_aside] == list(DEEDS)
    for each in report.set_aside:
        assert DEEDS[each.item][1] in each.message
        assert each.reason == "died"
    rows = [row["item"] for path in sorted((tmp_path / "r").glob("*.parquet")) for row in rows_of(path)]
    assert rows == [item for item in range(40) if item not in DEEDS]
    assert penstock.verify(tmp_path / "r").ok


def leaks(item):
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    kept.extend(os.open("/", os.O_RDONLY) for _ in range(most // 8))
    return item


def leak_all(items):
    return [leaks(item) for item in items]


@LINUX
@pytest.mark.parametrize("function", [leaks, leak_all])
def test_descriptors_that_are_leaked_item_by_item_cost_workers_and_no_item(function):
    report = penstock.run(function, 40, batched=function is leak_all, workers=2, budget="400MiB")
    assert report.result == list(range(40))


def lowers(item):
    if item == 5:
        space = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (space + (30 << 20), resource.RLIM_INFINITY))
    if item > 5:
        mmap.mmap(-1, 80 << 20).close()  # an OSError where there is no room
        np.empty(80 << 20, np.uint8)  # a MemoryError
    return item


def lower_all(items):
    return [lowers(item) for item in items]


@LINUX
@pytest.mark.parametrize("function", [lowers, lower_all])
def test_a_limit_of_memory_that_an_item_sets_is_no_other_items(function):
    report = penstock.run(function, 40, batched=function is lower_all, workers=1, budget="500MiB")
    assert report.result == list(range(40))


def no_more(item):
    if item == 5:
        raise OSError(errno.ENFILE, os.strerror(errno.ENFILE))
    if item == 8:
        raise RuntimeError("can't start new thread")
    return item


def test_an_item_that_says_so_in_worker_after_worker_is_believed():
    report = penstock.run(no_more, 12, workers=1, budget="400MiB", set_aside=True)
    assert [(each.item, each.reason) for each in report.set_aside] == [(5, "raised"), (8, "raised")]
    assert "ENFILE" in report.set_aside[0].traceback or "open files" in report.set_aside[0].message


def hide(item):
    os.umask(0o777)
    return {"item": item}


def test_a_umask_of_the_function_is_none_of_our_files(tmp_path):
    penstock.Job(source=Range(8), function=hide, into=Parquet(grain=4)).run(tmp_path / "r", budget="500MiB")
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "r").glob("*.parquet")}
    mask = os.umask(0o077)
    os.umask(mask)
    assert modes == {0o666 & ~mask}


@pytest.mark.parametrize("clock", [-1e30, math.nan])
def test_a_clock_that_a_function_replaced_is_not_told(tmp_path, clock):
    def turns(item):
        if item % 4 == 2:
            time.perf_counter = time.monotonic = time.time = lambda: clock
        return {"item": item}

    job = penstock.Job(source=Range(8), function=turns, into=Parquet(grain=2))
    assert job.run(tmp_path / "r", budget="500MiB", workers=1).done == 8
    assert penstock.verify(tmp_path / "r").ok


def full_elsewhere(item):
    if item == 3:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/dev/shm/mine")
    return item


@LINUX
def test_a_full_disk_that_is_not_the_runs_is_the_items_own_matter(tmp_path):
    report = penstock.run(full_elsewhere, 6, set_aside=True, budget="400MiB", folder=tmp_path / "r")
    ((aside,)) = report.set_aside
    assert (aside.item, aside.reason) == (3, "raised")


# --------------------------------------------------------------------------- without processes


def test_a_descriptor_of_ours_that_is_closed_or_anothers_is_seen(tmp_path):
    end, other = os.pipe()
    fitness = Fitness((end, -1), own_process=True)
    assert fitness.lacks() == ""
    os.dup2(other, end)
    (tmp_path / "file").touch()
    assert fitness.lacks() == "", "both ends of a pipe are one file"
    with open(tmp_path / "file") as file:
        os.dup2(file.fileno(), end)
    assert fitness.lacks() == note.MUTED
    os.close(end)
    assert fitness.lacks() == note.MUTED
    assert fitness.is_mute()
    os.close(other)
    assert Fitness((end,), own_process=False).lacks() == "", "somebody's own process"


@contextmanager
def limited(what, most):
    before = resource.getrlimit(what)
    resource.setrlimit(what, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(what, before)


@LINUX
def test_limits_that_were_lowered_are_named():
    fitness = Fitness((0,), own_process=True)
    lowest = os.dup(0)
    os.close(lowest)
    with limited(resource.RLIMIT_NOFILE, lowest + 1):
        assert "no file descriptor left" in fitness.lacks()
        assert fitness.worn()
    with limited(resource.RLIMIT_FSIZE, 4096):
        assert "files of 4.0 KiB at most" in fitness.lacks()
    assert fitness.lacks() == ""


@LINUX
def test_who_is_short_of_memory_by_a_limit_that_was_there_before_is_excused():
    fitness = Fitness((0,), own_process=True)
    fitness.begin()
    short, other = MemoryError(), ValueError()
    assert fitness.excuse(short, first=False) is short
    with limited(resource.RLIMIT_AS, 1 << 46):
        assert fitness.excuse(short, first=True) is short, "it has set the limit itself"
        assert fitness.excuse(other, first=False) is other
        assert str(fitness.excuse(short, first=False)) == note.NARROWED
        with pytest.raises(Unfit, match="RLIMIT_AS"):
            fitness.blame(OSError(errno.ENOMEM, "no"), 7, fresh=False)
        fitness.begin()
        assert str(fitness.excuse(short, first=True)) == note.NARROWED
        fitness.prepared()
        assert fitness.excuse(short, first=False) is short, "the job itself wants it so"
    assert Fitness((0,), own_process=False).excuse(short, first=False) is short


@LINUX
def test_a_worker_that_has_no_memory_to_say_so_leaves_with_a_code():
    def answer(message):
        raise MemoryError

    fitness = Fitness((0,), own_process=True)
    worker = SimpleNamespace(prepare=lambda: Ready(0, 0, "", 0, 0), answer=answer, fitness=fitness)
    setup = SimpleNamespace(worker=lambda words, channel: worker)
    channel = SimpleNamespace(fileno=lambda: 0, send=lambda message: None, receive=lambda: None)
    with pytest.raises(MemoryError):
        Setup.serve(setup, channel, [])
    with limited(resource.RLIMIT_AS, 1 << 46), pytest.raises(SystemExit) as told:
        Setup.serve(setup, channel, [])
    assert told.value.code == note.NARROW


def test_what_was_used_up_before_an_item_is_not_its_fault():
    fitness = Fitness((0,), own_process=True)
    used_up, other = OSError(errno.EMFILE, "no"), ValueError("no")
    assert is_used_up(used_up)
    with pytest.raises(Unfit, match="has used up") as told:
        fitness.blame(used_up, 7, fresh=False)
    assert told.value.item == 7
    fitness.blame(used_up, 7, fresh=True)
    fitness.blame(other, 7, fresh=False)
    Fitness((0,), own_process=False).blame(used_up, 7, fresh=False)
