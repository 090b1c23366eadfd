"""What the pictures of the gallery have in common."""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

DARK = "#10161d"


def options(about, scale):
    """The command line of an example: where to, how large, and in which budget."""
    asked = argparse.ArgumentParser(description=about)
    asked.add_argument("--into", type=Path, default=Path("runs"), help="folder of the run and its picture")
    asked.add_argument("--scale", type=int, default=scale, help="how much of it; less is quicker")
    asked.add_argument("--budget", default="512MiB")
    return asked.parse_args()


def figure(title, told, size=(7.2, 4.5)):
    """A dark figure with a title and a line below it; its axes."""
    drawn, axes = plt.subplots(figsize=size, facecolor=DARK, layout="constrained")
    axes.set_facecolor(DARK)
    axes.tick_params(colors="#9fb0c0", labelsize=8)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_title(f"{title}\n", color="white", loc="left", fontsize=12, fontweight="bold")
    axes.text(0, 1.02, told, color="#9fb0c0", fontsize=8.5, transform=axes.transAxes)
    axes.xaxis.label.set_color("#9fb0c0")
    axes.yaxis.label.set_color("#9fb0c0")
    return drawn, axes


def save(drawn, path):
    """Write the picture, without the date, so that the same picture has the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn.savefig(path, dpi=110, bbox_inches="tight", pad_inches=0.25, metadata={"Software": None})
    print(path)
