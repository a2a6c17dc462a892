"""`PictureRenderer`: renders the pictures of a monitor as lines of styled text, which do not depend on a terminal.

A picture has a header of two lines, and below it a line for each selected job. The line of a job has these columns: the
mark of critical jobs, the symbol of the state, the time, the label, and details. The columns keep their positions from
picture to picture, unless a longer time or label moves them.

`RowSelector` selects and orders the jobs that have lines. If all jobs fit into the height of the terminal, each job has
a line. Otherwise, each group has a line with its progress and counts, then come running jobs, the failures, and the
forever jobs. The other jobs are only counted. Of one group, no more running jobs have lines than of each other.

A job that asks a person always has a line.

Lines do not jump, but the running job that exceeds its expected duration most takes the first line, as the most likely
to be stuck. A running job keeps its line. After the job has ended, its line remains until another job needs the space.
So the picture may grow, but it does not shrink when a job ends.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from ..._core.base._states import NO_WAIT, JobState, ReportedState, WaitCause
from ..._core.base._text_forms import (
    clause,
    duration_text,
    fit,
    percent_text,
)
from ..._core.job._job import AnyJob
from ..._core.words._explain import get_status_text, waiting
from ..._core.words._job_queries import (
    criticality,
    fraction_done,
    is_ready,
    is_service,
    question_of,
)
from .._families import fit_name
from .._state_styles import (
    CAUSE_WORDS,
    CRITICAL_BADGE,
    FOREVER_BADGE,
    STATE_STYLES,
    recorded_state,
)
from ..text import _failure_text
from ..text._symbols import Symbols, display_width
from ._model import MAX_KEPT_FAILURES, RunModel
from ._records import JobRecord, SchedulerRecord, StyledLine, line_width
from ._run_header import MIN_TIME_WIDTH, RunHeader, elapsed_text

FAILURE_DIVISOR: Final = 3
FOREVER_DIVISOR: Final = 6
"""A failure is shown in at most one of so many job lines, and a forever job, while other jobs need the lines."""

GROUP_DIVISOR: Final = 2
"""A group is shown in at most one of so many of the lines that failures and forever jobs leave."""

MAX_FAILURE_ROWS: Final = 100
"""The maximum number of lines for failures in the last picture. `Scheduler.debrief` prints all."""


class JobRow(NamedTuple):
    """The content of a line that shows a job."""

    job: JobRecord
    depth: int | None = None
    """The number of levels by which the line is indented in the tree of jobs, or None if it is not part of a tree."""
    failure_count: int = 1
    """The number of jobs with failures of the same kind, including this job."""
    has_other_messages: bool = False
    is_group: bool = False
    """Whether the line shows the progress of a group, whose jobs do not all have lines."""


class SelectedRows(NamedTuple):
    """The rows selected for a picture, and the number of jobs without a row."""

    rows: list[JobRow]
    hidden_counts: dict[str, int] | None = None
    """The number of jobs without a row, by state, or None if the picture does not show this number."""
    forever_rows: Sequence[JobRow] = ()
    """The rows of forever jobs, which are shown below all other rows."""


class RowSelector:
    """A selector of the rows for the pictures of a run. A running job keeps its line from picture to picture."""

    def __init__(self, model: RunModel) -> None:
        self._model: Final = model
        # The jobs that the latest picture has on the lines for running jobs. Some of them may have ended.
        self._jobs_on_running_lines: list[JobRecord] = []

    def select(self, height: int) -> SelectedRows:
        """Return the rows for a picture with at most `height` lines of jobs."""
        forever_jobs = list(self._model.forever_jobs)
        if self.all_jobs_fit(height):
            rows = [JobRow(*place) for place in self._model.iterate_in_listing_order()]
            return SelectedRows(
                rows, forever_rows=[JobRow(job) for job in forever_jobs]
            )
        if self._model.ended_at is not None:
            return self._select_last_picture_rows()
        return self._select_flat(height, forever_jobs)

    def all_jobs_fit(self, height: int) -> bool:
        """Return whether `height` lines are enough for a line per job."""
        schedulers = self._model.root.iterate_schedulers()
        count = sum(
            scheduler.counts.row_count
            for scheduler in schedulers
            if not scheduler.belongs_to_forever_job
        )
        return count <= height - len(self._model.forever_jobs)

    def _count_hidden(self, rows: Iterable[JobRow], groups: int) -> dict[str, int]:
        """Return the number of jobs without a row, by state, and the number of groups without a row."""
        # In the order shown.
        counts = collections.Counter(running=0, failed=0, waiting=0, settled=0)
        for state, number in self._model.root.counts.states():
            counts[_count_word(state)] += number
        for row in rows:
            if row.job.is_one_job or row.job.failed_by_itself:
                counts[_count_word(row.job.state)] -= row.failure_count
        counts["group" if groups == 1 else "groups"] = groups
        return {word: number for word, number in counts.items() if number > 0}

    # ---- too many jobs for the height

    def _select_flat(self, height: int, forever_jobs: list[JobRecord]) -> SelectedRows:
        """Return rows for as many running jobs, failures and forever jobs as fit, without a tree."""
        # A line shows the number of hidden jobs.
        row_limit = max(1, height - 1)
        if height < 3:
            forever_jobs = []
        forever_count = min(len(forever_jobs), max(1, row_limit // FOREVER_DIVISOR))
        failure_rows = self._failure_rows()[
            : max(1, (row_limit - forever_count) // FAILURE_DIVISOR)
        ]
        lines_left = max(0, row_limit - forever_count - len(failure_rows))
        group_rows, hidden_groups = self._group_rows(lines_left // GROUP_DIVISOR)
        lines_left -= len(group_rows)
        running_groups = [
            row for row in group_rows if row.job.state is JobState.RUNNING
        ]
        group_share = max(1, lines_left // max(1, len(running_groups)))
        running_jobs = self._assign_running_lines(lines_left, group_share)
        job_rows = [*map(JobRow, running_jobs), *failure_rows]
        rows = [*group_rows, *job_rows]
        # More forever jobs get only lines that other jobs do not need.
        forever_jobs = forever_jobs[: max(forever_count, row_limit - len(rows))]
        hidden_counts = self._count_hidden(job_rows, hidden_groups)
        return SelectedRows(rows, hidden_counts, list(map(JobRow, forever_jobs)))

    def _group_rows(self, limit: int) -> tuple[list[JobRow], int]:
        """Return rows for the outermost groups, if there are several. Of too many, those that run have rows first."""
        nested = list(self._model.root.nested_schedulers)
        groups = [group for group in nested if not (group.is_first or group.forever)]
        if len(groups) < 2:
            return [], 0
        wanted = sorted(groups, key=_group_order)[:limit]
        shown = [group for group in groups if group in wanted]
        rows = [JobRow(group, is_group=True) for group in shown]
        return rows, len(groups) - len(rows)

    def _select_last_picture_rows(self) -> SelectedRows:
        """Return the rows of the last picture: the failures, or none if other code prints the failures."""
        if self._model.are_failures_shown_elsewhere:
            return SelectedRows([])
        rows = self._failure_rows()
        hidden_counts = None
        if len(rows) > MAX_FAILURE_ROWS:
            omitted = rows[MAX_FAILURE_ROWS:]
            hidden_counts = {"failed": sum(row.failure_count for row in omitted)}
        return SelectedRows(rows[:MAX_FAILURE_ROWS], hidden_counts)

    def _failure_rows(self) -> list[JobRow]:
        rows: list[JobRow] = []
        failed = sorted(
            self._model.failed_jobs_by_kind.copy().items(),
            key=lambda item: _failure_text.FAILURE_ORDER.index(item[0][0]),
        )
        for _, jobs in failed:
            # Copied in one step: `len` of `jobs` itself is Python code.
            compared = [*jobs.jobs][:MAX_KEPT_FAILURES]
            if compared:
                # A job without an error has the text "".
                texts = {_failure_text.one_line_text(job.error) for job in compared}
                is_mixed = len(texts - {""}) > 1
                rows.append(JobRow(compared[0], None, len(jobs), is_mixed))
        return rows

    def _assign_running_lines(self, number: int, group_share: int) -> list[JobRecord]:
        """Return at most `number` jobs for the lines of running jobs. If possible, each line keeps its job.

        At most `group_share` lines are for one outermost group, but a job that asks a person always has one.
        """
        jobs = [
            job
            for job in self._jobs_on_running_lines
            if job.state in (JobState.RUNNING, JobState.SUCCEEDED)
        ]
        ended_jobs = [job for job in jobs if job.state is not JobState.RUNNING]
        surplus_jobs = set(ended_jobs[: max(0, len(jobs) - number)])
        jobs = [job for job in jobs if job not in surplus_jobs][:number]
        assigned_jobs = set(jobs)
        running_jobs = self._running_jobs()
        asking_jobs = [job for job in running_jobs if question_of(job.job) is not None]
        still_running = [job for job in jobs if job.state is JobState.RUNNING]
        group_sizes = collections.Counter(map(_outermost_group, still_running))
        chosen_jobs = list[JobRecord]()
        for job in dict.fromkeys([*asking_jobs, *running_jobs]):
            group = _outermost_group(job)
            if job not in assigned_jobs and (
                group is None or group_sizes[group] < group_share
            ):
                group_sizes[group] += 1
                chosen_jobs.append(job)
        unassigned_jobs = iter(chosen_jobs)
        for place, job in enumerate(jobs):
            if job.state is not JobState.RUNNING:
                jobs[place] = next(unassigned_jobs, job)
        jobs += itertools.islice(unassigned_jobs, number - len(jobs))
        slowest = self._find_slowest_job()
        if jobs and slowest is not None:
            # It changes places with the first, if it has a line.
            position = 0
            if slowest in jobs:
                position = jobs.index(slowest)
            jobs[position] = jobs[0]
            jobs[0] = slowest
        for job in asking_jobs:
            places = [
                place for place, other in enumerate(jobs) if other not in asking_jobs
            ]
            if job not in jobs and places:
                jobs[places[-1]] = job
        self._jobs_on_running_lines = jobs
        return jobs

    def _find_slowest_job(self) -> JobRecord | None:
        """Return the running job that exceeds its expected duration by the largest factor, or None if none does."""
        now = self._model.clock()
        slowest = None
        largest_factor = 1.0
        for job in self._running_jobs():
            expected = job.expected_duration
            started_at = job.started_at
            if started_at is not None and expected:
                factor = (now - started_at) / expected
                if factor > largest_factor:
                    largest_factor = factor
                    slowest = job
        return slowest

    def _running_jobs(self) -> list[JobRecord]:
        """Return the running jobs that count as jobs."""
        return [
            job
            for job in list(self._model.running_jobs)
            if job.is_one_job and job.first is None
        ]


def _outermost_group(job: JobRecord) -> SchedulerRecord | None:
    """Return the outermost group around a job, or None if only the outermost scheduler is around it."""
    groups = [*job.enclosing_schedulers()][:-1]
    return groups[-1] if groups else None


def _group_order(group: SchedulerRecord) -> tuple[bool, bool, bool]:
    """Sort groups: those that run come first, then those that failed, those that wait, and those that succeeded."""
    state = group.state
    return state is not JobState.RUNNING, state is not JobState.FAILED, state.is_settled


def _count_word(state: ReportedState) -> str:
    if state in (JobState.RUNNING, JobState.FAILED):
        return str(state.value)
    return "settled" if state.is_settled else "waiting"


def full_name(job: JobRecord, symbols: Symbols) -> str:
    """Return the labels of a job's enclosing schedulers and of the job, separated by slashes: `tests/unit/parser`."""
    # Without the outermost scheduler.
    outer_labels = [outer.job.label for outer in job.enclosing_schedulers()][:-1]
    return symbols.escape("/".join([*outer_labels[::-1], job.job.label]))


