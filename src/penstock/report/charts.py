"""The charts of the run page: memory over time, who worked when, predicted against measured.

Each takes what a :class:`~penstock.report.timeline.Timeline` gathered and gives one ``<svg>``.
Colours are CSS classes of the page. The charts over time share their left edge and their width,
so that they can be read one under another, and fit any screen: see :mod:`penstock.report.svg`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from penstock.budget import format_size
from penstock.durations import format_seconds
from penstock.foreign import line
from penstock.report import svg
from penstock.report.downsample import Bar, ChartMark, Marks, Moment
from penstock.report.report import Report
from penstock.report.timeline import Timeline

COLOUR_OF_CAUSE = {
    "memory": "over", "governor": "over", "kernel": "over", "killed": "over",
    "crashed": "died", "stalled": "died", "timeout": "died", "unfit": "died",
    "raised": "raised", "kept": "raised", "load": "raised",
}  # fmt: skip
"""Cause of a failed batch -> CSS class; others (interrupted) are grey."""

_NAME, _NODES = 30, 64
"""Letters of a name, and nodes, that are drawn at most."""
_MARKS = {"died": "died", "split": "split", "recycled": "recycled", "set aside": "aside"}


def pipe(report: Report) -> str:
    """The budget as one long bar, filled up to the measured peak."""
    whole = max(report.budget, report.peak, report.projected, 1)
    reserved = min(report.reserved, report.peak)

    def x(size: float) -> float:
        return svg.PLOT * size / whole

    bar = [svg.box("pipe", 0, 0, x(report.budget), 34, f"budget {format_size(report.budget)}")]
    bar.append(svg.box("own", 0, 0, x(reserved), 34, f"reserved {format_size(report.reserved)}"))
    within = min(report.peak, report.budget)
    about = f"measured peak {format_size(report.peak)}"
    bar.append(svg.box("band0", x(reserved), 0, max(x(within) - x(reserved), 0), 34, about))
    if report.peak > report.budget:
        excess = f"{format_size(report.peak - report.budget)} over the budget"
        bar.append(svg.box("over", x(report.budget), 0, x(report.peak) - x(report.budget), 34, excess))
    lines = [svg.path("budget", f"M{svg.number(x(report.budget))} 0V46")]
    if report.projected:
        about = f"projected {format_size(report.projected)}"
        lines.insert(0, svg.path("projected", f"M{svg.number(x(report.projected))} 0V46", about))
    name = 'role="img" aria-label="Measured peak within the budget"'
    return f'<div class="bar" {name}>{svg.stretched("34", bar)}{svg.stretched("46", lines)}</div>'


def memory(timeline: Timeline) -> str:
    """Memory of the process tree over time, by worker, against the budget."""
    highest = max((moment.used for moment in timeline.peaks.moments), default=0)
    projected = max((value for _, value, _ in timeline.projected.changes), default=0)
    budget = max((value for _, value, _ in timeline.budget.changes), default=0)
    drawn = max(highest, projected, 1)
    # A budget far above what was used would press the picture flat: then it is named, not drawn.
    far = budget > 5 * drawn
    head = 28.0 if len(timeline.spans) > 1 else 12.0
    frame = svg.Frame(_seconds(timeline), 1.1 * max(drawn, 0 if far else budget), head, head + 290)
    rows = timeline.bands
    moments = drawn_moments(timeline)
    parts = [
        *_stage_bands(timeline, frame),
        *svg.size_grid(frame),
        *svg.time_grid(frame),
        *_areas(moments, rows, frame),
    ]
    texts = [*_stage_names(timeline, frame), *svg.size_labels(frame), *svg.time_labels(frame)]
    parts.extend(_breaks(timeline, frame))
    if projected:
        parts.append(svg.path("projected", svg.steps(frame, timeline.projected.changes)))
    if budget and not far:
        parts.append(svg.path("budget", svg.steps(frame, timeline.budget.changes)))
        last = timeline.budget.changes[-1][1]
        about = f"budget {format_size(last)}"
        texts.append(svg.label(svg.PLOT, frame.y(last) - 7, about, "end halo red", aside=-6))
    elif budget:
        last = timeline.budget.changes[-1][1]
        about = f"↑ budget {format_size(last)}, {last / drawn:.0f} times this height"
        texts.append(svg.label(svg.PLOT, head + 16, about, "end halo red", aside=-6))
    texts.extend(_peak(timeline.peaks.moments, frame, 0 if far else budget))
    parts.extend(_hover(moments, frame, dict(enumerate(timeline.command.programs))))
    name = "Memory of the process tree over time, against the budget"
    return svg.chart(frame.foot + 26, name, parts, texts)


def drawn_moments(timeline: Timeline) -> list[Moment]:
    """The readings to draw: the more bands there are, the fewer."""
    return _thin(timeline.peaks.moments, max(100, min(600, 7000 // (timeline.bands + 1))))


def _seconds(timeline: Timeline) -> float:
    return max(timeline.seconds, 0.001)


def _thin(moments: Sequence[Moment], most: int) -> list[Moment]:
    """At most about ``most`` moments, the highest of each stretch and session."""
    if len(moments) <= most:
        return list(moments)
    width = (moments[-1].at - moments[0].at) / most
    kept: dict[tuple[int, int], Moment] = {}
    for moment in moments:
        place = (moment.session, int(moment.at / width))
        if place not in kept or kept[place].used < moment.used:
            kept[place] = moment
    return list(kept.values())


def _areas(moments: Sequence[Moment], rows: int, frame: svg.Frame) -> Iterator[str]:
    """A band for each worker upon this process's own; the upper ones are painted first."""
    for session in sorted({moment.session for moment in moments}):
        part = [moment for moment in moments if moment.session == session]
        if len(part) == 1:  # a single reading still gets some width
            part.insert(0, replace(part[0], at=max(0.0, part[0].at - frame.seconds / 50)))
        ends = f"{svg.number(frame.x(part[-1].at))} {frame.foot}"
        start = f"M{svg.number(frame.x(part[0].at))} {frame.foot}L"
        edges = [float(moment.used) for moment in part]
        tree = frame.line((moment.at, edge) for moment, edge in zip(part, edges, strict=True))
        for row in range(rows - 1, -2, -1):
            line = frame.line((moment.at, max(0, edge)) for moment, edge in zip(part, edges, strict=True))
            yield svg.path("own" if row < 0 else f"band{row % 2}", f"{start}{line} {ends}z")
            edges = [edge - moment.rows.get(row, 0) for moment, edge in zip(part, edges, strict=True)]
        yield svg.path("tree", f"M{tree}")


