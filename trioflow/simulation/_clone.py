"""A copy of a scenario for simulation: the same jobs, options and requirements, with sleeps instead of work."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import anyio

from .._core.api.views import (
    Adaptive,
    AnyJob,
    BaseScheduler,
    Job,
    Outlook,
    Policy,
    Pool,
    Service,
    copy_pool,
    declare_run_resource,
    inputs_of,
    is_scheduler,
    is_service,
    max_slots,
    need_of_run,
    run_needs,
    run_resource_totals,
    topological_order,
)

if TYPE_CHECKING:
    from .._core.api.views import PolicyName


THREADS: Final = "threads of the cluster"
"""The resource shared by the copies of calls on a cluster."""

declare_run_resource(THREADS, lambda: sys.maxsize)


async def sleep_for_duration(seconds: float, *_: object) -> None:
    """The work of a job's copy: sleep for the job's expected duration."""
    await anyio.sleep(seconds)


async def take_forever(*_: object) -> None:
    """The work of a forever job's copy."""
    await anyio.sleep_forever()


async def serve(seconds: float, *_: object, task_status: Any) -> None:
    """The work of a service's copy: be ready after the expected duration."""
    await anyio.sleep(seconds)
    task_status.started()
    await anyio.sleep_forever()


class PolicyForCopies(Policy):
    """A user's policy for the copies of jobs: it is called with the user's own jobs."""

    def __init__(self, policy: Policy, copies: Mapping[AnyJob, AnyJob]) -> None:
        self._policy: Final = policy
        self._copies: Final = copies
        self.needs_ranks = policy.needs_ranks

    def key(self, job: AnyJob, outlook: Outlook) -> float | tuple[float, ...]:
        """Return the user's key."""
        return self._policy.key(self._user_jobs[job], CloneOutlook(outlook, self._copies))

    def reason(self, job: AnyJob, outlook: Outlook) -> str:
        """Return the user's reason."""
        return self._policy.reason(self._user_jobs[job], CloneOutlook(outlook, self._copies))

    @functools.cached_property
    def _user_jobs(self) -> dict[AnyJob, AnyJob]:
        return {copy: job for job, copy in self._copies.items()}


class CloneOutlook(Outlook):
    """An outlook on the user's jobs: the values of their copies."""

    __slots__ = ("_copies", "_outlook", "starts")

    def __init__(self, outlook: Outlook, copies: Mapping[AnyJob, AnyJob]) -> None:
        self._outlook: Final = outlook
        self._copies: Final = copies
        self.starts = outlook.starts

    def expected_duration(self, job: AnyJob) -> float | None:
        """Return the expected duration of the copy."""
        return self._outlook.expected_duration(self._copies[job])

    def rank(self, job: AnyJob) -> float:
        """Return the rank of the copy."""
        return self._outlook.rank(self._copies[job])


class SchedulerCopy(BaseScheduler):
    """A scheduler with another's totals of the resources that each run has without a pool."""

    __slots__ = ("_totals",)

    def __init__(self, totals: Mapping[str, int], **options: Any) -> None:
        self._totals = totals
        super().__init__(**options)

    def _run_resource_totals(self) -> Mapping[str, int]:
        return self._totals


