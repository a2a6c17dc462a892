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
    too_late: Exception | None = None  # what a service raised after it was ready: no attempt follows that

    async def attempt() -> Any:
        nonlocal attempts, too_late
        attempts += 1
        if attempts > 1:
            worker.run.begin_further_attempt(job)
            await worker.run.backend.checkpoint()
        try:
            return await _attempt(worker, job, limits)
        except Exception as error:
            if not job._is_ready():
                raise
            too_late = error

    decorate: Any = limits.retry if callable(limits.retry) else _again(limits.retry)
    value = await decorate(attempt)()
    if too_late is not None:
        raise too_late
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
