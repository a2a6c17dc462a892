"""How long a run still takes, from what its jobs are expected to take and from what they have taken.

The theory: of one scheduler there remain at least its longest chain of jobs, and at least all the work that is left,
shared out among the slots of its window; the larger of the two is the estimate (Graham 1966: a scheduler that leaves
no slot idle needs at most their sum). A nested scheduler counts as a job that takes its own estimate. Evaluated from
the innermost scheduler out, each O(jobs that have not settled).

A job that does not say how long it takes is expected to take the median of those that do; where none does, one unit
of time each. How much longer jobs have really taken than expected, those that have succeeded tell: by that factor
the rest is corrected, and without it, units are no time, and there is no estimate.

Pure: a graph is made of `Level`s of any nodes, and the state of a run is a function of them.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

Node = TypeVar("Node", bound=Hashable)

ENOUGH: Final = 3
"""So many jobs have to succeed before they tell how long those take that do not say so themselves."""

TRUST: Final = 0.1
"""What expected durations weigh against measured ones: as much as this part of all the work."""

Progress = tuple[str, float]
"""One of WAITING, RUNNING and SUCCEEDED, with the seconds that the job has run; or of SETTLED in another way."""

WAITING: Final = "waiting"
RUNNING: Final = "running"
SUCCEEDED: Final = "succeeded"
SETTLED: Final = "settled"


@dataclass(slots=True)
class Level(Generic[Node]):
    """The jobs of one scheduler.

    Args:
        node: the scheduler.
        jobs: its jobs, each behind what it requires.
        waits_for: what a job requires, among them.
        slots: how many may run at once; infinity for no limit.
        nested: those of the jobs that are schedulers.

    """

    node: Node
    jobs: list[Node]
    waits_for: Callable[[Node], Iterable[Node]]
    slots: float = math.inf
    nested: frozenset[Node] = frozenset()
    expected: dict[Node, float] = field(default_factory=dict[Node, float])
    behind: dict[Node, float] = field(default_factory=dict[Node, float])  # the longest chain that waits for a job


class Estimator(Generic[Node]):
    """Estimates for one graph; `remaining` is asked again and again as the run goes on.

    Args:
        levels: the scheduler, then those nested in it, each behind the one that it is in.
        expected: seconds that a job is expected to take, None if nobody knows.

    """

    def __init__(self, levels: Iterable[Level[Node]], expected: Callable[[Node], float | None]) -> None:
        self._levels: Final = list(levels)
        jobs = [job for level in self._levels for job in level.jobs if job not in level.nested]
        given = {job: seconds for job in jobs if (seconds := expected(job)) is not None}
        usual = statistics.median(given.values()) if given else 1.0
        self._total: Final = sum(given.values()) + usual * (len(jobs) - len(given))
        self._is_known: Final = bool(given)
        self._measured = self._foreseen = 0.0  # of the jobs that have succeeded
        self._succeeded = 0
        whole: dict[Node, float] = {}
        for level in reversed(self._levels):
            level.expected = {job: whole[job] if job in level.nested else given.get(job, usual) for job in level.jobs}
            level.behind = _behind(level)
            path = max((level.expected[job] + level.behind[job] for job in level.jobs), default=0.0)
            whole[level.node] = max(path, sum(level.expected.values()) / level.slots)

    def remaining(self, progress: Callable[[Node], Progress]) -> float | None:
        """Return the seconds that the run still takes, None if nothing is known yet."""
        states = [list(self._unsettled(level, progress)) for level in self._levels]
        factor = self._factor()
        if factor is None:
            return None
        left: dict[Node, float] = {}
        for level, state in zip(reversed(self._levels), reversed(states), strict=True):
            left[level.node] = _left(level, state, left, factor)
        return left[self._levels[0].node] if self._levels else 0.0

    def _unsettled(self, level: Level[Node], progress: Callable[[Node], Progress]) -> Iterator[tuple[Node, float]]:
        """Yield the jobs that have not settled, with the seconds that they have run, and forget the others."""
        jobs, level.jobs = level.jobs, []
        for job in jobs:
            state, seconds = progress(job)
            if state is WAITING or state is RUNNING:
                level.jobs.append(job)
                yield job, seconds
            elif state is SUCCEEDED and job not in level.nested:
                self._succeeded += 1
                self._measured += seconds
                self._foreseen += level.expected[job]

    def _factor(self) -> float | None:
        """Return how much longer jobs take than expected."""
        prior = TRUST * self._total if self._is_known else 0.0
        if not self._is_known and self._succeeded < ENOUGH:
            return None
        return (prior + self._measured) / (prior + self._foreseen) if prior + self._foreseen else 1.0


def _behind(level: Level[Node]) -> dict[Node, float]:
    behind = dict.fromkeys(level.jobs, 0.0)
    for job in reversed(level.jobs):  # those that require a job come before it
        chain = level.expected[job] + behind[job]
        for one in level.waits_for(job):
            if chain > behind.get(one, math.inf):
                behind[one] = chain
    return behind


def _left(level: Level[Node], state: list[tuple[Node, float]], left: dict[Node, float], factor: float) -> float:
    path = work = 0.0
    for job, seconds in state:
        rest = left[job] if job in level.nested else max(0.0, factor * level.expected[job] - seconds)
        work += rest
        path = max(path, rest + factor * level.behind[job])
    return max(path, work / level.slots)
