"""The call of a job on a Dask cluster: its submission, start, end and cancellation, and the fetch of its value."""

from __future__ import annotations

import contextlib
import functools
import importlib
import itertools
import os
import pickle
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import anyio.to_thread

from .._scheduler import Scheduler
from ..abc import FunctionJob, ThreadEvent, carried, ranks_of, run_of
from ..jobs import _pickling
from ..jobs._env_propagation import with_variables

if TYPE_CHECKING:
    from ..abc import AbstractJob, RunHandle

    AnyJob = AbstractJob[Any]

CANCEL_TIMEOUT: Final = 2.0
"""Seconds to wait for the cluster to confirm that a call is cancelled."""
WORKER_PATIENCE: Final = 5.0
"""Seconds before a cluster without workers is reported: an adaptive cluster takes a moment to start some."""
NOT_FETCHED: Final = object()
"""A sentinel for a value that was not fetched."""


async def call_on_cluster(
    job: FunctionJob[Any], client: Any, call: partial[Any], fetches: Callable[[], bool], **own: Any
) -> tuple[Any, Any]:
    """Make the call of a job on a cluster.

    Returns:
        Dask's future, and the value if `fetches()` is true at the end of the call, else `NOT_FETCHED`.

    """
    run, started, ended = run_of(job), ThreadEvent(), ThreadEvent()
    address = address_of(client)
    starts, is_timed = run.shared(StartEvents), not job.timeout is job.idle_timeout is None
    if client.status != "running":
        raise lost_cluster(job, client, address)
    number, since = starts.expect(client, job, started), run.clock()
    future = _submit(
        job, client, call, (starts.topic, number), {**own, "priority": run.shared(Priorities).priority(job)}
    )

    def wake(_: object) -> None:
        starts.forget(number)
        started.set()
        ended.set()

    future.add_done_callback(wake)
    try:
        if client.status != "running":  # the future may never settle
            raise lost_cluster(job, client, address)
        if own.get("resources") or own.get("workers"):
            await starts.report_if_nowhere(job, client, own["resources"] or {}, own["workers"])
        elif starts.is_first(client) and not await started.wait(run.clock() + WORKER_PATIENCE):
            await starts.report_if_nowhere(job, client, {}, None)
        if is_timed:
            await started.wait()
    except BaseException:
        await _cancel(future, run)
        raise
    with run.time_limit(job, cancels=True):
        try:
            await ended.wait()
        except BaseException:
            await _cancel(future, run)
            raise
        await starts.note_queue(job, client, number, since)
        if future.status == "error":
            raise _add_remedy(await anyio.to_thread.run_sync(future.exception), job, call)
        if future.status != "finished":
            if client.status != "running":
                raise lost_cluster(job, client, address)
            raise RuntimeError(
                f"{job.label!r}: its future is {future.status}: another client has cancelled it, or the Dask scheduler "
                f"at {address} has been lost and is there again"
            )
        return future, await run.shared(Fetches).fetch(client, future) if fetches() else NOT_FETCHED


def _submit(job: FunctionJob[Any], client: Any, call: partial[Any], event: tuple[str, int], own: dict[str, Any]) -> Any:
    """Submit a call; the function is unpickled on the worker only, so that an error there fails the call."""
    name = getattr(call.func, "__name__", "call")
    try:
        variables = carried()
        function = import_dask("cloudpickle").dumps(
            with_variables(call.func, dict(variables)) if variables else call.func
        )
        own |= {"key": f"{name}-{os.urandom(16).hex()}", "pure": False}
        return client.submit(_worker_function(), function, event, call.keywords, *call.args, **own)
    except Exception as error:
        make_pickler = _pickling.cloudpickle_pickler()
        if make_pickler is None or _pickling.can_be_sent(call, make_pickler):
            raise
        what = _pickling.describe_unpicklable(call, "a worker of the Dask cluster", make_pickler)
        raise TypeError(f"{job.label!r}: {what}: {error.__cause__ or error}") from error


async def _cancel(future: Any, run: RunHandle) -> None:
    async def cancel() -> bool:
        with anyio.move_on_after(CANCEL_TIMEOUT):
            await anyio.to_thread.run_sync(future.cancel, abandon_on_cancel=True)
        return True

    with contextlib.suppress(Exception):  # the cluster is gone
        await run.outlast(cancel)


def address_of(client: Any) -> str:
    """Return the address of the scheduler of a cluster, if its client knows it."""
    return str(getattr(client.scheduler, "address", "an unknown address"))


def lost_cluster(job: AnyJob, client: Any, address: str) -> RuntimeError:
    """Return the error for a cluster that cannot be reached."""
    if client.status in ("closed", "closing"):
        return RuntimeError(f"{job.label!r}: its Dask client is closed: close it after the run")
    return RuntimeError(
        f"{job.label!r}: the connection to the Dask scheduler at {address} is lost: it has ended, or cannot be reached "
        f"any more; start it again, and then the run"
    )


