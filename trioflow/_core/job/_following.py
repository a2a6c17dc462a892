"""What runs again with a job: the jobs that use it, at any distance.

A run in progress asks this of a result that is taken back (`run/_reopening`). A journal has the same rule: a job is not
restored if what it requires has run since. What a job uses is what it requires, without `order_only=True`, and what
the groups around it require. A required group stands for all jobs in it. So groups are passages, and no users: a group
among the followers has those jobs run again that use what was taken back, and keeps the others.

Decided in docs/decisions: 45-what-runs-again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from ..base._states import BLOCKED, SKIPPED
from ._errors import DROPPED
from ._job import AnyJob
from ._requirements import ORDER_ONLY

if TYPE_CHECKING:
    from ..scheduler._base_scheduler import BaseScheduler

Jobs = dict[AnyJob, None]
Users = dict[AnyJob, list[AnyJob]]


def counted_requirements(job: AnyJob) -> Collection[AnyJob]:
    """Return the requirements of a job, its inputs included, without the requirements with `order_only=True`."""
    required = job._required
    if isinstance(required, tuple):
        return required
    return [other for other, flags in required.items() if not flags & ORDER_ONLY]


def what_follows(
    root: BaseScheduler,
    jobs: Iterable[AnyJob],
    groups: Iterable[AnyJob] = (),
    failed: Iterable[AnyJob] = (),
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
    users, idle_users = _users_in(root)
    found = dict.fromkeys(jobs)
    # The jobs and groups whose end is taken back.
    touched = Jobs({root: None})
    todo = [*found, *groups]
    for job in todo:
        level: Any = job
        reached: list[Any] = []
        if level._is_scheduler and job in found:
            reached = [*level._members.jobs]
        while level is not None and level not in touched:
            touched[level] = None
            if level in users:
                reached += users[level]
            level = level._scheduler
        for user in reached:
            if user not in found:
                found[user] = None
                todo.append(user)
    # What was kept from its work is decided anew, and nothing that has run follows that.
    todo = [*touched, *failed]
    for job in todo:
        for user in idle_users.get(job, ()):
            if user not in found:
                found[user] = None
                todo.append(user)
    found = with_makers(found)
    return found | _groups_around([*found, *touched], root)


def _users_in(root: BaseScheduler) -> tuple[Users, Users]:
    """Return the users of each job or group, and what each has kept from its work, perhaps by an order alone."""
    users = Users()
    idle_users = Users()
    for user in root.iterate_jobs():
        for requirement in counted_requirements(user):
            if requirement in users:
                users[requirement].append(user)
            else:
                users[requirement] = [user]
        if user._state in (BLOCKED, SKIPPED):
            for requirement in user._required:
                idle_users.setdefault(requirement, []).append(user)
    return users, idle_users


def _groups_around(jobs: Iterable[AnyJob], root: BaseScheduler) -> Jobs:
    """Return the groups among the jobs, and those around them, without `root`."""
    around = Jobs({root: None})
    for job in jobs:
        level: Any = job if job._is_scheduler else job._scheduler
        while level is not None and level not in around:
            around[level] = None
            level = level._scheduler
    del around[root]
    return around


def with_makers(jobs: Iterable[AnyJob]) -> Jobs:
    """Return jobs that run again, and those whose results any of them needs, but were dropped, at any distance."""
    found = dict.fromkeys(jobs)
    todo = [job for job in found if job._inputs]
    for job in todo:
        for maker in job._inputs:
            if maker._outcome is not DROPPED or maker in found:
                continue
            home = maker._scheduler
            if home is not None and maker in home._members.jobs:
                found[maker] = None
                todo.append(maker)
    return found
