"""Convert a drawing to statements for `dot` or to a Mermaid flowchart, and let `dot` draw pictures.

GitHub and GitLab render Mermaid in README files. An edge in Mermaid can end at a frame, so no anchors are needed.
Mermaid has fewer shapes than dot, so two kinds of jobs with different shapes in dot may look the same there.
"""

from __future__ import annotations

import math
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final, Literal, NamedTuple
from xml.etree import ElementTree as Tree

from ..._core.base._text_forms import fit
from ..._core.job._job import AnyJob
from ..._core.job._labels import printable
from ..._core.scheduler._base_scheduler import BaseScheduler
from ..._core.words._job_queries import box_of, criticality
from .._state_styles import STATE_STYLES, TEXT_COLOR, BoxColors, state_class
from ..text._listing import BeginRow, EndRow, PlainRow
from ..text._selection import JobSelection
from . import _drawing
from ._dot import NODE_DEFAULTS, DotAttributes, DotWriter, Statement, digraph_of
from ._drawing import CriticalPath, Direction, Drawing, EdgeKind, box_colors, caption, shown_state

if TYPE_CHECKING:
    from graphviz import Digraph

MAX_READABLE_BOXES: Final = 40
"""The maximum number of boxes in a readable picture.

If there are more boxes, the direction is from left to right, because a picture from top to bottom would be too
wide.
"""


def graph(scheduler: BaseScheduler, critical_path: CriticalPath, collapse: JobSelection | bool = False) -> Digraph:
    """Return the `graphviz.Digraph` for `Scheduler.graph`.

    Args:
        scheduler: the scheduler to draw.
        critical_path: the critical path of its last run.
        collapse: that of `Scheduler.graph`.

    """
    drawing = Drawing(scheduler, collapse, critical_path)
    return make_digraph(drawing, default_direction(drawing))


def mermaid(scheduler: BaseScheduler, critical_path: CriticalPath, collapse: JobSelection | bool = False) -> str:
    """Return the text of a Mermaid flowchart. `critical_path` is the critical path of the last run."""
    drawing = Drawing(scheduler, collapse, critical_path)
    direction = default_direction(drawing)
    return "\n".join([f"flowchart {direction}", *MermaidWriter(drawing, direction).lines(), ""])


def default_direction(drawing: Drawing) -> Direction:
    return "LR" if count_boxes(drawing) > MAX_READABLE_BOXES else "TB"


def count_boxes(drawing: Drawing) -> int:
    """Return the number of boxes and frames in a drawing."""
    return sum(not isinstance(row, EndRow) for row in drawing.drawn_rows())


# ---- statements for `dot`


def make_digraph(drawing: Drawing, direction: Direction) -> Digraph:
    """Convert a drawing to a `graphviz.Digraph`, in O(V + E) time for V jobs and E edges."""
    return digraph_of(describe(drawing, direction), direction)


def describe(drawing: Drawing, direction: Direction) -> tuple[Statement, ...]:
    """Return a drawing as data."""
    return tuple(JobWriter(drawing, direction).statements())


class JobWriter(DotWriter[AnyJob]):
    """A writer of the jobs of a drawing, with their states."""

    def __init__(self, drawing: Drawing, direction: Direction) -> None:
        outside = {job: f"?{number}" for number, job in enumerate(drawing.outside_jobs(), 1)}
        super().__init__(drawing.job_numbers | outside, drawing.find_members(), drawing.edges, direction)
        self._drawing: Final = drawing

    def box(self, key: AnyJob) -> Statement:
        if key not in self._drawing.job_numbers:
            label = printable(f"? {key.label}")
            return Statement("node", (self.names[key],), OUTSIDE_BOX, label, tooltip=tooltip_text(key, key.path))
        attributes = job_attributes(key)
        if key in self._drawing.critical_path_jobs:
            attributes["peripheries"] = "2"
            if attributes.get("shape") == "cylinder":  # the upper edge of its inner border would cross the label
                attributes |= {"margin": "0.14,0.12", "labelloc": "b"}
        label, remarks = caption(key)
        tooltip = tooltip_text(key, self._drawing.paths[key])
        return Statement("node", (self.names[key],), attributes, label, tuple(remarks), tooltip)

    def frame(self, key: AnyJob) -> Statement:
        label, remarks = caption(key, is_frame=True)
        attributes = {
            **FRAME_DEFAULTS,
            "fillcolor": STATE_STYLES[shown_state(key)].colors.frame,
            "color": box_colors(key).outline,
            "penwidth": "1",  # otherwise a frame inherits the width of the enclosing frame's border
            **_mark_attributes(key, FRAME_DEFAULTS),
        }
        tooltip = tooltip_text(key, self._drawing.paths[key])
        return Statement("frame", (self.frame_name(key),), attributes, label, tuple(remarks), tooltip)

    def edge(self, tail: AnyJob, head: AnyJob) -> tuple[DotAttributes, str | None]:
        kind = self._drawing.edges[tail, head]
        attributes = {**EDGE_ATTRIBUTES[kind], **({"style": "dashed"} if head.run_if == "failed" else {})}
        if (tail, head) in self._drawing.critical_path_edges:
            attributes |= {"color": _drawing.CRITICAL_PATH_COLOR, "penwidth": "2.4"}
        return attributes, _drawing.IF_SETTLED if kind is EdgeKind.SETTLED else None


