"""How a job is called more than once: a timeout around each call, restarts in an attempt, one attempt after another."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from ..job import _errors, _options

if TYPE_CHECKING:
    from ..job._job import AbstractJob
    from ._worker import Worker


Attempt = Callable[[], Awaitable[Any]]


async def run_attempts(worker: Worker, job: AbstractJob[Any]) -> Any:
    """Run a job that has limits, and return what the last attempt returned."""
    limits = job._limits or _options.NO_LIMITS
    if limits.retry is None:
        return await _attempt(worker, job, limits)
    attempts = Attempts(worker, job, limits)
    decorate: Any = limits.retry if callable(limits.retry) else _again(limits.retry)
    value: Any = None
    try:
        value = await decorate(attempts.begin)()
    except BaseException as error:
        if attempts.unwinding is None or worker.run.backend.split(error) != (True, None):
            raise
        attempts.final = attempts.unwinding  # the decorator swallowed it, and the next attempt was cancelled at once
    finally:
        attempts.worker = attempts.job = None
    if attempts.final is not None:
        raise attempts.final
    return value


class Attempts:
    """All attempts of one job; `begin` is what a decorator gets.

    Frames of the decorator hold it, in the traceback of what the job raised. So it lets go of the job in the end.
    """

    __slots__ = ("final", "job", "limits", "number", "unwinding", "worker")

    def __init__(self, worker: Worker, job: AbstractJob[Any], limits: _options.Limits) -> None:
        self.worker: Any = worker
        self.job: Any = job
        self.limits = limits
        self.number = 0
        self.final: Exception | None = None  # what the job fails with, whatever the decorator does
        self.unwinding: Exception | None = None  # what it raised because it was cancelled

    async def begin(self) -> Any:
        """Make one attempt."""
        worker, run = self.worker, self.worker.run
        if self.number:
            await run.backend.checkpoint()
            if run.backend.asked_to_end(worker):
                await run.backend.checkpoint()  # asyncio may need one more turn to tell a task that it is cancelled
            run.begin_further_attempt(self.job)
        self.number += 1
        try:
            return await _attempt(worker, self.job, self.limits)
        except Exception as error:
            if self.job._is_ready():  # a service that was ready gets no further attempt
                self.final = error
                return None
            if run.backend.asked_to_end(worker):
                self.unwinding = error
            raise


def _again(times: int) -> Callable[[Attempt], Attempt]:
    """Return a decorator that calls a function again while it raises an `Exception`, at most `times` times."""

    def decorate(attempt: Attempt) -> Attempt:
        async def repeated() -> Any:
            for _ in range(times):
                try:
                    return await attempt()
                except Exception:
                    pass
            return await attempt()

        return repeated

    return decorate


async def _attempt(worker: Worker, job: AbstractJob[Any], limits: _options.Limits) -> Any:
    restarts_left = limits.restarts
    while True:
        try:
            return await _call(worker, job, limits.timeout)
        except _errors.JobTimeout as timeout:
            if timeout.job is not job:
                raise
            worker.run.facts(job).timed_out = True
            if job._is_ready():  # a service that became ready while it was being cancelled
                raise
            if limits.on_timeout == "move_on":
                return None
            if limits.on_timeout == "fail" or restarts_left == 0:
                raise
            if restarts_left is not None:
                restarts_left -= 1


async def _call(worker: Worker, job: AbstractJob[Any], timeout: float | None) -> Any:
    if timeout is None or job._limits_itself:
        return await job.co_run()
    run = worker.run
    with run.backend.scope(deadline=run.clock() + timeout) as scope:
        if job._is_service:
            run.facts(job).scope = scope  # the timeout applies until the service is ready
        return await job.co_run()
    raise _errors.JobTimeout(job, timeout)
