"""`Cluster`, a Dask cluster as the place for ProcessJobs; `DaskJob`; and results that stay on a cluster."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Unpack, cast, overload

import anyio.to_thread

from ..abc import (
    BoxStyle,
    FunctionJob,
    JobOptions,
    ThreadEvent,
    call_of,
    enclosing_schedulers,
    flag,
    inputs_of,
    run_of,
    short_repr,
    stored_result,
    users_of,
)
from ..jobs.process._call_places import CallPlace, RemoteValue, call_place_of
from ..jobs.process._process_job import ProcessJob
from ._cluster_calls import NOT_FETCHED, WORKER_PATIENCE, address_of, call_on_cluster, import_dask

if TYPE_CHECKING:
    from .._core.api.typed import (
        A,
        B,
        C,
        Given,
        GivenJob,
        PlainFunction1,
        PlainFunction2,
        PlainFunction3,
        TakesIterable,
    )
    from ..abc import AbstractJob, RunHandle

    AnyJob = AbstractJob[Any]


class Cluster(CallPlace):
    """A Dask cluster as the place for ProcessJobs: `Scheduler(..., processes=Cluster(client))`.

    A result that only jobs on the same cluster use stays there, and goes from worker to worker. It comes here if
    another kind of job uses it, if no job does, or if a journal stores it; `job.result()` fetches one that has stayed.
    Order, lost workers, timeouts, and calls that cannot be interrupted are as with a `DaskJob`.

    Args:
        client: the `distributed.Client` of the cluster. The caller closes it.

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
            raise TypeError(f"Cluster({short_repr(client)}): give a distributed.Client")
        if client.asynchronous:
            raise TypeError("Cluster(client): the client has asynchronous=True, and works in one event loop alone; "
                            "make it without that")  # fmt: skip
        self.client = client
        self._address: Final = address_of(client)

    def __repr__(self) -> str:
        """Show the address of its scheduler."""
        return f"<Cluster at {self._address}>"

    async def call(self, job: FunctionJob[Any]) -> Any:
        """Make the call of a ProcessJob on the cluster; return its value, or a reference to one that stays there."""
        run, client = run_of(job), self.client
        futures, uses = run.shared(Futures), run.shared(ResultConsumers)
        await run.shared(PythonVersionCheck).check(job, client)
        call = call_of(job, partial(futures.value_or_future, client))
        fetches = run.stores(job) or not uses.stays_on_cluster(job, client)
        future, value = await call_on_cluster(
            job, client, call, lambda: fetches or not uses.stays_on_cluster(job, client)
        )
        if value is NOT_FETCHED:
            return OnCluster(client, future, self._address)
        futures.keep(job, client, future)
        return value


class ResultConsumers:
    """The clusters on which the results of a run's jobs are used."""

    def __init__(self, _: RunHandle) -> None:
        self._sole_client: Final[dict[AnyJob, Any]] = {}  # the client whose jobs alone use a result; None if others do
        self._is_searched = False

    def stays_on_cluster(self, job: AnyJob, client: Any) -> bool:
        """Return whether the result of a running job is used on its cluster, and nowhere else."""
        if not self._is_searched:
            self._is_searched = True
            around = [*enclosing_schedulers(job)]
            for user in around[-1].iterate_jobs() if around else ():
                home = _client_of(user) if inputs_of(user) else None
                for source in inputs_of(user):
                    self._sole_client[source] = home if self._sole_client.setdefault(source, home) is home else None
        users = users_of(job)  # some may have been added since
        if job in self._sole_client:
            return self._sole_client[job] is client and all(_client_of(user) is client for user in users)
        return bool(users) and all(_client_of(user) is client for user in users)

    async def close(self) -> None:
        """Do nothing: no cleanup is needed."""


def _client_of(job: AnyJob) -> Any:
    """Return the client of the cluster on which a job is called; None if it is not called on a cluster."""
    if isinstance(job, DaskJob):
        with contextlib.suppress(ValueError):
            return job._current_client()
        return None
    place = call_place_of(job) if isinstance(job, ProcessJob) else None
    return place.client if isinstance(place, Cluster) else None


