"""Scopes that systemd makes for us, on made-up trees with a made-up systemd: when, and what is undone.

The real one is asked in tests/v2 (``make test-systemd``).
"""

import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from test_groups import V2, MadeUp
from waiting import until

from penstock.groups import find, systemd, ways
from penstock.groups.files import GroupFiles, pids
from penstock.limits.cgroup import Cgroup

USER = 1000
LOGIN = f"user.slice/user-{USER}.slice/session-3.scope"
MANAGER = f"user.slice/user-{USER}.slice/user@{USER}.service"
SERVICE = "system.slice/mine.service"
SYSTEMD_RUN = """\
#!/bin/sh
echo "$*" >>{root}/asked
. {root}/behaviour
for word; do
    case $word in --unit=*) unit=${{word#--unit=}} ;; esac
done
while [ "$1" != -- ]; do shift; done
shift
cp -r {root}/scope "{top}/{place}/$unit"
mkdir -p {root}/proc/$$
echo "0::/{place}/$unit" >{root}/proc/$$/cgroup
exec "$@"
"""


class Kernel(MadeUp):
    """Of straw; ``open`` says whether we may write what is not a group of ours."""

    open = False

    def __init__(self):
        super().__init__(2)
        self.moves = []

    def may_write(self, file):
        return self.open

    def visit(self, procs, move=(), patience=0.0):
        self.moves.append(list(move))
        super().visit(procs)


class Machine:
    """One that systemd started, with this process in one of its units.

    Args:
        home: its group.
        place: where the manager makes scopes.
        user: who this process is.
    """

    def __init__(self, root, monkeypatch, home=LOGIN, place=f"{MANAGER}/app.slice", user=USER):
        self.root, self.top = root, root / "sys/fs/cgroup"
        self.home, self.place = self.top / home, self.top / place
        self.files = Kernel()
        self.files.top, self.files.root = self.top, root
        for folder in (root / "scope", *self.above(self.home), *self.above(self.place)):
            folder.mkdir(parents=True, exist_ok=True)
            for file, content in {**V2, "pids.max": "max\n", "pids.current": "3\n"}.items():
                (folder / file).write_text(content)
        (self.home / "cgroup.procs").write_text(f"{os.getpid()}\n77\n")
        for path, text in {
            "proc/self/stat": f"{os.getpid()} (python) S " + " ".join("0" * 18) + " 777 0 0\n",
            "proc/self/ns/pid": "",
            "proc/self/cgroup": f"0::/{home}\n",
            "proc/self/mountinfo": "1 0 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
            "proc/1/comm": "systemd\n",
            "run/systemd/private": "",
            f"run/user/{USER}/systemd/private": "",
            "behaviour": "",
        }.items():
            self.put(path, text)
        self.socket = root / f"run/user/{USER}/systemd/private"
        self.owner = {root / "run/systemd/private": 0, self.socket: USER}
        self.program("systemd-run", SYSTEMD_RUN.format(root=root, top=self.top, place=place))
        self.program("busctl", "#!/bin/sh\n")
        self.environ = {"PATH": f"{root}/bin:{os.environ['PATH']}", "XDG_RUNTIME_DIR": f"/run/user/{USER}"}
        monkeypatch.setattr(systemd, "_me", lambda: user)
        monkeypatch.setattr(systemd, "_owner", lambda file: file.stat() and self.owner[file])
        monkeypatch.setattr(ways, "_aside", ways._Aside())
        monkeypatch.setattr(ways, "_is_delegated", lambda folder: False)
        monkeypatch.setattr(systemd, "PATIENCE", 60.0)

    def above(self, folder):
        return [folder, *(p for p in folder.parents if p.is_relative_to(self.top) and p != self.top)]

    def put(self, path, text):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def program(self, name, text):
        self.put(f"bin/{name}", text)
        (self.root / "bin" / name).chmod(0o755)

    def find(self, **environ):
        return find(self.environ | environ, self.files, self.root)

    @property
    def asked(self):
        """What systemd-run was called with."""
        file = self.root / "asked"
        return file.read_text().splitlines() if file.exists() else []

    @property
    def scopes(self):
        return sorted(self.place.glob("*.scope"))

    def holders(self):
        """Processes that hold scopes."""
        return [int(p.name) for p in (self.root / "proc").iterdir() if p.name.isdigit() and p.name != "1"]

    def nothing_is_left(self):
        """No group of ours, no process: an empty scope goes by itself."""
        ours = [p for p in self.top.rglob("penstock-*") if p.suffix != ".scope"]
        assert ours == []
        assert not any(Path(f"/proc/{pid}").exists() for pid in self.holders())
        assert pids((self.home / "cgroup.procs").read_text()) == [os.getpid(), 77]
        assert systemd.beside() == ()
        return True


