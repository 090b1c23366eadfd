"""Groups of our own, on made-up trees: which way is taken, what is undone, swept, and never touched."""

import errno
import gc
import os
import signal
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.budget import MiB
from penstock.errors import UsageError
from penstock.groups import Member, RunGroup, find, ways
from penstock.groups.files import GroupFiles, pids
from penstock.groups.memory import GroupMemory, highest, of_v1, of_v2
from penstock.groups.run import is_left, name, sweep

V1 = {
    "memory.stat": "total_rss 0\ntotal_shmem 0\ntotal_cache 0\n",
    "memory.kmem.usage_in_bytes": "0\n",
    "memory.usage_in_bytes": "0\n",
    "memory.max_usage_in_bytes": "0\n",
    "memory.limit_in_bytes": "9223372036854771712\n",
    "memory.oom_control": "oom_kill 0\n",
    "cgroup.procs": "",
}
V2 = {
    "memory.stat": "anon 0\nfile 0\nshmem 0\n",
    "memory.peak": "0\n",
    "memory.current": "0\n",
    "memory.max": "max\n",
    "memory.events": "oom_kill 0\n",
    "cgroup.procs": "",
    "cgroup.controllers": "memory\n",
    "cgroup.subtree_control": "",
    "cgroup.kill": "",
    "cgroup.freeze": "0\n",
}


@pytest.fixture(autouse=True)
def in_its_group(monkeypatch):
    """This process has not stepped aside."""
    monkeypatch.setattr(ways, "_aside", ways._Aside())


class MadeUp(GroupFiles):
    """A kernel of straw: groups are plain folders that get their files when they are made.

    Args:
        version: of the groups. ``refuse`` has {(what, the end of the path): error number}.
    """

    def __init__(self, version):
        self.version = version
        self.refuse = {}
        self.did = []
        self.signals = []

    def _do(self, what, path, text=""):
        self.did.append(" ".join(filter(None, (what, "/".join(path.parts[-2:]), text))))
        for (refused, end), number in self.refuse.items():
            if refused == what and str(path).endswith(end):
                raise OSError(number, os.strerror(number), str(path))

    def make(self, folder):
        self._do("mkdir", folder)
        super().make(folder)
        for file, content in (V1 if self.version == 1 else V2).items():
            (folder / file).write_text(content)

    def remove(self, folder):
        self._do("rmdir", folder)
        if self.groups(folder) or pids(self.read(folder / "cgroup.procs")):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(folder))
        for file in V1 if self.version == 1 else V2:
            (folder / file).unlink()
        folder.rmdir()

    def write(self, file, text):
        self._do("write", file, text)
        if file.name == "cgroup.procs":
            for group in (self.top, *(p for p in self.top.rglob("*") if p.is_dir())):
                inside = pids(self.read(group / "cgroup.procs"))
                left = [pid for pid in inside if pid != int(text)]
                (group / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in left))
            with open(file, "a") as procs:
                procs.write(f"{text}\n")
            if int(text) == os.getpid() and self.version == 2:
                (self.root / "proc/self/cgroup").write_text(f"0::/{file.parent.relative_to(self.top)}\n")
            return
        if (
            file.name == "cgroup.subtree_control"
            and text == "+memory"
            and pids(self.read(file.parent / "cgroup.procs"))
        ):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(file))
        file.write_text(text)
        if file.name == "cgroup.kill":
            for folder in (file.parent, *(p for p in file.parent.rglob("*") if p.is_dir())):
                (folder / "cgroup.procs").write_text("")

    def visit(self, procs, move=(), patience=0.0):
        self._do("visit", procs)

    def signal(self, pid, number, is_inside):
        assert is_inside(pid)
        self.signals.append((pid, number))
        for procs in self.top.rglob("cgroup.procs"):
            left = [each for each in pids(procs.read_text()) if each != pid]
            procs.write_text("".join(f"{each}\n" for each in left))


