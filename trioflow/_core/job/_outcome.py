"""The end of a job without a plain result: failure or cancellation; and facts that few jobs have."""

from __future__ import annotations

import contextlib
import gc
import itertools
from collections.abc import Awaitable, Callable, Iterator
from types import CoroutineType, FrameType, TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, TypeGuard

from ..backend import leaves_of
from ..base import _signatures
from ..base._reprs import short_repr
from ..base._states import JobState
from . import _errors, _labels

if TYPE_CHECKING:
    from ._job import AbstractJob


ENGINE_PREFIX: Final = f"{__name__.partition('._core.')[0]}._core."
"""The prefix of the names of the engine's modules."""


class Failure:
    """The exception of a failed job, with its first traceback: the exception's own one grows at each raise."""

    __slots__ = ("exception", "number", "traceback")

    numbers: ClassVar[Iterator[int]] = itertools.count()  # in the order in which jobs settled

    def __init__(self, exception: BaseException) -> None:
        self.number: Final = next(self.numbers)
        self.exception: Final = exception
        with contextlib.suppress(Exception):  # from a user's exception class that rejects the change
            _strip_engine_frames(exception)
        self.traceback: Final = exception.__traceback__


def _strip_engine_frames(exception: BaseException) -> None:
    """Remove the engine's frames from the tracebacks of an exception and its causes."""
    met: set[int] = set()
    todo: list[BaseException | None] = [exception]
    while todo:
        error = todo.pop()
        if error is not None and id(error) not in met:
            met.add(id(error))
            error.__traceback__ = _without_engine_frames(error.__traceback__)
            todo += error.__cause__, error.__context__


def _without_engine_frames(traceback: TracebackType | None) -> TracebackType | None:
    """Return the traceback without the engine's frames: keeping it must not keep the whole run alive."""
    first = last = None
    while traceback is not None:
        if not traceback.tb_frame.f_globals.get("__name__", "").startswith(ENGINE_PREFIX):
            first = first or traceback
            if last is not None:
                last.tb_next = traceback
            last = traceback
        else:  # from CPython 3.12 on the user's frames refer to their callers: these must not keep the run either
            _clear_frame(traceback.tb_frame)
        traceback = traceback.tb_next
    if last is not None:
        last.tb_next = None
    return first


def _clear_frame(frame: FrameType) -> None:
    """Clear the variables of a frame that has ended.

    If jobs raise the same exception object, one after the other, its traceback has the frames of all of them. Some of
    these may still run: one that makes a further attempt, for example. Before CPython 3.13 `clear` would close it. Only
    a frame that has ended shows the garbage collector a reference to its code.
    """
    if any(value is frame.f_code for value in gc.get_referents(frame)):
        frame.clear()


class CancelledOutcome:
    """The outcome of a job that was cancelled."""

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number: Final = next(Failure.numbers)  # its place among the failures


DROPPED: Final = object()
"""The outcome of a job whose result was dropped."""


class Throttling(NamedTuple):
    """An attempt that does not count, because it raised `Throttled`. Times are on the loop's clock."""

    began: float
    ended: float
    closed: tuple[tuple[str, float], ...]
    """The keys on which nothing starts from then on, each with the end of that."""


class RunExtras:
    """Facts about a job in a run that few jobs have; created on demand. A fact that was never set has its default."""

    timed_out = False
    ready = False  # whether it is a service that has called `started()`
    ready_at: float | None = None  # when it called `started()`; views read it after the run, too
    scope: Any = None  # the scope of a service with a timeout, until it is ready
    consumers = 0  # the jobs that use its result and have not started, if `keep_result` is False
    inputs_released = False  # whether it is no longer counted as a consumer of its inputs
    listeners: list[Callable[[AbstractJob[Any]], None]] | None = None  # called when it has settled, or never will
    further_attempts = 0
    fraction: float | None = None  # the fraction of its work that it has reported as done
    idle_timer: Any = None  # during a call, with an `idle_timeout`: the timer that signs of life put off
    throttled: tuple[Throttling, ...] = ()  # its attempts that raised `Throttled`, and so do not count
    machine_waits: tuple[tuple[float, float], ...] = ()  # when it ran, but waited for room on the machine
    call_place: tuple[str, int] | None = None  # the place that made its call, and how many that makes at once
    grant: Any = None  # its resources, a `Grant`
    runs_once = False  # whether no later run of its scheduler can reach it
    context: Any = None  # the context of the code that added it during the run, if it differs from the run's
    adds_jobs = False  # whether it has added jobs, in a run with a journal
    restored = False  # whether its result comes from the journal of the run
    not_restored: str | None = None  # the reason, in a run with a journal
    awaited_jobs: tuple[AbstractJob[Any], ...] = ()  # the jobs whose end its body awaits now

    def is_empty(self) -> bool:
        """Return whether a settled job needs none of these facts."""
        return (
            self.fraction is None
            and not (self.further_attempts or self.timed_out or self.restored or self.not_restored or self.consumers)
            and self.ready_at is None
        )

    def listen(self, listener: Callable[[AbstractJob[Any]], None]) -> None:
        """Have a listener called once, when the job has settled, or its run has ended without reaching it."""
        self.listeners = self.listeners or []
        self.listeners.append(listener)

    def notify(self, job: AbstractJob[Any]) -> None:
        """Call all listeners: the job has settled, or its run has ended without reaching it."""
        if self.listeners is not None:
            for listener in self.listeners:
                listener(job)
            self.listeners.clear()


