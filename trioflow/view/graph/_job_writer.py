"""The drawing of jobs as statements for `dot`: the attributes of their boxes, frames and edges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from ..._core.base._text_forms import fit
from ..._core.job._job import AnyJob
from ..._core.job._labels import printable
from ..._core.words._job_queries import box_of, criticality
from .._state_styles import STATE_STYLES, TEXT_COLOR, BoxColors
from ._arrangement import DotWriter
from ._dot import NODE_DEFAULTS, DotAttributes, Statement, digraph_of
from ._drawing import (
    CRITICAL_PATH_COLOR,
    IF_SETTLED,
    INPUT_COLOR,
    LINE_COLOR,
    Direction,
    Drawing,
    EdgeKind,
    box_colors,
    caption,
    shown_state,
)

if TYPE_CHECKING:
    from graphviz import Digraph


def make_digraph(drawing: Drawing, direction: Direction) -> Digraph:
    """Convert a drawing to a `graphviz.Digraph`, in O(V + E) time for V jobs and E edges."""
    return digraph_of(describe(drawing, direction), direction)


def describe(drawing: Drawing, direction: Direction) -> tuple[Statement, ...]:
    """Return a drawing as data."""
    return tuple(JobWriter(drawing, direction).statements())


class JobWriter(DotWriter[AnyJob]):
    """A writer of the jobs of a drawing, with their states."""

    def __init__(self, drawing: Drawing, direction: Direction) -> None:
        outside = {job: f"?{number}" for number, job in enumerate(drawing.outside_jobs(), 1)}
        super().__init__(drawing.job_numbers | outside, drawing.find_members(), drawing.edges, direction)
        self._drawing: Final = drawing

    def box(self, key: AnyJob) -> Statement:
        if key not in self._drawing.job_numbers:
            label = printable(f"? {key.label}")
            return Statement("node", (self.names[key],), OUTSIDE_BOX, label, tooltip=tooltip_text(key, key.path))
        attributes = job_attributes(key)
        if key in self._drawing.critical_path_jobs:
            attributes |= CRITICAL_PATH_BOX
            if attributes.get("shape") == "cylinder":
                attributes |= LOW_LABEL
        label, remarks = caption(key)
        tooltip = tooltip_text(key, self._drawing.paths[key])
        return Statement("node", (self.names[key],), attributes, label, tuple(remarks), tooltip)

    def frame(self, key: AnyJob) -> Statement:
        label, remarks = caption(key, is_frame=True)
        attributes = {
            **FRAME_DEFAULTS,
            "fillcolor": STATE_STYLES[shown_state(key)].colors.frame,
            "color": box_colors(key).outline,
            "penwidth": "1",  # otherwise a frame inherits the width of the enclosing frame's border
            **_mark_attributes(key, FRAME_DEFAULTS),
        }
        tooltip = tooltip_text(key, self._drawing.paths[key])
        return Statement("frame", (self.frame_name(key),), attributes, label, tuple(remarks), tooltip)

    def edge(self, tail: AnyJob, head: AnyJob) -> tuple[DotAttributes, str | None]:
        kind = self._drawing.edges[tail, head]
        attributes = {**EDGE_ATTRIBUTES[kind], **(RUN_IF_FAILED_EDGE if head.run_if == "failed" else {})}
        if (tail, head) in self._drawing.critical_path_edges:
            attributes |= CRITICAL_PATH_EDGE
        return attributes, IF_SETTLED if kind is EdgeKind.SETTLED else None


EDGE_ATTRIBUTES: Final[Mapping[EdgeKind, DotAttributes]] = {
    EdgeKind.ORDER: {},
    EdgeKind.DATA: {"color": INPUT_COLOR, "penwidth": "1.8", "dir": "both", "arrowtail": "dot"},
    EdgeKind.SETTLED: {"fontsize": "9"},
}
CRITICAL_PATH_EDGE: Final[DotAttributes] = {"color": CRITICAL_PATH_COLOR, "penwidth": "2.4"}
CRITICAL_PATH_BOX: Final[DotAttributes] = {"peripheries": "2"}
LOW_LABEL: Final[DotAttributes] = {"margin": "0.14,0.12", "labelloc": "b"}
"""The label of a cylinder with two borders: the upper edge of the inner one would cross a label in the middle."""
RUN_IF_FAILED_EDGE: Final[DotAttributes] = {"style": "dashed"}
SQUARE_BOX: Final[DotAttributes] = {"style": "filled"}
OUTSIDE_BOX: Final[DotAttributes] = {
    "style": "rounded,filled,dotted",
    "fillcolor": "white",
    "color": LINE_COLOR,
    "fontcolor": "#616e7c",
}
MAX_PATH_LENGTH: Final = 1000
"""The maximum length of a path in a tooltip. A longer path loses its beginning.

With a thousand levels of nesting, complete paths would make up most of the file.
"""


def job_attributes(job: AnyJob) -> DotAttributes:
    """Return the attributes of a job's box that differ from `NODE_DEFAULTS`: its class defines the shape."""
    box = box_of(job)
    shape = {"shape": box.shape, "style": NODE_DEFAULTS["style"] if box.rounded else SQUARE_BOX["style"]}
    shape = {name: value for name, value in shape.items() if value != NODE_DEFAULTS[name]}
    return {**color_attributes(box_colors(job)), **shape, **_mark_attributes(job, shape)}


def color_attributes(colors: BoxColors) -> DotAttributes:
    return {"fillcolor": colors.fill, "color": colors.outline, "fontcolor": colors.text}


FRAME_DEFAULTS: Final[DotAttributes] = {
    "style": "rounded,filled",
    "labeljust": "l",
    "margin": "10",
    "fontcolor": TEXT_COLOR,
}


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
    return f"{type(job).__name__}: {fit(path, MAX_PATH_LENGTH, 'end')} ({shown_state(job).value})"
