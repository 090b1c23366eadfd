"""The calls that took most, and the table of every batch: the events say them, in little memory."""

import csv
import io
import random
import tracemalloc

import pytest
from click.testing import CliRunner
from made_up_runs import START, usual

import penstock
from penstock import event_lines, layout
from penstock import events as ev
from penstock.cli import main
from penstock.report import listed
from penstock.report.heavy import MOST, NamedCall, TopCalls, top
from penstock.report.page import write_page
from penstock.report.report import Report
from penstock.report.tally import Tally


def batch(number, *, start=None, items=1, **more):
    start = number if start is None else start
    more = {"peak": 1, "seconds": 1.0, "heaviest": start, "heaviest_stop": start + 1} | more
    return ev.BatchDone(
        at=START, batch=number, worker=0, start=start, stop=start + items, projected=0, retained=0, **more
    )


@pytest.mark.parametrize("by", ["peak", "seconds"])
@pytest.mark.parametrize("count", [0, 3, 10, 500])
def test_they_are_those_that_sorting_all_would_give(by, count):
    chance = random.Random(count)
    calls = [
        NamedCall(start=start, stop=start + 1, peak=chance.randrange(1, 99), seconds=chance.randrange(1, 99))
        for start in range(count)
    ]
    chance.shuffle(calls)
    expected = sorted(calls, key=lambda call: (-getattr(call, by), call.start))[:MOST]
    found = top(calls, by)
    assert [getattr(call, by) for call in found] == [getattr(call, by) for call in expected]
    assert len({call.start for call in found}) == len(found)


def test_a_call_that_is_done_again_is_named_once_with_the_more_of_both():
    kept = TopCalls("peak")
    for peak in (5, 9, 7):
        kept.add(NamedCall(start=3, stop=4, peak=peak))
    assert [call.peak for call in kept] == [9]


def test_the_report_names_them_and_reads_them_again():
    tally = Tally()
    tally(ev.StageStarted(at=START, items=100, done=0, budget=1 << 30, origin="", workers=None))
    for number in range(100):
        tally(batch(number, peak=number << 20, heaviest_name=f"sub-{number:03}", slowest=number,
                    slowest_stop=number + 1, slowest_seconds=100.0 - number))  # fmt: skip
    report = tally.report()
    assert [call.name for call in report.heaviest] == [f"sub-{number:03}" for number in range(99, 89, -1)]
    assert [call.start for call in report.slowest] == list(range(10))
    assert Report.from_json(report.to_json()).heaviest == report.heaviest
    text = report.as_text()
    assert "heaviest" in text
    assert "99.0 MiB  sub-099" in text
    both = Report.of_stages([report, report])
    assert both.heaviest == report.heaviest


WRONG = '[{"start": "1", "stop": 2, "name": "", "stage": "", "peak": 1, "seconds": 1}]'


@pytest.mark.parametrize("wrong", ['[{"start": 1}]', "[1]", '"x"', WRONG])
def test_what_is_no_such_list_is_no_report(wrong):
    with pytest.raises(ValueError, match="heaviest"):
        Report.from_json(f'{{"schema": 1, "heaviest": {wrong}}}')


def test_a_run_tells_which_item_was_the_heaviest_by_its_name(tmp_path):
    for name, size in (("small", 10), ("large", 40 << 20), ("middle", 1 << 10)):
        (tmp_path / name).write_bytes(b"x" * size)

    def held(path):
        return len(path.read_bytes())

    files = penstock.sources.Files(str(tmp_path / "*"))
    job = penstock.Job(source=files, function=held, into="collect", memory="100MiB")
    report = job.run(tmp_path / "run", budget="600MiB", workers=1, call=1)
    assert report.heaviest[0].name.endswith("large")
    assert report.heaviest[0].peak > 30 << 20
    assert report.slowest[0].seconds > 0
    private = penstock.Job(source=files, function=held, into="collect", memory="100MiB", private=True)
    report = private.run(tmp_path / "private", budget="600MiB", workers=1, call=1)
    events = (tmp_path / "private" / layout.STATE / layout.EVENTS).read_text()
    assert "large" not in report.to_json() + events


