"""Expected durations and ranks, for the policy of a run; a rank is the longest path from a job to an exit.

List scheduling by rank is due to Hu 1961 ("Parallel Sequencing and Assembly Line Problems"), for equal durations. Adam,
Chandy and Dickson 1974 ("A Comparison of List Schedules for Parallel Processing Systems") found it within 5 % of the
optimum in most graphs, and named it HLFET, highest level first with estimated times; HEFT (Topcuoglu, Hariri and Wu
2002) calls it upward rank. O(V + E).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from ...base import _graph_algorithms
from ...job._job import AbstractJob
from ._policy import Outlook

if TYPE_CHECKING:
    Requirements = Callable[[AbstractJob[Any]], Iterable[AbstractJob[Any]]]

USUAL_DURATION: Final = 1.0
"""The duration of a job, in seconds, if none is known."""


def median_duration(known: Iterable[float]) -> float:
    """Return the duration for jobs with an unknown one: the median of the known ones, in seconds.

    The module `statistics` would import half of the standard library.
    """
    ordered = sorted(known)
    if not ordered:
        return USUAL_DURATION
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


class Ranks:
    """The ranks of the jobs of one scheduler, each computed when the job is added.

    Args:
        known: the known expected durations, in seconds. Others count as the median of these, or as 1.

    """

    def __init__(self, known: dict[AbstractJob[Any], float]) -> None:
        self._known: Final = known
        self._unknown: Final = median_duration(known.values())
        self.of: Final[dict[AbstractJob[Any], float]] = {}

    def find(self, jobs: list[AbstractJob[Any]], requirements: Requirements) -> Iterator[None]:
        """Compute the ranks of all jobs, in topological order; yield where a pause is due. O(V + E)."""
        return _graph_algorithms.fill_longest_paths(jobs, requirements, self._known, self._unknown, self.of)

    def longest(self) -> float:
        """Return the length of the longest path in seconds."""
        return max(self.of.values())

    def compute_for_added(self, jobs: list[AbstractJob[Any]], requirements: Requirements) -> None:
        """Compute the ranks of jobs that were added together; all others stay as they are. O(V + E)."""
        new = set(jobs)
        order = _graph_algorithms.topological_order(
            jobs, lambda job: [other for other in requirements(job) if other in new]
        )
        for _ in self.find(order, requirements):
            pass


class RunOutlook(Outlook):
    """The outlook of a run on the jobs of its scheduler.

    Args:
        known: the known expected durations, in seconds.
        ranks: the ranks of the jobs, if the policy needs them.

    """

    __slots__ = ("known", "ranks", "starts")

    def __init__(self, known: dict[AbstractJob[Any], float], ranks: Ranks | None) -> None:
        self.known: Final = known
        self.ranks: Final = ranks
        self.starts = 0

    def expected_duration(self, job: AbstractJob[Any]) -> float | None:
        """Return the known duration, or None."""
        return self.known.get(job)

    def rank(self, job: AbstractJob[Any]) -> float:
        """Return the rank."""
        if self.ranks is None:
            raise RuntimeError("rank() is known only to a policy with needs_ranks = True")
        try:
            return self.ranks.of[job]
        except KeyError:
            raise ValueError(f"rank() of {job!r}: it is not a job of this scheduler") from None
