"""``penstock exec`` in real memory groups: kernel kills attributed, the peak exact, the advice enough."""

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from waiting import LIMIT, Lateness, until

from penstock import events as ev
from penstock.budget import MiB
from penstock.event_lines import read as read_events
from penstock.proc import find

sys.path.insert(0, str(Path(__file__).parent))
from commands import facts, hold, line, python, watched

ROOT = Path("/sys/fs/cgroup/memory")
WRITABLE = (
    os.access(ROOT / "memory.limit_in_bytes", os.R_OK) and os.access(ROOT, os.W_OK) and os.geteuid() == 0
)
pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(not WRITABLE, reason="needs root and a writable cgroup v1 memory hierarchy"),
]


class Group:
    """A real group with a limit, and the most that it was seen to hold."""

    def __init__(self, folder, size):
        self.folder, self.peak = folder, 0
        (folder / "memory.limit_in_bytes").write_text(str(size))

    def command(self, *command):
        """A command, run inside from its first byte on."""
        return ["sh", "-c", f'echo $$ > "{self.folder}/cgroup.procs" && exec "$@"', "sh", *command]

    def held(self):
        stat = (self.folder / "memory.stat").read_bytes()
        return find(stat, b"total_rss ") + find(stat, b"total_shmem ")

    def run(self, *words):
        command = self.command(*line(*words))
        return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)


@contextmanager
def group(size):
    folder = ROOT / f"penstock-exec-{os.getpid()}-{time.monotonic_ns()}"
    folder.mkdir()
    made = Group(folder, size)
    over = threading.Event()

    def look():
        while not over.wait(0.002):
            made.peak = max(made.peak, made.held())

    looks = threading.Thread(target=look)
    looks.start()
    try:
        yield made
    finally:
        over.set()
        looks.join()
        for _ in range(200):
            with suppress(OSError):
                for pid in (folder / "cgroup.procs").read_text().split():
                    os.kill(int(pid), signal.SIGKILL)
                folder.rmdir()
                break
            time.sleep(0.02)


PARENT = f"""
import subprocess, sys
done = subprocess.run({hold(600)})
print("child", done.returncode, flush=True)
sys.exit(4)
"""


def test_the_kernel_killed_the_command(tmp_path):
    with group(250 * MiB) as made:
        done = made.run("--into", tmp_path, "--", *hold(600))
    assert done.returncode == 137
    told = facts(tmp_path)
    assert told["verdict"]["by"] == "kernel"
    assert f"oom_kill of {made.folder} rose by 1" in done.stderr
    assert re.search(r"killed: process \d+ \(.*import time; kept.*\), which held .*2\d\d MiB", done.stderr)
    assert "needed more than 2" in done.stderr


def test_the_kernel_killed_a_child_of_the_command(tmp_path):
    with group(250 * MiB) as made:
        done = made.run("--into", tmp_path, "--", *python(PARENT))
    assert (done.returncode, done.stdout) == (4, "child -9\n")
    told = facts(tmp_path)
    assert told["verdict"]["by"] == "kernel"
    assert len(told["verdict"]["killed"]) == 1
    assert "then the command itself ended with exit code 4" in done.stderr
    events = list(read_events(tmp_path / ".penstock" / "events.jsonl"))
    ended = [event for event in events if isinstance(event, ev.WorkerEnded)]
    assert [event.why for event in ended] == ["kernel"]
    assert [event.worker for event in ended] == told["verdict"]["killed"]
    named = {event.pid: event.command for event in events if isinstance(event, ev.ProcessSeen)}
    assert "import time; kept" in named[ended[0].worker]


def test_sigkill_in_a_group_of_ours_is_not_put_on_the_kernel(tmp_path):
    with group(250 * MiB) as made:
        done = made.run("--into", tmp_path, "--", "sh", "-c", "sleep 0.5; kill -9 $$")
    assert done.returncode == 137
    assert facts(tmp_path)["verdict"]["by"] == "signal"
    assert "not by the kernel for memory" in done.stderr


def test_the_budget_comes_before_the_kernel(tmp_path):
    with group(300 * MiB) as made:
        done = made.run("--budget", "100%", "--into", tmp_path, "--", *hold(600, 2 * LIMIT))
    assert done.returncode == 3
    assert "before the kernel would have" in done.stderr
    assert facts(tmp_path)["verdict"]["by"] == "budget"


POOL = """
import multiprocessing
kept = bytearray(b"x") * (150 << 20)
multiprocessing.set_start_method("fork")
together = multiprocessing.Barrier(3)
def work(number):
    more = bytearray(b"x") * (10 * number << 20)
    together.wait()
    until_read()
    together.wait()
if __name__ == "__main__":
    with multiprocessing.Pool(3) as pool:
        pool.map(work, (0, 1, 2, 9, 10, 11), chunksize=1)
"""
STEPS = """
for size in (50, 120, 80, 200, 20):
    kept = bytearray(b"x") * (size << 20)
    until_read(2 if size == 200 else 1)
    del kept
"""
SHARED = """
from multiprocessing.shared_memory import SharedMemory
block = SharedMemory(create=True, size=120 << 20)
block.buf[:] = bytes(120 << 20)
until_read()
block.close(); block.unlink()
"""
CHILDREN = """
import subprocess, threading
kept = bytearray(b"x") * (50 << 20)
enough = threading.Thread(target=until_read, args=(4,))
enough.start()
while enough.is_alive():
    subprocess.run(["true"])
"""
CHANGES = """
import time
while True:
    for size in (50, 120, 80, 200, 20):
        kept = bytearray(b"x") * (size << 20)
        time.sleep(0.2)
        del kept
"""
FILES = """
import os, sys, time
name = sys.argv[1]
with open(name, "wb") as file:
    for _ in range(400):
        file.write(bytes(1 << 20))
kept = bytearray(b"x") * (100 << 20)
with open(name, "rb") as file:
    while file.read(1 << 20): pass
os.unlink(name)
"""


