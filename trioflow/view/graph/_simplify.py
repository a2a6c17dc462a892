"""A drawing made smaller: jobs that are alike become one box, and lines bridge jobs that are left out."""

from __future__ import annotations

import collections
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeVar

from ..._core.door.reading import AnyJob, JobState
from .._states import PRECEDENCE

DIGITS: Final = re.compile(r"(\d+)")


def bundles(jobs: Iterable[AnyJob], stand_ins: dict[AnyJob, AnyJob]) -> dict[AnyJob, list[AnyJob]]:
    """Return the bundles of more than one job, each under its first job, which becomes the stand-in for all of them.

    Jobs are alike if they are in the same scheduler, of the same class, have the same settings as far as a picture
    shows them, labels that differ only in numbers, and require the same jobs or jobs that are alike. O(V + E).

    Args:
        jobs: the jobs to compare, in topological order.
        stand_ins: the stand-in of every job; changed in place.

    """
    alike: dict[Any, list[AnyJob]] = {}
    for job in jobs:
        required = frozenset(stand_ins.get(one, one) for one in job.required)
        settings = job.is_critical(), job.forever, job.run_if
        bundle = alike.setdefault((job.scheduler, type(job), DIGITS.sub("0", job.label), settings, required), [])
        bundle.append(job)
        stand_ins[job] = bundle[0]
    return {bundle[0]: bundle for bundle in alike.values() if len(bundle) > 1}


def common_label(jobs: list[AnyJob]) -> str:
    """Return the common label of these jobs, with a star for each number in which they differ."""
    first, *others = (DIGITS.split(job.label) for job in jobs)
    same = [len({part, *(other[place] for other in others)}) == 1 for place, part in enumerate(first)]
    return "".join(part if is_same else "*" for part, is_same in zip(first, same, strict=True))


def shown_state(jobs: list[AnyJob]) -> JobState:
    """Return the most important state of these jobs."""
    states = {job.state for job in jobs}
    return next(state for state in PRECEDENCE if state in states)


def state_counts(jobs: list[AnyJob]) -> str:
    """Return how many jobs are in each state; an empty string if all are in the same one."""
    count = collections.Counter(job.state for job in jobs)
    if len(count) == 1:
        return ""
    return ", ".join(f"{count[state]} {state.value}" for state in PRECEDENCE if count[state])


Kind = TypeVar("Kind")


def bridge(lines: dict[tuple[AnyJob, AnyJob], Kind], left_out: Sequence[AnyJob], detour: Kind) -> list[AnyJob]:
    """Remove the jobs left out from `lines`, join what they joined, and return those that stay as junctions.

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
    _drop(left_out, before, after)  # nothing drawn leads here
    _drop(reversed(left_out), after, before)  # nor from here to anything drawn
    junctions = [job for job in left_out if before[job] and not _removed(job, before, after)]
    for head, tails in before.items():
        for tail in tails:
            lines.setdefault((tail, head), detour)
    return junctions


Neighbours = dict[AnyJob, dict[AnyJob, None]]


def _drop(jobs: Iterable[AnyJob], here: Neighbours, there: Neighbours) -> None:
    """Remove the jobs that have no neighbours `here`, one after the other."""
    for job in jobs:
        if not here[job]:
            for neighbour in there[job]:
                del here[neighbour][job]
            there[job].clear()


def _removed(job: AnyJob, before: Neighbours, after: Neighbours) -> bool:
    """Join what comes before a job with what comes after it, and return True, unless that needs more lines."""
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
