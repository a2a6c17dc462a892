"""A resource of a pool: its amount, its holders, the jobs that wait for it, and its throttle."""

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


MAX_HOLDERS_NAMED: Final = 5
"""The most holders that a text names; the others are counted."""
TIME_TOLERANCE: Final = 1e-9
"""Times that are no further apart count as equal: sums of floats are not exact, and asyncio rounds its timers."""


class Cooldown:
    """The end of a throttle on a resource: nothing starts before."""

    __slots__ = ("opens_at",)

    def __init__(self) -> None:
        self.opens_at = -math.inf


class Resource(ABC):
    """One resource of a pool. A job's share of it is called a need; its form is private to the resource."""

    __slots__ = ("__weakref__", "admission", "clock", "cooldown", "name", "settings")

    is_held: ClassVar[bool]
    """Whether a job holds it until it has settled."""

    def __init__(self, name: str, settings: Any) -> None:
        self.name: Final = name
        self.settings: Final = settings  # the argument for an equal resource in another pool, but for names of things
        self.admission: Admission | None = None  # the queue of the jobs that need it, since the first one has waited
        self.cooldown = Cooldown()  # a part of a resource has the same gate as the whole
        self.clock: Callable[[], float] = time.monotonic  # the event loop's while a run uses the pool

    @abstractmethod
    def need(self, amount: AmountSpec, job: AbstractJob[Any]) -> Any:
        """Return the need for an entry of `needs` of a job.

        Raises:
            ValueError: the entry is invalid here, or more than the total.

        """

    @abstractmethod
    def opens_at(self, need: Any) -> float:
        """Return when there will be enough: `-inf` if there is now, infinity if that depends on other jobs."""

    @abstractmethod
    def sum_needs(self, number: int, need: Any, other: Any) -> Any:
        """Return the sum of `number` times a need, and another one."""

    def accrued_at(self, need: Any) -> float:
        """Return when time alone holds up a need, or the sum of several, no longer."""
        return self.cooldown.opens_at

    @abstractmethod
    def explain_shortage(self, need: Any, before: int) -> str:
        """Explain why there is not enough now for a job behind `before` others with the same need."""

    @abstractmethod
    def describe_wait(self, need: Any) -> Waiting:
        """Return the wait for it, in few words; there is not enough now. Any thread may call it."""

    @abstractmethod
    def take(self, job: AbstractJob[Any], need: Any) -> Any:
        """Give a job its need; return its share, in the form of the next methods."""

    @abstractmethod
    def give_back(self, job: AbstractJob[Any], has: Any) -> None:
        """Take back the share of a job."""

    @abstractmethod
    def granted(self, need: Any, has: Any) -> Any:
        """Return the share of a job, for users."""

    @abstractmethod
    def public_total(self) -> Any:
        """Return the total, for users."""

    @abstractmethod
    def public_free(self) -> Any:
        """Return the free amount, for users."""

    @abstractmethod
    def shown(self) -> str:
        """Return the free amount, in words."""

    def is_exhausted(self) -> bool:
        """Return whether there is certainly not enough of it for any waiting job."""
        return False

    def count_line(self, need: Any, sign: int) -> None:  # noqa: B027 - rates do not need it
        """Record a line of waiting jobs with this need (1), or its end (-1)."""

    def is_open(self) -> bool:
        """Return whether the resource is not throttled now."""
        return self.cooldown.opens_at <= self.clock() + TIME_TOLERANCE

    def why_throttled(self) -> str:
        """Describe the throttling and its remaining time."""
        return f"{self.name}, throttled for {duration_text(max(0.0, self.cooldown.opens_at - self.clock()))}"

    def wait_or_throttle(self, cause: WaitCause, text: str) -> Waiting:
        """Return the wait for it: a throttle takes precedence over other causes."""
        if self.is_open():
            return Waiting(cause, self.name, text)
        return Waiting(WaitCause.THROTTLED, self.name, self.why_throttled())

    def throttle(self, seconds: float) -> None:
        """Hold up all starts on it for this time."""
        self.cooldown.opens_at = max(self.cooldown.opens_at, self.clock() + seconds)

    def change_clock(self, clock: Callable[[], float], shift: float) -> None:
        """Read another clock from now on, which is ahead by `shift` seconds."""
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
        things: tuple[Any, ...] | None = None,
        format_amount: Callable[[Amount], str] = _amounts.shown_amount,
    ) -> None:
        super().__init__(name, total)
        self.total: Final = total
        self.format_amount: Final = format_amount
        self.free: Amount = total  # below 0 only while clean-up jobs, which do not wait, take more than the total
        self.holders: Final[dict[AbstractJob[Any], Amount]] = {}
        self.wanted_amounts: Final[list[Amount]] = []  # the amounts that waiting lines want, ascending
        # The free named things by their places, in the user's order; None if they have no names.
        self.free_things: dict[int, Any] | None = None if things is None else dict(enumerate(things))

    def need(self, amount: AmountSpec, job: AbstractJob[Any]) -> Amount:
        """Return the amount.

        Raises:
            ValueError: it is more than the total, or amounts by key, or a fraction of a named thing.

        """
        if isinstance(amount, tuple):
            raise ValueError(
                f"{job.label!r} needs {self.name}={_amounts.shown_need(amount)}, which is not a Rate: give one number"
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
        """Return when there will be enough: `-inf` if there is now, infinity if that depends on other jobs."""
        if self.cooldown.opens_at == -math.inf or self.is_open():
            return -math.inf if need <= self.free else math.inf
        return self.cooldown.opens_at

    def is_exhausted(self) -> bool:
        """Return whether there is less than any waiting job needs."""
        return bool(self.wanted_amounts) and self.free < self.wanted_amounts[0]

    def count_line(self, need: Amount, sign: int) -> None:
        """Record a line of waiting jobs with this need (1), or its end (-1)."""
        if sign > 0:
            bisect.insort(self.wanted_amounts, need)
        else:
            del self.wanted_amounts[bisect.bisect_left(self.wanted_amounts, need)]

    def sum_needs(self, number: int, need: Amount, other: Amount) -> Amount:
        """Return the sum of the amounts."""
        return number * need + other

    def explain_shortage(self, need: Amount, before: int) -> str:
        """Describe its throttling, or else its use: the amount taken, and the jobs that hold it."""
        if not self.is_open():
            return self.why_throttled()
        taken = f"{self.format_amount(self.total - self.free)} of {self.format_amount(self.total)} taken"
        return f"{self.name}: {taken}{self._holders_text()}"

    def describe_wait(self, need: Amount) -> Waiting:
        """Return the wait for it: the jobs that have it, or its throttle."""
        return self.wait_or_throttle(WaitCause.RESOURCE, f"{self.name} taken{self._holders_text()}")

    def _holders_text(self) -> str:
        names = [repr(job.label) for job in list(self.holders)]
        more = f" and {len(names) - MAX_HOLDERS_NAMED} more" if len(names) > MAX_HOLDERS_NAMED else ""
        return f" by {', '.join(names[:MAX_HOLDERS_NAMED])}{more}" if names else ""

    def take(self, job: AbstractJob[Any], need: Amount) -> dict[int, Any] | None:
        """Give a job its need; return the named things by their places, or None if they have no names."""
        self.free -= need
        self.holders[job] = need
        if self.free_things is None:
            return None
        places = sorted(self.free_things)[: int(need)]
        return {place: self.free_things.pop(place) for place in places}

    def give_back(self, job: AbstractJob[Any], has: dict[int, Any] | None) -> None:
        """Take back the share of a job."""
        self.free += self.holders.pop(job)
        if self.free_things is not None:
            self.free_things.update(has or {})

    def granted(self, need: Amount, has: dict[int, Any] | None) -> Any:
        """Return a list of the named things, or the amount."""
        return _amounts.as_number(need) if has is None else list(has.values())

    def part(self, need: Amount, has: dict[int, Any] | None = None) -> CountedResource:
        """Return a part of it for the members of a scheduler, with the things in `has`, if that runs."""
        part = CountedResource(
            self.name, need, None if self.free_things is None else tuple((has or {}).values()), self.format_amount
        )
        part.cooldown, part.clock = self.cooldown, self.clock
        return part

    def public_total(self) -> float:
        """Return the total."""
        return _amounts.as_number(self.total)

    def public_free(self) -> float:
        """Return the free amount."""
        return _amounts.as_number(self.free)

    def shown(self) -> str:
        """Return the free amount, in words."""
        return f"{self.name}={self.format_amount(self.free)} of {self.format_amount(self.total)} free"
