"""The judgement on an explored run.

`Story` tells its events, and where its jobs wait. `ProgressWatch` notices that it stalls, never ends, or is ended only
by a timeout, and gives it up. `Judge` checks the invariants that hold after each run, and calls the check that the user
gives.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import traceback
from collections.abc import Callable, Iterable, Mapping
from types import CodeType, FrameType
from typing import Any, Final

import anyio
import anyio.lowlevel
import anyio.to_thread

from .. import Scheduler
from .._core.backend._shared import await_chain
from .._core.base._states import JobState, RunPhase
from .._core.base._text_forms import clause, join_names, short_repr
from .._core.base._user_code import describe_line, get_group_members, library_prefixes
from .._core.job import _ancestors, _function, _labels
from .._core.job._job import AbstractJob, AnyJob, is_scheduler
from .._core.words._run_view import current_run
from ._fault_plans import END_PLACE, SHORT_DELAY, EndlessRun, RunOutcome, SteppedJob
from ._task_order import TaskOrder, timers_before

STALL_LIMIT: Final = 1e9
MAX_WAITS_AFTER_GIVING_UP: Final = 1_000
"""The virtual time at which a run has stalled, since no other timer is left, and how many waits a run has that was
given up."""
PLAIN_ROUND_WAITS: Final = 100_000
"""The number of waits in a round of a plain or repeated run. A run counts as endless if no timer stays pending
throughout a round, or if the clock stands still during a round."""
TIMEOUT_CHECK_LEAD: Final = 2.0**-10
"""The check of the other timers precedes the timeout of a scheduler by this time, in seconds."""
MIN_ROUND_WAITS: Final = 5_000
ROUND_FACTOR: Final = 50
"""A round of any other run has this many times the waits of the longest plain run, but at least `MIN_ROUND_WAITS`."""


class Story:
    """The lines that tell the events of a run.

    Args:
        outcome: the outcome of the run, which gets the lines.
        stepped_jobs: the jobs of the run. Others are added.

    """

    def __init__(
        self, outcome: RunOutcome, stepped_jobs: Mapping[AnyJob, SteppedJob]
    ) -> None:
        self.outcome: Final = outcome
        self.stepped_jobs: Final = stepped_jobs

    def add_line(self, text: str, time: float | None = None) -> None:
        if time is None:
            time = anyio.current_time()
        self.outcome.event_lines.append(f"{round(time, 3):>8g}  {text}")

    def describe_holders(self, stepped: SteppedJob) -> str:
        holds: list[str] = []
        for other in self.stepped_jobs.values():
            if other is not stepped and other.job.state is JobState.RUNNING:
                granted = [
                    f"{name}={has}"
                    for name, has in other.job.granted.items()
                    if not isinstance(has, dict)
                ]
                if granted:
                    holds.append(f"{other.name!r} holds {', '.join(granted)}")
        return clause(" while {}", " and ".join(holds))

    def last_activity_time(self) -> float:
        """Return the last time when a job began its current wait or finished, or 0 if there is none."""
        times = [
            stepped.wait_start
            for stepped in self.stepped_jobs.values()
            if stepped.waiting_coroutine is not None
        ]
        for job in self.stepped_jobs:
            if job.finished_at is not None:
                times.append(job.finished_at)
        return max(times, default=0.0)

    def add_waiting_jobs(self) -> None:
        """Add lines to the story: where each running job waits, and which jobs wait for a slot or a resource."""
        waiting = [
            stepped.name
            for stepped in self.stepped_jobs.values()
            if stepped.job.state is JobState.SCHEDULED
        ]
        for stepped in self.stepped_jobs.values():
            if stepped.waiting_coroutine is not None:
                self.outcome.event_lines.append(
                    f"{'':12}{stepped.name!r} has waited since {round(stepped.wait_start, 3):g}, "
                    f"at {waiting_line(stepped.waiting_coroutine)}"
                )
        if waiting:
            self.outcome.event_lines.append(
                f"{'':12}{join_names([*map(repr, waiting)], 3)} wait for their turn"
            )


def describe_place(stepped: SteppedJob, place: int) -> str:
    if place == 0:
        return "at its beginning"
    if place == END_PLACE:
        return "at its end"
    return f"at {waiting_line(stepped.waiting_coroutine)}"


def describe_error(error: BaseException) -> str:
    """Describe an exception as a line, with the file and line that raised it.

    If it has no message, include the code of that line. An exception group with a single member counts as this member.
    """
    members = get_group_members(error)
    while len(members) == 1:
        (error,) = members
        members = get_group_members(error)
    frames = [*traceback.walk_tb(error.__traceback__)]
    text = " ".join(str(error).split())
    line = ""
    if frames:
        line = describe_line(frames[-1][0].f_code, frames[-1][1])
    if text:
        line = line.partition(": ")[0]
    return type(error).__name__ + clause(": {}", text) + clause(" ({})", line)


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
        self,
        invariant: str,
        text: str,
        error: BaseException | None = None,
        time: float | None = None,
    ) -> None:
        """Record the first violated invariant, and tell each violation in the story, at the given time or now."""
        if self._outcome.violated_invariant is None:
            self._outcome.violated_invariant = invariant
            self._outcome.error = error
        self._story.add_line(text, time)

    def check(
        self,
        scheduler: Scheduler,
        raised: BaseException | None,
        leftover_tasks: list[str],
        world: dict[Any, Any],
    ) -> Exception | None:
        """Check all invariants after a run. Return the error to raise if the user's check cannot be used.

        Raises:
            BaseException: `raised`, if the scenario cannot start.

        """
        if (
            raised is not None
            and raised is not self.allowed_error
            and not isinstance(raised, EndlessRun)
        ):
            has_run_jobs = any(
                stepped.call_count for stepped in self._story.stepped_jobs.values()
            )
            if self._outcome.violated_invariant is None and not has_run_jobs:
                # The scenario cannot start.
                raise raised
            name = type(raised).__name__
            self.record_violation(
                f"the run raises {name}",
                f"the run raises {describe_error(raised)}",
                raised,
            )
        if self._outcome.violated_invariant is not None:
            return None
        for job, error in scheduler.failures().items():
            if (broken := _find_assertion(error)) is not None:
                text = f"an assert in '{_labels.printable(job.path)}' fails: {describe_error(broken)}"
                self.record_violation(
                    "an assert in a job fails", text, broken, job.finished_at
                )
                return None
        for invariant, text in self._find_leftovers(scheduler, leftover_tasks):
            self.record_violation(invariant, text)
            return None
        try:
            result = None
            if self._check is not None:
                result = call_user_function(self._check, "check", scheduler, world)
        except Exception as error:
            text = f"after the run, the check fails: {describe_error(error)}"
            self.record_violation(f"check raises {type(error).__name__}", text, error)
            return None
        if result is None:
            return None
        return _make_check_result_error(result)

    def _find_leftovers(
        self, scheduler: Scheduler, leftover_tasks: list[str]
    ) -> Iterable[tuple[str, str]]:
        """Yield the violated invariant, and a line for the story, for each task, job, resource or token left behind.

        Do the same for each job whose `co_shutdown` was not called exactly once.
        """
        if leftover_tasks:
            names = ", ".join(sorted(leftover_tasks))
            yield (
                "a task is left running",
                f"after the run, these tasks are left running: {names}",
            )
        unrepeated_schedulers = {
            job
            for job in self._story.stepped_jobs
            if is_scheduler(job) and job.retry is None
        }
        for job, stepped in self._story.stepped_jobs.items():
            if stepped.is_running or job.state in (
                JobState.RUNNING,
                JobState.SCHEDULED,
            ):
                yield (
                    "a job is left running",
                    f"after the run, {stepped.name!r} is {job.state.value}",
                )
            enclosing = [
                level
                for level in _ancestors.enclosing_schedulers(job)
                if level is not scheduler
            ]
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
                    if not (
                        isinstance(total, dict)
                        or name in level.pool.budgets
                        or free == total
                    ):
                        yield (
                            "a resource was not returned",
                            f"after the run, {free} of {name}={total} are free",
                        )
            if borrowed := getattr(level.jobs_window, "borrowed_tokens", 0):
                yield (
                    "a token was not returned",
                    f"after the run, {borrowed} tokens of {level.label!r} are borrowed",
                )


def count_arguments(function: Callable[..., object], name: str, max_count: int) -> int:
    """Return the number of arguments for a call of a user-supplied function: `max_count`, or 1 less.

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
    expected = "the scheduler, or the scheduler and the world"
    if max_count == 1:
        expected = "no argument, or the world"
    raise TypeError(
        f"{name}={_function.name_of(function)}{signature}: let it take {expected}"
    )


