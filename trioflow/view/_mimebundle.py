"""The MIME bundles that Jupyter shows when the value of a cell is a scheduler or a job.

The picture is an SVG if the package graphviz and the program `dot` are installed, and otherwise a Mermaid flowchart,
which JupyterLab 4.1 and later can draw. A front end that supports neither format shows the plain text.
"""

from __future__ import annotations

from typing import Any, Final

from .._core.api.views import AbstractJob, AnyJob, BaseScheduler, is_scheduler, successors
from . import _exports
from .text import _symbols
from .text._listing import Listing

MimeBundle = dict[str, str]
"""The representations of one object in a notebook, by MIME type."""

MAX_SEPARATE_BOXES: Final = 200
"""The maximum number of jobs with a box of their own. In a larger graph, similar jobs share a box."""
MAX_GRAPH_ELEMENTS: Final = 400
"""The maximum number of boxes and arrows in a picture: lines of a Mermaid flowchart.

No larger picture is drawn: it would be slow and unreadable.
"""
MAX_LISTED_JOBS: Final = 100
"""The maximum number of jobs in a listing. For more jobs, the plain text is the repr of the scheduler."""


def scheduler_bundle(scheduler: BaseScheduler) -> MimeBundle:
    """Return the MIME bundle of a scheduler: a picture of its graph, and its listing as plain text."""
    job_count = sum(1 for _ in scheduler.iterate_jobs())
    listing = "" if job_count > MAX_LISTED_JOBS else Listing(scheduler, _symbols.Symbols()).text()
    return {
        "text/plain": listing or repr(scheduler),
        **_picture_bundle(scheduler, bundle=job_count > MAX_SEPARATE_BOXES),
    }


def job_bundle(job: AnyJob) -> MimeBundle:
    """Return the MIME bundle of a job: its repr and, if it is in a scheduler, a picture of it and its neighbors."""
    bundle = {"text/plain": repr(job)}
    if is_scheduler(job.scheduler):
        neighbors = [
            job,
            *(requirement for requirement in job.required if requirement in job.scheduler),
            *successors(job.scheduler, job),
        ]
        shares_boxes = len(neighbors) > MAX_SEPARATE_BOXES
        bundle |= _picture_bundle(job.scheduler, only=neighbors, collapse=True, bundle=shares_boxes)
    return bundle


def _picture_bundle(scheduler: BaseScheduler, **options: Any) -> MimeBundle:
    from .graph import _render  # imported here, because most programs draw nothing
    from .trace._trace import find_critical_path

    critical_path = find_critical_path(scheduler)
    mermaid = _render.mermaid(scheduler, critical_path, **options)
    if mermaid.count("\n") > MAX_GRAPH_ELEMENTS:
        return {}

    def draw_svg(direction: Any) -> str:
        digraph = _render.graph(scheduler, critical_path, direction, **options)
        return _render.render(digraph, "svg", "the picture of a scheduler").decode()

    try:
        svg = _render.svg_in_best_direction(draw_svg)
    except (ModuleNotFoundError, RuntimeError):
        return {"text/vnd.mermaid": mermaid}
    return _exports.svg_bundle(svg, "the graph of a scheduler")


def _repr_mimebundle(job: AnyJob, include: Any = None, exclude: Any = None) -> MimeBundle:
    """Return the MIME bundle with which Jupyter displays the job."""
    return job_bundle(job)


# IPython looks up this method in the object's class. It is set here, because the engine must not import views.
AbstractJob._repr_mimebundle_ = _repr_mimebundle  # type: ignore[attr-defined]
