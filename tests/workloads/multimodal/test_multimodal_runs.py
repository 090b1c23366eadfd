"""Whole runs: what is in a shard, every row accounted for, and nothing that depends on how it was done."""

import csv
import errno
import gzip
import itertools
import json
import os
import random
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from runs import SMALL, SPLITS, published, rows_of, run, run_here

import penstock
from penstock.errors import BadInput, DiskFull, JobChanged, SourceChanged, UsageError
from penstock.events import BatchDone, StageEnded
from penstock.workloads.multimodal import images, layout, records, stages
from penstock.workloads.multimodal.images import Drawing
from penstock.workloads.multimodal.loader import read_shard
from penstock.workloads.multimodal.shards import _Tar


@pytest.fixture(scope="module")
def first(sample, tmp_path_factory):
    """A run of the sample, to which others are compared."""
    folder = tmp_path_factory.mktemp("first") / "run"
    run(folder, sample)
    return folder


def records_of(folder):
    return [
        (split, path.name, record)
        for split in SPLITS
        for path in sorted((folder / split).glob(f"{split}-*"))
        for record in read_shard(path)
    ]


def test_every_row_is_written_skipped_or_failed_once(first, oracle):
    manifest = json.loads((first / "manifest.json").read_text())
    assert manifest["rows"] == oracle["counts"]["metadata_rows"] == rows_of(manifest)
    assert manifest["patients_in_two_splits"] == 0
    with open(first / "failures.csv", newline="") as file:
        failures = list(csv.DictReader(file))
    assert sorted(row["reason"] for row in failures) == [
        "image_empty", "image_missing", "image_not_image", "image_not_image", "image_truncated"
    ]  # fmt: skip
    assert set(failures[0]) == {"record", "reason"}, "no ids unless they are asked for"
    assert oracle["counts"]["usable_records"] == len(records_of(first)) == 96
    metadata = json.loads((first / "metadata.json").read_text())
    assert metadata["total_records"] == metadata["n_train"] + metadata["n_val"] + metadata["n_test"] == 96


def test_records_are_those_of_the_oracle_in_its_splits_and_its_order(first, oracle):
    found = {split: [] for split in SPLITS}
    for split, _, record in records_of(first):
        found[split].append(record["facts"]["dicom_id"])
    # The oracle counts films that can be decoded; a quota here counts those that are there.
    key = {row["dicom_id"]: int(row["shuffle_key"]) for row in oracle["splits"]}
    assert sorted(itertools.chain(*found.values())) == sorted(key)
    for dicoms in found.values():
        assert dicoms == sorted(dicoms, key=key.__getitem__)


def test_a_record_holds_its_film_its_note_and_its_tokens(first, sample):
    root = layout.find(str(sample)).films
    for _, _, record in records_of(first)[:20]:
        facts = record["facts"]
        path = root / layout.film_path(facts["subject_id"], facts["study_id"], facts["dicom_id"])
        assert np.array_equal(record["image"], images.draw(path.read_bytes(), Drawing(size=32)).image)
        assert record["key"] == facts["dicom_id"]
        assert record["ids"].dtype == np.int32
        assert len(record["ids"]) == facts["tokens"] > 10
        assert facts["note"].startswith("Patient is")
        assert facts["context"]
        assert len(set(facts["context_ids"])) == 3
        assert facts["relation"] in ("inside", "before", "after")


def test_shards_are_plain_tars_and_the_index_tells_them(first):
    index = json.loads((first / "index.json").read_text())["shards"]
    assert [line["shard"] for line in index] == sorted(
        (line["shard"] for line in index), key=lambda name: (SPLITS.index(name.split("/")[0]), name)
    )
    assert len(index) > 6
    for line in index:
        path = first / line["shard"]
        assert path.stat().st_size == line["bytes"]
        assert penstock.files.digest(path) == line["blake2b-128"]
        with tarfile.open(path) as tar:
            members = tar.getmembers()
        assert len(members) == 3 * line["records"]
        assert {(each.mode, each.mtime, each.uid, each.uname) for each in members} == {(0o600, 0, 0, "")}
        assert len({each.name for each in members}) == len(members)
        suffixes = {each.name.partition(".")[2] for each in members}
        assert suffixes == {"img.npy", "ids.npy", "json"}


def test_splits_say_where_every_record_is(first):
    table = pq.read_table(first / "splits.parquet").to_pylist()
    where = {row["dicom_id"]: (row["split"], row["shard"]) for row in table}
    for split, shard, record in records_of(first):
        assert where[record["facts"]["dicom_id"]] == (split, f"{split}/{shard}")
    people = {}
    for row in table:
        assert people.setdefault(row["subject_id"], row["split"]) == row["split"]