def name_of(job: AnyJob, model: RunModel, symbols: Symbols) -> str:
    """Return the full name of a job, or its label if the model does not have it."""
    record = model.records.get(job)
    if record is None:
        return symbols.escape(job.label)
    return full_name(record, symbols)


def attempt_text(job: JobRecord) -> str:
    """Return the number of the current attempt, with the maximum number if known, as text: `attempt 2 of 3`."""
    retry = job.job.retry
    limit = 1 + (0 if retry is None else retry.times or 0)
    text = f"attempt {job.job.attempts}"
    return f"{text} of {limit}" if limit >= job.job.attempts else text


NARROW_WIDTH: Final = 40
"""In a terminal with fewer columns, the lines of jobs omit the mark of critical jobs and the details."""

SYMBOL_WIDTH: Final = 5
"""The number of columns that the symbol of a job's state takes, including the blanks around the symbol and the time."""

MIN_BAR_WIDTH: Final = 5
MAX_BAR_WIDTH: Final = 12

MIN_LINES_FOR_CAUSES: Final = 8
"""If some jobs do not fit, and there are at least this many lines for jobs, a line shows the causes of waits."""

PATH_DIVISOR: Final = 3
"""The part of the columns of a name that the labels of the enclosing schedulers get at least, if they need it."""


