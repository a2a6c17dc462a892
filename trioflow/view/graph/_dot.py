"""`digraph`: writes a drawing in the language of Graphviz, with the attributes of its boxes, frames and lines.

A line to a nested scheduler ends at the border of its frame. dot draws lines only between boxes, and can clip them at
a frame (`lhead`, `ltail`); `_frame_anchors` chooses the boxes. Invisible lines between the other boxes at the borders
keep the jobs that require a nested scheduler below all of its frame.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from ..._core.api.views import AnyJob, BaseScheduler, box_of, printable
from .._state_styles import STATE_STYLES, Colours
from ..text._listing import Begin, End
from . import _style
from ._drawing import Drawing, DrawnAs, LineKind
from ._frame_anchors import Anchor, FrameEnds, Point, PointPlace

if TYPE_CHECKING:
    from graphviz import Digraph


def digraph(drawing: Drawing, direction: _style.Direction) -> Digraph:
    """Return a drawing as a `graphviz.Digraph`. O(V + E)."""
    from graphviz import Digraph

    graph = Digraph(
        graph_attr={**GRAPH, "rankdir": direction},
        node_attr=NODE,
        edge_attr=EDGE,
    )
    DotWriter(drawing, graph, direction).write()
    return graph


class DotWriter:
    """A writer of a drawing into a `Digraph`.

    It writes statement by statement, because `Digraph.subgraph` would copy the text of each level of nesting again.
    """

    def __init__(self, drawing: Drawing, graph: Digraph, direction: _style.Direction) -> None:
        """Name the jobs, and choose the ends of the lines; `graph` must be empty."""
        self._drawing: Final = drawing
        self._graph: Final = graph
        self._order: Final = 1 if direction == "TB" else -1  # with "LR", dot orders a rank from bottom to top
        self._names: Final = {**drawing.numbers, **{job: f"?{n}" for n, job in enumerate(drawing.outside_jobs(), 1)}}
        self._ends: Final = FrameEnds(drawing)
        # Written last, because dot puts a box into the frame in which a line first names it.
        self._invisible_edges: Final[list[tuple[Anchor, Anchor]]] = []

    def write(self) -> None:
        """Write the boxes, the frames and the lines."""
        for item in self._drawing.items():
            if isinstance(item, End):
                self._close_frame(item.job)
            elif isinstance(item, Begin):
                self._open_frame(item.job)
            else:
                self._write_box(item.job)
        for job in self._drawing.outside_jobs():
            self._graph.node(self._names[job], **outside_attributes(job))
        for (tail, head), line in self._drawing.lines.items():
            self._write_line(tail, head, line)
        for start, end in self._invisible_edges:
            self._graph.edge(self._anchor_name(start), self._anchor_name(end), style="invis")

    def _open_frame(self, scheduler: BaseScheduler) -> None:
        self._graph.body.append(f'\tsubgraph "{self._frame_name(scheduler)}" {{\n')
        jobs = self._drawing.jobs_drawn_as(scheduler)
        self._graph.attr("graph", **frame_attributes(jobs, self._drawing.paths[scheduler]))
        for point in self._ends.points(scheduler):
            attributes = EMPTY if point.place is PointPlace.MIDDLE else INVISIBLE
            self._graph.node(self._anchor_name(point), **attributes)
            self._invisible_edges.extend(self._ends.ties(point))

    def _close_frame(self, scheduler: BaseScheduler) -> None:
        """Close a frame, and fix the order of the boxes in its first rank, which dot would reverse."""
        first = [self._names[job] for job in self._ends.first(scheduler)]
        if 1 < len(first) <= MAX_IN_ORDER:
            chain = " -> ".join(f'"{name}"' for name in first[:: self._order])
            self._graph.body.append(f"\t{{ rank=same {chain} [style=invis] }}\n")
        self._graph.body.append("\t}\n")

    def _write_box(self, job: AnyJob) -> None:
        jobs, path = self._drawing.jobs_drawn_as(job), self._drawing.paths[job]
        if self._drawing.role(job) is DrawnAs.JUNCTION:
            self._graph.node(self._names[job], **POINT, tooltip=tooltip(jobs, path))
        else:
            marks = CRITICAL_PATH_BOX if job in self._drawing.critical else {}
            self._graph.node(self._names[job], **job_attributes(jobs, path), **marks)

    def _write_line(self, tail: AnyJob, head: AnyJob, line: LineKind) -> None:
        """Write the visible line, and note the invisible lines beside it."""
        attributes = {**LINES[line], **(WHEN_FAILED if head.run_if == "failed" else {})}
        if (tail, head) in self._drawing.critical_lines:
            attributes |= CRITICAL_PATH_LINE
        if self._drawing.role(head) is DrawnAs.JUNCTION:
            attributes["arrowhead"] = "none"
        start, end = self._ends.anchors_of_line(tail, head)
        if start is not tail:
            attributes["ltail"] = self._frame_name(tail)
        if end is not head:
            attributes["lhead"] = self._frame_name(head)
        self._graph.edge(self._anchor_name(start), self._anchor_name(end), **attributes)
        self._invisible_edges.extend(self._ends.invisible_edges(tail, head))

    def _frame_name(self, scheduler: AnyJob) -> str:
        return f"cluster {self._names[scheduler]}"

    def _anchor_name(self, anchor: Anchor) -> str:
        if isinstance(anchor, Point):
            return f"{self._names[anchor.scheduler]} {anchor.place.value}"
        return self._names[anchor]


Attributes = dict[str, str]

FONT: Final = "Helvetica,Arial,sans-serif"
FAINT: Final = "#7b8794"
GRAPH: Final[Attributes] = {
    "compound": "true",
    "newrank": "true",  # otherwise dot may give the two ends of a line between frames the same rank
    "fontname": FONT,
    "fontsize": "11",
    "nodesep": "0.25",
    "ranksep": "0.45",
    "pad": "0.15",
    "bgcolor": "white",
}
NODE: Final[Attributes] = {
    "fontname": FONT,
    "fontsize": "11",
    "shape": "box",
    "style": "rounded,filled",
    "height": "0.35",
    "margin": "0.14,0.06",
    "penwidth": "1",
}
EDGE: Final[Attributes] = {"fontname": FONT, "fontsize": "10", "color": FAINT, "arrowsize": "0.65", "penwidth": "1"}
LINES: Final[Mapping[LineKind, Attributes]] = {
    LineKind.ORDER: {},
    LineKind.DATA: {"color": "#1d5fa6", "penwidth": "1.8", "dir": "both", "arrowtail": "dot"},
    LineKind.DETOUR: {"style": "dotted", "penwidth": "1.6"},
}
CRITICAL_PATH_LINE: Final[Attributes] = {"color": _style.CRITICAL_PATH_COLOUR, "penwidth": "2.4"}
CRITICAL_PATH_BOX: Final[Attributes] = {"peripheries": "2"}
MAX_IN_ORDER: Final = 40
"""The number of boxes in the first rank of a frame above which dot decides on their order."""
WHEN_FAILED: Final[Attributes] = {"style": "dashed"}
SQUARE: Final[Attributes] = {"style": "filled"}
STACK: Final[Attributes] = {**SQUARE, "shape": "box3d", "margin": "0.16,0.1"}
POINT: Final[Attributes] = {"shape": "point", "width": "0.06", "color": FAINT, "label": ""}
OUTSIDE: Final[Attributes] = {"style": "rounded,dotted", "color": FAINT, "fontcolor": "#616e7c"}
INVISIBLE: Final[Attributes] = {"shape": "point", "style": "invis", "width": "0.01", "height": "0.01", "label": ""}
EMPTY: Final[Attributes] = {
    "shape": "plaintext",
    "style": "",
    "fontcolor": FAINT,
    "fontsize": "9",
    "label": "(empty)",
    "height": "0.2",
    "margin": "0.05,0",
}

LABEL_COLUMNS: Final = 32
"""The number of characters per line of a label; longer labels are wrapped."""
MAX_LABEL_LINES: Final = 4
"""The number of lines of a label; only the tooltip has the rest."""

MAX_PATH_LENGTH: Final = 1000
"""The number of characters kept from the end of a path; with a thousand levels, paths would be most of the text."""


def job_attributes(jobs: list[AnyJob], path: str) -> Attributes:
    """Return the attributes of the box for one job or a bundle of jobs."""
    label, remarks = _style.caption(jobs)
    box = STACK if len(jobs) > 1 else shape_attributes(jobs[0])
    return {
        "label": _html_label(label, remarks) if remarks else plain_label(label),
        "tooltip": tooltip(jobs, path),
        **colour_attributes(_style.box_colours(jobs)),
        **box,
        **_mark_attributes(jobs[0], box),
    }


def frame_attributes(schedulers: list[AnyJob], path: str) -> Attributes:
    """Return the attributes of the frame for one nested scheduler or a bundle of them."""
    label, remarks = _style.caption(schedulers, is_frame=True)
    return {
        **FRAME,
        "label": _html_label(label, remarks, "b"),
        "tooltip": tooltip(schedulers, path),
        "fillcolor": STATE_STYLES[_style.shown_state(schedulers)].light.frame,
        "color": _style.box_colours(schedulers).line,
        "penwidth": "1",  # otherwise it inherits the enclosing frame's
        **_mark_attributes(schedulers[0], FRAME),
    }


FRAME: Final[Attributes] = {"style": "rounded,filled", "labeljust": "l", "margin": "10"}


def outside_attributes(job: AnyJob) -> Attributes:
    """Return the attributes of the box for a requirement outside the scheduler."""
    return {**OUTSIDE, "label": plain_label(printable(f"? {job.label}")), "tooltip": tooltip([job], job.path)}


def colour_attributes(colours: Colours) -> Attributes:
    """Return the attributes for the colours of a box."""
    fill, line, text, _ = colours
    return {"fillcolor": fill, "color": line, "fontcolor": text}


def shape_attributes(job: AnyJob) -> Attributes:
    """Return the attributes for the shape of a job's box, which the class of the job defines, except defaults."""
    box = box_of(job)
    attributes = {"shape": box.shape, "style": NODE["style"] if box.rounded else SQUARE["style"]}
    return {name: value for name, value in attributes.items() if value != NODE[name]}


