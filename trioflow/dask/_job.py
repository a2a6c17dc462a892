"""`DaskJob`: a plain function, called by a Dask cluster, where its result stays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final, Unpack

from ..abc import FunctionJob, JobOptions, Look, call_of, flag, run_of, shown
from ._calls import call_there
from ._library import imported
from ._results import Futures


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
        run, client = run_of(self), self._client_now()
        call = call_of(self, partial(run.shared(Futures).given, client))
        own = {"resources": self._resources, "workers": self._workers}
        future, value = await call_there(self, client, call, lambda: self._gather, **own)
        return value if self._gather else future

    def _client_now(self) -> Any:
        return self._client if self._client is not None else imported("distributed").get_client()
