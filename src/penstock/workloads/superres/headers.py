"""Headers of volumes: NIfTI-1 and NIfTI-2 (in one file or two), and MGH, gzipped or not.

Headers are read here, and not by a library, because the reader must know where the voxels begin in a stream
and hold nothing but a plane of them. nibabel is what the tests compare with.
"""

from __future__ import annotations

import gzip
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from penstock.errors import BadInput

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEADER = 348
"""Bytes of a NIfTI-1 header."""
_HEADER_2 = 540
_MGH = 284
_DTYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8",
}  # fmt: skip
_MGH_DTYPES = {0: "u1", 1: "i4", 3: "f4", 4: "i2"}
_MAGIC_2 = {b"n+2\0\r\n\x1a\n": True, b"ni2\0\r\n\x1a\n": False}
_FARTHEST = 1 << 31
"""Bytes behind which no voxels begin."""
_FLOAT32 = 16


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a volume.

    Attributes:
        shape: voxels along i, j and k.
        dtype: of the voxels in the file.
        slope, inter: value = voxel * slope + inter.
        offset: where the voxels begin.
        affine: voxel indices to millimetres, float64 (4, 4).
        raw: a NIfTI-1 header of the same geometry, 348 bytes, little-endian.
        voxels: the file that holds them.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    slope: float
    inter: float
    offset: int
    affine: NDArray[np.float64]
    raw: bytes
    voxels: str = ""

    @property
    def plane_bytes(self) -> int:
        """Bytes of one plane in the file."""
        return self.shape[0] * self.shape[1] * self.dtype.itemsize

    @property
    def placed(self) -> bool:
        """Whether a qform or an sform gives the head's orientation; else left and right are unknown."""
        return any(self.raw[252:256])


def read_header(path: str | Path) -> Header:
    """Read the header of a ``.nii``, ``.mgh``, or ``.hdr`` + ``.img`` (either may be named), gzipped or not.

    Raises:
        BadInput: it cannot be read, or is not one 3D volume of numbers in one of these formats.
    """
    first = files_of(path)[0]
    try:
        with open_stream(first) as file:
            raw = file.read(_HEADER_2)
    except FileNotFoundError:
        raise BadInput("no such file", file=first) from None
    except Exception as error:
        raise unreadable(error, first) from error
    if len(raw) >= _MGH and struct.unpack_from(">i", raw)[0] == 1:
        return _mgh(raw, path)
    for sign in "<>":
        if len(raw) >= _HEADER_2 and struct.unpack_from(sign + "i", raw)[0] == _HEADER_2:
            return _nifti_2(raw, sign, path)
        if len(raw) >= HEADER and struct.unpack_from(sign + "i", raw)[0] == HEADER:
            return _nifti_1(raw[:HEADER], sign, path)
    raise BadInput(_what_it_is(raw), file=path)


def files_of(path: str | Path) -> tuple[str, ...]:
    """The files of a volume, the header's first: two if header and voxels are separate."""
    text = str(path)
    for zipped in ("", ".gz"):
        for end, other in ((".hdr", ".img"), (".img", ".hdr")):
            if text.endswith(end + zipped):
                pair = text.removesuffix(end + zipped) + other
                # Only one of the two may be zipped.
                beside = next((pair + each for each in (zipped, "", ".gz") if Path(pair + each).exists()), "")
                found = (text, beside or pair + zipped)
                return found if end == ".hdr" else found[::-1]
    return (text,)


def unreadable(error: Exception, file: str | Path, place: str | None = None) -> BadInput:
    """The error for what a file or its library raised; each library has its own errors.

    Raises:
        MemoryError: that was the error.
    """
    if isinstance(error, MemoryError):
        raise error
    if isinstance(error, OSError) and error.errno is not None:
        return BadInput(f"cannot be read: {error.strerror}", file=file, place=place)
    return BadInput(f"is damaged: {error}", file=file, place=place)


