"""`Service`: a forever job that reports its readiness, so that other jobs may require it.

Decided in docs/decisions: 25-services.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    Protocol,
    TypeVar,
    Unpack,
    cast,
    overload,
)

from ..base._user_code import signature_of
from . import _errors
from ._function import FunctionJob, call_of, check_function, name_of
from ._job_options import BoxStyle, JobOptions

if TYPE_CHECKING:
    import anyio.abc
    import trio

    from ..run._run import Run

# Without a default: otherwise, mypy would not infer it from the annotation of task_status.
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
T_contra = TypeVar("T_contra", contravariant=True)


# For type checkers only. They infer the result of a service from the annotation of `task_status`, which is
# `trio.TaskStatus[T]` or `anyio.abc.TaskStatus[T]`. So the type of the argument inherits from both. No type can express
# "a function with any parameters, and a parameter task_status of this type"
# (https://peps.python.org/pep-0612/#concatenating-keyword-parameters). So there is a Protocol for each number of
# positional parameters.
if TYPE_CHECKING:

    class AnyTaskStatus(
        anyio.abc.TaskStatus[T_contra], trio.TaskStatus[T_contra], Protocol[T_contra]
    ):
        """The type of the argument `task_status`, which matches the annotations for trio and for anyio."""


class ServiceFunction0(Protocol[T_co]):
    """A service's function with no positional parameters."""

    def __call__(self, *, task_status: AnyTaskStatus[T_co]) -> Awaitable[Any]: ...


class ServiceFunction1(Protocol[T_co]):
    def __call__(
        self, a: Any, /, *, task_status: AnyTaskStatus[T_co]
    ) -> Awaitable[Any]: ...


class ServiceFunction2(Protocol[T_co]):
    def __call__(
        self, a: Any, b: Any, /, *, task_status: AnyTaskStatus[T_co]
    ) -> Awaitable[Any]: ...


class ServiceFunction3(Protocol[T_co]):
    def __call__(
        self, a: Any, b: Any, c: object, /, *, task_status: AnyTaskStatus[T_co]
    ) -> Awaitable[Any]: ...


class ServiceOptions(JobOptions, total=False):
    """The keyword options of a `Service`: the arguments of its function's call, and the options of every job."""

    kwargs: Mapping[str, Any] | None


class TaskStatus(Generic[T]):
    """The argument `task_status` of a service's function. Each call of the function gets a new object."""

    __slots__ = ("_call_has_ended", "_job", "_run")

    def __init__(self, job: Service[T], run: Run) -> None:
        self._job = job
        self._run = run
        # Whether the call of the function has ended. The user's code may use this object even after that.
        self._call_has_ended = False

    def started(self, value: Any = None) -> None:
        """Report that the service is ready, so that the jobs that require it may start.

        Args:
            value: the result of the service, for jobs that have it as an input.

        Raises:
            RuntimeError: `started()` was called before, the call of the function has ended, or `started()` is called
                in another thread.

        """
        if threading.get_ident() != self._run.thread_id:
            raise RuntimeError(
                f"task_status.started() of {self._job.label!r}: call it in the thread of the run"
            )
        if self._call_has_ended:
            raise RuntimeError(
                f"task_status.started() of {self._job.label!r}: the function has already ended"
            )
        if self._job._is_ready():
            raise RuntimeError(
                f"{self._job.label!r} has already called task_status.started(): call it only once"
            )
        self._job._release_inputs(last_call=True)
        self._run.guard(self._run.on_service_ready, self._job, value)


class Service(FunctionJob[T], box=BoxStyle("service", "hexagon", ("{{", "}}"))):
    """A forever job that other jobs may require, such as a server, a connection or a pool.

    Use it for a connection, a pool or a server in this program that several jobs share.

    Its function is called with the keyword argument `task_status`, as by `nursery.start()` of trio and anyio. When the
    function calls `task_status.started(value)`, the service counts as succeeded for the jobs that require it, and
    `value` is its result. `timeout` and `retry` apply until then. At the end of the run, services are cancelled after
    all other jobs, each after the services that require it, and end SUCCEEDED.

    Args:
        function: an async function with a parameter `task_status`. It is called at each start. If this parameter is
            annotated as `trio.TaskStatus[T]` or `anyio.abc.TaskStatus[T]`, type checkers infer the service's result.
        args: positional arguments of the call. Jobs among them are replaced by their results, as for `Job`.
        kwargs: keyword arguments of the call. Jobs among them are replaced by their results too.
        options: the options of every job. See `AbstractJob`. `forever` is always True.

    Raises:
        TypeError: the function is not async, or it has no parameter `task_status`.
        ValueError: an option is out of its range.

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

    __slots__ = ()
    _is_service = True

    @overload
    def __init__(
        self,
        function: ServiceFunction0[T],
        /,
        *args: Any,
        **options: Unpack[ServiceOptions],
    ) -> None: ...
    @overload
    def __init__(
        self,
        function: ServiceFunction1[T],
        /,
        *args: Any,
        **options: Unpack[ServiceOptions],
    ) -> None: ...
    @overload
    def __init__(
        self,
        function: ServiceFunction2[T],
        /,
        *args: Any,
        **options: Unpack[ServiceOptions],
    ) -> None: ...
    @overload
    def __init__(
        self,
        function: ServiceFunction3[T],
        /,
        *args: Any,
        **options: Unpack[ServiceOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Service[Any],
        function: Callable[..., Awaitable[Any]],
        /,
        *args: Any,
        **options: Unpack[ServiceOptions],
    ) -> None: ...
    def __init__(
        self,
        function: Callable[..., Awaitable[Any]],
        /,
        *args: Any,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[JobOptions],
    ) -> None:
        check_function(function, "Service", "an async function that takes task_status")
        _check_parameters(function)
        options["forever"] = True
        super().__init__(function, args, kwargs, options)

    def _check_options(self) -> None:
        super()._check_options()
        if not self._options.forever:
            raise ValueError(
                f"forever=False of {self._name_for_errors()}: a Service is a forever job; make it a Job"
            )

    async def co_run(self) -> T:
        """Call the function and await it.

        Raises:
            RuntimeError: the function returned without having called `task_status.started()`, or no run has called
                this method.

        """
        if self._worker is None:
            raise _errors.no_run_error(self)
        status = TaskStatus(self, self._worker.run)
        try:
            awaitable: object = call_of(self)(task_status=status)
            if not _errors.is_awaitable(awaitable):
                raise TypeError(_errors.not_awaitable_message(self, awaitable))
            await awaitable
        finally:
            status._call_has_ended = True
        if not self._is_ready():
            advice = "call it as soon as the service is ready"
            raise RuntimeError(
                f"{self.label!r} returned without calling task_status.started(): {advice}"
            )
        return cast(T, self._outcome)


def _check_parameters(function: Callable[..., Any]) -> None:
    """Reject a function that does not take the keyword argument `task_status`.

    Raises:
        TypeError: the function has no such parameter.

    """
    try:
        parameters = signature_of(function).parameters
    except (TypeError, ValueError):
        # The signature is unknown. The call will fail if it is wrong.
        return
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    if not takes_any and "task_status" not in parameters:
        signature = f"{getattr(function, '__name__', 'server')}(..., *, task_status)"
        advice = f"write async def {signature}, and call task_status.started() when it is ready"
        raise TypeError(
            f"Service({name_of(function)}): it takes no task_status; {advice}"
        )
