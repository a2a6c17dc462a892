"""One job, more than once: its timeout around each call, restarts within an attempt, attempts one after the other."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from . import _errors, _options

if TYPE_CHECKING:
    from ._jobs import AbstractJob
    from ._worker import Worker


Attempt = Callable[[], Awaitable[Any]]


async def run_attempts(worker: Worker, job: AbstractJob[Any]) -> Any:
    """Run a job that has limits, and return what the last attempt returned."""
    limits = job._limits or _options.NO_LIMITS
    if limits.retry is None:
        return await _attempt(worker, job, limits)
    attempts = 0
    final: Exception | None = None  # what the job ends with, whatever the decorator makes of it
    unwinding: Exception | None = None  # what it raised because it was cancelled
    run = worker.run

    async def attempt() -> Any:
        nonlocal attempts, final, unwinding
        if attempts:
            await run.backend.checkpoint()
            if run.backend.asked_to_end(worker):
                await run.backend.checkpoint()  # asyncio may need one more turn to tell a task that it is cancelled
            run.begin_further_attempt(job)
        attempts += 1
        try:
            return await _attempt(worker, job, limits)
        except Exception as error:
            if job._is_ready():  # a service's function: no attempt follows
                final = error
                return None
            if run.backend.asked_to_end(worker):
                unwinding = error
            raise

    decorate: Any = limits.retry if callable(limits.retry) else _again(limits.retry)
    value: Any = None
    try:
        value = await decorate(attempt)()
    except BaseException as error:
        if unwinding is None or run.backend.split(error) != (True, None):
            raise
        final = unwinding  # the decorator swallowed it, and found that it was cancelled when it tried again
    if final is not None:
        raise final
    return value


def _again(times: int) -> Callable[[Attempt], Attempt]:
    """Return the decorator that repeats a function so many times as long as it raises an `Exception`."""

    def decorate(attempt: Attempt) -> Attempt:
        async def repeated() -> Any:
            for _ in range(times):
                with contextlib.suppress(Exception):
                    return await attempt()
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
            if job._is_ready():  # a service that said so while it was being cut
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
            run.facts(job).scope = scope  # its limit holds until it is ready
        return await job.co_run()
    raise _errors.JobTimeout(job, timeout)
