"""Finds the blocks of a BGZF file (bgzip, "blocked gzip") by walking over their headers.

BGZF is a series of gzip members of at most 64 KiB, each with its own size in its header and an
empty one at the end (SAM/BAM specification, section 4.1), so it can be entered at any block.
"""

from __future__ import annotations

import os
from array import array

from penstock.errors import BadInput
from penstock.sources.streams import truncated

_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
_HEAD = 18


def is_bgzf(head: bytes) -> bool:
    """Whether a file that begins with these 18 bytes is blocked gzip."""
    return head[:4] == b"\x1f\x8b\x08\x04" and head[12:16] == b"BC\x02\x00"


def group_blocks(path: str, size: int, span: int) -> tuple[array[int], array[int]] | None:
    """Consecutive blocks in groups of about ``span`` compressed bytes.

    Args:
        path: the file.
        size: its bytes.
        span: compressed bytes after which a new group begins.

    Returns:
        The compressed offset of each group's first block, and its offset in the text; both with
        the end as their last element. None when other gzip members are mixed in.

    Raises:
        BadInput: the file is cut off.
    """
    offsets, places = array("q", [0]), array("q", [0])
    at = text = 0
    descriptor = os.open(path, os.O_RDONLY)
    try:
        head = os.pread(descriptor, _HEAD, 0)
        while at < size:
            if len(head) < _HEAD and not _END.startswith(head[:4]):
                return None  # no block: who reads it says what it is
            if len(head) < _HEAD:
                raise truncated("BGZF", path, size)
            if not is_bgzf(head):
                return None
            block = int.from_bytes(head[16:18], "little") + 1
            if block < len(_END) - 2:  # not even an empty one: the header is not to be believed
                raise BadInput("a damaged BGZF block", file=path, place=f"byte {at}")
            # The last four bytes of a block are its length inflated; the next header follows.
            there = os.pread(descriptor, 4 + _HEAD, at + block - 4)
            if at + block > size or len(there) < 4:
                raise truncated("BGZF", path, size)
            at += block
            text += int.from_bytes(there[:4], "little")
            head = there[4:]
            if at - offsets[-1] >= span and at < size - len(_END):
                offsets.append(at)
                places.append(text)
        if os.pread(descriptor, len(_END), size - len(_END)) != _END:
            raise BadInput(
                "the BGZF file has no end mark, so it is cut off or was not finished: get it again; if it is "
                "whole, write it anew (gzip -dc FILE | bgzip)",
                file=path,
            )
    finally:
        os.close(descriptor)
    offsets.append(size)
    places.append(text)
    return offsets, places
