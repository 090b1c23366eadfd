"""``penstock exec`` as one uses it: what passes through, what is told, and programs that behave oddly."""

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import termios
import time
from functools import partial
from pathlib import Path

import pytest
from waiting import LIMIT, said, until

from penstock import events as ev
from penstock.budget import MiB
from penstock.event_lines import read as read_events

sys.path.insert(0, str(Path(__file__).parent))
from commands import alive, children, facts, hold, hold_until_read, line, python, run, started, watched

ASKED = "#SBATCH --mem="


# --------------------------------------------------------------------------- passing through


@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_the_exit_code_passes_through(code):
    assert run("--", "sh", "-c", f"exit {code}").returncode == code


@pytest.mark.parametrize("name", ["KILL", "TERM", "SEGV", "USR1"])
def test_a_death_by_signal_is_128_and_the_signal(name):
    done = run("--", "sh", "-c", f"ulimit -c 0; kill -{name} $$")
    assert done.returncode == 128 + signal.Signals[f"SIG{name}"]
    assert f"SIG{name}" in done.stderr


def test_output_and_input_pass_through_untouched():
    data = bytes(range(256)) * 1000
    done = run("--", "cat", input=data, text=False)
    assert done.stdout == data
    assert said(done.stderr.decode()).count("\n") == 1  # ours: what it needed


def test_the_streams_are_kept_apart():
    done = run("-q", "--", "sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, said(done.stderr)) == ("out\n", "err\n")


def test_options_of_the_command_are_not_ours():
    done = run("-q", "printf", "%s ", "--budget", "x", "--help")
    assert done.stdout == "--budget x --help "


def test_a_pipeline_ends_when_its_reader_does():
    shell = f"yes | {shlex.join(line('-q', '--', 'cat'))} | head -1"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=LIMIT)
    assert done.stdout == "y\n"


def test_a_command_that_closes_its_output_lets_the_reader_go():
    with started(
        "--", *python("import os, sys; os.close(1); sys.stdin.read()"), stdin=subprocess.PIPE
    ) as process:
        assert process.stdout.read() == ""
        assert process.poll() is None  # it runs on


def test_the_command_gets_the_signals_as_they_were():
    program = "import signal; print(*sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])), 'none')"
    assert run("-q", "--", *python(program)).stdout == "none\n"
    status = run("-q", "--", "grep", "SigIgn", "/proc/self/status").stdout.split()[1]
    assert int(status, 16) & (1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1) == 0


def test_what_was_ignored_stays_ignored():
    done = run(
        "-q", "--", "grep", "SigIgn", "/proc/self/status",
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )  # fmt: skip
    assert int(done.stdout.split()[1], 16) & 1 << signal.SIGHUP - 1


def test_open_files_pass_through():
    read, write = os.pipe()
    run("-q", "--", "bash", "-c", f"echo through >&{write}", pass_fds=[write])
    os.close(write)
    with open(read) as pipe:
        assert pipe.read() == "through\n"


# --------------------------------------------------------------------------- mistakes


def test_a_command_that_is_not_there():
    done = run("--", "no-such-command-here")
    assert done.returncode == 127
    assert said(done.stderr) == (
        "penstock exec: no-such-command-here: not found; looked in every folder of PATH\n"
    )


def test_a_file_that_cannot_be_executed(tmp_path):
    (tmp_path / "plain").write_text("text")
    for path in (tmp_path / "plain", tmp_path):
        done = run("--", path)
        assert done.returncode == 126
        assert said(done.stderr) == f"penstock exec: {path}: cannot be executed: Permission denied\n"