def open_stream(path: str | Path) -> IO[bytes]:
    """Open a file from its beginning, decompressed if it is gzipped."""
    with open(path, "rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    opened: IO[bytes] = gzip_library().open(path, "rb") if zipped else open(path, "rb")  # noqa: SIM115 - given away
    return opened


def gzip_library() -> Any:
    """The gzip module: isal's if it is installed, else the standard library's."""
    try:
        from isal import igzip
    except ImportError:
        return gzip
    return igzip


def _what_it_is(raw: bytes) -> str:
    """Why these first bytes are no header."""
    if len(raw) < HEADER and raw[:1] != b"<":
        return f"{len(raw)} bytes, and a NIfTI header has {HEADER}"
    if raw[128:132] == b"DICM":
        return "is DICOM; convert it first, for example with dcm2niix"
    if raw[:4] == b"NRRD":
        return "is NRRD; convert it to NIfTI first"
    return "is neither NIfTI (.nii, .hdr with .img) nor MGH (.mgz); convert it first"


# ------------------------------------------------------------------ NIfTI


def _nifti_1(raw: bytes, order: str, path: str | Path) -> Header:
    magic = raw[344:348]
    if magic not in (b"n+1\0", b"ni1\0"):
        raise BadInput(
            "is an Analyze file, which does not say how the head lies; convert it to NIfTI first", file=path
        )
    dim = struct.unpack_from(order + "8h", raw, 40)
    (code,) = struct.unpack_from(order + "h", raw, 70)
    offset, slope, inter = struct.unpack_from(order + "3f", raw, 108)
    sizes = struct.unpack_from(order + "8f", raw, 76)
    qform, sform = struct.unpack_from(order + "2h", raw, 252)
    quaternion = struct.unpack_from(order + "6f", raw, 256)
    rows = struct.unpack_from(order + "12f", raw, 280)
    return _nifti(
        path, order, dim, code, offset, (slope, inter), magic == b"n+1\0",
        _affine(dim, sizes, qform, sform, quaternion, rows, path), raw if order == "<" else _turned(raw),
    )  # fmt: skip


def _nifti_2(raw: bytes, order: str, path: str | Path) -> Header:
    if raw[4:12] not in _MAGIC_2:
        raise BadInput("its header has the size of NIfTI-2 and not its mark: is it damaged?", file=path)
    (code,) = struct.unpack_from(order + "h", raw, 12)
    dim = struct.unpack_from(order + "8q", raw, 16)
    sizes = struct.unpack_from(order + "8d", raw, 104)
    (offset,) = struct.unpack_from(order + "q", raw, 168)
    scale = struct.unpack_from(order + "2d", raw, 176)
    qform, sform = struct.unpack_from(order + "2i", raw, 344)
    quaternion = struct.unpack_from(order + "6d", raw, 352)
    rows = struct.unpack_from(order + "12d", raw, 400)
    affine = _affine(dim, sizes, qform, sform, quaternion, rows, path)
    units = struct.unpack_from(order + "i", raw, 500)[0]
    made = made_header(dim[1:4], affine, placed=qform > 0 or sform > 0, units=units)
    return _nifti(path, order, dim, code, offset, scale, _MAGIC_2[raw[4:12]], affine, made)


def _nifti(
    path: str | Path, order: str, dim: Any, code: int, offset: float, scale: Any, one_file: bool, affine: Any,
    raw: bytes,
) -> Header:  # fmt: skip
    count = dim[0]
    if not 3 <= count <= 7 or min(dim[1 : 1 + count]) < 1 or any(n != 1 for n in dim[4 : 1 + count]):
        shape = dim[1 : 1 + max(min(count, 7), 0)]
        raise BadInput(f"its shape is {tuple(shape)}; one 3D volume was expected", file=path)
    if code not in _DTYPES:
        raise BadInput(
            f"its voxels are of NIfTI type {code}; real numbers of 1 to 8 bytes are read", file=path
        )
    slope, inter = scale
    if not math.isfinite(slope) or slope == 0:  # which says: no scale
        slope, inter = 1.0, 0.0
    if not math.isfinite(inter):
        raise BadInput(f"its scale is {slope} and its intercept {inter}: which values are meant?", file=path)
    if not math.isfinite(offset) or not 0 <= offset < _FARTHEST:
        raise BadInput(f"says that its voxels begin at byte {offset:g}: is it damaged?", file=path)
    return Header(
        shape=(int(dim[1]), int(dim[2]), int(dim[3])),
        dtype=np.dtype(order + _DTYPES[code]),
        slope=float(slope),
        inter=float(inter),
        offset=max(int(offset), HEADER + 4) if one_file else int(offset),
        affine=affine,
        raw=raw,
        voxels=files_of(path)[-1],
    )


def _affine(
    dim: Any, sizes: Any, qform: int, sform: int, quaternion: Any, rows: Any, path: str | Path
) -> NDArray[np.float64]:
    """The sform where there is one, else the qform, else the voxel sizes around the middle."""
    affine = np.eye(4)
    lengths = np.abs(np.array(sizes[1:4], np.float64))
    if sform > 0:
        affine[:3] = np.array(rows, np.float64).reshape(3, 4)
    elif qform > 0:
        affine[:3, :3] = _turn(quaternion[:3], path) * lengths * [1, 1, -1 if sizes[0] < 0 else 1]
        affine[:3, 3] = quaternion[3:]
    else:
        lengths = lengths * [-1, 1, 1]
        affine[:3, :3] = np.diag(lengths)
        affine[:3, 3] = -lengths * (np.array(dim[1:4]) - 1) / 2
    if not np.isfinite(affine).all():
        raise BadInput("its affine is not finite: nobody knows where its voxels lie", file=path)
    return affine


def _turn(quaternion: Any, path: str | Path) -> NDArray[np.float64]:
    """The rotation of a unit quaternion, of which the first part is not stored."""
    b, c, d = quaternion
    rest = 1.0 - (b * b + c * c + d * d)
    if not rest >= -3e-6:  # what float32 may be off
        raise BadInput(f"its quaternion ({b:g}, {c:g}, {d:g}) is longer than 1: it is no rotation", file=path)
    a = math.sqrt(max(0.0, rest))
    return np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )


