"""The MIME bundles that Jupyter shows when the value of a cell is a scheduler or a job.

The picture is an SVG if `dot` is installed, and otherwise a Mermaid flowchart, which JupyterLab 4.1 and later draws. A
front end that supports neither shows the plain text.
"""

from __future__ import annotations

from typing import Any, Final

from .._core.api.views import AbstractJob, AnyJob, BaseScheduler, is_scheduler
from . import _exports
from .text import _symbols
from .text._listing import Listing

Bundle = dict[str, str]

MAX_SEPARATE_BOXES: Final = 200
"""The number of jobs above which similar jobs share a box."""
MAX_ELEMENTS: Final = 400
"""Number of boxes and arrows above which no picture is drawn: `dot` would take long, and the result be unreadable."""
MAX_LISTED_JOBS: Final = 100
"""The number of jobs above which the text is the repr instead of the listing."""


def scheduler_bundle(scheduler: BaseScheduler) -> Bundle:
    """Return a picture of the scheduler's graph, and its listing as text."""
    jobs = sum(1 for _ in scheduler.iterate_jobs())
    text = "" if jobs > MAX_LISTED_JOBS else Listing(scheduler, _symbols.Symbols()).text()
    return {"text/plain": text or repr(scheduler), **_picture(scheduler, bundle=jobs > MAX_SEPARATE_BOXES)}


def job_bundle(job: AnyJob) -> Bundle:
    """Return a picture of the job, its requirements and its successors, and its repr as text."""
    bundle = {"text/plain": repr(job)}
    if is_scheduler(job.scheduler):
        neighbours = [
            job,
            *(requirement for requirement in job.required if requirement in job.scheduler),
            *job.scheduler.successors(job),
        ]
        many = len(neighbours) > MAX_SEPARATE_BOXES
        bundle |= _picture(job.scheduler, only=neighbours, collapse=True, direction="LR", bundle=many)
    return bundle


def _picture(scheduler: BaseScheduler, **options: Any) -> Bundle:
    from .graph import _render  # here, because most programs draw nothing
    from .trace._trace import find_critical_path

    options["path"] = find_critical_path(scheduler)
    graph = _render.graph(scheduler, **options)
    if len(graph.body) > MAX_ELEMENTS:
        return {}

    def draw(direction: Any) -> str:
        digraph = _render.graph(scheduler, **({"direction": direction} | options))
        return _render.render(digraph, "svg", "the picture of a scheduler").decode()

    try:
        drawn = _render.add_dark_scheme(_render.draw_narrow(draw))
    except RuntimeError:
        return {"text/vnd.mermaid": _render.mermaid(scheduler, **options)}
    return _exports.svg_bundle(drawn, "the graph of a scheduler")


def _repr_mimebundle(job: AnyJob, include: Any = None, exclude: Any = None) -> Bundle:
    """Return the MIME bundle with which Jupyter displays the job."""
    return job_bundle(job)


# The engine must not import views, but IPython looks the method up in the object's class.
AbstractJob._repr_mimebundle_ = _repr_mimebundle  # type: ignore[attr-defined]