class PythonVersionCheck:
    """A check, once per run and cluster, that workers run this Python version: pickled code depends on it."""

    def __init__(self, _: RunHandle) -> None:
        self._known: Final[dict[Any, ThreadEvent]] = {}
        self._others: Final[dict[Any, str]] = {}

    async def check(self, job: AnyJob, client: Any) -> None:
        """Wait for the check of the cluster, and reject the job if the versions differ.

        Raises:
            RuntimeError: functions cannot be sent to these workers.

        """
        if client not in self._known:
            known = self._known[client] = ThreadEvent()
            try:
                await self._query_versions(client)
            finally:
                known.set()
        await self._known[client].wait()
        if client in self._others:
            ours = ".".join(platform.python_version_tuple()[:2])
            raise RuntimeError(
                f"{job.label!r}: {self._others[client]}, and this program in {ours}: functions cannot be sent to "
                f"another version; use the same on all of the cluster"
            )

    async def _query_versions(self, client: Any) -> None:
        with contextlib.suppress(Exception), anyio.move_on_after(WORKER_PATIENCE):  # the call itself reports the fault
            versions = await anyio.to_thread.run_sync(client.get_versions, abandon_on_cancel=True)
            there = {f"the Dask scheduler at {address_of(client)}": versions["scheduler"]}
            there |= {f"the Dask worker at {address}": about for address, about in versions["workers"].items()}
            for process, about in there.items():
                version = about["host"]["python"].split(".")[:2]
                if version != list(platform.python_version_tuple()[:2]):
                    self._others[client] = f"{process} runs in Python {'.'.join(version)}"

    async def close(self) -> None:
        """Do nothing: no cleanup is needed."""


class DaskOptions(JobOptions, total=False):
    """The keyword options of a `DaskJob`, with those of every job."""

    client: Any
    gather: bool
    resources: Mapping[str, float] | None
    workers: str | Iterable[str] | None


class DaskJob(
    FunctionJob[Any], box=BoxStyle("call on a Dask cluster", "tab", place=3), calls_in="a Dask cluster", keeps_time=True
):
    """A plain function with its arguments, called by a Dask cluster, where its result stays.

    Its result here is Dask's future, not the value. Another DaskJob that takes it as an argument gets the value, which
    goes from worker to worker, or stays where it is, and never comes here. For other jobs, `future.result()` fetches
    it. The value is kept on the cluster as long as the job keeps its result.

    The cluster starts the jobs of the critical path first: the longest path to the end by expected durations.
    If a worker is lost, the others repeat its work and compute its values again. A call that runs on a worker cannot be
    interrupted: a job that is cancelled or times out settles at once, and the value of its call is dropped.

    Args:
        function: a plain function; Dask sends it by cloudpickle.
        args: positional arguments of the call; jobs among them are filled in, see `Job`.
        client: the `distributed.Client` of the cluster; None for Dask's default, the client that was created last.
        kwargs: keyword arguments of the call, jobs among them as well.
        gather: whether to fetch the value, and make it the job's result.
        resources: what the call needs of a worker, such as {"GPU": 1}. If no worker has it, this is logged once, and
            the job waits until one joins.
        workers: the workers that may run it: an address, a name, or several; None for all. If there is none of them,
            this is logged once, and the job waits.
        options: the options of every job; see `AbstractJob`. A timeout counts from the start of the call on a worker:
            the time in the cluster's queue does not count, that of fetching the value does.

    Raises:
        TypeError: an async function, something not callable, or no client.
        ValueError: an option out of its range; from the job itself: there is no client.
        ModuleNotFoundError: from the job itself: Dask is not installed.
        RuntimeError: from the job itself: the cluster was lost, or the call was cancelled by others.

    """

    __slots__ = ("_client", "_gather", "_resources", "_workers")

    # Type checkers compare up to three arguments with the function's parameters; a job may be given for a value.
    @overload
    def __init__(
        self,
        function: type[Any],
        /,
        *args: Any,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[DaskOptions],
    ) -> None: ...
    @overload
    def __init__(self, function: Callable[[], Any], /, **options: Unpack[DaskOptions]) -> None: ...
    @overload
    def __init__(
        self, function: TakesIterable[Any], a: Iterable[Any] | GivenJob[Any], /, **options: Unpack[DaskOptions]
    ) -> None: ...
    @overload
    def __init__(self, function: PlainFunction1[A, Any], a: Given[A], /, **options: Unpack[DaskOptions]) -> None: ...
    @overload
    def __init__(
        self, function: PlainFunction2[A, B, Any], a: Given[A], b: Given[B], /, **options: Unpack[DaskOptions]
    ) -> None: ...
    @overload
    def __init__(
        self,
        function: PlainFunction3[A, B, C, Any],
        a: Given[A],
        b: Given[B],
        c: Given[C],
        /,
        **options: Unpack[DaskOptions],
    ) -> None: ...
    @overload
    def __init__(
        self,
        function: Callable[..., Any],
        a: Any,
        b: Any,
        c: Any,
        d: Any,
        /,
        *args: Any,
        **options: Unpack[DaskOptions],
    ) -> None: ...
    @overload
    def __init__(
        self, function: Callable[..., Any], /, *args: Any, kwargs: Mapping[str, Any], **options: Unpack[DaskOptions]
    ) -> None: ...
    def __init__(
        self,
        function: Callable[..., Any],
        /,
        *args: Any,
        client: Any = None,
        kwargs: Mapping[str, Any] | None = None,
        gather: bool = False,
        resources: Mapping[str, float] | None = None,
        workers: str | Iterable[str] | None = None,
        **options: Unpack[JobOptions],
    ) -> None:
        if client is not None and not hasattr(client, "submit"):
            raise TypeError(f"client={short_repr(client)} of DaskJob: give a distributed.Client, or None")
        self._client: Final = client
        self._gather: Final = flag(gather, "gather", "DaskJob()")
        if resources is not None and not isinstance(resources, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                f"resources={short_repr(resources)} of DaskJob(): give a dict of names and amounts, or None"
            )
        self._resources: Final = None if resources is None else dict(resources)
        value: Any = workers
        if value is not None and (isinstance(value, bytes) or not isinstance(value, Iterable)):
            raise TypeError(f"workers={short_repr(workers)} of DaskJob(): give the addresses of workers, or None")
        self._workers: Final = workers if workers is None or isinstance(workers, str) else list(workers)
        super().__init__(function, args, kwargs, options)

    async def co_run(self) -> Any:
        """Submit the call, and wait until it has ended.

        Raises:
            BaseException: what the function raised.
            RuntimeError: the cluster was lost, or no run has called this.

        """
        run, client = run_of(self), self._current_client()
        call = call_of(self, partial(run.shared(Futures).value_or_future, client))
        own = {"resources": self._resources, "workers": self._workers}
        future, value = await call_on_cluster(self, client, call, lambda: self._gather, **own)
        return value if self._gather else future

    def _current_client(self) -> Any:
        return self._client if self._client is not None else import_dask("distributed").get_client()


