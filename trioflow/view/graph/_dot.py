"""The program `dot`: its language, as statements that are data, their arrangement, and the pictures that it draws.

`DotWriter` arranges boxes, frames and edges so that `dot` draws them well, in static drawings and in live pictures:

A group is drawn as a frame, which dot calls a cluster. dot draws edges only between boxes. Therefore, an edge to a
frame leads to a box in the frame, and dot clips the edge at the frame's border (`lhead`, `ltail`). Additional,
invisible edges lead to other boxes at the border. They make dot place the jobs that require a group below the whole
frame of that group.

The boxes at the ends of a frame's edges are its anchors. If edges end at a frame, its anchors are the boxes of its
first rank, or, if there are many such boxes, an invisible point above them. If edges begin at a frame, its anchors are
the boxes of its last rank, or an invisible point below them. An empty frame has a single point.

Boxes without edges would all be in the same rank. If they are many, invisible edges arrange them in a grid.
"""

from __future__ import annotations

import itertools
import math
import re
import subprocess
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Generic,
    Literal,
    NamedTuple,
    TypeAlias,
    TypeVar,
)
from xml.etree import ElementTree as Tree

from ..._core.job._labels import printable
from ..._hints import import_extra
from .._state_styles import TEXT_COLOR

if TYPE_CHECKING:
    from graphviz import Digraph

Direction = Literal["TB", "LR"]
"""The direction of a graph: top to bottom, or left to right."""
DotAttributes = dict[str, str]

LINE_COLOR: Final = "#757575"
"""The color of lines and of text beside boxes, which is readable on white and on black: graphs are transparent."""

FONT_FAMILIES: Final = "Helvetica,Arial,sans-serif"
GRAPH_DEFAULTS: Final[DotAttributes] = {
    "compound": "true",
    # Otherwise the two ends of an edge between frames may get the same rank: https://graphviz.org/docs/attrs/newrank/.
    "newrank": "true",
    "fontname": FONT_FAMILIES,
    "fontsize": "11",
    "nodesep": "0.25",
    "ranksep": "0.45",
    "pad": "0.15",
    "bgcolor": "transparent",
    "fontcolor": LINE_COLOR,
}
NODE_DEFAULTS: Final[DotAttributes] = {
    "fontname": FONT_FAMILIES,
    "fontsize": "11",
    "shape": "box",
    "style": "rounded,filled",
    "height": "0.35",
    "margin": "0.14,0.06",
    "penwidth": "1",
}
EDGE_DEFAULTS: Final[DotAttributes] = {
    "fontname": FONT_FAMILIES,
    "fontsize": "10",
    "color": LINE_COLOR,
    "arrowsize": "0.65",
    "penwidth": "1",
}
Defaults = tuple[DotAttributes, DotAttributes, DotAttributes]
"""The attributes of a graph, and of all boxes and edges that say nothing else."""
DEFAULTS: Final[Defaults] = GRAPH_DEFAULTS, NODE_DEFAULTS, EDGE_DEFAULTS
EDGE_REMARK: Final = '<<table border="0" cellspacing="0" bgcolor="white"><tr><td><i>{}</i></td></tr></table>>'
"""The label of an edge, on white, because an edge may be inside a frame or outside of all frames."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A part of a drawing, as data: its texts are texts, and no source for dot.

    Attributes:
        kind: a box or a point, an edge, the begin or the end of a frame, or boxes in a common rank, in this order.
        names: the name of the box or of the frame, the two ends of an edge, or the boxes.
        attributes: its attributes for dot, apart from texts.
        label: its label, or None if it has none.
        remarks: the lines below the label.
        tooltip: its tooltip.

    """

    kind: Literal["node", "edge", "frame", "end", "rank"]
    names: tuple[str, ...] = ()
    attributes: dict[str, str] = field(default_factory=dict[str, str])
    label: str | None = None
    remarks: tuple[str, ...] = ()
    tooltip: str = ""

    def check(self) -> None:
        """Check that a statement from the file of a stranger says only things that a drawing says.

        Raises:
            ValueError: it says something else.

        """
        count = {"edge": 2, "end": 0, "rank": len(self.names)}.get(self.kind, 1)
        texts = [*self.attributes, *self.attributes.values(), *self.names]
        if (
            len(self.names) != count
            or not ATTRIBUTES.issuperset(self.attributes)
            or not all(map(_is_plain, texts))
        ):
            raise ValueError(f"a graph has a {self.kind} that no drawing has")

    def dot_attributes(self) -> dict[str, str]:
        """Return all attributes, with the texts in the syntax of dot."""
        texts = dict[str, str]()
        if self.label is not None:
            if self.kind == "edge":
                texts["label"] = EDGE_REMARK.format(escape_line(self.label))
            elif self.kind == "frame":
                texts["label"] = _html_label(
                    self.label, self.remarks, "b", '<br align="left"/>'
                )
            else:
                texts["label"] = r"\n".join(map(escape_line, _wrap_label(self.label)))
                if self.remarks:
                    texts["label"] = _html_label(self.label, self.remarks)
        if self.tooltip:
            # dot unescapes tooltips twice, once as https://graphviz.org/docs/attr-types/escString/.
            texts["tooltip"] = escape_line(self.tooltip).replace("\\", "\\\\")
        return {**self.attributes, **texts}


