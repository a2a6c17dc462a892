"""The records in a trace: a `Span` with its `Wait`s for each run of a job, a `RunSpan` for each run of a scheduler."""

import heapq
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, final

from ..._core.base._states import JobState, StopReason, WaitCause
from ..._core.base._text_forms import duration_text
from ..._core.job._labels import shorten
from .._state_styles import CAUSE_WORDS
from ..text import _failure_text

Interval = tuple[float, float]
"""The start and the end of something."""


@final
@dataclass(frozen=True, slots=True)
class Wait:
    """An interval when a job waited, and its cause."""

    cause: WaitCause
    """The reason for the wait."""
    resource: str
    """The name of the resource that the job waited for, or an empty string."""
    since: float
    """The time when the wait began, on the clock of `span.started_at`."""
    until: float
    """The time when the wait ended, because the next wait began, the job started, or it settled without starting."""
    released_by: int | None = None
    """The number of the span of the job that ended the wait. None if no job ended it, or if that job is unknown.
    Depending on the cause, this is the requirement that settled last, the job that released the slot or the resource,
    the last job that took from the rate, or the job that raised `Throttled`."""

    @property
    def seconds(self) -> float:
        """The duration of the wait in seconds."""
        return self.until - self.since

    @property
    def words(self) -> str:
        """The cause in words, such as "jobs", "a slot", "gpu", "rate of api" or "the throttle of api"."""
        return CAUSE_WORDS[self.cause].awaited_phrase.format(self.resource)


@final
@dataclass(frozen=True, slots=True)
class Span:
    """The record of a job in a run of its scheduler.

    All times are seconds on the backend's clock. The time of an event that has not happened is None.
    """

    number: int
    """The index of the span in the trace, from 0."""
    parent: int | None
    """The span number of the nested scheduler that contains the job. None for jobs of the outermost scheduler."""
    run: int
    """The number of the scheduler's run: 1, or more if a nested scheduler was retried, or 0 if it never ran."""
    path: str
    """The job's `path`."""
    label: str
    """The job's label."""
    kind: str
    """The name of the job's class."""
    state: JobState
    """The job's last state."""
    critical: bool | None
    """Whether a failure of the job ends the run."""
    forever: bool
    """Whether the job is a forever job, which takes no slot."""
    scheduled_at: float | None
    """The earliest time when the job could start, because it had been added and all its requirements had settled."""
    started_at: float | None
    """The time when the job started."""
    ready_at: float | None
    """For a service, the time when the service became ready."""
    finished_at: float | None
    """The time when the job settled, whether it had started or not."""
    attempts: tuple[float, ...]
    """The start of each attempt, including the first."""
    lane: int | None
    """The row of the job in its scheduler, from 1. Jobs that had the same slot share a row. None if it never started.
    Forever jobs have no slots, and get the last rows."""
    timed_out: bool
    """Whether the job's timeout has expired at least once."""
    required: tuple[int, ...]
    """The numbers of the spans that the job had to wait for."""
    exception: BaseException | None
    """The exception that the job raised, or the reason why it was blocked."""
    returncode: int | None = None
    """For a command, the exit code, or the negative number of the signal that ended it."""
    user_time: float | None = None
    """For a command, the seconds of CPU time in user mode."""
    system_time: float | None = None
    """For a command, the seconds of CPU time in the kernel."""
    max_rss: int | None = None
    """For a command, the peak resident memory in bytes, if known."""
    throttled: tuple[tuple[float, float], ...] = ()
    """The start and end of each attempt that raised `Throttled`. `started_at` and `attempts` ignore these attempts."""
    restored: bool = False
    """Whether the result was restored from a journal. If it was, the job did not start, and `started_at` is None."""
    restored_at: float | None = None
    """For a restored job, the time when it settled in the run that ran it, in seconds since 1970, if known."""
    restored_took: float | None = None
    """For a restored job, the seconds that it took in that run, if known."""
    rerun_cause: str | None = None
    """For a job that ran again though the journal has it, the first change that made it run."""
    takes_slot: bool = True
    """Whether the job takes a slot of its scheduler's window while it runs."""
    waits: tuple[Wait, ...] = ()
    """The job's waits in chronological order."""
    moved_on: bool = False
    """Whether the job is SUCCEEDED only because it has `on_timeout="move_on"`, and its timeout ended it."""
    blocked_by: int | None = None
    """The number of the span whose failure blocked the job, directly or through others and groups, or None."""
    failed_attempts: tuple[tuple[int, float, str], ...] = ()
    """The number, end and error of each failed attempt that was followed by another attempt. Of many, only the last."""
    is_first: bool = False
    """Whether the job is a `First`, which counts as a single job."""
    took: float | None = None
    """The seconds that the attempts of the job ran, `throttled` aside, or `restored_took`. None while it runs."""
    first_attempt: int = 1
    """The number of the first attempt. It is above 1 in a later run of a group if the job ran in an earlier one."""

    @property
    def name(self) -> str:
        """The path, shortened. If its scheduler ran several times, the number of the run follows: `a/b (run 2)`."""
        name = "(empty label)"
        if self.path.strip():
            name = shorten(self.path)
        if self.run > 1:
            name += f" (run {self.run})"
        return name

    @property
    def elapsed(self) -> float | None:
        """The time from the job's start to its end, in seconds. None if the job has not started or has not ended."""
        if self.started_at is None or self.finished_at is None:
            return None
        return self.finished_at - self.started_at

    @property
    def attempt_started_at(self) -> float | None:
        """The start of the last attempt. None if the job has not started."""
        return self.attempts[-1] if self.attempts else self.started_at

    @property
    def last_attempt(self) -> int:
        """The number of the last attempt that has started, or 0 if the job has not started."""
        if not self.attempts:
            return 0
        return self.first_attempt - 1 + len(self.attempts)

    @property
    def waited(self) -> float | None:
        """The seconds from `scheduled_at` to the job's start. None if the job has not started."""
        if self.started_at is None or self.scheduled_at is None:
            return None
        return self.started_at - self.scheduled_at

    @property
    def exception_text(self) -> str:
        """The type and the message of the exception, in at most 100 characters. Empty if there is no exception."""
        return _failure_text.one_line_text(self.exception)


