"""May a job go on where a journal ends?"""

import io
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import penstock
from penstock import event_lines
from penstock import events as ev
from penstock.display.progress import Progress
from penstock.errors import JobChanged, SourceChanged
from penstock.record import postmortem
from penstock.record.journal import Past
from penstock.record.resume import compare


def key(files, spans=None, *, items=10, function="m.f", kind="Files"):
    return {
        "function": {"name": function, "code": "1"},
        "source": {"type": kind, "items": items, "files": files, "spans": spans or {}},
        "rooms": {},
        "inputs": {},
        "options": {},
    }


OLD = key({"a": "3:1:x", "b": "4:1:y"}, {"a": [0, 5], "b": [5, 10]})


def may(new, *, done=((0, 5),), accept=False, old=OLD, tmp_path="runs/x"):
    past = Past(job=old)
    for pair in done:
        past.done.add(*pair)
    return compare(past, new, tmp_path, accept=accept)


def test_the_same_job_goes_on():
    assert may(OLD) is False


def test_another_function_is_refused_and_can_be_accepted():
    new = key({"a": "3:1:x", "b": "4:1:y"}, {"a": [0, 5], "b": [5, 10]}, function="m.g")
    with pytest.raises(JobChanged, match=r"holds 5 finished items .*is m.g now.*accept_changes=True"):
        may(new)
    assert may(new, accept=True) is True


def test_where_all_is_done_there_is_no_rest_to_do_the_new_way():
    past = Past(job=OLD, closed=True)
    past.done.add(0, 10)
    with pytest.raises(JobChanged, match="put back what was there, or choose another folder") as told:
        compare(past, OLD | {"inputs": {"table": 1}}, "runs/x", accept=False)
    assert "accept" not in str(told.value)
    with pytest.raises(SourceChanged, match="All of it is done: put back what was there, or") as told:
        compare(past, key({"b": "4:1:y"}, {"b": [0, 10]}), "runs/x", accept=False)
    assert "accept" not in str(told.value)


@pytest.mark.parametrize(
    ("now", "words"),
    [
        ({"b": "4:1:y"}, "a is gone"),
        ({"a": "9:2:z", "b": "4:1:y"}, "a has 9 bytes, it had 3"),
        ({"a": "3:2:z", "b": "4:1:y"}, "a was written again with other content"),
        ({"a": "3:2:x", "b": "4:1:y"}, r"a was written again \(same size\)"),
        ({"a": "odd", "b": "4:1:y"}, "a is not what it was"),
    ],
)
def test_a_changed_file_of_done_items_is_refused(now, words):
    new = key(now, {"a": [0, 5], "b": [5, 10]})
    with pytest.raises(SourceChanged, match=words):
        may(new)
    assert may(new, accept=True) is True
    assert may(new, done=[(5, 10)]) is True, "of items that are not done it does not matter"
    assert may(new, done=[]) is True


def test_a_moved_file_of_done_items_is_refused():
    new = key({"0": "1:1:n", "a": "3:1:x", "b": "4:1:y"}, {"0": [0, 1], "a": [1, 6], "b": [6, 11]}, items=11)
    with pytest.raises(SourceChanged, match="a now gives items 1 to 6, it gave 0 to 5"):
        may(new)


def test_appended_files_are_fine():
    new = key(
        {"a": "3:1:x", "b": "4:1:y", "c": "5:1:z"}, {"a": [0, 5], "b": [5, 10], "c": [10, 12]}, items=12
    )
    assert may(new, done=[(0, 10)]) is True


def test_a_file_without_spans_stands_for_all_items():
    old, new = key({"list": "1"}), key({"list": "2"})
    assert may(new, old=old, done=[]) is True
    with pytest.raises(SourceChanged, match="list is not what it was"):
        may(new, old=old, done=[(9, 10)])


def test_another_kind_of_source_is_refused():
    with pytest.raises(SourceChanged, match="the source was Files, it is Range"):
        may(key({}, kind="Range"))


def test_many_changed_files_are_counted():
    old = key({f"f{i}": "1:1:a" for i in range(8)}, {f"f{i}": [i, i + 1] for i in range(8)}, items=8)
    with pytest.raises(SourceChanged, match=r"f0 is gone; .*f4 is gone; and 3 more"):
        may(key({}, items=8), old=old, done=[(0, 8)])


# --------------------------------------------------------------------------- a whole run


def size_of(path):
    return path.stat().st_size


def fail_on_b(path):
    if path.name == "b":
        raise ValueError("not yet")
    return path.stat().st_size


@pytest.fixture
def folder(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for name in "abc":
        (data / name).write_text(name)
    return data


def go(folder, function=size_of, **more):
    job = penstock.Job(source=penstock.sources.Files(sorted(folder.iterdir())), function=function)
    return job.run(folder.parent / "run", budget="300MiB", workers=1, **more)


def test_files_change_under_a_run(folder):
    go(folder, fail_on_b, set_aside=True)
    assert go(folder, fail_on_b, set_aside=True).result[2] == 1
    (folder / "d").write_text("dddd")
    assert list(go(folder, fail_on_b, set_aside=True).result[2:]) == [1, 4]
    (folder / "a").write_text("longer")
    with pytest.raises(SourceChanged, match="a has 6 bytes, it had 1"):
        go(folder, fail_on_b, set_aside=True)
    with pytest.raises(JobChanged, match=r"the function is .*size_of now"):
        go(folder, size_of)


# --------------------------------------------------------------------------- numbers that agree


def fail_on_some(item):
    if item in (10, 11, 77) and not Path("mended").exists():
        raise ValueError(f"no {item}")
    return item


@pytest.mark.parametrize("grain", [None, 8])
def test_what_is_told_of_a_death_and_what_is_done_before_are_the_same_items(grain, tmp_path, monkeypatch):
    """Items in one batch with some that are tried again are done again: the second line says how many."""
    monkeypatch.chdir(tmp_path)
    into = {"a": penstock.reducers.Sum(), "b": penstock.sinks.Arrays(grain=grain)} if grain else "collect"
    function = both if grain else fail_on_some

    def go():
        told = []
        with suppress(penstock.FunctionRaised):
            penstock.run(function, 100, "r", into=into, backend="inline", call=4, observers=[told.append])
        return told

    go()
    dead = tmp_path / "r/.penstock/events.jsonl"  # as it is left by one that died: without its end
    lines = [line for line in dead.read_text().splitlines() if "stage_ended" not in line]
    dead.write_text("\n".join(lines) + "\n")
    died = postmortem.of_run(tmp_path / "r")
    assert died.kept == 97
    assert " 97 of 100 items are kept" in str(died)
    assert postmortem.examine(event_lines.read(dead)).kept == 97, "the events by themselves say so too"
    (started,) = [event for event in go() if isinstance(event, ev.StageStarted)]
    assert started.done + started.again == died.kept
    assert started.again > 0
    said = io.StringIO()
    Progress(stream=said, live=False)(started)
    assert (
        f"{started.done} done before ({started.again} more were kept, and are done again)" in said.getvalue()
    )
    Path("mended").touch()
    (report,) = [event for event in go() if isinstance(event, ev.StageEnded)]
    assert report.done == 100


def both(item):
    value = fail_on_some(item)
    return {"a": value, "b": np.full(2, value)}
