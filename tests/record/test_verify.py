"""Verify: a whole run holds, and whatever is not as it was kept is named."""

import json
import shutil
import socket
import time
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from verified_functions import (
    Quiet,
    array,
    both,
    file,
    large,
    nearly,
    none_of_the_first,
    number,
    plus,
    row,
    sort,
    tree,
)
from waiting import LIMIT

import penstock
from penstock import event_lines, reducers, sinks
from penstock import events as ev
from penstock.abc import Receipt
from penstock.cli import main
from penstock.files import proof
from penstock.record import entries, journal
from penstock.record.lock import RunLock
from penstock.sources import Range

BUDGET = "400MiB"
ITEMS = 23


KINDS = {
    "collect": (number, sinks.Collect()),
    "collect in parts": (large, sinks.Collect()),
    "parquet": (row, sinks.Parquet(grain=5)),
    "parquet in one file": (row, sinks.Parquet(grain=5, one_file=True)),
    "partitions": (row, sinks.Partitions(by="item", parts=3, grain=5)),
    "arrays": (array, sinks.Arrays(grain=5)),
    "files": (file, sinks.Files()),
    "folders": (tree, sinks.Files(grain=3)),
    "a stranger's sink": (number, Quiet()),
    "sum": (number, reducers.Sum()),
    "sum with large states": (large, reducers.Sum(grain=5)),
    "count": (str, reducers.Count()),
    "fold": (number, reducers.Fold(lambda a, b: [*a, b], list, lambda a, b: a + b, grain=5)),
    "several": (both, {"rows": sinks.Parquet(grain=4), "sum": reducers.Sum()}),
    "set aside": (nearly, sinks.Collect()),
    "a whole grain set aside": (none_of_the_first, sinks.Parquet(grain=5)),
    "nothing": (row, sinks.Parquet(one_file=True)),
    "nothing, summed": (number, reducers.Sum()),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Makes a run of a kind, once."""
    top = tmp_path_factory.mktemp("runs")
    known = {}

    def make(kind):
        if kind not in known:
            function, into = KINDS[kind]
            folder = top / kind.replace(" ", "-").replace("'", "")
            items = 0 if kind.startswith("nothing") else ITEMS
            job = penstock.Job(source=Range(items), function=function, into=into)
            known[kind] = job.run(folder, budget=BUDGET, workers=1, set_aside=True).folder
        return known[kind]

    return make


@pytest.fixture
def run(made, tmp_path):
    """A copy of a run, to be damaged."""

    def copy(kind):
        return shutil.copytree(made(kind), tmp_path / "run")

    return copy


def faults(folder):
    found = penstock.verify(folder)
    assert found.ok == (not found.faults)
    # Twice the same, and nothing was changed.
    assert penstock.verify(folder) == found
    return [str(fault) for fault in found.faults]


# --------------------------------------------------------------------------- whole runs hold


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_run_holds(kind, made):
    found = penstock.verify(made(kind))
    assert found.faults == ()
    (stage,) = found.stages
    assert (stage.stage, stage.finished, stage.missing) == ("", True, 0)
    aside = {"set aside": 3, "a whole grain set aside": 10}.get(kind, 0)
    assert stage.set_aside == aside
    assert stage.done + aside == stage.items == (0 if kind.startswith("nothing") else ITEMS)
    assert stage.parts >= 1
    assert 0 < stage.peak <= stage.budget == 400 << 20 or stage.items == 0
    assert found.beside == (("index.txt",) if kind == "a stranger's sink" else ())
    assert (found.running, found.died) == (None, None)


def test_every_built_in_sink_and_reducer_was_verified():
    from penstock import registry

    known = {name for seam in ("sink", "reducer") for name in registry.names(seam)}
    tried = [
        each for _, into in KINDS.values() for each in (into.values() if isinstance(into, dict) else [into])
    ]
    assert known <= {type(each).__name__.lower() for each in tried}


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("staged") / "run"

    def pipeline(stop_after=None):
        with penstock.Run(folder, budget=BUDGET, workers=1) as run:
            rows = run.stage(
                "rows", penstock.Job(source=Range(ITEMS), function=row, into=sinks.Parquet(grain=5))
            )
            step = run.step("sort", sort, inputs={"rows": rows})
            total = penstock.Job(source=Range(7), function=plus, into="sum", inputs={"first": step})
            run.stage("total", total)
            (folder / "summary.json").write_text("{}")

    pipeline()
    pipeline()  # and once more: all is finished
    return folder


def test_stages_steps_and_what_a_workload_wrote(staged):
    found = penstock.verify(staged)
    assert found.faults == ()
    assert [stage.stage for stage in found.stages] == ["rows", "sort", "total"], "in their order"
    assert [stage.items for stage in found.stages] == [ITEMS, 1, 7]
    assert found.beside == ("summary.json",)
    assert f"in all: {ITEMS + 7} of {ITEMS + 7} items kept" in str(found), "a step is no item"
    assert json.loads(found.to_json())["total"]["items"] == ITEMS + 8
    assert "not verified, as no receipt tells of them: summary.json" in str(found)


@pytest.mark.parametrize("change", ["flip", "remove", "add"])
def test_a_step_is_verified_whole(change, staged, tmp_path):
    folder = shutil.copytree(staged, tmp_path / "run")
    inner = folder / "sort" / "deep" / "order.txt"
    if change == "flip":
        flip(inner)
    elif change == "remove":
        inner.unlink()
    else:
        (folder / "sort" / "more.txt").write_text("")
    (fault,) = faults(folder)
    assert fault.startswith("sort: expected ")


def test_a_journal_that_is_gone_is_missed(staged, tmp_path):
    folder = shutil.copytree(staged, tmp_path / "run")
    (folder / ".penstock" / "total" / "journal").unlink()
    assert faults(folder) == [".penstock/total/journal: expected the stage's journal, found no such file"]


def test_one_that_died_between_two_stages_is_not_finished(staged, tmp_path):
    folder = shutil.copytree(staged, tmp_path / "run")
    shutil.rmtree(folder / ".penstock" / "total")
    events = folder / ".penstock" / "events.jsonl"
    kept = [each for each in events.read_text().splitlines() if json.loads(each).get("stage") != "total"]
    events.write_text("".join(f"{each}\n" for each in kept))
    assert penstock.verify(folder).ok  # as far as can be told: its last owner gave the folder back
    owner = {"host": socket.gethostname(), "boot": "before", "pid": 77, "since": "2026-01-01 00:00:00"}
    (folder / ".penstock" / "lock").write_text(json.dumps(owner))
    found = penstock.verify(folder)
    assert [fault.unfinished for fault in found.faults] == [True]
    assert "NOT FINISHED .penstock: expected the end of the run, found it died after the stage" in str(found)


def test_a_run_that_was_resumed_and_moved_holds(tmp_path):
    job = penstock.Job(source=Range(ITEMS), function=nearly, into=sinks.Collect())
    with pytest.raises(penstock.FunctionRaised):
        job.run(tmp_path / "a", budget=BUDGET, workers=1)
    (fault,) = faults(tmp_path / "a")
    assert "expected a finished stage, found results that were not put together" in fault
    job.run(tmp_path / "a", budget=BUDGET, workers=1, set_aside=True)
    (tmp_path / "a").rename(tmp_path / "b")
    assert faults(tmp_path / "b") == []


# --------------------------------------------------------------------------- what does not hold


def flip(path):
    """One byte in the middle, the size as before."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


ONE_PART = {
    "collect": "results.jsonl",
    "collect in parts": "part-*.jsonl",
    "parquet": "part-000000005-*",
    "parquet in one file": "results.parquet",
    "partitions": "split-000000005-*",
    "arrays": "part-000000000-*",
    "files": "000000007-*",
    "folders": "000000007-tree/deep/a.txt",
    "a stranger's sink": "lines-5.txt",
    "sum": ".penstock/job/result.json",
    "sum with large states": ".penstock/job/states/state-000000000005.json",
    "several": "rows/part-000000004-*",
}


@pytest.mark.parametrize("kind", ONE_PART)
def test_a_flipped_byte_is_found(kind, run):
    folder = run(kind)
    part = sorted(folder.glob(ONE_PART[kind]))[0]
    flip(part)
    (fault,) = faults(folder)
    assert fault.startswith(
        part.relative_to(folder).as_posix().partition("/deep")[0] + ": expected the digest"
    )


@pytest.mark.parametrize("kind", ONE_PART)
def test_a_missing_part_is_found(kind, run):
    folder = run(kind)
    part = sorted(folder.glob(ONE_PART[kind]))[0]
    part.unlink()
    (fault,) = faults(folder)
    if kind != "folders":
        told = part.relative_to(folder).as_posix()
        assert fault.startswith(f"{told}: expected ")
        assert fault.endswith("bytes, as kept, found no such file")


@pytest.mark.parametrize("kind", ONE_PART)
def test_a_part_that_was_cut_is_found(kind, run):
    folder = run(kind)
    part = sorted(folder.glob(ONE_PART[kind]))[0]
    size = part.stat().st_size
    part.write_bytes(part.read_bytes()[:-1])
    (fault,) = faults(folder)
    if kind != "folders":
        assert fault.endswith(f"expected {size:,} bytes, as kept, found {size - 1:,} bytes")


@pytest.mark.parametrize(
    ("kind", "stale"),
    [
        ("collect", "part-000000003.jsonl"), ("parquet", "part-000000900-000000904.parquet"),
        ("parquet in one file", "part-000000000-000000004.parquet"),
        ("partitions", "split-000000002-000000004.parquet"),
        ("arrays", "part-000000002-000000004.npy"), ("files", "000000003-another.txt"),
        ("several", "rows/part-000000002-000000004.parquet"),
        ("parquet", ".part-000000000-000000004.parquet.77.tmp"),
    ],
)  # fmt: skip
def test_a_stale_part_is_found(kind, stale, run):
    folder = run(kind)
    (folder / stale).write_text("stale")
    (fault,) = faults(folder)
    assert fault.startswith(f"{stale}: expected nothing: no receipt tells of it, found ")


def test_a_file_of_your_own_is_no_fault_but_told(run):
    folder = run("parquet")
    (folder / "notes.txt").write_text("mine")
    (folder / "figures").mkdir()
    found = penstock.verify(folder)
    assert (found.ok, found.beside) == (True, ("figures/", "notes.txt"))


def lines(folder):
    path = folder / ".penstock" / "job" / "journal"
    return path, path.read_bytes().splitlines(keepends=True)


def test_a_damaged_journal_is_named_with_its_line(run):
    folder = run("parquet")
    path, kept = lines(folder)
    kept[3] = kept[3].replace(b"kept", b"KEPT")
    path.write_bytes(b"".join(kept))
    (fault,) = faults(folder)
    assert fault.startswith(".penstock/job/journal: expected lines that match their checksums, found ")
    assert "line 4" in fault


def test_a_torn_journal_is_named_and_what_it_lacks(run):
    folder = run("parquet")
    path, kept = lines(folder)
    last = max(place for place, line in enumerate(kept) if b'"kept"' in line)
    start, stop = json.loads(kept[last][9:])["kept"]
    path.write_bytes(b"".join(kept[:last]) + kept[last][:20])
    torn, missing = faults(folder)
    assert "expected whole lines, found a torn last one" in torn
    assert missing.endswith(
        f"expected {ITEMS} items kept or set aside, found {stop - start} missing: {start}-{stop - 1}"
        if stop - start > 1
        else f"expected {ITEMS} items kept or set aside, found 1 missing: {start}"
    )


def test_what_only_waits_to_be_done_is_no_fault(run, tmp_path):
    folder = run("parquet")
    path, kept = lines(folder)
    closed = max(place for place, line in enumerate(kept) if b'"closed"' in line)
    last = max(place for place, line in enumerate(kept) if b'"kept"' in line)
    path.write_bytes(b"".join(kept[:last]))
    found = penstock.verify(folder)
    assert not found.ok
    assert "NOT FINISHED .penstock/job/journal: expected" in str(found)
    damaged = [fault for fault in found.faults if not fault.unfinished]
    assert ("FAULT" in str(found)) is bool(damaged)
    # The same in a stage that was finished is one: nothing would do the items.
    path.write_bytes(b"".join(kept[:last] + kept[closed:]))
    assert any(not fault.unfinished and "missing" in fault.found for fault in penstock.verify(folder).faults)


def test_an_interrupted_run_has_no_fault(tmp_path):
    job = penstock.Job(source=Range(ITEMS), function=nearly, into=sinks.Collect())
    with pytest.raises(penstock.FunctionRaised):
        job.run(tmp_path / "a", budget=BUDGET, workers=1)
    told = str(penstock.verify(tmp_path / "a"))
    assert "FAULT" not in told
    assert told.endswith(
        "no fault: what is kept holds, and the run is not finished; resumed, it goes on from there"
    )


def test_a_stage_that_was_not_closed_is_not_finished(run):
    folder = run("parquet")
    path, kept = lines(folder)
    path.write_bytes(b"".join(kept[:-1]))
    (fault,) = faults(folder)
    assert "expected a finished stage" in fault


@pytest.mark.parametrize("number", [0, 1])
def test_items_that_were_kept_twice_are_found(number, run):
    folder = run("collect")
    path, _ = lines(folder)
    book = journal.Journal(path, owner=SimpleNamespace(number=number, prove=lambda: None))
    book.write(entries.kept(2, 4, {"": [(2, 4, Receipt(value=["2", "3"]))]}, []))
    book.close()
    told = [
        fault for fault in faults(folder) if "items 2 to 3 are kept here, and some of them before" in fault
    ]
    assert len(told) == number, "a line of an owner before the last does not count"


def test_a_receipt_that_is_missing_is_found(run):
    folder = run("several")
    path, kept = lines(folder)
    place = max(place for place, line in enumerate(kept) if b'"kept"' in line)
    entry = json.loads(kept[place][9:])
    del entry["receipts"]["sum"]
    path.write_bytes(b"".join(kept[:place]))
    book = journal.Journal(path)
    book.write(entry)
    book.close()
    with open(path, "ab") as file:
        file.writelines(kept[place + 1 :])
    (fault,) = faults(folder)
    assert f"expected the receipts of 'sum' to cover {ITEMS} items once" in fault


def test_a_peak_over_its_budget_is_found_in_the_events(run):
    folder = run("sum")
    with open(folder / ".penstock" / "events.jsonl", "a") as file:
        over = ev.MemoryRead(at=time.time(), used=(400 << 20) + (30 << 20), workers={}, free=-5)
        file.write(event_lines.to_line(over) + "\n" + event_lines.to_line(ended()) + "\n")
    (fault,) = faults(folder)
    assert fault == (
        ".penstock/events.jsonl: expected a peak of at most 400 MiB, found 430 MiB (30.0 MiB over)"
    )


def ended():
    return ev.StageEnded(
        at=time.time(), outcome="done", done=ITEMS, set_aside=0, seconds=1.0, cpu=1.0, peak=0, projected=0
    )


def test_a_peak_over_its_budget_is_found_in_the_report(run):
    folder = run("sum")
    path = folder / ".penstock" / "job" / "report.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"peak": 500 << 20}))
    (fault,) = faults(folder)
    assert fault.startswith(".penstock/job/report.json: expected a peak of at most 400 MiB, found 500 MiB")
    path.write_text("torn")
    (fault,) = faults(folder)
    assert fault.startswith(".penstock/job/report.json: expected the stage's report")


def test_events_that_are_gone_are_missed_and_a_lost_report_is_not(run):
    folder = run("sum")
    (folder / ".penstock" / "job" / "report.json").unlink()
    assert faults(folder) == []
    (folder / ".penstock" / "events.jsonl").unlink()
    (fault,) = faults(folder)
    assert fault == ".penstock/events.jsonl: expected the events of the run, found no such file"


# --------------------------------------------------------------------------- the verb


def verify(folder, *more):
    return CliRunner().invoke(main, ["verify", str(folder), *more])


def test_the_verb_exits_with_0_only_when_all_hold(run):
    folder = run("parquet")
    done = verify(folder)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.endswith("everything holds\n")
    part = sorted(folder.glob("part-*"))[0]
    flip(part)
    failed = verify(folder)
    assert failed.exit_code == 1
    assert f"FAULT {part.name}: expected the digest " in failed.stdout
    assert failed.stdout.endswith("1 fault\n")


def test_json(run):
    folder = run("set aside")
    told = json.loads(verify(folder, "--json").stdout)
    assert (told["schema"], told["ok"], told["faults"], told["died"], told["running"]) == (
        1,
        True,
        [],
        None,
        None,
    )
    assert told["total"]["done"] == told["stages"][0]["done"] == ITEMS - 3
    assert told["stages"][0]["set_aside"] == 3
    size, _ = proof(folder / "results.jsonl")
    assert told["total"]["bytes"] >= size
    (folder / "results.jsonl").unlink()
    broken = verify(folder, "--json")
    assert broken.exit_code == 1
    (fault,) = json.loads(broken.stdout)["faults"]
    assert fault == {"file": "results.jsonl", "expected": f"{size:,} bytes, as kept", "found": "no such file",
                     "unfinished": False}  # fmt: skip


def test_a_folder_that_is_no_run_is_wrong_usage(tmp_path):
    (tmp_path / "a.txt").touch()
    done = verify(tmp_path)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "holds no run" in done.stderr
    assert verify(tmp_path / "not there").exit_code == 2


def test_a_running_run_is_said_to_run(run):
    folder = run("parquet")
    lock = RunLock(folder / ".penstock")
    found = penstock.verify(folder)
    lock.release()
    assert found.running.alive
    assert f"running: {found.running} has been at it since {found.running.since}" in str(found)


def test_the_jobs_code_is_not_imported(run):
    """No output, no function, no workload: the journal alone is read."""
    import subprocess
    import sys

    code = (
        "import sys, penstock; assert penstock.verify(sys.argv[1]).ok; "
        "odd = [name for name in sys.modules if name.startswith(('penstock.sinks', 'penstock.sources', "
        "'penstock.workloads', 'pyarrow', 'numpy', 'verified_functions'))]; assert not odd, odd"
    )
    subprocess.run([sys.executable, "-c", code, str(run("parquet"))], check=True, timeout=LIMIT)
