"""`Pictures`: the pictures of a monitor as lines of styled text, independent of terminals.

A picture has a header of two lines, then one line per job, with these columns: the mark of critical jobs, the symbol of
the state, the time, the label, and details. The columns keep their positions from picture to picture; only a longer
time or label moves them.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import math
from collections.abc import Iterator
from typing import Final

from ..._core.api.views import JobState, WaitCause, Waiting, duration_text, percent_text
from .._state_styles import CAUSES, CRITICAL, FOREVER, PRECEDENCE, STATE_STYLES
from ..text import _exception_text
from ..text._symbols import UNICODE, Symbols, width
from ._display import Line
from ._eta import Forecast
from ._model import JobCounts, Model
from ._records import JobRecord, SchedulerRecord
from ._row_selection import JobRow, RowSelector, SelectedRows, attempt_text, enclosing_schedulers
from ._run_header import SHORT_TIME, RunHeader, elapsed_text

NARROW: Final = 40
"""The number of columns below which lines omit the mark of critical jobs, and the details."""

AROUND_TIME: Final = 5
"""The number of columns before a label besides the time: for the symbol and blanks."""

MIN_BAR: Final = 5
MAX_BAR: Final = 12
"""The number of columns for the progress bar of a job."""

MIN_LINES_FOR_CAUSES: Final = 8
"""The number of lines below the header from which one line shows the causes of waits."""

WIDE: Final = 150
"""The number of columns from which jobs that do not fit in one column are shown in two."""

GAP: Final = 2

COUNT_ORDER: Final = (
    JobState.SUCCEEDED, JobState.FAILED, JobState.BLOCKED, JobState.CANCELLED, JobState.SKIPPED, JobState.RUNNING,
    JobState.IDLE,
)  # fmt: skip
"""The order in which the jobs of a scheduler are counted by state; jobs that wait are counted as IDLE."""

MIN_COLUMNS_FOR_PATH: Final = 6
"""The number of columns below which the labels of a job's enclosing schedulers are omitted."""


