"""What a monitor shows, as lines of text with the names of their styles: nothing here knows a terminal.

A picture is two lines that tell of the whole run, then one line a job: whether it is critical, its symbol, its time,
its label, and what else is to be said of it. Each of them begins in the same column from the first picture to the
last, but where a longer label comes up.
"""

from __future__ import annotations

from typing import Any, Final

from .._core._jobs import AbstractJob
from .._core._scheduler import BaseScheduler
from .._core._states import JobState
from . import _monitor_units as units
from . import _values
from ._monitor_layout import Layout, Row, Rows, context
from ._monitor_model import Model, Tally
from ._script import UNICODE, Script, width

Piece = tuple[str, str]
"""A text and the name of its style; "" for none."""
Line = list[Piece]

NARROW: Final = 40
"""Columns below which a line leaves out whether a job is critical, and what else is to be said of it."""

LABELS: Final = {"running": "label", "failed": "label", "done": "dim"}
"""The style of a label, by that of its symbol, where the two differ: what is over recedes."""

MARGIN: Final = units.COLUMNS + 5
"""Columns before a label: the symbol, the time, and the blanks around them."""

LEAST_AROUND: Final = 6
"""Columns below which nothing is said of the schedulers that a job is in."""

STYLES: Final = {
    JobState.RUNNING: "running",
    JobState.SUCCEEDED: "done",
    JobState.FAILED: "failed",
    JobState.BLOCKED: "trouble",
    JobState.CANCELLED: "trouble",
}
"""Those of states; all others wait, or need not run."""