def _stage_bands(timeline: Timeline, frame: svg.Frame) -> Iterator[str]:
    if len(timeline.spans) < 2:
        return
    for index, span in enumerate(timeline.spans):
        left, right = frame.x(span.start), frame.x(span.stop)
        height = frame.foot - frame.head + 20
        about = f"stage {span.name}, {format_seconds(span.stop - span.start)}"
        yield svg.box(f"stage{index % 2}", left, frame.head - 20, max(1, right - left), height, about)


def _stage_names(timeline: Timeline, frame: svg.Frame) -> Iterator[str]:
    """Above each stage its name, as much of it as there is room for."""
    if len(timeline.spans) < 2:
        return
    for span in timeline.spans:
        left, right = frame.x(span.start), frame.x(span.stop)
        if right - left > 30:
            name = svg.label(0, 14, line(span.name, _NAME), "strong", aside=6)
            yield svg.clipped(left, frame.head - 20, right - left - 2, 20, name)


def _breaks(timeline: Timeline, frame: svg.Frame) -> Iterator[str]:
    for mark in timeline.marks["resumed"].marks:
        shape = f"M{svg.number(frame.x(mark.at))} {svg.number(frame.head)}V{svg.number(frame.foot)}"
        yield svg.path("break", shape, _said(mark))


