"""The keys that order the ready jobs of a run, for orders other than first in, first out.

Jobs with a higher `priority` start first. The policy orders jobs of equal priority. Jobs with equal keys start in the
order in which they became ready; if they became ready together, in the order in which they were added.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ..job._job import AbstractJob
from .policy._policy import RunOutlook

if TYPE_CHECKING:
    from .policy._builtin_policies import RunPolicy
    from .policy._policy import Ranks, Requirements

    HeapEntry = tuple[Any, int, AbstractJob[Any]]

ready_numbers: Final = itertools.count()
"""Ascending sequence numbers for jobs that become ready, shared by all runs."""
throttled_numbers: Final = itertools.count(-(1 << 60))
"""Ascending sequence numbers for jobs that are attempted again, which start before all others."""
LOWEST_KEY: Final = (-math.inf,)
"""The key of these jobs, which sorts before the keys of all others."""


class HeapKeys:
    """The function that computes the keys of the ready jobs of one run: pairs of a negated priority and a policy's key.

    Args:
        policy: the policy, which orders jobs of equal priority.
        known: the known expected durations, in seconds.
        ranks: the ranks of the jobs; None if the policy does not need them.

    """

    def __init__(self, policy: RunPolicy, *, known: dict[AbstractJob[Any], float], ranks: Ranks | None = None) -> None:
        self.policy: Final = policy
        self.outlook: Final = RunOutlook(known, ranks)
        key = policy.key_function(self.outlook)
        self.key: Final[Callable[[AbstractJob[Any]], Any]] = lambda job: (-job._options.priority, key(job))

    def add_jobs(
        self, jobs: list[AbstractJob[Any]], known: dict[AbstractJob[Any], float], requirements: Requirements
    ) -> None:
        """Add the expected durations, and if needed the ranks, of jobs that were added to the running scheduler."""
        self.outlook.known.update(known)
        if self.outlook.ranks is not None:
            self.outlook.ranks.compute_for_added(jobs, requirements)

    def forget(self, job: AbstractJob[Any]) -> None:
        self.outlook.known.pop(job, None)
        if self.outlook.ranks is not None:
            self.outlook.ranks.by_job.pop(job, None)
