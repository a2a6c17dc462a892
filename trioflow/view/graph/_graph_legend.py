"""The legend of a drawing: the meaning of its colors, shapes and edges."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from ..._core.api.views import AnyJob, JobState, box_of, is_scheduler
from .._state_styles import STATE_STYLES
from ..text._listing import EndRow
from . import _dot, _style
from ._drawing import Drawing, DrawingRole, EdgeKind

if TYPE_CHECKING:
    from graphviz import Digraph

LEGEND_FRAME: Final[_dot.DotAttributes] = {
    "label": "<<b>Legend</b>>",
    "labeljust": "l",
    "style": "rounded",
    "color": _dot.FAINT_COLOR,
    "margin": "10",
}
PLAIN_COLORS: Final = _dot.color_attributes(STATE_STYLES[JobState.IDLE].light_colors)
"""The colors of the samples that do not stand for a state."""
EDGE_LABELS: Final = {
    EdgeKind.ORDER: "requires",
    EdgeKind.DATA: "result is an argument",
    EdgeKind.INDIRECT: "by way of jobs left out",
}


def add_legend(drawing: Drawing, graph: Digraph) -> None:
    """Add a frame to a graph, with samples in three columns: states, then kinds of jobs and other marks, then edges."""
    graph.body.append('\tsubgraph "cluster legend" {\n')
    graph.attr("graph", **LEGEND_FRAME)
    for column, samples in {
        "state": state_samples(drawing),
        "kind": [*kind_samples(drawing), *mark_samples(drawing)],
    }.items():
        _add_stack(
            graph, [_add_box(graph, f"legend {column} {number}", sample) for number, sample in enumerate(samples)]
        )
    _add_stack(
        graph,
        [_add_arrow(graph, f"legend line {number}", sample) for number, sample in enumerate(edge_samples(drawing))],
    )
    graph.body.append("\t}\n")


def _add_box(graph: Digraph, name: str, sample: _dot.DotAttributes) -> str:
    graph.node(name, **sample)
    return name


def _add_arrow(graph: Digraph, name: str, sample: _dot.DotAttributes) -> str:
    """Add an arrow with its label to the right, and return the name of the label's node."""
    label_attributes = {"label": sample.pop("label"), "shape": "plaintext", "style": "", "margin": "0.14,0"}
    graph.body.append("\t{ rank=same\n")
    graph.node(f"{name} from", **_dot.INVISIBLE_POINT)
    graph.node(name, **label_attributes)
    graph.edge(f"{name} from", name, label=" " * 10, **sample)
    graph.body.append("\t}\n")
    return name


def _add_stack(graph: Digraph, names: list[str]) -> None:
    """Connect nodes by invisible edges, to make dot place them in one column."""
    for above, below in itertools.pairwise(names):
        graph.edge(above, below, style="invis")


def _drawn_jobs(drawing: Drawing) -> list[AnyJob]:
    jobs = (row.job for row in drawing.drawn_rows() if not isinstance(row, EndRow))
    return [job for job in jobs if drawing.get_role(job) is not DrawingRole.JUNCTION]


def state_samples(drawing: Drawing) -> Iterator[_dot.DotAttributes]:
    """Yield the attributes of a sample box for each state in a drawing. If all jobs are IDLE, yield nothing."""
    drawn_states = {_style.shown_state(drawing.jobs_drawn_as(job)) for job in _drawn_jobs(drawing)}
    for state in STATE_STYLES:
        if state in drawn_states and drawn_states != {JobState.IDLE}:
            symbol = STATE_STYLES[state].box_symbol
            yield {
                "label": f"{symbol} {state.value}".strip(),
                **_dot.color_attributes(STATE_STYLES[state].light_colors),
            }


def kind_samples(drawing: Drawing) -> Iterator[_dot.DotAttributes]:
    """Yield the attributes of a sample box for each kind of job in a drawing. If there is only one, yield nothing."""
    jobs = _drawn_jobs(drawing)
    examples = {
        box_of(job): job for job in jobs if not is_scheduler(job) or drawing.get_role(job) is DrawingRole.FOLDED
    }
    for box in sorted(examples, key=lambda box: (box.place, box.name)) if len(examples) > 1 else ():
        yield {"label": box.name, **PLAIN_COLORS, **_dot.shape_attributes(examples[box])}


def mark_samples(drawing: Drawing) -> Iterator[_dot.DotAttributes]:
    """Yield the attributes of a sample box for each further mark in a drawing, e.g. the border of critical jobs."""
    jobs = _drawn_jobs(drawing)
    if any(job.is_critical() for job in jobs):
        yield {"label": "! critical", **PLAIN_COLORS, "penwidth": "2.6"}
    if any(job.forever for job in jobs):
        yield {"label": "forever", **PLAIN_COLORS, "style": "rounded,filled,dashed"}
    if any(len(drawing.jobs_drawn_as(job)) > 1 for job in jobs):
        yield {"label": "several alike", **PLAIN_COLORS, **_dot.BUNDLE_BOX}
    if drawing.outside_jobs():
        yield {"label": "? elsewhere", **_dot.OUTSIDE_BOX}


def edge_samples(drawing: Drawing) -> Iterator[_dot.DotAttributes]:
    """Yield the attributes of a sample edge for each kind of edge in a drawing."""
    drawn_kinds = set(drawing.edges.values())
    for kind, label in EDGE_LABELS.items():
        if kind in drawn_kinds:
            yield {"label": label, **_dot.EDGE_ATTRIBUTES[kind]}
    if drawing.critical_path_edges & {*drawing.edges}:
        yield {"label": "critical path", **_dot.CRITICAL_PATH_EDGE}
    if any(head.run_if == "failed" for _, head in drawing.edges):
        yield {"label": "if that failed", **_dot.RUN_IF_FAILED_EDGE}
