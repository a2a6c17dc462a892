"""The current worker and its job, and the environment variables of the processes that this job starts.

Decided in docs/decisions: 12-current-job.
"""

from __future__ import annotations

import contextvars
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from ..._scheduler import Scheduler
    from ..job._job import AbstractJob
    from ._worker import Worker

REMOTE_JOB_MODULE: Final = "trioflow: where a job is called elsewhere"
"""The name of a module in worker processes. Its attribute `current_call` is used there as the current job."""

current_worker_var: Final[contextvars.ContextVar[Worker]] = contextvars.ContextVar(
    "trioflow worker"
)
"""The worker that runs the current job. Tasks and threads that the job starts inherit this variable."""
_carried_env: Final[contextvars.ContextVar[Mapping[str, str]]] = contextvars.ContextVar(
    "trioflow propagated env",
    default={},  # noqa: B039 - never changed
)


def enclosing_workers() -> Iterator[Worker]:
    """Yield the current worker and the workers of all enclosing runs, innermost first.

    A run that the body of a job has started counts as enclosed by the run of that job.
    """
    worker = current_worker_var.get(None)
    while worker is not None:
        yield worker
        worker = worker.run.context.get(current_worker_var)


def current_job() -> AbstractJob[Any]:
    """Return the job of the calling code, which runs in the job's body, or in a task or thread that the job started.

    Do not call this in a task that `asyncio.create_task` has made and that outlives its job: it may return another job.

    Raises:
        RuntimeError: the code does not run in a job.
        RuntimeError: the task was started in a nursery or task group that was opened outside of the job, so its job
            cannot be determined.

    Example:
        >>> async def who():
        ...     return current_job().label
        >>> job = Job(who, label="me")
        >>> Scheduler(job).run(), job.result()
        (True, 'me')

    """
    worker = current_worker_var.get(None)
    if worker is None or worker.job is None:
        stand_in: Any = getattr(
            sys.modules.get(REMOTE_JOB_MODULE), "current_call", None
        )
        if stand_in is not None:
            return cast("AbstractJob[Any]", stand_in)
        raise RuntimeError(
            "current_job(): not called from a job; call it in the body of a job"
        )
    if not worker.run.backend.isolation.is_caller_inside(worker):
        raise RuntimeError(
            "current_job(): this task runs in a nursery or task group around the jobs, so its job is unknown; "
            "call it in the job, and pass the job to the task"
        )
    return worker.job


def current_scheduler() -> Scheduler:
    """Return the scheduler that the current job is in. The job can add further jobs to it.

    Raises:
        RuntimeError: as in `current_job`. Also if the job runs in another process, where there is no scheduler.

    Example:
        >>> async def nap():
        ...     await anyio.sleep(0)
        >>> async def grow():
        ...     current_scheduler().add(Job(nap, label="added"))
        >>> scheduler = Scheduler(Job(grow))
        >>> scheduler.run(), len(scheduler)
        (True, 2)

    """
    if (scheduler := getattr(current_job(), "scheduler", None)) is None:
        raise RuntimeError(
            "current_scheduler(): this code runs in another process; add jobs where the scheduler is"
        )
    return cast("Scheduler", scheduler)


def propagate_env(variables: Mapping[str, str]) -> None:
    r"""Set environment variables for the other processes that do the work of the current job.

    Such processes run commands, here and on nodes, or call functions, in process pools and on a cluster. Instruments
    can call this in `job_started`. The variables override this program's own environment. The `env=` of a command takes
    precedence over them. A second call replaces all variables.

    Args:
        variables: the values of the variables, by name.

    Example:
        >>> import subprocess
        >>> from trioflow.abc import Instrument
        >>> class Ticket(Instrument):
        ...     def job_started(self, scheduler, job):
        ...         propagate_env({"TICKET": f"for {job.label}"})
        >>> job = CommandJob(["printenv", "TICKET"], stdout=subprocess.PIPE, label="show")
        >>> Scheduler(job).run(instruments=[Ticket()]), job.result().stdout
        (True, b'for show\n')

    """
    _carried_env.set(variables)


def propagated_env() -> Mapping[str, str]:
    """Return the environment variables for the processes of the current job, which `propagate_env` has set.

    Example:
        >>> propagated_env()
        {}

    """
    return _carried_env.get()


def apply_context(context: contextvars.Context) -> None:
    """Set the context variables of `context` in the current task, except the current worker."""
    for variable, value in context.items():
        if variable is not current_worker_var:
            variable.set(value)
