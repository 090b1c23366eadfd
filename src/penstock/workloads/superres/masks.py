"""Masks of the head: the voxels for training and comparison.

A rule that asks for values above 0 misses half of a head whose values are standardised, so the rule follows
from the volume: where nothing is negative, the head is what is positive; else the background must be exactly
0, and the head is what is not. ``"auto"`` is both at once, since without negative values they are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from penstock.errors import BadInput

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.workloads.superres.volumes import Planes

RULES = ("auto", "positive", "nonzero", "file")
_BACKGROUND = 0.01
"""Share of voxels that are 0 from which on these are taken for the background."""


class Masks:
    """Planes of a mask, read alongside those of the truth.

    Args:
        rule: one of ``RULES``.
        volumes: the mask's volume for ``"file"``; else none.
        shape: of a plane, (nj, ni).
        depth: planes that are kept.
    """

    def __init__(self, rule: str, volumes: Sequence[Planes], shape: tuple[int, int], depth: int = 1) -> None:
        self._rule, self._volumes = rule, volumes
        self._ring = np.zeros((depth, *shape), bool)
        self._nothing = np.zeros(shape, bool)
        self._plane = np.empty(shape, np.float32)
        self._voxels = self._inside = self._zeros = self._negative = 0

    def read(self, k: int, truth: NDArray[np.float32]) -> NDArray[np.bool_]:
        """The mask's plane k, bool (nj, ni), from the truth's; planes come in order."""
        mask: NDArray[np.bool_] = self._ring[k % len(self._ring)]
        if self._rule == "file":
            self._volumes[0].read_into(self._plane)
            np.not_equal(self._plane, 0, out=mask)
        elif self._rule == "positive":
            np.greater(truth, 0, out=mask)
        else:
            np.not_equal(truth, 0, out=mask)
        self._voxels += truth.size
        self._inside += int(np.count_nonzero(mask))
        self._zeros += int(truth.size - np.count_nonzero(truth))
        self._negative += int(np.count_nonzero(truth < 0))
        return mask

    def around(self, k: int, planes: int) -> NDArray[np.bool_]:
        """The planes before, at and after k, bool (3, nj, ni); empty beyond the ends."""
        ring, depth = self._ring, len(self._ring)
        before = ring[(k - 1) % depth] if k else self._nothing
        after = ring[(k + 1) % depth] if k + 1 < planes else self._nothing
        return np.stack([before, ring[k % depth], after])

    def check(self, path: str) -> None:
        """Check that all planes were read.

        Raises:
            BadInput: the mask has no voxel, or ``"auto"`` cannot tell the head from the background.
        """
        rule = "above 0" if self._rule == "positive" or not self._negative else "other than 0"
        if not self._inside:
            where = "in the mask" if self._rule == "file" else rule
            raise BadInput(f"no voxel is {where}: an empty volume", file=path)
        if self._rule == "auto" and self._negative and self._zeros < _BACKGROUND * self._voxels:
            raise BadInput(
                f"{self._negative} of {self._voxels} voxels are negative and {self._zeros} are 0, so "
                "nobody can tell the head from the background. Give a mask (--mask "
                "'masks/{patient}.nii.gz'), set the background to 0, or say --mask nonzero or positive",
                file=path,
            )
