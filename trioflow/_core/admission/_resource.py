"""Resources: the entries of a pool, their interface for admission (`Resource`), and the share of a job (`Grant`).

`CountedResource` is the kind of resource that jobs return.

Decided in docs/decisions: 19-admission.
"""

from __future__ import annotations

import bisect
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast
from weakref import WeakSet

from ..base import _amounts
from ..base._states import WaitCause, Waiting
from ..base._text_forms import MAX_NAMED_JOBS, clause, duration_text, join_names
from ..job._job import AnyJob, RunExtras
from ..job._job_options import RUN_RESOURCES, RunResource
from ..job._labels import printable

if TYPE_CHECKING:
    from ..base._amounts import Amount, CheckedNeed, ExactNeed
    from ..run._run import Run
    from ..run._worker import Worker
    from ._admission import Admission, WaitingGroup
    from ._policies import HeapEntry

TIME_TOLERANCE: Final = 1e-9
"""The difference, in seconds, below which times count as equal: float sums are inexact, and asyncio rounds timers."""


class Cooldown:
    """The time when the throttle of a resource ends. No job that needs the resource starts earlier."""

    def __init__(self) -> None:
        self.ends_at = -math.inf


class PoolEntry(ABC):
    """The entry of a pool for a name: a `Resource`, or a family of resources, one for each key.

    A *need* is the amount that a job asks for, and a *share* is the amount that the job has taken. Each subclass has
    its own types for both.
    """

    is_budget: ClassVar[bool] = False
    """Whether jobs use up the resource, and it never comes back."""

    has_keys: ClassVar[bool] = False
    """Whether this is a family of resources. A job takes the resource whose key it names, and waits for it apart."""

    is_returnable: bool
    """Whether jobs hold the resource and return it when they have settled, instead of using it up."""

    def __init__(self, name: str, settings: Any) -> None:
        self.name: Final = name
        # The argument of `Pool` for an equal resource, but only the number of units.
        self.settings: Final = settings
        # Set when a job first waits for the resource.
        self.admission: Admission | None = None
        # The clock of the event loop while a run uses the pool.
        self.clock: Callable[[], float] = time.monotonic

    @abstractmethod
    def need(self, amount: CheckedNeed, job: AnyJob) -> Any:
        """Convert the entry for this resource in a job's `needs` to a need.

        Raises:
            ValueError: the entry is invalid for this resource, or can never be met.

        """

    @abstractmethod
    def resolve(self, amount: CheckedNeed, job: AnyJob) -> tuple[Resource, Any]:
        """Return the resource that a job takes for the entry in its `needs`, and its need of this resource."""

    @abstractmethod
    def public_total(self) -> Any:
        """Return the total as users see it, in `Pool.total`."""

    @abstractmethod
    def public_free(self) -> Any:
        """Return the free amount as users see it, in `Pool.free`."""

    @abstractmethod
    def describe(self) -> str:
        """Return the name and the free amount, such as "cpu=2 of 8 free", for the `repr` of the pool."""

    def need_error(self, job: AnyJob, amount: str, problem: str) -> ValueError:
        return ValueError(
            f"{job.label!r} needs {printable(self.name)}={amount}{problem}"
        )

    def has_come(self, when: float) -> bool:
        return when <= self.clock() + TIME_TOLERANCE

    def delay_text(self, when: float) -> str:
        """Return how long it is until a time, such as "1.25 s". If another thread asks, the time may be past."""
        return duration_text(max(0.0, when - self.clock()))

    def change_clock(self, clock: Callable[[], float], shift: float) -> None:
        """Replace the clock with a clock that is `shift` seconds ahead, and shift all stored times likewise."""
        self.clock = clock