ATTRIBUTES: Final = frozenset(
    (  # noqa: SIM905
        "arrowtail color dir fillcolor fontcolor fontsize height labeljust labelloc lhead ltail margin penwidth "
        "peripheries shape style width"
    ).split()
)
_is_plain: Final = re.compile(r"[\w#?,. -]*", re.ASCII).fullmatch


def digraph_of(
    statements: Iterable[Statement], direction: Direction, defaults: Defaults = DEFAULTS
) -> Digraph:
    """Return the `graphviz.Digraph` of statements, whose frames are open until their end.

    `Digraph.subgraph` would copy the text of a nested frame once for each frame around it.

    Raises:
        ModuleNotFoundError: graphviz is not installed. `pip install 'trioflow[graph]'` installs it.

    """
    graphviz = import_extra(
        "graphviz", "graph()", "graph", known_as="the package graphviz"
    )
    graph_attributes = {**defaults[0], "rankdir": direction}
    graph: Digraph = graphviz.Digraph(
        graph_attr=graph_attributes, node_attr=defaults[1], edge_attr=defaults[2]
    )
    for statement in statements:
        match statement.kind:
            case "node":
                graph.node(*statement.names, **statement.dot_attributes())
            case "edge":
                graph.edge(*statement.names, **statement.dot_attributes())
            case "frame":
                graph.body.append(f'\tsubgraph "{statement.names[0]}" {{\n')
                graph.attr("graph", **statement.dot_attributes())
            case "rank":
                chain = " -> ".join(f'"{name}"' for name in statement.names)
                graph.body.append(f"\t{{ rank=same {chain} [style=invis] }}\n")
            case "end":
                graph.body.append("\t}\n")
    return graph


# ---- text

MAX_LABEL_WIDTH: Final = 32
MAX_LABEL_LINES: Final = 4
"""The maximum number of lines of a label. The rest of a longer label is shown only in the tooltip."""


def _html_label(
    label: str, remarks: Sequence[str], tag: str = "", line_end: str = "<br/>"
) -> str:
    lines = [_tag_line(line, tag) for line in _wrap_label(label)]
    remark_lines = [
        f'<font point-size="9">{_tag_line(remark, "i")}</font>' for remark in remarks
    ]
    return f"<{line_end.join([*lines, *remark_lines])}{line_end}>"


def _tag_line(line: str, tag: str) -> str:
    escaped = escape_line(line)
    # dot rejects an empty element: https://graphviz.org/doc/info/shapes.html#html.
    if tag and escaped:
        return f"<{tag}>{escaped}</{tag}>"
    return escaped


def _wrap_label(label: str) -> list[str]:
    return textwrap.wrap(
        label, MAX_LABEL_WIDTH, max_lines=MAX_LABEL_LINES, placeholder=" …"
    ) or [""]


def escape_line(line: str) -> str:
    """Return a line with entities, tags and backslashes escaped for dot."""
    escaped = printable(line).replace("&", "&amp;").replace("\\", "\\\\")
    return escaped.replace("<", "&lt;").replace(">", "&gt;")


# ---- the arrangement

