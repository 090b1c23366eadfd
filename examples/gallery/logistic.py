"""Where x -> r x (1 - x) settles: each item adds its visits to one table, by a Sum of integers."""

import numpy as np
from drawing import figure, options, save
from matplotlib.colors import PowerNorm

import penstock

SHAPE = 600, 960  # of the table: x, r
FROM, TO = 2.9, 4.0


def visits(item, *, items):
    """How often x comes into each box, for some values of r: int64 of SHAPE."""
    r = np.linspace(FROM, TO, items * 16, endpoint=False)[item * 16 : item * 16 + 16]
    x = np.full(16, 0.5)
    table = np.zeros(SHAPE, np.int64)
    columns = ((r - FROM) / (TO - FROM) * SHAPE[1]).astype(int)
    for count in range(1200):
        x = r * x * (1 - x)
        if count >= 300:
            np.add.at(table, (np.minimum((x * SHAPE[0]).astype(int), SHAPE[0] - 1), columns), 1)
    return table


def main():
    """Run it, and draw it."""
    asked = options(__doc__, scale=300)
    job = penstock.Job(
        source=penstock.sources.Range(asked.scale),
        function=visits,
        inputs={"items": asked.scale},
        into=penstock.reducers.Sum(),
    )
    report = job.run(asked.into / "logistic", budget=asked.budget)
    total = int(report.result.sum())
    drawn, axes = figure("Order and chaos", f"r x (1 - x): {total:,} visits, added up by Sum")
    seen = np.where(report.result, report.result, np.nan)
    axes.imshow(
        seen, origin="lower", aspect="auto", extent=(FROM, TO, 0, 1), cmap="inferno",
        norm=PowerNorm(0.6, vmin=-8, vmax=np.nanquantile(seen, 0.97)), interpolation="antialiased",
    )  # fmt: skip
    axes.set_xlabel("r")
    axes.set_ylabel("x")
    save(drawn, asked.into / "logistic.png")


if __name__ == "__main__":
    main()
