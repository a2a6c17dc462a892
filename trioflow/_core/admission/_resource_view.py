"""`ResourceView`: a read-only view of a resource of a pool, for views and simulations."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, final

from ..base._amounts import amount_of
from ._pool import Pool, settings_of
from ._rate import Rate
from ._resource import CountedResource

if TYPE_CHECKING:
    from ..job._job import AnyJob
    from ._resource import Resource


@final
class ResourceView:
    """A read-only view of a resource of a pool: its total, and the needs of jobs."""

    __slots__ = ("_resource",)

    def __init__(self, resource: Any) -> None:
        self._resource: Final[Resource] = resource

    @property
    def name(self) -> str:
        """Its name."""
        return self._resource.name

    @property
    def total(self) -> float | None:
        """Its total; None for a `Rate`."""
        return self._resource.total_shown() if self._resource.is_kept else None

    def shown(self, amount: float) -> str:
        """Return an amount in words: for a size, "1.5 GiB"."""
        return (
            self._resource.shown_as(amount_of(amount, self.name)) if isinstance(self._resource, CountedResource) else ""
        )

    def seconds_to_come(self, jobs: Iterable[AnyJob]) -> float:
        """Return the seconds in which a `Rate` accrues the needs of these jobs, from a full burst on; otherwise 0.

        Jobs do not hold a `Rate`: this much has to accrue, in any order.
        """
        rate = self._resource.settings()
        if not isinstance(rate, Rate):
            return 0.0
        needs = [self._resource.need(job._needs()[self.name], job) for job in jobs]
        found = [0.0]
        for key, limit in rate.limits.items():
            total = sum(float(need.get(key, 0)) for need in needs)
            found.append((total - rate.burst[key]) * rate.per / limit)
        return max(found)

    def most_needed(self, jobs: Iterable[AnyJob]) -> dict[str, float]:
        """Return the largest need of one of these jobs for each key of a `Rate`; nothing for other resources."""
        found: dict[str, float] = {}
        for job in jobs if isinstance(self._resource.settings(), Rate) else ():
            for key, amount in self._resource.need(job._needs()[self.name], job).items():
                found[key] = max(found.get(key, 0.0), float(amount))
        return found

    def opens_in(self, jobs: Iterable[AnyJob]) -> float:
        """Return the seconds until the needs of these jobs have accrued, and it is not throttled; 0 if now."""
        resource = self._resource
        need: Any = None
        for job in jobs:
            next_need = resource.need(job._needs()[self.name], job)
            need = next_need if need is None else resource.both(1, next_need, need)
        return 0.0 if need is None else max(0.0, resource.all_taken_at(need) - resource.clock())


def resources_of(pool: Pool) -> list[ResourceView]:
    """Return the resources of a pool."""
    return [ResourceView(resource) for resource in pool._resources.values()]


def copy_of_pool(pool: Pool, change: Callable[[dict[str, Any]], dict[str, Any]] | None = None) -> Pool:
    """Return another pool with the same totals, or with its settings passed through `change`."""
    settings = settings_of(pool)
    return Pool(**(settings if change is None else change(settings)))
