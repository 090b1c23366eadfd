"""A picture of a patient: slices of truth, experts and blend, the dominant weights, and the errors.

A row for each of three planes through the middle of the head, a column for each volume. All that is grey has
one scale, and the two errors have one, so that panels can be compared. Volumes are read plane by plane, and
only the slices are kept. There is no pyplot, a matplotlibrc does not count, and a file has no date and no
version: the same patient gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from penstock.workloads.superres import blending
from penstock.workloads.superres.headers import read_header
from penstock.workloads.superres.views import find_head, find_views, take_slices, voxel_sizes
from penstock.workloads.superres.volumes import read_planes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from penstock.workloads.superres.weights import Weights

DPI = 150
_COLUMN, _GAP = 1.6, 0.05
"""Inches: width of a panel, and between panels."""
_LEFT, _RIGHT, _TOP, _FOOT = 0.26, 0.56, 0.56, 0.3
"""Inches around the panels, for slices' names, colour bar, headings and legend."""
_AROUND = 3.0
"""Millimetres that are shown around the head."""
_SIZE = 8.0
"""Of text, in points."""
_LONGEST = 20
"""Letters of an expert's name."""
_COLOURS = ("#77AADD", "#EE8866", "#EEDD88", "#FFAABB", "#44BB99", "#99DDFF", "#BBCC33", "#AAAA00")
"""Paul Tol's light ones, which colour-blind readers can tell apart."""
_DARKEST = 0.2
"""Of a coloured voxel that is black in the grey image, as a share of its colour."""


@dataclass(frozen=True, slots=True)
class _Row:
    """The slices of one view.

    Attributes:
        label: which they are, as ``"axial, k = 77"``.
        sides: letters of the left and the right; empty where they are not known.
        volumes: experts, truth if known, blend; float32 (volumes, rows, columns).
        largest: the expert with the most weight, (rows, columns).
        height, width: in millimetres.
    """

    label: str
    sides: str
    volumes: NDArray[np.float32]
    largest: NDArray[np.float32]
    height: float
    width: float


@dataclass(frozen=True, slots=True)
class _Column:
    """A heading, an image for each row, and how ``imshow`` is to colour them."""

    heading: str
    images: Sequence[NDArray[Any]]
    colours: Mapping[str, Any]


def draw(
    into: Path, paths: Sequence[str | Path], weights: Weights, title: str, best: int | None = None
) -> None:
    """Draw a patient that was blended.

    Args:
        into: a ``.png``, ``.svg`` or ``.pdf`` to write to; the same picture is the same bytes.
        paths: the experts' volumes in the order of the weights, the truth if it is known, the blend.
        weights: of the blend.
        title: over the picture.
        best: number of the expert whose error is shown beside the blend's; None without a truth.

    Raises:
        BadInput: see :class:`Planes`.
    """
    rows = _read(paths, weights)
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # whatever a matplotlibrc says; put back afterwards
        matplotlib.rcParams["svg.hashsalt"] = "penstock"
        columns = _columns(rows, weights.models, best)
        sheet = _Sheet(rows, len(columns), room=_RIGHT if best is not None else _GAP)
        for at, column in enumerate(columns):
            sheet.add(at, column)
        sheet.label(title)
        sheet.legend(len(columns) if best is None else len(columns) - 2, weights.models)
        if best is not None:
            sheet.scale()
        sheet.save(into)


# ------------------------------------------------------------------ what is shown


def _read(paths: Sequence[str | Path], weights: Weights) -> list[_Row]:
    header = read_header(paths[-1])
    head = find_head(paths[-1], header.shape)
    slices = take_slices(_with_largest(paths, weights), head.middle)
    sizes = voxel_sizes(header.affine)
    around = np.ceil(_AROUND / sizes).astype(int)
    rows = []
    for view in find_views(header.affine):
        window = [
            slice(max(head.begin[axis] - around[axis], 0), head.end[axis] + around[axis])
            for axis in range(3)
            if axis != view.axis
        ]
        shown = view.turn(slices[view.axis][(slice(None), *window)])
        where = f"{'ijk'[view.axis]} = {head.middle[view.axis]}"
        rows.append(
            _Row(
                label=f"{view.name}, {where}" if header.placed else where,
                sides=view.sides if header.placed else "",
                volumes=shown[:-1],
                largest=shown[-1],
                height=float(shown.shape[1] * sizes[view.down]),
                width=float(shown.shape[2] * sizes[view.right]),
            )
        )
    return rows


