"""`mermaid`: a drawing in the language of Mermaid, which README files on GitHub and GitLab may contain.

Mermaid's lines can end at frames, so there are no anchors here. What it lacks are shapes: kinds that dot tells apart
may look the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from .._core import _labels
from .._core._jobs import AbstractJob
from .._core._scheduler import BaseScheduler
from .._core._states import JobState
from . import _looks
from ._drawing import Close, Drawing, Line, Open, Part, Single
from ._looks import Direction

AnyJob = AbstractJob[Any]

ARROWS: Final[Mapping[Line, str]] = {Line.ORDER: "-->", Line.DATA: "==>", Line.DETOUR: "-.->"}
TO_JUNCTION: Final[Mapping[Line, str]] = {Line.ORDER: "---", Line.DATA: "===", Line.DETOUR: "-.-"}
BOXES: Final[Mapping[str, tuple[str, str]]] = {
    "Service": ("{{", "}}"),
    "ThreadJob": ("[", "]"),
    "ExecutorJob": ("[", "]"),
    "ProcessJob": ("[", "]"),
    "CommandJob": ("[/", "/]"),
    "SshJob": ("[/", "/]"),
    "BaseScheduler": ("[[", "]]"),
}
ROUND: Final = "(", ")"
SEVERAL: Final = "[[", "]]"
UNSAFE: Final = re.compile(r"[!-'*+;-@\[-`{-~]|[-.)](?= )")
"""In the order of ASCII; and what a line of Markdown could begin with, for a list is an error."""
INDENT: Final = "  "


def mermaid(drawing: Drawing, direction: Direction) -> str:
    """Return the drawing as the text of a Mermaid flowchart. O(V + E)."""
    return "\n".join([f"flowchart {direction}", *Writer(drawing, direction).lines()]) + "\n"


class Writer:
    """Writes a drawing, line by line."""

    def __init__(self, drawing: Drawing, direction: Direction) -> None:
        """Prepare."""
        self._drawing: Final = drawing
        self._direction: Final = direction
        names = {job: f"n{number}" for job, number in drawing.numbers.items()}
        self._names: Final = {**names, **{job: f"outside{n}" for n, job in enumerate(drawing.outside(), 1)}}
        self._framed: Final = {item.job.scheduler for item in drawing.items()}  # a frame around nothing is a box
        self._styles: Final[list[str]] = []

    def lines(self) -> Iterator[str]:
        """Yield the lines: classes, boxes and frames, lines between them, and how single ones differ."""
        yield from self._classes()
        yield from self._boxes()
        for job in self._drawing.outside():
            label = quoted(_labels.printable(f"? {job.label}"))
            yield f"{INDENT}{self._names[job]}({label})"
            self._style(job, "stroke-dasharray:2 3")
        for (tail, head), line in self._drawing.lines.items():
            yield f"{INDENT}{self._names[tail]} {self._arrow(head, line)} {self._names[head]}"
        yield from self._styles

    def _classes(self) -> Iterator[str]:
        boxes = {self._state(item.job) for item in self._drawing.items() if item.job not in self._framed}
        frames = {scheduler.state for scheduler in self._framed if scheduler in self._names}
        for state in JobState:
            look = _looks.LOOKS[state]
            if state in boxes:
                yield f"{INDENT}classDef {state.value} fill:{look.fill},stroke:{look.line},color:{look.text}"
            if state in frames:
                yield f"{INDENT}classDef {state.value}Frame fill:{look.frame},stroke:{look.line},color:{_looks.PLAIN}"

    def _boxes(self) -> Iterator[str]:
        depth = 1
        for item in self._drawing.items():
            if isinstance(item, Single) or item.job not in self._framed:
                if not isinstance(item, Close):
                    yield f"{INDENT * depth}{self._box(item.job)}"
            elif isinstance(item, Open):
                yield from self._open(item.job, INDENT * depth)
                depth += 1
            else:
                depth -= 1
                yield f"{INDENT * depth}end"

    def _open(self, scheduler: BaseScheduler, indent: str) -> Iterator[str]:
        label, remarks = _looks.caption([scheduler])
        yield f"{indent}subgraph {self._names[scheduler]}[{quoted(label, *remarks[1:])}]"
        yield f"{indent}{INDENT}direction {self._direction}"
        self._mark(scheduler)
        self._styles.append(f"{INDENT}class {self._names[scheduler]} {scheduler.state.value}Frame")

    def _box(self, job: AnyJob) -> str:
        name = self._names[job]
        if self._drawing.part(job) is Part.JUNCTION:
            return f'{name}((" "))'
        jobs = self._drawing.jobs_behind(job)
        begin, end = SEVERAL if len(jobs) > 1 else BOXES.get(_looks.kind(job), ROUND)
        label, remarks = _looks.caption(jobs)
        self._mark(job)
        return f"{name}{begin}{quoted(label, *remarks)}{end}:::{self._state(job).value}"

    def _arrow(self, head: AnyJob, line: Line) -> str:
        if self._drawing.part(head) is Part.JUNCTION:
            return TO_JUNCTION[line]
        return "-.->" if head.run_if == "failed" else ARROWS[line]

    def _mark(self, job: AnyJob) -> None:
        """Show whether a job is critical, and whether it is forever."""
        if job.is_critical():
            colour = f",stroke:{_looks.CRITICAL}" if job.state is not JobState.FAILED else ""
            self._style(job, f"stroke-width:3px{colour}")
        if job.forever:
            self._style(job, "stroke-dasharray:5 4")

    def _style(self, job: AnyJob, style: str) -> None:
        self._styles.append(f"{INDENT}style {self._names[job]} {style}")

    def _state(self, job: AnyJob) -> JobState:
        return _looks.state(self._drawing.jobs_behind(job))


def quoted(*lines: str) -> str:
    """Return lines so that Mermaid shows just that; it takes entities, HTML, Markdown and quotes for more."""
    text = "<br/>".join(UNSAFE.sub(lambda found: f"#{ord(found[0])};", line) for line in lines)
    return f'"{text or " "}"'
