"""The graph of a scheduler in the languages of Graphviz and Mermaid, and as a picture drawn by Graphviz's `dot`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict, Unpack, get_args

from ..._core.api.views import BaseScheduler, JobState, file_path, flag, is_among, is_scheduler, shown
from .._state_styles import DARK_INK, STATE_STYLES
from ..text._listing import End
from ..text._selection import JobSelection
from . import _dot, _graph_legend, _mermaid, _style
from ._drawing import NO_PATH, CriticalPath, Drawing, LineKind
from ._style import Direction

if TYPE_CHECKING:
    import os

    from graphviz import Digraph

Format = Literal["svg", "png"]

DOTS_PER_INCH: Final = "144"
"""Dots per inch of a PNG: sharp on paper at the width of a column, unlike dot's default of 96."""


MANY: Final = 40
"""Number of boxes above which a picture goes from left to right by default: it would be too wide for a page."""
WIDE: Final = 1600
"""Width in points that a page of 1,280 pixels shows at somewhat more than half size."""


class Selection(TypedDict, total=False):
    """The options that select what is drawn; `Scheduler.graph` documents each."""

    only: JobSelection | None
    collapse: JobSelection | bool
    bundle: bool


class DrawingOptions(Selection, total=False):
    """The options that select what is drawn, and in which direction."""

    direction: Direction | None


class GraphOptions(DrawingOptions, total=False):
    """The options that select what is drawn, and whether a legend is added."""

    legend: bool


def graph(
    scheduler: BaseScheduler, *, legend: bool = False, path: CriticalPath = NO_PATH, **options: Unpack[DrawingOptions]
) -> Digraph:
    """Return the `graphviz.Digraph` of `Scheduler.graph`; `path` is the critical path, as `Drawing` takes it."""
    with_legend = flag(legend, "legend", "graph()")
    drawing, direction = _drawing(scheduler, critical_path=path, **options)
    digraph = _dot.digraph(drawing, direction)
    if with_legend:
        _graph_legend.add(drawing, digraph)
    if folded := folding(scheduler, options):
        digraph.attr("graph", label=folded)  # last: clusters that follow would have it, too
    return digraph


def mermaid(scheduler: BaseScheduler, *, path: CriticalPath = NO_PATH, **options: Unpack[DrawingOptions]) -> str:
    """Return the text of `Scheduler.mermaid`."""
    text = _mermaid.mermaid(*_drawing(scheduler, critical_path=path, **options))
    folded = folding(scheduler, options)
    return f"---\ntitle: {folded}\n---\n{text}" if folded else text


def readable_mermaid(scheduler: BaseScheduler, path: CriticalPath) -> str:
    """Return a readable flowchart; "" if it would have too many boxes, or has none."""
    _, drawing = readable(scheduler, path)
    return _mermaid.mermaid(drawing, "LR") if 0 < number_of_boxes(drawing) <= MANY else ""


def _drawing(
    scheduler: BaseScheduler, *, direction: Direction | None = None, **options: Any
) -> tuple[Drawing, Direction]:
    if direction is not None and not is_among(direction, get_args(Direction)):
        raise ValueError(f"direction={shown(direction)} of graph(): choose one of {', '.join(get_args(Direction))}")
    drawing = (_folded if folding(scheduler, options) else Drawing)(scheduler, **options)
    return drawing, direction or ("LR" if number_of_boxes(drawing) > MANY else "TB")


FOLDED_FROM: Final = 2000
"""Number of jobs from which a graph is folded unless its options select a part; `dot` would take minutes."""
WAYS: Final[tuple[Selection, ...]] = ({}, {"bundle": True}, {"collapse": True}, {"collapse": True, "bundle": True})
"""The options to try, from the most detailed to the least."""


def readable(scheduler: BaseScheduler, path: CriticalPath) -> tuple[Selection, Drawing]:
    """Return the most detailed options whose picture is readable; if there are none, the least detailed ones.

    After a run, readers look for the group that went wrong: groups stay apart if they can be boxes.
    """
    found: list[tuple[int, Selection, Drawing]] = []
    for way in WAYS:
        drawing = Drawing(scheduler, **way, critical_path=path)
        boxes = number_of_boxes(drawing)
        found.append((boxes, way, drawing))
        if not way and boxes <= MANY:
            break
    fitting = [drawing for drawing in found if drawing[0] <= MANY]
    if not fitting:
        return min(found, key=lambda drawing: drawing[0])[1:]
    return max(fitting, key=lambda drawing: (not any(map(is_scheduler, drawing[2].bundles)), drawing[0]))[1:]


def folding(scheduler: BaseScheduler, options: Mapping[str, Any]) -> str:
    """Return the remark on a graph that is folded because it would be unreadable; "" if it is not folded.

    Args:
        scheduler: what is drawn.
        options: the explicit options of `Scheduler.graph`.

    """
    if any(name in options for name in ("only", "collapse", "bundle")):
        return ""
    jobs = sum(not is_scheduler(job) for job in scheduler.iterate_jobs())
    return "" if jobs < FOLDED_FROM else f"{jobs} jobs - those that are alike are one box"


