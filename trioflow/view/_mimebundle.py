"""The MIME bundle that Jupyter shows when the value of a cell is a scheduler.

The picture is an SVG if the package graphviz and the program `dot` are installed, and otherwise a Mermaid flowchart,
which JupyterLab 4.1 and later can draw. A front end that supports neither format shows the plain text.
"""

from __future__ import annotations

from typing import Any, Final

from .._core.api.views import BaseScheduler
from . import _exports
from .text import _symbols
from .text._listing import Listing

MimeBundle = dict[str, str]
"""The representations of one object in a notebook, by MIME type."""

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
        **(_picture_bundle(scheduler) if job_count else {}),
    }


def _picture_bundle(scheduler: BaseScheduler) -> MimeBundle:
    from .graph import _render  # imported here, because most programs draw nothing
    from .trace._trace import find_critical_path

    critical_path = find_critical_path(scheduler)
    mermaid = _render.mermaid(scheduler, critical_path)
    if mermaid.count("\n") > MAX_GRAPH_ELEMENTS:
        return {}

    def draw_svg(direction: Any) -> str:
        digraph = _render.graph(scheduler, critical_path, direction)
        return _render.render(digraph, "svg", "the picture of a scheduler").decode()

    try:
        svg = _render.svg_in_best_direction(draw_svg)
    except (ModuleNotFoundError, RuntimeError):
        return {"text/vnd.mermaid": mermaid}
    return _exports.svg_bundle(svg, "the graph of a scheduler")