def call_user_function(
    function: Callable[..., Any], name: str, *arguments: object
) -> Any:
    """Call a function of the user with the arguments that it takes: all of them, or all but the last."""
    count = count_arguments(function, name, len(arguments))
    return function(*arguments[:count])


def _make_check_result_error(result: object) -> TypeError:
    if inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()
        return TypeError(
            "check is async, and is called when the run is over: make it a plain function"
        )
    return TypeError(
        f"check returned {short_repr(result)}: let it assert what must hold, and return nothing"
    )


def _has_own_shutdown(job: AnyJob) -> bool:
    return (
        not is_scheduler(job) and type(job).co_shutdown is not AbstractJob.co_shutdown
    )


def _find_assertion(error: BaseException) -> BaseException | None:
    if isinstance(error, AssertionError):
        return error
    for member in get_group_members(error):
        found = _find_assertion(member)
        if found is not None:
            return found
    return None


# ---- while it runs


class ProgressWatch:
    """The watch over the progress of a run.

    Args:
        story: the story of the run, with its outcome and its jobs.
        judge: the judge, which records the violated invariant.
        task_order: the order of the tasks in the run.
        round_size: the number of waits in a round. See `PLAIN_ROUND_WAITS`.
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
        # The timers that were pending at the end of the last round, or None in the first.
        self._pending_timers: frozenset[tuple[object, float]] | None = None
        # The time at which the latest call of each scheduler times out.
        self._timeout_deadlines: dict[AnyJob, float] = {}
        # The times of the pending checks of `_check_before_timeout`.
        self._check_times: list[float] = []

    async def watch_for_stall(self) -> None:
        """Wait until the run stalls. Then end it, and record where its jobs wait.

        If any of them waits for a thread, reject the scenario instead.
        """
        await anyio.sleep_until(STALL_LIMIT)
        names = [
            stepped.name
            for stepped in self._story.stepped_jobs.values()
            if is_waiting_for_thread(stepped.waiting_coroutine)
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
        self._give_up_because(
            "stalls", "no task can resume:", self._story.last_activity_time()
        )
        # Reached only if the cancellation has not ended the run.
        await anyio.sleep_until(2 * STALL_LIMIT)
        if self._backend == "asyncio":
            for task in asyncio.all_tasks():
                task.cancel()
        else:
            import outcome
            import trio

            for task in _iterate_trio_tasks():
                if (
                    id(task) in self._task_order.job_names
                    and task is not trio.lowlevel.current_task()
                ):
                    trio.lowlevel.reschedule(task, outcome.Error(EndlessRun()))

    def watch_timeout(self, scheduler: AnyJob, task_group: anyio.abc.TaskGroup) -> None:
        """If a scheduler that starts has a timeout, schedule a check of the pending timers just before it."""
        if scheduler.timeout is not None and scheduler.timeout < STALL_LIMIT:
            self._timeout_deadlines[scheduler] = end = (
                anyio.current_time() + scheduler.timeout
            )
            self._check_times.append(end - TIMEOUT_CHECK_LEAD)
            task_group.start_soon(self._check_before_timeout, scheduler, end)

    async def _check_before_timeout(self, scheduler: AnyJob, end: float) -> None:
        """Just before the timeout of a scheduler, check that something else can still end its run.

        If not, record a violation, and give up the run. (With a job that was made to hang, only the timeout can.)
        """
        await anyio.sleep_until(end - TIMEOUT_CHECK_LEAD)
        self._check_times.remove(end - TIMEOUT_CHECK_LEAD)
        due_timers = timers_before(STALL_LIMIT, self._backend)
        active_deadlines = [
            at for level, at in self._timeout_deadlines.items() if _may_time_out(level)
        ]
        for expected_time in (*self._check_times, *active_deadlines):
            close_timers = {
                (timer, at)
                for timer, at in due_timers
                if abs(at - expected_time) < SHORT_DELAY
            }
            due_timers -= set(list(close_timers)[:1])
        has_hanging_job = any(
            change.kind == "hang" for change in self._outcome.applied_changes
        )
        awaited = [
            stepped
            for stepped in self._story.stepped_jobs.values()
            if not stepped.job.forever
        ]
        is_working = any(
            is_sleeping(stepped.waiting_coroutine, endless=True) for stepped in awaited
        )
        will_time_out = (
            _may_time_out(scheduler) and self._timeout_deadlines[scheduler] == end
        )
        is_idle = not (due_timers or is_working or has_hanging_job)
        if will_time_out and is_idle and not self.has_given_up:
            text = f"no task can resume until {scheduler.label!r} times out at {end:g}:"
            self._give_up_because(
                "only a timeout ends it", text, self._story.last_activity_time()
            )

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
        previous = self._pending_timers
        self._pending_timers = due_timers
        if previous is not None and (
            not due_timers & previous or anyio.current_time() == self._round_start
        ):
            waits = f"{self._outcome.total_wait_count:,}"
            text = f"it never ends: its jobs have waited {waits} times, and nothing else is due"
            self._give_up_because("it never ends", text)
        self._round_start = anyio.current_time()

    def _give_up_because(
        self, invariant: str, text: str, time: float | None = None
    ) -> None:
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
        for nursery in task.child_nurseries:
            todo += nursery.child_tasks
    return todo


# ---- where a job waits


def waiting_line(coroutine: object) -> str:
    """Return the file, number and text of the innermost line of user code where a coroutine waits.

    If it waits in no such line, return a text that says so.
    """
    innermost: FrameType | None = None
    for frame, _ in await_chain(coroutine):
        if not frame.f_code.co_filename.startswith(_library_prefixes()):
            innermost = frame
    if innermost is None:
        return "a line outside your Python code"
    return describe_line(innermost.f_code, innermost.f_lineno)


def is_sleeping(coroutine: object, *, endless: bool = False) -> bool:
    """Return whether a coroutine of user code waits in a direct call of a sleep or a checkpoint.

    Args:
        coroutine: the coroutine. For None, the result is False.
        endless: whether to include sleeps that only a cancellation ends.

    """
    codes = _sleep_code_objects(endless)
    for frame, _ in await_chain(coroutine):
        if frame.f_code in codes:
            return True
        if frame.f_code.co_filename.startswith(_library_prefixes()):
            return False
    return False


def is_waiting_for_thread(coroutine: object) -> bool:
    """Return whether a coroutine waits for a thread that anyio, trio or asyncio has started."""
    return any(
        frame.f_code.co_name in ("run_sync", "to_thread_run_sync", "to_thread")
        and frame.f_code.co_filename.startswith(_library_prefixes())
        for frame, _ in await_chain(coroutine)
    )


@functools.cache
def _library_prefixes() -> tuple[str, ...]:
    """Return the prefixes of the file names of libraries. Code from a prompt or a doctest is the user's here."""
    return tuple(prefix for prefix in library_prefixes() if prefix != "<")


@functools.cache
def _sleep_code_objects(endless: bool) -> frozenset[CodeType]:
    """Return the code objects of all functions that only let time pass."""
    import trio

    functions: list[Any] = [asyncio.sleep, anyio.sleep, trio.sleep]
    functions += [anyio.sleep_until, trio.sleep_until]
    functions += [anyio.lowlevel.checkpoint, trio.lowlevel.checkpoint]
    if endless:
        functions += [anyio.sleep_forever, trio.sleep_forever]
    return frozenset(function.__code__ for function in functions)
