"""The outcomes of jobs that end without a result, the texts of errors, and `RunExtras`."""

from __future__ import annotations

import contextlib
import gc
import itertools
from collections.abc import Awaitable, Callable, Iterator
from types import CoroutineType, FrameType, TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, TypeGuard

from ..base import _user_code
from ..base._states import JobState
from ..base._text_forms import fit, name_in_errors, shown_value
from . import _errors, _labels

if TYPE_CHECKING:
    from ._job import AbstractJob


ENGINE_PREFIX: Final = f"{__name__.partition('._core.')[0]}._core."


class Failure:
    """A failed job's exception, with its first traceback, because `__traceback__` grows with each raise."""

    __slots__ = ("exception", "has_note", "is_counted", "is_from_cancel", "is_taken", "number", "traceback")

    # A counter that numbers failed and cancelled jobs in the order in which they settle.
    numbers: ClassVar[Iterator[int]] = itertools.count()

    def __init__(self, exception: BaseException, is_from_cancel: bool = False) -> None:
        self.number: Final = next(self.numbers)
        self.exception: Final = exception
        # Whether the job is BLOCKED only because `cancel()` has ended what it requires.
        self.is_from_cancel: Final = is_from_cancel
        self.is_counted = False  # whether the run of the job's scheduler has failed because of this failure
        self.is_taken = False  # whether an `await job` waits for the job, or has raised the exception
        self.has_note = False  # whether a group has had the exception, with a note that names the job
        _strip_engine_frames(exception)
        self.traceback: Final = _user_code.get_traceback(exception)


def _strip_engine_frames(exception: BaseException) -> None:
    """Remove the engine's frames from the tracebacks of an exception and of its causes and contexts."""
    visited: set[int] = set()
    todo: list[BaseException | None] = [exception]
    while todo:
        error = todo.pop()
        if error is not None and id(error) not in visited:
            visited.add(id(error))
            _user_code.with_traceback(error, _without_engine_frames(_user_code.get_traceback(error)))
            todo += _user_code.get_cause(error), _user_code.get_context(error)


def _without_engine_frames(traceback: TracebackType | None) -> TracebackType | None:
    """Return the traceback without the engine's frames, which would keep the whole run in memory."""
    first = last = None
    while traceback is not None:
        if not traceback.tb_frame.f_globals.get("__name__", "").startswith(ENGINE_PREFIX):
            first = first or traceback
            if last is not None:
                last.tb_next = traceback
            last = traceback
        else:  # since CPython 3.12, the user's frames refer to their callers, which would keep the run in memory, too
            _clear_frame(traceback.tb_frame)
        traceback = traceback.tb_next
    if last is not None:
        last.tb_next = None
    return first


def _clear_frame(frame: FrameType) -> None:
    """Clear the variables of a frame, if it has ended.

    If several jobs raise the same exception object, its traceback has the frames of all of them. Some of the frames may
    still run, for example that of a job that makes another attempt. Before CPython 3.13, `frame.clear()` would close
    such a frame. The garbage collector sees the reference from a frame to its code only when the frame has ended.
    """
    if any(value is frame.f_code for value in gc.get_referents(frame)):
        frame.clear()


class CancelledOutcome:
    __slots__ = ("is_alone", "is_counted", "is_from_cancel", "number")

    def __init__(self, is_from_cancel: bool = True, is_alone: bool = False) -> None:
        self.number: Final = next(Failure.numbers)
        self.is_from_cancel: Final = is_from_cancel  # unless a critical failure or the timeout had stopped the run
        self.is_alone: Final = is_alone  # whether the job's own `cancel()` has ended it, whatever came afterwards
        self.is_counted = False  # whether failures in a nested scheduler count, because its run was cut off, too


DROPPED: Final = object()
"""The outcome of a job whose result was dropped, because of `keep_result=False`."""


class Throttling(NamedTuple):
    """An attempt that raised `Throttled`, and so does not count. Its times are on the backend's clock."""

    began: float
    ended: float
    closed_until: tuple[tuple[str, float], ...]
    """The keys of the throttled resources, each with the time until which no job that needs it starts."""


class FailedAttempt(NamedTuple):
    """A failed attempt after which its job was attempted again. Its times are on the backend's clock."""

    number: int
    began: float
    ended: float
    error: str
    """The type and the text of the exception, on one line."""
    backed_off_until: float
    """The end of the backoff after it, from which the next attempt could begin."""


MAX_FAILED_ATTEMPTS: Final = 64
"""The maximum number of failed attempts of a job that are kept: a service may be retried for a year."""


