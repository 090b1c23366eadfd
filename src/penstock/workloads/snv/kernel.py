"""The arithmetic of a table: first filter, verdict and features of positions; ``README.md`` has the rules.

Everything here takes counts as int32 (positions, 8, samples), samples last, so that the loops over samples
run in vectors. Bases are 1 to 4 for A T C G, 0 for none. Among equal maxima the later base wins, as in a
stable ascending sort; sites are ordered by a stable descending one.
"""

# What numba compiles has no types that a checker could follow.
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls, no-check-untyped-defs

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from penstock.workloads.snv.bits import (
    ALLELES,
    CALLED,
    LOW_QUALITY,
    MINOR_LOST,
    STRONG,
    SWITCH,
    VARIES,
    WEAK,
)  # fmt: skip

_jit: Any = njit
_compiled = _jit(cache=True, error_model="numpy", nogil=True)
# Compiled without the wrappers that Python would call: never call these from Python.
_inner = _jit(no_cpython_wrapper=True, no_cfunc_wrapper=True, error_model="numpy")

# Rows of a position's work table.
_MAJOR, _FORWARD, _REVERSE, _F, _R, _TOP, _SECOND, _CALL, _LEFT, _WORK = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9


@_inner
def _place(value, sample, low, width, below, hist, most):
    """Count one value into a bracket that is not the lowest, or above it."""
    most[sample] = max(most[sample], value)
    offset = value - low[sample]
    if offset < 0:
        below[sample] += 1
    elif offset // width[sample] < hist.shape[1]:
        hist[sample, offset // width[sample]] += np.uint32(1)


@_compiled
def tally(values, first, turn, samples, low, width, below, hist, most):
    """Count coverage into the bracket of its sample.

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


@_inner
def _later(a0, a1, a2, a3):
    """The base of the largest, the later among equals; 0 when all are 0."""
    top, base = a0, 1
    if a1 >= top:
        top, base = a1, 2
    if a2 >= top:
        top, base = a2, 3
    if a3 >= top:
        top, base = a3, 4
    return base if top > 0 else 0


@_inner
def _majors(reads, work):
    """Fill the rows of the work table that are about each sample alone."""
    for s in range(reads.shape[1]):
        f0, f1, f2, f3 = reads[0, s], reads[1, s], reads[2, s], reads[3, s]
        r0, r1, r2, r3 = reads[4, s], reads[5, s], reads[6, s], reads[7, s]
        a0, a1, a2, a3 = f0 + r0, f1 + r1, f2 + r2, f3 + r3
        work[_MAJOR, s] = _later(a0, a1, a2, a3)
        work[_FORWARD, s] = _later(f0, f1, f2, f3)
        work[_REVERSE, s] = _later(r0, r1, r2, r3)
        work[_F, s] = f0 + f1 + f2 + f3
        work[_R, s] = r0 + r1 + r2 + r3
        high, low = max(a0, a1), min(a0, a1)
        high2, low2 = max(a2, a3), min(a2, a3)
        work[_TOP, s] = max(high, high2)
        work[_SECOND, s] = max(min(high, high2), low if high > high2 else low2)


@_inner
def _seen(codes, n):
    """How often each code, into ``n`` (5,)."""
    n[:] = 0
    for code in codes:
        n[code] += 1


@_inner
def _mode(n):
    """The most frequent base, the smallest among equals; 1 when there is none."""
    best, base = 0, 1
    for b in range(1, 5):
        if n[b] > best:
            best, base = n[b], b
    return base


@_inner
def _alleles(n):
    return (n[1] > 0) + (n[2] > 0) + (n[3] > 0) + (n[4] > 0)


@_inner
def _site_order(n, order):
    """Bases 0 to 3 by how many samples have them as their major base, the smaller first among equals."""
    for i in range(4):
        j = i
        while j > 0 and n[1 + order[j - 1]] < n[1 + i]:
            order[j] = order[j - 1]
            j -= 1
        order[j] = i


@_compiled
def first_filter(counts, keep, zero):
    """Which positions have two major bases or more, and where samples have no reads.

    Args:
        counts: int32 (positions, 8, samples).
        keep: bool (positions,); set.
        zero: int64 (samples,); positions kept at which the sample has no reads are added.
    """
    positions, _, samples = counts.shape
    for i in range(positions):
        reads, seen = counts[i], 0
        for s in range(samples):
            major = _later(
                reads[0, s] + reads[4, s], reads[1, s] + reads[5, s],
                reads[2, s] + reads[6, s], reads[3, s] + reads[7, s],
            )  # fmt: skip
            seen |= 1 << major
        seen &= ~1
        keep[i] = seen & (seen - 1) != 0
        if keep[i]:
            for s in range(samples):
                some = 0
                for k in range(8):
                    some |= reads[k, s]
                zero[s] += some == 0


@_compiled
def carriers(counts, carried):
    """At how many positions each sample has the second most frequent major base.

    Args:
        counts: int32 (positions, 8, samples).
        carried: int64 (samples,); added to.
    """
    positions, _, samples = counts.shape
    major, n = np.empty(samples, np.int32), np.empty(5, np.int64)
    for i in range(positions):
        reads = counts[i]
        for s in range(samples):
            major[s] = _later(
                reads[0, s] + reads[4, s], reads[1, s] + reads[5, s],
                reads[2, s] + reads[6, s], reads[3, s] + reads[7, s],
            )  # fmt: skip
        _seen(major, n)
        if _alleles(n) < 2:
            continue
        second = np.sort(n[1:])[2]
        base = 1
        while n[base] != second:
            base += 1
        for s in range(samples):
            carried[s] += major[s] == base


@_inner
def _quality(reads, work, inside, order, some_dropped):
    """The two rules about quality of a position, over the samples that are left, as bits."""
    major, minor = order[0], order[1]
    samples = reads.shape[1]
    any_minor = above = calls = pure = 0
    for s in range(samples):
        if not inside[s]:
            continue
        mf, mr = reads[minor, s] > 0, reads[minor + 4, s] > 0
        any_minor |= mf | mr
        above |= (reads[minor, s] > reads[major, s]) | (reads[minor + 4, s] > reads[major + 4, s])
        forward = (reads[0, s] > 0) + (reads[1, s] > 0) + (reads[2, s] > 0) + (reads[3, s] > 0)
        reverse = (reads[4, s] > 0) + (reads[5, s] > 0) + (reads[6, s] > 0) + (reads[7, s] > 0)
        above |= (reads[major, s] == 0) & (forward > 0)
        above |= (reads[major + 4, s] == 0) & (reverse > 0)
        clean = (forward == 1) & (reverse == 1)
        calls += clean & (mf | mr) & (work[_FORWARD, s] != work[_REVERSE, s])
        pure += clean & mf & mr
    if some_dropped and (not any_minor or not above):
        return MINOR_LOST
    return LOW_QUALITY if calls >= 1 and pure < 2 else 0


@_inner
def _switch(work, n):
    """Whether most calls of the most frequent base go when low depth does."""
    samples = work.shape[1]
    call, left = work[_CALL], work[_LEFT]
    for s in range(samples):
        deep = (work[_F, s] >= 11) | (work[_R, s] >= 11)
        left[s] = call[s] if deep else 0
    _seen(call, n)
    before = n[_mode(n)]
    _seen(left, n)
    return 2 * n[_mode(n)] > before


@_inner
def _is_ambiguous(work, n):
    """Whether a sample with the site's most frequent base has reads of others."""
    _seen(work[_MAJOR], n)
    mode, found = _mode(n), False
    for s in range(work.shape[1]):
        found |= (work[_MAJOR, s] == mode) & (work[_TOP, s] < work[_F, s] + work[_R, s])
    return found


@_inner
def _calls(work, low_depth, over9, over20):
    """The calls that are left after the filters of a cell, into a row of the work table."""
    for s in range(work.shape[1]):
        f, r = work[_F, s], work[_R, s]
        good = (f >= 1) & (r >= 1) & (work[_FORWARD, s] == work[_REVERSE, s])
        good &= not (low_depth & (f < 3) & (r < 3))
        good &= np.float64(work[_TOP, s]) / np.float64(f + r) >= 0.7
        good &= not (over9 & (((r == 1) & (f < 4)) | ((f == 1) & (r < 4))))
        good &= not (over20 & ((f < 4) | (r < 4)))
        work[_CALL, s] = work[_MAJOR, s] if good else 0


@_inner
def _minor(n):
    """The second of (count, base) from the highest."""
    first = second = -1
    for b in range(1, 5):
        if n[b] == 0:
            continue
        rank = n[b] * 8 + b
        if rank > first:
            first, second = rank, first
        elif rank > second:
            second = rank
    return second % 8 if second >= 0 else 1


@_inner
def _depth(work, median, n):
    """Big depth and gaps, of a position whose calls have two alleles: bits without shift."""
    samples = work.shape[1]
    call, left = work[_CALL], work[_LEFT]
    _seen(call, n)
    minor = _minor(n)
    carriers_ = n[minor]
    lowest = 2147483647
    highest, total, square, small = -np.inf, 0.0, 0.0, 0
    for s in range(samples):
        if call[s] == minor:
            lowest = min(lowest, work[_TOP, s])
            ratio = work[_TOP, s] / median[s]
            if ratio != 0:
                highest = max(highest, ratio)
                total += ratio
                small += 1
    for s in range(samples):
        top, second = work[_TOP, s], work[_SECOND, s]
        gone = (second > 30) & (top > 250) & (np.int64(top) - 3 * np.int64(second) > 0) & (carriers_ > 1)
        gone &= (call[s] == minor) | (top < lowest)
        left[s] = 0 if gone else call[s]
    _seen(left, n)
    told = ALLELES if _alleles(n) >= 2 else 0
    mode = _mode(n)
    mean_small = total / small if small else np.nan
    # Nearly all positions end here: both kinds of gap need both.
    if not (highest < 0.1):
        return told
    count, mean, least, most = 0, 0.0, np.inf, -np.inf
    for s in range(samples):
        ratio = work[_TOP, s] / median[s]
        if left[s] == mode and ratio != 0:
            count += 1
            mean += ratio
            least, most = min(least, ratio), max(most, ratio)
    if count < 2 or not (most > 0.2):
        return told
    mean /= count
    spread = 0.0
    for s in range(samples):
        ratio = work[_TOP, s] / median[s]
        if left[s] == mode and ratio != 0:
            spread += (ratio - mean) ** 2
        if call[s] == minor and ratio != 0:
            square += (ratio - mean_small) ** 2
    variance = spread / (count - 1)
    z = abs(mean - mean_small) / math.sqrt(variance)
    unlike = math.erfc(z / math.sqrt(2.0)) / 2 < 0.01
    if unlike and highest < least and highest < 0.05:
        told |= STRONG
    if small <= 3 and (unlike or _t_test(mean, variance, count, mean_small, square, small) < 0.05):
        told |= WEAK
    return told


@_inner
def _t_test(mean, variance, count, mean_small, square, small):
    """Two-sided p: of one value against a sample, or of two samples with unequal variances (Welch)."""
    of_mean = variance / count
    if small == 1:
        freedom, error = np.float64(count - 1), of_mean
    else:
        of_small = square / (small - 1) / small
        error = of_mean + of_small
        freedom = error**2 / (of_mean**2 / (count - 1) + of_small**2 / (small - 1))
    t = (mean - mean_small) / math.sqrt(error)
    if not math.isfinite(t):
        return 0.0 if t == t else np.nan
    return _incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t))


