"""The story of an explored run, the invariants that hold in each, and the check that the user gives."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import anyio

from .. import Scheduler
from .._core.base._states import JobState
from .._core.base._text_forms import join_names, short_repr
from .._core.base._user_code import describe_line, get_group_members
from .._core.job._ancestors import enclosing_schedulers
from .._core.job._function import name_of
from .._core.job._job import AbstractJob, AnyJob, is_scheduler
from .._core.job._labels import printable
from . import _coroutine_frames
from ._fault_plans import END_PLACE, SHORT_DELAY, Change, EndlessRun, RunOutcome, SteppedJob


class Story:
    """The lines that tell the events of a run.

    Args:
        outcome: the outcome of the run, which gets the lines.
        stepped_jobs: the jobs of the run, to which others are added.

    """

    def __init__(self, outcome: RunOutcome, stepped_jobs: Mapping[AnyJob, SteppedJob]) -> None:
        self.outcome: Final = outcome
        self.stepped_jobs: Final = stepped_jobs
        self._lines: Final = outcome.event_lines

    def add_line(self, text: str, time: float | None = None) -> None:
        timestamp = anyio.current_time() if time is None else time
        self._lines.append(f"{round(timestamp, 3):>8g}  {text}")

    def describe_holders(self, stepped: SteppedJob) -> str:
        holds: list[str] = []
        for other in self.stepped_jobs.values():
            if other is not stepped and other.job.state is JobState.RUNNING:
                granted = {name: has for name, has in other.job.granted.items() if not isinstance(has, dict)}
                if granted:
                    holds.append(f"{other.name!r} holds {', '.join(f'{name}={has}' for name, has in granted.items())}")
        return f" while {' and '.join(holds)}" if holds else ""

    def last_activity_time(self) -> float:
        """Return the last time at which a job began its current wait or finished; 0 if there is none."""
        wait_starts = [
            stepped.wait_start for stepped in self.stepped_jobs.values() if stepped.waiting_coroutine is not None
        ]
        return max(
            wait_starts + [job.finished_at for job in self.stepped_jobs if job.finished_at is not None], default=0.0
        )

    def add_waiting_jobs(self) -> None:
        """Add lines to the story: where each running job waits, and which jobs wait for a slot or a resource."""
        waiting = [stepped.name for stepped in self.stepped_jobs.values() if stepped.job.state is JobState.SCHEDULED]
        for stepped in self.stepped_jobs.values():
            if stepped.waiting_coroutine is not None:
                self._lines.append(
                    f"{'':12}{stepped.name!r} has waited since {round(stepped.wait_start, 3):g}, "
                    f"at {_coroutine_frames.waiting_line(stepped.waiting_coroutine)}"
                )
        if waiting:
            self._lines.append(f"{'':12}{join_names([*map(repr, waiting)], 3)} wait for their turn")


def describe_place(stepped: SteppedJob, change: Change) -> str:
    if change.at == 0:
        return "at its beginning"
    return "at its end" if change.at == END_PLACE else f"at {_coroutine_frames.waiting_line(stepped.waiting_coroutine)}"


def describe_error(error: BaseException) -> str:
    """Describe an exception in one line, with the file and line that raised it.

    If it has no message, include the code of that line. An exception group with one member counts as this member.
    """
    while len(members := get_group_members(error)) == 1:
        (error,) = members
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    text = " ".join(str(error).split())
    line = "" if traceback is None else describe_line(traceback.tb_frame.f_code.co_filename, traceback.tb_lineno)
    where = f" ({line.partition(': ')[0] if text else line})" if line else ""
    return f"{type(error).__name__}{f': {text}' if text else ''}{where}"


def describe_delay(seconds: float) -> str:
    return "after all others" if seconds == SHORT_DELAY else f"{seconds:g} s later"


class Judge:
    """The check whether a run violates an invariant.

    Args:
        check: the check of the user, called with the scheduler and, if it takes two arguments, the world; or None.
        story: the story of the run, whose outcome gets the violated invariant.

    Attributes:
        allowed_error: the KeyboardInterrupt that the run may raise.

    """

    def __init__(self, check: Callable[..., object] | None, story: Story) -> None:
        self._check: Final = check
        self._outcome: Final = story.outcome
        self._story: Final = story
        self.allowed_error: BaseException | None = None

    def record_violation(
        self, invariant: str, text: str, error: BaseException | None = None, time: float | None = None
    ) -> None:
        """Record the first violated invariant, and tell each violation in the story, at the given time or now."""
        if self._outcome.violated_invariant is None:
            self._outcome.violated_invariant, self._outcome.error = invariant, error
        self._story.add_line(text, time)

    def check(
        self, scheduler: Scheduler, raised: BaseException | None, leftover_tasks: list[str], world: dict[Any, Any]
    ) -> Exception | None:
        """Check all invariants after a run. Return the error to raise if the user's check cannot be used.

        Raises:
            BaseException: `raised`, if the scenario cannot start.

        """
        if raised is not None and raised is not self.allowed_error and not isinstance(raised, EndlessRun):
            if self._outcome.violated_invariant is None and not self._has_run_jobs():
                raise raised  # the scenario cannot start
            name = type(raised).__name__
            self.record_violation(f"the run raises {name}", f"the run raises {describe_error(raised)}", raised)
        if self._outcome.violated_invariant is not None:
            return None
        for job, error in scheduler.failures().items():
            broken = _find_assertion(error)
            if broken is not None:
                text = f"an assert in '{printable(job.path)}' fails: {describe_error(broken)}"
                self.record_violation("an assert in a job fails", text, broken, job.finished_at)
                return None
        for invariant, text in self._find_leftovers(scheduler, leftover_tasks):
            self.record_violation(invariant, text)
            return None
        try:
            result = None if self._check is None else call_user_function(self._check, "check", scheduler, world)
        except Exception as error:
            text = f"after the run, the check fails: {describe_error(error)}"
            self.record_violation(f"check raises {type(error).__name__}", text, error)
            return None
        return None if result is None else _make_check_result_error(result)

    def _has_run_jobs(self) -> bool:
        return any(stepped.call_count for stepped in self._story.stepped_jobs.values())

    def _find_leftovers(self, scheduler: Scheduler, leftover_tasks: list[str]) -> Iterable[tuple[str, str]]:
        """Yield the violated invariant, and a line for the story, for each task, job, resource or token left behind.

        Do the same for each job whose `co_shutdown` was not called exactly once.
        """
        if leftover_tasks:
            yield (
                "a task is left running",
                f"after the run, these tasks are left running: {', '.join(sorted(leftover_tasks))}",
            )
        unrepeated_schedulers = {job for job in self._story.stepped_jobs if is_scheduler(job) and job.retry is None}
        for job, stepped in self._story.stepped_jobs.items():
            if stepped.is_running or job.state in (JobState.RUNNING, JobState.SCHEDULED):
                yield "a job is left running", f"after the run, {stepped.name!r} is {job.state.value}"
            enclosing = [level for level in enclosing_schedulers(job) if level is not scheduler]
            if (
                stepped.shutdown_count != 1
                and _has_own_shutdown(job)
                and all(level in unrepeated_schedulers for level in enclosing)
            ):
                yield (
                    "co_shutdown is not called exactly once",
                    f"co_shutdown of {stepped.name!r} was called {stepped.shutdown_count} times",
                )
        for level in (scheduler, *filter(is_scheduler, self._story.stepped_jobs)):
            if level.pool is not None:
                for name, total in level.pool.total.items():
                    free = level.pool.free[name]
                    if not (isinstance(total, dict) or name in level.pool.budgets or free == total):
                        yield "a resource was not returned", f"after the run, {free} of {name}={total} are free"
            borrowed = getattr(level.jobs_window, "borrowed_tokens", 0)
            if borrowed:
                yield "a token was not returned", f"after the run, {borrowed} tokens of {level.label!r} are borrowed"


def count_arguments(function: Callable[..., object], name: str, max_count: int) -> int:
    """Return the number of arguments with which to call a user-supplied function: `max_count`, or 1 less.

    If the signature of the function is unknown, return the smaller number.

    Args:
        function: the function.
        name: the name of the argument of `explore`, for errors.
        max_count: 1 for `make_scheduler`, 2 for `check`.

    Raises:
        TypeError: the function is not callable, or not with either number of arguments.

    """
    min_count = max_count - 1
    if not callable(function):
        raise TypeError(f"{name}={short_repr(function)}: give a function")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return min_count
    for count in (max_count, min_count):
        with contextlib.suppress(TypeError):
            signature.bind(*range(count))
            return count
    expected = "no argument, or the world" if max_count == 1 else "the scheduler, or the scheduler and the world"
    raise TypeError(f"{name}={name_of(function)}{signature}: let it take {expected}")


def call_user_function(function: Callable[..., Any], name: str, scheduler: Any, world: dict[Any, Any]) -> Any:
    """Call a function of the user with those of the arguments that it takes."""
    if scheduler is None:
        return function(world) if count_arguments(function, name, 1) else function()
    return function(scheduler, world) if count_arguments(function, name, 2) == 2 else function(scheduler)


def _make_check_result_error(result: object) -> TypeError:
    if inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()
        return TypeError("check is async, and is called when the run is over: make it a plain function")
    return TypeError(f"check returned {short_repr(result)}: let it assert what must hold, and return nothing")


def _has_own_shutdown(job: AnyJob) -> bool:
    return not is_scheduler(job) and type(job).co_shutdown is not AbstractJob.co_shutdown


def _find_assertion(error: BaseException) -> BaseException | None:
    if isinstance(error, AssertionError):
        return error
    return next(
        (assertion for member in get_group_members(error) if (assertion := _find_assertion(member)) is not None), None
    )
