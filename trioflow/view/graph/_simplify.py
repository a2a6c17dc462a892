"""Two ways to simplify a drawing: `Bundler` draws similar jobs as one box, and `bypass_jobs` bypasses jobs left out."""

from __future__ import annotations

import collections
import re
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

from ..._core.api.views import AnyJob, is_inside, is_scheduler

DIGITS_PATTERN: Final = re.compile(r"(\d+)")
MIN_CHAIN_LENGTH: Final = 3
"""The minimum number of jobs in a chain that is drawn as one box. A shorter chain takes little space anyway."""


class Bundler:
    """A finder of bundles: sets of jobs that are drawn as one box.

    A bundle consists of similar jobs, of similar nested schedulers, or of the jobs of a chain. Two jobs are similar if
    they are in the same scheduler, look the same (class, visible settings, and label except for numbers), and have the
    same requirements or similar requirements. Two nested schedulers are similar if, in addition, their members are
    similar. A chain consists of at least `MIN_CHAIN_LENGTH` jobs of one scheduler that look the same. In a chain, each
    job requires only the previous job, and no other job requires that previous job.

    A scheduler that is drawn as a single box is bundled only with its counterparts in similar enclosing schedulers.

    Args:
        stand_ins: the stand-in of each job, which is the job drawn in its place. The bundler updates this dict.
        folded_schedulers: the schedulers that are drawn as single boxes.

    """

    def __init__(self, stand_ins: dict[AnyJob, AnyJob], folded_schedulers: Container[AnyJob]) -> None:
        self._stand_ins: Final = stand_ins
        self._folded_schedulers: Final = folded_schedulers
        self._first_jobs_by_key: Final[dict[Any, AnyJob]] = {}
        self._bundles: Final[dict[AnyJob, list[AnyJob]]] = {}

    def find_bundles(self, jobs: Sequence[AnyJob]) -> dict[AnyJob, list[AnyJob]]:
        """Return the bundles of two or more jobs, by their first jobs.

        The first job of a bundle becomes the stand-in of all its jobs. For V jobs and E requirements, this takes
        O(V + E) time.

        Args:
            jobs: the jobs that are not left out, each after its requirements and its enclosing schedulers.

        """
        members = _members_by_scheduler(jobs, self._folded_schedulers)
        shapes = _scheduler_shapes(members)
        previous_in_chain = _find_chains(jobs)
        for job in jobs:
            if self._stand_ins[job] is not job:
                continue  # an enclosing scheduler, together with all its members, has already joined a bundle
            first_job = (
                self._stand_ins[previous_in_chain[job]]
                if job in previous_in_chain
                else self._first_jobs_by_key.setdefault(self._group_key(job, shapes), job)
            )
            if job in previous_in_chain or first_job is job:
                self._add_to_bundle(job, first_job)
                continue
            for member, counterpart in zip(
                _iterate_nested(job, members), _iterate_nested(first_job, members), strict=True
            ):
                self._add_to_bundle(member, self._stand_ins[counterpart])
        return {first_job: bundle for first_job, bundle in self._bundles.items() if len(bundle) > 1}

    def _group_key(self, job: AnyJob, shapes: dict[AnyJob, SchedulerShape]) -> Any:
        if job in self._folded_schedulers:
            return job
        number, outside_requirements = shapes.get(job, (0, ()))
        stand_in = self._stand_ins.get
        return (
            *(job.scheduler, _appearance_key(job), number),
            *(frozenset(stand_in(end, end) for end in ends) for ends in (job.required, outside_requirements)),
        )

    def _add_to_bundle(self, job: AnyJob, first_job: AnyJob) -> None:
        self._stand_ins[job] = first_job
        self._bundles.setdefault(first_job, []).append(job)


SchedulerShape = tuple[int, frozenset[AnyJob]]
"""A number that is equal for schedulers with similar members, and the members' requirements outside the scheduler."""


def _appearance_key(job: AnyJob) -> Any:
    return type(job), DIGITS_PATTERN.sub("0", job.label), job.is_critical(), job.forever, job.run_if


def _members_by_scheduler(jobs: Iterable[AnyJob], folded_schedulers: Container[AnyJob]) -> dict[AnyJob, list[AnyJob]]:
    """Return the direct members of each scheduler among these jobs. Enclosing schedulers come first."""
    members: dict[AnyJob, list[AnyJob]] = {}
    for job in jobs:
        if job.scheduler in members:
            members[job.scheduler].append(job)
        if is_scheduler(job) and job not in folded_schedulers:
            members[job] = []
    return members


def _iterate_nested(job: AnyJob, members: dict[AnyJob, list[AnyJob]]) -> Iterator[AnyJob]:
    pending_jobs = [job]
    while pending_jobs:
        member = pending_jobs.pop()
        yield member
        pending_jobs += members.get(member, ())


