"""What runs again with a job: the jobs that use it, at any distance.

A run in progress asks this of a result that is taken back (`run/_reopening`). A journal has the same rule: a job is not
restored if what it requires has run since. What a job uses is what it requires, without `order_only=True`, and what
the groups around it require. A required group stands for all jobs in it. So groups are passages, and no users: a group
among the followers has those jobs run again that use what was taken back, and keeps the others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from ..base._states import JobState
from ._ancestors import enclosing_schedulers
from ._errors import DROPPED
from ._job import AbstractJob, AnyJob, is_scheduler
from ._requirements import ORDER_ONLY

if TYPE_CHECKING:
    from ..scheduler._base_scheduler import BaseScheduler

Jobs = dict[AbstractJob[Any], None]


def counted_requirements(job: AnyJob) -> Collection[AnyJob]:
    """Return the requirements of a job, its inputs included, without the requirements with `order_only=True`."""
    if isinstance(required := job._required, tuple):
        return required
    return [other for other, flags in required.items() if not flags & ORDER_ONLY]


def did_no_work(job: AnyJob) -> bool:
    """Return whether what a job requires, even for order only, has kept it from its work."""
    return job._state in (JobState.BLOCKED, JobState.SKIPPED)


def what_follows(
    root: BaseScheduler, jobs: Iterable[AnyJob], groups: Iterable[AnyJob] = (), failed: Iterable[AnyJob] = ()
) -> Jobs:
    """Return jobs that run again, with all jobs that use them, at any distance, and the groups around these.

    These are first the jobs themselves, a group with all in it, and then their users. If these need results that
    `keep_result=False` has dropped, what makes these runs again, too, but not its other users. O(V + E) of the jobs in
    `root`, at any depth.

    Args:
        root: the outermost scheduler, which is not among what is returned.
        jobs: the jobs whose results are taken back.
        groups: groups whose end is taken back, though no result in them is.
        failed: jobs that have not succeeded, and are tried again: only what was kept from its work follows.

    """
    users, idle_users = dict[AnyJob, list[AnyJob]](), dict[AnyJob, list[AnyJob]]()
    for user in root.iterate_jobs():
        for requirement in counted_requirements(user):
            users.setdefault(requirement, []).append(user)
        for requirement in user._required if did_no_work(user) else ():
            idle_users.setdefault(requirement, []).append(user)
    found, passed = dict.fromkeys(jobs), Jobs({root: None})
    todo = [*found, *groups]
    for job in todo:
        reached = [*job._members.jobs] if job in found and is_scheduler(job) else []
        for level in (job, *enclosing_schedulers(job)):
            if level in passed:
                break
            passed[level] = None
            reached += users.get(level, ())
        new = dict.fromkeys(each for each in reached if each not in found)
        found.update(new)
        todo += new
    # What was decided by an order alone is decided anew, and nothing that has run follows it.
    todo = [*passed, *failed]
    for job in todo:
        new = dict.fromkeys(user for user in idle_users.get(job, ()) if user not in found)
        found.update(new)
        todo += new
    found = with_makers(found)
    for job in (*found, *passed):
        for level in (job, *enclosing_schedulers(job)):
            if level is root:
                break
            if is_scheduler(level):
                found[level] = None
    return found


def with_makers(jobs: Iterable[AnyJob]) -> Jobs:
    """Return jobs that run again, and those whose results any of them needs, but were dropped, at any distance."""
    found = dict.fromkeys(jobs)
    todo = [job for job in found if job._inputs]
    for job in todo:
        makers = [each for each in job._inputs if each._outcome is DROPPED and each not in found]
        makers = [each for each in makers if each._scheduler is not None and each in each._scheduler._members.jobs]
        found.update(dict.fromkeys(makers))
        todo += makers
    return found
