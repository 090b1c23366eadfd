"""A Julia set, row by row: arrays that are written as they are made, and mapped when they are drawn."""

import numpy as np
from drawing import figure, options, save

import penstock

C = -0.79 + 0.15j
ROUNDS = 160


def row(number, *, rows):
    """How soon each point of a row escapes; smooth, float32 (columns,)."""
    columns = rows * 8 // 5
    z = np.linspace(-1.6, 1.6, columns) + 1j * (1 - 2 * number / (rows - 1))
    left = np.full(columns, ROUNDS, np.float32)
    for count in range(ROUNDS):
        z = np.where(np.abs(z) < 8, z * z + C, z)
        out = (np.abs(z) >= 8) & (left == ROUNDS)
        left[out] = count + 1 - np.log2(np.log2(np.abs(z[out])))
    return left


def main():
    """Run it, and draw it."""
    asked = options(__doc__, scale=600)
    job = penstock.Job(
        source=penstock.sources.Range(asked.scale),
        function=row,
        inputs={"rows": asked.scale},
        into=penstock.sinks.Arrays(grain=64),
    )
    report = job.run(asked.into / "julia", budget=asked.budget)
    drawn, axes = figure("Julia set", f"z² {C:+.2f}; {asked.scale:,} rows, into Arrays", (7.2, 5))
    axes.imshow(np.sqrt(np.stack(report.result[:])), cmap="twilight_shifted", interpolation="antialiased")
    axes.set_axis_off()
    save(drawn, asked.into / "julia.png")


if __name__ == "__main__":
    main()
