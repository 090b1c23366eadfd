"""Turns counted records into rows of Arrow tables: one per record, or per file and genetic code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.workloads.codons import indices, reckoning
from penstock.workloads.codons.summary import CODONS, SUMMED
from penstock.workloads.codons.usage import Counted, Ints

if TYPE_CHECKING:
    import pyarrow as pa

_ALPHABETICAL = sorted(range(64), key=lambda code: CODONS[code])
_INDICES = ("gc", "gc1", "gc2", "gc3", "gc3s", "nc", "nc_weighted", "cai")


LEDGER = ("codons", "ambiguous", "partial", "skipped", "dropped")

ENCODING = {
    "id": "plain", "description": "plain", "file": "dictionary", "g*": "dictionary", "nc*": "dictionary",
    "cai": "dictionary", "*": "delta",
}  # fmt: skip
"""How columns of records are written: texts that seldom repeat, shares, of which short records have few, and
small counts."""


@cache
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
    counts: Ints, sums: Mapping[str, Ints], codes: Ints, reference: Ints | None, *, compat: bool = False,
    compiled: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """The columns that both tables derive from counts, as arrays; NaN where undefined.

    Args:
        counts: of records, or of sums of records, shape (n, 64).
        sums: their other columns by name, each of shape (n,).
        codes: the genetic code of each, shape (n,); 0 for none.
        reference: counts of the reference set of the CAI, shape (64,).
        compat: CAI as Biopython's.
        compiled: by compiled code; the numbers are the same.
    """
    found: dict[str, Any] = {"length": sums["length"]}
    for name in ("codons", "ambiguous", "partial", "skipped", "dropped"):
        found[name] = sums[name]
    floats = {name: np.full(len(counts), np.nan) for name in (*reckoning.NAMES, "cai")}
    stops = np.zeros(len(counts), np.int64)
    reckon = reckoning.compiled if compiled else reckoning.plain
    for code in set(codes.tolist()):
        at = codes == code
        own = counts if at.all() else counts[at]
        told, ended = reckon(own, code or 1)
        for name in reckoning.NAMES if code else reckoning.NAMES[:3]:  # these three depend on no code
            floats[name][at] = told[name]
        stops[at] = ended if code else 0
        if code and reference is not None:
            floats["cai"][at] = indices.cai(own, indices.weights(reference, code, compat=compat))
    found |= {"stops": stops, "gc": indices.share(sums["strong"], sums["known"])}
    by_codon = np.asfortranarray(counts)
    return found | floats | {CODONS[at]: by_codon[:, at] for at in range(64)}


def of_records(
    counted: Counted, path: str, ordinals: Ints, codes: Ints, reference: Ints | None, *,
    compat: bool = False, compiled: bool = False,
) -> pa.Table:  # fmt: skip
    """One row per record; arguments as for :func:`numbers`."""
    import pyarrow as pa

    ids, texts = texts_of(counted.headers)
    found = {"id": ids, "description": texts, "ordinal": ordinals, "file": pa.repeat(path, len(counted))}
    sums = {name: getattr(counted, name) for name in ("length", "strong", "known", *LEDGER)}
    told = numbers(counted.counts, sums, codes, reference, compat=compat, compiled=compiled)
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


_WHITE = np.zeros(256, np.bool_)
_WHITE[[*range(9, 14), *range(28, 33)]] = True
"""What ASCII has of blanks, as ``str.split`` knows them."""


def texts_of(headers: Sequence[bytes]) -> tuple[pa.Array, pa.Array]:
    """The ids of headers and the whole headers, as :func:`names_of` tells them, as Arrow arrays."""
    import pyarrow as pa

    data = b"".join(headers)
    text = np.frombuffer(data, np.uint8)
    lengths = np.fromiter(map(len, headers), np.int64, len(headers))
    ends = np.cumsum(lengths)
    begins = ends - lengths
    white = _WHITE[text]
    there = lengths > 0
    if not data.isascii() or white[begins[there]].any() or white[ends[there] - 1].any():
        names = names_of(headers)
        ids, texts = zip(*names, strict=True)
        return pa.array(ids, pa.string()), pa.array(texts, pa.string())
    places = np.append(np.flatnonzero(white), len(text))
    lengths = np.minimum(places[np.searchsorted(places, begins)], ends) - begins
    stops = np.cumsum(lengths)
    chosen = text[np.arange(lengths.sum()) + np.repeat(begins - (stops - lengths), lengths)]
    return _strings(stops, chosen), _strings(ends, text)


def _strings(ends: Ints, text: Any) -> pa.Array:
    """Texts that follow one another."""
    import pyarrow as pa

    offsets = np.append(0, ends).astype(np.int32)
    return pa.StringArray.from_buffers(len(ends), pa.py_buffer(offsets), pa.py_buffer(text))


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