class Resource(PoolEntry):
    """A limited supply from which jobs take.

    The admission relies on these promises:

    - `available_at`, `is_exhausted` and `can_ever_meet` change nothing that a job could notice.
    - While jobs only take, no need becomes available except by time, and `available_at` has returned that time.
    - After any other change that may let a waiting job start, `Admission.is_stale` is True.
    - If a resource is exhausted, no need of any waiting job can be met.
    - A job that lacks a resource that `parks` is parked with it, until the resource calls `WaitingGroup.unpark`.
    """

    parks: ClassVar[bool] = False
    """Whether jobs that lack the resource wait apart, and hold back no others. See `Key`."""

    opening: str = ""
    """While the gate of the resource is being opened, the text for jobs that wait for it. See `GatedResource`."""

    def __init__(self, name: str, settings: Any) -> None:
        super().__init__(name, settings)
        # Shared with the resources that `make_member_resource` returns.
        self.cooldown: Cooldown = Cooldown()

    def note_shortage(self, need: Any) -> None:
        """Note, for traces, that a round has left a job with this need waiting, if too little is left for it."""

    @property
    def shown_name(self) -> str:
        return self.name

    def resolve(self, amount: CheckedNeed, job: AnyJob) -> tuple[Resource, Any]:
        return self, self.need(amount, job)

    def exact_amount(self, amount: CheckedNeed, job: AnyJob) -> ExactNeed:
        """Return the entry for this resource in a job's `needs`, text as the number that it stands for."""
        if not isinstance(amount, str):
            return amount
        return _amounts.amount_of(amount, self.need_text(amount, job))

    def need_text(self, amount: CheckedNeed, job: AnyJob) -> str:
        return (
            f"{job.label!r} needs {printable(self.name)}={_amounts.need_text(amount)}"
        )

    def available_at(self, need: object) -> float:
        """Return the time when the need can be met: `-inf` for now, infinity if that depends on other jobs.

        Any thread may call this.
        """
        when = max(self.cooldown.ends_at, self.free_at(need))
        return -math.inf if when == -math.inf or self.has_come(when) else when

    @abstractmethod
    def free_at(self, need: Any) -> float:
        """Return the time, which may be in the past, when the need is free, apart from throttles."""

    def is_closed_to(self, job: AnyJob) -> bool:
        """Return whether a job whose need can be met has to wait nevertheless, because a gate is closed to it."""
        return False

    def describe_wait(self, need: object, before: int = 0) -> Waiting:
        """Return the wait of a job, behind `before` others with the same need, for an amount that it cannot get now.

        Any thread may call this.
        """
        if self.is_throttled():
            text = f"{self.shown_name}, throttled for {self.delay_text(self.cooldown.ends_at)}"
            return Waiting(WaitCause.THROTTLED, self.name, text)
        cause, text = self.describe_shortage(need, before)
        return Waiting(cause, self.name, text)

    @abstractmethod
    def describe_shortage(self, need: Any, before: int) -> tuple[WaitCause, str]:
        """Return the cause and the text of the same wait, if the resource is not throttled."""

    def is_used_up_by(self, need: Any, before: int) -> bool:
        """Return whether it is known that `before` jobs with the same need leave too little for another job."""
        return False

    @abstractmethod
    def take(self, job: AnyJob, need: Any) -> Any:
        """Take the need of a job, even beyond the free amount, and return the job's share."""

    def give_back(self, job: AnyJob, share: Any) -> None:
        """Take back the share of a job, if jobs return it."""

    def let_accrue(self, share: Any, now: float | None) -> None:
        """Note that a job with this share starts: at `now`, or, if that is None, when this is called."""

    def refund(self, job: AnyJob, share: Any) -> None:
        """Put back the used part of a share, because its job does not start. `give_back` follows."""

    @abstractmethod
    def public_share(self, need: Any, share: Any) -> Any:
        """Return the share of a job as users see it, in `current_job().granted`."""

    def is_exhausted(self) -> bool:
        """Return whether the free amount is known to be too small for any waiting job. At least a single job waits."""
        return False

    def can_ever_meet(self, need: Any) -> bool:
        """Return whether a need could be met if running jobs returned all they have."""
        return True

    def update_wanted_amounts(self, need: Any, sign: int) -> None:
        """Record that a group of waiting jobs with this need is added (1) or removed (-1)."""

    def is_throttled(self) -> bool:
        return not self.has_come(self.cooldown.ends_at)

    def must_wait(self, job: AnyJob) -> bool:
        """Return whether a job that has the resource, and has not started, has to wait for it again."""
        return self.is_throttled()

    def throttle(self, seconds: float) -> None:
        """Delay all jobs that need the resource for `seconds` from now, unless they are already delayed for longer.

        Jobs that have the resource but have not started wait again, when a worker looks for them.
        """
        self.cooldown.ends_at = max(self.cooldown.ends_at, self.clock() + seconds)

    def change_clock(self, clock: Callable[[], float], shift: float) -> None:
        super().change_clock(clock, shift)
        self.cooldown.ends_at += shift


