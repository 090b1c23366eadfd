"""The network's input for a position, and its support by the reads."""

# What numba compiles has no types that a checker could follow.
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls, no-check-untyped-defs

from __future__ import annotations

import numpy as np

from penstock.workloads.snv.kernel.bases import commonest, count_alleles, count_codes, later, site_order
from penstock.workloads.snv.kernel.compiling import compiled, inner


@compiled
def features(counts, quals, indel, median, chosen, out):
    """Compute the tensor of positions.

    Args:
        counts: int32 (positions, 8, samples).
        quals: int32 (positions, samples), as stored (0 or negative).
        indel: int32 (positions, 2, samples): insertions, deletions.
        median: float64 (samples,).
        chosen: int64, the samples that the tensor has.
        out: float32 (positions, chosen, 8, 4); set.
    """
    positions, _, samples = counts.shape
    n, order = np.empty(5, np.int64), np.empty(4, np.int64)
    for i in range(positions):
        reads = counts[i]
        n[:] = 0
        total = np.int64(0)
        for s in range(samples):
            a0, a1 = reads[0, s] + reads[4, s], reads[1, s] + reads[5, s]
            a2, a3 = reads[2, s] + reads[6, s], reads[3, s] + reads[7, s]
            total += a0 + a1 + a2 + a3
            n[later(a0, a1, a2, a3)] += 1
        site_order(n, order)
        for k in range(len(chosen)):
            s = chosen[k]
            cell = out[i, k]
            cell[:] = 0
            middle = median[s]
            quality, indels = np.float32(-quals[i, s]), np.float32(indel[i, 0, s] + indel[i, 1, s])
            for j in range(4):
                forward, reverse = reads[order[j], s], reads[order[j] + 4, s]
                if forward == 0 and reverse == 0:
                    continue
                cell[0, j], cell[1, j] = forward / total, reverse / total
                if middle == 0:
                    cell[2, j], cell[3, j] = 10.0 * (forward > 0), 10.0 * (reverse > 0)
                else:
                    cell[2, j] = min(10.0, forward / middle)
                    cell[3, j] = min(10.0, reverse / middle)
                cell[4, j], cell[5, j] = forward, reverse
                cell[6, j], cell[7, j] = quality, indels


@inner
def _two_largest(c0, c1, c2, c3):
    high, low, high2, low2 = max(c0, c1), min(c0, c1), max(c2, c3), min(c2, c3)
    return max(high, high2), max(min(high, high2), low if high > high2 else low2)


@inner
def _minor_base(a, top):
    """The base before the last in a stable ascending sort of four counts whose last is ``top``."""
    best, base = -1, 0
    for b in range(4):
        if b + 1 != top and a[b] >= best:
            best, base = a[b], b + 1
    return base


@compiled
def read_support(counts, limit, major, supported):
    """Whether the reads alone speak for a position.

    The second most frequent base of the site is real when few samples of the first are ambiguous, and
    the samples with other bases have them deeper than the first's samples have it as noise.

    Args:
        counts: int32 (positions, 8, samples), of all samples.
        limit: the share of ambiguous samples up to which a position is supported.
        major: int32 (positions, samples); set to the major bases, 0 for none.
        supported: bool (positions,); set.
    """
    positions, _, samples = counts.shape
    n, a = np.empty(5, np.int64), np.empty(4, np.int64)
    for i in range(positions):
        c, codes = counts[i], major[i]
        for s in range(samples):
            codes[s] = later(c[0, s] + c[4, s], c[1, s] + c[5, s], c[2, s] + c[6, s], c[3, s] + c[7, s])
        count_codes(codes, n)
        mode = commonest(n)
        n[mode] = 0
        second = commonest(n) if count_alleles(n) else 0
        others = noise = 0
        same = ambiguous = 0
        for s in range(samples):
            forward, forward2 = _two_largest(c[0, s], c[1, s], c[2, s], c[3, s])
            reverse, reverse2 = _two_largest(c[4, s], c[5, s], c[6, s], c[7, s])
            if codes[s] != mode:
                others = max(others, forward, reverse)
                continue
            same += 1
            for b in range(4):
                a[b] = c[b, s] + c[b + 4, s]
            ambiguous += a[mode - 1] / a.sum() < 0.95
            if _minor_base(a, codes[s]) == second:
                noise = max(noise, forward2, reverse2)
        if noise > 2:
            noise += 2
        supported[i] = same > 0 and ambiguous / same <= limit and not others < noise
