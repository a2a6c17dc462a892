"""`ProgressWatch`: notices that an explored run stalls, never ends, or is ended only by a timeout, and gives it up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import anyio
import anyio.to_thread

from .._core.base._states import RunPhase
from .._core.job._job import AnyJob
from .._core.words._run_view import current_run
from . import _coroutine_frames
from ._fault_plans import SHORT_DELAY, EndlessRun
from ._judge import Judge, Story
from ._task_order import TaskOrder, timers_before

STALL_LIMIT: Final = 1e9
"""The virtual time, in seconds, at which a run counts as stalled. The clock reaches it only without other timers."""
MAX_WAITS_AFTER_GIVING_UP: Final = 1_000
"""The maximum number of waits in the last round of a run that was given up. Each further wait raises `EndlessRun`."""
PLAIN_ROUND_WAITS: Final = 100_000
"""The number of waits in a round of a plain or repeated run.

A run counts as endless if no timer stays pending throughout a round, or if the clock stands still during one.
"""
TIMEOUT_CHECK_LEAD: Final = 2.0**-10
"""The time, in seconds, by which the check of the other timers precedes the timeout of a scheduler."""
MIN_ROUND_WAITS: Final = 5_000
ROUND_FACTOR: Final = 50
"""A round of any other run has this many times the waits of the longest plain run, but at least `MIN_ROUND_WAITS`."""


class ProgressWatch:
    """The watch over the progress of one run.

    Args:
        story: the story of the run, with its outcome and its jobs.
        judge: the judge, which records the violated invariant.
        task_order: the order of the tasks in the run.
        round_size: the number of waits in a round; see `PLAIN_ROUND_WAITS`.
        cancel_run: cancels the run.
        reject_scenario: ends the run of a scenario that cannot be explored.

    Attributes:
        has_given_up: whether the run was given up.

    """

    def __init__(
        self,
        story: Story,
        judge: Judge,
        task_order: TaskOrder,
        round_size: int,
        cancel_run: Callable[[], object],
        reject_scenario: Callable[[Exception], object],
    ) -> None:
        self._outcome: Final = story.outcome
        self._backend: Final = story.outcome.plan.backend
        self._story: Final = story
        self._judge: Final = judge
        self._task_order: Final = task_order
        self._round_size: Final = round_size
        self._cancel_run: Final = cancel_run
        self._reject_scenario: Final = reject_scenario
        self.has_given_up = False
        self._round_start = 0.0
        self.begin()

    def begin(self) -> None:
        self._waits_in_round = 0
        self._pending_timers: frozenset[tuple[object, float]] | None = None  # at the end of the last round
        self._timeout_deadlines: dict[AnyJob, float] = {}  # of the latest call of each scheduler
        self._check_times: list[float] = []  # the times of the pending checks of `_check_before_timeout`

    async def watch_for_stall(self) -> None:
        """Wait until the run stalls. Then end it, and record where its jobs wait.

        If one of them waits for a thread, reject the scenario instead.
        """
        await anyio.sleep_until(STALL_LIMIT)
        waiting = [stepped for stepped in self._story.stepped_jobs.values() if stepped.waiting_coroutine is not None]
        names = [
            stepped.name for stepped in waiting if _coroutine_frames.is_waiting_for_thread(stepped.waiting_coroutine)
        ]
        if names or anyio.to_thread.current_default_thread_limiter().borrowed_tokens:
            subject = f"{names[0]!r} waits" if names else "a task of a job waits"
            self._reject_scenario(
                TypeError(
                    f"{subject} for a thread, which works in real time, but explore runs on virtual time: in "
                    f"make_scheduler, replace the thread with something that sleeps as long, and returns or "
                    f"raises the same"
                )
            )
            return
        self._give_up_because("stalls", "no task can resume:", self._story.last_activity_time())
        await anyio.sleep_until(2 * STALL_LIMIT)  # reached only if the cancellation has not ended the run
        if self._backend == "asyncio":
            for task in asyncio.all_tasks():
                task.cancel()
        else:
            import outcome
            import trio

            for task in _iterate_trio_tasks():
                if id(task) in self._task_order.job_names and task is not trio.lowlevel.current_task():
                    trio.lowlevel.reschedule(task, outcome.Error(EndlessRun()))

    def watch_timeout(self, scheduler: AnyJob, task_group: Any) -> None:
        """If a scheduler that starts has a timeout, schedule a check of the pending timers just before it."""
        if scheduler.timeout is not None and scheduler.timeout < STALL_LIMIT:
            self._timeout_deadlines[scheduler] = end = anyio.current_time() + scheduler.timeout
            self._check_times.append(end - TIMEOUT_CHECK_LEAD)
            task_group.start_soon(self._check_before_timeout, scheduler, end)

    async def _check_before_timeout(self, scheduler: AnyJob, end: float) -> None:
        """Just before the timeout of a scheduler, check that something else can still end its run.

        If not, record a violation, and give up the run. (With a job that was made to hang, only the timeout can.)
        """
        await anyio.sleep_until(end - TIMEOUT_CHECK_LEAD)
        self._check_times.remove(end - TIMEOUT_CHECK_LEAD)
        due_timers = timers_before(STALL_LIMIT, self._backend)
        active_deadlines = [at for level, at in self._timeout_deadlines.items() if _may_time_out(level)]
        for expected_time in (*self._check_times, *active_deadlines):
            close_timers = {(timer, at) for timer, at in due_timers if abs(at - expected_time) < SHORT_DELAY}
            due_timers -= set(list(close_timers)[:1])
        has_hanging_job = any(change.kind == "hang" for change in self._outcome.applied_changes)
        awaited = [stepped for stepped in self._story.stepped_jobs.values() if not stepped.job.forever]
        is_working = any(_coroutine_frames.is_sleeping(stepped.waiting_coroutine, endless=True) for stepped in awaited)
        will_time_out = _may_time_out(scheduler) and self._timeout_deadlines[scheduler] == end
        if will_time_out and not due_timers and not is_working and not has_hanging_job and not self.has_given_up:
            text = f"no task can resume until {scheduler.label!r} times out at {end:g}:"
            self._give_up_because("only a timeout ends it", text, self._story.last_activity_time())

    def count_wait(self) -> None:
        """Count a wait that has ended. At the end of a round, give up a run that would never end.

        Raises:
            EndlessRun: the run was given up, and its jobs still wait again and again.

        """
        self._outcome.total_wait_count += 1
        self._waits_in_round += 1
        if self.has_given_up and self._waits_in_round > MAX_WAITS_AFTER_GIVING_UP:
            raise EndlessRun
        if self._waits_in_round <= self._round_size or self.has_given_up:
            return
        self._waits_in_round = 0
        due_timers = timers_before(STALL_LIMIT, self._backend)
        previous, self._pending_timers = self._pending_timers, due_timers
        if previous is not None and (not due_timers & previous or anyio.current_time() == self._round_start):
            waits = f"{self._outcome.total_wait_count:,}"
            self._give_up_because(
                "it never ends", f"it never ends: its jobs have waited {waits} times, and nothing else is due"
            )
        self._round_start = anyio.current_time()

    def _give_up_because(self, invariant: str, text: str, time: float | None = None) -> None:
        self._judge.record_violation(invariant, text, None, time)
        self._story.add_waiting_jobs()
        self.has_given_up = True
        self._cancel_run()


def _may_time_out(scheduler: Any) -> bool:
    """Return whether a scheduler is running and not stopping yet, so that its timeout may still end the run."""
    run = current_run(scheduler)
    return run is not None and run.phase is not RunPhase.STOPPING


def _iterate_trio_tasks() -> list[Any]:
    import trio

    todo: list[Any] = [trio.lowlevel.current_root_task()]
    for task in todo:
        todo += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return todo
