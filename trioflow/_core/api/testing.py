# pyright: reportUnusedImport=false
"""What an exploration does to a run: it makes the calls of jobs its own, and interrupts the run."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

from ..job._function import FunctionJob
from ..job._job import NO_LIMITS, AbstractJob, AnyJob, is_scheduler
from ..scheduler._scheduler import BaseScheduler

Call = Callable[[AnyJob, Callable[[], Awaitable[Any]]], Awaitable[Any]]
"""Called in place of a job, or of its `co_shutdown`, with the job and what calls it; returns what to await."""

STEERED: Final[dict[tuple[type[Any], Call, Call], type[Any]]] = {}


def steer(job: AnyJob, call: Call, shut_down: Call) -> None:
    """Let each call of a job, and each of its `co_shutdown` if it has one, be made by these functions.

    The job gets a subclass of its class, of the same name. Until then it may have been on the shortest path of workers,
    which calls its function and nothing else; now it is not.
    """
    kind = cast("type[Any]", type(job))
    key = kind, call, shut_down
    if key not in STEERED:
        STEERED[key] = _steered(kind, call, shut_down)
    job.__class__ = STEERED[key]
    job._limits = job._limits or NO_LIMITS


def _steered(kind: type[Any], call: Call, shut_down: Call) -> type[Any]:
    own_call, own_shutdown = kind._call_once, kind.co_shutdown

    def call_once(job: AnyJob) -> Awaitable[Any]:
        return call(job, functools.partial(own_call, job))

    async def co_shutdown(job: AnyJob) -> None:
        await shut_down(job, functools.partial(own_shutdown, job))

    names = {"__slots__": (), "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    more = {"co_shutdown": co_shutdown} if kind._shuts_down else {}
    make_class: Any = type(kind)
    steered = make_class(kind.__name__, (kind,), names | more)
    steered._call_once = call_once  # now: a subclass of `Job` with a `co_run` of its own has been given another one
    return cast("type[Any]", steered)


def interrupt(scheduler: BaseScheduler, interruption: BaseException) -> None:
    """End the run of a scheduler as Ctrl-C does; it will raise this. Without a run, do nothing."""
    scheduler._interrupt(interruption)


def works_elsewhere(job: AbstractJob[Any]) -> bool:
    """Return whether a job works outside of the event loop, in a thread or a process: so in real time."""
    return job._runs_commands or (isinstance(job, FunctionJob) and job._calls_in is not None)


def ends_by_itself(job: AbstractJob[Any]) -> bool:
    """Return whether a run waits for the end of a job: not for that of a forever job or a service."""
    return not job._forever and not job._is_service


def ends_what_hangs(job: AnyJob) -> bool:
    """Return whether a job has a timeout that ends its body wherever that is, and not only where its kind looks."""
    return (job.timeout is not None or job.idle_timeout is not None) and (is_scheduler(job) or not job._keeps_time)


def scope_of_run(job: AnyJob) -> object:
    """Return the cancel scope around a job whose deadline can only be that of its run; None if there is none.

    On the plain way each worker has such a scope, and on asyncio each such scope has a timer.
    """
    has_own_deadline = not is_scheduler(job) and (job.timeout is not None or job.idle_timeout is not None)
    return None if job._worker is None or has_own_deadline else job._worker.scope
