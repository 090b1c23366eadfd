"""Chest radiographs, notes and vital signs to training shards, written once, in a fixed memory budget.

The published pipeline keeps 33 MiB for a record, 90 % of it a mask that nobody reads, writes every batch as
a pickle, and reads all of them again to split them. Here the tables say which record goes into which shard
before any film is opened; each film is then decoded once, at the size that is needed, into its shard.

    metadata, edstays, triage, vitalsign, patients, chexpert -> tables -> plan
                                                                          |
    films, reports -----> MakeRecord -> train/train-00000.tar, val/..., test/...
                                                                          |
                               manifest.json, index.json, failures.csv, splits.parquet, metadata.json

Three rules hold everywhere: nothing that was known later than the film is an input, no label is an input of
any text, and no person is in two splits. Runs are private: nothing that they say or keep beside the data has
a word of a note in it.
"""

from __future__ import annotations

from typing import Any

import click

import penstock
from penstock.workload_options import read_options
from penstock.workloads.multimodal.leakage import leakage_filter
from penstock.workloads.multimodal.options import INCIDENTAL, asked_of, with_options
from penstock.workloads.multimodal.splits import plan_splits

__all__ = ["Multimodal", "leakage_filter", "plan_splits"]


@click.command()
@with_options
def _command(**options: Any) -> None:
    """Make training shards of MIMIC-CXR-JPG, MIMIC-IV-ED and MIMIC-IV.

    ROOT is the folder of the download, with mimic-cxr-jpg, mimic-iv-ed, mimiciv and, for the question to the
    radiologist, mimic-cxr. Writes train/, val/ and test/ with shards, and manifest.json, metadata.json,
    index.json, failures.csv and splits.parquet. Films that cannot be used are named in failures.csv with the
    reason, and the run goes on.
    """


class Multimodal:
    """The workload ``multimodal``."""

    command = _command
    private = True
    incidental = INCIDENTAL

    def run(self, run: penstock.Run, **options: Any) -> None:
        """Write the shards of all splits, and their statistics and manifest.

        Args:
            run: an open run; a private one.
            options: those of the command line, with underscores: ``root``, ``cxr``, ``user_project``,
                ``fetch``, ``ed``, ``hosp``,
                ``reports``, ``split``, ``ratios``, ``seed``, ``unmatched``, ``image_size``, ``exact_resize``,
                ``fit``, ``mask``, ``image``, ``text``, ``leakage_filter``, ``retriever``, ``tokenizer``,
                ``max_text_length``, ``views``, ``window``, ``celsius``, ``shard_size``, ``writer``,
                ``uncertain``, ``blank``, ``log_ids``, ``picture``, ``compat``.

        Raises:
            BadInput: tables that are missing or are not what they should be, naming file and place.
            DiskFull: the disk cannot hold the shards.
            UsageError: options that make no sense together.
            MissingExtra: a package is not installed.
        """
        asked = asked_of(read_options(_command, options))
        from penstock.workloads.multimodal.stages import Stages

        Stages(run, asked).do()

    def plan(
        self, budget: str | int, *, workers: int | None = None, call: int | None = None, **options: Any
    ) -> list[Any]:  # fmt: skip
        """The projection of a run: records by reason, bytes and time; and the plan of its largest stage.

        Reads the tables and the first bytes of films, and tries a few records.
        """
        asked = asked_of(read_options(_command, options))
        from penstock.workloads.multimodal.projection import plan_run

        return plan_run(asked, budget, workers=workers, call=call)
