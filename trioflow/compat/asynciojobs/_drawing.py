"""The graph of a scheduler in Graphviz's DOT language, with the styles that its jobs define."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from . import _listing

if TYPE_CHECKING:
    from .job import AbstractJob
    from .purescheduler import PureScheduler


def default_dot_style(job: AbstractJob) -> dict[str, str]:
    label = job.graph_label()
    if label is None:
        label_text = job.label if job.label is not None else job.text_label() or "NOLABEL"
        label = f"{job.repr_id()}: {label_text}"
    nested = job._trioflow_as_scheduler() is not None
    style = ([] if nested else ["rounded"]) + (["dashed"] if job.forever else [])
    critical = {"color": "red", "penwidth": "2"} if job.is_critical() else {"penwidth": "0.5"}
    return {"style": ",".join(style), "label": label, "shape": "box", **critical}


def dot_source(scheduler: PureScheduler) -> str:
    """Assign numbers to all jobs, and return the graph as the text of a dot file.

    Raises:
        Exception: the requirements form a cycle, or a job requires a job of another scheduler.

    """
    _listing.assign_numbers(scheduler)
    return "\n".join(["digraph asynciojobs {", "compound=true;", *_body_lines(scheduler), "}"]) + "\n"


def _body_lines(scheduler: PureScheduler) -> Iterator[str]:
    """Yield the statements for nodes and frames, then those for edges."""
    edges: list[str] = []
    for job, _, is_end in _listing.walk_jobs(scheduler):
        nested: Any = job._trioflow_as_scheduler()
        if is_end:
            yield "}"
            continue
        if nested is None:
            yield f"{job.repr_id()} [{_attributes(job)}];"
        else:
            yield f"subgraph {nested.dot_cluster_name()} {{"
            yield f"graph [{_attributes(job)}];"
            if not nested.jobs:  # dot draws no frame without content, and edges could not end at it
                yield f'{job.repr_id()} [style=invis, label=""];'
        edges += _edge_lines(job)
    yield from edges


def _edge_lines(job: AbstractJob) -> Iterator[str]:
    """Yield statements for the edges from a job's requirements to the job.

    An edge from or to a nested scheduler ends at the scheduler's frame.
    """
    head, head_clip = _edge_end(job, "lhead", is_head=True)
    for required in sorted(job.required, key=lambda requirement: requirement.repr_id()):
        tail, tail_clip = _edge_end(required, "ltail", is_head=False)
        frames = ", ".join(filter(None, (head_clip, tail_clip)))
        yield f"{tail} -> {head} [{frames}];" if frames else f"{tail} -> {head};"


def _edge_end(job: Any, clip_attribute: str, is_head: bool) -> tuple[str, str]:
    """Return the node where an edge begins or ends, and the attribute that clips the edge at a frame.

    The attribute is "" for a job that is not a scheduler.

    Args:
        job: the job at this end of the edge.
        clip_attribute: the name of the attribute: "lhead" or "ltail".
        is_head: whether the edge ends here.

    """
    nested: Any = job._trioflow_as_scheduler()
    if nested is None:
        return job.repr_id(), ""
    inner = nested
    while inner is not None and inner.jobs:
        candidates = list(inner.entry_jobs() if is_head else inner.exit_jobs(discard_forever=False))
        end_job = candidates[len(candidates) // 2]
        inner = end_job._trioflow_as_scheduler()
        if inner is None or not inner.jobs:
            return end_job.repr_id(), f"{clip_attribute}={nested.dot_cluster_name()}"
    return job.repr_id(), f"{clip_attribute}={nested.dot_cluster_name()}"


def _attributes(job: AbstractJob) -> str:
    return ", ".join(f"{name}={_quote(str(value))}" for name, value in job.dot_style().items())


def _quote(text: str) -> str:
    text = re.sub(r"\\(?![nlr])", r"\\\\", text)  # keeps \n, \l and \r, the line breaks of Graphviz
    return '"' + text.replace('"', r"\"").replace("\n", r"\n") + '"'