LOAD_ERROR_PREFIX: Final = "Error during deserialization of the task graph"
"""The prefix of Dask's error if its scheduler cannot load a call because a module is missing."""


def _add_remedy(error: BaseException, job: FunctionJob[Any], call: partial[Any]) -> BaseException:
    """Return the error of a call, with a note on the remedy if the cluster could not load the call."""
    if isinstance(error, ModuleNotFoundError) or str(error).startswith(LOAD_ERROR_PREFIX):
        module = getattr(error, "name", None) or getattr(call.func, "__module__", None) or "its modules"
        error.add_note(
            f"{job.label!r}: the scheduler and the workers of the cluster have to import {module}: install it there, "
            f"or write client.upload_file(...), or cloudpickle.register_pickle_by_value({module}) before the run"
        )
    return error


class PickledFunction:
    """A function that is pickled by value, once for all calls, so that workers need not have trioflow.

    Args:
        function: not importable by name, and independent of the globals of its module.

    """

    __name__ = "call"

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function: Final = function
        self._pickle: Final[bytes] = import_dask("cloudpickle").dumps(function)

    def __reduce__(self) -> Any:
        """Unpickle as the function itself."""
        return pickle.loads, (self._pickle,)

    def __call__(self, *args: Any) -> Any:
        """Call the function, in a worker that is a thread of this program."""
        return self._function(*args)


@functools.cache
def _worker_function() -> PickledFunction:
    """Return the function for workers: it loads the function of a job, reports the start, and calls it."""

    def there(function: bytes, event: tuple[str, int], kwargs: dict[str, Any], *args: Any) -> Any:
        import pickle
        import sys
        import threading
        import time

        from distributed import get_worker

        topic, number = event
        worker: Any = get_worker()

        class Call:
            """The result of `current_job()` on a worker."""

            next = 0.0

            def progress(self, fraction: float | None = None) -> None:
                now = time.monotonic()
                if now >= self.next or fraction == 1:
                    self.next = now + 0.01
                    worker.log_event(topic, (number, None if fraction is None else float(fraction)))

            def __getattr__(self, name: str) -> Any:
                raise AttributeError(
                    f"current_job().{name}: on a cluster, current_job() can only report progress(); "
                    f"give the function what it needs as arguments, or use a ThreadJob"
                )

        class Elsewhere:
            """The current call of each thread of the worker, which `current_job()` finds in `sys.modules`."""

            def __init__(self) -> None:
                self.calls = threading.local()

            @property
            def current(self) -> Any:
                return getattr(self.calls, "call", None)

        modules: Any = sys.modules
        calls = modules.setdefault("trioflow: where a job is called elsewhere", Elsewhere()).calls
        worker.log_event(topic, (number, "begun"))
        loaded = pickle.loads(function)
        calls.call = Call()
        try:
            return loaded(*args, **kwargs)
        finally:
            calls.call = None

    return PickledFunction(there)


