"""A Dask cluster that makes the calls of ProcessJobs, and keeps their results.

This module needs the extra `dask`: `pip install "trioflow[dask]"`. Dask is imported when it is first used.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from functools import cache, partial
from types import ModuleType
from typing import Any, Final, cast

import anyio.to_thread

from . import ProcessJob, Scheduler, abc
from ._core.base._text_forms import short_repr
from ._core.run._current import propagated_env
from ._core.run._requirement_counts import users_of
from ._core.words._job_queries import ranks_of, stored_result
from .jobs import _sent_calls
from .jobs.process._process_job import JobExecutor, RemoteValue, find_executor

AnyJob = abc.AbstractJob[Any]

__all__ = ["Cluster"]

NOT_FETCHED: Final = object()
LOAD_ERROR_PREFIX: Final = "Error during deserialization of the task graph"
"""The start of Dask's error message if its scheduler cannot unpickle a call, e.g. because a module is missing."""


class Cluster(JobExecutor):
    """A Dask cluster that makes the calls of ProcessJobs: `Scheduler(..., processes=Cluster(client))`.

    If a result is used only by jobs on the same cluster, it stays there, and is sent from worker to worker. It is
    fetched if another kind of job uses it, if no job uses it, or if a journal stores it. `job.result()` fetches a
    result that has stayed.

    The cluster starts the jobs of the critical path first, that is, the jobs with the longest path to the end by
    expected durations. If a worker is lost, other workers repeat its calls and compute its values again. A call that
    runs on a
    worker cannot be interrupted: if the job is cancelled or times out, it settles at once, and the value of the call is
    dropped. A timeout counts from the submission, and includes Dask's own queue and the time for fetching the value.

    Args:
        client: the `distributed.Client` of the cluster. The caller closes it.
        resources: the amounts of the worker's resources that each call needs, such as {"GPU": 1}. If no worker has
            them, a message is logged once, and jobs wait until such a worker joins the cluster.
        workers: the workers that may make the calls: the address or the name of a worker, or a list of these. None is
            for all. If the cluster has none of these workers, a message is logged once, and jobs wait for such a
            worker.

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

    client: Final[Any]

    def __init__(
        self,
        client: Any,
        *,
        resources: Mapping[str, float] | None = None,
        workers: str | Iterable[str] | None = None,
    ) -> None:
        if not hasattr(cast(Any, type(client)), "scheduler_info"):
            raise TypeError(f"Cluster({short_repr(client)}): give a distributed.Client")
        if client.asynchronous:
            raise TypeError("Cluster(client): the client has asynchronous=True, and works in one event loop only; "
                            "create it without that")  # fmt: skip
        if resources is not None and not isinstance(resources, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                f"resources={short_repr(resources)} of Cluster: give a dict of names and amounts, or None"
            )
        value: Any = workers
        if value is not None and (
            isinstance(value, bytes) or not isinstance(value, Iterable)
        ):
            raise TypeError(
                f"workers={short_repr(workers)} of Cluster: give the addresses of workers, or None"
            )
        self.client = client
        if isinstance(workers, str):
            chosen_workers = [workers]
        else:
            chosen_workers = list(workers or ())
        self._call_options: Final = {
            "resources": dict(resources or {}) or None,
            "workers": chosen_workers or None,
        }
        self._address: Final = scheduler_address(client)

    def __repr__(self) -> str:
        """Show the address of the cluster's scheduler."""
        return f"<Cluster at {self._address}>"

    async def make_call(self, job: abc.FunctionJob[Any]) -> Any:
        """Make the call of a job on the cluster. Return its value or, if the value stays there, a reference to it."""
        run = abc.run_of(job)
        client = self.client
        fetched_futures = run.shared(FetchedFutures)
        result_uses = run.shared(ResultUses)
        call = abc.call_of(job, partial(fetched_futures.resolve_input, client))
        stays = partial(result_uses.stays_on_cluster, job, client)
        must_fetch = run.stores(job) or not stays()
        future, value = await call_on_cluster(
            job, client, call, lambda: must_fetch or not stays(), self._call_options
        )
        if value is NOT_FETCHED:
            return ClusterResult(client, future, self._address)
        fetched_futures.keep_future(job, client, future)
        return value


class ResultUses:
    """The uses of the results of a run's jobs. A result stays on a cluster if all jobs that use it are called there."""

    def __init__(self, _: abc.RunHandle) -> None:
        # For each job whose result is used, the client of the cluster that calls all users, or None if there is no such
        # # cluster.
        self._sole_client_by_job: Final = dict[AnyJob, Any]()
        self._has_searched_graph = False

    def stays_on_cluster(self, job: AnyJob, client: Any) -> bool:
        """Return whether the result of a running job is used, and only by jobs on its cluster."""
        if not self._has_searched_graph:
            self._has_searched_graph = True
            for user in _jobs_of_run(job):
                user_client = _find_client(user)
                for input_job in abc.inputs_of(user):
                    sole = self._sole_client_by_job.setdefault(input_job, user_client)
                    if sole is not user_client:
                        self._sole_client_by_job[input_job] = None
        # Users may have been added since the search.
        users = users_of(job)
        if not users and job not in self._sole_client_by_job:
            return False
        is_sole = self._sole_client_by_job.get(job, client) is client
        return is_sole and all(_find_client(user) is client for user in users)


