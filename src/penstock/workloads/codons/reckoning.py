"""The indices of many rows of counts at once: by NumPy or by compiled code, in the same numbers."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.machine_code import Function
from penstock.workloads.codons import indices

Counts = NDArray[np.int64]

NAMES = ("gc1", "gc2", "gc3", "gc3s", "nc", "nc_weighted")
GC1, GC3S, NC, NC_WEIGHTED = 0, 3, 4, 5
"""Where indices are among these names."""
SENSE, SINGLES, CLASSES = 0, 1, 2
"""
A genetic code as numbers: how many codons are no stops, how many families have one codon, how many sizes
others have; then for each size, ascending: the size, how many families, and the codes of their codons, family
by family.
"""
_SIZES = 65

_reckon = Function(
    f"{__package__}.index_kernel",
    "reckon",
    [
        "const int64[:,::1]", "const int64[::1]", "const int64[::1]", "float64[::1]", "float64[:,::1]",
        "int64[::1]",
    ],
    needs=(__name__, "penstock.sequences.vectors"),
)  # fmt: skip
note, load = _reckon.note, _reckon.load


def compiled(counts: Counts, code: int) -> tuple[dict[str, NDArray[np.float64]], Counts]:
    """As :func:`plain`, by compiled code."""
    out, stops = np.empty((len(NAMES), len(counts))), np.empty(len(counts), np.int64)
    layout, ends = _layout(code)
    _reckon(np.ascontiguousarray(counts), layout, ends, np.empty(_SIZES), out, stops)
    return dict(zip(NAMES, out, strict=True)), stops


def plain(counts: Counts, code: int) -> tuple[dict[str, NDArray[np.float64]], Counts]:
    """The indices by name, and how many stop codons there are.

    Args:
        counts: int64, shape (n, 64).
        code: number of the genetic code.
    """
    by_codon = np.asfortranarray(counts)
    found = {f"gc{at + 1}": column for at, column in enumerate(indices.gc_by_position(by_codon).T)}
    for function in (indices.gc3s, indices.nc, indices.nc_weighted):
        found[function.__name__] = function(by_codon, code)
    return found, by_codon.T[list(indices.families(code).get("*", ()))].sum(axis=0)


@cache
def _layout(code: int) -> tuple[Any, Any]:
    """Families and stops of a genetic code."""
    classes = indices.classes(code)
    told = [len(indices.sense(code)), indices.singles(code), len(classes)]
    for size, members in classes.items():
        told += [size, len(members), *(codon for codons in members for codon in codons)]
    return np.array(told, np.int64), np.array(indices.families(code).get("*", ()), np.int64)
