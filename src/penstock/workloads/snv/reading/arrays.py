"""Arrays in files, described but not loaded: .npz members, .npy files, Zarr arrays.

Covers finding out shape, dtype and memory order from headers, streaming the values of an array in the
order in which they lie, and mapping what is not compressed. Never unpickles anything.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from penstock import foreign
from penstock.errors import BadInput
from penstock.files import is_folder
from penstock.foreign_arrays import npy_header
from penstock.workloads.snv.reading.chunked import Chunked
from penstock.workloads.snv.reading.inflating import Inflater

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PIECE = 1 << 18
"""Bytes of an array in memory at a time, about: what is done to them finds them in the cache."""
_STORED, _DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED


@dataclass(frozen=True, slots=True)
class Array:
    """The place and layout of an array.

    Attributes:
        path: the file, or the folder of a Zarr array.
        name: the member of an .npz file; empty otherwise.
        dtype: as NumPy writes it, "<u8".
        shape: its axes are samples, positions and statistics, as many as there are.
        order: the axes from the slowest to the fastest as the values lie: "kps" for a Fortran
            array (samples, positions, statistics), "spk" for a C array.
        offset: bytes before the first value; in the inflated stream where it is deflated.
        kind: "mapped", "deflated" or "zarr".
        begin, packed, crc: of a deflated member: its first byte, compressed bytes and checksum.
    """

    path: str
    name: str
    dtype: str
    shape: tuple[int, ...]
    order: str
    offset: int = 0
    kind: str = "mapped"
    begin: int = 0
    packed: int = 0
    crc: int = 0

    @property
    def label(self) -> str:
        """The name in errors."""
        return f"{self.path}, {self.name}" if self.name else self.path

    @property
    def value_order(self) -> str:
        """The axes from slowest to fastest in the order of the values; for Zarr, by its chunks."""
        if self.kind != "zarr" or len(self.shape) == 1:
            return self.order
        return ("spk" if Chunked(self.path).by_sample else "psk")[: len(self.shape)]

    def map(self) -> NDArray[Any]:
        """The values, memory-mapped, with axes in storage order, see ``order``.

        Raises:
            BadInput: the file is gone.
        """
        lying = tuple(self.shape["spk".index(axis)] for axis in self.order)
        try:
            return np.memmap(self.path, np.dtype(self.dtype), "r", self.offset, lying)
        except FileNotFoundError:
            raise BadInput(
                "is not there any more: a scratch copy is removed when its run has ended; use another folder",
                file=self.path,
            ) from None
        except (OSError, ValueError) as error:
            raise BadInput(f"cannot be read: {error}", file=self.label) from error

    def pieces(self, whole: int = 1, stop: int | None = None) -> Iterator[NDArray[Any]]:
        """The values in storage order, in pieces that are multiples of ``whole`` values.

        Args:
            whole: values that belong together.
            stop: values after which the stream may end; None for all, which are then
                compared with the checksum.

        Raises:
            BadInput: the file is damaged or cut off.
        """
        count = prod(self.shape) if stop is None else stop
        width = np.dtype(self.dtype).itemsize
        step = max(_PIECE // (whole * width), 1) * whole
        if self.kind == "mapped":
            flat = self.map().reshape(-1)
            for at in range(0, count, step):
                yield flat[at : min(at + step, count)]
            return
        with open(self.path, "rb", buffering=0) as file:
            stream = Inflater(file.fileno(), self.begin, self.packed, self.label)
            stream.count_in(stream.read(self.offset))
            for at in range(0, count, step):
                wanted = min(step, count - at)
                yield np.frombuffer(stream.count_in(stream.read(wanted * width)), self.dtype)
            if stop is None:
                stream.check(self.crc)


# ------------------------------------------------------------------ opening


class Arrays(Mapping[str, Array]):
    """The arrays of a file or folder by name, described on demand.

    So one that nobody asks for may hold what is never read, Python objects for example.

    Args:
        describe: of each name, what describes its array, or raises BadInput.
    """

    def __init__(self, describe: Mapping[str, Callable[[], Array]]) -> None:
        self._describe = describe

    def __getitem__(self, name: str) -> Array:
        return self._describe[name]()

    def __contains__(self, name: object) -> bool:
        return name in self._describe

    def __iter__(self) -> Iterator[str]:
        return iter(self._describe)

    def __len__(self) -> int:
        return len(self._describe)


def open_arrays(path: str) -> Arrays:
    """The arrays of an .npz file, a Zarr group, a folder of .npy files, or one .npy file (named ``""``).

    Raises:
        BadInput: it is none of these or is damaged; for an array that is asked for, it holds Python objects,
            naming it.
        MissingExtra: it is Zarr, and zarr is not installed.
    """
    place = Path(path)
    if is_folder(place):
        if any((place / mark).exists() for mark in ("zarr.json", ".zgroup", ".zarray")):
            return Arrays({
                name: partial(_described_zarr, path, name) for name in Chunked(path).names()
            })  # fmt: skip
        found = {file.stem: partial(_described_npy, str(file)) for file in sorted(place.glob("*.npy"))}
        if found:
            return Arrays(found)
        raise BadInput("is a folder with neither a Zarr group nor .npy files in it", file=path)
    try:
        with foreign.opened(path) as file:
            start = file.read(6)
    except OSError as error:
        raise BadInput(f"cannot be read: {error.strerror}", file=path) from error
    if start == b"\x93NUMPY":
        return Arrays({"": partial(_described_npy, path)})
    if start[:2] != b"PK":
        raise BadInput("is no .npz, .npy or Zarr: it begins with " + repr(start), file=path)
    with _whole(path), zipfile.ZipFile(path) as archive:
        members = [entry for entry in archive.infolist() if entry.filename.endswith(".npy")]
    return Arrays({
        entry.filename.removesuffix(".npy"): partial(_described_member, path, entry) for entry in members
    })  # fmt: skip


def small(array: Array) -> NDArray[Any]:
    """All values of a small array, in C order.

    Raises:
        BadInput: it is damaged.
    """
    if array.kind == "zarr":
        values = Chunked(array.path).read(...)
        return np.array(values.tolist()) if values.dtype.kind == "T" else values
    flat = np.concatenate([np.empty(0, array.dtype), *array.pieces()])
    return flat.reshape(array.shape, order="F" if array.order == "spk"[: len(array.shape)][::-1] else "C")


@contextmanager
def _whole(path: str) -> Iterator[None]:
    try:
        yield
    except (BadInput, MemoryError):
        raise
    except Exception as error:  # zipfile and each compression have their own
        raise BadInput(
            f"is no whole .npz file ({error}): was it copied or written to its end?", file=path
        ) from error


def _described_npy(path: str) -> Array:
    with open(path, "rb") as file:
        return _described(path, "", file, offset=0)


def _described_member(path: str, entry: zipfile.ZipInfo) -> Array:
    name = entry.filename.removesuffix(".npy")
    if entry.compress_type not in (_STORED, _DEFLATED):
        raise BadInput("is compressed by a method that NumPy does not write", file=f"{path}, {name}")
    with _whole(path), zipfile.ZipFile(path) as archive, open(path, "rb") as file:
        file.seek(entry.header_offset + 26)
        begin = entry.header_offset + 30 + sum(struct.unpack("<HH", file.read(4)))
        deflated = entry.compress_type == _DEFLATED
        with archive.open(entry) as member:
            array = _described(path, name, member, offset=0 if deflated else begin)
    if not deflated:
        return array
    return replace(array, kind="deflated", begin=begin, packed=entry.compress_size, crc=entry.CRC)


def _described(path: str, name: str, file: BinaryIO | Any, *, offset: int) -> Array:
    label = f"{path}, {name}" if name else path
    try:
        shape, fortran, dtype = npy_header(file)
    except ValueError as error:
        raise BadInput(f"is no NumPy array: {error}", file=label) from error
    if dtype.hasobject:
        raise BadInput("holds Python objects, which are never read: save numbers or strings", file=label)
    axes = "spk"[: len(shape)]
    if len(shape) > 3:
        raise BadInput(f"has {len(shape)} axes", file=label)
    return Array(path, name, dtype.str, shape, axes[::-1] if fortran else axes, offset + file.tell())


def _described_zarr(path: str, name: str) -> Array:
    place = str(Path(path) / name) if name else path
    array = Chunked(place).opened
    if not hasattr(array, "shape"):
        raise BadInput("is a Zarr group; an array was expected", file=f"{path}, {name}")
    text = array.dtype.kind == "T"  # of any length; NumPy counts it among the objects
    codecs = [str(getattr(codec, "codec_id", codec)) for codec in (*array.filters, *array.compressors)]
    pickled = any("pickle" in codec.lower() for codec in codecs)
    if pickled or (array.dtype.hasobject and not text) or len(array.shape) > 3:
        raise BadInput(
            "holds Python objects, which are never read, or has more than 3 axes", file=f"{path}, {name}"
        )
    axes = "spk"[: len(array.shape)]
    return Array(place, "", "<U1" if text else array.dtype.str, tuple(array.shape), axes, kind="zarr")
