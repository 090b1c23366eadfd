"""Deflated members of .npz files as streams: inflated from the beginning, exactly as far as needed.

A deflated stream cannot be entered in the middle. It can be read once (by isal, where that is installed), or
by several cursors: a pass over it leaves a copy of the inflater wherever one is to begin (by zlib, whose
inflaters can be copied; 40 KiB each).
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from penstock.errors import BadInput

_FEED = 1 << 18
_FEED_OF_MANY = 1 << 13
"""Compressed bytes read at once; what an inflater has not used yet it holds."""
_SKIP = 1 << 18


class Inflater:
    """Reads a deflated member.

    Args:
        descriptor: of the open file; read by offset, so several may share it.
        begin, packed: its first byte, and how many compressed bytes there are.
        label: for errors.
        copies: whether it can be copied.
    """

    def __init__(self, descriptor: int, begin: int, packed: int, label: str, *, copies: bool = False) -> None:
        self._descriptor, self._label = descriptor, label
        self._place, self._end = begin, begin + packed
        self._feed = _FEED_OF_MANY if copies else _FEED
        self._isal = not copies and find_spec("isal") is not None
        self._crc = 0
        if self._isal:
            from isal import igzip_lib, isal_zlib

            self._stream: Any = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_DEFLATE)
            self._crc32: Any = isal_zlib.crc32
        else:
            self._stream, self._crc32 = zlib.decompressobj(-15), zlib.crc32

    def read(self, count: int) -> bytes:
        """The next ``count`` bytes.

        Raises:
            BadInput: the member is damaged, or ends before.
        """
        parts, missing = [], count
        while missing:
            part = self._some(missing)
            parts.append(part)
            missing -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def skip(self, count: int) -> None:
        """Inflate and discard."""
        while count:
            count -= len(self._some(min(count, _SKIP)))

    def count_in(self, data: bytes) -> bytes:
        """Add bytes that were read to the checksum."""
        self._crc = self._crc32(data, self._crc)
        return data

    def check(self, crc: int) -> None:
        """Compare the checksum, if all that was read was added.

        Raises:
            BadInput: it is another one.
        """
        if self._crc != crc:
            raise BadInput("is damaged: its checksum does not match", file=self._label)

    def copy(self) -> Inflater:
        """An independent inflater at the same position."""
        other = object.__new__(Inflater)
        other.__dict__.update(self.__dict__)
        other._stream = self._stream.copy()
        return other

    def _some(self, most: int) -> bytes:
        try:
            while not self._stream.eof:
                feed, hungry = b"", self._hungry()
                if hungry:
                    feed = os.pread(self._descriptor, min(self._end - self._place, self._feed), self._place)
                    self._place += len(feed)
                part = self._inflate(feed, most)
                if part:
                    return part
                if hungry and not feed:
                    break  # what it had was not enough, and there is no more
        except Exception as error:
            raise BadInput(f"is damaged: {error}", file=self._label) from error
        raise BadInput("is cut off: the file ends before its values do", file=self._label)

    def _hungry(self) -> bool:
        return bool(self._stream.needs_input) if self._isal else not self._stream.unconsumed_tail

    def _inflate(self, feed: bytes, most: int) -> bytes:
        data = feed if self._isal else self._stream.unconsumed_tail or feed
        inflated: bytes = self._stream.decompress(data, most)
        return inflated


def cursors(inflater: Inflater, starts: Sequence[int]) -> Iterator[Inflater]:
    """A copy of an inflater at each of some offsets, in one pass up to the last of them.

    Args:
        inflater: at its beginning; can be copied.
        starts: bytes from there, ascending.
    """
    at = 0
    for start in starts:
        inflater.skip(start - at)
        at = start
        yield inflater.copy()