@pytest.fixture
def login(tmp_path, monkeypatch):
    return Machine(tmp_path, monkeypatch)


@pytest.fixture
def as_root(tmp_path, monkeypatch):
    machine = Machine(tmp_path, monkeypatch, SERVICE, "system.slice", 0)
    machine.files.open = True
    return machine


# --------------------------------------------------------------------------- where it is taken


def test_a_login_gets_a_scope_and_its_fork_server_is_moved_there(login):
    found = login.find()
    assert found.way == "systemd"
    assert found.refused[0].startswith("v2: other processes are in the group (77)")
    (scope,) = login.scopes
    assert found.run.folder.parent == scope
    assert {p.name for p in found.run.folder.iterdir() if p.is_dir()} == {"server"}
    assert pids((scope / "holder/cgroup.procs").read_text()) == login.holders()
    assert (scope / "cgroup.subtree_control").read_text() == "+memory"
    (asked,) = login.asked
    assert asked.startswith("--user --scope ")
    assert "Delegate=yes" in asked
    (move,) = login.files.moves
    assert move[0] == f"{login.root}/bin/busctl"
    assert move[-4:] == ["ssau", scope.name, f"/{found.run.folder.name}/server", "1"]
    assert any(" ".join(move) in word for word in found.command(["python"]))
    assert pids((login.home / "cgroup.procs").read_text()) == [os.getpid(), 77]
    assert found.run.close()
    assert (scope / "cgroup.kill").read_text() == "1\n"
    assert login.nothing_is_left()


def test_root_asks_the_system_and_enters_by_itself(as_root):
    found = as_root.find()
    assert found.way == "systemd"
    assert found.refused[0].startswith("v2: other processes")
    assert as_root.asked[0].startswith("--scope ")
    assert as_root.files.moves == [[]]
    assert not any("busctl" in word for word in found.command(["python"]))
    assert found.run.close()
    assert as_root.nothing_is_left()


def test_a_terminal_below_the_users_manager_enters_by_itself(tmp_path, monkeypatch):
    machine = Machine(tmp_path, monkeypatch, f"{MANAGER}/app.slice/vte-spawn-1.scope")
    machine.files.open = True
    found = machine.find()
    assert found.way == "systemd"
    assert machine.files.moves == [[]]
    found.run.close()


def test_a_group_that_was_handed_over_needs_no_systemd(login, monkeypatch):
    monkeypatch.setattr(ways, "_is_delegated", lambda folder: True)
    (login.home / "cgroup.procs").write_text(f"{os.getpid()}\n")
    found = login.find()
    assert (found.way, found.refused, login.asked) == ("v2", [], [])
    found.run.close()


def test_two_runs_have_a_scope_each(login):
    first, second = login.find(), login.find()
    assert len(login.scopes) == 2
    first.run.close()
    assert second.run.member("w1").folder.exists()
    assert len(systemd.beside()) > 0
    second.run.close()
    assert login.nothing_is_left()


# --------------------------------------------------------------------------- where it is not asked


@pytest.mark.parametrize("job", ["SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "FLUX_JOB_ID"])
def test_a_job_of_a_batch_system_stays_in_its_group(login, job):
    found = login.find(**{job: "7\x1b[2J"})
    assert found.way == "none"
    assert f"({job}=7\\x1b[2J)" in found.refused[1]
    assert login.asked == []


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda m: m.put("proc/1/comm", "tini\n"), "the first process is not systemd"),
        (lambda m: m.environ.pop("XDG_RUNTIME_DIR"), "XDG_RUNTIME_DIR is not set"),
        (lambda m: m.socket.unlink(), "there is no manager (No such"),
        (lambda m: m.owner.update({m.socket: 1001}), "another user's (1001)"),
        (lambda m: m.environ.update(PATH="/nowhere"), "there is no systemd-run"),
    ],
)  # fmt: skip
def test_without_a_manager_of_ours_nothing_is_asked(login, spoil, words):
    spoil(login)
    found = login.find()
    assert found.way == "none"
    assert found.refused[1].startswith("systemd: ")
    assert words in found.refused[1]
    assert login.asked == []


