"""The limits that servers have: `Rate`, an amount that accrues over time, and `PerKey`, a limit for each key.

**Rates.** A key has a sliding window: what the jobs that started within the last `per` seconds have taken. No interval
of this length has more than the limit, as providers count. For a server that counts otherwise, a key has a burst: a
bucket that fills steadily up to it. The algorithm is GCRA, the generic cell rate algorithm of ATM networks (ITU-T
I.371, "virtual scheduling"). Its only state is the time at which the bucket will be full. Taking an amount postpones
that time by `amount / rate` seconds. An amount is available once the bucket will be full within
`(burst - amount) / rate` seconds.

What a job takes at its admission begins to accrue again only when the job starts. Therefore, the jobs that start in any
interval of `t` seconds take at most the limit, or `burst + rate * t`, however long admitted jobs wait for a limiter's
token, or for the event loop.

**Limits for each key**, such as each host that a crawler visits. The resource of a pool is a `PerKeyResource`. What
jobs wait for and take is the `Key` in it: an ordinary resource, of which each job takes 1. A key exists while jobs wait
for it or hold it, and until its rate is full or its pauses are over. So the memory depends on the keys in use, not on
those that there have been.

Jobs whose key is taken are **parked** with it, and no round of the admission looks at them. When one can start, the
first of each group competes again. So a round costs the same, however many keys there are.
"""

from __future__ import annotations

import heapq
import itertools
import math
from abc import abstractmethod
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, Never, final
from weakref import WeakValueDictionary

from ..._hints import explain_form, nearest_name
from ..base import _amounts
from ..base._amounts import Amount, CheckedNeed, ExactNeed
from ..base._states import WaitCause
from ..base._text_forms import short_repr
from ..job import _job_options
from ..job._job import AbstractJob
from ..job._labels import printable
from ._admission import WaitingGroup
from ._policies import ready_numbers
from ._resource import CountedResource, PoolEntry, Resource

MAX_CAUSED_WAIT: Final = 366 * 86_400
"""The maximum wait, in seconds, that the usage reported by a job may cause. A longer wait is probably a mistake."""
DEFAULT_KEY: Final = "requests"
"""The key of which a job takes 1 by default."""
DEFAULT_GIVE_UP: Final = 900.0
"""The default of `give_up`, in seconds: longer than most servers ask a client to wait, and shorter than a night."""


