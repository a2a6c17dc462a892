"""The graph of a scheduler in the language of Graphviz, with the styles that its jobs define."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from . import _listing

if TYPE_CHECKING:
    from .job import AbstractJob
    from .purescheduler import PureScheduler


def style_of_job(job: AbstractJob) -> dict[str, str]:
    """Return the default attributes of a job's box, or of a nested scheduler's frame."""
    label = job.graph_label()
    if label is None:
        shown = job.label if job.label is not None else job.text_label() or "NOLABEL"
        label = f"{job.repr_id()}: {shown}"
    nested = job._trioflow_nested() is not None
    style = ([] if nested else ["rounded"]) + (["dashed"] if job.forever else [])
    critical = {"color": "red", "penwidth": "2"} if job.is_critical() else {"penwidth": "0.5"}
    return {"style": ",".join(style), "label": label, "shape": "box", **critical}


def dot_source(scheduler: PureScheduler) -> str:
    """Assign numbers to all jobs, and return the graph as the text of a dot file.

    Raises:
        Exception: requirements form a cycle, or lead out of a scheduler.

    """
    _listing.assign_numbers(scheduler)
    return "\n".join(["digraph asynciojobs {", "compound=true;", *_body_lines(scheduler), "}"]) + "\n"


def _body_lines(scheduler: PureScheduler) -> Iterator[str]:
    """Yield the statements for nodes and frames, then those for edges."""
    edges: list[str] = []
    for job, _, is_end in _listing.walk(scheduler):
        nested: Any = job._trioflow_nested()
        if is_end:
            yield "}"
            continue
        if nested is None:
            yield f"{job.repr_id()} [{_attributes(job)}];"
        else:
            yield f"subgraph {nested.dot_cluster_name()} {{"
            yield f"graph [{_attributes(job)}];"
            if not nested.jobs:  # dot does not draw a frame without content, so lines could not end there
                yield f'{job.repr_id()} [style=invis, label=""];'
        edges += _edge_lines(job)
    yield from edges


def _edge_lines(job: AbstractJob) -> Iterator[str]:
    """Yield statements for the edges from a job's requirements; edges of a scheduler end at its frame."""
    head, at_head = _node(job, "lhead", first=True)
    for required in sorted(job.required, key=lambda requirement: requirement.repr_id()):
        tail, at_tail = _node(required, "ltail", first=False)
        frames = ", ".join(filter(None, (at_head, at_tail)))
        yield f"{tail} -> {head} [{frames}];" if frames else f"{tail} -> {head};"


def _node(job: Any, frame: str, first: bool) -> tuple[str, str]:
    """Return the node where an edge begins or ends, and the attribute that clips it at a frame, or ""."""
    nested: Any = job._trioflow_nested()
    if nested is None:
        return job.repr_id(), ""
    inner = nested
    while inner is not None and inner.jobs:
        ends = list(inner.entry_jobs() if first else inner.exit_jobs(discard_forever=False))
        box = ends[len(ends) // 2]
        inner = box._trioflow_nested()
        if inner is None or not inner.jobs:
            return box.repr_id(), f"{frame}={nested.dot_cluster_name()}"
    return job.repr_id(), f"{frame}={nested.dot_cluster_name()}"


def _attributes(job: AbstractJob) -> str:
    return ", ".join(f"{name}={_quote(str(value))}" for name, value in job.dot_style().items())


def _quote(text: str) -> str:
    text = re.sub(r"\\(?![nlr])", r"\\\\", text)  # keeps \n, \l and \r, the line breaks of Graphviz
    return '"' + text.replace('"', r"\"").replace("\n", r"\n") + '"'
