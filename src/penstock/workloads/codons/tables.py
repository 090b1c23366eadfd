"""Turns counts into the rows of ``codons.parquet``. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

Row = dict[str, Any]


def codon_rows(
    counts: Mapping[str, int],
    meaning: Mapping[str, str],
    *,
    strand: str,
    frame: int,
    skip_stops: bool = False,
    min_count: int = 0,
    dual: Collection[str] = (),
) -> list[Row]:
    """The rows of one strand and frame, by count descending, then codon.

    ``freq`` and ``per_1000`` are shares of the rows that are left, and null when these count
    nothing. ``fraction`` is count / family total, and ``rscu`` is that times the family's size (Sharp and Li
    1987), where a family is all codons of one amino acid in the genetic code, zeros and rows left out
    included; the stops are a family, ``*``. Both are null when the family was not seen. ``family`` is how
    many codons the family has: in one of 1 there is no usage to speak of, and ``rscu`` is 1 by definition.

    Args:
        counts: of all 64 codons.
        meaning: amino acid of each codon, ``*`` for stops.
        strand: ``"+"`` or ``"-"``.
        frame: 0, 1 or 2.
        skip_stops: leave the stop codons out.
        min_count: leave codons that were counted less often out.
        dual: codons that are stops too; marked in the column of that name.
    """
    sizes = Counter(meaning.values())
    totals: Counter[str] = Counter()
    for codon, count in counts.items():
        totals[meaning[codon]] += count
    kept = [
        codon
        for codon in sorted(counts, key=lambda codon: (-counts[codon], codon))
        if counts[codon] >= min_count and not (skip_stops and meaning[codon] == "*")
    ]
    whole = sum(counts[codon] for codon in kept)
    rows = []
    for codon in kept:
        count, amino_acid = counts[codon], meaning[codon]
        family = totals[amino_acid]
        rows.append(
            {
                "strand": strand,
                "frame": frame,
                "codon": codon,
                "aa": amino_acid,
                "family": sizes[amino_acid],
                "dual": codon in dual,
                "count": count,
                "freq": count / whole if whole else None,
                "per_1000": 1000 * count / whole if whole else None,
                "fraction": count / family if family else None,
                "rscu": count * sizes[amino_acid] / family if family else None,
            }
        )
    return rows
