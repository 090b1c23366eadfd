"""The network's forward pass in float32 over non-zero values.

Three convolutions along samples and features, a mean, two dense layers. After the rectifiers few values are
left (of the second layer 6 to 11 % on real-like tables), so a row of sums is the bias plus the rows of
weights of those values. One sample after the other goes through all layers, each layer keeping the row
before: the state is 30 KB however many samples there are. A position that turns out not to be sparse is left
to matrix products (``dense``). Each position is computed alone, so its bits depend on nothing else.
"""

# What numba compiles has no types that a checker could follow.
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls, no-check-untyped-defs

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from penstock.workloads.snv.network.dense import DenseNetwork
from penstock.workloads.snv.network.vectors import adder, lowest, signs

_jit: Any = njit
_compiled = _jit(cache=True, error_model="numpy", nogil=True)
_inner = _jit(no_cpython_wrapper=True, no_cfunc_wrapper=True, error_model="numpy")

# Channels and columns after each layer; the input has 4 and 8.
_C1, _W1, _C2, _W2, _C3, _W3 = 32, 7, 64, 6, 128, 5
_LOOK, _SPARSE = 32, 0.6
"""After so many samples, a position is sparse if at most this share of the second layer's values is left:
where matrix products begin to be faster."""
_K1, _K2, _K3 = 4, 2, 2
"""Columns of each layer's window: a value reaches so many columns of the next layer."""
_add1, _add2, _add3 = adder(_K1 * _C1), adder(_K2 * _C2), adder(_K3 * _C3)
_above1, _above2 = signs(_C1), signs(_C2)


def probabilities(tensor: NDArray[np.float32], weights: Mapping[str, NDArray[np.float32]]) -> Any:
    """The probability of each position.

    Args:
        tensor: float32 (positions, samples, 8, 4).
        weights: see ``weights``.

    Returns float32 (positions,).
    """
    out = np.empty(len(tensor), np.float32)
    rows = [_rows(weights[f"conv{layer}.weight"]) for layer in (1, 2, 3)]
    bias = [
        np.tile(weights[f"conv{layer}.bias"], columns).astype(np.float32)
        for layer, columns in ((1, _W1 + 2 * (_K1 - 1)), (2, _W2 + 2 * (_K2 - 1)), (3, _W3 + 2 * (_K3 - 1)))
    ]
    dense = [weights["fc1.weight"], weights["fc1.bias"], weights["fc2.weight"][0].copy(), weights["fc2.bias"]]
    sums = [_aligned(each) for each in bias]
    filled = np.zeros(len(tensor), np.bool_)
    _forward(np.ascontiguousarray(tensor), *rows, *bias, *sums, *dense, out, filled)
    if filled.any():
        convolutions = DenseNetwork(weights)
        for p in np.flatnonzero(filled):
            out[p] = _finish(convolutions.pooled(tensor[p]), (tensor.shape[1] + 2) * _W3, *dense)
    return out