def _with_largest(paths: Sequence[str | Path], weights: Weights) -> Iterator[NDArray[np.float32]]:
    """The planes of all volumes, and one more with the number of the expert that has the most weight."""
    i, j, _ = weights.shape
    weigh = blending.weigher(weights)
    planes = np.empty((len(paths) + 1, j, i), np.float32)
    for k, volumes in enumerate(read_planes(paths, weights.shape)):
        planes[:-1], planes[-1] = volumes, weigh(k).argmax(-1)
        yield planes


def _columns(rows: Sequence[_Row], models: Sequence[str], best: int | None) -> list[_Column]:
    names = [_short(name) for name in models]
    # The truth comes after the experts; without it the blend stands in.
    truth = len(models) if best is not None else -1
    low, high = _range([row.volumes[truth][row.volumes[-1] != 0] for row in rows])
    grey = {"cmap": "gray", "vmin": low, "vmax": high}
    shown = [*enumerate(names), (-1, "blend")]
    if best is not None:
        shown.insert(0, (truth, "HR"))
    columns = [_Column(name, [row.volumes[v] for row in rows], grey) for v, name in shown]
    colours = _colours(len(models))
    tinted = [_tint(row.volumes[truth], row, low, high, colours) for row in rows]
    columns.append(_Column("most weight", tinted, {}))
    if best is None:
        return columns
    # Where the truth is above 0, as errors are measured.
    errors = [
        [np.abs(row.volumes[v] - row.volumes[truth]) * (row.volumes[truth] > 0) for row in rows]
        for v in (-1, best)
    ]
    _, largest = _range([each[each > 0] for both in errors for each in both])
    heat = {"cmap": "inferno", "vmin": 0.0, "vmax": largest}
    headings = ("|blend − HR|", f"|{names[best]} − HR|")
    return columns + [_Column(name, images, heat) for name, images in zip(headings, errors, strict=True)]


def _range(values: Sequence[NDArray[np.float32]]) -> tuple[float, float]:
    """All but the lowest and the highest half percent; 0 and 1 where there is nothing."""
    one = np.concatenate(values)
    low, high = np.percentile(one, [0.5, 99.5]) if len(one) else (0.0, 1.0)
    return float(low), float(high)


