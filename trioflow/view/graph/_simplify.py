"""A drawing made smaller: jobs that are alike become one box, and lines bridge jobs that are left out."""

from __future__ import annotations

import collections
import re
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

from ..._core.api.views import AnyJob, is_inside, is_scheduler

DIGITS: Final = re.compile(r"(\d+)")


CHAIN: Final = 3
"""Number of jobs from which a chain is one box; with two, their order matters more than the space."""


class Bundler:
    """Finds bundles in topological order: jobs alike, chains of jobs, and nested schedulers with equal members.

    Two are alike if they are in the same scheduler, of the same class, have the same settings as far as a picture shows
    them, labels that differ only in numbers, and require the same jobs or jobs that are alike; schedulers, if all that
    is in them is alike, too. In a chain, each job requires only the one before, and no other job requires that one.

    A scheduler that is drawn as a single box is like another one only inside of schedulers that are alike.

    Args:
        stand_ins: the stand-in of every job; changed in place.
        folded: the schedulers that are drawn as single boxes.

    """

    def __init__(self, stand_ins: dict[AnyJob, AnyJob], folded: Container[AnyJob]) -> None:
        self._stand_ins: Final = stand_ins
        self._folded: Final = folded
        self._alike: Final[dict[Any, AnyJob]] = {}
        self._found: Final[dict[AnyJob, list[AnyJob]]] = {}

    def bundles(self, jobs: Sequence[AnyJob]) -> dict[AnyJob, list[AnyJob]]:
        """Return the bundles of two or more, by their first job, which is the stand-in for all of them. O(V + E).

        Args:
            jobs: the jobs drawn as themselves, each after its requirements and its enclosing scheduler.

        """
        inside = _inside(jobs, self._folded)
        shapes = _shapes(inside)
        before = _chains(jobs)
        for job in jobs:
            if self._stand_ins[job] is not job:
                continue  # its scheduler is in a bundle
            first = (
                self._stand_ins[before[job]] if job in before else self._alike.setdefault(self._key(job, shapes), job)
            )
            if job in before or first is job:
                self._join(job, first)
                continue
            for member, like in zip(_whole(job, inside), _whole(first, inside), strict=True):
                self._join(member, self._stand_ins[like])
        return {first: bundle for first, bundle in self._found.items() if len(bundle) > 1}

    def _key(self, job: AnyJob, shapes: dict[AnyJob, Shape]) -> Any:
        if job in self._folded:
            return job
        number, outside = shapes.get(job, (0, ()))
        stand_in = self._stand_ins.get
        return (
            *(job.scheduler, _look(job), number),
            *(frozenset(stand_in(end, end) for end in ends) for ends in (job.required, outside)),
        )

    def _join(self, job: AnyJob, first: AnyJob) -> None:
        self._stand_ins[job] = first
        self._found.setdefault(first, []).append(job)


Shape = tuple[int, frozenset[AnyJob]]
"""A number shared by all schedulers with equal members, and their requirements from outside."""


def _look(job: AnyJob) -> Any:
    return type(job), DIGITS.sub("0", job.label), job.is_critical(), job.forever, job.run_if


def _inside(jobs: Iterable[AnyJob], folded: Container[AnyJob]) -> dict[AnyJob, list[AnyJob]]:
    """Return the schedulers among these jobs, enclosing ones first, each with its direct members."""
    inside: dict[AnyJob, list[AnyJob]] = {}
    for job in jobs:
        if job.scheduler in inside:
            inside[job.scheduler].append(job)
        if is_scheduler(job) and job not in folded:
            inside[job] = []
    return inside


def _whole(job: AnyJob, inside: dict[AnyJob, list[AnyJob]]) -> Iterator[AnyJob]:
    """Yield a job, and everything nested in it."""
    todo = [job]
    while todo:
        member = todo.pop()
        yield member
        todo += inside.get(member, ())


