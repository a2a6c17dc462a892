"""The copy of a scenario for simulation. It has the same jobs, options and requirements, but its jobs only sleep."""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable, Mapping
from typing import Any, Final

import anyio

from .._core.admission import _pools, _window
from .._core.admission._policies import PolicyName
from .._core.base._graph_algorithms import topological_order
from .._core.job import _function, _option_descriptors, _retry, _service
from .._core.job._job import AnyJob, is_scheduler
from .._core.scheduler._base_scheduler import BaseScheduler
from .._core.scheduler._members import first_options, insert_members
from .._core.words import _job_queries


class NeverSettles(BaseException):
    """The exception that ends a simulation whose jobs are called without an end. No retry catches it.

    Its arguments are the user's job, and how often it was called.
    """


MAX_CALLS: Final = 10_000
"""The maximum number of calls of a job in a simulation, which takes about a second to compute. Its expected duration
never changes, so a job that exceeds its timeout does so in each call."""


async def sleep_for_duration(
    add_call: Callable[[], None], seconds: float, *_: object
) -> None:
    add_call()
    await anyio.sleep(seconds)


async def sleep_forever(*_: object) -> None:
    await anyio.sleep_forever()


async def serve_after_duration(
    add_call: Callable[[], None], seconds: float, *_: object, task_status: Any
) -> None:
    add_call()
    await anyio.sleep(seconds)
    task_status.started()
    await anyio.sleep_forever()


class SchedulerCopy(BaseScheduler):
    """The copy of a scheduler.

    Args:
        original: the scheduler.
        **options: the options of the original scheduler.

    """

    _opens_gates = False
    # Only a `First` is an input in the original scenario.
    _can_be_input = True

    def __init__(self, original: BaseScheduler, **options: object) -> None:
        # The totals of a run's own resources, such as worker processes.
        self.resource_totals: dict[str, int] = {}
        self._enough, self._stagger = first_options(original)
        super().__init__(**options)

    def _run_resource_totals(self) -> Mapping[str, int]:
        return self.resource_totals


OUTERMOST_OPTIONS: Final[dict[str, Any]] = {
    "critical": None,
    "forever": False,
    "on_timeout": "fail",
    "retry": None,
    "run_if": "succeeded",
}
"""The options that replace the options of a scheduler whose copy is outermost, even if it is nested itself."""
UNCHANGED_OPTIONS: Final = (
    "label",
    "forever",
    "run_if",
    "keep_result",
    "timeout",
    "on_timeout",
    "priority",
)