EDGE_ATTRIBUTES: Final[Mapping[EdgeKind, DotAttributes]] = {
    EdgeKind.ORDER: {},
    EdgeKind.DATA: {"color": _drawing.INPUT_COLOR, "penwidth": "1.8", "dir": "both", "arrowtail": "dot"},
    EdgeKind.SETTLED: {"fontsize": "9"},
}
OUTSIDE_BOX: Final[DotAttributes] = {
    "style": "rounded,filled,dotted",
    "fillcolor": "white",
    "color": _drawing.LINE_COLOR,
    "fontcolor": "#616e7c",
}
MAX_PATH_LENGTH: Final = 1000
"""The maximum length of a path in a tooltip. A longer path loses its beginning.

With a thousand levels of nesting, complete paths would make up most of the file.
"""


def job_attributes(job: AnyJob) -> DotAttributes:
    """Return the attributes of a job's box that differ from `NODE_DEFAULTS`: its class defines the shape."""
    box = box_of(job)
    shape = {"shape": box.shape, "style": NODE_DEFAULTS["style"] if box.rounded else "filled"}
    shape = {name: value for name, value in shape.items() if value != NODE_DEFAULTS[name]}
    return {**color_attributes(box_colors(job)), **shape, **_mark_attributes(job, shape)}


def color_attributes(colors: BoxColors) -> DotAttributes:
    return {"fillcolor": colors.fill, "color": colors.outline, "fontcolor": colors.text}


FRAME_DEFAULTS: Final[DotAttributes] = {
    "style": "rounded,filled",
    "labeljust": "l",
    "margin": "10",
    "fontcolor": TEXT_COLOR,
}


def _mark_attributes(job: AnyJob, shape: DotAttributes) -> DotAttributes:
    """Return the attributes that mark critical and forever jobs. `shape` contains the attributes of the job's shape."""
    marks: DotAttributes = {}
    if criticality(job):
        marks["penwidth"] = "2.6"
    if job.forever:
        marks["style"] = f"{shape.get('style', NODE_DEFAULTS['style'])},dashed"
    return marks


def tooltip_text(job: AnyJob, path: str) -> str:
    """Return the text of a tooltip: class, path and state."""
    return f"{type(job).__name__}: {fit(path, MAX_PATH_LENGTH, 'end')} ({shown_state(job).value})"


# ---- Mermaid

ARROWS: Final[Mapping[EdgeKind, str]] = {EdgeKind.ORDER: "-->", EdgeKind.DATA: "==>", EdgeKind.SETTLED: "-->"}
UNSAFE_CHARACTERS: Final = re.compile(r"[!-'*+;-@\[-`{-~]|[-.)](?= )")
"""The characters to escape: most ASCII punctuation, and a `-`, `.` or `)` before a space.

With a space after it, one of these three may begin a Markdown list, e.g. `1. `, which Mermaid rejects in a label.
"""
INDENT: Final = "  "


