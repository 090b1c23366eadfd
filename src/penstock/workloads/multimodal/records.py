"""Records of a split as items: what a worker reads, and what it makes of one.

The plan lies in a file, so that the source holds a path and no record. Nothing that is said of a failure has
a word of a record in it: a reason is one of ours.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock import files
from penstock.workloads.multimodal import images, labels, layout, notes, planning, upstream
from penstock.workloads.multimodal.clinical import VITALS
from penstock.workloads.multimodal.elsewhere import Elsewhere
from penstock.workloads.multimodal.films import key_of
from penstock.workloads.multimodal.headers import BadImage
from penstock.workloads.multimodal.images import Drawing
from penstock.workloads.multimodal.joining import RAW
from penstock.workloads.multimodal.retriever import CONTEXT, open_retriever
from penstock.workloads.multimodal.stays import RELATIONS
from penstock.workloads.multimodal.tokens import Tokens

if TYPE_CHECKING:
    from numpy.typing import NDArray

CLINICAL = (*VITALS, "pain", "acuity", "age", "male", "female")
"""The clinical values of a record, in the order of the loader's vector."""
_FEW, _LITTLE = 1000, 64 << 20


@dataclass(frozen=True)
class Made:
    """A record on its way into a shard.

    Attributes:
        key: the name of its members.
        image: uint8 (size, size).
        mask: bool (size, size), or None.
        ids: int32 (tokens,), or None without text.
        facts: what its JSON says.
        clinical: float64 (11,), NaN where unknown, see ``CLINICAL``.
    """

    key: str
    image: NDArray[np.uint8]
    mask: NDArray[np.bool_] | None
    ids: NDArray[np.int32] | None
    facts: dict[str, Any]
    clinical: NDArray[np.float64]


@dataclass(frozen=True)
class Refused:
    """A record that could not be made, and why: one of our own reasons."""

    reason: str


class Records:
    """The records of a split.

    Args:
        plan: path of the split's plan, see ``planning``.
        split: its name.
        films: what the paths of films begin in.
        elsewhere: where films are, if not here.
    """

    def __init__(self, plan: Path, split: str, films: Path, elsewhere: Elsewhere | None = None) -> None:
        self._plan, self._split, self._films = str(plan), split, str(films)
        self._elsewhere = elsewhere
        self._count = planning.count_rows(self._plan)

    def __len__(self) -> int:
        return self._count

    def __getstate__(self) -> dict[str, Any]:
        kept = ("_plan", "_split", "_films", "_count", "_elsewhere")
        return {name: self.__dict__[name] for name in kept}

    def expect(self, start: int, stop: int) -> None:
        """Prefetch remote films."""
        if self._elsewhere is not None and start < stop:
            table = planning.read_rows(self._plan, start, stop)
            films = zip(planning.paths_of(table), table["bytes"].to_pylist(), strict=True)
            self._elsewhere.expect(list(films))

    def read(self, start: int, stop: int) -> Iterable[dict[str, Any]]:
        """Each record's table data, and the path or the bytes of its film."""
        table = planning.read_rows(self._plan, start, stop)
        paths = planning.paths_of(table)
        if self._elsewhere is not None:
            rows = zip(table.to_pylist(), paths, strict=True)
            return (row | _fetched(self._elsewhere, path, row["bytes"]) for row, path in rows)
        return [
            row | {"path": f"{self._films}/{path}"}
            for row, path in zip(table.to_pylist(), paths, strict=True)
        ]

    def sizes(self, start: int, stop: int) -> list[int]:
        """Memory for decoding each film, from its header: a progressive one is held whole."""
        found: list[int] = self._memory[start:stop].tolist()
        return found

    def name(self, item: int) -> str:
        """Shard and row in the film table, counted from 0."""
        return f"{self._split}-{self._shards[item]:05d}, record {self._rows[item]}"

    def fingerprint(self) -> Mapping[str, str]:
        """Each film's fingerprint, under the name of its shard and row."""
        return self.fingerprint_by(self.fingerprint_kind())

    def fingerprint_kind(self) -> str:
        """By content for few and small films, else by size and mtime, or by etag.

        A web server lists nothing, and a question for each film would take longer than what is left to do:
        there ``plan`` alone counts, which tells each film as it was found.
        """
        if self._elsewhere is not None:
            return "plan" if self._by_plan else "etag"
        return "content" if self._count <= _FEW and int(self._bytes.sum()) <= _LITTLE else "stat"

    def fingerprint_by(self, kind: str) -> Mapping[str, str]:
        """The fingerprint of this kind; for a film that has gone meanwhile, that fact."""
        look = files.fingerprint_stat if kind == "stat" else files.fingerprint_content
        found = {"plan": files.fingerprint_content(self._plan)}
        if self._by_plan:
            return found
        paths = planning.paths_of(planning.read_rows(self._plan, 0, self._count)) if self._count else []
        if self._elsewhere is not None:
            names = map(self.name, range(self._count))
            return found | dict(zip(names, self._elsewhere.marks(paths), strict=True))
        for item, path in enumerate(paths):
            try:
                found[self.name(item)] = look(f"{self._films}/{path}")
            except OSError:
                found[self.name(item)] = "gone"
        return found

    def spans(self) -> Mapping[str, tuple[int, int]]:
        """Each film is one item."""
        if self._by_plan:
            return {"plan": (0, self._count)}
        own = {self.name(item): (item, item + 1) for item in range(self._count)}
        return {"plan": (0, self._count)} | own

    @property
    def _by_plan(self) -> bool:
        return self._elsewhere is not None and not self._elsewhere.lists

    @cached_property
    def _memory(self) -> NDArray[np.int64]:
        return self._column("memory")

    @cached_property
    def _bytes(self) -> NDArray[np.int64]:
        return self._column("bytes")

    @cached_property
    def _rows(self) -> NDArray[np.int64]:
        return self._column("row")

    @cached_property
    def _shards(self) -> NDArray[np.int64]:
        return self._column("shard")

    def _column(self, name: str) -> NDArray[np.int64]:
        found: NDArray[np.int64] = planning.read_column(self._plan, name).to_numpy()
        return found


