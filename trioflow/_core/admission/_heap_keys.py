"""The order of the ready jobs of one run, if it differs from a plain queue: heap keys and entries.

A higher `priority` starts first, then the policy decides. Ties start in the order in which the jobs became ready; those
that became ready together, in the order in which they were added.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ..job._job import AbstractJob
from .policy._upward_ranks import RunOutlook

if TYPE_CHECKING:
    from .policy._builtin_policies import RunPolicy
    from .policy._upward_ranks import Ranks, Requirements

    HeapEntry = tuple[Any, int, AbstractJob[Any]]

ready_numbers: Final = itertools.count()
"""Sequence numbers of jobs that become ready, in all runs."""
first_numbers: Final = itertools.count(-1, -1)
"""Sequence numbers of jobs that start before all others."""
throttled_numbers: Final = itertools.count(-(1 << 60))
"""Sequence numbers of throttled jobs, which start before even these, in the order of their throttles."""


class HeapKeys:
    """The order of the ready jobs of one run. `HeapQueue` works on its fields.

    Args:
        policy: the order of jobs with the same priority.
        known: the known expected durations, in seconds.
        ranks: the ranks of the jobs, if the policy needs them.
        priorities: whether jobs may have priorities, which make comparisons slower.

    """

    def __init__(
        self,
        policy: RunPolicy,
        *,
        known: dict[AbstractJob[Any], float],
        ranks: Ranks | None = None,
        priorities: bool = False,
    ) -> None:
        self.policy: Final = policy
        self.outlook: Final = RunOutlook(known, ranks)
        # (key, number, job): the smallest starts first. An entry is valid only while its job is SCHEDULED.
        self.heap: Final[list[HeapEntry]] = []
        self.priorities: Final = priorities
        key = policy.key_function(self.outlook)
        self.key: Callable[[AbstractJob[Any]], Any] = key
        if priorities:
            self.key = lambda job: (0 if job._scheduling is None else -job._scheduling.priority, key(job))

    def lowest_key(self) -> Any:
        """Return a key that comes before all others."""
        first = self.policy.lowest_key
        return (-math.inf, first) if self.priorities else first

    def add_jobs(
        self, jobs: list[AbstractJob[Any]], known: dict[AbstractJob[Any], float], requirements: Requirements
    ) -> None:
        """Add jobs that were added together to the running scheduler, and their expected durations."""
        self.outlook.known.update(known)
        if self.outlook.ranks is not None:
            self.outlook.ranks.compute_for_added(jobs, requirements)