class Restoration(NamedTuple):
    """The facts that a journal has about a job that it restored."""

    settled_at: float | None = None
    """The time when the job settled in the run that ran it, in seconds since 1970; None if unknown."""
    elapsed: float | None = None
    """The seconds in which its attempts ran in that run; None if unknown."""
    used: tuple[tuple[str, float], ...] = ()
    """The amounts of budgets that the job used in that run, each with the name of the budget."""


class RunExtras:
    """The part of a job's state in a run that few jobs need, created on demand. Class attributes hold the defaults."""

    has_timed_out = False  # whether a timeout ended a call of the job
    is_in_callback = False  # whether `on_done` or `on_settled` runs after a success, and may read the result
    ready_at: float | None = None  # the time of the call of `started()`, which views read even after the run
    consumer_count = 0  # how many jobs that have not started need the result; counted with `keep_result=False`
    drops_results = False  # whether the job is counted as a consumer of inputs that have `keep_result=False`
    # Functions to call once, when the job has settled, or when its run has ended without reaching it.
    listeners: list[Callable[[AbstractJob[Any]], None]] | None = None
    retry_count = 0  # how many attempts have failed, after which the job was queued again
    earlier_retries = 0  # how many of these came before the job was tried again: its `retry` does not count them
    keeps_succeeded = False  # whether the job is a scheduler that is tried again, and keeps what has succeeded in it
    first_started_at: float | None = None  # when the first attempt started, if the job was retried
    backoff_until: float | None = None  # when the next attempt may start, while the job waits for that
    # While instruments learn that the job is queued again: its attempt's start, end and error.
    ended_attempt: tuple[float, float, BaseException] | None = None
    earlier_use: dict[str, Any] | None = None  # what ended attempts have used of budgets, by name
    failed_attempts: tuple[FailedAttempt, ...] = ()  # the last ones
    fraction: float | None = None  # the fraction of its work that the job has reported as done
    time_limit: Any = None  # the `TimeLimit` of the current call, if the job has an `idle_timeout`, or is a service
    throttlings: tuple[Throttling, ...] = ()
    machine_waits: tuple[tuple[float, float], ...] = ()  # the beginning and end of each wait for the machine
    grant: Any = None  # the resources of the job, a `Grant`
    runs_once = False  # whether no later run of the scheduler can reach the job
    context: Any = None  # the context of the code that added the job, if it differs from the context of the run
    has_added_jobs = False  # whether the job has added jobs, in a run with a journal
    restoration: Restoration | None = None  # set if the result comes from the run's journal
    is_known_by_call = False  # whether `map` has added the job in a run with a journal, which the arguments identify
    not_restored_reason: str | None = None  # why the run's journal did not restore the job
    rerun_cause: str | None = None  # the first change because of which the job runs again, though its journal has it
    awaited_jobs: tuple[AbstractJob[Any], ...] = ()  # the jobs that the body of this job is awaiting

    def is_empty(self) -> bool:
        """Return whether all attributes that a settled job needs have their defaults."""
        counts, reasons = (self.retry_count, self.consumer_count), (self.restoration, self.not_restored_reason)
        return not (any(counts) or any(reasons) or self.has_timed_out) and self.fraction is self.ready_at is None

    def add_retry(self, began: float, failed_at: float, error: BaseException, backoff: float) -> None:
        """Count another attempt, after a backoff. The one before failed at `failed_at`, with `error`."""
        self.retry_count += 1
        attempt = FailedAttempt(self.retry_count, began, failed_at, one_line_error(error), failed_at + backoff)
        self.failed_attempts = (*self.failed_attempts[1 - MAX_FAILED_ATTEMPTS :], attempt)

    def add_listener(self, listener: Callable[[AbstractJob[Any]], None]) -> None:
        """Add a function to call once, when the job has settled, or its run has ended without reaching it."""
        self.listeners = self.listeners or []
        self.listeners.append(listener)

    def notify_listeners(self, job: AbstractJob[Any]) -> None:
        if self.listeners is not None:
            for listener in self.listeners:
                listener(job)
            self.listeners.clear()


MAX_ERROR_LENGTH: Final = 200

UNCALLED: Final = object()


