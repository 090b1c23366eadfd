"""What is kept is looked at before it is believed: damage of every kind, at every moment, in every output.

The law: the next run either gives the right result and ``verify`` passes, or it fails and names the file.
"""

import os
import random
import shutil
import time

import numpy as np
import pytest

import penstock
from penstock import files
from penstock.errors import ResultsDamaged
from penstock.record import journal, standing
from penstock.reducers import Count, Fold, Sum
from penstock.sinks import Arrays, Collect, Files, Parquet
from penstock.sinks.parts import another

ITEMS = 12


def number(item):
    return float(item)


def text(item):
    return f"{item} " * 40_000  # too long for a receipt


def row(item):
    return {"item": item, "word": f"word {item}"}


def array(item):
    return np.full(5, item, "f8")


def arrays(item):
    return {"one": np.full(2, item), "two": np.float64(item)}


def file(item):
    path = penstock.share().folder / f"out-{item % 3}.txt"
    path.write_text(f"what item {item} gave")
    return path


def folder(item):
    path = penstock.share().folder / "out"
    path.mkdir()
    (path / "a.txt").write_text(f"what item {item} gave")
    return path


def words(item):
    return [f"{item}-{n}-{200 * 'x'}" for n in range(400)]  # a state that is too large for a receipt


def image(item):
    return np.full(20_000, item, "f8")


def add(state, result):
    return state + result


def several(item):
    return {"rows": row(item), "count": words(item), "arrays": array(item)}


def read_rows(result):
    return result.to_table().to_pylist()


def read_arrays(result):
    return [np.asarray(each).tolist() if not isinstance(each, dict) else repr(each) for each in result]


def read_files(result):
    return [path.read_text() if path.is_file() else (path / "a.txt").read_text() for path in result]


def read_several(result):
    return read_rows(result["rows"]), result["count"], read_arrays(result["arrays"])


def schema():
    import pyarrow as pa

    return pa.schema({"item": pa.int64(), "word": pa.string()})


def the_same(result):
    return result


ROOMS = {
    "collect": (lambda: Collect(), number, the_same),
    "collect parts": (lambda: Collect(), text, the_same),
    "files": (lambda: Files(), file, read_files),
    "folders": (lambda: Files(grain=2), folder, read_files),
    "parquet": (lambda: Parquet(grain=3), row, read_rows),
    "parquet schema": (lambda: Parquet(grain=3, schema=schema()), row, read_rows),
    "parquet one file": (lambda: Parquet(grain=3, one_file=True), row, read_rows),
    "arrays": (lambda: Arrays(grain=3), array, read_arrays),
    "arrays of names": (lambda: Arrays(grain=3), arrays, read_arrays),
    "count": (lambda: Count(), words, the_same),
    "sum": (lambda: Sum(grain=3), image, lambda total: total.tolist()),
    "fold": (lambda: Fold(add, 0.0, add, grain=3), image, lambda total: total.tolist()),
    "several": (
        lambda: {"rows": Parquet(grain=3), "count": Count(), "arrays": Arrays(grain=2)},
        several,
        read_several,
    ),
}  # fmt: skip


class Job:
    """A job in a folder, done in this very process."""

    def __init__(self, kind, folder):
        make, self.function, self.read = ROOMS[kind]
        self.into, self.folder = make(), folder

    def run(self):
        report = penstock.run(self.function, ITEMS, self.folder, into=self.into, backend="inline", call=1)
        return self.read(report.result)

    def fail_to_close(self, monkeypatch):
        """All items are kept, and the results are not put together."""
        outputs = self.into.values() if isinstance(self.into, dict) else [self.into]

        def refuse(*_):
            raise RuntimeError("not now")

        with monkeypatch.context() as patched:
            for output in outputs:
                patched.setattr(type(output), "finish" if hasattr(output, "merge") else "close", refuse)
            with pytest.raises(penstock.FunctionRaised, match="not now"):
                self.run()

    def fail_half_way(self, monkeypatch):
        """Some items are kept."""
        calls = 0
        output = next(iter(self.into.values())) if isinstance(self.into, dict) else self.into
        name = "step" if hasattr(output, "merge") else "write"
        kept = getattr(type(output), name)

        def refuse(*arguments):
            nonlocal calls
            calls += 1
            if calls > (9 if name == "step" else 3):
                raise RuntimeError("not now")
            return kept(*arguments)

        with monkeypatch.context() as patched:
            patched.setattr(type(output), name, refuse)
            with pytest.raises(penstock.CannotKeep, match="not now"):
                self.run()

    def begun(self):
        return (self.folder / ".penstock" / "job" / "journal").exists()

    def kept(self):
        """Every file that a receipt tells of."""
        place = standing.Place(self.folder, self.folder / ".penstock" / "job")
        past = journal.read(place.book)
        found = []
        for output in past.job["rooms"]:
            closed = past.outputs.get(output)
            if closed is None or not closed.replaced:
                for _, receipt in journal.receipts(place.book, output):
                    found += [place.parts_of(output, past) / part.name for part in receipt.parts]
            found += [place.finals_of(output, past) / part.name for part in (closed.parts if closed else ())]
        return found


