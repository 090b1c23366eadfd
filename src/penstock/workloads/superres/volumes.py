"""Volumes, plane by plane: a sequential reader, and a writer.

The planes of a volume along its last axis lie one after the other, so a volume of any depth is read and
written with one plane in memory, through gzip too: a reader that maps or re-reads the file would hold what
this one is there to avoid.
"""

from __future__ import annotations

import errno
import gzip
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from penstock.errors import BadInput
from penstock.plurals import plural
from penstock.workloads.superres.headers import (
    Header,
    header_like,
    open_stream,
    read_header,
    unreadable,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SAME_PLACE = 1e-3
"""Millimetres that the corners of two volumes on one grid may lie apart."""
SAME_HEAD = 1.0
"""Millimetres that the corners of two patients' volumes may lie apart."""
_PIECE = 64 << 20
"""Bytes read at once: a header may ask for more than there is memory, or file."""
_SKIP = 1 << 20
"""Bytes that are skipped at once."""


def corners_apart(shape: tuple[int, int, int], one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """The largest distance between a box's corners under two affines, in mm along an axis."""
    corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], np.float64)
    corners[:, :3] *= np.array(shape) - 1
    return float(np.abs(corners @ (one - other).T).max())


def compare_grids(header: Header, path: str | Path, other: Header, other_path: str | Path) -> None:
    """Check that two volumes of a patient share one grid.

    Raises:
        BadInput: shapes differ, or a corner lies more than 0.001 mm apart.
    """
    if header.shape != other.shape:
        raise BadInput(f"its shape is {header.shape}, that of {other_path} is {other.shape}", file=path)
    apart = corners_apart(header.shape, header.affine, other.affine)
    if not apart <= _SAME_PLACE:
        raise BadInput(
            f"its affine puts a corner {apart:.3f} mm from where that of {other_path} puts it: the "
            "voxels of a patient must lie on one grid; resample or reorient it first",
            file=path,
        )


def compare_patients(
    shape: tuple[int, int, int], affine: NDArray[np.float64], expected: NDArray[np.float64], path: str | Path
) -> None:
    """Check that a patient is aligned with the others, so that regions are the same places of a head.

    Raises:
        BadInput: a corner lies more than 1 mm apart.
    """
    apart = corners_apart(shape, affine, expected)
    if not apart <= SAME_HEAD:
        here, there = axis_codes(affine), axis_codes(expected)
        how = f"its axes run {here} and theirs {there}" if here != there else "it is not in the same space"
        raise BadInput(
            f"its affine puts a corner {apart:.3g} mm from where the other patients have it ({how}), so its "
            "regions are other places of a head. Register or reorient it first, or say --same-grid "
            "index where the voxels are known to correspond",
            file=path,
        )


def axis_codes(affine: NDArray[np.float64]) -> str:
    """Directions of the array's axes: ``"RAS"`` is right, anterior, superior."""
    codes = []
    for axis in range(3):
        along = int(np.abs(affine[:3, axis]).argmax())
        codes.append(("RL", "AP", "SI")[along][int(affine[along, axis] < 0)])
    return "".join(codes)


