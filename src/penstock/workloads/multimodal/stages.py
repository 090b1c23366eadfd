"""The stages of a run in order, and the published files."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import penstock
from penstock import foreign
from penstock.budget import format_size, parse_size
from penstock.durations import parse_duration
from penstock.errors import DiskFull
from penstock.workloads.multimodal import layout as layouts
from penstock.workloads.multimodal import upstream
from penstock.workloads.multimodal.building import make_plan, make_tables
from penstock.workloads.multimodal.elsewhere import Elsewhere, copy_tables, is_address
from penstock.workloads.multimodal.images import Drawing
from penstock.workloads.multimodal.joining import Rules
from penstock.workloads.multimodal.options import Asked, read_views
from penstock.workloads.multimodal.planning import MOST_RECORDS, SplitRules
from penstock.workloads.multimodal.publishing import write_published
from penstock.workloads.multimodal.records import MakeRecord, Records
from penstock.workloads.multimodal.retriever import open_retriever
from penstock.workloads.multimodal.shards import Shards, record_bytes
from penstock.workloads.multimodal.splits import SPLITS, parse_ratios
from penstock.workloads.multimodal.tokens import Tokens

_SPARE = 64 << 20
"""Bytes of a disk that stay free."""


@dataclass(frozen=True)
class Recipe:
    """The options with everything that was found on disk.

    Attributes:
        asked: the options.
        layout: where tables and films lie.
        retriever, tokenizer: what the manifest says of them; empty without text.
        elsewhere: where the films are, if not here.
    """

    asked: Asked
    layout: layouts.Layout
    retriever: dict[str, Any]
    tokenizer: dict[str, Any]
    elsewhere: Elsewhere | None = None

    @property
    def record_bytes(self) -> int:
        """Estimated bytes of a record in a shard."""
        asked = self.asked
        return record_bytes(asked.image_size, asked.image, asked.mask != "none", asked.text == "on")

    @property
    def grain(self) -> int:
        """Records per shard, by the options alone."""
        return max(1, min(parse_size(self.asked.shard_size) // self.record_bytes, MOST_RECORDS))

    @property
    def rules(self) -> Rules:
        """How tables are joined."""
        asked = self.asked
        window = None if asked.window is None else int(parse_duration(asked.window, "--window"))
        return Rules(
            views=read_views(asked.views), window=window, celsius=asked.celsius == "convert",
            text=asked.text == "on", upstream=asked.upstream,
        )  # fmt: skip

    @property
    def split_rules(self) -> SplitRules:
        """How records are split."""
        asked = self.asked
        return SplitRules(
            method=str(asked.split), ratios=parse_ratios(asked.ratios), seed=asked.seed,
            unmatched=asked.unmatched, records=self.grain,
        )  # fmt: skip

    @property
    def suffix(self) -> str:
        """The suffix of shard files."""
        return "tar" if self.asked.writer == "webdataset" else "parquet"

    @property
    def for_manifest(self) -> dict[str, Any]:
        """The recipe's entry in the manifest."""
        return {
            "options": self.asked.for_manifest(), "retriever": self.retriever, "tokenizer": self.tokenizer,
            "grain": self.grain,
        }  # fmt: skip

    @property
    def official(self) -> Path | None:
        """The table of the official split, if it is used."""
        return self.layout.tables.get("split") if self.asked.split == "official" else None

    def job(self, plan: Path, split: str) -> penstock.Job:
        """The job that makes the shards of a split."""
        asked = self.asked
        function = MakeRecord(
            drawing=Drawing(asked.image_size, bool(asked.exact_resize), asked.fit, str(asked.mask)),
            reports=None if self.layout.reports is None or asked.upstream else str(self.layout.reports),
            text=asked.text == "on", level=asked.leakage_filter,
            retriever="none" if asked.upstream else asked.retriever, tokenizer=asked.tokenizer,
            longest=asked.max_text_length, as_published=asked.upstream,
            digests=(str(self.retriever), str(self.tokenizer)),
        )  # fmt: skip
        sink = Shards(split, self.grain, asked.writer, asked.image)
        source = Records(plan / f"{split}.arrow", split, self.layout.films, self.elsewhere)
        return penstock.Job(source=source, function=function, into=sink, threads=1, private=True)


def films_elsewhere(asked: Asked) -> Elsewhere | None:
    """The remote place of the films, if they are not here.

    Raises:
        MissingExtra: a package is not installed.
        UsageError: an address that cannot be read.
    """
    if asked.cxr is None or not is_address(asked.cxr):
        return None
    found = Elsewhere(asked.cxr, asked.user_project, asked.fetch)
    found.store  # noqa: B018 - what is wrong with the address is told now
    return found


