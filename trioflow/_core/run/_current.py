"""Which worker, and so which job, makes a call: a variable that each worker sets for all that its jobs start."""

from __future__ import annotations

import contextvars
import sys
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from ..job._job import AbstractJob
    from ._worker import Worker

ELSEWHERE: Final = "trioflow: where a job is called elsewhere"
"""The name of a module with a stand-in for the current job, `current`, in programs to which jobs send their calls."""

current: Final[contextvars.ContextVar[Worker]] = contextvars.ContextVar("trioflow worker")


def current_job() -> AbstractJob[Any]:
    """Return the job that makes this call, in its body or in anything that inherits its context.

    Code that outlives its job in a task of `asyncio.create_task` must not call this: it may get the next job.

    Raises:
        RuntimeError: the call does not come from a job, or it comes from a task that a job has started in a nursery or
            task group outside of itself: who started it is not known.

    Example:
        >>> async def who():
        ...     return current_job().label
        >>> job = Job(who, label="me")
        >>> Scheduler(job).run(), job.result()
        (True, 'me')

    """
    worker = current.get(None)
    if worker is None or worker.job is None:
        stand_in: Any = getattr(sys.modules.get(ELSEWHERE), "current", None)
        if stand_in is not None:
            return cast("AbstractJob[Any]", stand_in)
        raise RuntimeError("current_job(): no job makes this call; call it in the body of a job")
    if not worker.run.backend.isolation.is_inside(worker):
        raise RuntimeError(
            "current_job(): this task runs in a nursery or task group around the jobs, so no job is known to make this "
            "call; call it in the job, and pass the job to the task"
        )
    return worker.job