ONE = "kept = bytearray(b'x') * (300 << 20); until_read()"


@pytest.mark.parametrize(
    "program", [ONE, POOL, STEPS, SHARED, CHILDREN], ids=["one", "pool", "steps", "shared", "children"]
)
@pytest.mark.parametrize("inside", [True, False], ids=["group", "processes"])
def test_the_peak_is_the_group_s(tmp_path, program, inside):
    """Within 2 %, by the group's counter (we are in it) and by adding up processes (we are not)."""
    program = watched(tmp_path, program)
    with group(2048 * MiB) as made:
        if inside:
            done = made.run("--into", tmp_path, "--", *program)
        else:
            words = line("--into", tmp_path, "--", *made.command(*program))
            done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT)
        assert done.returncode == 0, done.stderr
    told = facts(tmp_path)
    ours = told["peak"] + (told["own_memory"] if inside else 0)
    assert ours == pytest.approx(made.peak, rel=0.02)


@pytest.mark.parametrize(
    "program",
    ["kept = bytearray(b'x') * (20 << 20)", ONE, POOL, STEPS, SHARED, FILES],
    ids=["small", "one", "pool", "steps", "shared", "files"],
)
def test_the_advice_is_enough(tmp_path, program):
    def command(folder):
        return [*watched(tmp_path / folder, program), str(tmp_path / "file")]

    with group(2048 * MiB) as made:
        assert made.run("--into", tmp_path / "run", "--", *command("run")).returncode == 0
    advised = facts(tmp_path / "run")["advised"]
    with group(advised) as made:
        done = made.run("--into", tmp_path / "again", "--", *command("again"))
        assert done.returncode == 0, done.stderr
        assert find((made.folder / "memory.oom_control").read_bytes(), b"oom_kill ") == 0
    with group(advised) as made:
        bare = made.command(*command("no supervisor"))
        done = subprocess.run(bare, capture_output=True, timeout=LIMIT)
        assert done.returncode == 0, done.stderr


def most_read(events):
    """The most that was read so far; the first reading may be of a command that has hardly begun."""
    return max((each.used for each in read_events(events) if isinstance(each, ev.MemoryRead)), default=0)


def test_after_everything_was_killed_at_once_the_last_second_is_there(tmp_path):
    """20 kills of the whole tree, ours included, at random moments."""

    def one(attempt, seconds):
        folder = tmp_path / str(attempt)
        with Lateness() as late, group(2048 * MiB) as made:
            process = subprocess.Popen(
                made.command(*line("--into", folder, "--", *python(CHANGES))),
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            events = folder / ".penstock" / "events.jsonl"
            until(lambda: events.exists() and most_read(events) > MiB, program=process)
            time.sleep(seconds)
            killed = time.time()
            for pid in (made.folder / "cgroup.procs").read_text().split():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            process.wait()
        told = list(read_events(events))
        readings = [event for event in told if isinstance(event, ev.MemoryRead)]
        named = {str(event.pid) for event in told if isinstance(event, ev.ProcessSeen)}
        assert not isinstance(told[-1], ev.StageEnded)
        assert killed - readings[-1].at < 1.5 + late.slack
        assert readings[-1].workers
        assert readings[-1].workers.keys() <= named
        assert readings[-1].used > MiB

    chance = random.Random(7)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(20), [chance.uniform(0, 2.5) for _ in range(20)]))


HANGS = """
from multiprocessing import Pool

def work(n):
    return len(bytearray(b"x") * (600 << 20))

with Pool(1) as pool:
    pool.map(work, [1])
"""


def test_a_kill_is_told_while_the_pool_that_lost_a_worker_hangs(tmp_path):
    (tmp_path / "pool.py").write_text(HANGS)
    with group(300 * MiB) as made:
        command = made.command(*line("--into", tmp_path / "run", "--", sys.executable, tmp_path / "pool.py"))
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
            events = tmp_path / "run" / ".penstock" / "events.jsonl"

            def told():
                return [each for each in read_events(events) if isinstance(each, ev.KernelKill)]

            kill = until(lambda: events.exists() and told(), program=running)[0]
            while "the kernel killed" not in (said := running.stderr.readline()):
                assert said
            advice = running.stderr.readline()
            assert "may wait for ever" in advice
            assert "--rescue" in advice
            assert running.poll() is None  # it hangs on
            running.terminate()
            running.communicate(timeout=LIMIT)
        ended = [each for each in read_events(events) if isinstance(each, ev.WorkerEnded)]
    assert kill.count >= 1
    assert "pool.py" in kill.message
    assert len({each.worker for each in ended}) == len(ended)