WAITS_IN_ATTEMPT: Final = frozenset({WaitCause.MACHINE, WaitCause.LOADING})
"""The causes of waits in which a job keeps its slot."""


def waits_before_start(span: Span) -> list[Wait]:
    """Return a job's waits after its requirements had settled and before its start, in chronological order."""
    started = or_infinity(span.started_at)
    return [
        wait
        for wait in span.waits
        if wait.cause is not WaitCause.JOBS and wait.since < started
    ]


def waits_after_start(span: Span) -> list[Wait]:
    """Return a job's waits between its start and its end: for the machine, and between two attempts."""
    started = or_infinity(span.started_at)
    return [wait for wait in span.waits if wait.since >= started]


def throttled_before_start(span: Span) -> list[Interval]:
    """Return the throttled attempts before the first attempt that counts. Any others are parts of the job's run."""
    started = or_infinity(span.started_at)
    return [times for times in span.throttled if times[0] < started]


def without_intervals(
    since: float, until: float, omitted: Iterable[Interval]
) -> list[Interval]:
    """Return the parts of the interval from `since` to `until` that are in none of the omitted intervals."""
    parts: list[Interval] = []
    is_moment = since == until
    for began, ended in sorted(omitted):
        parts.append((since, began))
        since = ended
    return [
        (start, end)
        for start, end in (*parts, (since, until))
        if end > start or is_moment
    ]


def or_infinity(time: float | None) -> float:
    """Return `time`, or infinity if `time` is None because the event has not happened."""
    return math.inf if time is None else time


def settled_at(span: Span) -> float:
    """Return the earliest start of jobs that require the job of `span`, or infinity if there is none yet.

    This is the end of the job, or, for a service, the time when the service became ready.
    """
    return or_infinity(span.finished_at if span.ready_at is None else span.ready_at)


@dataclass(frozen=True, slots=True)
class RunSpan:
    """The record of a run of a scheduler, within a run of its enclosing scheduler."""

    scheduler_number: int  # equal for the runs of a scheduler
    parent: (
        int | None
    )  # the number of the scheduler's span, or None for an outermost scheduler
    run_number: int  # counted from 1 among the runs with the same parent, or 0 if the run never began
    label: str
    started_at: float | None
    finished_at: float | None
    # The number of slots (the largest number, if it changed), or None if unlimited.
    window_size: int | None
    stop_reason: StopReason | None
    # The number of the span of the job that stopped the run, or None if no job stopped it.
    culprit_number: int | None
    member_numbers: tuple[int, ...]
    # Whether the window is a `CapacityLimiter`.
    has_limiter: bool = False
    backend: str = ""
    window_sizes: tuple[
        tuple[float, int], ...
    ] = ()  # the time and new size of each change
    has_own_label: bool = True  # whether the user chose the label
    options: tuple[
        tuple[str, str], ...
    ] = ()  # the names and values of other options of the scheduler
    pauses: tuple[
        tuple[float, float], ...
    ] = ()  # the start and end of each pause of the run, or of a run around it


def run_indices(runs: Iterable[RunSpan]) -> dict[int, int]:
    """Return, for each span number, the index of the run that the span belongs to."""
    indices: dict[int, int] = {}
    for index, run in enumerate(runs):
        indices.update(dict.fromkeys(run.member_numbers, index))
    return indices


