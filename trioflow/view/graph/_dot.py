"""Convert a drawing to a `graphviz.Digraph`, with the attributes of its boxes, frames and edges.

A nested scheduler is drawn as a frame, which dot calls a cluster. dot draws edges only between boxes. Therefore, an
edge to a frame leads to a box in the frame, and dot clips the edge at the frame's border (`lhead`, `ltail`).
Additional, invisible edges lead to other boxes at the border. They make dot place the jobs that require a nested
scheduler below the whole frame of that scheduler.

The boxes to which the edges of a frame lead are its anchors. If edges end at a frame, its anchors are the boxes of its
first rank, or, if there are many such boxes, one invisible point above them. If edges begin at a frame, its anchors are
the boxes of its last rank, or one invisible point below them. An empty frame has a single point.
"""

from __future__ import annotations

import enum
import itertools
import math
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias

from ..._core.base._reprs import fit
from ..._core.job._job import AnyJob
from ..._core.job._labels import printable
from ..._core.scheduler._base_scheduler import BaseScheduler
from ..._core.words._job_queries import box_of, criticality
from .._state_styles import STATE_STYLES, TEXT_COLOR, BoxColors
from ..text._listing import BeginRow, EndRow
from . import _style
from ._drawing import Drawing, DrawnEdges, EdgeKind

if TYPE_CHECKING:
    from graphviz import Digraph


def import_graphviz(caller: str) -> Any:
    """Return the package graphviz, which is imported late, because most programs draw nothing.

    Args:
        caller: the name of what the user called, for the error message.

    Raises:
        ModuleNotFoundError: it is not installed; `pip install 'trioflow[graph]'` installs it.

    """
    try:
        import graphviz
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{caller} needs the package graphviz, which is not installed: pip install 'trioflow[graph]'",
            name=error.name,
        ) from None
    return graphviz


@dataclass(frozen=True, slots=True)
class Statement:
    """A part of a drawing, as data: its texts are texts, and no source for dot.

    Attributes:
        kind: a box or a point, an edge, the begin or the end of a frame, or boxes in one rank, in this order.
        names: the name of the box or of the frame, the two ends of an edge, or the boxes.
        attributes: what dot is told about it, apart from texts.
        label: its label; None if it has none.
        remarks: the lines below the label.
        tooltip: its tooltip.

    """

    kind: Literal["node", "edge", "frame", "end", "rank"]
    names: tuple[str, ...] = ()
    attributes: dict[str, str] = field(default_factory=dict[str, str])
    label: str | None = None
    remarks: tuple[str, ...] = ()
    tooltip: str = ""

    def check(self) -> None:
        """Check that a statement from the file of a stranger says nothing but what a drawing says.

        Raises:
            ValueError: it says something else.

        """
        count = {"edge": 2, "end": 0, "rank": len(self.names)}.get(self.kind, 1)
        texts = [*self.attributes, *self.attributes.values(), *self.names]
        if len(self.names) != count or not ATTRIBUTES.issuperset(self.attributes) or not all(map(_is_plain, texts)):
            raise ValueError(f"a graph has a {self.kind} that no drawing has")

    def dot_attributes(self) -> dict[str, str]:
        """Return all attributes, with the texts in the syntax of dot."""
        texts = dict[str, str]()
        if self.label is not None:
            if self.kind == "edge":
                texts["label"] = EDGE_REMARK.format(escape_line(self.label))
            elif self.kind == "frame":
                texts["label"] = _html_label(self.label, self.remarks, "b", '<br align="left"/>')
            else:
                texts["label"] = _html_label(self.label, self.remarks) if self.remarks else plain_label(self.label)
        if self.tooltip:
            texts["tooltip"] = escape_line(self.tooltip).replace("\\", "\\\\")  # dot unescapes tooltips twice
        return {**self.attributes, **texts}


ATTRIBUTES: Final = frozenset(
    """
    arrowtail color dir fillcolor fontcolor fontsize height labeljust labelloc lhead ltail margin penwidth
    peripheries     shape style width
    """.split()  # noqa: SIM905
)
_is_plain: Final = re.compile(r"[\w#?,. -]*", re.ASCII).fullmatch


