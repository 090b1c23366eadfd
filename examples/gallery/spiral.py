"""Ulam's spiral: primes by a sieve whose segments are items, each of a few hundred KB, into a list."""

import numpy as np
from drawing import figure, options, save

import penstock

SEGMENT = 20_000


def primes(item):
    """The primes of a segment, int32."""
    low = item * SEGMENT
    found = np.ones(SEGMENT, bool)
    found[: max(0, 2 - low)] = False
    for p in range(2, int((low + SEGMENT) ** 0.5) + 1):
        found[max(p * p, -(-low // p) * p) - low :: p] = False
    return np.flatnonzero(found).astype(np.int32) + low


def places(numbers):
    """Where numbers from 1 on lie in the spiral: x and y."""
    ring = np.ceil((np.sqrt(numbers) - 1) / 2).astype(int)
    side = 2 * ring
    last = (side + 1) ** 2
    back = last - numbers
    edge = np.where(ring > 0, back // np.maximum(side, 1), 0)
    along = back - edge * side
    x = np.select([edge == 0, edge == 1, edge == 2], [ring - along, -ring, along - ring], ring)
    y = np.select([edge == 0, edge == 1, edge == 2], [-ring, along - ring, ring], ring - along)
    return x, y


def main():
    """Run it, and draw it."""
    asked = options(__doc__, scale=2)
    report = penstock.run(primes, asked.scale, asked.into / "spiral", budget=asked.budget)
    numbers = np.concatenate(report.result)
    x, y = places(numbers)
    reach = int(max(abs(x).max(), abs(y).max()))
    field = np.zeros((2 * reach + 1, 2 * reach + 1))
    field[y + reach, x + reach] = 1 - 0.6 * np.hypot(x, y) / np.hypot(reach, reach)
    drawn, axes = figure(
        "Ulam's spiral", f"{len(numbers):,} primes below {asked.scale * SEGMENT:,}", (6, 6.4)
    )
    axes.imshow(field, cmap="inferno", interpolation="antialiased", vmin=0, vmax=0.9)
    axes.set_axis_off()
    save(drawn, asked.into / "spiral.png")


if __name__ == "__main__":
    main()