class Pictures:
    """The pictures of one run on one stream."""

    def __init__(self, model: Model, layout: Layout, script: Script) -> None:
        self._model: Final = model
        self._layout: Final = layout
        self._script: Final = script
        self._label_columns = 0
        self._is_unicode: Final = script.symbols is UNICODE
        self.ellipsis: Final = "…" if self._is_unicode else "..."

    def picture(self, columns: int, height: int, head: list[Line]) -> list[Line]:
        """Return at most `height` lines, of at most `columns`: `head`, and the jobs below it.

        The last one may be higher: it stays when the terminal goes on.
        """
        head = head[: max(1, min(len(head), height))]
        left = height - len(head)
        if left < 1:
            return head
        shown = self._layout.rows(left)
        lines = self._lines(shown, columns)
        lines = lines if self._model.ended is not None else lines[:left]
        return [*head, *(_cropped(line, columns) for line in lines)]

    def _lines(self, shown: Rows, columns: int) -> list[Line]:
        rows = [*shown.rows, *shown.beside]
        labels = [self._label(row) for row in rows]
        margin = MARGIN if columns < NARROW else MARGIN + 2
        widest = max((sum(width(text) for text, _ in label) for label in labels), default=0)
        limit = columns - margin if columns < NARROW else max(columns - margin - 60, (columns - margin) // 2)
        self._label_columns = max(0, min(limit, max(self._label_columns, widest)))
        lines = [self._row(row, label, columns) for row, label in zip(rows, labels, strict=True)]
        if shown.rest is not None:
            lines.insert(len(shown.rows), self._rest(shown.rest, margin, columns))
        return lines

    # ---- the line of a job

    def _row(self, row: Row, label: Line, columns: int) -> Line:
        job, symbols = row.job, self._script.symbols
        state = job._state
        style = STYLES.get(state, "dim")
        symbol = symbols.marks[state] if state is JobState.FAILED else symbols.states[state]
        if job._forever and state is JobState.RUNNING:
            symbol, style = symbols.forever, "beside"
        line: Line = [(f" {symbol} {self._time(job):>{units.COLUMNS}}  ", style)]
        if columns >= NARROW:
            line = [(f" {symbols.critical if job.is_critical() else ' '}", "trouble"), *line]
        label = self._fitted(label, self._label_columns, pad=columns >= NARROW)
        line += [(text, one or LABELS.get(style, style)) for text, one in label]
        used = sum(width(text) for text, _ in line)
        detail = self._detail(job) if columns >= NARROW else ""
        if detail and used + 2 < columns:
            line.append((self._start("  " + detail, columns - used), self._tone(job)))
        return line

    def _label(self, row: Row) -> Line:
        label: Line = [(self._script.line(row.job.label), "")]
        if row.depth is not None:
            return [("  " * row.depth, ""), *label]
        for outer in context(row.job, self._model.root):
            label.insert(0, (f"{self._script.line(outer.label)} / ", "dim"))
        return label

    def _time(self, job: AbstractJob[Any]) -> str:
        started, finished = job._started_at, job._finished_at
        if started is None:
            return ""
        if finished is None:
            return units.running(self._model.clock() - started)
        return units.duration(finished - started)

    def _detail(self, job: AbstractJob[Any]) -> str:
        error = job.raised_exception()
        if error is not None:
            return self._script.line(_values.exception(error)).partition("\\n")[0]
        said = [f"attempt {job.attempts}"] if job.attempts > 1 else []
        if isinstance(job, BaseScheduler):
            said.append(self._inside(job))
        elif job._is_service and job._state is JobState.RUNNING:
            said.append("ready" if job._is_ready() else "starting")
        expected = getattr(job, "expected_duration", None)
        if expected is not None and job._state is JobState.RUNNING:
            said.append(f"of {self.about}{units.duration(expected)}")
        return ", ".join(said)

    @property
    def about(self) -> str:
        """The sign of what is not exact."""
        return "≈" if self._is_unicode else "~"

    def _tone(self, job: AbstractJob[Any]) -> str:
        tally = self._model.tallies.get(job) if isinstance(job, BaseScheduler) else None
        failed = job._state is JobState.FAILED or (tally is not None and tally.settled[JobState.FAILED])
        return "error" if failed else "dim"

    def _inside(self, scheduler: BaseScheduler) -> str:
        tally = self._model.tallies.get(scheduler) or Tally(None)
        said = f"{sum(tally.settled.values()):>{len(str(tally.jobs))}}/{tally.jobs}"
        failed = tally.settled[JobState.FAILED]
        return f"{said}, {failed} failed" if failed else said

    def _rest(self, rest: dict[str, int], margin: int, columns: int) -> Line:
        counts = ", ".join(f"{number} {word}" for word, number in rest.items())
        text = f"{self.ellipsis} and {counts}" if counts else ""
        return [(self._start(" " * margin + text, columns), "dim")]

    # ---- what fits

    def _fitted(self, label: Line, columns: int, pad: bool) -> Line:
        """Return a label in so many columns: what is around it loses its end, it itself its middle."""
        *outer, (name, style) = label
        over = sum(width(text) for text, _ in label) - columns
        if over <= 0:
            return [*label, (" " * (-over if pad else 0), "")]
        left = columns - width(name)
        around = self._start("".join(text for text, _ in outer), left - 1) + " " if left >= LEAST_AROUND else ""
        shown = self._middle(name, columns - width(around))
        return [(around, "dim"), (shown, style), (" " * (columns - width(around) - width(shown)), "")]

    def _start(self, text: str, columns: int) -> str:
        """Return `text`, or as much of its beginning as fits, with an ellipsis behind it."""
        if width(text) <= columns:
            return text
        return _start(text, columns - len(self.ellipsis)) + self.ellipsis if columns >= len(self.ellipsis) else ""

    def _middle(self, text: str, columns: int) -> str:
        """Return `text`, or its beginning and its end: that is where numbers stand."""
        if width(text) <= columns:
            return text
        end = _start(text[::-1], columns // 3)[::-1]
        return self._start(_start(text, columns) + text, columns - width(end)) + end


def _cropped(line: Line, columns: int) -> Line:
    """Return as much of a line as fits; all of it but in the narrowest of terminals."""
    cropped: Line = []
    for text, style in line:
        cropped.append((_start(text, columns), style))
        columns -= width(cropped[-1][0])
    return cropped


def _start(text: str, columns: int) -> str:
    """Return as much of the beginning of `text` as fits."""
    shown = text[: max(0, columns)]
    while shown and width(shown) > columns:
        shown = shown[:-1]
    return shown
