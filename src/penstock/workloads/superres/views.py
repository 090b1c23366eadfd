"""Slices through the middle of a head, in radiological orientation.

The patient faces us: the right side of the head is at the left of the picture. Seen from the side, the
face looks to the left. Which axis of the array is which comes from the affine.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from penstock.workloads.superres.volumes import read_planes

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NAMES = ("sagittal", "coronal", "axial")
_SIDES = ("RL", "AP")
"""Of the axes of the head that run to the right: where they begin and end."""


@dataclass(frozen=True, slots=True)
class View:
    """How slices across one axis of an array are shown.

    Attributes:
        name: ``"axial"``, ``"coronal"`` or ``"sagittal"``.
        axis: of the array, across which the slices are.
        down, right: the axes of the array that run down and to the right.
        flips: whether they run from their last voxel to their first.
        sides: what lies at the left and right: ``"RL"`` or ``"AP"``.
    """

    name: str
    axis: int
    down: int
    right: int
    flips: tuple[bool, bool]
    sides: str

    def turn(self, slices: NDArray[np.float32]) -> NDArray[np.float32]:
        """Slices (..., lower axis, higher axis) of an array as rows and columns of a picture; a view."""
        turned = slices if self.down < self.right else slices.swapaxes(-1, -2)
        down, right = (-1 if flip else 1 for flip in self.flips)
        return turned[..., ::down, ::right]


def voxel_sizes(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Voxel size in mm along each axis of the array, float64 (3,); 1 where the affine says 0."""
    sizes = np.sqrt((affine[:3, :3] ** 2).sum(0))
    return np.where(sizes > 0, sizes, 1.0)


def find_views(affine: NDArray[np.float64]) -> tuple[View, View, View]:
    """The axial, coronal and sagittal views of an array.

    Args:
        affine: voxel indices to millimetres (right, front, up), float64 (4, 4); of axes that are
            oblique the nearest count.
    """
    along = affine[:3, :3] / voxel_sizes(affine)
    axes = max(permutations(range(3)), key=lambda order: sum(abs(along[w, order[w]]) for w in range(3)))
    views = []
    for across in (2, 1, 0):
        # Down and to the right millimetres fall: from top to foot, from the right side to the left.
        right, down = (w for w in range(3) if w != across)
        flips = tuple(bool(along[w, axes[w]] >= 0) for w in (down, right))
        views.append(
            View(
                name=_NAMES[across], axis=axes[across], down=axes[down], right=axes[right],
                flips=(flips[0], flips[1]), sides=_SIDES[right],
            )
        )  # fmt: skip
    return views[0], views[1], views[2]


@dataclass(frozen=True, slots=True)
class Head:
    """The head's bounding box in an array.

    Attributes:
        middle: of each axis the slice that has half of the head's voxels, or as good as, on each side.
        begin, end: of each axis the first slice with such voxels and the one after the last.
    """

    middle: tuple[int, int, int]
    begin: tuple[int, int, int]
    end: tuple[int, int, int]


def find_head(blend: str | Path, shape: tuple[int, int, int]) -> Head:
    """Find the head in a blend: the non-zero voxels, or everything if there are none.

    Raises:
        BadInput: see :class:`Planes`.
    """
    counts = [np.zeros(n, np.int64) for n in shape]
    for k, (plane,) in enumerate(read_planes([blend], shape)):
        inside = plane != 0
        counts[0] += inside.sum(0)
        counts[1] += inside.sum(1)
        counts[2][k] = inside.sum()
    middle, begin, end = [], [], []
    for count in counts:
        some = count if count.any() else count + 1
        total = np.cumsum(some)
        # Of slices with voxels the first that brings half of them.
        middle.append(int(np.searchsorted(total, total[-1] / 2)))
        begin.append(int(np.flatnonzero(some)[0]))
        end.append(int(np.flatnonzero(some)[-1]) + 1)
    return Head(_three(middle), _three(begin), _three(end))


def _three(values: list[int]) -> tuple[int, int, int]:
    i, j, k = values
    return i, j, k


def take_slices(planes: Iterable[NDArray[np.float32]], at: tuple[int, int, int]) -> list[NDArray[np.float32]]:
    """The slices ``at`` of each axis, from planes of several volumes that come in order.

    Args:
        planes: float32 (volumes, nj, ni), of all k.
        at: the slice across i, j and k.

    Returns three arrays, float32: (volumes, nj, nk), (volumes, ni, nk) and (volumes, ni, nj).
    """
    across_i, across_j, across_k = [], [], np.empty(0, np.float32)
    for k, plane in enumerate(planes):
        across_i.append(plane[:, :, at[0]].copy())
        across_j.append(plane[:, at[1], :].copy())
        if k == at[2]:
            across_k = plane.swapaxes(1, 2).copy()
    return [np.stack(across_i, -1), np.stack(across_j, -1), across_k]
