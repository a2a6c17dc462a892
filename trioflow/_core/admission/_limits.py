"""Limits on needs: a `Pool` of limited resources, and in it a `Budget`, a `Rate`, or a limit for each key, `PerKey`.

**Pools and budgets.** A pool has amounts that come back, and budgets, which are used up. Views of them are for users.

**Rates.** A key has a sliding window: the amounts that jobs took which started within the last `per` seconds. No
interval of this length has more than the limit, as providers count. For a server that counts otherwise, a key has a
burst: a bucket that fills steadily up to it. The algorithm is GCRA, the generic cell rate algorithm of ATM networks
(ITU-T I.371, "virtual scheduling"). Its only state is the time when the bucket will be full. Taking an amount postpones
that time by `amount / rate` seconds. An amount is available once the bucket will be full within `(burst - amount) /
rate` seconds.

The amount that a job takes at its admission begins to accrue again only when the job starts. Therefore, the jobs that
start in any interval of `t` seconds take at most the limit, or `burst + rate * t`, however long admitted jobs wait for
a limiter's token, or for the event loop.

**Limits for each key**, such as each host that a crawler visits. The resource of a pool is a `PerKeyResource`. Jobs
wait for the `Key` in it and take 1 of it, as of an ordinary resource. A key exists while jobs wait for it or hold it,
and until its rate is full or its gaps are over. So the memory depends on the keys in use, not on all keys so far.

Jobs whose key is taken are **parked** with it, and no round of the admission looks at them. When the key is free for a
job, the first job of each group competes again. So a round costs the same, however many keys there are.
"""

from __future__ import annotations

import heapq
import itertools
import math
import time
from abc import abstractmethod
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, Never, final
from weakref import WeakValueDictionary

from ..._hints import explain_form, nearest_name
from ..base import _amounts, _logger
from ..base._amounts import Amount, CheckedNeed, ExactNeed
from ..base._states import WaitCause
from ..base._text_forms import clause, short_repr, size_text
from ..job import _job_options
from ..job._errors import BudgetSpent
from ..job._job import AbstractJob, AnyJob, RunExtras, is_scheduler
from ..job._labels import printable
from ._admission import WaitingGroup
from ._policies import ready_numbers
from ._resource import CountedResource, PoolEntry, Resource

MAX_COUNTED_LABELS: Final = 1000
"""The maximum number of labels whose use is counted. If there are more, the smallest are dropped."""


@final
class Budget:
    """In a `Pool`, an amount that is used up, such as money or tokens.

    Use it when calls cost money, or take from an amount that does not come back.

    The need of a job is reserved when it starts, and used up when it settles. `current_job().used(usd=0.013)` corrects
    it in both directions, until the job settles. Starting a job never exceeds a budget. A job that needs more than is
    left waits as long as running jobs could return enough. Then it is BLOCKED, with a `BudgetSpent`.

    Args:
        amount: the amount, more than 0: a number, or a size such as "1 GiB".

    Raises:
        TypeError: the amount is not a number.
        ValueError: the amount is not above 0.

    Example:
        >>> async def ask():
        ...     current_job().used(usd=0.25)
        >>> pool = Pool(usd=Budget(1))
        >>> jobs = [Job(ask, needs={"usd": 0.5}) for _ in range(9)]
        >>> Scheduler(*jobs, pool=pool, jobs_window=1).run(), pool.free["usd"]
        (False, 0.25)
        >>> sum(job.is_succeeded() for job in jobs), type(jobs[-1].raised_exception()).__name__
        (3, 'BudgetSpent')

    """

    __slots__ = ("_amount", "_is_size")

    @explain_form
    def __init__(self, amount: _amounts.SingleNeed) -> None:
        prefix = f"Budget({short_repr(amount)})"
        self._amount: Final = _amounts.amount_of(amount, prefix)
        self._is_size: Final = _amounts.is_size(amount)
        if self._amount <= 0:
            raise ValueError(f"{prefix}: give an amount above 0")

    @property
    def amount(self) -> float:
        """The amount as a number."""
        return _amounts.as_number(self._amount)

    def __repr__(self) -> str:
        """Return the call that makes an equal budget."""
        return f"Budget({self.amount!r})"


