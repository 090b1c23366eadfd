"""How a run stands at this moment, as its events tell."""

import made_up_runs
import pytest
from made_up_runs import RUNS, usual

from penstock import events as ev
from penstock.budget import MiB
from penstock.report.live import LiveState
from penstock.report.tally import Tally


def state_of(events):
    state = LiveState()
    for event in events:
        state.take(event, event.at)
    return state


def until(kind, events):
    for event in events:
        yield event
        if isinstance(event, kind):
            return


@pytest.mark.parametrize("name", RUNS)
def test_it_agrees_with_the_report_and_does_not_grow(name):
    events = list(RUNS[name]())
    if not events:
        return
    state, tally = LiveState(), Tally()
    for event in events:
        if event.stage == events[-1].stage:
            tally(event)
        state.take(event, event.at)
        assert len(state.failures) <= 5
        assert len(state.workers) <= 128
    report = tally.report()
    assert (state.done, state.set_aside) == (report.done, report.set_aside_total)
    assert state.peak >= report.peak


def test_a_worker_is_told_with_its_items_its_memory_and_whether_it_is_paused():
    state = state_of(until(ev.WorkerPaused, usual()))
    (paused,) = [worker for worker in state.workers.values() if worker.paused]
    assert paused.items.startswith("items ")
    assert paused.held > 0
    busy = [worker for worker in state.workers.values() if worker.start >= 0]
    assert all(worker.since > made_up_runs.START for worker in busy)


def test_the_last_failures_are_told_in_order():
    state = state_of(usual())
    assert [at for at, _ in state.failures] == sorted(at for at, _ in state.failures)
    assert any("it held <b>too much</b>" in said for _, said in state.failures)


@pytest.mark.parametrize(("done", "seconds", "left"), [(0, 10, None), (25, 10, 30.0), (100, 10, 0.0)])
def test_the_time_left_follows_the_rate_of_this_run(done, seconds, left):
    state = LiveState()
    state.take(ev.StageStarted(at=0, items=200, done=100, budget=MiB, origin="", workers=None), 0.0)
    if done:
        state.take(
            ev.BatchDone(
                at=1, batch=0, worker=0, start=0, stop=done, seconds=1, peak=0, projected=0, retained=0
            ),
            1.0,
        )
    assert state.left(seconds) == left


def test_of_a_command_the_processes_are_told_and_no_items():
    state = state_of([
        ev.StageStarted(at=1.0, items=1, done=0, budget=100 * MiB, origin="", workers=None),
        ev.CommandStarted(at=1.0, pid=7, command=("python", "a b.py"), folder="/"),
        ev.ProcessSeen(at=1.0, pid=7, command="python a b.py"),
        ev.MemoryRead(at=2.0, used=50 * MiB, workers={"7": 30 * MiB, "8": 20 * MiB}, free=50 * MiB),
        ev.KernelKill(at=3.0, count=1, message="the kernel killed process 8"),
        ev.MemoryRead(at=4.0, used=40 * MiB, workers={"7": 40 * MiB}, free=50 * MiB),
    ])  # fmt: skip
    assert state.parts(5.0) == ["40.0 MiB of 100 MiB", "1 process", "for 4.0 s"]
    assert list(state.workers) == [7]
    assert state.failures[-1] == (3.0, "the kernel killed process 8")


def joined(node, budget):
    return ev.NodeJoined(at=1.0, node=node, host="a host", budget=budget, origin="a script", cores=1)


def read(node, used, budget=100 * MiB):
    return ev.NodeRead(at=1.0, node=node, used=used, budget=budget, origin="a script")


def test_of_a_cluster_it_shows_what_nodes_hold_of_what_all_of_them_may_use():
    began = ev.StageStarted(at=0.0, items=10, done=0, budget=250 * MiB, origin="--budget", workers=None)
    here = ev.MemoryRead(at=1.0, used=30 * MiB, free=0, workers={})
    state = state_of([began, joined("n1", 100 * MiB), joined("n2", 100 * MiB), here])
    assert state.memory() == ""  # this process works no item: what it holds says nothing of the nodes
    state.take(read("n1", 40 * MiB), 1.0)
    assert state.memory() == ""
    for event in (read("n2", 50 * MiB), here):
        state.take(event, 1.0)
    assert state.memory() == "90.0 MiB of 200 MiB"
    assert "2 nodes" in state.parts(2.0)
    state.take(ev.NodeLeft(at=2.0, node="n2", why="killed by a script"), 2.0)
    assert state.memory() == "40.0 MiB of 100 MiB"
    state.take(ev.NodeLeft(at=2.0, node="n1", why="killed by a script"), 2.0)
    assert state.memory() == ""
    state.take(here, 3.0)
    assert (state.memory(), state.origin) == ("30.0 MiB of 250 MiB", "--budget")
