"""The page of a run: small, closed to scripts and the network, and true to its events."""

import os
import re
import tracemalloc
from html.parser import HTMLParser

import pytest
from made_up_runs import RUNS, START, Stage, resumed, usual

from penstock import event_lines
from penstock import events as ev
from penstock.budget import GiB, MiB, format_size
from penstock.errors import SetAside
from penstock.event_lines import read as read_events
from penstock.report.page import write_page
from penstock.report.report import Report

_VOID = {"meta", "link"}


class Balanced(HTMLParser):
    """Fails on a tag that is closed out of turn."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], set()

    def handle_starttag(self, tag, attributes):
        self.seen.add(tag)
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def page_of(folder, events, reports=()):
    return write_page(folder, events, reports).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", RUNS)
def test_every_run_gives_a_whole_page_under_500_kb(name, drawn):
    text = drawn(name).read_text(encoding="utf-8")
    parser = Balanced()
    parser.feed(text)
    assert parser.open == []
    assert "script" not in parser.seen
    assert len(text.encode()) < 500_000
    assert all(target.startswith("data:") for target in re.findall(r'(?:src|href)="?([^">]*)', text))
    assert "nan" not in re.sub(r"<title>.*?</title>", "", text)
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in text


def test_the_page_needs_little_memory_however_long_the_run(tmp_path):
    events = iter(Stage(batches=15_000, workers=8, set_aside=400))
    for event in events:  # the made-up run itself is a list: it is not to be counted
        if isinstance(event, ev.Planned):
            break
    tracemalloc.start()
    write_page(tmp_path, events)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * MiB


def test_the_numbers_are_those_of_the_events(tmp_path):
    text = page_of(tmp_path, usual())
    reports = [event for event in usual() if isinstance(event, ev.StageEnded)]
    assert f">{reports[0].done}<" in text
    kept = [event for event in usual() if isinstance(event, ev.BatchDone)]
    assert text.count('<path class="done"') == len(kept)
    failed = [event for event in usual() if isinstance(event, ev.BatchFailed)]
    assert f"and {len(failed)} that did not end" in text
    assert text.count('class="mark aside"') == 2
    assert "budget 4.0 GiB" in text
    assert "cgroup memory limit" in text


def test_texts_from_outside_are_escaped(tmp_path):
    evil = "<script>alert(1)</script>\"'&"
    folder = tmp_path / "a <b> & 'c'"
    folder.mkdir()
    events = [
        *Stage(evil, trouble=1.0, outcome="failed", message=evil, set_aside=0),
        ev.ItemSetAside(at=START + 9, stage=evil, item=1, name=evil, reason=evil, message=evil),
        ev.BudgetChanged(at=START + 9, stage=evil, budget=GiB, origin=evil),
        ev.WorkerEnded(at=START + 9, stage=evil, worker=0, why=evil),
        *Stage("other", start=START + 100),
    ]
    text = page_of(folder, events)
    assert "<script" not in text
    assert "<b>too" not in text
    assert "&lt;script&gt;" in text


def test_a_failed_run_says_why_and_how_to_go_on(tmp_path):
    assert "run your script again" in page_of(tmp_path, RUNS["failed"]())
    (tmp_path / ".penstock").mkdir()
    (tmp_path / ".penstock" / "command.json").write_text("{}")
    text = page_of(tmp_path, RUNS["failed"]())
    assert "penstock resume" in text
    assert "ValueError: &lt;not&gt; a number" in text


def test_the_time_between_two_runs_is_left_out(tmp_path):
    text = page_of(tmp_path, resumed())
    assert "resumed with 370 of 600 items done" in text
    assert " d</text>" not in text
    assert " h</text>" not in text


def test_items_stand_as_the_last_run_says_and_the_rest_is_counted(tmp_path):
    aside = (SetAside(5, "sub-5", "raised", "no <i>"),)
    report = Report(items=77, done=76, set_aside=aside, set_aside_total=1)
    text = page_of(tmp_path, usual(), [report])
    assert "of 77" in text
    assert "no &lt;i&gt;" in text
    assert "budget 4.0 GiB" in text


def test_a_reading_keeps_its_peak_through_all_thinning(tmp_path):
    events = list(Stage(batches=4000, readings=0.02, set_aside=0))
    peak = max(event.used for event in events if isinstance(event, ev.MemoryRead))
    place = next(
        i for i, event in enumerate(events) if isinstance(event, ev.MemoryRead) and i > len(events) // 3
    )
    events[place] = ev.MemoryRead(at=events[place].at, used=peak + 300 * MiB, workers={}, free=0)
    text = page_of(tmp_path, events)
    assert f"peak {format_size(peak + 300 * MiB)}" in text


def test_events_are_read_back_and_torn_lines_left_out(tmp_path):
    path = tmp_path / "events.jsonl"
    lines = [event_lines.to_line(event) for event in usual()]
    path.write_text("\n".join([*lines[:5], lines[5][:20], '{"event":"from tomorrow"}', *lines[6:]]) + "\n")
    assert len(list(read_events(path))) == len(lines) - 1


def joined(node, log):
    return ev.NodeJoined(at=START + 0.5, node=node, host="h", budget=400, origin="x", cores=1, log=log)


def test_the_end_of_what_workers_of_nodes_printed_stands_under_their_table(tmp_path):
    """Once a file, though several nodes of one machine share it; as text, and of a long one the end."""
    state, started = tmp_path / ".penstock", next(RUNS["on_nodes"]())
    state.mkdir()
    (state / "workers.log").write_text("<b>bold</b> and \x1b[31mred\n")
    (state / "workers-0123abcd.log").write_text("the begin\n" + "a line\n" * 1000 + "the end\n")
    nodes = [joined("n1", "workers.log"), joined("n2", "workers.log"), joined("n3", "workers-0123abcd.log")]
    text = page_of(tmp_path, [started, *nodes, joined("n4", "")], [Report()])
    assert text.count("n1 to n2: the end of .penstock/workers.log") == 1
    assert "&lt;b&gt;bold&lt;/b&gt; and \\x1b[31mred" in text
    assert "n3: the end of .penstock/workers-0123abcd.log" in text
    assert "the end\n" in text or "the end<" in text
    assert "the begin" not in text


@pytest.mark.parametrize("end", ["", "\n"])
def test_a_line_that_never_ended_is_shown_too(end, tmp_path):
    """As bars of progress are that are drawn again and again."""
    state, started = tmp_path / ".penstock", next(RUNS["on_nodes"]())
    state.mkdir()
    (state / "workers.log").write_text("\r  5%" * 1000 + "\r100%" + end)
    assert (
        "100%" in page_of(tmp_path, [started, joined("n1", "workers.log")], [Report()]).partition("<pre>")[2]
    )


@pytest.mark.parametrize("odd", ["../secret", "workers-0123abcd.log", "workers.log", "/etc/hostname"])
def test_no_other_file_is_shown_whatever_an_event_names(odd, tmp_path):
    """Neither one elsewhere, nor one that a link leads to, nor a pipe on which a reader would wait."""
    state = tmp_path / ".penstock"
    state.mkdir()
    (tmp_path / "secret").write_text("a secret\n")
    (state / "workers-0123abcd.log").symlink_to(tmp_path / "secret")
    os.mkfifo(state / "workers.log")
    text = page_of(tmp_path, [next(RUNS["on_nodes"]()), joined("n1", odd)], [Report()])
    assert "the end of" not in text
    assert "a secret" not in text
