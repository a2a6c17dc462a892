"""The pictures of a monitor as lines of styled text, independent of terminals.

A picture is two lines about the whole run, then one line per job: whether it is critical, its symbol, its time, its
label, and details. Each of these begins in the same column from the first picture to the last, unless a longer time
or label comes up.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import math
from collections.abc import Iterator
from typing import Final

from ..._core.api.views import JobState, WaitCause, Waiting, duration_text, percent
from .._state_styles import CAUSES, CRITICAL, FOREVER, PRECEDENCE, STATE_STYLES
from ..text import _exception_text
from ..text._symbols import UNICODE, Symbols, width
from ._display import Line
from ._eta import Forecast
from ._model import JobCounts, Model
from ._records import JobRecord, SchedulerRecord
from ._row_selection import ChosenJobs, JobChoice, JobRow, attempt, context
from ._run_header import SHORT_TIME, RunLines, so_far

NARROW: Final = 40
"""Columns below which lines leave out the mark of critical jobs, and details."""

AROUND_TIME: Final = 5
"""Columns before a label besides the time: the symbol and the blanks."""

SHORTEST_BAR: Final = 5
LONGEST_BAR: Final = 12
"""Columns of the bar of a job that reports its progress."""

MIN_LINES_FOR_CAUSES: Final = 8
"""Lines below the head from which one says what jobs wait for."""

WIDE: Final = 150
"""Columns above which jobs that do not fit below each other are shown in both halves."""

GAP: Final = 2

COUNTED: Final = (
    JobState.SUCCEEDED, JobState.FAILED, JobState.BLOCKED, JobState.CANCELLED, JobState.SKIPPED, JobState.RUNNING,
    JobState.IDLE,
)  # fmt: skip
"""The order of the counts of a scheduler's jobs; jobs that wait are counted as IDLE."""

MIN_COLUMNS_FOR_PATH: Final = 6
"""Columns below which a job's enclosing schedulers are left out."""


