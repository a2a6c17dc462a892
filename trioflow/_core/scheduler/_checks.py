"""The checks before a run, and before a running scheduler accepts new jobs or requirements.

`check_members` is a generator, so that its caller can let other tasks run during the check of a large scenario.

Decided in docs/decisions: 14-needs-of-schedulers, 23-inputs-across-schedulers.
"""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, cast
from weakref import WeakKeyDictionary

from ..admission._keys import PerKeyResource
from ..admission._pools import Pool, register_user
from ..admission._resource import CountedResource, PoolEntry
from ..base import _amounts, _graph_algorithms, _text_forms
from ..base._states import CHECKING, IDLE, SCHEDULED
from ..job import _errors, _job_options, _labels
from ..job._ancestors import (
    ancestors_with_members,
    enclosing_schedulers,
    find_common_scheduler,
)
from ..job._job import DEFAULT_OPTIONS, AnyJob, is_scheduler, with_members
from ..parts._first_rule import too_few_jobs_error
from ..run import _requirement_counts
from ..words._explain import reject_wait_cycle
from . import _life

if TYPE_CHECKING:
    from ._base_scheduler import BaseScheduler
    from ._members import Members


def check_members(
    members: Members, grown: BaseScheduler | None = None
) -> Iterator[None]:
    """Check the jobs of a scheduler, at any depth, in O(V + E) time. Yield whenever other tasks should get a turn.

    Args:
        members: the members of the scheduler.
        grown: the running scheduler that this scheduler was just added to, or None if there is none.

    Raises:
        CycleError: jobs require each other in a cycle.
        MissingRequirement: a requirement is not in the same scheduler, or an input is in an unrelated scheduler.
        ValueError: a requirement is a forever job.
        ValueError: a one-shot job has run already, or could run more than once.
        RuntimeError: a nested scheduler is running or closed.

    """
    todo: list[tuple[Members, bool]] = [
        (members, members.owner._options.retry is not None)
    ]
    checked_members: dict[BaseScheduler, Members] = {}
    while todo:
        # Each level is the members of a scheduler.
        level, may_repeat = todo.pop()
        checked_members[level.owner] = level
        level.implied_requirements = {}
        yield from _check_jobs(level, may_repeat)
        for nested in level.nested_schedulers:
            check_may_run(nested, is_nested=True)
            todo.append(
                (nested._members, may_repeat or nested._options.retry is not None)
            )
    users: list[AnyJob] = []
    for level in checked_members.values():
        if level.has_outside_requirements:
            users += level.jobs
    for job, input_job in imply_requirements(users, {*checked_members, grown}):
        check_late_input(job, input_job)
    reject_shared_pools(checked_members, members.owner)
    for level in checked_members.values():
        check_needs(level.owner, level.jobs_with_scheduling_options, members.owner)
        level.is_ordered = level.is_ordered and not level.implied_requirements
        level.needs_recheck = level.needs_recheck or level.has_outside_requirements
        if not level.is_ordered:
            reject_cycle(level, level.jobs)
        level.is_unchecked = False
    if grown is None and any(level.has_kinds for level in checked_members.values()):
        members.owner._check_files()


def _check_jobs(members: Members, may_repeat: bool) -> Iterator[None]:
    """Check the jobs of a scheduler and their requirements. Yield whenever other tasks should get a turn.

    If each job was added after all its requirements, as is usual, there can be no cycle. Otherwise, set `is_ordered` to
    False: the caller must then search for cycles.

    Args:
        members: the members of the scheduler.
        may_repeat: whether the scheduler may run several times, because it or an enclosing scheduler may be restarted
            or retried.

    """
    owner = members.owner
    # Without forever jobs.
    checked: set[AnyJob] = set()
    members.needs_recheck = bool(members.nested_schedulers)
    members.is_ordered = True
    members.has_outside_requirements = False
    for chunk, pause_is_due in _graph_algorithms.chunks_with_pauses(members.jobs):
        for job in chunk:
            for requirement in job._required:
                if requirement not in checked:
                    check_requirement(job, requirement, owner)
                    if requirement._scheduler is owner:
                        members.is_ordered = False
                    else:
                        members.has_outside_requirements = True
            # No forever job is plain, no job with a check of its own, and no one-shot job.
            if job._is_plain or not job._options.forever:
                checked.add(job)
            if not job._is_plain:
                members.has_kinds |= (
                    hasattr(type(job), "for_journal") or job._options.has_files
                )
                if job._has_own_check or job._is_one_shot():
                    members.needs_recheck = True
                    check_one_shot(job, may_repeat)
        if pause_is_due:
            yield


