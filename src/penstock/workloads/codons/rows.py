"""Turns counted records into rows of Arrow tables: one per record, or per file and genetic code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.workloads.codons import indices
from penstock.workloads.codons.summary import CODONS
from penstock.workloads.codons.usage import SUMMED, Counted, Ints

if TYPE_CHECKING:
    import pyarrow as pa

_ALPHABETICAL = sorted(range(64), key=lambda code: CODONS[code])
_INDICES = ("gc", "gc1", "gc2", "gc3", "gc3s", "nc", "nc_weighted", "cai")


LEDGER = ("codons", "ambiguous", "partial", "skipped", "dropped")


def schema(*, by_record: bool, cai: bool) -> pa.Schema:
    """The columns of the table of records, or of files."""
    import pyarrow as pa

    names = [("file", pa.string()), ("records", pa.int64())]
    if by_record:
        texts = ("id", "description", "file")
        names = [(name, pa.string()) for name in texts]
        names.insert(1, ("ordinal", pa.int64()))
    counts = [(name, pa.int64()) for name in (*LEDGER, "stops")]
    floats = [(name, pa.float64()) for name in _INDICES if cai or name != "cai"]
    codons = [(CODONS[at], pa.int64()) for at in _ALPHABETICAL]
    return pa.schema(
        [*names, ("length", pa.int64()), ("genetic_code", pa.int16()), *counts, *floats, *codons]
    )


def file_sums() -> pa.Schema:
    """The columns of sums by item, file and genetic code (0 for none)."""
    import pyarrow as pa

    return pa.schema([("file", pa.string()), ("genetic_code", pa.int16()), ("sums", pa.list_(pa.int64()))])


def numbers(
    counts: Ints, sums: Mapping[str, Ints], codes: Ints, reference: Ints | None, *, compat: bool = False
) -> dict[str, Any]:
    """The columns that both tables derive from counts, as arrays; NaN where undefined.

    Args:
        counts: of records, or of sums of records, shape (n, 64).
        sums: their other columns by name, each of shape (n,).
        codes: the genetic code of each, shape (n,); 0 for none.
        reference: counts of the reference set of the CAI, shape (64,).
        compat: CAI as Biopython's.
    """
    found: dict[str, Any] = {"length": sums["length"]}
    for name in ("codons", "ambiguous", "partial", "skipped", "dropped"):
        found[name] = sums[name]
    floats = {name: np.full(len(counts), np.nan) for name in ("gc3s", "nc", "nc_weighted", "cai")}
    stops = np.zeros(len(counts), np.int64)
    by_codon = np.asfortranarray(counts)
    for code in set(codes[codes > 0].tolist()):
        at = codes == code
        own = by_codon if at.all() else np.asfortranarray(counts[at])
        floats["gc3s"][at] = indices.gc3s(own, code)
        floats["nc"][at] = indices.nc(own, code)
        floats["nc_weighted"][at] = indices.nc_weighted(own, code)
        stops[at] = own.T[list(indices.families(code).get("*", ()))].sum(axis=0)
        if reference is not None:
            floats["cai"][at] = indices.cai(counts[at], indices.weights(reference, code, compat=compat))
    by_position = indices.gc_by_position(by_codon)
    found |= {"stops": stops, "gc": indices.share(sums["strong"], sums["known"])}
    found |= {f"gc{at + 1}": by_position[:, at] for at in range(3)}
    return found | floats | {CODONS[at]: by_codon[:, at] for at in range(64)}


def of_records(
    counted: Counted, names: Sequence[tuple[str, str]], path: str, ordinals: Ints, codes: Ints,
    reference: Ints | None, *, compat: bool = False,
) -> pa.Table:  # fmt: skip
    """One row per record; ``names`` are ids and headers."""
    found = {
        "id": [name for name, _ in names], "description": [text for _, text in names], "ordinal": ordinals,
        "file": [path] * len(counted),
    }  # fmt: skip
    sums = {name: getattr(counted, name) for name in ("length", "strong", "known", *LEDGER)}
    told = numbers(counted.counts, sums, codes, reference, compat=compat)
    return _table(found | told, codes, schema(by_record=True, cai=reference is not None))


def of_file(path: str, by_code: Mapping[int, Ints], reference: Ints | None, *, compat: bool) -> pa.Table:
    """One row per genetic code of a file, from sums as ``usage_job`` names them; those without one first."""
    codes = np.array(sorted(by_code), np.int64)
    sums = np.stack([by_code[code] for code in codes.tolist()])
    named = {name: sums[:, 64 + at] for at, name in enumerate(SUMMED)}
    found = {"file": [path] * len(codes), "records": named["records"]}
    told = numbers(sums[:, :64], named, codes, reference, compat=compat)
    return _table(found | told, codes, schema(by_record=False, cai=reference is not None))


def _table(found: dict[str, Any], codes: Ints, kind: pa.Schema) -> pa.Table:
    import pyarrow as pa

    found["genetic_code"] = pa.array(codes.astype(np.int16), mask=codes == 0)
    found["stops"] = pa.array(found["stops"], mask=codes == 0)
    arrays = [_column(found[each.name], each.type) for each in kind]
    return pa.Table.from_arrays(arrays, schema=kind)


def _column(values: Any, kind: pa.DataType) -> pa.Array:
    import pyarrow as pa

    if isinstance(values, pa.Array):
        return values
    if isinstance(values, np.ndarray):
        values = np.ascontiguousarray(values)
    return pa.array(values, kind, from_pandas=True)


def names_of(headers: Iterable[bytes]) -> list[tuple[str, str]]:
    """The id of each header, which is its first word, and the whole header."""
    held = list(headers)
    try:
        texts = b"\n".join(held).decode().split("\n") if held else []
    except UnicodeDecodeError:
        texts = [_decoded(header) for header in held]
    texts = [text.strip() for text in texts]
    return [(text.split(None, 1)[0] if text else "", text) for text in texts]


def _decoded(header: bytes) -> str:
    try:
        return header.decode()
    except UnicodeDecodeError:
        return header.decode("latin-1")