class Pictures:
    """The pictures of one run on one stream."""

    def __init__(self, model: Model, symbols: Symbols) -> None:
        self._model: Final = model
        self._run_lines: Final = RunLines(model, symbols)
        self._choice: Final = JobChoice(model)
        self._forecast: Final = Forecast(model)
        self._symbols: Final = symbols
        self._time_columns = SHORT_TIME
        self._label_columns = 0
        self._is_unicode: Final = symbols.set is UNICODE
        self.ellipsis: Final = "…" if self._is_unicode else "..."

    def draw(self, columns: int, height: int) -> list[Line]:
        """Return at most `height` lines of at most `columns`: the head, and the jobs below it.

        The last picture of a run has all failures and may be higher: it stays when the terminal goes on.
        """
        remaining = self._forecast.remaining() if self._model.ended is None else None
        head = self._run_lines.lines(columns, remaining)[: max(1, height)]
        left = height - len(head)
        if left < 1:
            return head
        is_over = self._model.ended is not None
        if self._choice.fits(left):
            return [*head, *(_cropped(line, columns) for line in self._lines(self._choice.rows(left), columns))]
        if not is_over and left >= MIN_LINES_FOR_CAUSES:
            said = self._causes(" · " if self._is_unicode else ", ")
            head.append([(f" {self._start(said, columns - 1)}", "figures")])
            left -= 1
        number = 2 if columns >= WIDE else 1
        each = (columns - GAP * (number - 1)) // number
        lines = self._lines(self._choice.rows(left * number), each)
        if number == 1:
            lines = lines if is_over else lines[:left]
            return [*head, *(_cropped(line, columns) for line in lines)]
        lines = [_cropped(line, each) for line in lines]
        left = max(left, math.ceil(len(lines) / 2)) if is_over else left
        return [*head, *_beside(lines[:left], lines[left : 2 * left], each + GAP)]

    def _lines(self, shown: ChosenJobs, columns: int) -> list[Line]:
        rows = [*shown.rows, *shown.beside]
        for row in rows:
            self._model.source.look(row.job)
        labels = [self._label(row) for row in rows]
        times = [self._time(row.job) for row in rows]
        self._time_columns = max(self._time_columns, *map(len, times), 0)
        margin = self._time_columns + AROUND_TIME + (0 if columns < NARROW else 2)
        widest = max((sum(width(text) for text, _ in label) for label in labels), default=0)
        limit = columns - margin if columns < NARROW else max(columns - margin - 60, (columns - margin) // 2)
        self._label_columns = max(0, min(limit, max(self._label_columns, widest)))
        lines = [self._row(row, time, label, columns) for row, time, label in zip(rows, times, labels, strict=True)]
        if shown.rest is not None:
            lines.insert(len(shown.rows), self._rest(shown.rest, margin, columns))
        return lines

    def _causes(self, between: str) -> str:
        """Return the causes of waits, counted: `waiting: 41 for jobs · 12 for a slot · 5 gpu · 2 api throttled`.

        Ready jobs of one scheduler with the same needs wait for the same, so one of them is looked up.
        """
        found: collections.Counter[str] = collections.Counter()
        for jobs in list(self._model.ready.values()):
            with contextlib.suppress(RuntimeError, StopIteration):  # it has just changed
                cause, resource, _ = self._model.source.waiting(next(iter(jobs))) or Waiting(WaitCause.LOOP)
                found[CAUSES[cause].after_count.format(resource)] += len(jobs)
        others = self._model.tally.waiting - found.total()
        parts = [f"{others} {CAUSES[WaitCause.JOBS].after_count}"] * (others > 0)
        in_order = sorted(found, key=lambda words: (not words.startswith("for "), words))
        parts += [f"{found[words]} {words}" for words in in_order]
        return f"waiting: {between.join(parts) or 'nothing'}"

    # ---- the line of a job

    def _row(self, row: JobRow, time: str, label: Line, columns: int) -> Line:
        job = row.job
        symbols, state = self._symbols.set, self._worst(job)
        style = STATE_STYLES[state].style
        symbol = symbols.states[state]
        if job.forever and state in (JobState.RUNNING, JobState.CANCELLED):  # the end of a run cancels it, as meant
            symbol, style = symbols.forever, FOREVER.style
        line: Line = [(f" {symbol}", style), (f" {time:>{self._time_columns}}  ", "figures")]
        if columns >= NARROW:
            line = [(f" {symbols.critical if job.critical else ' '}", CRITICAL.style), *line]
        label = self._fitted(label, self._label_columns, pad=columns >= NARROW)
        line += [(text, style or "label") for text, style in label]
        used = sum(width(text) for text, _ in line)
        if columns >= NARROW:
            line += self._details(row, columns - used)
        return line

    def _details(self, row: JobRow, columns: int) -> Line:
        """Return the details after the label, in this many columns: first the progress of a running job."""
        job = row.job
        found: Line = []
        if job.fraction_done is not None and job.state is JobState.RUNNING:
            found = self._bar(job.fraction_done, columns)
            columns -= sum(width(text) for text, _ in found)
        detail = self._detail(job)
        if row.alike > 1 and detail:
            detail = f"{row.alike} {'×' if self._is_unicode else 'x'} {detail}"
        if columns > 2 and detail:
            found.append((self._start("  " + detail, columns), "label"))
        return found

    def _bar(self, fraction: float, columns: int) -> Line:
        """Return a bar and a percentage; without the bar if it does not fit."""
        figure = f"  {percent(fraction):>4}"
        if columns < len(figure):
            return []
        done, rest = ("━", "─") if self._is_unicode else ("=", "-")
        size = min(LONGEST_BAR, columns - 2 - len(figure))
        if size < SHORTEST_BAR:
            return [(figure, "figures")]
        full = int(size * fraction)
        return [("  " + done * full, "running"), (rest * (size - full), "dim"), (figure, "figures")]

    def _label(self, row: JobRow) -> Line:
        label: Line = [(self._symbols.escape(row.job.label), "")]
        if row.depth is not None:
            return [("  " * row.depth, ""), *label]
        for outer in context(row.job):
            label.insert(0, (f"{self._symbols.escape(outer.label)}/", "label"))
        return label

    def _time(self, job: JobRecord) -> str:
        started, finished = job.started_at, job.finished_at
        if started is None:
            return ""
        if finished is None:
            return so_far(self._model.clock() - started)
        return duration_text(finished - started, in_column=True)

    def _detail(self, job: JobRecord) -> str:
        if job.error is not None:
            if self._model.failures_are_told and self._model.ended is not None:
                return ""
            return self._symbols.escape(_exception_text.one_line(job.error)).partition("\\n")[0]
        said = [attempt(job)] if job.attempts > 1 else []
        if isinstance(job, SchedulerRecord):
            said.append(self._inside(job))
        elif job.is_service and job.state is JobState.RUNNING:
            said.append("ready" if job.is_ready else "starting")
        if job.expected_duration is not None and job.state is JobState.RUNNING:
            said.append(f"of {self.about}{duration_text(job.expected_duration)}")
        if status := job.status or ("" if job.waiting is None else job.waiting.text):
            said.append(self._symbols.escape(status))
        return ", ".join(said)

    @property
    def about(self) -> str:
        """The symbol for an approximate number."""
        return "≈" if self._is_unicode else "~"

    def _worst(self, job: JobRecord) -> JobState:
        """Return the state of a job; for a scheduler, the worst of its own state and its jobs' states."""
        if not isinstance(job, SchedulerRecord) or job.state is JobState.IDLE:
            return job.state
        counts = self._states_in(job)
        return next((state for state in PRECEDENCE if state is job.state or counts.get(state)), job.state)

    def _states_in(self, scheduler: SchedulerRecord) -> dict[JobState, int]:
        """Return the number of a scheduler's jobs in each state, nested ones included; waiting jobs count as IDLE."""
        tally = self._model.tallies.get(scheduler) or JobCounts(None)
        waiting = tally.waiting + tally.unreached
        counts = {**tally.settled, JobState.RUNNING: tally.running, JobState.IDLE: waiting}
        return {state: number for state, number in counts.items() if number}

    def _inside(self, scheduler: SchedulerRecord) -> str:
        """Return the counts of a scheduler's jobs by symbol: `2 ✓  1 ✗  1 ▸  3 ·`."""
        counts, symbols = self._states_in(scheduler), self._symbols.set.states
        return "  ".join(f"{counts[state]} {symbols[state]}" for state in COUNTED if state in counts)

    def _rest(self, rest: dict[str, int], margin: int, columns: int) -> Line:
        counts = ", ".join(f"{number} {word}" for word, number in rest.items())
        text = f"{self.ellipsis} and {counts}" if counts else ""
        return [(self._start(" " * margin + text, columns), "label")]

    # ---- cutting to the width

    def _fitted(self, label: Line, columns: int, pad: bool) -> Line:
        """Fit a label into this many columns; the schedulers before it lose their end, the label its middle."""
        *outer, (name, style) = label
        over = sum(width(text) for text, _ in label) - columns
        if over <= 0:
            return [*label, (" " * (-over if pad else 0), "")]
        left = columns - width(name)
        around = self._start("".join(text for text, _ in outer), left - 1) + " " if left >= MIN_COLUMNS_FOR_PATH else ""
        shown = self._middle(name, columns - width(around))
        return [(around, "label"), (shown, style), (" " * (columns - width(around) - width(shown)), "")]

    def _start(self, text: str, columns: int) -> str:
        """Return `text`, or the beginning that fits, with an ellipsis."""
        if width(text) <= columns:
            return text
        return _start(text, columns - len(self.ellipsis)) + self.ellipsis if columns >= len(self.ellipsis) else ""

    def _middle(self, text: str, columns: int) -> str:
        """Return `text`, or its beginning and its end, because labels often differ in a number at the end."""
        if width(text) <= columns:
            return text
        end = _start(text[::-1], columns // 3)[::-1]
        return self._start(_start(text, columns) + text, columns - width(end)) + end


def _beside(first: list[Line], second: list[Line], columns: int) -> Iterator[Line]:
    """Join lines side by side, the second ones from a given column."""
    nothing: Line = []
    for left, right in itertools.zip_longest(first, second, fillvalue=nothing):
        room = columns - sum(width(text) for text, _ in left)
        yield [*left, (" " * room, ""), *right] if right else left


def _cropped(line: Line, columns: int) -> Line:
    """Crop a line to the width, for the narrowest terminals."""
    cropped: Line = []
    for text, style in line:
        cropped.append((_start(text, columns), style))
        columns -= width(cropped[-1][0])
    return cropped


def _start(text: str, columns: int) -> str:
    """Return the beginning of `text` that fits."""
    shown = text[: max(0, columns)]
    while shown and width(shown) > columns:
        shown = shown[:-1]
    return shown
