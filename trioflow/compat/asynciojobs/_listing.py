"""Listings and graphs in the format of asynciojobs, with its own symbols for the states of jobs."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .job import AbstractJob
    from .purescheduler import PureScheduler

CRITICAL, EXCEPTION, STARTED, FOREVER = "⚠★☉∞"
IDLE, SCHEDULED, RUNNING, DONE = "⚐⚑↺☓"

ASCII_SYMBOLS: Final = str.maketrans(
    {
        CRITICAL: "!",
        EXCEPTION: "*",
        STARTED: "o",
        FOREVER: "8",
        IDLE: "-",
        SCHEDULED: "w",
        RUNNING: ">",
        DONE: "x",
    }
)


def state_symbols(job: AbstractJob) -> str:
    """Return the four symbols of a job: critical, exception, state and forever. An absent symbol is a space.

    A cancelled job has the symbol for done, so that a cancelled forever job does not look like a running job.
    """
    exception = STARTED if job.is_running() else " "
    if job.raised_exception():
        exception = EXCEPTION
    if job.is_done() or job._trioflow_was_cancelled():
        state = DONE
    elif job.is_running():
        state = RUNNING
    else:
        state = SCHEDULED if job.is_scheduled() else IDLE
    critical = CRITICAL if job.is_critical() else " "
    forever = FOREVER if job.forever else " "
    return f"{critical} {exception} {state} {forever}"


def label_text(job: AbstractJob) -> str:
    """Return the label of a job, otherwise its default label, otherwise "NOLABEL"."""
    label = job.label
    if label is None:
        label = job.text_label()
    if label is None:
        return "NOLABEL"
    return str(label)


def format_result(job: AbstractJob) -> str:
    if exception := job.raised_exception():
        critical = "CRIT. EXC." if job.is_critical() else "exception"
        return f"!! {critical} => {type(exception).__name__}:{exception}!!"
    if job._trioflow_was_cancelled():
        return "[cancelled]"
    if not job.is_done():
        return "[not done]"
    return f"[[ -> {job.result()}]]"


def format_numbers(jobs: Iterable[AbstractJob]) -> str:
    """Return the sorted numbers of jobs as text. Jobs without a number are shown by their labels."""
    shown = [
        (
            job._trioflow_listing_number is None,
            job._trioflow_listing_number or f"`{label_text(job)}`",
        )
        for job in jobs
    ]
    return "{" + ", ".join(text for _, text in sorted(shown)) + "}"


def listing_lines(
    scheduler: PureScheduler,
    details: bool,
    silence_done_jobs: bool,
    *,
    is_valid: bool = True,
) -> Iterator[str]:
    """Yield the lines of a listing. All jobs must have numbers, from `assign_numbers` with the same `is_valid`."""
    for job, depth, is_end in walk_jobs(scheduler, is_valid=is_valid):
        marks = "><"[is_end] * depth
        nested = job._trioflow_as_scheduler()
        if nested is not None and is_end:
            yield f"{job.repr_id()} --end-- {marks} {job.repr_main()} {nested.repr_exits()}"
            continue
        if silence_done_jobs and nested is None and job.is_done():
            continue
        columns = [
            job.repr_id(),
            job.repr_short(),
            marks,
            job.repr_main(),
            job.repr_result(),
            job.repr_requires(),
        ]
        line = " ".join(part for part in columns if part)
        if nested is not None:
            yield f"{line} -> {nested.repr_entries()}"
        else:
            yield line
        if details:
            details_text = job.details()
            if details_text is not None:
                yield details_text


def walk_jobs(
    scheduler: PureScheduler,
    jobs: Iterable[AbstractJob] | None = None,
    *,
    is_valid: bool = True,
) -> Iterator[tuple[AbstractJob, int, bool]]:
    """Yield (job, depth, False) for each job in topological order.

    After the jobs of a nested scheduler, yield (scheduler, depth, True).

    Args:
        scheduler: the scheduler.
        jobs: the direct members of the scheduler in topological order, or None to compute the order.
        is_valid: whether there is such an order. Otherwise, take the order of creation.

    """

    def members(scheduler: PureScheduler) -> Iterator[AbstractJob]:
        if is_valid:
            return scheduler.topological_order()
        return iter(scheduler)

    if jobs is None:
        jobs = members(scheduler)
    stack: list[tuple[Iterator[AbstractJob], AbstractJob | None]] = [(iter(jobs), None)]
    while stack:
        jobs, outer = stack[-1]
        if (job := next(jobs, None)) is None:
            stack.pop()
            if outer is not None:
                yield outer, len(stack), True
            continue
        nested = job._trioflow_as_scheduler()
        yield job, len(stack) - 1, False
        if nested is not None:
            stack.append((members(nested), job))


def assign_numbers(
    scheduler: PureScheduler,
    jobs: Iterable[AbstractJob] | None = None,
    *,
    is_valid: bool = True,
) -> None:
    """Number all jobs in topological order. The jobs of a nested scheduler come directly after that scheduler.

    Args:
        scheduler: the scheduler.
        jobs: the direct members of the scheduler in topological order, or None to compute the order.
        is_valid: whether there is such an order. Otherwise, take the order of creation.

    Raises:
        Exception: requirements form a cycle, or are not in the same scheduler.

    """
    all_jobs = [
        job
        for job, _, is_end in walk_jobs(scheduler, jobs, is_valid=is_valid)
        if not is_end
    ]
    width = len(str(len(all_jobs)))
    for number, job in enumerate(all_jobs, 1):
        job._trioflow_listing_number = f"{number:0{width}d}"


def print_lines(lines: Iterable[str]) -> None:
    """Print lines, replacing symbols that standard output cannot encode."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    for line in lines:
        shown = line
        try:
            line.encode(encoding)
        except UnicodeEncodeError:
            plain = line.translate(ASCII_SYMBOLS)
            shown = plain.encode(encoding, "backslashreplace").decode(encoding)
        print(shown)


