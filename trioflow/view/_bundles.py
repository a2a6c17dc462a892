"""Jobs that are alike, drawn as one: a thousand times the same step is one step to look at."""

from __future__ import annotations

import collections
import re
from collections.abc import Iterable
from typing import Any, Final

from .._core._jobs import AbstractJob
from .._core._states import JobState

AnyJob = AbstractJob[Any]
DIGITS: Final = re.compile(r"(\d+)")

TELLING: Final = (
    JobState.FAILED,
    JobState.BLOCKED,
    JobState.CANCELLED,
    JobState.RUNNING,
    JobState.SCHEDULED,
    JobState.IDLE,
    JobState.SUCCEEDED,
    JobState.SKIPPED,
)
"""Of the states of several jobs, the first of these is shown for all of them."""


def found(jobs: Iterable[AnyJob], stand_ins: dict[AnyJob, AnyJob]) -> dict[AnyJob, list[AnyJob]]:
    """Return the bundles of more than one job, each under its first job, which becomes the stand-in of all.

    Jobs are alike if they are in the same scheduler, of the same kind, with the same settings that a picture shows,
    labels that differ in numbers alone, and require the same, or what is alike. O(V + E).

    Args:
        jobs: those to look at, in topological order.
        stand_ins: of every job; changed in place.

    """
    bundles: dict[Any, list[AnyJob]] = {}
    for job in jobs:
        required = frozenset(stand_ins.get(one, one) for one in job.required)
        settings = job.is_critical(), job.forever, job.run_if
        bundle = bundles.setdefault((job.scheduler, type(job), DIGITS.sub("0", job.label), settings, required), [])
        bundle.append(job)
        stand_ins[job] = bundle[0]
    return {bundle[0]: bundle for bundle in bundles.values() if len(bundle) > 1}


def label(jobs: list[AnyJob]) -> str:
    """Return the label that jobs have in common, with a star for each number in which they differ."""
    first, *others = (DIGITS.split(job.label) for job in jobs)
    same = [len({part, *(other[place] for other in others)}) == 1 for place, part in enumerate(first)]
    return "".join(part if is_same else "*" for part, is_same in zip(first, same, strict=True))


def state(jobs: list[AnyJob]) -> JobState:
    """Return the state that tells most about all of these jobs."""
    states = {job.state for job in jobs}
    return next(state for state in TELLING if state in states)


def counts(jobs: list[AnyJob]) -> str:
    """Return how many jobs are in which state; nothing if all of them are in one."""
    count = collections.Counter(job.state for job in jobs)
    if len(count) == 1:
        return ""
    return ", ".join(f"{count[state]} {state.value}" for state in TELLING if count[state])