class Machine:
    """A root folder with this process in one group."""

    def __init__(self, root, version, refuse=(), others=(), comm="tini"):
        self.root = root
        self.files = MadeUp(version)
        self.home = root / ("sys/fs/cgroup/memory/job" if version == 1 else "sys/fs/cgroup/job")
        top = self.home.parent
        top.mkdir(parents=True)
        self.files.top, self.files.root = top, root
        self.files.make(self.home)
        self.files.did.clear()
        self.files.refuse = dict(refuse)
        (self.home / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in (os.getpid(), *others)))
        self.put("proc/self/stat", f"{os.getpid()} (py (thon) x) S " + " ".join("0" * 18) + " 777 0 0\n")
        self.put("proc/1/comm", f"{comm}\n")
        (root / "proc/self/ns").mkdir()
        (root / "proc/self/ns/pid").touch()
        if version == 1:
            self.put("proc/self/cgroup", "4:memory:/job\n")
            self.put("proc/self/mountinfo", "1 0 0:1 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n")
        else:
            self.put("proc/self/cgroup", "0::/job\n")
            self.put("proc/self/mountinfo", "1 0 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")

    def put(self, path, text):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def alive(self, pid, start):
        self.put(f"proc/{pid}/stat", f"{pid} (x) S " + " ".join("0" * 18) + f" {start} 0 0\n")

    def find(self, **environ):
        return find(environ, self.files, self.root)

    def groups(self):
        return sorted(str(p.relative_to(self.home)) for p in self.home.rglob("*") if p.is_dir())

    @property
    def namespace(self):
        return (self.root / "proc/self/ns/pid").stat().st_ino


# --------------------------------------------------------------------------- the ways


def test_v1_groups_are_made_below_the_group_of_this_process(tmp_path):
    machine = Machine(tmp_path, 1)
    found = machine.find()
    assert found.way == "v1"
    assert found.refused == []
    run = found.run.folder.name
    assert machine.groups() == [run, f"{run}/server"]
    assert machine.files.did[-1] == "visit server/cgroup.procs"
    assert pids((machine.home / "cgroup.procs").read_text()) == [os.getpid()]
    assert str(found.server.procs) in found.command(["python"])
    assert found.run.close()
    assert machine.groups() == []


@pytest.mark.parametrize(
    ("refuse", "words"),
    [
        ({("mkdir", ""): errno.EROFS}, "Read-only file system"),
        ({("mkdir", "server"): errno.EACCES}, "Permission denied"),
        ({("visit", "cgroup.procs"): errno.EACCES}, "Permission denied"),
        ({("visit", "cgroup.procs"): errno.EOPNOTSUPP}, "Operation not supported"),
        ({("mkdir", "server"): errno.ENOSPC}, "No space left on device"),
    ],
)
@pytest.mark.parametrize("version", [1, 2])
def test_a_refusal_is_undone_and_told(tmp_path, version, refuse, words):
    machine = Machine(tmp_path, version, refuse)
    found = machine.find()
    assert (found.way, found.run, found.server) == ("none", None, None)
    refused, *others = found.refused
    assert refused.startswith(f"v{version}: {words} (")
    assert [each.partition(":")[0] for each in others] == ["systemd"] * (version == 2)
    assert machine.groups() == []
    assert pids((machine.home / "cgroup.procs").read_text()) == [os.getpid()]
    assert (machine.home / "cgroup.procs").exists()


def test_v1_groups_that_do_not_count_for_the_outer_limit_are_refused(tmp_path):
    machine = Machine(tmp_path, 1)
    (machine.home / "memory.use_hierarchy").write_text("0\n")
    assert "would not count" in machine.find().refused[0]
    assert machine.groups() == []


def test_without_the_memory_controller_there_are_none(tmp_path):
    machine = Machine(tmp_path, 2)
    (machine.home / "cgroup.controllers").write_text("cpu pids\n")
    found = machine.find()
    assert found.way == "none"
    assert "threaded, or not handed on" in found.refused[0]


def test_without_any_group_there_are_none(tmp_path):
    assert find({}, MadeUp(2), tmp_path).way == "none"


