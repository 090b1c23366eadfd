"""A ranking table for LightGBM: a Sequence per row group, one of which is in memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightgbm
import numpy as np

from penstock.workloads.recsys.readers.lightgbm_library import model_names
from penstock.workloads.recsys.readers.rows import TrainingRows
from penstock.workloads.recsys.readers.table import RowGroup, open_table

if TYPE_CHECKING:
    from numpy.typing import NDArray


class _Held:
    """The row group that was read last."""

    def __init__(self, rows: TrainingRows) -> None:
        self._rows = rows
        self._group: RowGroup | None = None
        self._values: NDArray[np.float32] | None = None

    def values(self, group: RowGroup) -> NDArray[np.float32]:
        if self._values is None or group is not self._group:
            self._values = None  # one at a time
            self._values, self._group = self._rows.features(group), group
        return self._values


class RowGroupSequence(lightgbm.Sequence):
    """The chosen rows of one row group; single rows are float64, as LightGBM samples them."""

    def __init__(self, held: _Held, group: RowGroup, rows: int) -> None:
        self._held, self._group, self._rows = held, group, rows
        self.batch_size = max(rows, 1)

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, at: Any) -> NDArray[Any]:
        values: NDArray[Any] = self._held.values(self._group)[at]
        return values if values.ndim == 2 else values.astype(np.float64)


def sequences(rows: TrainingRows) -> list[RowGroupSequence]:
    """A Sequence for each row group with chosen rows."""
    held = _Held(rows)
    return [RowGroupSequence(held, group, int(rows.kept(group).sum())) for group in rows.groups]


def lightgbm_dataset(
    folder: str | Path | TrainingRows, params: Mapping[str, Any] | None = None, *, positions: bool = False
) -> Any:
    """A ``lightgbm.Dataset`` of a ranking table, not yet constructed.

    Args:
        folder: of the table, or chosen rows of one.
        params: LightGBM's, ``bin_construct_sample_cnt`` among them: memory holds that many rows as float64.
        positions: give it the positions, so that their bias is learnt.

    Raises:
        BadInput: the folder is no ranking table, a query has more than 10,000 rows, or a label is outside of
            the gains.
    """
    rows = folder if isinstance(folder, TrainingRows) else TrainingRows(open_table(folder))
    table = rows.table
    return lightgbm.Dataset(
        sequences(rows), label=rows.labels(), group=rows.sizes, weight=rows.weights(),
        position=rows.positions() if positions else None, params=dict(params or {}),
        feature_name=model_names(table.features),
        categorical_feature=[table.features.index(name) for name in table.categorical],
    )  # fmt: skip
