"""`get`: Dask's graphs, each task a job."""

from __future__ import annotations

import graphlib
import os
import threading
from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from .. import AbstractJob, JobState, Scheduler, ThreadJob
from ..abc import Instrument, loop_running
from ._library import imported

if TYPE_CHECKING:
    from ..abc import BackendName

    AnyJob = AbstractJob[Any]


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
    dask = imported("dask")
    if not isinstance(dsk, Mapping):
        dsk = dsk.__dask_graph__()
    graph: Mapping[Any, Any] = imported("dask._task_spec").convert_legacy_graph(dsk)
    workers = num_workers or dask.config.get("num_workers", None) or os.cpu_count() or 1
    local = imported("dask.callbacks")
    with local.local_callbacks(None) as callbacks:
        computation = _Computation(graph, set(_flat(keys)), list(callbacks or ()))
        computation.run(workers, backend, instruments)
    return imported("dask.local").nested_get(keys, computation.values)


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
        place = imported("dask.order").order({key: self._graph[key] for key in needed})
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