def _folded(scheduler: BaseScheduler, **options: Any) -> Drawing:
    """Return a drawing of many jobs with few boxes: jobs alike are bundled, and groups folded if that helps."""
    drawing = Drawing(scheduler, bundle=True, **options)
    if number_of_boxes(drawing) <= MANY or not any(map(is_scheduler, scheduler)):
        return drawing
    return min(drawing, Drawing(scheduler, collapse=True, bundle=True, **options), key=number_of_boxes)


def number_of_boxes(drawing: Drawing) -> int:
    """Return the number of boxes and frames."""
    return sum(not isinstance(item, End) for item in drawing.items())


def rendered(digraph: Digraph, image: Format, who: str) -> bytes:
    """Render a graph with `dot`.

    Args:
        digraph: the graph.
        image: the format.
        who: the caller's name, for an error.

    Raises:
        RuntimeError: `dot` is not installed, or has failed.

    """
    from graphviz import CalledProcessError, ExecutableNotFound

    if image == "png":
        digraph = digraph.copy()
        digraph.graph_attr.setdefault("dpi", DOTS_PER_INCH)
    try:
        return digraph.pipe(format=image, quiet=True)
    except ExecutableNotFound:
        raise RuntimeError(
            f"{who}: the program dot, which draws the picture, is not installed. It comes with Graphviz: "
            f"apt install graphviz, dnf install graphviz, brew install graphviz, conda install graphviz, "
            f"or https://graphviz.org/download. Without it there are export_as_dotfile() and export_as_mermaid()"
        ) from None
    except CalledProcessError as error:
        said = (error.stderr or b"").decode(errors="replace").strip()
        raise RuntimeError(f"{who}: dot ended with {error.returncode}: {said[-500:]}") from None


def narrow(draw: Callable[[Direction | None], str]) -> str:
    """Return an SVG for a page; draw a wide one from left to right if that makes it narrower.

    Args:
        draw: returns the picture rendered by `dot`.

    """
    drawn = draw(None)
    return min(drawn, draw("LR"), key=_width) if _width(drawn) > WIDE else drawn


def _width(svg: str) -> float:
    """Return the width in points; 0 if something other than `dot` has drawn the picture."""
    text = svg.partition('width="')[2].partition("pt")[0]
    return float(text) if text.replace(".", "", 1).isdecimal() else 0.0


def export(
    scheduler: BaseScheduler,
    path: str | os.PathLike[str],
    image: Format,
    critical_path: CriticalPath,
    **options: Unpack[GraphOptions],
) -> None:
    """Write the picture of a scheduler; nothing is written if it cannot be drawn.

    Raises:
        RuntimeError: `dot` is not installed, or has failed.
        OSError: the file cannot be written.

    """
    file = Path(file_path(path, "path", f"export_as_{image}file()"))
    who = f"export_as_{image}file() of {scheduler.label!r}"
    data = rendered(graph(scheduler, path=critical_path, **options), image, who)
    file.write_bytes(adapted(data.decode()).encode() if image == "svg" else data)


# ---- a dark scheme: `dot` can write only the colours for a light one

PAPER: Final = "#1b1f26"
LINES_IN_THE_DARK: Final = {LineKind.ORDER: "#9aa5b1", LineKind.DATA: "#7fb8e6"}
CLASS: Final = "trioflow-graph"
NO_TITLE: Final = "<title>%3</title>\n"
"""The tooltip that `dot` puts everywhere in a graph without a name."""


def rules() -> str:
    """Return a style sheet that maps each colour of pictures with our class to its colour in the dark scheme."""
    return "\n".join(["@media screen and (prefers-color-scheme: dark) {", *dict.fromkeys(_rules()), "}"])


def adapted(svg: str) -> str:
    """Adapt an SVG of `dot` to follow the colour scheme of its page, or of the browser."""
    svg = svg.replace(NO_TITLE, "", 1)
    start = svg.index("<svg ")
    end = svg.index(">", start) + 1
    tag = svg[start:end].replace("<svg ", f'<svg class="{CLASS}" ', 1)
    return f"{svg[:start]}{tag}<style>{rules()}</style>{svg[end:]}"


def _rules() -> Iterator[str]:
    yield _rule('[fill="white"]', "fill", PAPER)
    yield _rule("text:not([fill])", "fill", DARK_INK)
    for look in STATE_STYLES.values():
        (fill, line, text, frame), dark = look.light, look.dark
        yield _rule(f':not(text)[fill="{fill}"]', "fill", dark.fill)
        yield _rule(f':not(text)[fill="{frame}"]', "fill", dark.frame)
        yield _rule(f'[stroke="{line}"]', "stroke", dark.line)
        yield _rule(f'text[fill="{text}"]', "fill", dark.text)
    failed = JobState.FAILED  # a frame with a failure inside has the colour of a failure as its border
    yield _rule(f'[stroke="{STATE_STYLES[failed].light.fill}"]', "stroke", STATE_STYLES[failed].dark.fill)
    for attribute in ("stroke", "fill"):
        yield _rule(f'[{attribute}="{_style.PATH}"]', attribute, "#ffffff")
    for sort, colour in LINES_IN_THE_DARK.items():
        light = _dot.LINES[sort].get("color", _dot.FAINT)
        yield _rule(f'[stroke="{light}"]', "stroke", colour)
        yield _rule(f'[fill="{light}"]', "fill", colour)


def _rule(selector: str, attribute: str, colour: str) -> str:
    return f".{CLASS} {selector} {{ {attribute}: {colour}; }}"
