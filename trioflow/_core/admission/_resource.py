"""The resources of a pool: `Resource`, the interface that admission uses, and `CountedResource`, which jobs hold."""

from __future__ import annotations

import bisect
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final

from ..base import _amounts
from ..base._units import duration_text
from ..base._waits import WaitCause, Waiting
from ..job._job import AbstractJob

if TYPE_CHECKING:
    from ..base._amounts import Amount, AmountSpec
    from ._admission import Admission


MAX_NAMED_HOLDERS: Final = 5
"""The maximum number of holders to name in a text, which only counts the others."""
TIME_TOLERANCE: Final = 1e-9
"""The difference, in seconds, up to which times are equal, because float sums are inexact and asyncio rounds timers."""


class Cooldown:
    """The time at which the throttle of a resource ends; no job that needs the resource starts earlier."""

    __slots__ = ("opens_at",)

    def __init__(self) -> None:
        self.opens_at = -math.inf


class Resource(ABC):
    """One resource of a pool.

    A *need* is how much of the resource a job asks for, and a *share* is what the job has taken. Each kind of resource
    has its own types for both.
    """

    __slots__ = ("__weakref__", "admission", "clock", "cooldown", "name", "settings")

    is_held: ClassVar[bool]
    """Whether jobs hold the resource until they have settled, instead of using it up."""

    def __init__(self, name: str, settings: Any) -> None:
        self.name: Final = name
        self.settings: Final = settings  # the argument of `Pool` for an equal resource, without named things
        self.admission: Admission | None = None  # the queue of the jobs that need it, set when a job first waits
        self.cooldown = Cooldown()  # the same object in the resources that `for_members` returns
        self.clock: Callable[[], float] = time.monotonic  # the clock of the event loop while a run uses the pool

    @abstractmethod
    def need(self, amount: AmountSpec, job: AbstractJob[Any]) -> Any:
        """Convert the entry for this resource in a job's `needs` to a need.

        Raises:
            ValueError: the entry is invalid for this resource, or more than the total.

        """

    @abstractmethod
    def opens_at(self, need: Any) -> float:
        """Return the time at which the need can be met: `-inf` for now, infinity if the need depends on other jobs."""

    @abstractmethod
    def sum_needs(self, number: int, need: Any, other: Any) -> Any:
        """Return `number` times `need`, plus `other`."""

    def accrued_at(self, need: Any) -> float:
        """Return the time from which a need, or a sum of needs, no longer waits for a rate or a throttle."""
        return self.cooldown.opens_at

    @abstractmethod
    def explain_shortage(self, need: Any, before: int) -> str:
        """Explain why there is not enough now for a job behind `before` others with the same need."""

    @abstractmethod
    def describe_wait(self, need: Any) -> Waiting:
        """Return the cause of the wait for a need that cannot be met now. Any thread may call this."""

    @abstractmethod
    def take(self, job: AbstractJob[Any], need: Any) -> Any:
        """Take the need of a job, and return its share."""

    @abstractmethod
    def give_back(self, job: AbstractJob[Any], share: Any) -> None:
        """Take back the share of a job."""

    @abstractmethod
    def public_share(self, need: Any, share: Any) -> Any:
        """Return the share of a job as users see it, in `current_job().granted`."""

    @abstractmethod
    def public_total(self) -> Any:
        """Return the total as users see it, in `Pool.total`."""

    @abstractmethod
    def public_free(self) -> Any:
        """Return the free amount as users see it, in `Pool.free`."""

    @abstractmethod
    def describe(self) -> str:
        """Return the name and the free amount for the `repr` of the pool, such as "cpu=2 of 8 free"."""

    def is_exhausted(self) -> bool:
        """Return whether there is certainly too little for every waiting job."""
        return False

    def count_line(self, need: Any, sign: int) -> None:  # noqa: B027 - rates do not need it
        """Add (1) or remove (-1) a line of waiting jobs with this need."""

    def is_open(self) -> bool:
        """Return whether no throttle delays the resource now."""
        return self.cooldown.opens_at <= self.clock() + TIME_TOLERANCE

    def throttle_text(self) -> str:
        """Return the name of the resource and the remaining time of its throttle, as text."""
        return f"{self.name}, throttled for {duration_text(max(0.0, self.cooldown.opens_at - self.clock()))}"

    def make_wait(self, cause: WaitCause, text: str) -> Waiting:
        """Return the wait for the end of the throttle; if there is none, return a wait with this cause and text."""
        if self.is_open():
            return Waiting(cause, self.name, text)
        return Waiting(WaitCause.THROTTLED, self.name, self.throttle_text())

    def throttle(self, seconds: float) -> None:
        """Delay all jobs that need the resource for this time from now, unless they are delayed longer already."""
        self.cooldown.opens_at = max(self.cooldown.opens_at, self.clock() + seconds)

    def change_clock(self, clock: Callable[[], float], shift: float) -> None:
        """Replace the clock by one that is `shift` seconds ahead of it, and move the stored times with it."""
        self.clock = clock
        self.cooldown.opens_at += shift


