"""The chart of a `WhatIf`: the duration of a run against the number of slots, or the amount of a resource."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from importlib import resources
from typing import Final
from xml.etree import ElementTree as Tree

from ...._core.api.views import duration_text, printable
from .._what_if import WhatIf, signed_percent
from ._geometry import MARGIN, MIN_SECONDS
from ._svg import add, clip, flow, text_width, to_text
from ._timeline import DAY, HOUR, MINUTE, new_picture

HEIGHT: Final = 240.0
LEFT: Final = 74.0
MIN_TICK_DISTANCE: Final = 34.0
"""Pixels between the ticks of two sizes, at least."""
COLOURS: Final = 4
TICK_TIMES: Final = (
    *(mantissa * 10.0**power for power in range(-9, 1) for mantissa in (1, 1.5, 2, 3, 4, 5, 6, 8)),
    *(10.0, 15.0, 20.0, 30.0, 40.0),
    *(unit * number for unit in (MINUTE, HOUR) for number in (1, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 40)),
    *(DAY * mantissa * 10**power for power in range(4) for mantissa in (2, 3, 4, 5, 6, 8, 10, 15)),
)
"""Times in seconds that get a tick if there is room."""


class Scale:
    """The coordinates of sizes and times, both on log scales: perfect scaling is a straight line."""

    def __init__(self, what_if: WhatIf, width: float, top: float) -> None:
        points = [*((point.size, point.seconds) for point in (*what_if.points, what_if.this)), *what_if.bounds]
        sizes = {size for size, _ in points}
        limited = sorted(size for size in sizes if size is not None)
        self.has_unlimited: Final = None in sizes
        self.sizes: Final = limited
        self._last: Final = (limited[-1] if limited else 1) * (1.35 if self.has_unlimited and limited else 1)
        self._first: Final = limited[0] if limited else 1
        times = [seconds for _, seconds in points]
        self.most: Final = max(*times, MIN_SECONDS) * 1.12
        self.least: Final = max(min(times), MIN_SECONDS) / 1.5
        self.left, self.right = LEFT, width - MARGIN - 12
        self.top, self.bottom = top, top + HEIGHT

    def x(self, size: int | None) -> float:
        """Return the x coordinate of a size in pixels; that of None (no limit) is beyond the largest size."""
        at = math.log((self._last if size is None else size) / self._first)
        whole = math.log(self._last / self._first) or 1.0
        return self.left + at / whole * (self.right - self.left)

    def y(self, seconds: float) -> float:
        """Return the y coordinate of a time, in pixels."""
        share = math.log(max(seconds, self.least) / self.least) / math.log(self.most / self.least)
        return self.bottom - share * (self.bottom - self.top)


def chart_svg(what_if: WhatIf, width: int) -> str:
    """Draw the chart."""
    more = (resources.files("trioflow.view.trace.timeline") / "what-if.css").read_text(encoding="utf-8")
    picture = new_picture("timeline what-if", more)
    top = _draw_legend(picture, what_if, width, 34.0)
    scale = Scale(what_if, float(width), top + 16)
    _draw_grid(picture, what_if, scale)
    add(picture, "path", css="bound", d=_path_data(what_if.bounds, scale))
    for number, policy in enumerate(what_if.policies()):
        curve = [(point.size, point.seconds) for point in what_if.points if point.policy == policy]
        add(picture, "path", css=f"line line{number % COLOURS}", d=_path_data(curve, scale))
    _draw_marks(picture, what_if, scale)
    return to_text(picture, width, scale.bottom + 46)


def _path_data(curve: Iterable[tuple[int | None, float]], scale: Scale) -> str:
    return "M" + "L".join(f"{scale.x(size):.1f} {scale.y(seconds):.1f}" for size, seconds in curve)


def _draw_legend(svg: Tree.Element, what_if: WhatIf, width: float, top: float) -> float:
    """Draw the legend of the lines from `top` on; return the lower edge."""
    entries = [(f"line line{number % COLOURS}", clip(name, 220, 11)) for number, name in enumerate(what_if.policies())]
    entries.append(("bound", "no order can beat this"))
    widths = [32 + text_width(text, 11) + 18 for _, text in entries]
    y = top
    for (css, text), (x, y) in zip(entries, flow(widths, LEFT, width, top, 16), strict=True):
        add(svg, "path", css=css, d=f"M{x:.1f} {y - 4:.1f}h24")
        add(svg, "text", text, css="legend", x=x + 30, y=y)
    return y


def _draw_grid(svg: Tree.Element, what_if: WhatIf, scale: Scale) -> None:
    last = math.inf
    for seconds in (step for step in TICK_TIMES if scale.least <= step <= scale.most):
        y = scale.y(seconds)
        if last - y < 22:
            continue
        last = y
        add(svg, "line", css="grid", x1=scale.left, y1=y, x2=scale.right, y2=y)
        add(svg, "text", duration_text(seconds), css="tick", x=scale.left - 8, y=y + 4, text_anchor="end")
    add(svg, "line", css="frame", x1=scale.left, y1=scale.bottom, x2=scale.right, y2=scale.bottom)
    for text, x in _size_ticks(what_if, scale):
        add(svg, "line", css="frame", x1=x, y1=scale.bottom, x2=x, y2=scale.bottom + 4)
        add(svg, "text", text, css="tick", x=x, y=scale.bottom + 17, text_anchor="middle")
    middle = (scale.left + scale.right) / 2
    axis = f"{clip(_axis_title(what_if), 200, 11)} (both scales are logarithmic)"
    add(svg, "text", axis, css="tick", x=middle, y=scale.bottom + 35, text_anchor="middle")


def _axis_title(what_if: WhatIf) -> str:
    if what_if.resource is None:
        return "slots of the window"
    return printable(what_if.resource if what_if.rate is None else f"{what_if.resource}, {what_if.rate}")


def _size_ticks(what_if: WhatIf, scale: Scale) -> Iterator[tuple[str, float]]:
    """Yield the texts and x coordinates of the ticks: those of the best size and this run, then others that fit."""
    marked = [*[what_if.best.size] * what_if._is_better, what_if.this.size]
    taken: list[float] = []
    sizes: list[int | None] = [*marked, *([None] if scale.has_unlimited else []), *scale.sizes]
    for size in sizes:
        text, x = "no limit" if size is None else str(size), scale.x(size)
        if all(abs(x - other) >= MIN_TICK_DISTANCE + (10 if size is None else 0) for other in taken):
            taken.append(x)
            yield text, x


def _draw_marks(svg: Tree.Element, what_if: WhatIf, scale: Scale) -> None:
    """Mark the best point and this run, each with a caption."""
    if what_if._is_better:
        best = what_if.best
        number = what_if.policies().index(best.policy)
        x, y = scale.x(best.size), scale.y(best.seconds)
        add(svg, "circle", css=f"dot{number % COLOURS}", cx=x, cy=y, r=5)
        gain = f" ({signed_percent(what_if.gain)})" if what_if.gain is not None else ""
        _draw_caption(svg, scale, f"best: {what_if.amount(best.size)}, {duration_text(best.seconds)}{gain}", x, y + 20)
    x, y = scale.x(what_if.this.size), scale.y(what_if.this.seconds)
    add(svg, "circle", css="this", cx=x, cy=y, r=5)
    _draw_caption(svg, scale, f"this run, {duration_text(what_if.this.seconds)}", x, y - 11)


def _draw_caption(svg: Tree.Element, scale: Scale, text: str, x: float, y: float) -> None:
    fits = x + text_width(text, 11, bold=True) <= scale.right + 12
    add(svg, "text", text, css="said", x=x if fits else scale.right + 10, y=y, text_anchor="start" if fits else "end")
