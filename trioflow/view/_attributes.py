"""Graphviz attributes: how jobs, frames and lines look in the language of dot, and text made fit for it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any, Final

from .._core import _labels
from .._core._jobs import AbstractJob
from .._core._scheduler import BaseScheduler
from .._core._states import JobState
from . import _looks
from ._drawing import Line

AnyJob = AbstractJob[Any]
Attributes = dict[str, str]

FONT: Final = "Helvetica,Arial,sans-serif"
FAINT: Final = "#7b8794"
GRAPH: Final[Attributes] = {
    "compound": "true",
    "newrank": "true",  # otherwise lines between frames are but a wish: heads may stand beside tails
    "fontname": FONT,
    "fontsize": "11",
    "nodesep": "0.25",
    "ranksep": "0.45",
    "pad": "0.15",
    "bgcolor": "white",
}
NODE: Final[Attributes] = {
    "fontname": FONT,
    "fontsize": "11",
    "shape": "box",
    "style": "rounded,filled",
    "height": "0.35",
    "margin": "0.14,0.06",
    "penwidth": "1",
}
EDGE: Final[Attributes] = {"fontname": FONT, "fontsize": "10", "color": FAINT, "arrowsize": "0.65", "penwidth": "1"}
LINES: Final[Mapping[Line, Attributes]] = {
    Line.ORDER: {},
    Line.DATA: {"color": "#1d5fa6", "penwidth": "1.8", "dir": "both", "arrowtail": "dot"},
    Line.DETOUR: {"style": "dotted", "penwidth": "1.6"},
}
WHEN_FAILED: Final[Attributes] = {"style": "dashed"}
ROUND: Final[Attributes] = {}
SQUARE: Final[Attributes] = {"style": "filled"}
SHAPES: Final[Mapping[str, Attributes]] = {
    "Service": {**SQUARE, "shape": "hexagon"},
    "ThreadJob": SQUARE,
    "ExecutorJob": SQUARE,
    "ProcessJob": {**SQUARE, "shape": "component"},
    "CommandJob": {**SQUARE, "shape": "note"},
    "SshJob": {**SQUARE, "shape": "cds"},
    "BaseScheduler": {**SQUARE, "shape": "folder"},
}
"""All other kinds are boxes with round corners."""
STACK: Final[Attributes] = {**SQUARE, "shape": "box3d", "margin": "0.16,0.1"}
POINT: Final[Attributes] = {"shape": "point", "width": "0.06", "color": FAINT, "label": ""}
OUTSIDE: Final[Attributes] = {"style": "rounded,dotted", "color": FAINT, "fontcolor": "#616e7c"}
INVISIBLE: Final[Attributes] = {"shape": "point", "style": "invis", "width": "0.01", "height": "0.01", "label": ""}
EMPTY: Final[Attributes] = {
    "shape": "plaintext",
    "style": "",
    "fontcolor": FAINT,
    "fontsize": "9",
    "label": "(empty)",
    "height": "0.2",
    "margin": "0.05,0",
}

COLUMNS: Final = 32
"""Characters: longer labels are broken into lines."""
LONGEST: Final = 4
"""Lines: of a label of more the beginning is shown; all of it stands in the tooltip."""

LONGEST_PATH: Final = 1000
"""Characters: of a longer path the end is shown; nested a thousand deep, paths would be most of the text."""


def of_jobs(jobs: list[AnyJob], path: str) -> Attributes:
    """Return the attributes of the box for a job, or for several that are alike."""
    look = _looks.LOOKS[_looks.state(jobs)]
    label, remarks = _looks.caption(jobs)
    return {
        "label": _formatted(label, remarks) if remarks else text(label),
        "tooltip": tooltip(jobs, path),
        **colours(look),
        **(STACK if len(jobs) > 1 else shape(jobs[0])),
        **_marks(jobs[0], STACK if len(jobs) > 1 else shape(jobs[0])),
    }


def of_frame(scheduler: BaseScheduler, path: str) -> Attributes:
    """Return the attributes of the frame around a nested scheduler."""
    look = _looks.LOOKS[scheduler.state]
    label, remarks = _looks.caption([scheduler])
    return {
        **FRAME,
        "label": _formatted(label, remarks[1:], "b"),  # how many jobs it has, one sees
        "tooltip": tooltip([scheduler], path),
        "fillcolor": look.frame,
        "color": look.line,
        "penwidth": "1",  # a frame would take that of the frame around it
        **_marks(scheduler, FRAME),
    }


FRAME: Final[Attributes] = {"style": "rounded,filled", "labeljust": "l", "margin": "10"}


def of_outside(job: AnyJob) -> Attributes:
    """Return the attributes of the box for a job that is required, but is not there."""
    return {**OUTSIDE, "label": text(_labels.printable(f"? {job.label}")), "tooltip": tooltip([job], job.path)}


def colours(look: _looks.Look) -> Attributes:
    """Return the colours of a box."""
    return {"fillcolor": look.fill, "color": look.line, "fontcolor": look.text}


def shape(job: AnyJob) -> Attributes:
    """Return the shape of a kind of job."""
    return SHAPES.get(_looks.kind(job), ROUND)


def _marks(job: AnyJob, shaped: Attributes) -> Attributes:
    """Show whether a job is critical, and whether it is forever."""
    marks: Attributes = {}
    if job.is_critical():
        marks["penwidth"] = "2.6"
        if job.state is not JobState.FAILED:  # red on red
            marks["color"] = _looks.CRITICAL
    if job.forever:
        marks["style"] = f"{shaped.get('style', NODE['style'])},dashed"
    return marks


def tooltip(jobs: list[AnyJob], path: str) -> str:
    """Return what a viewer shows under the pointer: kind, path and state."""
    where = path if len(path) <= LONGEST_PATH else f"…{path[-LONGEST_PATH:]}"
    and_more = f" and {len(jobs) - 1} more" if len(jobs) > 1 else ""
    shown = f"{type(jobs[0]).__name__}: {where}{and_more} ({_looks.state(jobs).value})"
    return escaped(shown).replace("\\", "\\\\")  # dot reads it twice


# ---- text


def text(label: str) -> str:
    """Return a printable label as lines of plain text."""
    return r"\n".join(map(escaped, _wrapped(label)))


def _formatted(label: str, remarks: list[str], tag: str = "") -> str:
    """Return a printable label, with remarks in small letters below it, in what dot takes for HTML."""
    lines = [_marked_up(line, tag) for line in _wrapped(label)]
    small = [f'<font point-size="9">{_marked_up(remark, "i")}</font>' for remark in remarks]
    return f"<{'<br/>'.join([*lines, *small])}>"


def _marked_up(line: str, tag: str) -> str:
    shown = escaped(line)
    return f"<{tag}>{shown}</{tag}>" if tag and shown else shown  # dot refuses an empty element


def _wrapped(label: str) -> list[str]:
    return textwrap.wrap(label, COLUMNS, max_lines=LONGEST, placeholder=" …") or [""]


def escaped(line: str) -> str:
    """Return text so that dot shows just that; it takes entities, tags and backslashes for more than they are."""
    shown = _labels.printable(line).replace("&", "&amp;").replace("\\", "\\\\")
    return shown.replace("<", "&lt;").replace(">", "&gt;")
