"""The picture of a run: positions along the genome, their verdicts, and the samples' depths.

matplotlib is used without pyplot and without the settings of the machine: the same run draws the same bytes.
Lengths are in inches, the figure being as wide as two columns of a journal.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from penstock.errors import MissingExtra, UsageError
from penstock.workloads.snv.results.binned import LEVELS, Binned, bin_positions
from penstock.workloads.snv.verdicts import REASONS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from numpy.typing import NDArray

FORMATS = ("png", "svg", "pdf")
DOTS = 4000
"""Probabilities above which a density is drawn: so many dots hide each other, and make a large SVG."""
NAMED = 60
"""Samples whose names have room on the axis."""
LOWEST = 5
"""Samples that are named where there are more."""

_WIDTH, _LEFT, _RIGHT = 7.2, 1.15, 1.1
_INNER = _WIDTH - _LEFT - _RIGHT
_LETTERS, _LINE = 24, 95
"""Letters of a name, and of some names side by side, at most."""
_DEPTHS = (9, 20)
"""Of the group, above which further filters apply."""
# Colours that the colour-blind tell apart (Okabe and Ito), and shades of them for counts, light to dark.
_GREY = "#4D4D4D"
_DASHED = (0, (4, 3))
_LABEL = ("#D55E00", "#0072B2")
_SHADES = (["#F8D5BF", "#D55E00", "#5A2700"], ["#C3DEEF", "#0072B2", "#00263B"], ["#D4D4D4", "#000000"])
_FATES = {
    "in the tensor": ("o", 2.6, _GREY), "dropped": ("v", 3.6, "#CC79A7"),
    "excluded": ("s", 2.8, "#E69F00"), "outgroup": ("D", 2.8, "#009E73"),
}  # fmt: skip
"""What became of a sample -> marker, its size, colour."""
_STYLE = {
    "font.size": 7, "axes.titlesize": 7.5, "axes.linewidth": 0.6, "axes.spines.top": False,
    "axes.spines.right": False, "xtick.major.width": 0.6, "ytick.major.width": 0.6, "xtick.major.size": 3,
    "ytick.major.size": 3,
    "text.parse_math": False,  # a name with dollar signs is no formula
    "svg.fonttype": "none",  # text stays text: it can be searched, and edited for print
    "svg.hashsalt": "penstock",
    "pdf.fonttype": 42,  # letters stay letters there too
}  # fmt: skip
_UNDATED: dict[str, dict[str, Any]] = {
    "png": {"Software": None}, "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}  # fmt: skip


class Sample(NamedTuple):
    """A sample as drawn."""

    name: str
    median: float
    fate: str


def draw(positions: Path, summary: Mapping[str, Any], path: Path, *, dots: int = DOTS) -> None:
    """Draw the picture of a run.

    Args:
        positions: ``positions.parquet``; read in batches.
        summary: what ``summary.json`` holds.
        path: of the picture; ``.png``, ``.svg`` or ``.pdf``.
        dots: up to so many probabilities each is a dot; above, they are a density.
    """
    from matplotlib import style

    binned, kind = bin_positions(positions, dots), path.suffix.removeprefix(".")
    with style.context([_STYLE], after_reset=True):
        metadata = {**_UNDATED[kind], "Title": _title(binned, summary)}
        _figure(binned, summary).savefig(path, format=kind, dpi=300, metadata=metadata)


def draw_run(folder: Path, *, results: Path, kind: str) -> None:
    """Draw ``picture.png``, ``picture.svg`` or ``picture.pdf``, as a step.

    Args:
        folder: gets the picture.
        results: the folder with ``positions.parquet`` and ``summary.json``.
        kind: one of ``FORMATS``.
    """
    summary = json.loads((results / "summary.json").read_text(encoding="utf-8"))
    draw(results / "positions.parquet", summary, folder / f"picture.{kind}")


def formats_of(given: str | Sequence[str]) -> list[str]:
    """The requested formats, in order, after checking that they can be drawn.

    Raises:
        UsageError: there is no such format.
        MissingExtra: matplotlib is not installed.
    """
    asked = {given} if isinstance(given, str) else set(given)
    if unknown := asked.difference(FORMATS):
        raise UsageError(f"a picture is {' or '.join(FORMATS)}, not {', '.join(sorted(unknown))}")
    if asked and util.find_spec("matplotlib") is None:
        raise MissingExtra("the picture", "matplotlib", "plot")
    return sorted(asked)


# ------------------------------------------------------------------ the page


def _figure(binned: Binned, summary: Mapping[str, Any]) -> Figure:
    from matplotlib.figure import Figure

    samples = _samples(summary)
    names = [sample.name for sample in samples] if len(samples) <= NAMED else []
    rows = 0.17 * len(_shown_fates(binned))
    height = 4.85 + rows + 0.045 * max(map(len, names), default=0)
    figure = Figure(figsize=(_WIDTH, height))

    def panel(letter: str, top: float, tall: float) -> Axes:
        figure.text(0.1 / _WIDTH, 1 - (top - 0.08) / height, letter, weight="bold", size=9)
        return figure.add_axes((_LEFT / _WIDTH, 1 - (top + tall) / height, _INNER / _WIDTH, tall / height))

    figure.text(0.1 / _WIDTH, 1 - 0.24 / height, _title(binned, summary), weight="bold", size=9)
    _draw_kept(panel("a", 0.6, 1.6), binned, summary)
    _draw_fates(panel("b", 2.52, rows), binned)
    _draw_samples(panel("c", 3.2 + rows, 1.2), samples, summary)
    figure.text(0.1 / _WIDTH, 0.08 / height, _caption(binned, summary), color=_GREY, size=6.5)
    return figure


def _title(binned: Binned, summary: Mapping[str, Any]) -> str:
    title = f"{_many(summary['samples'], 'sample')}, {_many(summary['positions'], 'position')}: "
    title += f"{summary['kept']:,} kept"
    return f"{title}, {binned.labels[1]:,} with label 1" if summary["network"] else title


def _many(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _caption(binned: Binned, summary: Mapping[str, Any]) -> str:
    sentences = ["Dashed in c: group depths above which further filters of strands apply."]
    lost = summary["kept"] - sum(binned.labels)
    if summary["network"] and lost:
        sentences.append(f"Kept without a probability: {lost:,}.")
    return " ".join(sentences)


def _head(axes: Axes, title: str, colour: str = "") -> None:
    """A line above a panel; at its right, what the colour bar shows."""
    axes.set_title(title, loc="left", pad=6)
    if colour:
        axes.annotate(
            colour, (1, 1), (72 * (_RIGHT - 0.1), 6), xycoords="axes fraction", textcoords="offset points",
            ha="right", size=6.5, color=_GREY,
        )  # fmt: skip


def _beside(axes: Axes, y: float, text: str, at: tuple[float, float] = (5, 0), **look: Any) -> None:
    """Text at the right of a panel, points away from its edge at y, which is in the panel's units."""
    axes.annotate(
        text, (1, y), at, xycoords=("axes fraction", "data"), textcoords="offset points",
        va="center", **look,
    )  # fmt: skip


