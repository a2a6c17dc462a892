"""`Cluster`: a Dask cluster as the place for ProcessJobs. It decides which results stay there."""

from __future__ import annotations

import contextlib
import platform
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import anyio.to_thread

from .. import ProcessJob
from ..abc import FunctionJob, ThreadEvent, call_of, inputs_of, outwards, run_of, shown, users_of
from ..jobs.process._place import Place, place_of
from ._calls import PATIENCE, STAYED, address_of, call_there
from ._job import DaskJob
from ._results import Futures, OnCluster

if TYPE_CHECKING:
    from .. import AbstractJob
    from ..abc import RunHandle

    AnyJob = AbstractJob[Any]


class Cluster(Place):
    """A Dask cluster as the place for ProcessJobs: `Scheduler(..., processes=Cluster(client))`.

    A result that only jobs on the same cluster use stays there, and goes from worker to worker. It comes here if
    another kind of job uses it, if no job does, or if a journal stores it; `job.result()` fetches one that has stayed.
    All else is as with a `DaskJob`: the order, lost workers, timeouts, calls that cannot be interrupted.

    Args:
        client: the `distributed.Client` of the cluster. It stays the caller's, who closes it.

    Raises:
        TypeError: it is not a client, or one with `asynchronous=True`, which belongs to another event loop.

    Example:
        >>> from distributed import Client
        >>> with Client(n_workers=1, processes=False, dashboard_address=None) as client:
        ...     squares = [ProcessJob(pow, number, 2) for number in range(10)]
        ...     total = ProcessJob(sum, squares)
        ...     done = Scheduler(total, processes=Cluster(client)).run()
        >>> done, total.result()
        (True, 285)

    """

    __slots__ = ("_address", "client")

    client: Final[Any]
    """The client."""

    def __init__(self, client: Any) -> None:
        if not hasattr(cast(Any, type(client)), "scheduler_info"):
            raise TypeError(f"Cluster({shown(client)}): give a distributed.Client")
        if client.asynchronous:
            raise TypeError("Cluster(client): the client has asynchronous=True, and works in one event loop alone; "
                            "make it without that")  # fmt: skip
        self.client = client
        self._address: Final = address_of(client)

    def __repr__(self) -> str:
        """Show the address of its scheduler."""
        return f"<Cluster at {self._address}>"

    async def call(self, job: FunctionJob[Any]) -> Any:
        """Have the call of a ProcessJob made by the cluster; return its value, or that it has stayed there."""
        run, client = run_of(job), self.client
        futures, uses = run.shared(Futures), run.shared(Uses)
        await run.shared(Versions).check(job, client)
        call = call_of(job, partial(futures.given, client))
        comes = run.stores(job) or not uses.stays(job, client)
        future, value = await call_there(job, client, call, lambda: comes or not uses.stays(job, client))
        if value is STAYED:
            return OnCluster(client, future, self._address)
        futures.keep(job, client, future)
        return value


class Uses:
    """Where the results of a run's jobs are used."""

    def __init__(self, _: RunHandle) -> None:
        self._only: Final[dict[AnyJob, Any]] = {}  # the client whose jobs alone use a result; None if others do
        self._has_looked = False

    def stays(self, job: AnyJob, client: Any) -> bool:
        """Return whether the result of a running job is used on its cluster, and nowhere else."""
        if not self._has_looked:
            self._has_looked = True
            around = [*outwards(job)]
            for user in around[-1].iterate_jobs() if around else ():
                home = _client_of(user) if inputs_of(user) else None
                for one in inputs_of(user):
                    self._only[one] = home if self._only.setdefault(one, home) is home else None
        users = users_of(job)  # some may have been added since
        if job in self._only:
            return self._only[job] is client and all(_client_of(user) is client for user in users)
        return bool(users) and all(_client_of(user) is client for user in users)

    async def close(self) -> None:
        """Nothing is left to do."""


def _client_of(job: AnyJob) -> Any:
    """Return the client of the cluster that makes the call of a job; None if it is made elsewhere."""
    if isinstance(job, DaskJob):
        with contextlib.suppress(ValueError):
            return job._client_now()
        return None
    place = place_of(job) if isinstance(job, ProcessJob) else None
    return place.client if isinstance(place, Cluster) else None


class Versions:
    """Whether the workers of a cluster run another Python, whose code differs: it is asked once in a run."""

    def __init__(self, _: RunHandle) -> None:
        self._known: Final[dict[Any, ThreadEvent]] = {}
        self._others: Final[dict[Any, str]] = {}

    async def check(self, job: AnyJob, client: Any) -> None:
        """Wait until it is known, and refuse a job of another Python.

        Raises:
            RuntimeError: functions cannot be sent to these workers.

        """
        if client not in self._known:
            known = self._known[client] = ThreadEvent()
            try:
                await self._ask(client)
            finally:
                known.set()
        await self._known[client].wait()
        if client in self._others:
            ours = ".".join(platform.python_version_tuple()[:2])
            raise RuntimeError(
                f"{job.label!r}: {self._others[client]}, and this program in {ours}: functions cannot be sent to "
                f"another version; use the same on all of the cluster"
            )

    async def _ask(self, client: Any) -> None:
        with contextlib.suppress(Exception), anyio.move_on_after(PATIENCE):  # what is wrong then is told by the call
            found = await anyio.to_thread.run_sync(client.get_versions, abandon_on_cancel=True)
            there = {f"the Dask scheduler at {address_of(client)}": found["scheduler"]}
            there |= {f"the Dask worker at {address}": about for address, about in found["workers"].items()}
            for who, about in there.items():
                version = about["host"]["python"].split(".")[:2]
                if version != list(platform.python_version_tuple()[:2]):
                    self._others[client] = f"{who} runs in Python {'.'.join(version)}"

    async def close(self) -> None:
        """Nothing is left to do."""