def make_digraph(drawing: Drawing, direction: _style.Direction) -> Digraph:
    """Convert a drawing to a `graphviz.Digraph`, in O(V + E) time for V jobs and E edges."""
    return digraph_of(describe(drawing, direction), direction)


def describe(drawing: Drawing, direction: _style.Direction) -> tuple[Statement, ...]:
    """Return a drawing as data."""
    writer = DotWriter(drawing, direction)
    writer.write()
    return tuple(writer.statements)


def digraph_of(statements: Iterable[Statement], direction: _style.Direction) -> Digraph:
    """Return the `graphviz.Digraph` of statements, of which frames are open until their end.

    `Digraph.subgraph` would copy the text of a nested frame once for each frame around it.
    """
    graph: Digraph = import_graphviz("graph()").Digraph(
        graph_attr={**GRAPH_DEFAULTS, "rankdir": direction}, node_attr=NODE_DEFAULTS, edge_attr=EDGE_DEFAULTS
    )
    for statement in statements:
        match statement.kind:
            case "node":
                graph.node(*statement.names, **statement.dot_attributes())
            case "edge":
                graph.edge(*statement.names, **statement.dot_attributes())
            case "frame":
                graph.body.append(f'\tsubgraph "{statement.names[0]}" {{\n')
                graph.attr("graph", **statement.dot_attributes())
            case "rank":
                chain = " -> ".join(f'"{name}"' for name in statement.names)
                graph.body.append(f"\t{{ rank=same {chain} [style=invis] }}\n")
            case "end":
                graph.body.append("\t}\n")
    return graph


