"""NIfTI-1 volumes, plane by plane: what a header says, a forward reader, and a writer.

The planes of a NIfTI file along its last axis lie one after the other, so a volume of any depth is read and
written with one plane in memory, through gzip too. The 348 bytes of a header are read and written here:
a reader that maps or re-reads the file would hold what this one is there to avoid.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from penstock.errors import BadInput

if TYPE_CHECKING:
    from numpy.typing import NDArray

_HEADER = 348
_DTYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8",
}  # fmt: skip
_SAME_PLACE = 1e-3
"""Millimetres that the corners of two volumes on one grid may lie apart."""
_FLOAT32 = 16
_PIECE = 64 << 20
"""Bytes read at once: a header may ask for more than there is memory, or file."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a NIfTI-1 header says.

    Attributes:
        shape: voxels along i, j and k.
        dtype: of the voxels in the file.
        slope, inter: value = voxel * slope + inter.
        offset: where the voxels begin.
        affine: voxel indices to millimetres, float64 (4, 4).
        raw: the 348 bytes.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    slope: float
    inter: float
    offset: int
    affine: NDArray[np.float64]
    raw: bytes

    @property
    def plane_bytes(self) -> int:
        """Bytes of one plane in the file."""
        return self.shape[0] * self.shape[1] * self.dtype.itemsize

    @property
    def placed(self) -> bool:
        """Whether a qform or an sform says how the head lies; else left and right are not known."""
        return any(self.raw[252:256])


def read_header(path: str | Path) -> Header:
    """The header of a ``.nii`` or ``.nii.gz`` file.

    Raises:
        BadInput: it cannot be read, or is no NIfTI-1 file of one 3D volume of numbers.
    """
    try:
        with _open(path) as file:
            raw = file.read(_HEADER)
    except FileNotFoundError:
        raise BadInput("no such file", file=path) from None
    except MemoryError:
        raise
    except Exception as error:  # each library has its own
        raise BadInput(f"its header cannot be read: {error}", file=path) from error
    return _parse(raw, path)


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
        path: a ``.nii`` or ``.nii.gz`` file.

    Raises:
        BadInput: see :func:`read_header`.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self.header = read_header(path)
        self._file = _open(path)
        self._next = 0
        try:
            self._take(self.header.offset)
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
            plane[:] = voxels.reshape(plane.shape)
            if (header.slope, header.inter) != (1.0, 0.0):
                plane *= np.float32(header.slope)
                plane += np.float32(header.inter)
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
        taken = self._file_read(min(count, _PIECE))
        if len(taken) == _PIECE < count:
            pieces = [taken]
            while (left := count - sum(map(len, pieces))) and (piece := self._file_read(min(left, _PIECE))):
                pieces.append(piece)
            taken = b"".join(pieces)
        if len(taken) < count:
            raise BadInput(
                f"ends early: {len(taken)} of {count} bytes", file=self.path, place=f"plane {self._next}"
            )
        return taken

    def _file_read(self, count: int) -> bytes:
        try:
            return self._file.read(count)
        except MemoryError:
            raise
        except Exception as error:
            raise BadInput(f"is damaged: {error}", file=self.path, place=f"plane {self._next}") from error

    def _end(self) -> None:
        try:
            self._file.read(1)  # gzip compares its checksum when it comes to the end
        except MemoryError:
            raise
        except Exception as error:
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
        self._bare = open(path, "wb")  # noqa: SIM115 - closed by __exit__
        self._file: Any = self._bare
        if zipped:
            # No name and no time: the same volume gives the same bytes. Nor isal's levels 1 and 2, whose
            # bytes for the same data differ now and then from process to process (1.9.1).
            library = _gzip()
            self._file = library.GzipFile(
                filename="", fileobj=self._bare, mode="wb", compresslevel=1 if library is gzip else 3, mtime=0
            )
        self._file.write(_header_like(like, volumes) + bytes(4))

    def write(self, plane: NDArray[np.float32]) -> None:
        """Append a plane (voxels along j, voxels along i)."""
        self._file.write(np.ascontiguousarray(plane, "<f4").tobytes())

    def __enter__(self) -> PlaneWriter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not self._bare:
            self._file.close()
        self._bare.close()


# ------------------------------------------------------------------ bytes


class _Faster:
    """isal's gzip, under the names of the standard library's."""

    def __init__(self, module: Any) -> None:
        self.open = module.open
        self.GzipFile = module.IGzipFile