def _peak(moments: Sequence[Moment], frame: svg.Frame, budget: int) -> Iterator[str]:
    if not moments:
        return
    top = max(moments, key=lambda moment: moment.used)
    x, y = frame.x(top.at), frame.y(top.used)
    yield svg.placed(x, svg.dot("peak", 0, y, 4))
    anchor = "end" if x > svg.PLOT / 2 else ""
    crowded = min(abs(y - frame.y(budget)), y - frame.head) < 40  # the budget's label stands there
    about = f"peak {format_size(top.used)}"
    aside = -9 if anchor else 9
    yield svg.label(x, y + (17 if crowded else -8), about, f"halo strong {anchor}".strip(), aside=aside)


def _hover(moments: Sequence[Moment], frame: svg.Frame, names: Mapping[int, str]) -> Iterator[str]:
    """Columns without colour that say what was held when the pointer rests on them."""
    columns = _thin(moments, 160)
    for index, moment in enumerate(columns):
        left = frame.x(moment.at) if index else 0
        right = frame.x(columns[index + 1].at) if index + 1 < len(columns) else svg.PLOT
        largest = sorted(moment.rows.items(), key=lambda pair: -pair[1])[:4]
        about = f"{format_seconds(moment.at)}: {format_size(moment.used)}, {format_size(moment.free)} free"
        about += "".join(
            f"\n{names.get(row, f'worker row {row + 1}')}: {format_size(held)}" for row, held in largest
        )
        yield svg.box("hover", left, frame.head, max(0.5, right - left), frame.foot - frame.head, about)


def work(timeline: Timeline) -> str:
    """Who worked when: a row per concurrent worker, with events above."""
    happened = [kind for kind in _MARKS if timeline.marks[kind].marks]
    shown = _shown(timeline)
    rows = len(shown)
    height = max(5.0, min(22.0, 420 / max(1, rows)))
    head = 8.0 + 20 * len(happened)
    frame = svg.Frame(_seconds(timeline), 1, head, head + height * max(1, rows) + 4)
    parts = ['<defs><pattern id="stripes" width="5" height="5" patternUnits="userSpaceOnUse" ']
    parts.append('patternTransform="rotate(45)"><path class="stripe" d="M1 0V5"/></pattern></defs>')
    parts.extend(svg.time_grid(frame))
    texts = list(svg.time_labels(frame))
    for index, kind in enumerate(happened):
        middle = 12 + 20.0 * index
        texts.append(svg.label(0, middle + 4, kind, "end", aside=-8))
        texts.extend(
            svg.placed(frame.x(mark.at), _mark(kind, mark, middle)) for mark in _apart(timeline, kind, frame)
        )
    places = {row: place for place, row in enumerate(shown)}
    texts.extend(_row_names([timeline.rows.nodes[row] for row in shown], head, height))
    done, failed, paused = (
        [replace(bar, row=places[bar.row]) for bar in bars]
        for bars in (timeline.done, timeline.failed, timeline.paused)
    )
    parts.extend(_done(bar, frame, height) for bar in done)
    parts.extend(_failed(bar, frame, height) for bar in failed)
    for bar in paused:
        about = f"paused {bar.count:,} times" if bar.count > 1 else f"paused for {format_seconds(bar.busy)}"
        parts.append(_rectangle("paused", bar, frame, height, 1.5, about, _share(bar)))
    parts.extend(_breaks(timeline, frame))
    return svg.chart(frame.foot + 26, "What each worker did over time", parts, texts)


def _shown(timeline: Timeline) -> list[int]:
    """The rows that have something, those of a node together."""
    nodes = timeline.rows.nodes
    worked = {bar.row for bars in (timeline.done, timeline.failed, timeline.paused) for bar in bars}
    return sorted(worked or range(len(nodes)), key=lambda row: (len(nodes[row]), nodes[row], row))