class CountedResource(Resource):
    """A resource that jobs hold while they run: an amount, or a number of named things."""

    __slots__ = ("format_amount", "free", "free_things", "holders", "total", "wanted_amounts")

    is_held = True

    def __init__(
        self,
        name: str,
        total: Amount,
        named_things: tuple[Any, ...] | None = None,
        format_amount: Callable[[Amount], str] = _amounts.shown_amount,
    ) -> None:
        super().__init__(name, total)
        self.total: Final = total
        self.format_amount: Final = format_amount
        self.free: Amount = total  # negative only while clean-up jobs, which do not wait, exceed the total
        self.holders: Final[dict[AbstractJob[Any], Amount]] = {}
        self.wanted_amounts: Final[list[Amount]] = []  # the need of each waiting line, ascending
        # The free named things by their index in the user's list; None for a resource that is only an amount.
        self.free_things: dict[int, Any] | None = None if named_things is None else dict(enumerate(named_things))

    def need(self, amount: AmountSpec, job: AbstractJob[Any]) -> Amount:
        """Check the amount, and return it.

        Raises:
            ValueError: the amount is more than the total.
            ValueError: the amount of named things is not a whole number.
            ValueError: the amount is a dict by key, which only a rate allows.

        """
        if isinstance(amount, tuple):
            raise ValueError(
                f"{job.label!r} needs {self.name}={_amounts.need_text(amount)}, which is not a Rate: give one number"
            )
        if amount > self.total:
            raise ValueError(
                f"{job.label!r} needs {self.name}={self.format_amount(amount)}, and there is only "
                f"{self.format_amount(self.total)} in total: it could never start"
            )
        if self.free_things is not None and not isinstance(amount, int):
            raise ValueError(
                f"{job.label!r} needs {self.name}={_amounts.shown_amount(amount)}, which are named things: "
                f"give a whole number"
            )
        return amount

    def opens_at(self, need: Amount) -> float:
        """Return `-inf` if there is enough now, the end of a throttle, or infinity if other jobs hold too much."""
        if self.cooldown.opens_at == -math.inf or self.is_open():
            return -math.inf if need <= self.free else math.inf
        return self.cooldown.opens_at

    def is_exhausted(self) -> bool:
        """Return whether the free amount is less than the smallest need of a waiting line."""
        return bool(self.wanted_amounts) and self.free < self.wanted_amounts[0]

    def count_line(self, need: Amount, sign: int) -> None:
        """Add (1) or remove (-1) a line of waiting jobs with this need."""
        if sign > 0:
            bisect.insort(self.wanted_amounts, need)
        else:
            del self.wanted_amounts[bisect.bisect_left(self.wanted_amounts, need)]

    def sum_needs(self, number: int, need: Amount, other: Amount) -> Amount:
        """Return `number` times `need`, plus `other`."""
        return number * need + other

    def explain_shortage(self, need: Amount, before: int) -> str:
        """Describe the throttle; if there is none, describe the amount that is taken and the jobs that hold it."""
        if not self.is_open():
            return self.throttle_text()
        taken = f"{self.format_amount(self.total - self.free)} of {self.format_amount(self.total)} taken"
        return f"{self.name}: {taken}{self._holders_text()}"

    def describe_wait(self, need: Amount) -> Waiting:
        """Return the wait for the jobs that hold the resource, or for the end of its throttle."""
        return self.make_wait(WaitCause.RESOURCE, f"{self.name} taken{self._holders_text()}")

    def _holders_text(self) -> str:
        names = [repr(job.label) for job in list(self.holders)]
        more = f" and {len(names) - MAX_NAMED_HOLDERS} more" if len(names) > MAX_NAMED_HOLDERS else ""
        return f" by {', '.join(names[:MAX_NAMED_HOLDERS])}{more}" if names else ""

    def take(self, job: AbstractJob[Any], need: Amount) -> dict[int, Any] | None:
        """Take the need of a job. Return the named things by their index; None if the resource has no named things."""
        self.free -= need
        self.holders[job] = need
        if self.free_things is None:
            return None
        indices = sorted(self.free_things)[: int(need)]
        return {index: self.free_things.pop(index) for index in indices}

    def give_back(self, job: AbstractJob[Any], share: dict[int, Any] | None) -> None:
        """Take back the share of a job, and the amount recorded for it."""
        self.free += self.holders.pop(job)
        if self.free_things is not None:
            self.free_things.update(share or {})

    def public_share(self, need: Amount, share: dict[int, Any] | None) -> Any:
        """Return the job's named things as a list, or its amount as a number."""
        return _amounts.as_number(need) if share is None else list(share.values())

    def for_members(self, need: Amount, share: dict[int, Any] | None = None) -> CountedResource:
        """Return the resource that the members of a nested scheduler share. Its total is the need of the scheduler.

        While the scheduler runs, `share` has the named things of the resource.
        """
        named_things = None if self.free_things is None else tuple((share or {}).values())
        resource = CountedResource(self.name, need, named_things, self.format_amount)
        resource.cooldown, resource.clock = self.cooldown, self.clock
        return resource

    def public_total(self) -> float:
        """Return the total as a number."""
        return _amounts.as_number(self.total)

    def public_free(self) -> float:
        """Return the free amount as a number."""
        return _amounts.as_number(self.free)

    def describe(self) -> str:
        """Return text such as "cpu=2 of 8 free"."""
        return f"{self.name}={self.format_amount(self.free)} of {self.format_amount(self.total)} free"