def _jobs_of_run(job: AnyJob) -> Iterator[AnyJob]:
    """Yield all jobs of the outermost scheduler around a job. A job that another job calls has none."""
    enclosing = [*abc.enclosing_schedulers(job)]
    if enclosing:
        yield from enclosing[-1].iterate_jobs()


def _find_client(job: AnyJob) -> Any:
    """Return the client of the cluster that calls a job, or None if no cluster calls it."""
    if isinstance(job, ProcessJob):
        executor = find_executor(job)
        if isinstance(executor, Cluster):
            return executor.client
    return None


# ---- results that stay on the cluster, and the futures of results that were fetched


class ClusterResult(RemoteValue):
    """A result of a ProcessJob that has stayed on a cluster."""

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
        return f"<{getattr(self.future.type, '__name__', 'a value')} on the Dask cluster at {self._address}>"


class FetchedFutures:
    """The futures of fetched results. A job on the same cluster gets the future, so that the value is not sent back."""

    def __init__(self, _: abc.RunHandle) -> None:
        self._futures_by_job: Final = dict[AnyJob, tuple[Any, Any]]()

    def keep_future(self, job: AnyJob, client: object, future: object) -> None:
        """Keep the future of a job's result until the run ends, if the job itself keeps its result."""
        if job.keep_result:
            self._futures_by_job[job] = client, future

    def resolve_input(self, client: Any, job: AnyJob) -> Any:
        """Return an input for a call on a cluster: a future if the cluster has the result of `job`, else the result."""
        stored = stored_result(job)
        if isinstance(stored, ClusterResult) and stored.client is client:
            return stored.future
        future_client, future = self._futures_by_job.get(job, (None, None))
        if future_client is client and future.status == "finished":
            return future
        return job.result()

    async def close(self) -> None:
        """Drop the futures, so that the cluster releases the values."""
        self._futures_by_job.clear()


# ---- the call of a job, from its submission to the fetch of its value or its cancellation


async def call_on_cluster(
    job: abc.FunctionJob[Any],
    client: Any,
    call: partial[Any],
    should_fetch: Callable[[], bool],
    call_options: Mapping[str, Any],
) -> tuple[Any, Any]:
    """Make the call of a job on a cluster.

    Args:
        job: the job.
        client: the client of the cluster.
        call: the function and its arguments.
        should_fetch: a function that returns whether to fetch the value. It is called when the call has ended.
        call_options: the options of all calls on the cluster, as `Client.submit` has them.

    Returns:
        Dask's future, and the value, or `NOT_FETCHED` if `should_fetch()` has returned False.

    Raises:
        BaseException: the function raised this exception.
        TypeError: the function or an argument cannot be pickled.
        RuntimeError: the cluster was lost, or another client has cancelled the call.

    """
    run = abc.run_of(job)
    ended_event = abc.ThreadEvent()
    address = scheduler_address(client)
    options = {**call_options, "priority": _get_priority(job, run)}
    if client.status != "running":
        raise lost_cluster_error(job, client, address)

    with run.time_limit(job, cancels=True):
        future = _submit_call(job, client, call, options)
        future.add_done_callback(lambda _: ended_event.set())  # pyright: ignore[reportUnknownLambdaType]
        try:
            if client.status != "running":
                # In this case, the future might never be done.
                raise lost_cluster_error(job, client, address)
            await ended_event.wait()
        except BaseException:
            await _cancel_call(future, run)
            raise
        if future.status == "error":
            error = await anyio.to_thread.run_sync(future.exception)
            raise _add_remedy(error, job, call)
        if future.status != "finished":
            if client.status != "running":
                raise lost_cluster_error(job, client, address)
            raise RuntimeError(
                f"{job.label!r}: its future is {future.status}: another client has cancelled it, or the Dask scheduler "
                f"at {address} was lost and has restarted"
            )
        value = NOT_FETCHED
        if should_fetch():
            value = await _fetch_value(client, future)
        return future, value


