"""Groups in scopes of a real systemd: of a user who logged in, and of root in a service of its own.

Runs inside the guest with systemd only (``make test-systemd``), as root; what is tested runs in a login of
user ``u``, whose manager lives on, or in a service.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import guest
import pytest
from guest import TOP, MiB, say  # noqa: F401
from guest_groups import DRIVE, until

U, V = 1000, 1001
SECONDS = 500.0
"""A program that takes longer hangs."""
PATIENT = "from penstock.groups import systemd; systemd.PATIENCE = 90\n"
"""An emulated machine is slow; how long one waits is tested elsewhere."""
FIND = """
import json, os
from penstock.groups import find
before = open("/proc/self/cgroup").read()
found = find()
said = {"way": found.way, "refused": found.refused, "moved": open("/proc/self/cgroup").read() != before}
if found.run:
    found.run.close()
print(json.dumps(said))
"""


@pytest.fixture(scope="module", autouse=True)
def manager():
    """The user's manager stays between logins: each test would start it anew."""
    subprocess.run(["loginctl", "enable-linger", "u"], check=True)
    until(Path(f"/run/user/{U}/bus").exists)


@pytest.fixture(autouse=True)
def nothing_is_left():
    """No scope and no process of a run outlives its test."""
    yield
    until(lambda: not scopes())


def scopes() -> list[Path]:
    """Those of runs; others may go while they are looked for."""
    names = (Path(folder) for folder, _, _ in os.walk(TOP))
    return [folder for folder in names if re.fullmatch(r"penstock-.*\.scope", folder.name)]


def service(body: str, *options: str, **environ: str) -> subprocess.Popen[str]:
    """A program as root in a service that was not handed over, or as the options say."""
    environ = {"ORDERS": str(guest.HERE), "PATH": os.environ["PATH"], **environ}
    set_ = [f"--setenv={name}={value}" for name, value in environ.items()]
    return subprocess.Popen(
        ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", *options, *set_, "--",
         sys.executable, "-c", PATIENT + body],
        cwd="/tmp", text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def login(body: str, user: int = U, **environ: str) -> subprocess.Popen[str]:
    """A program in a login as ssh makes one: in the session's group, which is root's."""
    return service(body, f"-pUser={user}", "-pPAMName=penstock-login", **environ)


def told(program: subprocess.Popen[str], word: str = "") -> dict:
    """What a program said as JSON, given a word to go on by."""
    out, errors = program.communicate(word, timeout=SECONDS)
    assert program.returncode == 0, errors
    answer: dict = json.loads(out)
    return answer


# --------------------------------------------------------------------------- where


def test_a_login_has_a_scope_made_and_stays_where_it_is(say):  # noqa: F811
    said = told(login(FIND))
    say(said)
    assert (said["way"], said["moved"]) == ("systemd", False)
    assert said["refused"][0].startswith("v2: ")


def test_root_in_a_service_that_was_not_handed_over_has_one_too(say):  # noqa: F811
    """Whose number of processes systemd limits, as that of every service."""
    said = told(service(FIND))
    say(said)
    assert (said["way"], said["moved"]) == ("systemd", False)


def test_a_limit_of_the_login_itself_is_not_escaped():
    program = login("print(open('/proc/self/cgroup').read(), flush=True); input()\n" + FIND)
    session = program.stdout.readline().strip().partition("::")[2]
    program.stdout.readline()
    (TOP / session.lstrip("/") / "memory.max").write_text(str(600 * MiB))
    said = told(program, "\n")
    assert said["way"] == "none"
    assert f"a limit would not hold in the scope (memory.max {600 * MiB})" in said["refused"][1]


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (lambda: login(FIND, SLURM_JOB_ID="5"), "SLURM_JOB_ID=5"),
        (
            lambda: service(FIND, f"-pUser={U}", XDG_RUNTIME_DIR=f"/run/user/{U}"),
            "neither in a login's group",
        ),
        (lambda: login("import os; os.environ['XDG_RUNTIME_DIR'] = '/tmp'\n" + FIND), "there is no manager"),
    ],
)
def test_elsewhere_systemd_is_not_asked(start, words):
    said = told(start())
    assert said["way"] == "none"
    assert words in said["refused"][1]


