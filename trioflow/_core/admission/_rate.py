"""`Rate`: a resource with an amount per time, such as the requests that a server admits.

Each key is a bucket that fills steadily up to its burst. The algorithm is GCRA, the generic cell rate algorithm of ATM
networks (ITU-T I.371; "virtual scheduling"): its state is one number, the time at which the bucket would be full again.
Taking an amount moves it on by the time in which this amount accrues. So an amount is available as soon as this time is
no further away than the time for the rest of the burst. In any interval of t seconds at most burst + rate * t are
taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, final

from ..base import _amounts
from ..base._reprs import short_repr
from ..base._units import duration_text
from ..base._waits import WaitCause, Waiting
from ..job._job import AbstractJob
from ._resource import TIME_TOLERANCE, Resource

if TYPE_CHECKING:
    from ..base._amounts import Amount, AmountSpec, Need, OneNeed

MAX_WAIT: Final = 366 * 24 * 3600.0
"""The longest wait that a correction may cause, in seconds. More is a mistake, and could not be undone."""
REQUESTS: Final = "requests"
"""The key of which a job takes one by default."""


@final
class Rate:
    """In a `Pool`, a resource with an amount per time, such as the requests that a server admits.

    It fills steadily up to its burst. A job takes its needs when it starts, and gives nothing back. Until these are
    available, together with all other needs of the job, it waits, and takes nothing.

    Args:
        limits: one or several keys, each with the amount that accrues within `per` seconds, more than 0. Of `requests`,
            a job that needs the rate takes 1 by default; of other keys, such as `tokens`, only what it asks for.
        per: the number of seconds in which these amounts accrue, finite, more than 0.
        burst: the amount that can be taken together after a pause, more than 0: a number if there is one key, or a dict
            by key. Default: the amounts of `per` seconds. A little less than the server allows leaves room for network
            delays.

    Raises:
        TypeError: an amount is not a number, or there is no key.
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
            raise TypeError(f"Rate(per={short_repr(per)}): give at least one key with its amount, such as requests=500")
        self._limits: Final = {
            name: _positive(value, f"Rate({name}={short_repr(value)})") for name, value in limits.items()
        }
        self._per: Final = float(_positive(per, f"Rate(per={short_repr(per)})"))
        for name, amount in self._limits.items():
            if not 0 < self._per / float(amount) < math.inf:
                raise ValueError(
                    f"Rate({name}={short_repr(limits[name])}, per={short_repr(per)}): "
                    f"that is too fast, or too slow, to count"
                )
        first = next(iter(limits))
        if burst is not None and not isinstance(burst, Mapping) and len(limits) > 1:
            raise TypeError(
                f"Rate(burst={short_repr(burst)}): there are several keys; give a dict such as {{{first!r}: 10}}"
            )
        what = f"Rate(burst={short_repr(burst)})"
        own = burst if isinstance(burst, Mapping) else {} if burst is None else {first: burst}
        for name in own:
            if name not in self._limits:
                raise ValueError(f"{what}: {name!r} is not a key of this rate: it has {', '.join(limits)}")
        self._bursts: Final = {**self._limits, **{name: _positive(value, what) for name, value in own.items()}}

    @property
    def limits(self) -> dict[str, float]:
        """The amount of each key that accrues within `per` seconds."""
        return {name: _amounts.as_number(amount) for name, amount in self._limits.items()}

    @property
    def per(self) -> float:
        """The number of seconds in which `limits` accrue."""
        return self._per

    @property
    def burst(self) -> dict[str, float]:
        """The amount of each key that can be taken together after a pause."""
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
    """The bucket of one key: see the top of the module."""

    __slots__ = ("burst", "full_at", "held", "seconds_each")

    def __init__(self, burst: Amount, seconds_each: float) -> None:
        self.burst: Final = burst
        self.seconds_each: Final = seconds_each
        self.full_at = -math.inf
        self.held: Amount = 0  # taken by jobs that have not started; it accrues again only after their start

    def opens_at(self, amount: Amount) -> float:
        """Return when this amount is available, or was; infinity if jobs that have not started hold too much."""
        if self.held and self.held + amount > self.burst:
            return math.inf
        return self.full_at - float(self.burst - amount) * self.seconds_each

    def take(self, amount: Amount, now: float) -> None:
        """Take an amount, even beyond the level; a negative one puts it back."""
        self.full_at = self._full_at(now) + float(amount) * self.seconds_each

    def hold(self, amount: Amount, now: float) -> None:
        """Mark a taken amount as held; a negative one is released, because its job starts."""
        self.full_at = self._full_at(now)
        self.held += amount

    def level(self, now: float) -> float:
        """Return the current amount."""
        return float(self.burst) - (self._full_at(now) - now) / self.seconds_each

    def _full_at(self, now: float) -> float:
        return max(self.full_at, now + float(self.held) * self.seconds_each)