Key = TypeVar("Key", bound=Hashable)
"""The key of a box or a frame."""
Members = Mapping[Key, list[Key]]
"""The boxes and frames directly in each frame. The first key stands for the whole, and has all that are in no frame.
Enclosing frames come first."""
MAX_ANCHORS: Final = 4
"""The maximum number of anchors at a border. If there are more boxes, a single point replaces them. Thus, an edge
between two frames becomes at most 16 edges in dot, of which only one is visible."""
MAX_ORDERED_BOXES: Final = 40
"""The maximum number of boxes in the first rank of a frame whose order is enforced. dot orders a larger rank."""
MAX_ROW: Final = 8
"""The `max_row` of a graph. More are arranged in a grid."""
GRID_RATIO: Final = 3.0
"""The number of rows of a grid divided by the number of its columns, because boxes are wider than high."""
INVISIBLE_POINT: Final[DotAttributes] = {
    "shape": "point",
    "style": "invis",
    "width": "0.01",
    "height": "0.01",
}
EMPTY_FRAME_TEXT: Final[DotAttributes] = {
    "shape": "plaintext",
    "style": "",
    "fontcolor": TEXT_COLOR,
    "fontsize": "9",
    "height": "0.2",
    "margin": "0.05,0",
}


class InvisiblePoint(NamedTuple):
    """A point at the top or at the bottom of a frame, or in the middle of an empty frame."""

    frame: Any
    position: str


Anchor: TypeAlias = Key | InvisiblePoint


