"""Shared memory: all of ours, none of others', however it was made."""

import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from waiting import until

from penstock import proc
from penstock.budget import MiB
from penstock.held_memory import Shared, _union

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells these numbers")

SIZE = 60
"""MiB of each mix."""
PATIENCE = 60.0

PROGRAM = """
import ctypes, mmap, os, socket, sys
MB, N = 1 << 20, int(sys.argv[2])

def step(word="step"):  # wait until it was looked at
    print(word, flush=True)
    input()

def fill(fd):
    for k in range(N):
        os.write(fd, b"x" * MB)
        if k == N // 2:
            step()

def memfd():
    fill(os.memfd_create("x"))

def memfd_without_a_number_of_its_own():
    for _ in range(3):  # the same number again and again, for another file
        fd = os.memfd_create("x"); os.write(fd, b"x" * MB * 2); step(); os.close(fd)
    fill(os.memfd_create("x"))

def unlinked():
    fd = os.open(sys.argv[3], os.O_RDWR | os.O_CREAT); os.unlink(sys.argv[3]); fill(fd)

def closed():
    fd = os.open(sys.argv[3], os.O_RDWR | os.O_CREAT); fill(fd); step(); os.close(fd)

def mapped_only():
    fd = os.memfd_create("x"); os.ftruncate(fd, N * MB)
    global m
    m = mmap.mmap(fd, N * MB); os.close(fd); m[::4096] = b"x" * (N * 256)

def shared_anonymous():
    global m
    m = mmap.mmap(-1, N * MB); m[::4096] = b"x" * (N * 256)
    if os.fork() == 0:
        sum(m[::4096]); os.read(0, 1); os._exit(0)

def sysv(attached=False):
    libc = ctypes.CDLL(None); libc.shmat.restype = ctypes.c_void_p
    libc.shmat.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int]
    libc.shmdt.argtypes = [ctypes.c_void_p]
    number = libc.shmget(0, N * MB, 0o1600)
    place = libc.shmat(number, None, 0)
    ctypes.memset(place, 1, N * MB)
    if attached:
        libc.shmctl(number, 0, None)
    else:
        libc.shmdt(place)
    step("up")
    libc.shmctl(number, 0, None)

def sysv_attached():
    sysv(attached=True)

def nothing():
    pass

def slowly():
    fd = os.memfd_create("x")
    for k in range(4 * N):
        os.write(fd, b"x" * (MB // 4)); step()

globals()[sys.argv[1]]()
step("up")
"""