class BudgetShare:
    """The amount of a budget that a job has reserved, or has reported as used."""

    __slots__ = ("amount", "is_reported", "members")

    def __init__(self, amount: Amount, members: BudgetResource | None) -> None:
        self.amount = amount
        # Whether `used` has been called.
        self.is_reported = False
        # The budget of the members, if the job is a scheduler.
        self.members: Final = members

    @property
    def used(self) -> Amount:
        return self.amount if self.members is None else self.members.used


class BudgetResource(CountedResource):
    """A `Budget` in a pool, or the part of a budget that a nested scheduler has reserved for its members."""

    is_budget = True

    def __init__(self, name: str, total: Amount, settings: Any, format_amount: Callable[[Amount], str]) -> None:
        super().__init__(name, total, None, format_amount, settings)
        # The amounts of running jobs, which are not in `free`.
        self.reserved: Amount = 0
        self.shares: Final[dict[AbstractJob[Any], BudgetShare]] = {}
        # The amounts that jobs have used, by label, each with the number of these jobs.
        self._used_by_label: dict[str, tuple[Amount, int]] = {}
        self._has_logged = False

    def parse_used(self, value: ExactNeed, prefix: str) -> Amount:
        """Check the amount that a job has reported as used, and return it.

        Raises:
            ValueError: amounts by key were given, which only a rate allows.

        """
        if isinstance(value, tuple):
            raise ValueError(f"{prefix}: it is a Budget: give one number")
        return value

    def take(self, job: AbstractJob[Any], need: Amount) -> BudgetShare:  # type: ignore[override]
        super().take(job, need)
        self.reserved += need
        share = BudgetShare(need, self.make_member_resource(need) if is_scheduler(job) else None)
        self.shares[job] = share
        return share

    def correct(self, share: BudgetShare, used: Amount) -> None:
        """Replace the amount that a job has reserved with the amount that it has used."""
        difference = used - share.amount
        share.amount, share.is_reported = used, True
        self.free -= difference
        self.reserved += difference
        if self.free < 0 and not self._has_logged:
            self._has_logged = True
            _logger.warn(
                f"the budget {printable(self.name)} of {self.format_amount(self.total)} is exceeded by "
                f"{self.format_amount(-self.free)}, because a job has used more than it needs; no further job starts"
            )

    def refund(self, job: AbstractJob[Any], share: BudgetShare) -> None:
        """Return the reservation of a job that does not start, or whose attempt does not count, unless it was used."""
        if not share.is_reported:
            self.free += share.amount
            self.reserved -= share.amount
            share.amount = 0

    def give_back(self, job: AbstractJob[Any], share: BudgetShare) -> None:  # type: ignore[override]
        """Count the share of a job as used. The share of a scheduler is the sum that its members have used."""
        del self.holders[job], self.shares[job]
        if share.members is not None:
            self.correct(share, share.used)
        self.reserved -= share.amount
        self.count_used(job, share.amount)

    def charge(self, job: AbstractJob[Any], used: Amount) -> None:
        """Use up the amount that a restored job had used, even beyond the free amount."""
        self.free -= used
        self.count_used(job, used)

    @property
    def used(self) -> Amount:
        return self.total - self.free - self.reserved

    def count_used(self, job: AbstractJob[Any], used: Amount) -> None:
        if used:
            earlier, count = self._used_by_label.get(job.label, (0, 0))
            has_used = job._extras is not None and self.name in (job._extras.earlier_use or ())
            self._used_by_label[job.label] = earlier + used, count + (not has_used or not count)
            if len(self._used_by_label) > 2 * MAX_COUNTED_LABELS:
                self._used_by_label = dict(self._most_used(MAX_COUNTED_LABELS))

    def _most_used(self, number: int) -> list[tuple[str, tuple[Amount, int]]]:
        return heapq.nlargest(number, self._used_by_label.items(), key=lambda item: item[1][0])

    def top_user(self) -> str:
        """Return a text about the job, or the jobs with the same label, that used most, or "" if none used anything."""
        for label, (used, count) in self._most_used(1):
            users = f"'{printable(label)}'" if count == 1 else f"{count} jobs '{printable(label)}'"
            return f"{users} used most: {self.format_amount(used)}"
        return ""

    def can_ever_meet(self, need: Amount) -> bool:
        """Return whether a need could be met if running jobs used nothing of their reservations."""
        return need <= self.free + self.reserved

    def spent_error(self, job: AbstractJob[Any], need: Amount) -> BudgetSpent:
        """Return the error of a job whose need can never be met, with why its last attempt has failed."""
        attempts = (job._extras or RunExtras).failed_attempts[-1:]
        facts = [self.top_user(), *(f"attempt {attempt.number} failed: {attempt.error}" for attempt in attempts)]
        return BudgetSpent(job, self.name, self.format_amount(need), self.describe_left(), *filter(None, facts))

    def describe_shortage(self, need: Amount, before: int) -> tuple[WaitCause, str]:
        return WaitCause.RESOURCE, f"{self.name}: {self.describe_left()}{self._holders_text()}"

    def describe_left(self) -> str:
        reserved = self._reserved_text(self.reserved)
        return f"{self.format_amount(self.free)} of {self.format_amount(self.total)} left{reserved}"

    def describe_spent(self) -> str:
        # While instruments are notified of its end, a job still has its share.
        ended = [share for job, share in list(self.shares.items()) if job.is_settled()]
        used = self.used + sum(share.used for share in ended)
        reserved = self.reserved - sum(share.amount for share in ended)
        return f"{self.format_amount(used)} of {self.format_amount(self.total)} spent{self._reserved_text(reserved)}"

    def _reserved_text(self, reserved: Amount) -> str:
        return clause(", {} reserved", reserved and self.format_amount(reserved))

    def public_share(self, need: Amount, share: BudgetShare) -> float:  # type: ignore[override]
        return _amounts.as_number(share.amount)

    def make_member_resource(self, need: Amount, share: BudgetShare | None = None) -> BudgetResource:  # type: ignore[override]
        """Return the budget of the members of a nested scheduler. Their use counts as the use of the scheduler."""
        if share is not None:
            assert share.members is not None
            return share.members
        resource = BudgetResource(self.name, need, self.settings, self.format_amount)
        resource.cooldown, resource.clock = self.cooldown, self.clock
        return resource

    def describe(self) -> str:
        return f"{self.name}={self.describe_left()}"