class PictureRenderer:
    """A renderer of the pictures of a run. It uses only symbols that the output can show."""

    def __init__(self, model: RunModel, symbols: Symbols) -> None:
        self._model: Final = model
        self._header: Final = RunHeader(symbols)
        self._selector: Final = RowSelector(model)
        self._symbols: Final = symbols
        self._time_width = MIN_TIME_WIDTH
        self._label_width = 0

    def draw(self, columns: int, height: int) -> list[StyledLine]:
        """Return a picture of at most `height` lines and at most `columns` columns.

        The last picture of a run may have more lines, because it shows up to `MAX_FAILURE_ROWS` failures. It may scroll
        out of the terminal, because no later picture replaces it.
        """
        remaining = self._model.estimate.time_left()
        header_lines = self._header.lines(self._model.progress(), columns, remaining)[
            : max(1, height)
        ]
        lines_left = height - len(header_lines)
        if lines_left < 1:
            return header_lines
        is_over = self._model.ended_at is not None
        if (
            not is_over
            and lines_left >= MIN_LINES_FOR_CAUSES
            and not self._selector.all_jobs_fit(lines_left)
        ):
            causes = self._wait_causes_text(self._symbols.separator)
            if causes:
                text = f" {self._truncate(causes, columns - 1)}"
                header_lines.append([(text, "figures")])
                lines_left -= 1
        lines = self._job_lines(self._selector.select(lines_left), columns)
        if not is_over:
            lines = lines[:lines_left]
        return [*header_lines, *(_crop_line(line, columns) for line in lines)]

    def _job_lines(self, selected: SelectedRows, columns: int) -> list[StyledLine]:
        """Return a line for each selected row, with aligned columns, and a line that counts hidden jobs, if any."""
        rows = [*selected.rows, *selected.forever_rows]
        styled_labels = [self._styled_label(row) for row in rows]
        times = [self._time_text(row.job) for row in rows]
        self._time_width = max(self._time_width, *map(len, times), 0)
        label_column = self._time_width + SYMBOL_WIDTH
        max_label_width = columns - label_column
        if columns >= NARROW_WIDTH:
            label_column += 2
            room = columns - label_column
            max_label_width = max(room - 60, room // 2)
        widest_label = max(map(line_width, styled_labels), default=0)
        self._label_width = max(
            0, min(max_label_width, max(self._label_width, widest_label))
        )
        lines = [
            self._job_line(*cells, columns)
            for cells in zip(rows, times, styled_labels, strict=True)
        ]
        if selected.hidden_counts is not None:
            counts = ", ".join(
                f"{number} {word}" for word, number in selected.hidden_counts.items()
            )
            text = clause(f"{self._symbols.ellipsis} and {{}}", counts)
            hidden_jobs: StyledLine = [
                (self._truncate(" " * label_column + text, columns), "label")
            ]
            lines.insert(len(selected.rows), hidden_jobs)
        return lines

    def _wait_causes_text(self, separator: str) -> str:
        """Return the number of waiting jobs by cause, as in `waiting: 41 for jobs · 5 for gpu`, or "" if none waits.

        Ready jobs of a scheduler with equal needs have the same cause, so only one of these jobs is queried.
        """
        counts: collections.Counter[str] = collections.Counter()
        for jobs, number in self._ready_groups():
            # An exception means that the thread of the run changed `jobs` at the same time.
            with contextlib.suppress(RuntimeError, StopIteration):
                cause, resource, _ = waiting(next(iter(jobs)).job) or NO_WAIT
                counts[CAUSE_WORDS[cause].monitor_phrase.format(resource)] += number
        other_count = self._model.root.counts.waiting_count - counts.total()
        phrases: list[str] = []
        if other_count > 0:
            words = CAUSE_WORDS[WaitCause.JOBS].monitor_phrase
            phrases.append(f"{other_count} {words}")
        sorted_words = sorted(
            counts, key=lambda words: (not words.startswith("for "), words)
        )
        phrases += [f"{counts[words]} {words}" for words in sorted_words]
        if not phrases:
            return ""
        return f"waiting: {separator.join(phrases)}"

    def _ready_groups(self) -> Iterator[tuple[dict[JobRecord, None], int]]:
        """Yield groups of ready jobs with the same cause, each with the number of jobs that it counts for.

        A `First` that has started counts once, by its first group, unless a job in it runs.
        """
        waiting_firsts: dict[SchedulerRecord, tuple[str, dict[JobRecord, None]]] = {}
        for scheduler in self._model.root.iterate_schedulers():
            first = scheduler.first or (scheduler if scheduler.is_first else None)
            for needs, jobs in scheduler.ready_jobs_by_needs.copy().items():
                if first is None:
                    yield jobs, len(jobs)
                elif jobs and not first.counts.is_running:
                    waiting_firsts.setdefault(first, (needs, jobs))
        group_sizes = collections.Counter(needs for needs, _ in waiting_firsts.values())
        jobs_by_needs = dict(waiting_firsts.values())
        for needs, number in group_sizes.items():
            yield jobs_by_needs[needs], number

    # ---- the line of a job

    def _job_line(
        self, row: JobRow, time: str, label: StyledLine, columns: int
    ) -> StyledLine:
        job = row.job
        state = recorded_state(job)
        style = STATE_STYLES[state].monitor_style
        symbol = self._symbols.of(STATE_STYLES[state])
        # A CANCELLED forever job looks like a RUNNING job, because the end of a run normally cancels forever jobs.
        if job.forever and state in (JobState.RUNNING, JobState.CANCELLED):
            symbol = self._symbols.of(FOREVER_BADGE)
            style = FOREVER_BADGE.monitor_style
        line: StyledLine = [
            (f" {symbol}", style),
            (f" {time:>{self._time_width}}  ", "figures"),
        ]
        if columns >= NARROW_WIDTH:
            mark = " "
            if criticality(job.job):
                mark = self._symbols.of(CRITICAL_BADGE)
            line.insert(0, (f" {mark}", CRITICAL_BADGE.monitor_style))
        label = self._fit_label(
            label, self._label_width, should_pad=columns >= NARROW_WIDTH
        )
        line += [(text, style or "label") for text, style in label]
        if columns >= NARROW_WIDTH:
            line += self._styled_details(row, columns - line_width(line))
        return line

    def _styled_details(self, row: JobRow, columns: int) -> StyledLine:
        """Return the texts after the label, in at most `columns` columns: a running job's progress, and its details."""
        job = row.job
        details: StyledLine = []
        fraction = None
        if job.state is JobState.RUNNING:
            fraction = fraction_done(job.job)
        if row.is_group and isinstance(job, SchedulerRecord):
            fraction = job.counts.settled_count / max(1, job.counts.job_count)
        if fraction is not None:
            details = self._progress_bar(fraction, columns)
            columns -= line_width(details)
        detail = self._detail_text(job)
        if row.failure_count > 1 and detail:
            alike = "like this:"
            if not row.has_other_messages:
                alike = self._symbols.choose("×", "x")
            detail = f"{row.failure_count} {alike} {detail}"
        if columns > 2 and detail:
            details.append((self._truncate("  " + detail, columns), "label"))
        return details

    def _progress_bar(self, fraction: float, columns: int) -> StyledLine:
        """Return a progress bar and a percentage. Omit the bar, or both, if they do not fit."""
        percentage = f"  {percent_text(fraction):>4}"
        if columns < len(percentage):
            return []
        done_character = self._symbols.choose("━", "=")
        remaining_character = self._symbols.choose("─", "-")
        bar_width = min(MAX_BAR_WIDTH, columns - 2 - len(percentage))
        if bar_width < MIN_BAR_WIDTH:
            return [(percentage, "figures")]
        done_width = int(bar_width * fraction)
        return [
            ("  " + done_character * done_width, "running"),
            (remaining_character * (bar_width - done_width), "dim"),
            (percentage, "figures"),
        ]

    def _styled_label(self, row: JobRow) -> StyledLine:
        label: StyledLine = [(self._symbols.escape(row.job.job.label), "")]
        if row.depth is not None:
            return [("  " * row.depth, ""), *label]
        for outer in list(row.job.enclosing_schedulers())[:-1]:
            label.insert(0, (f"{self._symbols.escape(outer.job.label)}/", "label"))
        return label

    def _time_text(self, job: JobRecord) -> str:
        seconds = job.seconds
        if seconds is not None and not job.restored:
            return duration_text(seconds, in_column=True)
        started_at = job.started_at
        if started_at is None:
            return ""
        return elapsed_text(self._model.clock() - started_at)

    def _detail_text(self, job: JobRecord) -> str:
        """Return the details of a job: its exception, or else its attempt, counts, expected duration and status."""
        if job.error is not None:
            if (
                self._model.are_failures_shown_elsewhere
                and self._model.ended_at is not None
            ):
                return ""
            text = self._symbols.escape(_failure_text.one_line_text(job.error))
            return clause("tolerated: ", job.is_tolerated) + text.partition("\\n")[0]
        details = list[str]()
        if job.job.attempts > 1:
            details.append(attempt_text(job))
        if isinstance(job, SchedulerRecord):
            details.append(self._counts_by_symbol(job))
        elif is_service(job.job) and job.state is JobState.RUNNING:
            details.append("ready" if is_ready(job.job) else "starting")
        expected = job.expected_duration
        if job.state is JobState.RUNNING and expected is not None:
            details.append(f"of {self._symbols.about_sign}{duration_text(expected)}")
        if status := get_status_text(job.job) or (waiting(job.job) or NO_WAIT).text:
            details.append(self._symbols.escape(status))
        return ", ".join(details)

    def _counts_by_symbol(self, scheduler: SchedulerRecord) -> str:
        """Return the counts of a scheduler's jobs with the symbols of their states, e.g. `2 ✓  1 ✗  1 ▸  3 ·`."""
        return "  ".join(
            f"{number} {self._symbols.of(STATE_STYLES[state])}"
            for state, number in scheduler.counts.states()
        )

    # ---- cutting to the width

    def _fit_label(
        self, label: StyledLine, columns: int, should_pad: bool
    ) -> StyledLine:
        """Return a label that fits in `columns` columns.

        If the label is too wide, truncate first the labels of the enclosing schedulers, then the job's own label. If
        the label is too short and `should_pad` is true, pad it with blanks.
        """
        *outer_labels, (name, style) = label
        room = columns - line_width(label)
        if room >= 0:
            if should_pad:
                label.append((" " * room, ""))
            return label
        path = "".join(text for text, _ in outer_labels)
        # Blanks are the indentation of a tree, which every row keeps.
        if not path.isspace():
            room = max(columns - display_width(name), columns // PATH_DIVISOR)
            path = self._fit_name(path, room)
        name = self._fit_name(name, columns - display_width(path))
        return [
            (path, "label"),
            (name, style),
            (" " * (columns - display_width(path) - display_width(name)), ""),
        ]

    def _truncate(self, text: str, columns: int) -> str:
        return fit(text, columns, "start", display_width, self._symbols.ellipsis)

    def _fit_name(self, name: str, columns: int) -> str:
        return fit_name(name, columns, display_width, self._symbols.ellipsis)


def _crop_line(line: StyledLine, columns: int) -> StyledLine:
    cropped: StyledLine = []
    for text, style in line:
        cropped.append((fit(text, columns, measure=display_width, ellipsis=""), style))
        columns -= display_width(cropped[-1][0])
    return cropped
