"""`ResourceView`: a resource of a pool, as views and simulations see it."""

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
    """A resource of a pool, to look at: how much there is of it, and what jobs need of it."""

    __slots__ = ("_resource",)

    def __init__(self, resource: Any) -> None:
        self._resource: Final[Resource] = resource

    @property
    def name(self) -> str:
        """Its name."""
        return self._resource.name

    @property
    def total(self) -> float | None:
        """How much there is of it; None for a `Rate`."""
        return self._resource.total_shown() if self._resource.is_kept else None

    def shown(self, amount: float) -> str:
        """Return an amount in words: of what was given as a size, "1.5 GiB"."""
        return (
            self._resource.shown_as(amount_of(amount, self.name)) if isinstance(self._resource, CountedResource) else ""
        )

    def seconds_to_come(self, jobs: Iterable[AnyJob]) -> float:
        """Return how long it takes, from a full burst on, until what these jobs need of a `Rate` has come; otherwise 0.

        Of a `Rate`, nobody keeps anything: so much has to come, whatever the order.
        """
        rate = self._resource.settings()
        if not isinstance(rate, Rate):
            return 0.0
        needs = [self._resource.need(job._needs()[self.name], job.label) for job in jobs]
        found = [0.0]
        for key, limit in rate.limits.items():
            total = sum(float(need.get(key, 0)) for need in needs)
            found.append((total - rate.burst[key]) * rate.per / limit)
        return max(found)

    def most_needed(self, jobs: Iterable[AnyJob]) -> dict[str, float]:
        """Return the most that one of these jobs needs of each key of a `Rate`; nothing of other resources."""
        found: dict[str, float] = {}
        for job in jobs if isinstance(self._resource.settings(), Rate) else ():
            for key, amount in self._resource.need(job._needs()[self.name], job.label).items():
                found[key] = max(found.get(key, 0.0), float(amount))
        return found

    def opens_in(self, jobs: Iterable[AnyJob]) -> float:
        """Return after how many seconds so much has come as these jobs need, and it is not throttled; 0 if now."""
        resource = self._resource
        need: Any = None
        for job in jobs:
            one = resource.need(job._needs()[self.name], job.label)
            need = one if need is None else resource.both(1, one, need)
        return 0.0 if need is None else max(0.0, resource.all_taken_at(need) - resource.clock())


def resources_of(pool: Pool) -> list[ResourceView]:
    """Return the resources of a pool."""
    return [ResourceView(resource) for resource in pool._resources.values()]


def copy_of_pool(pool: Pool, change: Callable[[dict[str, Any]], dict[str, Any]] | None = None) -> Pool:
    """Return another pool that has as much in all, or with what `change` makes of its settings."""
    settings = settings_of(pool)
    return Pool(**(settings if change is None else change(settings)))