class CountedResource(Resource):
    """A resource that jobs hold while they run: an amount, or a number of named units."""

    is_returnable = True

    def __init__(
        self,
        name: str,
        total: Amount,
        named_units: tuple[Any, ...] | None = None,
        format_amount: Callable[[Amount], str] = _amounts.amount_text,
        settings: Any = None,
    ) -> None:
        super().__init__(name, total if settings is None else settings)
        self.total = total
        self.format_amount: Final = format_amount
        # Negative only while clean-up jobs, which do not wait, exceed the total, or since it was lowered.
        self.free: Amount = total
        self.holders: Final[dict[AnyJob, Amount]] = {}
        # The need of each group of waiting jobs, ascending.
        self.wanted_amounts: Final[list[Amount]] = []
        # The free named units by their index in the user's list, or None for a resource that is only an amount.
        if named_units is None:
            self.free_units: dict[int, Any] | None = None
        else:
            self.free_units = dict(enumerate(named_units))

    def need(self, amount: CheckedNeed, job: AnyJob) -> Amount:
        """Check the amount, and return it.

        Raises:
            ValueError: the amount is more than the total.
            ValueError: the amount is not a whole number, although the resource has named units.
            ValueError: amounts by key were given, which only a rate allows.

        """
        amount = self.exact_amount(amount, job)
        if isinstance(amount, tuple):
            problem = ", which is not a Rate: give one number"
            raise self.need_error(job, _amounts.need_text(amount), problem)
        if amount > self.total:
            limit = f", but the total is only {self.format_amount(self.total)}: it could never start"
            raise self.need_error(job, self.format_amount(amount), limit)
        if self.free_units is not None and not isinstance(amount, int):
            problem = ", which has named units: give a whole number"
            raise self.need_error(job, _amounts.amount_text(amount), problem)
        return amount

    def lower_total(self, total: Amount) -> None:
        """Have less than before, because there is less than was thought. Jobs that hold more keep it."""
        self.free -= max(0, self.total - total)
        self.total = min(self.total, total)

    def free_at(self, need: Amount) -> float:
        return -math.inf if need <= self.free else math.inf

    def is_exhausted(self) -> bool:
        return self.free < self.wanted_amounts[0]

    def update_wanted_amounts(self, need: Amount, sign: int) -> None:
        if sign > 0:
            bisect.insort(self.wanted_amounts, need)
        else:
            del self.wanted_amounts[bisect.bisect_left(self.wanted_amounts, need)]

    def describe_shortage(self, need: Amount, before: int) -> tuple[WaitCause, str]:
        taken = f"{self.format_amount(self.total - self.free)} of {self.format_amount(self.total)} taken"
        return WaitCause.RESOURCE, f"{self.shown_name}: {taken}{self._holders_text()}"

    def _holders_text(self) -> str:
        holders = list(self.holders)
        names = [repr(job.label) for job in holders[:MAX_NAMED_JOBS]]
        return clause(" by {}", join_names(names, MAX_NAMED_JOBS, len(holders)))

    def take(self, job: AnyJob, need: Amount) -> dict[int, Any] | None:
        """Take the need of a job. Return the named units by their index, or None if the resource has no named units."""
        self.free -= need
        self.holders[job] = need
        if self.free_units is None:
            return None
        first = sorted(self.free_units)[: int(need)]
        return {index: self.free_units.pop(index) for index in first}

    def give_back(self, job: AnyJob, share: dict[int, Any] | None) -> None:
        self.free += self.holders.pop(job)
        if self.free_units is not None:
            self.free_units.update(share or {})

    def public_share(self, need: Amount, share: dict[int, Any] | None) -> Any:
        if share is None:
            return _amounts.as_number(need)
        return list(share.values())

    def make_member_resource(
        self, need: Amount, share: dict[int, Any] | None = None
    ) -> CountedResource:
        """Return the resource that the members of a nested scheduler share. Its total is the scheduler's own need.

        Args:
            need: the need of the scheduler.
            share: the named units that were granted to the scheduler, or None if there are none, or for a check before
                the run.

        """
        named_units = None
        if self.free_units is not None:
            named_units = tuple((share or {}).values())
        resource = CountedResource(self.name, need, named_units, self.format_amount)
        resource.cooldown = self.cooldown
        resource.clock = self.clock
        return resource

    def public_total(self) -> float:
        return _amounts.as_number(self.total)

    def public_free(self) -> float:
        return _amounts.as_number(self.free)

    def describe(self) -> str:
        return f"{self.name}={self.format_amount(self.free)} of {self.format_amount(self.total)} free"


