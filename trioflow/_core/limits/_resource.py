"""A resource of a pool: how much of it there is, who has how much, who waits for it, and until when it is throttled."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final

from ..base import _amounts
from ..base._units import duration_text
from ..job._job import AbstractJob

if TYPE_CHECKING:
    from ..base._amounts import Amount, Given
    from ._needs import NeedsQueue


FEW: Final = 5
"""How many holders a text names; the others are only counted."""
SECONDS_APART: Final = 1e-9
"""Times that are no further apart count as the same: sums of floats are not exact, and asyncio rounds its timers."""


class Gate:
    """Until when nothing starts on a resource, because a job has raised `Throttled`."""

    __slots__ = ("opens_at",)

    def __init__(self) -> None:
        self.opens_at = -math.inf


class Resource(ABC):
    """One resource of a pool. What a job needs of it is called a need, in a form that only the resource knows."""

    __slots__ = ("clock", "gate", "name", "waiting")

    is_kept: ClassVar[bool]
    """Whether a job has it until it has settled."""

    def __init__(self, name: str) -> None:
        self.name: Final = name
        # The queues of jobs that need it and wait, in any run that shares the pool.
        self.waiting: Final[dict[NeedsQueue, None]] = {}
        self.gate = Gate()  # a part of a resource has the same gate as the whole
        self.clock: Callable[[], float] = time.monotonic  # while a run uses the pool, that of its event loop

    @abstractmethod
    def need(self, given: Given, who: str) -> Any:
        """Return the need that an entry of `needs` of the job called `who` means.

        Raises:
            ValueError: it means nothing here, or more than there ever is.

        """

    @abstractmethod
    def fits(self, need: Any) -> bool:
        """Return whether there is enough now."""

    @abstractmethod
    def both(self, number: int, need: Any, other: Any) -> Any:
        """Return what so many times a need, and another one, come to."""

    @abstractmethod
    def opens_at(self, need: Any) -> float:
        """Return from when on time itself does not stand in the way of a need; `-inf` if it never did."""

    @abstractmethod
    def why_not(self, need: Any, before: int) -> str:
        """Say why there is not enough now for a job that waits behind so many others with the same need."""

    @abstractmethod
    def in_few_words(self, need: Any) -> str:
        """Say the same in few words, for a line with little room. Other threads may ask too."""

    @abstractmethod
    def take(self, job: AbstractJob[Any], need: Any) -> Any:
        """Give a job what it needs; return what it has, as the next methods take it."""

    @abstractmethod
    def give_back(self, job: AbstractJob[Any], has: Any) -> None:
        """Take back what a job has."""

    @abstractmethod
    def granted(self, need: Any, has: Any) -> Any:
        """Return what a job has, for users."""

    @abstractmethod
    def part(self, given: Given) -> Resource:
        """Return what the members of a scheduler with this entry in its `needs` find; it is only to be asked."""

    @abstractmethod
    def reserve(self, need: Any, has: Any) -> Resource:
        """Return what a scheduler has, for its members. Only what is kept has this."""

    @abstractmethod
    def total_shown(self) -> Any:
        """Return how much there is of it, for users."""

    @abstractmethod
    def free_shown(self) -> Any:
        """Return how much of it no job has now, for users."""

    @abstractmethod
    def shown(self) -> str:
        """Return how much there is of it now, in words."""

    @abstractmethod
    def settings(self) -> Any:
        """Return what makes an equal resource in another pool, but for the names of things."""

    def is_open(self) -> bool:
        """Return whether it is not throttled now."""
        return self.gate.opens_at <= self.clock() + SECONDS_APART

    def why_throttled(self) -> str:
        """Say for how long it is throttled."""
        return f"{self.name}, throttled for {duration_text(max(0.0, self.gate.opens_at - self.clock()))}"

    def throttle(self, seconds: float) -> None:
        """Let nothing start on it for so many seconds."""
        self.gate.opens_at = max(self.gate.opens_at, self.clock() + seconds)

    def change_clock(self, clock: Callable[[], float], shift: float) -> None:
        """Read another clock from now on, which shows `shift` seconds more."""
        self.clock = clock
        self.gate.opens_at += shift


class Stock(Resource):
    """A resource that jobs have while they run: there is so much of it, or so many named things."""

    __slots__ = ("free", "holders", "shown_as", "total", "unused")

    is_kept = True

    def __init__(
        self,
        name: str,
        total: Amount,
        things: tuple[Any, ...] | None = None,
        shown_as: Callable[[Amount], str] = _amounts.shown_amount,
    ) -> None:
        super().__init__(name)
        self.total: Final = total
        self.shown_as: Final = shown_as
        self.free: Amount = total  # below 0 only while clean-up jobs, which wait for nothing, take more than there is
        self.holders: Final[dict[AbstractJob[Any], Amount]] = {}
        # The named things that nobody has, with their places, in the order given; None if they have no names.
        self.unused: dict[int, Any] | None = None if things is None else dict(enumerate(things))

    def need(self, given: Given, who: str) -> Amount:
        """Return the amount.

        Raises:
            ValueError: it is more than there is, or amounts by key, or a part of a named thing.

        """
        if isinstance(given, tuple):
            raise ValueError(
                f"{who} needs {self.name}={_amounts.shown_parts(given)}, which is not a Rate: give one number"
            )
        if given > self.total:
            raise ValueError(
                f"{who} needs {self.name}={self.shown_as(given)}, and there is only {self.shown_as(self.total)} in "
                f"total: it could never start"
            )
        if self.unused is not None and not isinstance(given, int):
            raise ValueError(
                f"{who} needs {self.name}={_amounts.shown_amount(given)}, which are named things: give a whole number"
            )
        return given

    def fits(self, need: Amount) -> bool:
        """Return whether there is enough now."""
        return need <= self.free and (self.gate.opens_at == -math.inf or self.is_open())

    def both(self, number: int, need: Amount, other: Amount) -> Amount:
        """Return the sum of the amounts."""
        return number * need + other

    def opens_at(self, need: Amount) -> float:
        """Return until when it is throttled."""
        return self.gate.opens_at

    def why_not(self, need: Amount, before: int) -> str:
        """Say for how long it is throttled; or how much of it is taken, and by whom."""
        if not self.is_open():
            return self.why_throttled()
        taken = f"{self.shown_as(self.total - self.free)} of {self.shown_as(self.total)} taken"
        return f"{self.name}: {taken}{self._by_whom()}"

    def in_few_words(self, need: Amount) -> str:
        """Say that it is taken, and by whom, or for how long it is throttled."""
        return f"{self.name} taken{self._by_whom()}" if self.is_open() else self.why_throttled()

    def _by_whom(self) -> str:
        names = [repr(job.label) for job in list(self.holders)]
        more = f" and {len(names) - FEW} more" if len(names) > FEW else ""
        return f" by {', '.join(names[:FEW])}{more}" if names else ""

    def take(self, job: AbstractJob[Any], need: Amount) -> dict[int, Any] | None:
        """Give a job what it needs; return the named things by their places, or None if they have no names."""
        self.free -= need
        self.holders[job] = need
        if self.unused is None:
            return None
        places = sorted(self.unused)[: int(need)]
        return {place: self.unused.pop(place) for place in places}

    def give_back(self, job: AbstractJob[Any], has: dict[int, Any] | None) -> None:
        """Take back what a job has."""
        self.free += self.holders.pop(job)
        if self.unused is not None:
            self.unused.update(has or {})

    def granted(self, need: Amount, has: dict[int, Any] | None) -> Any:
        """Return a list of the named things, or the amount."""
        return _amounts.as_number(need) if has is None else list(has.values())

    def part(self, given: Given) -> Resource:
        """Return a part of it without the things."""
        assert not isinstance(given, tuple)  # the scheduler itself was refused
        return Stock(self.name, given, None if self.unused is None else (), self.shown_as)

    def reserve(self, need: Amount, has: dict[int, Any] | None) -> Resource:
        """Return a part of it, with the things."""
        part = Stock(self.name, need, None if has is None else tuple(has.values()), self.shown_as)
        part.gate, part.clock = self.gate, self.clock
        return part

    def total_shown(self) -> float:
        """Return the total."""
        return _amounts.as_number(self.total)

    def free_shown(self) -> float:
        """Return what is free."""
        return _amounts.as_number(self.free)

    def shown(self) -> str:
        """Return how much is free, in words."""
        return f"{self.name}={self.shown_as(self.free)} of {self.shown_as(self.total)} free"

    def settings(self) -> Amount:
        """Return the total."""
        return self.total
