"""Who waits for whom: counted for all jobs before a run, and for those that come while it is under way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from . import _checks, _errors, _graph
from ._states import JobState

if TYPE_CHECKING:
    from ._jobs import AbstractJob
    from ._members import Members


def link_all(scheduler: Members) -> Iterator[None]:
    """Count for each job what it has to wait for, and tell each whom it keeps waiting; pauses by yielding. O(V + E)."""
    for number, job in enumerate(scheduler, 1):
        required = job._required
        job._pending = len(required)
        for requirement in required:
            if requirement._successors is None:
                requirement._successors = [job]
            else:
                requirement._successors.append(job)
        if not number % _checks.BETWEEN_PAUSES:
            yield


def link(job: AbstractJob[Any], requirements: Iterable[AbstractJob[Any]]) -> None:
    """Let a job wait for those of `requirements` that have not settled."""
    job._pending = max(job._pending, 0)
    for requirement in requirements:
        if not requirement._state.is_settled:
            job._pending += 1
            if requirement._successors is None:
                requirement._successors = []
            requirement._successors.append(job)


def link_late(scheduler: Members, job: AbstractJob[Any], requirements: Iterable[AbstractJob[Any]]) -> None:
    """Let a job that is there already wait for more, keeping its place among those that become ready with it."""
    link(job, requirements)
    place = {one: number for number, one in enumerate(scheduler._jobs)}
    for requirement in requirements:
        if requirement._successors is not None:
            requirement._successors.sort(key=place.__getitem__)


def check_new(scheduler: Members, new: list[AbstractJob[Any]]) -> None:
    """Check jobs that are about to be added to a running scheduler; they may require each other.

    Raises:
        CycleError, MissingRequirement, ValueError: as before a run.

    """
    batch = set(new)
    for job in new:
        for requirement in job._required:
            if requirement not in batch or requirement._forever:
                _checks.check_requirement(job, requirement, scheduler)
        _checks.check_one(job)
    _checks.refuse_cycle(new)


def check_requirements(scheduler: Members, job: AbstractJob[Any], requirements: list[AbstractJob[Any]]) -> None:
    """Check what a job of a running scheduler is about to require beside what it does already.

    Raises:
        RuntimeError: the job is not IDLE any more.
        CycleError: a requirement waits for the job already.
        MissingRequirement, ValueError: as before a run.

    """
    if job._state is not JobState.IDLE:
        raise RuntimeError(
            f"requires() of {job.label!r}: it is {job._state.value}; only an idle job can still be made to wait"
        )
    for requirement in requirements:
        _checks.check_requirement(job, requirement, scheduler)
    waited_for = _graph.reachable(
        requirements, lambda one: () if one._state.is_settled or one is job else tuple(one._required)
    )
    if job in waited_for:
        edges = {one: tuple(one._required) for one in waited_for} | {job: (*job._required, *requirements)}
        cycle = _graph.find_cycle(edges, lambda one: [other for other in edges[one] if other in edges])
        raise _errors.CycleError(cycle or [job])
