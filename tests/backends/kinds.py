"""Kinds of memory, one a function: of so many MiB, all there at once, kept for so many seconds."""

import ctypes
import fcntl
import mmap
import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

MiB = 1 << 20
PAGE = 4096
_F_SETPIPE_SZ = 1031
FOLDER = "PENSTOCK_TEST_TMPFS"
"""Environment variable: a folder on a tmpfs."""
FILE = "PENSTOCK_TEST_FILE"
"""Environment variable: a file of at least as many MiB on a disk."""


def pour(descriptor, mib):
    """Write so many MiB into a file."""
    for _ in range(mib):
        os.write(descriptor, b"x" * MiB)


def libc():
    """The C library, for System V segments."""
    library = ctypes.CDLL(None, use_errno=True)
    library.shmat.restype = ctypes.c_void_p
    library.shmdt.argtypes = [ctypes.c_void_p]
    return library


def anonymous(mib, seconds):
    held = bytearray(b"x") * (mib * MiB)
    time.sleep(seconds)
    del held


def memfd(mib, seconds):
    descriptor = os.memfd_create("kind")
    pour(descriptor, mib)
    time.sleep(seconds)
    os.close(descriptor)


def memfd_in_flight(mib, seconds):
    """In nobody's table of descriptors: only in the queue of a socket."""
    here, there = socket.socketpair()
    descriptor = os.memfd_create("kind")
    pour(descriptor, mib)
    socket.send_fds(here, [b"x"], [descriptor])
    os.close(descriptor)
    time.sleep(seconds)
    here.close()
    there.close()


def shm_unlinked(mib, seconds):
    path = f"/dev/shm/penstock-kind-{os.getpid()}"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    Path(path).unlink()
    pour(descriptor, mib)
    time.sleep(seconds)
    os.close(descriptor)


def shm_closed(mib, seconds):
    """A name in a folder that is memory, which nobody holds open."""
    in_folder("/dev/shm", mib, seconds)


def tmpfs(mib, seconds):
    in_folder(os.environ[FOLDER], mib, seconds)


def in_folder(folder, mib, seconds):
    path = f"{folder}/penstock-kind-{os.getpid()}"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
        pour(descriptor, mib)
        os.close(descriptor)
        time.sleep(seconds)
    finally:
        Path(path).unlink()


def sysv(mib, seconds):
    """A segment that nobody has attached."""
    c = libc()
    segment = c.shmget(0, mib * MiB, 0o1600)
    place = c.shmat(segment, None, 0)
    ctypes.memset(place, 1, mib * MiB)
    c.shmdt(place)
    time.sleep(seconds)
    c.shmctl(segment, 0, None)


def sysv_attached(mib, seconds):
    c = libc()
    segment = c.shmget(0, mib * MiB, 0o1600)
    place = c.shmat(segment, None, 0)
    c.shmctl(segment, 0, None)
    ctypes.memset(place, 1, mib * MiB)
    time.sleep(seconds)
    c.shmdt(place)


def shared_by_two(mib, seconds):
    pages = mmap.mmap(-1, mib * MiB)
    for at in range(mib):
        pages[at * MiB : (at + 1) * MiB] = b"x" * MiB
    child = os.fork()
    if child == 0:
        sum(pages[at] for at in range(0, mib * MiB, PAGE))
        time.sleep(seconds)
        os._exit(0)
    os.waitpid(child, 0)
    pages.close()


def parent_and_forks(mib, seconds):
    held = bytearray(b"x") * (mib * MiB)
    children = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            time.sleep(seconds)
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    del held


def pipes(mib, seconds):
    ends = []
    for _ in range(mib):
        here, there = os.pipe()
        fcntl.fcntl(there, _F_SETPIPE_SZ, MiB)
        os.write(there, b"x" * MiB)
        ends += [here, there]
    time.sleep(seconds)
    for end in ends:
        os.close(end)


def daemon(mib, seconds):
    """A process that left its session and its parent."""
    here, there = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork() == 0:
            held = bytearray(b"x") * (mib * MiB)
            os.write(there, b"1")
            time.sleep(seconds)
            del held
        os._exit(0)
    os.waitpid(child, 0)
    os.close(there)
    os.read(here, 1)
    time.sleep(seconds)
    os.close(here)


def daemon_without_environment(mib, seconds):
    """The same, running another program that was told nothing."""
    here, there = os.pipe()
    os.set_inheritable(there, True)
    program = (
        f"import os, time; held = bytearray(b'x') * ({mib} << 20); os.write({there}, b'1'); "
        f"time.sleep({seconds})"
    )
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork() == 0:
            os.execve(sys.executable, [sys.executable, "-I", "-S", "-c", program], {})
        os._exit(0)
    os.waitpid(child, 0)
    os.close(there)
    os.read(here, 1)
    time.sleep(seconds)
    os.close(here)


def file_mapped(mib, seconds):
    file = os.open(os.environ[FILE], os.O_RDONLY)
    pages = mmap.mmap(file, mib * MiB, prot=mmap.PROT_READ)
    sum(pages[at] for at in range(0, mib * MiB, PAGE))
    time.sleep(seconds)
    pages.close()
    os.close(file)


def file_written(mib, seconds):
    path = f"{os.environ[FILE]}.written"
    file = os.open(path, os.O_WRONLY | os.O_CREAT)
    pour(file, mib)
    os.close(file)
    time.sleep(seconds)
    Path(path).unlink()


def files_looked_at(mib, seconds):
    """Names that are not there: the kernel remembers some 230 bytes of each, and gives them back."""
    for number in range(mib * 2000):
        with suppress(FileNotFoundError):
            os.stat(f"{os.environ[FILE]}-{'x' * 40}-{number}")  # noqa: PTH116
    time.sleep(seconds)


HELD = (
    anonymous, memfd, memfd_in_flight, shm_unlinked, shm_closed, tmpfs, sysv, sysv_attached, shared_by_two,
    parent_and_forks, pipes, daemon, daemon_without_environment,
)  # fmt: skip
CACHED = (file_mapped, file_written, files_looked_at)


NEIGHBOUR = """
import sys, time
while True:
    with open(sys.argv[1], "wb", buffering=0) as file:
        for _ in range(60):
            file.write(bytes(1 << 20))
            time.sleep(0.005)
"""


@contextmanager
def neighbour():
    """Memory of others, which comes and goes all the time: a file of the same user in /dev/shm."""
    path = f"/dev/shm/penstock-neighbour-{os.getpid()}"
    program = subprocess.Popen([sys.executable, "-I", "-S", "-c", NEIGHBOUR, path])
    try:
        yield
    finally:
        program.kill()
        program.wait()
        with suppress(FileNotFoundError):
            Path(path).unlink()


def take(name):
    """A job's function: one kind, for a while."""
    globals()[name](100, 0.4)
    return name
