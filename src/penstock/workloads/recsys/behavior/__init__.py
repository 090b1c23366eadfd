"""Items that share users: exact co-occurrence counts, however many pairs there are.

    interactions -> behavior-users    rows put apart by user
                         |
                    behavior-items    the items, and how many pairs there will be
                         |
                    behavior-pairs    counted within some users, put apart by item
                         |
                    behavior-best     added up; the most frequent of each item
                         |
                    behavior-neighbors -> behavior.parquet

A user with very many items makes their square of pairs: of more than ``--max-user-items`` some are drawn by a
hash, and the users are told.
"""

from __future__ import annotations

from typing import Any

import click

import penstock
from penstock import foreign
from penstock.budget import MiB
from penstock.plurals import plural
from penstock.workload_options import read_options
from penstock.workloads.recsys import environment
from penstock.workloads.recsys.shared.later import SHORT, LaterPlan, Stage

_ROWS = 1 << 18
"""Rows of a file of the first stage."""


@click.command()
@click.option(
    "--interactions",
    required=True,
    multiple=True,
    metavar="T.parquet",
    help="A row an interaction; files, patterns or folders.",
)
@click.option("--user", default="user_id", show_default=True, metavar="COLUMN", help="Who it was.")
@click.option("--item", default="dataset_id", show_default=True, metavar="COLUMN", help="What it was with.")
@click.option("--top-k", type=click.IntRange(max=1 << 31), default=200, show_default=True,
              envvar=["BEHAVIOR_SIMILARITY_TOP_K", "SIMILARITY_TOP_K"],
              help="At most so many neighbours of an item; 0 or less does nothing.")  # fmt: skip
@click.option("--max-user-items", type=click.IntRange(2), default=1000, show_default=True,
              help="So many items of a user count at most; of more, some are drawn by a hash.")  # fmt: skip
def _command(**options: Any) -> None:
    """Find for each item those that most users have in common with it.

    Writes behavior.parquet: item_id, rank, neighbor_id, users (that have both), score (their share among the
    neighbours that are kept, as in the original: it sums to 1 and is not symmetric), by item and rank; equal
    counts by id. Users that were capped are in behavior-pairs/capped.
    """


class Behavior:
    """The workload ``behavior``."""

    command = _command

    def run(self, run: penstock.Run, **options: Any) -> None:
        """Count the pairs and write the tables.

        Raises:
            BadInput: a table that is not what it should be, naming file and place.
            UsageError: options that make no sense.
        """
        from penstock.workloads.recsys.behavior import jobs

        asked = read_options(_command, options)
        _tell()
        if asked["top_k"] <= 0:
            click.echo(
                f"--top-k {asked['top_k']}: neighbours by behavior are off, and nothing is done", err=True
            )
            return
        users = run.stage("behavior-users", _putting_apart(asked))
        items = run.step(
            "behavior-items", jobs.list_items, threads=1,
            inputs={"users": users, "most": asked["max_user_items"]},
        )  # fmt: skip
        _check_some_are_left(asked, items.facts["rows"])
        pairs = run.stage("behavior-pairs", _counting(users, items, asked["max_user_items"]))
        best = run.stage(
            "behavior-best",
            penstock.Job(
                source=penstock.sources.Partitions(pairs, "pairs"),
                function=jobs.TakeMostFrequent(items.facts["ids"], asked["top_k"]),
                into=penstock.sinks.Parquet(grain=1, schema=jobs.best_schema()), threads=1,
            ),
        )  # fmt: skip
        written = run.step(
            "behavior-neighbors", jobs.write_table, threads=1, inputs={"best": best, "items": items}
        )
        run.publish(written)
        _tell_end(asked, items, pairs, written)

    def plan(
        self, budget: str | int, *, workers: int | None = None, call: int | None = None, **options: Any
    ) -> list[Any]:  # fmt: skip
        """The plan of the stage that reads the interactions; later stages are computed, not tried."""
        asked = read_options(_command, options)
        _tell()
        if asked["top_k"] <= 0:
            return []
        job = _putting_apart(asked)
        first = job.plan(budget=budget, workers=workers, call=call)
        return [first, _later(first.budget, len(job.source), asked["max_user_items"])]


