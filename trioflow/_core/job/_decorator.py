"""`@job`: a decorator that turns a function into a callable which builds a job at each call."""

from __future__ import annotations

import functools
import types
from collections.abc import Awaitable, Callable, Coroutine
from typing import (
    Any,
    Concatenate,
    Generic,
    ParamSpec,
    Protocol,
    TypeAlias,
    TypeVar,
    Unpack,
    cast,
    overload,
)

from ..base._text_forms import short_repr
from ._argument_types import (
    A,
    A_contra,
    B,
    B_contra,
    C,
    C_contra,
    JobContainer,
    JobOf,
    JobOr,
    T_co,
)
from ._function import FunctionJob, Job, check_kind, trial_arguments
from ._job_options import JobOptions

P = ParamSpec("P")
Q = ParamSpec("Q")
T = TypeVar("T")
Kind: TypeAlias = Callable[..., FunctionJob[Any]]
"""A class of jobs that call a function, or a factory of such jobs."""


# ---- for type checkers only
#
# A call accepts the arguments of the function, and a job in place of each value. No type can express "these parameters,
# each of them widened". So overloads have type variables for up to three positional parameters. The rest are a
# ParamSpec, which keeps their names and types. If a keyword argument is a job, no keyword argument is checked.


class JobFunction1(Protocol[A_contra, Q, T_co]):
    """A `JobFunction` whose first parameter has a type variable, which mypy infers only from the type of a callable."""

    @property
    def function(self) -> Callable[Concatenate[A_contra, Q], Awaitable[T_co]]: ...


class JobFunction2(Protocol[A_contra, B_contra, Q, T_co]):
    @property
    def function(
        self,
    ) -> Callable[Concatenate[A_contra, B_contra, Q], Awaitable[T_co]]: ...


class JobFunction3(Protocol[A_contra, B_contra, C_contra, Q, T_co]):
    @property
    def function(
        self,
    ) -> Callable[Concatenate[A_contra, B_contra, C_contra, Q], Awaitable[T_co]]: ...


class KindFunction(Protocol[T]):
    """The result of `@job(kind=...)` for type checkers, which do not check the arguments of its calls."""

    @property
    def function(self) -> Callable[..., T]: ...

    def __call__(self, *args: Any, **kwargs: Any) -> FunctionJob[T]:
        """Build a job that calls the function with these arguments. Jobs among them become inputs."""
        ...

    def options(self, **options: Any) -> KindFunction[T]:
        """Return a copy that builds jobs with these options changed."""
        ...


