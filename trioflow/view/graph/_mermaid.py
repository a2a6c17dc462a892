"""Convert a drawing to a Mermaid flowchart, which GitHub and GitLab render in README files.

An edge in Mermaid can end at a frame, so no anchors are needed. Mermaid has fewer shapes than dot, so two kinds of jobs
with different shapes in dot may look the same here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from ..._core.job._job import AnyJob
from ..._core.job._labels import printable
from ..._core.scheduler._base_scheduler import BaseScheduler
from ..._core.words._job_queries import box_of, criticality
from .._state_styles import STATE_STYLES, TEXT_COLOR, state_class
from ..text._listing import BeginRow, EndRow, PlainRow
from ._drawing import CRITICAL_PATH_COLOR, IF_SETTLED, Direction, Drawing, EdgeKind, box_colors, caption, shown_state

ARROWS: Final[Mapping[EdgeKind, str]] = {EdgeKind.ORDER: "-->", EdgeKind.DATA: "==>", EdgeKind.SETTLED: "-->"}
UNSAFE_CHARACTERS: Final = re.compile(r"[!-'*+;-@\[-`{-~]|[-.)](?= )")
"""The characters to escape: most ASCII punctuation, and a `-`, `.` or `)` before a space.

With a space after it, one of these three may begin a Markdown list, e.g. `1. `, which Mermaid rejects in a label.
"""
INDENT: Final = "  "


def flowchart_text(drawing: Drawing, direction: Direction) -> str:
    """Convert a drawing to the text of a Mermaid flowchart, in O(V + E) time for V jobs and E edges."""
    return "\n".join([f"flowchart {direction}", *MermaidWriter(drawing, direction).lines()]) + "\n"


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
                self._style_lines.append(f"{INDENT}linkStyle {number} stroke:{CRITICAL_PATH_COLOR},stroke-width:4px")
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
        return f"{arrow}|{IF_SETTLED}|" if kind is EdgeKind.SETTLED else arrow

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
