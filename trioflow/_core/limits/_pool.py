"""`Pool`: resources that jobs take while they run, and what each job has of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, final

from ..base import _amounts
from ..job._job import AbstractJob

if TYPE_CHECKING:
    from ..base._amounts import Amount
    from ._needs import Kind


FEW: Final = 5
"""How many holders a text names; the others are only counted."""


class Resource:
    """One resource: how much of it there is, who has how much, and who waits for it."""

    __slots__ = ("free", "holders", "name", "total", "unused", "waiting")

    def __init__(self, name: str, total: Amount, things: tuple[Any, ...] | None = None) -> None:
        self.name: Final = name
        self.total: Final = total
        self.free: Amount = total  # below 0 only while clean-up jobs, which wait for nothing, take more than there is
        self.holders: Final[dict[AbstractJob[Any], Amount]] = {}
        # The named things that nobody has, with their places, in the order given; None if they have no names.
        self.unused: dict[int, Any] | None = None if things is None else dict(enumerate(things))
        # The kinds of need that include it and have jobs waiting, in any run that shares the pool.
        self.waiting: Final[dict[Kind, None]] = {}

    def __str__(self) -> str:
        """Say how much of it is taken, and by whom."""
        taken = self.total - self.free
        return f"{self.name}: {_amounts.shown(taken)} of {_amounts.shown(self.total)} taken{self.by_whom()}"

    def by_whom(self) -> str:
        """Name those who have some of it, after a blank and "by"; nothing if there are none."""
        names = [repr(job.label) for job in list(self.holders)]
        more = f" and {len(names) - FEW} more" if len(names) > FEW else ""
        return f" by {', '.join(names[:FEW])}{more}" if names else ""

    def take(self, job: AbstractJob[Any], amount: Amount) -> dict[int, Any] | None:
        """Give an amount to a job; return the named things."""
        self.free -= amount
        self.holders[job] = amount
        if self.unused is None:
            return None
        places = sorted(self.unused)[: int(amount)]
        return {place: self.unused.pop(place) for place in places}

    def give_back(self, job: AbstractJob[Any], things: dict[int, Any] | None) -> None:
        """Take back what a job has."""
        self.free += self.holders.pop(job)
        if self.unused is not None:
            self.unused.update(things or {})


class Grant:
    """What a job has of the resources that it needs; all of it at once, from its start until it has settled."""

    __slots__ = ("_job", "_parts")

    def __init__(self, job: AbstractJob[Any], needs: Iterable[tuple[Resource, Amount]]) -> None:
        self._job: Final = job
        self._parts: Final = [(resource, amount, resource.take(job, amount)) for resource, amount in needs]

    def give_back(self) -> None:
        """Give everything back."""
        for resource, _, things in self._parts:
            resource.give_back(self._job, things)
        self._parts.clear()

    def resources(self) -> list[Resource]:
        """Return the resources of which the job has something."""
        return [resource for resource, _, _ in self._parts]

    def reserves(self) -> dict[str, Resource]:
        """Return resources for the members of a scheduler that has this grant."""
        return {
            resource.name: Resource(resource.name, amount, None if things is None else tuple(things.values()))
            for resource, amount, things in self._parts
        }

    def as_mapping(self) -> dict[str, Any]:
        """Return what was granted by name: a list of the named things, or the amount."""
        return {
            resource.name: _amounts.as_number(amount) if things is None else list(things.values())
            for resource, amount, things in self._parts
        }


@final
class Pool:
    """Resources that jobs need while they run: the `pool` of a scheduler, or of several in one event loop.

    Args:
        resources: the name and the total of each resource: a number; a size such as "24 GiB"; or a list of things, of
            which each job gets particular ones.

    Raises:
        TypeError: a total is none of these.
        ValueError: a total is negative or not finite, or a thing is listed twice.

    Example:
        >>> async def train():
        ...     cards = current_job().granted["gpu"]
        ...     await anyio.sleep(0)
        ...     return cards
        >>> jobs = [Job(train, needs={"gpu": 1, "ram": "10 GiB"}) for _ in range(3)]
        >>> Scheduler(*jobs, pool=Pool(gpu=["0", "1"], ram="24 GiB")).run()
        True
        >>> all(job.result() in (["0"], ["1"]) for job in jobs)
        True

    """

    __slots__ = ("_loop", "_resources", "_runs")

    def __init__(self, **resources: Any) -> None:
        self._resources: Final = {name: _resource(name, given) for name, given in resources.items()}
        # How many runs use it now, and what stands for their event loop.
        self._runs = 0
        self._loop: object = None

    @property
    def total(self) -> dict[str, float]:
        """How much there is of each resource."""
        return {name: _amounts.as_number(resource.total) for name, resource in self._resources.items()}

    @property
    def free(self) -> dict[str, float]:
        """How much of each resource no job has now."""
        return {name: _amounts.as_number(resource.free) for name, resource in self._resources.items()}

    def __repr__(self) -> str:
        """Show how much of each resource is free."""
        shown = (
            f"{name}={_amounts.shown(resource.free)} of {_amounts.shown(resource.total)} free"
            for name, resource in self._resources.items()
        )
        return f"<Pool {', '.join(shown)}>"

    # ---- for the rest of the package

    def _enter(self, loop: object, who: str) -> None:
        """Record that a run uses the pool.

        Raises:
            RuntimeError: a run in another event loop uses it now.

        """
        if self._runs and self._loop is not loop:
            raise RuntimeError(
                f"the pool of {who} is in use by a scheduler in another event loop: schedulers can share a pool in one "
                f"loop only; make a Pool for each loop"
            )
        self._runs += 1
        self._loop = loop

    def _totals(self) -> dict[str, tuple[Amount, bool]]:
        """Return how much there is of each resource, and whether it consists of named things."""
        return {name: (one.total, one.unused is not None) for name, one in self._resources.items()}

    def _leave(self) -> None:
        self._runs -= 1
        if not self._runs:
            self._loop = None


def checked(pool: Any, who: str) -> Pool | None:
    """Check the pool that a user gave for the scheduler called `who`, and return it.

    Raises:
        TypeError: it is not a pool.

    """
    if pool is not None and not isinstance(pool, Pool):
        raise TypeError(f"pool={pool!r} of {who}: give a Pool, such as Pool(cpu=8, gpu=['0', '1']), or None")
    return pool


def refuse_unfit(job: AbstractJob[Any], totals: Mapping[str, tuple[Amount, bool]]) -> None:
    """Refuse a job that needs something that no pool has, or more than there is.

    Args:
        job: the job.
        totals: how much there is of each resource, and whether it consists of named things.

    Raises:
        ValueError: it can never start.

    """
    for name, amount in job._needs().items():
        if name not in totals:
            has = f"they have {', '.join(totals)}" if totals else "there is none"
            raise ValueError(
                f"{job.label!r} needs {name}={_amounts.shown(amount)}, which is in no pool around it ({has}): "
                f"give its scheduler pool=Pool({name}=...), or leave it out of needs="
            )
        total, has_names = totals[name]
        if amount > total:
            raise ValueError(
                f"{job.label!r} needs {name}={_amounts.shown(amount)}, and there is only {_amounts.shown(total)} in "
                f"total: it could never start"
            )
        if has_names and not isinstance(amount, int):
            raise ValueError(
                f"{job.label!r} needs {name}={_amounts.shown(amount)}, which are named things: give a whole number"
            )


def _resource(name: str, given: Any) -> Resource:
    if isinstance(given, (list, tuple)):
        things: tuple[Any, ...] = tuple(given)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        if any(thing in things[:place] for place, thing in enumerate(things)):
            raise ValueError(f"Pool({name}={given!r}): a thing is listed twice; each can be given to one job only")
        return Resource(name, len(things), things)
    return Resource(name, _amounts.amount(given, f"Pool({name}={given!r})"))
