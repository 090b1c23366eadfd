"""Batches for training, from the shards of a run: the published loader's keys, in bounded memory.

    from penstock.workloads.multimodal.loader import Loader
    for batch in Loader("runs/mimic", "train", batch=32, shuffle="256MB"):
        batch["image"]                  # float32 (32, 3, 518, 518), normalised as CLIP wants it
        batch["clinical_features"], batch["clinical_mask"], batch["labels"], batch["label_mask"]

One shard is open at a time, read member by member; what is held is a batch and the shuffle buffer, in bytes.
NumPy is enough; with ``as_torch()`` it is an iterable dataset whose workers share the shards out among them.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock import foreign
from penstock.budget import parse_size
from penstock.errors import BadInput, UsageError
from penstock.workloads.multimodal.labels import BLANK, LABELS, NO_ROW, check_words, targets
from penstock.workloads.multimodal.records import CLINICAL
from penstock.workloads.multimodal.splits import SPLITS

if TYPE_CHECKING:
    from numpy.typing import NDArray

MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
SD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
"""Of the three channels, as CLIP was trained."""
_LARGEST_MEMBER = 1 << 28
_PUBLISHED = 45
_OVERHEAD = 1024
"""Bytes of a record in the shuffle buffer beside its arrays."""


class Loader:
    """Batches of one split.

    Args:
        run: a finished run folder.
        split: ``"train"``, ``"val"`` or ``"test"``.
        batch: records of a batch; the last one may be smaller.
        shuffle: bytes of records that are held to be mixed; None for the order of the shards, which is random
            already, and the same in every epoch.
        seed: of the mixing, with the epoch.
        uncertain, blank: what labels become, see ``labels.targets``; None for what the manifest says.
        compat: ``"upstream"``: clinical features are the published 45, without the person's number.
        share: (which, of how many): only these shards.

    Raises:
        BadInput: it is no finished run of this workload.
        UsageError: no such split.
    """

    def __init__(
        self, run: str | Path, split: str = "train", *, batch: int = 32, shuffle: str | int | None = None,
        seed: int = 0, uncertain: str | None = None, blank: str | None = None, compat: str = "none",
        share: tuple[int, int] = (0, 1),
    ) -> None:  # fmt: skip
        counts = foreign.is_count(batch) and batch >= 1 and foreign.is_count(seed) and seed >= 0
        if split not in SPLITS or not counts or compat not in ("none", "upstream"):
            raise UsageError(
                f"Loader(split={split!r}, batch={batch!r}, seed={seed!r}, compat={compat!r}): train, val or "
                "test, at least 1 record, a seed of at least 0, and none or upstream were expected"
            )
        check_words(uncertain or "ignore", blank or "zeros")
        self._folder, self._split, self._batch = Path(run), split, batch
        self._most = 0 if shuffle is None else parse_size(shuffle)
        self._seed, self._compat, self._share = seed, compat, share
        manifest = _read(self._folder / "manifest.json")
        index = _read(self._folder / "index.json")
        try:
            rules = manifest["labels"]
            self._uncertain, self._blank = uncertain or rules["uncertain"], blank or rules["blank"]
            self._mean, self._sd = _scaling(manifest["clinical"])
            self._shards = [
                foreign.within(self._folder, line["shard"]) for line in index["shards"]
                if line["split"] == split and line["records"]
            ]  # fmt: skip
            self.records = sum(line["records"] for line in index["shards"] if line["split"] == split)
        except (KeyError, TypeError) as error:
            raise BadInput("is no manifest of a multimodal run", file=self._folder) from error
        self.epoch = 0
        """Set before each epoch, so that it is mixed in another way."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The batches; see ``collate``."""
        held: list[dict[str, Any]] = []
        for record in self.examples():
            held.append(record)
            if len(held) == self._batch:
                yield collate(held)
                held = []
        if held:
            yield collate(held)

    def examples(self) -> Iterator[dict[str, Any]]:
        """Records one by one, as they are batched."""
        rng = np.random.default_rng([self._seed, self.epoch, self._share[0]])
        shards = self._shards[self._share[0] :: self._share[1]]
        if self._most:
            shards = [shards[at] for at in rng.permutation(len(shards))]
        stream = (record for path in shards for record in read_shard(path))
        for record in _mixed(stream, self._most, rng) if self._most else stream:
            yield self._example(record)

    def as_torch(self) -> Any:
        """The batches as a ``torch.utils.data.IterableDataset``; each worker reads its own shards.

        Use it with ``DataLoader(dataset, batch_size=None)``.

        Raises:
            UsageError: torch is not installed.
        """
        from penstock.workloads.multimodal.torching import Batches

        if find_spec("torch") is None:
            raise UsageError("as_torch() needs a package of its own: pip install torch")
        return Batches(self)

    def of_worker(self, which: int, count: int) -> Loader:
        """The loader of one of several workers, which share out this loader's shards."""
        other = object.__new__(Loader)
        other.__dict__ |= self.__dict__ | {
            "_share": (self._share[0] + which * self._share[1], count * self._share[1])
        }
        return other

    def _example(self, record: Mapping[str, Any]) -> dict[str, Any]:
        facts = record["facts"]
        given = facts["labels"]
        raw = np.full(len(LABELS), NO_ROW, np.int8)
        if given is not None:
            raw = np.array([BLANK if given[name] is None else given[name] for name in LABELS], np.int8)
        value, mask = targets(raw, self._uncertain, self._blank)
        vector, known = self._clinical(facts)
        return {
            "image": record["image"], "ids": record["ids"], "mask": record["mask"], "clinical": vector,
            "clinical_mask": known, "labels": np.nan_to_num(value), "label_mask": mask,
            **{name: facts[name] for name in ("subject_id", "study_id", "dicom_id")},
        }  # fmt: skip

    def _clinical(self, facts: Mapping[str, Any]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        if self._compat == "upstream":
            return published_features(facts), np.ones(_PUBLISHED, np.bool_)
        gender = facts["gender"]
        values = {**facts["clinical"], "age": facts["age"], "male": None, "female": None}
        if gender is not None:
            values |= {"male": float(gender == "M"), "female": float(gender == "F")}
        raw = np.array([np.nan if values[name] is None else values[name] for name in CLINICAL], np.float64)
        known = ~np.isnan(raw)
        return np.where(known, (raw - self._mean) / self._sd, 0).astype(np.float32), known


def collate(records: list[dict[str, Any]]) -> dict[str, Any]:
    """A batch of records: the published keys, and masks beside clinical values and labels.

    Returns:
        image float32 (n, 3, size, size), normalised; text_input_ids int64 (n, longest) padded with 0 and
        text_attention_mask; clinical_features float32 with clinical_mask; labels float32 (n, 14) with
        label_mask, 0 where masked; subject_id, study_id int64; dicom_id, a list; mask where there is one.
    """
    texts = [np.empty(0, np.int32) if record["ids"] is None else record["ids"] for record in records]
    longest = max((len(text) for text in texts), default=0)
    ids = np.zeros((len(records), longest), np.int64)
    attention = np.zeros((len(records), longest), np.int64)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = text
        attention[row, : len(text)] = 1
    batch = {
        "image": normalise(np.stack([record["image"] for record in records])),
        "text_input_ids": ids,
        "text_attention_mask": attention,
        "clinical_features": np.stack([record["clinical"] for record in records]),
        "clinical_mask": np.stack([record["clinical_mask"] for record in records]),
        "labels": np.stack([record["labels"] for record in records]),
        "label_mask": np.stack([record["label_mask"] for record in records]),
        "subject_id": np.array([record["subject_id"] for record in records], np.int64),
        "study_id": np.array([record["study_id"] for record in records], np.int64),
        "dicom_id": [record["dicom_id"] for record in records],
    }
    if all(record["mask"] is not None for record in records):
        batch["mask"] = np.stack([record["mask"] for record in records])
    return batch


def normalise(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Grey uint8 (n, h, w) to float32 (n, 3, h, w): each channel minus its mean, over its deviation."""
    scaled = images[:, None].astype(np.float32) / np.float32(255)
    found: NDArray[np.float32] = (scaled - MEAN[:, None, None]) / SD[:, None, None]
    return found


def published_features(facts: Mapping[str, Any]) -> NDArray[np.float32]:
    """The published vector of 45, with 0 for missing values; the patient id's place stays 0."""
    values = facts["clinical"]

    def scaled(name: str, scale: float, offset: float = 0.0) -> float:
        value = values[name]
        return 0.0 if value is None else (value - offset) / scale

    acuity = values["acuity"]
    found = np.zeros(_PUBLISHED, np.float32)
    found[:10] = [
        scaled("temperature", 10, 95), scaled("heartrate", 200), scaled("resprate", 40), scaled("o2sat", 100),
        scaled("sbp", 200), scaled("dbp", 200), scaled("pain", 10),
        0.0 if acuity is None else (6 - acuity) / 5,
        0.5 if facts["age"] is None else facts["age"] / 100, {"M": 0.0, "F": 1.0}.get(facts["gender"], 0.5),
    ]  # fmt: skip
    return np.clip(found, 0, 1)


def read_shard(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a shard, one by one: key, image, mask, ids, facts.

    Raises:
        BadInput: it is no shard, or is cut off.
    """
    try:
        yield from _from_parquet(path) if path.suffix == ".parquet" else _from_tar(path)
    except (tarfile.TarError, EOFError, ValueError, KeyError, TypeError, OSError) as error:
        raise BadInput(f"is no whole shard: {type(error).__name__}", file=path) from error


def _from_tar(path: Path) -> Iterator[dict[str, Any]]:
    key = ""
    members: dict[str, bytes] = {}
    with tarfile.open(path, "r|") as tar:
        for member in tar:
            if not member.isreg() or member.size > _LARGEST_MEMBER:
                raise ValueError("no member of ours")
            name, _, suffix = member.name.partition(".")
            if name != key and members:
                yield _record(key, members)
                members = {}
            file = tar.extractfile(member)
            assert file is not None
            key, members[suffix] = name, file.read()
    if members:
        yield _record(key, members)


def _from_parquet(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(32):
            for row in batch.to_pylist():
                mask = None if row["mask"] is None else np.frombuffer(row["mask"], np.uint8)
                ids = None if row["ids"] is None else np.array(row["ids"], np.int32)
                yield _finished(row["key"], _picture(row["image"]), mask, ids, json.loads(row["json"]))


def _record(key: str, members: Mapping[str, bytes]) -> dict[str, Any]:
    (image,) = (content for suffix, content in members.items() if suffix.startswith("img."))
    mask = _array(members["mask.npy"]) if "mask.npy" in members else None
    ids = _array(members["ids.npy"]) if "ids.npy" in members else None
    return _finished(key, _picture(image), mask, ids, json.loads(members["json"]))


def _finished(
    key: str, image: NDArray[np.uint8], packed: NDArray[np.uint8] | None, ids: Any, facts: dict[str, Any]
) -> dict[str, Any]:
    mask = None
    if packed is not None:
        mask = np.unpackbits(packed, count=image.size).reshape(image.shape).astype(np.bool_)
    return {"key": key, "image": image, "mask": mask, "ids": ids, "facts": facts}


def _picture(content: bytes) -> NDArray[np.uint8]:
    if content.startswith(b"\x93NUMPY"):
        found: NDArray[np.uint8] = _array(content)
        return found
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(content), formats=("PNG", "JPEG")))


def _array(content: bytes) -> Any:
    return np.load(io.BytesIO(content), allow_pickle=False)


def _mixed(stream: Iterator[dict[str, Any]], most: int, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """The records in another order: any of those that are held, in at most so many bytes, goes next."""
    held: list[dict[str, Any]] = []
    weight = 0
    for record in stream:
        held.append(record)
        weight += _weight(record)
        while weight > most and held:
            at = int(rng.integers(len(held)))
            held[at], held[-1] = held[-1], held[at]
            out = held.pop()
            weight -= _weight(out)
            yield out
    for at in rng.permutation(len(held)):
        yield held[at]


def _weight(record: Mapping[str, Any]) -> int:
    arrays = (record["image"], record["mask"], record["ids"])
    return _OVERHEAD + sum(int(each.nbytes) for each in arrays if each is not None)


def _scaling(statistics: Mapping[str, Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    mean = [statistics[name]["mean"] or 0.0 for name in CLINICAL]
    return np.array(mean), np.array([statistics[name]["sd"] or 1.0 for name in CLINICAL])


def _read(path: Path) -> Any:
    try:
        return foreign.read_json(path)
    except (OSError, ValueError) as error:
        raise BadInput(
            f"cannot be read: {foreign.told(error, 200)}; is the run finished?", file=path
        ) from error
