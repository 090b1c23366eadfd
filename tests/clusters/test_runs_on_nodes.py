"""Runs on nodes of this machine: the same bytes as without them, whatever befalls the nodes."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace

import jobs
import pytest
from nodes_seen import program, thirds, tree
from waiting import MARK, left_behind, until

import penstock
from penstock import event_lines
from penstock import events as ev
from penstock.abc import Lease, Returned
from penstock.budget import MiB
from penstock.clusters.far import Hello
from penstock.clusters.local import LocalNodes
from penstock.engine.decide.footprint import Observation
from penstock.engine.decide.learnt import Learnt
from penstock.engine.decide.plan import Reserved
from penstock.errors import NoBudget, RunFailed, UnknownPlugin, UsageError
from penstock.reducers import Sum
from penstock.sources import Range

BUDGET = "700MiB"


@pytest.fixture(autouse=True)
def no_process_left(monkeypatch, tmp_path):
    """Nodes, their workers and what these start are gone soon after the run."""
    monkeypatch.setenv(MARK, tmp_path.name + str(os.getpid()))
    yield
    left = left_behind(os.environ[MARK])
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, 9)
    assert not left


@pytest.fixture(scope="module")
def on_one_machine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one") / "run"
    jobs.several().run(folder, budget=BUDGET, set_aside=True)
    return tree(folder)


def test_every_sink_and_reducer_keeps_the_same_bytes_though_a_node_is_killed(on_one_machine, tmp_path):
    cluster, killed = LocalNodes("2"), []

    def kill(event):
        if isinstance(event, ev.NodeRead) and not killed:
            node = next(iter(cluster._far.values()))
            killed.append(node.process.pid)
            os.kill(node.process.pid, signal.SIGKILL)

    report = jobs.several().run(
        tmp_path / "run", budget=BUDGET, set_aside=True, cluster=cluster, observers=[kill]
    )
    assert killed
    assert tree(tmp_path / "run") == on_one_machine
    assert [each.item for each in report.set_aside] == list(jobs.POISON)
    assert [each.name for each in report.set_aside] == [jobs.WORDS[item] for item in jobs.POISON]
    assert 0 < report.peak <= report.budget
    told = list(event_lines.read(tmp_path / "run" / ".penstock" / "events.jsonl"))
    assert sum(isinstance(event, ev.NodeJoined) for event in told) in (
        1,
        2,
    )  # the other one may come too late
    assert "SIGKILL" in next(event.why for event in told if isinstance(event, ev.NodeLeft))
    assert {event.node for event in told if isinstance(event, ev.WorkerStarted) and event.node} <= {
        "n1",
        "n2",
    }
    assert penstock.verify(tmp_path / "run").ok
    assert not (tmp_path / "run" / ".penstock" / "drafts").exists()
    # Finished: the same call without a cluster finds nothing to do.
    again = jobs.several().run(tmp_path / "run", budget=BUDGET, set_aside=True)
    assert again.resumed_from == again.done


def test_stages_steps_and_earlier_results_as_inputs(tmp_path):
    def work(folder, **where):
        with penstock.Run(folder, budget=BUDGET, **where) as run:
            names = run.stage("names", penstock.Job(source=Range(8), function=str, into="collect"))
            run.step("table", jobs.make_table)
            run.stage("total", penstock.Job(source=Range(8), function=float, into=Sum(grain=2)))
            job = penstock.Job(
                source=Range(30), function=jobs.with_names, into="collect", inputs={"names": names}
            )
            return run.stage("looked-up", job).open()

    assert work(tmp_path / "here") == work(tmp_path / "there", cluster="local:2")
    assert tree(tmp_path / "here") == tree(tmp_path / "there")


def test_a_parent_that_is_killed_leaves_nobody_and_can_go_on_with_or_without_nodes(tmp_path):
    folder = tmp_path / "run"
    parent = subprocess.Popen([sys.executable, program(tmp_path, budget=BUDGET), folder, "local:2"])
    journal = folder / ".penstock" / "job" / "journal"
    until(lambda: journal.exists() and journal.read_bytes().count(b'"kept"') > 3, seconds=300)
    parent.kill()
    parent.wait()
    until(lambda: not left_behind(os.environ[MARK]), seconds=60)
    kept = journal.read_bytes().count(b'"kept"')
    report = thirds().run(folder, budget=BUDGET)
    assert report.resumed_from >= kept * 5
    thirds().run(tmp_path / "plain", budget=BUDGET)
    assert tree(folder) == tree(tmp_path / "plain")


def test_ctrl_c_keeps_what_nodes_have_done_and_the_command_line_goes_on(tmp_path):
    module = tmp_path / "mine.py"
    module.write_text(
        "import time, penstock\n"
        "from penstock.sources import Range; from penstock.reducers import Sum\n"
        "def third(item):\n    time.sleep(0.05)\n    return item / 3\n"
        "job = penstock.Job(source=Range(400), function=third, into=Sum(grain=5))\n"
    )
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "penstock", "run", f"{module}:job", "--into", str(folder)]
    options = ["--budget", BUDGET, "--cluster", "local:2"]
    run = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True)
    journal = folder / ".penstock" / "job" / "journal"
    until(lambda: journal.exists() and b'"kept"' in journal.read_bytes(), seconds=300)
    run.send_signal(signal.SIGTERM)
    said = run.communicate(timeout=300)[1]
    assert run.returncode == 143
    assert "node n1 is there" in said
    assert "interrupted" in said
    resume = [sys.executable, "-m", "penstock", "resume", str(folder), "--cluster", "local:2", "--trust"]
    done = subprocess.run(resume, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    result = json.loads((folder / ".penstock" / "job" / "result.json").read_text())
    assert result == pytest.approx(sum(item / 3 for item in range(400)))


def test_a_temporary_run_gives_back_its_list():
    assert penstock.run(str, list("hello"), budget=BUDGET, cluster="local:1").result == list("hello")


def test_what_fails_fails_as_on_one_machine(tmp_path):
    """With the same class of error, and every item named."""
    job = penstock.Job(source=Range(6), function=jobs.refuses, into="collect")
    told = []
    for name, where in (("here", {}), ("there", {"cluster": "local:1"})):
        with pytest.raises(RunFailed) as caught:
            job.run(tmp_path / name, budget=BUDGET, **where)
        told.append((type(caught.value), [each.message for each in caught.value.report.set_aside]))
    assert told[0] == told[1]


def test_a_function_that_no_node_can_prepare_ends_the_run_with_its_own_words(tmp_path):
    job = penstock.Job(source=Range(6), function=jobs.Unprepared(), into="collect")
    with pytest.raises(RunFailed, match="no licence on this host"):
        job.run(tmp_path / "run", budget=BUDGET, cluster="local:1")


class Taught(LocalNodes):
    """Its nodes begin with what a test says, and what they tell of that is kept."""

    lesson = Learnt(
        observations=(Observation(1.0, 1.0, 40 << 20),) * 3, reserved=Reserved(1, 2, 3), items=6
    ).as_json()
    told = ()

    def send(self, node, message):
        super().send(node, replace(message, learnt=self.lesson) if isinstance(message, Lease) else message)

    def wait(self, timeout):
        heard = super().wait(timeout)
        news = [each.learnt for _, each in heard if isinstance(each, Returned) and each.learnt]
        self.told = [*self.told, *news]
        return heard


def test_a_node_begins_with_what_others_learnt_and_tells_what_it_learns(tmp_path):
    cluster = Taught("1")
    job = penstock.Job(source=Range(6), function=jobs.slow_third, into=Sum(grain=2))
    job.run(tmp_path / "run", budget=BUDGET, cluster=cluster)
    assert cluster.told
    for each in cluster.told:
        assert each["observations"][:3] == cluster.lesson["observations"]
        assert len(each["observations"]) > 3
    kept = json.loads((tmp_path / "run" / ".penstock" / "job" / "learnt.json").read_text())
    assert kept["observations"] == cluster.told[-1]["observations"]


@pytest.mark.parametrize("budget", ["100MiB", "150MiB"])
def test_nodes_too_small_for_anything_are_refused_and_the_budget_that_would_do_is_that_of_the_whole(
    budget, tmp_path
):
    job = penstock.Job(source=Range(6), function=str, into="collect")
    with pytest.raises(NoBudget, match=r"one share of .*The smallest budget that would do is") as told:
        job.run(tmp_path / "run", budget=budget, cluster="local:2")
    assert told.value.needed > 120 * MiB
    # A little more: what a process holds before any item is not the same each time.
    assert job.run(tmp_path / "run", budget=told.value.needed + 16 * MiB, cluster="local:2").done == 6


def test_what_makes_no_sense_is_refused_before_a_folder_is_made(tmp_path):
    job = penstock.Job(source=Range(6), function=str, into="collect")
    with pytest.raises(UsageError, match=r"'inline'.*leave out either"):
        job.run(tmp_path / "run", backend="inline", cluster="local:2")
    with pytest.raises(UnknownPlugin, match="no cluster is called 'locale'; did you mean 'local'"):
        job.run(tmp_path / "run", cluster="locale:2")
    assert not (tmp_path / "run").exists()


def test_an_item_that_no_node_has_room_for_is_set_aside(tmp_path):
    job = penstock.Job(source=Range(12), function=jobs.needs_much, into=Sum(grain=2))
    report = job.run(tmp_path / "run", budget=BUDGET, set_aside=True, cluster="local:2")
    assert [(each.item, each.reason) for each in report.set_aside] == [(7, "memory")]
    assert report.peak <= report.budget


def test_a_node_that_imports_other_code_than_the_run_began_with_is_refused(tmp_path, monkeypatch):
    job = penstock.Job(source=Range(6), function=jobs.slow_third, into=Sum(grain=2))
    with monkeypatch.context() as patched:
        patched.setattr("penstock.runs.on_nodes.imported_code", lambda *parts: {"jobs": "another digest"})
        with pytest.raises(RunFailed, match=r"no node is left.* has another jobs than this run began with"):
            job.run(tmp_path / "run", budget=BUDGET, cluster="local:1")
    assert job.run(tmp_path / "run", budget=BUDGET, cluster="local:1").done == 6


def test_a_budget_that_the_parent_set_is_called_by_its_share_of_the_whole(tmp_path):
    hello = Hello("token", tmp_path, "", None, 60 * MiB, 1, None, "one share of 128 MiB, local:2", 2, 8 * MiB)
    assert str(hello.budget_here()) == "60.0 MiB (one share of 128 MiB, local:2)"
    assert hello.budget_here().to_ask_for(100 * MiB) == 208 * MiB
    larger = replace(hello, budget=1 << 60).budget_here()  # this machine has less
    assert "one share" not in str(larger)
    assert larger.to_ask_for(100 * MiB) == 100 * MiB
