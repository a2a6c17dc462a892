"""The graph of a run as data: the source for `dot`, the legend, and the same graph for Mermaid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from ..._core.api.views import is_scheduler, printable, shorten
from ..graph import _graph_legend, _render
from ..graph._drawing import CriticalPath

MAX_BOXES: Final = 300
"""The maximum number of boxes in a picture. A larger picture would be unreadable, and with 1,000 boxes `dot` would take
minutes."""
SHAPES_NOTE: Final = "The shape of a box shows what kind of job it is: point at it to read more."
TOO_MANY_NOTE: Final = "There are too many jobs for a readable graph: draw parts of it with scheduler.graph()."


@dataclass(frozen=True, slots=True)
class GraphDescription:
    """The graph of a scheduler after its run."""

    source: str = ""
    """The graph for `dot`; "" if there are too many boxes."""
    mermaid: str = ""
    """The graph for Mermaid; "" if it would be unreadable."""
    boxes: tuple[dict[str, str], ...] = ()
    """The attributes of the samples of boxes in the legend."""
    edges: tuple[dict[str, str], ...] = ()
    """The attributes of the samples of arrows in the legend."""
    paths: dict[str, str] | None = None
    """The path of the job of each box or frame, by the number that the source gives it."""
    notes: tuple[str, ...] = ()
    """Remarks on the picture or, without one, the reason."""


def describe_graph(scheduler: Any, critical_path: CriticalPath) -> GraphDescription:
    """Return the graph of a scheduler in the most detailed readable form."""
    options, drawing = _render.choose_detail(scheduler, critical_path)
    if _render.count_boxes(drawing) > MAX_BOXES:
        return GraphDescription(notes=(TOO_MANY_NOTE,))
    notes = [SHAPES_NOTE] * any(_graph_legend.kind_samples(drawing))
    if drawing.bundles:
        notes.append("Jobs that are alike share a box.")
    elif "collapse" in options and any(is_scheduler(job) for job in scheduler):
        notes.append("Each group is one box.")
    return GraphDescription(
        source=str(_render.graph(scheduler, critical_path=critical_path, **options).source),
        mermaid=_render.readable_mermaid(drawing),
        boxes=(*_graph_legend.state_samples(drawing), *_graph_legend.mark_samples(drawing)),
        edges=tuple(_graph_legend.edge_samples(drawing)),
        paths={str(number): printable(shorten(drawing.paths[job])) for job, number in drawing.job_numbers.items()},
        notes=tuple(notes),
    )
