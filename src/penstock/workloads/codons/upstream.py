"""Codon counts as in the original: its rules, its options by their names, its columns.

One frame of the forward strand, in the standard code. Only A, C, G and T are bases there, U is none; without
``--skip-n`` every triplet of letters is a key of its own, with the amino acid X. Counts below ``min_count``
are left out first, shares are of what is left, stops are left out after that (so that shares do not add up to
one then), and RSCU is over the codons of an amino acid that are still in the table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import penstock
from penstock.sequences.inputs import Inputs, Rows
from penstock.sequences.sampling import EVERY
from penstock.sources.fasta import Block
from penstock.workloads.codons import genetic_codes, summary, vectorised
from penstock.workloads.codons.usage import Reader
from penstock.workloads.codons.usage_job import opened, sampled

if TYPE_CHECKING:
    import pyarrow as pa

_FIRST = 32
"""Codes of letters that are no base begin here: one for each."""
_ODD = "BDEFHIJKLMNOPQRSUVWXYZ-.*~?"


def _table() -> bytes:
    kinds = np.frombuffer(bytearray(vectorised.TABLE), np.uint8)
    for at, letter in enumerate(_ODD):
        for each in letter + letter.lower():
            kinds[ord(each)] = _FIRST + at
    return kinds.tobytes()


_TABLE = _table()
_LETTERS = np.array(list("ACTG" + " " * (_FIRST - 4) + _ODD))


@dataclass(frozen=True)
class CountTriplets:
    """Counts how often each triplet occurs in an item, by its letters.

    Args:
        frame: letters to skip at the start of each record.
        skip_n: leave out triplets with any letter but A, C, G and T.
        seed, limit: of the sample, see ``sampling``.
    """

    frame: int = 0
    skip_n: bool = True
    seed: int = 0
    limit: int = EVERY

    def __call__(self, item: Block | Rows) -> dict[str, int]:
        """Count."""
        found: Counter[str] = Counter()
        total = np.zeros(64, np.int64)

        def odd(triplets: Any) -> None:
            keys, counts = np.unique(triplets, axis=0, return_counts=True)
            for key, count in zip(_LETTERS[keys].tolist(), counts.tolist(), strict=True):
                found["".join(key)] += count

        text, bad = opened(item)
        reader = Reader(bad, frame=self.frame, table=_TABLE, odd=None if self.skip_n else odd)
        seen = 0
        for counted in reader.read(text):
            index = np.arange(seen, seen + len(counted))
            seen += len(counted)
            kept = sampled(item, counted, index, self.seed, self.limit)
            total += counted.counts[kept].sum(axis=0)
        pure = {codon: count for codon, count in zip(summary.CODONS, total.tolist(), strict=True) if count}
        return dict(found) | pure


def job(inputs: Inputs, asked: Mapping[str, Any], limit: int | None) -> penstock.Job:
    """The job that counts."""
    chosen = EVERY if limit is None else limit
    function = CountTriplets(int(asked["frame"]), asked["skip_n"], asked["seed"], chosen)
    return penstock.Job(source=inputs.source, function=function, into=penstock.reducers.Count(), threads=1)


def table(counts: Mapping[str, int], *, min_count: int, skip_stops: bool) -> list[dict[str, Any]]:
    """The rows of its table of codons: by count descending, then codon."""
    meaning = genetic_codes.translation(1)
    left = {codon: count for codon, count in counts.items() if count >= min_count}
    total = sum(left.values())
    found = [
        {"codon": codon, "count": count, "freq": count / total, "aa": meaning.get(codon, "X")}
        for codon, count in sorted(left.items(), key=lambda each: (-each[1], each[0]))
    ]
    return [row for row in found if not (skip_stops and row["aa"] == "*")]


def with_rscu(found: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of its table of RSCU: by RSCU descending, then codon."""
    found = list(found)
    size = Counter(row["aa"] for row in found)
    total: Counter[str] = Counter()
    for row in found:
        total[row["aa"]] += row["count"]
    told = [{**row, "rscu": row["count"] / total[row["aa"]] * size[row["aa"]]} for row in found]
    return sorted(told, key=lambda row: (-row["rscu"], row["codon"]))


def schema(*, rscu: bool) -> pa.Schema:
    """Its columns."""
    import pyarrow as pa

    columns = [("codon", pa.string()), ("count", pa.int64()), ("freq", pa.float64()), ("aa", pa.string())]
    return pa.schema([*columns, ("rscu", pa.float64())] if rscu else columns)


def shown(found: list[dict[str, Any]], top: int) -> list[str]:
    """The lines that the original prints: statistics, and the most frequent codons."""
    if not found:
        return ["no codons"]
    total, freqs = sum(row["count"] for row in found), [row["freq"] for row in found]
    lines = [
        f"unique codons {len(found)}, total {total}",
        f"frequency: mean {sum(freqs) / len(freqs):.6f}, max {max(freqs):.6f}, min {min(freqs):.6f}",
    ]
    return lines + [
        f"{row['codon']}  {row['aa']}  {row['count']:>12}  {100 * row['count'] / total:6.2f} %"
        for row in found[:top]
    ]
