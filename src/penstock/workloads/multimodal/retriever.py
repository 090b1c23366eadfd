"""Retrieves context for a note from a small knowledge base: what its findings and signs usually mean.

``bm25`` (Okapi, k1 1.5, b 0.75) needs nothing but the shipped texts. A folder with a sentence-transformers
model compares vectors instead; nothing is ever fetched. Both give at most as many texts as there are, none
twice, and of equal scores the one with the smaller id first. The query is the note after the leakage filter.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from penstock import files, foreign
from penstock.errors import BadInput, UsageError
from penstock.files import is_file, is_folder

SHIPPED = Path(__file__).parent / "data" / "knowledge.jsonl"
CONTEXT = 3
"""Texts that a note gets."""
_WORD = re.compile(r"[a-z0-9]+")
_STOP = frozenset(
    [
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "by",
        "for",
        "from",
        "has",
        "in",
        "is",
        "it",
        "its",
        "of",
        "on",
        "or",
        "that",
        "the",
        "to",
        "was",
        "with",
        "year",
        "old",
    ]
)
_LARGEST = 16 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """A text of the knowledge base."""

    id: str
    text: str


class Retriever(Protocol):
    """Finds texts for a query."""

    def search(self, query: str, k: int) -> list[Entry]:
        """At most ``k`` texts, the best first."""
        ...


def read_knowledge(path: Path = SHIPPED) -> list[Entry]:
    """The texts of a knowledge base: JSON lines with ``id`` and ``text``, sorted by id.

    Raises:
        BadInput: it is none, or an id is there twice; names the line.
    """
    found: dict[str, Entry] = {}
    try:
        lines = foreign.read_text(path, _LARGEST).splitlines()
    except (OSError, ValueError) as error:
        raise BadInput(
            f"no knowledge base: {foreign.told(error, 200)}", file=path, quotes_nothing=True
        ) from None
    for number, line in enumerate(lines, 1):
        try:
            value = foreign.parse(line)
            entry = Entry(value["id"], value["text"])
        except (ValueError, TypeError, KeyError):
            entry = Entry("", "")
        if not (isinstance(entry.id, str) and isinstance(entry.text, str) and entry.id) or entry.id in found:
            raise BadInput(
                "a line is a JSON object with an id of its own and a text", file=path, place=f"line {number}",
                quotes_nothing=True,
            )  # fmt: skip
        found[entry.id] = entry
    return [found[key] for key in sorted(found)]


def digest_of(entries: Sequence[Entry]) -> str:
    """A digest of a knowledge base, for the manifest."""
    state = hashlib.blake2b(digest_size=16)
    for entry in entries:
        state.update(f"{entry.id}\0{entry.text}\n".encode())
    return state.hexdigest()


class BM25:
    """Okapi BM25 over a knowledge base.

    Args:
        entries: the texts, sorted by id.
    """

    def __init__(self, entries: Sequence[Entry], *, k1: float = 1.5, b: float = 0.75) -> None:
        self._entries = list(entries)
        words = [Counter(_words(entry.text)) for entry in self._entries]
        lengths = [sum(each.values()) for each in words]
        mean = sum(lengths) / max(len(lengths), 1) or 1.0
        seen = Counter(word for each in words for word in each)
        self._weights: dict[str, list[tuple[int, float]]] = {}
        for at, (each, length) in enumerate(zip(words, lengths, strict=True)):
            for word, count in each.items():
                rare = math.log(1 + (len(words) - seen[word] + 0.5) / (seen[word] + 0.5))
                weight = rare * count * (k1 + 1) / (count + k1 * (1 - b + b * length / mean))
                self._weights.setdefault(word, []).append((at, weight))

    def search(self, query: str, k: int) -> list[Entry]:
        """The texts that share words with the query, the best first; each word counts once."""
        scores: dict[int, float] = {}
        for word in sorted(set(_words(query))):
            for at, weight in self._weights.get(word, ()):
                scores[at] = scores.get(at, 0.0) + weight
        best = sorted(scores, key=lambda at: (-scores[at], at))[:k]
        return [self._entries[at] for at in best]


class Vectors:
    """Nearest texts by cosine similarity.

    Args:
        entries: the texts, sorted by id.
        encode: texts -> float (texts, width).
    """

    def __init__(self, entries: Sequence[Entry], encode: Callable[[list[str]], Any]) -> None:
        self._entries = list(entries)
        self._encode = encode
        self._vectors = _unit(encode([entry.text for entry in self._entries]))

    def search(self, query: str, k: int) -> list[Entry]:
        """The texts nearest to the query."""
        scores = np.round(self._vectors @ _unit(self._encode([query]))[0], 6)  # ties in spite of rounding
        order = np.lexsort((np.arange(len(scores)), -scores))[:k]
        return [self._entries[at] for at in order.tolist()]


def open_retriever(name: str) -> tuple[Retriever | None, dict[str, Any]]:
    """A retriever, and its entry in the manifest.

    Args:
        name: ``"bm25"``, ``"none"``, or a folder with a sentence-transformers model, and with a
            ``knowledge.jsonl`` where it is not to be the shipped one.

    Raises:
        BadInput: no such folder, or no knowledge base.
        UsageError: sentence-transformers is not installed.
    """
    if name == "none":
        return None, {"name": "none"}
    if name == "bm25":
        entries = read_knowledge()
        return BM25(entries), {"name": "bm25", "knowledge": digest_of(entries), "entries": len(entries)}
    folder = Path(name)
    if not is_folder(folder):
        raise BadInput("a retriever is bm25, none, or a folder with a model", file=name, quotes_nothing=True)
    own = folder / "knowledge.jsonl"
    entries = read_knowledge(own if is_file(own) else SHIPPED)
    facts = {"name": "sentence-transformers", "knowledge": digest_of(entries), "entries": len(entries)}
    facts["model"] = files.digest(folder)
    return Vectors(entries, _model(folder)), facts


def _model(folder: Path) -> Callable[[list[str]], Any]:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise UsageError(
            "a retriever from a folder needs a package of its own: pip install sentence-transformers"
        ) from None
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    return lambda texts: model.encode(texts, show_progress_bar=False)


def _unit(vectors: Any) -> Any:
    array = np.asarray(vectors, np.float32)
    return array / np.maximum(np.linalg.norm(array, axis=1, keepdims=True), 1e-12)


def _words(text: str) -> list[str]:
    return [word for word in _WORD.findall(text.lower()) if word not in _STOP]
