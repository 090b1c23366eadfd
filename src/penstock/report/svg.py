"""Plain SVG as text: scales, ticks and the few shapes that the charts are made of.

Every text that comes from outside passes through :func:`text` or :func:`tip`, which escape it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from penstock.budget import GiB, KiB, MiB, TiB
from penstock.foreign import in_html

WIDTH = 1080.0
LEFT, RIGHT = 76.0, 12.0
PLOT = WIDTH - LEFT - RIGHT

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
        """Where a time is on the drawing."""
        return LEFT + PLOT * min(1.0, at / self.seconds)

    def y(self, value: float) -> float:
        """Where a value is on the drawing."""
        return self.foot - (self.foot - self.head) * value / self.top

    def line(self, points: Iterable[tuple[float, float]]) -> str:
        """The points ``(at, value)`` as coordinates of a path."""
        return " ".join(f"{number(self.x(at))} {number(self.y(value))}" for at, value in points)


def number(value: float) -> str:
    """A coordinate, to a tenth of a unit."""
    return f"{value:.1f}".removesuffix(".0")


def drawing(height: float, label: str, parts: Iterable[str], *, width: float = WIDTH) -> str:
    """A whole ``<svg>``, as wide as the page lets it be."""
    view = f"0 0 {number(width)} {number(height)}"
    return f'<svg viewBox="{view}" role="img" aria-label="{in_html(label)}">{"".join(parts)}</svg>'


def text(x: float, y: float, content: str, css: str = "") -> str:
    """A line of text; classes ``end`` and ``mid`` move its anchor."""
    return f'<text class="{css}" x="{number(x)}" y="{number(y)}">{in_html(content)}</text>'


def path(css: str, shape: str, about: str = "") -> str:
    """A path, with a tooltip if there is something to say about it."""
    return f'<path class="{css}" d="{shape}"{_end(about, "path")}'


def box(css: str, x: float, y: float, width: float, height: float, about: str = "") -> str:
    """A rectangle, with a tooltip if there is something to say about it."""
    place = f'x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}"'
    return f'<rect class="{css}" {place}{_end(about, "rect")}'


def dot(css: str, x: float, y: float, radius: float, about: str = "") -> str:
    """A circle, with a tooltip if there is something to say about it."""
    return (
        f'<circle class="{css}" cx="{number(x)}" cy="{number(y)}" r="{number(radius)}"{_end(about, "circle")}'
    )


def _end(about: str, tag: str) -> str:
    return f"><title>{in_html(about)}</title></{tag}>" if about else "/>"


def steps(frame: Frame, changes: Sequence[tuple[float, int, str]]) -> str:
    """A line that stays level between changes, to the right edge."""
    shape = ""
    for at, value, _ in changes:
        x, y = number(frame.x(at)), number(frame.y(value))
        shape += f"H{x}V{y}" if shape else f"M{x} {y}"
    return f"{shape}H{number(LEFT + PLOT)}"


def time_axis(frame: Frame) -> Iterable[str]:
    """Fine lines down the chart and times below it."""
    step = next((s for s in _TIME_STEPS if frame.seconds / s <= 8), _TIME_STEPS[-1])
    for count in range(int(frame.seconds / step * 1.0001) + 1):
        x = frame.x(count * step)
        yield path("grid", f"M{number(x)} {number(frame.head)}V{number(frame.foot)}")
        css = "mid" if count else "start"
        if x < LEFT + PLOT - 24 or css == "start":
            yield text(x, frame.foot + 17, time_label(count * step, step), css)


def time_label(at: float, step: float) -> str:
    """A time on the axis, in the unit that suits the distance of its ticks."""
    if at == 0:
        return "0"
    if step < 60:
        return f"{at:g} s" if at < 120 or step < 30 else f"{at / 60:g} min"
    if step < 3600:
        return f"{at / 60:g} min" if at < 7200 else f"{at / 3600:.4g} h"
    return f"{at / 3600:g} h" if step < 86400 else f"{at / 86400:g} d"


def size_axis(frame: Frame) -> Iterable[str]:
    """Fine lines across the chart and sizes at its left."""
    for value in size_ticks(frame.top):
        y = frame.y(value)
        yield path("grid", f"M{number(LEFT)} {number(y)}h{number(PLOT)}")
        yield text(LEFT - 8, y + 4, size_label(value), "end")


def size_ticks(top: float, most: int = 6) -> list[int]:
    """Whole powers of two apart, at most ``most`` of them."""
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
