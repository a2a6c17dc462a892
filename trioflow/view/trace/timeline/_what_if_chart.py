"""The chart of a `WhatIf`: the duration of a run, plotted against the number of slots or the amount of a resource."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from importlib import resources
from typing import Final
from xml.etree import ElementTree as Tree

from ...._core.api.views import duration_text, printable
from .._what_if import WhatIf, signed_percent
from ._geometry import MARGIN, MIN_AXIS_SECONDS
from ._svg import add_element, clip_text, flow_positions, text_width, to_xml
from ._timeline import DAY, HOUR, MINUTE, new_picture

CHART_HEIGHT: Final = 240.0
"""The height in pixels of the area with the curves."""
LEFT_MARGIN: Final = 74.0
"""The width in pixels of the margin with the texts of the time axis."""
MIN_TICK_DISTANCE: Final = 34.0
"""The minimum distance between the ticks of two sizes, in pixels."""
COLOR_COUNT: Final = 4
"""The number of different colors for curves. If there are more policies, the colors repeat."""
TICK_TIMES: Final = (
    *(mantissa * 10.0**power for power in range(-9, 1) for mantissa in (1, 1.5, 2, 3, 4, 5, 6, 8)),
    *(10.0, 15.0, 20.0, 30.0, 40.0),
    *(unit * number for unit in (MINUTE, HOUR) for number in (1, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 40)),
    *(DAY * mantissa * 10**power for power in range(4) for mantissa in (2, 3, 4, 5, 6, 8, 10, 15)),
)
"""The times in seconds that get a tick if there is room."""


class ChartScale:
    """The coordinates of sizes and times in a chart.

    Both scales are logarithmic, so a duration that is inversely proportional to the size appears as a straight line.
    """

    def __init__(self, what_if: WhatIf, width: float, top: float) -> None:
        points = [*((point.size, point.seconds) for point in (*what_if.points, what_if.this_run)), *what_if.bounds]
        sizes = {size for size, _ in points}
        finite_sizes = sorted(size for size in sizes if size is not None)
        self.has_unlimited_size: Final = None in sizes
        self.sizes: Final = finite_sizes
        unlimited_factor = 1.35 if self.has_unlimited_size and finite_sizes else 1
        self._max_size: Final = (finite_sizes[-1] if finite_sizes else 1) * unlimited_factor
        self._min_size: Final = finite_sizes[0] if finite_sizes else 1
        times = [seconds for _, seconds in points]
        self.max_seconds: Final = max(*times, MIN_AXIS_SECONDS) * 1.12
        self.min_seconds: Final = max(min(times), MIN_AXIS_SECONDS) / 1.5
        self.left, self.right = LEFT_MARGIN, width - MARGIN - 12
        self.top, self.bottom = top, top + CHART_HEIGHT

    def size_to_x(self, size: int | None) -> float:
        """Return the x coordinate of a size, in pixels. None means no limit, and is beyond the largest size."""
        log_position = math.log((self._max_size if size is None else size) / self._min_size)
        log_range = math.log(self._max_size / self._min_size) or 1.0
        return self.left + log_position / log_range * (self.right - self.left)

    def seconds_to_y(self, seconds: float) -> float:
        """Return the y coordinate of a time, in pixels."""
        share = math.log(max(seconds, self.min_seconds) / self.min_seconds) / math.log(
            self.max_seconds / self.min_seconds
        )
        return self.bottom - share * (self.bottom - self.top)


def chart_svg(what_if: WhatIf, width: int) -> str:
    """Draw the chart of a `WhatIf`, and return it as SVG."""
    style_rules = (resources.files("trioflow.view.trace.timeline") / "what-if.css").read_text(encoding="utf-8")
    picture = new_picture("timeline what-if", style_rules)
    top = _draw_legend(picture, what_if, width, 34.0)
    scale = ChartScale(what_if, float(width), top + 16)
    _draw_grid(picture, what_if, scale)
    add_element(picture, "path", css="bound", d=_path_data(what_if.bounds, scale))
    for number, policy in enumerate(what_if.policies()):
        curve = [(point.size, point.seconds) for point in what_if.points if point.policy == policy]
        add_element(picture, "path", css=f"line line{number % COLOR_COUNT}", d=_path_data(curve, scale))
    _draw_marks(picture, what_if, scale)
    return to_xml(picture, width, scale.bottom + 46)


def _path_data(curve: Iterable[tuple[int | None, float]], scale: ChartScale) -> str:
    return "M" + "L".join(f"{scale.size_to_x(size):.1f} {scale.seconds_to_y(seconds):.1f}" for size, seconds in curve)


def _draw_legend(svg: Tree.Element, what_if: WhatIf, width: float, top: float) -> float:
    """Draw the legend of the curves below `top`. Return the y coordinate of its last line."""
    entries = [
        (f"line line{number % COLOR_COUNT}", clip_text(name, 220, 11)) for number, name in enumerate(what_if.policies())
    ]
    entries.append(("bound", "no order can beat this"))
    widths = [32 + text_width(text, 11) + 18 for _, text in entries]
    y = top
    for (css_class, text), (x, y) in zip(entries, flow_positions(widths, LEFT_MARGIN, width, top, 16), strict=True):
        add_element(svg, "path", css=css_class, d=f"M{x:.1f} {y - 4:.1f}h24")
        add_element(svg, "text", text, css="legend", x=x + 30, y=y)
    return y


def _draw_grid(svg: Tree.Element, what_if: WhatIf, scale: ChartScale) -> None:
    last_y = math.inf
    for seconds in (step for step in TICK_TIMES if scale.min_seconds <= step <= scale.max_seconds):
        y = scale.seconds_to_y(seconds)
        if last_y - y < 22:
            continue
        last_y = y
        add_element(svg, "line", css="grid", x1=scale.left, y1=y, x2=scale.right, y2=y)
        add_element(svg, "text", duration_text(seconds), css="tick", x=scale.left - 8, y=y + 4, text_anchor="end")
    add_element(svg, "line", css="frame", x1=scale.left, y1=scale.bottom, x2=scale.right, y2=scale.bottom)
    for text, x in _size_ticks(what_if, scale):
        add_element(svg, "line", css="frame", x1=x, y1=scale.bottom, x2=x, y2=scale.bottom + 4)
        add_element(svg, "text", text, css="tick", x=x, y=scale.bottom + 17, text_anchor="middle")
    middle_x = (scale.left + scale.right) / 2
    axis = f"{clip_text(_axis_title(what_if), 200, 11)} (both scales are logarithmic)"
    add_element(svg, "text", axis, css="tick", x=middle_x, y=scale.bottom + 35, text_anchor="middle")


def _axis_title(what_if: WhatIf) -> str:
    if what_if.resource is None:
        return "slots of the window"
    return printable(what_if.resource if what_if.rate_unit is None else f"{what_if.resource}, {what_if.rate_unit}")


def _size_ticks(what_if: WhatIf, scale: ChartScale) -> Iterator[tuple[str, float]]:
    """Yield the text and x coordinate of each tick: first for the best size and this run, then for sizes with room."""
    marked_sizes = [*[what_if.best.size] * what_if._has_better_point, what_if.this_run.size]
    used_positions: list[float] = []
    sizes: list[int | None] = [*marked_sizes, *([None] if scale.has_unlimited_size else []), *scale.sizes]
    for size in sizes:
        text, x = "no limit" if size is None else str(size), scale.size_to_x(size)
        if all(abs(x - used_x) >= MIN_TICK_DISTANCE + (10 if size is None else 0) for used_x in used_positions):
            used_positions.append(x)
            yield text, x


def _draw_marks(svg: Tree.Element, what_if: WhatIf, scale: ChartScale) -> None:
    """Mark the best point and this run, each with a caption."""
    if what_if._has_better_point:
        best = what_if.best
        policy_index = what_if.policies().index(best.policy)
        x, y = scale.size_to_x(best.size), scale.seconds_to_y(best.seconds)
        add_element(svg, "circle", css=f"dot{policy_index % COLOR_COUNT}", cx=x, cy=y, r=5)
        gain_text = f" ({signed_percent(what_if.gain)})" if what_if.gain is not None else ""
        caption = f"best: {what_if.amount(best.size)}, {duration_text(best.seconds)}{gain_text}"
        _draw_caption(svg, scale, caption, x, y + 20)
    x, y = scale.size_to_x(what_if.this_run.size), scale.seconds_to_y(what_if.this_run.seconds)
    add_element(svg, "circle", css="this", cx=x, cy=y, r=5)
    _draw_caption(svg, scale, f"this run, {duration_text(what_if.this_run.seconds)}", x, y - 11)


def _draw_caption(svg: Tree.Element, scale: ChartScale, text: str, x: float, y: float) -> None:
    fits_right = x + text_width(text, 11, is_bold=True) <= scale.right + 12
    add_element(
        svg,
        "text",
        text,
        css="caption",
        x=x if fits_right else scale.right + 10,
        y=y,
        text_anchor="start" if fits_right else "end",
    )
