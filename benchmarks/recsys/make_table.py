"""A ranking table as `penstock run ranking` leaves it, with a label that items, users and scores explain.

    python benchmarks/recsys/make_table.py OUT --rows 2000000 --features 102

The tables of a generator whose clicks depend on the position alone give flat curves: nothing can be learnt.
Here a click follows a logistic model of the item's quality (which some item features tell, with noise), of
how well user and item agree, of the score, and of the position; `--clicks coin` tosses a coin instead.
Written a row group at a time; the same seed gives the same bytes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

CHANNELS = ["behavior", "content", "vector", "popular", "tag"]
_STEP = np.timedelta64(3, "s")
_BEGIN = np.datetime64("2025-12-01T00:00:00", "us")


def make_table(
    folder: Path, rows: int, *, features: int = 102, items: int = 50_000, users: int = 200_000,
    mean: int = 12, seed: int = 7, row_group: int = 65_536, parts: int = 4, clicks: str = "signal",
    missing: float = 0.03,
) -> None:  # fmt: skip
    """Write table/part-*.parquet, groups.npy, positions.npy and meta.json into ``folder``."""
    (folder / "table").mkdir(parents=True, exist_ok=True)
    sizes = _sizes(np.random.default_rng([seed, 0]), rows, mean)
    numeric = features - 1
    names = ["score", *(f"f{at:03d}" for at in range(numeric - 1))]
    world = _World(np.random.default_rng([seed, 1]), items, users, numeric - 1, missing)
    np.save(folder / "groups.npy", sizes)
    np.save(folder / "positions.npy", _places(sizes).astype(np.int32))
    writer, at, written, told = None, 0, 0, {"positives": 0}
    chunks = list(_chunks(sizes, row_group))
    for number, (first, last) in enumerate(chunks):
        table = world.rows(
            np.random.default_rng([seed, 2, number]), sizes[first:last], first, at, names, clicks
        )
        part = number * parts // len(chunks)
        if writer is None or part != written:
            if writer is not None:
                writer.close()
            written = part
            path = folder / "table" / f"part-{at:09d}.parquet"
            writer = pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table, row_group_size=row_group * 2)
        told["positives"] += int(table["label"].to_numpy().sum())
        at += table.num_rows
    writer.close()
    (folder / "meta.json").write_text(json.dumps(_meta(table.schema, names, sizes, told), indent=1) + "\n")


def _sizes(rng: np.random.Generator, rows: int, mean: int) -> Any:
    sizes = np.minimum(1 + rng.geometric(1 / max(mean - 1, 1), 2 * rows // mean + 2), 200).astype(np.int32)
    ends = np.cumsum(sizes)
    last = int(np.searchsorted(ends, rows))
    sizes = sizes[: last + 1]
    sizes[-1] -= ends[last] - rows
    return sizes


def _places(sizes: Any) -> Any:
    ends = np.cumsum(sizes)
    return np.arange(int(ends[-1])) - np.repeat(ends - sizes, sizes)


def _chunks(sizes: Any, row_group: int) -> Iterator[tuple[int, int]]:
    """Queries of each row group: whole ones."""
    ends, first = np.cumsum(sizes), 0
    while first < len(sizes):
        before = int(ends[first - 1]) if first else 0
        last = max(int(np.searchsorted(ends, before + row_group, "right")), first + 1)
        yield first, last
        first = last


class _World:
    """Items and users, and what is known of them."""

    def __init__(
        self, rng: np.random.Generator, items: int, users: int, features: int, missing: float
    ) -> None:
        self.quality = rng.normal(size=items)
        self.taste, self.kind = rng.normal(size=(users, 4)), rng.normal(size=(items, 4))
        self.of_user = max(features // 8, 4)
        self.of_item = features - self.of_user
        noise = rng.normal(size=(items, self.of_item)).astype(np.float32)
        for at in range(min(4, self.of_item)):
            noise[:, at] = self.quality + rng.normal(size=items) * (at + 1) / 2
        for at in range(4, min(8, self.of_item)):
            noise[:, at] = self.kind[:, at - 4]
        noise[rng.random(noise.shape) < missing] = np.nan
        self.items, self.users = noise, rng.normal(size=(users, self.of_user)).astype(np.float32)
        self.users[:, :4] = self.taste
        self.frequent = 1 / np.arange(1, items + 1) ** 0.9
        self.frequent = np.cumsum(self.frequent) / self.frequent.sum()

    def rows(
        self, rng: np.random.Generator, sizes: Any, query: int, first: int, names: list[str], clicks: str
    ) -> pa.Table:
        count = int(sizes.sum())
        request = np.repeat(np.arange(len(sizes)), sizes)
        place = _places(sizes)
        item = np.minimum(np.searchsorted(self.frequent, rng.random(count)), len(self.quality) - 1)
        user = rng.integers(0, len(self.taste), len(sizes))[request]
        agree = (self.taste[user] * self.kind[item]).sum(1)
        score = 0.5 * self.quality[item] + 0.3 * agree + rng.normal(size=count)
        pull = -3.2 + 0.9 * self.quality[item] + 0.5 * agree + 0.4 * score - 0.12 * place
        chance = np.full(count, 0.5) if clicks == "coin" else 1 / (1 + np.exp(-pull))
        unknown = rng.random(len(sizes))[request] < 0.2
        columns = {
            "request_id": pa.array([f"r{each:08d}" for each in range(query, query + len(sizes))]).take(
                request
            ),
            "dataset_id": pa.array(item.astype(np.int64)),
            "user_id": pa.array(user.astype(np.int64), mask=unknown),
            "timestamp": pa.array((_BEGIN + _STEP * (query + np.arange(len(sizes))))[request]),
            "row": pa.array(np.arange(first, first + count)),
            "label": pa.array((rng.random(count) < chance).astype(np.float32)),
            "score": pa.array(score.astype(np.float32)),
        }
        values = [self.items[item, at] for at in range(self.of_item)]
        values += [np.where(unknown, np.float32(np.nan), self.users[user, at]) for at in range(self.of_user)]
        columns |= {name: pa.array(value) for name, value in zip(names[1:], values, strict=True)}
        columns["channel"] = pa.array(rng.integers(-1, len(CHANNELS), count).astype(np.int32))
        return pa.table(columns)


def _meta(schema: pa.Schema, names: list[str], sizes: Any, told: dict[str, int]) -> dict[str, Any]:
    rows = int(sizes.sum())
    last = _BEGIN + _STEP * (len(sizes) - 1)
    return {
        "schema": 1,
        "features": [*names, "channel"],
        "categorical": ["channel"],
        "categories": {"channel": CHANNELS},
        "types": {field.name: str(field.type) for field in schema},
        "label": {"column": "label", "integer": True, "min": 0.0, "max": 1.0, **told},
        "weight": None,
        "time": {"column": "timestamp", "first": str(_BEGIN), "last": str(last)},
        "as_of": None,
        "rows": {"samples": rows, "table": rows},
        "queries": {"samples": len(sizes), "table": len(sizes), "largest": int(sizes.max())},
        "order": "samples",
        "compat": "none",
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    for name, value in {"rows": 2_000_000, "features": 102, "items": 50_000, "users": 200_000, "seed": 7,
                        "row-group": 65_536, "parts": 4}.items():  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--clicks", choices=["signal", "coin"], default="signal")
    asked = vars(parser.parse_args())
    make_table(asked.pop("out"), asked.pop("rows"), **asked)


if __name__ == "__main__":
    main()