@_inner
def _incomplete_beta(a, b, x):
    """The regularised incomplete beta function by its continued fraction (DLMF 8.17.22, Lentz)."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    turned = x > (a + 1) / (a + b + 2)
    if turned:
        a, b, x = b, a, 1 - x
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    tiny = 1e-300
    fraction = c = 1.0
    d = 0.0
    for i in range(400):
        m = i // 2
        if i == 0:
            term = 1.0
        elif i % 2 == 0:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        else:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d = 1 + term * d
        d = 1 / (d if abs(d) > tiny else tiny)
        c = 1 + term / c
        c = c if abs(c) > tiny else tiny
        fraction *= c * d
        if i > 0 and abs(c * d - 1) < 1e-15:
            break
    part = front * (fraction - 1) / a
    return 1 - part if turned else part


@_compiled
def verdict(counts, inside, some_dropped, quality, over9, over20, median, told):
    """All that the filters need to know of each position, for both states of the filter of low depth.

    Args:
        counts: int32 (positions, 8, samples).
        inside: bool (samples,): which samples the tensor has.
        some_dropped, quality: whether samples were dropped; whether the rules about quality apply.
        over9, over20: whether the filters for deeper groups apply.
        median: float64 (samples,).
        told: uint16 (positions,); set to bits.
    """
    positions, _, samples = counts.shape
    work = np.empty((_WORK, samples), np.int32)
    n, order = np.empty(5, np.int64), np.empty(4, np.int64)
    for i in range(positions):
        reads = counts[i]
        _majors(reads, work)
        _seen(work[_MAJOR], n)
        told[i] = 0
        if _alleles(n) < 2:
            continue
        bits = VARIES
        if quality:
            _site_order(n, order)
            bits |= _quality(reads, work, inside, order, some_dropped)
        for s in range(samples):
            both = (work[_F, s] >= 1) & (work[_R, s] >= 1)
            work[_CALL, s] = work[_MAJOR, s] if both else 0
        if _switch(work, n):
            bits |= SWITCH
        ambiguous = _is_ambiguous(work, n)
        for branch in range(2):
            if branch == 1 and not ambiguous:  # then it changes nothing
                bits |= (bits & 0xF0) << 4
                break
            _calls(work, branch == 1, over9, over20)
            _seen(work[_CALL], n)
            if _alleles(n) >= 2:
                bits |= (CALLED | _depth(work, median, n)) << (4 * branch)
        told[i] = bits


@_compiled
def features(counts, quals, indel, median, chosen, out):
    """The tensor of positions.

    Args:
        counts: int32 (positions, 8, samples).
        quals, indel: int32 (positions, samples), quals as stored (0 or negative).
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
            n[_later(a0, a1, a2, a3)] += 1
        _site_order(n, order)
        for k in range(len(chosen)):
            s = chosen[k]
            cell = out[i, k]
            cell[:] = 0
            middle = median[s]
            quality, indels = np.float32(-quals[i, s]), np.float32(indel[i, s])
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


