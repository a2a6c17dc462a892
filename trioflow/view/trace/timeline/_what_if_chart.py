"""The what-if chart: the time of a run against the number of slots, or the amount of a resource, on log scales."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from importlib import resources
from typing import Final
from xml.etree import ElementTree as Tree

from ...._core.api.views import duration_text, printable
from .._what_if import WhatIf, signed_percent
from ._geometry import MARGIN, SHORTEST
from ._svg import add, clipped, finished, text_width
from ._timeline import DAY, HOUR, MINUTE, prepared

HEIGHT: Final = 240.0
LEFT: Final = 74.0
TICK: Final = 34.0
"""Pixels between two marks of sizes, at least."""
COLOURS: Final = 4
TIMES: Final = (
    *(mantissa * 10.0**power for power in range(-9, 1) for mantissa in (1, 1.5, 2, 3, 4, 5, 6, 8)),
    *(10.0, 15.0, 20.0, 30.0, 40.0),
    *(unit * number for unit in (MINUTE, HOUR) for number in (1, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 40)),
    *(DAY * mantissa * 10**power for power in range(4) for mantissa in (2, 3, 4, 5, 6, 8, 10, 15)),
)
"""Times with a tick if there is room, in seconds."""


class Scale:
    """The coordinates of sizes and times, both on log scales: twice the slots in half the time is a straight line."""

    def __init__(self, found: WhatIf, width: float, top: float) -> None:
        points = [*((point.size, point.seconds) for point in (*found.points, found.this)), *found.bounds]
        sizes = {size for size, _ in points}
        limited = sorted(size for size in sizes if size is not None)
        self.has_unlimited: Final = None in sizes
        self.sizes: Final = limited
        self._last: Final = (limited[-1] if limited else 1) * (1.35 if self.has_unlimited and limited else 1)
        self._first: Final = limited[0] if limited else 1
        times = [seconds for _, seconds in points]
        self.most: Final = max(*times, SHORTEST) * 1.12
        self.least: Final = max(min(times), SHORTEST) / 1.5
        self.left, self.right = LEFT, width - MARGIN - 12
        self.top, self.bottom = top, top + HEIGHT

    def x(self, size: int | None) -> float:
        """Return the x coordinate of a size, in pixels; no limit is beyond the largest."""
        at = math.log((self._last if size is None else size) / self._first)
        whole = math.log(self._last / self._first) or 1.0
        return self.left + at / whole * (self.right - self.left)

    def y(self, seconds: float) -> float:
        """Return the y coordinate of a time, in pixels."""
        share = math.log(max(seconds, self.least) / self.least) / math.log(self.most / self.least)
        return self.bottom - share * (self.bottom - self.top)


def svg(found: WhatIf, width: int) -> str:
    """Return the whole picture."""
    more = (resources.files("trioflow.view.trace.timeline") / "what-if.css").read_text(encoding="utf-8")
    picture = prepared("timeline what-if", more)
    top = _draw_names(picture, found, width, 34.0)
    scale = Scale(found, float(width), top + 16)
    _draw_grid(picture, found, scale)
    add(picture, "path", css="bound", d=_path(found.bounds, scale))
    for place, policy in enumerate(found.policies()):
        curve = [(point.size, point.seconds) for point in found.points if point.policy == policy]
        add(picture, "path", css=f"line line{place % COLOURS}", d=_path(curve, scale))
    _draw_marks(picture, found, scale)
    return finished(picture, width, scale.bottom + 46)


def _path(curve: Iterable[tuple[int | None, float]], scale: Scale) -> str:
    return "M" + "L".join(f"{scale.x(size):.1f} {scale.y(seconds):.1f}" for size, seconds in curve)


def _draw_names(svg: Tree.Element, found: WhatIf, width: float, y: float) -> float:
    """Draw the names of the lines; return the lower edge."""
    entries = [(f"line line{place % COLOURS}", name) for place, name in enumerate(found.policies())]
    x = LEFT
    for css, name in (*entries, ("bound", "no order can beat this")):
        text = clipped(name, 220, 11)
        needed = 32 + text_width(text, 11) + 18
        if x + needed > width and x > LEFT:
            x, y = LEFT, y + 16
        add(svg, "path", css=css, d=f"M{x:.1f} {y - 4:.1f}h24")
        add(svg, "text", text, css="legend", x=x + 30, y=y)
        x += needed
    return y


def _draw_grid(svg: Tree.Element, found: WhatIf, scale: Scale) -> None:
    last = math.inf
    for seconds in (step for step in TIMES if scale.least <= step <= scale.most):
        y = scale.y(seconds)
        if last - y < 22:
            continue
        last = y
        add(svg, "line", css="grid", x1=scale.left, y1=y, x2=scale.right, y2=y)
        add(svg, "text", duration_text(seconds), css="tick", x=scale.left - 8, y=y + 4, text_anchor="end")
    add(svg, "line", css="frame", x1=scale.left, y1=scale.bottom, x2=scale.right, y2=scale.bottom)
    for text, x in _ticks(found, scale):
        add(svg, "line", css="frame", x1=x, y1=scale.bottom, x2=x, y2=scale.bottom + 4)
        add(svg, "text", text, css="tick", x=x, y=scale.bottom + 17, text_anchor="middle")
    middle = (scale.left + scale.right) / 2
    axis = f"{clipped(_axis(found), 200, 11)} (both scales are logarithmic)"
    add(svg, "text", axis, css="tick", x=middle, y=scale.bottom + 35, text_anchor="middle")


def _axis(found: WhatIf) -> str:
    if found.resource is None:
        return "slots of the window"
    return printable(found.resource if found.rate is None else f"{found.resource}, {found.rate}")


def _ticks(found: WhatIf, scale: Scale) -> Iterator[tuple[str, float]]:
    """Yield the sizes below the axis: first at the marks, then others while there is room."""
    marked = [*[found.best.size] * found._is_better, found.this.size]
    taken: list[float] = []
    sizes: list[int | None] = [*marked, *([None] if scale.has_unlimited else []), *scale.sizes]
    for size in sizes:
        text, x = "no limit" if size is None else str(size), scale.x(size)
        if all(abs(x - other) >= TICK + (10 if size is None else 0) for other in taken):
            taken.append(x)
            yield text, x


def _draw_marks(svg: Tree.Element, found: WhatIf, scale: Scale) -> None:
    """Mark this run and the best point, each with its words."""
    if found._is_better:
        best = found.best
        place = found.policies().index(best.policy)
        x, y = scale.x(best.size), scale.y(best.seconds)
        add(svg, "circle", css=f"dot{place % COLOURS}", cx=x, cy=y, r=5)
        gain = f" ({signed_percent(found.gain)})" if found.gain is not None else ""
        _say(svg, scale, f"best: {found.amount(best.size)}, {duration_text(best.seconds)}{gain}", x, y + 20)
    x, y = scale.x(found.this.size), scale.y(found.this.seconds)
    add(svg, "circle", css="this", cx=x, cy=y, r=5)
    _say(svg, scale, f"this run, {duration_text(found.this.seconds)}", x, y - 11)


def _say(svg: Tree.Element, scale: Scale, text: str, x: float, y: float) -> None:
    fits = x + text_width(text, 11, bold=True) <= scale.right + 12
    add(svg, "text", text, css="said", x=x if fits else scale.right + 10, y=y, text_anchor="start" if fits else "end")
