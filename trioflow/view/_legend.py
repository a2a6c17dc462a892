"""The legend of a drawing: what its colours, shapes and lines mean, of those that occur in it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from .._core._scheduler import BaseScheduler
from .._core._states import JobState
from . import _attributes, _looks
from ._attributes import Attributes
from ._drawing import Close, Drawing, Line, Part, Single

if TYPE_CHECKING:
    from graphviz import Digraph

FRAME: Final[Attributes] = {
    "label": "<<b>Legend</b>>",
    "labeljust": "l",
    "style": "rounded",
    "color": _attributes.FAINT,
    "margin": "10",
}
PLAIN: Final = _attributes.colours(_looks.LOOKS[JobState.IDLE])
KINDS: Final = {
    "Job": "async function",
    "Service": "service",
    "ThreadJob": "thread",
    "ExecutorJob": "executor",
    "ProcessJob": "process",
    "CommandJob": "command",
    "SshJob": "command on a node",
    "BaseScheduler": "nested scheduler",
}
WORDS: Final = {
    Line.ORDER: "requires",
    Line.DATA: "result is an argument",
    Line.DETOUR: "by way of jobs left out",
}


def add(drawing: Drawing, graph: Digraph) -> None:
    """Add a frame with a sample of each: states, kinds and lines, in a column each."""
    graph.body.append('\tsubgraph "cluster legend" {\n')
    graph.attr("graph", **FRAME)
    for column, samples in {"state": _states(drawing), "kind": _kinds(drawing)}.items():
        _stack(graph, [_box(graph, f"legend {column} {n}", sample) for n, sample in enumerate(samples)])
    _stack(graph, [_arrow(graph, f"legend line {n}", sample) for n, sample in enumerate(_lines(drawing))])
    graph.body.append("\t}\n")


def _box(graph: Digraph, name: str, sample: Attributes) -> str:
    graph.node(name, **sample)
    return name


def _arrow(graph: Digraph, name: str, sample: Attributes) -> str:
    """Add an arrow that points to its meaning, on one height with it."""
    words = {"label": sample.pop("label"), "shape": "plaintext", "style": "", "margin": "0.04,0"}
    graph.body.append("\t{ rank=same\n")
    graph.node(f"{name} from", **_attributes.INVISIBLE)
    graph.node(name, **words)
    graph.edge(f"{name} from", name, label=" " * 10, **sample)
    graph.body.append("\t}\n")
    return name


def _stack(graph: Digraph, names: list[str]) -> None:
    for above, below in itertools.pairwise(names):
        graph.edge(above, below, style="invis")


def _jobs(drawing: Drawing) -> Iterator[tuple[Single, bool]]:
    for item in drawing.items():
        if not isinstance(item, Close) and drawing.part(item.job) is not Part.JUNCTION:
            yield Single(item.job), len(drawing.jobs_behind(item.job)) > 1


def _states(drawing: Drawing) -> Iterator[Attributes]:
    found = {_looks.state(drawing.jobs_behind(item.job)) for item, _ in _jobs(drawing)}
    for state in JobState:
        if state in found and found != {JobState.IDLE}:
            sign = _looks.SIGNS[state]
            yield {"label": f"{sign} {state.value}".strip(), **_attributes.colours(_looks.LOOKS[state])}


def _kinds(drawing: Drawing) -> Iterator[Attributes]:
    found = {kind: single.job for single, _ in _jobs(drawing) if (kind := _kind(drawing, single))}
    for kind, words in KINDS.items():
        if kind in found and len(found) > 1:
            yield {"label": words, **PLAIN, **_attributes.shape(found[kind])}
    jobs = [single.job for single, _ in _jobs(drawing)]
    if any(job.is_critical() for job in jobs):
        yield {"label": "critical", **PLAIN, "color": _looks.CRITICAL, "penwidth": "2.6"}
    if any(job.forever for job in jobs):
        yield {"label": "forever", **PLAIN, "style": "rounded,filled,dashed"}
    if any(several for _, several in _jobs(drawing)):
        yield {"label": "several alike", **PLAIN, **_attributes.STACK}
    if drawing.outside():
        yield {"label": "? elsewhere", **_attributes.OUTSIDE}


def _kind(drawing: Drawing, single: Single) -> str:
    if isinstance(single.job, BaseScheduler) and drawing.part(single.job) is not Part.FOLDED:
        return ""
    return _looks.kind(single.job)


def _lines(drawing: Drawing) -> Iterator[Attributes]:
    found = set(drawing.lines.values())
    for line, words in WORDS.items():
        if line in found:
            yield {"label": words, **_attributes.LINES[line]}
    if any(head.run_if == "failed" for _, head in drawing.lines):
        yield {"label": "if that failed", **_attributes.WHEN_FAILED}
