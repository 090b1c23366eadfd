"""Items of 1 to 96 MB in a budget that holds a few of them: what was held, as the run went."""

import time

import matplotlib.pyplot as plt
import numpy as np
from drawing import figure, options, save

import penstock
from penstock.events import MemoryRead


def heavy(item):
    """Fill some memory, and hold it for a while; MB."""
    size = int(1 + 95 * np.random.random() ** 3)
    held = np.ones(size << 20, np.uint8)
    time.sleep(0.02)
    return int(held.sum(dtype=np.int64)) >> 20


def main():
    """Run it, and draw it."""
    asked = options(__doc__, scale=300)
    read = []

    def watch(event):
        if isinstance(event, MemoryRead):
            read.append(event)

    report = penstock.run(
        heavy, asked.scale, asked.into / "memory", budget=asked.budget, workers=4, observers=[watch], seed=5
    )
    told = f"{asked.scale} items of {min(report.result)} to {max(report.result)} MiB, and 4 workers at most"
    drawn, axes = figure(f"Inside {report.budget >> 20} MiB", told)
    if read:
        workers = sorted({number for each in read for number in each.workers})
        layers = [[each.workers.get(number, 0) / 2**20 for each in read] for number in workers]
        own = [(each.used - sum(each.workers.values())) / 2**20 for each in read]
        colours = plt.get_cmap("plasma")(np.linspace(0.15, 0.9, len(workers)))
        seconds = [each.at - read[0].at for each in read]
        axes.stackplot(seconds, own, *layers, colors=["#4a5968", *colours], step="post")
        axes.set_xlim(0, seconds[-1])
    axes.axhline(report.budget / 2**20, color="#ff7a59", lw=1.4)
    axes.text(0, report.budget / 2**20, "  the budget\n", color="#ff7a59", fontsize=8.5, va="center")
    axes.axhline(report.peak / 2**20, color="white", lw=0.8, ls=":")
    axes.set_ylim(0, report.budget / 2**20 * 1.1)
    axes.set_xlabel("seconds; each worker has a colour, and grey is what the run itself takes")
    axes.set_ylabel("MiB held")
    save(drawn, asked.into / "memory.png")


if __name__ == "__main__":
    main()
