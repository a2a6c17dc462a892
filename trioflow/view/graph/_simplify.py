"""Two ways to simplify a drawing: `Bundler` draws jobs alike as one box, and `bridge` removes jobs from the lines."""

from __future__ import annotations

import collections
import re
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

from ..._core.api.views import AnyJob, is_inside, is_scheduler

DIGITS: Final = re.compile(r"(\d+)")
MIN_CHAIN: Final = 3
"""The number of jobs from which a chain becomes one box; for two jobs, showing their order is worth the space."""


class Bundler:
    """A finder of bundles, which are drawn as one box: jobs alike, chains of jobs, and nested schedulers alike.

    Two jobs are alike if they are in the same scheduler, look the same (class, visible settings, and label except for
    numbers), and have the same requirements or requirements that are alike. Schedulers are alike if their members are
    alike, too. In a chain, each job requires only the previous one, and is the only job that requires that one.

    A scheduler that is drawn as a single box is bundled only as a part of enclosing schedulers that are alike.

    Args:
        stand_ins: the stand-in of each job; the bundler changes them.
        folded: the schedulers that are drawn as single boxes.

    """

    def __init__(self, stand_ins: dict[AnyJob, AnyJob], folded: Container[AnyJob]) -> None:
        self._stand_ins: Final = stand_ins
        self._folded: Final = folded
        self._alike: Final[dict[Any, AnyJob]] = {}
        self._bundles: Final[dict[AnyJob, list[AnyJob]]] = {}

    def bundles(self, jobs: Sequence[AnyJob]) -> dict[AnyJob, list[AnyJob]]:
        """Return the bundles of two or more jobs by their first job, and make it the stand-in of all. O(V + E).

        Args:
            jobs: the jobs drawn as themselves, each after its requirements and its enclosing schedulers.

        """
        inside = _members_by_scheduler(jobs, self._folded)
        shapes = _shapes(inside)
        before = _chains(jobs)
        for job in jobs:
            if self._stand_ins[job] is not job:
                continue  # its enclosing scheduler is in a bundle
            first = (
                self._stand_ins[before[job]]
                if job in before
                else self._alike.setdefault(self._group_key(job, shapes), job)
            )
            if job in before or first is job:
                self._join(job, first)
                continue
            for member, like in zip(_with_nested(job, inside), _with_nested(first, inside), strict=True):
                self._join(member, self._stand_ins[like])
        return {first: bundle for first, bundle in self._bundles.items() if len(bundle) > 1}

    def _group_key(self, job: AnyJob, shapes: dict[AnyJob, Shape]) -> Any:
        """Return a key that is equal for jobs that are alike."""
        if job in self._folded:
            return job
        number, outside = shapes.get(job, (0, ()))
        stand_in = self._stand_ins.get
        return (
            *(job.scheduler, _appearance(job), number),
            *(frozenset(stand_in(end, end) for end in ends) for ends in (job.required, outside)),
        )

    def _join(self, job: AnyJob, first: AnyJob) -> None:
        self._stand_ins[job] = first
        self._bundles.setdefault(first, []).append(job)


Shape = tuple[int, frozenset[AnyJob]]
"""A number that schedulers with equal members share, and the requirements of the members outside the scheduler."""


def _appearance(job: AnyJob) -> Any:
    """Return a key that is equal for jobs that look the same."""
    return type(job), DIGITS.sub("0", job.label), job.is_critical(), job.forever, job.run_if


def _members_by_scheduler(jobs: Iterable[AnyJob], folded: Container[AnyJob]) -> dict[AnyJob, list[AnyJob]]:
    """Return the direct members of each scheduler among these jobs; enclosing schedulers come first."""
    inside: dict[AnyJob, list[AnyJob]] = {}
    for job in jobs:
        if job.scheduler in inside:
            inside[job.scheduler].append(job)
        if is_scheduler(job) and job not in folded:
            inside[job] = []
    return inside


def _with_nested(job: AnyJob, inside: dict[AnyJob, list[AnyJob]]) -> Iterator[AnyJob]:
    """Yield a job and all jobs nested in it."""
    todo = [job]
    while todo:
        member = todo.pop()
        yield member
        todo += inside.get(member, ())


