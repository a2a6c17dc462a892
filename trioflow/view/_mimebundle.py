"""The MIME bundle that Jupyter shows for a scheduler or a job that is the value of a cell.

The picture is an SVG if `dot` is installed, and otherwise a Mermaid flowchart, which JupyterLab draws itself from
version 4.1 on. A front end that can show neither shows the plain text.
"""

from __future__ import annotations

from typing import Any, Final

from .._core.api.views import AbstractJob, AnyJob, BaseScheduler, is_scheduler
from . import _exports
from .text import _symbols
from .text._listing import Listing

Bundle = dict[str, str]

MANY: Final = 200
"""Number of jobs above which jobs that are alike share a box."""
TOO_MANY: Final = 400
"""Number of boxes and arrows above which nothing is drawn: `dot` might take long, for an unreadable picture."""
LINES: Final = 100
"""Number of jobs above which the listing is not shown."""


def of_scheduler(scheduler: BaseScheduler) -> Bundle:
    """Return the scheduler's graph, and its listing as text."""
    many = _number(scheduler) > MANY
    text = repr(scheduler) if _number(scheduler) > LINES else Listing(scheduler, _symbols.Symbols()).text()
    return {"text/plain": text or repr(scheduler), **_picture(scheduler, bundle=many)}


def of_job(job: AnyJob) -> Bundle:
    """Return a picture of the job with what it requires and what requires it, and its repr as text."""
    bundle = {"text/plain": repr(job)}
    if is_scheduler(job.scheduler):
        near = [
            job,
            *(requirement for requirement in job.required if requirement in job.scheduler),
            *job.scheduler.successors(job),
        ]
        bundle |= _picture(job.scheduler, only=near, collapse=True, direction="LR", bundle=len(near) > MANY)
    return bundle


def _number(scheduler: BaseScheduler) -> int:
    return sum(1 for _ in scheduler.iterate_jobs())


def _picture(scheduler: BaseScheduler, **options: Any) -> Bundle:
    from .graph import _render  # here, because most programs draw nothing
    from .trace._trace import critical_path_of

    options["path"] = critical_path_of(scheduler)
    graph = _render.graph(scheduler, **options)
    if len(graph.body) > TOO_MANY:
        return {}

    def draw(way: Any) -> str:
        chosen: Any = {"direction": way} | options
        return _render.rendered(_render.graph(scheduler, **chosen), "svg", "the picture of a scheduler").decode()

    try:
        drawn = _render.adapted(_render.narrow(draw))
    except RuntimeError:
        return {"text/vnd.mermaid": _render.mermaid(scheduler, **options)}
    return _exports.bundle(drawn, "the graph of a scheduler")


def _of_itself(job: AnyJob, include: Any = None, exclude: Any = None) -> Bundle:
    """Show the job in Jupyter, with what it requires and what requires it."""
    return of_job(job)


# The engine draws nothing and knows no views, but IPython asks an object's own class.
AbstractJob._repr_mimebundle_ = _of_itself  # type: ignore[attr-defined]
