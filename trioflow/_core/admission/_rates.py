"""A `Rate` in a `Pool`: an amount for each interval of time.

A key has a sliding window: the amounts that jobs took which started within the last `per` seconds. No interval of this
length has more than the limit, as providers count. For a server that counts otherwise, a key has a burst: a bucket that
fills steadily up to it. The algorithm is GCRA, the generic cell rate algorithm of ATM networks (ITU-T I.371, "virtual
scheduling"). Its only state is the time when the bucket will be full. Taking an amount postpones that time by `amount /
rate` seconds. An amount is available once the bucket will be full within `(burst - amount) / rate` seconds.

The amount that a job takes at its admission begins to accrue again only when the job starts. Therefore, the jobs that
start in any interval of `t` seconds take at most the limit, or `burst + rate * t`, however long admitted jobs wait for
a limiter's token, or for the event loop.

Decided in docs/decisions: 17-rates, 18-throttling.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, TypeVar, final

from ..._hints import CALL_HINTS, explain_form, nearest_name
from ..base import _amounts
from ..base._amounts import Amount, CheckedNeed, ExactNeed
from ..base._states import WaitCause
from ..base._text_forms import clause, short_repr
from ..job import _job_options
from ..job._job import AnyJob
from ..job._labels import printable
from ._resource import Resource

T = TypeVar("T")

MAX_CAUSED_WAIT: Final = 366 * 86_400
"""The maximum wait, in seconds, that the usage reported by a job may cause. A longer wait is probably a mistake."""
DEFAULT_KEY: Final = "requests"
DEFAULT_GIVE_UP: Final = 900.0
"""In seconds: longer than most servers ask a client to wait, and shorter than a night."""
MAX_SHORTAGES: Final = 10_000
"""The number of shortages that a rate keeps for traces. The last then becomes longer, with the time between."""


@final
class Rate:
    """In a `Pool`, a resource that accrues over time, such as the requests that a server accepts.

    Use it when a server accepts a number of requests, or of tokens, per minute.

    The jobs that start in any interval of `per` seconds take at most the amounts of `limits`. A job waits until all its
    needs are available together, takes them when it starts, and gives nothing back.

    Args:
        limits: one or more keys, each with the amount for `per` seconds, more than 0, or a size such as "10 MB". If
            there is a key `requests`, a job that needs the rate takes 1 of it by default. Of other keys, such as
            `tokens`, a job takes only as much as it asks for.
        per: the number of seconds that these amounts are for, finite, more than 0.
        burst: the largest amount that can be taken at once, after a pause, more than 0, for a server that spreads the
            amounts: a number if there is a single key, or a dict by key. The amount of `limits` then accrues steadily,
            so that the jobs that start in `per` seconds may take both together.
        give_up: an attempt that begins this number of seconds after the first throttled attempt, or later, fails the
            job if it is throttled, too. No throttle is longer. None for no limit.

    Raises:
        TypeError: a value is not a number, an amount has no key, `burst` is a single number for several keys, or a key
            looks like the name of an option.
        ValueError: a number is out of range, or a key of `burst` is unknown.

    Example:
        >>> async def ask(number):
        ...     current_job().used(api={"tokens": 950})  # the number that the response reports
        ...     return number
        >>> pool = Pool(api=Rate(requests=500, tokens=30_000, per=60))
        >>> jobs = [Job(ask, number, needs={"api": {"tokens": 800}}) for number in range(3)]
        >>> Scheduler(*jobs, pool=pool).run()
        True

    """

    __slots__ = ("_bursts", "_give_up", "_limits", "_period")

    @explain_form
    def __init__(
        self,
        *,
        per: float,
        burst: float | str | Amount | Mapping[str, float | str | Amount] | None = None,
        give_up: float | None = DEFAULT_GIVE_UP,
        **limits: float | str | Amount,
    ) -> None:
        if not limits:
            raise TypeError(f"Rate(per={short_repr(per)}): {CALL_HINTS['Rate']}")
        # The options that a key may have been meant for. `per` is always given.
        ungiven = list[str]()
        if burst is None:
            ungiven.append("burst")
        if give_up == DEFAULT_GIVE_UP:
            ungiven.append("give_up")
        for name, value in limits.items():
            near = nearest_name(name, ungiven)
            if near:
                what = f"Rate({name}={short_repr(value)})"
                raise TypeError(f"{what}: did you mean {near}?")
        self._limits: Final = {
            name: _check_limit(value, f"Rate({name}={short_repr(value)})")
            for name, value in limits.items()
        }
        self._give_up: Final = _job_options.seconds(give_up, "give_up", "Rate")
        self._period: Final = float(
            _check_positive(per, f"Rate(per={short_repr(per)})")
        )
        for name, amount in self._limits.items():
            if not 0 < self._period / float(amount) < math.inf:
                shown = (
                    f"Rate({name}={short_repr(limits[name])}, per={short_repr(per)})"
                )
                raise ValueError(f"{shown}: the rate is too high or too low")
        first = next(iter(limits))
        if burst is not None and not isinstance(burst, Mapping) and len(limits) > 1:
            raise TypeError(
                f"Rate(burst={short_repr(burst)}): for several keys give a dict, such as {{{first!r}: 10}}"
            )
        prefix = f"Rate(burst={short_repr(burst)})"
        own = burst
        if not isinstance(own, Mapping):
            own = {} if own is None else {first: own}
        unknown = [name for name in own if name not in self._limits]
        if unknown:
            raise ValueError(
                f"{prefix}: unknown key {unknown[0]!r}; the keys are {', '.join(limits)}"
            )
        self._bursts: Final = {
            name: _check_limit(value, prefix) for name, value in own.items()
        }

    @property
    def limits(self) -> dict[str, float]:
        """The amount for `per` seconds, by key."""
        return {
            name: _amounts.as_number(amount) for name, amount in self._limits.items()
        }

    @property
    def per(self) -> float:
        """The period of `limits`, in seconds."""
        return self._period

    @property
    def burst(self) -> dict[str, float]:
        """The largest amount that can be taken at once, after a pause, by key."""
        bursts = {**self._limits, **self._bursts}
        return {name: _amounts.as_number(burst) for name, burst in bursts.items()}

    @property
    def give_up(self) -> float | None:
        """A job that has only been throttled fails after this many seconds. None is no limit."""
        return self._give_up

    def __repr__(self) -> str:
        """Return the call that makes an equal rate."""
        limits = ", ".join(f"{name}={amount!r}" for name, amount in self.limits.items())
        burst = clause(", burst={}", {name: self.burst[name] for name in self._bursts})
        give_up = ""
        if self._give_up != DEFAULT_GIVE_UP:
            give_up = f", give_up={self._give_up}"
        return f"Rate({limits}, per={str(self._period).removesuffix('.0')}{burst}{give_up})"


class TokenBucket:
    """The token bucket for a key. The module's docstring describes the algorithm."""

    def __init__(self, burst: Amount, seconds_each: float) -> None:
        self.burst: Final = burst
        self.seconds_each: Final = seconds_each
        self.full_at = -math.inf
        # Taken by jobs that have not started. It accrues again from their start.
        self.unstarted_amount: Amount = 0

    def available_at(self, amount: Amount) -> float:
        """Return the time, which may be in the past, when this amount begins to be available.

        The time is infinity if the amount cannot accrue before jobs that have taken theirs have started.
        """
        if self.unstarted_amount and self.unstarted_amount + amount > self.burst:
            return math.inf
        return self.accrued_at(amount, -math.inf)

    def accrued_at(self, amount: Amount, begins_at: float) -> float:
        """Return the time by which this amount has accrued, which may exceed the burst, if nothing else is taken."""
        seconds = float(self.burst - amount) * self.seconds_each
        return max(begins_at, max(self.full_at, begins_at) - seconds)

    def reserve(self, amount: Amount, now: float) -> None:
        """Take an amount for a job that will start."""
        self.correct(amount, now, now)
        self.unstarted_amount += amount

    def correct(self, amount: Amount, now: float, started_at: float) -> None:
        """Take an amount, even if it exceeds the level. A negative amount is put back."""
        self.full_at = self._full_at(now) + float(amount) * self.seconds_each

    def let_accrue(self, amount: Amount, now: float) -> None:
        """Let an amount that was taken accrue from now on."""
        self.full_at = self._full_at(now)
        self.unstarted_amount -= amount

    def level(self, now: float) -> float:
        """Return the amount that is available now. It is negative if more was taken than was available."""
        return float(self.burst) - (self._full_at(now) - now) / self.seconds_each

    def shift(self, seconds: float) -> None:
        self.full_at += seconds

    def _full_at(self, now: float) -> float:
        return max(self.full_at, now + float(self.unstarted_amount) * self.seconds_each)