@final
class Pool:
    """Limited resources that jobs need while they run. Several schedulers in one event loop can share a pool.

    Use it when jobs share limited things: memory, graphics cards, licences, requests per minute.

    Args:
        resources: the total of each resource, by name. A total is a number, a size such as "24 GiB", a `Rate`, a
            `Budget`, a `PerKey`, or a list of named units. Each unit is given to a single job at a time.

    Raises:
        TypeError: a total has another type.
        ValueError: a total is not a valid amount, a unit is listed twice, or a name is reserved.

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

    __slots__ = ("_clock", "_loop", "_resources", "_users")

    @explain_form
    def __init__(self, **resources: _amounts.SingleNeed | Rate | Budget | PerKey | list[Any] | tuple[Any, ...]) -> None:
        self._resources: Final = {name: _make_resource(name, value) for name, value in resources.items()}
        # The running schedulers that use the pool, each with its resource holder: see `register_user`.
        self._users: Final[dict[AbstractJob[Any], AbstractJob[Any] | None]] = {}
        # An object that identifies the event loop of these schedulers or, after their runs, the loop of the last run.
        self._loop: object = None
        # The clock of that loop or, after the last run, a clock that continues from its time in real time.
        self._clock: Callable[[], float] = time.monotonic

    @property
    def total(self) -> dict[str, Any]:
        """The total of each resource, by name. A `Rate` has the burst by key, and a `PerKey` the amount of each key."""
        return {name: resource.public_total() for name, resource in self._resources.items()}

    @property
    def free(self) -> dict[str, Any]:
        """The free amount of each resource, by name. A `Rate` has the current amount by key.

        For a `PerKey`, it is a dict of the keys in use.
        """
        return {name: resource.public_free() for name, resource in self._resources.items()}

    @property
    def budgets(self) -> dict[str, float]:
        """The rest of each `Budget`, by name. It is negative if jobs have used more than they needed."""
        return {name: resource.public_free() for name, resource in self._resources.items() if resource.is_budget}

    def __repr__(self) -> str:
        """Return the name, the free amount and the total of each resource."""
        return f"<Pool {', '.join(resource.describe() for resource in self._resources.values())}>"

    # ---- for the rest of the package

    def _enter(
        self, user: AbstractJob[Any], holder: AbstractJob[Any] | None, loop: object, clock: Callable[[], float]
    ) -> None:
        """Register a scheduler that starts to run with this pool.

        Resources store times on the clock of the event loop. When the pool is used in another loop, these times are
        shifted, so that the remaining waits stay the same.

        Args:
            user: the scheduler.
            holder: the resource holder of the scheduler. See `register_user`.
            loop: an object that identifies the event loop.
            clock: returns the time of the loop, in seconds.

        Raises:
            RuntimeError: a run in another event loop is using the pool.
            ValueError: another user of the pool has a different resource holder.

        """
        if self._users and self._loop is not loop:
            raise RuntimeError(
                f"the pool of {user.label!r} is in use by a scheduler in another event loop: schedulers can share a "
                f"pool only within one loop; make a Pool for each loop"
            )
        if not self._users:
            self._change_clock(clock, 0.0 if self._loop is loop else clock() - self._clock())
        register_user(self._users, user, holder)
        self._loop = loop

    def _leave(self, user: AbstractJob[Any]) -> None:
        del self._users[user]
        if not self._users:
            left_at, real_start = self._clock(), time.monotonic()
            self._change_clock(lambda: left_at + (time.monotonic() - real_start), 0.0)

    def _change_clock(self, clock: Callable[[], float], shift: float) -> None:
        self._clock = clock
        for resource in self._resources.values():
            resource.change_clock(clock, shift)


def check_pool(pool: object, name: str, subject: _job_options.Subject) -> Pool | None:
    """Check the option `pool` of a scheduler, and return it.

    Args:
        pool: the value of the option.
        name: the name of the option, for errors.
        subject: the scheduler's name in errors.

    Raises:
        TypeError: the value is not a `Pool`.

    """
    if pool is not None and not isinstance(pool, Pool):
        advice = "give a Pool, such as Pool(cpu=8, gpu=['0', '1']), or None"
        raise _job_options.bad_value_error(TypeError, pool, name, subject, advice)
    return pool


def register_user(
    users: dict[AbstractJob[Any], AbstractJob[Any] | None], user: AbstractJob[Any], holder: AbstractJob[Any] | None
) -> None:
    """Add a scheduler to the users of a pool.

    Args:
        users: the users of the pool, each with its resource holder.
        user: the scheduler.
        holder: the resource holder of the scheduler: the innermost enclosing scheduler that has needs, or None.

    Raises:
        ValueError: another user has a different holder. A deadlock would be possible: a job inside the holder could
            wait for a job outside, which could wait for the holder.

    """
    other = next(iter(users), user)
    if (other_holder := users.setdefault(other, holder)) is not holder:
        inside: Any = holder or other_holder
        raise ValueError(
            f"{user.label!r} and {other.label!r} share a pool, but {inside.label!r}, which has needs, contains only "
            f"one of them: give each of them a separate Pool"
        )
    users[user] = holder


def _make_resource(name: str, value: object) -> PoolEntry:
    if name in _job_options.RUN_RESOURCES:
        raise ValueError(f"Pool: {name!r} is the name of a built-in resource; choose another name")
    if isinstance(value, Rate):
        return RateResource(name, value)
    if isinstance(value, PerKey):
        return PerKeyResource(name, value)
    if isinstance(value, Budget):
        return BudgetResource(name, value._amount, value, size_text if value._is_size else _amounts.amount_text)
    if isinstance(value, (list, tuple)):
        units: tuple[Any, ...] = tuple(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        if any(unit in units[:index] for index, unit in enumerate(units)):
            raise ValueError(f"Pool({printable(name)}={short_repr(value)}): duplicate unit; list each unit once")
        return CountedResource(name, len(units), units)
    amount = _amounts.amount_of(value, f"Pool({printable(name)}={short_repr(value)})")
    form = size_text if _amounts.is_size(value) else _amounts.amount_text
    return CountedResource(name, amount, format_amount=form)


@final
class ResourceView:
    """A read-only view of a resource of a pool, which also computes how long jobs have to wait for it."""

    def __init__(self, resource: Any) -> None:
        self._resource: Final[PoolEntry] = resource

    @property
    def name(self) -> str:
        return self._resource.name

    def describe(self) -> str:
        return self._resource.describe()

    @property
    def budget_text(self) -> str:
        """The spent part of a `Budget` as text, such as "usd 4.5 of 5 spent", or empty for other resources."""
        return f"{self.name} {self._resource.describe_spent()}" if isinstance(self._resource, BudgetResource) else ""

    @property
    def total(self) -> float | None:
        """The total amount, or None for a `Rate` or a `PerKey`."""
        return self._resource.public_total() if isinstance(self._resource, CountedResource) else None

    @property
    def is_per_key(self) -> bool:
        return isinstance(self._resource, PerKeyResource)

    def key_total(self, key: str) -> float | None:
        """Return the total of a key of a `PerKey`, or None for rates, and for other resources."""
        return self._resource.settings.limit_of(key) if self.is_per_key and self._resource.is_returnable else None

    def start_delay(self, jobs: Iterable[AnyJob]) -> float:
        """Return the seconds until all needs of these jobs have accrued and the throttle, if any, has ended.

        For a `PerKey`, return 0.
        """
        resource = self._resource
        jobs = list(jobs)
        if not jobs or not isinstance(resource, Resource):
            return 0.0
        ends_at = resource.cooldown.ends_at
        if isinstance(resource, RateResource):
            total = Counter[Any]()
            for job in jobs:
                total.update(resource.need(job._options.needs[self.name], job))
            ends_at = resource.accrued_at(dict(total))
        return max(0.0, ends_at - resource.clock())


def resource_views(pool: Pool | None) -> list[ResourceView]:
    if pool is None:
        return []
    return [ResourceView(resource) for resource in pool._resources.values()]


def copy_pool(pool: Pool) -> Pool:
    """Return a new pool with the same totals. In place of a list of named units, it has a resource of this number."""
    return Pool(**{name: resource.settings for name, resource in pool._resources.items()})


MAX_CAUSED_WAIT: Final = 366 * 86_400
"""The maximum wait, in seconds, that the usage reported by a job may cause. A longer wait is probably a mistake."""
DEFAULT_KEY: Final = "requests"
"""The default key: a job takes 1 of it."""
DEFAULT_GIVE_UP: Final = 900.0
"""The default of `give_up`, in seconds: longer than most servers ask a client to wait, and shorter than a night."""


@final
class Rate:
    """In a `Pool`, a resource that accrues over time, such as the requests that a server accepts.

    Use it when a server accepts a number of requests, or of tokens, per minute.

    The jobs that start in any interval of `per` seconds take at most the amounts of `limits`. A job waits until all its
    needs are available together, takes them when it starts, and gives nothing back.

    Args:
        limits: one or more keys, each with the amount for `per` seconds, more than 0. If there is a key
            `requests`, a job that needs the rate takes 1 of it by default. Of other keys, such as `tokens`, a job takes
            only as much as it asks for.
        per: the number of seconds that these amounts are for, finite, more than 0.
        burst: the largest amount that can be taken at once, after a pause, more than 0, for a server that spreads the
            amounts: a number if there is a single key, or a dict by key. The amount of `limits` then accrues steadily,
            so that the jobs that start in `per` seconds may take both together.
        give_up: an attempt that begins this number of seconds after the first throttled attempt, or later, fails the
            job if it is throttled, too. None for no limit.

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
        *values: Never,
        per: float,
        burst: _amounts.Need | None = None,
        give_up: float | None = DEFAULT_GIVE_UP,
        **limits: _amounts.SingleNeed,
    ) -> None:
        if values or not limits:
            shown = ", ".join([*map(short_repr, values), f"per={short_repr(per)}"])
            raise TypeError(f"Rate({shown}): give each amount with its key, such as Rate(requests=500, per=60)")
        # The options that a key may have been meant for. `per` is always given.
        ungiven = [name for name, lacks in (("burst", burst is None), ("give_up", give_up == DEFAULT_GIVE_UP)) if lacks]
        for name in limits:
            if near := nearest_name(name, ungiven):
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
            raise TypeError(f"Rate(burst={short_repr(burst)}): for several keys give a dict, such as {{{first!r}: 10}}")
        prefix = f"Rate(burst={short_repr(burst)})"
        own = burst
        if not isinstance(own, Mapping):
            own = {} if own is None else {first: own}
        if unknown := [name for name in own if name not in self._limits]:
            raise ValueError(f"{prefix}: unknown key {unknown[0]!r}; the keys are {', '.join(limits)}")
        self._bursts: Final = {name: _check_positive(value, prefix) for name, value in own.items()}

    @property
    def limits(self) -> dict[str, float]:
        """The amount for `per` seconds, by key."""
        return {name: _amounts.as_number(amount) for name, amount in self._limits.items()}

    @property
    def per(self) -> float:
        """The period of `limits`, in seconds."""
        return self._period

    @property
    def burst(self) -> dict[str, float]:
        """The largest amount that can be taken at once, after a pause, by key."""
        return {name: _amounts.as_number(self._bursts.get(name, amount)) for name, amount in self._limits.items()}

    @property
    def give_up(self) -> float | None:
        """A job that has only been throttled fails after this many seconds. None is no limit."""
        return self._give_up

    def __repr__(self) -> str:
        """Return the call that makes an equal rate."""
        limits = ", ".join(f"{name}={amount!r}" for name, amount in self.limits.items())
        burst = clause(", burst={}", {name: self.burst[name] for name in self._bursts})
        give_up = "" if self._give_up == DEFAULT_GIVE_UP else f", give_up={self._give_up}"
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
    """The amounts of a key that the jobs took which started within the last `per` seconds."""

    def __init__(self, limit: Amount, period: float) -> None:
        super().__init__(limit, period / float(limit))
        self._period: Final = period
        # The amounts by the time of the start, in order.
        self._started: OrderedDict[float, Amount] = OrderedDict()
        # The sum of these amounts.
        self._started_amount: Amount = 0

    def accrued_at(self, amount: Amount, begins_at: float) -> float:
        excess = self._started_amount + self.unstarted_amount + amount - self.burst
        for when, started in self._started.items():
            if excess <= 0:
                break
            excess -= started
            begins_at = max(begins_at, when + self._period)
        return begins_at + self._period * math.ceil(excess / self.burst) if excess > 0 else begins_at

    def reserve(self, amount: Amount, now: float) -> None:
        self.unstarted_amount += amount

    def let_accrue(self, amount: Amount, now: float) -> None:
        self.unstarted_amount -= amount
        self.correct(amount, now, now)

    def correct(self, amount: Amount, now: float, started_at: float) -> None:
        """Take an amount now. Put a negative amount back where the job has started, if that is in the window."""
        self._forget(now)
        when = now if amount > 0 else started_at
        if amount := max(amount, -self._started.get(when, 0)):
            self._started[when] = self._started.get(when, 0) + amount
            self._started_amount += amount
            self.full_at = max(self.full_at, when + self._period)

    def level(self, now: float) -> float:
        self._forget(now)
        return float(self.burst - self._started_amount - self.unstarted_amount)

    def shift(self, seconds: float) -> None:
        super().shift(seconds)
        self._started = OrderedDict((when + seconds, amount) for when, amount in self._started.items())

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
            hint = clause("did you mean {}?", near) or f"the keys are {', '.join(self.buckets)}"
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

        The estimate assumes that only the `before` jobs ahead of this job take anything from the rate.
        """
        if self.available_at(need) == math.inf:
            return WaitCause.RATE, f"{self.shown_name}: reserved for jobs that are about to start"
        short = [key for key in need if self.is_used_up_by({key: need[key]}, before)]
        amounts = " and ".join(count_text(need[key], key) for key in short)
        behind = clause(", behind {}", before and count_text(before, "others"))
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
        if self.admission is not None:
            # A need may have waited for this.
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

    Use it when each host, customer or file has a limit of its own.

    A job needs a single key, a string: `needs={"host": url.host}`. Keys need not be known before. Each has its own
    amount, which appears with its first use. A key that nothing uses takes no memory.

    Args:
        limit: the number of jobs that may have a key at once, or a `Rate` with a single key or with the key `requests`.
            Each job takes 1 of this key.
        gap: how many seconds must pass between the end of a job of a key and the start of the next job that takes its
            place. Only for a number.
        sizes: the limits of keys that differ from `limit`, by key, such as `{"slow.org": 1}`.

    Raises:
        TypeError: an argument has another type, or a rate has a gap.
        ValueError: a number is out of range, or a job could never take 1 of the rate.

    Example:
        >>> async def fetch(host):
        ...     await anyio.sleep(0)
        >>> jobs = [Job(fetch, host, needs={"host": host}) for host in ["a.org", "b.org", "a.org"]]
        >>> Scheduler(*jobs, pool=Pool(host=PerKey(1))).run()
        True

    """

    __slots__ = ("_gap", "_limit", "_sizes")

    @explain_form
    def __init__(
        self, limit: int | Rate, *, gap: float = 0.0, sizes: Mapping[str, int | Rate] = MappingProxyType({})
    ) -> None:
        limit = _amounts.plain_number(limit)
        _check_limit(limit, f"PerKey({short_repr(limit)})")
        if gap and isinstance(limit, Rate):
            raise TypeError(f"PerKey({short_repr(limit)}): a Rate has no gap: give a number, or a Rate with burst=1")
        if not isinstance(sizes, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"PerKey(sizes={short_repr(sizes)}): give a dict of limits by key")
        self._sizes: Final[dict[str, int | Rate]] = {key: _amounts.plain_number(size) for key, size in sizes.items()}
        for key, size in self._sizes.items():
            prefix = f"PerKey(sizes={{{short_repr(key)}: {short_repr(size)}}})"
            _check_limit(size, prefix)
            if isinstance(size, Rate) != isinstance(limit, Rate):
                raise TypeError(f"{prefix}: give a limit of the kind of {short_repr(limit)}")
        if not _amounts.is_number(gap) or not _amounts.is_finite(gap) or gap < 0:
            kind = ValueError if _amounts.is_number(gap) else TypeError
            raise kind(f"PerKey(gap={short_repr(gap)}): give a finite number of seconds, 0 or more")
        self._limit: Final = limit
        self._gap: Final = float(gap)

    @property
    def limit(self) -> int | Rate:
        """How many jobs may have a key at once, or the rate of each key."""
        return self._limit

    @property
    def gap(self) -> float:
        """The seconds between the end of a job of a key and the start of the next job that takes its place."""
        return self._gap

    def limit_of(self, key: str) -> int | Rate:
        """Return how many jobs may have this key at once, or its rate."""
        return self._sizes.get(key, self._limit)

    def __repr__(self) -> str:
        """Return the call that makes an equal limit."""
        return f"PerKey({self._limit!r}{clause(', gap={!r}', self._gap)}{clause(', sizes={!r}', self._sizes)})"


