"""Calls of a job that go through a function, for explorations."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any, cast

from ._job import AnyJob

CallInterceptor = Callable[[AnyJob, Callable[[], Awaitable[Any]]], Awaitable[Any]]
"""A function that is called in place of a job or its `co_shutdown`, with the job and the original call."""


def intercept_calls(
    job: AnyJob, on_call: CallInterceptor, on_shutdown: CallInterceptor
) -> None:
    """Replace the calls of a job, and of its `co_shutdown` if its class defines one, by calls of interceptors.

    This gives the job a subclass of its class, with the same name. It also takes the job off the workers' hot path,
    which calls the job's function directly.

    Args:
        job: the job, whose class changes.
        on_call: called in place of each call of the job.
        on_shutdown: called in place of each call of its `co_shutdown`.

    """
    job.__class__ = _intercepted_class(cast("Any", type(job)), on_call, on_shutdown)
    job._is_plain = False


@functools.cache
def _intercepted_class(
    kind: type[Any], on_call: CallInterceptor, on_shutdown: CallInterceptor
) -> type[Any]:
    """Return a subclass of `kind`, with the same name, whose objects call the interceptors."""

    def call_once(job: AnyJob) -> Awaitable[Any]:
        return on_call(job, functools.partial(kind._call_once, job))

    async def co_shutdown(job: AnyJob) -> None:
        await on_shutdown(job, functools.partial(kind.co_shutdown, job))

    attributes = {
        "__slots__": (),
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
    }
    if kind._has_own_shutdown:
        methods = {"co_shutdown": co_shutdown}
    else:
        methods = {}
    metaclass: Any = type(kind)
    subclass = metaclass(kind.__name__, (kind,), attributes | methods)
    # Last, because `__init_subclass__` may set it.
    subclass._call_once = call_once
    return cast("type[Any]", subclass)