CURES_OF_NESTED_OPTIONS: Final = {
    "run_if": "leave it out, and run the scheduler or not",
    "forever": "leave it out, and give it a timeout, or cancel it",
    "retry": "put it into another scheduler, which will retry it, or give retry= to its jobs",
    "on_timeout": "leave it out: after a timeout, run() returns False, and stop_reason is TIMEOUT",
    "critical": "for its jobs, write critical_jobs={}",
}
"""The remedy for each option, except `required`, that has an effect only on a job of a scheduler."""


def reject_options_of_nested(scheduler: BaseScheduler) -> None:
    """Reject an outermost scheduler with an option whose effect would be on the scheduler around it.

    Raises:
        ValueError: the scheduler has such an option.

    """
    what = f"{scheduler._name_for_errors()}: it is the outermost scheduler, so nothing around it would use this"
    if scheduler._required:
        labels = [repr(_labels.shorten(job.label)) for job in scheduler._required]
        names = _text_forms.join_names(labels)
        raise ValueError(
            f"required={names} of {what}; add both to one scheduler, or run one after the other"
        )
    for name, cure in CURES_OF_NESTED_OPTIONS.items():
        value = getattr(scheduler._options, name)
        if value != getattr(type(scheduler), name).default:
            raise ValueError(f"{name}={value!r} of {what}; {cure.format(value)}")


def check_may_run(scheduler: BaseScheduler, is_nested: bool = False) -> None:
    """Reject a scheduler that cannot run, whatever its jobs are.

    Raises:
        RuntimeError: the scheduler is running or closed.
        ValueError: an option contradicts the place of the scheduler, or a `First` has too few jobs.

    """
    cell = _life.WORDS["run"].cells[scheduler._stage]
    is_refused = cell is _life.REFUSES or (is_nested and cell is _life.HERE)
    if scheduler._is_closed or is_refused:
        raise _life.refusal("run", scheduler, scheduler._stage, scheduler, "run()")
    if is_nested and scheduler._hold:
        raise ValueError(
            f"hold=True of {scheduler._name_for_errors()}: give it to the outermost scheduler"
        )
    if scheduler._enough is not None:
        members = scheduler._members
        requirements = {job: members.member_requirements(job) for job in members.jobs}
        number = len(members.competitors(requirements))
        if number < scheduler._enough:
            raise too_few_jobs_error(scheduler, number, scheduler._enough)
    if scheduler._scheduler is None and (
        scheduler._required or scheduler._options is not DEFAULT_OPTIONS
    ):
        reject_options_of_nested(scheduler)


def check_needs(
    scheduler: BaseScheduler, jobs: Iterable[AnyJob], outermost: BaseScheduler
) -> None:
    """Reject members of a scheduler whose needs can never be met.

    Args:
        scheduler: the scheduler.
        jobs: the members to check.
        outermost: the outermost scheduler of the run.

    Raises:
        ValueError: a job needs a resource that no pool has.
        ValueError: a job needs more of a resource than it can ever get.

    """
    if jobs_with_needs := [job for job in jobs if job._options.needs]:
        resources = AvailableResources(scheduler, outermost)
        for job in jobs_with_needs:
            resources.reject_unmeetable_needs(job)


