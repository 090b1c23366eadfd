"""What became of the patients: means of each fold, and the blend against each expert, patient by patient."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

METRICS = ("mse", "mae", "psnr", "ssim")
_RESAMPLED = 2000
_SEED = 1337

Row = Mapping[str, Any]


def means(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Method -> metric -> mean over patients."""
    return {
        method: {m: float(np.mean(values[m])) for m in METRICS} for method, values in _columns(rows).items()
    }


def paired(rows: Sequence[Row]) -> dict[str, dict[str, dict[str, float]]]:
    """Expert -> metric -> what the differences blend - expert of the same patients say.

    ``difference`` is their mean; ``low`` and ``high`` its 95 % bootstrap interval (2,000 resamples, seed
    1337); ``dz`` is the mean over the standard deviation (0 where there is none); ``p`` that of the exact
    two-sided sign test; ``better`` the patients for whom the blend is better.
    """
    columns = _columns(rows)
    blend = columns.pop("blend", None)
    if blend is None:
        return {}
    return {
        expert: {m: _compare(blend[m] - values[m], lower=m in ("mse", "mae")) for m in METRICS}
        for expert, values in columns.items()
    }


def _compare(differences: Any, *, lower: bool) -> dict[str, float]:
    n = len(differences)
    signed = -differences if lower else differences
    better, worse = int((signed > 0).sum()), int((signed < 0).sum())
    drawn = np.random.default_rng(_SEED).integers(0, n, (_RESAMPLED, n))
    low, high = np.quantile(differences[drawn].mean(1), [0.025, 0.975])
    spread = float(differences.std(ddof=1)) if n > 1 else 0.0
    return {
        "patients": n,
        "difference": float(differences.mean()),
        "low": float(low),
        "high": float(high),
        "dz": float(differences.mean()) / spread if spread > 0 else 0.0,
        "p": sign_test(better, worse),
        "better": better,
    }


def sign_test(better: int, worse: int) -> float:
    """The probability of so uneven a count, or one more so, if both were as likely."""
    n, few = better + worse, min(better, worse)
    return min(1.0, float(2 * sum(math.comb(n, k) for k in range(few + 1)) / 2**n))


def _columns(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Method -> metric -> values, patients in the same order everywhere."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        columns = found.setdefault(row["method"], {m: [] for m in METRICS})
        for m in METRICS:
            columns[m].append(row[m])
    return {method: {m: np.array(v) for m, v in columns.items()} for method, columns in found.items()}
