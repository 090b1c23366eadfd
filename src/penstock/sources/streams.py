"""Compressed streams, recognised by their first bytes and inflated piece by piece.

Covers gzip (bgzip's blocks too), zstd, bzip2 and xz, with concatenated members, and says of every
stream whether it was whole. Never inflates more than a piece at a time, however well it was
compressed. Does not read files: it is fed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from penstock.errors import BadInput, MissingExtra

PIECE = 256 << 10
"""Most bytes that come out at once."""

_XZ_MEMORY = 512 << 20
"""Bytes that reading xz may take: a dictionary of so much."""

_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
}
_WINDOW_LOG = 31
"""Log2 of the widest window of zstd."""
_SKIPPED = b"\x2a\x4d\x18"
"""Bytes 2 to 4 of a zstd frame that is to be skipped; the first is 0x50 to 0x5f."""
_ARCHIVES = {b"PK\x03\x04": "zip", b"7z\xbc\xaf\x27\x1c": "7z", b"Rar!": "rar"}


def find_kind(head: bytes, file: str) -> str | None:
    """``"gzip"``, ``"zstd"``, ``"bzip2"`` or ``"xz"`` by a file's first bytes; None for plain text.

    Raises:
        BadInput: an archive, which may hold several files.
    """
    for magic, name in _ARCHIVES.items():
        if head.startswith(magic):
            raise BadInput(f"a {name} archive: unpack it, and name the files in it", file=file)
    # A zstd stream may begin with a frame to skip (pzstd, zstd's seekable kind).
    if len(head) >= 4 and head[1:4] == _SKIPPED and head[0] & 0xF0 == 0x50:
        return "zstd"
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)


def _may_begin(data: bytes, kind: str) -> bool:
    """Whether these bytes, of which there may be few, can be the first of another member."""
    if kind == "zstd" and data[0] & 0xF0 == 0x50 and _SKIPPED.startswith(data[1:4]):
        return True
    magic = next(magic for magic, name in _MAGIC.items() if name == kind)
    return data.startswith(magic[: len(data)])


class _Decompressor(Protocol):
    """One member of a stream, as ``bz2.BZ2Decompressor``."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class Inflater:
    """Inflates one stream that is fed to it from its beginning.

    Args:
        kind: as ``find_kind`` says it.
        file: its name, for errors.

    Raises:
        MissingExtra: zstd, and no package for it.
    """

    def __init__(self, kind: str, file: str) -> None:
        self._kind = kind
        self._file = file
        self._new = _decompressors(kind)
        self._member: _Decompressor | None = None
        self._begun = False
        self._fed = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Everything that the next bytes yield, in non-empty pieces of at most 256 KiB.

        Raises:
            BadInput: the stream is damaged, or something else follows it.
        """
        self._fed += len(data)
        while True:
            if self._member is None:
                if self._begun and self._kind in ("gzip", "xz"):
                    data = data.lstrip(b"\0")  # padding, which both formats allow
                if not data:
                    return
                if self._begun and not _may_begin(data, self._kind):
                    raise BadInput(
                        f"{self._kind} data end here, and something else follows ({data[:12]!r}): was it put "
                        "together of files of two kinds, or not written to its end?",
                        file=self._file,
                        place=f"compressed byte {self._fed - len(data)}",
                    )
                self._member, self._begun = self._new(), True
            try:
                piece = self._member.decompress(data, PIECE)
            except Exception as error:  # each library has its own
                raise BadInput(
                    f"damaged {self._kind} data, or something else behind it ({error}): "
                    "get the file again, and compare its checksum",
                    file=self._file,
                    place=f"before compressed byte {self._fed}",
                ) from error
            data = b""
            if self._member.eof:
                data, self._member = self._member.unused_data, None
            if piece:
                yield piece
            elif self._member is not None and self._member.needs_input:
                return

    def end(self) -> tuple[bytes, ...]:
        """The stream has been fed completely.

        Raises:
            BadInput: it is cut off.
        """
        if self._member is not None:
            raise truncated(self._kind, self._file, self._fed)
        return ()


def truncated(kind: str, file: str, size: int) -> BadInput:
    """The error for a compressed file that ends too early."""
    return BadInput(
        f"the {kind} stream is cut off: the file ends in the middle of it. Nothing of it is "
        "used; get the file again, and compare its checksum",
        file=file,
        place=f"byte {size}",
    )


def _decompressors(kind: str) -> Callable[[], _Decompressor]:
    """What makes a decompressor for one member."""
    if kind == "gzip":
        try:
            from isal import igzip_lib
        except ImportError:
            return _Zlib
        return lambda: igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    if kind == "bzip2":
        import bz2

        return bz2.BZ2Decompressor
    if kind == "xz":
        import lzma

        # A file may ask for 4 GiB before it gives a byte; xz -9 takes 65 MiB.
        return lambda: lzma.LZMADecompressor(memlimit=_XZ_MEMORY)
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]  # Python 3.14
    except ImportError:
        try:
            from backports import zstd
        except ImportError:
            raise MissingExtra("reading zstd files", "backports.zstd", "codons") from None
    # Any window that the format allows (zstd --long=31): what it takes is governed like all memory.
    widest = {zstd.DecompressionParameter.window_log_max: _WINDOW_LOG}
    return lambda: zstd.ZstdDecompressor(options=widest)


class _Zlib:
    """zlib's decompressor with the attributes of the others."""

    def __init__(self) -> None:
        import zlib

        self._object = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._object.eof

    @property
    def unused_data(self) -> bytes:
        return self._object.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._object.unconsumed_tail

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._object.decompress(self._object.unconsumed_tail + data, max_length)