class DotWriter:
    """A writer of the boxes, frames and edges of a drawing, as statements."""

    def __init__(self, drawing: Drawing, direction: _style.Direction) -> None:
        """Choose the names of the nodes and the anchors of the frames."""
        self._drawing: Final = drawing
        self.statements: Final[list[Statement]] = []
        # If the direction is "LR", dot orders the boxes of a rank from bottom to top.
        self._rank_step: Final = 1 if direction == "TB" else -1
        self._node_names: Final = {
            **drawing.job_numbers,
            **{job: f"?{number}" for number, job in enumerate(drawing.outside_jobs(), 1)},
        }
        self._anchors: Final = FrameAnchors(drawing)
        # Invisible edges are written last, because dot puts a box into the frame where an edge first mentions it.
        self._invisible_edges: Final[list[tuple[Anchor, Anchor]]] = []
        self._below_first_rank: Final[set[Anchor]] = set()  # the boxes of grids, without those of the first rank
        self._above_last_rank: Final[set[Anchor]] = set()

    def write(self) -> None:
        """Add the boxes, the frames and the edges to the graph."""
        lonely_boxes = self._anchors.lonely_boxes()
        max_row = MAX_ROW if sum(map(len, lonely_boxes)) <= MAX_ROW else MAX_ROW // 2
        for boxes in lonely_boxes:
            if len(boxes) > max_row:
                self._arrange_in_grid(boxes)
        for row in self._drawing.drawn_rows():
            if isinstance(row, EndRow):
                self._close_frame(row.job)
            elif isinstance(row, BeginRow):
                self._open_frame(row.job)
            else:
                self._write_box(row.job)
        for job in self._drawing.outside_jobs():
            self.statements.append(outside_statement(self._node_names[job], job))
        for (tail, head), kind in self._drawing.edges.items():
            self._write_edge(tail, head, kind)
        for start, end in self._invisible_edges:
            self._add_edge(start, end, {"style": "invis"})

    def _open_frame(self, scheduler: BaseScheduler) -> None:
        self.statements.append(frame_statement(self._frame_name(scheduler), scheduler, self._drawing.paths[scheduler]))
        for point in self._anchors.find_points(scheduler):
            is_empty = point.position is PointPosition.MIDDLE
            attributes, label = (EMPTY_FRAME_TEXT, "(empty)") if is_empty else (INVISIBLE_POINT, "")
            self.statements.append(Statement("node", (self._anchor_name(point),), attributes, label))
            for ends in self._anchors.alignment_edges(point):
                if not (ends[0] in self._above_last_rank or ends[1] in self._below_first_rank):
                    self._invisible_edges.append(ends)

    def _close_frame(self, scheduler: BaseScheduler) -> None:
        """Close a frame, and keep dot from reversing the order of the boxes in its first rank."""
        boxes = self._anchors.first_rank_boxes(scheduler)
        names = [self._node_names[job] for job in boxes if job not in self._below_first_rank]
        if 1 < len(names) <= MAX_ORDERED_BOXES:
            self.statements.append(Statement("rank", tuple(names[:: self._rank_step])))
        self.statements.append(Statement("end"))

    def _write_box(self, job: AnyJob) -> None:
        attributes = job_attributes(job)
        if job in self._drawing.critical_path_jobs:
            attributes |= CRITICAL_PATH_BOX
            if attributes.get("shape") == "cylinder":
                attributes |= LOW_LABEL
        label, remarks = _style.caption(job)
        tooltip = tooltip_text(job, self._drawing.paths[job])
        self.statements.append(Statement("node", (self._node_names[job],), attributes, label, tuple(remarks), tooltip))

    def _write_edge(self, tail: AnyJob, head: AnyJob, kind: EdgeKind) -> None:
        """Write a visible edge, and collect the invisible edges that accompany it."""
        attributes = {**EDGE_ATTRIBUTES[kind], **(RUN_IF_FAILED_EDGE if head.run_if == "failed" else {})}
        if (tail, head) in self._drawing.critical_path_edges:
            attributes |= CRITICAL_PATH_EDGE
        start, end = self._anchors.choose_edge_anchors(tail, head)
        if start is not tail:
            attributes["ltail"] = self._frame_name(tail)
        if end is not head:
            attributes["lhead"] = self._frame_name(head)
        self._add_edge(start, end, attributes, _style.IF_SETTLED if kind is EdgeKind.SETTLED else None)
        self._invisible_edges.extend(self._anchors.invisible_edges(tail, head))

    def _add_edge(self, start: Anchor, end: Anchor, attributes: DotAttributes, label: str | None = None) -> None:
        names = self._anchor_name(start), self._anchor_name(end)
        self.statements.append(Statement("edge", names, attributes, label))

    def _arrange_in_grid(self, boxes: list[AnyJob]) -> None:
        """Let dot place boxes without edges in a grid by invisible edges; it would place all of them in one rank."""
        line_count = math.ceil(math.sqrt(len(boxes) * GRID_RATIO))
        rank_size = math.ceil(len(boxes) / line_count) if self._rank_step == 1 else line_count
        self._invisible_edges.extend(zip(boxes, boxes[rank_size:], strict=False))
        self._below_first_rank.update(boxes[rank_size:])
        self._above_last_rank.update(boxes[:-rank_size])

    def _frame_name(self, scheduler: AnyJob) -> str:
        return f"cluster {self._node_names[scheduler]}"

    def _anchor_name(self, anchor: Anchor) -> str:
        if isinstance(anchor, InvisiblePoint):
            return f"{self._node_names[anchor.scheduler]} {anchor.position.value}"
        return self._node_names[anchor]


DotAttributes = dict[str, str]

