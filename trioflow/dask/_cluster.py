"""`Cluster`, a Dask cluster that makes the calls of ProcessJobs, and what stays there of their results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from .. import ProcessJob
from ..abc import (
    AbstractJob,
    FunctionJob,
    RunHandle,
    call_of,
    enclosing_schedulers,
    inputs_of,
    run_of,
    short_repr,
    stored_result,
    users_of,
)
from ..jobs.process._processes_option import JobExecutor, RemoteValue, find_executor
from ._cluster_calls import NOT_FETCHED, call_on_cluster, scheduler_address

if TYPE_CHECKING:
    AnyJob = AbstractJob[Any]


class Cluster(JobExecutor):
    """A Dask cluster that makes the calls of ProcessJobs: `Scheduler(..., processes=Cluster(client))`.

    If a result is used only by jobs on the same cluster, it stays there, and is sent from worker to worker. It is
    fetched if another kind of job uses it, if no job uses it, or if a journal stores it. `job.result()` fetches a
    result that has stayed.

    The cluster starts the jobs of the critical path first, that is, those with the longest path to the end by expected
    durations. If a worker is lost, other workers repeat its calls and compute its values again. A call that runs on a
    worker cannot be interrupted: if the job is cancelled or times out, it settles at once, and the value of the call is
    dropped. A timeout counts from the start of the call on a worker, and includes the time for fetching the value.

    Args:
        client: the `distributed.Client` of the cluster. The caller closes it.
        resources: the amounts of the worker's resources that each call needs, such as {"GPU": 1}. If no worker has
            them, a message is logged once, and jobs wait until such a worker joins the cluster.
        workers: the workers that may make the calls: the address or the name of a worker, or a list of these; None for
            all. If the cluster has none of these workers, a message is logged once, and jobs wait for one.

    Raises:
        TypeError: an argument has a wrong type.
        TypeError: the client has `asynchronous=True`, and so works only in its own event loop.

    Example:
        >>> from distributed import Client
        >>> with Client(n_workers=1, processes=False, dashboard_address=None) as client:
        ...     squares = [ProcessJob(pow, number, 2) for number in range(10)]
        ...     total = ProcessJob(sum, squares)
        ...     done = Scheduler(total, processes=Cluster(client)).run()
        >>> done, total.result()
        (True, 285)

    """

    __slots__ = ("_address", "_resources", "_workers", "client")

    client: Final[Any]
    """The `distributed.Client` of the cluster."""

    def __init__(
        self, client: Any, *, resources: Mapping[str, float] | None = None, workers: str | Iterable[str] | None = None
    ) -> None:
        if not hasattr(cast(Any, type(client)), "scheduler_info"):
            raise TypeError(f"Cluster({short_repr(client)}): give a distributed.Client")
        if client.asynchronous:
            raise TypeError("Cluster(client): the client has asynchronous=True, and works in one event loop only; "
                            "create it without that")  # fmt: skip
        if resources is not None and not isinstance(resources, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"resources={short_repr(resources)} of Cluster: give a dict of names and amounts, or None")
        value: Any = workers
        if value is not None and (isinstance(value, bytes) or not isinstance(value, Iterable)):
            raise TypeError(f"workers={short_repr(workers)} of Cluster: give the addresses of workers, or None")
        self.client = client
        self._resources: Final = dict(resources or {})
        self._workers: Final = [workers] if isinstance(workers, str) else list(workers or ())
        self._address: Final = scheduler_address(client)

    def __repr__(self) -> str:
        """Show the address of the cluster's scheduler."""
        return f"<Cluster at {self._address}>"

    async def make_call(self, job: FunctionJob[Any]) -> Any:
        """Make the call of a job on the cluster. Return its value or, if the value stays there, a reference to it."""
        run, client = run_of(job), self.client
        fetched_futures, result_uses = run.shared(FetchedFutures), run.shared(ResultUses)
        call = call_of(job, partial(fetched_futures.resolve_input, client))
        should_fetch = run.stores(job) or not result_uses.stays_on_cluster(job, client)
        future, value = await call_on_cluster(
            job,
            client,
            call,
            lambda: should_fetch or not result_uses.stays_on_cluster(job, client),
            self._resources,
            self._workers,
        )
        if value is NOT_FETCHED:
            return ClusterResult(client, future, self._address)
        fetched_futures.keep_future(job, client, future)
        return value


