"""The loader: the published keys, masks beside values and labels, in bounded memory, without torch too."""

import gc
import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
from runs import SPLITS, run_here

from penstock.errors import BadInput, UsageError
from penstock.workloads.multimodal import loader, torching
from penstock.workloads.multimodal.labels import LABELS
from penstock.workloads.multimodal.loader import Loader, read_shard
from penstock.workloads.multimodal.records import CLINICAL

KEYS = {"image", "text_input_ids", "text_attention_mask", "clinical_features", "labels", "subject_id",
        "study_id", "dicom_id"}  # fmt: skip


@pytest.fixture(scope="module")
def done(sample, tmp_path_factory):
    folder = tmp_path_factory.mktemp("loader") / "run"
    run_here(folder, sample)
    return folder


def ids(batches):
    return [dicom for batch in batches for dicom in batch["dicom_id"]]


def facts_of(folder, split):
    shards = sorted((folder / split).glob("*.tar"))
    return {record["facts"]["dicom_id"]: record for path in shards for record in read_shard(path)}


def test_batches_have_the_published_keys_and_masks(done):
    (first, *_) = batches = list(Loader(done, "train", batch=8))
    assert set(first) == KEYS | {"clinical_mask", "label_mask"}
    assert (first["image"].dtype, first["image"].shape) == (np.float32, (8, 3, 32, 32))
    assert first["text_input_ids"].shape == first["text_attention_mask"].shape
    assert first["text_input_ids"].dtype == np.int64
    assert (first["clinical_features"].shape, first["labels"].shape) == ((8, len(CLINICAL)), (8, 14))
    assert len(ids(batches)) == len(set(ids(batches))) == Loader(done, "train").records


def test_a_batch_holds_what_the_shard_holds(done):
    records = facts_of(done, "train")
    for batch in Loader(done, "train", batch=5):
        for row, dicom in enumerate(batch["dicom_id"]):
            record = records[dicom]
            picture = record["image"].astype(np.float32) / np.float32(255)
            for channel in range(3):
                expected = (picture - loader.MEAN[channel]) / loader.SD[channel]
                np.testing.assert_array_equal(batch["image"][row, channel], expected)
            length = int(batch["text_attention_mask"][row].sum())
            np.testing.assert_array_equal(batch["text_input_ids"][row, :length], record["ids"])
            assert not batch["text_input_ids"][row, length:].any()
            told = record["facts"]["labels"]
            for column, name in enumerate(LABELS):
                value = None if told is None else told[name]
                assert batch["label_mask"][row, column] == (told is not None and value != -1)
                assert batch["labels"][row, column] == (value == 1)


def test_clinical_values_are_scaled_by_the_training_split_and_masked(done):
    batches = list(Loader(done, "train", batch=64))
    values = np.concatenate([batch["clinical_features"] for batch in batches]).astype(np.float64)
    known = np.concatenate([batch["clinical_mask"] for batch in batches])
    assert not values[~known].any()
    for column, name in enumerate(CLINICAL):
        mine = values[known[:, column], column]
        assert abs(mine.mean()) < 1e-5, name
        assert abs(mine.std() - 1) < 1e-5, name
    manifest = json.loads((done / "manifest.json").read_text())
    assert manifest["clinical"]["heartrate"]["n"] == known[:, CLINICAL.index("heartrate")].sum()
    assert 0 < known.mean() < 1
    assert "subject_id" not in CLINICAL


@pytest.mark.parametrize(
    ("uncertain", "value", "masked"), [("ignore", 0, True), ("zeros", 0, False), ("ones", 1, False)]
)
def test_uncertain_labels(done, uncertain, value, masked):
    records, seen = facts_of(done, "train"), 0
    for batch in Loader(done, "train", uncertain=uncertain, blank="ignore"):
        for row, dicom in enumerate(batch["dicom_id"]):
            told = records[dicom]["facts"]["labels"]
            for column, name in enumerate(LABELS):
                if told[name] == -1:
                    seen += 1
                    assert batch["labels"][row, column] == value
                    assert batch["label_mask"][row, column] != masked
                elif told[name] is None:
                    assert not batch["label_mask"][row, column]
    assert seen


def test_the_published_vector_is_there_without_the_person(done):
    for batch in Loader(done, "test", compat="upstream"):
        vector = batch["clinical_features"]
        assert vector.shape[1] == 45
        assert (vector >= 0).all()
        assert (vector <= 1).all()
        assert not vector[:, 10:].any()
    values = [98.0, 100.0, 20.0, 95.0, 120.0, None, 5.0, 2.0]
    facts = {"clinical": dict(zip(CLINICAL, values, strict=False)), "age": None, "gender": "F"}
    expected = [0.3, 0.5, 0.5, 0.95, 0.6, 0, 0.5, 0.8, 0.5, 1]
    np.testing.assert_allclose(loader.published_features(facts)[:10], expected, rtol=1e-6)