FONT_FAMILIES: Final = "Helvetica,Arial,sans-serif"
GRAPH_DEFAULTS: Final[DotAttributes] = {
    "compound": "true",
    "newrank": "true",  # otherwise dot may give the two ends of an edge between frames the same rank
    "fontname": FONT_FAMILIES,
    "fontsize": "11",
    "nodesep": "0.25",
    "ranksep": "0.45",
    "pad": "0.15",
    "bgcolor": "transparent",
    "fontcolor": _style.LINE_COLOR,
}
NODE_DEFAULTS: Final[DotAttributes] = {
    "fontname": FONT_FAMILIES,
    "fontsize": "11",
    "shape": "box",
    "style": "rounded,filled",
    "height": "0.35",
    "margin": "0.14,0.06",
    "penwidth": "1",
}
EDGE_DEFAULTS: Final[DotAttributes] = {
    "fontname": FONT_FAMILIES,
    "fontsize": "10",
    "color": _style.LINE_COLOR,
    "arrowsize": "0.65",
    "penwidth": "1",
}
EDGE_REMARK: Final = '<<table border="0" cellspacing="0" bgcolor="white"><tr><td><i>{}</i></td></tr></table>>'
"""The label of an edge, on white, because an edge may be inside a frame or outside of all frames."""
EDGE_ATTRIBUTES: Final[Mapping[EdgeKind, DotAttributes]] = {
    EdgeKind.ORDER: {},
    EdgeKind.DATA: {"color": _style.INPUT_COLOR, "penwidth": "1.8", "dir": "both", "arrowtail": "dot"},
    EdgeKind.SETTLED: {"fontsize": "9"},
}
CRITICAL_PATH_EDGE: Final[DotAttributes] = {"color": _style.CRITICAL_PATH_COLOR, "penwidth": "2.4"}
CRITICAL_PATH_BOX: Final[DotAttributes] = {"peripheries": "2"}
LOW_LABEL: Final[DotAttributes] = {"margin": "0.14,0.12", "labelloc": "b"}
"""The label of a cylinder with two borders: the upper edge of the inner one would cross a label in the middle."""
MAX_ORDERED_BOXES: Final = 40
"""The maximum number of boxes in the first rank of a frame whose order is enforced. dot orders a larger rank."""
MAX_ROW: Final = 8
"""The maximum number of boxes without edges that stand in one rank; if several frames have more, half of it for each.

More are arranged in a grid.
"""
GRID_RATIO: Final = 3.0
"""The number of rows of a grid divided by the number of its columns, because boxes are wider than high."""
RUN_IF_FAILED_EDGE: Final[DotAttributes] = {"style": "dashed"}
SQUARE_BOX: Final[DotAttributes] = {"style": "filled"}
OUTSIDE_BOX: Final[DotAttributes] = {
    "style": "rounded,filled,dotted",
    "fillcolor": "white",
    "color": _style.LINE_COLOR,
    "fontcolor": "#616e7c",
}
INVISIBLE_POINT: Final[DotAttributes] = {"shape": "point", "style": "invis", "width": "0.01", "height": "0.01"}
EMPTY_FRAME_TEXT: Final[DotAttributes] = {
    "shape": "plaintext",
    "style": "",
    "fontcolor": TEXT_COLOR,
    "fontsize": "9",
    "height": "0.2",
    "margin": "0.05,0",
}

MAX_LABEL_WIDTH: Final = 32
MAX_LABEL_LINES: Final = 4
"""The maximum number of lines of a label. The rest of a longer label is shown only in the tooltip."""

MAX_PATH_LENGTH: Final = 1000
"""The maximum length of a path in a tooltip. A longer path loses its beginning.

With a thousand levels of nesting, complete paths would make up most of the file.
"""


def job_attributes(job: AnyJob) -> DotAttributes:
    box = shape_attributes(job)
    return {**color_attributes(_style.box_colors(job)), **box, **_mark_attributes(job, box)}


def frame_statement(name: str, scheduler: BaseScheduler, path: str) -> Statement:
    """Return the begin of the frame for a nested scheduler."""
    label, remarks = _style.caption(scheduler, is_frame=True)
    attributes = {
        **FRAME_DEFAULTS,
        "fillcolor": STATE_STYLES[_style.shown_state(scheduler)].colors.frame,
        "color": _style.box_colors(scheduler).outline,
        "penwidth": "1",  # otherwise a frame inherits the width of the enclosing frame's border
        **_mark_attributes(scheduler, FRAME_DEFAULTS),
    }
    return Statement("frame", (name,), attributes, label, tuple(remarks), tooltip_text(scheduler, path))


FRAME_DEFAULTS: Final[DotAttributes] = {
    "style": "rounded,filled",
    "labeljust": "l",
    "margin": "10",
    "fontcolor": TEXT_COLOR,
}


def outside_statement(name: str, job: AnyJob) -> Statement:
    label = printable(f"? {job.label}")
    return Statement("node", (name,), OUTSIDE_BOX, label, tooltip=tooltip_text(job, job.path))


def color_attributes(colors: BoxColors) -> DotAttributes:
    fill, outline, text, _ = colors
    return {"fillcolor": fill, "color": outline, "fontcolor": text}


def shape_attributes(job: AnyJob) -> DotAttributes:
    """Return the attributes for the shape of a job's box that differ from `NODE_DEFAULTS`.

    The class of a job defines the shape of its box.
    """
    box = box_of(job)
    attributes = {"shape": box.shape, "style": NODE_DEFAULTS["style"] if box.rounded else SQUARE_BOX["style"]}
    return {name: value for name, value in attributes.items() if value != NODE_DEFAULTS[name]}


