"""A run that slept for too long, and the one that took its folder over from where it could not be seen.

Real processes: a whole tree is suspended, another program that believes to be on another machine (or really
is in another process namespace) takes over, and the first one wakes up in the middle of it, or behind it.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys

import pytest
from programs import descendants, digest, finished, lines, python, start, write
from waiting import until

import penstock
from penstock.record import journal

MODULE = """
import time
import penstock

def work(item):
    time.sleep(0.02)
    folder = penstock.share().folder
    (folder / "text").write_text(f"item {item}\\n")
    return {"texts": folder / "text", "rows": {"item": item}, "sums": item}

def job(items):
    outputs = {"texts": penstock.sinks.Files(grain=2), "rows": penstock.sinks.Parquet(grain=4),
             "sums": penstock.reducers.Sum()}
    return penstock.Job(source=penstock.sources.Range(items), function=work, into=outputs)
"""
RUN = """
import sys
import penstock, module
report = module.job(120).run(sys.argv[1], budget="600MiB", workers=2)
print(report.done, report.items)
"""
ELSEWHERE = """
import sys
from penstock.record import holding
from penstock.record import lock_file
lock_file.here = lambda: holding.ThisMachine("node2", "another boot", "pid:[2]")
holding.SILENT = 1.0
"""


def signal_all(pids, number):
    for pid in pids:
        os.kill(pid, number)


def suspended(program):
    """Stop the whole tree, the parent first, and all that is born meanwhile; who was stopped."""
    stopped = []
    while new := [pid for pid in (program.pid, *descendants(program.pid)) if pid not in stopped]:
        signal_all(new, signal.SIGSTOP)
        stopped += new
    return stopped


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """What a run gives that nobody disturbs."""
    folder = tmp_path_factory.mktemp("alone")
    programs(folder)
    finished(python("alone.py", "expected", cwd=folder))
    return folder / "expected"


def programs(folder):
    write(folder, "module.py", MODULE)
    write(folder, "alone.py", RUN)
    write(folder, "elsewhere.py", ELSEWHERE + RUN)


def begun(tmp_path):
    programs(tmp_path)
    first = python("alone.py", "r", cwd=tmp_path)
    until(lambda: lines(tmp_path / "r") > 6, program=first)
    return first


def holds(folder, expected):
    """One writer's answer, and nothing that verify would fault."""
    found = penstock.verify(folder)
    assert found.ok, str(found)
    assert digest(folder) == digest(expected)
    kept = [batch for batch, _ in journal.receipts(folder / ".penstock/job/journal", "texts")]
    assert sum(batch.stop - batch.start for batch in kept) == 120


@pytest.mark.parametrize("wakes", ["in the middle", "behind it"])
def test_a_run_that_slept_while_it_was_taken_over(wakes, tmp_path, expected):
    first = begun(tmp_path)
    sleepers = suspended(first)
    try:
        before = lines(tmp_path / "r")
        second = python("elsewhere.py", "r", cwd=tmp_path)
        if wakes == "in the middle":
            until(lambda: lines(tmp_path / "r") > before + 4, program=second)
            signal_all(sleepers, signal.SIGCONT)
            _, told = finished(first, 1)
            finished(second)
        else:
            _, said = finished(second)
            assert said.count("penstock:") == 1
            assert f"is held by process {first.pid} on {socket.gethostname()}" in said
            report = (tmp_path / "r" / "report.json").read_bytes()
            events = (tmp_path / "r" / ".penstock" / "events.jsonl").read_bytes()
            signal_all(sleepers, signal.SIGCONT)
            _, told = finished(first, 1)
            assert (tmp_path / "r" / "report.json").read_bytes() == report
            assert (tmp_path / "r" / ".penstock" / "events.jsonl").read_bytes() == events
    finally:
        signal_all([pid for pid in sleepers if os.path.exists(f"/proc/{pid}")], signal.SIGCONT)  # noqa: PTH110
    assert f"RunTakenOver: {tmp_path / 'r'} was taken over by process {second.pid} on node2" in told
    until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in sleepers))  # noqa: PTH110
    holds(tmp_path / "r", expected)
    assert not (tmp_path / "r" / ".penstock" / "drafts").exists()
    assert not (tmp_path / "r" / ".penstock" / "lock").exists()
    assert json.loads((tmp_path / "r" / "report.json").read_text())["outcome"] == "done"


def test_on_the_same_machine_a_suspended_run_is_alive(tmp_path, expected):
    first = begun(tmp_path)
    sleepers = suspended(first)
    try:
        _, told = finished(python("alone.py", "r", cwd=tmp_path), 1)
        assert "RunLocked" in told
        assert "suspended" in told
    finally:
        signal_all(sleepers, signal.SIGCONT)
    out, _ = finished(first)
    assert out == "120 120\n"
    holds(tmp_path / "r", expected)


def may_unshare():
    words = ["unshare", "--pid", "--fork", "--mount-proc", "true"]
    return shutil.which("unshare") is not None and subprocess.run(words, capture_output=True).returncode == 0


@pytest.mark.skipif(not may_unshare(), reason="needs a process namespace of its own")
def test_from_another_process_namespace(tmp_path, expected):
    """Its numbers begin at 1 again: neither lock nor drafts may take one process for another."""
    programs(tmp_path)
    write(tmp_path, "elsewhere.py", "from penstock.record import holding\nholding.SILENT = 1.0\n" + RUN)
    inside = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable)
    first = start(*inside, "alone.py", "r", cwd=tmp_path)
    until(lambda: lines(tmp_path / "r") > 6, program=first)
    sleepers = [pid for pid in suspended(first) if pid != first.pid]
    try:
        second = start(*inside, "elsewhere.py", "r", cwd=tmp_path)
        out, said = finished(second)
        assert out == "120 120\n"
        assert "is held by process 1 on" in said
    finally:
        signal_all([first.pid, *sleepers], signal.SIGCONT)
    _, told = finished(first, 1)
    assert "was taken over by process 1 on" in told
    holds(tmp_path / "r", expected)