class Pictures:
    """The pictures of one run, drawn with the symbols of one output."""

    def __init__(self, model: Model, symbols: Symbols) -> None:
        self._model: Final = model
        self._header: Final = RunHeader(model, symbols)
        self._selector: Final = RowSelector(model)
        self._forecast: Final = Forecast(model)
        self._symbols: Final = symbols
        self._time_columns = SHORT_TIME
        self._label_columns = 0
        self._is_unicode: Final = symbols.set is UNICODE
        self.ellipsis: Final = "…" if self._is_unicode else "..."

    def draw(self, columns: int, height: int) -> list[Line]:
        """Return at most `height` lines of at most `columns`: the header, and the jobs below it.

        The last picture of a run may be higher, because it has all failures: it is not redrawn, so it may scroll.
        """
        remaining = self._forecast.remaining() if self._model.ended is None else None
        head = self._header.lines(columns, remaining)[: max(1, height)]
        lines_left = height - len(head)
        if lines_left < 1:
            return head
        is_over = self._model.ended is not None
        if self._selector.fits(lines_left):
            return [
                *head,
                *(_crop(line, columns) for line in self._job_lines(self._selector.rows(lines_left), columns)),
            ]
        if not is_over and lines_left >= MIN_LINES_FOR_CAUSES:
            causes = self._wait_causes(" · " if self._is_unicode else ", ")
            head.append([(f" {self._truncate(causes, columns - 1)}", "figures")])
            lines_left -= 1
        parts = 2 if columns >= WIDE else 1
        part_width = (columns - GAP * (parts - 1)) // parts
        lines = self._job_lines(self._selector.rows(lines_left * parts), part_width)
        if parts == 1:
            lines = lines if is_over else lines[:lines_left]
            return [*head, *(_crop(line, columns) for line in lines)]
        lines = [_crop(line, part_width) for line in lines]
        lines_left = max(lines_left, math.ceil(len(lines) / 2)) if is_over else lines_left
        return [*head, *_join_halves(lines[:lines_left], lines[lines_left : 2 * lines_left], part_width + GAP)]

    def _job_lines(self, selected: SelectedRows, columns: int) -> list[Line]:
        """Return the lines of the selected jobs, with aligned columns."""
        rows = [*selected.rows, *selected.forever_rows]
        for row in rows:
            self._model.source.update(row.job)
        labels = [self._label_pieces(row) for row in rows]
        times = [self._time_text(row.job) for row in rows]
        self._time_columns = max(self._time_columns, *map(len, times), 0)
        margin = self._time_columns + AROUND_TIME + (0 if columns < NARROW else 2)
        widest = max((sum(width(text) for text, _ in label) for label in labels), default=0)
        limit = columns - margin if columns < NARROW else max(columns - margin - 60, (columns - margin) // 2)
        self._label_columns = max(0, min(limit, max(self._label_columns, widest)))
        lines = [
            self._job_line(row, time, label, columns) for row, time, label in zip(rows, times, labels, strict=True)
        ]
        if selected.hidden is not None:
            lines.insert(len(selected.rows), self._hidden_line(selected.hidden, margin, columns))
        return lines

    def _wait_causes(self, between: str) -> str:
        """Return the number of jobs for each cause of waits: `waiting: 41 for jobs · 12 for a slot · 5 gpu`.

        Ready jobs of one scheduler with equal needs have the same cause, so only one of them is queried.
        """
        counts: collections.Counter[str] = collections.Counter()
        for jobs in list(self._model.ready.values()):
            with contextlib.suppress(RuntimeError, StopIteration):  # the run has changed `jobs` meanwhile
                cause, resource, _ = self._model.source.waiting(next(iter(jobs))) or Waiting(WaitCause.LOOP)
                counts[CAUSES[cause].after_count.format(resource)] += len(jobs)
        others = self._model.tally.waiting - counts.total()
        parts = [f"{others} {CAUSES[WaitCause.JOBS].after_count}"] * (others > 0)
        in_order = sorted(counts, key=lambda words: (not words.startswith("for "), words))
        parts += [f"{counts[words]} {words}" for words in in_order]
        return f"waiting: {between.join(parts) or 'nothing'}"

    # ---- the line of a job

    def _job_line(self, row: JobRow, time: str, label: Line, columns: int) -> Line:
        """Return the line of one job."""
        job = row.job
        symbols, state = self._symbols.set, self._worst_state(job)
        style = STATE_STYLES[state].style
        symbol = symbols.states[state]
        if job.forever and state in (JobState.RUNNING, JobState.CANCELLED):  # the end of a run cancels it normally
            symbol, style = symbols.forever, FOREVER.style
        line: Line = [(f" {symbol}", style), (f" {time:>{self._time_columns}}  ", "figures")]
        if columns >= NARROW:
            line = [(f" {symbols.critical if job.critical else ' '}", CRITICAL.style), *line]
        label = self._fit_label(label, self._label_columns, pad=columns >= NARROW)
        line += [(text, style or "label") for text, style in label]
        used = sum(width(text) for text, _ in line)
        if columns >= NARROW:
            line += self._detail_pieces(row, columns - used)
        return line

    def _detail_pieces(self, row: JobRow, columns: int) -> Line:
        """Return the text after the label, in this many columns: the progress of a running job, then its details."""
        job = row.job
        details: Line = []
        if job.fraction_done is not None and job.state is JobState.RUNNING:
            details = self._bar_pieces(job.fraction_done, columns)
            columns -= sum(width(text) for text, _ in details)
        detail = self._detail_text(job)
        if row.equal_failures > 1 and detail:
            detail = f"{row.equal_failures} {'×' if self._is_unicode else 'x'} {detail}"
        if columns > 2 and detail:
            details.append((self._truncate("  " + detail, columns), "label"))
        return details

    def _bar_pieces(self, fraction: float, columns: int) -> Line:
        """Return a progress bar and a percentage; omit the bar if it does not fit."""
        figure = f"  {percent_text(fraction):>4}"
        if columns < len(figure):
            return []
        done, rest = ("━", "─") if self._is_unicode else ("=", "-")
        size = min(MAX_BAR, columns - 2 - len(figure))
        if size < MIN_BAR:
            return [(figure, "figures")]
        full = int(size * fraction)
        return [("  " + done * full, "running"), (rest * (size - full), "dim"), (figure, "figures")]

    def _label_pieces(self, row: JobRow) -> Line:
        label: Line = [(self._symbols.escape(row.job.label), "")]
        if row.depth is not None:
            return [("  " * row.depth, ""), *label]
        for outer in enclosing_schedulers(row.job):
            label.insert(0, (f"{self._symbols.escape(outer.label)}/", "label"))
        return label

    def _time_text(self, job: JobRecord) -> str:
        started, finished = job.started_at, job.finished_at
        if started is None:
            return ""
        if finished is None:
            return elapsed_text(self._model.clock() - started)
        return duration_text(finished - started, in_column=True)

    def _detail_text(self, job: JobRecord) -> str:
        """Return the details of a job as text: the exception, or attempt, counts, expected duration and status."""
        if job.error is not None:
            if self._model.failures_shown_elsewhere and self._model.ended is not None:
                return ""
            return self._symbols.escape(_exception_text.one_line(job.error)).partition("\\n")[0]
        parts = [attempt_text(job)] if job.attempts > 1 else []
        if isinstance(job, SchedulerRecord):
            parts.append(self._counts_by_symbol(job))
        elif job.is_service and job.state is JobState.RUNNING:
            parts.append("ready" if job.is_ready else "starting")
        if job.expected_duration is not None and job.state is JobState.RUNNING:
            parts.append(f"of {'≈' if self._is_unicode else '~'}{duration_text(job.expected_duration)}")
        if status := job.status or ("" if job.waiting is None else job.waiting.text):
            parts.append(self._symbols.escape(status))
        return ", ".join(parts)

    def _worst_state(self, job: JobRecord) -> JobState:
        """Return the state of a job; for a scheduler that has begun, the worst of its own and its jobs' states."""
        if not isinstance(job, SchedulerRecord) or job.state is JobState.IDLE:
            return job.state
        counts = self._states_in(job)
        return next((state for state in PRECEDENCE if state is job.state or counts.get(state)), job.state)

    def _states_in(self, scheduler: SchedulerRecord) -> dict[JobState, int]:
        """Return the number of a scheduler's jobs in each state, at any depth; jobs that wait count as IDLE."""
        tally = self._model.tallies.get(scheduler) or JobCounts(None)
        waiting = tally.waiting + tally.unreached
        counts = {**tally.settled, JobState.RUNNING: tally.running, JobState.IDLE: waiting}
        return {state: number for state, number in counts.items() if number}

    def _counts_by_symbol(self, scheduler: SchedulerRecord) -> str:
        """Return the counts of a scheduler's jobs by symbol: `2 ✓  1 ✗  1 ▸  3 ·`."""
        counts, symbols = self._states_in(scheduler), self._symbols.set.states
        return "  ".join(f"{counts[state]} {symbols[state]}" for state in COUNT_ORDER if state in counts)

    def _hidden_line(self, hidden: dict[str, int], margin: int, columns: int) -> Line:
        counts = ", ".join(f"{number} {word}" for word, number in hidden.items())
        text = f"{self.ellipsis} and {counts}" if counts else ""
        return [(self._truncate(" " * margin + text, columns), "label")]

    # ---- cutting to the width

    def _fit_label(self, label: Line, columns: int, pad: bool) -> Line:
        """Fit a label into a number of columns: truncate the path of its schedulers, then the middle of the label."""
        *outer, (name, style) = label
        excess = sum(width(text) for text, _ in label) - columns
        if excess <= 0:
            return [*label, (" " * (-excess if pad else 0), "")]
        room = columns - width(name)
        path = (
            self._truncate("".join(text for text, _ in outer), room - 1) + " " if room >= MIN_COLUMNS_FOR_PATH else ""
        )
        name = self._truncate_middle(name, columns - width(path))
        return [(path, "label"), (name, style), (" " * (columns - width(path) - width(name)), "")]

    def _truncate(self, text: str, columns: int) -> str:
        """Return `text`, or as much of its beginning as fits, with an ellipsis."""
        if width(text) <= columns:
            return text
        return _beginning(text, columns - len(self.ellipsis)) + self.ellipsis if columns >= len(self.ellipsis) else ""

    def _truncate_middle(self, text: str, columns: int) -> str:
        """Return `text`, or its beginning and its end: labels often differ only in a number at the end."""
        if width(text) <= columns:
            return text
        end = _beginning(text[::-1], columns // 3)[::-1]
        return self._truncate(_beginning(text, columns) + text, columns - width(end)) + end


def _join_halves(first: list[Line], second: list[Line], columns: int) -> Iterator[Line]:
    """Yield the lines of two lists side by side; the second list begins at the given column."""
    empty: Line = []
    for left, right in itertools.zip_longest(first, second, fillvalue=empty):
        room = columns - sum(width(text) for text, _ in left)
        yield [*left, (" " * room, ""), *right] if right else left


def _crop(line: Line, columns: int) -> Line:
    """Crop a line to a number of columns."""
    cropped: Line = []
    for text, style in line:
        cropped.append((_beginning(text, columns), style))
        columns -= width(cropped[-1][0])
    return cropped


def _beginning(text: str, columns: int) -> str:
    """Return as much of the beginning of `text` as fits."""
    shown = text[: max(0, columns)]
    while shown and width(shown) > columns:
        shown = shown[:-1]
    return shown
