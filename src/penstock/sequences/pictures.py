"""Pictures of sequences: codon usage, the most frequent words, GC and lengths; as PNG, SVG and PDF.

matplotlib is used without pyplot and without settings of the machine: the same numbers draw the same bytes.
Lengths are in inches, the figure being as wide as two columns of a journal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.errors import MissingExtra
from penstock.sequences import histograms as h

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

FORMATS = ("png", "svg", "pdf")

_WIDTH = 7.2
_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "#4D4D4D"  # told apart by the colour-blind (Okabe and Ito)
_STYLE = {
    "font.size": 7, "axes.titlesize": 8, "axes.linewidth": 0.6, "axes.spines.top": False,
    "axes.spines.right": False, "xtick.major.width": 0.6, "ytick.major.width": 0.6,
    "xtick.major.size": 3, "ytick.major.size": 3,
    "text.parse_math": False,  # a name with dollar signs is no formula
    "svg.fonttype": "none",  # text stays text: it can be searched, and edited for print
    "svg.hashsalt": "penstock", "pdf.fonttype": 42,
}  # fmt: skip
_UNDATED: dict[str, dict[str, Any]] = {
    "png": {"Software": None}, "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}  # fmt: skip
_NAMES = {
    "A": "Ala", "R": "Arg", "N": "Asn", "D": "Asp", "C": "Cys", "Q": "Gln", "E": "Glu", "G": "Gly",
    "H": "His", "I": "Ile", "L": "Leu", "K": "Lys", "M": "Met", "F": "Phe", "P": "Pro", "S": "Ser",
    "T": "Thr", "W": "Trp", "Y": "Tyr", "V": "Val", "*": "Stop",
}  # fmt: skip


def need_matplotlib() -> None:
    """Check that matplotlib is available.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    if util.find_spec("matplotlib") is None:
        raise MissingExtra("pictures", "matplotlib", "plot")


def save(make: Any, folder: Path, name: str) -> None:
    """Write ``name.png``, ``.svg`` and ``.pdf`` of the figure that ``make()`` draws."""
    from matplotlib import style

    with style.context([_STYLE], after_reset=True):
        figure = make()
        for kind in FORMATS:
            figure.savefig(folder / f"{name}.{kind}", format=kind, dpi=300, metadata=_UNDATED[kind])


def _new(height: float, title: str) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height))
    figure.text(0.02, 1 - 0.22 / height, title, weight="bold", size=9)
    return figure


def _axes(figure: Figure, left: float, top: float, wide: float, high: float) -> Axes:
    """Axes at a place in inches from the upper left corner."""
    width, height = figure.get_size_inches()
    return figure.add_axes((left / width, 1 - (top + high) / height, wide / width, high / height))


def _thousands(axis: Any) -> None:
    axis.set_major_formatter(lambda value, _: f"{value:,.10g}")


# ------------------------------------------------------------------ codons


