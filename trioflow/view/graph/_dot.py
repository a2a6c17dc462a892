"""`digraph`: a drawing in the language of Graphviz, with the attributes of its boxes, frames and lines.

A line to a nested scheduler ends at the border of its frame. dot draws lines only between boxes, and can cut them off
at a frame (`lhead`, `ltail`); `_frame_anchors` chooses the boxes. Invisible lines between all the other outermost boxes
keep the jobs that require a nested scheduler below all of it.
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
    """Return the drawing as `graphviz.Digraph`. O(V + E)."""
    from graphviz import Digraph

    graph = Digraph(
        graph_attr={**GRAPH, "rankdir": direction},
        node_attr=NODE,
        edge_attr=EDGE,
    )
    DotWriter(drawing, graph, direction).write()
    return graph


class DotWriter:
    """Writes a drawing into a `Digraph`, statement by statement: its `subgraph` would copy each level once more."""

    def __init__(self, drawing: Drawing, graph: Digraph, direction: _style.Direction) -> None:
        """Name the jobs and choose the ends of the lines; the graph is still empty."""
        self._drawing: Final = drawing
        self._graph: Final = graph
        self._order: Final = 1 if direction == "TB" else -1  # from left to right is upwards, for dot
        self._names: Final = {**drawing.numbers, **{job: f"?{n}" for n, job in enumerate(drawing.outside(), 1)}}
        self._ends: Final = FrameEnds(drawing)
        self._invisible_edges: Final[
            list[tuple[Anchor, Anchor]]
        ] = []  # written last, because a line places a box where it is written

    def write(self) -> None:
        """Write boxes, frames and lines."""
        for item in self._drawing.items():
            if isinstance(item, End):
                self._close(item.job)
            elif isinstance(item, Begin):
                self._open(item.job)
            else:
                self._node(item.job)
        for job in self._drawing.outside():
            self._graph.node(self._names[job], **of_outside(job))
        for (tail, head), line in self._drawing.lines.items():
            self._line(tail, head, line)
        for start, end in self._invisible_edges:
            self._graph.edge(self._name(start), self._name(end), style="invis")

    def _open(self, scheduler: BaseScheduler) -> None:
        self._graph.body.append(f'\tsubgraph "{self._frame(scheduler)}" {{\n')
        jobs = self._drawing.jobs_drawn_as(scheduler)
        self._graph.attr("graph", **of_frame(jobs, self._drawing.paths[scheduler]))
        for point in self._ends.points(scheduler):
            attributes = EMPTY if point.place is PointPlace.MIDDLE else INVISIBLE
            self._graph.node(self._name(point), **attributes)
            self._invisible_edges.extend(self._ends.ties(point))

    def _close(self, scheduler: BaseScheduler) -> None:
        """Close a frame, and fix the order of its first boxes, which dot would place from right to left."""
        first = [self._names[job] for job in self._ends.first(scheduler)]
        if 1 < len(first) <= MAX_IN_ORDER:
            chain = " -> ".join(f'"{name}"' for name in first[:: self._order])
            self._graph.body.append(f"\t{{ rank=same {chain} [style=invis] }}\n")
        self._graph.body.append("\t}\n")

    def _node(self, job: AnyJob) -> None:
        jobs, path = self._drawing.jobs_drawn_as(job), self._drawing.paths[job]
        if self._drawing.part(job) is DrawnAs.JUNCTION:
            self._graph.node(self._names[job], **POINT, tooltip=tooltip(jobs, path))
        else:
            marks = DOUBLE if job in self._drawing.critical else {}
            self._graph.node(self._names[job], **of_jobs(jobs, path), **marks)

    def _line(self, tail: AnyJob, head: AnyJob, line: LineKind) -> None:
        attributes = {**LINES[line], **(WHEN_FAILED if head.run_if == "failed" else {})}
        if (tail, head) in self._drawing.critical_lines:
            attributes |= ON_PATH
        if self._drawing.part(head) is DrawnAs.JUNCTION:
            attributes["arrowhead"] = "none"
        start, end = self._ends.of_line(tail, head)
        if start is not tail:
            attributes["ltail"] = self._frame(tail)
        if end is not head:
            attributes["lhead"] = self._frame(head)
        self._graph.edge(self._name(start), self._name(end), **attributes)
        self._invisible_edges.extend(self._ends.invisible_edges(tail, head))

    def _frame(self, scheduler: AnyJob) -> str:
        return f"cluster {self._names[scheduler]}"

    def _name(self, anchor: Anchor) -> str:
        if isinstance(anchor, Point):
            return f"{self._names[anchor.scheduler]} {anchor.place.value}"
        return self._names[anchor]


Attributes = dict[str, str]

FONT: Final = "Helvetica,Arial,sans-serif"
FAINT: Final = "#7b8794"
GRAPH: Final[Attributes] = {
    "compound": "true",
    "newrank": "true",  # otherwise dot may put the head of a line between frames beside its tail
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
ON_PATH: Final[Attributes] = {"color": _style.PATH, "penwidth": "2.4"}
DOUBLE: Final[Attributes] = {"peripheries": "2"}
MAX_IN_ORDER: Final = 40
"""Number of boxes beside each other in a frame above which their order is left to dot."""
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

COLUMNS: Final = 32
"""Characters per line of a label; longer labels are wrapped."""
LONGEST: Final = 4
"""Lines of a label; the rest is shown only in the tooltip."""

LONGEST_PATH: Final = 1000
"""Characters kept of the end of a path; at a nesting of a thousand, paths would be most of the text."""


def of_jobs(jobs: list[AnyJob], path: str) -> Attributes:
    """Return the attributes of the box for a job, or for a bundle of jobs."""
    label, remarks = _style.caption(jobs)
    box = STACK if len(jobs) > 1 else shape(jobs[0])
    return {
        "label": _formatted(label, remarks) if remarks else text(label),
        "tooltip": tooltip(jobs, path),
        **colours(_style.colours(jobs)),
        **box,
        **_marks(jobs[0], box),
    }


def of_frame(schedulers: list[AnyJob], path: str) -> Attributes:
    """Return the attributes of the frame of a nested scheduler, or of the first one of a bundle."""
    label, remarks = _style.caption(schedulers, is_frame=True)
    return {
        **FRAME,
        "label": _formatted(label, remarks, "b"),
        "tooltip": tooltip(schedulers, path),
        "fillcolor": STATE_STYLES[_style.state(schedulers)].light.frame,
        "color": _style.colours(schedulers).line,
        "penwidth": "1",  # otherwise it inherits the enclosing frame's
        **_marks(schedulers[0], FRAME),
    }


FRAME: Final[Attributes] = {"style": "rounded,filled", "labeljust": "l", "margin": "10"}


def of_outside(job: AnyJob) -> Attributes:
    """Return the attributes of the box for a requirement outside the drawing."""
    return {**OUTSIDE, "label": text(printable(f"? {job.label}")), "tooltip": tooltip([job], job.path)}


def colours(chosen: Colours) -> Attributes:
    """Return the colours of a box."""
    fill, line, text, _ = chosen
    return {"fillcolor": fill, "color": line, "fontcolor": text}


def shape(job: AnyJob) -> Attributes:
    """Return the shape of a job's box, as its class defines it."""
    box = box_of(job)
    found = {"shape": box.shape, "style": NODE["style"] if box.rounded else SQUARE["style"]}
    return {name: value for name, value in found.items() if value != NODE[name]}