MAX_ERROR_LENGTH: Final = 200
"""Characters of an exception's text in one line."""

UNCALLED: Final = object()
"""A placeholder for the return value of a job's function that has not been called."""


def no_result_error(job: AbstractJob[Any]) -> BaseException:
    """Return the exception that `result()` raises for a job without a result."""
    failure = job._outcome
    if isinstance(failure, Failure):
        return failure.exception.with_traceback(failure.traceback)
    if failure is DROPPED:
        return _errors.JobNotDone(
            f"the result of {job.label!r} was dropped when the last job that uses it had started: "
            f"leave out keep_result=False to read it later"
        )
    if job._state is JobState.CANCELLED:
        return _errors.JobCancelled(f"{job.label!r} was cancelled: it has no result")
    if job._state is JobState.SKIPPED:
        return _errors.JobSkipped(f"{job.label!r} was skipped: it has no result")
    name = job.label if job.label.isidentifier() else "job"
    return _errors.JobNotDone(
        f"{job.label!r} is {job._state.value}: ask for its result when it has settled, or in async code write: "
        f"await {name}; to give it to another job, pass the job itself: Job(g, {name})"
    )


FUNCTION_KIND_ADVICE: Final = "give Job an async function, and ThreadJob a plain one"


def not_awaitable_message(label: str, value: object) -> str:
    """Return the message for a function that returned `value`, which cannot be awaited, with the remedy."""
    return f"{label!r}: its function returned {short_repr(value)}, which is not awaitable; {FUNCTION_KIND_ADVICE}"


def unawaited_coroutine_error(label: str, coroutine: CoroutineType[Any, Any, Any]) -> TypeError:
    """Close a coroutine that a job's function has returned, and return the error with the remedy."""
    name = coroutine.__name__
    with contextlib.suppress(Exception):  # a coroutine that has begun may raise, or resist its end
        coroutine.close()
    return TypeError(
        f"{label!r}: its function returned the coroutine of {name}(), which was never awaited; "
        f"write: return await {name}()"
    )


def add_remedy_notes(error: BaseException, job: AbstractJob[Any], awaitable: object, hint: str | None) -> str | None:
    """Add notes to the exception of `job` if its text alone has no remedy; return the hint for the log."""
    if hint is not None:
        add_note(error, f"{job.label!r}: {hint}")
    if isinstance(error, TypeError) and awaitable is not UNCALLED and not is_awaitable(awaitable):
        add_note(error, not_awaitable_message(job.label, awaitable))
        return hint or FUNCTION_KIND_ADVICE
    return hint


def add_note(error: BaseException, note: str) -> None:
    """Add a note to a user's exception, if it accepts notes and does not have this one yet."""
    with contextlib.suppress(Exception):
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)


def is_awaitable(value: object) -> TypeGuard[Awaitable[Any]]:
    """Return whether a value can be awaited; False if it raises when it is inspected."""
    if type(value) is CoroutineType:  # the usual case; `isinstance` with an ABC is ten times as slow
        return True
    try:
        return _signatures.is_awaitable(value)
    except Exception:
        return False


def error_text(error: BaseException) -> str:
    """Return the text of an exception, even if its `__str__` raises."""
    try:
        return str(error)
    except Exception as fault:
        return f"<its __str__ raised {type(fault).__name__}>"


def one_line_error(error: BaseException) -> str:
    """Return the type and the text of an exception on one short line, even if its `__str__` raises."""
    text = " ".join(error_text(error).split())
    if len(text) > MAX_ERROR_LENGTH:
        text = text[: MAX_ERROR_LENGTH - 1] + "…"
    return f"{type(error).__name__}: {_labels.printable(text)}" if text else type(error).__name__


def find_interruption(error: BaseException) -> BaseException | None:
    """Return the first exception in `error` that is not an `Exception`, or None."""
    return next((leaf for leaf in leaves_of(error) if not isinstance(leaf, Exception)), None)
