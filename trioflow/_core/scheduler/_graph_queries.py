"""The functions of `trioflow.graph`: the order of a scheduler's jobs, their neighbors, and parts of the graph."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

from ..base import _graph_algorithms
from ..job import _job_options
from ..job._job import AbstractJob, is_scheduler, not_a_scheduler_error
from . import _checks

if TYPE_CHECKING:
    from ..job._requirements import Required
    from ._base_scheduler import BaseScheduler
    from ._members import Members

JobSet = AbstractSet[AbstractJob[Any]]


def topological_order(scheduler: BaseScheduler, /) -> list[AbstractJob[Any]]:
    """Return the jobs of a scheduler in an order in which each job comes after all its requirements.

    The entry jobs come first, in the order in which they were added. The other jobs follow in the order in which the
    last of their requirements is listed. This is Kahn's algorithm of 1962, which takes O(V + E) time.

    Raises:
        TypeError: `scheduler` is not a scheduler.
        CycleError: the requirements contain a cycle.

    Example:
        >>> from trioflow.graph import topological_order
        >>> first = AbstractJob(label="first")
        >>> scheduler = Scheduler(AbstractJob(label="last", required=first), first)
        >>> [job.label for job in topological_order(scheduler)]
        ['first', 'last']

    """
    members = _members(scheduler, "topological_order()")
    _checks.store_implied_requirements(scheduler)
    order = _graph_algorithms.topological_order(members.jobs, members.all_requirements)
    if len(order) < len(members.jobs):
        _checks.reject_cycle(members, members.jobs)
    return order


def entry_jobs(scheduler: BaseScheduler, /) -> list[AbstractJob[Any]]:
    """Return the jobs that require no other job of the scheduler, in the order in which they were added.

    Raises:
        TypeError: `scheduler` is not a scheduler.

    """
    members = _members(scheduler, "entry_jobs()")
    return [job for job in members.jobs if not members.member_requirements(job)]


def exit_jobs(scheduler: BaseScheduler, /, *, discard_forever: bool = True) -> list[AbstractJob[Any]]:
    """Return the jobs that no other job of the scheduler requires, in the order in which they were added.

    Args:
        scheduler: the scheduler.
        discard_forever: whether to leave out forever jobs.

    Raises:
        TypeError: `scheduler` is not a scheduler, or `discard_forever` is not a bool.

    """
    members = _members(scheduler, "exit_jobs()")
    omits_forever = _job_options.flag(discard_forever, "discard_forever", "exit_jobs()")
    required = {requirement for job in members.jobs for requirement in job._required}
    return [job for job in members.jobs if job not in required and not (omits_forever and job._options.forever)]


def predecessors(scheduler: BaseScheduler, /, *jobs: Required) -> JobSet:
    """Return the members of a scheduler that these jobs require directly, as an ordered set.

    Args:
        scheduler: the scheduler.
        jobs: members, or collections of members.

    Raises:
        TypeError: `scheduler` is not a scheduler, or an argument is not a job.
        KeyError: a job is not a member.

    """
    members = _members(scheduler, "predecessors()")
    given = members.flatten_members(jobs, "predecessors()")
    return dict.fromkeys(requirement for job in given for requirement in members.member_requirements(job)).keys()


def successors(scheduler: BaseScheduler, /, *jobs: Required) -> JobSet:
    """Return the members of a scheduler that require these jobs directly, as an ordered set. Takes O(V + E) time.

    Args:
        scheduler: the scheduler.
        jobs: members, or collections of members.

    Raises:
        TypeError: `scheduler` is not a scheduler, or an argument is not a job.
        KeyError: a job is not a member.

    """
    members = _members(scheduler, "successors()")
    requirements = set(members.flatten_members(jobs, "successors()"))
    return dict.fromkeys(job for job in members.jobs if not requirements.isdisjoint(job._required)).keys()


def keep_only(scheduler: BaseScheduler, /, jobs: Iterable[Required]) -> None:
    """Remove all jobs from a scheduler but these, and drop their requirements on removed jobs. Inputs are kept.

    A journal takes what was removed as it is: the kept jobs are restored unless it has run since.

    Args:
        scheduler: the scheduler.
        jobs: the members to keep, or Sequences of members.

    Raises:
        TypeError: `scheduler` is not a scheduler, or an argument is not a job.
        KeyError: a job is not a member.
        RuntimeError: the scheduler is running.

    """
    members = _members(scheduler, "keep_only()")
    scheduler._reject_during_run("keep_only()")
    kept = set(members.flatten_members((jobs,), "keep_only()"))
    for job in tuple(members.jobs):
        if job not in kept:
            members.remove(job)
    for job, requirement in members.drop_foreign_requirements():
        members.cut_requirements.setdefault(job, []).append(requirement)


def _members(scheduler: BaseScheduler, call_text: str) -> Members:
    """Return the members of a scheduler.

    Raises:
        TypeError: `scheduler` is not a scheduler.

    """
    if not is_scheduler(scheduler):
        raise not_a_scheduler_error(scheduler, call_text)
    return scheduler._members
