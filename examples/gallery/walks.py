"""Random walks, many of them in an item: reseeded by (seed, item), so the picture never changes."""

import numpy as np
from drawing import figure, options, save
from matplotlib.colors import LogNorm

import penstock

STEPS, BINS, REACH = 900, 300, 90
WALKS = 200


def where(item):
    """How many walks are where, after each step: int64 (BINS, STEPS)."""
    steps = np.random.randint(0, 2, (WALKS, STEPS), dtype=np.int8) * 2 - 1
    at = np.cumsum(steps, axis=1, dtype=np.int32)
    boxes = np.clip((at + REACH) * BINS // (2 * REACH), 0, BINS - 1)
    table = np.zeros((BINS, STEPS), np.int64)
    for step in range(STEPS):
        table[:, step] = np.bincount(boxes[:, step], minlength=BINS)
    return table


def main():
    """Run it, and draw it."""
    asked = options(__doc__, scale=250)
    job = penstock.Job(
        source=penstock.sources.Range(asked.scale), function=where, into=penstock.reducers.Sum(), seed=7
    )
    report = job.run(asked.into / "walks", budget=asked.budget)
    table = report.result.reshape(BINS // 5, 5, STEPS // 3, 3).sum((1, 3))
    drawn, axes = figure(f"{asked.scale * WALKS:,} random walks", "where they are; one and two deviations")
    axes.imshow(
        np.where(table, table, np.nan), origin="lower", aspect="auto", extent=(0, STEPS, -REACH, REACH),
        cmap="viridis", norm=LogNorm(),
    )  # fmt: skip
    time = np.arange(STEPS)
    for times in (-2, -1, 1, 2):
        axes.plot(time, times * np.sqrt(time), color="white", lw=0.8, alpha=0.7)
    axes.set_xlabel("step")
    save(drawn, asked.into / "walks.png")


if __name__ == "__main__":
    main()