def test_a_group_that_is_not_proven_to_hold_this_process_is_left_alone(tmp_path):
    """A container may see its host's groups under names that are not its own."""
    machine = Machine(tmp_path, 1)
    (machine.home / "cgroup.procs").write_text("1\n")
    assert "not found in the group" in machine.find().refused[0]
    assert machine.files.did == []


def test_a_word_of_the_user_turns_them_off(tmp_path):
    machine = Machine(tmp_path, 1)
    assert machine.find(PENSTOCK_GROUPS="none").way == "none"
    assert machine.files.did == []
    assert machine.find(PENSTOCK_GROUPS="auto").way == "v1"
    with pytest.raises(UsageError, match="PENSTOCK_GROUPS is 'nope'"):
        machine.find(PENSTOCK_GROUPS="nope")


# --------------------------------------------------------------------------- v2: stepping aside


def test_v2_this_process_steps_aside_and_goes_back_top_down(tmp_path):
    machine = Machine(tmp_path, 2)
    found = machine.find()
    assert found.way == "v2"
    aside, _ = (found.run.folder.parent / each for each in machine.groups() if "/" not in each)
    assert pids((aside / "cgroup.procs").read_text()) == [os.getpid()]
    assert pids((machine.home / "cgroup.procs").read_text()) == []
    machine.files.did.clear()
    assert found.run.close()
    assert machine.groups() == []
    assert pids((machine.home / "cgroup.procs").read_text()) == [os.getpid()]
    # A group that hands memory on takes no process back: that ends first.
    control = machine.files.did.index(f"write {machine.home.name}/cgroup.subtree_control -memory")
    assert control < machine.files.did.index(f"write {machine.home.name}/cgroup.procs {os.getpid()}")
    assert machine.files.did[-1] == f"rmdir {machine.home.name}/{aside.name}"


def test_v2_two_runs_of_one_process_step_aside_once(tmp_path):
    machine = Machine(tmp_path, 2)
    first, second = machine.find(), machine.find()
    assert first.run.folder.parent == second.run.folder.parent == machine.home
    first.run.close()
    assert pids((machine.home / "cgroup.procs").read_text()) == []
    second.run.close()
    assert machine.groups() == []
    assert pids((machine.home / "cgroup.procs").read_text()) == [os.getpid()]


def test_v2_a_group_that_others_are_in_is_left_alone(tmp_path):
    machine = Machine(tmp_path, 2, others=[1])
    assert "other processes are in the group (1)" in machine.find().refused[0]
    assert machine.files.did == []


def test_v2_a_group_of_systemds_is_left_alone_unless_handed_over(tmp_path, monkeypatch):
    machine = Machine(tmp_path, 2, comm="systemd")
    monkeypatch.setattr(ways, "_is_delegated", lambda folder: False)
    assert "Delegate=yes" in machine.find().refused[0]
    assert machine.files.did == []
    monkeypatch.setattr(ways, "_is_delegated", lambda folder: True)
    found = machine.find()
    assert found.way == "v2"
    found.run.close()


@pytest.mark.parametrize(
    "refuse",
    [
        {("write", "job/cgroup.subtree_control"): errno.EBUSY},
        {("write", "cgroup.subtree_control"): errno.EACCES},
        {("write", "cgroup.procs"): errno.EACCES},
    ],
)
def test_v2_a_refusal_on_the_way_is_undone(tmp_path, refuse):
    machine = Machine(tmp_path, 2, refuse)
    found = machine.find()
    assert found.way == "none"
    assert machine.groups() == []
    assert pids((machine.home / "cgroup.procs").read_text()) == [os.getpid()]


# --------------------------------------------------------------------------- what dead runs left


def leave(machine, *, pid=4242, start=99, where=None, inside=()):
    """A run's folder with a worker's in it."""
    folder = machine.home / f"penstock-{pid}-{start}-{machine.namespace if where is None else where}-0"
    machine.files.make(folder)
    machine.files.make(folder / "w1")
    (folder / "w1/cgroup.procs").write_text("".join(f"{each}\n" for each in inside))
    return folder


