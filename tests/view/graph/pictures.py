"""Parse graphs as `dot` lays them out."""

import json
import subprocess
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from typing import Any
from trioflow import Scheduler
from trioflow.view import _save

Attributes = dict[str, str]


@dataclass
class Seen:
    boxes: dict[str, Attributes] = field(default_factory=dict)
    frames: dict[str, Attributes] = field(default_factory=dict)
    inside: dict[str, set[str]] = field(
        default_factory=dict
    )  # of each frame, the labels of all the boxes in it
    lines: dict[tuple[str, str], Attributes] = field(
        default_factory=dict
    )  # between labels, of frames where they end


def dot(source: str, image: str, *options: str) -> str:
    """Return what `dot` writes; it must not complain."""
    command = ["dot", f"-T{image}", *options]
    done = subprocess.run(
        command, input=source, capture_output=True, encoding="utf-8", check=True
    )
    assert done.stderr == ""
    return done.stdout


def seen(graph: Any) -> Seen:
    """Read a `graphviz.Digraph`. Labels must be unique."""
    read = json.loads(dot(graph.source, "dot_json"))
    found = Seen()
    objects = read.get("objects", [])
    for one in objects:
        if (
            "nodes" not in one
            and "subgraphs" not in one
            and one.get("style") != "invis"
        ):
            found.boxes[label(one)] = one
        elif one["name"].startswith("cluster"):
            found.frames[label(one)] = one
            members = [objects[n] for n in one.get("nodes", [])]
            found.inside[label(one)] = {
                label(node) for node in members if node.get("style") != "invis"
            }
    names = {one["name"]: label(one) for one in objects}
    for line in read.get("edges", []):
        if line.get("style") != "invis":
            tail, head = (
                names[objects[line["tail"]]["name"]],
                names[objects[line["head"]]["name"]],
            )
            ends = (
                names.get(line.get("ltail", ""), tail),
                names.get(line.get("lhead", ""), head),
            )
            assert ends not in found.lines
            found.lines[ends] = line
    return found


def label(one: Attributes) -> str:
    """Return the label without its markup, in one line."""
    text = one.get("label", "").replace("\\N", one["name"])
    for tag in (
        ' align="left"',
        "<b>",
        "</b>",
        "<i>",
        "</i>",
        '<font point-size="9">',
        "</font>",
    ):
        text = text.replace(tag, "")
    return text.replace("<br/>", "|").replace("\\n", "|").strip("<>|")


def texts(svg: str) -> list[str]:
    """Return the lines of text in an SVG picture, without blank ones."""
    found = (
        "".join(one.itertext())
        for one in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
    )
    return [text for text in found if text.strip()]


def escape(label: str) -> str:
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in label
    )


def mermaid(scheduler: Scheduler, collapse: Any = False) -> str:
    return str(_save._graph_contents(scheduler, ".mmd", collapse))