def _row_names(nodes: Sequence[str], head: float, height: float) -> Iterator[str]:
    """The first row, and the first of each node, has a name; the others a number."""
    every = max(1, math.ceil(13 / height))
    told, number = -every, 0
    for place, node in enumerate(nodes):
        first = not place or node != nodes[place - 1]
        number = 1 if first else number + 1
        if place - told >= every:
            told = place
            name = f"{number}" if not first else line(node, _NAME) if node else "worker 1"
            yield svg.label(0, head + height * (place + 0.5) + 6, name, "end", aside=-8)


def nodes(timeline: Timeline) -> str:
    """What each node of a cluster held, against its budget: a row per node, all to one scale."""
    known = list(timeline.nodes.items())[:_NODES]
    most = max((max(node.budget, node.peak) for _, node in known), default=1)
    height = 40.0
    frame = svg.Frame(_seconds(timeline), 1, 6, 6 + (height + 8) * len(known))
    parts, texts = list(svg.time_grid(frame)), list(svg.time_labels(frame))
    for place, (name, node) in enumerate(known):
        foot = frame.head + (height + 8) * (place + 1) - 4
        row = svg.Frame(frame.seconds, 1.05 * max(most, 1), foot - height, foot)
        about = f"{name} on {node.host}: peak {format_size(node.peak)} of {format_size(node.budget)}"
        shape = "".join(  # each is the most since the one before
            f"V{svg.number(row.y(used))}H{svg.number(row.x(at))}" for at, used in node.readings
        )
        edge, ground = svg.number(row.y(node.budget)), svg.number(foot)
        parts.append(svg.path("pipe", f"M0 {edge}H1000V{ground}H0z", about))
        parts.append(svg.path("band0", f"M0 {ground}{shape}V{ground}H0z", about))
        parts.append(svg.path("budget", f"M0 {edge}H1000"))
        texts.append(svg.label(0, foot - height / 2 + 4, line(name, _NAME), "end", aside=-8))
    return svg.chart(frame.foot + 26, "What each node held, against its budget", parts, texts)


def _rectangle(
    css: str, bar: Bar, frame: svg.Frame, height: float, least: float, about: str, share: float = 1.0
) -> str:
    left = frame.x(bar.start)
    width = frame.x(bar.stop) - left
    # A hair of air between two batches, as long as there is room for it.
    width = max(least, width - 0.8 if width > 3 else width)
    tall = height * 0.8 * max(0.2, share)
    foot = frame.head + 2 + height * (bar.row + 0.9)
    shape = f"M{svg.number(left)} {svg.number(foot)}h{svg.number(width)}v{svg.number(-tall)}"
    return svg.path(css, f"{shape}h{svg.number(-width)}z", about)


def _share(bar: Bar) -> float:
    """How much of its time a bar stands for: 1 for a single batch, less when many became one."""
    return 1.0 if bar.count == 1 else min(1.0, bar.busy / max(bar.stop - bar.start, 1e-9))


def _done(bar: Bar, frame: svg.Frame, height: float) -> str:
    share = _share(bar)
    css = "done" if share > 0.85 else "done some" if share > 0.4 else "done few"
    what = f"{bar.count:,} batches" if bar.count > 1 else "batch"
    about = f"{what}, items {bar.first:,} to {bar.last:,}, {format_seconds(bar.busy)}"
    about += f", peak {format_size(bar.peak)}"
    return _rectangle(css, bar, frame, height, 0.6, about)


def _failed(bar: Bar, frame: svg.Frame, height: float) -> str:
    cause, _ = bar.causes.most_common(1)[0]
    counts = ", ".join(
        f"{cause} {count:,}" if count > 1 else cause for cause, count in bar.causes.most_common()
    )
    about = f"did not end: {counts}; items {bar.first:,} to {bar.last:,}, held {format_size(bar.peak)}"
    about += f"\n{bar.text[:200]}" if bar.text and bar.count == 1 else ""
    # Many failures as one bar cover only the share of time that they took.
    return _rectangle(COLOUR_OF_CAUSE.get(cause, "idle"), bar, frame, height, 2, about, _share(bar))