def _later(budget: int, rows: int, most: int) -> LaterPlan:
    """The stages that work on partitions: each holds one, of a size that does not depend on the rows."""
    # Each user has at most so many items, and there are no more items, or users, than rows.
    pairs = rows * min(most - 1, rows)
    part, ids = 16 * MiB, ", and 24 bytes for each different item"
    stages = (
        Stage("behavior-items", SHORT + 6 * part, f"one partition of users{ids}"),
        Stage("behavior-pairs", SHORT + 6 * part, f"one partition of users, a million pairs{ids}"),
        Stage("behavior-best", SHORT + 10 * part, "one partition of pairs by item"),
        Stage("behavior-neighbors", SHORT + 40 * min(rows, 1 << 18), f"some rows of the table{ids}"),
    )
    note = f"at most {pairs:,} pairs are counted, in partitions on disk"
    return LaterPlan(budget, stages, (note,))


def _tell() -> None:
    for line in (*environment.defaults(), environment.superseded()):
        if line:
            click.echo(line, err=True)


def _putting_apart(asked: dict[str, Any]) -> penstock.Job:
    from penstock.errors import BadInput
    from penstock.workloads.recsys.behavior.jobs import TakeInteractions
    from penstock.workloads.recsys.shared.tables import is_key, opened

    columns = [asked["user"], asked["item"]]
    source = opened("--interactions", asked["interactions"], columns)
    for name in columns:
        kind = source.schema.field(name).type
        if not is_key(kind):
            raise BadInput(f"holds {kind}, and ids are integers or texts", place=f"column {name}")
    file = ", ".join(map(str, asked["interactions"]))
    parts = penstock.sinks.Partitions.parts_for(sum(source.sizes(0, len(source))), "16MiB")
    return penstock.Job(
        source=source, function=TakeInteractions(asked["user"], asked["item"], file),
        batched=True, into=penstock.sinks.Partitions(by="user", parts=parts, grain=_ROWS), threads=1,
    )  # fmt: skip


def _counting(users: penstock.Stored, items: penstock.Stored, most: int) -> penstock.Job:
    from penstock.workloads.recsys.behavior import jobs

    schema = jobs.pairs_schema()
    parts = penstock.sinks.Partitions.parts_for(12 * items.facts["pairs"], "32MiB")
    return penstock.Job(
        source=penstock.sources.Partitions(users), function=jobs.CountPairs(most), inputs={"items": items},
        into={
            "pairs": penstock.sinks.Partitions(by="item", parts=parts, schema=schema),
            "capped": penstock.sinks.Parquet(grain=1),
        },
        threads=1,
    )  # fmt: skip


def _rows(asked: dict[str, Any]) -> int:
    from penstock.workloads.recsys.shared.tables import opened

    return len(opened("--interactions", asked["interactions"], [asked["user"], asked["item"]]))


def _check_some_are_left(asked: dict[str, Any], left: int) -> None:
    from penstock.errors import BadInput

    if not left and (rows := _rows(asked)):
        raise BadInput(
            f"each of its {rows:,} rows lacks a user ({asked['user']}) or an item ({asked['item']}): "
            "name the columns with --user and --item",
            file=asked["interactions"],
        )


def _tell_end(
    asked: dict[str, Any], items: penstock.Stored, pairs: penstock.Stored, written: penstock.Stored
) -> None:
    facts, made = items.facts, written.facts
    rows = _rows(asked)
    if rows > facts["rows"]:
        foreign.warn(f"without a user or an item: {rows - facts['rows']:,} of {plural(rows, 'row')}")
    capped = pairs.open("capped").count_rows()
    if capped:
        foreign.warn(
            f"with more than {plural(asked['max_user_items'], 'item')}, of which so many count: {capped:,} "
            f"of {plural(facts['users'], 'user')}, who are in {pairs.folder / 'capped'}",
        )
    click.echo(
        f"{plural(made['neighbors'], 'neighbour')} of {plural(facts['ids'], 'item')} by "
        f"{plural(facts['users'], 'user')}; without any: {made['without']:,}",
        err=True,
    )