def test_a_script_without_its_first_line_runs_as_in_a_shell(tmp_path):
    script = tmp_path / "script"
    script.write_text('echo "got $1"; exit 5\n')
    script.chmod(0o755)
    done = run("-q", "--", script, "it")
    assert (done.stdout, done.returncode) == ("got it\n", 5)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "Missing argument"),
        (["--"], "Missing argument"),
        (["--budget", "12", "--", "true"], "12MiB"),
        (["--for", "pbs", "--", "true"], "slurm"),
    ],
)
def test_wrong_usage(words, said):
    done = run(*words)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_what_it_needed_is_written_as_json_beside_what_the_command_prints(tmp_path):
    done = run("--json", tmp_path / "told.json", "--", "sh", "-c", "echo out; exit 7")
    told = json.loads((tmp_path / "told.json").read_text())
    assert (done.returncode, done.stdout) == (7, "out\n")
    assert (told["code"], told["command"][0], told["complete"]) == (7, "sh", True)
    assert told["advised"] >= told["peak"]
    assert {"verdict", "seconds", "cpu", "signal"} <= told.keys()
    done = run("--json", tmp_path / "no" / "told.json", "--", "true")
    assert done.returncode == 0
    assert "told.json: No such file" in done.stderr


def test_a_folder_of_a_job_is_refused(tmp_path):
    (tmp_path / ".penstock").mkdir()
    (tmp_path / ".penstock" / "events.jsonl").write_text("")
    done = run("--into", tmp_path, "--", "true")
    assert done.returncode == 2
    assert "run folder of a job" in done.stderr


# --------------------------------------------------------------------------- signals


HANDLES = """
import os, signal, sys
def show(number, frame):
    print(signal.Signals(number).name, flush=True)
    if number == signal.SIGTERM:
        os._exit(9)
for name in ("INT", "TERM", "HUP", "USR1", "USR2", "WINCH"):
    signal.signal(signal.Signals["SIG" + name], show)
print("ready", os.getpid(), flush=True)
while True:
    signal.pause()
"""


def test_signals_are_passed_on():
    # Under nohup a hangup is ignored, and is not passed on.
    heeds = partial(signal.signal, signal.SIGHUP, signal.SIG_DFL)
    with started("--", *python(HANDLES), preexec_fn=heeds) as process:
        assert process.stdout.readline().startswith("ready")
        for name in ("SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGTERM"):
            process.send_signal(signal.Signals[name])
            assert process.stdout.readline() == f"{name}\n"
        assert process.wait(LIMIT) == 9


def test_a_signal_that_ends_it_names_its_sender():
    with started("--", "sh", "-c", "echo ready; exec sleep 1000") as process:
        process.stdout.readline()
        process.terminate()
        said = process.communicate(timeout=LIMIT)[1]
        assert process.returncode == 128 + signal.SIGTERM
        assert f"ended by SIGTERM, sent by process {os.getpid()}" in said


def test_sigkill_from_elsewhere_is_not_put_on_the_kernel():
    with started(
        "--", *python("import os, time; print(os.getpid(), flush=True); time.sleep(1000)")
    ) as process:
        os.kill(int(process.stdout.readline()), signal.SIGKILL)
        said = process.communicate(timeout=LIMIT)[1]
        assert process.returncode == 137
        assert "not told" in said
        assert "the kernel killed" not in said


def test_stopping_and_going_on():
    program = "print('on', flush=True)\nimport time\nwhile True: time.sleep(.1)"
    # A group of its own, with its parent in the session: the kernel stops no orphaned group.
    with started("--", *python(program), process_group=0) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGTSTP)
        until(lambda: " T " in Path(f"/proc/{process.pid}/stat").read_text())
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT) == 128 + signal.SIGTERM


def test_the_command_dies_with_its_supervisor():
    with started(
        "--", *python("import os, time; print(os.getpid(), flush=True); time.sleep(1000)")
    ) as process:
        pid = int(process.stdout.readline())
        process.kill()
        until(lambda: not alive(pid))


# --------------------------------------------------------------------------- a terminal