class AvailableResources:
    """The resources that the members of a scheduler can take, in a run of the scheduler `outermost`.

    If an enclosing scheduler has needs, its members share the resources that it has taken. From pools outside of it,
    they can take only rates, which no job holds. So no member waits for a resource that is held outside, and there is
    no deadlock.
    """

    def __init__(self, scheduler: BaseScheduler, outermost: BaseScheduler) -> None:
        # From the inside to the outside.
        levels = [scheduler]
        is_inside = scheduler is not outermost
        for outer in enclosing_schedulers(scheduler):
            if not is_inside and outer._run is None:
                break
            levels.append(outer)
            is_inside = is_inside and outer is not outermost
        self.resources_by_name: dict[str, PoolEntry] = {}
        # The innermost enclosing scheduler with needs.
        self.resource_holder: BaseScheduler | None = None
        # By the name of the resource: the services that hold some of it until the run ends.
        self._services_by_resource: dict[str, list[AnyJob]] = {}
        # In pools outside of `resource_holder`.
        self._outside_resource_names: set[str] = set()
        for level in reversed(levels):
            if level is not levels[-1]:
                self._enter_nested(level)
            if level._pool is not None:
                self.resources_by_name.update(level._pool._resources)
                for name in level._pool._resources:
                    self._services_by_resource.pop(name, None)
            has_begun = level._run is not None and level._run.phase is not CHECKING
            for service in level._members.services:
                if not (has_begun and service._state.is_settled):
                    for name in service._options.needs:
                        self._services_by_resource.setdefault(name, []).append(service)

    def _enter_nested(self, scheduler: BaseScheduler) -> None:
        """If a nested scheduler has needs, leave only rates and the resources that the scheduler takes."""
        taken_resources: dict[str, PoolEntry] = {}
        for name, amount in scheduler._options.needs.items():
            resource = self.resources_by_name.get(name)
            # Any other need of the scheduler is rejected when the scheduler itself is checked.
            if isinstance(resource, PerKeyResource):
                if resource.is_returnable and isinstance(amount, str):
                    taken_resources[name] = resource.make_member_resource(amount)
            elif isinstance(resource, CountedResource):
                if not isinstance(amount, tuple):
                    need = resource.need(amount, scheduler)
                    taken_resources[name] = resource.make_member_resource(need)
        if taken_resources:
            self.resource_holder = scheduler
            self._outside_resource_names.update(self.resources_by_name)
            rates = {
                name: rate
                for name, rate in self.resources_by_name.items()
                if not rate.is_returnable
            }
            self.resources_by_name = rates | taken_resources
            self._services_by_resource.clear()

    def reject_unmeetable_needs(self, job: AnyJob) -> None:
        """Reject a member whose needs can never be met.

        Raises:
            ValueError: the job needs a resource that no pool has.
            ValueError: the job needs more of a resource than services leave free.
            ValueError: the job needs keys of several resources.

        """
        per_key_names: list[str] = []
        for name, amount in job._options.needs.items():
            is_of_run = name in _job_options.RUN_RESOURCES
            if is_of_run and name not in self._services_by_resource:
                continue
            if is_of_run:
                total = _job_options.RUN_RESOURCES[name].total()
                entry: PoolEntry = CountedResource(name, total)
            elif name in self.resources_by_name:
                entry = self.resources_by_name[name]
            else:
                raise ValueError(
                    f"{job.label!r} needs {_labels.printable(name)}={_amounts.need_text(amount)}, "
                    f"{self._missing_resource_text(name)}"
                )
            entry.need(amount, job)
            if isinstance(entry, PerKeyResource):
                per_key_names.append(name)
            services = [
                service
                for service in self._services_by_resource.get(name, ())
                if service is not job and _may_wait_for_service(job, service)
            ]
            if not services:
                continue
            resource, need = entry.resolve(amount, job)
            if not isinstance(resource, CountedResource):
                continue
            taken: Any = 0
            holders: list[str] = []
            for service in services:
                held, share = entry.resolve(service._options.needs[name], service)
                if held is resource:
                    taken += share
                    holders.append(repr(service.label))
            if need > resource.total - taken:
                reserved = resource.format_amount(taken)
                limit = resource.format_amount(resource.total)
                place = "its limit" if is_of_run else "the pool"
                raise ValueError(
                    f"{job.label!r} needs {_labels.printable(name)}={_amounts.need_text(amount)}, but services reserve "
                    f"{reserved} of {limit} until the run ends ({', '.join(holders)}): "
                    f"it could never start; enlarge {place}, or reduce the needs"
                )
        if len(per_key_names) > 1:
            raise ValueError(
                f"{job.label!r} needs keys of {' and '.join(map(_labels.printable, per_key_names))}: a job can need "
                f"one PerKey; give the other to a scheduler around it, as Scheduler(job, needs={{...}})"
            )

    def _missing_resource_text(self, name: str) -> str:
        if self.resource_holder is not None and name in self._outside_resource_names:
            return (
                f"which is in a pool outside {self.resource_holder.label!r}: that scheduler has needs, and is the "
                f"only pool of its members, except for rates; add {_labels.printable(name)}= to its needs"
            )
        names = ", ".join(map(_labels.printable, self.resources_by_name))
        available_text = f"they have {names}" if names else "there is none"
        remedy = f"give its scheduler pool=Pool({_labels.printable(name)}=...), or remove it from needs="
        return f"which no enclosing pool has ({available_text}): {remedy}"


def _may_wait_for_service(job: AnyJob, service: AnyJob) -> bool:
    """Return whether a job may have to wait for a resource that a service holds.

    The job need not wait if the service starts only after it, or if the job is a clean-up job, which never waits.
    """
    scheduler = service._scheduler
    if scheduler is None or job._options.run_if == "failed":
        return False
    member = next(
        member
        for enclosing, member in ancestors_with_members(job)
        if enclosing is scheduler
    )
    return member not in _graph_algorithms.reachable(
        [service], scheduler._members.all_requirements
    )


