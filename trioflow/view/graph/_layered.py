"""`svg`: a drawing as a picture without Graphviz, laid out in layers by grandalf, which is pure Python.

It has no frames: nested schedulers must be folded. Sugiyama's method in grandalf takes a second for some 300 boxes.
"""

from __future__ import annotations

from typing import Any, Final, cast
from xml.etree import ElementTree as Tree

from ..._core.door.reading import AnyJob, printable, shortened
from . import _style
from ._dot import FAINT, LINES, ON_PATH, WHEN_FAILED, Attributes
from ._drawing import Drawing, LineKind, Single

CHARACTER: Final = 6.6
"""Pixels; the letters of a label in most sans-serif typefaces of 11 pixels take less."""
LONGEST: Final = 32
"""Characters of a label; the whole path is shown under the pointer."""
SMALL: Final = 5.4
"""The same in a remark, of 9 pixels."""
LONGEST_REMARK: Final = 60
HEIGHT: Final = 26.0
REMARK: Final = 12.0
"""Pixels that a box is higher for each remark."""
GAP: Final = 18.0
LAYERS: Final = 36.0
WIDEST: Final = 1200.0
"""Pixels: parts that are not connected go into another row from here on."""


class BoxView:
    """What grandalf knows of a box: its size; and where it has put its centre."""

    def __init__(self, width: float, height: float) -> None:
        self.w, self.h = width, height
        self.xy = (0.0, 0.0)


class LineView:
    """The points of a line, from grandalf."""

    def __init__(self) -> None:
        self.points: list[tuple[float, float]] = []

    def setpath(self, points: list[tuple[float, float]]) -> None:
        """Take the points."""
        self.points = list(points)


def svg(drawing: Drawing) -> str:
    """Return the picture of a drawing in which all nested schedulers are folded.

    Raises:
        ModuleNotFoundError: grandalf is missing.

    """
    from grandalf.graphs import Edge, Graph, Vertex  # type: ignore[import-untyped,unused-ignore]
    from grandalf.layouts import SugiyamaLayout  # type: ignore[import-untyped,unused-ignore]

    jobs = [item.job for item in drawing.items() if isinstance(item, Single)]
    boxes: dict[AnyJob, Any] = {}
    for job in jobs:
        boxes[job] = Vertex(job)
        boxes[job].view = _view(drawing, job)
    lines: dict[tuple[AnyJob, AnyJob], Any] = {}
    for tail, head in drawing.lines:
        if tail in boxes and head in boxes:
            lines[tail, head] = Edge(boxes[tail], boxes[head])
            lines[tail, head].view = LineView()
    graph: Any = Graph(list(boxes.values()), list(lines.values()))
    places = dict.fromkeys(jobs, (0.0, 0.0))
    left, top, lowest, widest = GAP, GAP, GAP, GAP
    for part in graph.C:
        members = list(part.sV)
        if len(members) > 1:
            layout: Any = SugiyamaLayout(part)
            layout.xspace, layout.yspace = GAP, LAYERS
            layout.init_all(roots=[one for one in members if not one.e_in()])
            layout.draw(3)
        views = [one.view for one in members]
        begins = min(view.xy[0] - view.w / 2 for view in views)
        above = min(view.xy[1] - view.h / 2 for view in views)
        width = max(view.xy[0] + view.w / 2 for view in views) - begins
        height = max(view.xy[1] + view.h / 2 for view in views) - above
        if left > GAP and left + width > WIDEST:
            left, top = GAP, lowest + LAYERS
        shift = left - begins, top - above
        for one in members:
            places[one.data] = one.view.xy[0] + shift[0], one.view.xy[1] + shift[1]
        for line in part.sE:
            line.view.points = [(x + shift[0], y + shift[1]) for x, y in line.view.points]
        left += width + GAP
        widest, lowest = max(widest, left), max(lowest, top + height)
    size = {"width": f"{widest:.0f}", "height": f"{lowest + GAP:.0f}"}
    picture = Tree.Element(
        "svg",
        {"xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {size['width']} {size['height']}", **size},
    )
    for (tail, head), line in lines.items():
        is_critical = (tail, head) in drawing.critical_lines
        inner = cast(LineView, line.view).points[1:-1]
        points = _ends(drawing, boxes, places, tail, head, inner)
        _draw_line(picture, drawing.lines[tail, head], head, points, ON_PATH if is_critical else {})
    for job in jobs:
        _draw_box(picture, drawing, job, places[job], boxes[job].view)
    return Tree.tostring(picture, encoding="unicode")