def _tint(
    image: NDArray[np.float32], row: _Row, low: float, high: float, colours: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The grey image, in the head coloured by the expert with the most weight; (rows, columns, 3)."""
    grey = np.clip((image - low) / max(high - low, 1e-30), 0, 1)[..., None]
    tinted = (_DARKEST + (1 - _DARKEST) * grey) * colours[row.largest.astype(int)]
    head = row.volumes[-1] != 0
    return np.array(np.where(head[..., None], tinted, grey))


def _colours(count: int) -> NDArray[np.float64]:
    if count <= len(_COLOURS):
        return np.array([to_rgb(colour) for colour in _COLOURS[:count]])
    return np.asarray(matplotlib.colormaps["turbo"](np.linspace(0, 1, count))[:, :3])


def _short(name: str) -> str:
    half = _LONGEST // 2
    return name if len(name) <= _LONGEST else f"{name[: half - 1]}…{name[-half:]}"


# ------------------------------------------------------------------ the sheet


_METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
"""Neither dates nor versions, which would make two runs different."""


class _Sheet:
    """Panels of one scale in millimetres, rows as high as what they show, in inches from the top left.

    Args:
        rows: what is shown.
        columns: how many.
        room: inches at the right of the panels.
    """

    def __init__(self, rows: Sequence[_Row], columns: int, room: float) -> None:
        self._rows = rows
        # Panels of a volume that is one plane thick have room for their names too.
        self._wide = max(*(row.width for row in rows), max(row.height for row in rows) / 2)
        self._high = [max(row.height, 0.6 * self._wide) for row in rows]
        inches = [_COLUMN * high / self._wide for high in self._high]
        self._tops = [_TOP + sum(inches[:at]) + _GAP * at for at in range(len(rows))]
        self._inches = inches
        self._foot = self._tops[-1] + inches[-1]
        self._right = _LEFT + columns * (_COLUMN + _GAP) - _GAP
        self._size = (self._right + room, self._foot + _FOOT)
        self._figure = Figure(figsize=self._size, dpi=DPI, facecolor="white")
        self._canvas: Any = FigureCanvasAgg(self._figure)
        self._last: Any = None

    def add(self, at: int, column: _Column) -> None:
        """Draw a column of panels under its heading."""
        left = _LEFT + at * (_COLUMN + _GAP)
        for number, (row, image) in enumerate(zip(self._rows, column.images, strict=True)):
            axes = self._axes(left, self._tops[number], _COLUMN, self._inches[number])
            axes.set(facecolor="black", xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            extent = (-row.width / 2, row.width / 2, -row.height / 2, row.height / 2)
            self._last = axes.imshow(image, extent=extent, aspect="auto", **column.colours)
            axes.set(
                xlim=(-self._wide / 2, self._wide / 2),
                ylim=(-self._high[number] / 2, self._high[number] / 2),
            )
            if at == 0 and row.sides:
                _name_sides(axes, row.sides)
        self._write(left + _COLUMN / 2, _TOP - 0.06, column.heading, _COLUMN, ha="center")

    def label(self, title: str) -> None:
        """Write the title, and beside each row which slices it shows."""
        self._write(_LEFT, 0.24, title, self._right - _LEFT, fontsize=_SIZE + 1, weight="bold")
        for row, top, high in zip(self._rows, self._tops, self._inches, strict=True):
            self._write(_LEFT - 0.07, top + high / 2, row.label, high, rotation=90, ha="right", va="center")

    def legend(self, columns: int, models: Sequence[str]) -> None:
        """Name the experts' colours below the panels, up to the right edge of the first ``columns``."""
        handles = [
            Patch(color=tuple(colour), label=_plain(_short(name)))
            for name, colour in zip(models, _colours(len(models)), strict=True)
        ]
        right = _LEFT + columns * (_COLUMN + _GAP) - _GAP
        self._figure.legend(
            handles=handles, ncols=len(handles), fontsize=_SIZE, frameon=False, loc="upper right",
            bbox_to_anchor=self._place(right, self._foot + 0.04), borderaxespad=0, borderpad=0.2,
            handlelength=1, handleheight=1, columnspacing=1.2, handletextpad=0.5,
        )  # fmt: skip

    def scale(self) -> None:
        """Draw the colour bar of the last column, at its right."""
        axes = self._axes(self._right + _GAP, _TOP, 0.1, self._foot - _TOP)
        bar = self._figure.colorbar(self._last, cax=axes, extend="max", extendfrac=0.02)
        bar.outline.set_visible(False)
        axes.tick_params(labelsize=_SIZE - 1, length=2, pad=2)

    def save(self, into: Path) -> None:
        """Write the file."""
        kind = into.suffix.removeprefix(".")
        self._figure.savefig(into, format=kind, dpi=DPI, metadata=_METADATA[kind])

    def _axes(self, left: float, top: float, wide: float, high: float) -> Any:
        x, y = self._place(left, top + high)
        return self._figure.add_axes((x, y, wide / self._size[0], high / self._size[1]))

    def _place(self, left: float, top: float) -> tuple[float, float]:
        return left / self._size[0], 1 - top / self._size[1]

    def _write(self, left: float, top: float, content: str, room: float, **how: Any) -> None:
        """Write text at a place, smaller if it needs more than ``room`` inches."""
        text: Any = self._figure.text(*self._place(left, top), _plain(content), **{"fontsize": _SIZE, **how})
        box = text.get_window_extent(self._canvas.get_renderer())
        needed = (box.height if how.get("rotation") else box.width) / DPI
        if needed > room:
            text.set_fontsize(text.get_fontsize() * room / needed)


def _name_sides(axes: Any, sides: str) -> None:
    for letter, x, ha in zip(sides, (0.03, 0.97), ("left", "right"), strict=True):
        axes.text(
            x, 0.97, letter, transform=axes.transAxes, color="white", fontsize=_SIZE, ha=ha, va="top",
            path_effects=[withStroke(linewidth=2, foreground="black")],
        )  # fmt: skip


def _plain(text: str) -> str:
    """Text in which a dollar does not begin a formula."""
    return text.replace("$", r"\$")
