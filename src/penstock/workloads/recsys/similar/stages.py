"""The stages of ``similar``, in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

import penstock
from penstock import foreign
from penstock.errors import BadInput
from penstock.plurals import plural
from penstock.workloads.recsys.similar.asked import Asked

if TYPE_CHECKING:
    from penstock.workloads.recsys.similar.search import Wanted


def _seen(*paths: str) -> dict[str, str]:
    """What tells the files from changed ones, as part of the key of a step that reads them."""
    return dict(penstock.sources.Files(list(paths)).fingerprint())


def counting_job(asked: Asked, analyzer: str) -> penstock.Job:
    from penstock.workloads.recsys.similar.jobs import TEXTS, CountTerms

    assert asked.items is not None
    source = penstock.sources.ParquetRows(asked.items, asked.text)
    size = sum(source.sizes(0, len(source)))
    # Terms of words take about as much as the texts; those of characters, of which there are more, ten times.
    parts = penstock.sinks.Partitions.parts_for(size * (10 if analyzer == "char" else 1), "16MiB")
    return penstock.Job(
        source=source, function=CountTerms(analyzer), batched=TEXTS, threads=1,
        into=penstock.sinks.Partitions(by="term", parts=parts, grain=TEXTS, schema=_terms_schema()),
    )  # fmt: skip


def _terms_schema() -> Any:
    import pyarrow as pa

    return pa.schema([("term", pa.string()), ("rows", pa.int64()), ("count", pa.int64())])


class Stages:
    """Runs the stages of one run, in order."""

    def __init__(self, run: penstock.Run, asked: Asked) -> None:
        self._run, self._asked = run, asked
        self._facts: dict[str, Any] = {}

    def do(self) -> None:
        """Run all stages."""
        ordered = self._order() if self._asked.items is not None else None
        count = self._asked.rows if ordered is None else ordered.facts["ids"]
        rows: dict[str, penstock.Stored] = {}
        if self._asked.has_text:
            rows["texts"] = self._take_sparse() if ordered is None else self._weigh(ordered)
        if self._asked.has_vectors:
            rows["vectors"] = self._take_vectors(ordered)
        found = self._search(rows, count)
        self._write(found, ordered, rows, count)

    def _order(self) -> penstock.Stored:
        from penstock.workloads.recsys.similar.items import order_items

        asked = self._asked
        survey = bool(asked.text) and asked.analyzer == "auto"
        ordered = self._run.step(
            "similar-order", order_items, threads=1,
            inputs={
                "path": asked.items, "key": asked.key, "text": asked.text if survey else [],
                "survey": survey, "seen": self._table_seen([asked.key, *asked.text]),
            },
        )  # fmt: skip
        facts = ordered.facts
        place = f"column {asked.key}"
        if facts["duplicates"] and asked.duplicates == "error":
            raise BadInput(
                f"{facts['duplicates']:,} of {plural(facts['rows'], 'row')} repeat the id of an earlier one: "
                "--duplicates first takes the first of each",
                file=asked.items, place=place,
            )  # fmt: skip
        for number, what in (
            (facts["without_id"], "without an id"),
            (facts["duplicates"], "with the id of an earlier row"),
        ):
            if number:
                _warn(f"left out: {number:,} of {plural(facts['rows'], 'row')}, {what}")
        return ordered

    def _table_seen(self, columns: Sequence[str]) -> dict[str, str]:
        assert self._asked.items is not None
        source = penstock.sources.ParquetRows(self._asked.items, list(dict.fromkeys(columns)))
        return dict(source.fingerprint())

    def _weigh(self, ordered: penstock.Stored) -> penstock.Stored:
        from penstock.workloads.recsys.similar import jobs, tfidf

        asked = self._asked
        analyzer = asked.analyzer
        if analyzer == "auto":
            analyzer = "char" if ordered.facts["cjk_share"] > tfidf.CJK_SHARE else "word"
        self._facts["analyzer"] = analyzer
        counting = counting_job(asked, analyzer)
        terms = self._run.stage("similar-terms", counting)
        vocabulary = self._run.step(
            "similar-vocabulary", jobs.choose_terms, threads=1,
            inputs={"terms": terms, "most": asked.max_features, "texts": ordered.facts["rows"]},
        )  # fmt: skip
        self._facts |= {"terms": vocabulary.facts["terms"], "terms_found": vocabulary.facts["found"]}
        weights = self._run.stage(
            "similar-weights",
            penstock.Job(
                source=counting.source, function=jobs.WeighTexts(analyzer), batched=jobs.TEXTS, threads=1,
                into=penstock.sinks.Parquet(grain=jobs.TEXTS), inputs={"vocabulary": vocabulary},
            ),
        )  # fmt: skip
        return self._run.step(
            "similar-texts", jobs.gather_texts, threads=1,
            inputs={
                "texts": weights, "ordered": ordered, "count": ordered.facts["ids"],
                "terms": vocabulary.facts["terms"],
            },
        )  # fmt: skip

    def _take_sparse(self) -> penstock.Stored:
        from penstock.workloads.recsys.similar.jobs import take_sparse

        path = self._asked.sparse
        inputs = {"path": path, "seen": _seen(path)}
        return self._run.step("similar-texts", take_sparse, inputs=inputs, threads=1)

    def _take_vectors(self, ordered: penstock.Stored | None) -> penstock.Stored:
        from penstock.workloads.recsys.similar import jobs

        asked = self._asked
        zeros = asked.upstream
        if ordered is None:
            inputs = {"path": asked.dense, "zeros": zeros, "seen": _seen(asked.dense)}
            stored = self._run.step("similar-vectors", jobs.take_matrix, inputs=inputs, threads=1)
        else:
            stored = self._run.step(
                "similar-vectors", jobs.gather_vectors, threads=1,
                inputs={
                    "path": asked.items, "columns": asked.vectors, "ordered": ordered, "zeros": zeros,
                    "count": ordered.facts["ids"], "seen": self._table_seen(asked.vectors),
                },
            )  # fmt: skip
        broken = stored.facts["not_finite"]
        if broken:
            what = "counted as 0 there" if zeros else "counted as having none"
            vectors = plural(broken, "vector")
            _warn(f"{vectors} with values that are null, NaN or infinite: {what}")
        return stored

    def _search(self, rows: Mapping[str, penstock.Stored], count: int) -> penstock.Stored:
        from penstock.workloads.recsys.similar import jobs

        wanted = self._asked.wanted(count)
        if self._asked.top_k > wanted.most and count > 1:
            others = plural(count - 1, "other item")
            click.echo(f"--top-k {self._asked.top_k:,}: each has {others}", err=True)
        blocks = -(-count // jobs.BLOCK)
        inputs: dict[str, Any] = dict(rows)
        probes = 0
        if self._asked.approximate:
            index = self._index(rows["vectors"], wanted)
            inputs["index"], probes = index, index.facts["probes"]
        function = jobs.FindNeighbors(wanted, probes)
        return self._run.stage(
            "similar-blocks",
            penstock.Job(
                source=penstock.sources.Range(blocks), function=function, inputs=inputs, threads=1,
                into=penstock.sinks.Arrays(grain=8, fill=0),
            ),
        )  # fmt: skip

    def _index(self, vectors: penstock.Stored, wanted: Wanted) -> penstock.Stored:
        from penstock.workloads.recsys.similar.approximate import build

        index = self._run.step(
            "similar-index", build, threads=1,
            inputs={"vectors": vectors, "wanted": wanted, "recall": self._asked.recall},
        )  # fmt: skip
        facts = index.facts
        self._facts["approximate"] = _own(index)
        if facts["probes"]:
            line = f"approximate: {facts['probes']:,} of {facts['lists']:,} lists are looked at"
        elif facts["queries"]:
            line = "the search is exact: no index is both good enough and faster"
        else:
            line = "the search is exact: there are too few items to measure the recall of an index"
        if facts["queries"]:
            line += (
                f"; recall {facts['recall']:.4f} on {facts['queries']:,} drawn items, at least "
                f"{facts['proven']:.4f} with 95 % confidence"
            )
        click.echo(line, err=True)
        return index

    def _write(
        self, found: penstock.Stored, ordered: penstock.Stored | None,
        rows: Mapping[str, penstock.Stored], count: int,
    ) -> None:  # fmt: skip
        from penstock.workloads.recsys.similar.jobs import write_neighbors

        asked = self._asked
        about = {
            "schema": 1, "items": count, "top_k": asked.top_k, "threshold": asked.threshold,
            "weights": list(asked.shares) if asked.has_text and asked.has_vectors else None,
            "compat": "upstream" if asked.upstream else "none", **self._facts,
            "order": None if ordered is None else _own(ordered),
            **{name: _own(stored) for name, stored in rows.items()},
        }  # fmt: skip
        inputs = {"found": found, "count": count, "export": list(asked.export), "about": about}
        if ordered is not None:
            inputs["ordered"] = ordered
        written = self._run.step("similar-neighbors", write_neighbors, inputs=inputs, threads=1)
        self._run.publish(written)
        facts = written.facts
        click.echo(
            f"{plural(facts['neighbors'], 'neighbour')} of {plural(count, 'item')}; "
            f"without any: {facts['without']:,}",
            err=True,
        )


def _own(stored: penstock.Stored) -> dict[str, Any]:
    """What a step noted, without what the engine notes of each."""
    return {name: value for name, value in stored.facts.items() if name not in ("items", "set_aside")}


def _warn(text: str) -> None:
    foreign.warn(text)
