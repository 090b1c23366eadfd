"""Memory and locks that a script shares with forked children are shared with workers too, or refused."""

import ctypes
import mmap
import os
import sys
from multiprocessing import Pipe, get_context, shared_memory
from multiprocessing.sharedctypes import RawArray, RawValue
from pathlib import Path

import numpy
import pytest
from executor_programs import beside, python
from waiting import said

import penstock
from penstock import mapped, script
from penstock.pool import inherited
from penstock.pool.pickling import Sender, pack
from penstock.pool.spool import Folder

SHARES = """
import mmap, multiprocessing, os, sys
import numpy
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import shared_memory

raw = multiprocessing.RawArray("d", 8)
kept = {"half": numpy.frombuffer(raw)[::2]}
count, lock, queue = multiprocessing.Value("i", 0), multiprocessing.Lock(), multiprocessing.Queue()
memory = shared_memory.SharedMemory(create=True, size=64)
named = numpy.ndarray((8,), buffer=memory.buf)
named[:] = 0

class Table:
    rows = numpy.frombuffer(multiprocessing.RawArray("i", 4), dtype="i4")

def fill(n):
    kept["half"][n] = named[n] = out[n] = Table.rows[n] = n + 1
    late[n] = n + 1
    with count.get_lock():
        count.value += 1
    with lock:
        queue.put(n)
    return n

def main(make):
    global out, late
    out = numpy.memmap("out.dat", mode="w+", shape=(8,), dtype="f8")
    late = multiprocessing.RawArray("i", 4)
    with make() as pool:
        print(sum(pool.map(fill, range(4))))
    print(list(raw), named.tolist(), out.tolist(), Table.rows.tolist(), list(late), count.value)
    print(sorted(queue.get(timeout=60) for _ in range(4)), numpy.fromfile("out.dat").tolist())
    os.unlink("out.dat")
    memory.unlink()

def ours():
    import penstock
    return penstock.Executor(2, budget="400MiB")

def of_the_script():
    return ProcessPoolExecutor(2)

"""
FIRST = [1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0]
SHARED = f"""6
[1.0, 0.0, 2.0, 0.0, 3.0, 0.0, 4.0, 0.0] {FIRST} {FIRST} [1, 2, 3, 4] [1, 2, 3, 4] 4
[0, 1, 2, 3] {FIRST}
"""


def test_what_a_script_shares_is_shared_with_workers(tmp_path):
    done = python(tmp_path, SHARES + "main(ours)\n")
    assert done.stdout == SHARED, done.stderr


def test_the_same_with_a_guard_under_rescue(tmp_path):
    penstock_command = str(Path(sys.executable).parent / "penstock")
    command = [penstock_command, "exec", "--rescue", "--budget", "400MiB", "--", sys.executable]
    text = SHARES + 'if __name__ == "__main__":\n    main(of_the_script)\n'
    done = python(tmp_path, text, command=command)
    assert done.stdout == SHARED, done.stderr


REFUSED = """
import multiprocessing, threading
import penstock

used, lock, plain = multiprocessing.Queue(), multiprocessing.Lock(), threading.Lock()

def take(_):
    return used.get(timeout=60)

def guarded(_):
    with lock:
        return plain.locked()

if __name__ == "__main__":
    used.put(3)
    with penstock.Executor(2, budget="400MiB") as pool:
        print(str(pool.submit(take, 1).exception(timeout=60)).split(":")[0])
        print(pool.submit(guarded, 1).result())
"""


def test_a_queue_that_is_used_is_refused_and_a_lock_that_only_workers_share_is_told_of(tmp_path):
    done = python(tmp_path, REFUSED)
    assert done.stdout == (
        "a Queue that was created in a fork context cannot be handed to workers\nFalse\n"
    ), done.stderr
    assert said(done.stderr).startswith("penstock: guarded could not be sent with what it names")
    assert "uses lock as they have made it themselves" in done.stderr


def test_what_cannot_be_sent_is_named(tmp_path):
    text = """
    import threading
    import penstock
    count, over = 3, threading.Event()
    def told(_):
        return count, over.is_set()
    with penstock.Executor(1, budget="400MiB") as pool:
        print(*pool.submit(told, 1).exception(timeout=60).__notes__)
    """
    said = python(tmp_path, text).stdout
    assert said.startswith(
        "The call cannot be sent to a worker: told names over (Event). Make it in the function"
    )


# --------------------------------------------------------------------------- arguments


