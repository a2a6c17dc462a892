"""What another try of a member means at one moment: whether it is possible, and what runs again. Nothing here acts.

`_reopening` does what was found here. A view may ask before, from any thread.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from ..base._states import BLOCKED, CANCELLED, FAILED, RUNNING, SUCCEEDED, RunPhase
from ..base._text_forms import MAX_NAMED_JOBS, clause, join_names
from ..job._ancestors import enclosing_schedulers
from ..job._errors import DROPPED, BudgetSpent, remedy_of
from ..job._following import what_follows
from ..job._job import AnyJob, with_members

if TYPE_CHECKING:
    from ._run import Run

Jobs = Collection[AnyJob]


class NextTry(NamedTuple):
    """What another try of a member means at one moment."""

    job: AnyJob
    wanted: Jobs = ()
    """The jobs in it for whose sake it is tried again, or empty if it is for its own."""
    cancels: bool = False
    """Whether what runs with a result that is taken back is cancelled. Otherwise it keeps this from being done."""
    problem: str = ""
    """Why this cannot be done, or ""."""
    again: Jobs | None = None
    """If a success is taken back, all that runs again, at any depth, and the groups around these."""
    others: Jobs = ()
    """The jobs, at any depth, that run anew because of those wanted."""
    running: Jobs = ()
    """The jobs and groups that run now with what is taken back."""

    @property
    def asked_for(self) -> Jobs:
        """The jobs that were asked for."""
        return self.wanted or (self.job,)

    @property
    def used_it(self) -> list[AnyJob]:
        """The jobs, without groups, that have used what is taken back, or do so now, whatever became of them."""
        jobs = [each for each in self.others if not each._is_scheduler]
        return [
            each for each in jobs if each._state.is_settled or each._state is RUNNING
        ]


def examine(run: Run, job: AnyJob, wanted: Jobs = (), cancels: bool = False) -> NextTry:
    """Return what another try of a member means now. Any thread may ask. O(V + E) if a success is taken back."""
    asked = NextTry(job, wanted, cancels, _why_not(run, job, wanted))
    if asked.problem:
        return asked
    if is_anew(job, wanted):
        return with_followers(run, asked)
    if not job._state.is_settled:
        # A group that waits. Nothing follows, because all in it that has not succeeded runs again with it.
        return asked._replace(again=[each for each in wanted if each._state.is_settled])
    if lacks_input(job):
        return asked._replace(
            problem="a result that it needs was dropped, because of keep_result=False"
        )
    return asked


def _why_not(run: Run, job: AnyJob, wanted: Jobs) -> str:
    """Return why a member cannot be tried again now, whatever follows it, or ""."""
    scheduler = run.scheduler
    if run.phase is not RunPhase.RUNNING:
        return f"{scheduler.label!r} {run.phase.value}"
    problem = _problem_of_state(run, job, wanted)
    if problem:
        return problem
    if scheduler._enough is not None:
        return f"{scheduler.label!r} is a First, which has counted its end; it can be tried again as a whole"
    if job not in run.members.jobs:
        return f"{scheduler.label!r} has keep_jobs=False, and has dropped it; add another job"
    keeps_success = scheduler.keep_jobs and not run.outermost().closes_scheduler
    if not keeps_success and is_anew(job, wanted):
        return f"{scheduler.label!r} keeps nothing that has succeeded to run it again; add another job"
    for each in with_members(job):
        if each._state is not SUCCEEDED and each._is_spent():
            return "its coroutine object can run only once; give Job the async function"
    return ""


def _problem_of_state(run: Run, job: AnyJob, wanted: Jobs) -> str:
    """Return why a member cannot be tried again in its state, or ""."""
    # The state to be, because its own `on_settled` may ask.
    state = job.state
    inside = [each for each in wanted if each is not job]
    if inside and not state.is_settled:
        if state is RUNNING or not all(each._state.is_settled for each in inside):
            return f"{job.label!r} has not begun in the run of {run.scheduler.label!r}, or waits for another attempt"
        return ""
    was_cancelled_alone = state is CANCELLED and job._outcome.is_alone
    if state not in (FAILED, SUCCEEDED) and not was_cancelled_alone:
        cause = clause("; try again what has blocked it", state is BLOCKED)
        error = job.raised_exception()
        if isinstance(error, BudgetSpent):
            cause = f"; for another run, {remedy_of(error)}"
        return f"it is {state.value}, and only what has succeeded or failed, or was cancelled alone, can be{cause}"
    if state is not SUCCEEDED and not job._state.is_settled and job._criticality():
        return "it is critical, so its failure is about to stop the run"
    return ""


def with_followers(run: Run, asked: NextTry) -> NextTry:
    """Find what runs anew if a success is taken back, and what of it stands in the way."""
    taken = [each for each in asked.asked_for if each.state is SUCCEEDED]
    failed = [each for each in asked.asked_for if each not in taken]
    groups = list[AnyJob]()
    around = dict[AnyJob, None]()
    meant = dict[AnyJob, None]()
    for each in failed:
        groups += islice(levels_anew(asked.job, each), 1)
    for each in asked.asked_for:
        around.update(dict.fromkeys(enclosing_schedulers(each)))
        meant.update(dict.fromkeys(with_members(each)))
    meant.update(around)
    again = what_follows(run.outermost().scheduler, taken, groups, failed)
    others = [each for each in again if each not in meant]
    running = [
        each for each in others if each._state is RUNNING and each._scheduler in around
    ]
    if running and not asked.cancels:
        names = join_names([repr(each.label) for each in running], MAX_NAMED_JOBS)
        problem = f"what follows it is running: {names}; cancel() that first, or wait"
    else:
        problem = _problem_of_followers(again) or _problem_of_levels(around)
    return asked._replace(problem=problem, again=again, others=others, running=running)


def _problem_of_followers(again: Jobs) -> str:
    for each in again:
        if each._is_spent():
            return f"the coroutine object of {each.label!r} can run only once; give Job the async function"
    return ""


def _problem_of_levels(around: Jobs) -> str:
    level: Any
    for level in around:
        run: Run | None = level._run
        if run is not None and run.phase is not RunPhase.RUNNING:
            return f"{level.label!r} {run.phase.value}"
    return ""


def levels_anew(job: AnyJob, wanted: AnyJob) -> Iterator[AnyJob]:
    """Yield the wanted job, or else the innermost group around it whose success is taken back, and those around it.

    The last one is `job`, the outermost that is tried again.
    """
    levels = [wanted, *enclosing_schedulers(wanted)]
    has_succeeded = False
    for level in levels[: levels.index(job) + 1]:
        has_succeeded = has_succeeded or level.state is SUCCEEDED
        if has_succeeded:
            yield level


def is_anew(job: AnyJob, wanted: Jobs) -> bool:
    """Return whether a success is taken back if a job is tried again for the sake of those `wanted` in it."""
    for each in wanted or (job,):
        for _ in levels_anew(job, each):
            return True
    return False


def lacks_input(job: AnyJob) -> bool:
    return any(each._outcome is DROPPED for each in job._inputs)
