"""Codon usage in other programs' text formats: EMBOSS cusp and codonW's pooled table. Pure."""

from __future__ import annotations

import numpy as np

from penstock.workloads.codons import genetic_codes, indices
from penstock.workloads.codons.summary import CODONS, Vector

_THREE = {
    "A": "Ala", "C": "Cys", "D": "Asp", "E": "Glu", "F": "Phe", "G": "Gly", "H": "His", "I": "Ile",
    "K": "Lys", "L": "Leu", "M": "Met", "N": "Asn", "P": "Pro", "Q": "Gln", "R": "Arg", "S": "Ser",
    "T": "Thr", "V": "Val", "W": "Trp", "Y": "Tyr", "*": "TER",
}  # fmt: skip


def cusp(counts: Vector, code: int, records: int) -> str:
    """As EMBOSS 6.6 cusp: by amino acid, stops last; fraction of the family, per 1000, number."""
    meaning = genetic_codes.translation(code)
    by_codon = dict(zip(CODONS, counts.tolist(), strict=True))
    shares = np.nan_to_num(indices.gc_by_position(counts[None])[0]) * 100
    lines = [
        f"#CdsCount: {records}", "", f"#Coding GC {shares.mean():.2f}%", f"#1st letter GC {shares[0]:.2f}%",
        f"#2nd letter GC {shares[1]:.2f}%", f"#3rd letter GC {shares[2]:.2f}%", "",
        "#Codon AA Fraction Frequency Number",
    ]  # fmt: skip
    total = sum(by_codon.values())
    for codon in sorted(CODONS, key=lambda codon: (meaning[codon] == "*", meaning[codon], codon)):
        family = sum(by_codon[other] for other in CODONS if meaning[other] == meaning[codon])
        fraction = by_codon[codon] / family if family else 0
        per_1000 = 1000 * by_codon[codon] / total if total else 0
        lines.append(f"{codon}    {meaning[codon]} {fraction:9.3f} {per_1000:9.3f} {by_codon[codon]:6d}")
    return "\n".join(lines) + "\n"


def codonw(counts: Vector, code: int) -> str:
    """As codonW 1.4.4's pooled table (-cutot): number and RSCU in a textbook's order, in RNA letters."""
    meaning = genetic_codes.translation(code)
    by_codon = dict(zip(CODONS, counts.tolist(), strict=True))
    rscu = dict(zip(CODONS, np.nan_to_num(indices.rscu(counts[None], code)[0]).tolist(), strict=True))
    lines = []
    last: dict[str, str] = {}
    for first in "TCAG":
        for third in "TCAG":
            line = ""
            for second in "TCAG":
                codon = first + second + third
                amino_acid = meaning[codon]
                shown = _THREE[amino_acid] if last.get(second) != amino_acid else "   "
                last[second] = amino_acid
                line += f"{shown} {codon.replace('T', 'U')}{by_codon[codon]:5d} {rscu[codon]:4.2f} "
            lines.append(line)
        lines.append("")
    name = "Universal Genetic code" if code == 1 else genetic_codes.name(code)
    lines.append(f"{sum(by_codon.values())} codons in Average of genes (used {name})\n")
    return "\n".join(lines) + "\n"
