"""Control groups of our own on the real kernel (v1): exact memory, fences, kills, and nothing left behind."""

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import kinds
import pytest
from memory_groups import ROOT, WRITABLE
from waiting import until

import penstock
from penstock.abc import Death
from penstock.backends.local import Local
from penstock.budget import MiB
from penstock.groups import find, ways
from penstock.groups.files import GroupFiles
from penstock.groups.run import is_left
from penstock.proc import held
from penstock.testing import puppet
from penstock.testing.puppet import Puppet

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(not WRITABLE, reason="needs root and a writable cgroup v1 memory hierarchy"),
]


def home():
    return ways.home(GroupFiles())[1]


def left(pid=None):
    """Groups that runs of a process have here; of processes that are gone by default."""
    every = GroupFiles().groups(home())
    if pid is not None:
        return [each for each in every if each.name.startswith(f"penstock-{pid}-")]
    return [each for each in every if is_left(each)]


def alive(pid):
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


# --------------------------------------------------------------------------- what is held

# Of the groups below the run's: what is told of a group that has others below it may be seconds old.
SAMPLER = """
import glob, os, select, sys
home, pid, kind = sys.argv[1:]
status = open(f"/proc/{pid}/status", "rb", 0)
def numbers(text):
    pairs = (line.replace(b":", b"").split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) > 1 and pair[1].isdigit()}
def opened(pattern):
    for path in glob.glob(f"{home}/penstock-{pid}-*/{pattern}"):
        try:
            yield os.open(path, os.O_RDONLY)
        except OSError:  # it is gone again
            pass
stats, kernel, top, turn = [], [], 0, 0
print("ready", flush=True)
while not select.select([0], [], [], 0.001)[0]:
    turn += 1
    if turn % 8 == 1:
        list(map(os.close, stats + kernel))
        stats, kernel = list(opened("*/memory.stat")), list(opened("memory.kmem.usage_in_bytes"))
    try:
        told = [numbers(os.pread(each, 8192, 0)) for each in stats]
        pipes = sum(int(os.pread(each, 64, 0)) for each in kernel)
    except OSError:  # one is over
        turn = 0
        continue
    status.seek(0)
    own = numbers(status.read())
    run = sum(each[b"total_rss"] + each[b"total_shmem"] for each in told) + (pipes if kind == "pipes" else 0)
    if told:
        top = max(top, run + (own[b"RssAnon"] + own[b"RssShmem"]) * 1024)
print(top)
"""


@pytest.fixture
def reference(request):
    """A process outside of the groups that reads them a thousand times a second.

    What the kernel holds is mostly in pipes where there are any, and else is none of ours.
    """
    kind = request.node.callspec.params["kind"]
    program = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", SAMPLER, str(home()), str(os.getpid()), kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert program.stdout.readline() == "ready\n"
    yield lambda: int(program.communicate("", timeout=300)[0])
    program.kill()
    program.wait()
    program.stdin.close()
    program.stdout.close()


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A folder that is memory beside the one that everybody has, and a large file."""
    folder = Path("/dev/shm", f"penstock-kinds-{os.getpid()}")
    folder.mkdir()
    file = tmp_path_factory.mktemp("kinds") / "file"
    file.write_bytes(os.urandom(MiB) * 128)
    os.environ[kinds.FOLDER], os.environ[kinds.FILE] = str(folder), str(file)
    yield
    folder.rmdir()


@pytest.mark.parametrize("kind", [each.__name__ for each in (*kinds.HELD, *kinds.CACHED)])
def test_the_report_tells_what_the_group_held(kind, places, reference):
    """Whatever kind of memory it is, and whatever others do meanwhile."""
    with kinds.neighbour():
        report = penstock.run(kinds.take, [kind], budget=held(os.getpid()) + 500 * MiB, workers=1)
    top = reference()
    assert report.result == [kind]
    assert top > 90 * MiB or kind in [each.__name__ for each in kinds.CACHED]
    assert abs(report.peak - top) <= 0.03 * top + 2 * MiB, f"{report.peak / MiB:.1f} for {top / MiB:.1f} MiB"
    assert left(os.getpid()) == []


# --------------------------------------------------------------------------- one worker


class Driven:
    """A backend and its only worker."""

    def __init__(self):
        self.backend = Local()
        self.backend.open(pickle.dumps(Puppet()), {}, None)
        self.worker = self.backend.start()
        _, _, self.pid = self.next()
        self.ask(puppet.Echo(1))

    def next(self):
        """What the worker says next, or its death."""
        heard = until(lambda: [each for each in self.backend.wait(0.05) if each.worker == self.worker])
        return heard[0] if isinstance(heard[0], Death) else heard[0].content

    def ask(self, order):
        self.backend.send(self.worker, order)
        return self.next()

    def charged(self):
        return self.backend.read()[self.worker].charged


@pytest.fixture
def driven():
    made = Driven()
    yield made
    made.backend.close()
    assert left(os.getpid()) == []


def test_a_worker_has_a_group_of_its_own(driven):
    assert "/penstock-" in Path(f"/proc/{driven.pid}/cgroup").read_text()
    before = driven.charged()
    driven.ask(puppet.Hold(50 * MiB))
    assert 49 * MiB <= driven.charged() - before <= 53 * MiB
    assert driven.backend.total() >= driven.charged()
    assert driven.backend.measure.startswith("memory is measured by control groups of our own (v1, ")


READER = """
import sys, time
while True:
    with open(sys.argv[1]) as file:
        file.read()
    time.sleep(0.0003)
