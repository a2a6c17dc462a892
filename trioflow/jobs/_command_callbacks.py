"""`on_done` and `on_settled`: called when the last attempt is over, the slot still held, the outcome to be read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from .._core import _attempts, _errors, _options, _worker
from .._core._outcomes import Failure

if TYPE_CHECKING:
    from ._command import CommandJob

Attempts = Callable[[], Awaitable[Any]]

UNTOLD: Final = object()
"""Stands for the outcome of a job while no callback may ask for it."""


class Telling:
    """What the engine gets as `retry` of a job with callbacks: the user's own, and the callbacks behind it."""

    __slots__ = ("_job", "given")

    def __init__(self, job: CommandJob, given: _options.Retry, who: str) -> None:
        """Check what the user gave."""
        self._job: Final = job
        self.given: Final = (
            given if callable(given) else _options.whole(given, "retry", who, "or a decorator of an async function")
        )

    def __call__(self, attempt: Attempts) -> Attempts:
        """Return what makes all attempts, and then calls back."""
        decorate: Any = self.given if callable(self.given) else _attempts._again(self.given or 0)
        attempts: Attempts = decorate(attempt)

        async def told() -> Any:
            how = self._job._how
            try:
                value = await attempts()
                self._tell(how.on_done, value)
            except BaseException as error:
                self._tell(how.on_settled, self._failure(error))
                raise
            self._tell(how.on_settled, value)
            return value

        return told

    def _failure(self, error: BaseException) -> Failure:
        """Return what `result()` is to raise: a cancellation is told as a `JobCancelled`."""
        if _worker.current.get().run.backend.split(error)[1] is None:
            error = _errors.JobCancelled(f"{self._job.label!r} was cancelled: it has no result")
        return Failure(error)

    def _tell(self, callback: Callable[[CommandJob], object] | None, outcome: Any) -> None:
        if callback is None:
            return
        self._job._told = outcome
        try:
            callback(self._job)
        finally:
            self._job._told = UNTOLD