def _view(drawing: Drawing, job: AnyJob) -> BoxView:
    label, remarks = _style.caption(drawing.jobs_drawn_as(job))
    widths = [CHARACTER * len(_cut(label)), *(SMALL * len(_cut(remark, LONGEST_REMARK)) for remark in remarks)]
    return BoxView(max(40.0, max(widths) + 18), HEIGHT + REMARK * len(remarks))


def _cut(text: str, longest: int = LONGEST) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _ends(
    drawing: Drawing,
    boxes: dict[AnyJob, Any],
    places: dict[AnyJob, tuple[float, float]],
    tail: AnyJob,
    head: AnyJob,
    inner: list[tuple[float, float]],
) -> list[tuple[float, float]]:
    """Return the points of a line from the lower edge of one box to the upper edge of the other."""
    (x, y), (u, v) = places[tail], places[head]
    return [(x, y + boxes[tail].view.h / 2), *inner, (u, v - boxes[head].view.h / 2 - 5)]


def _draw_line(
    picture: Tree.Element, line: LineKind, head: AnyJob, points: list[tuple[float, float]], mark: Attributes
) -> None:
    look = {**LINES[line], **(WHEN_FAILED if head.run_if == "failed" else {}), **mark}
    colour = look.get("color", FAINT)
    (x, y), *others = points
    path = f"M{x:.1f} {y:.1f}"
    for u, v in others:
        middle = (y + v) / 2
        path += f"C{x:.1f} {middle:.1f} {u:.1f} {middle:.1f} {u:.1f} {v:.1f}"
        x, y = u, v
    dashes = {"dashed": {"stroke-dasharray": "5 4"}, "dotted": {"stroke-dasharray": "1.5 3"}}
    Tree.SubElement(
        picture,
        "path",
        {"d": path, "fill": "none", "stroke": colour, "stroke-width": look.get("penwidth", "1")}
        | dashes.get(look.get("style", ""), {}),
    )
    Tree.SubElement(picture, "path", {"d": f"M{x:.1f} {y + 5:.1f}l-3.5 -6h7z", "fill": colour})


def _draw_box(picture: Tree.Element, drawing: Drawing, job: AnyJob, place: tuple[float, float], view: BoxView) -> None:
    jobs = drawing.jobs_drawn_as(job)
    colours = _style.colours(jobs)
    label, remarks = _style.caption(jobs)
    x, y = place
    group = Tree.SubElement(picture, "g")
    Tree.SubElement(group, "title").text = f"{printable(shortened(drawing.paths[job]))} ({_style.state(jobs).value})"
    look = {
        "fill": colours.fill,
        "stroke": colours.line,
        "rx": "5",
        "stroke-width": "2.6" if job.is_critical() else "1",
    }
    if job.forever:
        look["stroke-dasharray"] = "5 4"
    for shift in (3, 0) if len(jobs) > 1 else (0,):  # several that are alike are a stack
        edges = {"x": x - view.w / 2 + shift, "y": y - view.h / 2 - shift, "width": view.w, "height": view.h}
        Tree.SubElement(group, "rect", {name: f"{value:.1f}" for name, value in edges.items()} | look)
    for number, text in enumerate((label, *remarks)):
        size = {"font-size": "9" if number else "11", "font-style": "italic" if number else "normal"}
        words = {"x": f"{x:.1f}", "y": f"{y - view.h / 2 + 17 + REMARK * number:.1f}", "text-anchor": "middle"}
        font = {"fill": colours.text, "font-family": "Helvetica,Arial,sans-serif"}
        shown = _cut(text, LONGEST_REMARK if number else LONGEST)
        Tree.SubElement(group, "text", words | size | font).text = shown
