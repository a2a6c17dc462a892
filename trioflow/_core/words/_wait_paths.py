"""Paths of waits from a job to itself: the error for a cycle, and the report of a wait that may never end."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterator
from typing import Any, Final

from ..admission._resource import CountedResource
from ..admission._tokens import token_holders
from ..base._states import JobState, WaitCause
from ..job._ancestors import ancestors_with_members, enclosing_schedulers
from ..job._job import AbstractJob, is_scheduler
from ..parts._first_rule import FirstRule
from ..run._instruments import Part
from ..run._run import RUNS_IN_PROGRESS, Run
from ._explain import group_of, open_requirements, waiting

FIRST_POLL_SECONDS: Final = 1.0
"""The number of seconds until a wait is first checked for a deadlock. The interval doubles after each check."""
HELD_BY: Final = "needs what is held by"
"""The words that link a job to one that holds what it lacks."""
BEHIND: Final = "may not overtake"
"""The words that link a job to the one for which what it needs is reserved."""
LASTS: Final = "may run until the end of"
"""The words that link a forever job to its scheduler."""
TURN: Final = "has its turn after"
"""The words that link a job of a staggered `First` to the competitor before it, which has not started."""
RUNS: Final = "runs"
"""The words that link a job to a scheduler whose run its body awaits."""
ITERATES: Final = "iterates over as_settled() until the end of"
"""The words that link a job to those for which its iteration waits."""
Step = tuple[str, AbstractJob[Any]]
"""A job of a path, and the words that link the previous job to it."""
Links = Iterator[tuple[str, Collection[AbstractJob[Any]]]]
"""The jobs for which a job waits, each collection with the words that link the job to them."""


class WaitWatch(Part):
    """The check of a wait, at `due_at`, until it is reported; a part of the run for which the body of a job waits."""

    def __init__(self, run: Run, waiter: AbstractJob[Any], jobs: Collection[AbstractJob[Any]], verb: str) -> None:
        """Watch a wait of a job, or of a scheduler whose `on_settled` waits.

        Args:
            run: the run of the waiting job, to which a report is made.
            waiter: the waiting job, or the scheduler.
            jobs: the jobs for which it waits, which may change.
            verb: the words that link the waiting job to these.

        """
        self._run, self.waiter, self._jobs, self._verb = run, waiter, jobs, verb
        self._seconds = FIRST_POLL_SECONDS
        self._due_at = run.clock() + self._seconds

    def due_at(self) -> float:
        return self._due_at

    def turn(self) -> None:
        """If the check is due, report the wait, or set the time of the next check."""
        run = self._run
        if run.clock() < self._due_at:
            return
        path = find_path_from_each(self._jobs, self.waiter)
        self._seconds *= 2
        self._due_at = math.inf if path else run.clock() + self._seconds
        text = deadlock_text(self.waiter, self._verb, path) if path else None
        if text and all(text != incident.message for incident in run.scheduler._incidents):  # it may wait repeatedly
            run.report(self.waiter, text)


def find_path_from_each(jobs: Collection[AbstractJob[Any]], waiter: AbstractJob[Any]) -> list[Step] | None:
    """Return a path from one of the jobs to one that settles only after `waiter`, if there is one from each job."""
    targets, first_path = _jobs_that_wait_for(waiter), None
    for job in tuple(jobs):
        path = _find_path(targets, job, _jobs_that_delay)
        if path is None:
            return None
        first_path = first_path or path
    return first_path


def deadlock_text(waiter: AbstractJob[Any], verb: str, path: list[Step]) -> str:
    """Return the message for a path of waits from `waiter` to itself, through a job that lacks something or lasts."""
    held = [index for index, (verb, _) in enumerate(path) if verb == HELD_BY]
    if held and held[-1] == len(path) - 1:
        text = f"{_path_text(waiter, verb, path[:-1])}, but holds what {path[-2][1].label!r} needs"
    else:
        text = _path_text(waiter, verb, path)
        link, last = path[-1]
        if link in (LASTS, ITERATES, RUNS) and last is not waiter:
            text = f"{text}, which waits for {waiter.label!r}"
    if is_scheduler(waiter):
        text = f"on_settled of {text}"
    if held:
        lacking = path[held[-1] - 1][1]
        return text if lacking._scheduler is None else f"{text}: {lacking._scheduler.explain(lacking)}"
    for (_, job), (link, _) in itertools.pairwise(path):
        if link in (LASTS, ITERATES):
            end = "ends by itself" if link == LASTS else "leaves its loop"
            advice = "; to use a service when it is ready, require it" if job._is_service else ""
            return f"{text}: unless {job.label!r} {end}, this wait does not end{advice}"
    return text


# ---- cycles


def reject_wait_cycle(waiter: AbstractJob[Any], job: AbstractJob[Any], verb: str = "awaits") -> None:
    """Reject a wait for a job that settles only after the waiting job.

    This takes time in proportion to the number of jobs that `job` waits for and their requirements.

    Args:
        waiter: the job that is about to wait.
        job: the job for which `waiter` would wait.
        verb: the words between the labels of the two jobs in the error message.

    Raises:
        RuntimeError: the wait would never end; the error shows the cycle.

    """
    path = _find_path({waiter, *enclosing_schedulers(waiter)}, job, _jobs_that_settle_before)
    if path is not None:
        end_text = "" if path[-1][1] is waiter else f", which contains {waiter.label!r}"
        raise RuntimeError(f"{waiter.label!r} waits for itself: {_path_text(waiter, verb, path)}{end_text}")


def _jobs_that_wait_for(waiter: AbstractJob[Any]) -> set[AbstractJob[Any]]:
    """Return `waiter` and the schedulers that it keeps from ending. A scheduler ends although a forever job runs."""
    jobs = {waiter}
    for enclosing, member in ancestors_with_members(waiter):
        if member._options.forever:
            break
        jobs.add(enclosing)
    return jobs


def _find_path(
    targets: set[AbstractJob[Any]], job: AbstractJob[Any], links_from: Callable[[AbstractJob[Any]], Links]
) -> list[Step] | None:
    """Return a path from `job` to one of the `targets`; None if there is none.

    Args:
        targets: the jobs that settle only after the one that waits for `job`.
        job: the first job of the path, to which no words lead.
        links_from: yields the jobs for which a job waits.

    """
    came_from: dict[AbstractJob[Any], tuple[AbstractJob[Any] | None, str]] = {job: (None, "")}
    todo = [job]
    for reached in todo:
        step: AbstractJob[Any] | None = reached if reached in targets else None
        for verb, others in links_from(reached) if step is None else ():
            # A thousand jobs may hold what one lacks for which each of them waits.
            if (step := next((target for target in targets if target in others), None)) is not None:
                came_from[step] = reached, verb
                break
            for other in others:
                if other not in came_from:
                    came_from[other] = reached, verb
                    todo.append(other)
        if step is not None:
            path: list[Step] = []
            while step is not None:
                previous, verb = came_from[step]
                path.append((verb, step))
                step = previous
            return path[::-1]
    return None


def _path_text(waiter: AbstractJob[Any], verb: str, path: list[Step]) -> str:
    (_, first), *others = path
    return ", which ".join(
        [f"{waiter.label!r} {verb} {first.label!r}", *(f"{verb} {job.label!r}" for verb, job in others)]
    )


def _jobs_that_settle_before(job: AbstractJob[Any]) -> Links:
    """Yield the jobs that must settle before `job`."""
    if job._state is JobState.RUNNING or (is_scheduler(job) and job._run is not None):
        yield "awaits", job._extras.awaited_jobs if job._extras is not None else ()
        members = job._members.jobs if is_scheduler(job) else ()
        ordinary = (member for member in members if not (member._options.forever or member._state.is_settled))
        yield "waits for its job", dict.fromkeys(ordinary)
    elif not job._state.is_settled:
        yield "requires", open_requirements(job)
        if job._scheduler is not None and job._scheduler._run is None:
            yield "is in", [job._scheduler]


def _jobs_that_delay(job: AbstractJob[Any]) -> Links:
    """Yield the jobs that must settle before `job`, that hold what it lacks now, or whose end may be its own."""
    yield from _jobs_that_settle_before(job)
    scheduler = job._scheduler
    if scheduler is not None and job._options.forever and not (job._state.is_settled or _has_ordinary_jobs(job)):
        yield LASTS, [scheduler]
    if job._state is JobState.SCHEDULED:
        yield HELD_BY, _holders(job)
    run = None if scheduler is None else scheduler._run
    group = group_of(run, job)
    if group is not None and (blocker := group.find_blocker(job)) is not None:
        yield BEHIND, [blocker]
    rule = None if run is None else run.part(FirstRule)
    before = None if rule is None else rule.turn_before(job)
    if before is not None and before._state is not JobState.RUNNING:
        yield TURN, [before]
    for inner in tuple(RUNS_IN_PROGRESS) if job._state is JobState.RUNNING else ():
        watch = inner.part(WaitWatch)
        if watch is not None and watch.waiter is job:
            yield RUNS, [inner.scheduler]
    for enclosing in enclosing_schedulers(job):
        for iterator in enclosing._settled_iterators or ():
            yield ITERATES, iterator.awaited_by(job)


def _has_ordinary_jobs(job: AbstractJob[Any]) -> bool:
    return is_scheduler(job) and not all(member._options.forever for member in job._members.jobs)


def _holders(job: AbstractJob[Any]) -> Collection[AbstractJob[Any]]:
    """Return the jobs, in whatever state, that have the slots, tokens or resources for which a SCHEDULED job waits."""
    wait, run = waiting(job), None if job._scheduler is None else job._scheduler._run
    if wait is None or run is None:
        return ()
    if wait.cause is WaitCause.SLOT:
        return run.queue.holders
    lacking = run.pools.resolve(job).get(wait.resource)
    if isinstance(lacking, CountedResource):
        return lacking.holders.keys()
    # A limiter or a pool may be shared with other runs, also with those in the bodies of jobs.
    runs = [other for each in list(RUNS_IN_PROGRESS) if each.thread_id == run.thread_id for other in each.with_nested()]
    if wait.cause is WaitCause.TOKEN:
        return list(token_holders(runs, run.queue.tokens.limiter))
    # What jobs have of a rate accrues again from their start.
    unstarted = [other for each in runs if each.queue.tokens is not None for other in each.queue.tokens.waiting]
    grants = [(other, grant.find(wait.resource)) for other in unstarted if (grant := other._grant()) is not None]
    return [other for other, found in grants if found is not None and found[0] is lacking]
