"""Runs on a real Dask cluster of this machine: the same bytes as without it, whatever befalls it."""

import gc
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import jobs
import pytest
from distributed import Client
from nodes_seen import once, program, thirds, tree
from on_dask_cluster import ours, start, worker_pids
from waiting import until

import penstock
from penstock import discover, event_lines
from penstock import events as ev
from penstock.clusters.dask import DaskNodes
from penstock.errors import RunFailed, UsageError
from penstock.sources import Range

BUDGET = "350MiB"


@pytest.fixture(scope="module")
def dask():
    cluster = start()
    yield cluster
    cluster.close()


@pytest.fixture
def theirs(dask):
    """A Dask cluster with both of its workers, on which nothing of ours is left after the test."""
    # One that was killed before is started anew by its nanny, which may take a while.
    until(lambda: len(dask.scheduler_info["workers"]) == 2)
    yield dask
    assert not until_none(dask)


def until_none(cluster, seconds=60.0):
    """Processes of ours that are left after a while: none."""
    deadline = time.monotonic() + seconds
    while (left := ours(cluster)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


@pytest.fixture(scope="module")
def on_one_machine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one") / "run"
    jobs.several().run(folder, budget="700MiB", set_aside=True)
    return tree(folder)


def work(folder, cluster, observe=None):
    """The job with every kind of sink and reducer; the events of its nodes."""
    report = jobs.several().run(
        folder, budget=BUDGET, set_aside=True, cluster=cluster, observers=[observe] if observe else []
    )
    assert [each.item for each in report.set_aside] == list(jobs.POISON)
    assert penstock.verify(folder).ok
    told = list(event_lines.read(folder / ".penstock" / "events.jsonl"))
    return [event for event in told if isinstance(event, ev.NodeJoined | ev.NodeLeft)]


def test_a_users_client_works_and_keeps_the_same_bytes(theirs, on_one_machine, tmp_path):
    with Client(theirs) as client:
        told = work(tmp_path / "run", client)
        assert tree(tmp_path / "run") == on_one_machine
        assert all(isinstance(event, ev.NodeJoined) for event in told)
        assert client.submit(sum, [1, 2]).result() == 3  # it is still the user's


@pytest.mark.parametrize("whom", ["tree", "program"])
def test_a_node_that_is_killed_is_born_anew_on_its_worker(theirs, on_one_machine, tmp_path, whom):
    cluster = DaskNodes(theirs)

    def kill():
        pid = cluster.pid(next(iter(cluster.nodes())))
        (os.killpg if whom == "tree" else os.kill)(pid, signal.SIGKILL)

    told = work(tmp_path / "run", cluster, once(ev.NodeRead, kill))
    assert tree(tmp_path / "run") == on_one_machine
    assert "SIGKILL" in next(event.why for event in told if isinstance(event, ev.NodeLeft))


def test_a_dask_worker_that_is_killed_is_lost_and_its_successor_works(
    theirs, on_one_machine, tmp_path, caplog
):
    victim = worker_pids(theirs)[0]
    told = work(tmp_path / "run", theirs, once(ev.NodeRead, lambda: os.kill(victim, signal.SIGKILL)))
    assert tree(tmp_path / "run") == on_one_machine
    assert [event.why for event in told if isinstance(event, ev.NodeLeft)]
    gc.collect()  # asyncio tells of an error that nobody took when its task goes
    assert "never retrieved" not in caplog.text


def test_a_node_that_stopped_and_wakes_after_it_was_given_up_changes_nothing(
    theirs, on_one_machine, tmp_path, monkeypatch
):
    cluster, stopped = DaskNodes(theirs), []

    def stop():
        token = next(iter(cluster.nodes()))
        stopped.append(cluster.pid(token))
        os.kill(stopped[0], signal.SIGSTOP)
        # As its silence would have it told after a minute.
        cluster._open.said.put(("lost", token, penstock.abc.NodeLost("it was silent")))

    def wake(event):
        if isinstance(event, ev.NodeLeft):
            with suppress(ProcessLookupError):
                os.kill(stopped[0], signal.SIGCONT)

    first = once(ev.NodeRead, stop)
    work(tmp_path / "run", cluster, lambda event: (first(event), wake(event)))
    assert tree(tmp_path / "run") == on_one_machine


def test_a_parent_that_is_killed_leaves_nobody_and_can_go_on(theirs, tmp_path):
    folder, where = tmp_path / "run", f"dask:{theirs.scheduler_address}"
    parent = subprocess.Popen([sys.executable, program(tmp_path, budget=BUDGET), folder, where])
    journal = folder / ".penstock" / "job" / "journal"
    until(lambda: journal.exists() and journal.read_bytes().count(b'"kept"') > 3, program=parent)
    parent.kill()
    parent.wait()
    assert not until_none(theirs)
    kept = journal.read_bytes().count(b'"kept"')
    report = thirds().run(folder, budget=BUDGET, cluster=theirs)
    assert report.resumed_from >= kept * 5
    thirds().run(tmp_path / "plain", budget="700MiB")
    assert tree(folder) == tree(tmp_path / "plain")


def test_a_scheduler_that_is_killed_ends_the_run_which_can_go_on_without_it(tmp_path):
    place = tmp_path / "scheduler.json"
    options = ["--no-dashboard", "--host", "127.0.0.1"]
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", "0"]
    scheduler = subprocess.Popen([*dask, "--scheduler-file", str(place), *options], stderr=subprocess.DEVNULL)
    until(place.exists, program=scheduler)
    worker = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(place),
         "--nthreads", "1", "--memory-limit", "0", *options],
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    folder = tmp_path / "run"
    try:
        with pytest.raises(RunFailed, match="cut off from the Dask scheduler"):
            thirds().run(
                folder, budget=BUDGET, cluster=f"dask:{place}", observers=[once(ev.NodeRead, scheduler.kill)]
            )
    finally:
        for each in (scheduler, worker):
            each.kill()
            each.wait()
    report = thirds().run(folder, budget="700MiB")
    assert report.done == 400
    assert report.resumed_from > 0


