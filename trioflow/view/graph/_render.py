"""Functions that return the graph of a scheduler for Graphviz or Mermaid, or as a picture rendered by `dot`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict, Unpack, get_args

from ..._core.api.views import BaseScheduler, JobState, file_path, flag, is_among, is_scheduler, short_repr
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
"""The resolution of a PNG, which is sharp in a printed column, unlike dot's default of 96 dots per inch."""
MAX_BOXES: Final = 40
"""Number of boxes above which the default direction is left to right, because top to bottom is too wide for a page."""
MAX_WIDTH: Final = 1600
"""Maximum width of a picture in points: a page of 1,280 pixels shows it at somewhat more than half its size."""


class Selection(TypedDict, total=False):
    """The options that select the jobs to draw; `Scheduler.graph` documents each."""

    only: JobSelection | None
    collapse: JobSelection | bool
    bundle: bool


class DrawingOptions(Selection, total=False):
    """The options for a drawing: the selection of jobs, and the direction."""

    direction: Direction | None


class GraphOptions(DrawingOptions, total=False):
    """The options for a graph: those of a drawing, and whether to add a legend."""

    legend: bool


def graph(
    scheduler: BaseScheduler, *, legend: bool = False, path: CriticalPath = NO_PATH, **options: Unpack[DrawingOptions]
) -> Digraph:
    """Return the `graphviz.Digraph` for `Scheduler.graph`; `path` is the critical path of the last run."""
    with_legend = flag(legend, "legend", "graph()")
    drawing, direction = _drawing(scheduler, critical_path=path, **options)
    digraph = _dot.digraph(drawing, direction)
    if with_legend:
        _graph_legend.add(drawing, digraph)
    if folded := folding_remark(scheduler, options):
        digraph.attr("graph", label=folded)  # at the end, because later clusters would inherit it
    return digraph


def mermaid(scheduler: BaseScheduler, *, path: CriticalPath = NO_PATH, **options: Unpack[DrawingOptions]) -> str:
    """Return the text for `Scheduler.mermaid`; `path` is the critical path of the last run."""
    text = _mermaid.mermaid(*_drawing(scheduler, critical_path=path, **options))
    folded = folding_remark(scheduler, options)
    return f"---\ntitle: {folded}\n---\n{text}" if folded else text


def readable_mermaid(scheduler: BaseScheduler, path: CriticalPath) -> str:
    """Return a Mermaid flowchart with as much detail as is readable; "" if it has no boxes or too many."""
    _, drawing = choose_readable(scheduler, path)
    return _mermaid.mermaid(drawing, "LR") if 0 < number_of_boxes(drawing) <= MAX_BOXES else ""


def _drawing(
    scheduler: BaseScheduler, *, direction: Direction | None = None, **options: Any
) -> tuple[Drawing, Direction]:
    """Return a drawing and its direction, which depends on the number of boxes by default."""
    if direction is not None and not is_among(direction, get_args(Direction)):
        raise ValueError(
            f"direction={short_repr(direction)} of graph(): choose one of {', '.join(get_args(Direction))}"
        )
    drawing = (_folded if folding_remark(scheduler, options) else Drawing)(scheduler, **options)
    return drawing, direction or ("LR" if number_of_boxes(drawing) > MAX_BOXES else "TB")


MIN_FOLDED_JOBS: Final = 2000
"""The number of jobs from which a graph is folded, unless its options select jobs; `dot` would take minutes."""
DETAIL_LEVELS: Final[tuple[Selection, ...]] = (
    {},
    {"bundle": True},
    {"collapse": True},
    {"collapse": True, "bundle": True},
)
"""The options to try, from the most to the least detailed."""


def choose_readable(scheduler: BaseScheduler, path: CriticalPath) -> tuple[Selection, Drawing]:
    """Return the most detailed options with which a graph is readable, and the drawing; else the least detailed.

    Options that draw each nested scheduler separately are preferred, because readers look for the one that failed.
    """
    candidates: list[tuple[int, Selection, Drawing]] = []
    for options in DETAIL_LEVELS:
        drawing = Drawing(scheduler, **options, critical_path=path)
        boxes = number_of_boxes(drawing)
        candidates.append((boxes, options, drawing))
        if not options and boxes <= MAX_BOXES:
            break
    fitting = [candidate for candidate in candidates if candidate[0] <= MAX_BOXES]
    if not fitting:
        return min(candidates, key=lambda candidate: candidate[0])[1:]
    return max(fitting, key=lambda candidate: (not any(map(is_scheduler, candidate[2].bundles)), candidate[0]))[1:]


def folding_remark(scheduler: BaseScheduler, options: Mapping[str, Any]) -> str:
    """Return a remark that a graph is folded because it has too many jobs; "" if it is not folded.

    Args:
        scheduler: the scheduler to draw.
        options: the options that the caller of `Scheduler.graph` gave.

    """
    if any(name in options for name in ("only", "collapse", "bundle")):
        return ""
    jobs = sum(not is_scheduler(job) for job in scheduler.iterate_jobs())
    return "" if jobs < MIN_FOLDED_JOBS else f"{jobs} jobs - those that are alike are one box"