def _check_limit(limit: Any, prefix: str) -> None:
    if isinstance(limit, Rate):
        unit = DEFAULT_KEY if DEFAULT_KEY in limit.limits else next(iter(limit.limits))
        if (unit != DEFAULT_KEY and len(limit.limits) > 1) or limit.burst[unit] < 1:
            raise ValueError(f"{prefix}: a job takes 1 request: give the Rate requests=, and a burst of 1 or more")
    elif not (is_whole := isinstance(limit, int) and not isinstance(limit, bool)) or limit < 1:
        raise (ValueError if is_whole else TypeError)(f"{prefix}: give a whole number, 1 or more, or a Rate")


class Key(Resource):
    """A key of a `PerKey`, with an amount of its own. It has no slots, because two bases with slots do not mix."""

    parks = True

    def __init__(self, family: PerKeyResource, key: str) -> None:
        super().__init__(family.name, family.settings.limit_of(key))
        self.family: Final = family
        self.key: Final = key
        # The groups with jobs that are parked with this key.
        self.parked: Final[dict[WaitingGroup, None]] = {}
        # The time of this key in `Admission.timed_keys`, or infinity for none.
        self.timed_at = math.inf
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
        # Some of the parked jobs may fit now.
        assert admission is not None
        if (when := self.available_at(self.family.unit_need)) == -math.inf:
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

    def public_share(self, need: object, share: object) -> Any:
        return self.key

    @abstractmethod
    def used_until(self) -> float:
        """Return the time when the key becomes as good as new, if no job holds it."""


