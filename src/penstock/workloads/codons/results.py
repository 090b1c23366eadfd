"""Turns counts into the rows of ``codons.parquet`` and the content of ``summary.json``. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from penstock.plurals import plural
from penstock.sequences.options import sample_of, warnings_of
from penstock.workloads.codons import genetic_codes, indices
from penstock.workloads.codons import summary as s
from penstock.workloads.codons.tables import Row, codon_rows

STRANDS = {"forward": "+", "both": "+-"}
_GAPS = 0.01
"""Share of gap letters above which the input looks aligned."""
_STOPS = 0.005
"""Share of codons that are stops inside records above which a frame is not coding."""
_SHARES = ("codons", "ambiguous", "partial", "skipped", "dropped")


@dataclass(frozen=True)
class Reading:
    """The counts in one frame of one strand, of records with one genetic code.

    Attributes:
        code: the genetic code.
        strand: ``"+"`` or ``"-"``.
        frame: 0, 1 or 2.
        records: how many were read.
        counts: int64 of shape (64,).
        ledger: where each base went, see ``summary.ledger``.
    """

    code: int
    strand: str
    frame: int
    records: int
    counts: s.Vector
    ledger: Mapping[str, int]


@dataclass(frozen=True)
class Totals:
    """Totals over all records, whatever their code or frame."""

    records: int
    bases: int
    letters: Mapping[str, int]


def of_summary(summary: s.Vector, asked: Mapping[str, Any]) -> tuple[list[Reading], Totals]:
    """The readings of blocks whose records all have one code."""
    frames = range(3) if asked["frame"] == "all" else [int(asked["frame"])]
    drop, records = asked["drop_start"], int(summary[s.RECORDS])
    found = []
    for strand in STRANDS[asked["strand"]]:
        by_frame = s.frames(summary, strand)
        for frame in frames:
            counts = by_frame[frame] - s.starts(summary) if drop else by_frame[frame]
            ledger = s.ledger(summary, strand, frame, drop_start=drop)
            found.append(Reading(asked["codes"].default, strand, frame, records, counts, ledger))
    return found, Totals(records, int(summary[s.BASES]), s.letters(summary))


def of_sums(sums: s.Vector, codes: Sequence[int], frame: int) -> tuple[list[Reading], Totals]:
    """The readings of records that have codes of their own; those without one are in no reading."""
    found = []
    for code, row in zip(codes, sums[1:], strict=True):
        told = dict(zip(s.SUMMED, row[64:].tolist(), strict=True))
        if told["records"]:
            ledger = {name: told[name] for name in _SHARES}
            found.append(Reading(code, "+", frame, told["records"], row[:64], ledger))
    whole = dict(zip(s.SUMMED, sums[:, 64:].sum(axis=0).tolist(), strict=True))
    letters = {name: whole[name] for name in ("n", "iupac", "gap", "protein")}
    return found, Totals(whole["records"], whole["length"], letters)


def told(
    readings: Sequence[Reading], totals: Totals, asked: Mapping[str, Any], reference: s.Vector | None
) -> tuple[list[Row], dict[str, Any]]:
    """The rows of ``codons.parquet`` and the content of ``summary.json``."""
    rows: list[Row] = []
    ledgers: list[dict[str, Any]] = []
    for reading in readings:
        meaning = genetic_codes.translation(reading.code)
        counts = dict(zip(s.CODONS, reading.counts.tolist(), strict=True))
        kept = codon_rows(
            counts, meaning, strand=reading.strand, frame=reading.frame, skip_stops=asked["skip_stops"],
            min_count=asked["min_count"], dual=genetic_codes.dual(reading.code),
        )  # fmt: skip
        stops = sum(count for codon, count in counts.items() if meaning[codon] == "*")
        several = {"code": reading.code} if asked["by_code"] else {}
        rows += [several | row for row in kept]
        ledgers.append(
            {
                **several, "strand": reading.strand, "frame": reading.frame,
                **({"records": reading.records} if several else {}), **reading.ledger,
                "counted": sum(row["count"] for row in kept), "stops": stops,
                "internal_stops": max(stops - reading.records, 0),
                "indices": _indices(reading, asked, reference),
            }
        )  # fmt: skip
    content = {
        "schema": 2,
        "records": totals.records,
        "bases": totals.bases,
        **{key: sum(each[key] for each in ledgers) for key in _SHARES},
        "tables": ledgers,
        "letters": dict(totals.letters),
        "genetic_code": _codes(asked),
        "sample": sample_of(asked),
        "warnings": [*_of_letters(totals, asked), *_of_reading(ledgers, asked)],
    }
    return rows, content


def _indices(reading: Reading, asked: Mapping[str, Any], reference: s.Vector | None) -> Mapping[str, Any]:
    weights = None
    if reference is not None:
        weights = indices.weights(reference, reading.code, compat=asked["compat"] == "biopython")
    return indices.of_one(np.asarray(reading.counts), reading.code, weights)


def _codes(asked: Mapping[str, Any]) -> dict[str, Any]:
    codes = asked["codes"]
    if asked["files"]:
        return {"of_features": True, "default": codes.default}
    if codes.lines:
        return {
            "map": asked["genetic_code"],
            "names": {code: genetic_codes.name(code) for code in codes.codes},
        }
    return {"number": codes.default, "name": genetic_codes.name(codes.default)}


def _of_letters(totals: Totals, asked: Mapping[str, Any]) -> list[str]:
    told = []
    gaps = totals.letters["gap"]
    if gaps > _GAPS * totals.bases:
        what = "is a gap or stop" if gaps == 1 else "are gaps or stops"
        told.append(
            f"{gaps:,} of {plural(totals.bases, 'letter')} {what} ('-', '.', '*'): the input looks aligned. "
            "They hold their positions; remove them to count codons across them"
        )
    protein = totals.letters["protein"]
    return told + warnings_of(asked, records=totals.records, letters=totals.bases, protein=protein)


def _of_reading(ledgers: Sequence[Mapping[str, Any]], asked: Mapping[str, Any]) -> list[str]:
    """Warnings of what codons mean: no frame asked for is coding, or a stop is an amino acid too."""
    told = []
    for code in asked["numbers"]:
        own = [each for each in ledgers if each.get("code", code) == code]
        best = min(own, key=lambda each: each["internal_stops"] / max(each["codons"], 1), default=None)
        if best is not None and best["internal_stops"] > _STOPS * best["codons"]:
            share = best["internal_stops"] / best["codons"]
            of = f"genetic code {code}, " if asked["by_code"] else ""
            what = "is a stop" if best["internal_stops"] == 1 else "are stops"
            told.append(
                f"{best['internal_stops']:,} of {plural(best['codons'], 'codon')} ({share:.1%}) {what} "
                f"inside records ({of}strand {best['strand']}, frame {best['frame']}): this is not coding "
                "sequence in this frame, so neither counts nor RSCU are codon usage. Give coding sequences, "
                "or read them as counts of triplets"
            )
        if own and (dual := genetic_codes.dual(code)):
            one = len(dual) == 1
            what = "is a stop and an amino acid" if one else "are stops and amino acids"
            counted = "an amino acid" if one else "amino acids"
            left = "does not leave it out" if one else "leaves none of them out"
            skipped = f"; --skip-stops {left}" if asked["skip_stops"] else ""
            told.append(
                f"in genetic code {code} {', '.join(sorted(dual))} {what}, counted as {counted} "
                f"(column dual){skipped}"
            )
    return told
