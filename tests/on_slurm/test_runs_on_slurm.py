"""Runs on a real SLURM: the same bytes as on one machine, whatever befalls jobs, nodes and the parent."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import jobs
import pytest
from nodes_seen import once, program, thirds, tree
from slurm_here import call
from waiting import until

import penstock
from penstock import event_lines, proc
from penstock import events as ev
from penstock.errors import RunFailed, UsageError
from penstock.reducers import Sum
from penstock.sources import Range


@pytest.fixture(autouse=True)
def nothing_left(slurm):
    """No job of ours is left after a test."""
    yield
    until(lambda: not slurm.jobs(), seconds=120)


def cluster(slurm, count=2, memory="700MiB"):
    return f"slurm:{count},memory={memory},cores=1,host={slurm.host}"


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain") / "run"
    thirds().run(folder, budget="700MiB")
    return tree(folder)


def told(folder, kind):
    events = event_lines.read(folder / ".penstock" / "events.jsonl")
    return [event for event in events if isinstance(event, kind)]


def steps():
    """Processes of Dask workers in SLURM's jobs, by the job's number."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            groups = (place / "cgroup").read_text()
            command = (place / "cmdline").read_bytes()
        except OSError:
            continue
        if "/job_" in groups and b"dask" in command:
            found.setdefault(groups.split("/job_")[1].split("/")[0], []).append(int(place.name))
    return found


def test_each_node_has_the_limit_of_its_job_and_the_bytes_are_the_same(slurm, plain, tmp_path):
    thirds().run(tmp_path / "run", cluster=cluster(slurm))
    assert tree(tmp_path / "run") == plain
    joined = told(tmp_path / "run", ev.NodeJoined)
    assert {each.host for each in joined} <= set(slurm.names)
    for each in joined:
        assert 500 << 20 < each.budget <= 700 << 20
        assert "/job_" in each.origin or "SLURM_MEM_PER_NODE" in each.origin
    assert penstock.verify(tmp_path / "run").ok


def test_an_item_too_large_for_its_job_is_set_aside_and_no_step_is_killed(slurm, tmp_path):
    job = penstock.Job(source=Range(12), function=jobs.needs_much, into=Sum(grain=2))
    report = job.run(tmp_path / "run", set_aside=True, cluster=cluster(slurm, 1, "400MiB"))
    assert [(each.item, each.reason) for each in report.set_aside] == [(7, "memory")]
    assert not told(tmp_path / "run", ev.NodeLeft)


def test_a_job_that_is_cancelled_is_a_node_that_is_lost(slurm, plain, tmp_path):
    observe = once(ev.NodeRead, lambda: call("scancel", slurm.jobs()[0]))
    thirds().run(tmp_path / "run", cluster=cluster(slurm), observers=[observe])
    assert tree(tmp_path / "run") == plain
    assert told(tmp_path / "run", ev.NodeLeft)


def test_a_job_that_is_requeued_comes_back_as_a_node_of_its_own(slurm, plain, tmp_path):
    observe = once(ev.NodeRead, lambda: call("scontrol", "requeue", slurm.jobs()[0]))
    thirds().run(tmp_path / "run", cluster=cluster(slurm), observers=[observe])
    assert tree(tmp_path / "run") == plain
    assert told(tmp_path / "run", ev.NodeLeft)


def test_all_processes_of_a_job_killed_at_once(slurm, plain, tmp_path):
    def kill():
        pids = next(iter(steps().values()))
        below = [each for pid in pids for each in proc.descendants(pid)]
        for pid in {*pids, *below}:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    thirds().run(tmp_path / "run", cluster=cluster(slurm), observers=[once(ev.NodeRead, kill)])
    assert tree(tmp_path / "run") == plain


def test_a_parent_that_is_killed_leaves_no_process_of_ours_and_can_go_on(slurm, plain, tmp_path):
    folder = tmp_path / "run"
    parent = subprocess.Popen([sys.executable, program(tmp_path), folder, cluster(slurm)])
    journal = folder / ".penstock" / "job" / "journal"
    until(lambda: journal.exists() and journal.read_bytes().count(b'"kept"') > 3, program=parent)
    parent.kill()
    parent.wait()
    # The scheduler was in it, so Dask's workers end, and their jobs with them.
    until(lambda: not slurm.jobs(), seconds=200)
    kept = journal.read_bytes().count(b'"kept"')
    report = thirds().run(folder, cluster=cluster(slurm))
    assert report.resumed_from >= kept * 5
    assert tree(folder) == plain


def test_a_job_that_waits_says_so(slurm, tmp_path):
    """It asks for more cores than any node has left."""
    holder = call(
        "sbatch", "--parsable", "-N2", "-n4", "--mem=100M", "--output=/dev/null", "--wrap", "sleep 600"
    ).strip()
    try:
        until(lambda: "RUNNING" in call("squeue", "-h", "-j", holder, "-o", "%T"))
        seen = []

        def watch(event):
            if isinstance(event, ev.Looking):
                seen.append(event.message)
                call("scancel", holder)

        thirds().run(tmp_path / "run", cluster=cluster(slurm, 1), observers=[watch])
        assert any("pending" in each for each in seen), seen
    finally:
        subprocess.run(["scancel", holder], capture_output=True)


def test_without_a_node_in_time_the_run_ends_and_leaves_no_job(slurm, tmp_path):
    """The job waits for another one; what ends the run is `--wait`."""
    holder = call(
        "sbatch", "--parsable", "-N2", "-n4", "--mem=100M", "--output=/dev/null", "--wrap", "sleep 600"
    ).strip()
    try:
        until(lambda: "RUNNING" in call("squeue", "-h", "-j", holder, "-o", "%T"))
        with pytest.raises(RunFailed, match=r"no node was there for \d+ s \(job \d+ pending"):
            thirds().run(tmp_path / "run", cluster=cluster(slurm, 1), wait=0.5)
        assert slurm.jobs() == [holder]
    finally:
        subprocess.run(["scancel", holder], capture_output=True)


def test_jobs_that_slurm_does_not_take_are_refused_with_its_words(slurm, tmp_path):
    with pytest.raises(UsageError, match=r"no jobs can be had \(.*node configuration is not available"):
        thirds().run(tmp_path / "run", cluster=cluster(slurm, 2, "60GiB"))
    assert not slurm.jobs()