def _submit_call(
    job: abc.FunctionJob[Any], client: Any, call: partial[Any], options: dict[str, Any]
) -> Any:
    """Submit a call, and return its future.

    Raises:
        TypeError: the function or an argument cannot be pickled.

    """
    name = getattr(call.func, "__name__", "call")
    variables = propagated_env()
    try:
        if variables:
            function = _sent_calls.wrap_with_variables(call.func, dict(variables))
        else:
            function = call.func
        # By value, if it cannot be imported by name.
        pickled = import_dask("cloudpickle").dumps(function)
        key = f"{name}-{os.urandom(16).hex()}"
        return client.submit(
            _worker_function(),
            pickled,
            call.keywords,
            *call.args,
            key=key,
            pure=False,
            **options,
        )
    except Exception as error:
        make_pickler = _sent_calls.cloudpickle_pickler()
        if (
            make_pickler is None
            or _sent_calls.pickling_error(call, make_pickler) is None
        ):
            raise
        cause = error.__cause__ or error
        raise _sent_calls.unpicklable_error(  # noqa: B904 - it has its cause
            call, job, "a worker of the Dask cluster", make_pickler, cause
        )


async def _cancel_call(future: Any, run: abc.RunHandle) -> None:
    async def cancel() -> bool:
        with anyio.move_on_after(2.0):
            await anyio.to_thread.run_sync(future.cancel, abandon_on_cancel=True)
        return True

    with contextlib.suppress(Exception):
        # The connection to the cluster may be lost.
        await run.outlast(cancel)


def scheduler_address(client: Any) -> str:
    """Return the address of a cluster's scheduler, or "an unknown address" if the client does not know it."""
    return str(getattr(client.scheduler, "address", "an unknown address"))


def lost_cluster_error(job: AnyJob, client: Any, address: str) -> RuntimeError:
    """Return the error for a job whose cluster cannot be reached."""
    if client.status in ("closed", "closing"):
        return RuntimeError(
            f"{job.label!r}: its Dask client is closed: close it after the run"
        )
    return RuntimeError(
        f"{job.label!r}: the connection to the Dask scheduler at {address} was lost: it has ended, or can no longer "
        f"be reached; restart it, and then start the run again"
    )


def _add_remedy(
    error: BaseException, job: abc.FunctionJob[Any], call: partial[Any]
) -> BaseException:
    """Return the error of a call, with a note about the remedy if the cluster could not load the call."""
    if isinstance(error, ModuleNotFoundError) or str(error).startswith(
        LOAD_ERROR_PREFIX
    ):
        module = (
            getattr(error, "name", None)
            or getattr(call.func, "__module__", None)
            or "its modules"
        )
        error.add_note(
            f"{job.label!r}: the scheduler and the workers of the cluster must be able to import {module}: install it "
            f"there, or call client.upload_file(...) or cloudpickle.register_pickle_by_value({module}) before the run"
        )
    return error


class PickledFunction:
    """A function that is pickled by value, once for all calls. Workers then do not need trioflow."""

    __name__ = "call"

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function: Final = function
        self._pickled_function: Final[bytes] = import_dask("cloudpickle").dumps(
            function
        )

    def __reduce__(self) -> Any:
        """Pickle the object in a form that is unpickled as the function itself."""
        return pickle.loads, (self._pickled_function,)

    def __call__(self, *args: Any) -> Any:
        """Call the function. Only workers that are threads of this program do so: nothing is pickled for them."""
        return self._function(*args)


@cache
def _worker_function() -> PickledFunction:
    """Return the function that workers call, which unpickles and calls the function of a job."""

    def load_and_call(
        pickled_function: bytes, kwargs: dict[str, Any], *args: Any
    ) -> Any:
        import pickle

        return pickle.loads(pickled_function)(*args, **kwargs)

    return PickledFunction(load_and_call)


def path_seconds(_: abc.RunHandle) -> dict[Scheduler, dict[AnyJob, float]]:
    """Return a cache of the durations of the longest paths to the end, by scheduler and by its member, for a run."""
    return {}


def _get_priority(job: AnyJob, run: abc.RunHandle) -> float:
    """Return the duration, in seconds, of the longest path from a job to the end of its scheduler.

    It is 0 for a job that has no scheduler, because another job has called it, or that was added after the others.
    """
    scheduler = job.scheduler
    known = run.shared(path_seconds)
    if scheduler is None:
        return 0
    if scheduler not in known:
        known[scheduler] = ranks_of(scheduler)
    return known[scheduler].get(job, 0.0)


async def _fetch_value(client: Any, future: Any) -> Any:
    """Return the value of a finished future, which the event loop of the client fetches."""
    value = Future[Any]()
    fetched_event = abc.ThreadEvent()
    value.add_done_callback(lambda _: fetched_event.set())

    async def fetch() -> None:
        try:
            value.set_result(await client.gather(future, asynchronous=True))
        except Exception as error:
            value.set_exception(error)

    client.loop.add_callback(fetch)
    await fetched_event.wait()
    return value.result()


def import_dask(name: str) -> ModuleType:
    """Import a module of Dask on demand. If it is missing, raise a ModuleNotFoundError with the remedy."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'{error}: install it with pip install "trioflow[dask]"', name=error.name
        ) from None
