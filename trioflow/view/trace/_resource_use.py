"""The use of pools in a trace: the amounts that each job held, and the cooldowns of throttled keys.

The names in a job's needs are looked up as in a run: in the pool of its scheduler, then in the scheduler's own needs,
which it reserves for its members, then in enclosing schedulers.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final, TypeVar

from ..._core.api.views import AnyJob, BaseScheduler, Pool, resource_views, run_needs, run_resource

N = TypeVar("N", int, float)
Steps = tuple[list[float], list[float]]
"""A step function of time: times in ascending order, and the value from each of them on."""


def sum_overlaps(intervals: Iterable[tuple[float, float, N]]) -> tuple[list[float], list[N]]:
    """Sum the amounts of overlapping intervals (start, end, amount), as a step function of time. O(n log n)."""
    changes: dict[float, N] = {}
    for since, until, amount in intervals:
        changes[since] = changes.get(since, 0) + amount
        changes[until] = changes.get(until, 0) - amount
    times = sorted(changes)
    return times, list(accumulate(changes[at] for at in times))


def count_overlaps(intervals: Iterable[tuple[float, float]]) -> tuple[list[float], list[int]]:
    """Count overlapping intervals (start, end), as a step function of time."""
    return sum_overlaps((since, until, 1) for since, until in intervals)


Cooldowns = list[tuple[float, float, int]]
"""The cooldowns of a throttled key: the start and end of each, and the number of the span that caused it."""


@dataclass(slots=True, eq=False)
class ResourceUse:
    """The use of one resource of a pool, or of the amount of it that a nested scheduler reserved for its members."""

    name: str
    total: float | None
    """The total amount; None for a rate, of which jobs take, but hold nothing."""
    format_amount: Callable[[float], str]
    """The function that formats an amount for people."""
    cooldowns: Cooldowns
    is_reservation: bool = False
    uses: list[tuple[float, float, float, int]] = field(default_factory=list[tuple[float, float, float, int]])
    """The start, end, amount and span number of each use; for a rate, the start and end of the attempt."""

    def amount_over_time(self, now: float = math.inf) -> Steps:
        """Return the amount held over time until `now`; for a rate, the number of running jobs that took from it."""
        return sum_overlaps((since, min(until, now), amount) for since, until, amount, _ in self.uses)

    def released_by(self, since: float, until: float, number: int) -> int | None:
        """Return the number of the span that ended a wait: the last one that released some of the resource.

        For a rate, it is the last span that took from it.

        Args:
            since: the start of the wait.
            until: the end of the wait.
            number: the number of the span that waited.

        """
        if self.total is None:
            use = self._last_use(0, until - 1e-9, number)
            return None if use is None else use[3]
        use = self._last_use(1, until, number)
        return use[3] if use is not None and use[1] > since else None

    def index_uses(self) -> None:
        """Sort the uses by start and by end, for `released_by`."""
        self._orders = tuple(sorted(self.uses, key=lambda use: (use[item], use[3])) for item in (0, 1))

    def _last_use(self, item: int, until: float, number: int) -> tuple[float, float, float, int] | None:
        """Return the last use by another span that started (item 0) or ended (item 1) no later than `until`."""
        uses = self._orders[item]
        index = bisect.bisect_right(uses, until, key=lambda use: use[item]) - 1
        while index >= 0 and uses[index][3] == number:
            index -= 1
        return uses[index] if index >= 0 else None

    _orders: tuple[list[tuple[float, float, float, int]], ...] = ()


Needs = tuple[tuple[ResourceUse, float], ...]
"""The resources that a job needed, each with the amount; the amount of a rate is 1."""


class ResourceScopes:
    """The resources that the jobs in each run can name in their needs; pools shared by runs appear once."""

    def __init__(self) -> None:
        self.resources: Final[list[ResourceUse]] = []
        self._of_pools: Final[dict[tuple[int, str], ResourceUse]] = {}

    def scope_of_run(
        self, enclosing: Mapping[str, ResourceUse], reserved: Needs, pool: Pool | None
    ) -> dict[str, ResourceUse]:
        """Return the resources in the scope of a run's members, by name.

        Args:
            enclosing: the scope of the enclosing run.
            reserved: the needs of the run's scheduler, which it reserves for its members.
            pool: the pool of the run's scheduler.

        """
        scope = dict(enclosing)
        for resource, amount in reserved:
            if resource.total is not None:
                scope[resource.name] = self._register(
                    ResourceUse(resource.name, amount, resource.format_amount, resource.cooldowns, is_reservation=True)
                )
        for view in () if pool is None else resource_views(pool):
            scope[view.name] = self._shared(pool, view.name, view.total, view.amount_text)
        return scope

    def run_needs_of_job(self, scheduler: BaseScheduler, job: AnyJob) -> Iterator[tuple[ResourceUse, float]]:
        """Yield the needs of a job for resources that a run has without a pool, such as worker processes."""
        for name, amount in run_needs(job).items():
            sharer, total = run_resource(scheduler, name)
            yield self._shared(sharer, name, total, str), float(str(amount))

    def _shared(self, owner: object, name: str, total: float | None, shown: Callable[[float], str]) -> ResourceUse:
        key = id(owner), name
        if key not in self._of_pools:
            self._of_pools[key] = self._register(ResourceUse(name, total, shown, []))
        return self._of_pools[key]

    def _register(self, resource: ResourceUse) -> ResourceUse:
        self.resources.append(resource)
        return resource


def resolve_needs(scope: Mapping[str, ResourceUse], needs: Mapping[str, object]) -> Needs:
    """Resolve the names in `job.needs`; those not in `scope`, because the pool has been changed, are left out."""
    resolved = ((scope[name], amount) for name, amount in needs.items() if name in scope)
    return tuple((resource, 1.0 if resource.total is None else float(str(amount))) for resource, amount in resolved)