def _mark_attributes(job: AnyJob, shape: Attributes) -> Attributes:
    """Return the attributes that mark critical and forever jobs, given those of the shape."""
    marks: Attributes = {}
    if job.is_critical():
        marks["penwidth"] = "2.6"
    if job.forever:
        marks["style"] = f"{shape.get('style', NODE['style'])},dashed"
    return marks


def tooltip(jobs: list[AnyJob], path: str) -> str:
    """Return the text of the tooltip: class, path and state, escaped for dot."""
    where = path if len(path) <= MAX_PATH_LENGTH else f"…{path[-MAX_PATH_LENGTH:]}"
    and_more = f" and {len(jobs) - 1} more" if len(jobs) > 1 else ""
    shown = f"{type(jobs[0]).__name__}: {where}{and_more} ({_style.shown_state(jobs).value})"
    return escape(shown).replace("\\", "\\\\")  # dot unescapes tooltips twice


# ---- text


def plain_label(label: str) -> str:
    """Return a printable label wrapped into lines, as a plain label of dot."""
    return r"\n".join(map(escape, _wrap(label)))


def _html_label(label: str, remarks: list[str], tag: str = "") -> str:
    """Return a printable label, with remarks in small print below it, as an HTML-like label of dot."""
    lines = [_tag_line(line, tag) for line in _wrap(label)]
    small = [f'<font point-size="9">{_tag_line(remark, "i")}</font>' for remark in remarks]
    return f"<{'<br/>'.join([*lines, *small])}>"


def _tag_line(line: str, tag: str) -> str:
    shown = escape(line)
    return f"<{tag}>{shown}</{tag}>" if tag and shown else shown  # dot rejects an empty element


def _wrap(label: str) -> list[str]:
    return textwrap.wrap(label, LABEL_COLUMNS, max_lines=MAX_LABEL_LINES, placeholder=" …") or [""]


def escape(line: str) -> str:
    """Return a line with entities, tags and backslashes escaped for dot."""
    shown = printable(line).replace("&", "&amp;").replace("\\", "\\\\")
    return shown.replace("<", "&lt;").replace(">", "&gt;")