def _say_empty(axes: Axes, text: str) -> None:
    axes.text(
        0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=_GREY, size=9,
        bbox={"color": "white"},
    )  # fmt: skip


def _thousands(axis: Axis) -> None:
    axis.set_major_formatter(lambda value, _: f"{value:,.10g}")


# ------------------------------------------------------------------ positions


def _draw_kept(axes: Axes, binned: Binned, summary: Mapping[str, Any]) -> None:
    """Panel a: the probabilities; without a network, how many positions are kept where."""
    _along_genome(axes, binned)
    axes.set(xlabel="")
    axes.tick_params(labelbottom=False)
    if not summary["kept"]:
        _head(axes, "Positions that are kept")
        axes.set_yticks([])
        _say_empty(axes, "no position is kept")
    elif summary["network"]:
        _draw_probabilities(axes, binned)
    else:
        _head(axes, "Positions that are kept (without a network there are no probabilities)")
        axes.stairs(binned.fates[0], binned.edges, fill=True, color=_GREY)
        axes.set_ylim(0, 1.05 * max(int(binned.fates[0].max()), 1))
        axes.set_ylabel(f"kept in {_bases(binned.width)}")
        axes.locator_params(axis="y", integer=True)
        _thousands(axes.yaxis)


def _draw_probabilities(axes: Axes, binned: Binned) -> None:
    axes.set_ylim(-0.02, 1.02)
    axes.set_ylabel("probability")
    axes.axhline(0.5, color="black", linewidth=0.6, linestyle=_DASHED)
    colour = ""
    for label, number in enumerate(binned.labels):
        _beside(axes, 0.25 + 0.5 * label, f"label {label}\n{number:,}", color=_LABEL[label], weight="bold")
    if binned.dots is not None:
        _draw_dots(axes, *binned.dots)
    else:
        colour = f"positions in {_bases(binned.width)} \N{MULTIPLICATION SIGN} {1 / LEVELS:g} of probability"
        half, most = LEVELS // 2, int(binned.levels.max())
        for label, part in enumerate((binned.levels[:half], binned.levels[half:])):
            image = _draw_counts(axes, part, most, _SHADES[label], (label / 2, label / 2 + 0.5))
            _draw_bar(axes, image, most, label / 2 + 0.05, 0.4)
    _head(axes, "Probability of the positions that are kept", colour)


