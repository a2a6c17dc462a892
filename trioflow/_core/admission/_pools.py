"""A `Pool` of limited resources, with amounts that come back and a `Budget`, which is used up; views of them for users.

Decided in docs/decisions: 14-needs-of-schedulers, 16-shared-pools.
"""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final, final

from ..._hints import explain_form
from ..base import _amounts, _logger
from ..base._amounts import Amount, ExactNeed
from ..base._states import WaitCause
from ..base._text_forms import clause, short_repr, size_text
from ..job import _job_options
from ..job._errors import BudgetSpent
from ..job._job import AnyJob, RunExtras, is_scheduler
from ..job._labels import printable
from ._admission import jobs_waiting_for
from ._keys import PerKey, PerKeyResource
from ._rates import Rate, RateResource
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
    def __init__(self, amount: float | str | Amount) -> None:
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

    __slots__ = ("amount", "is_reported", "is_reserved", "members")

    def __init__(self, amount: Amount, members: BudgetResource | None) -> None:
        self.amount = amount
        # Whether `used` has been called.
        self.is_reported = False
        # False as soon as the job has given it back: a report from a thread may come later.
        self.is_reserved = True
        # The budget of the members, if the job is a scheduler.
        self.members: Final = members

    @property
    def used(self) -> Amount:
        return self.amount if self.members is None else self.members.used


