"""The use of pools in a trace: the amounts that each job held, and the cooldowns of throttled keys.

A name is looked up as in a run: in the scheduler's pool, in its reservations for its members, then in enclosing
schedulers.
"""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

from ..._core.api.views import AnyJob, BaseScheduler, Pool, resources_of, run_needs, run_resource

Steps = tuple[list[float], list[float]]
"""Times in ascending order, and the value from each of them on."""


def steps(changes: Iterable[tuple[float, float]]) -> Steps:
    """Return the sums of changes, each with its time. O(n log n)."""
    summed: dict[float, float] = {}
    for at, change in changes:
        summed[at] = summed.get(at, 0.0) + change
    times = sorted(summed)
    return times, list(accumulate(summed[at] for at in times))


def running(intervals: Iterable[tuple[float, float]]) -> tuple[list[float], list[int]]:
    """Return the times at which the number of intervals that overlap changed, and the number from each on."""
    changes: Counter[float] = Counter()
    for since, until in intervals:
        changes[since] += 1
        changes[until] -= 1
    times = sorted(changes)
    return times, list(accumulate(changes[at] for at in times))


Cooldowns = list[tuple[float, float, int]]
"""The cooldowns of a throttled key: the start and end of each, and the span that caused it."""


@dataclass(slots=True, eq=False)
class ResourceUse:
    """One resource of one pool, or a nested scheduler's reservation of it for its members."""

    name: str
    total: float | None
    """The total amount; None for a rate, which is never held."""
    shown: Callable[[float], str]
    """Returns an amount in words."""
    cooldowns: Cooldowns
    is_part: bool = False
    uses: list[tuple[float, float, float, int]] = field(default_factory=list[tuple[float, float, float, int]])
    """Start, end, amount and span of each use; for a rate, the times of the attempt."""

    def used(self, now: float = math.inf) -> Steps:
        """Return the amount held over time until `now`; for a rate, the number of running jobs that took from it."""
        changes = [(since, amount) for since, _, amount, _ in self.uses]
        return steps(changes + [(min(until, now), -amount) for _, until, amount, _ in self.uses])

    def released_by(self, since: float, until: float, number: int) -> int | None:
        """Return the span that ended the wait of the one with this number, from `since` to `until`.

        It is the last span that released some of the resource; for a rate, the last that took from it.
        """
        if self.total is None:
            found = self._last(0, until - 1e-9, number)
            return None if found is None else found[3]
        found = self._last(1, until, number)
        return found[3] if found is not None and found[1] > since else None

    def sort(self) -> None:
        """Prepare the two orders in which uses are looked for."""
        self._orders = tuple(sorted(self.uses, key=lambda use: (use[place], use[3])) for place in (0, 1))

    def _last(self, place: int, until: float, number: int) -> tuple[float, float, float, int] | None:
        uses = self._orders[place]
        index = bisect.bisect_right(uses, until, key=lambda use: use[place]) - 1
        while index >= 0 and uses[index][3] == number:
            index -= 1
        return uses[index] if index >= 0 else None

    _orders: tuple[list[tuple[float, float, float, int]], ...] = ()


Needs = tuple[tuple[ResourceUse, float], ...]
"""The resources that a job needed, with the amounts; 1 for a rate."""


class Scopes:
    """The resources that the members of each run find, made once for each pool."""

    def __init__(self) -> None:
        self.all: Final[list[ResourceUse]] = []
        self._of_pools: Final[dict[tuple[int, str], ResourceUse]] = {}

    def of_run(self, around: Mapping[str, ResourceUse], reserved: Needs, pool: Pool | None) -> dict[str, ResourceUse]:
        """Return the resources by name.

        Args:
            around: the scopes of the enclosing run.
            reserved: its scheduler's reservations of these for its members.
            pool: its own pool.

        """
        found = dict(around)
        for resource, amount in reserved:
            if resource.total is not None:
                found[resource.name] = self._new(
                    ResourceUse(resource.name, amount, resource.shown, resource.cooldowns, is_part=True)
                )
        for view in () if pool is None else resources_of(pool):
            found[view.name] = self._shared(pool, view.name, view.total, view.shown)
        return found

    def of_job(self, scheduler: BaseScheduler, job: AnyJob) -> Iterator[tuple[ResourceUse, float]]:
        """Yield the needs of a job for resources that each run has without a pool."""
        for name, amount in run_needs(job).items():
            sharer, total = run_resource(scheduler, name)
            yield self._shared(sharer, name, total, str), float(str(amount))

    def _shared(self, owner: object, name: str, total: float | None, shown: Callable[[float], str]) -> ResourceUse:
        key = id(owner), name
        if key not in self._of_pools:
            self._of_pools[key] = self._new(ResourceUse(name, total, shown, []))
        return self._of_pools[key]

    def _new(self, resource: ResourceUse) -> ResourceUse:
        self.all.append(resource)
        return resource


def needs_in(scope: Mapping[str, ResourceUse], needs: Mapping[str, object]) -> Needs:
    """Resolve `job.needs` in a scope; names that are missing, because the pool was changed, are left out."""
    found = ((scope[name], given) for name, given in needs.items() if name in scope)
    return tuple((resource, 1.0 if resource.total is None else float(str(given))) for resource, given in found)