def _scheduler_shapes(members_by_scheduler: dict[AnyJob, list[AnyJob]]) -> dict[AnyJob, SchedulerShape]:
    numbers: dict[Any, int] = {}
    shapes: dict[AnyJob, SchedulerShape] = {}
    for scheduler, members in reversed(members_by_scheduler.items()):
        indices = {job: index for index, job in enumerate(members)}
        outside_requirements: set[AnyJob] = set()
        key: list[Any] = []
        for job in members:
            number, nested_outside_requirements = shapes.get(job, (0, frozenset()))
            outside_requirements |= {
                requirement
                for requirement in {*job.required, *nested_outside_requirements}
                if requirement not in indices and not is_inside(requirement, scheduler)
            }
            inside = frozenset(indices[requirement] for requirement in job.required if requirement in indices)
            key.append((_appearance_key(job), inside, number))
        shapes[scheduler] = numbers.setdefault(tuple(key), len(numbers) + 1), frozenset(outside_requirements)
    return shapes


def _find_chains(jobs: Sequence[AnyJob]) -> dict[AnyJob, AnyJob]:
    """Return a mapping from each job that continues a chain to the previous job in that chain."""
    successors = collections.Counter(requirement for job in jobs for requirement in job.required)
    previous_in_chain: dict[AnyJob, AnyJob] = {}
    for job in jobs:
        if len(job.required) == 1 and not is_scheduler(job):
            (previous_job,) = job.required
            if (
                previous_job.scheduler is job.scheduler
                and successors[previous_job] == 1
                and _appearance_key(previous_job) == _appearance_key(job)
            ):
                previous_in_chain[job] = previous_job
    lengths: dict[AnyJob, int] = {}  # the number of jobs in the chain from this job to the end
    for job in reversed(jobs):
        if job in previous_in_chain:
            lengths[previous_in_chain[job]] = lengths.get(job, 1) + 1
    chained_jobs: set[AnyJob] = set()
    for job in jobs:
        if job in previous_in_chain and (
            previous_in_chain[job] in chained_jobs or lengths.get(previous_in_chain[job], 1) >= MIN_CHAIN_LENGTH
        ):
            chained_jobs.add(job)
    return {job: previous_in_chain[job] for job in chained_jobs}


EdgeKindT = TypeVar("EdgeKindT")


def bypass_jobs(
    edges: dict[tuple[AnyJob, AnyJob], EdgeKindT], left_out_jobs: Sequence[AnyJob], indirect_kind: EdgeKindT
) -> list[AnyJob]:
    """Remove jobs from `edges`, connect their neighbors, and return the jobs that remain as junctions.

    A job remains as a junction if connecting its neighbors would take more edges than the job has. For example, a
    barrier between a thousand jobs and a thousand others becomes a point, not a million edges. No step increases the
    number of edges, so the function takes O(V + E) time.

    Args:
        edges: the edges, as pairs of tail and head, with the kind of each. This dict is changed in place.
        left_out_jobs: the jobs to remove, in topological order.
        indirect_kind: the kind of the new edges.

    """
    predecessors: dict[AnyJob, dict[AnyJob, None]] = {job: {} for job in left_out_jobs}
    successors: dict[AnyJob, dict[AnyJob, None]] = {job: {} for job in left_out_jobs}
    affected_edges = [ends for ends in edges if ends[0] in predecessors or ends[1] in predecessors]
    for tail, head in affected_edges:
        del edges[tail, head]
        predecessors.setdefault(head, {})[tail] = None
        successors.setdefault(tail, {})[head] = None
    _drop_dead_ends(left_out_jobs, predecessors, successors)  # jobs to which no path leads from a drawn job
    _drop_dead_ends(reversed(left_out_jobs), successors, predecessors)  # jobs from which no path leads to a drawn job
    junctions = [
        job for job in left_out_jobs if predecessors[job] and not _try_to_remove(job, predecessors, successors)
    ]
    for head, tails in predecessors.items():
        for tail in tails:
            edges.setdefault((tail, head), indirect_kind)
    return junctions


Neighbors = dict[AnyJob, dict[AnyJob, None]]
"""The predecessors or the successors of each job. The inner dicts are used as ordered sets."""


def _drop_dead_ends(jobs: Iterable[AnyJob], neighbors: Neighbors, opposite_neighbors: Neighbors) -> None:
    """Disconnect each job that has no entries in `neighbors` from its neighbors on the opposite side.

    Args:
        jobs: the jobs, each before those that may become dead ends because of it.
        neighbors: the predecessors, or the successors, of each job.
        opposite_neighbors: the successors, or the predecessors, of each job.

    """
    for job in jobs:
        if not neighbors[job]:
            for neighbor in opposite_neighbors[job]:
                del neighbors[neighbor][job]
            opposite_neighbors[job].clear()


def _try_to_remove(job: AnyJob, predecessors: Neighbors, successors: Neighbors) -> bool:
    """Connect the predecessors of a job directly to its successors, unless that would take more edges.

    Return whether the job was removed in this way.
    """
    tails, heads = predecessors[job], successors[job]
    if len(tails) * len(heads) > len(tails) + len(heads):
        return False
    for tail in tails:
        del successors[tail][job]
        successors[tail].update((head, None) for head in heads if head is not tail)
    for head in heads:
        del predecessors[head][job]
        predecessors[head].update((tail, None) for tail in tails if tail is not head)
    tails.clear()
    heads.clear()
    return True