def _shapes(inside: dict[AnyJob, list[AnyJob]]) -> dict[AnyJob, Shape]:
    numbers: dict[Any, int] = {}
    found: dict[AnyJob, Shape] = {}
    for scheduler, members in reversed(inside.items()):
        places = {job: place for place, job in enumerate(members)}
        outside: set[AnyJob] = set()
        shape: list[Any] = []
        for job in members:
            number, further = found.get(job, (0, frozenset()))
            outside |= {
                requirement
                for requirement in {*job.required, *further}
                if requirement not in places and not is_inside(requirement, scheduler)
            }
            local = frozenset(places[requirement] for requirement in job.required if requirement in places)
            shape.append((_look(job), local, number))
        found[scheduler] = numbers.setdefault(tuple(shape), len(numbers) + 1), frozenset(outside)
    return found


def _chains(jobs: Sequence[AnyJob]) -> dict[AnyJob, AnyJob]:
    """Map each job that continues a chain to the job before it."""
    successors = collections.Counter(requirement for job in jobs for requirement in job.required)
    before: dict[AnyJob, AnyJob] = {}
    for job in jobs:
        if len(job.required) == 1 and not is_scheduler(job):
            (previous,) = job.required
            if previous.scheduler is job.scheduler and successors[previous] == 1 and _look(previous) == _look(job):
                before[job] = previous
    lengths: dict[AnyJob, int] = {}  # from a job to the end of its chain
    for job in reversed(jobs):
        if job in before:
            lengths[before[job]] = lengths.get(job, 1) + 1
    long: set[AnyJob] = set()
    for job in jobs:
        if job in before and (before[job] in long or lengths.get(before[job], 1) >= CHAIN):
            long.add(job)
    return {job: before[job] for job in long}


Kind = TypeVar("Kind")


def bridge(lines: dict[tuple[AnyJob, AnyJob], Kind], left_out: Sequence[AnyJob], detour: Kind) -> list[AnyJob]:
    """Remove the jobs left out from `lines`, connect their neighbours, and return the jobs that stay as junctions.

    A job is removed unless that would make more lines than it has: a barrier between a thousand jobs and a thousand
    others becomes a point, not a million lines. As no step adds lines, all of it is O(V + E).

    Args:
        lines: all lines, from tail to head; changed in place.
        left_out: the jobs to remove, in topological order.
        detour: the kind of the lines that replace others.

    """
    before: dict[AnyJob, dict[AnyJob, None]] = {job: {} for job in left_out}
    after: dict[AnyJob, dict[AnyJob, None]] = {job: {} for job in left_out}
    touched = [ends for ends in lines if ends[0] in before or ends[1] in before]
    for tail, head in touched:
        del lines[tail, head]
        before.setdefault(head, {})[tail] = None
        after.setdefault(tail, {})[head] = None
    _drop(left_out, before, after)  # no drawn job leads here
    _drop(reversed(left_out), after, before)  # no path leads from here to a drawn job either
    junctions = [job for job in left_out if before[job] and not _removed(job, before, after)]
    for head, tails in before.items():
        for tail in tails:
            lines.setdefault((tail, head), detour)
    return junctions


Neighbours = dict[AnyJob, dict[AnyJob, None]]


def _drop(jobs: Iterable[AnyJob], here: Neighbours, there: Neighbours) -> None:
    """Remove the jobs that have no neighbours `here`, repeatedly."""
    for job in jobs:
        if not here[job]:
            for neighbour in there[job]:
                del here[neighbour][job]
            there[job].clear()


def _removed(job: AnyJob, before: Neighbours, after: Neighbours) -> bool:
    """Connect the predecessors of a job to its successors; return False if that needs more lines."""
    tails, heads = before[job], after[job]
    if len(tails) * len(heads) > len(tails) + len(heads):
        return False
    for tail in tails:
        del after[tail][job]
        after[tail].update((head, None) for head in heads if head is not tail)
    for head in heads:
        del before[head][job]
        before[head].update((tail, None) for tail in tails if tail is not head)
    tails.clear()
    heads.clear()
    return True
