"""`mermaid`: writes a drawing in the language of Mermaid, which README files on GitHub and GitLab may contain.

Lines in Mermaid can end at frames, so no anchors are needed. Mermaid has fewer shapes than dot, so kinds of jobs that
differ in dot's pictures may look the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from ..._core.api.views import AnyJob, BaseScheduler, JobState, box_of, printable
from .._state_styles import INK, STATE_STYLES
from ..text._listing import Begin, End, Plain
from . import _style
from ._drawing import Drawing, DrawnAs, LineKind

ARROWS: Final[Mapping[LineKind, str]] = {LineKind.ORDER: "-->", LineKind.DATA: "==>", LineKind.DETOUR: "-.->"}
TO_JUNCTION: Final[Mapping[LineKind, str]] = {LineKind.ORDER: "---", LineKind.DATA: "===", LineKind.DETOUR: "-.-"}
SEVERAL: Final = "[[", "]]"
UNSAFE: Final = re.compile(r"[!-'*+;-@\[-`{-~]|[-.)](?= )")
"""Punctuation to escape, in ranges of ASCII; and the start of a Markdown list, which is an error in Mermaid."""
INDENT: Final = "  "


def mermaid(drawing: Drawing, direction: _style.Direction) -> str:
    """Return a drawing as the text of a Mermaid flowchart. O(V + E)."""
    return "\n".join([f"flowchart {direction}", *MermaidWriter(drawing, direction).lines()]) + "\n"


class MermaidWriter:
    """A writer of a drawing as the lines of a flowchart."""

    def __init__(self, drawing: Drawing, direction: _style.Direction) -> None:
        """Choose the names of the jobs."""
        self._drawing: Final = drawing
        self._direction: Final = direction
        names = {job: f"n{number}" for job, number in drawing.numbers.items()}
        self._names: Final = {**names, **{job: f"outside{n}" for n, job in enumerate(drawing.outside_jobs(), 1)}}
        self._framed: Final = {
            item.job.scheduler for item in drawing.items()
        }  # not empty ones, which are drawn as boxes
        self._styles: Final[list[str]] = []

    def lines(self) -> Iterator[str]:
        """Yield the lines of text: classes, boxes and frames, the lines between them, and individual styles."""
        yield from self._class_lines()
        yield from self._box_lines()
        for job in self._drawing.outside_jobs():
            label = quote(printable(f"? {job.label}"))
            yield f"{INDENT}{self._names[job]}({label})"
            self._add_style(job, "stroke-dasharray:2 3")
        for number, ((tail, head), line) in enumerate(self._drawing.lines.items()):
            yield f"{INDENT}{self._names[tail]} {self._arrow(head, line)} {self._names[head]}"
            if (tail, head) in self._drawing.critical_lines:
                self._styles.append(f"{INDENT}linkStyle {number} stroke:{_style.CRITICAL_PATH_COLOUR},stroke-width:4px")
        yield from self._styles

    def _class_lines(self) -> Iterator[str]:
        """Yield the definitions of the classes, one for each state of a box or a frame."""
        boxes = {self._state(item.job) for item in self._drawing.items() if item.job not in self._framed}
        frames = {self._state(scheduler) for scheduler in self._framed if scheduler in self._names}
        for state in JobState:
            fill, line, text, frame = STATE_STYLES[state].light
            if state in boxes:
                yield f"{INDENT}classDef {state.value} fill:{fill},stroke:{line},color:{text}"
            if state in frames:
                yield f"{INDENT}classDef {state.value}Frame fill:{frame},stroke:{line},color:{INK}"

    def _box_lines(self) -> Iterator[str]:
        """Yield the boxes, indented in their frames."""
        depth = 1
        for item in self._drawing.items():
            if isinstance(item, Plain) or item.job not in self._framed:
                if not isinstance(item, End):
                    yield f"{INDENT * depth}{self._box_line(item.job)}"
            elif isinstance(item, Begin):
                yield from self._frame_lines(item.job, INDENT * depth)
                depth += 1
            else:
                depth -= 1
                yield f"{INDENT * depth}end"

    def _frame_lines(self, scheduler: BaseScheduler, indent: str) -> Iterator[str]:
        jobs = self._drawing.jobs_drawn_as(scheduler)
        label, remarks = _style.caption(jobs, is_frame=True)
        yield f"{indent}subgraph {self._names[scheduler]}[{quote(label, *remarks)}]"
        yield f"{indent}{INDENT}direction {self._direction}"
        self._add_marks(scheduler)
        self._styles.append(f"{INDENT}class {self._names[scheduler]} {self._state(scheduler).value}Frame")
        if (line := _style.box_colours(jobs).line) != STATE_STYLES[self._state(scheduler)].light.line:
            self._add_style(scheduler, f"stroke:{line}")

    def _box_line(self, job: AnyJob) -> str:
        name = self._names[job]
        if self._drawing.role(job) is DrawnAs.JUNCTION:
            return f'{name}((" "))'
        jobs = self._drawing.jobs_drawn_as(job)
        begin, end = SEVERAL if len(jobs) > 1 else box_of(job).brackets
        label, remarks = _style.caption(jobs)
        self._add_marks(job)
        fill, line, text, _ = _style.box_colours(jobs)
        if fill != STATE_STYLES[self._state(job)].light.fill:  # a member has failed or is blocked
            self._add_style(job, f"fill:{fill},stroke:{line},color:{text}")
        return f"{name}{begin}{quote(label, *remarks)}{end}:::{self._state(job).value}"

    def _arrow(self, head: AnyJob, line: LineKind) -> str:
        if self._drawing.role(head) is DrawnAs.JUNCTION:
            return TO_JUNCTION[line]
        return "-.->" if head.run_if == "failed" else ARROWS[line]

    def _add_marks(self, job: AnyJob) -> None:
        """Add the styles that mark critical and forever jobs."""
        if job.is_critical():
            self._add_style(job, "stroke-width:3px")
        if job.forever:
            self._add_style(job, "stroke-dasharray:5 4")

    def _add_style(self, job: AnyJob, style: str) -> None:
        self._styles.append(f"{INDENT}style {self._names[job]} {style}")

    def _state(self, job: AnyJob) -> JobState:
        return _style.shown_state(self._drawing.jobs_drawn_as(job))


def quote(*lines: str) -> str:
    """Return lines as one quoted text of Mermaid, with entities, HTML, Markdown and quotes escaped."""
    text = "<br/>".join(UNSAFE.sub(lambda match: f"#{ord(match[0])};", line) for line in lines)
    return f'"{text or " "}"'