class GatedResource(CountedResource):
    """A resource of the run. A job takes it only while its gate is open, if it has one, as a node that is connected.

    A job that could start but for the gate is parked here, and holds nothing. Then a worker without a job opens the
    gate, until no job is parked any more. All parked jobs compete again when the gate is open, or could not be opened.
    No more jobs are parked than could have the resource together: the others wait as before, and hold back no job. A
    job that waits for a limiter's token comes here if the gate is closed to it when it gets the token.

    Args:
        name: the name of the resource.
        declared: its gate.
        total: its total.
        run: the run that has the resource, with the runs nested in it.

    """

    def __init__(self, name: str, declared: RunResource, total: int, run: Run) -> None:
        super().__init__(name, total)
        self._find_gate: Final[Any] = declared.find_gate
        self._opening_text: Final = declared.opening
        self._run: Final = run
        self._gate: Any = None
        # Whether it has one that can be found: otherwise, the jobs fail with the error themselves.
        self._has_gate = declared.find_gate is not None and run.scheduler._opens_gates
        # The worker that opens the gate.
        self._opener: Worker | None = None
        # The groups with jobs that are parked here.
        self.parked: Final[dict[WaitingGroup, None]] = {}
        # The jobs that have the resource, but have not passed the gate.
        self._early: Final[dict[AnyJob, None]] = {}
        # The jobs that came early, and then got a token in vain: now they wait here also while no token is free.
        self.due: Final = WeakSet[AnyJob]()

    @property
    def opening(self) -> str:  # type: ignore[override]
        return "" if self._opener is None else self._opening_text

    def is_closed_to(self, job: AnyJob) -> bool:
        return self._has_gate and (
            self._gate is None or bool(self._gate.is_closed_to(job))
        )

    def is_crowded(self) -> bool:
        return sum(len(group.parked[self]) for group in self.parked) >= self.free

    def take(self, job: AnyJob, need: Amount) -> dict[int, Any] | None:
        self.due.discard(job)
        self._early[job] = None
        self._let_in()
        return super().take(job, need)

    def must_wait(self, job: AnyJob) -> bool:
        self._let_in()
        if job in self._early:
            self.due.add(job)
        return job in self._early or self.is_throttled()

    def _let_in(self) -> None:
        for job in [*self._early]:
            if not self.is_closed_to(job):
                del self._early[job]
                self._tell_gate("enter", job)

    def give_back(self, job: AnyJob, share: dict[int, Any] | None) -> None:
        super().give_back(job, share)
        self._early.pop(job, None)
        self._tell_gate("leave", job)
        self._let_in()
        # The job's resource behind the gate may be free for a parked job.
        for group in list(self.parked):
            # None is left if those that were parked wait for a requirement again.
            first = group.parked[self][:1]
            if not any(self.is_closed_to(job) for _, _, job in first):
                group.unpark(self)
                self.wake()

    def _tell_gate(self, name: str, job: AnyJob) -> None:
        method: Any = getattr(self._gate, name, None)
        if method is not None:
            method(job)

    def wake(self) -> None:
        """Have the gate opened if jobs are parked here, and not if none is."""
        if self._opener is not None:
            if not self.parked and self._opener.cause is None:
                self._opener.cancel_alone()
        elif self.parked:
            run = self._run
            if run.crew.is_closed:
                run = next(iter(self.parked)).places.run
            self._opener = run.crew.spawn(self)

    async def do_errand(self) -> None:
        """Open the gate for a job that is parked here."""
        try:
            if self.parked and self._opener is not None and not self._opener.must_leave:
                jobs = self._next_jobs()
                if self._gate is None:
                    self._gate = self._find_gate(jobs[0])
                await self._gate.open(jobs)
                # Otherwise, it would be opened without end.
                self._has_gate = not self._gate.is_closed_to(jobs[0])
        except self._run.backend.cancellation_type:
            # No job is parked any more, or the run of the worker stops.
            pass
        except Exception:
            self._gate = None
            self._has_gate = False

    def end_errand(self) -> None:
        self._opener = None
        self._let_in()
        for group in list(self.parked):
            group.unpark(self, len(group.parked[self]))
        # It may have been merged with another admission.
        cast("Any", self.admission).begin_round()

    def _next_jobs(self) -> list[AnyJob]:
        """Return the parked jobs, in order, that could start together if the gate were open, but at least the first."""
        left: dict[Any, Any] = {}
        jobs: list[AnyJob] = []
        waiting: list[tuple[HeapEntry, WaitingGroup]] = []
        for group in self.parked:
            waiting += [(entry, group) for entry in group.parked[self]]
        for entry, group in sorted(waiting):
            needs = dict[Any, Any](group.needs)
            needs = {each: needs[each] for each in needs if each.is_returnable}
            if group.needs_slot:
                needs[group.places.line] = 1
            for each in needs:
                left.setdefault(each, each.free)
            if not jobs or all(left[each] >= needs[each] for each in needs):
                jobs.append(entry[2])
                for each in needs:
                    left[each] -= needs[each]
        return jobs


