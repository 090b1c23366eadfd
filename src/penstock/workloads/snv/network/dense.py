"""The network's forward pass by matrix products, for positions with dense activations.

The samples of one position go through the layers in tiles, each with the rows of its neighbours that windows
reach, so memory does not depend on their number. A position is computed alone, its tiles follow from the
number of samples, and BLAS has one thread: its bits depend on nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TILE = 256
"""Rows of the last layer at once: what a tile takes fits a cache of 2 MiB."""


class DenseNetwork:
    """The convolutions, ready to apply.

    Args:
        weights: see ``weights``.
    """

    def __init__(self, weights: Mapping[str, NDArray[np.float32]]) -> None:
        self._layers = []
        for layer in (1, 2, 3):
            kernel = weights[f"conv{layer}.weight"]
            # Channels last, as the windows of a tile lie.
            matrix = np.ascontiguousarray(kernel.transpose(2, 3, 1, 0).reshape(-1, len(kernel)))
            self._layers.append((kernel.shape[2:], matrix, weights[f"conv{layer}.bias"]))

    def pooled(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """The sums of the last layer's channels over all rows and columns.

        Args:
            x: float32 (samples, 8, 4).

        Returns float64 (128,).
        """
        samples = len(x)
        total = np.zeros(len(self._layers[2][2]))
        for start in range(0, samples + 2, _TILE):
            stop = min(start + _TILE, samples + 2)
            # What the windows of three layers reach, zeros where there is no sample.
            rows = np.zeros((stop - start + 4, 10, 4), np.float32)
            first, last = max(start - 3, 0), min(stop + 1, samples)
            rows[first - start + 3 : last - start + 3, 1:9] = x[first:last]
            rows = self._layer(0, rows, start - 2, samples)
            rows = self._layer(1, rows, start - 1, samples + 1)
            rows = self._layer(2, rows, start, samples + 2)
            total += rows.sum(axis=(0, 1), dtype=np.float64)
        return total

    def _layer(self, number: int, rows: NDArray[np.float32], first: int, count: int) -> Any:
        """A convolution and its rectifier; its rows outside of 0 to ``count`` are padding, so 0."""
        (height, width), matrix, bias = self._layers[number]
        windows = np.lib.stride_tricks.sliding_window_view(rows, (height, width), axis=(0, 1))
        n, columns = windows.shape[:2]
        flat = windows.transpose(0, 1, 3, 4, 2).reshape(n * columns, -1)
        out = flat @ matrix
        out += bias
        np.maximum(out, 0, out=out)
        out = out.reshape(n, columns, -1)
        out[: max(-first, 0)] = 0
        out[max(count - first, 0) :] = 0
        return out
