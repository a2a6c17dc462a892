"""Where the time went, as a picture: jobs by what they did, stacked over time, and the use of each resource."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from typing import Final
from xml.etree import ElementTree as Tree

from ...._core.api.views import duration_text
from .._pieces import What, causes, counted, legend, pieces
from .._record import TraceRecord
from .._resources import Steps, steps
from .._spans import Span
from ._paint import add, clipped, in_lines, text_width
from ._places import MARGIN, SHORTEST
from ._timeline import NARROWEST, TICK_PIXELS, prepared, ticks

TOP: Final = 56.0
STACK: Final = 130.0
"""Pixels, the height of the stack."""
AXIS: Final = 24.0
STRIP: Final = 34.0
"""Pixels, the height of the use of one resource."""
MOST_STRIPS: Final = 12
NAMES: Final = 170.0
"""Pixels for the names of resources, at most a quarter of the picture."""
MOST_COLUMNS: Final = 600
"""Columns of the stack: with more times than these, it shows averages."""
LINE: Final = 18.0
RESOURCE_COLOURS: Final = 6


class Frame:
    """The geometry of the picture, and the colours of what jobs did."""

    def __init__(self, record: TraceRecord, width: int) -> None:
        self.record: Final = record
        self.width: Final = float(width)
        self.left: Final = MARGIN + min(NAMES, width / 4)
        self.began: Final = record.began
        self.seconds: Final = max(record.now - record.began, SHORTEST)
        self.spans: Final = counted(record)
        self.pieces: Final = {span.number: pieces(record, span) for span in self.spans}
        self.causes: Final = causes(record, self.spans)
        names = list(dict.fromkeys(name for cause, name in self.causes if cause == "resource"))
        self._colours: Final = {name: place % RESOURCE_COLOURS for place, name in enumerate(names)}

    def x(self, at: float) -> float:
        """Return where a time is, in pixels from the left."""
        return self.left + (at - self.began) * (self.width - MARGIN - self.left) / self.seconds

    def css(self, what: What) -> str:
        """Return the class of what jobs did."""
        cause, name = what
        return f"resource{self._colours[name]}" if cause == "resource" else cause


def svg(record: TraceRecord, width: int, told: str = "") -> str:
    """Return the whole picture, with a title if it is `told` how much of the time was what.

    Raises:
        ValueError: `width` is too small.

    """
    if width < NARROWEST:
        raise ValueError(f"width={width} of a picture: give {NARROWEST} pixels or more")
    picture, paper = prepared("timeline waits", style())
    frame = Frame(record, width)
    top = _draw_title(picture, frame, told) if told else MARGIN
    grid = add(picture, "g")  # behind all else; how far it reaches is known in the end
    bottom = _draw_stack(picture, frame, top) + AXIS
    axis = bottom - AXIS + 15
    bottom = _draw_strips(picture, frame, bottom)
    _draw_axis(grid, picture, frame, top, axis, bottom)
    height = _draw_legend(picture, frame, bottom + 20)
    paper.set("height", f"{height:g}")
    picture.attrib |= {"width": f"{width}", "height": f"{height:g}", "viewBox": f"0 0 {width} {height:g}"}
    return Tree.tostring(picture, encoding="unicode") + "\n"


def style() -> str:
    """Return what the style sheet has besides that of a timeline."""
    return (resources.files("trioflow.view.trace.timeline") / "waits.css").read_text(encoding="utf-8")


def _draw_title(svg: Tree.Element, frame: Frame, told: str) -> float:
    """Write what the picture shows, and how much of the time was what; return where the picture begins."""
    room, top = frame.width - 2 * MARGIN, TOP
    add(svg, "text", clipped("Where the time went", room, 15, bold=True), css="title", x=MARGIN, y=24.0)
    seconds = frame.record.now - frame.began
    said = f"{duration_text(seconds)} · {told}" if frame.record.runs else "nothing has run"
    for place, line in enumerate(in_lines(said, room, 11)):
        add(svg, "text", line, css="subtitle", x=MARGIN, y=41.0 + 14 * place)
        top = TOP + 14 * place
    return top


def _draw_axis(grid: Tree.Element, svg: Tree.Element, frame: Frame, top: float, axis: float, bottom: float) -> None:
    for at, text in ticks(frame.seconds, max(2, int((frame.width - frame.left) / TICK_PIXELS))):
        x = frame.x(frame.began + at)
        add(grid, "line", css="grid", x1=x, y1=top, x2=x, y2=bottom)
        if x + text_width(text, 11) / 2 <= frame.width:
            add(svg, "text", text, css="tick", x=x, y=axis, text_anchor="middle")


# ---- the stack


def _draw_stack(svg: Tree.Element, frame: Frame, top: float) -> float:
    """Draw how many jobs did what at each time, stacked; return its lower edge."""
    base = top + STACK
    times, layers, most = _columns(frame)
    heights = [sum(column) for column in zip(*layers, strict=True)]
    unit = STACK / max(heights, default=1.0) if any(heights) else 0.0
    below = [0.0] * (len(times) - 1)
    for what, layer in zip(frame.causes, layers, strict=True):
        upper = [low + number for low, number in zip(below, layer, strict=True)]
        if any(layer):
            outline = _outline(frame, times, upper, below, base, unit)
            group = add(svg, "g")
            add(group, "title", legend(what))
            add(group, "path", css=frame.css(what), d=outline)
        below = upper
    add(svg, "line", css="frame", x1=frame.left, y1=base, x2=frame.width - MARGIN, y2=base)
    add(
        svg,
        "text",
        f"{most:.0f} job{'s' * (round(most) != 1)}",
        css="tick",
        x=frame.left - 6,
        y=top + 9,
        text_anchor="end",
    )
    return base


def _columns(frame: Frame) -> tuple[list[float], list[list[float]], float]:
    """Return the bounds of columns, for each cause how many jobs there were in each on average, and the most in all."""
    changes: dict[What, list[tuple[float, float]]] = {what: [] for what in frame.causes}
    for found in frame.pieces.values():
        for what, parts in found.items():
            for since, until in parts:
                changes[what] += (since, 1.0), (until, -1.0)
    end = frame.began + frame.seconds
    times = sorted({frame.began, end, *(at for all_of in changes.values() for at, _ in all_of)})
    if len(times) > MOST_COLUMNS:
        times = [frame.began + frame.seconds * place / MOST_COLUMNS for place in range(MOST_COLUMNS + 1)]
    most = max(steps(itertools.chain.from_iterable(changes.values()))[1], default=0.0)
    return times, [list(_averages(steps(changes[what]), times)) for what in frame.causes], most


def _averages(found: Steps, bounds: Sequence[float]) -> Iterator[float]:
    """Yield the average value between each two bounds."""
    times, values = found
    for since, until in itertools.pairwise(bounds):
        first, last = bisect.bisect_right(times, since) - 1, bisect.bisect_left(times, until)
        total = 0.0
        for place in range(max(first, 0), last):
            following = times[place + 1] if place + 1 < len(times) else until
            total += values[place] * max(0.0, min(following, until) - max(times[place], since))
        yield total / (until - since) if until > since else 0.0


def _outline(
    frame: Frame, times: Sequence[float], upper: Sequence[float], lower: Sequence[float], base: float, unit: float
) -> str:
    """Return the outline of one layer: along its upper edge, and back along the lower one."""
    found: list[str] = []
    for has_any, run in itertools.groupby(range(len(upper)), key=lambda place: upper[place] > lower[place] + 1e-9):
        if not has_any:
            continue
        places = list(run)
        points = f"M{frame.x(times[places[0]]):.1f} {base - lower[places[0]] * unit:.1f}"
        points += _edge(frame, times, places, upper, base, unit)
        backwards = [(frame.x(times[place]), base - lower[place] * unit) for place in reversed(places)]
        for y, same in itertools.groupby(backwards, key=lambda one: f"{one[1]:.1f}"):
            points += f"V{y}H{[*same][-1][0]:.1f}"
        found.append(points + "Z")
    return "".join(found)


def _edge(
    frame: Frame, times: Sequence[float], places: Iterable[int], upper: Sequence[float], base: float, unit: float
) -> str:
    points = ""
    for y, same in itertools.groupby(places, key=lambda place: f"{base - upper[place] * unit:.1f}"):
        points += f"V{y}H{frame.x(times[[*same][-1] + 1]):.1f}"
    return points


# ---- the use of resources


def _draw_strips(svg: Tree.Element, frame: Frame, top: float) -> float:
    """Draw how much of each resource was used at each time; return the lower edge."""
    for name, note, (times, values), total in itertools.islice(_uses(frame.record), MOST_STRIPS):
        base, most = top + STRIP - 8, max([total or 0.0, *values])
        unit = (STRIP - 12) / most if most else 0.0
        outline = "".join(
            f"H{frame.x(min(max(at, frame.began), frame.record.now)):.1f}V{base - value * unit:.1f}"
            for at, value in zip(times, values, strict=True)
        )
        add(svg, "path", css="use", d=f"M{frame.left:.1f} {base:.1f}{outline}H{frame.width - MARGIN:.1f}V{base:.1f}Z")
        if total:
            y = base - total * unit
            add(svg, "line", css="total", x1=frame.left, y1=y, x2=frame.width - MARGIN, y2=y)
        add(svg, "line", css="frame", x1=frame.left, y1=base, x2=frame.width - MARGIN, y2=base)
        room = frame.left - MARGIN - 8
        add(svg, "text", clipped(name, room, 11), css="name", x=frame.left - 8, y=base - 11, text_anchor="end")
        add(svg, "text", clipped(note, room, 11), css="tick", x=frame.left - 8, y=base + 1, text_anchor="end")
        top += STRIP
    return top + 4


def _uses(record: TraceRecord) -> Iterator[tuple[str, str, Steps, float | None]]:
    """Yield for the window, and for each resource: its name, a note, how much was used since when, and the total."""
    for run in record.roots:
        if run.window is not None:
            spans = [record.spans[number] for number in run.members]
            taken = [(since, 1.0, until) for one in spans if not one.forever for since, until in _ran(record, one)]
            yield _use(record, "slots", taken, float(run.window), str(run.window))
    for resource in record.resources:
        if resource.uses and not resource.is_part:
            uses = [(since, amount, min(until, record.now)) for since, until, amount, _ in resource.uses]
            if resource.total is None:
                yield _use(record, f"jobs on {resource.name}", uses, None, "")
            else:
                yield _use(record, resource.name, uses, resource.total, resource.shown(resource.total))


def _ran(record: TraceRecord, span: Span) -> Iterator[tuple[float, float]]:
    yield from span.throttled
    if span.started_at is not None:
        yield span.started_at, record.now if span.finished_at is None else span.finished_at


def _use(
    record: TraceRecord, name: str, taken: Sequence[tuple[float, float, float]], total: float | None, shown: str
) -> tuple[str, str, Steps, float | None]:
    found = steps([*((since, amount) for since, amount, _ in taken), *((until, -amount) for _, amount, until in taken)])
    if total is None:
        return name, f"at most {max(found[1], default=0):.0f}", found, None
    seconds = max(record.now - record.began, SHORTEST)
    share = sum(amount * (until - since) for since, amount, until in taken) / (total * seconds) if total else 0.0
    return name, f"{100 * share:.0f} % of {shown}", found, total


# ---- the legend


def _draw_legend(svg: Tree.Element, frame: Frame, top: float) -> float:
    x, y = MARGIN, top
    for what in frame.causes:
        text = clipped(legend(what), 260, 11)
        needed = 17 + text_width(text, 11) + 16
        if x + needed > frame.width and x > MARGIN:
            x, y = MARGIN, y + LINE
        add(svg, "rect", css=frame.css(what), x=x, y=y - 9, width=12, height=12)
        add(svg, "text", text, css="legend", x=x + 17, y=y + 1)
        x += needed
    return y + LINE
