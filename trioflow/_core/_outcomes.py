"""What becomes of a job beside its value: its failure, and the facts that few jobs have to tell."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

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


class RunFacts:
    """What few jobs have to tell of a run; made on first need."""

    __slots__ = ("event", "further_attempts", "timed_out")

    def __init__(self) -> None:
        """Begin with the facts of a job of which nothing special is known."""
        self.timed_out = False
        self.further_attempts = 0
        self.event: Any = None  # an event of the backend, set when the job has settled or never will


UNCALLED: Final = object()
"""Stands for what a job's function returned, while that has not been called."""


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
