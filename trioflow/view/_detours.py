"""Lines past jobs that are left out: from what they require, drawn, to what requires them, drawn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from .._core._jobs import AbstractJob

AnyJob = AbstractJob[Any]
Kind = TypeVar("Kind")


def bridge(lines: dict[tuple[AnyJob, AnyJob], Kind], left_out: Sequence[AnyJob], detour: Kind) -> list[AnyJob]:
    """Take the jobs left out away from `lines`, join what they joined, and return those that stay as junctions.

    A job is taken away unless that would make more lines than it has: of a barrier between a thousand jobs and a
    thousand others a point is left, not a million lines. As no step makes more lines, all of it is O(V + E).

    Args:
        lines: all lines, from tail to head; changed in place.
        left_out: the jobs to take away, in topological order.
        detour: the kind of the lines that take the place of others.

    """
    before: dict[AnyJob, dict[AnyJob, None]] = {job: {} for job in left_out}
    behind: dict[AnyJob, dict[AnyJob, None]] = {job: {} for job in left_out}
    touched = [ends for ends in lines if ends[0] in before or ends[1] in before]
    for tail, head in touched:
        del lines[tail, head]
        before.setdefault(head, {})[tail] = None
        behind.setdefault(tail, {})[head] = None
    _drop(left_out, before, behind)  # nothing drawn leads here
    _drop(reversed(left_out), behind, before)  # nor from here to anything drawn
    junctions = [job for job in left_out if before[job] and not _taken_away(job, before, behind)]
    for head, tails in before.items():
        for tail in tails:
            lines.setdefault((tail, head), detour)
    return junctions


Neighbours = dict[AnyJob, dict[AnyJob, None]]


def _drop(jobs: Iterable[AnyJob], here: Neighbours, there: Neighbours) -> None:
    """Take away the jobs that have no neighbours `here`, one after the other."""
    for job in jobs:
        if not here[job]:
            for neighbour in there[job]:
                del here[neighbour][job]
            there[job].clear()


def _taken_away(job: AnyJob, before: Neighbours, behind: Neighbours) -> bool:
    """Join what stands before a job with what stands behind it, unless that takes more lines."""
    tails, heads = before[job], behind[job]
    if len(tails) * len(heads) > len(tails) + len(heads):
        return False
    for tail in tails:
        del behind[tail][job]
        behind[tail].update((head, None) for head in heads if head is not tail)
    for head in heads:
        del before[head][job]
        before[head].update((tail, None) for tail in tails if tail is not head)
    tails.clear()
    heads.clear()
    return True
