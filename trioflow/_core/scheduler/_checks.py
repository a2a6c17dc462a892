"""The checks before a run, and before a running scheduler accepts new jobs or requirements.

`check` is a generator, so that its caller can let other tasks run during the check of a large scenario.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from ..admission._pool import register_user
from ..admission._resource import CountedResource
from ..base import _amounts, _graph_algorithms
from ..base._states import CHECKING, JobState
from ..job import _errors, _job_options, _labels
from ..job._ancestors import ancestors_with_members, enclosing_schedulers, find_common_scheduler
from ..job._job import AbstractJob, is_scheduler
from ..run import _requirement_counts
from . import _awaiting

if TYPE_CHECKING:
    from ..admission._pool import Pool
    from ..admission._resource import Resource
    from ._base_scheduler import BaseScheduler
    from ._members import Members

_visit_marks: Final = itertools.count(-2, -1)
"""Values of `_pending` that mark visited jobs. They are negative, unlike any count of requirements."""


def check(members: Members) -> Iterator[None]:
    """Check the jobs of a scheduler, at any depth, in O(V + E); yield where a pause is due.

    Raises:
        CycleError: jobs require each other in a circle.
        MissingRequirement: a requirement is not in the same scheduler, or an input is in an unrelated one.
        ValueError: a requirement is a forever job; or a one-shot job has run already, or would run again.
        RuntimeError: a nested scheduler is running or closed.

    """
    todo: list[tuple[Members, bool]] = [(members, False)]
    checked_members: dict[BaseScheduler, Members] = {}
    while todo:
        parent, repeated = todo.pop()
        checked_members[parent.owner] = parent
        parent.implied = {}
        yield from _check_jobs(parent, repeated)
        for nested in parent.nested:
            check_may_run(nested)
            todo.append((nested._members, repeated or nested._may_repeat()))
    if any(parent.has_outside_requirements for parent in checked_members.values()):
        find_all_implied(members)
    reject_shared_pools(checked_members, members.owner)
    for parent in checked_members.values():
        check_needs(parent.owner, parent.with_scheduling, members.owner)
        if parent.has_outside_requirements:
            _reject_unreachable_inputs(parent, checked_members)
        parent.unchecked = False
        parent.is_ordered = parent.is_ordered and not parent.implied
        parent.may_change_unseen = parent.may_change_unseen or parent.has_outside_requirements
        if not parent.is_ordered:
            reject_cycle(parent)


def _check_jobs(members: Members, repeated: bool) -> Iterator[None]:
    """Check the jobs of one scheduler and their requirements; yield where a pause is due.

    Usually each job was added after all its requirements, so that there can be no cycle. This finds out whether it was,
    by a mark in `_pending` of each visited job. If not, the caller has to search the graph for cycles.
    """
    mark, owner = next(_visit_marks), members.owner
    outside = False
    members.may_change_unseen, members.is_ordered = bool(members.nested), True
    for chunk, pause_is_due in _graph_algorithms.chunks_with_pauses(members.jobs):
        for job in chunk:
            for requirement in job._required:
                if requirement._pending != mark or requirement._forever:
                    check_requirement(job, requirement, owner)
                    if requirement._scheduler is owner:
                        members.is_ordered = False
                    else:
                        outside = True
            job._pending = mark
            # A job with a check of its own, or that can run only once, always has a `_slow_path`.
            if job._slow_path is not None and (job._has_own_check or job._is_one_shot()):
                members.may_change_unseen = True
                check_one_shot(job, repeated)
        if pause_is_due:
            yield
    members.has_outside_requirements = outside


def check_may_run(scheduler: BaseScheduler) -> None:
    """Reject a scheduler that cannot run, whatever its jobs.

    Raises:
        RuntimeError: it is running or closed.
        ValueError: it has `jobserver`, but no limited window.

    """
    scheduler._check_may_run()
    scheduler._check_jobserver(scheduler._jobs_window)


def check_needs(level: BaseScheduler, jobs: Iterable[AbstractJob[Any]], outermost: BaseScheduler) -> None:
    """Reject members of a scheduler whose needs can never be met.

    Args:
        level: the scheduler.
        jobs: the members to check.
        outermost: the outermost scheduler of the run.

    Raises:
        ValueError: a job needs a resource that no pool has, or more than it can ever get.

    """
    if jobs_with_needs := [job for job in jobs if job._needs()]:
        resources = AvailableResources(level, outermost)
        for job in jobs_with_needs:
            resources.reject_unmeetable(job)


class AvailableResources:
    """The resources that the members of a scheduler can take, in a run of the scheduler `outermost`.

    If an enclosing scheduler has needs, its members share what it has taken. Outside of it, they can take rates only,
    which are not held. So nothing inside waits for a resource that is held outside, and there is no deadlock.
    """

    def __init__(self, level: BaseScheduler, outermost: BaseScheduler) -> None:
        levels = [level]
        is_inside = level is not outermost
        while (outer := levels[-1]._scheduler) is not None and (is_inside or outer._run is not None):
            levels.append(outer)
            is_inside = is_inside and outer is not outermost
        self.available: dict[str, Resource] = {}
        self.holder: BaseScheduler | None = None  # the innermost enclosing scheduler with needs
        # By name of a resource: the services that hold some of it until the run ends.
        self._services: dict[str, list[AbstractJob[Any]]] = {}
        self._outside_names: set[str] = set()  # resources outside of `holder`
        for level in reversed(levels):
            if level is not levels[-1]:
                self._enter_nested(level)
            if level._pool is not None:
                self.available.update(level._pool._resources)
                for name in level._pool._resources:
                    self._services.pop(name, None)
            for service in level._members.services:
                for name in () if _has_ended(service) else service._needs():
                    self._services.setdefault(name, []).append(service)

    def _enter_nested(self, scheduler: BaseScheduler) -> None:
        """Restrict the resources to what a nested scheduler with needs has taken, and rates."""
        share: dict[str, Resource] = {}
        for name, amount in scheduler._needs().items():
            resource = self.available.get(name)
            # Any other need of the scheduler is rejected when the scheduler itself is checked.
            if isinstance(resource, CountedResource) and not isinstance(amount, tuple):
                share[name] = resource.for_members(amount)
        if share:
            self.holder = scheduler
            self._outside_names.update(self.available)
            self.available = {name: rate for name, rate in self.available.items() if not rate.is_held} | share
            self._services.clear()

    def reject_unmeetable(self, job: AbstractJob[Any]) -> None:
        """Reject a member whose needs can never be met.

        Raises:
            ValueError: it needs a resource that no pool has, or more than services leave.

        """
        for name, amount in job._needs().items():
            if name in _job_options.RUN_RESOURCES:
                continue
            if name not in self.available:
                raise ValueError(f"{job.label!r} needs {name}={_amounts.need_text(amount)}, {self._missing_text(name)}")
            resource = self.available[name]
            need = resource.need(amount, job)
            services = [
                service
                for service in self._services.get(name, ())
                if service is not job and _may_wait_beside(job, service)
            ]
            if isinstance(resource, CountedResource) and services:
                reserved = sum(resource.need(service._needs()[name], service) for service in services)
                if need > resource.total - reserved:
                    names = ", ".join(repr(service.label) for service in services)
                    raise ValueError(
                        f"{job.label!r} needs {name}={resource.format_amount(need)}, and services keep "
                        f"{resource.format_amount(reserved)} of {resource.format_amount(resource.total)} until the "
                        f"run ends ({names}): it could never start; give the pool more, or let the services need less"
                    )

    def _missing_text(self, name: str) -> str:
        if self.holder is not None and name in self._outside_names:
            return (
                f"which is in a pool outside of {self.holder.label!r}: that scheduler has needs, and is the only pool "
                f"of its members, but for rates; add {name}= to its needs"
            )
        available_text = f"they have {', '.join(self.available)}" if self.available else "there is none"
        remedy = f"give its scheduler pool=Pool({name}=...), or leave it out of needs="
        return f"which is in no pool around it ({available_text}): {remedy}"


def _has_ended(job: AbstractJob[Any]) -> bool:
    """Return whether a job has settled in the run in progress."""
    run = job._scheduler._run if job._scheduler is not None else None
    return job._state.is_settled and run is not None and run.phase is not CHECKING


def _may_wait_beside(job: AbstractJob[Any], service: AbstractJob[Any]) -> bool:
    """Return whether a job may have to wait for a resource that a service holds.

    It has not if the service starts after the job, or if it is a clean-up job, which never waits.
    """
    home = service._scheduler
    if home is None or (job._rule is not None and job._rule.run_if == "failed"):
        return False
    member = next(member for enclosing, member in ancestors_with_members(job) if enclosing is home)
    return member not in _graph_algorithms.reachable([service], home._members.waits_for)


def reject_shared_pools(levels: Iterable[BaseScheduler], outermost: BaseScheduler) -> None:
    """Reject a pool that belongs to schedulers both inside and outside of a scheduler with needs.

    Raises:
        ValueError: there is such a pool.

    """
    users: dict[Pool, dict[AbstractJob[Any], AbstractJob[Any] | None]] = {}
    for level in levels:
        if level._pool is not None:
            register_user(
                users.setdefault(level._pool, dict(level._pool._users)),
                level,
                AvailableResources(level, outermost).holder,
            )


def check_requirement(job: AbstractJob[Any], requirement: AbstractJob[Any], scheduler: BaseScheduler) -> None:
    """Reject a requirement outside of `scheduler` that is no input, and a forever job that is no service.

    Raises:
        MissingRequirement: it is not in `scheduler`, and not an input from a scheduler of the same tree.
        ValueError: it is a forever job, but not a service.

    """
    if requirement._scheduler is not scheduler:
        is_input = job._rule is not None and requirement in job._rule.inputs
        if not is_input or find_common_scheduler(job, requirement) is None:
            raise _errors.MissingRequirement(job, requirement, scheduler)
    if requirement._forever and not requirement._is_service:
        subject, what = map(repr, _labels.distinct_names([job, requirement]))
        raise ValueError(
            f"{subject} requires {what}, which is a forever job, so it would wait until the end; "
            f"remove the requirement, or make {what} a Service, which reports when it is ready"
        )


def check_late_input(job: AbstractJob[Any], input_job: AbstractJob[Any], scheduler: BaseScheduler) -> None:
    """Reject an unsettled input from outside of a running scheduler, which cannot wait for it any more.

    Raises:
        MissingRequirement, ValueError: as in `check_requirement`; or the input has not settled.

    """
    check_requirement(job, input_job, scheduler)
    if not (input_job._state.is_settled or input_job._is_ready()):
        raise ValueError(
            f"{job.label!r} uses the result of {input_job.label!r}, which is in another scheduler and has not "
            f"settled: {scheduler.label!r} is running already, and cannot wait for it"
        )


def _imply_late(members: Members, job: AbstractJob[Any]) -> None:
    """Make a job that was added to a running scheduler wait for the members that contain its inputs.

    This includes the inputs of jobs that are nested in it.

    Raises:
        ValueError: an input outside of the scheduler has not settled.

    """
    scheduler = members.owner
    enclosing = [scheduler, *enclosing_schedulers(scheduler)]
    inside = job.iterate_jobs() if is_scheduler(job) else iter(())
    for user in itertools.chain([job], inside):
        for input_job in user._rule.inputs if user._rule is not None else ():
            nearest = find_common_scheduler(user, input_job)
            if nearest is None or nearest[0] not in enclosing:
                continue  # both are inside the new job
            common_scheduler, _, provider = nearest
            if common_scheduler is not scheduler:
                check_late_input(user, input_job, scheduler)
            elif input_job._scheduler is not scheduler or user is not job:
                members.implied.setdefault(job, {})[provider] = None


def find_all_implied(members: Members) -> None:
    """Find the requirements that inputs from other schedulers imply, at any depth, without any checks."""
    checked_members: dict[BaseScheduler, Members] = {}
    todo: list[Members] = [members]
    while todo:
        parent = todo.pop()
        checked_members[parent.owner] = parent
        parent.implied = {}
        todo += [nested._members for nested in parent.nested]
    for parent in checked_members.values():
        for job in parent.jobs:
            for input_job in job._rule.inputs if job._rule is not None else ():
                home = input_job._scheduler
                if home is None or home is parent.owner:
                    continue
                nearest = find_common_scheduler(job, input_job)
                if nearest is not None and nearest[0] in checked_members:
                    common_scheduler, user, provider = nearest
                    checked_members[common_scheduler].implied.setdefault(user, {})[provider] = None
                    home._members.used_outside.add(input_job)


def find_implied(scheduler: BaseScheduler) -> None:
    """Find the requirements of members that the inputs of jobs nested in them imply, without any checks. O(V + E).

    During a run this does nothing, because the run has found them; so any thread may call it then.
    """
    if all(level._run is None for level in (scheduler, *enclosing_schedulers(scheduler))):
        find_all_implied(scheduler._members)


def check_scenario(scheduler: BaseScheduler) -> None:
    """Check a scheduler and its jobs at any depth, as before a run. O(V + E).

    Raises:
        CycleError, MissingRequirement, ValueError, RuntimeError: the scenario cannot run.

    """
    for _ in check(scheduler._members):
        pass


def _reject_unreachable_inputs(members: Members, checked_members: dict[BaseScheduler, Members]) -> None:
    """Reject unsettled inputs from outside of the checked schedulers, for which no run would wait."""
    for job in members.jobs:
        for input_job in job._rule.inputs if job._rule is not None else ():
            nearest = find_common_scheduler(job, input_job)
            if nearest is None or nearest[0] in checked_members:
                continue
            common_scheduler, waiting, _ = nearest
            if common_scheduler._run is None or waiting._pending >= 0:  # else `waiting` is being added, and will wait
                check_late_input(job, input_job, members.owner)


def reject_cycle(members: Members) -> None:
    """Reject a cycle in the graph of a scheduler's jobs.

    Raises:
        CycleError: there is one.

    """
    cycle = _graph_algorithms.find_cycle(members.jobs, members.waits_for)
    if cycle is not None:
        raise _errors.CycleError(cycle)


def check_one_shot(job: AbstractJob[Any], repeated: bool) -> None:
    """Reject a one-shot job that has run or would run again, and a job that fails its own check."""
    if job._has_own_check:
        job.check_before_run()
    if not job._is_one_shot():
        return
    if job._is_spent():
        raise ValueError(
            f"{job.label!r} has run already, and can run only once: it was made from a coroutine object, or was in an "
            f"open scheduler; make a new job from the function: Job(function, *args)"
        )
    if repeated or job._may_repeat():
        raise ValueError(
            f"{job.label!r} was made from a coroutine object, which cannot be restarted or retried: "
            f"make it from the function: Job(function, *args)"
        )


# ---- while it runs


def check_new(members: Members, new: list[AbstractJob[Any]]) -> None:
    """Check jobs that have just been added to a running scheduler, and may require each other.

    Raises:
        CycleError, MissingRequirement, ValueError, RuntimeError: as in `check`.

    """
    for job in new:
        for requirement in job._required:
            check_requirement(job, requirement, members.owner)
        check_one_shot(job, repeated=False)
        if is_scheduler(job):
            check_may_run(job)
            check_scenario(job)
        _imply_late(members, job)
    # Usually new jobs have no requirements. Without the test, the search would take a fifth of the time to add one job.
    cycle = _graph_algorithms.find_cycle(new, members.waits_for) if any(map(members.waits_for, new)) else None
    if cycle is not None:
        raise _errors.CycleError(cycle)


def check_new_needs(scheduler: BaseScheduler, new: Iterable[AbstractJob[Any]], outermost: BaseScheduler) -> None:
    """Check the needs of jobs just added to a scheduler, at any depth, in a run of the scheduler `outermost`.

    Raises:
        ValueError: a need can never be met, or a new service leaves too little for a waiting job.

    """
    checked: list[AbstractJob[Any]] = []
    for job in new:
        checked += [job, *job.iterate_jobs()] if is_scheduler(job) else [job]
    if any(job._is_service and job._needs() for job in new):
        checked += [job for job in scheduler.iterate_jobs() if job._state in (JobState.IDLE, JobState.SCHEDULED)]
    for job in checked:
        if job._scheduler is not None:
            check_needs(job._scheduler, [job], outermost)


def check_new_requirements(members: Members, job: AbstractJob[Any], new: list[AbstractJob[Any]]) -> None:
    """Check the new requirements of a job of a running scheduler.

    Raises:
        RuntimeError: the job is no longer IDLE, or a requirement awaits the job.
        CycleError: a requirement waits for the job.
        MissingRequirement, ValueError: as in `check_requirement`.

    """
    if job._state is not JobState.IDLE:
        raise RuntimeError(
            f"requires() of {job.label!r}: it is {job._state.value}; only an idle job can get more requirements"
        )
    for requirement in new:
        check_requirement(job, requirement, members.owner)
    if _graph_algorithms.has_path(
        [job], _requirement_counts.successors_of, new, lambda other: () if other.is_done() else members.waits_for(other)
    ):
        waited_for = _graph_algorithms.reachable(
            new, lambda other: () if other.is_done() or other is job else members.waits_for(other)
        )
        edges = {other: members.waits_for(other) for other in waited_for}
        edges[job] = [*members.waits_for(job), *new]
        cycle = _graph_algorithms.find_cycle(edges, lambda node: [other for other in edges[node] if other in edges])
        raise _errors.CycleError(cycle or [job])
    for requirement in new if members.owner._has_waiters else ():
        _awaiting.reject_wait_cycle(job, requirement, "requires")