def _rows(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """(out, in, height, width) as rows of (height, in), what one value adds to all it reaches."""
    out, channels, height, width = kernel.shape
    turned = kernel.transpose(2, 1, 3, 0)[:, :, ::-1]
    return _aligned(turned.reshape(height * channels, width * out))


def _aligned(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same values from the beginning of a cache line on: a vector that lies in two costs twice."""
    room = np.empty(array.size + 16, np.float32)
    start = -room.ctypes.data % 64 // 4
    placed = room[start : start + array.size].reshape(array.shape)
    placed[:] = array
    return placed


@_inner
def _collect(mask, sums, at, index, value, place):
    """List the values whose bits are set; return how many."""
    count = 0
    while mask != 0:
        k = lowest(mask)
        mask &= mask - np.uint64(1)
        index[place + count] = k
        value[place + count] = sums[at + k]
        count += 1
    return count


@_inner
def _first(x, r, rows, sums, index, value):
    """Sums of the first layer at sample ``r``, from the samples before, at and after it."""
    samples = x.shape[0]
    for h in range(8):
        count = 0
        for near in range(3):
            s = r + near - 1
            if 0 <= s < samples:
                for j in range(4):
                    v = x[s, h, j]
                    if v != 0:
                        index[count] = near * 4 + j
                        value[count] = v
                        count += 1
        _add1(sums, h * _C1, rows, index, value, 0, count, 0, 0, 0)


@_inner
def _fill(sums, bias):
    """Begin with the bias: a slice that is assigned would be checked for overlap, and run value by value."""
    for k in range(len(sums)):
        sums[k] = bias[k]


@_inner
def _pool(sums, columns, pooled):
    """Add the last layer's row, rectified, to the sums of its channels."""
    for k in range(_C3):
        columns[k] = max(sums[_C3 + k], np.float32(0))
    for w in range(2, _W3 + 1):
        for k in range(_C3):
            columns[k] += max(sums[w * _C3 + k], np.float32(0))
    for k in range(_C3):
        pooled[k] += columns[k]


@_compiled
def _forward(
    tensor, rows1, rows2, rows3, bias1, bias2, bias3, sums1, sums2, sums3, fc1, fc1_bias, fc2, fc2_bias, out,
    filled,
):  # fmt: skip
    """Set the probability of each position, or that it is not sparse."""
    positions, samples = tensor.shape[0], tensor.shape[1]
    index0, value0 = np.empty(12, np.int64), np.empty(12, np.float32)
    # Two rows of lists for each layer: of this sample and of the one before.
    n1, index1, value1 = (
        np.zeros(2 * _W1, np.int64),
        np.empty(2 * _W1 * _C1, np.int64),
        np.empty(2 * _W1 * _C1, np.float32),
    )
    n2, index2, value2 = (
        np.zeros(2 * _W2, np.int64),
        np.empty(2 * _W2 * _C2, np.int64),
        np.empty(2 * _W2 * _C2, np.float32),
    )
    columns, pooled = np.empty(_C3, np.float32), np.empty(_C3, np.float64)
    for p in range(positions):
        n1[:], n2[:], pooled[:] = 0, 0, 0.0
        left, look = 0, min(_LOOK, samples + 1)
        for r in range(samples + 2):
            here, before = r & 1, 1 - (r & 1)
            for w in range(_W1):
                n1[here * _W1 + w] = 0
            if r < samples:
                _fill(sums1, bias1)
                _first(tensor[p], r, rows1, sums1, index0, value0)
                for w in range(_W1):
                    at, slot = (w + 2) * _C1, here * _W1 + w
                    mask = _above1(sums1, at)
                    n1[slot] = _collect(mask, sums1, at, index1, value1, slot * _C1)
            for w in range(_W2):
                n2[here * _W2 + w] = 0
            if r <= samples:
                _fill(sums2, bias2)
                for w in range(_W1):
                    a, b = before * _W1 + w, here * _W1 + w
                    _add2(sums2, w * _C2, rows2, index1, value1, a * _C1, n1[a], b * _C1, n1[b], _C1)
                for w in range(_W2):
                    at, slot = (w + 1) * _C2, here * _W2 + w
                    mask = _above2(sums2, at)
                    n2[slot] = _collect(mask, sums2, at, index2, value2, slot * _C2)
                    left += n2[slot]
            if r + 1 == look and left > _SPARSE * look * _W2 * _C2:
                filled[p] = True
                break
            _fill(sums3, bias3)
            for w in range(_W2):
                a, b = before * _W2 + w, here * _W2 + w
                _add3(sums3, w * _C3, rows3, index2, value2, a * _C2, n2[a], b * _C2, n2[b], _C2)
            _pool(sums3, columns, pooled)
        if not filled[p]:
            out[p] = _finish(pooled, (samples + 2) * _W3, fc1, fc1_bias, fc2, fc2_bias)


@_compiled
def _finish(pooled, count, fc1, fc1_bias, fc2, fc2_bias):
    """Mean, two dense layers and the logistic function."""
    score = np.float64(fc2_bias[0])
    for o in range(fc1.shape[0]):
        total = np.float64(fc1_bias[o])
        for k in range(fc1.shape[1]):
            total += fc1[o, k] * np.float64(np.float32(pooled[k] / count))
        if total > 0:
            score += fc2[o] * total
    return np.float32(1 / (1 + np.exp(-score)))
