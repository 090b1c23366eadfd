"""Files of a stage at the top of the run folder: there, the same, known to verify, and put back."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

import penstock
from penstock import reducers, sinks
from penstock.errors import UsageError
from penstock.record.journal import read
from penstock.sources import Range


def write_results(folder, *, text):
    (folder / "summary.json").write_text(json.dumps({"text": text}))
    (folder / ".hidden").write_text("not meant for anybody")
    (folder / "inner").mkdir()
    (folder / "inner" / "table.npz").write_bytes(b"\1" * 100)


def number(item):
    return np.int64(item)


def done(folder, *names, text="a"):
    with penstock.Run(folder, budget="400MiB", backend="inline") as run:
        stored = run.step("results", write_results, inputs={"text": text})
        run.publish(stored, *names)
    return stored


def test_files_have_a_second_name_and_no_second_copy(tmp_path):
    done(tmp_path / "r")
    top = tmp_path / "r" / "summary.json"
    assert top.samefile(tmp_path / "r/results/summary.json")
    assert not (tmp_path / "r/.hidden").exists()
    verified = penstock.verify(tmp_path / "r")
    assert verified.ok
    assert verified.beside == ()


def test_a_folder_stands_for_its_files(tmp_path):
    done(tmp_path / "r", "inner", "summary.json")
    assert (tmp_path / "r/table.npz").read_bytes() == b"\1" * 100
    assert (tmp_path / "r/summary.json").is_file()


def test_a_disk_without_links_gets_copies(tmp_path, monkeypatch):
    make = os.link

    def refuse(path, final):
        if "results" in str(path):
            raise OSError("no links here")
        make(path, final)

    monkeypatch.setattr(os, "link", refuse)
    done(tmp_path / "r")
    assert not (tmp_path / "r/summary.json").samefile(tmp_path / "r/results/summary.json")
    assert penstock.verify(tmp_path / "r").ok


def gone(path):
    path.unlink()
    return "no such file"


def edited(path):
    text = path.read_text()
    path.unlink()
    path.write_text(text.replace("a", "b"))
    return "something else"


def linked_away(path):
    path.unlink()
    path.symlink_to("/etc/hostname")
    return "what cannot be read"


@pytest.mark.parametrize("harm", [gone, edited, linked_away])
def test_verify_names_what_is_not_what_was_kept_and_the_same_call_puts_it_back(tmp_path, harm):
    done(tmp_path / "r")
    found = harm(tmp_path / "r" / "summary.json")
    (fault,) = penstock.verify(tmp_path / "r").faults
    assert fault.file == "summary.json"
    assert "results/summary.json" in fault.expected
    assert fault.found.startswith(found)
    done(tmp_path / "r")
    assert penstock.verify(tmp_path / "r").ok
    assert json.loads((tmp_path / "r/summary.json").read_text()) == {"text": "a"}


def test_publishing_twice_writes_the_journal_once(tmp_path):
    done(tmp_path / "r")
    book = tmp_path / "r/.penstock/results/journal"
    before = book.read_bytes()
    done(tmp_path / "r")
    assert book.read_bytes() == before
    assert read(book).published == {"summary.json": "summary.json"}


def test_what_cannot_be_published_is_refused_by_name(tmp_path):
    with penstock.Run(tmp_path / "r", budget="400MiB", backend="inline") as run:
        stored = run.step("results", write_results, inputs={"text": "a"})
        for name in ("nothing.txt", "/etc/hostname", "../r/results/summary.json"):
            with pytest.raises(UsageError, match="keeps no file"):
                run.publish(stored, name)
        (Path(run.folder) / "summary.json").mkdir()
        with pytest.raises(UsageError, match=r"summary\.json of stage results: something else has that name"):
            run.publish(stored)


def test_one_of_several_results_is_opened_by_its_name(tmp_path):
    with penstock.Run(tmp_path / "r", budget="400MiB", backend="inline") as run:
        into = {"sum": reducers.Sum(), "all": sinks.Arrays(grain=3)}
        stored = run.stage("numbers", penstock.Job(source=Range(7), function=each, into=into))
        assert stored.open("sum") == 21
        assert [int(value) for value in stored.open("all")] == list(range(7))
        with pytest.raises(UsageError, match="keeps no 'mean'; it keeps 'sum', 'all'"):
            stored.open("mean")


def each(item):
    return {"sum": item, "all": np.int64(item)}