def delete(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def inner(path):
    return path / "a.txt" if path.is_dir() else path


def truncate(path):
    os.truncate(inner(path), inner(path).stat().st_size // 2)


def empty(path):
    os.truncate(inner(path), 0)


def flip(path):
    time.sleep(0.02)  # the clock of a file system is as fine as that
    data = bytearray(inner(path).read_bytes())
    data[len(data) // 2] ^= 4
    with open(inner(path), "r+b") as file:
        file.write(data)


def flip_quietly(path):
    """As a failing disk does it, or a tool that sets the time back: size and time are what they were."""
    before = path.stat()
    flip(path)
    os.utime(inner(path), ns=(before.st_atime_ns, before.st_mtime_ns))


def by_folder(path):
    delete(path)
    path.mkdir()
    (path / "something").write_text("else")


def by_link(path):
    moved = path.with_name(f"elsewhere-{path.name}")
    path.rename(moved)
    path.symlink_to(moved)


def by_nothing(path):
    delete(path)
    path.symlink_to("/nowhere")


DAMAGES = [delete, truncate, empty, flip, flip_quietly, by_folder, by_link, by_nothing]


@pytest.fixture(scope="module")
def right(tmp_path_factory):
    """What comes out when nothing goes wrong, by output."""
    return {kind: Job(kind, tmp_path_factory.mktemp("right") / "run").run() for kind in ROOMS}


pytestmark = pytest.mark.filterwarnings("ignore:.*of the results did not stand")


@pytest.mark.parametrize("moment", ["before resume", "before close", "after done"])
@pytest.mark.parametrize("kind", ROOMS)
def test_nothing_that_verify_would_find_is_reported_as_done(kind, moment, right, tmp_path, monkeypatch):
    """Three kinds of damage at once; over the cases each kind meets each moment, and each output."""
    job = Job(kind, tmp_path / "run")
    if moment == "before resume":
        job.fail_half_way(monkeypatch)
    elif moment == "before close":
        job.fail_to_close(monkeypatch)
    else:
        job.run()
    kept = job.kept()
    chance = random.Random(f"{kind} {moment}")
    for path, damage in zip(chance.sample(kept, len(kept)), chance.sample(DAMAGES, 3), strict=False):
        damage(path)
    assert job.run() == right[kind]
    assert penstock.verify(job.folder).ok, str(penstock.verify(job.folder))
    assert job.run() == right[kind], "and it is finished"


def without_a_line(path):
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[30] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage", [without_a_line, flip_a_bit, empty, delete], ids=lambda each: each.__name__
)
@pytest.mark.parametrize("item", [4, ITEMS - 1])
def test_a_journal_that_the_function_damages_is_told_as_that(damage, item, tmp_path):
    """Not as an error of the function; and with a line less, a wrong sum was told as done."""
    book = tmp_path / "run" / ".penstock" / "job" / "journal"

    def function(each):
        if each == item:
            damage(book)
        return each

    with pytest.raises(penstock.errors.JournalDamaged, match=r"journal.*start anew in another folder"):
        penstock.run(function, ITEMS, tmp_path / "run", into=Sum(grain=2), backend="inline", call=1)


@pytest.mark.parametrize("damage", [flip, flip_quietly], ids=lambda do: do.__name__)
@pytest.mark.parametrize("kind", sorted(ROOMS.keys() - {"collect", "several"}))
def test_a_part_that_the_function_rewrites_is_found_at_the_close(kind, damage, right, tmp_path):
    """In its size, in the very run that wrote it: its items are done again."""
    job, damaged = Job(kind, tmp_path / "run"), tmp_path / "damaged"

    def function(item, work=job.function):
        if not damaged.exists() and job.begun() and (kept := job.kept()):
            damaged.touch()
            damage(kept[0])
        return work(item)

    job.function = function
    assert job.run() == right[kind]
    assert damaged.exists()
    assert penstock.verify(job.folder).ok, str(penstock.verify(job.folder))


def test_parts_that_nobody_touched_are_not_read_at_the_close(right, tmp_path, monkeypatch):
    read = []

    def count(path, proof=files.proof, **options):
        read.append(path)
        return proof(path, **options)

    job = Job("files", tmp_path / "run")
    job.fail_to_close(monkeypatch)
    monkeypatch.setattr(files, "proof", count)
    assert job.run() == right["files"]
    assert not {path for path in read if "-out-" in str(path)}
    assert len(job.kept()) > ITEMS


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("kind", ["arrays", "parquet one file"])
def test_every_damage_of_one_part_is_found(kind, damage, right, tmp_path, monkeypatch):
    job = Job(kind, tmp_path / "run")
    job.fail_to_close(monkeypatch)
    damage(job.kept()[1])
    assert job.run() == right[kind]
    assert penstock.verify(job.folder).ok


# --------------------------------------------------------------------------- while they are put together


def damage_in_close(monkeypatch, job, damage, *, times):
    """Damage the first part, just before the results are put together."""
    output = next(iter(job.into.values())) if isinstance(job.into, dict) else job.into
    name = "finish" if hasattr(output, "merge") else "close"
    finish = getattr(type(output), name)
    left = [times]

    def meanwhile(*arguments):
        if left[0]:
            left[0] -= 1
            damage(job.kept()[0])
        return finish(*arguments)

    monkeypatch.setattr(type(output), name, meanwhile)


@pytest.mark.parametrize("damage", [delete, flip_quietly], ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("kind", ["collect parts", "parquet one file", "sum"])
def test_who_reads_a_part_looks_at_its_digest(kind, damage, right, tmp_path, monkeypatch):
    job = Job(kind, tmp_path / "run")
    damage_in_close(monkeypatch, job, damage, times=1)
    assert job.run() == right[kind]
    assert penstock.verify(job.folder).ok
    told = (job.folder / ".penstock" / "events.jsonl").read_text()
    assert "taken_back" in told


@pytest.mark.parametrize("kind", ["collect parts", "parquet one file", "sum"])
def test_a_part_that_is_damaged_again_and_again_ends_the_run_and_is_named(kind, right, tmp_path, monkeypatch):
    job = Job(kind, tmp_path / "run")
    with monkeypatch.context() as patched:
        damage_in_close(patched, job, flip, times=9)
        with pytest.raises(ResultsDamaged) as error:
            job.run()
    path = job.kept()[0]
    assert str(path) in str(error.value)
    assert "expected the digest" in str(error.value)
    assert "Run the same command again" in str(error.value)
    assert path.exists(), "the evidence is there"
    assert job.run() == right[kind]


def test_evidence_is_put_aside_and_said(tmp_path, right):
    job = Job("arrays", tmp_path / "run")
    job.run()
    path = job.kept()[0]
    flip(path)
    bad = path.read_bytes()
    with pytest.warns(
        RuntimeWarning, match=rf"1 file of the results did not stand \({path}: expected the dig"
    ):
        assert job.run() == right["arrays"]
    assert (job.folder / ".penstock" / "job" / "damaged" / path.name).read_bytes() == bad


def test_parts_are_removed_when_the_journal_says_what_stands_in_their_place(tmp_path, right, monkeypatch):
    """A run that is killed between the two: the next one removes them, and does nothing again."""
    job = Job("parquet one file", tmp_path / "run")
    with monkeypatch.context() as patched:
        patched.setattr(standing, "clear", lambda *_: None)
        job.run()
    parts = list(job.folder.glob("part-*"))
    assert len(parts) == 4
    assert job.run() == right["parquet one file"]
    assert not any(part.exists() for part in parts)
    assert penstock.verify(job.folder).ok


def by_pipe(path):
    delete(path)
    os.mkfifo(path)


@pytest.mark.parametrize("damage", [*DAMAGES, by_pipe], ids=lambda damage: damage.__name__)
def test_a_damaged_report_of_a_stage_is_written_anew(tmp_path, right, damage):
    job = Job("arrays", tmp_path / "run")
    job.run()
    damage(job.folder / ".penstock" / "job" / "report.json")
    assert job.run() == right["arrays"]
    assert penstock.verify(job.folder).ok, str(penstock.verify(job.folder))


def test_what_looks_like_a_part_and_is_none_is_no_result(tmp_path, right):
    for kind in ("parquet", "arrays"):
        job = Job(kind, tmp_path / kind)
        job.run()
        path = job.kept()[0]
        shutil.copy(path, path.with_name(path.name.replace("000000000", "000000100", 1)))
        assert job.run() == right[kind]
        assert penstock.verify(job.folder).ok


# --------------------------------------------------------------------------- opened later


@pytest.mark.parametrize("kind", ROOMS)
def test_a_damaged_result_is_named_when_it_is_opened(kind, tmp_path):
    make, function, _ = ROOMS[kind]
    report = penstock.run(function, ITEMS, tmp_path / "run", into=make(), backend="inline", call=1)
    path = Job(kind, tmp_path / "run").kept()[-1]
    flip(path)
    with pytest.raises(
        ResultsDamaged, match=r"expected the digest .*, found .*Run the same command"
    ) as error:
        _ = report.result
    assert error.value.file == str(path)


def test_what_a_stage_kept_is_looked_at_when_it_is_opened(tmp_path):
    with penstock.Run(tmp_path / "run", backend="inline") as run:
        job = penstock.Job(source=penstock.sources.Range(ITEMS), function=row, into=Parquet(grain=3))
        stored = run.stage("rows", job)
        assert stored.open().count_rows() == ITEMS
    path = next((tmp_path / "run" / "rows").glob("part-*"))
    path.unlink()
    with pytest.raises(ResultsDamaged, match="found no such file") as error:
        stored.open()
    assert error.value.file == str(path)


def write(folder):
    (folder / "made.txt").write_text("made")
    return {"fact": 1}


@pytest.mark.parametrize("damage", [delete, truncate, flip, by_folder])
def test_a_step_whose_files_are_damaged_is_done_again(tmp_path, damage):
    for _ in range(2):
        with penstock.Run(tmp_path / "run", backend="inline") as run:
            stored = run.step("made", write)
            assert (stored.folder / "made.txt").read_text() == "made"
            assert stored.facts["fact"] == 1
        assert penstock.verify(tmp_path / "run").ok
        damage(stored.folder / "made.txt")


# --------------------------------------------------------------------------- the cost of a look


def test_a_copy_is_read_once_and_then_believed(tmp_path, right, monkeypatch):
    """Whatever was touched after the journal is read; a copy is all that."""
    job = Job("arrays", tmp_path / "run")
    job.run()
    read = []
    proof = penstock.files.proof
    monkeypatch.setattr(
        penstock.files, "proof", lambda path, **how: read.append(str(path)) or proof(path, **how)
    )

    def parts_read():
        read.clear()
        assert job.run() == right["arrays"]
        return sum("part-" in path for path in read)

    assert parts_read() == 0
    time.sleep(0.02)
    shutil.copytree(job.folder, tmp_path / "copy")
    job.folder = tmp_path / "copy"
    os.utime(job.folder / ".penstock" / "job" / "journal", ns=(0, 0))
    assert parts_read() >= 4
    assert parts_read() == 0


def test_a_part_that_cannot_be_read_now_is_not_taken_back(tmp_path, right, monkeypatch):
    job = Job("arrays", tmp_path / "run")
    job.run()
    before = (job.folder / ".penstock" / "job" / "journal").read_bytes()

    proof = penstock.files.proof

    def broken(path, **how):
        if "holes" in str(path):
            raise OSError(5, "Input/output error")
        return proof(path, **how)

    with monkeypatch.context() as patched:
        patched.setattr(penstock.files, "proof", broken)
        with pytest.raises(ResultsDamaged, match=r"cannot be read .Input/output error., so whether"):
            job.run()
    assert (job.folder / ".penstock" / "job" / "journal").read_bytes() == before
    assert job.run() == right["arrays"]


def test_another_part_is_found_without_listing_the_folder(tmp_path, monkeypatch):
    for number in range(50):
        (tmp_path / f"part-{number}").touch()
    seen = []
    scandir = os.scandir

    class Counted:
        def __init__(self, path):
            self.inner = scandir(path)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.inner.close()

        def __iter__(self):
            for entry in self.inner:
                seen.append(entry.name)
                yield entry

    monkeypatch.setattr(os, "scandir", Counted)
    found = another(tmp_path, "part-*", "part-7")
    assert found is not None
    assert found.name != "part-7"
    assert len(seen) <= 2
