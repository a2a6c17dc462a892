"""`compare`: an explanation of why two runs took different times, based on their critical paths.

The jobs and waits on a critical path fill the time of its run without gaps. If such a part is on both paths, it may
have become longer or shorter. If it is on only one path, it is new or gone. The changes of all parts add up exactly to
the difference between the durations of the runs. A list of all jobs that became slower would not explain the
difference, because most of these jobs ran beside others that took longer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from ..._core.base._states import JobState
from ..._core.base._text_forms import clause, duration_text, plural
from ..._core.job._labels import printable
from .._families import fit_name
from .._state_styles import recorded_state
from ..text import _symbols
from ..text._symbols import durations_in_column, listed_lines
from . import _spans, _time_spent
from ._trace_record import TraceRecord

PartKey = tuple[str, bool]
"""A part of the critical path: the path of a job, or "" for the time after the last, and whether it is the wait
before the job."""
MIN_CHANGE_SHARE: Final = 0.005
"""Changes of less than this share of the longer run's duration are combined in a single line."""
ROUNDING_ERROR_SHARE: Final = 1e-5
"""If the small changes add up to less than this share of the longer run's duration, their sum is a rounding error."""


class RunTimes(NamedTuple):
    name: str
    seconds: float
    critical_path_seconds: dict[PartKey, float]
    """The seconds of each part of the critical path, in chronological order. If a job ran several times, their sum."""
    jobs: dict[str, float]
    """The seconds of the jobs that started, by path, without nested schedulers. If a job ran several times, the sum."""
    waited_for: dict[str, str]
    """The cause of the last wait of each job that has waited, by path, with the job that ended the wait."""
    unstarted_states: dict[str, str]
    states: dict[str, str]
    """The last states of the jobs that all views count, by path."""

    def was_restored(self, path: str) -> bool:
        """Return whether the result of a job was restored from a journal: it succeeded, but did not start."""
        return self.unstarted_states.get(path) == JobState.SUCCEEDED.value


def run_times(record: TraceRecord) -> RunTimes:
    waited_for: dict[str, str] = {}
    unstarted_states: dict[str, str] = {}
    for span in record.spans:
        waits = _spans.waits_before_start(span)
        if span.started_at is None:
            unstarted_states[_path(span)] = span.state.value
        elif waits:
            waited_for[_path(span)] = _wait_text(record, waits[-1])
    return RunTimes(
        name=record.name,
        seconds=record.seconds,
        critical_path_seconds=_sum_critical_path_seconds(record),
        jobs=_sum_seconds_by_job(record),
        waited_for=waited_for,
        unstarted_states=unstarted_states,
        states={
            _path(span): recorded_state(span).value for span in record.counted_spans
        },
    )


def _path(span: _spans.Span) -> str:
    return printable(span.path)


def _sum_critical_path_seconds(record: TraceRecord) -> dict[PartKey, float]:
    steps = list(_time_spent.critical_path_steps(record))
    if not steps and record.seconds > 0:
        return {("", True): record.seconds}
    sums: dict[PartKey, float] = {}
    for step in steps:
        path = _path(record.spans[step.span_number])
        if step.is_wait and step is steps[-1]:
            path = ""
        sums[path, step.is_wait] = sums.get((path, step.is_wait), 0.0) + step.seconds
    return sums


def _sum_seconds_by_job(record: TraceRecord) -> dict[str, float]:
    seconds: dict[str, float] = {}
    for span in record.leaf_spans:
        if span.started_at is not None:
            path = _path(span)
            end = record.end_of(span)
            seconds[path] = seconds.get(path, 0.0) + end - span.started_at
    return seconds


def _wait_text(record: TraceRecord, wait: _spans.Wait) -> str:
    if wait.released_by is None:
        return wait.words
    return f"{wait.words}, until {_path(record.spans[wait.released_by])}"


class CriticalPathChange(NamedTuple):
    """The change of a part of the critical path between two runs."""

    path: str
    """The path of the job, or an empty string if the change concerns more than a single job."""
    description: str
    seconds_before: float | None
    """The duration of the part in the two runs, or None if it is not on the critical path of that run."""
    seconds_after: float | None

    @property
    def added_seconds(self) -> float:
        """How many seconds longer this part made the second run. Negative if it made the run shorter."""
        return (self.seconds_after or 0.0) - (self.seconds_before or 0.0)

    @property
    def text(self) -> str:
        """The path of the job and the description of its change."""
        if self.path:
            return f"{_short(self.path)}: {self.description}"
        return self.description


class Comparison(NamedTuple):
    """The changes from a first run to a second run."""

    first_run: RunTimes
    second_run: RunTimes
    changes: tuple[CriticalPathChange, ...]
    state_changes: tuple[tuple[str, str, str], ...]
    """The path, and the states in both runs, of each job that ended in a different state."""

    @property
    def added_seconds(self) -> float:
        """How many seconds longer than the first the second run took. Negative if it was faster."""
        return self.second_run.seconds - self.first_run.seconds

    @property
    def restored_count(self) -> int:
        """The number of jobs that either run restored from a journal, and the other run ran."""
        first = self.first_run
        second = self.second_run
        return sum(map(first.was_restored, second.jobs)) + sum(
            map(second.was_restored, first.jobs)
        )


