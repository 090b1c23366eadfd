"""Streaming over numbers: counts coverage into brackets, narrows values."""

# What numba compiles has no types that a checker could follow.
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls, no-check-untyped-defs

from __future__ import annotations

import numpy as np

from penstock.workloads.snv.kernel.compiling import compiled, inner


@inner
def _place(value, sample, low, width, below, hist, most):
    """Count one value into a bracket that is not the lowest, or above it."""
    most[sample] = max(most[sample], value)
    offset = value - low[sample]
    if offset < 0:
        below[sample] += 1
    elif offset // width[sample] < hist.shape[1]:
        hist[sample, offset // width[sample]] += np.uint32(1)


@compiled
def tally(values, first, turn, samples, low, width, below, hist, most):
    """Count coverage into its sample's bracket.

    Args:
        values: int64, as they lie; ``first`` is the number of the first.
        turn, samples: value number i is of sample (i // turn) % samples.
        low, width: of each sample's bracket of bins, int64 (samples,).
        below, hist, most: values below the bracket, in its bins, and the highest; changed.
    """
    bins = hist.shape[1]
    lowest = low.max() == 0 and width.max() == 1
    at = 0
    while at < len(values):
        sample = ((first + at) // turn) % samples
        # Either one value for each sample, or many of one sample.
        stop = min(at + (samples - sample if turn == 1 else turn - (first + at) % turn), len(values))
        step = 1 if turn == 1 else 0
        for value in values[at:stop]:
            if lowest and 0 <= value < bins:
                hist[sample, value] += np.uint32(1)
            else:
                _place(value, sample, low, width, below, hist, most)
            sample += step
        at = stop


@compiled
def narrow(values, out):
    """Write values as a narrower type, and find the minimum and maximum.

    Args:
        values: int64 (n,), n at least 1.
        out: uint8, uint16 or uint32 (n,); set to the low bits, which are the value where the type holds it.
    """
    low = high = values[0]
    for i in range(len(values)):
        value = values[i]
        low, high = min(low, value), max(high, value)
        out[i] = value
    return low, high
