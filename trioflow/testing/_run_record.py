"""The records of one explored run: its outcome, and the state of its jobs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .._core.api.views import AnyJob
from ._fault_plans import Change, Plan

if TYPE_CHECKING:
    from ._task_order import TaskOrder


class InjectedError(Exception):
    """The exception that `explore` raises in a job to make it fail. It represents a failure of the outside world."""


class EndlessRun(BaseException):
    """The exception that ends a run that would never end by itself."""


@dataclass(slots=True)
class SteppedJob:
    """A job of the scenario whose calls are stepped from wait to wait.

    Attributes:
        name: the path of the job.
        job: the job.
        wait_count: the number of waits in all calls of the job since the last crash.
        call_count: the number of calls since the last crash.
        is_running: whether a call is in progress.
        waiting_coroutine: the coroutine of the job while it waits; None at other times.
        wait_start: the time at which the current or last wait began.
        shutdown_count: the number of calls of the job's `co_shutdown` since the last crash.
        pending_failures: the failures to repeat. Each is a pair: the description of the place, and the change.

    """

    name: str
    job: AnyJob
    wait_count: int = 0
    call_count: int = 0
    is_running: bool = False
    waiting_coroutine: Any = None
    wait_start: float = 0.0
    shutdown_count: int = 0
    pending_failures: list[tuple[str, Change]] = field(default_factory=list[tuple[str, Change]])

    def take_failures(self, place: str) -> list[Change]:
        failures = self.pending_failures
        self.pending_failures = [failure for failure in failures if failure[0] != place]
        return [change for failure_place, change in failures if failure_place == place]


@dataclass(slots=True)
class RunOutcome:
    """The outcome of one run.

    Attributes:
        plan: the plan of the run.
        task_order: the order of tasks in the run.
        violated_invariant: the violated invariant; None if all invariants held.
        error: the exception that violated the invariant, if there is one.
        event_lines: the events of the run, as lines of text.
        applied_changes: the changes of the plan that were applied.
        wait_counts: the number of waits of each job, by name.
        jobs_with_timeout: the names of the jobs that have a timeout, or are in a scheduler that has one.
        jobs_with_retries: the names of the jobs that have retries, or are in a scheduler that has them.
        make_error: the error that `make_scheduler` raised before any job had waited; None if there is none.
        total_wait_count: the number of waits of all jobs.
        end_time: the virtual time at the end.

    """

    plan: Plan
    task_order: TaskOrder
    violated_invariant: str | None = None
    error: BaseException | None = None
    event_lines: list[str] = field(default_factory=list[str])
    applied_changes: set[Change] = field(default_factory=set[Change])
    wait_counts: dict[str, int] = field(default_factory=dict[str, int])
    jobs_with_timeout: set[str] = field(default_factory=set[str])
    jobs_with_retries: set[str] = field(default_factory=set[str])
    make_error: Exception | None = None
    total_wait_count: int = 0
    end_time: float = 0.0
