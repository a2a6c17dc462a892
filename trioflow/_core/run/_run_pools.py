"""The resources that the jobs of a run can take: look-up by name, corrections of rates, and throttles.

The package `admission` decides when a job gets its resources.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ... import _hints
from ..admission._pools import BudgetResource
from ..admission._rates import RateResource
from ..admission._resource import CountedResource, GatedResource, PoolEntry, Resource
from ..base import _amounts, _text_forms
from ..job._errors import Throttled, add_note
from ..job._job_options import RUN_RESOURCES

if TYPE_CHECKING:
    from ..job._job import AnyJob
    from ._run import Run


LONG_THROTTLE: Final = 600.0
"""The log names a throttle that is this long, in seconds, as it begins."""


class RunPools:
    """The resources that the jobs of a run can take."""

    def __init__(self, run: Run) -> None:
        self._run: Final = run
        # The resources by name: granted to the scheduler itself as a job, in its own pool, or created by the run on
        # first use.
        self._resources: Final[dict[str, PoolEntry]] = {}
        # The scheduler itself or the innermost enclosing scheduler, whichever has needs. From outside of this holder,
        # the members can take only rates and the resources that the holder was granted.
        self.resource_holder: AnyJob | None = None
        scheduler = run.scheduler
        if run.outer_worker is not None:
            grant = scheduler._grant()
            if grant is not None:
                self._resources.update(grant.member_resources())
            if self._resources:
                self.resource_holder = scheduler
            else:
                self.resource_holder = run.outer_worker.run.pools.resource_holder
        if scheduler._pool is not None:
            self._resources.update(scheduler._pool._resources)

    def find(self, name: str) -> PoolEntry:
        """Return the resource with this name from the innermost pool that has it, from this run outwards."""
        run = self._run
        while name not in run.pools._resources:
            total = run.scheduler._run_resource_totals().get(name)
            if run.outer_worker is not None and total is None:
                run = run.outer_worker.run
            else:
                # `RUN_RESOURCES` has it, because unknown names were rejected before the run.
                declared = RUN_RESOURCES[name]
                if total is None:
                    total = declared.total()
                run.pools._resources[name] = GatedResource(name, declared, total, run)
        return run.pools._resources[name]

    def resolve(self, job: AnyJob) -> dict[str, Resource]:
        resources: dict[str, Resource] = {}
        for name, amount in job._options.needs.items():
            resources[name], _ = self.find(name).resolve(amount, job)
        return resources

    def charge(self, job: AnyJob, used: Iterable[tuple[str, float]]) -> None:
        """Use up the amounts of budgets that a restored job had used, by name. Other names are ignored.

        A `First` has used the amounts of its jobs, from pools around it.
        """
        for name, amount in used:
            if name in job._options.needs or job._is_scheduler:
                resource = self.find(name)
                if isinstance(resource, BudgetResource):
                    resource.charge(job, _amounts.amount_of(amount, name))

    def correct_amounts(self, job: AnyJob, amounts: Mapping[str, Any]) -> None:
        """Replace the amounts of rates and budgets that a job has taken with the amounts that it has used.

        Args:
            job: the job.
            amounts: the used amounts, by the name of the rate. Each has the form of an entry in `needs`.

        Raises:
            ValueError: the job does not need a resource of this name, or the resource is not a rate.
            ValueError: an amount is out of range.
            TypeError: an amount has the wrong type.

        """
        corrections: list[Callable[[], None]] = []
        for name, amount in amounts.items():
            what = f"used({name}={_text_forms.short_repr(amount)}) of {job.label!r}"
            taken = _find_taken(job, name)
            if taken is None:
                advice = _need_advice(job, name)
                raise ValueError(f"{what}: the job has no such need; {advice}")
            resource, taken_amount = taken
            if not isinstance(resource, (RateResource, BudgetResource)):
                raise ValueError(
                    f"{what}: it is not a Rate or Budget; the job returns its amount when it settles"
                )
            used = resource.parse_used(_amounts.check_need(amount, what), what)
            corrections.append(partial(self._correct, resource, taken_amount, used))
        for correct in corrections:
            if threading.get_ident() == self._run.thread_id:
                correct()
            else:
                self._run.call_in_loop(correct)

    def _correct(
        self, resource: RateResource | BudgetResource, taken_amount: Any, used: Any
    ) -> None:
        """Let waiting jobs of all runs take the newly available amounts. The run itself may have ended meanwhile."""
        resource.correct(taken_amount, used)
        # Only jobs with needs have a grant.
        self._run.line.admission.begin_round()  # type: ignore[union-attr]

    def lower_total(self, job: AnyJob, name: str, total: int) -> bool:
        taken = _find_taken(job, name)
        if taken is None or not isinstance(taken[0], CountedResource):
            return False
        taken[0].lower_total(total)
        return True

    def close(self, job: AnyJob, throttles: Iterable[Throttled]) -> None:
        """Delay the starts of all jobs that need the throttled resources, at most for as long as these allow."""
        for throttle in throttles:
            taken = _find_taken(job, throttle.key)
            if taken is not None:
                resource, _ = taken
                seconds = min(throttle.after, _longest_throttle(resource))
                self._report_long_throttle(job, resource, throttle, seconds)
                resource.throttle(seconds)
                self._run.line.mark_stale()

    def _report_long_throttle(
        self,
        job: AnyJob,
        resource: Resource,
        throttle: Throttled,
        seconds: float,
    ) -> None:
        """Report that nothing starts for long, once: other jobs may be throttled at the same time."""
        left = resource.cooldown.ends_at - resource.clock()
        if seconds < LONG_THROTTLE or left > LONG_THROTTLE / 2:
            return
        advice = "; if that is too long, raise Throttled with a shorter after="
        if seconds < throttle.after:
            asked = f" of the {throttle.after:g} s that it asks for"
            advice = f"{asked}, because of give_up={seconds:g}; if the server means it, give the Rate a longer one"
        duration = _text_forms.duration_text(seconds)
        text = f"{job.label!r} was throttled: nothing that needs {throttle.key!r} starts for {duration}{advice}"
        self._run.report(job, text)

    def why_not_throttled(
        self,
        job: AnyJob,
        throttles: Iterable[Throttled],
        failure: BaseException,
    ) -> BaseException | None:
        """Return the failure of a throttled job, or None if the job can be called again later.

        Args:
            job: the job that was throttled.
            throttles: the `Throttled` exceptions that it raised. `key` is the name of a resource.
            failure: the exception of the job, which contains them.

        """
        resources: list[Resource] = []
        for throttle in throttles:
            taken = _find_taken(job, throttle.key)
            if taken is None:
                what = f"{job.label!r} raised Throttled({throttle.key!r}), but has no such need"
                error = ValueError(f"{what}: {_need_advice(job, throttle.key)}")
                error.__cause__ = failure
                return error
            resources.append(taken[0])
        if _gives_up(job, resources):
            return failure
        if job._is_one_shot():
            why = "was made from a coroutine object, or releases its arguments: create it from the function"
        elif job._is_ready():
            why = "is a service, and has reported that it is ready"
        else:
            return None
        note = f"{job.label!r} cannot be called again after it was throttled: it {why}"
        add_note(failure, note)
        return failure


def _need_advice(job: AnyJob, name: str) -> str:
    near = _hints.nearest_name(name, job._options.needs)
    if not near:
        return "add it to needs=, and give its scheduler a pool that has it"
    return f"did you mean {near!r}?"


def _find_taken(job: AnyJob, name: str) -> tuple[Resource, Any] | None:
    """Return the resource of this name that a job has, and its share, or None if it has none."""
    grant = job._grant()
    if grant is None:
        return None
    found: tuple[Resource, Any] | None = grant.find(name)
    return found


def _longest_throttle(resource: Resource) -> float:
    """Return for how long jobs may be throttled, by `Rate(give_up=)`: then, one that is throttled again fails."""
    if isinstance(resource, RateResource) and resource.settings.give_up is not None:
        return float(resource.settings.give_up)
    return math.inf


def _gives_up(job: AnyJob, resources: Iterable[Resource]) -> bool:
    """Return whether a throttled job has only been throttled for as long as its rates allow (`Rate(give_up=)`)."""
    since = job._ensure_extras().throttled_since
    started_at = job._started_at
    if since is None or started_at is None:
        return False
    limits = map(_longest_throttle, resources)
    return started_at - since >= min(limits, default=math.inf)