@dataclass(frozen=True, slots=True)
class IncidentMark:
    """An incident during a run, such as an exception raised by a job's `co_shutdown`."""

    occurred_at: float
    # The index of the run in `TraceRecord.runs`.
    run_index: int
    message: str
    is_steering: bool = False
    # The number of the span of its job, if it is about a job.
    job_number: int | None = None


@dataclass(frozen=True, slots=True)
class CommandOutput:
    """The end of an output stream of a command."""

    stream: Literal["stdout", "stderr"]
    text: str
    # The number of bytes before the text.
    skipped_bytes: int


@dataclass(frozen=True, slots=True)
class CommandRecord:
    """The last process of a job that runs commands. With `redact=True`, it has neither outputs nor files."""

    line: str
    returncode: int
    elapsed: float  # seconds
    user_time: float  # seconds of CPU time in user mode
    system_time: float  # seconds of CPU time in the kernel
    max_rss: int | None  # the peak memory in bytes, if known
    outputs: tuple[CommandOutput, ...] = ()
    # The stream and the absolute path of each file with output.
    files: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class HostFacts:
    """Where a run took place."""

    name: str = ""
    system: str = ""
    versions: str = ""


RELEASES: Final = {
    WaitCause.JOBS: ", until {} settled",
    WaitCause.SLOT: ", until {} released it",
    WaitCause.TOKEN: ", until {} released it",
    WaitCause.RESOURCE: ", until {} released it",
    WaitCause.RATE: ", from which {} had taken",
    WaitCause.THROTTLED: ", because of {}",
}
"""For each cause of a wait that another job may have ended, the act of that job."""


def wait_texts(spans: Sequence[Span], waits: Iterable[Wait]) -> Iterator[str]:
    """Yield how long a job waited for each cause. For a single wait, also yield the part of another job, if known."""
    waits_by_words: dict[str, list[Wait]] = {}
    for wait in waits:
        waits_by_words.setdefault(wait.words, []).append(wait)
    for words, (wait, *others) in waits_by_words.items():
        is_known = not others and wait.released_by is not None
        release = ""
        if is_known:
            releasing = spans[wait.released_by or 0]
            release = RELEASES.get(wait.cause, "").format(releasing.name)
        seconds = sum((each.seconds for each in others), wait.seconds)
        yield f"waited {duration_text(seconds)} for {words}{release}"


# ---- rows


def assign_lanes(
    intervals: Iterable[Interval], waiting_since: Iterable[float | None] = ()
) -> Iterator[int]:
    """Yield the row of each interval, counted from 0.

    This is the greedy coloring of an interval graph, in O(n log n) time. The number of rows is the largest number of
    intervals that overlap at the same time (Kleinberg and Tardos, Algorithm Design, 4.1).

    Args:
        intervals: the beginning and end of each interval, sorted by beginning. The next interval in a row may begin at
            the end of the previous interval.
        waiting_since: for each interval, the time when it began to wait for a row, or None if it did not wait. An
            interval that waited gets the row that became free most recently, if that happened after the interval had
            begun to wait. Any other interval gets the lowest free row.

    """
    # Each row that was used and is free again, with the time when it became free.
    free_rows: dict[int, float] = {}
    # Both lists contain the rows of `free_rows`: the first is a heap by number, the second is sorted by time. They may
    # also contain rows that are in use again, which are removed lazily.
    free_row_heap: list[int] = []
    free_rows_by_time: list[tuple[float, int]] = []
    # A heap of the rows in use, by the end of their intervals.
    busy_row_heap: list[tuple[float, int]] = []
    new_rows = itertools.count()
    wait_starts = itertools.chain(waiting_since, itertools.repeat(None))
    for (beginning, end), wait_start in zip(intervals, wait_starts):  # noqa: B905 - endless
        while busy_row_heap and busy_row_heap[0][0] <= beginning:
            freed_at, row = heapq.heappop(busy_row_heap)
            free_rows[row] = freed_at
            heapq.heappush(free_row_heap, row)
            free_rows_by_time.append((freed_at, row))
        while (
            free_rows_by_time
            and free_rows.get(free_rows_by_time[-1][1]) != free_rows_by_time[-1][0]
        ):
            free_rows_by_time.pop()
        while free_row_heap and free_row_heap[0] not in free_rows:
            heapq.heappop(free_row_heap)
        if (
            free_rows_by_time
            and wait_start is not None
            and free_rows_by_time[-1][0] > wait_start
        ):
            row = free_rows_by_time.pop()[1]
        elif free_row_heap:
            row = free_row_heap[0]
        else:
            row = next(new_rows)
        free_rows.pop(row, None)
        heapq.heappush(busy_row_heap, (end, row))
        yield row