# ---- results: values kept on the cluster, and the futures of values that are also here


class OnCluster(RemoteValue):
    """A result that has stayed on a cluster."""

    __slots__ = ("_address", "client", "future")

    def __init__(self, client: Any, future: Any, address: str) -> None:
        self.client: Final = client
        self.future: Final = future
        self._address: Final = address

    def fetch(self, label: str) -> Any:
        """Fetch the value from the cluster."""
        try:
            return self.client.gather(self.future)
        except Exception as error:
            raise RuntimeError(
                f"{label!r}: its value has stayed on the Dask cluster at {self._address}, which does not have it any "
                f"more, or cannot be reached: ask for it while the client is open"
            ) from error

    def __repr__(self) -> str:
        """Show the type of the value and the address of the cluster."""
        kind = getattr(self.future.type, "__name__", "a value")
        return f"<{kind} on the Dask cluster at {self._address}>"


class Futures:
    """The futures of results that were fetched, for other jobs on the same cluster that use them."""

    def __init__(self, _: RunHandle) -> None:
        self._futures: Final[dict[AnyJob, tuple[Any, Any]]] = {}

    def keep(self, job: AnyJob, client: Any, future: Any) -> None:
        """Keep a future until the run ends, unless the job drops its result earlier."""
        if job.keep_result:
            self._futures[job] = client, future

    def value_or_future(self, client: Any, job: AnyJob) -> Any:
        """Return the result of `job` for a call by `client`: a future if its cluster has the value, else the value."""
        kept = stored_result(job)
        if isinstance(kept, OnCluster) and kept.client is client:
            return kept.future
        other, future = self._futures.get(job, (None, None))
        return future if other is client and future.status == "finished" else job.result()

    async def close(self) -> None:
        """Drop the futures, so that the cluster releases the values."""
        self._futures.clear()