def _mark_attributes(job: AnyJob, shape: DotAttributes) -> DotAttributes:
    """Return the attributes that mark critical and forever jobs. `shape` contains the attributes of the job's shape."""
    marks: DotAttributes = {}
    if criticality(job):
        marks["penwidth"] = "2.6"
    if job.forever:
        marks["style"] = f"{shape.get('style', NODE_DEFAULTS['style'])},dashed"
    return marks


def tooltip_text(job: AnyJob, path: str) -> str:
    """Return the text of a tooltip: class, path and state."""
    return f"{type(job).__name__}: {fit(path, MAX_PATH_LENGTH, 'end')} ({_style.shown_state(job).value})"


# ---- text


def plain_label(label: str) -> str:
    """Wrap a printable label, and return it in the syntax of a plain dot label."""
    return r"\n".join(map(escape_line, _wrap_label(label)))


def _html_label(label: str, remarks: Sequence[str], tag: str = "", line_end: str = "<br/>") -> str:
    lines = [_tag_line(line, tag) for line in _wrap_label(label)]
    remark_lines = [f'<font point-size="9">{_tag_line(remark, "i")}</font>' for remark in remarks]
    return f"<{line_end.join([*lines, *remark_lines])}{line_end}>"


def _tag_line(line: str, tag: str) -> str:
    escaped = escape_line(line)
    return f"<{tag}>{escaped}</{tag}>" if tag and escaped else escaped  # dot rejects an empty element


def _wrap_label(label: str) -> list[str]:
    return textwrap.wrap(label, MAX_LABEL_WIDTH, max_lines=MAX_LABEL_LINES, placeholder=" …") or [""]


def escape_line(line: str) -> str:
    """Return a line with entities, tags and backslashes escaped for dot."""
    escaped = printable(line).replace("&", "&amp;").replace("\\", "\\\\")
    return escaped.replace("<", "&lt;").replace(">", "&gt;")


# ---- the anchors of frames


class PointPosition(enum.Enum):
    TOP = "top"
    BOTTOM = "bottom"
    MIDDLE = "empty"


class InvisiblePoint(NamedTuple):
    scheduler: BaseScheduler
    position: PointPosition


Anchor: TypeAlias = AnyJob | InvisiblePoint

MAX_ANCHORS: Final = 4
"""The maximum number of anchors at a border. If there are more boxes, a single point replaces them.

Thus, an edge between two frames becomes at most 16 edges in dot, all but one of them invisible.
"""


class FrameBorders:
    """The top borders of all frames, or all their bottom borders, each with the boxes next to it and its anchors."""

    def __init__(self, position: PointPosition, members: dict[BaseScheduler, list[AnyJob]], edges: DrawnEdges) -> None:
        """Find the anchors of the frames at which edges end (for top borders) or begin (for bottom borders)."""
        end_index = 1 if position is PointPosition.TOP else 0
        jobs_away_from_border = {ends[end_index] for ends in edges if ends[0].scheduler is ends[1].scheduler}
        self._position: Final = position
        self._jobs_at_border: Final = {
            frame: [job for job in jobs if job not in jobs_away_from_border] or jobs[:1]
            for frame, jobs in members.items()
        }
        self._anchors: Final[dict[AnyJob, list[Anchor]]] = {}
        self._replaced_boxes: Final[dict[InvisiblePoint, list[Anchor]]] = {}
        for frame in reversed(self._frames_with_anchors({ends[end_index] for ends in edges})):  # the innermost first
            self._anchors[frame] = self._find_anchors(frame)

    def get_anchors(self, job: AnyJob) -> list[Anchor]:
        """Return the anchors of a frame, of which there are at most `MAX_ANCHORS`. Any other job is its own anchor."""
        return self._anchors.get(job, [job])

    def find_points(self, frame: BaseScheduler) -> list[InvisiblePoint]:
        """Return, as a list of at most one, the invisible point that replaces the frame's boxes at this border."""
        point = InvisiblePoint(frame, self._position)
        return [point] if point in self._replaced_boxes else []

    def get_replaced_boxes(self, point: InvisiblePoint) -> list[Anchor]:
        """Return the boxes that a point replaces. They belong below a point at the top, and above one at the bottom."""
        return self._replaced_boxes.get(point, [])

    def _frames_with_anchors(self, ends: Iterable[AnyJob]) -> list[BaseScheduler]:
        """Return the frames among `ends`, and the frames in them that touch the same border, the outermost first."""
        wanted_jobs = set(ends)
        frames: list[BaseScheduler] = []
        for frame, jobs in self._jobs_at_border.items():  # the outermost frame first
            if frame in wanted_jobs:
                frames.append(frame)
                wanted_jobs.update(jobs)
        return frames

    def _find_anchors(self, frame: BaseScheduler) -> list[Anchor]:
        anchors = [anchor for job in self._jobs_at_border[frame] for anchor in self.get_anchors(job)]
        if not anchors:
            return [InvisiblePoint(frame, PointPosition.MIDDLE)]
        if len(anchors) <= MAX_ANCHORS:
            return anchors
        point = InvisiblePoint(frame, self._position)
        self._replaced_boxes[point] = anchors
        return [point]