class Terminal:
    """``penstock exec`` on a terminal of its own, as the foreground job of a session."""

    def __init__(self, *words):
        self.seen = b""
        self.pid, self.end = pty.fork()
        if self.pid == 0:
            termios.tcsetwinsize(0, (24, 100))
            os.environ["TERM"] = "xterm"
            os.execv(sys.executable, line(*words))

    def read(self, expected):
        import select

        deadline = time.monotonic() + LIMIT
        while expected not in self.seen:
            assert time.monotonic() < deadline, self.seen
            if select.select([self.end], [], [], 0.1)[0]:
                self.seen += self._some()

    def _some(self):
        try:
            return os.read(self.end, 1 << 16)
        except OSError:
            return b""

    def type(self, text):
        os.write(self.end, text)

    def wait(self):
        status = os.waitpid(self.pid, 0)[1]
        while more := self._some():
            self.seen += more
        os.close(self.end)
        return status


def test_ctrl_c_reaches_the_command_once_and_ends_us_as_it_would():
    program = """
import time
try:
    print("ready", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(0.5)   # a second one would interrupt this
    print("cleaned up", flush=True)
    raise
"""
    terminal = Terminal("--", *python(program))
    terminal.read(b"ready")
    terminal.type(b"\x03")
    terminal.read(b"cleaned up")
    status = terminal.wait()
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGINT


def test_ctrl_c_that_the_command_survives_is_no_death():
    terminal = Terminal(
        "--", "sh", "-c", "trap 'echo caught; exit 3' INT; echo ready; while :; do sleep 0.1; done"
    )
    terminal.read(b"ready")
    terminal.type(b"\x03")
    assert os.WEXITSTATUS(terminal.wait()) == 3
    assert b"caught" in terminal.seen


def test_the_command_has_the_terminal():
    program = "import os; print('fore', os.tcgetpgrp(0) == os.getpgrp(), flush=True); print('got', input())"
    terminal = Terminal("--", *python(program))
    terminal.read(b"fore True")
    terminal.type(b"words\n")
    terminal.read(b"got words")
    assert os.WEXITSTATUS(terminal.wait()) == 0


def test_the_live_line_keeps_out_of_the_command_s_way():
    terminal = Terminal("--", *python("kept = bytearray(b'x') * (100 << 20); input()"))
    terminal.read(b"peak 10")
    assert b"\x1b[1;" in terminal.seen  # the last row is out of what scrolls
    terminal.type(b"\n")
    terminal.wait()
    assert b"\x1b[1;24r\x1b8penstock exec: needed 10" in terminal.seen  # and is given back


def test_nothing_is_drawn_over_a_program_that_has_the_screen(tmp_path):
    program = "import tty; tty.setraw(0); print('raw', flush=True); until_read(3)"
    terminal = Terminal("-q", "--into", tmp_path, "--", *watched(tmp_path, program))
    terminal.read(b"raw")
    terminal.wait()
    assert b"\x1b7" not in terminal.seen


# --------------------------------------------------------------------------- what is told


def test_what_it_needed_and_what_to_ask_for():
    for system, words in (("slurm", ASKED), ("docker", "--memory="), ("k8s", "resources.limits.memory: ")):
        said = run("--for", system, "--", *hold(150)).stderr
        assert said.startswith("penstock exec: needed 15")
        assert words in said


def test_the_peak_of_several_processes(tmp_path):
    program = """
import subprocess, sys
code = "kept = bytearray(b'x') * (60 << 20); print(flush=True); input()"
hold = [sys.executable, "-c", code]
held = [subprocess.Popen(hold, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(3)]
for each in held:
    each.stdout.readline()
until_read()
for each in held:
    each.communicate(b"\\n")
"""
    run("--into", tmp_path, "--", *watched(tmp_path, program))
    assert 188 * MiB < facts(tmp_path)["peak"] < 215 * MiB


def test_pages_that_forked_children_have_in_common_count_once(tmp_path):
    program = """
import os, signal
kept = bytearray(b"x") * (200 << 20)
for _ in range(5):
    if os.fork() == 0:
        signal.pause()
until_read(3)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.killpg(0, signal.SIGTERM)
"""
    done = run("--into", tmp_path, "--budget", "600MiB", "--", *watched(tmp_path, program), process_group=0)
    assert done.returncode == 0
    assert 200 * MiB < facts(tmp_path)["peak"] < 250 * MiB


