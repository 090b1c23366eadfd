"""Loads and compares 64 bytes at a time inside compiled code.

Covers masks of bytes, copies and loads at any place of an array of uint8, which numba has no words
for. They are written for 64 bytes; LLVM makes them what the machine has. None checks bounds: the
64 bytes must be there.
"""

# What numba compiles has no types that a checker could follow.
# mypy: allow-untyped-decorators

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_BYTE, _WORD = ir.IntType(8), ir.IntType(64)
_VECTOR = ir.VectorType(_BYTE, 64)


def _vector(byte: int) -> Any:
    return ir.Constant(_VECTOR, [byte] * 64)


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any, kind: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), kind.as_pointer())


@intrinsic
def not_bases(typing: Any, text: Any, at: Any) -> Any:
    """Mask of the bytes among 64 that are not one of ACGTUacgtu; bit 0 is the first."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1], _VECTOR)
        upper = builder.and_(builder.load(pointer, align=1), _vector(0xDF))
        found = builder.icmp_unsigned("==", builder.and_(upper, _vector(0xFE)), _vector(ord("T")))
        for base in b"ACG":
            found = builder.or_(found, builder.icmp_unsigned("==", upper, _vector(base)))
        return builder.not_(builder.bitcast(found, _WORD))

    return types.uint64(text, types.intp), generate


@intrinsic
def strong_bases(typing: Any, text: Any, at: Any) -> Any:
    """Mask of the bytes among 64 that are one of CGcg; bit 0 is the first."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1], _VECTOR)
        folded = builder.and_(builder.load(pointer, align=1), _vector(0xFF & ~0x24))
        found = builder.icmp_unsigned("==", folded, _vector(ord("C")))
        return builder.bitcast(found, _WORD)

    return types.uint64(text, types.intp), generate


@intrinsic
def ones(typing: Any, mask: Any) -> Any:
    """How many bits of a mask are set."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.int64(types.uint64), generate


@intrinsic
def equal(typing: Any, text: Any, at: Any, byte: Any) -> Any:
    """Mask of the bytes among 64 that equal a constant."""
    if not isinstance(byte, types.IntegerLiteral):
        return None
    literal = byte.literal_value

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1], _VECTOR)
        found = builder.icmp_unsigned("==", builder.load(pointer, align=1), _vector(literal))
        return builder.bitcast(found, _WORD)

    return types.uint64(text, types.intp, byte), generate


@intrinsic
def copy(typing: Any, to: Any, at: Any, text: Any, start: Any) -> Any:
    """Copy 64 bytes."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        into = _pointer(context, builder, signature.args[0], args[0], args[1], _VECTOR)
        out = _pointer(context, builder, signature.args[2], args[2], args[3], _VECTOR)
        builder.store(builder.load(out, align=1), into, align=1)
        return context.get_dummy_value()

    return types.none(to, types.intp, text, types.intp), generate


@intrinsic
def eight(typing: Any, text: Any, at: Any) -> Any:
    """Eight bytes as one little-endian number."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1], _WORD)
        return builder.load(pointer, align=1)

    return types.uint64(text, types.intp), generate


@intrinsic
def put_eight(typing: Any, to: Any, at: Any, number: Any) -> Any:
    """Store a number as eight bytes, the lowest first."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(
            args[2], _pointer(context, builder, signature.args[0], args[0], args[1], _WORD), align=1
        )
        return context.get_dummy_value()

    return types.none(to, types.intp, types.uint64), generate


@intrinsic
def lowest(typing: Any, mask: Any) -> Any:
    """Index of the lowest set bit; 64 for none."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), generate


@intrinsic
def unowned(typing: Any, array: Any) -> Any:
    """The same array without its owner, whose reference count every call would change (100 ns for five)."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        view = context.make_array(signature.args[0])(context, builder, args[0])
        view.meminfo = ir.Constant(view.meminfo.type, None)
        view.parent = ir.Constant(view.parent.type, None)
        return view._getvalue()

    return array(array), generate
