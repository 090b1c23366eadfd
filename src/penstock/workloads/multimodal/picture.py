"""Contact sheets: the first 24 films of each split, in four rows, and nothing written on them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from penstock.workloads.multimodal.loader import read_shard
from penstock.workloads.multimodal.splits import SPLITS

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROWS, _COLUMNS = 4, 6
_SIDE, _GAP = 192, 4


def draw_sheets(folder: Path, *, writer: str, **stored: Any) -> None:
    """Draw ``contact-SPLIT.png`` of each split that has records.

    Args:
        folder: where they go.
        writer: of the shards.
        stored: the folder of shards of each split.
    """
    suffix = "tar" if writer == "webdataset" else "parquet"
    for split in SPLITS:
        sheet, count = _sheet(), 0
        for path in sorted(Path(stored[split]).glob(f"{split}-*.{suffix}")):
            for record in read_shard(path):
                if count == _ROWS * _COLUMNS:
                    break
                _place(sheet, record["image"], count)
                count += 1
        if count:
            rows = -(-count // _COLUMNS)
            Image.fromarray(sheet[: rows * (_SIDE + _GAP) + _GAP]).save(folder / f"contact-{split}.png")


def _sheet() -> NDArray[np.uint8]:
    height, width = (each * (_SIDE + _GAP) + _GAP for each in (_ROWS, _COLUMNS))
    return np.full((height, width), 32, np.uint8)


def _place(sheet: NDArray[np.uint8], image: NDArray[np.uint8], number: int) -> None:
    top, left = (_GAP + at * (_SIDE + _GAP) for at in divmod(number, _COLUMNS))
    small = Image.fromarray(image).resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    sheet[top : top + _SIDE, left : left + _SIDE] = np.asarray(small)