@dataclass(frozen=True)
class MakeRecord:
    """Makes a record: its film as a small square, its note as numbers, and its facts as JSON.

    Args:
        drawing: how films are drawn.
        reports: what the paths of reports begin in; None for none.
        text: whether there is a note at all.
        level: of the leakage filter.
        retriever, tokenizer: see ``retriever.open_retriever`` and ``tokens.Tokens``.
        longest: tokens of a note at most.
        as_published: the original's text.
        digests: of retriever and tokenizer, so that other ones are another job.
    """

    drawing: Drawing
    reports: str | None
    text: bool
    level: str
    retriever: str
    tokenizer: str | None
    longest: int
    as_published: bool
    digests: tuple[str, ...] = ()
    _loaded: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_loaded": {}}

    def warm(self) -> None:
        """Load retriever and tokenizer, once for all workers."""
        if self.text and not self._loaded:
            self._loaded["retriever"] = open_retriever(self.retriever)[0]
            self._loaded["tokens"] = Tokens(self.tokenizer, self.longest)
        if self.drawing.mask != "none":
            from penstock.workloads.multimodal.masks import load_cv2

            load_cv2()

    def __call__(self, row: Mapping[str, Any]) -> Made | Refused:
        """Make one record; an unusable film becomes a reason."""
        try:
            drawn = images.draw(_film(row), self.drawing)
        except BadImage as error:
            return Refused(error.reason)
        facts = _facts(row) | {"film": drawn.facts}
        ids = None
        if self.text:
            self.warm()
            text = self._published(row, facts) if self.as_published else self._note(row, facts)
            ids = self._loaded["tokens"].encode(text)
            facts["tokens"] = len(ids)
        key = key_of(row["dicom_id"])
        return Made(f"{key}-{row['row']}" if self.as_published else key, drawn.image, drawn.mask, ids, facts,
                    clinical_values(row))  # fmt: skip

    def _note(self, row: Mapping[str, Any], facts: dict[str, Any]) -> str:
        report, flag = "", "missing"
        if self.reports is not None:
            path = layout.report_path(row["subject_id"], row["study_id"])
            report, flag = notes.read_report(Path(self.reports) / path)
        note = notes.write_note(row, notes.question(report), self.level)
        text, found = note.text, []
        retriever = self._loaded["retriever"]
        if retriever is not None and text:
            found = retriever.search(notes.as_query(text), CONTEXT)  # behind the filter, from what it left
        context = " ".join(entry.text for entry in found)
        facts |= {
            "note": text,
            "context": context,
            "context_ids": [entry.id for entry in found],
            "segments": dict(note.sections),
            "removed_sentences": note.removed,
            "report": flag or "read",
            "raw": {name: row[name] for name in RAW if row[name] is not None},
        }
        return f"{text} [sep] {context}" if context else text

    def _published(self, row: Mapping[str, Any], facts: dict[str, Any]) -> str:
        findings = upstream.positive_findings(row["labels"])
        whole = upstream.pseudo_note(row) + upstream.CONTEXT
        text, removed = (whole, 0)
        if self.level != "off":
            text, removed = upstream.leakage_filter(whole, findings, aggressive=self.level == "aggressive")
        facts |= {"note": text, "removed_sentences": removed, "positive_findings": findings}
        return text


def _fetched(elsewhere: Elsewhere, path: str, size: int) -> dict[str, Any]:
    """A film that lies elsewhere, or why it is none."""
    try:
        return {"data": elsewhere.film(path, size)}
    except BadImage as error:
        return {"reason": error.reason}


def _film(row: Mapping[str, Any]) -> bytes:
    if "reason" in row:
        raise BadImage(row["reason"])
    return row["data"] if "data" in row else images.read_image(row["path"])


def clinical_values(row: Mapping[str, Any]) -> NDArray[np.float64]:
    """A record's values in the order of ``CLINICAL``, NaN where unknown."""
    gender = row["gender"]
    values = [row[name] for name in (*VITALS, "pain", "acuity", "age")]
    values += [None, None] if gender is None else [float(gender == "M"), float(gender == "F")]
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _facts(row: Mapping[str, Any]) -> dict[str, Any]:
    known = row["labels"] is not None and row["labels"][0] != labels.NO_ROW
    values = [None if value == labels.BLANK else value for value in row["labels"]] if known else None
    return {
        **{name: row[name] for name in ("dicom_id", "subject_id", "study_id", "stay_id", "row")},
        **{name: row[name] for name in ("view", "study_index", "study_films", "age", "age_masked", "gender")},
        "time": notes.clock(row["time"]),
        "relation": RELATIONS[row["relation"]],
        "clinical": {name: row[name] for name in (*VITALS, "pain", "acuity")},
        "temperature_unit": "C?" if row["celsius"] else None,
        "labels": None if values is None else dict(zip(labels.LABELS, values, strict=True)),
    }


def as_json(facts: Mapping[str, Any]) -> bytes:
    """The JSON of a record: deterministic bytes, and never NaN."""
    return json.dumps(
        facts, allow_nan=False, sort_keys=True, ensure_ascii=False, separators=(",", ":")
    ).encode()