@_inner
def _two_largest(c0, c1, c2, c3):
    high, low, high2, low2 = max(c0, c1), min(c0, c1), max(c2, c3), min(c2, c3)
    return max(high, high2), max(min(high, high2), low if high > high2 else low2)


@_inner
def _minor_base(a, top):
    """The base before the last in a stable ascending sort of four counts whose last is ``top``."""
    best, base = -1, 0
    for b in range(4):
        if b + 1 != top and a[b] >= best:
            best, base = a[b], b + 1
    return base


@_compiled
def rescue(counts, limit, major, rescued):
    """Whether the reads speak for a position whose label is 0.

    The second most frequent base of the site is real when few samples of the first are ambiguous, and
    the samples with other bases have them deeper than the first's samples have it as noise.

    Args:
        counts: int32 (positions, 8, samples), of all samples.
        limit: the share of ambiguous samples up to which a position is rescued.
        major: int32 (positions, samples); set to the major bases, 0 for none.
        rescued: bool (positions,); set.
    """
    positions, _, samples = counts.shape
    n, a = np.empty(5, np.int64), np.empty(4, np.int64)
    for i in range(positions):
        c, codes = counts[i], major[i]
        for s in range(samples):
            codes[s] = _later(c[0, s] + c[4, s], c[1, s] + c[5, s], c[2, s] + c[6, s], c[3, s] + c[7, s])
        _seen(codes, n)
        mode = _mode(n)
        n[mode] = 0
        second = _mode(n) if _alleles(n) else 0
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
        rescued[i] = same > 0 and ambiguous / same <= limit and not others < noise
