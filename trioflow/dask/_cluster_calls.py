"""The call of a job on a Dask cluster, from its submission to the fetch of its value or its cancellation."""

from __future__ import annotations

import contextlib
import functools
import importlib
import itertools
import os
import pickle
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import anyio.to_thread

from .._scheduler import Scheduler
from ..abc import AbstractJob, FunctionJob, RunHandle, ThreadEvent, propagated_env, ranks_of, run_of
from ..jobs import _pickling
from ..jobs._env_propagation import wrap_with_variables

if TYPE_CHECKING:
    AnyJob = AbstractJob[Any]

CANCEL_TIMEOUT: Final = 2.0
"""The maximum time, in seconds, to wait for the cluster to confirm the cancellation of a call."""
WORKER_TIMEOUT: Final = 5.0
"""How long, in seconds, to wait for a call to start before a lack of workers is reported: an adaptive cluster starts
its workers on demand. Also the time limit for querying the Python versions of the workers."""
NOT_FETCHED: Final = object()


async def call_on_cluster(
    job: FunctionJob[Any],
    client: Any,
    call: partial[Any],
    should_fetch: Callable[[], bool],
    resources: Mapping[str, float],
    workers: list[str],
) -> tuple[Any, Any]:
    """Make the call of a job on a cluster.

    Args:
        job: the job.
        client: the client of the cluster.
        call: the function and its arguments.
        should_fetch: a function that returns whether to fetch the value; called when the call has ended.
        resources: the resources that a suitable worker must have.
        workers: the names or addresses of the workers that may make the call; empty for all.

    Returns:
        Dask's future, and the value, or `NOT_FETCHED` if `should_fetch()` has returned False.

    Raises:
        BaseException: the function raised this exception.
        TypeError: the function or an argument cannot be pickled.
        RuntimeError: the cluster was lost, or another client has cancelled the call.

    """
    run, started_event, ended_event = run_of(job), ThreadEvent(), ThreadEvent()
    address = scheduler_address(client)
    call_events, has_timeout = run.shared(CallEvents), not job.timeout is job.idle_timeout is None
    if client.status != "running":
        raise lost_cluster_error(job, client, address)
    is_first_of_client, submitted_at = client not in call_events.subscribed_clients, run.clock()
    call_number = call_events.subscribe(client, job, started_event)
    submit_options = {"resources": resources or None, "workers": workers or None, "priority": _get_priority(job, run)}
    future = _submit_call(job, client, call, (call_events.topic, call_number), submit_options)

    def mark_ended(_: object) -> None:
        call_events.forget_call(call_number)
        started_event.set()
        ended_event.set()

    future.add_done_callback(mark_ended)
    try:
        if client.status != "running":  # in this case, the future might never be done
            raise lost_cluster_error(job, client, address)
        if resources or workers or (is_first_of_client and not await started_event.wait(run.clock() + WORKER_TIMEOUT)):
            await call_events.report_missing_workers(job, client, resources, workers)
        if has_timeout:
            await started_event.wait()
    except BaseException:
        await _cancel_call(future, run)
        raise
    with run.time_limit(job, cancels=True):
        try:
            await ended_event.wait()
        except BaseException:
            await _cancel_call(future, run)
            raise
        call_events.record_queue_time(job, call_number, submitted_at)
        if future.status == "error":
            raise _add_remedy(await anyio.to_thread.run_sync(future.exception), job, call)
        if future.status != "finished":
            if client.status != "running":
                raise lost_cluster_error(job, client, address)
            raise RuntimeError(
                f"{job.label!r}: its future is {future.status}: another client has cancelled it, or the Dask scheduler "
                f"at {address} was lost and has restarted"
            )
        return future, await _fetch_value(client, future) if should_fetch() else NOT_FETCHED


def _submit_call(
    job: FunctionJob[Any], client: Any, call: partial[Any], event_key: tuple[str, int], submit_options: dict[str, Any]
) -> Any:
    """Submit a call, and return its future.

    The call itself unpickles the function on the worker, which makes an error in unpickling an error of the call.
    """
    name = getattr(call.func, "__name__", "call")
    try:
        variables = propagated_env()
        pickled_function = import_dask("cloudpickle").dumps(
            wrap_with_variables(call.func, dict(variables)) if variables else call.func
        )
        submit_options |= {"key": f"{name}-{os.urandom(16).hex()}", "pure": False}
        return client.submit(
            _worker_function(), pickled_function, event_key, call.keywords, *call.args, **submit_options
        )
    except Exception as error:
        make_pickler = _pickling.cloudpickle_pickler()
        if make_pickler is None or _pickling.is_picklable(call, make_pickler):
            raise
        place, cause = "a worker of the Dask cluster", error.__cause__ or error
        raise _pickling.unpicklable_error(call, job, place, make_pickler, cause)  # noqa: B904 - it has its cause


