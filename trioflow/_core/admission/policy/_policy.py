"""Who goes first: `Policy`, the interface of policies; `Outlook`, what they may use; `StartKeys`, the keys of jobs.

The rank of a job is the length of the longest path from its start to the end of an exit job. List scheduling by rank is
due to Hu 1961 ("Parallel Sequencing and Assembly Line Problems"), for equal durations. Adam, Chandy and Dickson 1974
("A Comparison of List Schedules for Parallel Processing Systems") called it HLFET, highest level first with estimated
times, and found it within 5 % of the optimum in most graphs. In HEFT (Topcuoglu, Hariri and Wu 2002), the rank is the
upward rank. Computing all ranks takes O(V + E).
"""

from __future__ import annotations

import itertools
import math
import sys
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, Protocol

from ...base import _graph_algorithms
from ...job._job import AbstractJob


class Outlook(Protocol):
    """Facts that a policy can use about the jobs of one run, in addition to the attributes of the jobs."""

    starts: int
    """The number of job starts in this run so far. A job that was throttled counts again when it starts again."""

    def expected_duration(self, job: AbstractJob[Any]) -> float | None:
        """Return the expected duration of a job in seconds; None if unknown.

        `Scheduler(durations=...)` takes precedence over the job's own `expected_duration`. A nested scheduler without
        either is expected to take as long as the longest path through its jobs, if any of their durations is known.
        """
        ...

    def rank(self, job: AbstractJob[Any]) -> float:
        """Return the length, in seconds, of the longest path from the start of a job to the end of an exit job.

        A job of unknown duration counts as the median of the known durations, or as 1 second if none is known.

        Raises:
            RuntimeError: the policy does not set `needs_ranks`.
            ValueError: `job` is not in this scheduler.

        """
        ...


class Policy(Protocol):
    """An order in which the ready jobs of a scheduler start.

    Derive a class from this one, define `key`, and pass an instance to `Scheduler(policy=...)` instead of a name. An
    object of another class must define all three members. Several schedulers can share one object. A job's `priority`
    takes precedence over the policy. Among jobs with the same key, the one that became ready first starts first.

    A policy must not change the scenario or the run. If `key` raises an exception, or returns an invalid key, the run
    ends CRITICAL. The error names the policy and the job; it is logged, shown by `debrief()`, and passed to instruments
    as an incident. An interruption such as `KeyboardInterrupt` ends the run as usual.

    Example:
        >>> class ShortestFirst(Policy):
        ...     def key(self, job, outlook):
        ...         return outlook.expected_duration(job) or 0.0
        ...     def reason(self, job, outlook):
        ...         return "the shortest job first"
        >>> started = []
        >>> async def work(name):
        ...     started.append(name)
        >>> jobs = [Job(work, name, expected_duration=seconds) for name, seconds in (("b", 2), ("c", 3), ("a", 1))]
        >>> Scheduler(*jobs, jobs_window=1, policy=ShortestFirst()).run(), started
        (True, ['a', 'b', 'c'])

    """

    needs_ranks: bool = False
    """Whether `key` or `reason` uses `Outlook.rank`. Ranks cost a pass over all jobs and requirements."""

    @abstractmethod
    def key(self, job: AbstractJob[Any], outlook: Outlook) -> float | tuple[float, ...]:
        """Return the sort key of a ready job: a number, or a tuple of numbers. The smallest starts first.

        The run calls this in its own thread when the job becomes ready, and again if added jobs change the order.

        Args:
            job: the job. In a simulation, this is the original job of the scenario, which stays IDLE.
            outlook: the facts about the jobs in this run.

        """
        ...

    def reason(self, job: AbstractJob[Any], outlook: Outlook) -> str:
        """Describe in a few words why other jobs start before a ready one, for `Scheduler.explain`.

        The default implementation names the class of the policy.
        """
        return f"by {type(self).__name__}"


if TYPE_CHECKING:
    HeapEntry = tuple[Any, int, AbstractJob[Any]]
    Requirements = Callable[[AbstractJob[Any]], Iterable[AbstractJob[Any]]]

ready_numbers: Final = itertools.count()
"""Ascending sequence numbers for jobs that become ready, shared by all runs."""
throttled_numbers: Final = itertools.count(-sys.maxsize)
"""Ascending sequence numbers for jobs that were throttled, which start before all others."""
LOWEST_KEY: Final = (-math.inf,)
"""The key of these jobs, which sorts before the keys of all others."""
DEFAULT_DURATION: Final = 1.0
"""The assumed duration of every job, in seconds, if no duration is known."""


def median_duration(known: Iterable[float]) -> float:
    """Return the median of the known durations, in seconds, or `DEFAULT_DURATION` if there are none.

    Jobs of unknown duration are assumed to take this long. This does not use `statistics.median`, because importing
    `statistics` would import many other modules.
    """
    ordered = sorted(known)
    if not ordered:
        return DEFAULT_DURATION
    return ordered[(len(ordered) - 1) // 2] / 2 + ordered[len(ordered) // 2] / 2


class StartKeys(Outlook):
    """The keys of the ready jobs of one run, and the facts that its policy may use for them.

    A key is a pair of a negated priority and the policy's key: jobs with a higher `priority` start first, and the
    policy orders jobs of equal priority. Jobs with equal keys start in the order in which they became ready; if they
    became ready together, in the order in which they were added.

    Args:
        policy: the policy.
        known: the known expected durations, in seconds. All other jobs are assumed to take the `median_duration`.
        starts: the number of job starts so far.

    """

    __slots__ = ("_assumed_duration", "_known", "policy", "ranks", "starts")

    def __init__(self, policy: Policy, known: dict[AbstractJob[Any], float], starts: int = 0) -> None:
        self.policy: Final = policy
        self.starts = starts
        self._known: Final = known
        self._assumed_duration: Final = median_duration(known.values())
        self.ranks: Final[dict[AbstractJob[Any], float]] = {}  # by job; empty if the policy does not need them

    def key(self, job: AbstractJob[Any]) -> Any:
        return (-job._options.priority, self.policy.key(job, self))

    def compute_ranks(self, jobs: list[AbstractJob[Any]], requirements: Requirements) -> Iterator[None]:
        """Compute the ranks of jobs, which are in topological order; yield whenever a pause is due. O(V + E)."""
        return _graph_algorithms.fill_longest_path_lengths(
            jobs, requirements, self._known, self._assumed_duration, self.ranks
        )

    def expected_duration(self, job: AbstractJob[Any]) -> float | None:
        return self._known.get(job)

    def rank(self, job: AbstractJob[Any]) -> float:
        """Return the rank of a job, in seconds.

        Raises:
            RuntimeError: the policy does not set `needs_ranks`.
            ValueError: `job` is not in this scheduler.

        """
        if not self.policy.needs_ranks:
            raise RuntimeError("rank() is known only to a policy with needs_ranks = True")
        try:
            return self.ranks[job]
        except KeyError:
            raise ValueError(f"rank() of {job!r}: it is not a job of this scheduler") from None

    def add_jobs(
        self, jobs: list[AbstractJob[Any]], known: dict[AbstractJob[Any], float], requirements: Requirements
    ) -> None:
        """Add jobs that were added to the running scheduler together; the ranks of others stay. O(V + E)."""
        self._known.update(known)
        if self.policy.needs_ranks:
            new = set(jobs)
            order = _graph_algorithms.topological_order(jobs, lambda job: filter(new.__contains__, requirements(job)))
            for _ in self.compute_ranks(order, requirements):
                pass

    def forget(self, job: AbstractJob[Any]) -> None:
        self._known.pop(job, None)
        self.ranks.pop(job, None)