class StartEvents:
    """The starts and the progress of a run's calls, from workers' events; reports calls that no worker can take."""

    def __init__(self, run: RunHandle) -> None:
        self.topic: Final = f"trioflow-{os.urandom(8).hex()}"
        self._run: Final = run
        self._numbers: Final = itertools.count()
        self._calls: Final[dict[int, tuple[AnyJob, ThreadEvent]]] = {}
        self._clients: Final[set[Any]] = set()
        self._reported: Final[set[str]] = set()
        self._used: Final[set[Any]] = set()
        self._begun: Final[dict[int, float]] = {}  # start times by number, on the clock of this machine
        self._threads: Final[dict[Any, int]] = {}

    def is_first(self, client: Any) -> bool:
        """Return whether this is the first call of the run on the cluster of a client."""
        is_first = client not in self._used
        self._used.add(client)
        return is_first

    def expect(self, client: Any, job: AnyJob, started: ThreadEvent) -> int:
        """Subscribe to the start and the progress of a job's call; `started` is set at the start. Return its number."""
        if client not in self._clients:
            self._clients.add(client)
            client.subscribe_topic(self.topic, self._record_event)
        number = next(self._numbers)
        self._calls[number] = job, started
        return number

    def forget(self, number: int) -> None:
        """Ignore further events of a call."""
        self._calls.pop(number, None)

    def _record_event(self, event: tuple[float, tuple[int, Any]]) -> None:
        """Record an event of a worker; the call may have ended, or been restarted after the loss of a worker."""
        number, progress = event[1]
        job, started = self._calls.get(number, (None, None))
        if job is None or started is None:
            return
        self._begun.setdefault(number, time.monotonic())
        started.set()
        if progress != "begun":
            with contextlib.suppress(RuntimeError):  # it has just ended
                job.progress(progress)

    async def note_queue(self, job: AnyJob, client: Any, number: int, since: float) -> None:
        """Record how long a finished call was in the cluster's queue, and the number of the cluster's threads."""
        begun = self._begun.pop(number, None)
        if begun is not None:
            self._run.note_hold(job, since, max(since, self._run.clock() - (time.monotonic() - begun)))
        if client not in self._threads:
            self._threads[client] = 0
            with contextlib.suppress(Exception):  # the cluster is gone
                threads = await anyio.to_thread.run_sync(client.nthreads, abandon_on_cancel=True)
                self._threads[client] = sum(threads.values())
        if self._threads[client]:
            self._run.note_room(job, address_of(client), self._threads[client])

    async def report_if_nowhere(
        self, job: AnyJob, client: Any, resources: Mapping[str, float], workers: str | list[str] | None
    ) -> None:
        """Report, once for each demand, that a job waits because the cluster has no worker for it."""
        info = await anyio.to_thread.run_sync(client.scheduler_info, abandon_on_cancel=True)
        names = [workers] if isinstance(workers, str) else workers
        for address, worker in info["workers"].items():
            is_named = not names or {address, worker["name"], worker["host"]} & set(names)
            if is_named and all(worker["resources"].get(name, 0) >= amount for name, amount in resources.items()):
                return
        wanted = [f"with {name}={amount:g}" for name, amount in resources.items()]
        wanted += [f"named {' or '.join(map(str, names))}"] if names else []
        demand = " and ".join(wanted) or "at all"
        if demand not in self._reported:
            self._reported.add(demand)
            advice = "start one, or cancel the job (reported once)"
            self._run.report(f"{job.label!r} waits: the cluster has no worker {demand}; {advice}", job)

    async def close(self) -> None:
        """Unsubscribe from the events."""
        for client in self._clients:
            with contextlib.suppress(Exception):  # the cluster is gone
                client.unsubscribe_topic(self.topic)


class Priorities:
    """The priorities of a run's jobs: the seconds of the longest path from each job to the end."""

    def __init__(self, _: RunHandle) -> None:
        self._path_lengths: Final[dict[Scheduler, dict[AnyJob, float]]] = {}

    def priority(self, job: AnyJob) -> float:
        """Return the priority of a job in its scheduler; 0 if the job was added after the priorities were computed."""
        scheduler = job.scheduler
        if scheduler is None:  # another job has called it
            return 0
        if scheduler not in self._path_lengths:
            self._path_lengths[scheduler] = ranks_of(scheduler)
        return self._path_lengths[scheduler].get(job, 0.0)

    async def close(self) -> None:
        """Do nothing: no cleanup is needed."""


class Fetches:
    """Batched fetches of values: requests made during one transfer go into the next."""

    def __init__(self, _: RunHandle) -> None:
        self._lock: Final = threading.Lock()
        self._asked: Final[dict[Any, list[tuple[Any, Answer]]]] = {}  # requests by client, while its loop fetches

    async def fetch(self, client: Any, future: Any) -> Any:
        """Return the value of a finished future."""
        answer = Answer()
        with self._lock:
            begins = client not in self._asked
            self._asked.setdefault(client, []).append((future, answer))
        if begins:
            client.loop.add_callback(self._gather, client)
        return await answer.get()

    async def _gather(self, client: Any) -> None:
        """Fetch the requested values in batches, in the event loop of the client."""
        while True:
            with self._lock:
                batch, self._asked[client] = self._asked[client], []
                if not batch:
                    del self._asked[client]
                    return
            try:
                values = await client.gather([future for future, _ in batch], asynchronous=True)
            except Exception:  # one bad future fails the batch: fetch each alone
                for future, answer in batch:
                    try:
                        answer.give(value=await client.gather(future, asynchronous=True))
                    except Exception as error:
                        answer.give(error=error)
            else:
                for (_, answer), value in zip(batch, values, strict=True):
                    answer.give(value=value)

    async def close(self) -> None:
        """Do nothing: no cleanup is needed."""


class Answer:
    """A value or an error that another thread provides."""

    def __init__(self) -> None:
        self._given: Final = ThreadEvent()
        self._value: Any = None
        self._error: BaseException | None = None

    def give(self, value: Any = None, error: BaseException | None = None) -> None:
        """Set the value or the error, and wake the waiting task."""
        self._value, self._error = value, error
        self._given.set()

    async def get(self) -> Any:
        """Wait for the value; raise the error if that was set."""
        await self._given.wait()
        if self._error is not None:
            raise self._error
        return self._value


def import_dask(name: str) -> ModuleType:
    """Import a module of Dask on demand; if it is missing, the ModuleNotFoundError has the remedy."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f'{error}: install it with pip install "trioflow[dask]"', name=error.name) from None
