"""The options of a fit and a blend, checked together, and the regions that follow from them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SMALLEST_SD = 1e-8


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How to fit and blend. The defaults are ours; ``upstream=True`` is the published program.

    Attributes:
        patch, stride: voxels of a tile along each axis, and between tiles. Regions, for which sums
            are kept, are cells of ``stride`` voxels.
        window: ``"hann"`` or ``"flat"``: how a tile's weight falls off to its border.
        simplex: weights are at least 0 and sum to 1.
        ridge: added to the diagonal of Q, as a share of its mean; upstream: as it is.
        tau: share of the neighbours' mean in a region's weights.
        lambda_edge, edge_power: weight of a voxel, 1 + lambda_edge * (gradient / largest) ** edge_power.
        lambda_grad: weight of the derivatives beside the values.
        operator: of the derivatives; edges are by Sobel always.
        normalize: ``"zscore"`` or ``"none"``.
        ssim_axis: axis across which SSIM is taken slice by slice: 0, 1 or 2.
        upstream: a tile takes the weights of its first cell, the window is 0 at its first voxel,
            the ridge is absolute, and a stride over the patch leaves gaps.
    """

    patch: int = 32
    stride: int = 16
    window: str = "hann"
    simplex: bool = True
    ridge: float = 1e-6
    tau: float = 0.05
    lambda_edge: float = 0.25
    edge_power: float = 2.0
    lambda_grad: float = 0.2
    operator: str = "sobel"
    normalize: str = "zscore"
    ssim_axis: int = 0
    upstream: bool = False

    def __post_init__(self) -> None:
        if self.patch < 1 or self.stride < 1:
            raise UsageError(f"patch {self.patch} and stride {self.stride}: both must be at least 1")
        if not self.upstream and self.patch % self.stride:
            raise UsageError(
                f"patch {self.patch} is no multiple of stride {self.stride}: a tile is made of whole cells; "
                f"take --patch {-(-self.patch // self.stride) * self.stride}, or --compat upstream"
            )
        for name in ("ridge", "lambda_edge", "edge_power", "lambda_grad"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UsageError(f"{name} is {getattr(self, name)}; it must be a number of at least 0")
        if not 0 <= self.tau <= 1:
            raise UsageError(f"tau is {self.tau}; a share lies between 0 and 1")

    def told(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    def pass_key(self) -> dict[str, Any]:
        """What the sums over a patient depend on; everything else can change without reading a voxel."""
        gaps = self.patch if self.stride > self.patch else None
        return {
            "stride": self.stride, "gaps": gaps, "operator": self.operator, "edge_power": self.edge_power
        }  # fmt: skip


def grid_of(shape: tuple[int, ...], stride: int) -> tuple[int, ...]:
    """Cells (and tiles) along each axis."""
    return tuple(-(-n // stride) for n in shape)


def cells_of(shape: tuple[int, ...], stride: int, gaps: int | None) -> tuple[NDArray[np.int64], ...]:
    """The cell of each voxel along each axis; -1 from ``gaps`` voxels on after a cell's begin."""
    along = []
    for n in shape:
        at = np.arange(n, dtype=np.int64)
        cells = at // stride
        if gaps is not None:
            cells[at % stride >= gaps] = -1
        along.append(cells)
    return tuple(along)
