"""The loader as an iterable torch dataset: its workers share out the shards.

Can be imported without torch, so that the class has a home to be unpickled from; it is of use only with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

try:
    import torch
    from torch.utils.data import IterableDataset, get_worker_info
except ImportError:
    torch, IterableDataset = None, object


class Sharded(Protocol):
    """A loader that can be split among workers."""

    def __iter__(self) -> Iterator[dict[str, Any]]: ...

    def of_worker(self, which: int, count: int) -> Sharded:
        """The share of one of several workers."""


class Batches(IterableDataset):  # type: ignore[misc]
    """Batches of a loader as tensors.

    Args:
        loader: of a split.
    """

    def __init__(self, loader: Sharded) -> None:
        super().__init__()
        self._loader = loader

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        loader = self._loader if worker is None else self._loader.of_worker(worker.id, worker.num_workers)
        for batch in loader:
            yield {
                name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
                for name, value in batch.items()
            }