def made_header(shape: Any, affine: NDArray[np.float64], *, placed: bool, units: int = 2) -> bytes:
    """A NIfTI-1 header with this geometry."""
    raw = bytearray(HEADER)
    struct.pack_into("<i", raw, 0, HEADER)
    sizes = np.sqrt((affine[:3, :3] ** 2).sum(0))
    # Shapes that NIfTI-1 cannot say are refused when they are written.
    struct.pack_into("<8h", raw, 40, 3, *(min(int(n), 32767) for n in shape), 1, 1, 1, 1)
    struct.pack_into("<8f", raw, 76, 1, *sizes, 1, 1, 1, 1)
    raw[123] = units & 0xFF
    struct.pack_into("<2h", raw, 252, 0, int(placed))
    struct.pack_into("<12f", raw, 280, *affine[:3].ravel())
    raw[344:348] = b"n+1\0"
    return bytes(raw)


_FIELDS = "i10s18sihcB8h3fhhhh8f3fhcB4f2i80s24s2h6f12f16s4s"


def _turned(raw: bytes) -> bytes:
    """A big-endian header as little-endian."""
    return struct.pack("<" + _FIELDS, *struct.unpack(">" + _FIELDS, raw))


def header_like(like: Header, volumes: int) -> bytes:
    """A header of float32 voxels in one file with the geometry of another.

    Raises:
        BadInput: an axis is too long for NIfTI-1.
    """
    if max(like.shape) > 32767:
        raise BadInput(f"its shape is {like.shape}; a NIfTI-1 file has at most 32,767 voxels along an axis")
    raw = bytearray(like.raw)
    dims = (4, *like.shape, volumes) if volumes > 1 else (3, *like.shape, 1)
    struct.pack_into("<8h", raw, 40, *dims, 1, 1, 1)
    struct.pack_into("<2h", raw, 70, _FLOAT32, 32)
    struct.pack_into("<3f", raw, 108, HEADER + 4, 1.0, 0.0)
    struct.pack_into("<2f", raw, 124, 0.0, 0.0)  # no window of display: it was for other values
    raw[344:348] = b"n+1\0"
    return bytes(raw)


# ------------------------------------------------------------------ MGH


def _mgh(raw: bytes, path: str | Path) -> Header:
    _, *shape, frames, code, _ = struct.unpack_from(">7i", raw)
    if min(shape) < 1 or frames != 1:
        raise BadInput(f"its shape is {(*shape, frames)}; one 3D volume was expected", file=path)
    if code not in _MGH_DTYPES:
        raise BadInput(f"its voxels are of MGH type {code}; numbers of 1 to 4 bytes are read", file=path)
    (good,) = struct.unpack_from(">h", raw, 28)
    sizes = np.array(struct.unpack_from(">3f", raw, 30), np.float64)
    turn = np.array(struct.unpack_from(">9f", raw, 42), np.float64).reshape(3, 3).T
    centre = np.array(struct.unpack_from(">3f", raw, 78), np.float64)
    if good <= 0:  # not placed: taken for coronal slices, as by nibabel
        sizes, centre = np.ones(3), np.zeros(3)
        turn = np.array([[-1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    affine = np.eye(4)
    affine[:3, :3] = turn * sizes
    affine[:3, 3] = centre - affine[:3, :3] @ (np.array(shape) / 2)
    if not np.isfinite(affine).all():
        raise BadInput("its affine is not finite: nobody knows where its voxels lie", file=path)
    return Header(
        shape=(shape[0], shape[1], shape[2]),
        dtype=np.dtype(">" + _MGH_DTYPES[code]),
        slope=1.0,
        inter=0.0,
        offset=_MGH,
        affine=affine,
        raw=made_header(shape, affine, placed=good > 0),
        voxels=str(path),
    )
