"""Image headers: kind, size and coding from a picture's first bytes, before anything is decoded.

A size is believed for one thing only: to refuse what would be too large. JPEG's markers and PNG's header are
read; everything else is no picture here.
"""

from __future__ import annotations

from typing import NamedTuple

MOST_PIXELS = 64_000_000
"""Four times the largest films; what is larger is refused, however much memory there is."""
MOST_BYTES = 256 << 20
_LINES = 2_000_000
"""About what a decoder takes that works line by line."""
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_BITS = {"JPEG": (8,), "PNG": (1, 2, 4, 8, 16)}
_CHANNELS = {"JPEG": (1, 3, 4), "PNG": (1, 2, 3, 4)}
"""What a decoder takes: nothing else may weigh nothing, or so much that a broken film lacks memory."""
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_SIZES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
"""Markers of JPEG that tell the size."""
_ALONE = {0x01, *range(0xD0, 0xD8)}
"""Markers of JPEG without a length."""


class BadImage(Exception):
    """A file that is not a usable film.

    Attributes:
        reason: a word of ours, with nothing of the file in it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Header(NamedTuple):
    """The header of a picture.

    Attributes:
        kind: ``"JPEG"`` or ``"PNG"``.
        width, height: pixels.
        channels: 1 grey, 3 colour, 4 CMYK or with alpha.
        bits: of a channel.
        progressive: whether a decoder must hold all of its coefficients at once.
    """

    kind: str
    width: int
    height: int
    channels: int
    bits: int
    progressive: bool

    @property
    def memory(self) -> int:
        """Estimated bytes for decoding: a baseline JPEG is decoded at reduced size, line by line."""
        pixels = self.width * self.height
        if self.kind == "JPEG":
            return 2 * pixels * self.channels if self.progressive else _LINES + pixels * self.channels // 16
        return pixels * (self.channels * max(self.bits, 8) // 8 + 2)


def read_header(start: bytes) -> Header | None:
    """Parse a file's first bytes; None if they end too early.

    Args:
        start: its first bytes, all of them where it is short.

    Raises:
        BadImage: it is empty, something else, damaged, or too large.
    """
    if not start:
        raise BadImage("image_empty")
    if start[128:132] == b"DICM":
        raise BadImage("image_is_dicom")
    if start.startswith(_PNG):
        found = _png(start)
    elif start.startswith(b"\xff\xd8"):
        found = _jpeg(start)
    else:
        raise BadImage("image_not_image")
    if found is not None:
        known = found.bits in _BITS[found.kind] and found.channels in _CHANNELS[found.kind]
        if not known or not found.width or not found.height:
            raise BadImage("image_damaged")
        if found.width * found.height > MOST_PIXELS:
            raise BadImage("image_too_large")
    return found


def _png(start: bytes) -> Header | None:
    if len(start) < 33:
        return None
    width, height = int.from_bytes(start[16:20], "big"), int.from_bytes(start[20:24], "big")
    channels = _PNG_CHANNELS.get(start[25])
    if start[12:16] != b"IHDR" or channels is None:
        raise BadImage("image_damaged")
    return Header("PNG", width, height, channels, start[24], False)


def _jpeg(start: bytes) -> Header | None:
    at, end = 2, len(start)
    while at + 4 <= end:
        if start[at] != 0xFF:
            raise BadImage("image_damaged")
        marker = start[at + 1]
        if marker in _SIZES:
            if at + 10 > end:
                return None
            height, width = start[at + 5] << 8 | start[at + 6], start[at + 7] << 8 | start[at + 8]
            return Header("JPEG", width, height, start[at + 9], start[at + 4], marker in _PROGRESSIVE)
        if marker == 0xFF:  # filling
            at += 1
        elif marker in _ALONE:
            at += 2
        elif marker in (0xD9, 0xDA):  # the end, or pixels, before any size was told
            raise BadImage("image_damaged")
        else:
            at += 2 + (start[at + 2] << 8 | start[at + 3])
    return None