"""


class Holds:
    """An order: hold so much from now on, and no more of what was held before."""

    held = b""

    def __init__(self, size):
        self.size = size

    def __call__(self, words):
        Holds.held = b""
        Holds.held = bytearray(b"x") * self.size


def test_the_sum_is_of_now_whoever_else_reads_the_kernels_numbers(driven):
    """Readers of the groups around a worker's make the kernel's numbers for these old, by tens of MiB."""
    (run,) = left(os.getpid())
    stats = [str(folder / "memory.stat") for folder in (run, run.parent)]

    def total(size):
        driven.ask(Holds(size))
        driven.backend.read()
        return driven.backend.total()

    readers = [subprocess.Popen([sys.executable, "-I", "-S", "-c", READER, stat]) for stat in stats]
    try:
        before = total(0)
        for size in (50 * MiB, 0) * 40:
            assert abs(total(size) - before - size) < 4 * MiB
    finally:
        for reader in readers:
            reader.kill()
            reader.wait()


def test_a_daemon_is_counted_and_ends_with_its_worker(driven):
    before = driven.charged()
    ((daemon,),) = driven.ask(puppet.Spawn(detached=True))
    until(lambda: driven.charged() > before + 3 * MiB)
    driven.backend.kill(driven.worker)
    assert isinstance(driven.next(), Death)
    until(lambda: not alive(daemon))


def test_it_is_paused_and_goes_on_with_its_daemon(driven):
    ((daemon,),) = driven.ask(puppet.Spawn(detached=True))
    state = lambda pid: Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]  # noqa: E731
    driven.backend.pause(driven.worker)
    until(lambda: (state(driven.pid), state(daemon)) == ("T", "T"))
    driven.backend.resume(driven.worker)
    until(lambda: "T" not in (state(driven.pid), state(daemon)))


def test_a_fence_ends_the_worker_alone_and_is_told(driven):
    other = driven.backend.start()
    until(lambda: any(each.worker == other for each in driven.backend.wait(0.05)))
    driven.backend.fence(driven.worker, 100 * MiB)
    death = driven.ask(puppet.Hold(300 * MiB))
    assert (death.signal, death.kernel_killed) == (signal.SIGKILL, True)
    assert set(driven.backend.read()) == {other}


def test_a_kill_from_outside_is_not_taken_for_the_kernels(driven):
    os.kill(driven.pid, signal.SIGKILL)
    death = driven.next()
    assert (death.signal, death.kernel_killed) == (signal.SIGKILL, False)


def test_a_kernel_kill_of_long_ago_is_not_taken_for_this_one(driven):
    """It took a child of the worker, during another order."""
    driven.backend.fence(driven.worker, 100 * MiB)
    (status,) = driven.ask(GreedyChild(300 * MiB))
    assert status == -signal.SIGKILL
    driven.ask(puppet.Echo(1))
    os.kill(driven.pid, signal.SIGKILL)
    assert driven.next().kernel_killed is False


class GreedyChild:
    """An order: have a child take memory, and tell how it ended."""

    def __init__(self, size):
        self.size = size

    def __call__(self, words):
        program = f"held = bytearray(b'x') * {self.size}"
        return subprocess.run([sys.executable, "-I", "-S", "-c", program], check=False).returncode


def test_where_groups_are_not_wanted_processes_are_added_up(monkeypatch):
    monkeypatch.setenv("PENSTOCK_GROUPS", "none")
    made = Driven()
    try:
        assert made.charged() is None
        assert made.backend.total() is None
        assert "no control group of our own: PENSTOCK_GROUPS=none" in made.backend.measure
        assert left(os.getpid()) == []
    finally:
        made.backend.close()


def test_an_environment_with_odd_names_reaches_the_workers(monkeypatch):
    """A shell would drop it."""
    monkeypatch.setenv("BASH_FUNC_module%%", "() { :; }")
    made = Driven()
    try:
        assert made.ask(puppet.Environment("BASH_FUNC_module%%")) == ("() { :; }",)
        assert made.charged() is not None
    finally:
        made.backend.close()


# --------------------------------------------------------------------------- nothing is left

SCRIPT = """
import os, sys, time
import penstock