@pytest.mark.parametrize(
    ("home", "words"),
    [
        ("system.slice/cron.service", "neither in a login's group nor below its user's manager"),
        ("system.slice/slurmstepd.scope/job_1/step_0", "within a unit of systemd's"),
        (f"{LOGIN}/tool", "within a unit of systemd's"),
        (f"{MANAGER}/app.slice/penstock-1-2-3-4.scope/penstock-1-2-3-4/w1", "within a unit of systemd's"),
        ("user.slice/user-1001.slice/user@1001.service/app.slice/x.scope", "neither in a login's group"),
    ],
)
def test_a_group_that_somebody_meant_for_us_is_not_left(tmp_path, monkeypatch, home, words):
    machine = Machine(tmp_path, monkeypatch, home)
    found = machine.find()
    assert found.way == "none"
    assert words in found.refused[1]
    assert machine.asked == []


def test_version_1_asks_no_systemd(login):
    login.put("proc/self/cgroup", "4:memory:/job\n")
    login.put("proc/self/mountinfo", "1 0 0:1 / /sys/fs/cgroup rw - cgroup cgroup rw,memory\n")
    assert login.find().way == "none"
    assert login.asked == []


# --------------------------------------------------------------------------- limits


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("memory.max", "1073741824\n"),
        ("memory.high", "1073741824\n"),
        ("memory.swap.max", "0\n"),
        ("cpu.max", "50000 100000\n"),
        ("io.max", "8:0 rbps=1048576 wbps=max riops=max wiops=max\n"),
        ("cpuset.cpus", "0-1\n"),
        ("hugetlb.2MB.max", "0\n"),
    ],
)
@pytest.mark.parametrize("where", [LOGIN, "home's parent"])
def test_a_limit_is_never_escaped(tmp_path, monkeypatch, file, content, where):
    home = LOGIN if where == LOGIN else f"user.slice/user-{USER}.slice/inner.slice/session-3.scope"
    machine = Machine(tmp_path, monkeypatch, home)
    (machine.home if where == LOGIN else machine.home.parent).joinpath(file).write_text(content)
    found = machine.find()
    assert found.way == "none"
    assert f"a limit would not hold in the scope ({file} " in found.refused[1]
    assert machine.nothing_is_left()


def test_what_is_no_limit_or_holds_there_too_is_not_in_the_way(login):
    for file, content in {
        "memory.max": "max\n",
        "cpu.max": "max 100000\n",
        "io.max": "",
        "cpuset.cpus": "\n",
        "rdma.max": "mlx5_0 hca_handle=max hca_object=max\n",
        "misc.max": "",
    }.items():
        (login.home / file).write_text(content)
    (login.home.parent / "memory.max").write_text(f"{1 << 30}\n")  # of the user, over both
    found = login.find()
    assert found.way == "systemd"
    found.run.close()


def test_of_the_number_of_processes_the_run_is_given_what_is_left(login):
    (login.home / "pids.max").write_text("100\n")
    (login.home / "pids.current").write_text("40\n")
    found = login.find()
    assert found.way == "systemd"
    assert (found.run.folder.parent / "cgroup.subtree_control").read_text() == "+memory +pids"
    assert (found.run.folder / "pids.max").read_text() == "60"
    found.run.close()


def test_limits_above_the_scope_count_while_it_is_there(login):
    (login.place / "memory.max").write_text("12345678\n")
    cgroup = Cgroup(login.root)
    assert cgroup.read() == []
    found = login.find()
    assert [ceiling.bytes for ceiling in cgroup.read()] == [12345678]
    found.run.close()
    assert cgroup.read() == []


# --------------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ("echo 'Not connected: \033[31m' >&2; exit 1", r"systemd-run: Not connected: \x1b[31m"),
        ("exit 1", "systemd-run: it ended without a word"),
        ("exec >&- 2>&-; sleep 1000", "systemd-run: it ended without a word"),
        ("place=elsewhere", "cannot be seen here"),
    ],
)  # fmt: skip
def test_what_systemd_says_is_told(login, behaviour, words):
    if behaviour.startswith("place"):
        login.program("systemd-run", '#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nshift; exec "$@"\n')
    login.put("behaviour", behaviour)
    found = login.find()
    assert found.way == "none"
    assert words in found.refused[1]
    assert login.nothing_is_left()