class CountedKey(Key, CountedResource):
    """A key that a number of jobs may hold at once, each followed by a gap."""

    def __init__(self, family: PerKeyResource, key: str) -> None:
        super().__init__(family, key)
        # When the places of ended jobs are free again, ascending.
        self.rest_ends: Final[deque[float]] = deque()
        # A job that gives back its place without having started.
        self.unused_by: AbstractJob[Any] | None = None

    def free_at(self, need: Amount) -> float:
        """Return the time when enough gaps are over, or infinity if too few jobs have ended."""
        when = super().free_at(need)
        return when if when < math.inf else next(iter(list(self.rest_ends)[int(need - self.free) - 1 :]), math.inf)

    def take(self, job: AbstractJob[Any], need: Amount) -> None:
        while self.rest_ends and self.has_come(self.rest_ends[0]):
            self.rest_ends.popleft()
            self.free += 1
        super().take(job, need)
        self.wake()

    def give_back(self, job: AbstractJob[Any], share: Any) -> None:
        """Take back the place of a job. It is free after the gap."""
        super().give_back(job, share)
        if self.family.settings.gap and job is not self.unused_by:
            self.free -= 1
            self.rest_ends.append(self.clock() + self.family.settings.gap)
            self.family.keep(self)
        self.unused_by = None
        self.wake()

    def refund(self, job: AbstractJob[Any], share: Any) -> None:
        self.unused_by = job

    def public_free(self) -> float:
        """Return the free places. Places whose gap is over are only counted when a job takes a place."""
        return super().public_free() + sum(map(self.has_come, list(self.rest_ends)))

    def used_until(self) -> float:
        return max(self.cooldown.ends_at, self.rest_ends[-1] if self.rest_ends else -math.inf)

    def change_clock(self, clock: Callable[[], float], shift: float) -> None:
        super().change_clock(clock, shift)
        self.rest_ends.extend([self.rest_ends.popleft() + shift for _ in range(len(self.rest_ends))])

    def describe_shortage(self, need: Amount, before: int) -> tuple[WaitCause, str]:
        if not self.rest_ends:
            return super().describe_shortage(need, before)
        return WaitCause.RATE, f"{self.shown_name}: gap, {self.delay_text(self.rest_ends[0])} left"

    def make_member_resource(self, need: Amount, share: object = None) -> PerKeyResource:  # type: ignore[override]
        """Return a resource with this key alone, one job at a time, for the members of a nested scheduler."""
        return PerKeyResource(self.name, PerKey(1), self)