class ScenarioCopy:
    """A copy of a scenario: its own scheduler with a job for each job.

    Args:
        scheduler: the user's scheduler, which is only read.
        seconds: the duration of each job; not used for nested schedulers.
        known: the expected durations, if known, for policies.
        window, policy: replacements for the scheduler's own.
        change: changes the settings of each pool; None to keep them.
        cluster_slots: for each job called on a cluster, its name and number of concurrent calls; all count as one.

    """

    def __init__(
        self,
        scheduler: BaseScheduler,
        seconds: Mapping[AnyJob, float],
        known: Mapping[AnyJob, float],
        window: Any,
        policy: Any,
        change: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
        cluster_slots: Mapping[AnyJob, tuple[str, int]] | None = None,
    ) -> None:
        self._threads: Final = sum(dict((cluster_slots or {}).values()).values())
        self._change: Final = change
        self._seconds: Final = seconds
        self._known: Final = known
        self._limiters: Final[dict[int, Any]] = {}
        self._pools: Final[dict[Pool, Pool]] = {}
        self._policy: Final = policy
        # The copy of each of the user's jobs; copies of schedulers are schedulers.
        self.copies: Final[dict[AnyJob, AnyJob]] = {}
        self.scheduler: Final = self._copy_scheduler(scheduler, window)
        inside = dict.fromkeys(scheduler.iterate_jobs())
        for job in topological_order(inside, lambda job: [required for required in job.required if required in inside]):
            copy = self._copy_scheduler(job, job.jobs_window) if is_scheduler(job) else self._copy_job(job)
            for name in run_needs(job):
                need_of_run(copy, name, 1)
            if cluster_slots and job in cluster_slots:
                need_of_run(copy, THREADS, 1)
            self.copies[job] = copy
        self.copies[scheduler] = self.scheduler
        for job in (scheduler, *inside):
            copy = self.copies[job]
            if is_scheduler(job) and is_scheduler(copy):
                copy.update([self.copies[member] for member in job])

    def _copy_scheduler(self, own: BaseScheduler, window: Any) -> BaseScheduler:
        return SchedulerCopy(
            {**run_resource_totals(own), **({THREADS: self._threads} if own.scheduler is None else {})},
            jobs_window=self._window(window),
            cleanup_timeout=own.cleanup_timeout,
            pool=self._pool(own.pool),
            backfill=own.backfill,
            policy=self._own_policy(own.policy if self._policy is None else self._policy),
            **self._options(own),
        )

    def _copy_job(self, job: AnyJob) -> AnyJob:
        """Return the copy of a job, whose arguments are the copies of the job's inputs."""
        options = self._options(job)
        inputs = [self.copies[source] for source in inputs_of(job) if source in self.copies]
        if is_service(job):
            return Service(serve, self._seconds[job], *inputs, **options)
        if job.forever:
            return Job(take_forever, *inputs, **options)
        return Job(sleep_for_duration, self._seconds[job], *inputs, **options)

    def _options(self, job: AnyJob) -> Any:
        retry = job.retry
        return {
            "label": job.label,
            "critical": job.is_critical(),  # timeouts, and BLOCKED jobs after them, count as failures
            "forever": job.forever,
            "required": [self.copies[required] for required in job.required if required in self.copies],
            "run_if": job.run_if,
            "keep_result": job.keep_result,
            "expected_duration": self._known.get(job),
            "timeout": job.timeout,
            "on_timeout": job.on_timeout,
            "restarts": job.restarts,
            "retry": retry if isinstance(retry, int) else None,  # a decorator is the user's code
            "priority": job.priority,
            "needs": job.needs or None,
        }

    def _pool(self, pool: Pool | None) -> Pool | None:
        """Return the copy of a pool, shared by the copies of its schedulers."""
        if pool is None:
            return None
        if pool not in self._pools:
            self._pools[pool] = copy_pool(pool, self._change)
        return self._pools[pool]

    def _own_policy(self, policy: PolicyName | Policy) -> PolicyName | Policy:
        """Return the policy; a user's policy is wrapped so that it gets the user's jobs."""
        return policy if isinstance(policy, str) else PolicyForCopies(policy, self.copies)

    def _window(self, window: Any) -> Any:
        """Return the window; a limiter is replaced by another of the same size, shared by the same schedulers."""
        if not is_limiter(window):
            return window
        if id(window) not in self._limiters:
            self._limiters[id(window)] = anyio.CapacityLimiter(max_slots(window) or float("inf"))
        return self._limiters[id(window)]


def is_limiter(window: Any) -> bool:
    """Return whether a window is a limiter, whose tokens count the working jobs at any depth."""
    return window is not None and not isinstance(window, (int, Adaptive))
