"""Going on in a folder: what must be refused, what must not be repeated, and full or strange disks."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from functions import Tell
from programs import Told, answers, beside, digest, finished, lines, python, start, write
from waiting import LIMIT, until

import penstock
from penstock.budget import MiB
from penstock.record import holding
from penstock.record.lock import RunLock
from penstock.sources import Files, Range
from penstock.testing import misfortune as mf
from penstock.testing.misfortune import answer

MODULE = """
import os, time
import penstock
def work(item):
    with open("worked", "a") as file:
        file.write(f"{item}\\n")
    while item > 150 and os.path.exists("hold"):
        time.sleep(0.01)
    return item * FACTOR
FACTOR = 2
"""
RUN = """
import os, signal, sys
import penstock, module

batches = []

def interrupt(event):
    if event.kind == "batch_done":
        batches.append(event)
        if len(batches) == 3:
            os.kill(os.getpid(), signal.SIGINT)

accept = "accept" in sys.argv
job = penstock.Job(source=penstock.sources.Range(200), function=module.work)
observers = [interrupt] if "interrupt" in sys.argv else []
report = job.run("r", budget="300MiB", accept_changes=accept, observers=observers)
print(report.done)
"""


def begun(tmp_path):
    """A run that was interrupted after some batches."""
    write(tmp_path, "module.py", MODULE)
    script = write(tmp_path, "script.py", RUN)
    finished(python(script, "interrupt", cwd=tmp_path), -signal.SIGINT)
    return script


def test_a_function_edited_between_run_and_resume(tmp_path):
    script = begun(tmp_path)
    before = (tmp_path / "worked").read_text().split()
    write(tmp_path, "module.py", MODULE.replace("FACTOR = 2", "FACTOR = 20"))
    _, told = finished(python(script, cwd=tmp_path), 1)
    assert "JobChanged" in told
    assert "the module of module.work was edited" in told
    assert "accept_changes=True" in told
    finished(python(script, "accept", cwd=tmp_path))
    again = (tmp_path / "worked").read_text().split()[len(before) :]
    results = [int(line) for line in (tmp_path / "r" / "results.jsonl").read_text().splitlines()]
    assert {result // item for item, result in enumerate(results) if item} == {2, 20}
    assert all(results[int(item)] == 20 * int(item) for item in again)
    # The change is in the journal: from now on that is the job.
    finished(python(script, cwd=tmp_path))


def test_inputs_that_changed(tmp_path):
    for number in range(6):
        write(tmp_path, f"in-{number}", f"{number}" * 100)

    def size(path):
        length = len(path.read_text())
        if path.name == "in-4" and length != 7:
            raise ValueError("not yet")
        return length

    def job():
        return penstock.Job(
            source=Files(sorted(tmp_path.glob("in-*"))), function=lambda path: size(Path(path))
        )

    with pytest.raises(penstock.errors.FunctionRaised):
        job().run(tmp_path / "r", budget=beside(150))
    write(tmp_path, "in-4", "4" * 7)  # its item is not done: it may change
    write(tmp_path, "in-2", "new")
    with pytest.raises(penstock.errors.SourceChanged, match=r"in-2 has 3 bytes, it had 100"):
        job().run(tmp_path / "r", budget=beside(150))
    report = job().run(tmp_path / "r", budget=beside(150), accept_changes=True)
    # What was kept together with the failed item is worked again; the rest is as it was.
    assert list(report.result) in ([100, 100, 100, 100, 7, 100], [100, 100, 3, 100, 7, 100])


def test_a_second_run_in_the_same_folder_at_the_same_time(tmp_path):
    write(tmp_path, "module.py", MODULE)
    script = write(tmp_path, "script.py", RUN)
    (tmp_path / "hold").touch()
    first = python(script, cwd=tmp_path)
    until(lambda: lines(tmp_path / "r") > 3, program=first)
    _, told = finished(python(script, cwd=tmp_path), 1)
    assert "RunLocked" in told
    assert f"process {first.pid} on {socket.gethostname()}" in told
    (tmp_path / "hold").unlink()
    out, _ = finished(first)
    assert out == "200\n"


@pytest.mark.parametrize(
    "holder",
    [
        {"boot": "another", "pid": 1},
        {"pid": 4_000_000},
        {"pid": os.getpid(), "started": "1"},
        {"host": "node-that-died", "boot": "its own"},
        {"torn": True},
    ],
    ids=["an earlier boot", "no such process", "the number of another process", "a silent host", "torn"],
)
def test_a_lock_left_by_a_dead_run_is_taken_over(holder, tmp_path, monkeypatch):
    monkeypatch.setattr(holding, "SILENT", 0.5)  # of what cannot be seen from here
    job = penstock.Job(source=Range(5), function=answer)
    lock = tmp_path / "r" / ".penstock" / "lock"
    lock.parent.mkdir(parents=True)
    mine = RunLock(lock.parent)
    whole = json.loads(lock.read_text()) | {"pid": 1, "started": "7"} | holder
    mine.release()
    lock.write_text('{"host": "no' if holder.get("torn") else json.dumps(whole))
    assert list(job.run(tmp_path / "r", budget=beside(150)).result) == answers(5)
    assert not lock.exists()


def test_a_lock_of_a_living_host_is_respected(tmp_path):
    lock = tmp_path / "r" / ".penstock" / "lock"
    lock.parent.mkdir(parents=True)
    lock.write_text(json.dumps({"host": "elsewhere", "boot": "b", "pid": 9, "started": "1", "since": "now"}))
    ended = threading.Event()

    def live():
        while not ended.wait(0.05):
            os.utime(lock)

    thread = threading.Thread(target=live)
    thread.start()
    try:
        with pytest.raises(penstock.errors.RunLocked, match="process 9 on elsewhere"):
            penstock.run(answer, 5, tmp_path / "r", budget=beside(150))
    finally:
        ended.set()
        thread.join()


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="needs /dev/shm")
def test_a_run_folder_in_memory_is_warned_of_and_counted():
    folder = Path(f"/dev/shm/penstock-test-{os.getpid()}")
    job = penstock.Job(source=Range(40), function=mf.HugeOutput(1 * MiB))
    try:
        with pytest.warns(RuntimeWarning, match="memory"):
            report = job.run(folder, budget=beside(320))
        # 40 MiB of parts lie in shared memory, and again while they are put together.
        assert report.peak - beside(0) > 60 * MiB
        assert report.peak <= report.budget
    finally:
        subprocess.run(["rm", "-r", folder], check=True)


def test_a_folder_that_is_not_ours_or_not_writable(tmp_path):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "thesis.tex").write_text("mine")
    with pytest.raises(penstock.errors.CannotResume, match=r"holds 1 file \(thesis.tex"):
        penstock.run(answer, 5, tmp_path / "r", budget=beside(150))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(penstock.errors.CannotResume, match="is a file"):
        penstock.run(answer, 5, tmp_path / "file", budget=beside(150))
    assert (tmp_path / "file").read_text() == "mine"


READ_ONLY = """
mount -t tmpfs -o size=4m none {place} && mkdir {place}/r && mount -o remount,ro {place} || exit 77
exec {python} {script}
"""
FULL = """
mount -t tmpfs -o size=3m none {place} || exit 77
{python} -W ignore {script}; first=$?
ls -A {place}/r {place}/r/.penstock >&2
mount -o remount,size=60m {place}
{python} -W ignore {script} || exit 78
exit $first
"""
IN_PLACE = """
import sys
import penstock
def text(item):
    return "x" * 200_000
