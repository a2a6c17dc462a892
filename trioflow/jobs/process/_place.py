"""Where the calls of ProcessJobs are made, if not by worker processes of this machine: `Scheduler(processes=)`."""

from __future__ import annotations

import abc
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast

from ...abc import outwards, shown

if TYPE_CHECKING:
    from ...abc import AbstractJob, FunctionJob

    Processes: TypeAlias = "Executor | Place | Literal['local'] | None"

LOCAL: Final = "local"
"""What a nested scheduler is given to have worker processes of this machine, whatever those around it have."""


class Place(abc.ABC):
    """A place for the calls of ProcessJobs that knows more than an executor does, such as a Dask cluster."""

    @abc.abstractmethod
    async def call(self, job: FunctionJob[Any]) -> Any:
        """Have the call of a job made, in its `co_run`, and return its value, or an `Elsewhere`."""


class Elsewhere(abc.ABC):
    """A result that stays where it was made."""

    @abc.abstractmethod
    def fetch(self, label: str) -> Any:
        """Return the value of the job with this label, however long it takes to come."""


def checked(given: Any, what: str) -> Processes:
    """Return what may be given as `processes=`.

    Args:
        given: what was given.
        what: the option and whose it is, for the error.

    Raises:
        TypeError: it is no place for calls.

    """
    if given is None or isinstance(given, (Executor, Place)) or (type(given) is str and given == LOCAL):
        return given  # type: ignore[return-value]
    if hasattr(cast(Any, type(given)), "get_executor"):
        raise TypeError(f"{what} is {shown(given)}: write trioflow.dask.Cluster(client), with a distributed.Client")
    raise TypeError(
        f"{what} is {shown(given)}: give an executor (concurrent.futures.Executor), a trioflow.dask.Cluster, "
        f"{LOCAL!r}, or None"
    )


def place_of(job: AbstractJob[Any]) -> Executor | Place | None:
    """Return where the call of a ProcessJob is made; None for the worker processes of this machine."""
    for scheduler in outwards(job):
        given: Any = getattr(scheduler, "processes", None)
        if given is not None:
            return None if given == LOCAL else given
    return None