class ResultUses:
    """The uses of the results of a run's jobs. A result stays on a cluster if all jobs that use it are called there."""

    def __init__(self, _: RunHandle) -> None:
        # For each job whose result is used, the client of the cluster on which all users are called; None if there is
        # no such cluster.
        self._sole_client_by_job: Final[dict[AnyJob, Any]] = {}
        self._has_searched_graph = False

    def stays_on_cluster(self, job: AnyJob, client: Any) -> bool:
        """Return whether the result of a running job is used, and only by jobs on its cluster."""
        if not self._has_searched_graph:
            self._has_searched_graph = True
            enclosing = [*enclosing_schedulers(job)]
            for user in enclosing[-1].iterate_jobs() if enclosing else ():
                user_client = _find_client(user) if inputs_of(user) else None
                for input_job in inputs_of(user):
                    self._sole_client_by_job[input_job] = (
                        user_client
                        if self._sole_client_by_job.setdefault(input_job, user_client) is user_client
                        else None
                    )
        users = users_of(job)  # some may have been added since the search
        if job in self._sole_client_by_job:
            return self._sole_client_by_job[job] is client and all(_find_client(user) is client for user in users)
        return bool(users) and all(_find_client(user) is client for user in users)


def _find_client(job: AnyJob) -> Any:
    """Return the client of the cluster on which a job is called; None if it is not called on a cluster."""
    executor = find_executor(job) if isinstance(job, ProcessJob) else None
    return executor.client if isinstance(executor, Cluster) else None


# ---- results that stay on the cluster, and the futures of results that were fetched


class ClusterResult(RemoteValue):
    """A result of a ProcessJob that has stayed on a cluster."""

    __slots__ = ("_address", "client", "future")

    def __init__(self, client: Any, future: Any, address: str) -> None:
        self.client: Final = client
        self.future: Final = future
        self._address: Final = address

    def fetch(self, label: str) -> Any:
        """Fetch the value from the cluster, and return it."""
        try:
            return self.client.gather(self.future)
        except Exception as error:
            raise RuntimeError(
                f"{label!r}: its value was kept on the Dask cluster at {self._address}, which has lost it or cannot be "
                f"reached: get the result while the client is open"
            ) from error

    def __repr__(self) -> str:
        type_name = getattr(self.future.type, "__name__", "a value")
        return f"<{type_name} on the Dask cluster at {self._address}>"


class FetchedFutures:
    """The futures of fetched results. A job on the same cluster gets the future, so that the value is not sent back."""

    def __init__(self, _: RunHandle) -> None:
        self._futures_by_job: Final[dict[AnyJob, tuple[Any, Any]]] = {}

    def keep_future(self, job: AnyJob, client: Any, future: Any) -> None:
        """Keep the future of a job's result until the run ends, if the job itself keeps its result."""
        if job.keep_result:
            self._futures_by_job[job] = client, future

    def resolve_input(self, client: Any, job: AnyJob) -> Any:
        """Return an input for a call on a cluster: a future if the cluster has the result of `job`, else the result."""
        stored = stored_result(job)
        if isinstance(stored, ClusterResult) and stored.client is client:
            return stored.future
        future_client, future = self._futures_by_job.get(job, (None, None))
        return future if future_client is client and future.status == "finished" else job.result()

    async def close(self) -> None:
        """Drop the futures, so that the cluster releases the values."""
        self._futures_by_job.clear()
