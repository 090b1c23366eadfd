"""Memory that this process shares by mapping it, made available to workers for mapping.

A forked child inherits what its parent has mapped: the memory of a ``RawArray``, of ``shared_memory``, of an
``mmap`` of a file, and NumPy arrays that lie in it. Workers are forked from another process, so they are lent
the file behind a mapping, and map it themselves. A mapping has one wherever the kernel lets us open it:
anonymous ones (``mmap.mmap(-1, ...)``) only with the right to (``CAP_CHECKPOINT_RESTORE``).
"""

from __future__ import annotations

import mmap
import os
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock import handing


@dataclass(frozen=True, slots=True)
class Mapping:
    """A mapping of this process, shared with all who map the same file."""

    start: int
    end: int
    writable: bool
    offset: int
    """Of its first byte in the file."""
    device: int
    inode: int
    path: str


def around(address: int, size: int) -> Mapping | None:
    """The shared mapping that contains these bytes; None if there is none."""
    with open("/proc/self/maps", errors="surrogateescape") as lines:
        for line in lines:
            start, _, end = line.split(" ", 1)[0].partition("-")
            if int(start, 16) <= address and address + size <= int(end, 16):
                return _mapping(line)
    return None


def _mapping(line: str) -> Mapping | None:
    span, rights, offset, device, inode, *path = line.rstrip("\n").split(None, 5)
    if rights[3] != "s":
        return None
    start, end = (int(each, 16) for each in span.split("-"))
    major, minor = (int(each, 16) for each in device.split(":"))
    number = os.makedev(major, minor)
    return Mapping(start, end, rights[1] == "w", int(offset, 16), number, int(inode), *path or [""])


@contextmanager
def file_of(mapping: Mapping) -> Iterator[int]:
    """A descriptor of the mapped file.

    Raises:
        OSError: it cannot be opened: it has no name, or another file has that by now.
    """
    descriptor = _open(mapping)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _open(mapping: Mapping) -> int:
    flags = os.O_RDWR if mapping.writable else os.O_RDONLY
    with suppress(OSError):
        # Opened only to be looked at first: a device or a pipe may do things when it is opened.
        if Path(mapping.path).stat().st_ino == mapping.inode:
            descriptor = os.open(mapping.path, flags | os.O_CLOEXEC)
            if os.fstat(descriptor).st_ino == mapping.inode:
                return descriptor
            os.close(descriptor)
    for arena in _arenas():
        if os.fstat(arena.fd).st_ino == mapping.inode:
            return os.dup(arena.fd)
    return os.open(f"/proc/self/map_files/{mapping.start:x}-{mapping.end:x}", flags | os.O_CLOEXEC)


def _arenas() -> list[Any]:
    """Files of multiprocessing's own, which have no name any more."""
    heap: Any = sys.modules.get("multiprocessing.heap")
    return [] if heap is None else [each for each in heap.BufferWrapper._heap._arenas if each.fd >= 0]


def root_of(array: Any) -> Any:
    """The object whose memory a NumPy array shows."""
    base = array
    while True:
        below = getattr(base, "base", None)
        if below is None and isinstance(base, memoryview):
            below = base.obj
        if below is None:
            return base
        base = below


def may_be_mapped(array: Any) -> bool:
    """Whether a NumPy array shows foreign memory, which may be shared."""
    root = root_of(array)
    return root is not array and type(root) not in (type(array), bytes, bytearray)


def span(array: Any) -> tuple[int, int]:
    """Address of a NumPy array's first byte and the extent it covers, for any strides."""
    low = high = array.__array_interface__["data"][0]
    for length, stride in zip(array.shape, array.strides, strict=True):
        low += min(stride * (length - 1), 0)
        high += max(stride * (length - 1), 0)
    return low, high + array.itemsize - low


def address_of(mapped: mmap.mmap) -> int | None:
    """The address of an mmap; None if it is read-only."""
    import ctypes

    try:
        return ctypes.addressof(ctypes.c_char.from_buffer(mapped))
    except (TypeError, ValueError):
        return None


# --------------------------------------------------------------------------- in a worker

_mapped: weakref.WeakValueDictionary[tuple[int, int, int, bool], mmap.mmap] = weakref.WeakValueDictionary()
_arenas_here: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


def map_again(number: int, offset: int, size: int, writable: bool) -> mmap.mmap:
    """Map a file that is lent, once for all its users.

    Args:
        number: of the loan.
        offset, size: bytes; the offset is a multiple of a page.
        writable: whether it may be written to, for all.
    """
    key = number, offset, size, writable
    if (mapped := _mapped.get(key)) is None:
        descriptor = handing.ask(str(number).encode())
        access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        try:
            mapped = mmap.mmap(descriptor, size, access=access, offset=offset)
        finally:
            os.close(descriptor)
        _mapped[key] = mapped
    return mapped


def array_in(place: tuple[int, int, int, bool], at: int, dtype: Any, shape: Any, strides: Any) -> Any:
    """A NumPy array in a mapping.

    Args:
        place: arguments of :func:`map_again`.
        at: its first element's offset in the mapping.
        dtype, shape, strides: as NumPy has them.
    """
    import numpy

    return numpy.ndarray(shape, dtype, map_again(*place), at, strides)


def mmap_in(place: tuple[int, int, int, bool], position: int) -> mmap.mmap:
    """An mmap of the same file, at the same position."""
    mapped = map_again(*place)
    mapped.seek(position)
    return mapped


def arena_in(number: int, size: int) -> Any:
    """A block of multiprocessing's shared memory; its file is closed with it."""
    from multiprocessing.heap import Arena

    arena = _arenas_here.get(number)
    if arena is None:
        arena = _arenas_here[number] = Arena(size, handing.ask(str(number).encode()))
        weakref.finalize(arena, os.close, arena.fd).atexit = False
    return arena