def _marks(job: AnyJob, shaped: Attributes) -> Attributes:
    """Add the marks of critical and forever jobs."""
    marks: Attributes = {}
    if job.is_critical():
        marks["penwidth"] = "2.6"
    if job.forever:
        marks["style"] = f"{shaped.get('style', NODE['style'])},dashed"
    return marks


def tooltip(jobs: list[AnyJob], path: str) -> str:
    """Return the tooltip: kind, path and state."""
    where = path if len(path) <= LONGEST_PATH else f"…{path[-LONGEST_PATH:]}"
    and_more = f" and {len(jobs) - 1} more" if len(jobs) > 1 else ""
    shown = f"{type(jobs[0]).__name__}: {where}{and_more} ({_style.state(jobs).value})"
    return escaped(shown).replace("\\", "\\\\")  # dot unescapes it twice


# ---- text


def text(label: str) -> str:
    """Return a printable label as lines of plain text."""
    return r"\n".join(map(escaped, _wrapped(label)))


def _formatted(label: str, remarks: list[str], tag: str = "") -> str:
    """Return a printable label, with remarks in small print below it, as dot's HTML."""
    lines = [_marked_up(line, tag) for line in _wrapped(label)]
    small = [f'<font point-size="9">{_marked_up(remark, "i")}</font>' for remark in remarks]
    return f"<{'<br/>'.join([*lines, *small])}>"


def _marked_up(line: str, tag: str) -> str:
    shown = escaped(line)
    return f"<{tag}>{shown}</{tag}>" if tag and shown else shown  # dot rejects an empty element


def _wrapped(label: str) -> list[str]:
    return textwrap.wrap(label, COLUMNS, max_lines=LONGEST, placeholder=" …") or [""]


def escaped(line: str) -> str:
    """Escape a line for dot: entities, tags and backslashes."""
    shown = printable(line).replace("&", "&amp;").replace("\\", "\\\\")
    return shown.replace("<", "&lt;").replace(">", "&gt;")
