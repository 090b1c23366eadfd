"""The arithmetic of a table: filters, verdict and features of positions; the README has the rules.

Everything here takes counts as int32 (positions, 8, samples), samples last, so that the loops over samples
run in vectors. Bases are 1 to 4 for A T C G, 0 for none. Among equal maxima the later base wins, as in a
stable ascending sort; sites are ordered by a stable descending one. Importing it loads the compiler.
"""

from penstock.workloads.snv.kernel.counting import narrow, tally
from penstock.workloads.snv.kernel.features import features, read_support
from penstock.workloads.snv.kernel.filters import carriers, count_ties, first_filter, verdict

__all__ = [
    "carriers", "count_ties", "features", "first_filter", "narrow", "read_support", "tally", "verdict",
]  # fmt: skip
