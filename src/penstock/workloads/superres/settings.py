"""The options of a fit and a blend, checked together, and the regions derived from them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

AXES = ("sagittal", "coronal", "axial")
"""Of a head, in the order of right, front and up."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How to fit and blend. The defaults are ours; ``upstream=True`` is the published program.

    Attributes:
        patch, stride: voxels of a tile along each axis, and between tiles. Regions, for which sums
            are kept, are cells of ``stride`` voxels.
        window: ``"hann"`` or ``"flat"``: how a tile's weight falls off to its border.
        simplex: weights are at least 0 and sum to 1.
        ridge: added to the diagonal of Q, as a share of each expert's own; upstream: as it is.
        tau: share of the neighbours' mean in a region's weights.
        lambda_edge, edge_power: weight of a voxel, 1 + lambda_edge * (gradient / largest) ** edge_power.
        lambda_grad: weight of the derivatives, for each millimetre, beside the values.
        operator: of the derivatives; edges are by Sobel always.
        normalize: ``"zscore"`` or ``"none"``.
        calibration: what mean and deviation a blend is given: ``"train"``, the experts' own by the contrast
            of the patients that were learnt from; ``"truth"``, those of the truth that it is compared with.
        mask: where the head is, by the truth: see ``masks``.
        same_grid: patients correspond by their ``"affine"``, or by the ``"index"`` of their voxels.
        nan: voxels that are not finite are ``"refuse"`` d, or taken as ``"background"``, 0.
        largest_component: only the largest connected part of the mask counts, for all methods alike.
        data_range: what PSNR and SSIM take for the range of the truth in the mask: ``"max"``, ``"p99.9"`` or
            a number.
        ssim_axis: slices of SSIM: ``"axial"``, ``"coronal"`` or ``"sagittal"``; upstream: across axis 0, 1, 2
            of the array.
        upstream: rules of the published program: a tile takes the weights of its first cell, the window is 0
            at its first voxel, the ridge is absolute, a stride over the patch leaves gaps, derivatives have
            the operator's gain and reach over the border of the head, a blend is the largest component of
            what is at least 0.1, has the truth's mean and deviation, and SSIM is that of whole slices.
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
    calibration: str = "train"
    mask: str = "auto"
    same_grid: str = "affine"
    nan: str = "refuse"
    largest_component: bool = False
    data_range: str = "max"
    ssim_axis: str = "axial"
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
        if self.data_range not in ("max", "p99.9") and not _positive(self.data_range):
            raise UsageError(
                f"the data range is {self.data_range!r}: max, p99.9 or a number above 0 was expected"
            )
        if not 0 <= self.tau <= 1:
            raise UsageError(f"tau is {self.tau}; a share lies between 0 and 1")

    def as_json(self) -> dict[str, Any]:
        """The settings as JSON values."""
        return asdict(self)

    def pass_key(self) -> dict[str, Any]:
        """What a patient's sums depend on; everything else can change without rereading voxels."""
        gaps = self.patch if self.stride > self.patch else None
        return {
            "stride": self.stride, "gaps": gaps, "operator": self.operator, "edge_power": self.edge_power,
            "mask": self.mask, "nan": self.nan, "upstream": self.upstream,
        }  # fmt: skip

    @property
    def by_truth(self) -> bool:
        """Whether a blend gets the mean and deviation of the truth that it is compared with."""
        return self.upstream or self.calibration == "truth"


def _positive(text: str) -> bool:
    try:
        return 0 < float(text) < float("inf")
    except ValueError:
        return False


def grid_of(shape: tuple[int, ...], stride: int) -> tuple[int, ...]:
    """Cells (and tiles) along each axis."""
    return tuple(-(-n // stride) for n in shape)


def cells_of(shape: tuple[int, ...], stride: int, gaps: int | None) -> tuple[NDArray[np.int64], ...]:
    """The cell of each voxel along each axis; -1 from ``gaps`` voxels after a cell's start on."""
    along = []
    for n in shape:
        at = np.arange(n, dtype=np.int64)
        cells = at // stride
        if gaps is not None:
            cells[at % stride >= gaps] = -1
        along.append(cells)
    return tuple(along)