class RateKey(Key, RateResource):
    def take(self, job: AbstractJob[Any], need: RateNeed) -> RateShare:
        share = super().take(job, need)
        # For the next job, which need not wait until this job starts.
        self.wake()
        return share

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
    """A `PerKey` in a pool, or the single key of it that a nested scheduler has taken for its members.

    Args:
        name: the name in the pool.
        settings: the `PerKey`.
        outer_key: the key that the scheduler has taken.

    """

    has_keys = True

    def __init__(self, name: str, settings: PerKey, outer_key: CountedKey | None = None) -> None:
        super().__init__(name, settings)
        limit: Any = settings.limit
        self.outer_key: Final = outer_key
        self.is_returnable = not isinstance(limit, Rate)
        self.unit_need: Final[Any] = RateResource(name, limit).parse_amounts(1, name) if isinstance(limit, Rate) else 1
        # The keys that are in use.
        self.keys: Final[WeakValueDictionary[str, Key]] = WeakValueDictionary()
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
        if (resource := self.keys.get(key)) is None:
            self.keys[key] = resource = CountedKey(self, key) if self.is_returnable else RateKey(self, key)
        return resource

    def find_key(self, job: AbstractJob[Any]) -> Key | None:
        """Return the key that a job needs, or None if nothing uses it. Any thread may call this."""
        return self.keys.get(str(job._options.needs[self.name]))

    def resolve(self, amount: CheckedNeed, job: AbstractJob[Any]) -> tuple[Resource, Any]:
        return self.key(self.need(amount, job)), self.unit_need

    def keep(self, key: Key) -> None:
        """Keep a key until its rate is full and its gaps and throttles are over.

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
