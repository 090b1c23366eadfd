"""A ranking table for PyTorch: whole queries, shared out among the workers of a DataLoader.

Can be imported without torch; of use only with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from penstock.errors import UsageError
from penstock.workloads.recsys.readers.rows import TrainingRows
from penstock.workloads.recsys.readers.table import open_table

try:
    import torch
except ImportError:
    torch = None

_Dataset: Any = object if torch is None else torch.utils.data.IterableDataset


class QueryDataset(_Dataset):  # type: ignore[misc]
    """Yields ``(features, labels, query)`` of each query: float32 (rows, features), (rows,), and its number.

    Worker i of W takes the row groups i, i + W, ...; each query comes once. For a ``DataLoader`` with
    ``batch_size=None``: queries have different numbers of rows.

    Args:
        folder: of the table.
        shuffle: mix row groups, and the queries within each; None for the order of the table.
        label: column of the labels.

    Raises:
        BadInput: the folder is no ranking table, or a query goes on in another row group.
        UsageError: torch is not installed.
    """

    def __init__(self, folder: str | Path, *, shuffle: int | None = None, label: str = "label") -> None:
        if torch is None:
            raise UsageError("QueryDataset needs a package of its own: pip install torch")
        super().__init__()
        self._rows = TrainingRows(open_table(folder), label=label)
        self._rows.check_whole()
        self._shuffle, self._epoch = shuffle, 0

    def set_epoch(self, epoch: int) -> None:
        """Shuffle differently from other epochs; call it before iterating the DataLoader."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[tuple[Any, Any, int]]:
        worker = torch.utils.data.get_worker_info()
        groups = list(self._rows.groups)
        if self._shuffle is not None:
            np.random.default_rng([self._shuffle, self._epoch]).shuffle(groups)
        for group in groups[worker.id :: worker.num_workers] if worker else groups:
            features = torch.from_numpy(self._rows.features(group))
            labels = torch.from_numpy(self._rows.column(group, self._rows.label))
            numbers = self._rows.queries(group)
            first = np.flatnonzero(np.append(True, numbers[1:] != numbers[:-1]))
            order = np.arange(len(first))
            if self._shuffle is not None:
                np.random.default_rng([self._shuffle, self._epoch, group.first]).shuffle(order)
            ends = np.append(first[1:], len(numbers))
            for at in order:
                begin, end = int(first[at]), int(ends[at])
                yield features[begin:end], labels[begin:end], int(numbers[begin])