@pytest.mark.parametrize("version", [1, 2])
def test_what_a_dead_run_left_is_ended_and_removed_at_the_next_start(tmp_path, version):
    machine = Machine(tmp_path, version)
    left = leave(machine, inside=[50001, 50002])
    found = machine.find()
    assert not left.exists()
    if version == 1:
        assert {pid for pid, number in machine.files.signals if number == signal.SIGKILL} == {50001, 50002}
    found.run.close()


def of_dead_run(machine, server, worker=()):
    """The fork server's group and a worker's in what a dead run left."""
    left = leave(machine, inside=worker)
    machine.files.make(left / "server")
    (left / "server/cgroup.procs").write_text("".join(f"{each}\n" for each in server))
    return left


def test_a_dead_runs_fork_server_and_trackers_end_by_themselves(tmp_path, monkeypatch):
    """Killed, they could not remove what else it left: temporary folders, shared memory."""
    machine = Machine(tmp_path, 1)
    left = of_dead_run(machine, server=[50001], worker=[50002, 50003])
    for module in ("run.proc", "member"):
        monkeypatch.setattr(f"penstock.groups.{module}.tracks_resources", lambda pid: pid == 50003)
    looks = iter(range(3))

    def sleep(_):
        if next(looks) == 1:
            (left / "server/cgroup.procs").write_text("")
            (left / "w1/cgroup.procs").write_text("")

    monkeypatch.setattr("penstock.groups.run.time.sleep", sleep)
    assert sweep(machine.home, 1, machine.files, machine.root) == [left.name]
    killed = [pid for pid, number in machine.files.signals if number == signal.SIGKILL]
    assert killed == [50002]


@pytest.mark.parametrize("stopped", [False, True])
def test_a_dead_runs_fork_server_that_does_not_end_is_killed(tmp_path, monkeypatch, capsys, stopped):
    machine = Machine(tmp_path, 1)
    left = of_dead_run(machine, server=[50001])
    machine.put("proc/50001/stat", f"50001 (python) {'T' if stopped else 'S'} 1 1 1")
    monkeypatch.setattr("penstock.groups.run.CLEARING_SECONDS", 0.01)
    monkeypatch.setattr("penstock.groups.run._SAID_AFTER", 0.01)
    assert sweep(machine.home, 1, machine.files, machine.root) == [left.name]
    assert machine.files.signals == [(50001, signal.SIGKILL)]
    assert ("waiting, 0 s at most, until what killed runs left" in capsys.readouterr().err) is not stopped


def test_a_number_that_another_process_has_now_does_not_save_it(tmp_path):
    machine = Machine(tmp_path, 1)
    left = leave(machine)
    machine.alive(4242, 100)
    assert sweep(machine.home, 1, machine.files, machine.root) == [left.name]


def test_a_living_run_is_left_alone(tmp_path):
    machine = Machine(tmp_path, 1)
    left = leave(machine, inside=[50001])
    machine.alive(4242, 99)
    assert sweep(machine.home, 1, machine.files, machine.root) == []
    assert left.exists()
    assert machine.files.signals == []


@pytest.mark.parametrize(
    "name", ["penstock-test-12-34", "penstock-1-2", "docker", "penstock-1-2-3-4x", "penstock--1-2-3-4"]
)
def test_folders_of_others_are_left_alone(tmp_path, name):
    machine = Machine(tmp_path, 1)
    (machine.home / name).mkdir()
    assert sweep(machine.home, 1, machine.files, machine.root) == []
    assert (machine.home / name).exists()


def test_a_run_of_another_namespace_is_left_alone(tmp_path):
    """There its process may live under a number that here is nobody's."""
    machine = Machine(tmp_path, 1)
    left = leave(machine, where=machine.namespace + 1, inside=[50001])
    assert sweep(machine.home, 1, machine.files, machine.root) == []
    assert left.exists()


def test_a_run_of_another_time_namespace_is_left_alone(tmp_path):
    """There its process, which lives, began at another time than is told here."""
    machine = Machine(tmp_path, 1)
    machine.alive(4242, 7777)
    left = leave(machine, inside=[50001])
    assert is_left(left, machine.root)
    machine.put("proc/self/ns/time", "")
    assert sweep(machine.home, 1, machine.files, machine.root) == []
    assert left.exists()


