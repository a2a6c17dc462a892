"""The order of the ready jobs of one run, where it is not that of a plain queue: what each entry of a heap is.

A higher `priority` goes first, and then the policy decides. Ties start in the order in which the jobs became ready;
those that became ready together, in the order in which they were added.
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

numbers: Final = itertools.count()
"""Each job that becomes ready gets the next number, whatever run it is in."""
numbers_of_first: Final = itertools.count(-1, -1)
"""Those that go before all others get these."""
numbers_of_throttled: Final = itertools.count(-(1 << 60))
"""Those that go before even these, in the order in which they were throttled, get these."""


class HeapKeys:
    """The order of the ready jobs of one run. `HeapQueue` works on its fields.

    Args:
        policy: what decides between jobs of the same priority.
        known: the expected durations that are known, in seconds.
        ranks: the ranks of the jobs, if the policy needs them.
        priorities: whether jobs may have priorities; to compare one more number takes time.

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
        # (key, number, job): the smallest starts first. An entry counts only while its job is SCHEDULED.
        self.heap: Final[list[HeapEntry]] = []
        self.priorities: Final = priorities
        key = policy.keys(self.outlook)
        self.key: Callable[[AbstractJob[Any]], Any] = (lambda job: (-job.priority, key(job))) if priorities else key

    def before_all(self) -> Any:
        """Return a key that comes before all others."""
        first = self.policy.before_all
        return (-math.inf, first) if self.priorities else first

    def note_new(
        self, jobs: list[AbstractJob[Any]], known: dict[AbstractJob[Any], float], requirements: Requirements
    ) -> None:
        """Take in jobs that were added together to the running scheduler, and their expected durations."""
        self.outlook.known.update(known)
        if self.outlook.ranks is not None:
            self.outlook.ranks.find_new(jobs, requirements)
