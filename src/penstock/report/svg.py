"""Plain SVG as text: scales, ticks and the few shapes that the charts use.

A :func:`chart` over time is as wide as the page lets it be: its shapes are stretched to that, from a
drawing 1,000 wide; its texts and marks are placed upon it and keep their size. A :func:`drawing` is scaled
as a whole.
Every text that comes from outside is escaped here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from penstock.budget import GiB, KiB, MiB, TiB
from penstock.foreign import in_html

PLOT = 1000.0
"""Width of what is stretched."""

_TIME_STEPS = (
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900,
    1800, 3600, 7200, 14400, 28800, 43200, 86400, 172800, 604800, 2419200,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Frame:
    """The plot area of a chart over time."""

    seconds: float
    """Length of the time axis."""
    top: float
    """Value at the upper edge; the lower edge is 0."""
    head: float
    """The upper edge on the drawing."""
    foot: float
    """The lower edge on the drawing."""

    def x(self, at: float) -> float:
        """The x coordinate of a time."""
        return PLOT * min(1.0, at / self.seconds)

    def y(self, value: float) -> float:
        """The y coordinate of a value."""
        return self.foot - (self.foot - self.head) * value / self.top

    def line(self, points: Iterable[tuple[float, float]]) -> str:
        """The points ``(at, value)`` as coordinates of a path."""
        return " ".join(f"{number(self.x(at))} {number(self.y(value))}" for at, value in points)


def number(value: float) -> str:
    """A coordinate, rounded to a tenth of a unit."""
    return f"{value:.1f}".removesuffix(".0")


def drawing(width: float, height: float, label: str, parts: Iterable[str]) -> str:
    """A whole ``<svg>``, scaled to the page's width."""
    view = f"0 0 {number(width)} {number(height)}"
    return f'<svg viewBox="{view}" role="img" aria-label="{in_html(label)}">{"".join(parts)}</svg>'


def chart(height: float, label: str, shapes: Iterable[str], texts: Iterable[str]) -> str:
    """A whole chart: shapes in a stretched drawing, and over it what keeps its size."""
    tall = number(height)
    return (
        f'<div class="chart"><svg height="{tall}" role="img" aria-label="{in_html(label)}">'
        f"{stretched(tall, shapes)}{''.join(texts)}</svg></div>"
    )


def stretched(height: str, shapes: Iterable[str]) -> str:
    """An ``<svg>`` that is stretched to the available width."""
    box = f'viewBox="0 0 {number(PLOT)} {height}" preserveAspectRatio="none"'
    return f'<svg {box} width="100%" height="{height}">{"".join(shapes)}</svg>'


def percent(x: float) -> str:
    """A position or width on a chart as a percentage."""
    return f"{number(100 * x / PLOT) if x in (0, PLOT) else f'{100 * x / PLOT:.2f}'}%"


def text(x: float, y: float, content: str, css: str = "") -> str:
    """A text in a drawing; classes ``end`` and ``mid`` move its anchor."""
    return f'<text class="{css}" x="{number(x)}" y="{number(y)}">{in_html(content)}</text>'


def label(x: float, y: float, content: str, css: str = "", *, aside: float = 0) -> str:
    """A text on a chart, offset from ``x`` by so many pixels."""
    moved = f' dx="{number(aside)}"' if aside else ""
    return f'<text class="{css}" x="{percent(x)}" y="{number(y)}"{moved}>{in_html(content)}</text>'


def placed(x: float, content: str) -> str:
    """A shape on a chart, drawn around its ``x`` without distortion."""
    return f'<svg x="{percent(x)}">{content}</svg>'


def clipped(x: float, y: float, width: float, height: float, content: str) -> str:
    """A shape on a chart, clipped to a box."""
    place = f'x="{percent(x)}" y="{number(y)}" width="{percent(width)}" height="{number(height)}"'
    return f'<svg class="clip" {place}>{content}</svg>'


def path(css: str, shape: str, about: str = "") -> str:
    """A path, with an optional tooltip."""
    return f'<path class="{css}" d="{shape}"{_end(about, "path")}'


def box(css: str, x: float, y: float, width: float, height: float, about: str = "") -> str:
    """A rectangle, with an optional tooltip."""
    place = f'x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}"'
    return f'<rect class="{css}" {place}{_end(about, "rect")}'


def dot(css: str, x: float, y: float, radius: float, about: str = "") -> str:
    """A circle, with an optional tooltip."""
    return (
        f'<circle class="{css}" cx="{number(x)}" cy="{number(y)}" r="{number(radius)}"{_end(about, "circle")}'
    )


def _end(about: str, tag: str) -> str:
    return f"><title>{in_html(about)}</title></{tag}>" if about else "/>"


def steps(frame: Frame, changes: Sequence[tuple[float, int, str]]) -> str:
    """A step line up to the right edge, interrupted where there is no value."""
    shape, drawn = "", False
    for at, value, _ in changes:
        x, y = number(frame.x(at)), number(frame.y(value))
        if drawn:
            shape += f"H{x}V{y}" if value else f"H{x}"
        elif value:
            shape += f"M{x} {y}"
        drawn = bool(value)
    return f"{shape}H{number(PLOT)}" if drawn else shape


def time_grid(frame: Frame) -> Iterable[str]:
    """Vertical grid lines."""
    for at in _times(frame)[1]:
        yield path("grid", f"M{number(frame.x(at))} {number(frame.head)}V{number(frame.foot)}")


def time_labels(frame: Frame) -> Iterable[str]:
    """The times below a chart; on a narrow screen every other one."""
    step, times = _times(frame)
    for count, at in enumerate(times):
        css = "start" if not count else "mid odd" if count % 2 else "mid"
        if frame.x(at) <= 0.975 * PLOT:
            yield label(frame.x(at), frame.foot + 17, time_label(at, step), css)


def _times(frame: Frame) -> tuple[float, list[float]]:
    step = next((s for s in _TIME_STEPS if frame.seconds / s <= 8), _TIME_STEPS[-1])
    return step, [count * step for count in range(int(frame.seconds / step * 1.0001) + 1)]


def time_label(at: float, step: float) -> str:
    """A time on the axis, in a unit that suits the distance of its ticks."""
    if at == 0:
        return "0"
    if step < 60:
        return f"{at:g} s" if at < 120 or step < 30 else f"{at / 60:g} min"
    if step < 3600:
        return f"{at / 60:g} min" if at < 7200 else f"{at / 3600:.4g} h"
    return f"{at / 3600:g} h" if step < 86400 else f"{at / 86400:g} d"


def size_grid(frame: Frame) -> Iterable[str]:
    """Horizontal grid lines."""
    for value in size_ticks(frame.top):
        yield path("grid", f"M0 {number(frame.y(value))}h{number(PLOT)}")


def size_labels(frame: Frame) -> Iterable[str]:
    """The sizes to the left of a chart."""
    for value in size_ticks(frame.top):
        yield label(0, frame.y(value) + 4, size_label(value), "end", aside=-8)


def size_ticks(top: float, most: int = 6) -> list[int]:
    """Ticks at multiples of a power of two, at most ``most`` of them."""
    step = 1
    while top / step > most:
        step *= 2
    return list(range(0, int(top) + 1, step))


def size_label(value: float) -> str:
    """A size on an axis: ``"1.5 GiB"``, ``"512 MiB"``, ``"0"``."""
    for unit, width in (("TiB", TiB), ("GiB", GiB), ("MiB", MiB), ("KiB", KiB)):
        if value >= width:
            return f"{value / width:.4g} {unit}"
    return f"{value:.4g} B" if value else "0"