def test_where_numbers_cannot_be_told_no_run_is_left(tmp_path):
    machine = Machine(tmp_path, 1)
    left = leave(machine, where=0)
    (machine.root / "proc/self/ns/pid").unlink()
    assert not is_left(left, machine.root)


def test_a_folder_of_another_user_is_left_alone(tmp_path, monkeypatch):
    machine = Machine(tmp_path, 1)
    left = leave(machine)
    monkeypatch.setattr(os, "geteuid", lambda: left.stat().st_uid + 1)
    assert not is_left(left, machine.root)


def test_this_process_is_never_killed(tmp_path):
    machine = Machine(tmp_path, 1)
    run = machine.find().run
    member = run.member("w1")
    (member.folder / "cgroup.procs").write_text(f"{os.getpid()}\n0\n50001\n")
    member.kill()
    assert machine.files.signals == [(50001, signal.SIGKILL)]


def test_no_two_runs_have_the_same_name():
    assert name() != name()


# --------------------------------------------------------------------------- members


def test_a_group_that_is_busy_is_removed_later(tmp_path):
    machine = Machine(tmp_path, 1)
    run = machine.find().run
    member = run.member("w1")
    machine.files.refuse[("rmdir", "w1")] = errno.EBUSY
    run.drop(member)
    assert member.folder.exists()
    run.tidy()
    assert member.folder.exists()
    machine.files.refuse.clear()
    run.tidy()
    assert not member.folder.exists()


def test_an_end_waits_for_the_dead_and_not_for_ever(tmp_path):
    machine = Machine(tmp_path, 1)
    run = machine.find().run
    machine.files.refuse[("rmdir", "server")] = errno.EBUSY
    assert not run.close(0.05)
    timer = threading.Timer(0.05, machine.files.refuse.clear)
    timer.start()
    assert run.close(60)
    assert machine.groups() == []


def test_v2_acts_are_the_kernels_own(tmp_path):
    machine = Machine(tmp_path, 2)
    run = machine.find().run
    member = run.member("w1")
    machine.files.did.clear()
    member.pause()
    member.resume()
    member.kill()
    member.fence(5 * MiB)
    assert machine.files.did == [
        "write w1/cgroup.freeze 1",
        "write w1/cgroup.freeze 0",
        "write w1/cgroup.kill 1",
        f"write w1/memory.max {5 * MiB}",
    ]
    assert machine.files.signals == []
    run.close()


def test_v2_of_an_old_kernel_signals_instead(tmp_path):
    machine = Machine(tmp_path, 2)
    run = machine.find().run
    member = run.member("w1")
    machine.files.refuse = {("write", "cgroup.freeze"): errno.ENOENT, ("write", "cgroup.kill"): errno.ENOENT}
    (member.folder / "cgroup.procs").write_text("50001\n")
    member.pause()
    assert machine.files.signals == [(50001, signal.SIGSTOP)]
    run.close()


# --------------------------------------------------------------------------- what is held


def test_v1_counts_memory_and_pipes_and_no_cache():
    content = b"cache 1\ntotal_cache 700\ntotal_rss 300\ntotal_rss_huge 9\ntotal_shmem 100\n"
    assert of_v1(content, 5 * MiB) == GroupMemory(400, 100, 600, 5 * MiB, 0)
    assert of_v1(content, 60 * MiB).pipes == 60 * MiB


def test_v2_counts_memory_and_pipes_and_no_cache():
    content = (
        b"anon 300\nfile 700\nkernel 73400320\nkernel_stack 1048576\npagetables 2097152\nsec_pagetables 0\n"
        b"percpu 0\nsock 4096\nvmalloc 0\nshmem 100\nslab 7340032\n"
    )
    assert of_v2(content) == GroupMemory(400, 100, 600, 70 * MiB + 4096, 60 * MiB)


