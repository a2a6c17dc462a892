"""The use of resources in a trace: the amounts that each job held, and the cooldowns of throttled keys.

The names in a job's needs are looked up as in a run: in the pool of its scheduler, then in the scheduler's own needs,
which it reserves for its members, then in enclosing schedulers.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TypeVar

from ._facts import ResourceFacts, RunFacts

Amount = TypeVar("Amount", int, float)
StepFunction = tuple[list[float], list[float]]
"""A step function of time: the times of its steps in ascending order, and the value from each of these times on."""


def sum_overlaps(intervals: Iterable[tuple[float, float, Amount]]) -> tuple[list[float], list[Amount]]:
    """Add up the amounts of overlapping intervals (start, end, amount), and return the sum as a step function of time.

    This takes O(n log n) time for n intervals.
    """
    changes: dict[float, Amount] = {}
    for start, end, amount in intervals:
        changes[start] = changes.get(start, 0) + amount
        changes[end] = changes.get(end, 0) - amount
    times = sorted(changes)
    return times, list(accumulate(changes[time] for time in times))


def count_overlaps(intervals: Iterable[tuple[float, float]]) -> tuple[list[float], list[int]]:
    """Count the overlapping intervals (start, end), and return their number as a step function of time."""
    return sum_overlaps((since, until, 1) for since, until in intervals)


Cooldowns = list[tuple[float, float, int]]
"""The cooldowns of a throttled key: the start and end of each, and the number of the span that caused it."""


@dataclass(slots=True, eq=False)
class ResourceUse:
    """The use of one resource of a pool or a run, or of the share that a nested scheduler reserved for its members."""

    name: str
    total_amount: float | None
    """The total amount. It is None for a rate, because jobs take from a rate without holding an amount of it."""
    cooldowns: Cooldowns
    uses_by_key: dict[str, ResourceUse] | None = None
    """The use of each key; None if the resource is not a `PerKey`."""
    key_totals: dict[str, float | None] = field(default_factory=dict[str, "float | None"])
    """The total amount of each key; None for rates."""
    has_gate: bool = False
    """Whether jobs may have had to wait although enough was free."""
    uses: list[tuple[float, float, float, int]] = field(default_factory=list[tuple[float, float, float, int]])
    """The start, end, amount and span number of each use. A use of a rate lasts as long as the job's attempt."""

    def amount_over_time(self) -> StepFunction:
        """Return the amount held over time.

        For a rate, the amount is the number of running jobs that took from it.
        """
        return sum_overlaps((since, until, amount) for since, until, amount, _ in self.uses)

    def find_releasing_span_number(self, since: float, until: float, waiting_number: int) -> int | None:
        """Return the number of the span that ended a wait, or None if there is none.

        This is the last span that released some of the resource, or, for a rate, the last one that took from it.

        Args:
            since: the start of the wait.
            until: the end of the wait.
            waiting_number: the number of the span that waited.

        """
        if self.total_amount is None:
            use = self._find_last_use(0, until - 1e-9, waiting_number)
            return None if use is None else use[3]
        use = self._find_last_use(1, until, waiting_number)
        return use[3] if use is not None and use[1] > since else None

    def index_uses(self) -> None:
        """Sort the uses by start and by end, for `find_releasing_span_number`."""
        self._sorted_uses = tuple(sorted(self.uses, key=lambda use: (use[time_index], use[3])) for time_index in (0, 1))

    def _find_last_use(
        self, time_index: int, until: float, waiting_number: int
    ) -> tuple[float, float, float, int] | None:
        """Return the last use by another span that started (`time_index` 0) or ended (`time_index` 1) by `until`."""
        uses = self._sorted_uses[time_index]
        index = bisect.bisect_right(uses, until, key=lambda use: use[time_index]) - 1
        while index >= 0 and uses[index][3] == waiting_number:
            index -= 1
        return uses[index] if index >= 0 else None

    _sorted_uses: tuple[list[tuple[float, float, float, int]], ...] = ()


ResolvedNeeds = tuple[tuple[ResourceUse, float], ...]
"""The resources that a job needed, each with the amount. The amount of a rate is always 1."""


def find_needs(runs: Iterable[RunFacts], numbers: Mapping[int, int]) -> dict[int, ResolvedNeeds]:
    """Return the needs of each span that has any. Also add the cooldowns of throttled keys to their resources.

    If several runs share a pool, the resources of the pool appear only once.

    Args:
        runs: the runs, each after its enclosing run.
        numbers: the number of the span of each job, by key.

    """
    resources: dict[tuple[int, str], ResourceUse] = {}
    scopes: dict[int | None, dict[str, ResourceUse]] = {None: {}}  # the resources that each job can name, by its key
    all_needs: dict[int, ResolvedNeeds] = {}
    for run in runs:
        scope = dict(scopes[run.span.parent])
        for resource, amount in () if run.span.parent is None else all_needs.get(numbers[run.span.parent], ()):
            if resource.total_amount is not None:  # the scheduler reserves it for its members
                scope[resource.name] = ResourceUse(resource.name, amount, resource.cooldowns)
        scope.update((facts.name, _get_or_create(resources, facts)) for facts in run.resources)
        for job in run.jobs:
            scopes[job.span.number], number = scope, numbers[job.span.number]
            needs = _resolve_needs(scope, job.needs) if scope else ()
            needs += tuple((_get_or_create(resources, facts), amount) for facts, amount in job.run_needs)
            if needs:
                all_needs[number] = needs
                needed = {resource.name: resource for resource, _ in needs}
                for name, since, until in job.cooldowns:
                    needed[name].cooldowns.append((since, until, number))
    return all_needs


def _get_or_create(resources: dict[tuple[int, str], ResourceUse], facts: ResourceFacts) -> ResourceUse:
    key = facts.owner, facts.name
    if key not in resources:
        uses_by_key: dict[str, ResourceUse] | None = {} if facts.is_per_key else None
        resources[key] = ResourceUse(facts.name, facts.total, [], uses_by_key, facts.key_totals, facts.has_gate)
    return resources[key]


def _resolve_needs(scope: Mapping[str, ResourceUse], needs: Mapping[str, float | str]) -> ResolvedNeeds:
    """Resolve the names of needs. Names are left out if they are not in `scope`, because the pool has changed."""
    resolved: list[tuple[ResourceUse, float]] = []
    for name, amount in needs.items():
        resource = scope.get(name)
        if resource is not None and resource.uses_by_key is not None:
            key_use = ResourceUse(name, resource.key_totals[str(amount)], [])
            resolved.append((resource.uses_by_key.setdefault(str(amount), key_use), 1.0))
        elif resource is not None:
            is_number = resource.total_amount is not None and not isinstance(amount, str)
            resolved.append((resource, float(amount) if is_number else 1.0))
    return tuple(resolved)