def _shapes(inside: dict[AnyJob, list[AnyJob]]) -> dict[AnyJob, Shape]:
    """Return the shape of each scheduler."""
    numbers: dict[Any, int] = {}
    shapes: dict[AnyJob, Shape] = {}
    for scheduler, members in reversed(inside.items()):
        places = {job: place for place, job in enumerate(members)}
        outside: set[AnyJob] = set()
        shape: list[Any] = []
        for job in members:
            number, further = shapes.get(job, (0, frozenset()))
            outside |= {
                requirement
                for requirement in {*job.required, *further}
                if requirement not in places and not is_inside(requirement, scheduler)
            }
            local = frozenset(places[requirement] for requirement in job.required if requirement in places)
            shape.append((_appearance(job), local, number))
        shapes[scheduler] = numbers.setdefault(tuple(shape), len(numbers) + 1), frozenset(outside)
    return shapes


def _chains(jobs: Sequence[AnyJob]) -> dict[AnyJob, AnyJob]:
    """Return the previous job in the chain for each job that continues a chain."""
    successors = collections.Counter(requirement for job in jobs for requirement in job.required)
    before: dict[AnyJob, AnyJob] = {}
    for job in jobs:
        if len(job.required) == 1 and not is_scheduler(job):
            (previous,) = job.required
            if (
                previous.scheduler is job.scheduler
                and successors[previous] == 1
                and _appearance(previous) == _appearance(job)
            ):
                before[job] = previous
    lengths: dict[AnyJob, int] = {}  # the number of jobs from a job to the end of its chain
    for job in reversed(jobs):
        if job in before:
            lengths[before[job]] = lengths.get(job, 1) + 1
    long: set[AnyJob] = set()
    for job in jobs:
        if job in before and (before[job] in long or lengths.get(before[job], 1) >= MIN_CHAIN):
            long.add(job)
    return {job: before[job] for job in long}


Kind = TypeVar("Kind")


def bridge(lines: dict[tuple[AnyJob, AnyJob], Kind], left_out: Sequence[AnyJob], detour: Kind) -> list[AnyJob]:
    """Remove jobs from `lines`, connect their neighbours, and return the jobs that remain as junctions.

    A job remains if to connect its neighbours would take more lines than the job has: a barrier between a thousand
    jobs and a thousand others becomes a point, not a million lines. No step adds lines, so the cost is O(V + E).

    Args:
        lines: the kind of each line, from tail to head; changed in place.
        left_out: the jobs to remove, in topological order.
        detour: the kind of the new lines.

    """
    before: dict[AnyJob, dict[AnyJob, None]] = {job: {} for job in left_out}
    after: dict[AnyJob, dict[AnyJob, None]] = {job: {} for job in left_out}
    touched = [ends for ends in lines if ends[0] in before or ends[1] in before]
    for tail, head in touched:
        del lines[tail, head]
        before.setdefault(head, {})[tail] = None
        after.setdefault(tail, {})[head] = None
    _drop_dead_ends(left_out, before, after)  # jobs to which no path leads from a drawn job
    _drop_dead_ends(reversed(left_out), after, before)  # jobs from which no path leads to a drawn job
    junctions = [job for job in left_out if before[job] and not _try_remove(job, before, after)]
    for head, tails in before.items():
        for tail in tails:
            lines.setdefault((tail, head), detour)
    return junctions


Neighbours = dict[AnyJob, dict[AnyJob, None]]


def _drop_dead_ends(jobs: Iterable[AnyJob], here: Neighbours, there: Neighbours) -> None:
    """Disconnect the jobs without neighbours in `here` from their neighbours in `there`."""
    for job in jobs:
        if not here[job]:
            for neighbour in there[job]:
                del here[neighbour][job]
            there[job].clear()


def _try_remove(job: AnyJob, before: Neighbours, after: Neighbours) -> bool:
    """Connect the predecessors of a job to its successors instead; return False if that would take more lines."""
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
