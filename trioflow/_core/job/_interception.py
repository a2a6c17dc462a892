"""`steer`: intercepted calls of a job, for explorations."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

from ._job import DEFAULT_SLOW_PATH, AnyJob

CallInterceptor = Callable[[AnyJob, Callable[[], Awaitable[Any]]], Awaitable[Any]]
"""Called in place of a job, or of its `co_shutdown`, with the job and the original call; returns the awaitable."""

INTERCEPTED_CLASSES: Final[dict[tuple[type[Any], CallInterceptor, CallInterceptor], type[Any]]] = {}


def intercept_calls(job: AnyJob, call: CallInterceptor, shut_down: CallInterceptor) -> None:
    """Replace each call of a job, and each of its `co_shutdown` if it has one, by a call of these functions.

    The job gets a subclass of its class, of the same name, and leaves the hot path of workers, which calls functions
    directly.
    """
    kind = cast("type[Any]", type(job))
    key = kind, call, shut_down
    if key not in INTERCEPTED_CLASSES:
        INTERCEPTED_CLASSES[key] = _make_intercepted_class(kind, call, shut_down)
    job.__class__ = INTERCEPTED_CLASSES[key]
    job._slow_path = job._slow_path or DEFAULT_SLOW_PATH


def _make_intercepted_class(kind: type[Any], call: CallInterceptor, shut_down: CallInterceptor) -> type[Any]:
    own_call, own_shutdown = kind._call_once, kind.co_shutdown

    def call_once(job: AnyJob) -> Awaitable[Any]:
        return call(job, functools.partial(own_call, job))

    async def co_shutdown(job: AnyJob) -> None:
        await shut_down(job, functools.partial(own_shutdown, job))

    names = {"__slots__": (), "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    more = {"co_shutdown": co_shutdown} if kind._has_own_shutdown else {}
    make_class: Any = type(kind)
    steered = make_class(kind.__name__, (kind,), names | more)
    steered._call_once = call_once  # last: `__init_subclass__` sets it for a subclass of `Job` with its own `co_run`
    return cast("type[Any]", steered)