def test_a_manager_that_does_not_answer_is_not_waited_for(login, monkeypatch):
    monkeypatch.setattr(systemd, "PATIENCE", 0.2)
    login.put("behaviour", f"echo $$ >{login.root}/pid; exec sleep 1000")
    found = login.find()
    assert found.way == "none"
    assert "systemd-run did not answer within 0 s" in found.refused[1]
    file = login.root / "pid"
    assert not file.exists() or not Path(f"/proc/{file.read_text().strip()}").exists()
    assert login.nothing_is_left()


@pytest.mark.parametrize(
    "refuse",
    [
        {("mkdir", "holder"): errno.EACCES},
        {("write", "holder/cgroup.procs"): errno.EACCES},
        {("write", "scope/cgroup.subtree_control"): errno.EACCES},
        {("mkdir", "server"): errno.ENOSPC},
        {("visit", "cgroup.procs"): errno.EACCES},
    ],
)
def test_a_refusal_on_the_way_is_undone(login, refuse):
    login.files.refuse = refuse
    found = login.find()
    assert found.way == "none"
    assert os.strerror(next(iter(refuse.values()))) in found.refused[1]
    assert login.nothing_is_left()


def test_a_killed_run_leaves_nobody_in_its_scope(login):
    """What holds the scope sees the end of this process, and has the kernel end the rest."""
    body = f"""
        import os, sys
        from pathlib import Path
        sys.path += {sys.path!r}
        from penstock.groups import systemd
        from test_groups_systemd import Kernel
        systemd._me, root = (lambda: {USER}), Path({str(login.root)!r})
        systemd.PATIENCE = 60.0
        files = Kernel()
        files.top, files.root = root / "sys/fs/cgroup", root
        scope = systemd.Scope("penstock-1-2-3-4", Path({str(login.home)!r}), {login.environ!r}, files, root)
        server = scope.folder / "penstock-run/server"
        files.make(server.parent)
        files.make(server)
        (server / "cgroup.procs").write_text("50001\\n")
        print(scope.folder, flush=True)
        sys.stdin.read()
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(body)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with child:
        scope = Path(child.stdout.readline().strip())
        (holder,) = login.holders()
        assert Path(f"/proc/{holder}").exists()
        child.send_signal(signal.SIGKILL)
    server = scope / "penstock-run/server/cgroup.procs"
    time.sleep(0.5)
    assert (scope / "cgroup.kill").read_text() == ""  # it removes what else is left
    server.write_text("")
    until(lambda: not Path(f"/proc/{holder}").exists())
    assert (scope / "cgroup.kill").read_text() == "1\n"


# --------------------------------------------------------------------------- being moved


@pytest.mark.parametrize("odd", [False, True])
def test_who_is_moved_keeps_its_number_and_its_variables(tmp_path, monkeypatch, odd):
    """A shell would drop a variable of that name."""
    if odd:
        monkeypatch.setenv("BASH_FUNC_module%%", "kept")
    mover, procs = tmp_path / "mover", tmp_path / "cgroup.procs"
    mover.write_text(f'#!/bin/sh\necho "$*" >{tmp_path}/moved; echo told\n')
    mover.chmod(0o755)
    procs.touch()
    say = "import os; print(os.getpid(), os.environ.get('BASH_FUNC_module%%'))"
    command = GroupFiles().entered_by(procs, [sys.executable, "-c", say], [str(mover), "a scope's", "1"])
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert told[1] == ("kept" if odd else "None")
    assert (tmp_path / "moved").read_text() == f"a scope's 1 {told[0]}\n"
    assert procs.read_text().strip() == "0"


def test_who_cannot_be_moved_is_told_why_and_does_not_enter(tmp_path):
    procs = tmp_path / "cgroup.procs"
    procs.touch()
    with pytest.raises(OSError, match="Call failed: no such unit"):
        GroupFiles().visit(procs, ["/bin/sh", "-c", "echo 'Call failed: no such unit' >&2; exit 1"])
    assert procs.read_text() == ""


def test_who_is_moved_too_slowly_is_ended_with_what_moves_him(tmp_path):
    (tmp_path / "cgroup.procs").touch()
    move = ["/bin/sh", "-c", f"echo $$ >{tmp_path}/pid; exec sleep 1000"]
    with pytest.raises(OSError, match="timed out"):
        GroupFiles().visit(tmp_path / "cgroup.procs", move, 0.3)
    file = tmp_path / "pid"
    until(lambda: not file.exists() or not Path(f"/proc/{file.read_text().strip()}").exists())
