"""What a supervised tree holds: all of its memory, none of others', and no mapped file."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from borrowing import borrower
from waiting import LIMIT, until

from penstock.budget import MiB
from penstock.discover import Gauge
from penstock.peaks import Mark, Peak
from penstock.proc import held, share
from penstock.supervise.common_pages import CommonPages
from penstock.supervise.tree import Process, Tree
from penstock.supervise.watch import TreeMemory

SIZE = 60
PROGRAM = """
import mmap, os, socket, sys
name, N, MB = sys.argv[2], int(sys.argv[3]), 1 << 20

def step(word="step"):  # wait until it was looked at
    print(word, flush=True)
    input()

def fill(descriptor):
    for _ in range(N):
        os.write(descriptor, b"x" * MB)

def memfd():
    fill(os.memfd_create("x"))

def unlinked():
    descriptor = os.open(name, os.O_RDWR | os.O_CREAT)
    os.unlink(name)
    fill(descriptor)

def closed():
    descriptor = os.open(name, os.O_RDWR | os.O_CREAT)
    fill(descriptor)
    step()
    os.close(descriptor)

def gone():  # who made it has ended, the file is there
    if (pid := os.fork()) == 0:
        closed()
        os._exit(0)
    os.waitpid(pid, 0)

def shared_by_three():
    global block
    block = mmap.mmap(-1, N * MB)
    block[::4096] = b"x" * (N * 256)
    for _ in range(2):
        if os.fork() == 0:
            sum(block[::4096])
            os.read(0, 1)
            os._exit(0)

def nothing():
    pass

step()
globals()[sys.argv[1]]()
step("held")
"""


@pytest.fixture
def name(tmp_path):
    path = Path(f"/dev/shm/penstock-test-{os.getpid()}")
    yield path
    path.unlink(missing_ok=True)


@contextmanager
def watched(*words):
    """A program that waits at each step until it was looked at, and who looks."""
    watch = TreeMemory(Gauge([]), tree=Tree())
    watch.group = None  # by adding up processes, wherever this runs
    watch.listen()
    child = subprocess.Popen(
        [sys.executable, "-c", *map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield watch, child
    finally:
        child.kill()
        child.communicate(timeout=LIMIT)
        watch.close()


def steps(watch, child, times=3):
    """Look some times at each step, until the last."""
    for line in child.stdout:
        for _ in range(times):
            watch.read()
        if line != "step\n":
            return line
        child.stdin.write("\n")
        child.stdin.flush()
    return ""


@pytest.mark.parametrize("mix", ["memfd", "unlinked", "closed", "gone", "shared_by_three"])
def test_shared_memory_counts_once_however_it_was_made(mix, name):
    with watched(PROGRAM, mix, name, SIZE) as (watch, child):
        child.stdout.readline()
        watch.read()
        before = watch.used
        child.stdin.write("\n")
        child.stdin.flush()
        steps(watch, child)
        until(lambda: watch.read() and (watch.used - before) >= (SIZE - 2) * MiB, program=child)
        assert watch.used - before < (SIZE + 12) * MiB
        assert watch.peak - before < (SIZE + 12) * MiB


def test_who_holds_a_memory_file_is_the_largest():
    with watched(PROGRAM, "memfd", "", SIZE) as (watch, child):
        other = subprocess.Popen([sys.executable, "-c", "kept = bytearray(20 << 20); input()"],
                                 stdin=subprocess.PIPE)  # fmt: skip
        try:
            steps(watch, child)
            until(lambda: watch.read() and watch.used > SIZE * MiB, program=child)
            assert watch.tree.largest(1)[0].pid == child.pid
        finally:
            other.communicate(b"\n")


def test_what_others_put_into_shared_memory_is_not_the_tree_s(name):
    with watched(PROGRAM, "nothing", "", SIZE) as (watch, child):
        steps(watch, child)
        before = watch.used
        with open(name, "wb") as file:
            for _ in range(SIZE):
                file.write(bytes(MiB))
                watch.read()
        assert watch.used - before < 2 * MiB
        assert watch.peak < before + 4 * MiB


FILES = """
import mmap, os, sys
print("step", flush=True); input()
with open(sys.argv[1], "rb") as file:
    kept = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    sum(kept[::4096])
    if sys.argv[2] == "closed":
        kept.close()
if sys.argv[2] == "end":
    os._exit(0)