class FrameAnchors:
    def __init__(self, drawing: Drawing) -> None:
        """Find the anchors of all frames, in O(V + E) time for V jobs and E edges."""
        self._members_by_frame: Final = _find_members(drawing)
        self._edges: Final = drawing.edges
        self._heads: Final = {head for _, head in drawing.edges}
        self._top_borders: Final = FrameBorders(PointPosition.TOP, self._members_by_frame, drawing.edges)
        self._bottom_borders: Final = FrameBorders(PointPosition.BOTTOM, self._members_by_frame, drawing.edges)

    def choose_edge_anchors(self, tail: AnyJob, head: AnyJob) -> tuple[Anchor, Anchor]:
        """Return the two anchors that a visible edge connects: the middle anchors of its tail and of its head."""
        tails, heads = self._bottom_borders.get_anchors(tail), self._top_borders.get_anchors(head)
        return tails[len(tails) // 2], heads[len(heads) // 2]

    def invisible_edges(self, tail: AnyJob, head: AnyJob) -> list[tuple[Anchor, Anchor]]:
        """Return the invisible edges that accompany a visible edge. They connect all other pairs of anchors."""
        visible_edge = self.choose_edge_anchors(tail, head)
        pairs = itertools.product(self._bottom_borders.get_anchors(tail), self._top_borders.get_anchors(head))
        return [ends for ends in pairs if ends != visible_edge]

    def first_rank_boxes(self, frame: BaseScheduler) -> list[AnyJob]:
        """Return the boxes in a frame at which no edge ends, because dot may place all of them in the first rank."""
        members = self._members_by_frame
        return [job for job in members[frame] if job not in self._heads and job not in members]

    def lonely_boxes(self) -> list[list[AnyJob]]:
        """Return the boxes without edges, those of each frame and those outside of all frames."""
        ends = {job for edge in self._edges for job in edge}
        return [
            [job for job in jobs if job not in ends and job not in self._members_by_frame]
            for jobs in self._members_by_frame.values()
        ]

    def find_points(self, frame: BaseScheduler) -> list[InvisiblePoint]:
        """Return the points in a frame. An empty frame has a point, because dot draws no frame without content."""
        if not self._members_by_frame[frame]:
            return [InvisiblePoint(frame, PointPosition.MIDDLE)]
        return [*self._top_borders.find_points(frame), *self._bottom_borders.find_points(frame)]

    def alignment_edges(self, point: InvisiblePoint) -> list[tuple[Anchor, Anchor]]:
        """Return the invisible edges that keep a point above or below the boxes that it replaces."""
        below, above = (borders.get_replaced_boxes(point) for borders in (self._top_borders, self._bottom_borders))
        return [*((point, box) for box in below), *((box, point) for box in above)]


def _find_members(drawing: Drawing) -> dict[BaseScheduler, list[AnyJob]]:
    """Return the jobs that are drawn directly in each frame, and those in no frame. Enclosing frames come first."""
    members: dict[BaseScheduler, list[AnyJob]] = {drawing.scheduler: []}
    for row in drawing.drawn_rows():
        if isinstance(row, EndRow):
            continue
        enclosing_scheduler = row.job.scheduler
        if enclosing_scheduler in members:
            members[enclosing_scheduler].append(row.job)
        if isinstance(row, BeginRow):
            members[row.job] = []
    return members