async def _cancel_call(future: Any, run: RunHandle) -> None:
    async def cancel() -> bool:
        with anyio.move_on_after(CANCEL_TIMEOUT):
            await anyio.to_thread.run_sync(future.cancel, abandon_on_cancel=True)
        return True

    with contextlib.suppress(Exception):  # the connection to the cluster may be lost
        await run.outlast(cancel)


def scheduler_address(client: Any) -> str:
    """Return the address of a cluster's scheduler; "an unknown address" if the client does not know it."""
    return str(getattr(client.scheduler, "address", "an unknown address"))


def lost_cluster_error(job: AnyJob, client: Any, address: str) -> RuntimeError:
    """Return the error for a job whose cluster cannot be reached."""
    if client.status in ("closed", "closing"):
        return RuntimeError(f"{job.label!r}: its Dask client is closed: close it after the run")
    return RuntimeError(
        f"{job.label!r}: the connection to the Dask scheduler at {address} was lost: it has ended, or can no longer "
        f"be reached; restart it, and then start the run again"
    )


LOAD_ERROR_PREFIX: Final = "Error during deserialization of the task graph"
"""The start of Dask's error message if its scheduler cannot unpickle a call, e.g. because a module is missing."""


def _add_remedy(error: BaseException, job: FunctionJob[Any], call: partial[Any]) -> BaseException:
    """Return the error of a call, with a note about the remedy if the cluster could not load the call."""
    if isinstance(error, ModuleNotFoundError) or str(error).startswith(LOAD_ERROR_PREFIX):
        module = getattr(error, "name", None) or getattr(call.func, "__module__", None) or "its modules"
        error.add_note(
            f"{job.label!r}: the scheduler and the workers of the cluster must be able to import {module}: install it "
            f"there, or call client.upload_file(...) or cloudpickle.register_pickle_by_value({module}) before the run"
        )
    return error


class PickledFunction:
    """A function that is pickled by value, once for all calls. Workers then do not need trioflow.

    Args:
        function: a function that cannot be imported by name, and that uses no globals of its module.

    """

    __name__ = "call"

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function: Final = function
        self._pickled_function: Final[bytes] = import_dask("cloudpickle").dumps(function)

    def __reduce__(self) -> Any:
        """Pickle the object in a form that is unpickled as the function itself."""
        return pickle.loads, (self._pickled_function,)

    def __call__(self, *args: Any) -> Any:
        """Call the function. Only workers that are threads of this program do so: nothing is pickled for them."""
        return self._function(*args)


@functools.cache
def _worker_function() -> PickledFunction:
    """Return the function that workers call. It reports the start of a call, then unpickles and calls the function.

    Its argument `event_key` consists of the topic of the run's events and the number of the call.
    """

    def load_and_call(pickled_function: bytes, event_key: tuple[str, int], kwargs: dict[str, Any], *args: Any) -> Any:
        import pickle
        import sys
        import threading
        import time

        from distributed import get_worker

        topic, call_number = event_key
        worker: Any = get_worker()

        class RemoteCall:
            """The return value of `current_job()` on a worker, which can only report progress."""

            next_report_at = 0.0

            def progress(self, fraction: float | None = None) -> None:
                now = time.monotonic()
                if now >= self.next_report_at or fraction == 1:
                    self.next_report_at = now + 0.01
                    worker.log_event(topic, (call_number, None if fraction is None else float(fraction)))

            def __getattr__(self, name: str) -> Any:
                raise AttributeError(
                    f"current_job().{name}: on a cluster, current_job() can only report progress(); "
                    f"give the function what it needs as arguments, or use a ThreadJob"
                )

        class CurrentCalls:
            """The current call of each thread of the worker; `current_job()` finds this object in `sys.modules`."""

            def __init__(self) -> None:
                self.thread_local = threading.local()

            @property
            def current_call(self) -> Any:
                return getattr(self.thread_local, "call", None)

        modules: Any = sys.modules
        thread_local = modules.setdefault("trioflow: where a job is called elsewhere", CurrentCalls()).thread_local
        worker.log_event(topic, (call_number, "begun"))
        function = pickle.loads(pickled_function)
        thread_local.call = RemoteCall()
        try:
            return function(*args, **kwargs)
        finally:
            thread_local.call = None

    return PickledFunction(load_and_call)