@final
class Rate:
    """In a `Pool`, a resource that accrues over time, such as the requests that a server accepts.

    The jobs that start in any interval of `per` seconds take at most the amounts of `limits`. A job waits until all its
    needs are available together, takes them when it starts, and gives nothing back.

    Args:
        values: not allowed, because each amount has a key.
        limits: one or more keys, each with the amount for `per` seconds, more than 0. If there is a key
            `requests`, a job that needs the rate takes 1 of it by default. Of other keys, such as `tokens`, a job takes
            only what it asks for.
        per: the number of seconds for which these amounts are, finite, more than 0.
        burst: for a server that spreads them, the largest amount that can be taken at once, after a pause, more than 0:
            a number if there is one key, or a dict by key. The amount of `limits` then accrues steadily, so that the
            jobs that start in `per` seconds may take both together.
        give_up: the number of seconds after which a job that has only been throttled fails: with the `Throttled` of the
            first attempt that begins so long after the first throttled one, or later. None for no limit.

    Raises:
        TypeError: a value is not a number, an amount has no key, `burst` is one number for several keys, or a key is
            like the name of an option that is not given.
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
        *values: Never,
        per: float,
        burst: _amounts.Need | None = None,
        give_up: float | None = DEFAULT_GIVE_UP,
        **limits: _amounts.SingleNeed,
    ) -> None:
        if values or not limits:
            shown = ", ".join([*map(short_repr, values), f"per={short_repr(per)}"])
            raise TypeError(f"Rate({shown}): give each amount with its key, such as Rate(requests=500, per=60)")
        ungiven = [name for name, lacks in (("burst", burst is None), ("give_up", give_up == DEFAULT_GIVE_UP)) if lacks]
        for name in limits:
            if near := nearest_name(name, ungiven):  # `per` is always given
                raise TypeError(f"Rate({name}={short_repr(limits[name])}): did you mean {near}?")
        self._limits: Final = {
            name: _check_positive(value, f"Rate({name}={short_repr(value)})") for name, value in limits.items()
        }
        self._give_up: Final = _job_options.seconds(give_up, "give_up", "Rate")
        self._period: Final = float(_check_positive(per, f"Rate(per={short_repr(per)})"))
        for name, amount in self._limits.items():
            if not 0 < self._period / float(amount) < math.inf:
                shown = f"Rate({name}={short_repr(limits[name])}, per={short_repr(per)})"
                raise ValueError(f"{shown}: the rate is too high or too low")
        first = next(iter(limits))
        if burst is not None and not isinstance(burst, Mapping) and len(limits) > 1:
            raise TypeError(
                f"Rate(burst={short_repr(burst)}): the rate has several keys; give a dict, such as {{{first!r}: 10}}"
            )
        prefix = f"Rate(burst={short_repr(burst)})"
        own = burst if isinstance(burst, Mapping) else {} if burst is None else {first: burst}
        if unknown := [name for name in own if name not in self._limits]:
            raise ValueError(f"{prefix}: unknown key {unknown[0]!r}; the keys are {', '.join(limits)}")
        self._bursts: Final = {name: _check_positive(value, prefix) for name, value in own.items()}

    @property
    def limits(self) -> dict[str, float]:
        """The amount for `per` seconds, by key."""
        return {name: _amounts.as_number(amount) for name, amount in self._limits.items()}

    @property
    def per(self) -> float:
        """The number of seconds for which `limits` are."""
        return self._period

    @property
    def burst(self) -> dict[str, float]:
        """The largest amount that can be taken at once, after a pause, by key."""
        return {name: _amounts.as_number(self._bursts.get(name, amount)) for name, amount in self._limits.items()}

    @property
    def give_up(self) -> float | None:
        """The number of seconds after which a job that has only been throttled fails; None for no limit."""
        return self._give_up

    def __repr__(self) -> str:
        """Return the call that makes an equal rate."""
        limits = ", ".join(f"{name}={_amounts.amount_text(amount)}" for name, amount in self._limits.items())
        burst = f", burst={ {name: self.burst[name] for name in self._bursts} }" if self._bursts else ""
        give_up = "" if self._give_up == DEFAULT_GIVE_UP else f", give_up={self._give_up}"
        return f"Rate({limits}, per={self._period:g}{burst}{give_up})"


class TokenBucket:
    """The token bucket for one key. The module's docstring describes the algorithm."""

    __slots__ = ("burst", "full_at", "seconds_each", "unstarted_amount")

    def __init__(self, burst: Amount, seconds_each: float) -> None:
        self.burst: Final = burst
        self.seconds_each: Final = seconds_each
        self.full_at = -math.inf
        self.unstarted_amount: Amount = 0  # taken by jobs that have not started; it accrues again from their start

    def available_at(self, amount: Amount) -> float:
        """Return the time, which may be in the past, from which this amount is available.

        The time is infinity if the amount cannot accrue before jobs that have taken theirs have started.
        """
        if self.unstarted_amount and self.unstarted_amount + amount > self.burst:
            return math.inf
        return self.accrued_at(amount, -math.inf)

    def accrued_at(self, amount: Amount, begins_at: float) -> float:
        """Return the time by which this amount has accrued, which may exceed the burst, if nothing else is taken."""
        return max(begins_at, max(self.full_at, begins_at) - float(self.burst - amount) * self.seconds_each)

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


