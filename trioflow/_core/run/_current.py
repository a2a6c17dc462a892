"""The current worker, and so the current job; and environment variables for the processes that it starts."""

from __future__ import annotations

import contextvars
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from ..job._job import AbstractJob
    from ._worker import Worker

ELSEWHERE: Final = "trioflow: where a job is called elsewhere"
"""The name of a module with a stand-in for the current job, `current`, in the processes that jobs call."""

current: Final[contextvars.ContextVar[Worker]] = contextvars.ContextVar("trioflow worker")
"""The worker of the current call: each worker sets it for all that its jobs start."""
_carried: Final[contextvars.ContextVar[Mapping[str, str]]] = contextvars.ContextVar(
    "trioflow carried",
    default={},  # noqa: B039 - never changed
)


def enclosing_workers() -> Iterator[Worker]:
    """Yield the worker of this call, then those of the enclosing runs, also if a job's body runs a scheduler."""
    worker = current.get(None)
    while worker is not None:
        yield worker
        worker = worker.run.context.get(current)


def current_job() -> AbstractJob[Any]:
    """Return the job that makes this call, in its body or in anything that inherits its context.

    Code that outlives its job in a task of `asyncio.create_task` must not call this: it may get the next job.

    Raises:
        RuntimeError: the call does not come from a job, or comes from a task that a job has started in a nursery or
            task group outside of itself, which does not identify the job.

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


def carry(variables: Mapping[str, str]) -> None:
    r"""Set variables in the environment of all that a job starts in other processes.

    These are commands, here and on nodes, and functions in processes, in executors of processes and on a cluster,
    during their calls. An instrument calls this in `job_started`. The variables override others of the same name in
    this program's environment; a different value in the `env=` of a command stays. A second call replaces them all.

    Args:
        variables: names and values.

    Example:
        >>> import subprocess
        >>> from trioflow.abc import Instrument
        >>> class Ticket(Instrument):
        ...     def job_started(self, scheduler, job):
        ...         carry({"TICKET": f"for {job.label}"})
        >>> job = CommandJob(["printenv", "TICKET"], stdout=subprocess.PIPE, label="show")
        >>> Scheduler(job).run(instruments=[Ticket()]), job.result().stdout
        (True, b'for show\n')

    """
    _carried.set(variables)


def carried() -> Mapping[str, str]:
    """Return the variables for the processes of the current job: see `carry`.

    Example:
        >>> carried()
        {}

    """
    return _carried.get()


def apply_context(context: contextvars.Context) -> None:
    """Set the variables of another context, except its worker, in the current task."""
    for variable, value in context.items():
        if variable is not current:
            variable.set(value)
