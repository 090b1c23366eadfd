"""The stages that count record by record, and how their results are used; in the parent."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import penstock
from penstock.errors import UsageError
from penstock.sequences.inputs import Inputs
from penstock.sequences.sampling import EVERY
from penstock.workloads.codons import coding, rows, summary
from penstock.workloads.codons.summary import SUMMED
from penstock.workloads.codons.usage_job import CountHeaders, CountRecords, FirstNames

_GRAIN = 8
"""Items a part of the tables: some 32 MiB of text."""
_ROWS = 1 << 14
"""Rows of a row group: 11 MB, of which writing takes some four times as much."""
_HASHES = 2_000_000
_NAMED = 3
"""Ids that several records have that are named, of the first _OFTEN records that repeat one."""
_OFTEN = 1000


def count(
    run: penstock.Run, inputs: Inputs, asked: Mapping[str, Any], limit: int | None,
    reference: summary.Vector | None, given: Mapping[str, penstock.Stored],
) -> penstock.Stored:  # fmt: skip
    """Count each record under the annotation given; see :class:`CountRecords` for the result."""
    firsts = np.zeros(len(inputs.source) + 1, np.int64)
    if asked["per_record"]:  # which numbers them
        function = coding.CountFeatures(bool(asked["files"].genbank)) if asked["files"] else CountHeaders()
        headers = penstock.Job(source=inputs.source, function=function, inputs=given, threads=1)
        found = run.stage("headers", headers).open()
        firsts[1:] = np.cumsum([each if isinstance(each, int) else 0 for each in found])
    return run.stage("usage", job(inputs, asked, limit, reference, {"firsts": firsts, **given}))


def job(
    inputs: Inputs, asked: Mapping[str, Any], limit: int | None, reference: summary.Vector | None,
    given: Mapping[str, Any],
) -> penstock.Job:  # fmt: skip
    """The job of the stage ``usage``; ``given`` is what its function gets besides items."""
    files = asked["files"]
    kind = partial(coding.CountCoding, genbank=bool(files.genbank)) if files else CountRecords
    function = kind(
        asked["codes"], frame=int(asked["frame"]), drop_start=asked["drop_start"], seed=asked["seed"],
        limit=EVERY if limit is None else limit, by_record=asked["per_record"], by_file=asked["per_file"],
        moments=asked["compare"] is not None, compat=asked["compat"] == "biopython",
        reference=None if reference is None else tuple(reference.tolist()),
        first_rows=len(inputs.source) - inputs.runs,
        compiled=not (files or inputs.small or find_spec("numba") is None),
    )  # fmt: skip
    into: dict[str, Any] = {"sums": penstock.reducers.Sum(), "unmatched": FirstNames()}
    if files:
        into["told"] = penstock.reducers.Sum()
        if files.gff:
            into["met"] = coding.Met()
    if asked["compare"] is not None:
        into["moments"] = penstock.reducers.Sum()
    if asked["per_record"]:
        columns = rows.schema(by_record=True, cai=reference is not None)
        into["records"] = penstock.sinks.Parquet(
            grain=_GRAIN, rows=_ROWS, schema=columns, encoding=rows.ENCODING,
            statistics=["id", "ordinal", "file"],
        )  # fmt: skip
    if asked["per_file"]:
        into["files"] = penstock.sinks.Parquet(grain=_GRAIN, schema=rows.file_sums())
    return penstock.Job(source=inputs.source, function=function, into=into, inputs=given, threads=1)


def write_files(path: Path, found: Any, reference: Sequence[int] | None, *, compat: bool) -> None:
    """Write the sums of each file's items, by genetic code, in the order of the files.

    Args:
        path: the table.
        found: the dataset ``files`` of the stage ``usage``.
        reference: counts of the reference set of the CAI; 64 numbers.
        compat: CAI as Biopython's.
    """
    import pyarrow.parquet as pq

    of_cai = None if reference is None else np.array(reference)
    with pq.ParquetWriter(path, rows.schema(by_record=False, cai=reference is not None)) as writer:
        for file, by_code in _by_file(found):
            writer.write_table(rows.of_file(file, by_code, of_cai, compat=compat))


def _by_file(found: Any) -> Iterator[tuple[str, dict[int, NDArray[np.int64]]]]:
    """The sums of each file by genetic code."""
    path: str | None = None
    sums: dict[int, NDArray[np.int64]] = {}
    for batch in found.to_batches(batch_readahead=1, fragment_readahead=1, use_threads=False):
        for row in batch.to_pylist():
            if row["file"] != path:
                if path is not None:
                    yield path, sums
                path, sums = row["file"], {}
            held = sums.setdefault(row["genetic_code"], np.zeros(64 + len(SUMMED), np.int64))
            held += row["sums"]
    if path is not None:
        yield path, sums


def duplicates(folder: Path, records: int) -> tuple[int, list[str]]:
    """How many records repeat the id of an earlier one, and the ids of the first of these.

    Args:
        folder: of the table ``records`` of the stage ``usage``.
        records: how many rows it has.

    Looks at the ids in several passes, each at those of a part of all hashes, so that memory does not grow
    with records: two million hashes of 64 bits at a time. Hashes differ from process to process; which
    records repeat an id does not.
    """
    passes = -(-records // _HASHES) or 1
    count, first = 0, np.zeros(0, np.int64)
    for each in range(passes):
        chosen = [(hashes[own], at + np.flatnonzero(own)) for at, hashes in _hashes(folder)
                  for own in [hashes % passes == each]]  # fmt: skip
        if not chosen:
            break
        hashes, ordinals = (np.concatenate(parts) for parts in zip(*chosen, strict=True))
        order = np.argsort(hashes, kind="stable")
        again = order[1:][hashes[order][1:] == hashes[order][:-1]]
        count += len(again)
        first = np.sort(np.concatenate((first, np.sort(ordinals[again])[:_OFTEN])))[:_OFTEN]
    return count, _different(_ids_at(folder, first.tolist()))


def _hashes(folder: Path) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Hashes of the ids, some at a time, and the number of the first."""
    at = 0
    for names in _ids(folder):
        yield at, np.fromiter(map(hash, names), np.int64, len(names))
        at += len(names)


