"""The files at the top of the run folder: manifest, index, failures, and the split of each person.

Counts, digests and reasons of ours; no text of anybody, and ids only where they were asked for.
"""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from penstock.errors import PenstockBug
from penstock.workloads.multimodal import planning, upstream
from penstock.workloads.multimodal.building import LOST, SPLITS
from penstock.workloads.multimodal.labels import LABELS
from penstock.workloads.multimodal.records import CLINICAL
from penstock.workloads.multimodal.shards import FAILED, INDEX

SCHEMA = 1


def write_published(
    folder: Path, *, tables: Path, plan: Path, splits: list[str], told: dict[str, Any],
    counts: dict[str, Any], planned: dict[str, Any], **stored: Path,
) -> None:  # fmt: skip
    """A step: write all files to be published.

    Args:
        folder: where it goes.
        tables, plan: folders of these steps.
        splits: their names.
        told: what was asked for, and what retriever and tokenizer are, see ``stages.Recipe.for_manifest``.
        counts, planned: what the two steps counted.
        stored: the folder of shards of each split.

    Raises:
        PenstockBug: rows of the film table are not accounted for, each once.
    """
    folders = {split: stored[split] for split in splits}
    Publishing(folder, tables, plan, folders, told, counts, planned).write()


class Publishing:
    """Writes the published files; the arguments are those of ``write_published``."""

    def __init__(
        self, folder: Path, tables: Path, plan: Path, stored: Mapping[str, Path], recipe: Mapping[str, Any],
        counts: Mapping[str, Any], planned: Mapping[str, Any],
    ) -> None:  # fmt: skip
        self._folder, self._tables, self._plan, self._stored = folder, tables, plan, stored
        self._recipe, self._counts, self._planned = recipe, counts, planned

    def write(self) -> None:
        """Write everything."""
        shards = [line for split in self._stored for line in self._index(split)]
        failed = self._write_failures()
        manifest = self._manifest(shards, failed)
        shutil.copyfile(self._plan / SPLITS, self._folder / SPLITS)
        self._json(
            "index.json", {"schema": SCHEMA, "shards": [_without(line, "clinical") for line in shards]}
        )
        written = {split: manifest["records"][split]["written"] for split in self._stored}
        self._json(
            "metadata.json",
            {
                "config": {name: str(value) for name, value in self._recipe["options"].items()},
                **{f"n_{split}": count for split, count in written.items()},
                "total_records": sum(written.values()),
            },
        )
        self._json("manifest.json", manifest)

    def _index(self, split: str) -> Iterator[dict[str, Any]]:
        with open(self._stored[split] / INDEX, encoding="utf-8") as file:
            for line in file:
                found = json.loads(line)
                yield {**found, "split": split, "shard": f"{split}/{found['shard']}"}

    def _write_failures(self) -> Counter[str]:
        """``failures.csv``: the row of each record that failed, counted from 0, and why."""
        counted: Counter[str] = Counter()
        ids = self._recipe["options"]["log_ids"]
        names = ("dicom_id", "subject_id", "study_id")
        known = self._ids() if ids else {}
        with open(self._folder / "failures.csv", "w", encoding="utf-8", newline="") as file:
            out = csv.writer(file, lineterminator="\n")
            out.writerow(["record", "reason", *(names if ids else ())])
            for row, reason in self._failures():
                counted[reason] += 1
                out.writerow([row, reason, *known.get(row, ("", "", "") if ids else ())])
        return counted

    def _failures(self) -> Iterator[tuple[int, str]]:
        with open(self._plan / LOST, encoding="utf-8") as file:
            for line in file:
                row, reason = line.rstrip("\n").split(",")
                yield int(row), reason
        for split, stored in self._stored.items():
            rows = planning.read_column(str(self._plan / f"{split}.arrow"), "row").to_numpy()
            with open(stored / FAILED, encoding="utf-8") as file:
                for line in file:
                    item, reason = line.rstrip("\n").split(",")
                    yield int(rows[int(item)]), reason

    def _ids(self) -> dict[int, tuple[Any, ...]]:
        """The ids of records that failed, by row."""
        import pyarrow as pa
        import pyarrow.compute as pc

        from penstock.workloads.multimodal.building import JOINED

        wanted = pa.array(sorted(row for row, _ in self._failures()), pa.int64())
        with pa.memory_map(str(self._tables / JOINED)) as file:
            table = pa.ipc.open_file(file).read_all()
            table = table.filter(pc.is_in(table["row"], value_set=wanted))
            columns = [table[name].to_pylist() for name in ("row", "dicom_id", "subject_id", "study_id")]
        return {row: tuple(rest) for row, *rest in zip(*columns, strict=True)}

    def _manifest(self, shards: list[dict[str, Any]], failed: Counter[str]) -> dict[str, Any]:
        recipe, counts, planned = self._recipe, self._counts["counts"], self._planned
        options = recipe["options"]
        skipped = Counter(counts["skipped"]) + Counter(
            _without(planned["skipped"], "image_missing", "image_unreadable")
        )
        written = {
            split: sum(line["records"] for line in shards if line["split"] == split) for split in self._stored
        }
        total = sum(written.values()) + sum(skipped.values()) + sum(failed.values())
        if total != counts["rows"]:
            raise PenstockBug(
                f"{counts['rows']} rows of the film table became {sum(written.values())} written, "
                f"{sum(skipped.values())} skipped and {sum(failed.values())} failed: {total}"
            )
        if planned["patients_in_two_splits"] and options["split"] != "record":
            raise PenstockBug(f"{planned['patients_in_two_splits']} patients are in two splits")
        train = [line["clinical"] for line in shards if line["split"] == "train" and line["records"]]
        return {
            "schema": SCHEMA,
            "options": options,
            "warnings": [upstream.WARNING] if options["compat"] == "upstream" else [],
            "tables": self._counts["tables"],
            "retriever": recipe["retriever"],
            "tokenizer": recipe["tokenizer"],
            "rows": counts["rows"],
            "views": counts["views"],
            "joined": counts["joined"],
            "relation": counts["relation"],
            "skipped": dict(sorted(skipped.items())),
            "failed": dict(sorted(failed.items())),
            "records": {
                split: {**planned["splits"][split], "written": written[split]} for split in self._stored
            },
            "records_of_a_shard": recipe["grain"],
            "patients_in_two_splits": planned["patients_in_two_splits"],
            "labels": {"names": list(LABELS), "uncertain": options["uncertain"], "blank": options["blank"]},
            "clinical": statistics(train),
        }

    def _json(self, name: str, content: dict[str, Any]) -> None:
        text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False)
        (self._folder / name).write_text(text + "\n", encoding="utf-8")


def statistics(sums: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and deviation of each clinical value, from the shards' sums in order.

    Args:
        sums: ``n``, ``sum`` and ``squares`` of each shard, in the order of ``CLINICAL``.

    Returns:
        For each name its number, mean and standard deviation; null where there is no value.
    """
    total = np.zeros((3, len(CLINICAL)))
    for each in sums:
        total += np.array([each["n"], each["sum"], each["squares"]])
    found = {}
    for name, (count, added, squares) in zip(CLINICAL, total.T.tolist(), strict=True):
        mean = added / count if count else None
        spread = math.sqrt(max(squares / count - mean * mean, 0.0)) if count and mean is not None else None
        found[name] = {"n": int(count), "mean": mean, "sd": spread}
    return found


def _without(given: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name not in names}