class Child:
    """A process that holds something, and waits to be looked at."""

    def __init__(self, kind, path="", size=SIZE):
        command = [sys.executable, "-c", PROGRAM, kind, str(size), str(path)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    @property
    def pids(self):
        return [self.process.pid, *proc.descendants(self.process.pid)]

    def go_on(self):
        self.process.stdin.write("\n")

    def until_up(self, look=lambda: None):
        """Let it go on from step to step, and look at each."""
        while (word := self.process.stdout.readline().strip()) == "step":
            look()
            self.go_on()
        assert word == "up"
        look()

    def end(self):
        with ExitStack() as stack:
            stack.callback(self.process.stdout.close)
            stack.callback(self.process.wait)
            self.process.stdin.close()


@contextmanager
def running(kind, path="", size=SIZE):
    child = Child(kind, path, size)
    try:
        yield child
    finally:
        child.process.kill()
        child.end()
        if path:
            Path(path).unlink(missing_ok=True)


def look(shared, *children, short=True):
    """What is held by these processes, the first of which is number 1."""
    processes = {pid: number for number, child in enumerate(children, 1) for pid in child.pids}
    resident = sum(proc.held_apart(pid)[1] for pid in processes)
    return shared.read(processes, resident, 0, short=short)


@contextmanager
def busy_neighbour(most=40):
    """Another process of this user that writes files into /dev/shm, and holds a memfd, all the time."""
    program = (
        "import os\nfd = os.memfd_create('n'); os.write(fd, b'x' * (30 << 20))\n"
        "print('up', flush=True)\nname = f'/dev/shm/penstock-test-neighbour-{os.getpid()}'\n"
        "while os.getppid() != 1:\n"
        "    with open(name, 'wb') as file:\n"
        f"        for _ in range({most}): file.write(b'x' * (1 << 20)); file.flush()\n"
        "    os.unlink(name)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline().strip() == "up"
        yield process.pid
    finally:
        process.kill()
        process.communicate()
        Path(f"/dev/shm/penstock-test-neighbour-{process.pid}").unlink(missing_ok=True)


KINDS = [
    "memfd", "memfd_without_a_number_of_its_own", "unlinked", "closed", "mapped_only", "shared_anonymous",
    "sysv", "sysv_attached", "slowly", "nothing",
]  # fmt: skip


@pytest.mark.parametrize("busy", [False, True], ids=["alone", "beside a busy neighbour"])
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_counts_once_and_no_neighbour(kind, busy):
    path = f"/dev/shm/penstock-test-{os.getpid()}" if kind in ("unlinked", "closed") else ""
    with ExitStack() as stack:
        if busy:
            stack.enter_context(busy_neighbour())
        child = stack.enter_context(running(kind, path))
        shared = Shared()
        child.until_up(lambda: look(shared, child))
        held = look(shared, child)
        expected = 0 if kind == "nothing" else SIZE
        assert abs(held.all / MiB - expected) <= 0.03 * expected + 2
        if kind not in ("mapped_only", "shared_anonymous", "nothing"):
            assert abs(held.by_owner[1] / MiB - expected) <= 0.03 * expected + 2
        assert held.beside == held.all, "nothing of it is mapped here"


def test_a_file_on_another_tmpfs_counts():
    others = [
        mount.point
        for mount in proc.mounts()
        if mount.type == "tmpfs" and mount.point != "/dev/shm" and os.access(mount.point, os.W_OK)
    ]
    if not others:
        pytest.skip("no other writable tmpfs is mounted here")
    path = os.path.join(others[0], f"penstock-test-{os.getpid()}")
    with running("closed", path) as child:
        shared = Shared()
        child.until_up(lambda: look(shared, child))
        assert abs(look(shared, child).all / MiB - SIZE) <= 2


def test_what_is_given_back_counts_no_more():
    path = f"/dev/shm/penstock-test-{os.getpid()}"
    with running("closed", path) as child:
        shared = Shared()
        child.until_up(lambda: look(shared, child))
        assert look(shared, child).all > (SIZE - 2) * MiB
        Path(path).unlink()
        assert look(shared, child).all == 0
    with running("memfd") as child:
        child.until_up(lambda: look(shared, child))
        assert look(shared, child).all > (SIZE - 2) * MiB
        child.go_on()
        child.process.wait()
        assert look(shared).all == 0


def test_a_file_is_ours_though_its_process_is_gone():
    path = f"/dev/shm/penstock-test-{os.getpid()}"
    with running("closed", path) as child:
        shared = Shared()
        child.until_up(lambda: look(shared, child))
        child.go_on()
        child.process.wait()
        held = look(shared)
        assert held.all > (SIZE - 2) * MiB
        Path(path).unlink()
        assert look(shared).all == 0


def test_what_two_hold_counts_once():
    shared = Shared()
    with running("memfd") as child:
        child.until_up(lambda: look(shared, child))
        with running("nothing") as second:
            second.until_up()
            handle = os.open(f"/proc/{child.process.pid}/fd/3", os.O_RDONLY)
            try:
                processes = {child.process.pid: 1, os.getpid(): 2}
                held = shared.read(processes, 0, 0, short=True)
            finally:
                os.close(handle)
        assert abs(held.all / MiB - SIZE) <= 2
        assert held.by_owner[1] == held.all
        assert held.by_owner.get(2, 0) == 0


def test_what_this_process_maps_is_counted_with_it():
    import mmap

    shared = Shared()
    with mmap.mmap(-1, 20 * MiB) as block:
        block[::4096] = b"x" * (20 * 256)
        own = proc.held_apart(os.getpid())[1]
        held = shared.read({os.getpid(): 0}, own, own, short=True)
        assert held.all >= 20 * MiB
        assert held.beside <= 2 * MiB


def test_what_lay_there_before_is_not_ours_though_it_is_opened():
    path = f"/dev/shm/penstock-test-before-{os.getpid()}"
    with open(path, "wb") as file:
        file.write(b"x" * (20 * MiB))
    try:
        before = Path(path).stat().st_ctime
        shared = Shared()
        shared._since = before + 1  # as if it had been there for long
        with open(path, "rb"):
            assert shared.read({os.getpid(): 1}, 0, 0, short=True).by_owner.get(1, 0) < MiB
    finally:
        Path(path).unlink()


def test_looking_costs_little_and_memory_that_is_short_is_worth_more():
    """Beside a neighbour who writes all the time: a budget of CPU, and no more."""
    with busy_neighbour(most=10), running("nothing") as child:
        child.until_up()
        shared = Shared()
        look(shared, child)
        shared._credit = -10.0
        before = shared.looks
        for _ in range(20):
            look(shared, child, short=False)
            shared._credit = -10.0
        assert shared.looks == before, "nothing is left to be spent"
        deadline = time.monotonic() + PATIENCE
        while shared.looks == before:
            look(shared, child, short=True)
            assert time.monotonic() < deadline


@pytest.mark.parametrize("kind", ["memfd", "mapped_only", "shared_anonymous", "closed"])
def test_much_is_looked_at_though_nothing_is_left_to_be_spent(kind, tmp_path):
    """Else a worker holds hundreds of MiB in the meantime, and nobody stops it."""
    path = f"/dev/shm/penstock-test-{os.getpid()}"
    with running(kind, path) as child:
        shared = Shared()
        held = 0

        def look_again():
            nonlocal held
            shared._credit = -10.0
            held = look(shared, child, short=False).all

        child.until_up(look_again)
        until(lambda: look_again() or held > (SIZE - 20) * MiB)


def test_what_is_heard_of_is_looked_at_before_it_is_closed():
    """A file that is open for a moment, between two readings."""
    from penstock.backends.sentinel import Sentinel

    shared, told = Shared(), threading.Event()
    look(shared)
    path = f"/dev/shm/penstock-test-heard-{os.getpid()}"

    def tell():
        shared.hear({os.getpid(): 1})
        told.set()

    sentinel = Sentinel(tell)
    try:
        if sentinel._events < 0:
            pytest.skip("no inotify here")
        with open(path, "wb", buffering=0) as file:
            file.write(b"x" * (8 * MiB))
            assert told.wait(PATIENCE)
        held = shared.read({os.getpid(): 1}, 0, 0)
        assert held.by_owner[1] >= 8 * MiB
    finally:
        sentinel.close()
        Path(path).unlink()
    sentinel.close()


def test_where_nothing_can_be_read_nothing_is_held(tmp_path):
    shared = Shared(tmp_path)
    held = shared.read({1: 1}, 0, 0, short=True)
    assert (held.all, held.beside, dict(held.by_owner)) == (0, 0, {})


@pytest.mark.parametrize(
    ("spans", "total"), [([], 0), ([(0, 5)], 5), ([(0, 5), (3, 8), (20, 21)], 9), ([(4, 9), (0, 20)], 20)]
)
def test_a_byte_that_is_mapped_twice_counts_once(spans, total):
    assert _union(spans) == total
