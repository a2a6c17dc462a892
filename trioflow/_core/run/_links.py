"""Who waits for whom: each job counts the requirements that it still waits for, and knows its successors."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ..job._outcome import RareFacts

if TYPE_CHECKING:
    from ..job._job import AbstractJob

    Successors: TypeAlias = AbstractJob[Any] | tuple[AbstractJob[Any], ...] | list[AbstractJob[Any]] | None

FEW: Final = 4
"""Up to this many successors are kept in a tuple, which takes half as much memory as a list."""


def add_successor(requirement: AbstractJob[Any], job: AbstractJob[Any]) -> None:
    """Record that `job` waits for `requirement`."""
    successors = requirement._successors
    if successors is None:
        requirement._successors = job
    elif isinstance(successors, list):
        successors.append(job)
    elif isinstance(successors, tuple):
        requirement._successors = (*successors, job) if len(successors) < FEW else [*successors, job]
    else:
        requirement._successors = (successors, job)


def link(job: AbstractJob[Any], requirements: Iterable[AbstractJob[Any]]) -> None:
    """Let a job wait for those of `requirements` that have not settled and are not ready services."""
    job._pending = max(job._pending, 0)
    for requirement in requirements:
        if not (requirement._state.is_settled or requirement._is_ready()):
            job._pending += 1
            add_successor(requirement, job)


def link_late(job: AbstractJob[Any], new: Iterable[AbstractJob[Any]], place: Callable[[AbstractJob[Any]], int]) -> None:
    """Let a job that was added earlier wait for more; `place` is its number among all jobs.

    It keeps its place: jobs that become ready together start in the order in which they were added.
    """
    link(job, new)
    for requirement in new:
        successors = requirement._successors
        if isinstance(successors, list):
            successors.pop()  # the job itself, which `link` has put last
            bisect.insort(successors, job, key=place)
        elif isinstance(successors, tuple):
            requirement._successors = tuple(sorted(successors, key=place))


def count_consumer(job: AbstractJob[Any]) -> None:
    """Record that a job will use its inputs' results, in those inputs that do not keep them."""
    assert job._rule is not None
    for one in job._rule.inputs:
        if one._rule is not None and not one._rule.keep_result:
            one._facts = one._facts or RareFacts()
            one._facts.consumers += 1


def successors_of(job: AbstractJob[Any]) -> Iterable[AbstractJob[Any]]:
    """Return the jobs that wait for `job`."""
    successors = job._successors
    if successors is None:
        return ()
    return successors if isinstance(successors, (list, tuple)) else (successors,)