def compare(first_run: RunTimes, second_run: RunTimes) -> Comparison:
    """Compare two runs, in O(n log n) time for n jobs."""
    longer_seconds = max(first_run.seconds, second_run.seconds)
    min_change = MIN_CHANGE_SHARE * longer_seconds
    old_times = first_run.critical_path_seconds
    new_times = second_run.critical_path_seconds
    changes = [
        CriticalPathChange(
            part[0],
            _describe_change(first_run, second_run, part, min_change),
            old_times.get(part),
            new_times.get(part),
        )
        for part in dict.fromkeys([*old_times, *new_times])
    ]
    changes.sort(key=lambda change: -abs(change.added_seconds))
    shown_changes = [
        change for change in changes if abs(change.added_seconds) >= min_change
    ]
    small_changes = changes[len(shown_changes) :]
    min_shown_sum = min_change / 10
    if shown_changes:
        min_shown_sum = ROUNDING_ERROR_SHARE * longer_seconds
    small_sum = abs(sum(change.added_seconds for change in small_changes))
    if small_changes and small_sum >= min_shown_sum:
        before = sum(filter(None, [each.seconds_before for each in small_changes]))
        after = sum(filter(None, [each.seconds_after for each in small_changes]))
        description = plural(len(small_changes), "smaller change")
        shown_changes.append(
            CriticalPathChange("", description, before or None, after or None)
        )
    state_changes: list[tuple[str, str, str]] = []
    for path, old in first_run.states.items():
        new = second_run.states.get(path, old)
        if old != new:
            state_changes.append((path, old, new))
    return Comparison(first_run, second_run, tuple(shown_changes), tuple(state_changes))


def _describe_change(
    first_run: RunTimes, second_run: RunTimes, part: PartKey, min_change: float
) -> str:
    path, is_wait = part
    old_seconds = first_run.critical_path_seconds.get(part)
    new_seconds = second_run.critical_path_seconds.get(part)
    direction = "less" if is_wait and path else "shorter"
    if (new_seconds or 0.0) > (old_seconds or 0.0):
        direction = "longer"
    if path == "":
        return f"the end, after the last job: {direction}"
    if is_wait:
        cause = (first_run if direction == "less" else second_run).waited_for.get(path)
        return f"waited {direction}{clause(' for {}', cause)}"
    if old_seconds is not None and new_seconds is not None:
        return direction
    if old_seconds is None and first_run.was_restored(path):
        return "run again; it was restored from the journal before"
    if new_seconds is None and second_run.was_restored(path):
        return "restored from the journal"
    before = first_run.jobs.get(path)
    after = second_run.jobs.get(path)
    takes_longer = (
        before is not None and after is not None and after - before >= min_change
    )
    if old_seconds is None:
        if before is None:
            return "new"
        return f"{clause('longer, and ', takes_longer)}new on the critical path"
    if after is None:
        return "gone"
    return f"off the critical path{clause(', though it takes longer', takes_longer)}"


# ---- as text


def comparison_headline(comparison: Comparison) -> str:
    """Return a line with the durations of both runs: `build: 16.3 s, before 14.2 s: 2.1 s longer (+15 %)`."""
    added_seconds = comparison.added_seconds
    seconds_before = comparison.first_run.seconds
    old_text = duration_text(seconds_before)
    new_text = duration_text(comparison.second_run.seconds)
    direction = "longer" if added_seconds > 0 else "less"
    share = ""
    if seconds_before:
        share = f" ({100 * added_seconds / seconds_before:+.0f} %)"
    if comparison.restored_count:
        # The share is meaningless if a run restored jobs that the other run ran.
        restored = plural(comparison.restored_count, "job")
        share = f"; {restored} ran in one of them, and not in the other, which had a journal"
    change = f"{duration_text(abs(added_seconds))} {direction}{share}"
    if old_text == new_text:
        change = "as long as before"
    return f"{comparison.second_run.name}: {new_text}, before {old_text}: {change}"


def comparison_lines(
    comparison: Comparison, symbols: _symbols.Symbols
) -> Iterator[str]:
    """Yield the lines of the comparison: the durations, changes of states, then those along the critical paths."""
    yield symbols.escape(comparison_headline(comparison))
    if comparison.state_changes:
        # First, because it may explain all other changes.
        yield ""
        yield "Ended in another state:"
        texts = [
            f"{_short(path)}: {old}, now {new}"
            for path, old, new in comparison.state_changes
        ]
        yield from (f"  {symbols.escape(text)}" for text in listed_lines(texts, 10))
    if comparison.changes:
        yield ""
        yield "Along the critical paths:"
        yield from _table_lines(comparison, symbols)
    first_run = comparison.first_run
    second_run = comparison.second_run
    first_paths = {*first_run.jobs, *first_run.unstarted_states}
    second_paths = {*second_run.jobs, *second_run.unstarted_states}
    # Two runs without jobs are alike.
    if first_paths != second_paths and first_paths.isdisjoint(second_paths):
        yield ""
        yield "The two runs have no job in common: are these traces of the same scenario?"


def _table_lines(comparison: Comparison, symbols: _symbols.Symbols) -> Iterator[str]:
    changes = comparison.changes
    durations: list[float | None] = []
    for change in changes:
        added = abs(change.added_seconds)
        durations += [change.seconds_before, change.seconds_after, added]
    unit, texts = durations_in_column(durations)
    rows = [(f"change, {unit}", "", "before", "after")]
    columns = zip(changes, texts[::3], texts[1::3], texts[2::3], strict=True)
    for change, before, after, delta in columns:
        sign = "+" if change.added_seconds > 0 else "-"
        rows.append((f"{sign}{delta}", symbols.escape(change.text), before, after))
    for line in _symbols.align_columns(rows, left_aligned=(1,)):
        yield f"  {line}"


def _short(path: str) -> str:
    return fit_name(path, 60)
