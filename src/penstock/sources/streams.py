"""Compressed streams, told by their first bytes and inflated piece by piece.

Covers gzip (bgzip's blocks too), zstd, bzip2 and xz, with concatenated members, and says of every
stream whether it was whole. Never inflates more than a piece at a time, however well it was
compressed. Does not read files: it is fed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

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
    if len(head) >= 4 and head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50:
        return "zstd"
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)


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
        """Everything that these next bytes give, in pieces of at most 256 KiB, none of them empty.

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

    def end(self) -> None:
        """The stream has been fed whole.

        Raises:
            BadInput: it is cut off.
        """
        if self._member is not None:
            raise truncated(self._kind, self._file, self._fed)


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

        return zstd.ZstdDecompressor  # type: ignore[no-any-return,unused-ignore]
    except ImportError:
        pass
    try:
        import zstandard
    except ImportError:
        raise MissingExtra("reading zstd files", "zstandard", "codons") from None
    return lambda: _Zstd(zstandard.ZstdDecompressor().decompressobj())


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


class _Zstd:
    """One zstd frame for the package ``zstandard``, which cannot limit what comes out at once.

    So it is given one block at a time, which holds at most 128 KiB (RFC 8878, 3.1.1).
    """

    def __init__(self, frame: Any) -> None:
        self._frame = frame
        self._held = b""
        self._need = 0  # bytes of the header that is looked for, then of the block
        self._next = self._header
        self._checksum = 0
        self.eof = False
        self.unused_data = b""

    @property
    def needs_input(self) -> bool:
        return len(self._held) < max(self._need, 4)

    def decompress(self, data: bytes, max_length: int) -> bytes:
        self._held += data
        while not self.eof and len(self._held) >= max(self._need, 1):
            piece = self._next()
            if piece:
                return piece
            if piece is None:
                break
        return b""

    def _take(self, size: int) -> bytes:
        taken, self._held = self._held[:size], self._held[size:]
        return taken

    def _end(self) -> None:
        self.eof, self.unused_data, self._held = True, self._held, b""

    def _header(self) -> bytes | None:
        self._need = 5
        if len(self._held) >= 4 and self._held[1:4] == b"\x2a\x4d\x18":
            self._need = 8
            if len(self._held) >= 8:
                self._need = int.from_bytes(self._held[4:8], "little")
                self._take(8)
                self._next = self._skip
                return b""
            return None
        if len(self._held) < 5:
            return None
        flags = self._held[4]
        alone = flags >> 5 & 1
        content = (1 if alone else 0, 2, 4, 8)[flags >> 6]
        self._need = 5 + (1 - alone) + (0, 1, 2, 4)[flags & 3] + content
        if len(self._held) < self._need:
            return None
        self._checksum = 4 * (flags >> 2 & 1)
        self._frame.decompress(self._take(self._need))
        self._need, self._next = 3, self._block
        return b""

    def _skip(self) -> bytes | None:
        skipped = self._take(self._need)
        self._need -= len(skipped)
        if self._need:
            return None
        self._end()
        return b""

    def _block(self) -> bytes | None:
        head = int.from_bytes(self._held[:3], "little")
        last, kind, size = head & 1, head >> 1 & 3, head >> 3
        self._need = 3 + (1 if kind == 1 else size) + (self._checksum if last else 0)
        if len(self._held) < self._need:
            return None
        piece: bytes = self._frame.decompress(self._take(self._need))
        self._need = 3
        if last:
            self._end()
        return piece
