"""The sink of the tensor: a Zarr array (format 3) written chunk by chunk, compressed by zstd.

Written without the zarr package: a chunk is a file of little-endian float32 in C order, compressed, and
one small JSON file describes them all. A chunk that could not be made is not
there, and its place reads as NaN.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import penstock
from penstock.abc import Batch, Closed, Part, Receipt, SetAside
from penstock.files import digest, discard
from penstock.sinks.parts import sweep

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHUNK = 16 << 20
"""Bytes of a chunk, at most."""
_CELL = 8 * 4 * 4


def chunk_shape(samples: int) -> tuple[int, int]:
    """Positions and samples of a chunk: as many positions as fit in 16 MiB, for all samples if possible."""
    cells = CHUNK // _CELL
    return max(cells // max(samples, 1), 1), max(min(samples, cells), 1)


@dataclass(frozen=True, kw_only=True)
class TensorZarr:
    """Keeps chunks of the tensor as a Zarr array.

    Args:
        shape: (positions, samples); 8 features of 4 alleles follow.
    """

    unit: ClassVar[str] = "item"
    grain: int = 1
    shape: tuple[int, int]

    def open(self, folder: Path, items: int) -> None:
        """Write the array's metadata."""
        with penstock.atomic(folder / "zarr.json") as draft:
            draft.write_text(json.dumps(self._description([]), indent=1) + "\n", encoding="utf-8")

    def write(self, batch: Batch, results: Iterator[Any], folder: Path) -> Receipt:
        """Write the chunk files of one block of positions."""
        import numpy as np
        import pyarrow as pa

        rows, width = chunk_shape(self.shape[1])
        parts: list[Part] = []
        for result in results:
            if isinstance(result, SetAside):
                continue
            block: NDArray[Any] = result
            for column, start in enumerate(range(0, self.shape[1], width)):
                piece = block[:, start : start + width]
                if piece.shape[:2] != (rows, width):  # the last ones are padded
                    whole = np.full((rows, width, 8, 4), np.nan, "<f4")
                    whole[: piece.shape[0], : piece.shape[1]] = piece
                    piece = whole
                name = f"c/{batch.start}/{column}/0/0"
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                packed = pa.Codec("zstd", compression_level=1).compress(np.ascontiguousarray(piece, "<f4"))
                with penstock.atomic(path) as draft:
                    draft.write_bytes(packed)
                parts.append(Part(name, len(packed), digest(path)))
        if not parts and (folder / "c" / str(batch.start)).exists():
            for column in range(-(-self.shape[1] // width)):
                discard(folder / f"c/{batch.start}/{column}/0/0")
        return Receipt(parts=tuple(parts))

    def close(self, receipts: Iterable[tuple[Batch, Receipt]], folder: Path) -> Closed:
        """List the missing chunks."""
        holes = [batch.start for batch, receipt in receipts if not receipt.parts]
        sweep(folder, "zarr.json")
        with penstock.atomic(folder / "zarr.json") as draft:
            draft.write_text(json.dumps(self._description(holes), indent=1) + "\n", encoding="utf-8")
        for draft in (folder / "c").rglob(".*.tmp"):
            discard(draft)
        description = folder / "zarr.json"
        return Closed(parts=(Part(description.name, description.stat().st_size, digest(description)),))

    def result(self, folder: Path) -> Path:
        """The array's folder, for ``zarr.open``."""
        return folder

    def _description(self, holes: list[int]) -> dict[str, Any]:
        rows, width = chunk_shape(self.shape[1])
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": [*self.shape, 8, 4],
            "data_type": "float32",
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [rows, width, 8, 4]}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": "NaN",
            "codecs": [
                {"name": "bytes", "configuration": {"endian": "little"}},
                {"name": "zstd", "configuration": {"level": 1, "checksum": False}},
            ],
            "dimension_names": ["position", "sample", "feature", "allele"],
            "attributes": {
                "features": [
                    "forward_share", "reverse_share", "forward_depth", "reverse_depth", "forward", "reverse",
                    "quality", "indels",
                ],
                "holes": holes,
            },
        }  # fmt: skip