def send(connection, value):
    connection.send(value)


def write(array):
    array[:] = [7] * 4


def test_arguments_are_shared_where_they_can_be_nothing_else_and_copies_else():
    ours, theirs = Pipe()
    raw = RawArray("d", 4)
    view = numpy.frombuffer(raw)
    with penstock.Executor(1, budget=beside(250)) as pool:
        pool.submit(send, theirs, 3).result()
        assert ours.poll(60)
        assert ours.recv() == 3
        pool.submit(write, view).result()
        assert list(raw) == [0] * 4
        pool.submit(write, raw).result()
        assert list(raw) == [7] * 4


def a_connection():
    return Pipe()[0]


def test_a_connection_is_not_given_back_as_a_number_that_means_something_else():
    with penstock.Executor(1, budget=beside(250)) as pool, pytest.raises(TypeError, match="give back a Conn"):
        pool.submit(a_connection).result()


def test_loans_are_shared_by_calls_and_end_with_the_last(tmp_path):
    from penstock import handing

    folder, (one, _) = Folder(tmp_path), Pipe()
    sent, before = Sender(folder), len(handing._lent)
    pack(one, folder.path, sent)
    pack(one, folder.path, sent)
    held = sent.used()
    assert len(held) == 2
    assert len(handing._lent) == before + 1
    held.pop()
    assert len(handing._lent) == before + 1
    held.pop()
    assert len(handing._lent) == before


def test_a_lock_lives_as_long_as_the_call_that_was_sent_it(tmp_path):
    folder = Folder(tmp_path)
    sent = Sender(folder)
    lock = get_context("spawn").Lock()
    pack(lock, folder.path, sent)
    (lender,) = sent.used()
    assert any(each is lock for each in lender.kept)


# --------------------------------------------------------------------------- where memory lies


def test_shared_memory_is_found_by_where_it_lies(tmp_path):
    (tmp_path / "file").write_bytes(bytes(8192))
    with open(tmp_path / "file", "r+b") as file:
        shared = mmap.mmap(file.fileno(), 8192)
        private = mmap.mmap(file.fileno(), 8192, access=mmap.ACCESS_COPY)
    view = numpy.frombuffer(shared, "f8")[100:200][::-2]
    start, size = mapped.span(view)
    assert size == 98 * 8 + 8
    assert start == view.__array_interface__["data"][0] - 98 * 8
    around = mapped.around(start, size)
    assert around is not None
    with mapped.file_of(around) as descriptor:
        assert os.path.samestat(os.fstat(descriptor), (tmp_path / "file").stat())
    assert mapped.around(*mapped.span(numpy.frombuffer(private, "f8"))) is None
    assert mapped.around(*mapped.span(numpy.zeros(4))) is None


def test_what_is_shared_is_known_by_looking():
    memory = shared_memory.SharedMemory(create=True, size=64)
    try:
        view = numpy.ndarray((8,), buffer=memory.buf)
        assert inherited.is_shared(view)
        del view
    finally:
        memory.close()
        memory.unlink()
    assert inherited.is_shared(RawArray("d", 3))
    assert inherited.is_shared(RawValue(ctypes.c_int))
    assert inherited.is_shared(get_context("fork").Event())
    for each in (numpy.zeros(3), numpy.zeros(9)[3:], (ctypes.c_int * 3)(), 3, numpy.frombuffer(b"abc", "u1")):
        assert not inherited.is_shared(each)


def test_memory_that_workers_cannot_reach_is_refused(monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise PermissionError(1, "Operation not permitted")

    anonymous = numpy.frombuffer(mmap.mmap(-1, 4096), "f8")
    monkeypatch.setattr(mapped.os, "open", refuse)
    sent = Sender(Folder(tmp_path))
    with sent.inheriting.all(), pytest.raises(inherited.Unreachable, match="shared_memory, or in a file"):
        pack(anonymous, tmp_path, sent)


def test_what_a_module_shares_is_told_of_once(monkeypatch):
    told = []
    monkeypatch.setattr(script, "tell", told.append)
    module = type(sys)("of_the_users")
    module.TABLE, module.LOCK, module.n = RawArray("d", 3), get_context("fork").Lock(), 3
    monkeypatch.setitem(sys.modules, "of_the_users", module)
    inherited.tell_of_module("of_the_users")
    assert len(told) == 1
    assert told[0].startswith("workers import of_the_users anew, and have TABLE of their own")
    inherited.tell_of_module("json")
    assert len(told) == 1
