"""Shards: a tar of a fixed list of records, written one record at a time, whole or not at all.

USTAR with one time, owner and mode, so that the same records are the same bytes; readable by webdataset, by
the datasets library, and by ``tar``. Members of a record: ``KEY.img.npy`` (or .png, .jpg), ``KEY.mask.npy``
(packed bits), ``KEY.ids.npy``, ``KEY.json``. Parquet holds the same in columns.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from penstock import files
from penstock.abc import Batch, Closed, Receipt
from penstock.errors import UsageError
from penstock.sinks.parts import kept, sweep
from penstock.workloads.multimodal.records import CLINICAL, Made, Refused, as_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

IMAGES = ("raw", "png", "jpeg")
WRITERS = ("webdataset", "parquet")
INDEX, FAILED = "index.jsonl", "failed.csv"
_SUFFIX = {"webdataset": "tar", "parquet": "parquet"}
_QUALITY = 95
_GROUP = 32
"""Records of a row group of Parquet."""
_BLOCK = 512


@dataclass(frozen=True)
class Shards:
    """Keeps records in shards; the result is the folder.

    Args:
        split: the name of the split, with which the names of shards begin.
        grain: records of a shard.
        writer: ``"webdataset"`` or ``"parquet"``.
        image: ``"raw"`` (npy), ``"png"`` or ``"jpeg"``.
    """

    unit: ClassVar[str] = "item"

    split: str
    grain: int
    writer: str = "webdataset"
    image: str = "raw"

    def __post_init__(self) -> None:
        if self.grain < 1 or self.writer not in WRITERS or self.image not in IMAGES:
            raise UsageError(f"Shards: no such thing as {self!r}")

    def open(self, folder: Path, items: int) -> None:
        """Nothing to prepare."""

    def write(self, batch: Batch, results: Iterator[Any], folder: Path) -> Receipt:
        """Write one shard; none if none of its records can be made."""
        path = folder / self._name(batch.start // self.grain)
        counts = _Counts()
        with ExitStack() as stack:
            writer: Any = None
            for item, result in enumerate(results, batch.start):
                if not isinstance(result, Made):
                    counts.refuse(
                        item, result.reason if isinstance(result, Refused) else f"engine_{result.reason}"
                    )
                    continue
                if writer is None:
                    draft = stack.enter_context(files.atomic(path))
                    writer = stack.enter_context((_Tar if self.writer == "webdataset" else _Parquet)(draft))
                writer.add(result, self.image)
                counts.add(result)
        if writer is None:
            files.discard(path)  # of an attempt before, when some could
            return Receipt(value=counts.value())
        return Receipt((kept(path, folder),), counts.value())

    def close(self, receipts: Iterable[tuple[Batch, Receipt]], folder: Path) -> Closed:
        """List the shards with records, bytes and digests, and the items that failed, with reasons."""
        names: set[str] = set()
        pattern = f"{self.split}-*.{_SUFFIX[self.writer]}"
        for name in (INDEX, FAILED):
            sweep(folder, name)
        with ExitStack() as stack:
            drafts = [stack.enter_context(files.atomic(folder / name)) for name in (INDEX, FAILED)]
            index, failed = (stack.enter_context(open(draft, "w", encoding="utf-8")) for draft in drafts)
            for batch, receipt in receipts:
                value = receipt.value or {}
                (part,) = receipt.parts or (None,)
                line = {
                    "shard": self._name(batch.start // self.grain), "records": value.get("records", 0),
                    "bytes": part.bytes if part else 0, "blake2b-128": part.digest if part else None,
                    "clinical": value.get("clinical", {}),
                }  # fmt: skip
                index.write(json.dumps(line, sort_keys=True) + "\n")
                for reason, items in sorted(value.get("failed", {}).items()):
                    failed.writelines(f"{item},{reason}\n" for item in items)
                names.update(part.name for part in receipt.parts)
        sweep(folder, pattern, names)
        return Closed(tuple(kept(folder / name, folder) for name in (INDEX, FAILED)), pattern=pattern)

    def result(self, folder: Path) -> Path:
        """The folder of the shards."""
        return folder

    def _name(self, number: int) -> str:
        return f"{self.split}-{number:05d}.{_SUFFIX[self.writer]}"


class _Counts:
    """What a shard's receipt says: how many records, sums of their clinical values, and who failed."""

    def __init__(self) -> None:
        self._records = 0
        self._failed: dict[str, list[int]] = {}
        self._sums = np.zeros((3, len(CLINICAL)))

    def refuse(self, item: int, reason: str) -> None:
        self._failed.setdefault(reason, []).append(item)

    def add(self, made: Made) -> None:
        self._records += 1
        known = ~np.isnan(made.clinical)
        values = np.where(known, made.clinical, 0.0)
        self._sums += np.stack([known.astype(np.float64), values, values * values])

    def value(self) -> dict[str, Any]:
        rows = zip(("n", "sum", "squares"), self._sums.tolist(), strict=True)
        return {"records": self._records, "failed": self._failed, "clinical": dict(rows)}


