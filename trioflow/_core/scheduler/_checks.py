"""What is checked before a run starts, and before a running scheduler accepts more. The checks consume nothing.

`check` is a generator that pauses now and then, so that other tasks can run while a large scenario is checked.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from ..base import _graph
from ..base._states import JobState
from ..job import _errors, _labels
from ..job._around import outwards, way_out
from ..job._job import AbstractJob, is_scheduler
from ..limits._pool import refuse_unfit
from ..run import _links

if TYPE_CHECKING:
    from ..limits._resource import Resource
    from ._members import Members
    from ._scheduler import BaseScheduler

marks: Final = itertools.count(-2, -1)


def check(members: Members) -> Iterator[None]:
    """Check the jobs of a scheduler and all that is nested in it, O(V + E); yield where a pause is due.

    Raises:
        CycleError: jobs require each other in a circle.
        MissingRequirement: a requirement is not in the same scheduler, or an input is in an unrelated one.
        ValueError: a requirement is a forever job; or a one-shot job has run already, or would run again.
        RuntimeError: a nested scheduler is running or closed.

    """
    todo: list[tuple[Members, bool]] = [(members, False)]
    out_of_order: set[Members] = set()
    walked: dict[BaseScheduler, Members] = {}
    while todo:
        parent, repeated = todo.pop()
        walked[parent.owner] = parent
        parent.implied = {}
        yield from _check_jobs(parent, repeated, out_of_order)
        if parent.demanding:
            _check_needs(parent.owner, parent.demanding, members.owner)
        for nested in parent.nested:
            check_may_run(nested)
            todo.append((nested._members, repeated or nested._repeats()))
    refuse_crossed_needs(walked.values())
    if any(parent.takes_from_outside for parent in walked.values()):
        imply_all(members)
    for parent in walked.values():
        if parent.takes_from_outside:
            _refuse_unreachable_inputs(parent, walked)
        parent.unchecked = False
        parent.behind = not (parent in out_of_order or parent.implied)
        if not parent.behind:
            refuse_cycle(parent)


def _check_jobs(members: Members, repeated: bool, out_of_order: set[Members]) -> Iterator[None]:
    """Check the jobs of one scheduler and their requirements.

    Usually each job was added after all that it requires. Then there can be no cycle. Only otherwise is the graph
    searched for one. Jobs that have been passed are marked by a number in `_pending`.
    """
    mark, owner = next(marks), members.owner
    outside = False
    for chunk, pause_is_due in _graph.in_chunks(members.jobs):
        for job in chunk:
            for requirement in job._required:
                if requirement._pending != mark or requirement._forever:
                    check_requirement(job, requirement, owner)
                    if requirement._scheduler is owner:
                        out_of_order.add(members)
                    else:
                        outside = True
            job._pending = mark
            if job._limits is not None:  # jobs made from coroutine objects always have limits
                _check_one_shot(job, repeated)
        if pause_is_due:
            yield
    members.takes_from_outside = outside


def check_may_run(scheduler: BaseScheduler) -> None:
    """Refuse a scheduler for what it is, whatever its jobs are.

    Raises:
        RuntimeError: it is running or closed.
        ValueError: it lends the slots of a window without a limit.

    """
    scheduler._check_may_run()
    scheduler._check_lends(scheduler._jobs_window)


def _check_needs(scheduler: BaseScheduler, jobs: Iterable[AbstractJob[Any]], outermost: BaseScheduler) -> None:
    """Refuse jobs that need something that there is not; `outermost` is the scheduler that is going to run.

    Raises:
        ValueError: a job needs something that no pool around it has, or more of it than there is.

    """
    needy = [job for job in jobs if job._needs()]
    if needy:
        there = resources_around(scheduler, outermost)
        for job in needy:
            refuse_unfit(job, there)


def resources_around(scheduler: BaseScheduler, outermost: BaseScheduler) -> dict[str, Resource]:
    """Return what there is for the jobs of a scheduler; `outermost` is the one that is going to run."""
    around = [scheduler]
    is_inside = scheduler is not outermost
    while (outer := around[-1]._scheduler) is not None and (is_inside or outer._run is not None):
        around.append(outer)
        is_inside = is_inside and outer is not outermost
    there: dict[str, Resource] = {}
    for one in reversed(around):
        if one is not around[-1]:
            there.update({name: there[name].part(given) for name, given in one._needs().items() if name in there})
        if one.pool is not None:
            there.update(one.pool._resources)
    return there


def refuse_crossed_needs(walked: Iterable[Members]) -> None:
    """Refuse schedulers that keep resources while their members wait for others, if they could wait for each other.

    This is the rule against deadlocks that there be an order in which all take what they need (Havender 1968).

    Raises:
        ValueError: there is no such order.

    """
    waits_for: dict[tuple[BaseScheduler, str], list[tuple[BaseScheduler, str]]] = {}
    for keeper in [nested for parent in walked for nested in parent.nested if nested._needs()]:
        kept = [home for name in keeper._needs() if (home := _home(keeper, name, keeper)) is not None]
        for job in keeper.iterate_jobs():
            for name in job._needs():
                home = _home(job, name, keeper)
                if home is not None:
                    waits_for.setdefault(home, [])
                    for one in kept:
                        waits_for.setdefault(one, []).append(home)
    cycle = _graph.find_cycle(waits_for, waits_for.__getitem__) if waits_for else None
    if cycle is not None:
        names = " and ".join(dict.fromkeys(name for _, name in cycle))
        raise ValueError(
            f"schedulers that need one of {names} for their whole run have members that need another, and the other "
            f"way round: they could wait for each other for ever; let each of them need all that its members need"
        )


def _home(job: AbstractJob[Any], name: str, keeper: BaseScheduler) -> tuple[BaseScheduler, str] | None:
    """Return where a job finds a resource, if that is outside of `keeper`, which is the job or around it.

    A rate is nowhere: nobody keeps any of it, and what a job waits for comes with time.
    """
    is_outside = job is keeper
    is_found, home = False, None
    for scheduler in outwards(job):
        resource = None if scheduler.pool is None else scheduler.pool._resources.get(name)
        if not is_found and (resource is not None or name in scheduler._needs()):
            is_found, home = True, (scheduler, name) if is_outside else None
        if resource is not None:
            return home if resource.is_kept else None
        is_outside = is_outside or scheduler is keeper
    return home


def check_requirement(job: AbstractJob[Any], requirement: AbstractJob[Any], scheduler: BaseScheduler) -> None:
    """Refuse a requirement that is in another scheduler and not an input, or a forever job and not a service.

    Raises:
        MissingRequirement: it is not in `scheduler`, and it is not an input from a related scheduler.
        ValueError: it is a forever job and not a service.

    """
    if requirement._scheduler is not scheduler:
        is_input = job._rule is not None and requirement in job._rule.inputs
        if not is_input or common(job, requirement) is None:
            raise _errors.MissingRequirement(job, requirement, scheduler)
    refuse_forever(job, requirement)


def refuse_forever(job: AbstractJob[Any], requirement: AbstractJob[Any]) -> None:
    """Refuse a requirement that is a forever job and not a service.

    Raises:
        ValueError: it is one.

    """
    if requirement._forever and not requirement._is_service:
        who, what = map(repr, _labels.telling_apart([job, requirement]))
        raise ValueError(
            f"{who} requires {what}, which is a forever job, so it would wait until the end; "
            f"remove the requirement, or make {what} a Service, which says when it is ready"
        )


def check_late_input(job: AbstractJob[Any], given: AbstractJob[Any], scheduler: BaseScheduler) -> None:
    """Check an input from another scheduler, of a job in a scheduler that is running: nothing can wait for it any more.

    Raises:
        MissingRequirement, ValueError: as in `check_requirement`; or the input has not settled.

    """
    check_requirement(job, given, scheduler)
    if not (given._state.is_settled or given._is_ready()):
        raise ValueError(
            f"{job.label!r} uses the result of {given.label!r}, which is in another scheduler and has not "
            f"settled: {scheduler.label!r} is running already, and cannot wait for it"
        )


def common(
    job: AbstractJob[Any], other: AbstractJob[Any]
) -> tuple[BaseScheduler, AbstractJob[Any], AbstractJob[Any]] | None:
    """Return the innermost scheduler that contains both jobs, and its members that are or contain them, or None."""
    first = dict(way_out(job))
    return next(((around, first[around], member) for around, member in way_out(other) if around in first), None)


def _imply_late(members: Members, job: AbstractJob[Any]) -> None:
    """Let a job that was added to a running scheduler wait for the members that contain its inputs.

    Inputs of jobs nested in it count too.

    Raises:
        ValueError: an input is outside of the scheduler and has not settled: nothing can wait for it any more.

    """
    scheduler = members.owner
    around = [scheduler, *outwards(scheduler)]
    inside = job.iterate_jobs() if is_scheduler(job) else iter(())
    for one in itertools.chain([job], inside):
        for given in one._rule.inputs if one._rule is not None else ():
            found = common(one, given)
            if found is None or found[0] not in around:
                continue  # both are inside the new job
            if found[0] is not scheduler:
                check_late_input(one, given, scheduler)
            elif given._scheduler is not scheduler or one is not job:
                members.implied.setdefault(job, {})[found[2]] = None


def imply_all(members: Members) -> None:
    """Find the requirements implied by inputs from other schedulers, here and in all that is nested; check nothing."""
    walked: dict[BaseScheduler, Members] = {}
    todo: list[Members] = [members]
    while todo:
        parent = todo.pop()
        walked[parent.owner] = parent
        parent.implied = {}
        todo += [nested._members for nested in parent.nested]
    for parent in walked.values():
        for job in parent.jobs:
            for one in job._rule.inputs if job._rule is not None else ():
                home = one._scheduler
                if home is None or home is parent.owner:
                    continue
                found = common(job, one)
                if found is not None and found[0] in walked:
                    walked[found[0]].implied.setdefault(found[1], {})[found[2]] = None
                    home._members.used_outside.add(one)


def _refuse_unreachable_inputs(members: Members, walked: dict[BaseScheduler, Members]) -> None:
    """Refuse inputs from outside of the checked schedulers that have not settled: nothing could wait for them."""
    for job in members.jobs:
        for one in job._rule.inputs if job._rule is not None else ():
            found = common(job, one)
            if found is None or found[0] in walked:
                continue
            holder, waiting, _ = found
            if holder._run is None or waiting._pending >= 0:  # else `waiting` is about to be added, and will wait
                check_late_input(job, one, members.owner)


def refuse_cycle(members: Members) -> None:
    """Refuse a cycle in the graph of a scheduler's jobs.

    Raises:
        CycleError: there is one.

    """
    cycle = _graph.find_cycle(members.jobs, members.waits_for)
    if cycle is not None:
        raise _errors.CycleError(cycle)


def _check_one_shot(job: AbstractJob[Any], repeated: bool) -> None:
    """Refuse a job that would run again and cannot, and one that refuses itself."""
    if job._checks_itself:
        job.check_before_run()
    if not job._is_one_shot():
        return
    if job._is_spent():
        raise ValueError(
            f"{job.label!r} has run already, and can run only once: it was made from a coroutine object, or was in an "
            f"open scheduler; make a new job from the function: Job(function, *args)"
        )
    if repeated or job._repeats():
        raise ValueError(
            f"{job.label!r} was made from a coroutine object, which cannot be restarted or retried: "
            f"make it from the function: Job(function, *args)"
        )


# ---- while it runs


def check_new(members: Members, new: list[AbstractJob[Any]]) -> None:
    """Check jobs that have just been added to a running scheduler; they may require each other.

    Raises:
        CycleError, MissingRequirement, ValueError, RuntimeError: as in `check`.

    """
    for job in new:
        for requirement in job._required:
            check_requirement(job, requirement, members.owner)
        _check_one_shot(job, repeated=False)
        _check_needs(members.owner, [job], members.owner)
        if is_scheduler(job):
            check_may_run(job)
            for _ in check(job._members):
                pass
        _imply_late(members, job)
    # Mostly they wait for nothing. To look for a cycle takes a fifth of what adding one job does.
    cycle = _graph.find_cycle(new, members.waits_for) if any(map(members.waits_for, new)) else None
    if cycle is not None:
        raise _errors.CycleError(cycle)


def check_new_requirements(members: Members, job: AbstractJob[Any], new: list[AbstractJob[Any]]) -> None:
    """Check the requirements that a job of a running scheduler is about to get.

    Raises:
        RuntimeError: the job is no longer IDLE.
        CycleError: a requirement waits for the job already.
        MissingRequirement, ValueError: as in `check_requirement`.

    """
    if job._state is not JobState.IDLE:
        raise RuntimeError(
            f"requires() of {job.label!r}: it is {job._state.value}; only an idle job can get more requirements"
        )
    for requirement in new:
        check_requirement(job, requirement, members.owner)
    if _graph.meet([job], _links.successors_of, new, lambda one: () if one.is_done() else members.waits_for(one)):
        waited_for = _graph.reachable(new, lambda one: () if one.is_done() or one is job else members.waits_for(one))
        edges = {one: members.waits_for(one) for one in waited_for}
        edges[job] = [*members.waits_for(job), *new]
        cycle = _graph.find_cycle(edges, lambda one: [other for other in edges[one] if other in edges])
        raise _errors.CycleError(cycle or [job])