def work(item):
    if sys.argv[1] == "daemon" and item == 0:
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.execve("/bin/sleep", ["sleep", "1000"], {})
            os._exit(0)
    if sys.argv[1] == "raises" and item == 3:
        raise ValueError(item)
    if sys.argv[1] == "nested":
        return penstock.run(abs, [-item], budget="400MiB", workers=1).result[0]
    if sys.argv[1] in ("waits", "daemon"):
        print("begun", flush=True)
        time.sleep(1000)
    return item

if __name__ == "__main__":
    penstock.run(work, 5, budget="1GiB", workers=2)
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    programs = []

    def start(what):
        search = os.pathsep.join((str(Path(__file__).parent), *filter(None, sys.path)))
        program = subprocess.Popen(
            [sys.executable, str(path), what],
            env={**os.environ, "PYTHONPATH": search},
            stderr=subprocess.PIPE,
            text=True,
        )
        programs.append(program)
        return program

    yield start
    for program in programs:
        program.kill()
        program.communicate()


@pytest.mark.parametrize(("what", "status"), [("done", 0), ("nested", 0), ("raises", 1)])
def test_no_group_is_left_after_the_end(what, status, script):
    program = script(what)
    _, told = program.communicate(timeout=300)
    assert program.returncode == status, told
    assert left(program.pid) == []


def members(pid):
    """The processes of the workers of a run."""
    found = []
    for run in left(pid):
        for group in run.glob("w*"):
            found += map(int, (group / "cgroup.procs").read_text().split())
    return found


def test_no_group_is_left_after_an_interrupt(script):
    program = script("waits")
    until(lambda: members(program.pid), program=program)
    program.send_signal(signal.SIGTERM)
    program.communicate(timeout=300)
    assert left(program.pid) == []


def is_sleep(pid):
    try:
        return Path(f"/proc/{pid}/comm").read_text() == "sleep\n"
    except OSError:
        return False


def test_what_a_killed_run_left_is_gone_with_the_next_start(script):
    """Its fork server too, at the same time: nobody is left to clean up, and a daemon lives on."""
    program = script("daemon")
    (daemon,) = until(lambda: [pid for pid in members(program.pid) if is_sleep(pid)], program=program)
    servers = [
        int(pid) for run in left(program.pid) for pid in (run / "server/cgroup.procs").read_text().split()
    ]
    for pid in servers:  # which would clean up when the program is gone, and be sooner than the next line
        os.kill(pid, signal.SIGSTOP)
    for pid in (program.pid, *servers):
        os.kill(pid, signal.SIGKILL)
    program.wait()
    assert left(program.pid)
    assert alive(daemon)
    find().run.close()
    assert left(program.pid) == []
    assert not alive(daemon)


def test_a_killed_fork_server_leaves_no_group(driven):
    ((daemon,),) = driven.ask(puppet.Spawn(detached=True))
    run = left(os.getpid())
    os.kill(driven.backend._server.pid, signal.SIGKILL)
    assert driven.next().signal == signal.SIGKILL
    until(lambda: not alive(daemon))
    assert not any(each.exists() for each in run)
    driven.worker = driven.backend.start()  # and another one serves
    driven.next()
    assert driven.charged() is not None


def test_this_process_stays_where_it_was():
    before = Path("/proc/self/cgroup").read_text()
    made = Driven()
    assert Path("/proc/self/cgroup").read_text() == before
    made.backend.close()
    assert ROOT in (home(), *home().parents)
