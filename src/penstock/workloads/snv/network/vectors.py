"""The network's two inner loops, with vector instructions that the compiler would not choose by itself.

A row of sums is kept in registers while rows of weights are added to it, and signs are taken as a bit mask.
"""

# What numba compiles has no types that a checker could follow.
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls, no-check-untyped-defs

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_LANES = 16
_FLOAT, _LONG = ir.FloatType(), ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, _LANES)


def _data(codegen, builder, signature, args, which):
    return codegen.make_array(signature.args[which])(codegen, builder, args[which]).data


def _at(builder, data, offset):
    """The vector that begins at an offset."""
    return builder.bitcast(builder.gep(data, [offset]), _VECTOR.as_pointer())


def adder(width):
    """Compile a function that adds rows of weights, ``width`` floats each, to a row of sums.

    ``add(sums, at, weights, index, value, first, count, second, count2, lift)``: for i from ``first``,
    ``count`` times, ``sums[at:at + width] += value[i] * weights[index[i]]``; then the same from
    ``second``, ``count2`` times, with ``index[i] + lift``. Always in this order.
    """
    vectors = width // _LANES

    @intrinsic
    def add(typing, sums, at, weights, index, value, first, count, second, count2, lift):
        signature = types.void(
            sums, types.int64, weights, index, value, types.int64, types.int64, types.int64, types.int64,
            types.int64,
        )  # fmt: skip

        def generate(codegen, builder, signature, args):
            data = [_data(codegen, builder, signature, args, which) for which in (0, 2, 3, 4)]
            places = [_at(builder, data[0], builder.add(args[1], _LONG(_LANES * j))) for j in range(vectors)]
            totals = [builder.load(place, align=4) for place in places]
            totals = _sum_rows(builder, data, totals, args[5], args[6], _LONG(0), width)
            totals = _sum_rows(builder, data, totals, args[7], args[8], args[9], width)
            for place, total in zip(places, totals, strict=True):
                builder.store(total, place, align=4)
            return codegen.get_dummy_value()

        return signature, generate

    return add


def _sum_rows(builder, data, totals, first, count, lift, width):
    """A loop whose running sums are registers."""
    _, weights, index, value = data
    before = builder.block
    head, body, end = (builder.append_basic_block(name) for name in ("rows", "row", "summed"))
    builder.branch(head)
    builder.position_at_end(head)
    i = builder.phi(_LONG)
    i.add_incoming(first, before)
    running = [builder.phi(_VECTOR) for _ in totals]
    for each, total in zip(running, totals, strict=True):
        each.add_incoming(total, before)
    builder.cbranch(builder.icmp_signed("<", i, builder.add(first, count)), body, end)
    builder.position_at_end(body)
    row = builder.mul(builder.add(builder.load(builder.gep(index, [i])), lift), _LONG(width))
    lane = builder.insert_element(
        ir.Constant(_VECTOR, ir.Undefined), builder.load(builder.gep(value, [i])), ir.IntType(32)(0)
    )
    spread = builder.shuffle_vector(
        lane, ir.Constant(_VECTOR, ir.Undefined), ir.Constant(ir.VectorType(ir.IntType(32), _LANES), None)
    )
    for j, each in enumerate(running):
        place = _at(builder, weights, builder.add(row, _LONG(_LANES * j)))
        product = builder.fmul(spread, builder.load(place, align=4), flags=("contract",))
        each.add_incoming(builder.fadd(each, product, flags=("contract",)), builder.block)
    i.add_incoming(builder.add(i, _LONG(1)), builder.block)
    builder.branch(head)
    builder.position_at_end(end)
    return running


def signs(count):
    """Compile a function that finds which of ``count`` floats are positive: ``above(sums, at)``, as bits."""

    @intrinsic
    def above(typing, sums, at):
        signature = types.uint64(sums, types.int64)

        def generate(codegen, builder, signature, args):
            data, mask = _data(codegen, builder, signature, args, 0), _LONG(0)
            for j in range(count // _LANES):
                place = _at(builder, data, builder.add(args[1], _LONG(_LANES * j)))
                bits = builder.fcmp_ordered(">", builder.load(place, align=4), ir.Constant(_VECTOR, None))
                word = builder.zext(builder.bitcast(bits, ir.IntType(_LANES)), _LONG)
                mask = builder.or_(mask, builder.shl(word, _LONG(_LANES * j)))
            return mask

        return signature, generate

    return above


@intrinsic
def lowest(typing, mask):
    """Index of the lowest set bit."""
    signature = types.int64(types.uint64)

    def generate(codegen, builder, signature, args):
        return builder.cttz(args[0], cgutils.true_bit)

    return signature, generate