print("held", flush=True); input()
"""


@pytest.mark.parametrize("then", ["kept", "closed", "end"])
def test_files_that_were_mapped_between_two_readings_are_no_peak(tmp_path, then):
    big = tmp_path / "big"
    big.write_bytes(bytes(256 * MiB))
    with watched(FILES, big, then) as (watch, child):
        ended = steps(watch, child) == ""
        if ended:
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            assert usage.ru_maxrss << 10 > 256 * MiB  # so the kernel says
            watch.ended(child.pid, None, usage.ru_maxrss << 10, usage.ru_minflt + usage.ru_majflt)
        # A sixteenth where faults alone must explain it, and where the kernel maps small pages. Huge pages
        # are counted for the whole machine: those of others meanwhile may have been ours.
        huge = sum(watch.tree.huge.read()) - sum(watch.tree.huge.begin)
        assert watch.peak < (40 + 256 / 16 + 2 * huge) * MiB


def test_a_child_in_its_parents_memory_counts_once_however_often_it_is_read(tmp_path):
    """Until it runs its program, which may take long on a busy machine; here until a pipe is opened."""
    watch = TreeMemory(Gauge([]), tree=Tree())
    watch.group = None
    with borrower(tmp_path, SIZE) as (_, child, pipe):
        until(lambda: watch.read() and child in watch.tree.processes)
        for at in range(5):
            watch.read()
            watch._common.read(at)
        process = watch.tree.processes[child]
        assert (process.inside, process.memory) == (True, 0)
        assert watch.used > SIZE * MiB
        with open(pipe, "w"):
            until(lambda: watch.read() and process.memory)
            assert "cat" in process.command
            assert process.highest < 20 * MiB
    watch.close()
    assert watch.peak < (SIZE + 40) * MiB


REWRITES = """
import os
kept = bytearray(b"x") * (60 << 20)
if os.fork() == 0:
    kept[::4096] = b"y" * (60 << 8)
    print("held", flush=True)
    os.read(0, 1)
    os._exit(0)
os.wait()
"""


def test_a_forked_child_that_wrote_to_all_its_pages_counts_whole():
    """As large as its parent, and nothing in common with it."""
    with watched(REWRITES) as (watch, child):
        assert child.stdout.readline() == "held\n"
        until(lambda: watch.read() and watch.used > 115 * MiB, program=child)
        assert watch.used < 160 * MiB


SPIKE = """
import os
print("step", flush=True); input()
bytearray(b"x") * (100 << 20)
os._exit(0)
"""


@pytest.mark.parametrize("between", [0, 1, 3])
def test_a_spike_after_the_last_reading_is_told_by_the_end(between):
    """So it is where readings come between the end and its being told, which find nobody."""
    with watched(SPIKE) as (watch, child):
        assert steps(watch, child) == ""
        before = watch.used
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        for _ in range(between):
            watch.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        watch.ended(child.pid, None, usage.ru_maxrss << 10, usage.ru_minflt + usage.ru_majflt)
    assert 98 * MiB < watch.peak - before < 110 * MiB
    (gone,) = watch.gone
    assert gone.reaped
    assert gone.most > 98 * MiB


@pytest.mark.parametrize(
    ("below", "most", "faults", "peak"),
    [
        (70, 70, 1 << 20, 200),
        (0, 70, 1 << 20, 265),
        (70, 150, 1 << 20, 345),
        (0, 150, 100 + 256 * 10, 210),  # only ten MiB of it were faulted in: the rest was a file
        (0, 150, 0, 200),
    ],
)
def test_the_kernel_tells_the_peak_of_a_process_or_of_a_child_of_its_own(below, most, faults, peak):
    """At the end of a process its children's peaks and its own are one number, and count files."""
    watch = TreeMemory(Gauge([]), tree=Tree())
    watch.tree.huge._file = None  # those of others do not come in between
    process = Process(os.getpid(), None, watch.tree.huge)
    process.memory, process.mark, process.below = 5 * MiB, 10 * MiB, below * MiB
    process._peak = Peak(Mark(0.0, 10 * MiB, 5 * MiB, 0, 100, 100, *watch.tree.huge.read()), 4096)
    watch.tree.processes[process.pid] = process
    watch.used = watch.peak = 200 * MiB
    watch.ended(process.pid, None, most * MiB, faults)
    assert watch.peak == pytest.approx(peak * MiB, abs=MiB)


FAMILY = """
import os, sys
kept = bytearray(b"x") * (60 << 20)
children = []
for _ in range(3):
    if (pid := os.fork()) == 0:
        os.read(0, 1)
        os._exit(0)
    children.append(pid)
print(*children, flush=True)
input()
"""


def test_children_that_end_before_their_shares_are_read_count_for_nothing():
    """What they had in common is their parent's alone then: of all together it was once, all the time."""
    family = subprocess.Popen(
        [sys.executable, "-c", FAMILY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    children = [int(word) for word in family.stdout.readline().split()]
    tree = Tree()

    def all_there():
        list(tree.read(time.time()))
        return set(children) <= tree.processes.keys()

    until(all_there)
    common = CommonPages(tree)
    assert common.may_be()
    common.read(time.time())
    assert 55 * MiB < common.apart() < 80 * MiB
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    until(lambda: not any(held(pid) for pid in children))
    # They hold nothing a moment before their pages are given back.
    until(lambda: (told := share(family.pid))[0] - told[1] < MiB)
    assert tree.anonymous > 230 * MiB, "as it was read last"
    common.read(time.time())
    assert 55 * MiB < common.apart() < 80 * MiB
    family.communicate("\n")
