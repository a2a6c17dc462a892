"""The graph in a report: the picture and its legend."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import quote
from xml.etree import ElementTree as Tree

from ...._core.api.views import is_scheduler, printable, shortened
from ...graph import _dot, _graph_legend, _render
from ...graph._drawing import CriticalPath, Drawing

LARGEST: Final = 300
"""Number of boxes above which the picture is left out: `dot` takes minutes for a thousand, and it is unreadable."""
NONE: Final = "No graph"
"""The beginning of an error that stands in place of the picture."""
SAMPLE: Final = 26
"""Pixels."""


def section(scheduler: Any, path: CriticalPath) -> str:
    """Return the graph of a scheduler with a legend, or the reason why it is missing, as HTML."""
    jobs = sum(not is_scheduler(job) for job in scheduler.iterate_jobs())
    way, drawing = _render.readable(scheduler, path)
    if _render.number_of_boxes(drawing) > LARGEST:
        return note(
            f"{jobs} jobs are too many for a graph that can be read here: see scheduler.graph() for parts of it."
        )
    try:
        drawn = _linked(_render.narrow(lambda to: _svg(scheduler.graph(**way, direction=to))), drawing)
    except RuntimeError as error:
        return note(f"{error}.")
    except OSError as error:
        return note(f"{NONE}: {error}.")
    notes = [note(SHAPES)] * any(_graph_legend.kinds(drawing))
    if drawing.bundles:
        notes.append(note(f"{jobs} jobs: those that are alike are one box."))
    elif "collapse" in way and any(is_scheduler(job) for job in scheduler):
        notes.append(note(f"{jobs} jobs: each group of them is one box."))
    picture = f'<div class="card paper scroll" tabindex="0">{drawn}</div>'
    return f'{picture}<ul class="legend">{_meanings(drawing)}</ul>{"".join(notes)}'


def _svg(digraph: Any) -> str:
    text = _render.rendered(digraph, "svg", NONE).decode("utf-8")
    return text[text.index("<svg") :].replace(_render.NO_TITLE, "", 1)


def _linked(svg: str, drawing: Drawing) -> str:
    """Make each box and frame a link to the details of its job; one for several jobs leads to the first."""
    jobs = {number: job for job, number in drawing.numbers.items()}

    def link(found: re.Match[str]) -> str:
        path = printable(shortened(drawing.paths[jobs[found["number"]]]))
        return f'{found[0]}href="#job={quote(path, safe="")}" '

    return re.sub(r'<title>(?:cluster )?(?P<number>\d+)</title>\n<g id="\w+"><a ', link, svg)


def note(text: str) -> str:
    """Return a remark on the picture, as HTML."""
    element = Tree.Element("p", {"class": "note"})
    element.text = printable(text)
    return Tree.tostring(element, encoding="unicode", method="html")


# ---- the legend

MEANINGS: Final = {
    "! critical": "critical: its failure stops the run",
    "forever": "forever: the run ends it when the others have settled",
    "several alike": "several jobs that are alike",
    "? elsewhere": "required, but not in this run",
    "requires": "the second starts when the first has settled",
    "result is an argument": "the second gets the result of the first",
    "by way of jobs left out": "by way of jobs left out",
    "critical path": "the critical path: the jobs with a double border decided when the run ended",
    "if that failed": "the second runs only if something failed",
}
"""The legend of `Scheduler.graph`, in words for readers who do not know trioflow."""
SHAPES: Final = "The shape of a box shows what kind of job it is: point at it to read more."


def _meanings(drawing: Drawing) -> str:
    boxes = [_sample(attributes) for attributes in (*_graph_legend.states(drawing), *_graph_legend.marks(drawing))]
    arrows = [_sample(attributes, is_line=True) for attributes in _graph_legend.lines(drawing)]
    return "".join(boxes + arrows)


def _sample(attributes: _dot.Attributes, is_line: bool = False) -> str:
    label = attributes["label"]
    item = Tree.Element("li")
    picture = Tree.SubElement(item, "svg", {"width": str(SAMPLE), "height": "14", "aria-hidden": "true"})
    dashes = "dashed" in attributes.get("style", "") or "dotted" in attributes.get("style", "")
    look = {"stroke": attributes.get("color", _dot.FAINT), "stroke-width": attributes.get("penwidth", "1")}
    look |= {"stroke-dasharray": "4 3"} if dashes else {}
    if is_line:
        Tree.SubElement(picture, "path", {"d": f"M1 7H{SAMPLE - 6}", "fill": "none", **look})
        Tree.SubElement(picture, "path", {"d": f"M{SAMPLE - 7} 3.5l6 3.5l-6 3.5z", "fill": look["stroke"]})
    else:
        if label == "several alike":
            Tree.SubElement(picture, "path", {"d": f"M4 3v-2h{SAMPLE - 5}v9h-2", "fill": "none", **look})
        edges = {"x": "1.5", "y": "2.5", "width": str(SAMPLE - 5), "height": "10"}
        Tree.SubElement(picture, "rect", {**edges, "fill": attributes.get("fillcolor", "none"), **look})
    picture.tail = MEANINGS.get(label, label)
    return Tree.tostring(item, encoding="unicode", method="html")