def test_mixing_gives_every_record_once_in_another_order(done):
    plain = ids(Loader(done, "train"))
    mixed = Loader(done, "train", shuffle="20kB", seed=1)
    first, again = ids(mixed), ids(mixed)
    assert first == again != plain
    assert sorted(first) == sorted(plain)
    mixed.epoch = 1
    assert ids(mixed) != first
    assert sorted(ids(mixed)) == sorted(plain)


def test_the_buffer_is_bounded_in_bytes():
    record = {"image": np.zeros((100, 100), np.uint8), "mask": None, "ids": np.zeros(50, np.int32)}
    held, most = 0, 0

    def stream():
        nonlocal held, most
        for _ in range(500):
            held += 1
            most = max(most, held)
            yield record

    for _ in loader._mixed(stream(), 200_000, np.random.default_rng(0)):
        held -= 1
    assert most <= 200_000 // loader._weight(record) + 1


def test_workers_share_the_shards_out(done):
    whole = Loader(done, "train")
    parts = [whole.of_worker(which, 3) for which in range(3)]
    found = [set(ids(part)) for part in parts]
    assert set().union(*found) == set(ids(whole))
    assert sum(map(len, found)) == whole.records
    assert all(found)


@pytest.mark.parametrize(
    "options",
    [{"batch": value} for value in (0, -1, 1.5, float("nan"), True, "32", None)]
    + [{"seed": value} for value in (-1, 1.5, "a", None)]
    + [{"uncertain": "zero"}, {"blank": "ones"}, {"compat": "original"}, {"split": "valid"}],
)
def test_options_that_a_loader_does_not_know_are_refused_before_it_reads(tmp_path, options):
    with pytest.raises(UsageError):
        Loader(tmp_path, **options)


def test_what_is_no_run_or_no_shard(done, tmp_path):
    with pytest.raises(BadInput, match="is the run finished"):
        Loader(tmp_path)
    with pytest.raises(UsageError, match="holdout"):
        Loader(done, "holdout")
    shard = min((done / "train").glob("*.tar"))
    for name, content in (("cut.tar", shard.read_bytes()[:3000]), ("none.tar", b"no tar at all" * 100)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BadInput, match="no whole shard"):
            list(read_shard(tmp_path / name))


def test_a_manifest_that_leads_elsewhere_is_refused(done, tmp_path):
    for name in ("manifest.json", "index.json"):
        (tmp_path / name).write_bytes((done / name).read_bytes())
    index = json.loads((tmp_path / "index.json").read_text())
    index["shards"][0]["shard"] = "../../etc/passwd"
    (tmp_path / "index.json").write_text(json.dumps(index))
    with pytest.raises((BadInput, OSError), match=r"no plain name|passwd"):
        Loader(tmp_path, index["shards"][0]["split"])


def test_torch_reads_the_same(done):
    torch = pytest.importorskip("torch")
    dataset = Loader(done, "train", batch=4).as_torch()
    for workers in (0, 2):
        batches = list(torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=workers))
        assert sorted(ids(batches)) == sorted(ids(Loader(done, "train")))
        assert batches[0]["image"].dtype == torch.float32


def test_workers_of_torch_read_shards_of_their_own(done, monkeypatch):
    """Without torch too: as much of it as is used."""
    monkeypatch.setattr(torching, "torch", SimpleNamespace(from_numpy=lambda array: array))
    loaded = torching.Batches(Loader(done, "train", batch=4))
    found = []
    for workers in (None, *(SimpleNamespace(id=which, num_workers=2) for which in range(2))):
        monkeypatch.setattr(torching, "get_worker_info", lambda workers=workers: workers, raising=False)
        found.append(ids(loaded))
    assert sorted(found[1] + found[2]) == sorted(found[0]) == sorted(ids(Loader(done, "train")))
    assert found[1]
    assert found[2]


def test_without_torch_it_says_what_to_install(done, monkeypatch):
    monkeypatch.setattr(loader, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install torch"):
        Loader(done, "train").as_torch()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_webdataset_reads_the_shards(done):
    """It leaves files open itself."""
    webdataset = pytest.importorskip("webdataset")
    shards = [os.fspath(path) for path in sorted((done / "train").glob("*.tar"))]
    samples = list(webdataset.WebDataset(shards, shardshuffle=False))
    gc.collect()
    assert [sample["__key__"] for sample in samples] == ids(Loader(done, "train"))
    assert set(samples[0]) >= {"img.npy", "ids.npy", "json"}


def test_every_split_can_be_read(done):
    assert sum(len(ids(Loader(done, split))) for split in SPLITS) == 96