class SlidingWindow(TokenBucket):
    """What the jobs that started within the last `per` seconds have taken, for one key."""

    __slots__ = ("_period", "_started", "_started_amount")

    def __init__(self, limit: Amount, period: float) -> None:
        super().__init__(limit, period / float(limit))
        self._period: Final = period
        self._started: OrderedDict[float, Amount] = OrderedDict()  # by the time of the start, in order
        self._started_amount: Amount = 0  # the sum of these

    def accrued_at(self, amount: Amount, begins_at: float) -> float:
        excess = self._started_amount + self.unstarted_amount + amount - self.burst
        for time, started in self._started.items():
            if excess <= 0:
                break
            excess -= started
            begins_at = max(begins_at, time + self._period)
        return begins_at + self._period * math.ceil(excess / self.burst) if excess > 0 else begins_at

    def reserve(self, amount: Amount, now: float) -> None:
        self.unstarted_amount += amount

    def let_accrue(self, amount: Amount, now: float) -> None:
        self.unstarted_amount -= amount
        self.correct(amount, now, now)

    def correct(self, amount: Amount, now: float, started_at: float) -> None:
        """Take an amount now; put a negative one back where the job has started, if that is in the window."""
        self._forget(now)
        time = now if amount > 0 else started_at
        if amount := max(amount, -self._started.get(time, 0)):
            self._started[time] = self._started.get(time, 0) + amount
            self._started_amount += amount
            self.full_at = max(self.full_at, time + self._period)

    def level(self, now: float) -> float:
        self._forget(now)
        return float(self.burst - self._started_amount - self.unstarted_amount)

    def shift(self, seconds: float) -> None:
        super().shift(seconds)
        self._started = OrderedDict((time + seconds, amount) for time, amount in self._started.items())

    def _forget(self, now: float) -> None:
        while self._started and next(iter(self._started)) + self._period <= now:
            self._started_amount -= self._started.popitem(last=False)[1]


class RateShare(dict[str, Amount]):
    """What a job has taken of a rate, by key.

    Attributes:
        started_at: when the job has started; minus infinity before.

    """

    started_at = -math.inf


RateNeed = dict[str, Amount]
"""Amounts by key: what a job needs, holds as its share, or reports as used."""