class DotWriter(ABC, Generic[Key]):
    """A writer of boxes, frames and the edges between them as statements. A subclass knows how each of them looks.

    Args:
        names: the name of each box and frame.
        members: the boxes and frames, and where each is.
        edges: the edges between them, as pairs of tail and head.
        direction: the direction of the graph.
        grid_ratio: the number of rows of a grid divided by the number of its columns.
        max_row: the maximum number of boxes without edges in a rank: half of it in a frame if there are more in all.
        shares_edges: whether boxes of a frame with the same edges form a grid, whose outer rows alone have these edges.
            Otherwise, only boxes without edges stand in grids.

    """

    def __init__(
        self,
        names: Mapping[Key, str],
        members: Members[Key],
        edges: Collection[tuple[Key, Key]],
        direction: Direction,
        *,
        grid_ratio: float = GRID_RATIO,
        max_row: int = MAX_ROW,
        shares_edges: bool = False,
    ) -> None:
        self.names: Final = names
        self.direction: Final = direction
        self._members: Final = members
        self._grid_ratio: Final = grid_ratio
        self._max_row: Final = max_row
        # Invisible edges are written last, because dot puts a box into the frame where an edge first mentions it:
        # https://graphviz.org/doc/info/lang.html#subgraphs-and-clusters.
        self._invisible_edges: Final[list[tuple[Anchor[Key], Anchor[Key]]]] = []
        # The boxes of grids, without the boxes of the first rank.
        self._below_first_rank: Final[set[Anchor[Key]]] = set()
        self._above_last_rank: Final[set[Anchor[Key]]] = set()
        self._heads: Final = {head for _, head in edges}
        frame_of = dict[Key, Key]()
        for frame, keys in members.items():
            frame_of |= dict.fromkeys(keys, frame)
        inner_edges = [ends for ends in edges if frame_of[ends[0]] == frame_of[ends[1]]]
        self._tops, self._bottoms = (
            FrameBorders(
                position,
                members,
                {ends[at] for ends in edges},
                {ends[at] for ends in inner_edges},
            )
            for position, at in (("top", 1), ("bottom", 0))
        )
        self._arrange_in_grids(frame_of, edges, shares_edges)
        self._edges: Final = [
            ends
            for ends in edges
            if ends[0] not in self._above_last_rank
            and ends[1] not in self._below_first_rank
        ]

    @abstractmethod
    def box(self, key: Key) -> Statement:
        """Return the box `names[key]`."""

    @abstractmethod
    def frame(self, key: Key) -> Statement:
        """Return the begin of the frame `frame_name(key)`."""

    def edge(self, _tail: Key, _head: Key) -> tuple[DotAttributes, str | None]:
        """Return the attributes and the label of an edge."""
        return {}, None

    def frame_name(self, frame: Key) -> str:
        return f"cluster {self.names[frame]}"

    def statements(self) -> Iterator[Statement]:
        """Yield the boxes and frames, then the edges."""
        todo = [(key, False) for key in reversed(next(iter(self._members.values())))]
        # A loop without recursion, because frames may be nested to any depth.
        while todo:
            key, is_end = todo.pop()
            if is_end:
                yield from self._close_frame(key)
            elif key in self._members:
                yield from self._open_frame(key)
                todo += [
                    (key, True),
                    *((member, False) for member in reversed(self._members[key])),
                ]
            else:
                yield self.box(key)
        for tail, head in self._edges:
            yield self._visible_edge(tail, head)
        for ends in self._invisible_edges:
            yield Statement(
                "edge", tuple(map(self._anchor_name, ends)), {"style": "invis"}
            )

    def _open_frame(self, frame: Key) -> Iterator[Statement]:
        yield self.frame(frame)
        if not self._members[frame]:
            # dot draws no frame without content.
            yield Statement(
                "node",
                (self._anchor_name(InvisiblePoint(frame, "empty")),),
                EMPTY_FRAME_TEXT,
                "(empty)",
            )
        for borders, inner in (
            (self._tops, self._below_first_rank),
            (self._bottoms, self._above_last_rank),
        ):
            point = InvisiblePoint(frame, borders.position)
            if boxes := borders.replaced_boxes.get(point):
                yield Statement(
                    "node", (self._anchor_name(point),), INVISIBLE_POINT, ""
                )
                for box in boxes:
                    if box in inner:
                        continue
                    if borders is self._tops:
                        self._invisible_edges.append((point, box))
                    else:
                        self._invisible_edges.append((box, point))

    def _close_frame(self, frame: Key) -> Iterator[Statement]:
        """Close a frame, and keep dot from reversing the order of the boxes that no edge ends at.

        dot may place all of them in the first rank.
        """
        boxes = [
            key
            for key in self._members[frame]
            if key not in self._heads and key not in self._members
        ]
        names = [self.names[key] for key in boxes if key not in self._below_first_rank]
        # If the direction is "LR", dot orders the boxes of a rank from bottom to top.
        if self.direction == "LR":
            names.reverse()
        if 1 < len(names) <= MAX_ORDERED_BOXES:
            yield Statement("rank", tuple(names))
        yield Statement("end")

    def _visible_edge(self, tail: Key, head: Key) -> Statement:
        """Return an edge between the middle anchors of its ends. Invisible edges connect all other pairs of anchors."""
        attributes, label = self.edge(tail, head)
        tails = self._bottoms.anchors(tail)
        heads = self._tops.anchors(head)
        visible = tails[len(tails) // 2], heads[len(heads) // 2]
        self._invisible_edges.extend(
            ends for ends in itertools.product(tails, heads) if ends != visible
        )
        for name, frame, anchor in (
            ("ltail", tail, visible[0]),
            ("lhead", head, visible[1]),
        ):
            if anchor != frame:
                attributes = {**attributes, name: self.frame_name(frame)}
        return Statement(
            "edge", tuple(map(self._anchor_name, visible)), attributes, label
        )

    def _arrange_in_grids(
        self,
        frame_of: Mapping[Key, Key],
        edges: Collection[tuple[Key, Key]],
        shares_edges: bool,
    ) -> None:
        """Let dot place boxes with the same edges in grids by invisible edges. It would place them in a single rank."""
        ends_of: dict[Key, list[tuple[Key, bool]]] = {
            key: [] for key in frame_of if key not in self._members
        }
        for tail, head in edges:
            ends_of.get(tail, []).append((head, True))
            ends_of.get(head, []).append((tail, False))
        alike: dict[Any, list[Key]] = {}
        for key, ends in ends_of.items():
            if shares_edges or not ends:
                alike.setdefault((frame_of[key], frozenset(ends)), []).append(key)
        max_row = self._max_row
        if sum(map(len, alike.values())) > max_row:
            max_row //= 2
        for boxes in alike.values():
            if len(boxes) > max_row:
                row_count = math.ceil(math.sqrt(len(boxes) * self._grid_ratio))
                rank_size = row_count
                if self.direction == "TB":
                    rank_size = math.ceil(len(boxes) / row_count)
                self._invisible_edges.extend(
                    zip(boxes, boxes[rank_size:], strict=False)
                )
                self._below_first_rank.update(boxes[rank_size:])
                self._above_last_rank.update(
                    boxes[: (len(boxes) - 1) // rank_size * rank_size]
                )

    def _anchor_name(self, anchor: Anchor[Key]) -> str:
        if isinstance(anchor, InvisiblePoint):
            return f"{self.names[anchor.frame]} {anchor.position}"
        return self.names[anchor]


class FrameBorders(Generic[Key]):
    """The top borders of all frames, or all their bottom borders, with the anchors there.

    Args:
        position: which of the two.
        members: the frames.
        ends: the boxes and frames where edges end, or begin, if it is the bottom.
        inner_ends: the ends of edges inside of a frame, which are not at the border.

    """

    def __init__(
        self, position: str, members: Members[Key], ends: set[Key], inner_ends: set[Key]
    ) -> None:
        self.position: Final = position
        self.replaced_boxes: Final[dict[InvisiblePoint, list[Anchor[Key]]]] = {}
        """The boxes that each point replaces. They belong below a point at the top, and above a point at the bottom."""
        self._anchors: Final[dict[Key, list[Anchor[Key]]]] = {}
        # The borders of the frames where edges end, and of the frames in them that touch their borders.
        borders: dict[Key, list[Key]] = {}
        wanted = set(ends)
        # The outermost frame first.
        for frame, keys in members.items():
            if frame in wanted:
                borders[frame] = [key for key in keys if key not in inner_ends] or keys[
                    :1
                ]
                wanted.update(borders[frame])
        for frame, keys in reversed(borders.items()):
            anchors: list[Anchor[Key]] = [*itertools.chain(*map(self.anchors, keys))]
            if len(anchors) > MAX_ANCHORS:
                self.replaced_boxes[InvisiblePoint(frame, position)] = anchors
                anchors = [InvisiblePoint(frame, position)]
            self._anchors[frame] = anchors or [InvisiblePoint(frame, "empty")]

    def anchors(self, key: Key) -> list[Anchor[Key]]:
        """Return the anchors of a frame, at most `MAX_ANCHORS`. A box is its own anchor."""
        return self._anchors.get(key, [key])


# ---- pictures, drawn by `dot`

MAX_DOT_SECONDS: Final = 120
"""The time that `dot` may take. It draws a thousand boxes in a second, and ten thousand in half a minute."""
MAX_WIDTH_POINTS: Final = 1600
"""The maximum width of a picture in points. A page 1,280 pixels wide shows such a picture at 60 % of its size."""


def render(
    source: str,
    image_format: Literal["svg", "png"],
    subject: str,
    seconds: float = math.inf,
) -> bytes:
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
    command = ["dot", f"-T{image_format}"]
    # At dot's default of 96 dots per inch, a PNG would look blurred in print: https://graphviz.org/docs/attrs/dpi/.
    if image_format == "png":
        command.append("-Gdpi=144")
    try:
        done = subprocess.run(
            command,
            input=source.encode(),
            capture_output=True,
            check=True,
            timeout=seconds,
        )
        if image_format == "svg":
            return done.stdout.replace(b"<title>%3</title>\n", b"", 1)
        return done.stdout
    except FileNotFoundError:
        raise RuntimeError(
            f"{subject}: the program dot, which draws the picture, is not installed. It comes with Graphviz: "
            f"apt install graphviz, dnf install graphviz, brew install graphviz, conda install graphviz, "
            f"or https://graphviz.org/download. Without it, save the graph as .dot or .mmd"
        ) from None
    except subprocess.TimeoutExpired:
        advice = (
            "draw fewer boxes, with collapse=True, or save the graph as .dot or .mmd"
        )
        raise RuntimeError(
            f"{subject}: dot has not ended in {seconds:.3g} s: {advice}"
        ) from None
    except subprocess.CalledProcessError as error:
        message = error.stderr.decode(errors="replace").strip()
        raise RuntimeError(
            f"{subject}: dot exited with {error.returncode}: {message[-500:]}"
        ) from None


def render_svg(source: str, subject: str, seconds: float = math.inf) -> str:
    """Draw a graph of Graphviz with `dot`, and in the other direction if the picture is too wide, and that is narrower.

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
    return render(
        render_to_fit(_both_directions(source), subject).source, "png", subject
    )


def _both_directions(source: str) -> Iterator[str]:
    yield source
    yield re.sub(
        "(?<=rankdir=)(TB|LR)",
        lambda found: {"TB": "LR", "LR": "TB"}[found[0]],
        source,
        count=1,
    )


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
    """Draw the first of some sources that fits into a place, or else the source that must be scaled the least.

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
        ratios = (
            room / size
            for room, size in zip(place, size_in_points(svg), strict=True)
            if size
        )
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
        if unknown := sorted(
            {name.rpartition("}")[2] for name in (element.tag, *element.attrib)}
            - PICTURE_NAMES
        ):
            raise ValueError(f"its picture has {unknown[0]!r}")
    Tree.register_namespace("", "http://www.w3.org/2000/svg")
    Tree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    return Tree.tostring(root, encoding="unicode")


def size_in_points(svg: str) -> tuple[float, float]:
    """Return the width and the height of an SVG in points, or 0 for a size that the SVG does not give in points."""
    found = re.search(r'<svg width="([\d.]+)pt" height="([\d.]+)pt"', svg)
    if found:
        return (float(found[1]), float(found[2]))
    return (0.0, 0.0)
