"""`Service`: a forever job that says when it is ready, and may be required by others from then on."""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, Unpack, overload

from . import _labels
from ._arguments import Search
from ._checks import repeats
from ._jobs import AbstractJob, T
from ._options import JobOptions
from ._outcomes import not_awaitable
from ._rules import release_inputs

if TYPE_CHECKING:
    import anyio.abc

    from ._run import Run

T_co = TypeVar("T_co", covariant=True)


# For type checkers alone: what a service's result is, from the annotation `task_status: anyio.abc.TaskStatus[T]`. No
# type says "whatever the other parameters are, the one called task_status is this", so they are counted.
class Serves0(Protocol[T_co]):
    """A service's function with no positional parameters."""

    def __call__(self, *, task_status: anyio.abc.TaskStatus[T_co]) -> Awaitable[Any]:
        """Serve."""
        ...


class Serves1(Protocol[T_co]):
    """A service's function with one positional parameter."""

    def __call__(self, a: Any, /, *, task_status: anyio.abc.TaskStatus[T_co]) -> Awaitable[Any]:
        """Serve."""
        ...


class Serves2(Protocol[T_co]):
    """A service's function with two positional parameters."""

    def __call__(self, a: Any, b: Any, /, *, task_status: anyio.abc.TaskStatus[T_co]) -> Awaitable[Any]:
        """Serve."""
        ...


class Serves3(Protocol[T_co]):
    """A service's function with three positional parameters."""

    def __call__(self, a: Any, b: Any, c: Any, /, *, task_status: anyio.abc.TaskStatus[T_co]) -> Awaitable[Any]:
        """Serve."""
        ...


class TaskStatus(Generic[T]):
    """What a service's function gets as `task_status`."""

    __slots__ = ("_job", "_over", "_run")

    def __init__(self, job: Service[T], run: Run) -> None:
        """Stand for one call of the function."""
        self._job, self._run = job, run
        self._over = False  # the call has ended: it may stand among somebody's variables still

    def started(self, value: Any = None) -> None:
        """Say that the service is ready: those that require it may start, and `value` is its result.

        Raises:
            RuntimeError: it has said so before, or its call is over, or another thread.

        """
        if threading.get_ident() != self._run.thread:
            raise RuntimeError(f"task_status.started() of {self._job.label!r}: call it in the thread of the run")
        if self._over:
            raise RuntimeError(f"task_status.started() of {self._job.label!r}: that call of its function is over")
        if self._job._is_ready():
            raise RuntimeError(f"{self._job.label!r} has called task_status.started() before: once is enough")
        self._job._release_inputs()  # it is not called again
        self._run.service_ready(self._job, value)


class Service(AbstractJob[T]):
    """A job that runs for ever beside the others, and that others may require: a server, a connection, a pool.

    Its function is called with the keyword argument `task_status`, as in `nursery.start()` of trio and anyio. From
    `task_status.started(value)` on it counts as succeeded for those that require it, and `value` is its result;
    `timeout`, `retry` and `restarts` apply until then. When the run ends, services are cancelled after all other
    jobs, each after those that use it, and end SUCCEEDED.

    Args:
        function: an async function that takes `task_status`; called at each start. Annotated as
            `anyio.abc.TaskStatus[T]`, that tells type checkers what the service's result is.
        args: positional arguments of the call; jobs among them are filled in, see `Job`.
        kwargs: keyword arguments of the call, jobs as well.
        options: those of every job; see `AbstractJob`. `forever` is always True.

    Raises:
        TypeError: not an async callable, or one that takes no `task_status`.
        ValueError: an option out of its range.

    Example:
        >>> async def server(*, task_status):
        ...     task_status.started("address")
        ...     await anyio.sleep_forever()
        >>> async def client(address):
        ...     return f"connected to {address}"
        >>> service = Service(server)
        >>> job = Job(client, service)
        >>> Scheduler(service, job).run(), job.result()
        (True, 'connected to address')

    """

    __slots__ = ("_args", "_function")
    _is_service = True

    @overload
    def __init__(
        self,
        function: Serves0[T],
        /,
        *args: Any,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self,
        function: Serves1[T],
        /,
        *args: Any,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self,
        function: Serves2[T],
        /,
        *args: Any,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self,
        function: Serves3[T],
        /,
        *args: Any,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[JobOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Service[Any],
        function: Callable[..., Awaitable[Any]],
        /,
        *args: Any,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[JobOptions],
    ) -> None: ...
    def __init__(
        self,
        function: Callable[..., Awaitable[Any]],
        /,
        *args: Any,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[JobOptions],
    ) -> None:
        _check_function(function)
        search = Search(repr(options.get("label") or _labels.of_function("Service", function)))
        self._args = search.positional(args)
        self._function: Callable[..., Awaitable[Any]] = search.keywords(function, kwargs) if kwargs else function
        options["forever"] = True
        super().__init__(**options, _inputs=tuple(search.inputs))

    async def co_run(self) -> T:
        """Call the function, and take care that it says when it is ready."""
        assert self._worker is not None
        status = TaskStatus(self, self._worker.run)
        try:
            awaitable: object = functools.partial(self._function, task_status=status)(*self._args)
            if not repeats(self):
                self._release_inputs()
            if not inspect.isawaitable(awaitable):
                raise TypeError(not_awaitable(self.label, awaitable))
            await awaitable
        finally:
            status._over = True
        if not self._is_ready():
            raise RuntimeError(
                f"{self.label!r} returned without having called task_status.started(): "
                f"call it as soon as the service is ready"
            )
        return self.result()

    def _release_inputs(self) -> None:
        if self._rule is not None and self._rule.frees:
            release_inputs(self, self._rule)

    def _default_label(self) -> str:
        return _labels.of_function(type(self).__name__, self._function)


def _check_function(function: Any) -> None:
    name = getattr(function, "__qualname__", repr(function))
    if not callable(function):
        raise TypeError(f"Service({function!r}): give an async function that takes task_status")
    plain = inspect.unwrap(function) if inspect.isroutine(function) else function
    if inspect.isroutine(plain) and not inspect.iscoroutinefunction(plain) and plain.__name__ != "<lambda>":
        raise TypeError(f"Service({name}): this is not an async function; define it with async def")
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # no signature to be had; the call will tell
        return
    if "task_status" not in parameters and all(p.kind is not p.VAR_KEYWORD for p in parameters.values()):
        raise TypeError(
            f"Service({name}): it takes no task_status; write async def {getattr(function, '__name__', 'server')}"
            f"(..., *, task_status), and call task_status.started() when it is ready"
        )