def reject_shared_pools(
    schedulers: Iterable[BaseScheduler], outermost: BaseScheduler
) -> None:
    """Reject a pool that is used by schedulers both inside and outside of a scheduler with needs.

    Args:
        schedulers: the schedulers that may have pools.
        outermost: the outermost scheduler of the run.

    Raises:
        ValueError: there is such a pool.

    """
    users: dict[Pool, dict[AnyJob, AnyJob | None]] = {}
    for scheduler in schedulers:
        if scheduler._pool is not None:
            holder = AvailableResources(scheduler, outermost).resource_holder
            pool = scheduler._pool
            pool_users = users.setdefault(pool, dict(pool._users))
            register_user(pool_users, scheduler, holder)


def check_requirement(
    job: AnyJob, requirement: AnyJob, scheduler: BaseScheduler
) -> None:
    """Reject a requirement that a run could not wait for.

    Raises:
        MissingRequirement: the requirement is neither in `scheduler` nor an input from the same tree of schedulers.
        ValueError: the requirement is a forever job, but not a service.

    """
    if requirement._scheduler is not scheduler:
        is_input = requirement in job._inputs
        if not is_input or find_common_scheduler(job, requirement) is None:
            raise _errors.MissingRequirement(job, requirement, scheduler)
    if requirement._options.forever and not requirement._is_service:
        job_name, requirement_name = map(
            repr, _labels.distinct_names([job, requirement])
        )
        raise ValueError(
            f"{job_name} requires {requirement_name}, which is a forever job, so it would wait until the end; "
            f"remove the requirement, or make {requirement_name} a Service, which reports when it is ready"
        )


def imply_requirements(
    users: Iterable[AnyJob], schedulers: Container[BaseScheduler | None]
) -> list[tuple[AnyJob, AnyJob]]:
    """Make the members of schedulers wait for the members that contain an input of theirs, or of a job nested in them.

    Args:
        users: the jobs whose inputs are looked up.
        schedulers: those whose members can still wait, because they are not running, or a job was just added to them.

    Returns:
        The inputs that no member of these schedulers can wait for, each after the job that uses it.

    """
    unreachable: list[tuple[AnyJob, AnyJob]] = []
    for user in users:
        for input_job in user._inputs:
            provider = input_job._scheduler
            if provider is user._scheduler:
                continue
            common = find_common_scheduler(user, input_job)
            if provider is None or common is None or common[0] not in schedulers:
                unreachable.append((user, input_job))
                continue
            scheduler, waiting_member, awaited_member = common
            implied = scheduler._members.implied_requirements
            implied.setdefault(waiting_member, {})[awaited_member] = None
            users_outside = provider._members.users_outside
            users_outside.setdefault(input_job, WeakKeyDictionary())[user] = None
    return unreachable


def check_late_input(job: AnyJob, input_job: AnyJob) -> None:
    """Reject an input that no member of the common scheduler can wait for, unless it can be used already.

    Raises:
        ValueError: the input has not settled, and is not a ready service.

    """
    if input_job._holds_back():
        raise ValueError(
            f"{job.label!r} uses the result of {input_job.label!r}, which is in another scheduler and has not "
            f"settled: this run cannot wait for it; add or run the job when its input has settled, or run the "
            f"scheduler that contains both"
        )


def store_implied_requirements(
    scheduler: BaseScheduler,
) -> list[tuple[AnyJob, AnyJob]]:
    """Store the requirements that inputs from other schedulers imply, unless a run is in progress.

    Takes O(V + E) time. During a run this does nothing, because the run has already stored these requirements.
    Therefore any thread may call this function during a run.

    Returns:
        The inputs that are outside of `scheduler`, each after the job that uses it. A run could not wait for them.

    """
    if scheduler._innermost_run() is not None:
        return []
    levels = [scheduler]
    for level in levels:
        level._members.implied_requirements = {}
        levels += level._members.nested_schedulers
    users = itertools.chain.from_iterable(level._members.jobs for level in levels)
    return imply_requirements(users, set(levels))


def check_scenario(scheduler: BaseScheduler) -> None:
    """Check a scheduler and its jobs at any depth, as before a run, in O(V + E) time.

    Raises:
        CycleError, MissingRequirement, ValueError, RuntimeError: the scenario cannot run.
        RuntimeError: the scheduler is running. A check would overwrite the findings of the run.

    """
    if scheduler._run is not None:
        raise RuntimeError(
            f"{scheduler.label!r} is running: check it before its run, or when the run has ended"
        )
    for _ in check_members(scheduler._members):
        pass


