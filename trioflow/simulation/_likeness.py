"""The likeness of a scenario: the same jobs, options and requirements, with a sleep in place of each job's work."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import anyio

from .._core.door.reading import (
    AbstractJob,
    Adaptive,
    AnyJob,
    BaseScheduler,
    Outlook,
    Policy,
    Pool,
    Rule,
    is_scheduler,
)
from .._core.door.reading import slots_of as slots

if TYPE_CHECKING:
    from .._core.door.reading import PolicyName


class Stand(AbstractJob[None]):
    """Stands for a job: it takes as long as the job is expected to take, and nothing of the job's own runs."""

    seconds = 0.0

    async def co_run(self) -> None:
        """Sleep."""
        self._release_inputs()
        if self._forever:
            await anyio.sleep_forever()
        await anyio.sleep(self.seconds)


class StandForService(AbstractJob[None]):
    """Stands for a service: it takes its expected duration until it is ready."""

    _is_service = True
    seconds = 0.0

    async def co_run(self) -> None:
        """Sleep, be ready, and go on until the run ends."""
        self._release_inputs()
        await anyio.sleep(self.seconds)
        assert self._worker is not None
        self._worker.run.service_ready(self, None)
        await anyio.sleep_forever()


class PolicyOfLikeness(Policy):
    """A user's policy, asked about the user's jobs in place of those that stand for them."""

    def __init__(self, policy: Policy, stands: Mapping[AnyJob, AnyJob]) -> None:
        self._policy: Final = policy
        self._stands: Final = stands
        self.needs_ranks = policy.needs_ranks

    def key(self, job: AnyJob, outlook: Outlook) -> float | tuple[float, ...]:
        """Return the user's key."""
        return self._policy.key(self._own[job], OutlookOfLikeness(outlook, self._stands))

    def reason(self, job: AnyJob, outlook: Outlook) -> str:
        """Return the user's reason."""
        return self._policy.reason(self._own[job], OutlookOfLikeness(outlook, self._stands))

    @functools.cached_property
    def _own(self) -> dict[AnyJob, AnyJob]:
        return {stand: job for job, stand in self._stands.items()}


class OutlookOfLikeness(Outlook):
    """What is expected of the user's jobs: the same as of those that stand for them."""

    __slots__ = ("_outlook", "_stands", "starts")

    def __init__(self, outlook: Outlook, stands: Mapping[AnyJob, AnyJob]) -> None:
        self._outlook: Final = outlook
        self._stands: Final = stands
        self.starts = outlook.starts

    def expected_duration(self, job: AnyJob) -> float | None:
        """As in the likeness."""
        return self._outlook.expected_duration(self._stands[job])

    def rank(self, job: AnyJob) -> float:
        """As in the likeness."""
        return self._outlook.rank(self._stands[job])


class Likeness:
    """A scheduler that is like another one.

    Args:
        scheduler: the user's scheduler; it is only read.
        seconds: how long each job takes; for nested schedulers it is not used.
        known: how long jobs are expected to take, as far as policies know it.
        window, policy: what to use in place of the scheduler's own.

    """

    def __init__(
        self,
        scheduler: BaseScheduler,
        seconds: Mapping[AnyJob, float],
        known: Mapping[AnyJob, float],
        window: Any,
        policy: Any,
    ) -> None:
        self._seconds: Final = seconds
        self._known: Final = known
        self._limiters: Final[dict[int, Any]] = {}
        self._pools: Final[dict[Pool, Pool]] = {}
        self._policy: Final = policy
        # The stand of each of the user's jobs; those of schedulers are schedulers.
        self.stands: Final[dict[AnyJob, Any]] = {}
        jobs = list(scheduler.iterate_jobs())
        self.scheduler: Final = self._scheduler(scheduler, window)
        for job in jobs:
            self.stands[job] = self._scheduler(job, job.jobs_window) if is_scheduler(job) else self._stand(job)
        for job in jobs:
            self._connect(job, self.stands[job])
        self.stands[scheduler] = self.scheduler
        for job in (scheduler, *jobs):
            if is_scheduler(job):
                self.stands[job].update([self.stands[member] for member in job])

    def _scheduler(self, one: BaseScheduler, window: Any) -> BaseScheduler:
        return BaseScheduler(
            jobs_window=self._window(window),
            cleanup_timeout=one.cleanup_timeout,
            start_interval=one.start_interval,
            drain_at=one.drain_at,
            pool=self._pool(one.pool),
            backfill=one.backfill,
            policy=self._likewise(one.policy if self._policy is None else self._policy),
            **self._options(one),
        )

    def _stand(self, job: AnyJob) -> Stand | StandForService:
        stand = (StandForService if job._is_service else Stand)(**self._options(job))
        stand.seconds = self._seconds[job]
        return stand

    def _options(self, job: AnyJob) -> dict[str, Any]:
        retry = job.retry
        return {
            "label": job.label,
            "critical": job.is_critical(),  # a timeout is a failure, and so is to be BLOCKED because of one
            "forever": job.forever,
            "expected_duration": self._known.get(job),
            "timeout": job.timeout,
            "on_timeout": job.on_timeout,
            "restarts": job.restarts,
            "retry": retry if isinstance(retry, int) else None,  # a decorator is the user's code
            "priority": job.priority,
            "needs": job.needs or None,
        }

    def _connect(self, job: AnyJob, stand: AnyJob) -> None:
        """Let the stand require, and use, what the job does."""
        required = [self.stands[one] for one in job._required if one in self.stands]
        rule = job._rule
        if rule is not None:
            inputs = tuple(self.stands[one] for one in rule.inputs if one in self.stands)
            stand._rule = Rule(rule.run_if, rule.keep_result, inputs, rule.drops_results)
        stand.requires(required)

    def _pool(self, pool: Pool | None) -> Pool | None:
        """Return the pool: another one that has as much, shared by the same schedulers."""
        if pool is None:
            return None
        if pool not in self._pools:
            self._pools[pool] = Pool(**pool._settings())
        return self._pools[pool]

    def _likewise(self, policy: PolicyName | Policy) -> PolicyName | Policy:
        """Return the policy; one of the user's is asked about the user's jobs."""
        return policy if isinstance(policy, str) else PolicyOfLikeness(policy, self.stands)

    def _window(self, window: Any) -> Any:
        """Return the window: in place of a limiter, another one that is as large, and shared by the same schedulers."""
        if window is None or isinstance(window, (int, Adaptive)):
            return window
        if id(window) not in self._limiters:
            self._limiters[id(window)] = anyio.CapacityLimiter(slots(window) or float("inf"))
        return self._limiters[id(window)]
