"""The option `processes` of schedulers and ProcessJobs: what makes the calls, or how many worker processes do."""

from __future__ import annotations

import abc
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast

from ...abc import AbstractJob, FunctionJob, declare_run_resource, enclosing_schedulers, run_of, short_repr
from ..posix._cpus import count_usable_cpus

if TYPE_CHECKING:
    from ._worker_pool import WorkerPool

    JobProcesses: TypeAlias = "Executor | JobExecutor | Literal['local'] | None"
    ProcessesOption: TypeAlias = "JobProcesses | int"

LOCAL_PROCESSES: Final = "local"
"""The value that selects worker processes on this machine, even if an enclosing scheduler uses an executor."""
WORKER_PROCESSES_RESOURCE: Final = "worker processes"
"""The name of the resource that a ProcessJob needs if its call runs in a worker process on this machine."""


def _find_pool(job: AbstractJob[Any]) -> WorkerPool:
    from ._worker_pool import WorkerPool  # imported late, because few programs have worker processes

    return run_of(job).shared(WorkerPool)


declare_run_resource(WORKER_PROCESSES_RESOURCE, count_usable_cpus, "starting a worker process", _find_pool)


class JobExecutor(abc.ABC):
    """The interface of objects other than an `Executor` that make the calls of ProcessJobs, such as a Dask cluster."""

    @abc.abstractmethod
    async def make_call(self, job: FunctionJob[Any]) -> Any:
        """Make the call of a job, and return its value or a `RemoteValue`. `ProcessJob.co_run` calls this method."""


class RemoteValue(abc.ABC):
    """The interface of a job's result that is kept where it was computed, such as on a Dask cluster."""

    @abc.abstractmethod
    def fetch(self, label: str) -> Any:
        """Transfer the value to this program, and return it. This may block for a long time.

        Args:
            label: the label of the job, for error messages.

        """


def check_processes(value: Any, description: str) -> ProcessesOption:
    """Check a value of `processes=`, and return it.

    Args:
        value: the value.
        description: the name of the option and of its owner, for error messages.

    Raises:
        TypeError: the value is neither an executor, a cluster, a number, "local", nor None.
        ValueError: the value is a number below 1.

    """
    if is_made_by(value, "distributed") or hasattr(cast(Any, type(value)), "get_executor"):
        raise TypeError(
            f"{description} is {short_repr(value)}: write trioflow.dask.Cluster(client), with a distributed.Client; "
            f"its get_executor() makes equal calls once, also those of a retry"
        )
    if value is None or isinstance(value, (Executor, JobExecutor)) or (type(value) is str and value == LOCAL_PROCESSES):
        return value  # type: ignore[return-value]
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 1:
            raise ValueError(
                f"{description} is {value}: give 1 or more worker processes, or leave it out for one per CPU"
            )
        return value
    raise TypeError(
        f"{description} is {short_repr(value)}: give an executor (concurrent.futures.Executor), a "
        f"trioflow.dask.Cluster, a number of worker processes, {LOCAL_PROCESSES!r}, or None"
    )


def is_made_by(value: object, *names: str) -> bool:
    """Return whether a class of a value has one of these names, or is from a package of this name."""
    return any(cls.__name__ in names or cls.__module__.partition(".")[0] in names for cls in type(value).__mro__)


def find_executor(job: AbstractJob[Any]) -> Executor | JobExecutor | None:
    """Return the executor or cluster that makes a ProcessJob's call, or None if a worker on this machine makes it."""
    for owner in (job, *enclosing_schedulers(job)):
        value: Any = getattr(owner, "processes", None)
        if value is not None:
            return None if value == LOCAL_PROCESSES or isinstance(value, int) else value
    return None
