"""The page of a supervised command: what it was, what became of it and what to ask for; no word of items."""

import json
import re

from made_up_runs import START

from penstock import events as ev
from penstock import layout
from penstock.budget import MiB
from penstock.report.page import write_page
from penstock.report.timeline import Timeline


def killed():
    yield ev.StageStarted(
        at=START, items=1, done=0, budget=300 * MiB, origin="cgroup memory limit", workers=None
    )
    yield ev.CommandStarted(at=START, pid=7, command=("python", "train <b>.py"), folder="/x")
    yield ev.ProcessSeen(at=START, pid=7, command="python train <b>.py")
    for pid in (8, 9):
        yield ev.ProcessSeen(at=START + 1, pid=pid, command="loader")
    for second in range(1, 20):
        held = {"7": 20 * MiB, "8": second * 6 * MiB, "9": second * 5 * MiB}
        yield ev.MemoryRead(at=START + second, used=sum(held.values()), workers=held, free=0)
    yield ev.KernelKill(at=START + 20, count=1, message="the kernel killed process 8 (loader)")
    yield ev.WorkerEnded(at=START + 20, worker=8, why="kernel")
    yield ev.StageEnded(at=START + 21, outcome="failed", done=0, set_aside=0, seconds=21.0, cpu=9.0,
                        peak=229 * MiB, projected=0, message="it ended with exit code 1")  # fmt: skip


def page_of(folder, events):
    text = write_page(folder, events).read_text()
    return text, re.sub(r"<[^>]+>", " ", text.partition("<main>")[2])


def test_command_verdict_and_advice_stand_at_the_top(tmp_path):
    state = tmp_path / layout.STATE
    state.mkdir()
    (state / layout.EXEC).write_text(json.dumps({"schema": 1, "advised": 512 * MiB}))
    page, words = page_of(tmp_path, killed())
    assert "<b>.py" not in page
    top = words.partition("Memory over time")[0]
    for said in ("Peaked at", "229 MiB", "train &lt;b&gt;.py", "the kernel killed process 8 (loader)",
                 "it ended with exit code 1", "next time ask for", "512"):  # fmt: skip
        assert said in top


def test_of_a_command_that_was_killed_only_the_least_is_told(tmp_path):
    state = tmp_path / layout.STATE
    state.mkdir()
    (state / layout.EXEC).write_text(json.dumps({"schema": 1, "advised": 512 * MiB, "complete": False}))
    words = page_of(tmp_path, killed())[1]
    assert "it needed more than that; try" in words
    assert "next time ask for" not in words


def test_what_the_processes_of_a_program_have_in_common_is_not_more_than_the_whole():
    timeline = Timeline()
    for event in [*list(killed())[:5], ev.MemoryRead(
        at=START + 1, used=90 * MiB, workers={"7": 20 * MiB, "8": 60 * MiB, "9": 60 * MiB}, free=0
    )]:  # fmt: skip
        timeline(event)
    (moment,) = timeline.peaks.moments
    assert sorted(moment.rows.values()) == [20 * MiB, 90 * MiB]


def test_programs_have_a_band_each_and_nothing_speaks_of_workers_and_items(tmp_path):
    page, words = page_of(tmp_path, killed())
    assert not re.search(r"\b(workers?|items?|batch(es)?|set aside|plan|reserved)\b", words, re.I)
    assert page.count('class="band') >= 2
    table = words.partition("Programs")[2]
    assert "loader" in table
    assert "209 MiB" in table  # both together, at the most


def test_any_number_of_programs_has_a_few_bands():
    timeline = Timeline()
    for event in list(killed())[:2]:
        timeline(event)
    for pid in range(100, 20_000):
        timeline(ev.ProcessSeen(at=START + 1, pid=pid, command=f"job {pid}"))
        timeline(ev.MemoryRead(at=START + 1, used=MiB, workers={str(pid): MiB}, free=0))
    assert timeline.bands == len(timeline.command.programs) <= 9
    assert len(timeline.command._program_of) <= 10_000


def test_facts_that_are_none_give_no_advice(tmp_path):
    state = tmp_path / layout.STATE
    state.mkdir()
    for facts in ("[]", '{"advised": -1}', '{"advised": "<b>"}', "{"):
        (state / layout.EXEC).write_text(facts)
        assert "next time" not in page_of(tmp_path, killed())[1]
