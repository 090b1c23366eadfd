"""Workers start whatever the process is like that starts them, and whatever a module does to its own."""

import errno
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import until

import penstock
from penstock.backends import processes
from penstock.backends.forkserver import Server
from penstock.backends.likeness import take_closed_streams
from penstock.errors import WorkerDied
from penstock.groups.ways import VARIABLE
from penstock.peaks import HugePages

PROGRAM = """
import os, sys
import penstock
def twice(number):
    print("said")
    return 2 * number
def work():
    with penstock.Executor(2) as pool:
        return list(pool.map(twice, range(9)))
"""


def python(program, tmp_path, *redirected, groups="auto", **options):
    """Run a program by a shell that closes descriptors; the file that it leaves."""
    script, told = tmp_path / "program.py", tmp_path / "told"
    script.write_text(PROGRAM + program)
    subprocess.run(
        ["sh", "-c", f'exec "$0" "$@" {" ".join(redirected)}', sys.executable, script, told],
        timeout=300,
        cwd=tmp_path,
        env={**os.environ, VARIABLE: groups, "PYTHONPATH": os.pathsep.join(sys.path)},
        **options,
    )
    return told.read_text()


TELL = """
open(sys.argv[1], "w").write(repr(work()))
"""


@pytest.mark.parametrize(
    "closed", [("0<&-", "1>&-", "2>&-"), ("1>&-",), ("2>&-",)], ids=["all", "stdout", "stderr"]
)
def test_without_streams(tmp_path, closed):
    assert python(TELL, tmp_path, *closed) == repr([2 * number for number in range(9)])


def test_nothing_of_ours_has_the_number_of_a_stream(tmp_path):
    """Numbers are given from the lowest on: the first files of ours would have been 0, 1 and 2."""
    program = """
from penstock.backends.local import Local
kept = [os.dup(0)]  # the shell's: so that something can be opened at all
for number in range(3):
    os.close(number)
backend = Local()
names = [os.readlink(f"/proc/self/fd/{number}") for number in range(3)]
backend.close()
open(sys.argv[1], "w").write(repr(names))
"""
    assert python(program, tmp_path) == repr(["/dev/null"] * 3)
    before = len(os.listdir("/proc/self/fd"))
    take_closed_streams()
    assert len(os.listdir("/proc/self/fd")) == before, "where none is closed, none is taken"


@pytest.mark.parametrize("groups", ["auto", "none"])
def test_beyond_a_thousand_descriptors(tmp_path, groups):
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert most == resource.RLIM_INFINITY or most >= 2048, "too few to try it"
    program = f"""
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (2048, {most}))
kept = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
{TELL}"""
    assert python(program, tmp_path, groups=groups) == repr([2 * number for number in range(9)])


def test_a_module_that_hears_of_no_child(tmp_path):
    """``signal(SIGCHLD, SIG_IGN)``, as daemons have it: the kernel would tell nobody how a worker ended."""
    (tmp_path / "deaf.py").write_text("""
import os, signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
signal.set_wakeup_fd(-1)
def dies_once(place):
    if not os.path.exists(place):
        open(place, "w").close()
        os._exit(3)
    return 5
""")
    program = """
import time
import deaf
with penstock.Executor(1) as pool:
    began = time.monotonic()
    answer = pool.submit(deaf.dies_once, sys.argv[1] + ".died").result(200)
    seconds = time.monotonic() - began
open(sys.argv[1], "w").write(f"{answer} {seconds}")
"""
    answer, seconds = python(program, tmp_path).split()
    assert answer == "5"
    assert float(seconds) < 25, "its silence was waited for: 30 s, before another server was started"


def test_a_worker_that_ended_while_the_kernel_told_nobody_is_missed_all_the_same():
    """As long as a module that is being imported has SIGCHLD ignored."""
    server = Server.__new__(Server)
    said = []
    server._say = lambda what, argument: said.append((what, argument))
    server._look_at, server._trackers, server._lives, server._killed = 0.0, {}, {}, {}
    alive = subprocess.Popen(["sleep", "600"])
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gone = subprocess.Popen(["true"])
    until(lambda: not Path(f"/proc/{gone.pid}").exists())
    signal.signal(signal.SIGCHLD, before)
    server._workers, server._numbers = {gone.pid: 7, alive.pid: 8}, {gone.pid: 1}
    server._lives = {gone.pid: (0.0, 0.0), alive.pid: (0.0, 0.0)}
    server._kill_orphans = lambda: None
    server._reap_unheard(1.0)
    assert said == [("died", (7, gone.pid, signal.SIGKILL, 0.0))]
    assert list(server._workers) == [alive.pid]
    server._reap_unheard(1.5)
    server._reap_unheard(2.5)
    assert len(said) == 1
    alive.kill()
    alive.wait()
    gone.wait()


@pytest.fixture
def unwatchable(monkeypatch):
    """Workers that cannot be looked at, so many of them: no descriptor is left for it."""
    tried = []

    def make(many):
        class Tree(processes.WorkerTree):
            def __init__(self, pid, huge):
                tried.append(pid)
                if len(tried) <= many:
                    raise OSError(errno.EMFILE, "Too many open files")
                super().__init__(pid, huge)

        monkeypatch.setattr(processes, "WorkerTree", Tree)
        return tried

    return make


def test_a_worker_that_cannot_be_watched_does_not_work(unwatchable):
    """It used to: with nobody to read its memory, to pause or to kill it."""
    tried = unwatchable(2)
    with penstock.Executor(1) as pool:
        assert pool.submit(os.getpid).result() == tried[2]
    for pid in tried:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_where_none_can_be_watched_that_is_said(unwatchable):
    unwatchable(1000)
    with pytest.raises(WorkerDied, match="its process cannot be watched: Too many open files"):
        penstock.Executor(1)


def test_who_is_watched_in_part_leaves_nothing_open(monkeypatch):
    before, opened = len(os.listdir("/proc/self/fd")), os.open

    def refuse(path, *args, **options):
        if str(path).endswith("children"):
            raise OSError(errno.EMFILE, "Too many open files")
        return opened(path, *args, **options)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OSError, match="Too many open files"):
        processes.WorkerTree(os.getpid(), HugePages())
    monkeypatch.undo()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("always", [False, True])
def test_a_server_that_is_killed_while_it_loads_is_replaced(tmp_path, always):
    (tmp_path / "fatal.py").write_text("""
import os, signal
if os.environ["OF_THE_TEST"] != str(os.getpid()) and not os.path.exists("killed"):
    with open("killed.always" if os.path.exists("always") else "killed", "w"):
        os.kill(os.getpid(), signal.SIGKILL)
def thrice(number):
    return 3 * number
""")
    if always:
        (tmp_path / "always").touch()
    program = """
os.environ["OF_THE_TEST"] = str(os.getpid())
import fatal
try:
    told = list(penstock.run(fatal.thrice, range(4)).result)
except penstock.errors.RunFailed as error:
    told = error
open(sys.argv[1], "w").write(str(told))
"""
    told = python(program, tmp_path)
    if always:
        assert "was killed while it loaded the job: there is no memory for it, or somebody kills it" in told
        assert "(3 times)" in told
    else:
        assert told == "[0, 3, 6, 9]"
        assert (tmp_path / "killed").exists()