def _draw_dots(axes: Axes, p: NDArray[np.int64], prob: NDArray[np.float32]) -> None:
    size = 2.4 if len(p) > 500 else 3.6
    for label, marker in enumerate("^o"):
        mask = (prob > 0.5) == label
        axes.plot(
            p[mask], prob[mask], marker, color=_LABEL[label], markersize=size, markeredgewidth=0, alpha=0.6,
            clip_on=False,
        )  # fmt: skip


def _draw_fates(axes: Axes, binned: Binned) -> None:
    """Panel b: a row for the positions that are kept, and for each reason of removal."""
    _along_genome(axes, binned)
    shown, most = _shown_fates(binned), int(binned.fates.max())
    fates, rows = binned.fates[shown], len(shown)
    names = ["kept", *REASONS[1:]]
    axes.set_ylim(rows, 0)
    axes.set_yticks(np.arange(rows) + 0.5, [names[row] for row in shown])
    axes.tick_params(axis="y", length=0)
    for row, number in enumerate(fates.sum(axis=1)):
        axes.axhline(row, color="#CCCCCC", linewidth=0.5)
        _beside(axes, row + 0.5, f"{number:,}", (40, 0), ha="right", color="black" if number else "#999999")
    if most:
        image = _draw_counts(axes, fates, most, _SHADES[2], (0, rows))
        _draw_bar(axes, image, most, 0.03, 0.94)
    else:
        _say_empty(axes, "the table has no positions")
    _head(axes, "What became of all positions", f"positions in {_bases(binned.width)}" if most else "")


def _shown_fates(binned: Binned) -> list[int]:
    """The rows of panel b: what is kept, and the reasons that removed something."""
    return [row for row, number in enumerate(binned.fates.sum(axis=1)) if number or not row]


def _along_genome(axes: Axes, binned: Binned) -> None:
    left, right = int(binned.edges[0]), int(binned.edges[-1])
    size, unit = _unit((right - left) // 2)
    axes.set_xlim(left, right)
    axes.set_xlabel(f"position in the genome ({unit})")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / size:,.10g}")


def _unit(number: int) -> tuple[int, str]:
    return (10**6, "Mb") if number >= 10**6 else (1000, "kb") if number >= 1000 else (1, "bp")


def _bases(number: int) -> str:
    size, unit = _unit(number)
    return f"{number // size} {unit}"


def _draw_counts(
    axes: Axes, counts: NDArray[np.int64], most: int, shades: Sequence[str], between: tuple[float, float]
) -> AxesImage:
    """Counts as an image, the first row at the first of two heights; white where there are none."""
    from matplotlib.colors import LinearSegmentedColormap, LogNorm

    return axes.imshow(
        np.ma.masked_equal(counts, 0), LinearSegmentedColormap.from_list("shades", shades),
        norm=LogNorm(1, max(most, 2)), extent=(*axes.get_xlim(), *between), origin="lower", aspect="auto",
        interpolation="nearest",
    )  # fmt: skip


def _draw_bar(axes: Axes, image: AxesImage, most: int, bottom: float, tall: float) -> None:
    """The colours of an image, at the right edge of the page."""
    ticks = (1, 2, 5, 10, 20) if most < 50 else [10**e for e in range(19)]
    place = axes.inset_axes((1 + 0.7 / _INNER, bottom, 0.08 / _INNER, tall))
    bar = axes.figure.colorbar(image, cax=place, ticks=[tick for tick in ticks if tick <= most])
    assert bar.solids is not None
    bar.solids.set_rasterized(True)  # or an SVG has a path for each of 256 colours, with seams
    place.minorticks_off()
    place.tick_params(length=2, pad=2, labelsize=6)
    _thousands(place.yaxis)


