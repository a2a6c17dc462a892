"""The records of `First` schedulers: what has won, so that a later run restores each as a whole.

Such a record has the paths of the winners, and for a winner that is a scheduler, which of its jobs have succeeded. It
is valid as long as the records of all these jobs are, and of their inputs. A run looks a `First` up before it starts,
so none of its jobs runs again if it is restored. Otherwise, its jobs are looked up one by one; so are those of an
outermost `First`, which is no job: it has no result, and its users read the states and results of its jobs.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, cast

from .._core.job._ancestors import enclosing_schedulers
from .._core.job._job import AbstractJob, is_scheduler
from .._core.scheduler._members import first_options
from .._core.words._job_queries import budget_use, inputs_of, is_one_job, jobs_of_run, needs_as_given

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence, Set

    from .._core.scheduler._base_scheduler import BaseScheduler
    from ._record_paths import RecordPaths

    Winners = dict[str, dict[str, bool]]
    """For the path of each winner, whether each job in it has succeeded, by path; nothing unless it is a scheduler."""


def describe_winners(winners: Sequence[AbstractJob[Any]], members: RecordPaths) -> Winners:
    """Describe the winners of a `First`, in order; return nothing if a later run could not recognize them.

    Args:
        winners: the jobs that have succeeded first.
        members: the paths of the members of the `First`.

    """
    if any(winner.timed_out for winner in winners):  # it has no whole result
        return {}
    paths = PathsInside(members)
    try:
        groups = {paths.of_job(job): {} if is_one_job(job) else paths.jobs_in(job) for job in winners}
    except LookupError:
        return {}
    return {
        path: {inner: job.is_succeeded() and is_one_job(job) and not job.forever for inner, job in jobs.items()}
        for path, jobs in groups.items()
    }


def find_stored_result(
    first: AbstractJob[Any],
    members: RecordPaths,
    find_winners: Callable[[str], Winners],
    find_result: Callable[[AbstractJob[Any], RecordPaths], Any],
    add_result: Callable[[AbstractJob[Any], Any], None],
) -> Any:
    """Return the stored result of a `First`.

    Args:
        first: the `First`.
        members: the paths of its members.
        find_winners: returns the winners of a `First` with this path; none if there is no record of them.
        find_result: returns the stored result of a job; raises a `LookupError` if the job has to run.
        add_result: called with each nested `First`, and its result.

    Raises:
        LookupError: a job that it depends on has to run.

    """
    paths = PathsInside(members)
    groups: dict[AbstractJob[Any], dict[str, bool]] = {}  # of each winner: see `Winners`

    def find_parts(job: AbstractJob[Any]) -> list[AbstractJob[Any]]:
        """Return the jobs on which the result of a job depends."""
        if not is_scheduler(job):
            inputs = [item for item in inputs_of(job) if not item.forever]
            return [item for item in inputs if any(scheduler is first for scheduler in enclosing_schedulers(item))]
        jobs = paths.jobs_in(job)
        if not is_one_job(job):
            if jobs.keys() != groups[job].keys():
                raise LookupError
            return [member for path, member in jobs.items() if groups[job][path]]
        winners = find_winners(paths.of_members(job).prefix[:-1])
        if len(winners) != first_options(job)[0] or not jobs.keys() >= winners.keys():
            raise LookupError
        groups.update({jobs[path]: group for path, group in winners.items()})
        return [jobs[path] for path in winners]

    parts: dict[AbstractJob[Any], list[AbstractJob[Any]]] = {}
    values: dict[AbstractJob[Any], Any] = {}
    todo = [first]
    while todo:  # each job after its parts
        job = todo[-1]
        if job not in parts:
            parts[job] = find_parts(job)
            todo += parts[job]
            continue
        todo.pop()
        if job in values:
            continue
        if not is_scheduler(job):
            values[job] = find_result(job, paths.of_members(job.scheduler))
        elif not is_one_job(job):
            values[job] = True
        else:
            results = [values[part] for part in parts[job]]
            values[job] = results if len(results) > 1 else results[0]
            add_result(job, values[job])
    return values[first]


def used_of_pools_around(
    first: AbstractJob[Any], members: RecordPaths, find_used: Callable[[str], Mapping[str, float]]
) -> Counter[str]:
    """Return what the jobs in a `First` had used of budgets that they still need, without those of pools in it.

    What losers, and what they required, had used counts, too. `find_used` returns what the job with this path, or the
    losers of the `First` with this path, had used.
    """
    paths, used = PathsInside(members), Counter[str]()
    lost, needed_by_any = find_used(members.prefix[:-1]), set[str]()
    for job, needed in budgets_needed_around(first):
        needed_by_any |= needed
        amounts = find_used(paths.of_members(job.scheduler).find(job) or "")
        used.update({name: amounts[name] for name in needed & amounts.keys() if amounts[name] >= 0})
    used.update({name: lost[name] for name in needed_by_any & lost.keys() if lost[name] >= 0})
    return used


def used_by_losers(first: AbstractJob[Any]) -> Counter[str]:
    """Return what the jobs in a decided `First` that have no result have used of budgets of pools around it."""
    used = Counter[str]()
    for job, needed in budgets_needed_around(first):
        if not is_scheduler(job) and not job.is_succeeded():
            used.update({name: amount for name, amount in budget_use(job).items() if name in needed})
    return used


def budgets_needed_around(first: AbstractJob[Any]) -> Iterator[tuple[AbstractJob[Any], Set[str]]]:
    """Yield each job in a `First` that needs something, and the names of what is not of a pool in the `First`."""
    for job in cast("BaseScheduler", first).iterate_jobs():
        inside = {*enclosing_schedulers(job)} - {*enclosing_schedulers(first)}
        theirs = {name for scheduler in inside if scheduler.pool is not None for name in scheduler.pool.budgets}
        if needed := needs_as_given(job).keys() - theirs:
            yield job, needed


class PathsInside:
    """The paths of all jobs in a `First`, whose members have these paths. Looking up a job that was added raises."""

    def __init__(self, members: RecordPaths) -> None:
        self._views: Final[dict[Any, RecordPaths]] = {members.scheduler: members}

    def of_members(self, scheduler: Any) -> RecordPaths:
        enclosing = [scheduler]
        while enclosing[-1] not in self._views:
            enclosing.append(enclosing[-1].scheduler)
        while len(enclosing) > 1:
            outer, inner = enclosing.pop(), enclosing[-1]
            self._views[inner] = self._views[outer].nested(inner)
        return self._views[scheduler]

    def of_job(self, job: AbstractJob[Any]) -> str:
        if (path := self.of_members(job.scheduler).find(job)) is None:
            raise LookupError
        return path

    def jobs_in(self, scheduler: Any) -> dict[str, AbstractJob[Any]]:
        """Return the jobs in a scheduler by path, without those in a nested `First`."""
        return {self.of_job(job): job for job in jobs_of_run(scheduler)}
