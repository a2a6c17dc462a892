"""What must hold before a run starts; nothing is consumed by looking.

`check` is a generator that pauses now and then: the run of a large scenario lets others run meanwhile.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, cast

from . import _errors, _graph

if TYPE_CHECKING:
    from ._job_set import JobSet
    from ._jobs import AbstractJob
    from ._members import Members

BETWEEN_PAUSES: Final = 1000
"""Jobs that are looked at between two pauses: about a millisecond's work."""

marks: Final = itertools.count(-2, -1)


def in_chunks(jobs: Iterable[AbstractJob[Any]]) -> Iterator[list[AbstractJob[Any]]]:
    """Yield the jobs, so many at a time as may be looked at between two pauses."""
    rest = iter(jobs)
    while chunk := list(itertools.islice(rest, BETWEEN_PAUSES)):
        yield chunk


def check(scheduler: Members) -> Iterator[None]:
    """Check a scheduler with all that is nested in it, O(V + E); pauses by yielding.

    Raises:
        CycleError: jobs that require each other.
        MissingRequirement: a requirement that is not in the same scheduler, or an input in an unrelated one.
        ValueError: a requirement on a forever job; a one-shot job that has run, or that would run again.
        RuntimeError: a nested scheduler that runs, or is closed.

    """
    todo: list[tuple[Members, bool]] = [(scheduler, False)]
    out_of_order: dict[Members, None] = {}
    walked: dict[Members, None] = {}
    while todo:
        parent, repeated = todo.pop()
        walked[parent] = None
        parent._implied = {}
        yield from _check_jobs(parent, repeated, out_of_order)
        for nested in parent._nested:
            nested._check_may_run()
            todo.append((nested, repeated or repeats(nested)))
    if any(parent._takes_from_outside for parent in walked):
        imply_all(scheduler)
    for parent in walked:
        if parent._takes_from_outside:
            _refuse_unreachable_inputs(parent, walked)
        parent._unchecked = False
        if parent in out_of_order or parent._implied:
            refuse_cycle(parent)


def _check_jobs(scheduler: Members, repeated: bool, out_of_order: dict[Members, None]) -> Iterator[None]:
    """Check one scheduler's jobs, and the requirements among them.

    If each job stands behind all that it requires, as it mostly does, there can be no cycle; only otherwise is the
    graph searched for one. `_pending` serves as the mark of those that have been passed.
    """
    mark = next(marks)
    outside = False
    for chunk in in_chunks(scheduler._jobs):
        for job in chunk:
            for requirement in job._required:
                if requirement._pending != mark or requirement._forever:
                    check_requirement(job, requirement, scheduler)
                    if requirement._scheduler is scheduler:
                        out_of_order[scheduler] = None
                    else:
                        outside = True
            job._pending = mark
            if job._limits is not None:  # those made of coroutine objects all have some
                _check_one_shot(job, repeated)
        if len(chunk) == BETWEEN_PAUSES:
            yield
    scheduler._takes_from_outside = outside


def check_requirement(job: AbstractJob[Any], requirement: AbstractJob[Any], scheduler: Members) -> None:
    """Refuse a requirement that is elsewhere and no input, or runs for ever and is no service.

    Raises:
        MissingRequirement: it is not in `scheduler`, and the job does not get its result from a related one.
        ValueError: it runs for ever.

    """
    if requirement._scheduler is not scheduler:
        is_input = job._rule is not None and requirement in job._rule.inputs
        if not is_input or common(job, requirement) is None:
            raise _errors.MissingRequirement(job, requirement, scheduler)
    refuse_forever(job, requirement)


def refuse_forever(job: AbstractJob[Any], requirement: AbstractJob[Any]) -> None:
    """Refuse a requirement that runs for ever and is no service.

    Raises:
        ValueError: it does.

    """
    if requirement._forever and not requirement._is_service:
        raise ValueError(
            f"{job.label!r} requires {requirement.label!r}, which runs for ever: it would wait until the end; "
            f"take the requirement away, or make it a Service, which says when it is ready"
        )


def check_late_requirement(job: AbstractJob[Any], requirement: AbstractJob[Any], scheduler: Members) -> None:
    """Check a requirement of a job that is added to a running scheduler, or made then.

    Raises:
        MissingRequirement, ValueError: as `check_requirement`; or it is outside, and has not settled.

    """
    check_requirement(job, requirement, scheduler)
    if requirement._scheduler is not scheduler and not (requirement._state.is_settled or requirement._is_ready()):
        raise ValueError(
            f"{job.label!r} uses the result of {requirement.label!r}, which is in another scheduler and has not "
            f"settled: {scheduler.label!r} is running already, and can't wait for it"
        )