# ------------------------------------------------------------------ samples


def _samples(summary: Mapping[str, Any]) -> list[Sample]:
    """All of them, the lowest median first, so that outliers stand at the edge."""
    fates = _fates(summary)
    samples = [
        Sample(_shown(name), float(median), fates.get(name, "in the tensor"))
        for name, median in summary["median_coverage"].items()
    ]
    return sorted(samples, key=lambda sample: sample.median)


def _fates(summary: Mapping[str, Any]) -> dict[str, str]:
    """Name -> what became of a sample that is not in the tensor."""
    return {name: fate for fate in ("dropped", "excluded", "outgroup") for name in summary[fate]}


def _shown(name: str) -> str:
    """A name that fits, and that an SVG may hold."""
    text = "".join(letter if letter.isprintable() else "?" for letter in name)
    return text if len(text) <= _LETTERS else text[: _LETTERS - 1] + "…"


def _draw_samples(axes: Axes, samples: Sequence[Sample], summary: Mapping[str, Any]) -> None:
    """Panel c: the median coverage of each sample."""
    medians = np.array([sample.median for sample in samples])
    fates = np.array([sample.fate for sample in samples])
    for fate, (marker, size, colour) in _FATES.items():
        at = np.flatnonzero(fates == fate)
        if len(at):
            axes.plot(
                at, medians[at], marker, color=colour, markersize=size, markeredgewidth=0, clip_on=False,
                label=f"{fate} {len(at):,}", rasterized=len(at) > DOTS,
            )  # fmt: skip
    axes.set_xlim(-1, len(samples))
    axes.set_ylabel("median coverage")
    _scale_depth(axes, medians)
    for depth, aside in zip(_DEPTHS, (-2, 2), strict=True):
        axes.axhline(depth, color="black", linewidth=0.6, linestyle=_DASHED)
        _beside(axes, depth, f"{depth}", (5, aside))
    group = summary["thresholds"]["group_depth"]
    _head(axes, f"Depth of the samples (group depth: {group:,.10g})")
    axes.legend(
        loc="lower right", bbox_to_anchor=(1 + (_RIGHT - 0.1) / _INNER, 1.0), ncols=4, frameon=False,
        fontsize=6.5, borderaxespad=0.2, handletextpad=0, columnspacing=0.8,
    )  # fmt: skip
    _name_samples(axes, samples)


def _name_samples(axes: Axes, samples: Sequence[Sample]) -> None:
    label = "samples, the lowest median first"
    if len(samples) <= NAMED:
        names = [sample.name for sample in samples]
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=5.5)
        axes.tick_params(axis="x", length=2, pad=2)
    else:
        axes.set_xticks([])
        lowest = [f"{name} ({median:,.10g})" for name, median, _ in samples[:LOWEST]]
        while len(lowest) > 1 and len(", ".join(lowest)) > _LINE:
            lowest.pop()
        label += f": {', '.join(lowest)}, …"
    axes.set_xlabel(label)


def _scale_depth(axes: Axes, medians: NDArray[np.float64]) -> None:
    """From 0, or by powers where the range would press low samples, or the two depths, together."""
    low, high = min(medians.min(), _DEPTHS[0]), 1.1 * max(medians.max(), _DEPTHS[1])
    if high < 14 * max(low, 1):
        axes.set_ylim(0, high)
    else:
        below = max(0.4, 0.15 * math.log10(high))  # room for 0 to 1: a median may be 0
        axes.set_yscale("symlog", linthresh=1, linscale=below)
        axes.set_ylim(low / 1.5 if low > 1 else -0.2, 1.1 * high)
        digits = (1, 2, 5) if high < 500 * max(low, 1) else (1,)
        ticks = [0, *(digit * 10**e for e in range(19) for digit in digits)]
        axes.set_yticks([tick for tick in ticks if axes.get_ylim()[0] <= tick <= high])
        axes.minorticks_off()
    _thousands(axes.yaxis)