def reject_cycle(members: Members, jobs: Iterable[AnyJob]) -> None:
    """Reject a cycle in the graph of these members of a scheduler.

    Raises:
        CycleError: the graph has a cycle.

    """
    cycle = _graph_algorithms.find_cycle(jobs, members.all_requirements)
    if cycle is not None:
        raise _errors.CycleError(cycle)


def check_one_shot(job: AnyJob, may_repeat: bool) -> None:
    """Reject a one-shot job that has run already or could run more than once, and a job that fails its own check.

    Args:
        job: the job.
        may_repeat: whether the scheduler of the job may run several times.

    """
    if job._has_own_check:
        cast(Any, job).check_before_run()
    if not job._is_one_shot():
        return
    if job._is_spent():
        raise ValueError(
            f"{job.label!r} has run already, and can run only once: it was made from a coroutine object, or was in an "
            f"open scheduler; make a new job from the function: Job(function, *args)"
        )
    if may_repeat or job._options.retry is not None:
        raise ValueError(
            f"{job.label!r} was made from a coroutine object, which cannot be retried: "
            f"make it from the function: Job(function, *args)"
        )


# ---- while it runs


def check_new_jobs(members: Members, new_jobs: list[AnyJob]) -> None:
    """Check jobs that have just been added to a running scheduler. These jobs may require each other.

    Raises:
        CycleError, MissingRequirement, ValueError, RuntimeError: as in `check_members`.

    """
    for job in new_jobs:
        for requirement in job._required:
            check_requirement(job, requirement, members.owner)
        check_one_shot(job, may_repeat=False)
        if is_scheduler(job):
            check_may_run(job, is_nested=True)
            for _ in check_members(job._members, grown=members.owner):
                pass
    for job, input_job in imply_requirements(new_jobs, {members.owner}):
        check_late_input(job, input_job)
    # The search takes a fifth of the time of adding a job. It is skipped if the new jobs wait for no members.
    if any(map(members.all_requirements, new_jobs)):
        reject_cycle(members, new_jobs)


def check_new_needs(
    scheduler: BaseScheduler,
    new_jobs: Iterable[AnyJob],
    outermost: BaseScheduler,
) -> None:
    """Check the needs of jobs that have just been added to a scheduler, and of the jobs nested in them.

    Args:
        scheduler: the scheduler.
        new_jobs: the jobs that were added.
        outermost: the outermost scheduler of the run.

    Raises:
        ValueError: a need can never be met.
        ValueError: a new service leaves too little of a resource for a waiting job.

    """
    to_check: list[AnyJob] = []
    for job in new_jobs:
        to_check += with_members(job)
    if any(job._is_service and job._options.needs for job in new_jobs):
        to_check += [
            job for job in scheduler.iterate_jobs() if job._state in (IDLE, SCHEDULED)
        ]
    for job in to_check:
        if job._scheduler is not None:
            check_needs(job._scheduler, [job], outermost)


def check_new_requirements(
    members: Members, job: AnyJob, new_requirements: list[AnyJob]
) -> None:
    """Check the new requirements of a job of a running scheduler.

    Raises:
        RuntimeError: the job is no longer IDLE.
        RuntimeError: a new requirement awaits the job, directly or indirectly.
        CycleError: a new requirement requires the job, directly or indirectly.
        MissingRequirement, ValueError: as in `check_requirement`.

    """
    if job._state is not IDLE:
        raise RuntimeError(
            f"requires() of {job.label!r}: it is {job._state.value}; only an idle job can get more requirements"
        )
    for requirement in new_requirements:
        check_requirement(job, requirement, members.owner)

    def open_requirements(other: AnyJob) -> list[AnyJob]:
        if other.is_succeeded():
            return []
        return members.all_requirements(other)

    def requirements(other: AnyJob) -> list[AnyJob]:
        found = members.all_requirements(other)
        if other is job:
            return [*found, *new_requirements]
        return found

    successors = _requirement_counts.successors_of
    if _graph_algorithms.has_path(
        [job], successors, new_requirements, open_requirements
    ):
        waited_for = _graph_algorithms.reachable([*new_requirements, job], requirements)
        cycle = _graph_algorithms.find_cycle(waited_for, requirements)
        raise _errors.CycleError(cycle or [job])
    if members.owner._was_awaited:
        for requirement in new_requirements:
            reject_wait_cycle(job, requirement, "requires")
