"""The steps that train with LightGBM: bins of all rows, once, and blocks of trees from them.

A block begins with the scores that the one before has left (``init_score``), so that a killed run loses a
block, and writes its trees and the scores after them. Trees drawn by chance are drawn by the number of the
block. Nothing here depends on the number of threads or on memory.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import penstock
from penstock.workloads.recsys.readers.lightgbm_library import (
    lightgbm,
    listening,
    merge_models,
    plain_model,
)
from penstock.workloads.recsys.readers.rows import TrainingRows
from penstock.workloads.recsys.readers.table import open_table
from penstock.workloads.recsys.training import split as parts

if TYPE_CHECKING:
    from numpy.typing import NDArray

BINS = "bins.bin"
TREES, SCORES, BIASES = "trees.txt", "scores.npy", "biases.json"


@dataclass(frozen=True)
class Rows:
    """Which rows to train on: those of a table, after its survey.

    Attributes:
        table: the folder of the table.
        survey: the folder of the survey.
        most: rows, at most; None for all.
        label, weight: columns.
    """

    table: str
    survey: Path
    most: int | None
    label: str = "label"
    weight: str | None = None

    def chosen(self, most: int | None = None) -> NDArray[np.bool_]:
        """The chosen queries, bool (queries,), with at most so many rows."""
        part, draws = (np.load(self.survey / f"{name}.npy") for name in ("parts", "hashes"))
        sizes = np.load(Path(self.table) / "groups.npy")
        limits = [limit for limit in (self.most, most) if limit is not None]
        return parts.draw(draws, sizes, part == parts.TRAIN, min(limits) if limits else None)

    def open(self) -> TrainingRows:
        """Open their rows."""
        return TrainingRows(open_table(self.table), self.chosen(), label=self.label, weight=self.weight)


@dataclass(frozen=True)
class Growing:
    """The parameters of tree growth.

    Attributes:
        leaves: of a tree, at most.
        learning_rate: what a tree counts.
        bagging: share of the rows that a tree learns from.
        seed: of what is drawn.
        positions: learn how much a position alone is clicked, beside the trees.
    """

    leaves: int = 63
    learning_rate: float = 0.05
    bagging: float = 1.0
    seed: int = 42
    positions: bool = True

    def params(self, block: int, threads: int) -> dict[str, Any]:
        """LightGBM's parameters for a block."""
        drawn = {"bagging_fraction": self.bagging, "bagging_freq": 1} if self.bagging < 1 else {}
        return {
            "objective": "lambdarank", "metric": "None", "num_leaves": self.leaves,
            "learning_rate": self.learning_rate, "seed": self.seed, "deterministic": True,
            "force_col_wise": True, "num_threads": threads, "verbosity": 2 if self.positions else -1,
            "bagging_seed": (self.seed + block) % (1 << 31), **drawn,
        }  # fmt: skip


def bin_params(bin_sample: int, seed: int) -> dict[str, Any]:
    """LightGBM's parameters for the bins: tree parameters have no effect on them."""
    return {
        "bin_construct_sample_cnt": bin_sample, "data_random_seed": seed, "max_bin": 255,
        "feature_pre_filter": False, "verbosity": -1,
    }  # fmt: skip


# ------------------------------------------------------------------ bins


def make_bins(
    folder: Path, *, table: str, survey: Path, sample: Path, bin_sample: int, seed: int, label: str,
    weight: str | None, library: str,
) -> dict[str, Any]:  # fmt: skip
    """Write the bins of all training rows.

    Returns the rows, and the features that have one value, or none, in all of them.

    Raises:
        BadInput: no feature has two values.
    """
    del library  # bins of another version of LightGBM are other bins
    rows = Rows(table, survey, json.loads((sample / "most.json").read_text()), label, weight)
    return write_bins(folder / BINS, rows, bin_params(bin_sample, seed))


def write_bins(path: Path, rows: Rows, params: Mapping[str, Any]) -> dict[str, Any]:
    """Write the bins of rows into a file; see :func:`make_bins`."""
    lightgbm()
    from penstock.workloads.recsys.readers.lightgbm import lightgbm_dataset

    opened = rows.open()
    threads = {"num_threads": penstock.share().threads}
    data = lightgbm_dataset(opened, {**params, **threads}).construct()
    unused = opened.unused()
    data.save_binary(str(path))
    return {"rows": len(opened), "queries": len(opened.sizes), "unused": unused}


def _load_bins(folder: Path, rows: Rows, params: Mapping[str, Any], spare: Path) -> Any:
    """The bins; where LightGBM refuses the file (of another version, damaged), made anew in ``spare``."""
    library = lightgbm()
    path = folder / BINS
    try:
        return library.Dataset(str(path), params=dict(params)).construct()
    except library.basic.LightGBMError as error:
        print(f"{path}: LightGBM refuses it ({error}): its bins are made anew")
        made = spare / BINS
        write_bins(made, rows, params)
        data = library.Dataset(str(made), params=dict(params)).construct()
        made.unlink()
        return data


# ------------------------------------------------------------------ trees


