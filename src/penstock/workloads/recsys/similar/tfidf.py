"""TF-IDF of texts as in scikit-learn's ``TfidfVectorizer``, with the vocabulary built in bounded memory.

Lower case, words of two characters or more, or n-grams of two and three characters; idf = ln((1 + n) /
(1 + df)) + 1; rows of unit length. Of more terms than are wanted those that occur most often are kept, and
among equal ones those that come first (scikit-learn leaves that to its sort).

Texts in Chinese, Japanese or Korean have no spaces between words: a pattern of words takes a whole clause
for one. Where such characters are more than a fifth of all, n-grams are counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from penstock.workloads.recsys.shared import tables

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

CJK_SHARE = 0.2
"""Of the characters that are no spaces; above it ``auto`` counts n-grams."""
_HELD = 32 << 20
"""Bytes of counts that are gathered before they are summed up."""

_WORDS = re.compile(r"\b\w\w+\b")
_SPACES = re.compile(r"\s\s+")
# Ideographs with their extensions, kana, hangul.
_CJK = ((0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xAC00, 0xD7AF), (0xF900, 0xFAFF),
        (0x20000, 0x323AF))  # fmt: skip


def words(text: str) -> list[str]:
    """The words of a text, at least two characters long, in lower case."""
    return _WORDS.findall(text.lower())


def characters(text: str) -> list[str]:
    """All character n-grams of two and three, in lower case, with spaces collapsed."""
    text = _SPACES.sub(" ", text.lower())
    return [text[at : at + size] for size in (2, 3) for at in range(len(text) - size + 1)]


ANALYZERS: dict[str, Callable[[str], list[str]]] = {"word": words, "char": characters}


def texts_of(table: pa.Table) -> list[str]:
    """A text for each row: its columns joined by a space, nulls as empty."""
    columns = [
        tables.texts_of(column, f"column {name}")
        for name, column in zip(table.schema.names, table.columns, strict=True)
    ]
    return [" ".join(part or "" for part in row) for row in zip(*columns, strict=True)]


def count_cjk(text: str) -> tuple[int, int]:
    """How many characters are Chinese, Japanese or Korean, and how many are not spaces."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    found = sum(int(np.count_nonzero((codes >= low) & (codes <= high))) for low, high in _CJK)
    return found, len(codes) - sum(map(text.count, " \t\r\n\u3000"))


def count_terms(texts: Iterable[str], analyzer: str) -> pa.Table:
    """The terms of some texts, ascending: ``term``, its number of ``rows``, its ``count`` of occurrences."""
    import pyarrow as pa

    split = ANALYZERS[analyzer]
    rows: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for text in texts:
        own = Counter(split(text))
        rows.update(own.keys())
        counts.update(own)
    terms = sorted(rows)
    return pa.table(
        {
            "term": pa.array(terms, pa.string()),
            "rows": pa.array([rows[term] for term in terms], pa.int64()),
            "count": pa.array([counts[term] for term in terms], pa.int64()),
        }
    )


@dataclass(frozen=True)
class Vocabulary:
    """The terms that become columns, ascending.

    Attributes:
        columns: the column of each.
        idf: float64 (terms).
    """

    columns: Mapping[str, int]
    idf: NDArray[np.float64]

    @classmethod
    def of(cls, terms: Iterable[str], idf: NDArray[np.float64]) -> Vocabulary:
        """From the terms in column order."""
        return cls({term: column for column, term in enumerate(terms)}, idf)


def idf(rows: NDArray[np.int64], texts: int) -> NDArray[np.float64]:
    """The smoothed inverse document frequency of terms, from the number of texts that have them."""
    found: NDArray[np.float64] = np.log((1 + texts) / (1 + rows)) + 1
    return found


def choose(partitions: Iterable[Iterable[pa.Table]], most: int) -> tuple[pa.Table, int]:
    """The ``most`` most frequent terms, ascending, with ``rows``; and the number of all terms.

    Args:
        partitions: the counts of all texts, as of :func:`count_terms`, put apart by the term: memory holds
            the different terms of one partition.
        most: how many terms are wanted.
    """
    import pyarrow as pa

    best = count_terms([], "word")
    found = 0
    for partition in partitions:
        summed = _sum_up(partition)
        found += summed.num_rows
        best = _most_frequent(pa.concat_tables([best, summed]), most)
    return best.sort_by("term").select(["term", "rows"]), found


def _sum_up(tables: Iterable[pa.Table]) -> pa.Table:
    """A row for each term, whatever the number of tables."""
    kept: list[pa.Table] = []
    held = 0
    for table in tables:
        kept.append(table)
        held += table.nbytes
        if held > _HELD:
            kept = [_summed(kept)]
            held = 0
    return _summed(kept)


def _summed(tables: list[pa.Table]) -> pa.Table:
    import pyarrow as pa

    if not tables:
        return count_terms([], "word")
    sums = pa.concat_tables(tables).group_by("term", use_threads=False)
    summed = sums.aggregate([("rows", "sum"), ("count", "sum")])
    return summed.select(["term", "rows_sum", "count_sum"]).rename_columns(["term", "rows", "count"])


def _most_frequent(table: pa.Table, most: int) -> pa.Table:
    order = table.sort_by([("count", "descending"), ("term", "ascending")])
    return order.slice(0, most).combine_chunks()


def weigh(
    texts: Iterable[str], vocabulary: Vocabulary, analyzer: str
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]]:
    """Texts as unit rows: (indptr, terms ascending within a row, weights) of a CSR.

    Returns int64 (texts + 1), int32 and float64; a text without any of the terms has an empty row.
    """
    split = ANALYZERS[analyzer]
    columns = vocabulary.columns
    indptr, terms, weights = [0], [], []
    for text in texts:
        own = Counter(column for term in split(text) if (column := columns.get(term)) is not None)
        ordered = sorted(own)
        row = np.array([own[column] for column in ordered], np.float64) * vocabulary.idf[ordered]
        terms.extend(ordered)
        weights.append(row / np.sqrt(np.square(row).sum()) if len(row) else row)
        indptr.append(len(terms))
    return (
        np.array(indptr, np.int64),
        np.array(terms, np.int32),
        np.concatenate(weights) if weights else np.zeros(0),
    )
