"""Expected durations and ranks of jobs, for the policy of a run.

The rank of a job is the length of the longest path from its start to the end of an exit job. List scheduling by rank is
due to Hu 1961 ("Parallel Sequencing and Assembly Line Problems"), for equal durations. Adam, Chandy and Dickson 1974
("A Comparison of List Schedules for Parallel Processing Systems") called it HLFET, highest level first with estimated
times, and found it within 5 % of the optimum in most graphs. In HEFT (Topcuoglu, Hariri and Wu 2002), the rank is the
upward rank. Computing all ranks takes O(V + E).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from ...base import _graph_algorithms
from ...job._job import AbstractJob
from ._policy import Outlook

if TYPE_CHECKING:
    Requirements = Callable[[AbstractJob[Any]], Iterable[AbstractJob[Any]]]

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
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


class Ranks:
    """The ranks of the jobs of one scheduler.

    Args:
        known: the known expected durations, in seconds. All other jobs are assumed to take the `median_duration`.

    """

    def __init__(self, known: dict[AbstractJob[Any], float]) -> None:
        self._known: Final = known
        self._assumed_duration: Final = median_duration(known.values())
        self.by_job: Final[dict[AbstractJob[Any], float]] = {}

    def compute(self, jobs: list[AbstractJob[Any]], requirements: Requirements) -> Iterator[None]:
        """Compute the ranks of jobs, which are in topological order; yield whenever a pause is due. O(V + E)."""
        return _graph_algorithms.fill_longest_path_lengths(
            jobs, requirements, self._known, self._assumed_duration, self.by_job
        )

    def longest_path_length(self) -> float:
        return max(self.by_job.values())

    def compute_for_added(self, jobs: list[AbstractJob[Any]], requirements: Requirements) -> None:
        """Compute the ranks of jobs that were added together, without changing the ranks of other jobs. O(V + E)."""
        new = set(jobs)
        order = _graph_algorithms.topological_order(
            jobs, lambda job: [other for other in requirements(job) if other in new]
        )
        for _ in self.compute(order, requirements):
            pass


class RunOutlook(Outlook):
    """The expected durations and ranks of the jobs of one run, for its policy.

    Args:
        known: the known expected durations, in seconds.
        ranks: the ranks of the jobs; None if the policy does not need them.

    """

    __slots__ = ("known", "ranks", "starts")

    def __init__(self, known: dict[AbstractJob[Any], float], ranks: Ranks | None) -> None:
        self.known: Final = known
        self.ranks: Final = ranks
        self.starts = 0

    def expected_duration(self, job: AbstractJob[Any]) -> float | None:
        return self.known.get(job)

    def rank(self, job: AbstractJob[Any]) -> float:
        """Return the rank of a job, in seconds.

        Raises:
            RuntimeError: the policy does not set `needs_ranks`.
            ValueError: `job` is not in this scheduler.

        """
        if self.ranks is None:
            raise RuntimeError("rank() is known only to a policy with needs_ranks = True")
        try:
            return self.ranks.by_job[job]
        except KeyError:
            raise ValueError(f"rank() of {job!r}: it is not a job of this scheduler") from None
