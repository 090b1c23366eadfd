"""Summary over patients: means of each fold, and paired comparisons of the blend with each expert."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

METRICS = ("mse", "mae", "psnr", "ssim", "ssim_slices")
_RESAMPLED = 2000
_SEED = 1337

Row = Mapping[str, Any]


def means(rows: Sequence[Row]) -> dict[str, dict[str, float | None]]:
    """Method -> metric -> mean over patients; None where a metric is unknown for one."""
    return {method: {m: _mean(values[m]) for m in values} for method, values in _columns(rows).items()}


def paired(rows: Sequence[Row]) -> dict[str, dict[str, dict[str, Any]]]:
    """Expert -> metric -> statistics of the differences blend - expert over the same patients.

    Where experts were given the blend's mean and deviation, it is with these that it is compared: what a
    blend gains by being rescaled is no merit of blending.

    ``difference`` is their mean; ``low`` and ``high`` its 95 % bootstrap interval over patients (2,000
    resamples, seed 1337), conditional on the fits, since folds share patients that they learn from; ``dz`` is
    the mean over the standard deviation (None where there is none); ``p`` that of the exact two-sided sign
    test, ``p_holm`` the same corrected for all experts and metrics (Holm 1979); ``better`` the patients for
    whom the blend is better.
    """
    of_method: dict[str, dict[str, Row]] = {}
    for row in rows:
        of_method.setdefault(row["method"], {})[row["patient"]] = row
    blends = of_method.pop("blend", {})
    rescaled = {name: found for name, found in of_method.items() if "@" in name}
    compared: dict[str, dict[str, dict[str, Any]]] = {}
    for expert, found in (rescaled or of_method).items():
        both = [pid for pid in blends if pid in found]
        blend, other = (_columns([of[pid] for pid in both]) for of in (blends, found))
        compared[expert] = {
            m: _compare(mine - theirs, lower=m in ("mse", "mae"))
            for (m, mine), theirs in zip(_only(blend).items(), _only(other).values(), strict=True)
            if not np.isnan(mine - theirs).any()
        }
    every = [each for metrics in compared.values() for each in metrics.values()]
    for each, corrected in zip(every, holm([each["p"] for each in every]), strict=True):
        each["p_holm"] = corrected
    return compared


def notes(patients: int) -> list[str]:
    """Caveats for a reader of the comparison."""
    caveats = [
        "intervals and p values are conditional on the fits: folds share patients that they learn from"
    ]
    if patients < 6:
        caveats.append(
            f"of {patients} patients the sign test cannot give a p under {2 / 2**patients:g}; 0.05 takes 6"
        )
    return caveats


def choose(rows: Sequence[Row], combinations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Compare a sweep's settings: their errors on the test folds, and the value of choosing among them.

    Args:
        rows: a fold of a combination each, with ``error``, ``patients`` and ``inner_error``.
        combinations: the settings that differ.

    Returns ``means``: each combination with its mean error over patients, the best first, and that it was
    ``selected_on`` the folds that it is shown for; ``nested``: the mean error over patients when each fold's
    settings are chosen by the patients that it learns from alone, and which they are.
    """

    def of(combination: Mapping[str, Any]) -> list[Row]:
        return [row for row in rows if all(row[name] == value for name, value in combination.items())]

    ranked = [{**each, "error": _weighted([(row["error"], row["patients"]) for row in of(each)])}
            for each in combinations]  # fmt: skip
    ranked.sort(key=lambda row: math.inf if row["error"] is None else row["error"])
    folds = []
    for number in sorted({row["fold"] for row in rows}):
        own = [row for row in rows if row["fold"] == number and row["inner_error"] is not None]
        if own:
            best = min(own, key=lambda row: row["inner_error"])
            chosen = {name: best[name] for name in combinations[0]}
            folds.append({"fold": number, **chosen, "error": best["error"], "patients": best["patients"]})
    nested = {"error": _weighted([(each["error"], each["patients"]) for each in folds]), "folds": folds}
    return {"selected_on": "test folds", "means": ranked, "nested": nested}


def _weighted(errors: Sequence[tuple[float | None, int]]) -> float | None:
    """The mean over patients of means of folds."""
    known = [(error, patients) for error, patients in errors if error is not None and patients]
    if not known:
        return None
    return sum(error * patients for error, patients in known) / sum(patients for _, patients in known)


def holm(values: Sequence[float]) -> list[float]:
    """p values corrected for multiple tests, in their order (Holm 1979)."""
    corrected, least = [1.0] * len(values), 0.0
    for rank, at in enumerate(sorted(range(len(values)), key=lambda at: values[at])):
        least = max(least, min(1.0, (len(values) - rank) * values[at]))
        corrected[at] = least
    return corrected


def _mean(values: Any) -> float | None:
    return None if np.isnan(values).any() else float(np.mean(values))


def _compare(differences: Any, *, lower: bool) -> dict[str, Any]:
    n = len(differences)
    signed = -differences if lower else differences
    better, worse = int((signed > 0).sum()), int((signed < 0).sum())
    drawn = np.random.default_rng(_SEED).integers(0, n, (_RESAMPLED, n))
    low, high = np.quantile(differences[drawn].mean(1), [0.025, 0.975])
    # Differences that are equal but for rounding have no spread.
    spread = float(differences.std(ddof=1)) if n > 1 else 0.0
    some = spread > 1e-12 * float(np.abs(differences).max())
    return {
        "patients": n,
        "difference": float(differences.mean()),
        "low": float(low),
        "high": float(high),
        "dz": float(differences.mean()) / spread if some else None,
        "p": sign_test(better, worse),
        "better": better,
    }


def sign_test(better: int, worse: int) -> float:
    """The probability of a count at least this uneven, if both signs were equally likely."""
    n, few = better + worse, min(better, worse)
    return min(1.0, float(2 * sum(math.comb(n, k) for k in range(few + 1)) / 2**n))


def _only(columns: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Of the one method that there is."""
    return next(iter(columns.values()), {})


def _columns(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Method -> metric -> values, NaN where unknown; patients in the same order everywhere."""
    there = [m for m in METRICS if any(m in row for row in rows)]
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        columns = found.setdefault(row["method"], {m: [] for m in there})
        for m in there:
            columns[m].append(math.nan if row[m] is None else row[m])
    return {method: {m: np.array(v) for m, v in columns.items()} for method, columns in found.items()}