Starts = OrderedDict[float, Amount]
"""Amounts by the time of the start, in order."""


class SlidingWindow(TokenBucket):
    """The amounts of a key that the jobs took which started within the last `per` seconds."""

    def __init__(self, limit: Amount, period: float) -> None:
        super().__init__(limit, period / float(limit))
        self._period: Final = period
        self._started: Starts = OrderedDict()
        # The sum of these amounts.
        self._started_amount: Amount = 0

    def accrued_at(self, amount: Amount, begins_at: float) -> float:
        return self._read(partial(self._accrued_at, amount, begins_at))

    def _accrued_at(self, amount: Amount, begins_at: float, starts: Starts) -> float:
        # What is free now, and what comes back in this period, comes back in each further period.
        periods = max(0, math.ceil(amount / self.burst) - 1)
        taken = self._started_amount + self.unstarted_amount
        excess = taken + amount - self.burst * (periods + 1)
        for when, started in starts.items():
            if excess <= 0:
                break
            excess -= started
            begins_at = max(begins_at, when + self._period)
        if excess > 0:
            periods += 1
        return begins_at + self._period * periods

    def _read(self, read: Callable[[Starts], T]) -> T:
        """Return what a function reads of the starts, which may change meanwhile if another thread asks."""
        try:
            return read(self._started)
        except RuntimeError:
            # A copy takes long, but is made in one step.
            return read(self._started.copy())

    def reserve(self, amount: Amount, now: float) -> None:
        self.unstarted_amount += amount

    def let_accrue(self, amount: Amount, now: float) -> None:
        self.unstarted_amount -= amount
        self.correct(amount, now, now)

    def correct(self, amount: Amount, now: float, started_at: float) -> None:
        """Take an amount now. Put a negative amount back where the job has started, if that is in the window."""
        self._forget(now)
        when = now if amount > 0 else started_at
        before = self._started.get(when, 0)
        amount = max(amount, -before)
        if amount:
            self._started[when] = before + amount
            self._started_amount += amount
            self.full_at = max(self.full_at, when + self._period)

    def level(self, now: float) -> float:
        # Any thread may ask, so this forgets nothing.
        taken = self._started_amount + self.unstarted_amount
        over = self._read(partial(self._over, now))
        return float(self.burst - (taken - over))

    def _over(self, now: float, starts: Starts) -> Amount:
        """Return the sum of the amounts that are in the window no more."""
        over: Amount = 0
        for when, amount in starts.items():
            if when + self._period > now:
                break
            over += amount
        return over

    def shift(self, seconds: float) -> None:
        super().shift(seconds)
        self._started = OrderedDict(
            (when + seconds, amount) for when, amount in self._started.items()
        )

    def _forget(self, now: float) -> None:
        while self._started and next(iter(self._started)) + self._period <= now:
            self._started_amount -= self._started.popitem(last=False)[1]