def _apart(timeline: Timeline, kind: str, frame: svg.Frame) -> list[ChartMark]:
    """The marks of one kind, those that would lie upon each other made one."""
    marks = Marks(kind, limit=len(timeline.marks[kind].marks) + 1)
    marks.width = 9 / svg.PLOT * frame.seconds
    for mark in timeline.marks[kind].marks:
        marks.add(mark.at, mark.text, mark.count)
    return marks.marks


def _mark(kind: str, mark: ChartMark, y: float) -> str:
    shapes = {
        "died": f"M-5 {svg.number(y - 4)}h10l-5 9z",
        "split": f"M0 {svg.number(y - 5)}v4m-4 6v-4q0 -2 4 -2q4 0 4 2v4",
        "recycled": f"M4 {svg.number(y)}a4 4 0 1 1 -2.5 -3.7",
        "set aside": f"M0 {svg.number(y - 5.5)}l5 5.5l-5 5.5l-5 -5.5z",
    }
    return svg.path(f"mark {_MARKS[kind]}", shapes[kind], _said(mark))


def _said(mark: ChartMark) -> str:
    return mark.text if mark.count == 1 else f"{mark.text}\nand {mark.count - 1:,} more close by"


def predictions(timeline: Timeline) -> str:
    """Predicted against measured peaks of batches: points under the diagonal kept the bound."""
    cells = sorted(timeline.pairs.cells.values(), key=lambda cell: -cell.count)
    side, left, head = 340.0, 70.0, 10.0
    top = 1.08 * max((max(cell.predicted, cell.measured) for cell in cells), default=1)
    low = max(1.0, min((cell.predicted for cell in cells), default=1) / 4)
    wide = top / low > 160  # bounds of several orders of magnitude: logarithmic, else from zero

    def scale(value: float) -> float:
        return math.log(max(value, low) / low) / math.log(top / low) if wide else value / top

    def x(value: float) -> float:
        return left + side * scale(value)

    def y(value: float) -> float:
        return head + side * (1 - scale(value))

    parts = [svg.path("safe", f"M{left} {head + side}L{left + side} {head}V{head + side}z")]
    for tick in _log_ticks(low, top) if wide else svg.size_ticks(top, 5):
        parts.append(
            svg.path("grid", f"M{left} {svg.number(y(tick))}h{side}M{svg.number(x(tick))} {head}v{side}")
        )
        parts.append(svg.text(left - 8, y(tick) + 4, svg.size_label(tick), "end"))
        parts.append(svg.text(x(tick), head + side + 17, svg.size_label(tick), "mid"))
    parts.append(svg.path("diagonal", f"M{left} {head + side}L{left + side} {head}"))
    most = max((cell.count for cell in cells), default=1)
    for cell in cells:
        radius = 2.6 if most < 5 else 1.8 + 3 * math.sqrt(cell.count / most)
        what = f"{cell.count:,} batches, such as {cell.text}" if cell.count > 1 else cell.text
        about = f"{what}: predicted {format_size(cell.predicted)}, measured {format_size(cell.measured)}"
        css = "point over" if cell.measured > cell.predicted else "point"
        parts.append(svg.dot(css, x(cell.predicted), y(cell.measured), radius, about))
    parts.append(svg.text(left + side / 2, head + side + 36, "predicted bound", "mid"))
    parts.append(svg.text(left + 8, head + 16, "measured", ""))
    name = "Predicted against measured peak of the batches"
    return svg.drawing(left + side + 24, head + side + 44, name, parts)


def _log_ticks(low: float, top: float) -> list[int]:
    powers = range(math.ceil(math.log2(low)), int(math.log2(top)) + 1)
    every = max(1, math.ceil(len(powers) / 5))
    return [1 << power for power in powers if power % every == 0]
