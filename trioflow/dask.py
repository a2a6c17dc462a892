"""Dask in both directions: jobs whose work and results stay on a Dask cluster, and Dask's graphs run by trioflow.

It needs the extra `dask`: `pip install "trioflow[dask]"`. Dask is imported when it is first used.
"""

from __future__ import annotations

import contextlib
import graphlib
import itertools
import os
import threading
from collections.abc import Callable, Hashable, Iterable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, Unpack

import anyio.to_thread

from . import AbstractJob, JobState, Scheduler, ThreadJob
from .abc import (
    FunctionJob,
    Instrument,
    JobOptions,
    Look,
    ThreadEvent,
    call_of,
    flag,
    loop_running,
    ranks_of,
    run_of,
    shown,
)

if TYPE_CHECKING:
    from .abc import BackendName, RunHandle

    AnyJob = AbstractJob[Any]

CANCELLING: Final = 2.0
"""Seconds that the cluster may take to answer that a call is cancelled; nobody waits for it any longer."""


def _imported(name: str) -> ModuleType:
    """Import a module of Dask's."""
    import importlib

    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f'{error}: install it with pip install "trioflow[dask]"', name=error.name) from None


# ---- jobs on a cluster


class DaskJob(
    FunctionJob[Any], look=Look("call on a Dask cluster", "tab", place=3), calls_in="a Dask cluster", keeps_time=True
):
    """A plain function with its arguments, called by a Dask cluster, where its result stays.

    Its result here is Dask's future, not the value. As an argument of another DaskJob it stands for the value: that
    goes from worker to worker, or stays where it is, and never comes here. For other jobs, `future.result()` fetches
    it. The value is kept on the cluster as long as the job keeps its result.

    The cluster starts first what most work waits for: the longest path of jobs to the end, by their expected durations.
    The work of a worker that is lost, and the values that it had, are made again by the others. A call that runs on a
    worker cannot be interrupted: when the job is cancelled or its time is over, it settles at once, and what the call
    returns is dropped.

    Args:
        function: a plain function; Dask sends it by cloudpickle.
        args: positional arguments of the call; jobs among them are filled in, see `Job`.
        client: the `distributed.Client` of the cluster; None for the one that Dask itself would take, the last one that
            was made.
        kwargs: keyword arguments of the call, jobs among them as well.
        gather: fetches the value, which is the job's result then.
        resources: what the call needs of a worker, such as {"GPU": 1}. If no worker has it, the log says so once, and
            the job waits until one joins.
        workers: the workers that may run it: an address, a name, or several; None for all. The same holds for them.
        options: those of every job; see `AbstractJob`. A timeout counts from the start of the call on a worker: the
            time in the cluster's queue does not count, that of fetching the value does.

    Raises:
        TypeError: an async function, something not callable, or no client.
        ValueError: an option out of its range; from the job itself: there is no client.
        ModuleNotFoundError: from the job itself: Dask is not installed.
        RuntimeError: from the job itself: the cluster was lost, or the call was cancelled by others.

    """

    __slots__ = ("_client", "_gather", "_resources", "_workers")

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
            raise TypeError(f"client={shown(client)} of DaskJob: give a distributed.Client, or None")
        self._client: Final = client
        self._gather: Final = flag(gather, "gather", "DaskJob()")
        if resources is not None and not isinstance(resources, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"resources={shown(resources)} of DaskJob(): give a dict of names and amounts, or None")
        self._resources: Final = None if resources is None else dict(resources)
        given: Any = workers
        if given is not None and (isinstance(given, bytes) or not isinstance(given, Iterable)):
            raise TypeError(f"workers={shown(workers)} of DaskJob(): give the addresses of workers, or None")
        self._workers: Final = workers if workers is None or isinstance(workers, str) else list(workers)
        super().__init__(function, args, kwargs, options)

    async def co_run(self) -> Any:
        """Submit the call, and wait until it has ended.

        Raises:
            BaseException: what the function raised.
            RuntimeError: the cluster was lost, or no run has called this.

        """
        run, started, ended = run_of(self), ThreadEvent(), ThreadEvent()
        client = self._client if self._client is not None else _imported("distributed").get_client()
        starts = run.shared(_Starts)
        if self.timeout is self.idle_timeout is None:
            started.set()
            future = self._submit(client, run.shared(_Priorities).of(self), None)
        else:
            future = self._submit(client, run.shared(_Priorities).of(self), starts.expect(client, started))

        def wake(_: object) -> None:
            started.set()
            ended.set()

        future.add_done_callback(wake)
        try:
            if self._resources or self._workers:
                await starts.report_if_nowhere(self, client, self._resources or {}, self._workers)
            await started.wait()
        except BaseException:
            await self._cancel(future, run)
            raise
        with run.time_limit(self, cancels=True):
            try:
                await ended.wait()
            except BaseException:
                await self._cancel(future, run)
                raise
            return await self._outcome_of(future, client)

    def _submit(self, client: Any, priority: float, place: tuple[str, int] | None) -> Any:
        call = call_of(self)
        own = {"resources": self._resources, "workers": self._workers, "priority": priority, "pure": False}
        function = call.func if place is None else _telling(call.func, *place)
        if not call.keywords:
            return client.submit(function, *call.args, **own)
        return client.submit(_called, function, call.args, call.keywords, **own)

    async def _cancel(self, future: Any, run: RunHandle) -> None:
        async def cancel() -> bool:
            with anyio.move_on_after(CANCELLING):
                await anyio.to_thread.run_sync(future.cancel, abandon_on_cancel=True)
            return True

        with contextlib.suppress(Exception):  # the cluster is gone
            await run.outlast(cancel)

    async def _outcome_of(self, future: Any, client: Any) -> Any:
        if future.status == "finished":
            if not self._gather:
                return future
            return await anyio.to_thread.run_sync(client.gather, future, abandon_on_cancel=True)
        if future.status != "error":
            raise RuntimeError(
                f"{self.label!r}: its future is {future.status}: somebody else has cancelled it, or the cluster is gone"
            )
        raise await anyio.to_thread.run_sync(future.exception)


