"""Counts of open requirements: counted down as jobs settle, and up again when jobs are tried again: see `_reopening`.

A requirement of a job is open until it has settled or is a ready service. `job._pending` is the number of a job's open
requirements, and `job._successors` has the jobs that wait for it. When the count of a successor reaches 0, it is ready,
or `_undecided` decides, because it may settle at once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any, Final

from ..base._states import IDLE, REOPENABLE, SCHEDULED
from ..job._job import AnyJob
from ..job._requirements import certainly_runs, decide

if TYPE_CHECKING:
    from ._run import Run


def link(job: AnyJob, requirements: Iterable[AnyJob]) -> None:
    """Make a job wait for those `requirements` that have not settled and are not ready services.

    Of those that have failed, it becomes a successor, too, because they may be tried again.
    """
    keep_jobs = job._scheduler is not None and job._scheduler.keep_jobs
    for requirement in requirements:
        holds_back = requirement._holds_back()
        if holds_back or (requirement._state in REOPENABLE and keep_jobs):
            job._pending += holds_back
            successors = requirement._successors
            if successors is None:
                requirement._successors = job
            elif isinstance(successors, list):
                successors.append(job)
            else:
                requirement._successors = [successors, job]


def count_open(run: Run, job: AnyJob) -> int:
    """Return the number of a job's open requirements."""
    return sum(
        requirement._holds_back() for requirement in run.members.all_requirements(job)
    )


def count_consumer(job: AnyJob) -> None:
    """Count a job as a consumer of each of its inputs that has `keep_result=False`."""
    for requirement in job._inputs:
        if not requirement._options.keep_result:
            requirement._ensure_extras().consumer_count += 1
            job._ensure_extras().drops_results = True
            # `_call_once` drops the results.
            job._is_plain = False


def successors_of(job: AnyJob) -> Iterable[AnyJob]:
    successors = job._successors
    if successors is None:
        return ()
    return successors if isinstance(successors, list) else (successors,)


def users_of(job: AnyJob) -> list[AnyJob]:
    """Return the jobs in the same scheduler that wait for an unsettled job, and take its result as an input."""
    return [user for user in successors_of(job) if job in user._inputs]


class RequirementCounts:
    """Links the jobs of a run to their requirements, and counts down each job's unsettled requirements."""

    def __init__(self, run: Run) -> None:
        self._run: Final = run
        self._queued: Final = run.undecided.jobs
        self._counts: Final = run.counts
        # Whether all jobs with which the run begins are linked.
        self.has_linked = False
        # Whether a journal may restore each job, or a part hold it back.
        self.is_undecided = False

    def link(
        self,
        jobs: Collection[AnyJob],
        entries: list[AnyJob],
        undecided: list[AnyJob],
    ) -> None:
        """Count each job's requirements, and add the job to their successors. Append the jobs that have none.

        Args:
            jobs: the jobs.
            entries: gets those to be scheduled as soon as all jobs are linked.
            undecided: gets those that their rule or the journal may settle instead, or a `First` hold back.

        """
        run = self._run
        members = run.members
        if run.closes_scheduler:
            for job in jobs:
                job._ensure_extras().runs_once = True
        elif run.keeps_succeeded:
            settled = [job for job in jobs if job._state is not IDLE]
            jobs = [job for job in jobs if job._state is IDLE]
            if settled:
                # Their ends were told when they settled.
                run.counts.expect_ordinary_jobs()
            for job in settled:
                # It may be tried again.
                link(job, members.all_requirements(job))
        requires_members_only = (
            not members.implied_requirements and not members.has_outside_requirements
        )
        self.is_undecided |= run.journal_writer is not None
        is_undecided = self.is_undecided
        successors: Any
        forever = 0
        for job in jobs:
            if job._inputs:
                count_consumer(job)
            if not job._is_plain and job._options.forever:
                forever += 1
            required: Collection[AnyJob]
            if requires_members_only:
                required = job._required
            else:
                required = members.all_requirements(job)
            if run.keeps_succeeded:
                required = [each for each in required if each._holds_back()]
            if not required:
                job._pending = 0
                # Some have settled, outside of the run.
                may_settle = job._required or job._options.run_if == "failed"
                if is_undecided or (may_settle and decide(job)[0] is not SCHEDULED):
                    undecided.append(job)
                else:
                    entries.append(job)
                continue
            job._pending = len(required)
            # As in the function `link`: a call would cost a tenth of an empty job.
            for requirement in required:
                successors = requirement._successors
                if successors is None:
                    requirement._successors = job
                elif successors.__class__ is list:
                    successors.append(job)
                else:
                    requirement._successors = [successors, job]
        run.counts.begin(len(jobs) - forever, forever)

    def count_down(self, successors: Any) -> None:
        """Count down the successors of a settled job, or of a service that has become ready, and schedule ready ones.

        A job that may settle at once, by its rule or from a journal, or be held back by a `First`, is queued first, and
        so are all jobs behind it. The caller holds `EndQueue.depth` if hooks are told.
        """
        run = self._run
        queued = self._queued
        if successors.__class__ is not list:
            successors = (successors,)
        if run.phase._is_ending:
            run.open_crew.start(successors)
            return
        for successor in successors:
            pending = successor._pending - 1
            successor._pending = pending
            if pending:
                continue
            may_settle = queued or self.is_undecided or successor._state is not IDLE
            if not may_settle and (successor._inputs or not self._counts.all_succeeded):
                may_settle = not certainly_runs(successor)
            if may_settle or successor._options.run_if == "failed":
                queued.append(successor)
                continue
            run.ready(successor, run.line)
            if run.phase._is_ending:
                # An instrument has drained or cancelled the run.
                return
        if queued and not run.undecided.is_busy:
            run.undecided.work()