def codon_usage(rows: Sequence[Mapping[str, Any]], title: str) -> Figure:
    """Codon usage by amino acid: a row for each, its codons as cells whose colour is their RSCU.

    Args:
        rows: of ``codons.parquet``, of one frame and strand; amino acids that are not there have no row.
        title: over the picture.
    """
    from matplotlib.colors import TwoSlopeNorm

    families: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        families.setdefault(row["aa"], []).append(row)
    families = {aa: found for aa, found in families.items() if any(row["count"] for row in found)}
    order = sorted(families, key=lambda aa: (aa == "*", -len(families[aa]), _NAMES.get(aa, aa)))
    cells = max((len(found) for found in families.values()), default=1)
    tall = 0.27 * max(len(order), 1)
    figure = _new(tall + 1.35, title)
    wide = 0.74 * cells
    axes = _axes(figure, 0.62, 0.62, wide, tall)
    colours, norm = _rscu_colours(), TwoSlopeNorm(1, 0, max(2.0, *_rscus(families), 2.0))
    for at, aa in enumerate(order):
        for place, row in enumerate(sorted(families[aa], key=lambda row: (-row["count"], row["codon"]))):
            _cell(axes, place, at, row, colours, norm)
    axes.set(xlim=(0, cells), ylim=(len(order), 0), xticks=[])
    axes.set_yticks(np.arange(len(order)) + 0.5, [f"{_NAMES.get(aa, aa)} {aa}" for aa in order])
    axes.tick_params(axis="y", length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_title("codons, the most frequent first, and their RSCU", loc="left", pad=5)
    _shares(figure, families, order, 0.62 + wide + 0.3, tall)
    _colour_bar(figure, colours, norm, tall)
    return figure


def _rscus(families: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[float]:
    return [row["rscu"] for found in families.values() for row in found if row["rscu"] is not None]


def _rscu_colours() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("rscu", ["#0072B2", "#C3DEEF", "#FFFFFF", "#F8D5BF", "#D55E00"])


def _cell(axes: Axes, x: int, y: int, row: Mapping[str, Any], colours: Any, norm: Any) -> None:
    from matplotlib.patches import Rectangle

    rscu = row["rscu"]
    colour = "#F2F2F2" if rscu is None else colours(norm(rscu))
    axes.add_patch(
        Rectangle((x + 0.02, y + 0.05), 0.96, 0.9, facecolor=colour, edgecolor="#BBBBBB", linewidth=0.4)
    )
    dark = sum(np.multiply(colour[:3], (0.3, 0.59, 0.11))) < 0.5 if rscu is not None else False
    ink = "white" if dark else "black"
    axes.text(
        x + 0.08, y + 0.52, row["codon"], family="monospace", size=7, va="center", color=ink, weight="bold"
    )
    text = "–" if rscu is None else f"{rscu:.2f}"
    axes.text(x + 0.92, y + 0.52, text, size=6.5, va="center", ha="right", color=ink)


def _shares(
    figure: Figure,
    families: Mapping[str, Sequence[Mapping[str, Any]]],
    order: Sequence[str],
    left: float,
    tall: float,
) -> None:
    total = sum(row["count"] for found in families.values() for row in found) or 1
    shares = [1000 * sum(row["count"] for row in families[aa]) / total for aa in order]
    axes = _axes(figure, left, 0.62, _WIDTH - left - 0.55, tall)
    axes.barh(np.arange(len(order)) + 0.5, shares, height=0.7, color=_GREY)
    for at, share in enumerate(shares):
        axes.annotate(
            f"{share:.1f}", (share, at + 0.5), (2, 0), textcoords="offset points", va="center", size=6.5
        )
    axes.set(ylim=(max(len(order), 1), 0), yticks=[])
    axes.spines["left"].set_visible(False)
    axes.set_title("per 1,000 codons", loc="left", pad=5)
    axes.tick_params(axis="x", labelsize=6)


def _colour_bar(figure: Figure, colours: Any, norm: Any, tall: float) -> None:
    from matplotlib.cm import ScalarMappable

    place = _axes(figure, 0.62, 0.62 + tall + 0.22, 2.2, 0.09)
    bar = figure.colorbar(ScalarMappable(norm, colours), cax=place, orientation="horizontal")
    bar.set_ticks([tick for tick in (0, 0.5, 1, 2, 3, 4, 5, 6) if tick <= norm.vmax])
    bar.outline.set_linewidth(0.4)
    assert bar.solids is not None
    bar.solids.set_rasterized(True)
    place.tick_params(length=2, labelsize=6)
    figure.text(
        (0.62 + 2.3) / _WIDTH, 1 - (0.62 + tall + 0.3) / figure.get_size_inches()[1],
        "RSCU: 1 where all codons of an amino acid are used alike", size=6.5, color=_GREY, va="baseline",
    )  # fmt: skip


# ------------------------------------------------------------------ words


def top_words(top: Sequence[Mapping[str, Any]], counted: int, mean: float, title: str) -> Figure:
    """The most frequent words as bars.

    Args:
        top: ``kmer`` and ``count``, the most frequent first.
        counted: all words.
        mean: of the counts of all different words.
        title: over the picture.
    """
    tall = 0.17 * max(len(top), 1)
    longest = max((len(word["kmer"]) for word in top), default=1)
    left = 0.3 + 0.062 * longest
    figure = _new(tall + 1.15, title)
    axes = _axes(figure, left, 0.5, _WIDTH - left - 1.2, tall)
    counts = [word["count"] for word in top]
    axes.barh(np.arange(len(top)), counts, height=0.75, color=_BLUE)
    axes.set_yticks(np.arange(len(top)), [word["kmer"] for word in top], family="monospace")
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(top) - 0.4, -0.6)
    for at, count in enumerate(counts):
        axes.annotate(
            f"{count:,}  ({count / max(counted, 1):.2%})", (count, at), (3, 0), textcoords="offset points",
            va="center", size=6.5,
        )  # fmt: skip
    if counts and mean < max(counts):
        text = f"mean of all words: {mean:,.0f}" if mean >= 100 else f"mean of all words: {mean:.3g}"
        axes.axvline(mean, color=_ORANGE, linewidth=0.9, linestyle=(0, (4, 3)))
        axes.annotate(
            text, (mean, 1), (2, 2), xycoords=("data", "axes fraction"),
            textcoords="offset points", color=_ORANGE, size=6.5,
        )  # fmt: skip
    axes.set_xlabel("count")
    axes.locator_params(axis="x", nbins=6)
    _thousands(axes.xaxis)
    return figure


# ------------------------------------------------------------------ records


def of_records(counts: NDArray[np.int64], title: str) -> Figure:
    """GC and length of records as two histograms.

    Args:
        counts: as :class:`penstock.sequences.histograms.CountRecords` gives them, added up.
        title: over the picture.
    """
    figure = _new(2.9, title)
    records, bases = int(counts[h.RECORDS]), int(counts[h.BASES])
    gc = h.gc_counts(counts)
    axes = _axes(figure, 0.65, 0.65, 2.75, 1.65)
    axes.stairs(gc, np.arange(h.GC_BINS + 1), fill=True, color=_BLUE)
    axes.set(xlabel="GC of a record (%)", ylabel="records")
    if gc.any():
        there = np.flatnonzero(gc)
        axes.set_xlim(max(there[0] - 3, 0), min(there[-1] + 4, 100))
        whole = 100 * counts[h.GC] / counts[h.KNOWN]
        _mark(axes, h.middle(gc) + 0.5, f"median {h.middle(gc)} to {h.middle(gc) + 1} %", _ORANGE, 12)
        _mark(axes, float(whole), f"of all bases {whole:.1f} %", _GREY, 2)
    lengths = h.length_counts(counts)
    axes_right = _axes(figure, 4.25, 0.65, 2.75, 1.65)
    edges = 10 ** (np.arange(h.LENGTH_BINS + 1) / h.DECADE)
    axes_right.stairs(lengths, edges, fill=True, color=_BLUE)
    axes_right.set(xscale="log", xlabel="letters of a record", ylabel="records")
    if lengths.any():
        there = np.flatnonzero(lengths)
        axes_right.set_xlim(edges[max(there[0] - 2, 0)], edges[min(there[-1] + 3, h.LENGTH_BINS)])
        at = h.middle(lengths)
        between = f"{_short(edges[at])} to {_short(edges[at + 1])}"
        _mark(axes_right, float(np.sqrt(edges[at] * edges[at + 1])), f"median {between}", _ORANGE, 12)
        mean = bases / records
        _mark(axes_right, mean, f"mean {_short(mean)}", _GREY, 2)
    axes_right.xaxis.set_major_formatter(lambda value, _: _short(value))
    for each in (axes, axes_right):
        each.set_ylim(bottom=0)
        each.locator_params(axis="y", integer=True, nbins=6)
        _thousands(each.yaxis)
    return figure


def _mark(axes: Axes, x: float, text: str, colour: str, up: float) -> None:
    axes.axvline(x, color=colour, linewidth=0.9, linestyle=(0, (4, 3)))
    low, high = axes.get_xlim()
    log = axes.get_xscale() == "log"
    share = np.log(x / low) / np.log(high / low) if log else (x - low) / (high - low)
    right = share > 0.6
    axes.annotate(
        text, (x, 1), (-2 if right else 2, up), xycoords=("data", "axes fraction"),
        textcoords="offset points", color=colour, size=6.5, ha="right" if right else "left",
    )  # fmt: skip


def _short(value: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {unit}b"
    return f"{value:.3g} b"
