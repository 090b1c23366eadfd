"""Volumes, plane by plane: a forward reader, and a writer.

The planes of a volume along its last axis lie one after the other, so a volume of any depth is read and
written with one plane in memory, through gzip too: a reader that maps or re-reads the file would hold what
this one is there to avoid.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.errors import BadInput
from penstock.workloads.superres.headers import (
    BROKEN,
    Header,
    gzip_library,
    header_like,
    open_stream,
    read_header,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SAME_PLACE = 1e-3
"""Millimetres that the corners of two volumes on one grid may lie apart."""
_SKIP = 1 << 20
"""Bytes that are skipped at once."""


def compare_grids(header: Header, path: str | Path, other: Header, other_path: str | Path) -> None:
    """Whether two volumes lie on one grid.

    Raises:
        BadInput: shapes differ, or a corner lies more than 0.001 mm apart.
    """
    if header.shape != other.shape:
        raise BadInput(f"its shape is {header.shape}, that of {other_path} is {other.shape}", file=path)
    corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], np.float64)
    corners[:, :3] *= np.array(header.shape) - 1
    apart = float(np.abs(corners @ (header.affine - other.affine).T).max())
    if not apart <= _SAME_PLACE:
        raise BadInput(
            f"its affine puts a corner {apart:.3f} mm from where that of {other_path} puts it: the "
            "voxels of a patient must lie on one grid; resample or reorient it first",
            file=path,
        )


class Planes:
    """The planes of a volume in order, each read once.

    Args:
        path: see :func:`read_header`.

    Raises:
        BadInput: see :func:`read_header`.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self.header = read_header(path)
        self._next = 0
        try:
            self._file = open_stream(self.header.voxels)
        except OSError as error:
            raise BadInput(f"cannot be read: {error.strerror}", file=self.header.voxels) from error
        try:
            for at in range(0, self.header.offset, _SKIP):
                self._take(min(_SKIP, self.header.offset - at))
        except BaseException:
            self._file.close()
            raise

    def read_into(self, plane: NDArray[np.float32]) -> None:
        """Read the next plane into ``plane``, float32 (voxels along j, voxels along i).

        After the last plane the file must end; gzip's checksum is compared there.

        Raises:
            BadInput: the file ends early or is damaged, or a voxel is not finite.
        """
        header, k = self.header, self._next
        voxels = np.frombuffer(self._take(header.plane_bytes), header.dtype)
        with np.errstate(all="ignore"):  # what does not fit float32 is found as infinite
            if (header.slope, header.inter) == (1.0, 0.0):
                plane[:] = voxels.reshape(plane.shape)
            else:  # rounded once: float32 alone would lose what a large intercept takes away again
                scaled = voxels.astype(np.float64)
                scaled *= header.slope
                scaled += header.inter
                plane[:] = scaled.reshape(plane.shape)
            # A sum is finite where all of it is, short of sums that overflow; those are looked at.
            suspect = not np.isfinite(plane.sum())
        if suspect and not (finite := np.isfinite(plane)).all():
            j, i = (int(at[0]) for at in np.nonzero(~finite))
            raise BadInput(
                f"{int((~finite).sum())} voxels of plane {k} are not finite, the first is {plane[j, i]}",
                file=self.path,
                place=f"voxel ({i}, {j}, {k})",
            )
        self._next += 1
        if self._next == header.shape[2]:
            self._end()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _take(self, count: int) -> bytes:
        try:
            taken = self._file.read(count)
        except BROKEN as error:
            raise BadInput(f"is damaged: {error}", file=self.path, place=f"plane {self._next}") from error
        except OSError as error:
            raise BadInput(
                f"cannot be read: {error.strerror or error}", file=self.path, place=f"plane {self._next}"
            ) from error
        if len(taken) < count:
            raise BadInput(
                f"ends early: {len(taken)} of {count} bytes", file=self.path, place=f"plane {self._next}"
            )
        return taken

    def _end(self) -> None:
        try:
            self._file.read(1)  # gzip compares its checksum when it comes to the end
        except BROKEN as error:
            raise BadInput(f"is damaged: {error}", file=self.path, place="its end") from error


def read_planes(paths: Sequence[str | Path], shape: tuple[int, int, int]) -> Iterator[NDArray[np.float32]]:
    """The planes of several volumes at once, float32 (volumes, nj, ni); the same array each time.

    Raises:
        BadInput: see :class:`Planes`.
    """
    planes = np.empty((len(paths), shape[1], shape[0]), np.float32)
    with ExitStack() as stack:
        volumes = [stack.enter_context(closing(Planes(path))) for path in paths]
        for _ in range(shape[2]):
            for plane, volume in zip(planes, volumes, strict=True):
                volume.read_into(plane)
            yield planes


class PlaneWriter:
    """Writes a float32 volume plane by plane, with the geometry of another; ``.nii.gz`` or ``.nii``.

    Args:
        path: the file.
        like: a header to take everything from but type, scale and description of the voxels.
        volumes: 3D volumes in the file, one after the other; more than one make it 4D.
        zipped: compress with gzip.
    """

    def __init__(self, path: str | Path, like: Header, *, volumes: int = 1, zipped: bool = True) -> None:
        header = header_like(like, volumes)
        self._bare = open(path, "wb")  # noqa: SIM115 - closed by __exit__
        self._file: Any = self._bare
        if zipped:
            # No name and no time: the same volume gives the same bytes. Nor isal's levels 1 and 2, whose
            # bytes for the same data differ now and then from process to process (1.9.1).
            library = gzip_library()
            self._file = library.GzipFile(
                filename="", fileobj=self._bare, mode="wb", compresslevel=1 if library is gzip else 3, mtime=0
            )
        self._file.write(header + bytes(4))

    def write(self, plane: NDArray[np.float32]) -> None:
        """Append a plane (voxels along j, voxels along i)."""
        self._file.write(np.ascontiguousarray(plane, "<f4").tobytes())

    def __enter__(self) -> PlaneWriter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not self._bare:
            self._file.close()
        self._bare.close()
