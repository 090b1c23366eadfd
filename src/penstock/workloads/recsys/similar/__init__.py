"""Nearest neighbours of items: by text, by vector, or by both, exactly.

Every item is compared with every other one, in blocks of items that are written as they are found, so that
memory grows with neither the items nor their neighbours.

    texts --> similar-terms -> similar-vocabulary -> similar-weights
                                                          |
    ids ----> similar-order ------------------> similar-texts (CSR, postings)  --+
                    |                                                            |
    vectors --------+-------------------------> similar-vectors                --+-> similar-blocks
                                                                                          |
                                                       neighbors.parquet <-- similar-neighbors

A matrix (``--matrix``) begins at ``similar-texts`` (``.npz``) or ``similar-vectors`` (``.npy``).
"""

from __future__ import annotations

from typing import Any

import click

import penstock
from penstock.workload_options import read_options

_LEAST = 1e-3
"""Of a threshold: far enough from 0 that whoever has nothing in common is no neighbour."""


@click.command()
@click.option(
    "--items", metavar="ITEMS.parquet", default=None, help="A row an item; a pattern names several files."
)
@click.option("--matrix", metavar="FILE", multiple=True,
              help="A row an item: sparse rows (.npz of scipy.sparse.save_npz), vectors (.npy), or both. "
              "Items are then numbers from 0.")  # fmt: skip
@click.option(
    "--id", "key", default="dataset_id", show_default=True, metavar="COLUMN", help="The items' ids."
)
@click.option("--text", default="", metavar="A,B,...", help="Columns of text, taken together.")
@click.option("--vectors", default="", metavar="PATTERN,...",
              help="Columns of numbers that are a vector together, or one column of lists.")  # fmt: skip
@click.option("--weights", default="0.6,0.4", show_default=True, metavar="TEXT,VECTORS",
              help="Their shares in the score, where both are given.")  # fmt: skip
@click.option("--top-k", type=click.IntRange(1), default=200, show_default=True, envvar="SIMILARITY_TOP_K",
              help="At most so many neighbours of an item.")  # fmt: skip
@click.option("--threshold", type=click.FloatRange(_LEAST, 1), default=0.01, show_default=True,
              help="The least score of a neighbour; with both text and vectors it must be more.")  # fmt: skip
@click.option("--max-features", type=click.IntRange(1), default=5000, show_default=True,
              help="The most frequent terms make up the vocabulary.")  # fmt: skip
@click.option("--analyzer", type=click.Choice(["auto", "word", "char"]), default="auto", show_default=True,
              help="What a term is: a word, or two and three characters; auto takes these where more than a "
              "fifth of the characters are Chinese, Japanese or Korean.")  # fmt: skip
@click.option("--duplicates", type=click.Choice(["first", "error"]), default="first", show_default=True,
              help="Rows with an id that is there before: leave them out, or refuse them.")  # fmt: skip
@click.option("--approximate", is_flag=True,
              help="Search vectors by an index (needs faiss-cpu) if its recall is high enough.")  # fmt: skip
@click.option("--recall", type=click.FloatRange(0.5, 0.9999), default=0.99, show_default=True,
              help="The least recall of --approximate, as measured on a sample.")  # fmt: skip
@click.option("--export", type=click.Choice(["json", "csr"]), multiple=True,
              help="Besides the table: neighbors.json; neighbors.npz for scipy.sparse.load_npz.")  # fmt: skip
@click.option("--compat", type=click.Choice(["none", "upstream"]), default="none", show_default=True,
              help="upstream: the rules of the original: words whatever the language, and a missing text or "
              "vector counts as a score of 0.")  # fmt: skip
def _command(**options: Any) -> None:
    """Find for each item those that are most like it, by text, by vectors, or by both.

    Writes neighbors.parquet: item_id, rank, neighbor_id, score, by item and rank; equal scores by id. The
    score is the cosine of TF-IDF weights, of vectors, or the weighted mean of both; where one of two items
    lacks a text or a vector it is the other cosine alone.
    """


class Similar:
    """The workload ``similar``."""

    command = _command

    def run(self, run: penstock.Run, **options: Any) -> None:
        """Find all neighbours and write them.

        Raises:
            BadInput: a table or matrix that is not what it should be, naming file and place.
            UsageError: options that make no sense together.
            MissingExtra: a package is not installed.
        """
        from penstock.workloads.recsys.similar.asked import Asked
        from penstock.workloads.recsys.similar.stages import Stages

        asked = Asked(read_options(_command, options))
        asked.tell()
        Stages(run, asked).do()

    def plan(
        self, budget: str | int, *, workers: int | None = None, call: int | None = None, **options: Any
    ) -> list[Any]:  # fmt: skip
        """The plan of the first stage that reads texts; later stages are computed."""
        from penstock.workloads.recsys.similar.asked import Asked
        from penstock.workloads.recsys.similar.foreseen import later_stages
        from penstock.workloads.recsys.similar.stages import counting_job

        asked = Asked(read_options(_command, options))
        asked.tell()
        if not asked.text:
            room = penstock.Job(source=penstock.sources.Range(1), function=abs).plan(budget=budget).budget
            return [later_stages(room, asked)]
        analyzer = "char" if asked.analyzer == "char" else "word"
        counted = counting_job(asked, analyzer).plan(budget=budget, workers=workers, call=call)
        return [counted, later_stages(counted.budget, asked)]