Needs = list[tuple[Resource, Any]]


class Grant:
    """The resources of a job, which are taken all together, and kept until the job has settled.

    The job has its grant before anything is taken. So `_steps.settle` gives back all amounts that were taken before an
    error.
    """

    __slots__ = ("_accrues", "_job", "_parts", "entry")

    def __init__(
        self, job: AnyJob, needs: Needs, entry: HeapEntry | None = None
    ) -> None:
        # The entry of the waiting job, or None for a clean-up job.
        self.entry: Final = entry
        self._job: Final = job
        self._parts: Final[list[tuple[Resource, Any, Any]]] = []
        # Whether `let_accrue` has been called.
        self._accrues = False
        job._ensure_extras().grant = self
        for resource, need in needs:
            self._parts.append((resource, need, resource.take(job, need)))

    def give_back(self) -> None:
        self.let_accrue()
        for resource, _, share in self._parts:
            resource.give_back(self._job, share)

    def let_accrue(self, now: float | None = None) -> None:
        """Let the granted amounts of rates accrue again, because the job starts now, or will not start."""
        if not self._accrues:
            self._accrues = True
            for resource, _, share in self._parts:
                resource.let_accrue(share, now)

    def must_wait(self) -> bool:
        return any(resource.must_wait(self._job) for resource, _, _ in self._parts)

    def refund(self) -> None:
        """Put back the amounts that the job would use up or delay, because it does not start after all."""
        self.let_accrue()
        for resource, _, share in self._parts:
            resource.refund(self._job, share)

    def refund_budgets(self) -> None:
        """Put back the amounts of budgets whose use the job has not reported."""
        for resource, _, share in self._parts:
            if resource.is_budget:
                resource.refund(self._job, share)

    def find(self, name: str) -> tuple[Resource, Any] | None:
        for resource, _, share in self._parts:
            if resource.name == name:
                return resource, share
        return None

    def member_resources(self) -> dict[str, PoolEntry]:
        """Return the resources, except rates, that the members of a nested scheduler with this grant share, by name."""
        resources: dict[str, PoolEntry] = {}
        for resource, need, share in self._parts:
            if isinstance(resource, CountedResource):
                resources[resource.name] = resource.make_member_resource(need, share)
        return resources

    def to_dict(self) -> dict[str, Any]:
        """Return the share of each resource, by name: an amount, a list of named units, or amounts by key."""
        parts = [part for part in self._parts if part[0].name not in RUN_RESOURCES]
        return {
            resource.name: resource.public_share(need, share)
            for resource, need, share in parts
        }


def budgets_used(job: AnyJob) -> dict[str, Amount]:
    """Return the amounts of budgets that a job has used in all its attempts, by name."""
    grant = job._grant()
    used = dict((job._extras or RunExtras).earlier_use or {})
    if grant is not None:
        for resource, _, share in grant._parts:
            if resource.is_budget:
                used[resource.name] = share.used + used.get(resource.name, 0)
    return used
