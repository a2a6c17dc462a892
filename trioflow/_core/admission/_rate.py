"""`Rate`: a resource with an amount per time, such as the requests that a server admits.

Each key has a bucket that fills steadily up to its burst. The algorithm is GCRA, the generic cell rate algorithm of ATM
networks (ITU-T I.371, "virtual scheduling"). Its only state is the time at which the bucket will be full. Taking an
amount postpones that time by the seconds in which the amount accrues. An amount is available once the time left until
the bucket is full is no longer than the time in which the rest of the burst accrues. So jobs take at most
burst + rate * t in any interval of t seconds.
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

MAX_CAUSED_WAIT: Final = 366 * 24 * 3600.0
"""The maximum wait, in seconds, that the reported use of a job may cause. A longer wait is probably a mistake."""
DEFAULT_KEY: Final = "requests"
"""The key that a job takes 1 of by default."""


@final
class Rate:
    """In a `Pool`, a resource with an amount per time, such as the requests that a server admits.

    The available amount grows steadily, up to the burst. A job waits until all its needs are available together, takes
    them when it starts, and gives nothing back.

    Args:
        limits: one or several keys, each with the amount that accrues within `per` seconds, more than 0. A job that
            needs the rate takes 1 of `requests` by default; of other keys, such as `tokens`, only its explicit needs.
        per: the number of seconds in which these amounts accrue, finite, more than 0.
        burst: the largest amount that can be taken at once, after a pause, more than 0: a number if there is one key,
            or a dict by key. Default: the amounts of `limits`. A little less than the server allows leaves room for
            network delays.

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

    __slots__ = ("_bursts", "_limits", "_period")

    def __init__(self, *, per: float, burst: Need | None = None, **limits: OneNeed) -> None:
        if not limits:
            raise TypeError(f"Rate(per={short_repr(per)}): give at least one key with its amount, such as requests=500")
        self._limits: Final = {
            name: _check_positive(value, f"Rate({name}={short_repr(value)})") for name, value in limits.items()
        }
        self._period: Final = float(_check_positive(per, f"Rate(per={short_repr(per)})"))
        for name, amount in self._limits.items():
            if not 0 < self._period / float(amount) < math.inf:
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
        self._bursts: Final = {**self._limits, **{name: _check_positive(value, what) for name, value in own.items()}}

    @property
    def limits(self) -> dict[str, float]:
        """The amount of each key that accrues within `per` seconds."""
        return {name: _amounts.as_number(amount) for name, amount in self._limits.items()}

    @property
    def per(self) -> float:
        """The number of seconds in which `limits` accrue."""
        return self._period

    @property
    def burst(self) -> dict[str, float]:
        """The largest amount of each key that can be taken at once, after a pause."""
        return {name: _amounts.as_number(amount) for name, amount in self._bursts.items()}

    def __repr__(self) -> str:
        """Return the call that makes an equal rate."""
        limits = ", ".join(f"{name}={_amounts.shown_amount(amount)}" for name, amount in self._limits.items())
        burst = "" if self._bursts == self._limits else f", burst={self.burst}"
        return f"Rate({limits}, per={self._period:g}{burst})"


class TokenBucket:
    """The amount of one key, as a token bucket; the docstring of the module describes the algorithm."""

    __slots__ = ("burst", "full_at", "held_amount", "seconds_each")

    def __init__(self, burst: Amount, seconds_each: float) -> None:
        self.burst: Final = burst
        self.seconds_each: Final = seconds_each
        self.full_at = -math.inf
        self.held_amount: Amount = 0  # taken by jobs that wait for a token; accrues again only from their start

    def opens_at(self, amount: Amount) -> float:
        """Return the time, which may be past, from which this amount is available; infinity if too much is held."""
        if self.held_amount and self.held_amount + amount > self.burst:
            return math.inf
        return self.full_at - float(self.burst - amount) * self.seconds_each

    def take(self, amount: Amount, now: float) -> None:
        """Take an amount, even if it exceeds the level. If the amount is negative, put it back."""
        self.full_at = self._full_at(now) + float(amount) * self.seconds_each

    def hold(self, amount: Amount, now: float) -> None:
        """Mark a taken amount as held. If the amount is negative, remove the mark, because the job starts."""
        self.full_at = self._full_at(now)
        self.held_amount += amount

    def level(self, now: float) -> float:
        """Return the amount that is available now. It is negative if more was taken than was available."""
        return float(self.burst) - (self._full_at(now) - now) / self.seconds_each

    def _full_at(self, now: float) -> float:
        return max(self.full_at, now + float(self.held_amount) * self.seconds_each)