def _folded(scheduler: BaseScheduler, **options: Any) -> Drawing:
    """Return a drawing with few boxes: bundle jobs alike, and fold nested schedulers if that gives fewer boxes."""
    drawing = Drawing(scheduler, bundle=True, **options)
    if number_of_boxes(drawing) <= MAX_BOXES or not any(map(is_scheduler, scheduler)):
        return drawing
    return min(drawing, Drawing(scheduler, collapse=True, bundle=True, **options), key=number_of_boxes)


def number_of_boxes(drawing: Drawing) -> int:
    """Return the number of boxes and frames in a drawing."""
    return sum(not isinstance(item, End) for item in drawing.items())


def render(digraph: Digraph, image: Format, subject: str) -> bytes:
    """Return a graph as a picture rendered by `dot`.

    Args:
        digraph: the graph.
        image: the format of the picture.
        subject: the name of the calling function, for error messages.

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
            f"{subject}: the program dot, which draws the picture, is not installed. It comes with Graphviz: "
            f"apt install graphviz, dnf install graphviz, brew install graphviz, conda install graphviz, "
            f"or https://graphviz.org/download. Without it there are export_as_dotfile() and export_as_mermaid()"
        ) from None
    except CalledProcessError as error:
        message = (error.stderr or b"").decode(errors="replace").strip()
        raise RuntimeError(f"{subject}: dot ended with {error.returncode}: {message[-500:]}") from None


def draw_narrow(draw: Callable[[Direction | None], str]) -> str:
    """Return an SVG; if it is too wide for a page, draw it from left to right, and return the narrower one.

    Args:
        draw: returns the SVG that `dot` renders in a direction; None for the default one.

    """
    drawn = draw(None)
    return min(drawn, draw("LR"), key=_width) if _width(drawn) > MAX_WIDTH else drawn


def _width(svg: str) -> float:
    """Return the width of an SVG in points; 0 if another program than `dot` has rendered it."""
    text = svg.partition('width="')[2].partition("pt")[0]
    return float(text) if text.replace(".", "", 1).isdecimal() else 0.0


def export(
    scheduler: BaseScheduler,
    path: str | os.PathLike[str],
    image: Format,
    critical_path: CriticalPath,
    **options: Unpack[GraphOptions],
) -> None:
    """Write the picture of a scheduler to a file; write nothing if it cannot be drawn.

    Raises:
        RuntimeError: `dot` is not installed, or has failed.
        OSError: the file cannot be written.

    """
    file = Path(file_path(path, "path", f"export_as_{image}file()"))
    subject = f"export_as_{image}file() of {scheduler.label!r}"
    data = render(graph(scheduler, path=critical_path, **options), image, subject)
    file.write_bytes(add_dark_scheme(data.decode()).encode() if image == "svg" else data)


# ---- the dark colour scheme, which `dot` cannot write

DARK_PAPER: Final = "#1b1f26"
DARK_LINES: Final = {LineKind.ORDER: "#9aa5b1", LineKind.DATA: "#7fb8e6"}
CLASS: Final = "trioflow-graph"
NO_TITLE: Final = "<title>%3</title>\n"
"""The tooltip that `dot` gives the whole picture of a graph without a name."""


def dark_scheme_css() -> str:
    """Return a style sheet that replaces each colour in pictures of the class `CLASS` for the dark colour scheme."""
    return "\n".join(["@media screen and (prefers-color-scheme: dark) {", *dict.fromkeys(_css_rules()), "}"])


def add_dark_scheme(svg: str) -> str:
    """Return an SVG of `dot` with a style sheet, so that it follows the colour scheme of the page or the browser."""
    svg = svg.replace(NO_TITLE, "", 1)
    start = svg.index("<svg ")
    end = svg.index(">", start) + 1
    tag = svg[start:end].replace("<svg ", f'<svg class="{CLASS}" ', 1)
    return f"{svg[:start]}{tag}<style>{dark_scheme_css()}</style>{svg[end:]}"


def _css_rules() -> Iterator[str]:
    """Yield the rules of the style sheet, which may repeat."""
    yield _css_rule('[fill="white"]', "fill", DARK_PAPER)
    yield _css_rule("text:not([fill])", "fill", DARK_INK)
    for style in STATE_STYLES.values():
        (fill, line, text, frame), dark = style.light, style.dark
        yield _css_rule(f':not(text)[fill="{fill}"]', "fill", dark.fill)
        yield _css_rule(f':not(text)[fill="{frame}"]', "fill", dark.frame)
        yield _css_rule(f'[stroke="{line}"]', "stroke", dark.line)
        yield _css_rule(f'text[fill="{text}"]', "fill", dark.text)
    failed = JobState.FAILED  # its fill colour is also the border colour of frames with a failure inside
    yield _css_rule(f'[stroke="{STATE_STYLES[failed].light.fill}"]', "stroke", STATE_STYLES[failed].dark.fill)
    for attribute in ("stroke", "fill"):
        yield _css_rule(f'[{attribute}="{_style.CRITICAL_PATH_COLOUR}"]', attribute, "#ffffff")
    for kind, colour in DARK_LINES.items():
        light = _dot.LINES[kind].get("color", _dot.FAINT)
        yield _css_rule(f'[stroke="{light}"]', "stroke", colour)
        yield _css_rule(f'[fill="{light}"]', "fill", colour)


def _css_rule(selector: str, attribute: str, colour: str) -> str:
    return f".{CLASS} {selector} {{ {attribute}: {colour}; }}"
