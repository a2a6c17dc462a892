"""`Grant`, the resources of one job, from its admission until it has settled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ..job._job import AbstractJob
from ..job._job_options import RUN_RESOURCES
from ._resource import CountedResource, PoolEntry, Resource

if TYPE_CHECKING:
    from ..base._amounts import Amount
    from ._policies import HeapEntry

Needs = list[tuple[Resource, Any]]
"""The needs of a job, as pairs of a resource and the result of its method `need`."""


class Grant:
    """The resources of one job, which are taken all together, and kept until the job has settled.

    The job has its grant before anything is taken: so `Run.settle` gives back what was taken before an error.
    """

    __slots__ = ("_accrues", "_job", "_parts", "entry")

    def __init__(self, job: AbstractJob[Any], needs: Needs, entry: HeapEntry | None = None) -> None:
        self.entry: Final = entry  # the entry with which the job waited; None for a clean-up job
        self._job: Final = job
        self._parts: Final[list[tuple[Resource, Any, Any]]] = []
        self._accrues = False  # whether `let_accrue` has been called
        job._ensure_extras().grant = self
        for resource, need in needs:
            self._parts.append((resource, need, resource.take(job, need)))

    def give_back(self) -> None:
        self.let_accrue()
        for resource, _, share in self._parts:
            resource.give_back(self._job, share)

    def let_accrue(self, now: float | None = None) -> None:
        """Let the granted amounts of rates accrue again, because the job starts now, or will not start."""
        if not self._accrues:
            self._accrues = True
            for resource, _, share in self._parts:
                resource.let_accrue(share, now)

    def must_wait(self) -> bool:
        return any(resource.must_wait(self._job) for resource, _, _ in self._parts)

    def refund(self) -> None:
        """Put back what the job would use up or delay, because it does not start after all."""
        self.let_accrue()
        for resource, _, share in self._parts:
            resource.refund(self._job, share)

    def refund_budgets(self) -> None:
        """Put back the amounts of budgets of which the job has not reported its use."""
        for resource, _, share in self._parts:
            if resource.is_budget:
                resource.refund(self._job, share)

    def budget_amounts(self) -> dict[str, Amount]:
        return {resource.name: share.used for resource, _, share in self._parts if resource.is_budget}

    def find(self, name: str) -> tuple[Resource, Any] | None:
        return next(((resource, share) for resource, _, share in self._parts if resource.name == name), None)

    def member_resources(self) -> dict[str, PoolEntry]:
        """Return the resources, except rates, that the members of a nested scheduler with this grant share, by name."""
        return {
            resource.name: resource.make_member_resource(need, share)
            for resource, need, share in self._parts
            if isinstance(resource, CountedResource)
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the share of each resource, by name: an amount, a list of named units, or amounts by key."""
        parts = [part for part in self._parts if part[0].name not in RUN_RESOURCES]
        return {resource.name: resource.public_share(need, share) for resource, need, share in parts}


def budgets_used(job: AbstractJob[Any]) -> dict[str, Amount]:
    """Return the amounts of budgets that a job has used in all its attempts, by name."""
    grant, earlier = job._grant(), {} if job._extras is None else job._extras.earlier_use or {}
    used: dict[str, Amount] = {} if grant is None else grant.budget_amounts()
    return {**earlier, **{name: amount + earlier.get(name, 0) for name, amount in used.items()}}
