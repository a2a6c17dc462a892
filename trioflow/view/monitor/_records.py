"""The records of jobs and schedulers that a monitor shows, and the base of its displays, which are notified of events.

A record keeps what a monitor counts or measures at an event. All else it reads from its job, while it draws.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Final, cast

from ..._core.base._states import JobState, ReportedState
from ..._core.job._job import AnyJob
from ..._core.scheduler._base_scheduler import BaseScheduler
from ..._core.words import _outcome
from ..._core.words._job_queries import criticality, expected_durations
from .. import _state_styles
from ..text import _symbols, _verdict

StyledText = tuple[str, str]
"""A text and the name of its style, which is "" for plain text."""
StyledLine = list[StyledText]
DrawFunction = Callable[[int, int], list[StyledLine]]
"""A function that returns a picture, given the maximum number of columns and the maximum number of lines."""


def line_width(line: StyledLine) -> int:
    return sum(_symbols.display_width(text) for text, _ in line)


REDRAW_INTERVAL: Final = 0.1
IDLE_INTERVAL: Final = 1.0
"""The seconds between two pictures, at least and, as elapsed times change, at most."""


class Display:
    """The output of a monitor. This base class shows nothing. The thread of the run calls the methods."""

    # Whether it is where log records are printed if logging is not configured.
    is_beside_log = False

    @property
    def shown_subjects(self) -> Collection[str]:
        """The kinds of records that the display shows, which the log need not repeat. See `Instrument`."""
        return ("failure", "end") if self.is_beside_log else ()

    def start(self) -> None:
        """Show that the run has begun."""

    def stop(self) -> None:
        """Show the end of the run, and release the output."""

    def wake(self) -> None:
        """Schedule an update after an event."""

    def tell(self, word: str, job: JobRecord, note: str = "") -> None:
        """Show what a job does: its "start", a "retry", or that it runs "again", is "ready" or "throttled"."""
        self.wake()

    def job_settled(self, job: JobRecord) -> None:
        self.wake()


class Ticker(threading.Thread):
    """A thread that calls a function soon after each call of `wake`, and otherwise at long intervals.

    Args:
        callback: the function to call. It must not raise.
        interval: the minimum number of seconds between two calls of the function.
        idle_interval: the function is called after this many seconds even if `wake` is not.
        name: the name of the thread.

    """

    def __init__(
        self,
        callback: Callable[[], None],
        interval: float,
        idle_interval: float,
        name: str = "trioflow monitor",
    ) -> None:
        self._callback: Final = callback
        self._interval: Final = interval
        self._idle_interval: Final = idle_interval
        self._wake_event: Final = threading.Event()
        self._stop_event: Final = threading.Event()
        # A notebook finds the cell that an output belongs to by a context variable of the caller.
        run_in_context = contextvars.copy_context().run
        super().__init__(
            target=run_in_context, args=(self._run_thread,), name=name, daemon=True
        )

    def wake(self) -> None:
        """Schedule a call of the function. This method is cheap, and any thread may call it."""
        if not self._wake_event.is_set():
            self._wake_event.set()

    def stop(self) -> None:
        """Stop the thread. Wait until it has ended, unless this is called in the thread itself."""
        self._stop_event.set()
        self._wake_event.set()
        if threading.current_thread() is not self:
            self.join()

    def _run_thread(self) -> None:
        while True:
            self._wake_event.wait(self._idle_interval)
            self._wake_event.clear()
            if self._stop_event.is_set():
                return
            self._callback()
            self._stop_event.wait(self._interval)


class JobCounts(_verdict.Tally):
    """The tally of a scheduler's jobs, including jobs of nested schedulers, kept up to date event by event.

    Jobs that may still start are counted as IDLE, even if they are SCHEDULED. A `First` is RUNNING while a job in it
    is, because otherwise it only waits.

    Args:
        enclosing: the counts of the enclosing scheduler, or None for the outermost scheduler, and for a `First`.
        of_first: for a `First`, the counts of the enclosing scheduler.

    """

    def __init__(
        self, enclosing: JobCounts | None = None, of_first: JobCounts | None = None
    ) -> None:
        super().__init__()
        self.enclosing: Final = enclosing
        # None also when the `First` has settled.
        self.of_first: JobCounts | None = of_first
        self.is_running = False
        # The number of direct members, including schedulers, that are not forever jobs.
        self.row_count = 0

    @property
    def waiting_count(self) -> int:
        """The number of jobs that may still start."""
        return self.count(JobState.IDLE) - self.unreached_count

    def iterate_outwards(self) -> Iterator[JobCounts]:
        """Yield these counts, then the counts of each enclosing scheduler that include them, innermost first."""
        counts: JobCounts | None = self
        while counts is not None:
            yield counts
            counts = counts.enclosing

    def move(
        self, old: ReportedState | str | None, new: ReportedState | str | None
    ) -> None:
        """Count a job under the key `new` of `tally_key` instead of `old`. None is for a job that is not counted."""
        counts = self
        for counts in self.iterate_outwards():
            counts.replace(old, new)
        is_running = counts.count(JobState.RUNNING) > 0
        if counts.of_first is not None and counts.is_running != is_running:
            previous = counts.state_of_first
            counts.is_running = is_running
            counts.of_first.move(previous, counts.state_of_first)

    @property
    def state_of_first(self) -> JobState:
        """The state that a `First` is counted by until it settles."""
        return JobState.RUNNING if self.is_running else JobState.IDLE

    def count_waiting_as_unreached(self) -> None:
        waiting = self.waiting_count
        for counts in self.iterate_outwards():
            counts.unreached_count += waiting

    def expect_waiting(self, nested: Iterable[JobCounts]) -> None:
        """Count as waiting again the jobs that this ended scheduler itself, not a nested one, has not reached."""
        waiting = self.unreached_count - sum(
            each.unreached_count for each in nested if each.enclosing is self
        )
        for counts in self.iterate_outwards():
            counts.unreached_count -= waiting


RUN_FIELDS: Final = (
    "state", "started_at", "seconds", "outcome", "is_failed_group", "ready_group",
)  # fmt: skip
"""The fields of a `JobRecord` that describe its current run."""


class JobRecord:
    """A record of a job: the job itself, and its state in the current run.

    Args:
        job: the job itself.
        enclosing: the enclosing scheduler, or None for the outermost scheduler.
        forever: whether the job is a forever job.

    """

    is_scheduler = is_first = False
    # The fields below describe the current run. These are their values before a run.
    state = JobState.IDLE
    started_at: float | None = None
    """When the current attempt has started."""
    seconds: float | None = None
    """How long its attempts have run, once it has settled."""
    outcome = _outcome.PLAIN_OUTCOME
    is_failed_group = False
    """Whether it counts as a failed group: the failure is in no member, and fails the enclosing scheduler."""
    ready_group: dict[JobRecord, None] | None = None
    """The group of `SchedulerRecord.ready_jobs_by_needs` that the job is in, or None if it is in none."""

    def __init__(
        self, job: AnyJob, enclosing: SchedulerRecord | None, forever: bool = False
    ) -> None:
        self.job: Final = job
        self.enclosing = enclosing
        self.forever = forever

    @property
    def error(self) -> BaseException | None:
        """The exception of a job that has failed or was blocked. None if failures in a nested scheduler say it all."""
        failure = self.outcome.failure
        if failure is None or self.outcome.failed_through_member:
            return None
        return failure.exception

    @property
    def expected_duration(self) -> float | None:
        if self.enclosing is None:
            return None
        return expected_durations(self.enclosing.scheduler, [self.job]).get(self.job)

    @property
    def moved_on(self) -> bool:
        return self.outcome.moved_on

    @property
    def restored(self) -> bool:
        return self.outcome.restoration is not None

    def reset_run_fields(self) -> None:
        """Reset the fields that describe the current run to their values before a run."""
        for name in RUN_FIELDS:
            vars(self).pop(name, None)

    @property
    def is_one_job(self) -> bool:
        """Whether the job counts as a job: no scheduler does, except a `First`."""
        return self.is_first or not self.is_scheduler

    @property
    def first(self) -> SchedulerRecord | None:
        """The outermost `First` that contains the job, and counts in its place, or None if there is none."""
        first = None
        for outer in self.enclosing_schedulers():
            if outer.is_first:
                first = outer
        return first

    @property
    def failed_by_itself(self) -> bool:
        """Whether the job failed, and neither only because of a member, nor as a job of a `First`."""
        return (
            self.state is JobState.FAILED
            and self.first is None
            and not self.outcome.failed_through_member
        )

    @property
    def is_tolerated(self) -> bool:
        """Whether the job failed, and its failure fails nothing."""
        return self.state is JobState.FAILED and criticality(self.job) is False

    @property
    def tally_key(self) -> ReportedState | str:
        return _verdict.tally_key(
            _state_styles.recorded_state(self), self.forever, self.is_tolerated
        )

    def leave_ready_group(self) -> None:
        if self.ready_group is not None:
            self.ready_group.pop(self, None)
            self.ready_group = None

    def enclosing_schedulers(self) -> Iterator[SchedulerRecord]:
        """Yield the enclosing schedulers, the innermost first."""
        enclosing = self.enclosing
        while enclosing is not None:
            yield enclosing
            enclosing = enclosing.enclosing


class SchedulerRecord(JobRecord):
    """A record of a scheduler, with the records of its members."""

    is_scheduler = True

    def __init__(
        self, job: AnyJob, enclosing: SchedulerRecord | None, forever: bool = False
    ) -> None:
        super().__init__(job, enclosing, forever)
        in_forever_job = enclosing is not None and enclosing.belongs_to_forever_job
        self.belongs_to_forever_job: Final[bool] = forever or in_forever_job
        # These dicts are ordered sets: their keys are records.
        self.members: dict[JobRecord, None] = {}
        # The members that are schedulers.
        self.nested_schedulers: dict[SchedulerRecord, None] = {}
        # The ready jobs, without forever jobs and schedulers, by the text of their needs.
        self.ready_jobs_by_needs: dict[str, dict[JobRecord, None]] = {}
        self.counts = JobCounts()

    @property
    def scheduler(self) -> BaseScheduler:
        return cast(BaseScheduler, self.job)

    def reset_counts(self) -> None:
        """Count no jobs, and take none as ready. The enclosing scheduler must have been reset before."""
        outer = None if self.enclosing is None else self.enclosing.counts
        if not self.is_first:
            self.counts = JobCounts(outer)
        else:
            self.counts = JobCounts(of_first=None if self.forever else outer)
        self.ready_jobs_by_needs = {}

    def add_member(self, job: JobRecord) -> None:
        self.members[job] = None
        if isinstance(job, SchedulerRecord):
            self.nested_schedulers[job] = None

    def iterate_schedulers(self) -> Iterator[SchedulerRecord]:
        """Yield this record and the records of all nested schedulers, each after its enclosing scheduler's."""
        todo: list[SchedulerRecord] = [self]
        for scheduler in todo:
            yield scheduler
            todo += scheduler.nested_schedulers

    def iterate_jobs(self) -> Iterator[JobRecord]:
        """Yield the records of all jobs, including nested schedulers and their jobs."""
        for scheduler in self.iterate_schedulers():
            yield from list(scheduler.members)
