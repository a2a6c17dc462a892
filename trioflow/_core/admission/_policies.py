"""The order of ready jobs: the policies, and `StartKeys`, the keys of jobs in a run.

The rank of a job is the length of the longest path from its start to the end of an exit job. List scheduling by rank is
due to Hu 1961 ("Parallel Sequencing and Assembly Line Problems"), for equal durations. Adam, Chandy and Dickson 1974
("A Comparison of List Schedules for Parallel Processing Systems") called it HLFET, highest level first with estimated
times, and found it within 5 % of the optimum in most graphs. In HEFT (Topcuoglu, Hariri and Wu 2002), the rank is the
upward rank. Computing all ranks takes O(V + E).

Decided in docs/decisions: 20-policies.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Literal, NamedTuple

from ..base._graph_algorithms import fill_longest_path_lengths, topological_order
from ..job import _job_options
from ..job._job import AnyJob

HeapEntry = tuple[Any, int, AnyJob]
Requirements = Callable[[AnyJob], Iterable[AnyJob]]


PolicyName = Literal["auto", "fifo", "critical-path", "depth-first"]
check_policy: Final = _job_options.choice_of(PolicyName)


class Policy(NamedTuple):
    """A start order for the ready jobs of a scheduler. Each name in `PolicyName` stands for policies of this kind.

    A job's `priority` takes precedence over the policy. Among jobs with the same key, the job that became ready first
    starts first.
    """

    key: Callable[[AnyJob, StartKeys], float]
    """Returns the sort key of a ready job. The smallest starts first. The run calls this when the job becomes ready,
    and again if added jobs change the order, or a pause or a smaller window puts the job back."""
    reason: str
    """Why other jobs start before a ready job, in a few words, for `Scheduler.explain`."""
    needs_ranks: bool = False
    """Whether `key` uses the ranks of jobs, which cost a pass over all jobs and requirements."""


def _by_rank(job: AnyJob, keys: StartKeys) -> float:
    return -keys.ranks[job]


def _by_latest(job: AnyJob, keys: StartKeys) -> float:
    return -keys.starts


def _by_nothing(job: AnyJob, keys: StartKeys) -> float:
    return 0.0


FIFO_POLICY: Final = Policy(_by_nothing, "")
CRITICAL_PATH_POLICY: Final = Policy(
    _by_rank, "critical path: the longest path from {label!r} takes {rank:.4g} s", True
)
DEPTH_FIRST_POLICY: Final = Policy(_by_latest, "depth first: what became ready last")
"""The job that became ready last starts first, so that chains end before others begin."""
BUILTIN_POLICIES: Final[dict[PolicyName, tuple[Policy, Policy]]] = {
    "auto": (FIFO_POLICY, CRITICAL_PATH_POLICY),
    "fifo": (FIFO_POLICY, FIFO_POLICY),
    "critical-path": (CRITICAL_PATH_POLICY, CRITICAL_PATH_POLICY),
    "depth-first": (DEPTH_FIRST_POLICY, DEPTH_FIRST_POLICY),
}
"""By name, the policy of a run without expected durations, and the policy of a run whose jobs have some."""

ready_numbers: Final = itertools.count()
"""Ascending sequence numbers for jobs that become ready, shared by all runs."""
throttled_numbers: Final = itertools.count(-sys.maxsize)
"""Ascending sequence numbers for jobs that were throttled, which start before all others."""
returned_numbers: Final = itertools.count(-1, -1)
"""Descending sequence numbers for jobs that were admitted, but put back before they began: they start before equals."""
LOWEST_KEY: Final = (-math.inf,)
"""The key of these jobs, which sorts before the keys of all others."""
DEFAULT_DURATION: Final = 1.0
"""The assumed duration of every job, in seconds, if no duration is known."""


def median_duration(known: Iterable[float]) -> float:
    """Return the median of the known durations, in seconds, or `DEFAULT_DURATION` if there are none.

    Jobs of unknown duration are assumed to take this long. This does not use `statistics.median`, because importing
    `statistics` would import many other modules.
    """
    ordered = sorted(known) or [DEFAULT_DURATION]
    return ordered[(len(ordered) - 1) // 2] / 2 + ordered[len(ordered) // 2] / 2


class StartKeys:
    """The keys of the ready jobs of a run, and the facts that its policy uses for them.

    A key is a pair of a negated priority and the policy's key: jobs with a higher `priority` start first, and the
    policy orders jobs of equal priority. Jobs with equal keys start in the order that they became ready. Jobs that
    became ready together start in the order that they were added.

    Args:
        policy: the policy.
        known: the known expected durations, in seconds. All other jobs are assumed to take the `median_duration`.

    """

    def __init__(self, policy: Policy, known: dict[AnyJob, float]) -> None:
        self.policy: Final = policy
        # The number of job starts so far: a policy that asks for it is never replaced.
        self.starts = 0
        self._known: Final = known
        self._assumed_duration: Final = median_duration(known.values())
        # The rank of each job, or empty if the policy does not need ranks.
        self.ranks: Final[dict[AnyJob, float]] = {}

    def key(self, job: AnyJob) -> Any:
        return (-job._options.priority, self.policy.key(job, self))

    def compute_ranks(
        self, jobs: list[AnyJob], requirements: Requirements
    ) -> Iterator[None]:
        """Compute the ranks of jobs, which are in topological order. Yield whenever a pause is due. O(V + E)."""
        return fill_longest_path_lengths(
            jobs, requirements, self._known, self._assumed_duration, self.ranks
        )

    def add_jobs(
        self,
        jobs: list[AnyJob],
        known: dict[AnyJob, float],
        requirements: Requirements,
    ) -> None:
        """Add jobs that were added to the running scheduler together. The ranks of other jobs stay. O(V + E)."""
        self._known.update(known)
        if self.policy.needs_ranks:
            new = set(jobs)
            order = topological_order(
                jobs, lambda job: filter(new.__contains__, requirements(job))
            )
            for _ in self.compute_ranks(order, requirements):
                pass

    def forget(self, job: AnyJob) -> None:
        self._known.pop(job, None)
        self.ranks.pop(job, None)