class RateShare(dict[str, Amount]):
    """The amounts that a job has taken of a rate, by key.

    Attributes:
        started_at: when the job started, or minus infinity before.

    """

    started_at = -math.inf


RateNeed = dict[str, Amount]
"""Amounts by key: the need of a job, its share, or its report of the amounts used."""


class RateResource(Resource):
    """A `Rate` in a pool. Jobs use it up instead of holding it, and it accrues again."""

    is_returnable = False

    def __init__(self, name: str, rate: Rate) -> None:
        super().__init__(name, rate)
        self.buckets: Final[dict[str, TokenBucket]] = {}
        for key, amount in rate._limits.items():
            bucket: TokenBucket = SlidingWindow(amount, rate._period)
            if key in rate._bursts:
                bucket = TokenBucket(rate._bursts[key], rate._period / float(amount))
            self.buckets[key] = bucket
        # When too little was left for a job: the start and end of each, on the clock of its run, after an empty one.
        self.shortages: Final = [(-math.inf, -math.inf)]

    # ---- needs

    def need(self, amount: CheckedNeed, job: AnyJob) -> RateNeed:
        """Convert the entry for this rate in a job's `needs` to amounts by key.

        A number is an amount of `requests`, or of the only key. If the rate has a key `requests` and the entry is a
        dict without it, 1 request is added.

        Raises:
            ValueError: a key is unknown, a number could belong to several keys, or an amount is more than the burst.

        """
        amount = self.exact_amount(amount, job)
        amounts = self.parse_amounts(amount, self.need_text(amount, job))
        if isinstance(amount, tuple) and DEFAULT_KEY in self.buckets:
            amounts = {DEFAULT_KEY: 1, **amounts}
        for key, number in amounts.items():
            bucket = self.buckets[key]
            if number > bucket.burst:
                most = _amounts.amount_text(bucket.burst)
                limit = f"the burst is {most}: it could never start; give the Rate a larger burst"
                if isinstance(bucket, SlidingWindow):
                    limit = f"it has {most} for {self.settings.per:g} s: it could never start; let the job need less"
                raise ValueError(
                    f"{job.label!r} needs {count_text(number, key)} of {printable(self.name)}, but {limit}"
                )
        return {key: number for key, number in amounts.items() if number}

    def parse_amounts(self, amount: ExactNeed, prefix: str) -> RateNeed:
        """Convert a user-supplied amount to amounts by key.

        Args:
            amount: a number, or a tuple of keys and numbers.
            prefix: the beginning of error messages.

        Raises:
            ValueError: a key is unknown, or a number could belong to several keys.

        """
        if not isinstance(amount, tuple):
            key = DEFAULT_KEY
            if DEFAULT_KEY not in self.buckets:
                key = next(iter(self.buckets))
            if key != DEFAULT_KEY and len(self.buckets) > 1:
                raise ValueError(
                    f"{prefix}, a Rate of {', '.join(self.buckets)}: give a dict of amounts by key"
                )
            return {key: amount}
        for key, _ in amount:
            if key not in self.buckets:
                near = nearest_name(key, self.buckets)
                hint = f"the keys are {', '.join(self.buckets)}"
                if near:
                    hint = f"did you mean {near}?"
                problem = f"but this Rate has no key {short_repr(key)}"
                raise ValueError(f"{prefix}, {problem}: {hint}")
        return dict(amount)

    def parse_used(self, value: ExactNeed, prefix: str) -> RateNeed:
        """Convert the usage that a job has reported to amounts by key.

        Args:
            value: the reported usage.
            prefix: the beginning of error messages.

        Raises:
            ValueError: a key is unknown, or a number could belong to several keys.
            ValueError: an amount exceeds the burst, and would take more than `MAX_CAUSED_WAIT` to accrue.

        """
        amounts = self.parse_amounts(value, prefix)
        for key, amount in amounts.items():
            bucket = self.buckets[key]
            seconds = float(amount) * bucket.seconds_each
            if amount > bucket.burst and seconds > MAX_CAUSED_WAIT:
                raise ValueError(
                    f"{prefix}: this amount of {key} takes more than a year to accrue; it is ignored: "
                    f"give a smaller number"
                )
        return amounts

    def free_at(self, need: RateNeed) -> float:
        times = (self.buckets[key].available_at(need[key]) for key in need)
        return max(times, default=-math.inf)

    def note_shortage(self, need: RateNeed) -> None:
        now = self.clock()
        when = self.free_at(need)
        if now < when < math.inf:
            since, until = self.shortages[-1]
            if since <= now <= until or len(self.shortages) == MAX_SHORTAGES:
                self.shortages[-1] = since, max(until, when)
            else:
                self.shortages.append((now, when))

    def accrued_at(self, need: RateNeed) -> float:
        """Return the time by which this amount has accrued. It may exceed the burst, and be taken in several parts."""
        begins_at = max(self.cooldown.ends_at, self.clock())
        times = (self.buckets[key].accrued_at(need[key], begins_at) for key in need)
        return max(times, default=begins_at)

    def describe_shortage(self, need: RateNeed, before: int) -> tuple[WaitCause, str]:
        """Name the keys that are short, and estimate the remaining wait.

        The estimate assumes that only the `before` jobs ahead of this job take anything from the rate.
        """
        if self.available_at(need) == math.inf:
            text = f"{self.shown_name}: reserved for jobs that are about to start"
            return WaitCause.RATE, text
        short = [key for key in need if self.is_used_up_by({key: need[key]}, before)]
        amounts = " and ".join(count_text(need[key], key) for key in short)
        behind = clause(", behind {}", before and count_text(before, "others"))
        delay = self.delay_text(self._accrued_behind(need, before))
        return WaitCause.RATE, f"{self.shown_name}: {amounts}, in about {delay}{behind}"

    def is_used_up_by(self, need: RateNeed, before: int) -> bool:
        return self._accrued_behind(need, before) > self.clock()

    def _accrued_behind(self, need: RateNeed, before: int) -> float:
        """Return the time by which this amount has accrued, after as much for each of the `before` jobs ahead."""
        return self.accrued_at({key: (before + 1) * need[key] for key in need})

    def take(self, job: AnyJob, need: RateNeed) -> RateShare:
        """Take the need of a job, and return the job's share, a dict that `correct` updates. Then call `let_accrue`."""
        now = self.clock()
        for key, amount in need.items():
            self.buckets[key].reserve(amount, now)
        self.on_change()
        return RateShare(need)

    def correct(self, share: RateShare, used: RateNeed) -> None:
        """Replace amounts in a job's share with those that the job has used, and take or put back the difference."""
        now = self.clock()
        for key, amount in used.items():
            self.buckets[key].correct(amount - share.get(key, 0), now, share.started_at)
            share[key] = amount
        self.on_change()

    def refund(self, job: AnyJob, share: RateShare) -> None:
        self.correct(share, dict.fromkeys(share, 0))

    def let_accrue(self, share: RateShare, now: float | None) -> None:
        """Let the amounts in a job's share accrue from now on, because the job starts, or will not start."""
        if now is None:
            now = self.clock()
        share.started_at = now
        for key, amount in share.items():
            self.buckets[key].let_accrue(amount, now)
        self.on_change()

    def on_change(self) -> None:
        """Require a new round of the admission, because a need may have waited for this."""
        if self.admission is not None:
            self.admission.is_stale = True

    # ---- clock and views

    def change_clock(self, clock: Callable[[], float], shift: float) -> None:
        super().change_clock(clock, shift)
        for bucket in self.buckets.values():
            bucket.shift(shift)

    def public_total(self) -> dict[str, float]:
        return {
            key: _amounts.as_number(bucket.burst)
            for key, bucket in self.buckets.items()
        }

    def public_free(self) -> dict[str, float]:
        now = self.clock()
        return {key: bucket.level(now) for key, bucket in self.buckets.items()}

    def describe(self) -> str:
        bursts = {
            key: _amounts.amount_text(bucket.burst)
            for key, bucket in self.buckets.items()
        }
        free = self.public_free()
        return f"{self.name}={', '.join(f'{free[key]:.4g} of {burst} {key}' for key, burst in bursts.items())}"

    def public_share(self, need: RateNeed, share: RateNeed) -> dict[str, float]:
        # A thread of the job may ask, while the loop corrects the amounts.
        amounts = share.copy()
        return {key: _amounts.as_number(amount) for key, amount in amounts.items()}


def count_text(amount: Amount, key: str) -> str:
    if amount == 1:
        return f"1 {key.removesuffix('s')}"
    return f"{_amounts.amount_text(amount)} {key}"


def _check_positive(value: Any, prefix: str) -> Amount:
    value = _amounts.plain_number(value)
    if not _amounts.is_number(value):
        raise TypeError(f"{prefix}: give a number above 0")
    if not (_amounts.is_finite(value) and value > 0):
        raise ValueError(f"{prefix}: give a finite number above 0")
    return _amounts.amount_of(value, prefix)


def _check_limit(value: Any, prefix: str) -> Amount:
    """Check an amount above 0, which may be a size such as "10 MB"."""
    if _amounts.is_size(value):
        value = _amounts.amount_of(value, prefix)
    return _check_positive(value, prefix)