def grow_trees(
    folder: Path, *, bins: Path, table: str, survey: Path, sample: Path, before: Path | None, block: int,
    trees: int, growing: dict[str, Any], bin_sample: int, seed: int, label: str, weight: str | None,
    most: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Grow a block of trees: writes trees.txt, and scores.npy, the scores of all rows after it.

    Args:
        folder: to write into.
        bins: the folder of the bins.
        table, survey, sample: which rows those are.
        before: the folder of the block before.
        block: number of the first tree.
        trees: how many to grow.
        growing: as ``Growing``.
        bin_sample, seed: as for the bins.
        label, weight: columns.
        most: rows of a smaller sample of them; None for all.

    Returns how many have grown; fewer where no split gains anything any more.
    """
    how = Growing(**growing)
    rows = Rows(table, survey, json.loads((sample / "most.json").read_text()), label, weight)
    chosen, everything = rows.chosen(most), rows.chosen()
    made = bin_params(bin_sample, seed)
    params = {**made, **how.params(block, penstock.share().threads)}
    data = _load_bins(bins, rows, made, folder)
    sizes = np.load(Path(table) / "groups.npy")
    if most is not None:
        data = _subset(data, chosen[everything], sizes[everything], params)
    places = _positions(Path(table), chosen, sizes) if how.positions else None
    if places is not None:
        data.set_position(places)
    biases = _begin(data, before, places)
    with listening() as heard:
        booster = lightgbm().Booster(params, data)
        grown = _update(booster, trees)
    learnt = _add(biases, _biases_in(heard)) if places is not None else {}
    text = booster.model_to_string(num_iteration=-1)
    (folder / TREES).write_text(plain_model(text), encoding="utf-8")
    np.save(folder / SCORES, _scores(booster, data, places, biases))
    (folder / BIASES).write_text(json.dumps(learnt))
    return {"trees": grown, "finished": grown < trees, "rows": int(sizes[chosen].sum(dtype=np.int64))}


def _update(booster: Any, trees: int) -> int:
    for grown in range(trees):
        if booster.update():  # no leaf can be split: this tree is none
            return grown
    return trees


def _subset(data: Any, chosen: NDArray[np.bool_], sizes: NDArray[np.int32], params: Mapping[str, Any]) -> Any:
    """The bins of some of the queries."""
    wanted = np.flatnonzero(np.repeat(chosen, sizes))
    data.set_group(sizes)  # not told by a file of bins; a subset asks for it
    part = data.subset(wanted, dict(params)).construct()
    part.set_group(sizes[chosen])
    return part


def _begin(data: Any, before: Path | None, places: NDArray[np.int32] | None) -> dict[str, float]:
    """Start from the scores of the block before; the biases of positions that it has learnt."""
    if before is None:
        return {}
    scores = np.load(before / SCORES)
    biases: dict[str, float] = json.loads((before / BIASES).read_text())
    # LightGBM begins each block with biases of 0 and adds them to the scores: give it those of before there.
    data.set_init_score(scores + _bias_of_rows(biases, places) if biases and places is not None else scores)
    return biases


def _scores(
    booster: Any, data: Any, places: NDArray[np.int32] | None, biases: Mapping[str, float]
) -> NDArray[np.float64]:
    """The scores of all rows by all trees so far."""
    found: list[NDArray[np.float64]] = []

    def take(scores: NDArray[np.float64], _data: Any) -> tuple[str, float, bool]:
        found.append(scores.copy())
        return "scores", 0.0, True

    booster.eval_train(take)
    # What was added for the positions is none of the trees'.
    return found[0] - _bias_of_rows(biases, places) if biases and places is not None else found[0]


def _positions(table: Path, chosen: NDArray[np.bool_], sizes: NDArray[np.int32]) -> NDArray[np.int32] | None:
    """Where the rows were shown; None where all were at one place, or it is not known."""
    found = np.load(table / "positions.npy", mmap_mode="r")[np.repeat(chosen, sizes)]
    return found if len(found) and found.min() < found.max() else None


def _bias_of_rows(biases: Mapping[str, float], places: NDArray[np.int32]) -> NDArray[np.float64]:
    least = int(places.min())
    table = np.zeros(int(places.max()) - least + 1)
    for place, bias in biases.items():
        if 0 <= int(place) - least < len(table):
            table[int(place) - least] = bias
    return table[places - least]


def _biases_in(lines: Sequence[str]) -> dict[str, float]:
    """The biases of positions that LightGBM last told of; it tells them nowhere but in its log."""
    found: dict[str, float] = {}
    for line in lines:
        words = line.replace("[LightGBM] [Debug]", "").split()
        if words == ["position", "bias_factor"]:
            found = {}
        elif len(words) == 2 and line.startswith("[LightGBM] [Debug]"):
            try:
                found[str(int(words[0]))] = float(words[1])
            except ValueError:
                continue
    return found


def _add(before: Mapping[str, float], more: Mapping[str, float]) -> dict[str, float]:
    return {place: before.get(place, 0.0) + more.get(place, 0.0) for place in {**before, **more}}


# ------------------------------------------------------------------ the whole model


def merge_blocks(folder: Path, **blocks: Path) -> dict[str, Any]:
    """Merge the trees of all blocks, in order, into model.txt."""
    texts = [(each / TREES).read_text(encoding="utf-8") for each in blocks.values()]
    (folder / "model.txt").write_text(merge_models(texts), encoding="utf-8")
    return {"blocks": len(blocks)}
