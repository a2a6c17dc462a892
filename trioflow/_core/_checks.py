"""What must hold before a run starts; nothing is consumed by looking.

`check` is a generator that pauses now and then: the run of a large scenario lets others run meanwhile.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, cast

from . import _errors, _graph

if TYPE_CHECKING:
    from ._jobs import AbstractJob
    from ._members import Members

BETWEEN_PAUSES: Final = 1000
"""Jobs that are looked at between two pauses: about a millisecond's work."""

marks: Final = itertools.count(-2, -1)


def check(scheduler: Members) -> Iterator[None]:
    """Check a scheduler with all that is nested in it, O(V + E); pauses by yielding.

    Raises:
        CycleError: jobs that require each other.
        MissingRequirement: a requirement that is not in the same scheduler.
        ValueError: a requirement on a forever job; a one-shot job that has run, or that would be restarted.
        RuntimeError: a nested scheduler that runs, or is closed.

    """
    todo: list[tuple[Members, bool]] = [(scheduler, False)]
    while todo:
        parent, repeated = todo.pop()
        yield from _check_edges(parent)
        for job in parent._jobs:
            if job._limits is not None:  # those made of coroutine objects all have some
                _check_one_shot(job, repeated)
        for nested in parent._nested:
            nested._check_may_run()
            todo.append((nested, repeated or _restarts(nested)))
        parent._unchecked = False


def _check_edges(scheduler: Members) -> Iterator[None]:
    """Check the requirements among one scheduler's jobs.

    If each job stands behind all that it requires, as it mostly does, there can be no cycle; only otherwise is the
    graph searched for one. `_pending` serves as the mark of those that have been passed.
    """
    mark = next(marks)
    in_order = True
    for number, job in enumerate(tuple(scheduler._jobs), 1):
        for requirement in job._required:
            if requirement._pending != mark:
                check_requirement(job, requirement, scheduler)
                in_order = False
            elif requirement._forever:
                check_requirement(job, requirement, scheduler)
        job._pending = mark
        if not number % BETWEEN_PAUSES:
            yield
    if not in_order:
        refuse_cycle(scheduler._jobs)


def check_requirement(job: AbstractJob[Any], requirement: AbstractJob[Any], scheduler: Members) -> None:
    """Refuse a requirement that is elsewhere, or runs for ever.

    Raises:
        MissingRequirement: it is not in `scheduler`.
        ValueError: it runs for ever.

    """
    if requirement._scheduler is not scheduler:
        raise _errors.MissingRequirement(job, requirement)
    if requirement._forever:
        raise ValueError(
            f"{job.label!r} requires {requirement.label!r}, which runs for ever: it would wait until the end; "
            f"take the requirement away"
        )


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


def refuse_cycle(jobs: Iterable[AbstractJob[Any]]) -> None:
    """Search the graph of `jobs` for a cycle.

    Raises:
        CycleError: there is one.

    """
    cycle = _graph.find_cycle(jobs, lambda job: job._required)
    if cycle is not None:
        raise _errors.CycleError(cycle)


def _restarts(job: AbstractJob[Any]) -> bool:
    limits = job._limits
    return limits is not None and limits.on_timeout == "restart" and limits.timeout is not None


def _check_one_shot(job: AbstractJob[Any], repeated: bool) -> None:
    if not job._is_one_shot():
        return
    if job._is_spent():
        raise ValueError(
            f"{job.label!r} was made of a coroutine object, which has run already: "
            f"to run it again, make it of the function: Job(function, *args)"
        )
    if repeated or _restarts(job):
        raise ValueError(
            f"{job.label!r} was made of a coroutine object, which cannot be restarted: "
            f"make it of the function: Job(function, *args)"
        )
