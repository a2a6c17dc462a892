"""`Scheduler(processes=)`: where ProcessJobs are called, and the number of worker processes of this machine."""

from __future__ import annotations

import abc
import os
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast

from ... import _posix as posix
from ...abc import declare_run_resource, enclosing_schedulers, short_repr

if TYPE_CHECKING:
    from ...abc import AbstractJob, FunctionJob

    Processes: TypeAlias = "Executor | CallPlace | int | Literal['local'] | None"

LOCAL: Final = "local"
"""The value with which a nested scheduler gets worker processes of this machine, whatever the enclosing ones use."""


WORKERS: Final = "worker processes"
"""The resource of a run that a ProcessJob needs if a worker process of this machine makes its call."""


def usable_cpus() -> int:
    """Return the number of CPUs that this program may use; all CPUs if the system does not report it."""
    return len(posix.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


declare_run_resource(WORKERS, usable_cpus)


class CallPlace(abc.ABC):
    """A place for the calls of ProcessJobs with its own protocol, unlike an executor's, such as a Dask cluster."""

    @abc.abstractmethod
    async def call(self, job: FunctionJob[Any]) -> Any:
        """Make the call of a job, in its `co_run`, and return its value, or a `RemoteValue`."""


class RemoteValue(abc.ABC):
    """A result that is kept where it was computed."""

    @abc.abstractmethod
    def fetch(self, label: str) -> Any:
        """Transfer the value for the job with this label, however long this takes."""


def check_processes(value: Any, what: str) -> Processes:
    """Check a value of `processes=`, and return it.

    Args:
        value: the value.
        what: the option and its owner, for the error.

    Raises:
        TypeError: it is not a place for calls.
        ValueError: it is a number of processes below 1.

    """
    if value is None or isinstance(value, (Executor, CallPlace)) or (type(value) is str and value == LOCAL):
        return value  # type: ignore[return-value]
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 1:
            raise ValueError(f"{what} is {value}: give 1 or more worker processes, or leave it out for one a CPU")
        return value
    if hasattr(cast(Any, type(value)), "get_executor"):
        raise TypeError(
            f"{what} is {short_repr(value)}: write trioflow.dask.Cluster(client), with a distributed.Client"
        )
    raise TypeError(
        f"{what} is {short_repr(value)}: give an executor (concurrent.futures.Executor), a trioflow.dask.Cluster, "
        f"a number of worker processes, {LOCAL!r}, or None"
    )


def call_place_of(job: AbstractJob[Any]) -> Executor | CallPlace | None:
    """Return the place for the call of a ProcessJob; None for the worker processes of this machine."""
    for scheduler in enclosing_schedulers(job):
        value: Any = getattr(scheduler, "processes", None)
        if value is not None:
            return None if value == LOCAL or isinstance(value, int) else value
    return None