def test_a_spike_between_two_readings_is_not_missed(tmp_path):
    run(
        "--into",
        tmp_path,
        "--",
        *watched(tmp_path, "until_read(1); bytearray(b'x') * (150 << 20); until_read()"),
    )
    assert 150 * MiB < facts(tmp_path)["peak"] < 170 * MiB


def test_a_last_spike_before_the_end_is_not_missed(tmp_path):
    program = "import os; until_read(1); bytearray(b'x') * (150 << 20); os._exit(0)"
    run("--into", tmp_path, "--", *watched(tmp_path, program))
    assert 150 * MiB < facts(tmp_path)["peak"] < 170 * MiB


def test_mapped_files_are_not_counted(tmp_path):
    big = tmp_path / "big"
    big.write_bytes(bytes(128 * MiB))
    program = f"import mmap; m = mmap.mmap(open({str(big)!r}).fileno(), 0, prot=mmap.PROT_READ)\n"
    program += "sum(m[::4096]); until_read()"
    run("--into", tmp_path / "run", "--", *watched(tmp_path / "run", program))
    assert facts(tmp_path / "run")["peak"] < 40 * MiB


def test_memory_files_that_no_process_maps_are_counted_and_their_holder_is_named(tmp_path):
    program = "import os; fd = os.memfd_create('x'); [os.write(fd, bytes(1 << 20)) for _ in range(200)]\n"
    done = run("--budget", "120MiB", "--into", tmp_path, "--", *watched(tmp_path, program + "until_read(9)"))
    assert done.returncode == 3
    assert re.search(r"most was held by process \d+ \(.*\): [12]\d\d MiB", done.stderr)
    assert 120 * MiB < facts(tmp_path)["peak"] < 240 * MiB


def test_the_run_folder_tells_the_course(tmp_path):
    # What it holds stands still, and is told all the same.
    done = run("--into", tmp_path, "--", *hold_until_read(80, tmp_path, times=4))
    assert done.returncode == 0
    told = list(read_events(tmp_path / ".penstock" / "events.jsonl"))
    assert [type(told[0]), type(told[1]), type(told[-1])] == [
        ev.StageStarted, ev.CommandStarted, ev.StageEnded,
    ]  # fmt: skip
    assert told[1].command[1] == "-c"
    readings = [event for event in told if isinstance(event, ev.MemoryRead)]
    assert max(event.used for event in readings) > 80 * MiB
    assert str(told[1].pid) in readings[-2].workers
    assert told[-1].outcome == "done"
    assert (tmp_path / "report.html").exists()
    assert not (tmp_path / ".penstock" / "lock").exists()


def test_once_more_into_the_same_folder(tmp_path):
    assert run("--into", tmp_path, "--", "false").returncode == 1
    assert run("--into", tmp_path, "--", "true").returncode == 0
    assert facts(tmp_path)["code"] == 0


# --------------------------------------------------------------------------- the budget


def test_over_the_budget_it_is_ended_and_the_process_named(tmp_path):
    shell = f"{shlex.join(hold(300, 2 * LIMIT))}; echo went on"
    done = run("--budget", "200MiB", "--into", tmp_path, "--", "sh", "-c", shell)
    assert done.returncode == 3
    assert done.stdout == ""
    assert "over the budget" in done.stderr
    assert "import time; kept" in done.stderr
    assert "needed more than" in done.stderr
    assert facts(tmp_path)["verdict"]["by"] == "budget"


def test_a_budget_may_only_warn(tmp_path):
    holds = hold_until_read(150, tmp_path)
    done = run("--budget", "60MiB", "--over", "warn", "--into", tmp_path, "--", *holds)
    assert done.returncode == 0
    assert done.stderr.count("over the budget") == 1