class ScenarioCopy:
    """A copy of a scenario, whose jobs sleep for their durations.

    Args:
        scheduler: the user's scheduler, which is only read.
        durations: the duration of each job. Durations of nested schedulers are not used.
        known_durations: the durations that policies may use to order jobs.
        window: the window of the copy of the outermost scheduler.
        policy: the policy of all schedulers, or None to keep their policies.

    Attributes:
        scheduler: the copy of the user's scheduler.
        copies: the copy of each of the user's jobs, including schedulers.
        call_counts: the number of calls of each job that is not a forever job, and of runs of each nested scheduler.

    """

    def __init__(
        self,
        scheduler: BaseScheduler,
        durations: Mapping[AnyJob, float],
        known_durations: Mapping[AnyJob, float],
        window: Any,
        policy: PolicyName | None,
    ) -> None:
        self._durations: Final = durations
        self._known_durations: Final = known_durations
        self._limiter_copies_by_id: Final = dict[int, Any]()
        # All schedulers that share a pool share its copy.
        self._copy_pool: Final = functools.cache(_pools.copy_pool)
        self._policy: Final = policy
        self.copies: Final = dict[AnyJob, Any]()
        self.call_counts: Final = collections.Counter[AnyJob]()
        self.scheduler: Final = self._copy_scheduler(
            scheduler, window, OUTERMOST_OPTIONS
        )
        originals = dict.fromkeys(scheduler.iterate_jobs())
        for job in topological_order(
            originals,
            lambda job: [
                required for required in job.required if required in originals
            ],
        ):
            if is_scheduler(job):
                copy: AnyJob = self._copy_scheduler(job, job.jobs_window, {})
            else:
                copy = self._copy_job(job)
            settled_only = [
                self.copies[other]
                for other in _job_queries.settled_only_for(job)
                if other in self.copies
            ]
            copy.requires(settled_only, settled=True)
            self.copies[job] = copy
        self.copies[scheduler] = self.scheduler
        for job in (scheduler, *originals):
            copy = self.copies[job]
            for name, amount in _job_queries.run_needs(job).items():
                _option_descriptors.set_run_need(copy, name, amount)
                owner, total, _ = _job_queries.find_run_resource(
                    job.scheduler or scheduler, name
                )
                self.copies.get(owner, self.scheduler).resource_totals[name] = total
            if is_scheduler(job) and is_scheduler(copy):
                # An input may be in another scheduler.
                insert_members(copy, [self.copies[member] for member in job])

    def _copy_scheduler(
        self, original: BaseScheduler, window: object, options: dict[str, Any]
    ) -> SchedulerCopy:
        """Copy a scheduler without its jobs. `options` replace its own."""
        pool = None
        if original.pool is not None:
            pool = self._copy_pool(original.pool)
        return SchedulerCopy(
            original,
            jobs_window=self._copy_window(window),
            cleanup_timeout=original.cleanup_timeout,
            pool=pool,
            policy=self._policy or original.policy,
            **(self._copy_options(original) | options),
        )

    def _copy_job(self, job: AnyJob) -> AnyJob:
        """Copy a job. The arguments of the copy are the duration and the copies of the job's inputs."""
        options = self._copy_options(job)
        inputs = [
            self.copies[source]
            for source in _job_queries.inputs_of(job)
            if source in self.copies
        ]

        def add_call() -> None:
            self.add_call(job)

        if _job_queries.is_service(job):
            return _service.Service(
                serve_after_duration, add_call, self._durations[job], *inputs, **options
            )
        if job.forever:
            return _function.Job(sleep_forever, *inputs, **options)
        return _function.Job(
            sleep_for_duration, add_call, self._durations[job], *inputs, **options
        )

    def add_call(self, job: AnyJob) -> None:
        """Count a call of the user's job, or a run of a nested scheduler."""
        if self.call_counts[job] == MAX_CALLS:
            raise NeverSettles(job, MAX_CALLS)
        self.call_counts[job] += 1

    def _copy_options(self, job: AnyJob) -> dict[str, Any]:
        retry = job.retry
        if retry is not None:
            retry = self._copy_retry(retry)
        return {
            **{name: getattr(job, name) for name in UNCHANGED_OPTIONS},
            # Has an effect here, because jobs may time out in a simulation.
            "critical": _job_queries.criticality(job),
            "required": [
                self.copies[required]
                for required in job.required
                if required in self.copies
            ],
            "expected_duration": self._known_durations.get(job),
            "retry": retry,
            "needs": _job_queries.needs_as_given(job) or None,
        }

    def _copy_retry(self, retry: _retry.Retry) -> _retry.Retry:
        """Return a retry with the same pauses, at their longest. A function `on` would run user code."""
        on: Any = retry.on
        if callable(on) and not isinstance(on, type):
            on = Exception
        return _retry.Retry(
            retry.times,
            first=retry.first,
            factor=retry.factor,
            cap=retry.cap,
            jitter=False,
            on=on,
        )

    def _copy_window(self, window: Any) -> Any:
        """Return the window, or its copy if it is a limiter. All schedulers that share the limiter share the copy."""
        if not _window.is_limiter(window):
            return window
        copy = anyio.CapacityLimiter(_window.max_slots(window) or float("inf"))
        return self._limiter_copies_by_id.setdefault(id(window), copy)
