"""A comparison as an SVG picture: from the length of one run to the length of the other, step by step."""

from __future__ import annotations

from importlib import resources
from typing import Final
from xml.etree import ElementTree as Tree

from ...._core.api.views import duration_text
from ...text import _verdict
from ..timeline._svg import add, clipped, text_width
from ._differences import Comparison, PathChange, asides, headline, together

WIDTH: Final = 1200.0
MARGIN: Final = 16.0
NAMES: Final = 480.0
"""Pixels from the left at which the bars begin."""
BARS: Final = 360.0
"""Pixels of the longer run; the text of a bar is on its right."""
PITCH: Final = 26.0
HEIGHT: Final = 18.0
TOP: Final = 58.0
LINE: Final = 18.0
MAX_NAMES: Final = 3
MAX_BARS: Final = 20
"""Number of changes with a bar; the rest share one."""
CLOSE: Final = 0.1
"""The share of the runs below which, if all changes are smaller, the bars do not begin at 0."""


def svg(compared: Comparison) -> str:
    """Return the whole picture."""
    changes = _shown(compared.changes)
    below = [f"{title}: {_verdict.listed(found, MAX_NAMES)}" for title, found in asides(compared)]
    bottom = TOP + PITCH * (len(changes) + 2)
    size = {"width": f"{WIDTH:g}", "height": f"{bottom + LINE * len(below) + MARGIN:g}"}
    view = f"0 0 {size['width']} {size['height']}"
    picture = Tree.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "class": "compare", **size, "viewBox": view})
    add(add(picture, "defs"), "style").text = _style()
    add(picture, "rect", css="paper", width="100%", height="100%")
    inner = WIDTH - 2 * MARGIN
    add(picture, "text", clipped(headline(compared), inner, 15, bold=True), css="title", x=MARGIN, y=24.0)
    steps = _Steps(picture, compared, changes)
    about = "What became longer or shorter along the critical paths of both runs." + steps.remark
    add(picture, "text", clipped(about, inner, 11), css="note", x=MARGIN, y=42.0)
    steps.draw()
    for number, text in enumerate(below):
        line = add(picture, "text", clipped(text, inner, 11), css="note", x=MARGIN, y=bottom + LINE * number + 14)
        add(line, "title", text)
    return Tree.tostring(picture, encoding="unicode") + "\n"


def _style() -> str:
    return (resources.files("trioflow.view.trace.compare") / "compare.css").read_text(encoding="utf-8")


def _shown(changes: tuple[PathChange, ...]) -> tuple[PathChange, ...]:
    """Return the changes large enough to see; the last one sums up the others."""
    if len(changes) <= MAX_BARS:
        return changes
    rest = changes[MAX_BARS - 1 :]
    return (*changes[: MAX_BARS - 1], together(rest, f"{len(rest)} further changes"))


class _Steps:
    """The bars, from top to bottom."""

    def __init__(self, picture: Tree.Element, compared: Comparison, changes: tuple[PathChange, ...]) -> None:
        self._picture: Final = picture
        self._compared: Final = compared
        self._changes: Final = changes
        levels = [compared.before.seconds]
        for change in changes:
            levels.append(levels[-1] + change.seconds)
        levels.append(compared.after.seconds)
        self._levels: Final = levels
        lowest, highest = min(levels), max(*levels, 1e-9)
        is_close = highest - lowest < CLOSE * highest
        self._begin: Final = max(0.0, lowest - 2 * max(highest - lowest, highest / 1000)) if is_close else 0.0
        self._scale: Final = BARS / (highest - self._begin)
        self.remark: Final = " The bars do not begin at 0." if self._begin else ""

    def draw(self) -> None:
        """Draw the runs, and the changes between them."""
        before, after = self._compared.before.seconds, self._compared.after.seconds
        self._row(0, "before", "run", self._begin, before, duration_text(before))
        for number, change in enumerate(self._changes, 1):
            was = self._levels[number - 1]
            self._row(number, change.text, change.kind.value, was, was + change.seconds, _says(change), change.what)
            x, y = self._x(was), TOP + number * PITCH
            add(self._picture, "line", css="step", x1=x, y1=y - PITCH + HEIGHT, x2=x, y2=y)
        self._row(len(self._changes) + 1, "after", "run", self._begin, after, duration_text(after))

    def _row(self, number: int, name: str, css: str, start: float, end: float, says: str, what: str = "") -> None:
        y = TOP + number * PITCH
        left, right = sorted((self._x(start), self._x(end)))
        room, ending = NAMES - MARGIN - 8, f": {what}" if what else ""
        if text_width(name, 11.5) > room and text_width(ending, 11.5) < room / 2:  # what has happened is said in full
            shown = clipped(name.removesuffix(ending), room - text_width(ending, 11.5), 11.5) + ending
        else:
            shown = clipped(name, room, 11.5)
        label = add(self._picture, "text", shown, css="name", x=NAMES - 8, y=y + 13, text_anchor="end")
        add(label, "title", name)
        add(self._picture, "rect", css=css, x=left, y=y, width=max(right - left, 1.0), height=HEIGHT)
        add(self._picture, "text", clipped(says, WIDTH - MARGIN - right - 6, 11.5), x=right + 6, y=y + 13)

    def _x(self, seconds: float) -> float:
        return NAMES + (seconds - self._begin) * self._scale


def _says(change: PathChange) -> str:
    sign = "+" if change.seconds > 0 else "\N{MINUS SIGN}"
    both = ""
    if change.before and change.after:
        both = f"{duration_text(change.before)} → {duration_text(change.after)}"
    more = "; ".join(filter(None, (both, change.note)))
    return f"{sign}{duration_text(abs(change.seconds))}" + f"  ({more})" * bool(more)
