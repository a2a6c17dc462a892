"""`RunView`: the facts for views about a run in progress, and the runs in progress of the process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, final

from ..admission._window import VariableWindow, max_slots
from ..base._states import RUNNING, RunPhase, StopReason
from ..job._ancestors import member_of_run
from ..job._job import AnyJob, is_scheduler, takes_slot
from ..run import _run, _steering
from ._explain import pause_text

if TYPE_CHECKING:
    from types import FrameType

    from ..run._next_try import NextTry
    from ..scheduler._base_scheduler import BaseScheduler


@final
class RunView:
    """A read-only view of a run in progress."""

    # A `Run`, which is not public.
    def __init__(self, run: Any) -> None:
        self._run: Final[_run.Run] = run

    @property
    def clock(self) -> Callable[[], float]:
        """A function that returns the time in seconds, on the same clock as `job.started_at`."""
        return self._run.clock

    @property
    def phase(self) -> RunPhase:
        """The phase of the run."""
        return self._run.phase

    @property
    def reason(self) -> StopReason | None:
        """The reason why the run drains or stops, or None if it does neither."""
        return self._run.fate.reason

    @property
    def pause_text(self) -> str:
        """Since when the run is paused, and by whom, or why it is held, or "" if it is neither."""
        return pause_text(self._run)

    @property
    def window(self) -> int | None:
        """The maximum size of the window, or None for no limit. `scheduler.window_size` is the current size."""
        line = self._run.line
        if isinstance(line.window, int):
            return line.size
        return max_slots(line.window)

    @property
    def backend(self) -> str:
        """The name of the backend."""
        return self._run.backend.name

    @property
    def has_journal(self) -> bool:
        """Whether a journal stores results of the run."""
        return self._run.journal_writer is not None

    @property
    def tokens_taken(self) -> int | None:
        """The number of the limiter's tokens that are taken, by any user, or None if the window is not a limiter."""
        limiter: Any = self._run.line.limiter
        return None if limiter is None else limiter.borrowed_tokens

    @property
    def slots_taken(self) -> int:
        """The number of slots of the window that are taken. For a limiter, any user counts. Takes O(members) time."""
        tokens = self.tokens_taken
        # Another thread may add some.
        members = list(self._run.scheduler)
        if tokens is None:
            running = [job for job in members if job._state is RUNNING]
            return len([*filter(takes_slot, running)])
        return tokens

    @property
    def has_adaptive_window(self) -> bool:
        """Whether the window is an `Adaptive`, whose size changes during the run."""
        return isinstance(self._run.line.window, VariableWindow)


def current_run(scheduler: BaseScheduler) -> RunView | None:
    """Return a view of the scheduler's run in progress, or None if the scheduler is not running."""
    run = scheduler._run
    if run is None:
        return None
    return RunView(run)


def why_not_again(job: AnyJob) -> str:
    """Return why a job, or a scheduler that runs, cannot be tried again now, in words, or "" if it can."""
    run = job._run if is_scheduler(job) else None
    if run is not None:
        if run.phase is RunPhase.RUNNING:
            return ""
        return f"try_again() of {job.label!r}: {job.label!r} {run.phase.value}"
    found = next_try(job)
    if found is None:
        return f"try_again() of {job.label!r}: its scheduler is not running"
    return found.problem


def next_try(job: AnyJob) -> NextTry | None:
    """Return what another try of a settled job means now, or None if its scheduler is not running."""
    member = member_of_run(job)
    run = member._enclosing_run()
    if run is None:
        return None
    return run.next_try(member, (job,))


def try_again(jobs: Iterable[AnyJob], cancels: bool = False) -> list[AnyJob]:
    """Try again these jobs, and return them, or the outermost groups around them that have ended, each once.

    Args:
        jobs: the jobs.
        cancels: whether what runs with a result that is taken back is cancelled for it.

    Raises:
        RuntimeError: this is not possible now.

    """
    wanted: dict[AnyJob, list[AnyJob]] = {}
    for job in jobs:
        wanted.setdefault(member_of_run(job), []).append(job)
    for member, inside in wanted.items():
        run = member._enclosing_run()
        if run is None or (is_scheduler(member) and member._run is not None):
            member.try_again()
        else:
            run.try_again(member, inside, cancels)
    return [*wanted]


def reopened_count(scheduler: BaseScheduler) -> int:
    """Return how many jobs of a scheduler were tried again in runs in progress. Any thread may ask."""
    return scheduler._members.reopened_count


def run_times(scheduler: BaseScheduler) -> tuple[float, float | None] | None:
    """Return when the last run of a scheduler began and ended, on the backend's clock. All views show these times.

    The run begins when its instruments have been notified, and ends when all jobs are shut down. The end is None while
    the run is in progress. Return None if there has been no run. Any thread may ask, also while a run is being checked.
    """
    began_at = getattr(scheduler._run, "began_at", None)
    return scheduler._run_times if began_at is None else (began_at, None)


def last_run(scheduler: BaseScheduler) -> object:
    """Return an object of the last run of a scheduler, which tells apart two runs that begin at the same instant."""
    run = scheduler._run
    return scheduler._fate if run is None else run.fate


def run_steering(scheduler: BaseScheduler) -> _steering.SteeringRecord:
    """Return when the last run of a scheduler was paused, and its numbers of slots if they have changed."""
    run = scheduler._run
    if run is None:
        return scheduler._run_steering
    return _steering.SteeringRecord(*map(tuple, run.changes))


@final
class RunInProgress:
    """An outermost run in progress, for those outside of the program who look at it, or steer it."""

    def __init__(self, run: _run.Run) -> None:
        self._run: Final = run
        self.scheduler: Final = run.scheduler
        self.view: Final = RunView(run)
        self.began_at: Final = run.began_at
        # The identifier of the thread of its event loop.
        self.thread_id: Final = run.thread_id
        # Any thread may use the first two of these. Only the thread of the loop may use the others.
        self.call_in_loop = run.call_in_loop
        self.call = partial(run.steering.call, run)
        self.report = run.report
        self.set_pause = partial(run.steering.set_pause, run, run.scheduler)

    def has_ended(self) -> bool:
        return self.scheduler._run is not self._run


def runs_in_progress() -> list[RunInProgress]:
    """Return the outermost runs in progress, in any thread of this process."""
    return [RunInProgress(run) for run in list(_run.RUNS_IN_PROGRESS)]


def job_frames(job: AnyJob) -> tuple[list[tuple[FrameType, int]], bool]:
    """Return the frames of a running job, the outermost first, with their lines, and whether the job is executing.

    A job that is executing keeps the event loop from running anything else until its next `await`. The frames include
    the worker's own. They are empty if the worker is not known. Any thread may call this function.
    """
    if (worker := job._worker) is None:
        return [], False
    suspended = list(worker.run.backend.frames(worker))
    executing: list[tuple[FrameType, int]] = []
    frame = sys._current_frames().get(worker.run.thread_id)
    while frame is not None and suspended:
        executing.append((frame, frame.f_lineno))
        if frame is suspended[-1][0]:
            return [*suspended[:-1], *reversed(executing)], True
        frame = frame.f_back
    return suspended, False


def slots_in_use(scheduler: BaseScheduler) -> tuple[int, int | None]:
    """Return how many slots of a scheduler in progress are taken, and how many it has now, or None for no limit."""
    run = current_run(scheduler)
    taken = 0
    if run is not None:
        taken = run.slots_taken
    return taken, scheduler.window_size
