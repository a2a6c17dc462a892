"""What Jupyter shows of a scheduler or a job that is the value of a cell, in all the formats that it may choose from.

The picture is an SVG if `dot` is installed; else the text of a Mermaid flowchart, which JupyterLab draws itself from
version 4.1 on. Where there is neither, the plain text is shown.
"""

from __future__ import annotations

from typing import Any, Final

from .._core._jobs import AbstractJob
from .._core._scheduler import BaseScheduler
from . import _script
from ._listing import Listing

Bundle = dict[str, str]

MANY: Final = 200
"""Jobs: of more, those that are alike are drawn as one."""
TOO_MANY: Final = 400
"""Boxes and arrows together: more are not drawn, for `dot` might take long, and nobody could read it."""
LINES: Final = 100
"""Jobs: a listing of more is not shown."""


def of_scheduler(scheduler: BaseScheduler) -> Bundle:
    """Return its graph, and its listing as text."""
    many = _number(scheduler) > MANY
    text = repr(scheduler) if _number(scheduler) > LINES else Listing(scheduler, _script.Script()).text()
    return {"text/plain": text or repr(scheduler), **_picture(scheduler, bundle=many)}


def of_job(job: AbstractJob[Any]) -> Bundle:
    """Return it among what it requires and what requires it, drawn, and its repr as text."""
    bundle = {"text/plain": repr(job)}
    if isinstance(job.scheduler, BaseScheduler):
        near = [job, *(one for one in job.required if one in job.scheduler), *job.scheduler.successors(job)]
        bundle |= _picture(job.scheduler, only=near, collapse=True, direction="LR", bundle=len(near) > MANY)
    return bundle


def _number(scheduler: BaseScheduler) -> int:
    return sum(1 for _ in scheduler.iterate_jobs())


def _picture(scheduler: BaseScheduler, **options: Any) -> Bundle:
    from . import _pictures  # late: most programs draw nothing

    graph = _pictures.graph(scheduler, **options)
    if len(graph.body) > TOO_MANY:
        return {}
    try:
        return {"image/svg+xml": _pictures.rendered(graph, "svg", "the picture of a scheduler").decode()}
    except RuntimeError:
        return {"text/vnd.mermaid": _pictures.mermaid(scheduler, **options)}


def _of_itself(job: AbstractJob[Any], include: Any = None, exclude: Any = None) -> Bundle:
    """Show itself in Jupyter: among what it requires and what requires it."""
    return of_job(job)


# The engine draws nothing and knows no view, and IPython asks an object's own class.
AbstractJob._repr_mimebundle_ = _of_itself  # type: ignore[attr-defined]