def _ids(folder: Path) -> Iterator[list[str]]:
    import pyarrow.parquet as pq  # as a dataset, whose import takes longer than most tables

    for part in sorted(folder.glob("part-*.parquet")):
        with pq.ParquetFile(part, pre_buffer=False) as rows:
            for batch in rows.iter_batches(columns=["id"], use_threads=False):
                yield batch.column(0).to_pylist()


def _ids_at(folder: Path, wanted: Sequence[int]) -> Iterator[str]:
    """The ids of the records of these numbers, which ascend."""
    at, left = 0, list(wanted)
    for names in _ids(folder):
        while left and left[0] < at + len(names):
            yield names[left.pop(0) - at]
        if not left:
            return
        at += len(names)


def _different(names: Iterator[str]) -> list[str]:
    return list(dict.fromkeys(names))[:_NAMED]


# ------------------------------------------------------------------ a sample beside the whole


def compare(
    moments: NDArray[np.int64], sums: NDArray[np.int64], asked: Mapping[str, Any]
) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """The columns of ``comparison.parquet``, a sample's frequencies beside another run's; and a summary.

    The expected error is that of a ratio of sums over records drawn without replacement (Cochran 1977,
    section 6.3): codons of one record are alike, so that their number alone would promise too much.

    Raises:
        UsageError: the other run has no table of all codons of this reading.
    """
    whole, others = _other(Path(asked["compare"]), asked)
    x, records = sums[:, :64].sum(axis=0), int(sums[:, 64].sum())
    n = int(x.sum())
    p, q = x / max(n, 1), whole / max(whole.sum(), 1)
    squares = moments[:64] - 2 * p * moments[64:128] + p * p * moments[128]
    spread = np.maximum(squares, 0) / max(records - 1, 1)
    left = max(1 - records / others, 0) if others else 0
    error = np.sqrt(left * spread * records) / max(n, 1)
    order = sorted(range(64), key=lambda at: summary.CODONS[at])
    z = np.divide(p - q, error, out=np.full(64, np.nan), where=error > 0)
    columns = {
        "codon": [summary.CODONS[at] for at in order],
        "count": x[order].tolist(),
        "freq": p[order].tolist(),
        "freq_compared": q[order].tolist(),
        "difference": (p - q)[order].tolist(),
        "standard_error": error[order].tolist(),
        "z": [None if np.isnan(each) else float(each) for each in z[order]],
    }
    known = z[~np.isnan(z)]
    short = {
        "run": str(asked["compare"]),
        "records": records,
        "records_compared": others,
        "largest_difference": float(np.abs(p - q).max()),
        "largest_standard_error": float(error.max()),
        "within_2_standard_errors": int((np.abs(known) <= 2).sum()),
        "of_codons": len(known),
    }
    return columns, short


def _other(folder: Path, asked: Mapping[str, Any]) -> tuple[NDArray[np.int64], int]:
    """The counts of another run in the same frame, and how many records it had."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(folder / "codons.parquet", columns=["strand", "frame", "codon", "count"])
        told = json.loads((folder / "summary.json").read_bytes())
        records = int(told["records"])
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise UsageError(
            f"--compare {str(folder)!r} is no folder of a finished run of codons: {type(error).__name__}: "
            f"{error}"
        ) from None
    counts = np.zeros(64, np.int64)
    seen = set()
    for row in table.to_pylist():
        if row["strand"] == "+" and str(row["frame"]) == asked["frame"] and row["codon"] in summary.CODONS:
            counts[summary.CODONS.index(row["codon"])] += row["count"]
            seen.add(row["codon"])
    if len(seen) < 64:
        raise UsageError(
            f"--compare {str(folder)!r} has {len(seen)} of the 64 codons of strand + and frame "
            f"{asked['frame']}: give a run of this frame, without --skip-stops and --min-count"
        )
    return counts, records
