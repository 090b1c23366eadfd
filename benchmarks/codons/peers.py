"""Codon counts of frame 0 by other tools; each prints ``{codon: count}`` as JSON.

    python benchmarks/codons/peers.py biopython FILE

Covers a Biopython loop and Spark in the way that the design of the OpenGenome project proposed
(rows in batches, ``mapInPandas``, a row for each codon, one ``groupBy``). Each reads each record from its
first base, upper-cased, and leaves out codons with letters other than A, C, G and T.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

_ACGT = frozenset("ACGT")


def biopython(path: str) -> dict[str, int]:
    """A loop over records and codons."""
    from Bio import SeqIO

    counts: Counter[str] = Counter()
    for record in SeqIO.parse(path, "fasta"):
        sequence = str(record.seq).upper()
        counts.update(sequence[i : i + 3] for i in range(0, len(sequence) - 2, 3))
    return {codon: count for codon, count in counts.items() if _ACGT.issuperset(codon)}


def spark(path: str) -> dict[str, int]:
    """The document's plan, with its batches taken from row numbers that do not lose rows."""
    from Bio import SeqIO
    from pyspark.sql import SparkSession

    def explode(frames: Iterator[Any]) -> Iterator[Any]:
        import pandas as pd

        for frame in frames:
            found: Counter[str] = Counter()
            for sequence in frame["sequence"]:
                found.update(sequence[i : i + 3] for i in range(0, len(sequence) - 2, 3))
            kept = {codon: count for codon, count in found.items() if _ACGT.issuperset(codon)}
            yield pd.DataFrame({"codon": list(kept), "count": list(kept.values())})

    session = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    rows = [(str(record.seq).upper(),) for record in SeqIO.parse(path, "fasta")]
    counts: Counter[str] = Counter()
    for at in range(0, len(rows), 500):
        data = session.createDataFrame(rows[at : at + 500], "sequence string")
        summed = data.mapInPandas(explode, "codon string, count long").groupBy("codon").sum("count")
        counts.update({row[0]: row[1] for row in summed.collect()})
    session.stop()
    return dict(counts)


if __name__ == "__main__":
    name, file = sys.argv[1:]
    print(json.dumps({"biopython": biopython, "spark": spark}[name](file)))
