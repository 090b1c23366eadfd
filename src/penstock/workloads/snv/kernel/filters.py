"""The filters of positions, and what the verdict needs to know of each."""

# What numba compiles has no types that a checker could follow.
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls, no-check-untyped-defs

from __future__ import annotations

import math

import numpy as np

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
from penstock.workloads.snv.kernel.bases import (
    CALL,
    FORWARD,
    LEFT,
    MAJOR,
    REVERSE,
    SECOND,
    TOP,
    WORK,
    F,
    R,
    commonest,
    count_alleles,
    count_codes,
    later,
    majors,
    site_order,
)  # fmt: skip
from penstock.workloads.snv.kernel.compiling import compiled, inner
from penstock.workloads.snv.kernel.statistics import t_test


@compiled
def first_filter(counts, keep, zero):
    """Which positions have two or more major bases, and how often samples have no reads.

    Args:
        counts: int32 (positions, 8, samples).
        keep: bool (positions,); set.
        zero: int64 (samples,); positions kept at which the sample has no reads are added.
    """
    positions, _, samples = counts.shape
    for i in range(positions):
        reads, seen = counts[i], 0
        for s in range(samples):
            major = later(
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


@compiled
def count_ties(counts):
    """Count cells with reads in which two or more bases tie for most frequent.

    Args:
        counts: int32 (positions, 8, samples).
    """
    positions, _, samples = counts.shape
    ties = 0
    for i in range(positions):
        reads = counts[i]
        for s in range(samples):
            a0, a1 = reads[0, s] + reads[4, s], reads[1, s] + reads[5, s]
            a2, a3 = reads[2, s] + reads[6, s], reads[3, s] + reads[7, s]
            top = max(max(a0, a1), max(a2, a3))
            ties += top > 0 and (a0 == top) + (a1 == top) + (a2 == top) + (a3 == top) > 1
    return ties


@compiled
def carriers(counts, carried):
    """Count the positions at which each sample has the second most frequent major base.

    Args:
        counts: int32 (positions, 8, samples).
        carried: int64 (samples,); added to.
    """
    positions, _, samples = counts.shape
    major, n = np.empty(samples, np.int32), np.empty(5, np.int64)
    for i in range(positions):
        reads = counts[i]
        for s in range(samples):
            major[s] = later(
                reads[0, s] + reads[4, s], reads[1, s] + reads[5, s],
                reads[2, s] + reads[6, s], reads[3, s] + reads[7, s],
            )  # fmt: skip
        count_codes(major, n)
        if count_alleles(n) < 2:
            continue
        second = np.sort(n[1:])[2]
        base = 1
        while n[base] != second:
            base += 1
        for s in range(samples):
            carried[s] += major[s] == base


@inner
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
        calls += clean & (mf | mr) & (work[FORWARD, s] != work[REVERSE, s])
        pure += clean & mf & mr
    if some_dropped and (not any_minor or not above):
        return MINOR_LOST
    return LOW_QUALITY if calls >= 1 and pure < 2 else 0


@inner
def _switch(work, n):
    """Whether most calls of the most frequent base go when low depth does."""
    samples = work.shape[1]
    call, left = work[CALL], work[LEFT]
    for s in range(samples):
        deep = (work[F, s] >= 11) | (work[R, s] >= 11)
        left[s] = call[s] if deep else 0
    count_codes(call, n)
    before = n[commonest(n)]
    count_codes(left, n)
    return 2 * n[commonest(n)] > before


@inner
def _is_ambiguous(work, n):
    """Whether a sample with the site's most frequent base has reads of others."""
    count_codes(work[MAJOR], n)
    mode, found = commonest(n), False
    for s in range(work.shape[1]):
        found |= (work[MAJOR, s] == mode) & (work[TOP, s] < work[F, s] + work[R, s])
    return found


@inner
def _calls(work, low_depth, over9, over20):
    """The calls that are left after the filters of a cell, into a row of the work table."""
    for s in range(work.shape[1]):
        f, r = work[F, s], work[R, s]
        good = (f >= 1) & (r >= 1) & (work[FORWARD, s] == work[REVERSE, s])
        good &= not (low_depth & (f < 3) & (r < 3))
        good &= np.float64(work[TOP, s]) / np.float64(f + r) >= 0.7
        good &= not (over9 & (((r == 1) & (f < 4)) | ((f == 1) & (r < 4))))
        good &= not (over20 & ((f < 4) | (r < 4)))
        work[CALL, s] = work[MAJOR, s] if good else 0


@inner
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


@inner
def _depth(work, median, n):
    """Big depth and gaps, of a position whose calls have two alleles: bits without shift."""
    samples = work.shape[1]
    call, left = work[CALL], work[LEFT]
    count_codes(call, n)
    minor = _minor(n)
    carriers_ = n[minor]
    lowest = 2147483647
    highest, total, square, small = -np.inf, 0.0, 0.0, 0
    for s in range(samples):
        if call[s] == minor:
            lowest = min(lowest, work[TOP, s])
            ratio = work[TOP, s] / median[s]
            if ratio != 0:
                highest = max(highest, ratio)
                total += ratio
                small += 1
    for s in range(samples):
        top, second = work[TOP, s], work[SECOND, s]
        gone = (second > 30) & (top > 250) & (np.int64(top) - 3 * np.int64(second) > 0) & (carriers_ > 1)
        gone &= (call[s] == minor) | (top < lowest)
        left[s] = 0 if gone else call[s]
    count_codes(left, n)
    bits = ALLELES if count_alleles(n) >= 2 else 0
    mode = commonest(n)
    mean_small = total / small if small else np.nan
    # Nearly all positions end here: both kinds of gap need both.
    if not (highest < 0.1):
        return bits
    count, mean, least, most = 0, 0.0, np.inf, -np.inf
    for s in range(samples):
        ratio = work[TOP, s] / median[s]
        if left[s] == mode and ratio != 0:
            count += 1
            mean += ratio
            least, most = min(least, ratio), max(most, ratio)
    if count < 2 or not (most > 0.2):
        return bits
    mean /= count
    spread = 0.0
    for s in range(samples):
        ratio = work[TOP, s] / median[s]
        if left[s] == mode and ratio != 0:
            spread += (ratio - mean) ** 2
        if call[s] == minor and ratio != 0:
            square += (ratio - mean_small) ** 2
    variance = spread / (count - 1)
    z = abs(mean - mean_small) / math.sqrt(variance)
    unlike = math.erfc(z / math.sqrt(2.0)) / 2 < 0.01
    if unlike and highest < least and highest < 0.05:
        bits |= STRONG
    if small <= 3 and (unlike or t_test(mean, variance, count, mean_small, square, small) < 0.05):
        bits |= WEAK
    return bits


@compiled
def verdict(counts, inside, some_dropped, quality, over9, over20, median, verdicts):
    """Results of all filters for each position, for both states of the low-depth filter.

    Args:
        counts: int32 (positions, 8, samples).
        inside: bool (samples,): which samples the tensor has.
        some_dropped, quality: whether samples were dropped; whether the rules about quality apply.
        over9, over20: whether the filters for deeper groups apply.
        median: float64 (samples,).
        verdicts: uint16 (positions,); set to bits.
    """
    positions, _, samples = counts.shape
    work = np.empty((WORK, samples), np.int32)
    n, order = np.empty(5, np.int64), np.empty(4, np.int64)
    for i in range(positions):
        reads = counts[i]
        majors(reads, work)
        count_codes(work[MAJOR], n)
        verdicts[i] = 0
        if count_alleles(n) < 2:
            continue
        bits = VARIES
        if quality:
            site_order(n, order)
            bits |= _quality(reads, work, inside, order, some_dropped)
        for s in range(samples):
            both = (work[F, s] >= 1) & (work[R, s] >= 1)
            work[CALL, s] = work[MAJOR, s] if both else 0
        if _switch(work, n):
            bits |= SWITCH
        ambiguous = _is_ambiguous(work, n)
        for branch in range(2):
            if branch == 1 and not ambiguous:  # then it changes nothing
                bits |= (bits & 0xF0) << 4
                break
            _calls(work, branch == 1, over9, over20)
            count_codes(work[CALL], n)
            if count_alleles(n) >= 2:
                bits |= (CALLED | _depth(work, median, n)) << (4 * branch)
        verdicts[i] = bits