def test_v2_before_pipes_were_told():
    assert of_v2(b"anon 300\nfile 700\nshmem 100\nslab 50\n") == GroupMemory(400, 100, 600, 50, 0)


@given(st.data())
def test_the_highest_is_never_below_what_was_read_and_never_above_what_was_held(data):
    """A mark is the sum at one moment; cache and kernel memory between the readings are within both ends'."""
    size = st.integers(0, 1 << 40)
    ends = [GroupMemory(*(data.draw(size) for _ in range(5))) for _ in range(2)]
    cache = data.draw(st.integers(0, max(each.cache for each in ends)))
    kernel = data.draw(st.integers(0, max(each.kernel for each in ends)))
    spike = data.draw(size)
    told = highest(spike + cache + kernel, *ends)
    read = max(each.memory for each in ends)
    assert read <= told <= max(spike, read)


def test_a_spike_between_two_readings_is_seen():
    calm = GroupMemory(10, 0, 5, 1, 0)
    assert highest(316, calm, calm) == 310


def test_a_mark_that_cannot_be_begun_anew_tells_only_records(tmp_path, monkeypatch):
    """Before Linux 6.12: root may open the file for writing, and the kernel refuses what it writes."""

    def refused(descriptor, data, place):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "pwrite", refused)
    for file, content in V2.items():
        (tmp_path / file).write_text(content)
    (tmp_path / "memory.peak").write_text("300\n")
    member = Member(tmp_path, 2)
    assert [member.read()[1], member.read()[1]] == [300, 0]
    (tmp_path / "memory.peak").write_text("400\n")
    assert member.read()[1] == 400


def test_a_group_that_is_gone_holds_nothing(tmp_path):
    member = Member(tmp_path / "gone", 1)
    assert member.held() is None
    assert member.read() is None
    assert member.kernel_kills() is None
    assert member.pids() == []
    assert member.end()
    with pytest.raises(OSError, match="No such file"):
        member.entrance()


def test_a_run_is_closed_once(tmp_path):
    ended = []
    (tmp_path / "run").mkdir()
    run = RunGroup(tmp_path / "run", 1, at_end=lambda: ended.append(1))
    assert run.close()
    assert run.close()
    assert ended == [1]


def charge(folder, version, *, anonymous=0, shared=0, charged=None):
    """What a made-up group holds."""
    total = "total_" if version == 1 else ""
    names = ("total_rss", "total_cache") if version == 1 else ("anon", "file")
    stat = f"{names[0]} {anonymous}\n{names[1]} {shared}\n{total}shmem {shared}\n"
    (folder / "memory.stat").write_text(stat)
    counter = "memory.usage_in_bytes" if version == 1 else "memory.current"
    (folder / counter).write_text(f"{anonymous + shared if charged is None else charged}\n")


@pytest.mark.parametrize("version", [1, 2])
def test_what_a_dead_worker_left_counts_before_the_kernels_numbers_tell_of_it(tmp_path, version):
    """A file that is memory: it stays charged to the run when the worker's group is gone."""
    run = Machine(tmp_path, version).find().run
    member = run.member("w1")
    charge(member.folder, version, anonymous=10 * MiB, shared=60 * MiB)
    charge(run.folder, version, anonymous=1 * MiB, charged=70 * MiB)
    assert run.all.held().memory == 70 * MiB
    run.drop(member)
    charge(run.folder, version, anonymous=1 * MiB, charged=60 * MiB)
    assert not member.folder.exists()
    assert run.all.held().memory == 60 * MiB
    charge(run.folder, version, anonymous=50 * MiB, charged=0)  # and somebody removes the file
    assert run.all.held().memory == 0
    run.close()


def test_no_descriptor_of_a_run_is_left(tmp_path):
    """Without waiting for a collection of cycles."""
    machine = Machine(tmp_path, 2)
    gc.collect()
    gc.disable()
    try:
        before = len(os.listdir("/dev/fd"))
        found = machine.find()
        found.run.member("w1")
        found.run.all.read()
        found.run.close()
        del found
        assert len(os.listdir("/dev/fd")) == before
    finally:
        gc.enable()
