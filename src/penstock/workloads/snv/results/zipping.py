"""Assembles an .npz file from members that were deflated piece by piece, in any process.

A deflated piece that ends with a full flush can be followed by another, and checksums of pieces combine to
that of the whole, so compressing needs no one who sees all of it. Sizes are 64-bit everywhere (ZIP64).
Format: PKWARE APPNOTE 6.3.10, sections 4.3.7 to 4.3.16.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.util import find_spec
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

_POLYNOMIAL = 0xEDB88320
_ONE = 1 << 31
"""x to the power of 0: the lowest power is the highest bit."""
_END = b"\x03\x00"
"""An empty last block."""
_DATE = 33
"""1 January 1980: the same bytes at any time."""
_LARGE = 0xFFFFFFFF
"""The size stands in the ZIP64 field."""


def deflate(data: Any) -> tuple[bytes, int]:
    """Compress a piece, with zlib-ng if it is installed; returns its checksum too.

    zlib-ng 2.3.3 gave the same bytes on an EPYC (AVX2) and on qemu's Nehalem, Westmere and Haswell; none with
    AVX-512 was tried. isal did not (1.9.1): its level 3 gives others where there is no AVX2, and its levels 1
    and 2 give others now and then from process to process, one small piece in 10,000.
    """
    library, level = _library()
    stream = library.compressobj(level, zlib.DEFLATED, -15)
    return stream.compress(data) + stream.flush(zlib.Z_FULL_FLUSH), library.crc32(data)


@cache
def _library() -> tuple[Any, int]:
    if find_spec("zlib_ng") is None:
        return zlib, 1
    from zlib_ng import zlib_ng

    return zlib_ng, 2


def combine(first: int, second: int, length: int) -> int:
    """The checksum of two concatenated pieces, the second of ``length`` bytes."""
    return _times(first, _power(length)) ^ second


def _times(a: int, b: int) -> int:
    """The product of two polynomials, modulo that of CRC-32."""
    product = 0
    while a:
        if a & _ONE:
            product ^= b
        a = (a << 1) & 0xFFFFFFFF
        b = (b >> 1) ^ (_POLYNOMIAL if b & 1 else 0)
    return product


@lru_cache(maxsize=64)
def _power(length: int) -> int:
    """x to the power of the bits in ``length`` bytes."""
    power, square = _ONE, _ONE >> 8
    while length:
        if length & 1:
            power = _times(power, square)
        square = _times(square, square)
        length >>= 1
    return power


@dataclass(slots=True)
class _Entry:
    name: bytes
    at: int
    crc: int = 0
    packed: int = 0
    size: int = 0


class NpzWriter:
    """Writes members one after the other: ``begin``, any number of ``add``, ``end``.

    Args:
        file: new and empty; can seek.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._entries: list[_Entry] = []

    def __enter__(self) -> NpzWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._finish()

    def begin(self, name: str, dtype: Any, shape: tuple[int, ...]) -> None:
        """Begin a member: an array whose values will follow in Fortran order."""
        entry = _Entry(f"{name}.npy".encode(), self._file.tell())
        self._entries.append(entry)
        self._file.write(self._local(entry))
        header = io.BytesIO()
        layout = {"descr": np.dtype(dtype).str, "fortran_order": len(shape) > 1, "shape": shape}
        np.lib.format.write_array_header_2_0(header, layout)
        self.add_plain(header.getvalue())

    def add_plain(self, data: Any) -> None:
        """Append uncompressed bytes to the member."""
        packed, crc = deflate(data)
        self._file.write(packed)
        self._count(crc, len(packed), memoryview(data).nbytes)

    def add(self, descriptor: int, at: int, packed: int, size: int, crc: int) -> None:
        """Append a deflated piece from another file."""
        self._file.flush()
        append(self._file.fileno(), descriptor, at, packed)
        self._file.seek(0, os.SEEK_END)
        self._count(crc, packed, size)

    def end(self) -> None:
        """Finish the member."""
        entry = self._entries[-1]
        self._file.write(_END)
        entry.packed += len(_END)
        self._file.seek(entry.at)
        self._file.write(self._local(entry))
        self._file.seek(0, os.SEEK_END)

    def _count(self, crc: int, packed: int, size: int) -> None:
        entry = self._entries[-1]
        entry.crc = combine(entry.crc, crc, size)
        entry.packed += packed
        entry.size += size

    def _local(self, entry: _Entry) -> bytes:
        name = entry.name
        fixed = struct.pack(
            "<4s5H3I2H", b"PK\3\4", 45, 0, zlib.DEFLATED, 0, _DATE, entry.crc, _LARGE, _LARGE, len(name), 20
        )
        return fixed + name + struct.pack("<2H2Q", 1, 16, entry.size, entry.packed)

    def _finish(self) -> None:
        file, begin = self._file, self._file.tell()
        for entry in self._entries:
            fixed = struct.pack(
                "<4s6H3I5H2I", b"PK\1\2", 45, 45, 0, zlib.DEFLATED, 0, _DATE, entry.crc, _LARGE, _LARGE,
                len(entry.name), 28, 0, 0, 0, 0, _LARGE,
            )  # fmt: skip
            file.write(fixed + entry.name + struct.pack("<2H3Q", 1, 24, entry.size, entry.packed, entry.at))
        end, count = file.tell(), len(self._entries)
        file.write(
            struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, end - begin, begin)
            + struct.pack("<4sIQI", b"PK\6\7", 0, end, 1)
            + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count, count, _LARGE, _LARGE, 0)
        )


def append(target: int, source: int, at: int, count: int) -> None:
    """Append bytes of one file to another, within the kernel.

    Raises:
        OSError: the disk is full, or the source ends before.
    """
    os.lseek(target, 0, os.SEEK_END)
    while count:
        moved = os.sendfile(target, source, at, count)
        if not moved:
            raise OSError(f"a part ends {count} bytes before its end: was it changed?")
        at, count = at + moved, count - moved
