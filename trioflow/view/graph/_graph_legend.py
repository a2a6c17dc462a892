"""The legend of a drawing: the meaning of its colours, shapes and lines."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from ..._core.api.views import AnyJob, JobState, box_of, is_scheduler
from .._state_styles import STATE_STYLES
from ..text._listing import End
from . import _dot, _style
from ._drawing import Drawing, DrawnAs, LineKind

if TYPE_CHECKING:
    from graphviz import Digraph

FRAME: Final[_dot.Attributes] = {
    "label": "<<b>Legend</b>>",
    "labeljust": "l",
    "style": "rounded",
    "color": _dot.FAINT,
    "margin": "10",
}
PLAIN: Final = _dot.colour_attributes(STATE_STYLES[JobState.IDLE].light)
WORDS: Final = {
    LineKind.ORDER: "requires",
    LineKind.DATA: "result is an argument",
    LineKind.DETOUR: "by way of jobs left out",
}


def add(drawing: Drawing, graph: Digraph) -> None:
    """Add to a graph a frame with samples in three columns: states, kinds and marks, lines."""
    graph.body.append('\tsubgraph "cluster legend" {\n')
    graph.attr("graph", **FRAME)
    for column, samples in {"state": states(drawing), "kind": [*kinds(drawing), *marks(drawing)]}.items():
        _add_stack(graph, [_add_box(graph, f"legend {column} {n}", sample) for n, sample in enumerate(samples)])
    _add_stack(graph, [_add_arrow(graph, f"legend line {n}", sample) for n, sample in enumerate(lines(drawing))])
    graph.body.append("\t}\n")


def _add_box(graph: Digraph, name: str, sample: _dot.Attributes) -> str:
    graph.node(name, **sample)
    return name


def _add_arrow(graph: Digraph, name: str, sample: _dot.Attributes) -> str:
    """Add an arrow with its label to the right, and return the name of the label's node."""
    words = {"label": sample.pop("label"), "shape": "plaintext", "style": "", "margin": "0.14,0"}
    graph.body.append("\t{ rank=same\n")
    graph.node(f"{name} from", **_dot.INVISIBLE)
    graph.node(name, **words)
    graph.edge(f"{name} from", name, label=" " * 10, **sample)
    graph.body.append("\t}\n")
    return name


def _add_stack(graph: Digraph, names: list[str]) -> None:
    for above, below in itertools.pairwise(names):
        graph.edge(above, below, style="invis")


def _drawn_jobs(drawing: Drawing) -> list[AnyJob]:
    jobs = (item.job for item in drawing.items() if not isinstance(item, End))
    return [job for job in jobs if drawing.role(job) is not DrawnAs.JUNCTION]


def states(drawing: Drawing) -> Iterator[_dot.Attributes]:
    """Yield the attributes of a sample box for each state in a drawing, unless no job has run."""
    occurring = {_style.shown_state(drawing.jobs_drawn_as(job)) for job in _drawn_jobs(drawing)}
    for state in JobState:
        if state in occurring and occurring != {JobState.IDLE}:
            symbol = STATE_STYLES[state].box_symbol
            yield {"label": f"{symbol} {state.value}".strip(), **_dot.colour_attributes(STATE_STYLES[state].light)}


def kinds(drawing: Drawing) -> Iterator[_dot.Attributes]:
    """Yield the attributes of a sample box for each kind of job in a drawing, unless there is only one kind."""
    jobs = _drawn_jobs(drawing)
    examples = {box_of(job): job for job in jobs if not is_scheduler(job) or drawing.role(job) is DrawnAs.FOLDED}
    for box in sorted(examples, key=lambda box: (box.place, box.name)) if len(examples) > 1 else ():
        yield {"label": box.name, **PLAIN, **_dot.shape_attributes(examples[box])}


def marks(drawing: Drawing) -> Iterator[_dot.Attributes]:
    """Yield the attributes of a sample box for each other mark in a drawing, such as that of critical jobs."""
    jobs = _drawn_jobs(drawing)
    if any(job.is_critical() for job in jobs):
        yield {"label": "! critical", **PLAIN, "penwidth": "2.6"}
    if any(job.forever for job in jobs):
        yield {"label": "forever", **PLAIN, "style": "rounded,filled,dashed"}
    if any(len(drawing.jobs_drawn_as(job)) > 1 for job in jobs):
        yield {"label": "several alike", **PLAIN, **_dot.STACK}
    if drawing.outside_jobs():
        yield {"label": "? elsewhere", **_dot.OUTSIDE}


def lines(drawing: Drawing) -> Iterator[_dot.Attributes]:
    """Yield the attributes of a sample line for each kind of line in a drawing."""
    occurring = set(drawing.lines.values())
    for line, words in WORDS.items():
        if line in occurring:
            yield {"label": words, **_dot.LINES[line]}
    if drawing.critical_lines & {*drawing.lines}:
        yield {"label": "critical path", **_dot.CRITICAL_PATH_LINE}
    if any(head.run_if == "failed" for _, head in drawing.lines):
        yield {"label": "if that failed", **_dot.WHEN_FAILED}