def default_dot_style(job: AbstractJob) -> dict[str, str]:
    if (label := job.graph_label()) is None:
        label = f"{job.repr_id()}: {label_text(job)}"
    nested = job._trioflow_as_scheduler() is not None
    style = ([] if nested else ["rounded"]) + (["dashed"] if job.forever else [])
    if job.is_critical():
        critical = {"color": "red", "penwidth": "2"}
    else:
        critical = {"penwidth": "0.5"}
    return {"style": ",".join(style), "label": label, "shape": "box", **critical}


def dot_source(scheduler: PureScheduler) -> str:
    """Assign numbers to all jobs, and return the graph as the text of a dot file.

    Raises:
        Exception: the requirements form a cycle, or a job requires a job of another scheduler.

    """
    assign_numbers(scheduler)
    return (
        "\n".join(
            ["digraph asynciojobs {", "compound=true;", *_body_lines(scheduler), "}"]
        )
        + "\n"
    )


def _body_lines(scheduler: PureScheduler) -> Iterator[str]:
    """Yield the statements for nodes and frames, then those for edges."""
    edges: list[str] = []
    for job, _, is_end in walk_jobs(scheduler):
        nested: Any = job._trioflow_as_scheduler()
        if is_end:
            yield "}"
            continue
        if nested is None:
            yield f"{job.repr_id()} [{_attributes(job)}];"
        else:
            yield f"subgraph {nested.dot_cluster_name()} {{"
            yield f"graph [{_attributes(job)}];"
            if not nested.jobs:
                # dot draws no frame without content, and edges could not end at it.
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
        if frames:
            yield f"{tail} -> {head} [{frames}];"
        else:
            yield f"{tail} -> {head};"


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
        if is_head:
            candidates = list(inner.entry_jobs())
        else:
            candidates = list(inner.exit_jobs(discard_forever=False))
        job = candidates[len(candidates) // 2]
        inner = job._trioflow_as_scheduler()
    return job.repr_id(), f"{clip_attribute}={nested.dot_cluster_name()}"


def _attributes(job: AbstractJob) -> str:
    return ", ".join(
        f"{name}={_quote(str(value))}" for name, value in job.dot_style().items()
    )


def _quote(text: str) -> str:
    # Keeps \n, \l and \r, the line breaks of Graphviz: https://graphviz.org/docs/attr-types/escString/.
    text = re.sub(r"\\(?![nlr])", r"\\\\", text)
    return '"' + text.replace('"', r"\"").replace("\n", r"\n") + '"'
