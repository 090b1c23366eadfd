"""The two-sided t-test, as scipy.stats has it."""

# What numba compiles has no types that a checker could follow.
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls, no-check-untyped-defs

from __future__ import annotations

import math

import numpy as np

from penstock.workloads.snv.kernel.compiling import inner


@inner
def t_test(mean, variance, count, mean_small, square, small):
    """Two-sided p value: one value against a sample, or two samples with unequal variances (Welch)."""
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
    return incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t))


@inner
def incomplete_beta(a, b, x):
    """The regularised incomplete beta function by continued fraction (DLMF 8.17.22, Lentz)."""
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