class MermaidWriter:
    """A writer that converts a drawing to the lines of a Mermaid flowchart."""

    def __init__(self, drawing: Drawing, direction: Direction) -> None:
        self._drawing: Final = drawing
        self._direction: Final = direction
        names = {job: f"n{number}" for job, number in drawing.job_numbers.items()}
        self._node_names: Final = {
            **names,
            **{job: f"outside{number}" for number, job in enumerate(drawing.outside_jobs(), 1)},
        }
        # An empty scheduler is drawn as a box.
        self._framed_schedulers: Final = {row.job.scheduler for row in drawing.drawn_rows()}
        self._style_lines: Final[list[str]] = []

    def lines(self) -> Iterator[str]:
        """Yield the flowchart line by line: classes, boxes and frames, the arrows between them, and further styles."""
        yield from self._class_lines()
        yield from self._box_lines()
        for job in self._drawing.outside_jobs():
            label = quote_lines(printable(f"? {job.label}"))
            yield f"{INDENT}{self._node_names[job]}({label})"
            self._add_style(job, "stroke-dasharray:2 3")
        for number, ((tail, head), kind) in enumerate(self._drawing.edges.items()):
            yield f"{INDENT}{self._node_names[tail]} {self._arrow_syntax(head, kind)} {self._node_names[head]}"
            if (tail, head) in self._drawing.critical_path_edges:
                self._style_lines.append(
                    f"{INDENT}linkStyle {number} stroke:{_drawing.CRITICAL_PATH_COLOR},stroke-width:4px"
                )
        yield from self._style_lines

    def _class_lines(self) -> Iterator[str]:
        """Yield the definitions of the style classes, one for each state that a box or a frame shows."""
        box_states = {
            shown_state(row.job) for row in self._drawing.drawn_rows() if row.job not in self._framed_schedulers
        }
        frame_states = {
            shown_state(scheduler) for scheduler in self._framed_schedulers if scheduler in self._node_names
        }
        for state in STATE_STYLES:
            fill, outline, text, frame = STATE_STYLES[state].colors
            if state in box_states:
                yield f"{INDENT}classDef {state_class(state)} fill:{fill},stroke:{outline},color:{text}"
            if state in frame_states:
                colors = f"fill:{frame},stroke:{outline},color:{TEXT_COLOR}"
                yield f"{INDENT}classDef {state_class(state)}Frame {colors}"

    def _box_lines(self) -> Iterator[str]:
        depth = 1
        for row in self._drawing.drawn_rows():
            if isinstance(row, PlainRow) or row.job not in self._framed_schedulers:
                if not isinstance(row, EndRow):
                    yield f"{INDENT * depth}{self._box_line(row.job)}"
            elif isinstance(row, BeginRow):
                yield from self._frame_lines(row.job, INDENT * depth)
                depth += 1
            else:
                depth -= 1
                yield f"{INDENT * depth}end"

    def _frame_lines(self, scheduler: BaseScheduler, indent: str) -> Iterator[str]:
        state = shown_state(scheduler)
        label, remarks = caption(scheduler, is_frame=True)
        yield f"{indent}subgraph {self._node_names[scheduler]}[{quote_lines(label, *remarks)}]"
        yield f"{indent}{INDENT}direction {self._direction}"
        self._add_marks(scheduler)
        self._style_lines.append(f"{INDENT}class {self._node_names[scheduler]} {state_class(state)}Frame")
        outline = box_colors(scheduler).outline
        if outline != STATE_STYLES[state].colors.outline:
            self._add_style(scheduler, f"stroke:{outline}")

    def _box_line(self, job: AnyJob) -> str:
        state, (opening, closing) = shown_state(job), box_of(job).brackets
        label, remarks = caption(job)
        self._add_marks(job)
        fill, outline, text, _ = box_colors(job)
        if fill != STATE_STYLES[state].colors.fill:  # some of its jobs have failed or are blocked
            self._add_style(job, f"fill:{fill},stroke:{outline},color:{text}")
        return f"{self._node_names[job]}{opening}{quote_lines(label, *remarks)}{closing}:::{state_class(state)}"

    def _arrow_syntax(self, head: AnyJob, kind: EdgeKind) -> str:
        arrow = "-.->" if head.run_if == "failed" else ARROWS[kind]
        return f"{arrow}|{_drawing.IF_SETTLED}|" if kind is EdgeKind.SETTLED else arrow

    def _add_marks(self, job: AnyJob) -> None:
        if criticality(job):
            self._add_style(job, "stroke-width:3px")
        if job.forever:
            self._add_style(job, "stroke-dasharray:5 4")

    def _add_style(self, job: AnyJob, style: str) -> None:
        self._style_lines.append(f"{INDENT}style {self._node_names[job]} {style}")


def quote_lines(*lines: str) -> str:
    """Return lines as one quoted Mermaid string, with entities, HTML, Markdown and quotes escaped."""
    text = "<br/>".join(UNSAFE_CHARACTERS.sub(lambda match: f"#{ord(match[0])};", line) for line in lines)
    return f'"{text or " "}"'


# ---- pictures, drawn by `dot`

ImageFormat = Literal["svg", "png"]
MAX_DOT_SECONDS: Final = 120
"""The time that `dot` may take. It draws a thousand boxes in a second, and ten thousand in half a minute."""
MAX_WIDTH_POINTS: Final = 1600
"""The maximum width of a picture in points. A page 1,280 pixels wide shows such a picture at 60 % of its size."""


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
    (  # noqa: SIM905
        "a class cx cy d ellipse fill fill-opacity font-family font-size font-style font-weight g height id path "
        "points polygon polyline rx ry stroke stroke-dasharray stroke-opacity stroke-width svg text text-anchor "
        "text-decoration title transform viewBox width x y"
    ).split()
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
