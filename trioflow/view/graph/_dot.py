"""Statements, the parts of a drawing as data, and their translation into the language of `dot`."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from ..._core.job._labels import printable
from ._drawing import LINE_COLOR, Direction

if TYPE_CHECKING:
    from graphviz import Digraph

DotAttributes = dict[str, str]

FONT_FAMILIES: Final = "Helvetica,Arial,sans-serif"
GRAPH_DEFAULTS: Final[DotAttributes] = {
    "compound": "true",
    "newrank": "true",  # otherwise dot may give the two ends of an edge between frames the same rank
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


def import_graphviz(caller: str) -> Any:
    """Return the package graphviz, which is imported late, because most programs draw nothing.

    Args:
        caller: the name of what the user called, for the error message.

    Raises:
        ModuleNotFoundError: it is not installed; `pip install 'trioflow[graph]'` installs it.

    """
    try:
        import graphviz
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{caller} needs the package graphviz, which is not installed: pip install 'trioflow[graph]'",
            name=error.name,
        ) from None
    return graphviz


@dataclass(frozen=True, slots=True)
class Statement:
    """A part of a drawing, as data: its texts are texts, and no source for dot.

    Attributes:
        kind: a box or a point, an edge, the begin or the end of a frame, or boxes in one rank, in this order.
        names: the name of the box or of the frame, the two ends of an edge, or the boxes.
        attributes: what dot is told about it, apart from texts.
        label: its label; None if it has none.
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
        """Check that a statement from the file of a stranger says nothing but what a drawing says.

        Raises:
            ValueError: it says something else.

        """
        count = {"edge": 2, "end": 0, "rank": len(self.names)}.get(self.kind, 1)
        texts = [*self.attributes, *self.attributes.values(), *self.names]
        if len(self.names) != count or not ATTRIBUTES.issuperset(self.attributes) or not all(map(_is_plain, texts)):
            raise ValueError(f"a graph has a {self.kind} that no drawing has")

    def dot_attributes(self) -> dict[str, str]:
        """Return all attributes, with the texts in the syntax of dot."""
        texts = dict[str, str]()
        if self.label is not None:
            if self.kind == "edge":
                texts["label"] = EDGE_REMARK.format(escape_line(self.label))
            elif self.kind == "frame":
                texts["label"] = _html_label(self.label, self.remarks, "b", '<br align="left"/>')
            else:
                texts["label"] = _html_label(self.label, self.remarks) if self.remarks else plain_label(self.label)
        if self.tooltip:
            texts["tooltip"] = escape_line(self.tooltip).replace("\\", "\\\\")  # dot unescapes tooltips twice
        return {**self.attributes, **texts}


ATTRIBUTES: Final = frozenset(
    """
    arrowtail color dir fillcolor fontcolor fontsize height labeljust labelloc lhead ltail margin penwidth
    peripheries     shape style width
    """.split()  # noqa: SIM905
)
_is_plain: Final = re.compile(r"[\w#?,. -]*", re.ASCII).fullmatch


def digraph_of(statements: Iterable[Statement], direction: Direction, defaults: Defaults = DEFAULTS) -> Digraph:
    """Return the `graphviz.Digraph` of statements, of which frames are open until their end.

    `Digraph.subgraph` would copy the text of a nested frame once for each frame around it.
    """
    graph: Digraph = import_graphviz("graph()").Digraph(
        graph_attr={**defaults[0], "rankdir": direction}, node_attr=defaults[1], edge_attr=defaults[2]
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


def plain_label(label: str) -> str:
    """Wrap a printable label, and return it in the syntax of a plain dot label."""
    return r"\n".join(map(escape_line, _wrap_label(label)))


def _html_label(label: str, remarks: Sequence[str], tag: str = "", line_end: str = "<br/>") -> str:
    lines = [_tag_line(line, tag) for line in _wrap_label(label)]
    remark_lines = [f'<font point-size="9">{_tag_line(remark, "i")}</font>' for remark in remarks]
    return f"<{line_end.join([*lines, *remark_lines])}{line_end}>"


def _tag_line(line: str, tag: str) -> str:
    escaped = escape_line(line)
    return f"<{tag}>{escaped}</{tag}>" if tag and escaped else escaped  # dot rejects an empty element


def _wrap_label(label: str) -> list[str]:
    return textwrap.wrap(label, MAX_LABEL_WIDTH, max_lines=MAX_LABEL_LINES, placeholder=" …") or [""]


def escape_line(line: str) -> str:
    """Return a line with entities, tags and backslashes escaped for dot."""
    escaped = printable(line).replace("&", "&amp;").replace("\\", "\\\\")
    return escaped.replace("<", "&lt;").replace(">", "&gt;")