def encode_image(image: NDArray[np.uint8], kind: str) -> tuple[str, bytes]:
    """Encode a picture: its file suffix and its bytes."""
    if kind == "raw":
        return "npy", _npy(image)
    from PIL import Image

    out = io.BytesIO()
    options: dict[str, Any] = {"compress_level": 6} if kind == "png" else {"quality": _QUALITY}
    Image.fromarray(image).save(out, "PNG" if kind == "png" else "JPEG", **options)
    return ("png" if kind == "png" else "jpg"), out.getvalue()


def record_bytes(size: int, image: str, mask: bool, text: bool) -> int:
    """Estimated bytes of a record in a shard, with chest films at their usual compression."""
    square = size * size
    picture = {"raw": square + 128, "png": square * 36 // 100, "jpeg": square * 14 // 100}[image]
    members = [picture, 2048 if text else 1024]
    members += [square // 8 + 128] if mask else []
    members += [800] if text else []
    return sum(_BLOCK + -(-each // _BLOCK) * _BLOCK for each in members)


class _Tar:
    def __init__(self, path: Path) -> None:
        self._tar = tarfile.open(path, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115

    def __enter__(self) -> _Tar:
        return self

    def __exit__(self, *_: object) -> None:
        self._tar.close()

    def add(self, made: Made, image: str) -> None:
        suffix, content = encode_image(made.image, image)
        self._member(f"{made.key}.img.{suffix}", content)
        if made.mask is not None:
            self._member(f"{made.key}.mask.npy", _npy(np.packbits(made.mask)))
        if made.ids is not None:
            self._member(f"{made.key}.ids.npy", _npy(made.ids))
        self._member(f"{made.key}.json", as_json(made.facts))

    def _member(self, name: str, content: bytes) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mode, member.mtime = len(content), 0o600, 0
        self._tar.addfile(member, io.BytesIO(content))


class _Parquet:
    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._pa = pa
        self._schema = pa.schema(
            {"key": pa.string(), "image": pa.binary(), "mask": pa.binary(), "ids": pa.list_(pa.int32()),
             "json": pa.string()}
        )  # fmt: skip
        self._file = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._rows: list[dict[str, Any]] = []

    def __enter__(self) -> _Parquet:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._flush()
        self._file.close()

    def add(self, made: Made, image: str) -> None:
        mask = None if made.mask is None else np.packbits(made.mask).tobytes()
        self._rows.append(
            {"key": made.key, "image": encode_image(made.image, image)[1], "mask": mask, "ids": made.ids,
             "json": as_json(made.facts).decode()}
        )  # fmt: skip
        if len(self._rows) == _GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._file.write_table(self._pa.Table.from_pylist(self._rows, self._schema))
            self._rows = []


def _npy(array: NDArray[Any]) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return out.getvalue()