def test_what_cannot_be_reached_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("penstock.clusters.dask_link.CONNECT_SECONDS", 1.0)
    job = penstock.Job(source=Range(6), function=str, into="collect")
    with pytest.raises(UsageError, match=r"no Dask scheduler answers at tcp://127.0.0.1:9 within"):
        job.run(tmp_path / "a", cluster="dask://127.0.0.1:9")
    with pytest.raises(UsageError, match=r"no scheduler file of Dask's"):
        job.run(tmp_path / "b", cluster=f"dask:{tmp_path}/scheduler.json")
    with pytest.raises(UsageError, match="names no scheduler"):
        job.run(tmp_path / "c", cluster="dask:")
    with pytest.raises(UsageError, match="which has no open"):
        job.run(tmp_path / "d", cluster=5)


def test_several_stages_share_the_workers_of_a_machine(theirs, tmp_path):
    """Each node has its part of what the machine leaves."""
    with penstock.Run(tmp_path / "run", cluster=theirs) as run:
        for name in ("first", "second"):
            run.stage(name, penstock.Job(source=Range(20), function=jobs.slow_third, into="collect"))
    lines = (tmp_path / "run" / ".penstock" / "events.jsonl").read_text().splitlines()
    joined = [each for each in map(json.loads, lines) if each["event"] == "node_joined"]
    assert len({each["stage"] for each in joined}) == 2
    assert all("shared by 2 nodes" in each["origin"] for each in joined)


def test_who_is_there_is_told_before_anything_runs(theirs, tmp_path):
    (tmp_path / "there").mkdir()
    offers = DaskNodes(theirs).survey(tmp_path / "there", "auto", 5.0)
    assert [each.why for each in offers] == ["", ""]
    assert all(each.cores == 1 and "shared by 2 nodes" in each.origin for each in offers)
    assert sum(each.budget for each in offers) <= discover.discover("auto").budget.bytes
    offers = DaskNodes(theirs).survey(tmp_path / "gone", "auto", 5.0)
    assert all("does not see" in each.why and not each.budget for each in offers)


def test_the_command_line_shows_who_is_there(theirs):
    command = [sys.executable, "-m", "penstock", "nodes", "--cluster", f"dask:{theirs.scheduler_address}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 nodes can work" in done.stdout


def test_without_a_worker_in_time_the_run_ends_and_says_what_it_waited_for(tmp_path):
    cluster = start(n_workers=0)
    try:
        assert DaskNodes(cluster).survey(None, "auto", 0.0) == []
        with pytest.raises(
            RunFailed, match=r"no node was there for \d+ s \(no worker has joined the Dask cl"
        ):
            thirds().run(tmp_path / "run", cluster=cluster, wait=0.5)
    finally:
        cluster.close()