class Planes:
    """The planes of a volume in order, each read once.

    Args:
        path: see :func:`read_header`.
        nan: what becomes of voxels that are not finite: ``"refuse"``, or ``"background"``, 0.

    Raises:
        BadInput: see :func:`read_header`.
    """

    def __init__(self, path: str | Path, nan: str = "refuse") -> None:
        self.path = str(path)
        self._nan = nan
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
        header = self.header
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
            if self._nan != "background":
                raise self._not_finite(plane, finite)
            plane[~finite] = 0.0
        self._next += 1
        if self._next == header.shape[2]:
            self._end()

    def _not_finite(self, plane: NDArray[np.float32], finite: NDArray[np.bool_]) -> BadInput:
        j, i = (int(at[0]) for at in np.nonzero(~finite))
        return BadInput(
            f"{plural(int((~finite).sum()), 'voxel')} of plane {self._next} not finite, the first is "
            f"{plane[j, i]}; where these are the background, say --nan background",
            file=self.path,
            place=f"voxel ({i}, {j}, {self._next})",
        )

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _take(self, count: int) -> bytes:
        taken = self._read(min(count, _PIECE))
        if len(taken) == _PIECE < count:
            pieces = [taken]
            while (left := count - sum(map(len, pieces))) and (piece := self._read(min(left, _PIECE))):
                pieces.append(piece)
            taken = b"".join(pieces)
        if len(taken) < count:
            raise BadInput(
                f"ends early: {len(taken)} of {count} bytes", file=self.path, place=f"plane {self._next}"
            )
        return taken

    def _read(self, count: int) -> bytes:
        try:
            return self._file.read(count)
        except Exception as error:
            raise unreadable(error, self.path, f"plane {self._next}") from error

    def _end(self) -> None:
        try:
            self._file.read(1)  # gzip compares its checksum when it comes to the end
        except Exception as error:
            raise unreadable(error, self.path, "its end") from error


def read_planes(
    paths: Sequence[str | Path], shape: tuple[int, int, int], nan: str = "refuse"
) -> Iterator[NDArray[np.float32]]:
    """The planes of several volumes at once, float32 (volumes, nj, ni); the same buffer each time.

    Raises:
        BadInput: see :class:`Planes`.
    """
    planes = np.empty((len(paths), shape[1], shape[0]), np.float32)
    with ExitStack() as stack:
        volumes = [stack.enter_context(closing(Planes(path, nan))) for path in paths]
        for _ in range(shape[2]):
            for plane, volume in zip(planes, volumes, strict=True):
                volume.read_into(plane)
            yield planes


class Unpacked:
    """Planes of several volumes for repeated passes: decompressed into a file in the first one.

    Iterating gives float32 (volumes, nj, ni); the same array each time.

    Args:
        paths: the volumes.
        shape: of all of them.
        nan: see :class:`Planes`.
        scratch: a folder for the file; it holds 4 bytes for each voxel.
    """

    def __init__(
        self, paths: Sequence[str | Path], shape: tuple[int, int, int], nan: str, scratch: Path
    ) -> None:
        self.paths = paths
        self._shape, self._nan = shape, nan
        self._file = scratch / f"{os.urandom(4).hex()}.planes"
        self._whole = False

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return self._again() if self._whole else self._first()

    def only(self, volumes: Sequence[int]) -> Selected:
        """Some of the volumes, also for repeated passes."""
        return Selected(self, volumes)

    def _first(self) -> Iterator[NDArray[np.float32]]:
        with open(self._file, "wb", buffering=0) as file:
            for planes in read_planes(self.paths, self._shape, self._nan):
                file.write(planes.data)
                yield planes
        self._whole = True

    def _again(self) -> Iterator[NDArray[np.float32]]:
        planes = np.empty((len(self.paths), self._shape[1], self._shape[0]), np.float32)
        with open(self._file, "rb", buffering=0) as file:
            for _ in range(self._shape[2]):
                if file.readinto(planes.data) != planes.nbytes:
                    raise OSError(errno.EIO, "a scratch file is shorter than it was written", str(self._file))
                yield planes


@dataclass(frozen=True, slots=True)
class Selected:
    """Some volumes of :class:`Unpacked`."""

    planes: Unpacked
    volumes: Sequence[int]

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return (each[self.volumes] for each in self.planes)


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
            self._file = _zipped(self._bare)
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


def _zipped(file: IO[bytes]) -> Any:
    """A stream that compresses into a file, by zlib-ng where it is installed.

    No name and no time: the same volume gives the same bytes. zlib-ng's (2.3.3) were the same on every CPU
    that was tried; isal's level 3 gives others where there is no AVX2, its levels 1 and 2 now and then from
    process to process (1.9.1).
    """
    try:
        from zlib_ng import gzip_ng
    except ImportError:
        return gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=1, mtime=0)
    library: Any = gzip_ng
    return library.GzipNGFile(filename="", fileobj=file, mode="wb", compresslevel=2, mtime=0)