class CallEvents:
    """The events by which workers report the starts and the progress of a run's calls.

    This object also reports, to the run, calls that wait because the cluster has no suitable worker.
    """

    def __init__(self, run: RunHandle) -> None:
        self.topic: Final = f"trioflow-{os.urandom(8).hex()}"
        self._run: Final = run
        self._call_numbers: Final = itertools.count()
        self._pending_calls: Final[dict[int, tuple[AnyJob, ThreadEvent]]] = {}
        self.subscribed_clients: Final[set[Any]] = set()
        self._reported_demands: Final[set[str]] = set()
        self._start_times: Final[dict[int, float]] = {}  # keyed by the number of the call, on this machine's clock

    def subscribe(self, client: Any, job: AnyJob, started_event: ThreadEvent) -> int:
        """Subscribe to the start and the progress of a job's call, and return the number of the call.

        Args:
            client: the client of the cluster.
            job: the job.
            started_event: the event to set when the start of the call is reported.

        """
        if client not in self.subscribed_clients:
            self.subscribed_clients.add(client)
            client.subscribe_topic(self.topic, self._record_event)
        call_number = next(self._call_numbers)
        self._pending_calls[call_number] = job, started_event
        return call_number

    def forget_call(self, call_number: int) -> None:
        self._pending_calls.pop(call_number, None)

    def _record_event(self, event: tuple[float, tuple[int, Any]]) -> None:
        """Record a worker's report on a call, unless the call has ended.

        If a worker is lost, its call is repeated, and reports another start. Only the first start is recorded.
        """
        call_number, progress = event[1]
        job, started_event = self._pending_calls.get(call_number, (None, None))
        if job is None or started_event is None:
            return
        self._start_times.setdefault(call_number, time.monotonic())
        started_event.set()
        if progress != "begun":
            with contextlib.suppress(RuntimeError):  # the job has just ended
                job.progress(progress)

    def record_queue_time(self, job: AnyJob, call_number: int, submitted_at: float) -> None:
        """Record how long a finished call waited in the cluster's queue.

        Args:
            job: the job.
            call_number: the number of the call.
            submitted_at: the time, on the run's clock, at which the call was submitted.

        """
        started_at = self._start_times.pop(call_number, None)
        if started_at is not None:
            self._run.record_machine_wait(
                job, submitted_at, max(submitted_at, self._run.clock() - (time.monotonic() - started_at))
            )

    async def report_missing_workers(
        self, job: AnyJob, client: Any, resources: Mapping[str, float], workers: list[str]
    ) -> None:
        """Report that a job waits, if the cluster has no suitable worker. Each unmet demand is reported only once.

        Args:
            job: the job.
            client: the client of the cluster.
            resources: the resources that a suitable worker must have.
            workers: the names or addresses of the workers that the job may use; empty for all.

        """
        info = await anyio.to_thread.run_sync(client.scheduler_info, abandon_on_cancel=True)
        for address, worker in info["workers"].items():
            is_named = not workers or {address, worker["name"], worker["host"]} & set(workers)
            if is_named and all(worker["resources"].get(name, 0) >= amount for name, amount in resources.items()):
                return
        demands = [f"with {name}={amount:g}" for name, amount in resources.items()]
        demands += [f"named {' or '.join(map(str, workers))}"] if workers else []
        demand = " and ".join(demands) or "at all"
        if demand not in self._reported_demands:
            self._reported_demands.add(demand)
            advice = "start one, or cancel the job (reported once)"
            self._run.report(f"{job.label!r} waits: the cluster has no worker {demand}; {advice}", job)

    async def close(self) -> None:
        for client in self.subscribed_clients:
            with contextlib.suppress(Exception):  # the connection to the cluster may be lost
                client.unsubscribe_topic(self.topic)


def path_seconds(_: RunHandle) -> dict[Scheduler, dict[AnyJob, float]]:
    """Return a cache of the durations of the longest paths to the end, by scheduler and by its member, for one run."""
    return {}


def _get_priority(job: AnyJob, run: RunHandle) -> float:
    """Return the duration, in seconds, of the longest path from a job to the end of its scheduler.

    It is 0 for a job that has no scheduler, because another job has called it, or that was added after the others.
    """
    scheduler, known = job.scheduler, run.shared(path_seconds)
    if scheduler is None:
        return 0
    if scheduler not in known:
        known[scheduler] = ranks_of(scheduler)
    return known[scheduler].get(job, 0.0)


async def _fetch_value(client: Any, future: Any) -> Any:
    """Return the value of a finished future, which the event loop of the client fetches."""
    value, fetched_event = Future[Any](), ThreadEvent()
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
    """Import a module of Dask on demand; if it is missing, raise a ModuleNotFoundError with the remedy."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f'{error}: install it with pip install "trioflow[dask]"', name=error.name) from None