class JobFunction(Generic[P, T]):
    """The result of `@job`: a callable that builds a job at each call."""

    # Other modules ask for this attribute, because they cannot import this one.
    _builds_jobs = True

    def __init__(
        self, function: Callable[P, Awaitable[T]], options: JobOptions, kind: Kind = Job
    ) -> None:
        self._function = function
        self._options = options
        self._kind: Any = kind
        # `updated=()` keeps attributes of the function from replacing those of this object
        functools.update_wrapper(self, function, updated=())

    @property
    def function(self) -> Callable[P, Awaitable[T]]:
        """The decorated function."""
        return self._function

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Job[T]: ...
    @overload
    def __call__(
        self: JobFunction1[A, Q, T], a: JobOr[A], /, *args: Q.args, **kwargs: Q.kwargs
    ) -> Job[T]: ...
    @overload
    def __call__(
        self: JobFunction2[A, B, Q, T],
        a: JobOr[A],
        b: JobOr[B],
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> Job[T]: ...
    @overload
    def __call__(
        self: JobFunction3[A, B, C, Q, T],
        a: JobOr[A],
        b: JobOr[B],
        c: JobOr[C],
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> Job[T]: ...
    @overload
    def __call__(
        self: JobFunction3[A, B, C, Q, T],
        a: JobOr[A],
        b: JobOr[B],
        c: JobOr[C],
        /,
        **kwargs: JobOf[Any] | JobContainer,
    ) -> Job[T]: ...
    @overload
    def __call__(
        self: JobFunction2[A, B, Q, T],
        a: JobOr[A],
        b: JobOr[B],
        /,
        **kwargs: JobOf[Any] | JobContainer,
    ) -> Job[T]: ...
    @overload
    def __call__(
        self: JobFunction1[A, Q, T], a: JobOr[A], /, **kwargs: JobOf[Any] | JobContainer
    ) -> Job[T]: ...
    @overload
    def __call__(self, **kwargs: JobOf[Any] | JobContainer) -> Job[T]: ...
    def __call__(self, /, *args: Any, **kwargs: Any) -> Job[T]:  # type: ignore[misc]  # mypy loses Q in the overloads
        """Build a job that calls the function with these arguments. Jobs among them become inputs."""
        new_job: Job[T] = self._kind(
            self._function, *args, kwargs=kwargs, **self._options
        )
        return new_job

    def options(self, **options: Unpack[JobOptions]) -> JobFunction[P, T]:
        """Return a copy that builds jobs with these options changed.

        Args:
            options: the options to change. See `AbstractJob`.

        Raises:
            TypeError: a job has no such option, or its value has the wrong type.
            ValueError: an option is out of its range.

        """
        return _make_job_function(
            self._function, {**self._options, **options}, self._kind
        )

    def __reduce__(self) -> str:
        """Pickle by the qualified name, like a function."""
        return str(cast(Any, self).__qualname__)

    @overload
    def __get__(
        self, instance: None, owner: type | None = None
    ) -> JobFunction[P, T]: ...
    @overload
    def __get__(
        self: JobFunction1[Any, Q, T], instance: object, owner: type | None = None
    ) -> JobFunction[Q, T]: ...
    def __get__(self: Any, instance: object, owner: type | None = None) -> Any:
        """Bind the function to an object, as methods are bound."""
        if instance is None:
            return self
        return JobFunction(
            types.MethodType(self._function, instance), self._options, self._kind
        )


@overload
def job(function: Callable[P, Awaitable[T]], /) -> JobFunction[P, T]: ...
@overload
def job(
    **options: Unpack[JobOptions],
) -> Callable[[Callable[P, Awaitable[T]]], JobFunction[P, T]]: ...
@overload
def job(
    *, kind: Kind, **options: Any
) -> Callable[[Callable[..., T]], KindFunction[T]]: ...
def job(function: Any = None, /, *, kind: Kind = Job, **options: object) -> Any:
    """Decorate an async function so that each call of it builds a job: `@job`, or `@job(timeout=5, ...)`.

    Args:
        function: an async function, a method, or a partial of either. With `kind`, a function that `kind` accepts.
        kind: the kind of the jobs. This is a class, such as `ThreadJob` or `ProcessJob`, which take plain functions, or
            a factory that takes a function, its arguments and options, such as `functools.partial(ProcessJob, nice=5)`.
        options: the options of the jobs. See `AbstractJob` and the kind.

    Returns:
        A callable that builds a job at each call. Its method `options(...)` returns a copy with these options changed.

    Raises:
        TypeError: `function` or `kind` has the wrong type, or a job has no such option.
        ValueError: an option is out of its range.

    Example:
        >>> @job
        ... async def fetch(page):
        ...     return f"page {page}"
        >>> @job(timeout=5)
        ... async def count(text):
        ...     return len(text)
        >>> size = count.options(label="size")(fetch(7))
        >>> Scheduler(size).run(), size.result()
        (True, 6)

    """
    if function is None:
        return functools.partial(
            _make_job_function, options=cast(JobOptions, options), kind=kind
        )
    return _make_job_function(function, cast(JobOptions, options), kind)


def _make_job_function(
    function: Callable[..., Any], options: JobOptions, kind: Kind
) -> JobFunction[Any, Any]:
    if isinstance(function, Coroutine):
        raise TypeError(
            f"job({short_repr(function)}): found a coroutine object; decorate its async function"
        )
    check_kind(kind, "job()")
    # A trial job checks the function and the options. It must not join a scheduler, so it gets no requirements either.
    trial_options: Any = {
        key: value
        for key, value in options.items()
        if key not in ("required", "scheduler")
    }
    args, kwargs = trial_arguments(function)
    trial_job = kind(function, *args, kwargs=kwargs, **trial_options)
    if isinstance(trial_job, Job):
        # Only a `Job` may hold a coroutine, which would warn that it was never awaited.
        trial_job.close()
    return JobFunction(function, options, kind)