def _gzip() -> Any:
    try:
        from isal import igzip
    except ImportError:
        return gzip
    return _Faster(igzip)


def _open(path: str | Path) -> IO[bytes]:
    with open(path, "rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    opened: IO[bytes] = _gzip().open(path, "rb") if zipped else open(path, "rb")  # noqa: SIM115 - given away
    return opened


def _parse(raw: bytes, path: str | Path) -> Header:
    if len(raw) < _HEADER:
        raise BadInput(f"{len(raw)} bytes, and a NIfTI header has {_HEADER}", file=path)
    order = next((sign for sign in "<>" if struct.unpack_from(sign + "i", raw)[0] == _HEADER), None)
    if order is None or raw[344:348] != b"n+1\0":
        raise BadInput("is no NIfTI-1 file in one piece (.nii, .nii.gz); convert it first", file=path)
    dim = struct.unpack_from(order + "8h", raw, 40)
    count = dim[0]
    if not 3 <= count <= 7 or min(dim[1 : 1 + count]) < 1 or any(n != 1 for n in dim[4 : 1 + count]):
        shape = dim[1 : 1 + max(min(count, 7), 0)]
        raise BadInput(f"its shape is {shape}; one 3D volume was expected", file=path)
    (code,) = struct.unpack_from(order + "h", raw, 70)
    if code not in _DTYPES:
        raise BadInput(
            f"its voxels are of NIfTI type {code}; real numbers of 1 to 8 bytes are read", file=path
        )
    offset, slope, inter = struct.unpack_from(order + "3f", raw, 108)
    if not 0 <= offset <= 1 << 30:  # nor is it a number, perhaps
        raise BadInput(
            f"its voxels begin at byte {offset:g}; a header and its extensions are shorter", file=path
        )
    if not np.isfinite(slope) or slope == 0:  # which says: no scale
        slope, inter = 1.0, 0.0
    return Header(
        shape=(dim[1], dim[2], dim[3]),
        dtype=np.dtype(order + _DTYPES[code]),
        slope=float(slope),
        inter=float(inter) if np.isfinite(inter) else 0.0,
        offset=max(int(offset), _HEADER + 4),
        affine=_affine(raw, order, dim),
        raw=raw,
    )


def _affine(raw: bytes, order: str, dim: tuple[int, ...]) -> NDArray[np.float64]:
    """The sform where there is one, else the qform, else the voxel sizes around the middle."""
    qform, sform = struct.unpack_from(order + "2h", raw, 252)
    affine = np.eye(4)
    if sform > 0:
        affine[:3] = np.array(struct.unpack_from(order + "12f", raw, 280)).reshape(3, 4)
        return affine
    pixdim = np.array(struct.unpack_from(order + "8f", raw, 76))
    sizes = np.abs(pixdim[1:4])
    if qform > 0:
        b, c, d, *shift = struct.unpack_from(order + "6f", raw, 256)
        a = np.sqrt(max(0.0, 1.0 - b * b - c * c - d * d))
        turn = np.array(
            [
                [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
                [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
                [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
            ]
        )
        affine[:3, :3] = turn * sizes * [1, 1, -1 if pixdim[0] < 0 else 1]
        affine[:3, 3] = shift
        return affine
    sizes = sizes * [-1, 1, 1]
    affine[:3, :3] = np.diag(sizes)
    affine[:3, 3] = -sizes * (np.array(dim[1:4]) - 1) / 2
    return affine


def _header_like(like: Header, volumes: int) -> bytes:
    raw = bytearray(like.raw)
    if struct.unpack_from(">i", raw)[0] == _HEADER:
        raw = bytearray(_turned(like.raw))
    dims = (4, *like.shape, volumes) if volumes > 1 else (3, *like.shape, 1)
    struct.pack_into("<8h", raw, 40, *dims, 1, 1, 1)
    struct.pack_into("<2h", raw, 70, _FLOAT32, 32)
    struct.pack_into("<3f", raw, 108, _HEADER + 4, 1.0, 0.0)
    struct.pack_into("<2f", raw, 124, 0.0, 0.0)  # no window of display: it was for other values
    return bytes(raw)


_FIELDS = "i10s18sihcB8h3fhhhh8f3fhcB4f2i80s24s2h6f12f16s4s"


def _turned(raw: bytes) -> bytes:
    """A big-endian header as little-endian."""
    return struct.pack("<" + _FIELDS, *struct.unpack(">" + _FIELDS, raw))