def common(job: AbstractJob[Any], other: AbstractJob[Any]) -> tuple[Members, AbstractJob[Any], AbstractJob[Any]] | None:
    """Return the innermost scheduler that holds both, and its members by which it does; None if there is none."""
    way_out: dict[Members, AbstractJob[Any]] = {}
    member: AbstractJob[Any] = job
    while member._scheduler is not None:
        way_out[member._scheduler] = member
        member = member._scheduler
    member = other
    while member._scheduler is not None:
        if member._scheduler in way_out:
            return member._scheduler, way_out[member._scheduler], member
        member = member._scheduler
    return None


def imply_late(scheduler: Members, job: AbstractJob[Any]) -> None:
    """Order a job that was put into a running scheduler by the inputs that it takes elsewhere, nested jobs included.

    Raises:
        ValueError: an input outside `scheduler` that has not settled: nothing can wait for it any more.

    """
    around: list[AbstractJob[Any]] = [scheduler]
    while around[-1]._scheduler is not None:
        around.append(around[-1]._scheduler)
    inside = cast("JobSet", job).iterate_jobs() if hasattr(job, "iterate_jobs") else iter(())
    for one in itertools.chain([job], inside):
        for given in one._rule.inputs if one._rule is not None else ():
            found = common(one, given)
            if found is None or found[0] not in around:
                continue  # both are inside the new job
            if found[0] is not scheduler:
                check_late_requirement(one, given, scheduler)
            elif given._scheduler is not scheduler or one is not job:
                scheduler._implied.setdefault(job, {})[found[2]] = None


def imply_all(scheduler: JobSet) -> None:
    """Order the members of `scheduler`, and of all that is nested, by the inputs of jobs nested in them; no checks."""
    walked: dict[JobSet, None] = {scheduler: None}
    todo: list[JobSet] = [scheduler]
    while todo:
        parent = todo.pop()
        parent._implied = {}
        walked.update(dict.fromkeys(parent._nested))
        todo += parent._nested
    for parent in walked:
        for job in parent._jobs:
            for one in job._rule.inputs if job._rule is not None else ():
                found = common(job, one)
                if found is not None and one._scheduler not in (None, parent) and found[0] in walked:
                    found[0]._implied.setdefault(found[1], {})[found[2]] = None
                    one._scheduler._used_outside.add(one)


def _refuse_unreachable_inputs(scheduler: Members, walked: dict[Members, None]) -> None:
    """Refuse inputs that are outside all that is walked and have not settled: nothing could wait for them."""
    for job in scheduler._jobs:
        for one in job._rule.inputs if job._rule is not None else ():
            found = common(job, one)
            if found is not None and found[0] not in walked and not _waits_already(found):
                check_late_requirement(job, one, scheduler)


def _waits_already(found: tuple[Members, AbstractJob[Any], AbstractJob[Any]]) -> bool:
    """Tell whether the members are ordered by themselves: the one is about to be put into the running holder."""
    holder, waiting, _ = found
    return holder._run is not None and waiting._pending < 0


def check_one(job: AbstractJob[Any]) -> None:
    """Check a job that is about to be added to a running scheduler, with all that is nested in it.

    Raises:
        CycleError, MissingRequirement, ValueError, RuntimeError: as `check`.

    """
    _check_one_shot(job, repeated=False)
    if hasattr(job, "_check_may_run"):
        nested = cast("Members", job)
        nested._check_may_run()
        for _ in check(nested):
            pass


def refuse_cycle(scheduler: JobSet) -> None:
    """Search the graph of a scheduler's jobs for a cycle.

    Raises:
        CycleError: there is one.

    """
    cycle = _graph.find_cycle(scheduler._jobs, scheduler._waits_for)
    if cycle is not None:
        raise _errors.CycleError(cycle)


def repeats(job: AbstractJob[Any]) -> bool:
    """Tell whether a job may be called more than once in one run."""
    limits = job._limits
    if limits is None:
        return False
    return limits.retry is not None or (limits.on_timeout == "restart" and limits.timeout is not None)


def _check_one_shot(job: AbstractJob[Any], repeated: bool) -> None:
    if not job._is_one_shot():
        return
    if job._is_spent():
        raise ValueError(
            f"{job.label!r} was made of a coroutine object, which has run already: "
            f"to run it again, make it of the function: Job(function, *args)"
        )
    if repeated or repeats(job):
        raise ValueError(
            f"{job.label!r} was made of a coroutine object, which cannot be restarted or retried: "
            f"make it of the function: Job(function, *args)"
        )