def _called(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a function with keyword arguments, lest they be taken for those of `submit`."""
    return function(*args, **kwargs)


def _telling(function: Callable[..., Any], topic: str, number: int) -> Callable[..., Any]:
    """Return a function that tells that it has started, and does what another one does.

    It stands in no module by its name, so it is sent as it is: workers need not have trioflow.
    """

    def telling(*args: Any, **kwargs: Any) -> Any:
        from distributed import get_worker

        get_worker().log_event(topic, number)
        return function(*args, **kwargs)

    telling.__name__ = getattr(function, "__name__", "call")  # Dask shows it
    return telling


class _Starts:
    """The calls of a run that have started on workers, which tell it by events; and those that no worker can take."""

    def __init__(self, run: RunHandle) -> None:
        self._run: Final = run
        self._topic: Final = f"trioflow-{os.urandom(8).hex()}"
        self._numbers: Final = itertools.count()
        self._waiting: Final[dict[int, ThreadEvent]] = {}
        self._clients: Final[set[Any]] = set()
        self._reported: Final[set[str]] = set()

    def expect(self, client: Any, started: ThreadEvent) -> tuple[str, int]:
        """Have an event set when a call starts; return by what it is told."""
        if client not in self._clients:
            self._clients.add(client)
            client.subscribe_topic(self._topic, self._note)
        number = next(self._numbers)
        self._waiting[number] = started
        return self._topic, number

    def _note(self, event: tuple[float, int]) -> None:
        started = self._waiting.pop(event[1], None)  # None: a call that was begun again, as its worker was lost
        if started is not None:
            started.set()

    async def report_if_nowhere(
        self, job: AnyJob, client: Any, resources: Mapping[str, float], workers: str | list[str] | None
    ) -> None:
        """Tell people, once for each demand, that the cluster has no worker for a job, which waits for one."""
        found = await anyio.to_thread.run_sync(client.scheduler_info, abandon_on_cancel=True)
        names = [workers] if isinstance(workers, str) else workers
        for address, worker in found["workers"].items():
            is_named = not names or {address, worker["name"], worker["host"]} & set(names)
            if is_named and all(worker["resources"].get(name, 0) >= amount for name, amount in resources.items()):
                return
        wanted = [f"with {name}={amount:g}" for name, amount in resources.items()]
        wanted += [f"named {' or '.join(map(str, names))}"] if names else []
        demand = " and ".join(wanted)
        if demand not in self._reported:
            self._reported.add(demand)
            advice = "start one, or cancel the job (reported once)"
            self._run.report(f"{job.label!r} waits: the cluster has no worker {demand}; {advice}", job)

    async def close(self) -> None:
        """Hear no more of them."""
        for client in self._clients:
            with contextlib.suppress(Exception):  # the cluster is gone
                client.unsubscribe_topic(self._topic)


class _Priorities:
    """How urgent the jobs of the schedulers of a run are: by the seconds of the longest path from each to the end."""

    def __init__(self, _: RunHandle) -> None:
        self._of: Final[dict[Scheduler, dict[AnyJob, float]]] = {}

    def of(self, job: AnyJob) -> float:
        """Return the priority of a job in its scheduler; 0 for those that were added since the run began."""
        scheduler = job.scheduler
        if scheduler is None:  # another job has called it
            return 0
        if scheduler not in self._of:
            self._of[scheduler] = ranks_of(scheduler)
        return self._of[scheduler].get(job, 0.0)

    async def close(self) -> None:
        """Nothing is left to do."""


# ---- Dask's graphs


def get(
    dsk: Any,
    keys: Any,
    *,
    num_workers: int | None = None,
    backend: BackendName = "trio",
    instruments: Iterable[Instrument] = (),
    **_: Any,
) -> Any:
    """Compute keys of a Dask graph, each of its tasks a job of a Scheduler that runs in a thread.

    It is a scheduler for Dask: `x.compute(scheduler=trioflow.dask.get)`, or
    `dask.config.set(scheduler=trioflow.dask.get)`. Dask's callbacks, such as its progress bar, see it at work, and so
    do trioflow's instruments. Values are dropped as soon as no task needs them any more. Tasks start in Dask's own
    order, as far as they are ready.

    Args:
        dsk: the graph.
        keys: a key, or a list of keys, lists among them at any depth.
        num_workers: how many tasks at once, 1 or more; None for what Dask is configured to, or the number of CPUs.
        backend: "trio" or "asyncio": the event loop of the run.
        instruments: what watches the run, such as a `Monitor` or a `Trace`.

    Returns:
        The value of the key, or for lists of keys tuples of values.

    Raises:
        KeyError: the graph has no such key.
        BaseException: what the first task that failed has raised.

    """
    dask = _imported("dask")
    if not isinstance(dsk, Mapping):
        dsk = dsk.__dask_graph__()
    graph: Mapping[Any, Any] = _imported("dask._task_spec").convert_legacy_graph(dsk)
    workers = num_workers or dask.config.get("num_workers", None) or os.cpu_count() or 1
    local = _imported("dask.callbacks")
    with local.local_callbacks(None) as callbacks:
        computation = _Computation(graph, set(_flat(keys)), list(callbacks or ()))
        computation.run(workers, backend, instruments)
    return _imported("dask.local").nested_get(keys, computation.values)


class _Computation(Instrument):
    """One computation of some keys of a graph."""

    def __init__(self, graph: Mapping[Any, Any], wanted: set[Hashable], callbacks: list[Any]) -> None:
        self.values: Final[dict[Hashable, Any]] = {}  # of the keys that are wanted
        self._graph: Final = graph
        self._wanted: Final = wanted
        self._callbacks: Final = callbacks
        self._jobs: Final[dict[Hashable, ThreadJob[Any]]] = {}
        self._keys: Final[dict[AnyJob, Hashable]] = {}
        # What Dask's callbacks look at: its own names.
        self._progress: Final[dict[str, Any]] = {
            **{name: set[Any]() for name in ("ready", "running", "finished", "released")},
            **{name: dict[Any, Any]() for name in ("waiting", "dependencies", "dependents")},
            "cache": self.values,
        }

    def run(self, workers: int, backend: BackendName, instruments: Iterable[Instrument]) -> None:
        """Compute all keys, and raise what goes wrong."""
        for key in self._in_order():
            self._add(key)
        watching = (*((self,) if self._callbacks else ()), *instruments)
        scheduler = Scheduler(
            self._jobs.values(), label="Dask graph", jobs_window=workers, critical_jobs=True, instruments=watching
        )
        begun: list[Any] = []
        succeeded = False
        try:
            for callback in self._callbacks:
                if callback[0]:
                    callback[0](self._graph)
                begun.append(callback)
            self._progress["waiting"] = dict(self._jobs)
            self._call_back(1, self._graph, self._progress)
            _run_outside_of_loops(scheduler, backend)
            culprit = scheduler.culprit
            if culprit is not None and (error := culprit.raised_exception()) is not None:
                raise error
            for key in self._wanted:
                self.values[key] = self._jobs[key].result()
            succeeded = True
        finally:
            for callback in begun:
                if callback[4]:
                    callback[4](self._graph, self._progress, not succeeded)

    def _in_order(self) -> list[Hashable]:
        """Return the keys that are needed, each behind those that it needs, otherwise in Dask's order.

        Raises:
            KeyError: a key that is wanted, or needed, is not there.

        """
        needed: dict[Hashable, None] = {}
        todo = list(self._wanted)
        while todo:
            key = todo.pop()
            if key not in needed:
                needed[key] = None
                todo += self._graph[key].dependencies
        place = _imported("dask.order").order({key: self._graph[key] for key in needed})
        sorter = graphlib.TopologicalSorter({key: self._graph[key].dependencies for key in needed})
        sorter.prepare()
        found: list[Hashable] = []
        while sorter.is_active():
            ready = sorted(sorter.get_ready(), key=place.__getitem__)
            found += ready
            sorter.done(*ready)
        return found

    def _add(self, key: Hashable) -> None:
        task = self._graph[key]
        names = list(task.dependencies)
        job: ThreadJob[Any] = ThreadJob(
            _compute,
            task,
            names,
            *(self._jobs[name] for name in names),
            label=str(key),
            keep_result=key in self._wanted,
        )
        self._jobs[key], self._keys[job] = job, key

    # ---- as an instrument: for Dask's callbacks

    def job_started(self, scheduler: Scheduler, job: AnyJob) -> None:
        """Tell Dask's callbacks that a task runs."""
        key = self._keys[job]
        self._progress["waiting"].pop(key, None)
        self._progress["running"].add(key)
        self._call_back(2, key, self._graph, self._progress)

    def job_finished(self, scheduler: Scheduler, job: AnyJob) -> None:
        """Tell Dask's callbacks that a task has ended."""
        key = self._keys[job]
        self._progress["running"].discard(key)
        if job.state is JobState.SUCCEEDED:
            self._progress["finished"].add(key)
            self._call_back(3, key, job.result(), self._graph, self._progress, threading.get_ident())

    def _call_back(self, number: int, *args: Any) -> None:
        for callback in self._callbacks:
            if callback[number]:
                callback[number](*args)


def _compute(task: Any, names: list[Hashable], *values: Any) -> Any:
    """Compute one task."""
    return task(dict(zip(names, values, strict=True)))


def _flat(keys: Any) -> Iterable[Hashable]:
    todo = [keys]
    while todo:
        one = todo.pop()
        if isinstance(one, list):
            todo += one  # pyright: ignore[reportUnknownArgumentType]
        else:
            yield one


def _run_outside_of_loops(scheduler: Scheduler, backend: BackendName) -> None:
    """Run a scheduler from plain code, even if that is called by an event loop, which waits."""
    if not loop_running():
        scheduler.run(backend=backend)
        return
    raised: list[BaseException] = []

    def run() -> None:
        try:
            scheduler.run(backend=backend)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, name="trioflow.dask")
    thread.start()
    thread.join()
    if raised:
        raise raised[0]
