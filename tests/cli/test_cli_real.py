"""The command line with nothing made up: real processes, real signals, real exit codes."""

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import LIMIT, read_bytes, until

PENSTOCK = Path(sys.executable).with_name("penstock")
CODE = """
import time
import penstock

def square(i):
    return i * i

def thirteen(i):
    if i == 13:
        raise ValueError("it is thirteen")
    return i

def wait(i):
    time.sleep(0.02)
    return i

def huge(i):
    return len(bytearray(300_000_000 if i == 3 else 1_000_000))

def make(function, items):
    return penstock.Job(source=penstock.sources.Range(items), function=function, into="collect")

squares, broken, slow, large = make(square, 300), make(thirteen, 60), make(wait, 600), make(huge, 6)
nothing = 3
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mine.py").write_text(CODE)
    return tmp_path


def penstock(folder, *words, **more):
    return subprocess.run(
        [PENSTOCK, *words], cwd=folder, capture_output=True, text=True, timeout=LIMIT, check=False, **more
    )


def test_a_job_is_done_and_the_same_command_again_does_nothing(folder):
    command = ["run", "mine.py:squares", "--into", "r", "--budget", "1GiB"]
    first = penstock(folder, *command)
    assert (first.returncode, first.stdout) == (0, ""), first.stderr
    assert "300 of 300 items" in first.stderr
    assert "results.jsonl" in first.stderr
    assert (folder / "r" / "report.html").read_text().startswith("<!doctype html>")
    again = penstock(folder, *command)
    assert (again.returncode, again.stdout) == (0, "")
    assert "nothing was left to do" in again.stderr
    report = penstock(folder, "report", "r", "--json")
    values = json.loads(report.stdout)
    assert (values["done"], values["outcome"], values["budget"]) == (300, "done", 1 << 30)
    assert 0 < values["peak"] < 1 << 30
    other = penstock(folder, "run", "mine.py:slow", "--into", "r")
    assert other.returncode == 1
    assert "JobChanged" in other.stderr


def test_an_item_that_raises_fails_the_run_or_is_set_aside(folder):
    command = ["run", "mine.py:broken", "--into", "r", "--budget", "1GiB"]
    failed = penstock(folder, *command)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "penstock: FunctionRaised:" in failed.stderr
    assert "it is thirteen" in failed.stderr
    assert failed.stderr.rstrip().endswith("to go on: penstock resume r")
    assert "Traceback" not in failed.stderr
    aside = penstock(folder, *command, "--set-aside", "1")
    assert (aside.returncode, aside.stdout) == (5, ""), aside.stderr
    assert "set aside 13" in aside.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_a_run_that_resume_finishes_from_elsewhere(number, code, folder):
    command = [PENSTOCK, "run", "mine.py:slow", "--into", "r", "--budget", "1GiB", "--workers", "1"]
    run = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    journal = folder / "r" / ".penstock" / "job" / "journal"
    until(lambda: read_bytes(journal).count(b"\n") > 3, program=run)
    run.send_signal(number)
    out, told = run.communicate(timeout=LIMIT)
    assert (run.returncode, out) == (code, ""), told
    assert "to go on: penstock resume r" in told
    resumed = penstock(folder.parent, "resume", str(folder / "r"), "--budget", "800MiB", "--workers", "2")
    assert resumed.returncode == 0, resumed.stderr
    assert "600 of 600 items" in resumed.stderr
    assert "from before" in resumed.stderr
    lines = [json.loads(line) for line in (folder / "r" / "results.jsonl").read_text().splitlines()]
    assert len(lines) == 600


def test_what_cannot_fit_is_3_and_the_message_says_what_would(folder):
    small = penstock(folder, "plan", "mine.py:squares", "--budget", "20MiB")
    assert (small.returncode, small.stdout) == (3, "")
    assert "NoBudget" in small.stderr
    assert "smallest budget" in small.stderr


def test_where_too_few_files_may_be_opened_the_number_is_told_and_the_command_that_goes_on(folder):
    def forbid():
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))

    few = penstock(folder, "run", "mine.py:squares", "--into", "r", "--budget", "1GiB", preexec_fn=forbid)
    assert (few.returncode, few.stdout) == (1, "")
    assert "ulimit -n says how many may be, 40 now" in few.stderr
    assert few.stderr.endswith("to go on: penstock resume r\n"), few.stderr
    resumed = penstock(folder, "resume", "r", "--budget", "1GiB")
    assert resumed.returncode == 0, resumed.stderr


def test_an_item_that_is_too_large_is_3_and_named(folder):
    large = penstock(folder, "run", "mine.py:large", "--into", "r", "--budget", "170MiB")
    assert (large.returncode, large.stdout) == (3, ""), large.stderr
    assert "ItemTooLarge: item '3' needs more than" in large.stderr
    assert "pass --set-aside all" in large.stderr
    aside = penstock(folder, "resume", "r", "--budget", "170MiB", "--set-aside", "all")
    assert aside.returncode == 5, aside.stderr


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["run", "mine.py:none", "--into", "r"], 4, "jobs in it: broken, large, slow, squares"),
        (["run", "mine.py:nothing", "--into", "r"], 4, "is of type int, not a penstock.Job"),
        (["run", "missing.py:job", "--into", "r"], 4, "no such file"),
        (["run", "no_such_module:job", "--into", "r"], 4, "cannot be imported"),
        (["run", "bad.py:job", "--into", "r"], 4, "bad.py, line 2: cannot be imported: ZeroDivisionError"),
        (["run", "json.py:job", "--into", "r"], 4, "rename the file"),
        (["run", "nonsense", "--into", "r"], 2, "no workload is called 'nonsense'"),
        (["run", "mine.py:squares"], 2, "--into"),
        (["run", "mine.py:squares", "--into", "r", "--budget", "16"], 2, "write 16MiB or 16GiB"),
        (["run", "mine.py:squares", "--into", "."], 1, "choose an empty or new folder"),
        (["resume", "."], 2, "holds no run"),
        (["report", "."], 2, "holds no run"),
        (["run", "mine.py", "--into", "r"], 4, "has 4 jobs: say which, as mine.py:broken"),
        (["plan", "bad.py"], 4, "bad.py, line 2: cannot be imported"),
        (["plan", "empty.py"], 4, "has no penstock.Job"),
        (["plan", "refused.py"], 4, "refused.py, line 3: cannot be imported: TypeError: Job takes"),
        (["plan", "imports.py"], 4, "wrong.py, line 2: cannot be imported: SyntaxError"),
    ],
)
def test_a_mistake_is_said_in_one_line(words, code, says, folder):
    (folder / "bad.py").write_text("x = 1\nx / 0\n")
    (folder / "json.py").write_text("job = 1\n")
    (folder / "empty.py").touch()
    (folder / "refused.py").write_text("import penstock\n\njob = penstock.Job(str, 3)\n")
    (folder / "imports.py").write_text("import wrong\n")
    (folder / "wrong.py").write_text("x = 1\ny = (\n")
    result = penstock(folder, *words)
    assert (result.returncode, result.stdout) == (code, "")
    assert says in result.stderr.replace("\n  ", " ")
    assert "Traceback" not in result.stderr


def test_a_file_with_one_job_needs_no_name_of_it(folder):
    (folder / "one.py").write_text("import penstock\nfrom mine import squares\n")
    result = penstock(folder, "run", "one.py", "--into", "r")
    assert result.returncode == 0, result.stderr
    assert (
        json.loads((folder / "r/.penstock/command.json").read_text())["job"] == f"{folder / 'one.py'}:squares"
    )


def test_python_m_penstock_is_the_command(folder):
    words = [sys.executable, "-m", "penstock"]
    told = subprocess.run([*words, "--version"], capture_output=True, text=True, check=True).stdout
    assert (
        told
        == subprocess.run(
            [*words[:1], "-c", "from penstock.cli import main; main(prog_name='penstock')", "--version"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )
    result = subprocess.run([*words, "nothing"], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("Usage: penstock ")


def test_plan_prints_a_plan_and_leaves_nothing_behind(folder):
    plan = penstock(
        folder, "plan", "mine:slow", "--budget", "1GiB", env={**os.environ, "PYTHONPATH": str(folder)}
    )
    assert (plan.returncode, plan.stderr) == (0, "")
    assert "footprint" in plan.stdout
    assert sorted(path.name for path in folder.iterdir() if path.name != "__pycache__") == ["mine.py"]


def planned(folder, *words, **environ):
    done = penstock(folder, "plan", "mine.py:squares", "--json", *words, env={**os.environ, **environ})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["plans"][0]


def test_workers_and_calls_may_be_bounded_by_hand(folder):
    free = planned(folder, "--budget", "1GiB")
    bound = planned(folder, "--budget", "1GiB", "--workers", "1", "--call", "2")
    assert (bound["workers"], bound["call"]) == (1, 2)
    assert free["call"] > 2
    run = penstock(folder, "run", "mine.py:squares", "--into", "r", "--budget", "1GiB", "--call", "3")
    assert run.returncode == 0
    events = [json.loads(line) for line in (folder / "r/.penstock/events.jsonl").read_text().splitlines()]
    assert {event["call"] for event in events if event["event"] == "batch_started"} <= {1, 2, 3}


def test_environment_variables_stand_in_for_options(folder):
    environ = {"PENSTOCK_BUDGET": "321MiB", "PENSTOCK_WORKERS": "1"}
    plan = planned(folder, **environ)
    assert (plan["budget"], plan["origin"], plan["workers"]) == (321 << 20, "PENSTOCK_BUDGET", 1)
    assert planned(folder, "--budget", "300MiB", **environ)["budget"] == 300 << 20, "an option counts more"
    for name, value in {"PENSTOCK_BUDGET": "lots", "PENSTOCK_WORKERS": "many"}.items():
        wrong = penstock(folder, "plan", "mine.py:slow", env={**os.environ, name: value})
        assert wrong.returncode == 2
        assert name in wrong.stderr


def test_a_script_of_ours_is_resumed_by_the_script(folder):
    script = "import penstock, mine\nif __name__ == '__main__': mine.squares.run('r', budget='1GiB')"
    subprocess.run([sys.executable, "-c", script], cwd=folder, check=True, timeout=LIMIT)
    resumed = penstock(folder, "resume", "r")
    assert resumed.returncode == 1
    assert "run your script again" in resumed.stderr
    assert penstock(folder, "report", "r").returncode == 0


def test_whoever_stops_reading_is_told_nothing(tmp_path):
    script = "import penstock; penstock.run(abs, range(3000), 'r', call=1, backend='inline')"
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, timeout=LIMIT)
    command = [sys.executable, "-m", "penstock", "report", "r", "--csv"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as told:
        assert told.stdout.readline().startswith(b"stage,first,last")
        told.stdout.close()
        assert told.stderr.read() == b""
