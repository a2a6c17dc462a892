"""The call of a job on a Dask cluster, from its submission to the fetch of its value or its cancellation."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import pickle
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import anyio.to_thread

from .. import Scheduler
from ..abc import AbstractJob, FunctionJob, RunHandle, ThreadEvent, propagated_env, ranks_of, run_of
from ..jobs import _pickling
from ..jobs._env_propagation import wrap_with_variables

if TYPE_CHECKING:
    AnyJob = AbstractJob[Any]

CANCEL_TIMEOUT: Final = 2.0
"""The maximum time, in seconds, to wait for the cluster to confirm the cancellation of a call."""
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
    run, ended_event = run_of(job), ThreadEvent()
    address = scheduler_address(client)
    options = {"resources": resources or None, "workers": workers or None, "priority": _get_priority(job, run)}
    if client.status != "running":
        raise lost_cluster_error(job, client, address)

    def mark_ended(_: object) -> None:
        ended_event.set()

    with run.time_limit(job, cancels=True):
        future = _submit_call(job, client, call, options)
        future.add_done_callback(mark_ended)
        try:
            if client.status != "running":  # in this case, the future might never be done
                raise lost_cluster_error(job, client, address)
            await ended_event.wait()
        except BaseException:
            await _cancel_call(future, run)
            raise
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


def _submit_call(job: FunctionJob[Any], client: Any, call: partial[Any], options: dict[str, Any]) -> Any:
    """Submit a call, and return its future.

    Raises:
        TypeError: the function or an argument cannot be pickled.

    """
    name, variables = getattr(call.func, "__name__", "call"), propagated_env()
    try:
        function = wrap_with_variables(call.func, dict(variables)) if variables else call.func
        pickled = import_dask("cloudpickle").dumps(function)  # by value, if it cannot be imported by name
        key = f"{name}-{os.urandom(16).hex()}"
        return client.submit(_worker_function(), pickled, call.keywords, *call.args, key=key, pure=False, **options)
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
    """A function that is pickled by value, once for all calls. Workers then do not need trioflow."""

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
    """Return the function that workers call, which unpickles and calls the function of a job."""

    def load_and_call(pickled_function: bytes, kwargs: dict[str, Any], *args: Any) -> Any:
        import pickle

        return pickle.loads(pickled_function)(*args, **kwargs)

    return PickledFunction(load_and_call)


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