def no_result_error(job: AbstractJob[Any]) -> BaseException:
    """Return the exception that `result()` raises for a job without a result."""
    outcome = job._outcome
    if type(outcome) is Failure:
        return _user_code.with_traceback(outcome.exception, outcome.traceback)
    if outcome is DROPPED:
        return _errors.JobNotDone(
            f"the result of {job.label!r} was dropped when the last job that uses it had started",
            "leave out keep_result=False to read it later",
        )
    if job._state is JobState.CANCELLED:
        return _errors.JobCancelled(f"{job.label!r} was cancelled: it has no result")
    if job._state is JobState.SKIPPED:
        return _errors.JobSkipped(f"{job.label!r} was skipped: it has no result")
    if job._is_scheduler and job._scheduler is None and getattr(job, "stop_reason", None) is not None:
        return _errors.JobNotDone(
            f"{job.label!r} has run alone, and only a job has a result", "put it in a Scheduler, and run that"
        )
    name = job.label if job.label.isidentifier() else "job"
    return _errors.JobNotDone(
        f"{job.label!r} is {job._state.value}, and has no result yet",
        f"ask for its result when it has settled, or in async code write: await {name}; to give it to another job, "
        f"pass the job itself: Job(g, {name})",
    )


FUNCTION_KIND_ADVICE: Final = "give Job an async function, and ThreadJob a plain one"


def no_run_error(job: AbstractJob[Any]) -> RuntimeError:
    """Return the error of a `co_run` that no run has called, but that needs one."""
    return RuntimeError(f"{job.label!r} needs a run: put it in a Scheduler, and run that")


def not_awaitable_message(job: AbstractJob[Any], value: object) -> str:
    name = name_in_errors(repr(job.label), job.redact)
    return f"{name}: its function returned {shown_value(value, name)}, which is not awaitable; {FUNCTION_KIND_ADVICE}"


def unawaited_coroutine_error(label: str, coroutine: CoroutineType[Any, Any, Any]) -> TypeError:
    """Close a coroutine that a job has returned as its result, and return the error for it."""
    name = coroutine.__name__
    with contextlib.suppress(Exception):  # a coroutine that has started may raise or ignore its GeneratorExit
        coroutine.close()
    return TypeError(
        f"{label!r}: its function returned the coroutine of {name}(), which was never awaited; "
        f"write: return await {name}()"
    )


def add_remedy_notes(error: BaseException, job: AbstractJob[Any], awaitable: object, backend: str | None) -> str | None:
    """Add notes with remedies to the exception of a failed job.

    Args:
        error: the exception.
        job: the job that raised it.
        awaitable: the return value of the job's function, or UNCALLED.
        backend: the backend that the job needs, if it ran on the other one; otherwise None.

    Returns:
        The remedy to add to the error in the log: the advice on a return value that is not awaitable; None if there is
            none.

    """
    if backend is not None:
        add_note(error, _user_code.WrongBackendNote(job.label, backend))
    if isinstance(error, TypeError) and awaitable is not UNCALLED and not is_awaitable(awaitable):
        add_note(error, not_awaitable_message(job, awaitable))
        return FUNCTION_KIND_ADVICE
    return None


def add_note(error: BaseException, note: str) -> None:
    """Add a note to a user's exception, unless the exception rejects notes or already has this one."""
    with contextlib.suppress(Exception):
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)


def is_awaitable(value: object) -> TypeGuard[Awaitable[Any]]:
    """Return whether a value can be awaited; return False if its inspection raises an exception."""
    if type(value) is CoroutineType:  # the usual case; `isinstance` with an ABC is ten times as slow
        return True
    try:
        import inspect  # imported late: it takes 5 ms

        return inspect.isawaitable(value)
    except Exception:
        return False


def error_text(error: BaseException) -> str:
    """Return `str(error)`; if that raises an exception, return a replacement."""
    try:
        return str.__str__(str(error))  # without the methods of a subclass of `str`
    except Exception as str_error:
        return f"<its __str__ raised {type(str_error).__name__}>"


def remedy_of(error: BaseException) -> str:
    """Return the advice of an exception of trioflow; "" if there is none."""
    return error._advice if isinstance(error, _errors.TrioflowError) else ""


def one_line_error(error: BaseException) -> str:
    """Return the type and text of an exception as one short line, even if its `__str__` raises.

    What is cut is in the middle: the message of a command that failed ends with that of its program.
    """
    error, before, after = _user_code.shown_exception(error)
    text = fit(" ".join((before + error_text(error) + after).split()), MAX_ERROR_LENGTH, keep="ends")
    return f"{type(error).__name__}: {_labels.printable(text)}" if text else type(error).__name__


def find_interruption(error: BaseException) -> BaseException | None:
    """Return the first exception in `error` that is not an `Exception`, such as KeyboardInterrupt; otherwise None."""
    return next((leaf for leaf in _user_code.leaf_exceptions(error) if not isinstance(leaf, Exception)), None)
