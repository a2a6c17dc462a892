"""How a job ended, if not with a plain result: its failure, its cancellation, and facts that few jobs have."""

from __future__ import annotations

import contextlib
import gc
import itertools
from collections.abc import Awaitable, Callable, Iterator
from types import CoroutineType, FrameType, TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, TypeGuard

from ..backend import leaves_of
from ..base import _functions
from ..base._shown import shown
from ..base._states import JobState
from . import _errors, _labels

if TYPE_CHECKING:
    from ._job import AbstractJob


ENGINE: Final = f"{__name__.partition('._core.')[0]}._core."
"""How the names of the engine's modules begin."""


class Failure:
    """What a failed job raised, with its first traceback: that of the exception grows each time it is raised again."""

    __slots__ = ("exception", "number", "traceback")

    numbers: ClassVar[Iterator[int]] = itertools.count()  # in the order in which jobs settled

    def __init__(self, exception: BaseException) -> None:
        self.number: Final = next(self.numbers)
        self.exception: Final = exception
        with contextlib.suppress(Exception):  # raised by an exception of the user's that does not want it
            _take_engine_out(exception)
        self.traceback: Final = exception.__traceback__


def _take_engine_out(exception: BaseException) -> None:
    """Take the frames of the engine out of the tracebacks of an exception, and of those that led to it."""
    met: set[int] = set()
    todo: list[BaseException | None] = [exception]
    while todo:
        one = todo.pop()
        if one is not None and id(one) not in met:
            met.add(id(one))
            one.__traceback__ = _without_engine(one.__traceback__)
            todo += one.__cause__, one.__context__


def _without_engine(traceback: TracebackType | None) -> TracebackType | None:
    """Return the traceback without the frames of the engine: whoever keeps it must not keep the whole run alive."""
    first = last = None
    while traceback is not None:
        if not traceback.tb_frame.f_globals.get("__name__", "").startswith(ENGINE):
            first = first or traceback
            if last is not None:
                last.tb_next = traceback
            last = traceback
        else:  # from CPython 3.12 on the user's frames keep those that called them: these must not keep the run either
            _empty(traceback.tb_frame)
        traceback = traceback.tb_next
    if last is not None:
        last.tb_next = None
    return first


def _empty(frame: FrameType) -> None:
    """Let a frame that has ended give up its variables; leave one alone that goes on.

    If jobs raise the same exception object, one after the other, its traceback has the frames of all of them. Some of
    these may go on: one that makes a further attempt, for example. Before CPython 3.13 `clear` would close it. A frame
    refers to its code, as far as the garbage collector is concerned, only when it has ended.
    """
    if any(one is frame.f_code for one in gc.get_referents(frame)):
        frame.clear()


class CancelledOutcome:
    """The outcome of a job that was cancelled."""

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number: Final = next(Failure.numbers)  # its place among the failures


DROPPED: Final = object()
"""The outcome of a job whose result was dropped."""


class Throttling(NamedTuple):
    """An attempt that does not count, because it raised `Throttled`. Times are those of the loop's clock."""

    began: float
    ended: float
    closed: tuple[tuple[str, float], ...]
    """The keys on which nothing starts from then on, each with the time until when."""