RateNeed = dict[str, "Amount"]
"""The need or the share of a job: amounts by key."""


class RateResource(Resource):
    """A `Rate` in one pool; jobs use it up instead of holding it, and it accrues again."""

    __slots__ = ("buckets",)

    is_held = False

    def __init__(self, name: str, rate: Rate) -> None:
        super().__init__(name, rate)
        self.buckets: Final = {
            key: TokenBucket(rate._bursts[key], rate._period / float(amount)) for key, amount in rate._limits.items()
        }

    # ---- needs

    def need(self, amount: AmountSpec, job: AbstractJob[Any]) -> RateNeed:
        """Convert the entry for this rate in a job's `needs` to amounts by key.

        A number is an amount of `requests`, or of the only key. To a dict without `requests`, 1 of them is added.

        Raises:
            ValueError: a key is unknown, or an amount is more than the burst.

        """
        amounts = self.parse_amounts(amount, f"{job.label!r} needs {self.name}={_amounts.need_text(amount)}")
        if isinstance(amount, tuple) and DEFAULT_KEY in self.buckets:
            amounts = {DEFAULT_KEY: 1, **amounts}
        for key, number in amounts.items():
            burst = self.buckets[key].burst
            if number > burst:
                raise ValueError(
                    f"{job.label!r} needs {count_text(number, key)} of {self.name}, and there are never more than "
                    f"{_amounts.shown_amount(burst)} at once: it could never start; give the Rate a larger burst"
                )
        return {key: number for key, number in amounts.items() if number}

    def parse_amounts(self, amount: AmountSpec, what: str) -> RateNeed:
        """Convert an amount given by a user, which is a number or a dict by key, to amounts by key.

        Args:
            amount: the amount.
            what: the beginning of error messages.

        Raises:
            ValueError: a key is unknown, or a number could belong to several keys.

        """
        if not isinstance(amount, tuple):
            key = DEFAULT_KEY if DEFAULT_KEY in self.buckets else next(iter(self.buckets))
            if key != DEFAULT_KEY and len(self.buckets) > 1:
                raise ValueError(f"{what}, a Rate of {', '.join(self.buckets)}: say of which, in a dict by key")
            return {key: amount}
        for key, _ in amount:
            if key not in self.buckets:
                import difflib

                matches = difflib.get_close_matches(key, self.buckets, n=1)
                hint = f"did you mean {matches[0]}?" if matches else f"it has {', '.join(self.buckets)}"
                raise ValueError(f"{what}, and this Rate has no key {short_repr(key)}: {hint}")
        return dict(amount)

    def parse_used(self, value: AmountSpec, what: str) -> RateNeed:
        """Convert the use that a job has reported to amounts by key.

        Args:
            value: the reported use.
            what: the beginning of error messages.

        Raises:
            ValueError: a key is unknown, or a number could belong to several keys.
            ValueError: the amount would block all starts for more than a year.

        """
        amounts = self.parse_amounts(value, what)
        for key, amount in amounts.items():
            bucket = self.buckets[key]
            if amount > bucket.burst and float(amount) * bucket.seconds_each > MAX_CAUSED_WAIT:
                raise ValueError(
                    f"{what}: this amount of {key} takes more than a year; nothing was taken: give a smaller number"
                )
        return amounts

    def sum_needs(self, number: int, need: RateNeed, other: RateNeed) -> RateNeed:
        """Return `number` times `need`, plus `other`, by key."""
        return {key: number * need.get(key, 0) + other.get(key, 0) for key in (*need, *other)}

    def opens_at(self, need: RateNeed) -> float:
        """Return the time at which the need can be met if no other job takes anything before; `-inf` for now."""
        opens_at = self.cooldown.opens_at
        for key, amount in need.items():
            opens_at = max(opens_at, self.buckets[key].opens_at(amount))
        return opens_at if opens_at > self.clock() + TIME_TOLERANCE else -math.inf

    def accrued_at(self, need: RateNeed) -> float:
        """Return the time by which this amount can be taken in several parts; it may exceed the burst."""
        begins = max(self.cooldown.opens_at, self.clock())
        times = [begins]
        for key, amount in need.items():
            bucket = self.buckets[key]
            times.append(max(bucket.full_at, begins) - float(bucket.burst - amount) * bucket.seconds_each)
        return max(times)

    def explain_shortage(self, need: RateNeed, before: int) -> str:
        """Name the keys that there is too little of, and the time until there is enough if no other job takes any."""
        if not self.is_open():
            return self.throttle_text()
        if self.opens_at(need) == math.inf:
            return f"{self.name}: held by jobs that wait for a token"
        now, total_need = self.clock(), self.sum_needs(before, need, need)
        amounts = " and ".join(
            count_text(need[key], key) for key in need if self.buckets[key].opens_at(total_need[key]) > now
        )
        behind = f", behind {count_text(before, 'others')}" if before else ""
        return f"{self.name}: {amounts}, in about {duration_text(max(0.0, self.opens_at(total_need) - now))}{behind}"

    def describe_wait(self, need: RateNeed) -> Waiting:
        """Return the wait for the rate to accrue the need, or for the end of its throttle."""
        opens_at = self.opens_at(need)
        held = "held by jobs that wait for a token" if opens_at == math.inf else ""
        when = held or f"in {duration_text(max(0.0, opens_at - self.clock()))}"
        return self.make_wait(WaitCause.RATE, f"{self.name} {when}")

    def take(self, job: AbstractJob[Any], need: RateNeed) -> RateNeed:
        """Take the need of a job, and return its share: a dict that `correct` updates."""
        now = self.clock()
        for key, amount in need.items():
            self.buckets[key].take(amount, now)
        return dict(need)

    def correct(self, share: RateNeed, used: RateNeed) -> None:
        """Replace the amounts in a job's share by those that the job has used; take or put back the difference."""
        now = self.clock()
        for key, amount in used.items():
            self.buckets[key].take(amount - share.get(key, 0), now)
            share[key] = amount

    def hold(self, share: RateNeed, sign: int) -> None:
        """Mark the amounts of a job that waits for a token as held (1), or remove the mark because it starts (-1)."""
        now = self.clock()
        for key, amount in share.items():
            self.buckets[key].hold(sign * amount, now)

    def give_back(self, job: AbstractJob[Any], share: Any) -> None:
        """Do nothing: amounts of a rate are not returned."""

    # ---- clock and views

    def change_clock(self, clock: Callable[[], float], shift: float) -> None:
        """Replace the clock by one that is `shift` seconds ahead of it, and move the stored times with it."""
        super().change_clock(clock, shift)
        for bucket in self.buckets.values():
            bucket.full_at += shift

    def public_total(self) -> dict[str, float]:
        """Return the burst of each key."""
        return {key: _amounts.as_number(bucket.burst) for key, bucket in self.buckets.items()}

    def public_free(self) -> dict[str, float]:
        """Return the available amount of each key."""
        now = self.clock()
        return {key: bucket.level(now) for key, bucket in self.buckets.items()}

    def describe(self) -> str:
        """Return text such as "api=3 of 10 requests"."""
        now = self.clock()
        levels = (
            f"{bucket.level(now):.4g} of {_amounts.shown_amount(bucket.burst)} {key}"
            for key, bucket in self.buckets.items()
        )
        return f"{self.name}={', '.join(levels)}"

    def public_share(self, need: RateNeed, share: RateNeed) -> dict[str, float]:
        """Return the amounts that a job has taken, by key."""
        return {key: _amounts.as_number(amount) for key, amount in share.items()}


def count_text(amount: Amount, key: str) -> str:
    return f"1 {key.removesuffix('s')}" if amount == 1 else f"{_amounts.shown_amount(amount)} {key}"


def _check_positive(value: Any, what: str) -> Amount:
    if not _amounts.is_number(value):
        raise TypeError(f"{what}: give a number, more than 0")
    if not (_amounts.is_finite(value) and value > 0):
        raise ValueError(f"{what}: give a finite number, more than 0")
    return _amounts.amount_of(value, what)