class RateResource(Resource):
    """A `Rate` in one pool. Jobs use it up instead of holding it, and it accrues again."""

    __slots__ = ("buckets",)

    is_returnable = False

    def __init__(self, name: str, rate: Rate) -> None:
        super().__init__(name, rate)
        self.buckets: Final[dict[str, TokenBucket]] = {
            key: TokenBucket(rate._bursts[key], rate._period / float(amount))
            if key in rate._bursts
            else SlidingWindow(amount, rate._period)
            for key, amount in rate._limits.items()
        }

    # ---- needs

    def need(self, amount: CheckedNeed, job: AbstractJob[Any]) -> RateNeed:
        """Convert the entry for this rate in a job's `needs` to amounts by key.

        A number is an amount of `requests`, or of the only key. If the rate has a key `requests` and the entry is a
        dict without it, 1 request is added.

        Raises:
            ValueError: a key is unknown, a number could belong to several keys, or an amount is more than the burst.

        """
        amount = self.exact_amount(amount, job)
        amounts = self.parse_amounts(amount, f"{job.label!r} needs {printable(self.name)}={_amounts.need_text(amount)}")
        if isinstance(amount, tuple) and DEFAULT_KEY in self.buckets:
            amounts = {DEFAULT_KEY: 1, **amounts}
        for key, number in amounts.items():
            burst = self.buckets[key].burst
            if number > burst:
                raise ValueError(
                    f"{job.label!r} needs {count_text(number, key)} of {printable(self.name)}, but the burst is "
                    f"{_amounts.amount_text(burst)}: it could never start; give the Rate a larger burst"
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
            key = DEFAULT_KEY if DEFAULT_KEY in self.buckets else next(iter(self.buckets))
            if key != DEFAULT_KEY and len(self.buckets) > 1:
                raise ValueError(f"{prefix}, a Rate of {', '.join(self.buckets)}: give a dict of amounts by key")
            return {key: amount}
        if unknown := [key for key, _ in amount if key not in self.buckets]:
            near = nearest_name(unknown[0], self.buckets)
            hint = f"did you mean {near}?" if near else f"the keys are {', '.join(self.buckets)}"
            raise ValueError(f"{prefix}, but this Rate has no key {short_repr(unknown[0])}: {hint}")
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
            if amount > bucket.burst and float(amount) * bucket.seconds_each > MAX_CAUSED_WAIT:
                raise ValueError(
                    f"{prefix}: this amount of {key} takes more than a year to accrue; it is ignored: "
                    f"give a smaller number"
                )
        return amounts

    def free_at(self, need: RateNeed) -> float:
        return max((self.buckets[key].available_at(amount) for key, amount in need.items()), default=-math.inf)

    def accrued_at(self, need: RateNeed) -> float:
        """Return the time by which this amount has accrued. It may exceed the burst, and be taken in several parts."""
        begins_at = max(self.cooldown.ends_at, self.clock())
        return max((self.buckets[key].accrued_at(amount, begins_at) for key, amount in need.items()), default=begins_at)

    def describe_shortage(self, need: RateNeed, before: int) -> tuple[WaitCause, str]:
        """Name the keys that are short, and estimate the remaining wait.

        The estimate assumes that only the `before` jobs ahead of this one take anything from the rate.
        """
        if self.available_at(need) == math.inf:
            return WaitCause.RATE, f"{self.shown_name}: reserved for jobs that are about to start"
        short = [key for key in need if self.is_used_up_by({key: need[key]}, before)]
        amounts = " and ".join(count_text(need[key], key) for key in short)
        behind = f", behind {count_text(before, 'others')}" if before else ""
        delay = self.delay_text(self._accrued_behind(need, before))
        return WaitCause.RATE, f"{self.shown_name}: {amounts}, in about {delay}{behind}"

    def is_used_up_by(self, need: RateNeed, before: int) -> bool:
        return self._accrued_behind(need, before) > self.clock()

    def _accrued_behind(self, need: RateNeed, before: int) -> float:
        """Return the time by which this amount has accrued, after as much for each of the `before` jobs ahead."""
        return self.accrued_at({key: (before + 1) * amount for key, amount in need.items()})

    def take(self, job: AbstractJob[Any], need: RateNeed) -> RateShare:
        """Take the need of a job, and return the job's share, a dict that `correct` updates. Then call `let_accrue`."""
        now = self.clock()
        for key, amount in need.items():
            self.buckets[key].reserve(amount, now)
        return RateShare(need)

    def correct(self, share: RateShare, used: RateNeed) -> None:
        """Replace amounts in a job's share with those that the job has used, and take or put back the difference."""
        now = self.clock()
        for key, amount in used.items():
            self.buckets[key].correct(amount - share.get(key, 0), now, share.started_at)
            share[key] = amount

    def refund(self, job: AbstractJob[Any], share: RateShare) -> None:
        self.correct(share, dict.fromkeys(share, 0))

    def let_accrue(self, share: RateShare, now: float | None) -> None:
        """Let the amounts in a job's share accrue from now on, because the job starts, or will not start."""
        share.started_at = now = self.clock() if now is None else now
        for key, amount in share.items():
            self.buckets[key].let_accrue(amount, now)
        if self.admission is not None:  # a need may have waited for this
            self.admission.is_current = False

    # ---- clock and views

    def change_clock(self, clock: Callable[[], float], shift: float) -> None:
        super().change_clock(clock, shift)
        for bucket in self.buckets.values():
            bucket.shift(shift)

    def public_total(self) -> dict[str, float]:
        return {key: _amounts.as_number(bucket.burst) for key, bucket in self.buckets.items()}

    def public_free(self) -> dict[str, float]:
        now = self.clock()
        return {key: bucket.level(now) for key, bucket in self.buckets.items()}

    def describe(self) -> str:
        bursts = {key: _amounts.amount_text(bucket.burst) for key, bucket in self.buckets.items()}
        free = self.public_free()
        return f"{self.name}={', '.join(f'{free[key]:.4g} of {burst} {key}' for key, burst in bursts.items())}"

    def public_share(self, need: RateNeed, share: RateNeed) -> dict[str, float]:
        return {key: _amounts.as_number(amount) for key, amount in share.items()}


def count_text(amount: Amount, key: str) -> str:
    return f"1 {key.removesuffix('s')}" if amount == 1 else f"{_amounts.amount_text(amount)} {key}"


def _check_positive(value: Any, prefix: str) -> Amount:
    value = _amounts.plain_number(value)
    if not _amounts.is_number(value):
        raise TypeError(f"{prefix}: give a number above 0")
    if not (_amounts.is_finite(value) and value > 0):
        raise ValueError(f"{prefix}: give a finite number above 0")
    return _amounts.amount_of(value, prefix)


@final
class PerKey:
    """In a `Pool`, a separate limit for each key, such as each host that a crawler visits.

    A job needs one key, a string: `needs={"host": url.host}`. Keys need not be known before; each has its own amount,
    which appears with its first use. A key that nothing uses takes no memory.

    Args:
        limit: how many jobs may have a key at once; or a `Rate` with a key `requests` or with one key, of which each
            job takes 1.
        pause: how many seconds must pass between the end of one job of a key and the start of the next that takes its
            place. Only for a number.
        sizes: the limits of those keys that have another one, by key, such as `{"slow.org": 1}`.

    Raises:
        TypeError: an argument has another type, or a rate has a pause.
        ValueError: a number is out of range, or a job could never take 1 of the rate.

    Example:
        >>> async def fetch(host):
        ...     await anyio.sleep(0)
        >>> jobs = [Job(fetch, host, needs={"host": host}) for host in ["a.org", "b.org", "a.org"]]
        >>> Scheduler(*jobs, pool=Pool(host=PerKey(1))).run()
        True

    """

    __slots__ = ("_limit", "_pause", "_sizes")

    @explain_form
    def __init__(
        self, limit: int | Rate, *, pause: float = 0.0, sizes: Mapping[str, int | Rate] = MappingProxyType({})
    ) -> None:
        limit = _amounts.plain_number(limit)
        _check_limit(limit, f"PerKey({short_repr(limit)})")
        if pause and isinstance(limit, Rate):
            raise TypeError(f"PerKey({short_repr(limit)}): a Rate has no pause: give a number, or a Rate with burst=1")
        if not isinstance(sizes, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"PerKey(sizes={short_repr(sizes)}): give a dict of limits by key")
        self._sizes: Final[dict[str, int | Rate]] = {key: _amounts.plain_number(size) for key, size in sizes.items()}
        for key, size in self._sizes.items():
            prefix = f"PerKey(sizes={{{short_repr(key)}: {short_repr(size)}}})"
            _check_limit(size, prefix)
            if isinstance(size, Rate) != isinstance(limit, Rate):
                raise TypeError(f"{prefix}: give a limit of the kind of {short_repr(limit)}")
        if not _amounts.is_number(pause) or not _amounts.is_finite(pause) or pause < 0:
            kind = ValueError if _amounts.is_number(pause) else TypeError
            raise kind(f"PerKey(pause={short_repr(pause)}): give a finite number of seconds, 0 or more")
        self._limit: Final = limit
        self._pause: Final = float(pause)

    @property
    def limit(self) -> int | Rate:
        """How many jobs may have a key at once, or the rate of each key."""
        return self._limit

    @property
    def pause(self) -> float:
        """The seconds between the end of one job of a key and the start of the next that takes its place."""
        return self._pause

    def limit_of(self, key: str) -> int | Rate:
        """Return how many jobs may have this key at once, or its rate."""
        return self._sizes.get(key, self._limit)

    def __repr__(self) -> str:
        """Return the call that makes an equal limit."""
        pause = f", pause={self._pause:g}" if self._pause else ""
        return f"PerKey({self._limit!r}{pause}{f', sizes={self._sizes!r}' if self._sizes else ''})"


def _check_limit(limit: Any, prefix: str) -> None:
    if isinstance(limit, Rate):
        unit = DEFAULT_KEY if DEFAULT_KEY in limit.limits else next(iter(limit.limits))
        if (unit != DEFAULT_KEY and len(limit.limits) > 1) or limit.burst[unit] < 1:
            raise ValueError(f"{prefix}: a job takes 1 request: give the Rate requests=, and a burst of 1 or more")
    elif not (is_whole := isinstance(limit, int) and not isinstance(limit, bool)) or limit < 1:
        raise (ValueError if is_whole else TypeError)(f"{prefix}: give a whole number, 1 or more, or a Rate")


class Key(Resource):
    """One key of a `PerKey`, with an amount of its own. It has no slots, because two bases with slots do not mix."""

    parks = True

    def __init__(self, family: PerKeyResource, key: str) -> None:
        super().__init__(family.name, family.settings.limit_of(key))
        self.family: Final = family
        self.key: Final = key
        self.parked: Final[dict[WaitingGroup, None]] = {}  # the groups with jobs that are parked with this key
        self.timed_at = math.inf  # the time for which `Admission.timed_keys` has this key; infinity for none
        self.clock = family.clock
        if family.outer_key is not None:
            self.cooldown = family.outer_key.cooldown

    @property
    def shown_name(self) -> str:
        return f"{self.name} '{printable(self.key)}'"

    def wake(self) -> None:
        """Let the first parked job of each group compete again if 1 is free, or when time alone has made it free."""
        if not self.parked:
            return
        admission = self.family.admission
        assert admission is not None  # of the jobs that are parked
        when = self.available_at(self.family.unit_need)
        if when == -math.inf:
            for group in list(self.parked):
                group.unpark(self)
        elif when != self.timed_at:
            self.timed_at = when
            heapq.heappush(admission.timed_keys, (when, next(ready_numbers), self))
        admission.is_current = False

    def throttle(self, seconds: float) -> None:
        """Delay all jobs that need this key for `seconds` from now, unless they are already delayed for longer."""
        super().throttle(seconds)
        self.family.keep(self)

    def public_share(self, need: Any, share: Any) -> Any:
        return self.key

    @abstractmethod
    def used_until(self) -> float:
        """Return the time from which the key is as a new one, if no job holds it."""


class CountedKey(Key, CountedResource):
    """A key that a number of jobs may hold at once, each followed by a pause."""

    def __init__(self, family: PerKeyResource, key: str) -> None:
        super().__init__(family, key)
        self.rest_ends: Final[deque[float]] = deque()  # when the places of ended jobs are free again, ascending
        self.unused_by: AbstractJob[Any] | None = None  # a job that gives back its place without having started

    def free_at(self, need: Amount) -> float:
        """Return the time at which enough pauses are over; infinity if too few jobs have ended."""
        when = super().free_at(need)
        return when if when < math.inf else next(iter(list(self.rest_ends)[int(need - self.free) - 1 :]), math.inf)

    def take(self, job: AbstractJob[Any], need: Amount) -> None:
        while self.rest_ends and self.has_come(self.rest_ends[0]):
            self.rest_ends.popleft()
            self.free += 1
        super().take(job, need)
        self.wake()

    def give_back(self, job: AbstractJob[Any], share: Any) -> None:
        """Take back the place of a job; it is free after the pause."""
        super().give_back(job, share)
        if self.family.settings.pause and job is not self.unused_by:
            self.free -= 1
            self.rest_ends.append(self.clock() + self.family.settings.pause)
            self.family.keep(self)
        self.unused_by = None
        self.wake()

    def refund(self, job: AbstractJob[Any], share: Any) -> None:
        self.unused_by = job

    def public_free(self) -> float:
        """Return the free places; those whose pauses are over are only counted when a job takes one."""
        return super().public_free() + sum(map(self.has_come, list(self.rest_ends)))

    def used_until(self) -> float:
        return max(self.cooldown.ends_at, self.rest_ends[-1] if self.rest_ends else -math.inf)

    def change_clock(self, clock: Callable[[], float], shift: float) -> None:
        super().change_clock(clock, shift)
        self.rest_ends.extend([self.rest_ends.popleft() + shift for _ in range(len(self.rest_ends))])

    def describe_shortage(self, need: Amount, before: int) -> tuple[WaitCause, str]:
        if not self.rest_ends:
            return super().describe_shortage(need, before)
        return WaitCause.RATE, f"{self.shown_name}: pause, {self.delay_text(self.rest_ends[0])} left"

    def make_member_resource(self, need: Amount, share: Any = None) -> PerKeyResource:  # type: ignore[override]
        """Return a resource with this key alone, one job at a time, for the members of a nested scheduler."""
        return PerKeyResource(self.name, PerKey(1), self)


class RateKey(Key, RateResource):
    def correct(self, share: RateShare, used: RateNeed) -> None:
        super().correct(share, used)
        self.family.keep(self)
        self.wake()

    def let_accrue(self, share: RateShare, now: float | None) -> None:
        super().let_accrue(share, now)
        self.family.keep(self)
        self.wake()

    def used_until(self) -> float:
        return max(self.cooldown.ends_at, *(bucket.full_at for bucket in self.buckets.values()))


class PerKeyResource(PoolEntry):
    """A `PerKey` in one pool, or the one key of it that a nested scheduler has taken for its members.

    Args:
        name: the name in the pool.
        settings: the `PerKey`.
        outer_key: the key that the scheduler has taken.

    """

    __slots__ = ("_kept", "is_returnable", "keys", "outer_key", "unit_need")

    has_keys = True

    def __init__(self, name: str, settings: PerKey, outer_key: CountedKey | None = None) -> None:
        super().__init__(name, settings)
        limit: Any = settings.limit
        self.outer_key: Final = outer_key
        self.is_returnable = not isinstance(limit, Rate)
        self.unit_need: Final[Any] = RateResource(name, limit).parse_amounts(1, name) if isinstance(limit, Rate) else 1
        self.keys: Final[WeakValueDictionary[str, Key]] = WeakValueDictionary()  # those that are in use
        # Those that may be in use although no job refers to them, that which was checked last at the end.
        self._kept: Final[OrderedDict[Key, None]] = OrderedDict()
        if outer_key is not None:
            self.clock = outer_key.clock

    def need(self, amount: CheckedNeed, job: AbstractJob[Any]) -> str:
        """Check the entry for this resource in a job's `needs`, and return the key.

        Raises:
            ValueError: it is not a string, or not the key that the scheduler of the job has taken.

        """
        if not isinstance(amount, str):
            raise self.need_error(job, _amounts.need_text(amount), ", which is a PerKey: give the key, a string")
        if self.outer_key is not None and amount != self.outer_key.key:
            others = f", but an enclosing scheduler has needs, and only the key '{printable(self.outer_key.key)}'"
            raise self.need_error(job, _amounts.need_text(amount), others)
        return amount

    def key(self, key: str) -> Key:
        """Return the resource of a key. Only the thread of the event loop may call this."""
        resource = self.keys.get(key)
        if resource is None:
            self.keys[key] = resource = CountedKey(self, key) if self.is_returnable else RateKey(self, key)
        return resource

    def find_key(self, job: AbstractJob[Any]) -> Key | None:
        """Return the key that a job needs; None if nothing uses it. Any thread may call this."""
        return self.keys.get(str(job._options.needs[self.name]))

    def resolve(self, amount: CheckedNeed, job: AbstractJob[Any]) -> tuple[Resource, Any]:
        return self.key(self.need(amount, job)), self.unit_need

    def keep(self, key: Key) -> None:
        """Keep a key until its rate is full and its pauses and throttles are over.

        Each call checks two keys, so that more are forgotten than come.
        """
        self._kept[key] = None
        for checked in list(itertools.islice(self._kept, 2)):
            del self._kept[checked]
            if checked.used_until() > self.clock():
                self._kept[checked] = None

    def make_member_resource(self, need: str) -> PerKeyResource:
        """Return the resource of the members of a nested scheduler that needs a key, for a check before the run."""
        return PerKeyResource(self.name, self.settings, CountedKey(self, need))

    def change_clock(self, clock: Callable[[], float], shift: float) -> None:
        super().change_clock(clock, shift)
        for key in list(self.keys.values()):
            key.change_clock(clock, shift)

    def public_total(self) -> Any:
        limit: Any = self.settings.limit
        return limit.burst if isinstance(limit, Rate) else limit

    def public_free(self) -> dict[str, Any]:
        return {key: resource.public_free() for key, resource in list(self.keys.items())}

    def describe(self) -> str:
        return f"{self.name}={self.settings.limit} for each key, {len(self.keys)} in use"
