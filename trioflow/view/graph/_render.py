"""Convert the graph of a scheduler to Graphviz or Mermaid, or to a picture rendered by `dot`."""

from __future__ import annotations

import math
import re
import subprocess
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final, Literal, NamedTuple
from xml.etree import ElementTree as Tree

from ..._core.scheduler._base_scheduler import BaseScheduler
from ..text._listing import EndRow
from ..text._selection import JobSelection
from . import _job_writer, _mermaid
from ._drawing import CriticalPath, Direction, Drawing

if TYPE_CHECKING:
    from graphviz import Digraph

ImageFormat = Literal["svg", "png"]

MAX_DOT_SECONDS: Final = 120
"""The time that `dot` may take. It draws a thousand boxes in a second, and ten thousand in half a minute."""
MAX_READABLE_BOXES: Final = 40
"""The maximum number of boxes in a readable picture.

If there are more boxes, the direction is from left to right, because a picture from top to bottom would be too
wide.
"""
MAX_WIDTH_POINTS: Final = 1600
"""The maximum width of a picture in points. A page 1,280 pixels wide shows such a picture at 60 % of its size."""


def graph(scheduler: BaseScheduler, critical_path: CriticalPath, collapse: JobSelection | bool = False) -> Digraph:
    """Return the `graphviz.Digraph` for `Scheduler.graph`.

    Args:
        scheduler: the scheduler to draw.
        critical_path: the critical path of its last run.
        collapse: that of `Scheduler.graph`.

    """
    drawing = Drawing(scheduler, collapse, critical_path)
    return _job_writer.make_digraph(drawing, default_direction(drawing))


def mermaid(scheduler: BaseScheduler, critical_path: CriticalPath, collapse: JobSelection | bool = False) -> str:
    """Return the text of a Mermaid flowchart. `critical_path` is the critical path of the last run."""
    drawing = Drawing(scheduler, collapse, critical_path)
    return _mermaid.flowchart_text(drawing, default_direction(drawing))


def default_direction(drawing: Drawing) -> Direction:
    return "LR" if count_boxes(drawing) > MAX_READABLE_BOXES else "TB"


def count_boxes(drawing: Drawing) -> int:
    """Return the number of boxes and frames in a drawing."""
    return sum(not isinstance(row, EndRow) for row in drawing.drawn_rows())


def render(source: str, image_format: ImageFormat, subject: str, seconds: float = math.inf) -> bytes:
    """Draw a graph of Graphviz with `dot`, and return the picture.

    `dot` names a graph without a name `%3`, which browsers would show as a tooltip on its background.

    Args:
        source: the graph.
        image_format: the format of the picture.
        subject: the beginning of error messages, e.g. the name of the calling function.
        seconds: the time that `dot` may take.

    Raises:
        RuntimeError: `dot` is not installed, has failed, or takes too long.

    """
    seconds = min(seconds, MAX_DOT_SECONDS)
    # At dot's default of 96 dots per inch, a PNG would look blurred in print.
    command = ["dot", f"-T{image_format}", *(["-Gdpi=144"] if image_format == "png" else [])]
    try:
        done = subprocess.run(command, input=source.encode(), capture_output=True, check=True, timeout=seconds)
        return done.stdout.replace(b"<title>%3</title>\n", b"", 1) if image_format == "svg" else done.stdout
    except FileNotFoundError:
        raise RuntimeError(
            f"{subject}: the program dot, which draws the picture, is not installed. It comes with Graphviz: "
            f"apt install graphviz, dnf install graphviz, brew install graphviz, conda install graphviz, "
            f"or https://graphviz.org/download. Without it, save the graph as .dot or .mmd"
        ) from None
    except subprocess.TimeoutExpired:
        advice = "draw fewer boxes, with collapse=True, or save the graph as .dot or .mmd"
        raise RuntimeError(f"{subject}: dot has not ended in {seconds:.3g} s: {advice}") from None
    except subprocess.CalledProcessError as error:
        message = error.stderr.decode(errors="replace").strip()
        raise RuntimeError(f"{subject}: dot exited with {error.returncode}: {message[-500:]}") from None


def render_svg(source: str, subject: str, seconds: float = math.inf) -> str:
    """Draw a graph of Graphviz with `dot`; if the picture is too wide, in the other direction if that is narrower.

    Args:
        source: the graph.
        subject: the beginning of error messages, e.g. the name of the calling function.
        seconds: the time that `dot` may take for each of the two.

    Raises:
        RuntimeError: `dot` is not installed, has failed, or takes too long.

    """
    return render_to_fit(_both_directions(source), subject, seconds=seconds).svg


def render_png(source: str, subject: str) -> bytes:
    """Draw a graph as `render_svg` does, as a PNG."""
    return render(render_to_fit(_both_directions(source), subject).source, "png", subject)


def _both_directions(source: str) -> Iterator[str]:
    yield source
    yield re.sub("rankdir=(TB|LR)", lambda found: "rankdir=LR" if found[1] == "TB" else "rankdir=TB", source, count=1)


class Fitted(NamedTuple):
    """A graph that was drawn, and the scale at which it fits into its place."""

    scale: float
    source: str
    svg: str


def render_to_fit(
    sources: Iterable[str],
    subject: str,
    place: tuple[float, float] = (MAX_WIDTH_POINTS, math.inf),
    seconds: float = math.inf,
) -> Fitted:
    """Draw the first of some sources that fits into a place, or else the one that must be scaled the least.

    Args:
        sources: the forms of a graph, which are made only when they are drawn.
        subject: the beginning of error messages.
        place: the width and the height of the place in points.
        seconds: the time that `dot` may take for each of them.

    Raises:
        RuntimeError: `dot` is not installed, has failed, or takes too long.

    """
    drawn = list[Fitted]()
    for source in sources:
        svg = render(source, "svg", subject, seconds).decode()
        ratios = (room / size for room, size in zip(place, size_in_points(svg), strict=True) if size)
        drawn.append(Fitted(min([1.0, *ratios]), source, svg))
        if drawn[-1].scale == 1:
            break
    return max(drawn, key=lambda fitted: fitted.scale)


PICTURE_NAMES: Final = frozenset(
    """
    a class cx cy d ellipse fill fill-opacity font-family font-size font-style font-weight g height id path points
    polygon     polyline rx ry stroke stroke-dasharray stroke-opacity stroke-width svg text text-anchor text-
    decoration title transform     viewBox width x y
    """.split()  # noqa: SIM905
)
"""The elements and attributes of pictures by `dot`: none of them loads anything, runs anything, or leads anywhere."""


def picture_for_page(svg: str) -> str:
    """Return a picture by `dot`, read and written anew, as a part of a page.

    Raises:
        ValueError: it has something else than shapes and texts.

    """
    try:
        root = Tree.fromstring(svg)
    except Tree.ParseError as error:
        raise ValueError(f"its picture is damaged: {error}") from None
    for element in root.iter():
        names = {name.rpartition("}")[2] for name in (element.tag, *element.attrib)}
        if unknown := sorted(names - PICTURE_NAMES):
            raise ValueError(f"its picture has {unknown[0]!r}")
    Tree.register_namespace("", "http://www.w3.org/2000/svg")
    Tree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    return Tree.tostring(root, encoding="unicode")


def size_in_points(svg: str) -> tuple[float, float]:
    """Return the width and the height of an SVG in points, or 0 for what the SVG does not give in points."""
    found = re.search(r'<svg width="([\d.]+)pt" height="([\d.]+)pt"', svg)
    return (float(found[1]), float(found[2])) if found else (0.0, 0.0)
