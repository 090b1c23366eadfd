"""Zarr arrays, by the zarr package: read such that no chunk is decoded again and again.

Covers both ways through an array of samples and positions: some positions of all samples at a time, or sample
by sample where chunks hold so many positions that the first way would decode each of them many times.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.errors import BadInput, MissingExtra

if TYPE_CHECKING:
    from numpy.typing import NDArray

_AT_ONCE = 64 << 20
"""Bytes of an array in memory at a time, at most, as 64-bit values."""
STATISTICS = 8
"""Reads of A T C G on the forward strand, then on the reverse: of three axes, the first eight of the last are
read."""


class Chunked:
    """A Zarr array or group.

    Args:
        path: its folder.

    Raises:
        MissingExtra: the zarr package is not installed.
        BadInput: it is no Zarr; from ``read``, a chunk is damaged.
    """

    def __init__(self, path: str) -> None:
        if find_spec("zarr") is None:
            raise MissingExtra("reading Zarr", "zarr", "snv")
        import zarr

        self._path = path
        with _reading(path):
            self.opened: Any = zarr.open(path, mode="r")

    def names(self) -> list[str]:
        """Names of a group's arrays, without opening them; for an array, a single empty name."""
        if hasattr(self.opened, "shape"):
            return [""]
        marks = (".zarray", "zarr.json")
        folders = sorted(Path(self._path).iterdir())
        return [each.name for each in folders if any((each / mark).exists() for mark in marks)]

    def read(self, place: Any) -> NDArray[Any]:
        """The values at an index."""
        with _reading(self._path):
            return np.asarray(self.opened[place])

    def planes(self, samples: slice, positions: slice) -> NDArray[Any]:
        """Part of an array of samples, positions and, if there is one, the axis of planes."""
        rest = (slice(STATISTICS),) if self.opened.ndim == 3 else ()
        return self.read((samples, positions, *rest))

    @property
    def step(self) -> int:
        """Positions to read at once for all samples: those of a chunk, if memory allows."""
        planes = min(self.opened.shape[2], STATISTICS) if self.opened.ndim == 3 else 1
        most = _AT_ONCE // (max(self.opened.shape[0], 1) * planes * 8)
        return int(max(min(self.opened.chunks[1], most), 1))

    @property
    def by_sample(self) -> bool:
        """Whether going sample by sample decodes chunks less often."""
        return bool(self.opened.chunks[1] / self.step > self.opened.chunks[0])

    def pieces(self) -> Iterator[NDArray[Any]]:
        """All values, position by position or sample by sample, flat."""
        if self.opened.ndim == 1:
            yield self.read(...)
            return
        samples, positions = self.opened.shape[:2]
        if self.by_sample:
            for sample in range(samples):
                for at in range(0, positions, self.opened.chunks[1]):
                    span = slice(at, at + self.opened.chunks[1])
                    yield self.planes(slice(sample, sample + 1), span).ravel()
            return
        for at in range(0, positions, self.step):
            block = self.planes(slice(None), slice(at, at + self.step))
            yield np.ascontiguousarray(block.swapaxes(0, 1)).ravel()


@contextmanager
def _reading(path: str) -> Iterator[None]:
    """What the zarr package raises is bad input."""
    try:
        with warnings.catch_warnings():
            # Text of a fixed length has no place in the standard, as it says; reading that is safe.
            warnings.simplefilter("ignore")
            yield
    except Exception as error:
        raise BadInput(f"cannot be read as Zarr: {error}", file=path) from error
