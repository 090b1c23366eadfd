"""Compiles everything that a patient's functions need before workers are forked, by one rehearsal.

numba loads a function's code for the types of its arguments when it is first called, and all that it knows
of NumPy before the first of them. The rehearsal calls what is called later, with a patient of a few voxels,
so no worker has anything left to load.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from penstock import compiling, temporary
from penstock.workloads.superres.headers import Header, made_header, read_header
from penstock.workloads.superres.moments import take_moments
from penstock.workloads.superres.volumes import PlaneWriter

if TYPE_CHECKING:
    from penstock.workloads.superres.settings import Settings

_SHAPE = (9, 8, 7)


def compiles(*, fits: bool = False, blends: bool = False) -> str:
    """A note to print before a rehearsal that compiles; empty if everything is cached."""
    last = ("windows.py", "mix_plane") if blends else ("windows.py", "weigh_plane")
    needs = [("kernel.py", "add_plane"), *([last] if fits or blends else [])]
    said = [compiling.note(Path(__file__).with_name(file), name) for file, name in needs]
    return next(filter(None, said), "")


def rehearse(settings: Settings, experts: int = 2, *, fits: bool = False, blends: bool = False) -> None:
    """Compute the sums of a toy patient; fit it and write its maps; blend and measure it.

    A disk that has no room for it does not matter: then workers load for themselves.

    Args:
        settings: as JSON values.
        experts: how many.
        fits: whether the stage fits.
        blends: whether it blends, which needs a fit.
    """
    with suppress(OSError), temporary.folder("penstock-warm-") as folder:
        paths = _write_volumes(folder, experts)
        mask = paths[-1] if settings.mask == "file" else None
        moments = take_moments(paths, settings, mask)
        if not fits and not blends:
            return
        from penstock.workloads.superres import blending
        from penstock.workloads.superres.weights import fit

        weights = fit([moments], [str(expert) for expert in range(experts)], settings)
        blending.write_maps(weights, read_header(paths[0]), folder)
        if blends:
            blending.evaluate(paths, moments, weights, folder / "blend.nii.gz", folder, mask)


def _write_volumes(folder: Path, experts: int) -> list[Path]:
    """Experts and a truth, zipped; 0 at one side, and different elsewhere."""
    affine = np.eye(4)
    header = Header(_SHAPE, np.dtype("<f4"), 1.0, 0.0, 352, affine, made_header(_SHAPE, affine, placed=True))
    values = np.add.outer(np.arange(_SHAPE[2]), np.arange(_SHAPE[1] * _SHAPE[0]) % 13).astype(np.float32)
    values[:, : _SHAPE[0]] = 0.0
    paths = [folder / f"{volume}.nii.gz" for volume in range(experts + 1)]
    for volume, path in enumerate(paths):
        with PlaneWriter(path, header) as writer:
            for plane in values * np.float32(100 + volume) ** np.float32(1 + volume / 100):
                writer.write(plane.reshape(_SHAPE[1], _SHAPE[0]))
    return paths