def prepare(asked: Asked, elsewhere: Elsewhere | None = None, copied: Path | None = None) -> Recipe:
    """Find everything that a run needs, before it starts.

    Args:
        asked: the options.
        elsewhere: where the films are, if not here.
        copied: the folder of their tables then.

    Raises:
        BadInput: tables, tokenizer or knowledge base are not what they should be.
    """
    layout = layouts.find(
        asked.root, cxr=asked.cxr if copied is None else str(copied), ed=asked.ed, hosp=asked.hosp,
        reports=asked.reports, official=asked.split == "official",
    )  # fmt: skip
    if asked.text == "off":
        return Recipe(asked, layout, {}, {}, elsewhere)
    name = "none" if asked.upstream else asked.retriever
    retriever = open_retriever(name)[1] if not asked.upstream else {"name": "as published"}
    tokens = Tokens(asked.tokenizer, asked.max_text_length)
    tokenizer = {"shipped": asked.tokenizer is None, "words": tokens.size, "blake2b-128": tokens.digest}
    return Recipe(asked, layout, retriever, tokenizer, elsewhere)


class Stages:
    """Runs the stages of one run, in order.

    Args:
        run: an open run.
        asked: what the user wants.

    Raises:
        BadInput: tables or films are not where they should be.
    """

    def __init__(self, run: penstock.Run, asked: Asked) -> None:
        self._run = run
        elsewhere, copied = films_elsewhere(asked), None
        if elsewhere is not None:
            inputs = copy_inputs(elsewhere)
            copied = run.step("copied", copy_tables, threads=1, private=True, inputs=inputs).folder
        self._recipe = prepare(asked, elsewhere, copied)

    def do(self) -> None:
        """Run all stages."""
        recipe, run = self._recipe, self._run
        if recipe.asked.upstream:
            foreign.warn(upstream.WARNING)
        tables = run.step("tables", make_tables, threads=1, private=True, inputs=tables_inputs(recipe))
        plan = run.step("plan", make_plan, threads=1, private=True, inputs=plan_inputs(recipe, tables))
        self._need_room(plan.facts["splits"])
        stored = {split: run.stage(split, recipe.job(plan.folder, split)) for split in SPLITS}
        inputs = {
            "tables": tables, "plan": plan, **stored, "splits": list(SPLITS), "told": recipe.for_manifest,
            "counts": tables.facts, "planned": plan.facts,
        }  # fmt: skip
        run.publish(run.step("published", write_published, threads=1, private=True, inputs=inputs))
        if recipe.asked.picture:
            self._draw(stored)

    def _need_room(self, splits: dict[str, Any]) -> None:
        """Refuse before the start what the disk cannot hold.

        Raises:
            DiskFull: in numbers.
        """
        folder = self._run.folder
        needed = sum(splits[name]["records"] for name in SPLITS) * self._recipe.record_bytes
        there = sum(path.stat().st_size for name in SPLITS for path in (folder / name).glob(f"{name}-*"))
        free = shutil.disk_usage(folder).free
        if needed - there > free - _SPARE:
            raise DiskFull(
                f"the shards take about {format_size(needed)}, of which {format_size(there)} are there; the "
                f"disk of {folder} has {format_size(free)} left, of which {format_size(_SPARE)} are kept "
                "free. Make room, choose another disk, or take --image jpeg, a smaller --image-size or "
                "--mask none."
            )

    def _draw(self, stored: dict[str, penstock.Stored]) -> None:
        from penstock.workloads.multimodal.picture import draw_sheets

        asked = self._recipe.asked
        inputs: dict[str, Any] = {**stored, "writer": asked.writer}
        step = self._run.step("contact-sheets", draw_sheets, threads=1, private=True, inputs=inputs)
        self._run.publish(step)


def copy_inputs(elsewhere: Elsewhere) -> dict[str, Any]:
    """The inputs of the step ``copied``."""
    return {"elsewhere": elsewhere, "tables": elsewhere.tables()}


def tables_inputs(recipe: Recipe) -> dict[str, Any]:
    """The inputs of the step ``tables``."""
    rules = asdict(recipe.rules)
    return {"tables": recipe.layout.tables, "films": str(recipe.layout.films), "rules": rules}


def plan_inputs(recipe: Recipe, tables: Any) -> dict[str, Any]:
    """The inputs of the step ``plan``."""
    where = {} if recipe.elsewhere is None else {"elsewhere": recipe.elsewhere}
    return {
        **where, "joined": tables, "films": str(recipe.layout.films), "rules": asdict(recipe.split_rules),
        "official": recipe.official, "shards": recipe.suffix,
    }  # fmt: skip
