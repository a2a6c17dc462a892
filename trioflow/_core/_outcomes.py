"""What becomes of a job beside its value: its failure, and the facts that few jobs have to tell."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from . import _errors
from ._states import JobState

if TYPE_CHECKING:
    from ._jobs import AbstractJob


class Failure:
    """What a failed job raised, with the traceback as it was then: raising again makes the exception's own grow."""

    __slots__ = ("exception", "number", "traceback")

    numbers: ClassVar[Iterator[int]] = itertools.count()  # they tell which job settled first

    def __init__(self, exception: BaseException) -> None:
        """Keep `exception` and its present traceback."""
        self.number: Final = next(self.numbers)
        self.exception: Final = exception
        self.traceback: Final[TracebackType | None] = exception.__traceback__


class Cut:
    """What stands in the place of the outcome of a job that was cancelled."""

    __slots__ = ("number",)

    def __init__(self) -> None:
        """Note when this was, among the failures."""
        self.number: Final = next(Failure.numbers)


FREED: Final = object()
"""Stands in the place of a result that was given up."""


class RunFacts:
    """What few jobs have to tell of a run; made on first need."""

    __slots__ = ("consumers", "event", "further_attempts", "listeners", "ready", "released", "scope", "timed_out")

    def __init__(self) -> None:
        """Begin with the facts of a job of which nothing special is known."""
        self.timed_out = False
        self.ready = False  # a service: it has said so
        self.scope: Any = None  # of a service that has a time limit, until it is ready
        self.consumers = 0  # how many of those that use its result have not started, if it is to be given up then
        self.released = False  # it has been counted as a consumer that needs its inputs no more
        self.listeners: list[Callable[[AbstractJob[Any]], None]] = []  # called when it has settled
        self.further_attempts = 0
        self.event: Any = None  # an event of the backend, set when the job has settled or never will

    def tell(self, job: AbstractJob[Any]) -> None:
        """Tell all who wait for `job` that it has settled, or that its run has ended without it."""
        if self.event is not None:
            self.event.set()
        for listener in self.listeners:
            listener(job)
        self.listeners.clear()


UNCALLED: Final = object()
"""Stands for what a job's function returned, while that has not been called."""


def no_result(job: AbstractJob[Any]) -> BaseException:
    """Return what asking for the result of a job raises that has none: what the job raised, or why there is none."""
    failure = job._outcome
    if isinstance(failure, Failure):
        return failure.exception.with_traceback(failure.traceback)
    if failure is FREED:
        return _errors.JobNotDone(
            f"the result of {job.label!r} was given up when the last job that uses it had started: "
            f"leave out keep_result=False to read it later"
        )
    if job._state is JobState.CANCELLED:
        return _errors.JobCancelled(f"{job.label!r} was cancelled: it has no result")
    if job._state is JobState.SKIPPED:
        return _errors.JobSkipped(f"{job.label!r} was skipped: it has no result")
    return _errors.JobNotDone(
        f"{job.label!r} is {job._state.value}: ask for its result when it has settled, "
        f"or await its wait_settled() first"
    )


def not_awaitable(label: str, value: object) -> str:
    """Say what to do about a function that returned `value`, which can't be awaited."""
    return (
        f"{label!r}: its function returned {value!r}, which is not awaitable; "
        f"give Job an async function, and ThreadJob a plain one"
    )


def explain(error: BaseException, job: AbstractJob[Any], awaitable: object, hint: str | None) -> None:
    """Add notes to what `job` raised, where its text alone would not tell what to do."""
    if isinstance(error, TypeError) and awaitable is not UNCALLED and not inspect.isawaitable(awaitable):
        error.add_note(not_awaitable(job.label, awaitable))
    if hint is not None:
        error.add_note(f"{job.label!r}: {hint}")


def interruption_in(error: BaseException) -> BaseException | None:
    """Return the first exception in `error` that is no `Exception`, or None."""
    stack = [error]
    while stack:
        one = stack.pop()
        if isinstance(one, BaseExceptionGroup):
            stack.extend(reversed(cast("BaseExceptionGroup[BaseException]", one).exceptions))
        elif not isinstance(one, Exception):
            return one
    return None