class RareFacts:
    """Facts about a job in a run that few jobs have; made when first needed."""

    __slots__ = (
        "adds_jobs",
        "awaits",
        "consumers",
        "context",
        "fraction",
        "further_attempts",
        "grant",
        "held",
        "listeners",
        "not_restored",
        "ready",
        "ready_at",
        "released",
        "restored",
        "runs_once",
        "scope",
        "throttled",
        "timed_out",
        "watch",
    )

    def __init__(self) -> None:
        self.timed_out = False
        self.ready = False  # whether it is a service that has called `started()`
        self.ready_at: float | None = None  # when it called `started()`, which its views ask for after the run, too
        self.scope: Any = None  # for a service with a timeout: the scope that has it, until the service is ready
        self.consumers = 0  # how many jobs that use its result have not started, if `keep_result` is False
        self.released = False  # whether it is no longer counted as a consumer of its inputs
        self.listeners: list[Callable[[AbstractJob[Any]], None]] = []  # called when it has settled, or never will
        self.further_attempts = 0
        self.fraction: float | None = None  # how much of its work it has done, as far as it has said so
        self.watch: Any = None  # while it is called: what its signs of life put off, if it has an `idle_timeout`
        self.throttled: tuple[Throttling, ...] = ()  # its attempts that did not count, because it raised `Throttled`
        self.held: tuple[tuple[float, float], ...] = ()  # when it ran, but waited for room on the machine
        self.grant: Any = None  # what it has of the resources that it needs, a `Grant`
        self.runs_once = False  # whether no later run of its scheduler can reach it
        self.context: Any = None  # that of the code that added it during the run, if it is not as that of the run
        self.adds_jobs = False  # whether it has added jobs, in a run with a journal
        self.restored = False  # whether its result comes from the journal of the run
        self.not_restored: str | None = None  # why not, in a run with a journal
        self.awaits: tuple[AbstractJob[Any], ...] = ()  # the jobs whose end it waits for now, in its body

    def is_empty(self) -> bool:
        """Return whether there is nothing to know about a job that has settled."""
        return (
            self.fraction is None
            and not (self.further_attempts or self.timed_out or self.restored or self.not_restored or self.consumers)
            and self.ready_at is None
        )

    def notify(self, job: AbstractJob[Any]) -> None:
        """Notify all who wait for `job` that it has settled, or that its run has ended without reaching it."""
        for listener in self.listeners:
            listener(job)
        self.listeners.clear()


LONGEST_TEXT: Final = 200
"""Characters of an exception's text that one line has room for."""

UNCALLED: Final = object()
"""Stands for what a job's function returned, if it has not been called yet."""


def no_result(job: AbstractJob[Any]) -> BaseException:
    """Return what `result()` raises for a job that has no result: what the job raised, or why there is none."""
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


KIND_FOR: Final = "give Job an async function, and ThreadJob a plain one"


def not_awaitable(label: str, value: object) -> str:
    """Return a message for a function that returned `value`, which cannot be awaited, with what to do."""
    return f"{label!r}: its function returned {shown(value)}, which is not awaitable; {KIND_FOR}"


def not_awaited(label: str, coroutine: CoroutineType[Any, Any, Any]) -> TypeError:
    """Close a coroutine that a job's function has returned, and return the error that says what to write instead."""
    name = coroutine.__name__
    with contextlib.suppress(Exception):  # it may have begun, and raise, or not want to end
        coroutine.close()
    return TypeError(
        f"{label!r}: its function returned the coroutine of {name}(), which nobody has awaited; "
        f"write: return await {name}()"
    )


def explain(error: BaseException, job: AbstractJob[Any], awaitable: object, hint: str | None) -> str | None:
    """Add notes to what `job` raised, if its text alone does not say what to do; return the hint for the log."""
    if hint is not None:
        add_note(error, f"{job.label!r}: {hint}")
    if isinstance(error, TypeError) and awaitable is not UNCALLED and not is_awaitable(awaitable):
        add_note(error, not_awaitable(job.label, awaitable))
        return hint or KIND_FOR
    return hint


def add_note(error: BaseException, note: str) -> None:
    """Add a note to a user's exception, if it accepts notes and does not have this one yet."""
    with contextlib.suppress(Exception):
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)


def is_awaitable(value: object) -> TypeGuard[Awaitable[Any]]:
    """Return whether a value can be awaited; False if it raises when it is inspected."""
    if type(value) is CoroutineType:  # usually; to ask the abstract class takes ten times as long
        return True
    try:
        return _functions.is_awaitable(value)
    except Exception:
        return False


def text_of(error: BaseException) -> str:
    """Return the text of an exception, whatever its `__str__` does."""
    try:
        return str(error)
    except Exception as fault:
        return f"<its __str__ raised {type(fault).__name__}>"


def in_one_line(error: BaseException) -> str:
    """Return the type and the text of an exception on one short line, whatever its `__str__` does."""
    text = " ".join(text_of(error).split())
    if len(text) > LONGEST_TEXT:
        text = text[: LONGEST_TEXT - 1] + "…"
    return f"{type(error).__name__}: {_labels.printable(text)}" if text else type(error).__name__


def interruption_in(error: BaseException) -> BaseException | None:
    """Return the first exception in `error` that is not an `Exception`, or None."""
    return next((leaf for leaf in leaves_of(error) if not isinstance(leaf, Exception)), None)
