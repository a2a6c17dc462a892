"""`@job`: an async function that builds a job when it is called."""

from __future__ import annotations

import functools
import types
from collections.abc import Awaitable, Callable
from typing import Any, Generic, ParamSpec, TypeVar, Unpack, overload

from ._function_job import Job
from ._options import JobOptions

P = ParamSpec("P")
T = TypeVar("T")


class JobFunction(Generic[P, T]):
    """An async function that builds a `Job` when it is called; `options` changes what the job is built with."""

    def __init__(self, function: Callable[P, Awaitable[T]], options: JobOptions) -> None:
        """Wrap `function`."""
        self.function = function
        self._options = options
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Job[T]:
        """Build the job that calls the function with these arguments; jobs among them are dependencies."""
        return Job(self.function, *args, kwargs=kwargs, **self._options)

    def options(self, **options: Unpack[JobOptions]) -> JobFunction[P, T]:
        """Return the same with these options of the job changed.

        Raises:
            TypeError: an option that no job has; when the job is built.

        """
        return JobFunction(self.function, {**self._options, **options})

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """Bind as a method does."""
        if instance is None:
            return self
        return JobFunction(types.MethodType(self.function, instance), self._options)


@overload
def job(function: Callable[P, Awaitable[T]], /) -> JobFunction[P, T]: ...
@overload
def job(**options: Unpack[JobOptions]) -> Callable[[Callable[P, Awaitable[T]]], JobFunction[P, T]]: ...
def job(function: Any = None, /, **options: Unpack[JobOptions]) -> Any:
    """Let calls of an async function build jobs: `@job`, or `@job(timeout=5, ...)`.

    Args:
        function: an async function, a method, or a partial of one.
        options: what the jobs are built with; see `AbstractJob`.

    Returns:
        Something that builds a `Job` when it is called, and whose `options(...)` overrides.

    Raises:
        TypeError: not an async callable, or an option that no job has.

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
        return functools.partial(_decorate, options=options)
    return _decorate(function, options)


def _decorate(function: Any, options: JobOptions) -> JobFunction[Any, Any]:
    Job(function, **{key: value for key, value in options.items() if key not in ("required", "scheduler")}).close()  # type: ignore[arg-type]
    return JobFunction(function, options)
