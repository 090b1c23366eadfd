"""Bases of samples: the most frequent ones, their counts, and their order at a site."""

# What numba compiles has no types that a checker could follow.
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls, no-check-untyped-defs

from __future__ import annotations

import numpy as np

from penstock.workloads.snv.kernel.compiling import inner

# Rows of a position's work table.
MAJOR, FORWARD, REVERSE, F, R, TOP, SECOND, CALL, LEFT, WORK = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9


@inner
def later(a0, a1, a2, a3):
    """The base with the largest value, the later among equals; 0 if all are 0."""
    top, base = a0, 1
    if a1 >= top:
        top, base = a1, 2
    if a2 >= top:
        top, base = a2, 3
    if a3 >= top:
        top, base = a3, 4
    return base if top > 0 else 0


@inner
def majors(reads, work):
    """Fill the rows of the work table that depend on one sample each."""
    for s in range(reads.shape[1]):
        f0, f1, f2, f3 = reads[0, s], reads[1, s], reads[2, s], reads[3, s]
        r0, r1, r2, r3 = reads[4, s], reads[5, s], reads[6, s], reads[7, s]
        a0, a1, a2, a3 = f0 + r0, f1 + r1, f2 + r2, f3 + r3
        work[MAJOR, s] = later(a0, a1, a2, a3)
        work[FORWARD, s] = later(f0, f1, f2, f3)
        work[REVERSE, s] = later(r0, r1, r2, r3)
        work[F, s] = f0 + f1 + f2 + f3
        work[R, s] = r0 + r1 + r2 + r3
        high, low = max(a0, a1), min(a0, a1)
        high2, low2 = max(a2, a3), min(a2, a3)
        work[TOP, s] = max(high, high2)
        work[SECOND, s] = max(min(high, high2), low if high > high2 else low2)


@inner
def count_codes(codes, n):
    """Count each code, into ``n`` (5,)."""
    one = two = three = four = np.uint32(0)
    for s in range(len(codes)):  # comparisons and sums of 32 bits: a vector at a time
        code = codes[s]
        one = np.uint32(one + np.uint32(code == 1))
        two = np.uint32(two + np.uint32(code == 2))
        three = np.uint32(three + np.uint32(code == 3))
        four = np.uint32(four + np.uint32(code == 4))
    n[1], n[2], n[3], n[4] = one, two, three, four
    n[0] = len(codes) - (n[1] + n[2] + n[3] + n[4])


@inner
def commonest(n):
    """The most frequent base, the smallest among equals; 1 if there is none."""
    best, base = 0, 1
    for b in range(1, 5):
        if n[b] > best:
            best, base = n[b], b
    return base


@inner
def count_alleles(n):
    return (n[1] > 0) + (n[2] > 0) + (n[3] > 0) + (n[4] > 0)


@inner
def site_order(n, order):
    """Bases 0 to 3 by how many samples have them as their major base, the smaller first among equals."""
    for i in range(4):
        j = i
        while j > 0 and n[1 + order[j - 1]] < n[1 + i]:
            order[j] = order[j - 1]
            j -= 1
        order[j] = i
