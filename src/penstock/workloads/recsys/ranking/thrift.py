"""Thrift's compact protocol, as far as Parquet footers and page headers need it.

A structure is ``{field: (type, value)}``; a list ``(type of its elements, values)``. The protocol:
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, STRUCT = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12

_BYTES = [bytes([value]) for value in range(0x100)]

Struct = dict[int, tuple[int, Any]]


END = b"\0"
"""What a structure ends with."""


def encode(struct: Struct, after: int = 0) -> bytes:
    """Encode a structure; or the rest of one, after the fields in ``after``."""
    out = bytearray()
    _put_struct(out, struct, after)
    return bytes(out)


def number(step: int, kind: int, value: int) -> bytes:
    """An integer whose field id is ``step`` (at most 15) above the previous one."""
    return _BYTES[step << 4 | kind] + _zigzag(value)


def begin(step: int) -> bytes:
    """The head of a nested structure; its fields and ``END`` follow."""
    return _BYTES[step << 4 | STRUCT]


def structs(step: int, values: Sequence[bytes]) -> bytes:
    """A list of structures that are already encoded."""
    count = len(values)
    size = bytes([count << 4 | STRUCT]) if count < 15 else bytes([0xF0 | STRUCT]) + varint(count)
    return bytes([step << 4 | LIST]) + size + b"".join(values)


def decode(data: bytes) -> Struct:
    """Decode the structure at the start of these bytes.

    Raises:
        ValueError: they are none, or cut off.
    """
    try:
        return _Reader(data).struct()
    except IndexError:
        raise ValueError("a thrift structure is cut off") from None


def varint(value: int) -> bytes:
    """An unsigned number in groups of seven bits, lowest first."""
    out = b""
    while value > 0x7F:
        out += _BYTES[value & 0x7F | 0x80]
        value >>= 7
    return out + _BYTES[value]


def _zigzag(value: int) -> bytes:
    return varint(value << 1 if value >= 0 else (-value << 1) - 1)


def _put_struct(out: bytearray, struct: Struct, last: int = 0) -> None:
    for field in sorted(struct):
        kind, value = struct[field]
        if kind in (TRUE, FALSE):
            kind = TRUE if value else FALSE
        if 0 < field - last <= 15:
            out.append((field - last) << 4 | kind)
        else:
            out.append(kind)
            out += _zigzag(field)
        last = field
        if kind not in (TRUE, FALSE):
            _put(out, kind, value)
    out.append(0)


def _put(out: bytearray, kind: int, value: Any) -> None:
    if kind in (TRUE, FALSE):
        out.append(TRUE if value else FALSE)
    elif kind == BYTE:
        out.append(value & 0xFF)
    elif kind in (I16, I32, I64):
        out += _zigzag(value)
    elif kind == DOUBLE:
        out += value
    elif kind == BINARY:
        out += varint(len(value)) + value
    elif kind in (LIST, SET):
        of, values = value
        if len(values) < 15:
            out.append(len(values) << 4 | of)
        else:
            out.append(0xF0 | of)
            out += varint(len(values))
        for each in values:
            _put(out, of, each)
    elif kind == STRUCT:
        _put_struct(out, value)
    else:
        raise ValueError(f"thrift type {kind}")


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def struct(self) -> Struct:
        found: Struct = {}
        last = 0
        while head := self._byte():
            kind = head & 0x0F
            last = last + (head >> 4) if head >> 4 else self._number()
            found[last] = (kind, kind == TRUE if kind in (TRUE, FALSE) else self._value(kind))
        return found

    def _value(self, kind: int) -> Any:
        if kind in (TRUE, FALSE):
            return self._byte() == TRUE
        if kind == BYTE:
            return self._byte()
        if kind in (I16, I32, I64):
            return self._number()
        if kind == DOUBLE:
            return self._take(8)
        if kind == BINARY:
            return self._take(self._varint())
        if kind in (LIST, SET):
            head = self._byte()
            size = head >> 4 if head >> 4 < 15 else self._varint()
            return head & 0x0F, [self._value(head & 0x0F) for _ in range(size)]
        if kind == STRUCT:
            return self.struct()
        raise ValueError(f"thrift type {kind}")

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _take(self, size: int) -> bytes:
        self._at += size
        if self._at > len(self._data):
            raise IndexError
        return self._data[self._at - size : self._at]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def _number(self) -> int:
        value = self._varint()
        return value >> 1 if not value & 1 else -(value >> 1) - 1
