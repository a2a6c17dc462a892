"""`Budget`: an amount that jobs use up, such as money, and that does not come back."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any, Final, final

from ..._hints import explain_form
from ..base import _amounts, _logger
from ..base._states import WaitCause
from ..base._text_forms import short_repr
from ..job._errors import BudgetSpent
from ..job._job import AbstractJob, is_scheduler
from ..job._labels import printable
from ._resource import CountedResource

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..base._amounts import Amount, ExactNeed, SingleNeed

MAX_COUNTED_LABELS: Final = 1000
"""The maximum number of labels whose use is counted. If there are more, the smallest are dropped."""


@final
class Budget:
    """In a `Pool`, an amount that is used up, such as money or tokens.

    The need of a job is reserved when it starts, and used up when it settles. `current_job().used(usd=0.013)` corrects
    it in both directions, until the job settles. Starting a job never exceeds a budget: a job for which less is left
    than it needs waits as long as what running jobs have reserved could come back. Then it is BLOCKED, with a
    `BudgetSpent`.

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
    def __init__(self, amount: SingleNeed) -> None:
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
        return f"Budget({_amounts.amount_text(self._amount)})"


class BudgetShare:
    """The amount of a budget that a job has reserved, or has reported as used."""

    __slots__ = ("amount", "is_reported", "members")

    def __init__(self, amount: Amount, members: BudgetResource | None) -> None:
        self.amount = amount
        self.is_reported = False  # whether `used` has been called
        self.members: Final = members  # the budget of the members, if the job is a scheduler

    @property
    def used(self) -> Amount:
        return self.amount if self.members is None else self.members.used


class BudgetResource(CountedResource):
    """A `Budget` in one pool, or the part of one that a nested scheduler has reserved for its members."""

    __slots__ = ("_has_logged", "_used_by_label", "reserved", "shares")

    is_budget = True

    def __init__(
        self, name: str, total: Amount, settings: Any, format_amount: Callable[[Amount], str] = _amounts.amount_text
    ) -> None:
        super().__init__(name, total, None, format_amount, settings)
        self.reserved: Amount = 0  # the amounts of running jobs, which are not in `free`
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
        """Return what a job has reserved that does not start, or whose attempt does not count, unless it was used."""
        if not share.is_reported:
            self.free += share.amount
            self.reserved -= share.amount
            share.amount = 0

    def give_back(self, job: AbstractJob[Any], share: BudgetShare) -> None:  # type: ignore[override]
        """Count the share of a job as used; that of a scheduler is what its members have used."""
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
            self._used_by_label[job.label] = earlier + used, count + 1
            if len(self._used_by_label) > 2 * MAX_COUNTED_LABELS:
                self._used_by_label = dict(self._most_used(MAX_COUNTED_LABELS))

    def _most_used(self, number: int) -> list[tuple[str, tuple[Amount, int]]]:
        return heapq.nlargest(number, self._used_by_label.items(), key=lambda item: item[1][0])

    def top_user(self) -> str:
        """Return a text about the job, or the jobs with the same label, that used most; "" if none used anything."""
        for label, (used, count) in self._most_used(1):
            users = f"'{printable(label)}'" if count == 1 else f"{count} jobs '{printable(label)}'"
            return f"{users} used most: {self.format_amount(used)}"
        return ""

    def can_ever_meet(self, need: Amount) -> bool:
        """Return whether a need could be met if running jobs used nothing of what they have reserved."""
        return need <= self.free + self.reserved

    def spent_error(self, job: AbstractJob[Any], need: Amount) -> BudgetSpent:
        """Return the error of a job whose need can never be met, with why its last attempt has failed."""
        attempts = () if job._extras is None else job._extras.failed_attempts[-1:]
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
        return f", {self.format_amount(reserved)} reserved" if reserved else ""

    def public_share(self, need: Amount, share: BudgetShare) -> float:  # type: ignore[override]
        return _amounts.as_number(share.amount)

    def make_member_resource(self, need: Amount, share: BudgetShare | None = None) -> BudgetResource:  # type: ignore[override]
        """Return the budget of the members of a nested scheduler, which has used what they use."""
        if share is not None:
            assert share.members is not None
            return share.members
        resource = BudgetResource(self.name, need, self.settings, self.format_amount)
        resource.cooldown, resource.clock = self.cooldown, self.clock
        return resource

    def describe(self) -> str:
        return f"{self.name}={self.describe_left()}"
