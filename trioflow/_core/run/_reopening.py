"""Trying failed jobs again in the run in progress, with what they have blocked, while the rest goes on.

The rule: **the run goes on as if the job had not settled yet.** The job is IDLE again, and so is each BLOCKED job that
requires it, at any distance. These invariants make this a local step, job by job, in any order:

- `_pending` of an IDLE job is the number of its requirements that hold it back.
- A job that has failed keeps its `_successors`, which have every job that requires it once. So a job that is reopened
  counts its own requirements, and each IDLE job among its successors counts it again; those that are BLOCKED are
  reopened next. When it settles, its successors are counted down, and their rules decide anew.

Two jobs have no such list: a service that was ready, because its users are counted down before it ends, and any job of
a scheduler that keeps no jobs. Their successors are searched among the members.

This is not undone:

- What has been decided to run, because of the failure or in spite of it (`run_if="failed"` or "settled",
  `requires(settled=True)`, `critical=False`), stays as it is and does not run again, whatever comes of the second try.
- What was SKIPPED stays so, because no skip depends on a failure; and what is BLOCKED and needs a result that
  `keep_result=False` has dropped.

A nested scheduler that has ended is a job as any other. Its next run begins with those members settled that succeeded
in the last one: `Run.keeps_succeeded`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from ..admission._resource import budgets_used
from ..base._states import CANCELLED, FAILED, IDLE, SCHEDULED, JobState, RunPhase
from ..base._text_forms import join_names, plural
from ..job._errors import DROPPED, Failure, no_result_error, one_line_error
from ..job._job import AbstractJob, is_scheduler
from ._instruments import Part
from ._requirement_counts import count_consumer, successors_of
from ._time_slice import TURN_SECONDS

if TYPE_CHECKING:
    from ._run import Run

MAX_NAMED_JOBS: Final = 5
JOBS_PER_CLOCK_READING: Final = 16
"""The number of jobs to reopen between two readings of the clock."""


def why_not(run: Run, job: AbstractJob[Any] | None) -> str:
    """Return why a job, or for None any, cannot be tried again now; "" if it can. Any thread may ask."""
    if run.phase is not RunPhase.RUNNING:
        return f"{run.scheduler.label!r} {run.phase.value}"
    if run.is_settling:
        return "a hook must not change the run while a job settles; use on_settled, or another job"
    if job is None:
        return ""
    state = job._state
    if not (state is FAILED or (state is CANCELLED and job._outcome.is_alone)):
        cause = "; try again what has blocked it" if state is JobState.BLOCKED else ""
        return f"it is {state.value}, and only what has failed, or was cancelled alone, can be{cause}"
    if run.scheduler._enough is not None:
        return f"{run.scheduler.label!r} is a First, which has counted its failure; it can be tried again as a whole"
    if job not in run.members.jobs:
        return f"{run.scheduler.label!r} has keep_jobs=False, and has dropped it; add another job"
    if _lacks_input(job):
        return "a result that it needs was dropped, because of keep_result=False"
    everything = (job, *job.iterate_jobs()) if is_scheduler(job) else (job,)
    is_spent = any(each._is_spent() and each._state is not JobState.SUCCEEDED for each in everything)
    return "its coroutine object can run only once; give Job the async function" if is_spent else ""


def _lacks_input(job: AbstractJob[Any]) -> bool:
    return any(each._outcome is DROPPED for each in job._inputs)


def reopen_all(run: Run) -> None:
    """Try again what has failed here and in nested runs, if it can be, and the failure was not awaited."""
    for each in run.with_nested():
        reopen(each, [job for job in each.members.jobs if job._state is FAILED and not job._outcome.is_taken])


def reopen(run: Run, jobs: Iterable[AbstractJob[Any]]) -> None:
    """Let those of these members of a run be tried again that can be, with what they have blocked. O(V + E) of these.

    What takes longer than a chunk is done in the next turns of the loop.
    """
    if failed := [job for job in jobs if not why_not(run, job)]:
        if (part := run.part(Reopening)) is None:
            run.parts = (*run.parts, part := Reopening(run))
        part.add(failed)


class Reopening(Part):
    """The jobs of one run that are about to be IDLE again. A run gets this part with the first of them."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._todo: Final[deque[AbstractJob[Any]]] = deque()
        self._failed: Final[set[AbstractJob[Any]]] = set()  # those of them that are tried again
        self._is_working = False
        self._clear_report()

    def _clear_report(self) -> None:
        self._errors: list[str] = []
        self._reported: list[AbstractJob[Any]] = []
        self._blocked_count = 0
        self._ran: dict[AbstractJob[Any], None] = {}  # the jobs that require a reopened one, and stay as they are

    def is_busy(self) -> bool:
        return bool(self._todo) and self._run.phase is RunPhase.RUNNING

    def add(self, failed: list[AbstractJob[Any]]) -> None:
        self._reported += failed
        new_errors = failed[: MAX_NAMED_JOBS - len(self._errors)]
        self._errors += [f"{job.label!r} ({one_line_error(no_result_error(job))})" for job in new_errors]
        self._failed.update(failed)
        self._todo.extend(failed)
        self._work()

    def _work(self) -> None:
        """Reopen jobs for the time of a turn, and let the loop call this again for the others."""
        run, todo = self._run, self._todo
        reopened: list[AbstractJob[Any]] = []
        if self._is_working or not todo:  # a hook has called `add`, or another call was faster
            return
        self._is_working, until = True, run.clock() + TURN_SECONDS
        is_line_clean = False
        while self.is_busy() and (len(reopened) % JOBS_PER_CLOCK_READING or run.clock() <= until):
            job = todo.popleft()
            if job in self._failed or (job._state is JobState.BLOCKED and not _lacks_input(job)):
                self._blocked_count += job not in self._failed
                self._failed.discard(job)
                if job._started_at is None and not is_line_clean:  # it may have settled while it waited
                    run.queue.drop_settled()
                    is_line_clean = True
                self._reopen(job)
                reopened.append(job)
        run.scheduler._extend_settled_iterators(reopened)
        for part in run.parts:
            part.on_added()
        if not self.is_busy():
            todo.clear()
            self._report()
        for job in reopened:
            if not job._pending:
                run.make_ready(job)
        run.wake()  # its own task lets a worker search
        self._is_working = False
        if todo:
            run.call_in_loop(self._work)

    def _reopen(self, job: AbstractJob[Any]) -> None:
        """Put a settled job back to IDLE. What it has done counts as an attempt, after which it may be retried anew."""
        run, members, extras, outcome = self._run, self._run.members, job._extras, job._outcome
        successors = job._successors
        if not run.scheduler.keep_jobs or (extras is not None and extras.ready_at is not None):
            successors = [user for user in members.jobs if job in members.all_requirements(user)] or None
        run.cancelled_count -= job._state is CANCELLED and not job._options.forever
        if type(outcome) is Failure:
            run.failures.uncount(job, outcome)
        if (began := job._started_at) is not None and job._finished_at is not None:
            extras = job._ensure_extras()
            extras.earlier_use, extras.first_started_at = budgets_used(job), job.started_at
            extras.add_retry(began, job._finished_at, no_result_error(job), run.clock() - job._finished_at)
            extras.keeps_succeeded = is_scheduler(job)
        if extras is not None:
            extras.earlier_retries = extras.retry_count
            extras.ready_at = extras.fraction = extras.grant = extras.time_limit = extras.backoff_until = None
        job._reset()
        job._successors, job._extras = successors, extras or job._extras
        job._pending = sum(requirement._holds_back() for requirement in members.all_requirements(job))
        run.add_unsettled(not job._options.forever, job._options.forever)
        count_consumer(job)
        for user in successors_of(job):
            if user._state is IDLE:
                user._pending += 1
            elif user._state is JobState.BLOCKED:
                self._todo.append(user)
            elif user._state is SCHEDULED or user._started_at is not None:
                self._ran[user] = None
        run.notify("job_reopened", job)

    def _report(self) -> None:
        text = f"tried again: {join_names(self._errors, MAX_NAMED_JOBS, len(self._reported))}"
        if self._blocked_count:
            text += f", with {plural(self._blocked_count, 'blocked job')}"
        if self._ran:
            names = [repr(job.label) for job in islice(self._ran, MAX_NAMED_JOBS)]
            text += f"; what has run meanwhile does not run again: {join_names(names, MAX_NAMED_JOBS, len(self._ran))}"
        job = self._reported[0] if len(self._reported) == 1 else None
        self._clear_report()
        self._run.report(job, text, is_steering=True)