@pytest.mark.parametrize("how", [{"budget": "350MiB"}, {"workers": 2, "budget": "400MiB"}])
def test_the_same_bytes_for_any_budget_and_workers(first, sample, tmp_path, how):
    run(tmp_path / "run", sample, **how)
    assert published(tmp_path / "run") == published(first)
    assert not penstock.verify(tmp_path / "run").faults


def test_the_same_bytes_after_being_stopped_anywhere(first, sample, tmp_path):
    """Stopped after a number of shards, again and again, until it is done."""
    rng = random.Random(5)
    stops, done = 0, False
    while not done:
        left = rng.randint(2, 5)

        def stop(event):
            nonlocal left
            if isinstance(event, BatchDone):
                left -= 1
            if left < 0:
                raise KeyboardInterrupt

        try:
            run(tmp_path / "run", sample, observers=[stop])
            done = True
        except KeyboardInterrupt:
            stops += 1
            assert stops < 100
    assert stops > 2
    assert published(tmp_path / "run") == published(first)
    assert not penstock.verify(tmp_path / "run").faults
    assert not list((tmp_path / "run").rglob("*.tmp"))


def test_a_finished_run_does_nothing_again(first, sample, tmp_path):
    shutil.copytree(first, tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.tar")}
    run(tmp_path / "run", sample)
    assert published(tmp_path / "run") == published(first)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.tar")} == before


def test_labels_at_random_leave_every_byte_of_text_as_it_is(first, sample, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(sample, root)
    path = root / "mimic-cxr-jpg/2.1.0/mimic-cxr-2.0.0-chexpert.csv.gz"
    rng = random.Random(1)
    head, *lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    other = [
        ",".join([*line.split(",")[:2], *(rng.choice(["1.0", "0.0", "-1.0", ""]) for _ in range(14))])
        for line in lines
    ]
    path.write_bytes(gzip.compress("\n".join([head, *other, ""]).encode()))
    run_here(tmp_path / "run", root)
    labels = 0
    for (_, _, one), (_, _, two) in zip(records_of(first), records_of(tmp_path / "run"), strict=True):
        labels += one["facts"].pop("labels") != two["facts"].pop("labels")
        assert one["facts"] == two["facts"]
        assert np.array_equal(one["ids"], two["ids"])
        assert np.array_equal(one["image"], two["image"])
    assert labels > 80


def test_what_is_missing_in_notes_tells_no_label(first):
    """The context is that of the note: no sentence of it comes and goes with a label."""
    records = [record["facts"] for _, _, record in records_of(first)]
    for facts in records:
        assert "positive_findings" not in facts
        assert "removed_sentences" in facts
    assert not any("Kerley" in facts["note"] for facts in records)


def test_as_published_the_text_is_that_of_the_oracle(sample, oracle, tmp_path):
    manifest = run_here(
        tmp_path / "run", sample, compat="upstream", split=None, leakage_filter="aggressive", mask="none"
    )
    assert "depends on the labels" in manifest["warnings"][0]
    assert manifest["patients_in_two_splits"] > 0
    theirs = {
        row["dicom_id"]: row["filtered_note"] for row in oracle["joined"] if row["image"].startswith("ok")
    }
    ours = records_of(tmp_path / "run")
    assert len(ours) == 97, "with the row that is there twice, as published"
    assert {record["facts"]["dicom_id"]: record["facts"]["note"] for _, _, record in ours} == theirs
    assert rows_of(manifest) == manifest["rows"]


@pytest.mark.parametrize(
    "options",
    [{"writer": "parquet"}, {"image": "png", "text": "off"}, {"mask": "half"},
     {"writer": "parquet", "mask": "half", "text": "off", "image": "png"}],
    ids=str,
)  # fmt: skip
def test_other_ways_to_keep_records_hold_the_same(first, sample, tmp_path, options):
    run_here(tmp_path / "run", sample, **options)
    ours = {record["key"]: record for _, _, record in records_of(tmp_path / "run")}
    for _, _, record in records_of(first):
        other = ours[record["key"]]
        if options.get("mask") is None:
            assert np.array_equal(other["image"], record["image"])
        else:
            assert other["mask"].shape == other["image"].shape
        if options.get("text") == "off":
            assert other["ids"] is None
            assert "note" not in other["facts"]
            assert record["facts"]["clinical"] == other["facts"]["clinical"]
        else:
            assert np.array_equal(other["ids"], record["ids"])
            assert other["facts"]["note"] == record["facts"]["note"]
    assert not penstock.verify(tmp_path / "run").faults


def test_jpeg_loses_little(first, sample, tmp_path):
    run_here(tmp_path / "run", sample, image="jpeg")
    for (_, _, one), (_, _, two) in zip(records_of(first), records_of(tmp_path / "run"), strict=True):
        assert np.abs(one["image"].astype(int) - two["image"]).mean() < 3


def test_ids_only_when_they_are_asked_for(sample, tmp_path):
    run_here(tmp_path / "run", sample, log_ids=True)
    with open(tmp_path / "run/failures.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(row["dicom_id"] and row["subject_id"] and row["study_id"] for row in rows)


def test_a_split_may_be_empty_and_a_shard_of_nothing_is_not_there(sample, oracle, tmp_path):
    """All in train, a shard a record: those that fail have no file, and the numbers of the others stay."""
    manifest = run_here(tmp_path / "run", sample, ratios="100,0,0", shard_size="1kB")
    assert manifest["records"]["test"] == {
        "records": 0, "patients": 0, "shards": 0, "film_bytes": 0, "written": 0
    }  # fmt: skip
    planned = manifest["records"]["train"]["records"]
    there = sorted(int(path.stem[-5:]) for path in (tmp_path / "run/train").glob("train-*.tar"))
    assert len(there) == planned - 4 == 96
    assert max(there) <= planned - 1
    assert not penstock.verify(tmp_path / "run").faults


def test_nobody_joins(tree, tmp_path):
    stays = tree / "mimic-iv-ed/2.2/ed/edstays.csv.gz"
    header = gzip.decompress(stays.read_bytes()).splitlines(keepends=True)[0]
    stays.write_bytes(gzip.compress(header))
    manifest = run_here(tmp_path / "run", tree, window=None)
    assert manifest["joined"] == 0
    assert rows_of(manifest) == manifest["rows"]
    assert not list((tmp_path / "run").rglob("*.tar"))


# ------------------------------------------------------------------ what may go wrong


class Crashing(records.MakeRecord):
    """One film crashes the decoder, with the worker; another makes a library raise what it likes."""

    def __call__(self, row):
        if row["row"] == CRASHES and not Path(os.environ["MENDED"]).exists():
            os.abort()
        if row["row"] == RAISES:
            raise RuntimeError(f"odd {row}")
        return super().__call__(row)


CRASHES, RAISES = 3, 9


def test_a_film_that_crashes_the_decoder_is_set_aside_alone_and_its_shard_is_written(
    first, sample, tmp_path, monkeypatch
):
    monkeypatch.setattr(stages, "MakeRecord", Crashing)
    monkeypatch.setenv("MENDED", str(tmp_path / "mended"))
    manifest = run(tmp_path / "run", sample, set_aside=True)
    assert rows_of(manifest) == manifest["rows"]
    assert (manifest["failed"]["engine_died"], manifest["failed"]["engine_raised"]) == (1, 1)
    lost = {record["key"] for _, _, record in records_of(first)}
    lost -= {record["key"] for _, _, record in records_of(tmp_path / "run")}
    rows = {record["key"]: record["facts"]["row"] for _, _, record in records_of(first)}
    assert {rows[key] for key in lost} == {CRASHES, RAISES}
    with open(tmp_path / "run/failures.csv", newline="") as file:
        reasons = {int(row["record"]): row["reason"] for row in csv.DictReader(file)}
    assert (reasons[CRASHES], reasons[RAISES]) == ("engine_died", "engine_raised")
    assert not penstock.verify(tmp_path / "run").faults
    (tmp_path / "mended").touch()
    again = run(tmp_path / "run", sample, set_aside=True, retry_set_aside=True)
    assert rows_of(again) == again["rows"]
    assert "engine_died" not in again["failed"]
    assert not penstock.verify(tmp_path / "run").faults


@pytest.fixture
def tree(sample, tmp_path):
    """A copy of the sample that may be changed."""
    shutil.copytree(sample, tmp_path / "root")
    return tmp_path / "root"


def test_a_damaged_table_is_named_although_the_run_is_private(tree, tmp_path):
    path = tree / "mimic-iv-ed/2.2/ed/vitalsign.csv.gz"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(BadInput, match=r"vitalsign\.csv\.gz: is cut off or damaged"):
        run(tmp_path / "run", tree)
    assert not list((tmp_path / "run").rglob("*.tar"))


def test_a_film_that_is_replaced_between_two_runs_is_named_by_its_shard(tree, tmp_path):
    def stop(event):
        if getattr(event, "stage", "") == "val":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_here(tmp_path / "run", tree, observers=[stop])
    shard = min((tmp_path / "run/train").glob("train-*.tar"))
    facts = next(read_shard(shard))["facts"]
    film = layout.find(str(tree)).films / layout.film_path(
        facts["subject_id"], facts["study_id"], facts["dicom_id"]
    )
    film.write_bytes(film.read_bytes() + b"changed")
    with pytest.raises((SourceChanged, JobChanged), match=rf"train-00000, record {facts['row']}\b"):
        run_here(tmp_path / "run", tree)


def test_other_options_are_another_run(first, sample, tmp_path):
    shutil.copytree(first, tmp_path / "run")
    with pytest.raises(JobChanged):
        run_here(tmp_path / "run", sample, leakage_filter="aggressive")


def test_a_table_that_changed_is_named(tree, tmp_path):
    run_here(tmp_path / "run", tree)
    path = tree / "mimic-iv-ed/2.2/ed/triage.csv.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + b"\n"))
    with pytest.raises(JobChanged, match=rf"'tables' changed \({path}\)\. All of it is done: put back"):
        run_here(tmp_path / "run", tree)


def test_contact_sheets_may_be_asked_for_later(first, sample, tmp_path):
    """They show what is there, and nothing that is there depends on them."""
    shutil.copytree(first, tmp_path / "run")
    run_here(tmp_path / "run", sample, picture="png")
    run_here(tmp_path / "both", sample, picture="png")
    for split in SPLITS:
        sheet = tmp_path / "run" / f"contact-{split}.png"
        assert sheet.read_bytes() == (tmp_path / "both" / sheet.name).read_bytes()
    assert published(tmp_path / "run") == published(first) == published(tmp_path / "both")


def test_a_disk_that_is_full_loses_nothing(first, sample, tmp_path, monkeypatch):
    """While shards are written; with room again the same call makes the rest."""

    def full(self, made, image):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(_Tar, "add", full)
        with (
            pytest.raises(DiskFull, match="make room"),
            penstock.Run(tmp_path / "run", private=True, backend="inline") as opened,
        ):
            penstock.workloads.multimodal.Multimodal().run(opened, root=str(sample), **SMALL)
    assert not list((tmp_path / "run").rglob("*.tar"))
    run(tmp_path / "run", sample)
    assert published(tmp_path / "run") == published(first)


def test_a_disk_that_is_too_small_is_told_before_the_start(sample, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(stages.shutil, "disk_usage", lambda path: usage._replace(free=stages._SPARE))
    with pytest.raises(DiskFull, match=r"the shards take about .* has .* left, of which 64.0 MiB are kept"):
        run(tmp_path / "run", sample)
    assert not (tmp_path / "run/train").exists()
    monkeypatch.undo()
    run_here(tmp_path / "run", sample)  # the same call again, once there is room


@pytest.mark.parametrize(
    ("options", "message"),
    [({"ratios": "70,20,20"}, "sum to 100"), ({"views": ","}, "ViewPosition"), ({"window": "24"}, "24h|24s"),
     ({"root": None}, "needs ROOT"), ({"tokenizer": __file__}, "no tokenizer"),
     ({"tokenizer": "/nowhere.json"}, "no tokenizer"), ({"retriever": "/nowhere"}, "a folder with a model")],
)  # fmt: skip
def test_options_that_make_no_sense(sample, tmp_path, options, message):
    with pytest.raises((UsageError, BadInput), match=message), penstock.Run(tmp_path / "run") as opened:
        penstock.workloads.multimodal.Multimodal().run(opened, **({"root": str(sample)} | options))


def test_a_view_that_no_film_has_is_no_run_of_nothing(sample, tmp_path):
    with pytest.raises(penstock.BadInput, match=r"no film has a view of --views XX; there are .*PA \("):
        run_here(tmp_path / "run", sample, views="xx")


def test_pickles_of_the_published_program_are_never_read(tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old/intermediate_batch_0001.pkl").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    for root in (tmp_path / "old", tmp_path / "old/intermediate_batch_0001.pkl"):
        with pytest.raises(UsageError, match="never read"):
            run(tmp_path / "run", root)


def test_films_that_vanish_while_it_runs_are_a_reason(tree, tmp_path):
    """The plan saw them; a record's film that is gone later fails alone."""

    def remove(event):
        if isinstance(event, StageEnded) and event.stage == "plan":
            shutil.rmtree(tree / "mimic-cxr-jpg/2.1.0/files")

    manifest = run(tmp_path / "run", tree, observers=[remove])
    assert rows_of(manifest) == manifest["rows"]
    assert manifest["failed"].get("image_missing", 0) >= 1


def test_everything_is_closed_to_others(first):
    modes = {path: path.lstat().st_mode & 0o077 for path in [first, *first.rglob("*")]}
    assert not [path for path, mode in modes.items() if mode]


def test_nothing_of_the_machine_is_in_what_is_published(first, sample):
    names = ["manifest.json", "metadata.json", "index.json", "failures.csv"]
    for name in names:
        assert str(sample) not in (first / name).read_text()
        assert os.fspath(first) not in (first / name).read_text()
