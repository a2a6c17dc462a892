"""`digraph`: a drawing in the language of Graphviz.

A line to a nested scheduler ends at the border of its frame. dot knows lines between boxes only, which it can cut off
at a frame (`lhead`, `ltail`): the module `_anchors` says which boxes. Between all others of them there are invisible
lines, so that whatever requires a nested scheduler stands below all of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from .._core._jobs import AbstractJob
from .._core._scheduler import BaseScheduler
from . import _attributes, _legend
from ._anchors import Anchor, Anchors, Place, Point
from ._drawing import Close, Drawing, Line, Open, Part
from ._looks import Direction

if TYPE_CHECKING:
    from graphviz import Digraph

AnyJob = AbstractJob[Any]


def digraph(drawing: Drawing, direction: Direction, legend: bool) -> Digraph:
    """Return the drawing as `graphviz.Digraph`. O(V + E)."""
    from graphviz import Digraph

    graph = Digraph(
        graph_attr={**_attributes.GRAPH, "rankdir": direction},
        node_attr=_attributes.NODE,
        edge_attr=_attributes.EDGE,
    )
    Writer(drawing, graph).write()
    if legend:
        _legend.add(drawing, graph)
    return graph


class Writer:
    """Writes a drawing into a `Digraph`, statement by statement: its `subgraph` would copy each level once more."""

    def __init__(self, drawing: Drawing, graph: Digraph) -> None:
        """Prepare; the graph is still empty."""
        self._drawing: Final = drawing
        self._graph: Final = graph
        self._names: Final = {**drawing.numbers, **{job: f"?{n}" for n, job in enumerate(drawing.outside(), 1)}}
        self._anchors: Final = Anchors(drawing)
        self._ties: Final[list[tuple[Anchor, Anchor]]] = []  # written last: a line would put a box where it is written

    def write(self) -> None:
        """Write all of it."""
        for item in self._drawing.items():
            if isinstance(item, Close):
                self._graph.body.append("\t}\n")
            elif isinstance(item, Open):
                self._open(item.job)
            else:
                self._node(item.job)
        for job in self._drawing.outside():
            self._graph.node(self._names[job], **_attributes.of_outside(job))
        for (tail, head), line in self._drawing.lines.items():
            self._line(tail, head, line)
        for start, end in self._ties:
            self._graph.edge(self._name(start), self._name(end), style="invis")

    def _open(self, scheduler: BaseScheduler) -> None:
        self._graph.body.append(f'\tsubgraph "{self._frame(scheduler)}" {{\n')
        self._graph.attr("graph", **_attributes.of_frame(scheduler, self._drawing.paths[scheduler]))
        for point in self._anchors.points(scheduler):
            look = _attributes.EMPTY if point.place is Place.MIDDLE else _attributes.INVISIBLE
            self._graph.node(self._name(point), **look)
            self._ties.extend(self._anchors.ties(point))

    def _node(self, job: AnyJob) -> None:
        jobs, path = self._drawing.jobs_behind(job), self._drawing.paths[job]
        if self._drawing.part(job) is Part.JUNCTION:
            self._graph.node(self._names[job], **_attributes.POINT, tooltip=_attributes.tooltip(jobs, path))
        else:
            self._graph.node(self._names[job], **_attributes.of_jobs(jobs, path))

    def _line(self, tail: AnyJob, head: AnyJob, line: Line) -> None:
        attributes = {**_attributes.LINES[line], **(_attributes.WHEN_FAILED if head.run_if == "failed" else {})}
        if self._drawing.part(head) is Part.JUNCTION:
            attributes["arrowhead"] = "none"
        start, end = self._anchors.of_line(tail, head)
        if start is not tail:
            attributes["ltail"] = self._frame(tail)
        if end is not head:
            attributes["lhead"] = self._frame(head)
        self._graph.edge(self._name(start), self._name(end), **attributes)
        self._ties.extend(self._anchors.other_ties(tail, head))

    def _frame(self, scheduler: AnyJob) -> str:
        return f"cluster {self._names[scheduler]}"

    def _name(self, anchor: Anchor) -> str:
        if isinstance(anchor, Point):
            return f"{self._names[anchor.scheduler]} {anchor.place.value}"
        return self._names[anchor]
