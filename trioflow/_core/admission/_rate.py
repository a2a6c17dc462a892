"""`Rate`: a resource of which there is so much per time, such as the requests that a server lets through.

Each key is a bucket that fills steadily up to its burst. The algorithm is GCRA, the generic cell rate algorithm of ATM
networks (ITU-T I.371; "virtual scheduling"): one number is kept, the time at which the bucket would be full again.
Whoever takes an amount moves it on by the time that this amount takes to come. So an amount is there as soon as this
time is no further away than the rest of the burst takes to come. In any interval of t seconds at most burst + rate * t
are taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, final

from ..base import _amounts
from ..base._reprs import shown
from ..base._units import duration_text
from ..base._waits import WaitCause, Waiting
from ..job._job import AbstractJob
from ._resource import SECONDS_APART, Resource

if TYPE_CHECKING:
    from ..base._amounts import Amount, Given, Need, OneNeed

LONGEST: Final = 366 * 24 * 3600.0
"""The longest that a correction makes others wait, in seconds. More is a mistake: nobody could ever put it right."""
REQUESTS: Final = "requests"
"""The key of which a job takes one if it does not say how many."""


@final
class Rate:
    """In a `Pool`, a resource of which there is so much per time, for example what a server takes before it refuses.

    It fills steadily up to its burst. A job takes what it needs when it starts, and gives nothing back. Until that much
    is there, of this and of all else that the job needs, it waits, and takes nothing.

    Args:
        limits: one or several keys, each with how much of it comes within `per` seconds, more than 0. Of `requests`, a
            job that needs the rate takes 1 if it does not say how many; of other keys, such as `tokens`, what it says.
        per: the number of seconds in which this much comes, finite, more than 0.
        burst: how much can be taken at once after a pause, more than 0: a number if there is one key, or a dict by key.
            Default: what `per` seconds bring. A little less than what the server allows leaves room for what delays
            requests on their way.

    Raises:
        TypeError: a number is none, or there is no key.
        ValueError: a number is out of its range, or a key of `burst` is unknown.

    Example:
        >>> async def ask(number):
        ...     current_job().used(api={"tokens": 950})  # what the answer says
        ...     return number
        >>> pool = Pool(api=Rate(requests=500, tokens=30_000, per=60))
        >>> jobs = [Job(ask, number, needs={"api": {"tokens": 800}}) for number in range(3)]
        >>> Scheduler(*jobs, pool=pool).run()
        True

    """

    __slots__ = ("_bursts", "_limits", "_per")

    def __init__(self, *, per: float, burst: Need | None = None, **limits: OneNeed) -> None:
        if not limits:
            raise TypeError(f"Rate(per={shown(per)}): give at least one key with its amount, such as requests=500")
        self._limits: Final = {name: _positive(given, f"Rate({name}={shown(given)})") for name, given in limits.items()}
        self._per: Final = float(_positive(per, f"Rate(per={shown(per)})"))
        for name, amount in self._limits.items():
            if not 0 < self._per / float(amount) < math.inf:
                raise ValueError(
                    f"Rate({name}={shown(limits[name])}, per={shown(per)}): that is too fast, or too slow, to count"
                )
        first = next(iter(limits))
        if burst is not None and not isinstance(burst, Mapping) and len(limits) > 1:
            raise TypeError(
                f"Rate(burst={shown(burst)}): there are several keys; give a dict such as {{{first!r}: 10}}"
            )
        own: dict[str, Amount] = {}
        if not isinstance(burst, Mapping):
            own = {} if burst is None else {first: _positive(burst, f"Rate(burst={shown(burst)})")}
            burst = {}
        for name, one in burst.items():
            if name not in self._limits:
                raise ValueError(
                    f"Rate(burst={shown(burst)}): {name!r} is not a key of this rate: it has {', '.join(limits)}"
                )
            own[name] = _positive(one, f"Rate(burst={{{name!r}: {shown(one)}}})")
        self._bursts: Final = {**self._limits, **own}

    @property
    def limits(self) -> dict[str, float]:
        """How much of each key comes within `per` seconds."""
        return {name: _amounts.as_number(amount) for name, amount in self._limits.items()}

    @property
    def per(self) -> float:
        """The number of seconds in which `limits` come."""
        return self._per

    @property
    def burst(self) -> dict[str, float]:
        """How much of each key can be taken at once after a pause."""
        return {name: _amounts.as_number(amount) for name, amount in self._bursts.items()}

    def __repr__(self) -> str:
        """Show the arguments."""
        limits = ", ".join(f"{name}={_amounts.shown_amount(amount)}" for name, amount in self._limits.items())
        burst = "" if self._bursts == self._limits else f", burst={self.burst}"
        return f"Rate({limits}, per={self._per:g}{burst})"

    # ---- for the rest of the package

    def _buckets(self) -> dict[str, TokenBucket]:
        return {
            name: TokenBucket(self._bursts[name], self._per / float(amount)) for name, amount in self._limits.items()
        }


class TokenBucket:
    """One key of a rate: see the top of the module."""

    __slots__ = ("burst", "full_at", "held", "seconds_each")

    def __init__(self, burst: Amount, seconds_each: float) -> None:
        self.burst: Final = burst
        self.seconds_each: Final = seconds_each
        self.full_at = -math.inf
        self.held: Amount = 0  # taken by jobs that have not started: it does not come again before they do

    def opens_at(self, amount: Amount) -> float:
        """Return when there is so much of it, or was; infinity if jobs that have not started hold too much."""
        if self.held and self.held + amount > self.burst:
            return math.inf
        return self.full_at - float(self.burst - amount) * self.seconds_each

    def take(self, amount: Amount, now: float) -> None:
        """Take an amount, whether or not it is there; a negative one puts something back."""
        self.full_at = self._full_at(now) + float(amount) * self.seconds_each

    def hold(self, amount: Amount, now: float) -> None:
        """Let an amount that was taken be held; a negative one is held no more, because its job starts."""
        self.full_at = self._full_at(now)
        self.held += amount

    def level(self, now: float) -> float:
        """Return how much there is now."""
        return float(self.burst) - (self._full_at(now) - now) / self.seconds_each

    def _full_at(self, now: float) -> float:
        return max(self.full_at, now + float(self.held) * self.seconds_each)


Needed = dict[str, "Amount"]
"""What a job needs of a rate, by key."""


class RateResource(Resource):
    """A rate in one pool. Nobody has it: what was taken comes again with time."""

    __slots__ = ("buckets", "rate")

    is_kept = False

    def __init__(self, name: str, rate: Rate) -> None:
        super().__init__(name)
        self.rate: Final = rate
        self.buckets: Final = rate._buckets()

    # ---- what jobs need of it

    def need(self, given: Given, who: str) -> Needed:
        """Return how much of which keys an entry of `needs` of the job called `who` means.

        A number is a number of requests; or of the only key that there is. A dict that does not name `requests` means
        one of them.

        Raises:
            ValueError: a key is unknown, or an amount is more than the burst.

        """
        found = self.amounts(given, f"{who} needs {self.name}={_amounts.shown_parts(given)}")
        if isinstance(given, tuple) and REQUESTS in self.buckets:
            found = {REQUESTS: 1, **found}
        for key, amount in found.items():
            burst = self.buckets[key].burst
            if amount > burst:
                raise ValueError(
                    f"{who} needs {_counted(amount, key)} of {self.name}, and there are never more than "
                    f"{_amounts.shown_amount(burst)} at once: it could never start; give the Rate a larger burst"
                )
        return {key: amount for key, amount in found.items() if amount}

    def amounts(self, given: Given, what: str) -> Needed:
        """Return how much of which keys the user means; `what` begins the error.

        Raises:
            ValueError: a key is unknown, or it is not clear which one is meant.

        """
        if not isinstance(given, tuple):
            key = REQUESTS if REQUESTS in self.buckets else next(iter(self.buckets))
            if key != REQUESTS and len(self.buckets) > 1:
                raise ValueError(f"{what}, a Rate of {', '.join(self.buckets)}: say of which, in a dict by key")
            return {key: given}
        for key, _ in given:
            if key not in self.buckets:
                import difflib

                close = difflib.get_close_matches(key, self.buckets, n=1)
                hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(self.buckets)}"
                raise ValueError(f"{what}, and this Rate has no key {shown(key)}: {hint}")
        return dict(given)

    def used(self, given: Given, what: str) -> Needed:
        """Return how much of which keys a job says that it has used; `what` begins the error.

        Raises:
            ValueError: as in `amounts`; or it is so much that nothing could start for more than a year.

        """
        found = self.amounts(given, what)
        for key, amount in found.items():
            bucket = self.buckets[key]
            if amount > bucket.burst and float(amount) * bucket.seconds_each > LONGEST:
                raise ValueError(
                    f"{what}: so many {key} take more than a year; nothing was taken: give a smaller number"
                )
        return found

    def both(self, number: int, need: Needed, other: Needed) -> Needed:
        """Return the sums of the amounts by key."""
        return {key: number * need.get(key, 0) + other.get(key, 0) for key in (*need, *other)}

    def opens_at(self, need: Needed) -> float:
        """Return when there will be enough, if nobody takes any meanwhile: `-inf` if there is now."""
        opens_at = self.gate.opens_at
        for key, amount in need.items():
            opens_at = max(opens_at, self.buckets[key].opens_at(amount))
        return opens_at if opens_at > self.clock() + SECONDS_APART else -math.inf

    def all_taken_at(self, need: Needed) -> float:
        """Return when so much, which may be more than there ever is at once, can have been taken bit by bit."""
        begins = max(self.gate.opens_at, self.clock())
        found = [begins]
        for key, amount in need.items():
            bucket = self.buckets[key]
            found.append(max(bucket.full_at, begins) - float(bucket.burst - amount) * bucket.seconds_each)
        return max(found)

    def why_not(self, need: Needed, before: int) -> str:
        """Say of what there is not enough, and when there will be, if nobody else takes any meanwhile."""
        if not self.is_open():
            return self.why_throttled()
        if self.opens_at(need) == math.inf:
            return f"{self.name}: what jobs hold that wait for a token"
        now, in_all = self.clock(), self.both(before, need, need)
        amounts = " and ".join(
            _counted(need[key], key) for key in need if self.buckets[key].opens_at(in_all[key]) > now
        )
        behind = f", behind {_counted(before, 'others')}" if before else ""
        return f"{self.name}: {amounts}, in about {duration_text(max(0.0, self.opens_at(in_all) - now))}{behind}"

    def lacking(self, need: Needed) -> Waiting:
        """Return the wait for it: how long it takes until there is enough, or that it is throttled."""
        opens_at = self.opens_at(need)
        held = "held by jobs that wait for a token" if opens_at == math.inf else ""
        return self.wait_for(WaitCause.RATE, f"{self.name} {held or self._in_about(opens_at)}")

    def _in_about(self, when: float) -> str:
        return f"in {duration_text(max(0.0, when - self.clock()))}"

    def take(self, job: AbstractJob[Any], need: Needed) -> Needed:
        """Let a job take what it needs; return how much that is, which `correct` changes."""
        now = self.clock()
        for key, amount in need.items():
            self.buckets[key].take(amount, now)
        return dict(need)

    def correct(self, has: Needed, used: Needed) -> None:
        """Count what a job has really used: take the rest of it now, or put back what is too much."""
        now = self.clock()
        for key, amount in used.items():
            self.buckets[key].take(amount - has.get(key, 0), now)
            has[key] = amount

    def hold(self, has: Needed, sign: int) -> None:
        """Let what a job has taken be held while it waits for a token (1), or no more because it starts (-1)."""
        now = self.clock()
        for key, amount in has.items():
            self.buckets[key].hold(sign * amount, now)

    def give_back(self, job: AbstractJob[Any], has: Any) -> None:
        """Take nothing back."""

    # ---- for others

    def change_clock(self, clock: Callable[[], float], shift: float) -> None:
        """Read another clock from now on, which shows `shift` seconds more."""
        super().change_clock(clock, shift)
        for bucket in self.buckets.values():
            bucket.full_at += shift

    def settings(self) -> Rate:
        """Return the rate."""
        return self.rate

    def total_shown(self) -> dict[str, float]:
        """Return the burst of each key."""
        return self.rate.burst

    def free_shown(self) -> dict[str, float]:
        """Return how much of each key there is now."""
        now = self.clock()
        return {key: bucket.level(now) for key, bucket in self.buckets.items()}

    def shown(self) -> str:
        """Return how much there is now, in words."""
        now = self.clock()
        levels = (
            f"{one.level(now):.4g} of {_amounts.shown_amount(one.burst)} {key}" for key, one in self.buckets.items()
        )
        return f"{self.name}={', '.join(levels)}"

    def granted(self, need: Needed, has: Needed) -> dict[str, float]:
        """Return what a job has taken of it, for users."""
        return {key: _amounts.as_number(amount) for key, amount in has.items()}


def _counted(amount: Amount, key: str) -> str:
    return f"1 {key.removesuffix('s')}" if amount == 1 else f"{_amounts.shown_amount(amount)} {key}"


def _positive(given: Any, what: str) -> Amount:
    if not _amounts.is_number(given):
        raise TypeError(f"{what}: give a number, more than 0")
    if not (_amounts.is_finite(given) and given > 0):
        raise ValueError(f"{what}: give a finite number, more than 0")
    return _amounts.amount_of(given, what)