# --------------------------------------------------------------------------- what it is good for

WORKERS = """
from orders import Spike, Unlinked
other, _ = begin()
said = {}
before = backend.read()[worker].charged
ask(worker, Unlinked(60 * MiB))
said["grown"] = backend.read()[worker].charged - before
said["total"], said["measure"] = backend.total(), backend.measure
backend.pause(worker)
until(lambda: frozen(pid))
backend.resume(worker)
until(lambda: not frozen(pid))
said["went on"] = ask(worker, puppet.Echo(5))
backend.fence(other, 40 * MiB)
death = ask(other, puppet.Hold(120 * MiB))
said |= {"signal": death.signal, "by the kernel": death.kernel_killed, "others": ask(worker, puppet.Echo(7))}
"""


@pytest.mark.parametrize("start", [login, service])
def test_memory_is_exact_a_pause_freezes_and_a_fence_ends_one_worker(start, say):  # noqa: F811
    """Of files that are memory and have no name, in a folder and as a memfd."""
    said = told(start(DRIVE + WORKERS + "backend.close()\nprint(json.dumps(said))"))
    say(said)
    assert 59 * MiB <= said["grown"] <= 64 * MiB
    assert said["total"] >= said["grown"]
    assert "(systemd, " in said["measure"]
    assert (said["went on"], said["others"]) == ([5], [7])
    assert (said["signal"], said["by the kernel"]) == (signal.SIGKILL, True)


RUN = """
import json, sys
sys.path.insert(0, {here!r})
import penstock, workload
report = penstock.run(
    workload.work, range(8), inputs={{"mix": "uniform", "parent": 0, "flag": ""}}, workers=2, budget="300MiB"
)
good = [report.result[item] == workload.expected("uniform", item) for item in range(8)]
print(json.dumps({{"good": good, "peak": report.peak, "failures": dict(report.failures)}}))
"""


def test_a_run_in_a_login_stays_in_its_budget(say):  # noqa: F811
    said = told(login(RUN.format(here=str(guest.HERE))))
    say(said)
    assert said["good"] == [True] * 8
    assert said["failures"] == {}
    assert 32 * MiB < said["peak"] <= 300 * MiB


def test_limits_says_so():
    said = told(login("import penstock.cli as c; c.main(['limits', '--json'])"))
    assert "control groups of our own (systemd, " in said["measure"]


# --------------------------------------------------------------------------- the end

STRAY = "((stray,),) = ask(worker, puppet.Spawn(detached=True))\nprint(os.getpid(), stray, flush=True)\n"


def alive(pid: int) -> bool:
    """Whether a process goes on."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


def test_a_killed_run_leaves_no_scope_and_nobody():
    program = login(DRIVE + STRAY + "time.sleep(1000)")
    pid, stray = map(int, program.stdout.readline().split())
    assert len(scopes()) == 1
    os.kill(pid, signal.SIGKILL)
    until(lambda: not alive(stray) and not scopes())
    program.communicate(timeout=SECONDS)


LEFT = """
import os
if os.fork():
    os._exit(0)
os.setsid()
"""
GO_ON = """
Path("/home/v/begun").touch()
until(Path("/home/v/go").exists)
Path("/home/v/said").write_text(json.dumps(ask(worker, puppet.Echo(7))))
backend.close()
"""


def test_a_run_outlives_its_login_as_before():
    """Its user's manager lives as long as anybody in the login's group, although the user has gone."""
    program = login(LEFT + DRIVE + GO_ON, user=V)
    until(Path("/home/v/begun").exists)
    sessions = subprocess.run(
        ["loginctl", "show-user", "v", "--property=State"], capture_output=True, text=True, check=True
    ).stdout
    assert "closing" in sessions
    time.sleep(5)  # after one second a manager that nobody needs is ended (logind.conf)
    assert len(scopes()) == 1
    Path("/home/v/go").touch()
    until(Path("/home/v/said").exists)
    assert Path("/home/v/said").read_text() == "[7]"
    program.communicate(timeout=SECONDS)