def file(item):
    path = penstock.share().folder / "text"
    path.write_text("x" * 200_000)
    return path
job = penstock.Job(source=penstock.sources.Range(60), function={function}, into={into!r})
try:
    report = job.run({folder!r}, budget="400MiB")
    print(report.done, report.resumed_from)
except penstock.PenstockError as error:
    print(type(error).__name__, error, file=sys.stderr)
    sys.exit(9)
"""
private_mounts = pytest.mark.skipif(
    os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], check=False).returncode != 0,
    reason="needs root, and mounts of one's own",
)


def mounted(tmp_path, shell, **words):
    place = tmp_path / "disk"
    place.mkdir()
    script = write(tmp_path, "script.py", IN_PLACE.format(folder=str(place / "r"), **words))
    text = shell.format(place=place, python=sys.executable, script=script)
    return start("unshare", "-m", "--propagation", "private", "sh", "-c", text, cwd=tmp_path)


@private_mounts
@pytest.mark.parametrize("kept", ["collect", "files"])
def test_a_full_disk_is_named_and_the_run_goes_on_when_there_is_room(kept, tmp_path):
    words = {"into": kept, "function": "text" if kept == "collect" else "file"}
    program = mounted(tmp_path, FULL, **words)
    out, told = finished(program, 9)
    assert "DiskFull the disk of" in told
    assert str(tmp_path / "disk") in told
    assert "make room, then run the same command again" in told
    done, before = map(int, out.split())
    assert done == 60
    assert before > 0  # what was journaled was not worked again


@private_mounts
def test_a_folder_on_a_read_only_disk(tmp_path):
    _, told = finished(mounted(tmp_path, READ_ONLY, into="collect", function="text"), 9)
    assert told.startswith("UsageError")
    assert "choose another folder" in told


def test_a_limit_on_file_size_is_no_hang(tmp_path):
    script = write(tmp_path, "script.py", IN_PLACE.format(folder="r", into="collect", function="text"))

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    program = python(script, cwd=tmp_path, preexec_fn=limit)
    _, told = program.communicate(timeout=LIMIT)
    assert program.returncode == 9, told
    assert "File too large" in told
    out, _ = finished(python(script, cwd=tmp_path))
    assert out.startswith("60 ")


def test_a_journal_that_is_torn_or_damaged(tmp_path):
    job = penstock.Job(source=Range(30), function=mf.Raise((29,)))
    with pytest.raises(penstock.errors.FunctionRaised):
        job.run(tmp_path / "r", budget=beside(150))
    journal = tmp_path / "r" / ".penstock" / "job" / "journal"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'0123abcd {"kept": [0, 3')  # killed while it wrote
    with pytest.raises(penstock.errors.FunctionRaised):
        job.run(tmp_path / "r", budget=beside(150))
    damaged = bytearray(journal.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    journal.write_bytes(damaged)
    with pytest.raises(penstock.errors.JournalDamaged, match=r"line \d+: the checksum does not match"):
        job.run(tmp_path / "r", budget=beside(150))


def test_what_is_done_is_not_done_again_under_another_budget_and_worker_count(tmp_path):
    told = Told()
    job = penstock.Job(source=Range(80), function=Tell(str(tmp_path / "worked"), 0.01))

    def stop(event):
        told(event)
        if len(told.of("batch_done")) == 4:  # each takes half of what is left at most
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job.run(tmp_path / "r", budget=beside(150), workers=1, observers=[stop])
    kept = {item for event in told.of("batch_done") for item in range(event.start, event.stop)}
    before = (tmp_path / "worked").read_text().split()
    report = job.run(tmp_path / "r", budget=beside(300), workers=2)
    again = (tmp_path / "worked").read_text().split()[len(before) :]
    assert list(report.result) == answers(80)
    assert report.resumed_from >= len(kept) > 0
    assert not kept & {int(item) for item in again}
    assert digest(tmp_path / "r")


def test_accepting_changes_of_a_finished_run_is_refused(tmp_path):
    """Nothing would be done the new way, and the old results would pass for the new ones."""
    penstock.run(abs, range(5), tmp_path / "run")
    job = penstock.Job(source=penstock.sources.Range(5), function=abs, seed=1)
    with pytest.raises(penstock.JobChanged, match="nothing is left to do the new way"):
        job.run(tmp_path / "run", accept_changes=True)


class Unless:
    """Gives rows of what it is asked, unless a file says that it cannot yet."""

    def __init__(self, sick):
        self.sick = str(sick)  # a Path would be an input, whose content counts

    def __call__(self, item):
        if str(item) in Path(self.sick).read_text().split():
            raise ValueError(f"item {item} is sick")
        return {"item": item}


def count_rows(folder, *, table):
    return {"rows": table.count_rows(), "items": sorted(table.to_table()["item"].to_pylist())}


def count_again(folder, *, counted):
    facts = json.loads((counted / ".facts.json").read_text())
    (folder / "rows.txt").write_text(str(facts["rows"]))


@pytest.mark.parametrize("one_file", [False, True])
def test_what_was_made_of_a_stage_with_holes_is_made_anew_when_they_are_filled(tmp_path, one_file):
    sick = tmp_path / "sick"
    sick.write_text("1 3")
    kept = penstock.sinks.Parquet(grain=1, one_file=one_file)
    job = penstock.Job(source=Range(5), function=Unless(sick), into=kept)

    def go(**wishes):
        with penstock.Run(
            tmp_path / "run", budget=beside(150), backend="inline", set_aside=True, **wishes
        ) as opened:
            table = opened.stage("table", job)
            counted = opened.step("counted", count_rows, inputs={"table": table})
            again = opened.step("again", count_again, inputs={"counted": counted})
        return counted.facts["items"], (again.folder / "rows.txt").read_text(), opened.report().done

    assert go()[:2] == ([0, 2, 4], "3")
    assert go()[:2] == ([0, 2, 4], "3")  # finished: nothing is done again
    sick.write_text("3")
    assert go(retry_set_aside=True)[:2] == ([0, 1, 2, 4], "4")
    sick.write_text("")
    assert go(retry_set_aside=True)[:2] == ([0, 1, 2, 3, 4], "5")
    before = (tmp_path / "run" / ".penstock" / "again" / "journal").read_bytes()
    assert go()[:2] == ([0, 1, 2, 3, 4], "5")
    assert (tmp_path / "run" / ".penstock" / "again" / "journal").read_bytes() == before
    assert penstock.verify(tmp_path / "run").faults == ()


def read_number(path):
    return int(path.read_text())


def add_up(folder, *, numbers):
    total = sum(number for number in numbers if isinstance(number, int))
    (folder / "total.txt").write_text(str(total))


def test_a_file_that_was_mended_is_no_obstacle_to_its_item(tmp_path):
    for name in "abc":
        (tmp_path / name).write_text("7")
    (tmp_path / "b").write_text("seven")
    job = penstock.Job(source=Files([tmp_path / name for name in "abc"]), function=read_number)

    def go(**wishes):
        with penstock.Run(
            tmp_path / "r", budget=beside(150), backend="inline", set_aside=True, **wishes
        ) as opened:
            numbers = opened.stage("numbers", job)
            opened.step("total", add_up, inputs={"numbers": numbers})
        return numbers.missing, (tmp_path / "r" / "total" / "total.txt").read_text()

    assert go() == ((1,), "14")
    (tmp_path / "b").write_text("8")
    assert go() == ((1,), "14")  # not asked for again, it stays set aside; nothing is done or refused
    assert go(retry_set_aside=True) == ((), "22")
    (tmp_path / "a").write_text("9")
    with pytest.raises(penstock.errors.SourceChanged, match="inputs of finished items"):
        go()


def fail(folder):
    raise ValueError("no such luck")


def test_a_step_that_fails_is_never_set_aside(tmp_path):
    with (
        pytest.raises(penstock.errors.FunctionRaised, match="no such luck"),
        penstock.Run(tmp_path / "run", budget=beside(150), backend="inline", set_aside=True) as opened,
    ):
        opened.step("one", fail)


def test_what_a_killed_run_left_in_its_scratch_is_gone_before_the_next_begins(tmp_path):
    left = tmp_path / "run" / ".penstock" / "job" / "scratch" / "item-abc"
    penstock.run(abs, range(3), tmp_path / "run", budget=beside(150))
    left.mkdir(parents=True)
    (left / "half").write_bytes(bytes(1000))
    with penstock.Run(tmp_path / "run", budget=beside(150)):
        assert not left.exists()


def always_raises(item):
    raise ValueError(f"no {item}")


@pytest.mark.parametrize("how", [{}, {"set_aside": True}])
def test_a_function_that_was_mended_goes_on_where_nothing_is_kept(tmp_path, how):
    """Nothing could be mixed with it, so nobody is asked."""
    with pytest.raises(penstock.RunFailed, match="set aside"):
        penstock.run(always_raises, range(30), tmp_path / "run")
    report = penstock.run(str, range(30), tmp_path / "run", **how)
    assert list(report.result) == list(map(str, range(30)))
    with pytest.raises(penstock.JobChanged, match="holds 30 finished items"):
        penstock.run(abs, range(30), tmp_path / "run")