RateNeed = dict[str, "Amount"]
"""The need of a job of a rate, by key."""


class RateResource(Resource):
    """A rate in one pool. Jobs do not hold it: taken amounts accrue again."""

    __slots__ = ("buckets",)

    is_held = False

    def __init__(self, name: str, rate: Rate) -> None:
        super().__init__(name, rate)
        self.buckets: Final = rate._buckets()

    # ---- needs

    def need(self, amount: AmountSpec, job: AbstractJob[Any]) -> RateNeed:
        """Return the amounts by key that an entry of `needs` of `job` means.

        A number is a number of requests, or of the only key. A dict without `requests` means one of them.

        Raises:
            ValueError: a key is unknown, or an amount is more than the burst.

        """
        amounts = self.amounts(amount, f"{job.label!r} needs {self.name}={_amounts.shown_need(amount)}")
        if isinstance(amount, tuple) and REQUESTS in self.buckets:
            amounts = {REQUESTS: 1, **amounts}
        for key, number in amounts.items():
            burst = self.buckets[key].burst
            if number > burst:
                raise ValueError(
                    f"{job.label!r} needs {count_text(number, key)} of {self.name}, and there are never more than "
                    f"{_amounts.shown_amount(burst)} at once: it could never start; give the Rate a larger burst"
                )
        return {key: number for key, number in amounts.items() if number}

    def amounts(self, amount: AmountSpec, what: str) -> RateNeed:
        """Return the amounts by key that the user means; `what` begins the error.

        Raises:
            ValueError: a key is unknown, or ambiguous.

        """
        if not isinstance(amount, tuple):
            key = REQUESTS if REQUESTS in self.buckets else next(iter(self.buckets))
            if key != REQUESTS and len(self.buckets) > 1:
                raise ValueError(f"{what}, a Rate of {', '.join(self.buckets)}: say of which, in a dict by key")
            return {key: amount}
        for key, _ in amount:
            if key not in self.buckets:
                import difflib

                close = difflib.get_close_matches(key, self.buckets, n=1)
                hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(self.buckets)}"
                raise ValueError(f"{what}, and this Rate has no key {short_repr(key)}: {hint}")
        return dict(amount)

    def used(self, value: AmountSpec, what: str) -> RateNeed:
        """Return the amounts by key that a job reports as used; `what` begins the error.

        Raises:
            ValueError: as in `amounts`; or it would block all starts for more than a year.

        """
        amounts = self.amounts(value, what)
        for key, amount in amounts.items():
            bucket = self.buckets[key]
            if amount > bucket.burst and float(amount) * bucket.seconds_each > MAX_WAIT:
                raise ValueError(
                    f"{what}: so many {key} take more than a year; nothing was taken: give a smaller number"
                )
        return amounts

    def sum_needs(self, number: int, need: RateNeed, other: RateNeed) -> RateNeed:
        """Return the sums of the amounts by key."""
        return {key: number * need.get(key, 0) + other.get(key, 0) for key in (*need, *other)}

    def opens_at(self, need: RateNeed) -> float:
        """Return when there will be enough, without other takers: `-inf` if there is now."""
        opens_at = self.cooldown.opens_at
        for key, amount in need.items():
            opens_at = max(opens_at, self.buckets[key].opens_at(amount))
        return opens_at if opens_at > self.clock() + TIME_TOLERANCE else -math.inf

    def accrued_at(self, need: RateNeed) -> float:
        """Return when this amount, even beyond the burst, can have been taken bit by bit."""
        begins = max(self.cooldown.opens_at, self.clock())
        times = [begins]
        for key, amount in need.items():
            bucket = self.buckets[key]
            times.append(max(bucket.full_at, begins) - float(bucket.burst - amount) * bucket.seconds_each)
        return max(times)

    def explain_shortage(self, need: RateNeed, before: int) -> str:
        """Name the keys that lack, and when there will be enough without other takers."""
        if not self.is_open():
            return self.why_throttled()
        if self.opens_at(need) == math.inf:
            return f"{self.name}: what jobs hold that wait for a token"
        now, in_all = self.clock(), self.sum_needs(before, need, need)
        amounts = " and ".join(
            count_text(need[key], key) for key in need if self.buckets[key].opens_at(in_all[key]) > now
        )
        behind = f", behind {count_text(before, 'others')}" if before else ""
        return f"{self.name}: {amounts}, in about {duration_text(max(0.0, self.opens_at(in_all) - now))}{behind}"

    def describe_wait(self, need: RateNeed) -> Waiting:
        """Return the wait for it: the time until there is enough, or its throttle."""
        opens_at = self.opens_at(need)
        held = "held by jobs that wait for a token" if opens_at == math.inf else ""
        when = held or f"in {duration_text(max(0.0, opens_at - self.clock()))}"
        return self.wait_or_throttle(WaitCause.RATE, f"{self.name} {when}")

    def take(self, job: AbstractJob[Any], need: RateNeed) -> RateNeed:
        """Take the need of a job; return the amounts, which `correct` changes."""
        now = self.clock()
        for key, amount in need.items():
            self.buckets[key].take(amount, now)
        return dict(need)

    def correct(self, has: RateNeed, used: RateNeed) -> None:
        """Account for the real use of a job: take the rest of it now, or put back the excess."""
        now = self.clock()
        for key, amount in used.items():
            self.buckets[key].take(amount - has.get(key, 0), now)
            has[key] = amount

    def hold(self, has: RateNeed, sign: int) -> None:
        """Mark a job's amounts as held while it waits for a token (1), or release them because it starts (-1)."""
        now = self.clock()
        for key, amount in has.items():
            self.buckets[key].hold(sign * amount, now)

    def give_back(self, job: AbstractJob[Any], has: Any) -> None:
        """Do nothing: amounts of a rate are not returned."""

    # ---- the rest

    def change_clock(self, clock: Callable[[], float], shift: float) -> None:
        """Read another clock from now on, which is ahead by `shift` seconds."""
        super().change_clock(clock, shift)
        for bucket in self.buckets.values():
            bucket.full_at += shift

    def public_total(self) -> dict[str, float]:
        """Return the burst of each key."""
        return {key: _amounts.as_number(bucket.burst) for key, bucket in self.buckets.items()}

    def public_free(self) -> dict[str, float]:
        """Return the current amount of each key."""
        now = self.clock()
        return {key: bucket.level(now) for key, bucket in self.buckets.items()}

    def shown(self) -> str:
        """Return the current amounts, in words."""
        now = self.clock()
        levels = (
            f"{bucket.level(now):.4g} of {_amounts.shown_amount(bucket.burst)} {key}"
            for key, bucket in self.buckets.items()
        )
        return f"{self.name}={', '.join(levels)}"

    def granted(self, need: RateNeed, has: RateNeed) -> dict[str, float]:
        """Return the amounts that a job has taken, for users."""
        return {key: _amounts.as_number(amount) for key, amount in has.items()}


def count_text(amount: Amount, key: str) -> str:
    return f"1 {key.removesuffix('s')}" if amount == 1 else f"{_amounts.shown_amount(amount)} {key}"


def _positive(value: Any, what: str) -> Amount:
    if not _amounts.is_number(value):
        raise TypeError(f"{what}: give a number, more than 0")
    if not (_amounts.is_finite(value) and value > 0):
        raise ValueError(f"{what}: give a finite number, more than 0")
    return _amounts.amount_of(value, what)