def test_auto_only_watches(monkeypatch):
    monkeypatch.delenv("PENSTOCK_BUDGET", raising=False)
    assert run("--", *hold(150)).returncode == 0


def test_the_environment_sets_the_budget(monkeypatch):
    monkeypatch.setenv("PENSTOCK_BUDGET", "60MiB")
    assert run("--", *hold(150, 2 * LIMIT)).returncode == 3


# --------------------------------------------------------------------------- odd programs


def test_a_child_that_outlives_the_command_still_counts(tmp_path):
    program = f"""
import subprocess, sys
subprocess.Popen({hold_until_read(90, tmp_path, times=5)}, start_new_session=True)
sys.exit(6)
"""
    done = run("--into", tmp_path, "--", *python(program))
    assert done.returncode == 6
    assert facts(tmp_path)["peak"] > 90 * MiB
    assert "waiting for what it left running" in done.stderr


DAEMON = """
import os, sys, time
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
print(os.getpid(), flush=True)
null = os.open(os.devnull, os.O_RDWR)
for number in range(3): os.dup2(null, number)
time.sleep(1000)
"""


def test_a_daemon_may_be_left_running():
    done = run("--no-wait", "--", *python(DAEMON))
    assert done.returncode == 0
    pid = int(done.stdout)
    assert alive(pid)
    os.kill(pid, signal.SIGKILL)


def test_a_daemon_ends_with_the_signal_that_ends_us():
    with started("--", *python(DAEMON)) as process:
        pid = int(process.stdout.readline())
        until(lambda: children(process.pid) == [pid])  # it was adopted, and its parents are reaped
        process.terminate()
        assert process.wait(LIMIT) == 0
        assert not alive(pid)


def test_a_storm_of_forks_is_survived_and_ended(tmp_path):
    program = """
import os, time
kept = bytearray(b"x") * (20 << 20)
for _ in range(150):
    if os.fork() == 0:
        kept[::4096] = kept[::4096]   # its own copy
        time.sleep(1000)
        os._exit(0)
    time.sleep(0.002)
time.sleep(1000)
"""
    done = run("--budget", "400MiB", "--into", tmp_path, "--", *python(program))
    assert done.returncode == 3
    for event in read_events(tmp_path / ".penstock" / "events.jsonl"):
        if isinstance(event, ev.MemoryRead):
            assert not any(alive(pid) for pid in event.workers)


def test_many_short_children_cost_little(tmp_path):
    done = run("--into", tmp_path, "--", "sh", "-c", "for i in $(seq 1500); do /bin/true; done")
    assert done.returncode == 0
    assert facts(tmp_path)["own_cpu"] < 1.5


def test_zombies_are_nobody(tmp_path):
    program = """
import os, time
for _ in range(50):
    if os.fork() == 0:
        os._exit(0)
until_read()
"""
    done = run("--into", tmp_path, "--", *watched(tmp_path, program))
    assert done.returncode == 0
    assert facts(tmp_path)["peak"] < 40 * MiB


def test_an_exec_inside_an_exec():
    done = run("-q", "--", *line("--", "sh", "-c", "exit 11"))
    assert done.returncode == 11


def test_facts_are_plain_json(tmp_path):
    run("--into", tmp_path, "--", "sh", "-c", "exit 2")
    values = json.loads((tmp_path / ".penstock" / "exec.json").read_text())
    assert (values["schema"], values["code"], values["command"]) == (1, 2, ["sh", "-c", "exit 2"])


def test_a_large_parent_of_many_short_children_counts_once(tmp_path):
    program = """
import subprocess, threading
kept = bytearray(b"x") * (100 << 20)
enough = threading.Thread(target=until_read, args=(4,))
enough.start()
while enough.is_alive():
    subprocess.run(["true"])   # for a moment in the memory of its parent (vfork)
"""
    done = run("--budget", "180MiB", "--into", tmp_path, "--", *watched(tmp_path, program))
    assert done.returncode == 0
    assert facts(tmp_path)["peak"] < 130 * MiB