def test_each_batch_and_each_item_set_aside_is_a_row_with_its_attempts():
    def failed(start, stop, item=-1):
        return ev.BatchFailed(at=START, batch=0, worker=0, start=start, stop=stop, cause="memory", item=item,
                              held=0)  # fmt: skip

    aside = ev.ItemSetAside(at=START, item=3, name="sub-3", reason="memory", message="needs more")
    events = [
        ev.StageStarted(at=START, items=9, done=0, budget=1, origin="", workers=None),
        failed(0, 4), batch(0, start=0, items=2), failed(2, 4), batch(1, start=2, items=1), failed(3, 4),
        aside, batch(2, start=4, items=5, heaviest_name="sub-4"),
    ]  # fmt: skip
    told = [dict(zip(listed.COLUMNS, row, strict=True)) for row in listed.rows(events)]
    assert [(row["first"], row["last"], row["attempts"], row["outcome"]) for row in told] == [
        (0, 1, 2, "done"), (2, 2, 3, "done"), (3, 3, 3, "set aside: memory"), (4, 8, 1, "done"),
    ]  # fmt: skip
    assert (told[2]["name"], told[2]["message"]) == ("sub-3", "needs more")
    assert [row["items"] for row in told] == [2, 1, 0, 5]
    assert (told[3]["name"], told[3]["heaviest_name"]) == ("", "sub-4")


def test_an_item_that_is_set_aside_is_not_counted_in_its_batch_too():
    aside = ev.ItemSetAside(at=START, item=3, name="sub-3", reason="raised", message="no")
    events = [
        ev.StageStarted(at=START, items=9, done=0, budget=1, origin="", workers=None),
        aside, batch(0, start=0, items=6), batch(1, start=6, items=3),
    ]  # fmt: skip
    told = [dict(zip(listed.COLUMNS, row, strict=True)) for row in listed.rows(events)]
    assert [row["items"] for row in told] == [0, 5, 3]


def test_any_number_of_rows_needs_little_memory():
    events = (batch(number) for number in range(20_000))
    tracemalloc.start()
    try:
        assert sum(1 for _ in listed.rows(events)) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_the_table_is_printed_as_csv_and_no_name_is_a_formula(tmp_path):
    state = tmp_path / layout.STATE
    state.mkdir()
    evil = ev.ItemSetAside(at=START, item=1, name="=cmd()\x1b[2J", reason="raised", message='a "b", c')
    with open(state / layout.EVENTS, "w") as file:
        file.writelines(f"{event_lines.to_line(event)}\n" for event in [*usual(), evil])
    found = CliRunner().invoke(main, ["report", str(tmp_path), "--csv"])
    assert found.exit_code == 0, found.output
    told = list(csv.DictReader(io.StringIO(found.stdout)))
    assert len(told) == sum(isinstance(event, ev.BatchDone | ev.ItemSetAside) for event in [*usual(), evil])
    assert (told[-1]["name"], told[-1]["message"]) == ("'=cmd()\\x1b[2J", 'a "b", c')


def test_the_page_has_both_tables_and_the_traceback_of_an_item_set_aside(tmp_path):
    def fails(x):
        if x == 1:
            raise ValueError("no <header>")
        return x

    report = penstock.run(fails, 4, tmp_path / "run", backend="inline", set_aside=True, call=1)
    assert "raise ValueError" in report.set_aside[0].traceback
    page = (tmp_path / "run" / layout.PAGE).read_text()
    assert "<details><summary>traceback</summary><pre>" in page
    assert "ValueError: no &lt;header&gt;" in page.partition("<pre>")[2]
    events = [ev.StageStarted(at=START, items=2, done=0, budget=1 << 30, origin="", workers=None)]
    events += [batch(number, peak=7 << 20, heaviest_name="<b>x") for number in range(2)]
    drawn = write_page(tmp_path, events).read_text()
    assert "Heaviest" in drawn
    assert "&lt;b&gt;x" in drawn
