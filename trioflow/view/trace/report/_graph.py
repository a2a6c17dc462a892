"""The graph in a report: the picture, and what its signs mean."""

from __future__ import annotations

import subprocess
from typing import Any, Final
from xml.etree import ElementTree as Tree

from ...._core.door.reading import is_scheduler, printable
from ...graph import _dot, _layered, _legend, _render
from ...graph._drawing import Close, Drawing

BUNDLED: Final = 40
"""Jobs: from this many on, those that are alike are drawn as one box."""
LARGEST: Final = 300
"""Boxes. `dot` takes seconds for this many and minutes for a thousand, and nobody could read the picture."""
SAMPLE: Final = 26
"""Pixels."""


def section(scheduler: Any) -> str:
    """Return the graph of a scheduler with a legend, or why there is none, as HTML."""
    jobs = sum(not is_scheduler(job) for job in scheduler.iterate_jobs())
    bundle = jobs >= BUNDLED
    drawing = Drawing(scheduler, bundle=bundle)
    boxes = sum(not isinstance(item, Close) for item in drawing.items())
    if boxes > LARGEST:
        return note(
            f"{jobs} jobs are too many for a graph that can be read here: see scheduler.graph() for parts of it."
        )
    has_shapes = any(_legend.kinds(drawing))
    try:
        drawn = _render.narrow(lambda way: _svg(scheduler.graph(bundle=bundle, direction=way)), boxes)
    except (AttributeError, ImportError, OSError, RuntimeError, subprocess.SubprocessError) as error:
        drawing, has_shapes = Drawing(scheduler, collapse=True, bundle=bundle), False
        try:
            drawn = _layered.svg(drawing)
        except ImportError:
            return note(f"No graph: {error}. Without dot, pip install 'trioflow[graph]' gives a simpler one.")
    notes = [note(SHAPES)] * has_shapes
    if drawing.bundles:
        notes.append(note(f"{jobs} jobs: those that are alike are one box."))
    picture = f'<div class="card paper scroll" tabindex="0">{drawn}</div>'
    return f'{picture}<ul class="legend">{_meanings(drawing)}</ul>{"".join(notes)}'


def _svg(digraph: Any) -> str:
    text: str = digraph.pipe("svg").decode("utf-8")
    return text[text.index("<svg") :]


def note(text: str) -> str:
    """Return a remark below the picture, as HTML."""
    element = Tree.Element("p", {"class": "note"})
    element.text = printable(text)
    return Tree.tostring(element, encoding="unicode", method="html")


# ---- the legend

MEANINGS: Final = {
    "! critical": "critical: its failure stops the run",
    "forever": "background: the run ends it when the others have settled",
    "several alike": "several jobs that are alike",
    "? elsewhere": "required, but not in this run",
    "requires": "the second starts when the first has settled",
    "result is an argument": "the second gets the result of the first",
    "by way of jobs left out": "by way of jobs left out",
    "if that failed": "the second runs only if something failed",
}
"""What the legend of `Scheduler.graph` says, in words for readers who know nothing of the program."""
SHAPES: Final = "The shape of a box shows what kind of job it is: point at it to read more."


def _meanings(drawing: Drawing) -> str:
    boxes = [_sample(attributes) for attributes in (*_legend.states(drawing), *_legend.marks(drawing))]
    arrows = [_sample(attributes, is_line=True) for attributes in _legend.lines(drawing)]
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