class BudgetResource(CountedResource):
    """A `Budget` in a pool, or the part of a budget that a nested scheduler has reserved for its members."""

    is_budget = True

    def __init__(
        self,
        name: str,
        total: Amount,
        settings: Any,
        format_amount: Callable[[Amount], str],
    ) -> None:
        super().__init__(name, total, None, format_amount, settings)
        # The amounts of running jobs, which are not in `free`.
        self.reserved: Amount = 0
        self.shares: Final[dict[AnyJob, BudgetShare]] = {}
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

    def take(self, job: AnyJob, need: Amount) -> BudgetShare:  # type: ignore[override]
        super().take(job, need)
        self.reserved += need
        members = None
        if is_scheduler(job):
            members = self.make_member_resource(need)
        self.shares[job] = share = BudgetShare(need, members)
        return share

    def correct(self, share: BudgetShare, used: Amount) -> None:
        """Replace the amount that a job has reserved with the amount that it has used."""
        difference = used - share.amount
        share.amount = used
        share.is_reported = True
        self.free -= difference
        if share.is_reserved:
            self.reserved += difference
        if self.free < 0 and not self._has_logged:
            self._has_logged = True
            _logger.warn(
                f"the budget {printable(self.name)} of {self.format_amount(self.total)} is exceeded by "
                f"{self.format_amount(-self.free)}, because a job has used more than it needs; no further job starts"
            )

    def refund(self, job: AnyJob, share: BudgetShare) -> None:
        """Return the reservation of a job that does not start, or whose attempt does not count, unless it was used."""
        if not share.is_reported:
            self.free += share.amount
            self.reserved -= share.amount
            share.amount = 0

    def give_back(self, job: AnyJob, share: BudgetShare) -> None:  # type: ignore[override]
        """Count the share of a job as used. The share of a scheduler is the sum that its members have used."""
        del self.holders[job], self.shares[job]
        self.correct(share, share.used)
        self.reserved -= share.amount
        share.is_reserved = False
        self.count_used(job, share.amount)

    def charge(self, job: AnyJob, used: Amount) -> None:
        """Use up the amount that a restored job had used, even beyond the free amount."""
        self.free -= used
        self.count_used(job, used)

    @property
    def used(self) -> Amount:
        return self.total - self.free - self.reserved

    def count_used(self, job: AnyJob, used: Amount) -> None:
        if used:
            earlier, count = self._used_by_label.get(job.label, (0, 0))
            earlier_use = (job._extras or RunExtras).earlier_use or ()
            if not count or self.name not in earlier_use:
                count += 1
            self._used_by_label[job.label] = (earlier + used, count)
            if len(self._used_by_label) > 2 * MAX_COUNTED_LABELS:
                self._used_by_label = dict(self._most_used(MAX_COUNTED_LABELS))

    def _most_used(self, number: int) -> list[tuple[str, tuple[Amount, int]]]:
        return heapq.nlargest(
            number, self._used_by_label.items(), key=lambda item: item[1][0]
        )

    def top_user(self) -> str:
        """Return a text about the job, or the jobs with the same label, that used most, or "" if none used anything."""
        for label, (used, count) in self._most_used(1):
            if count == 1:
                users = f"'{printable(label)}'"
            else:
                users = f"{count} jobs '{printable(label)}'"
            return f"{users} used most: {self.format_amount(used)}"
        return ""

    def can_ever_meet(self, need: Amount) -> bool:
        """Return whether a need could be met if running jobs used nothing of their reservations."""
        return need <= self.free + self.reserved

    def spent_error(self, job: AnyJob, need: Amount) -> BudgetSpent:
        """Return the error of a job whose need can never be met, with why its last attempt has failed."""
        facts = [self.top_user()]
        for attempt in (job._extras or RunExtras).failed_attempts[-1:]:
            # A success that was taken back has none.
            if attempt.error:
                facts.append(f"attempt {attempt.number} failed: {attempt.error}")
        amount = self.format_amount(need)
        left = self.describe_left()
        return BudgetSpent(job, self.name, amount, left, *filter(None, facts))

    def describe_shortage(self, need: Amount, before: int) -> tuple[WaitCause, str]:
        text = f"{self.name}: {self.describe_left()}{self._holders_text()}"
        return WaitCause.RESOURCE, text

    def describe_left(self) -> str:
        reserved = self._reserved_text(self.reserved)
        return f"{self.format_amount(self.free)} of {self.format_amount(self.total)} left{reserved}"

    def describe_spent(self) -> str:
        # While instruments are notified of its end, a job still has its share.
        ended = [share for job, share in self.shares.copy().items() if job.is_settled()]
        used = self.used + sum(share.used for share in ended)
        reserved = self.reserved - sum(share.amount for share in ended)
        return f"{self.format_amount(used)} of {self.format_amount(self.total)} spent{self._reserved_text(reserved)}"

    def _reserved_text(self, reserved: Amount) -> str:
        return clause(", {} reserved", reserved and self.format_amount(reserved))

    def public_share(self, need: Amount, share: BudgetShare) -> float:  # type: ignore[override]
        return _amounts.as_number(share.amount)

    def make_member_resource(  # type: ignore[override]
        self, need: Amount, share: BudgetShare | None = None
    ) -> BudgetResource:
        """Return the budget of the members of a nested scheduler. Their use counts as the use of the scheduler."""
        if share is not None:
            assert share.members is not None
            return share.members
        resource = BudgetResource(self.name, need, self.settings, self.format_amount)
        resource.cooldown = self.cooldown
        resource.clock = self.clock
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
    def __init__(
        self,
        **resources: float
        | str
        | Amount
        | Rate
        | Budget
        | PerKey
        | list[Any]
        | tuple[Any, ...],
    ) -> None:
        self._resources: Final = {
            name: _make_resource(name, value) for name, value in resources.items()
        }
        # The running schedulers that use the pool, each with its resource holder: see `register_user`.
        self._users: Final[dict[AnyJob, AnyJob | None]] = {}
        # An object that identifies the event loop of these schedulers or, after their runs, the loop of the last run.
        self._loop: object = None
        # The clock of that loop or, after the last run, a clock that continues from its time in real time.
        self._clock: Callable[[], float] = time.monotonic

    @property
    def total(self) -> dict[str, Any]:
        """The total of each resource, by name. A `Rate` has the burst by key, and a `PerKey` the amount of each key."""
        return {
            name: resource.public_total() for name, resource in self._resources.items()
        }

    @property
    def free(self) -> dict[str, Any]:
        """The free amount of each resource, by name. A `Rate` has the current amount by key.

        For a `PerKey`, it is a dict of the keys in use.
        """
        return {
            name: resource.public_free() for name, resource in self._resources.items()
        }

    @property
    def waiting(self) -> dict[str, Any]:
        """How many ready jobs that need each resource wait, by name, whatever else they lack. Any thread may ask.

        For a `PerKey`, it is a dict of the keys that jobs wait for. Jobs in a scheduler that itself has needs are not
        counted.

        *Provisional*: a minor release may change it.
        """
        waiting: dict[str, Any] = {}
        for name, resource in self._resources.items():
            jobs = jobs_waiting_for(resource)
            waiting[name] = len(jobs)
            if resource.has_keys:
                keys = Counter(str(job._options.needs[name]) for job in jobs)
                waiting[name] = dict(keys)
        return waiting

    @property
    def budgets(self) -> dict[str, float]:
        """The rest of each `Budget`, by name. It is negative if jobs have used more than they needed."""
        budgets = [each for each in self._resources.values() if each.is_budget]
        return {each.name: each.public_free() for each in budgets}

    def __repr__(self) -> str:
        """Return the name, the free amount and the total of each resource."""
        return f"<Pool {', '.join(resource.describe() for resource in self._resources.values())}>"

    # ---- for the rest of the package

    def _enter(
        self,
        user: AnyJob,
        holder: AnyJob | None,
        loop: object,
        clock: Callable[[], float],
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
            rule = "schedulers can share a pool only within one loop; make a Pool for each loop"
            raise RuntimeError(
                f"the pool of {user.label!r} is in use by a scheduler in another event loop: {rule}"
            )
        if not self._users:
            shift = 0.0
            if self._loop is not loop:
                shift = clock() - self._clock()
            self._change_clock(clock, shift)
        register_user(self._users, user, holder)
        self._loop = loop

    def _leave(self, user: AnyJob) -> None:
        del self._users[user]
        if not self._users:
            left_at = self._clock()
            real_start = time.monotonic()
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
    users: dict[AnyJob, AnyJob | None],
    user: AnyJob,
    holder: AnyJob | None,
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
    other_holder = users.setdefault(other, holder)
    if other_holder is not holder:
        inside: Any = holder or other_holder
        raise ValueError(
            f"{user.label!r} and {other.label!r} share a pool, but {inside.label!r}, which has needs, contains only "
            f"one of them: give each of them a separate Pool"
        )
    users[user] = holder


def _make_resource(name: str, value: object) -> PoolEntry:
    if name in _job_options.RUN_RESOURCES:
        raise ValueError(
            f"Pool: {name!r} is the name of a built-in resource; choose another name"
        )
    prefix = f"Pool({printable(name)}={short_repr(value)})"
    if isinstance(value, Rate):
        return RateResource(name, value)
    if isinstance(value, PerKey):
        return PerKeyResource(name, value)
    if isinstance(value, Budget):
        form = size_text if value._is_size else _amounts.amount_text
        return BudgetResource(name, value._amount, value, form)
    if isinstance(value, (list, tuple)):
        units: tuple[Any, ...] = tuple(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        if any(unit in units[:index] for index, unit in enumerate(units)):
            raise ValueError(f"{prefix}: duplicate unit; list each unit once")
        return CountedResource(name, len(units), units)
    amount = _amounts.amount_of(value, prefix)
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
        """Return the name and the free amount, or the spent part of a `Budget`."""
        return self.budget_text or self._resource.describe()

    @property
    def budget_text(self) -> str:
        """The spent part of a `Budget` as text, such as "usd 4.5 of 5 spent", or empty for other resources."""
        if not isinstance(self._resource, BudgetResource):
            return ""
        return f"{self.name} {self._resource.describe_spent()}"

    @property
    def total(self) -> float | None:
        """The total amount, or None for a `Rate` or a `PerKey`."""
        if not isinstance(self._resource, CountedResource):
            return None
        return self._resource.public_total()

    @property
    def is_per_key(self) -> bool:
        return isinstance(self._resource, PerKeyResource)

    @property
    def shortages(self) -> tuple[tuple[float, float], ...]:
        """The intervals when a `Rate` had too little left for a job, or empty for other resources."""
        if isinstance(self._resource, RateResource):
            return tuple(self._resource.shortages)
        return ()

    def key_total(self, key: str) -> float | None:
        """Return the total of a key of a `PerKey`, or None for rates, and for other resources."""
        if self.is_per_key and self._resource.is_returnable:
            total: float | None = self._resource.settings._limit_of(key)
            return total
        return None

    def start_delay(self, jobs: Iterable[AnyJob]) -> float:
        """Return the seconds until all needs of these jobs have accrued and the throttle, if any, has ended.

        For a `PerKey`, return 0.
        """
        resource = self._resource
        if not isinstance(resource, Resource):
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
    return Pool(
        **{name: resource.settings for name, resource in pool._resources.items()}
    )
