"""What the two backends have in common."""

from __future__ import annotations

import contextvars
import inspect
from collections.abc import Iterator
from types import FrameType
from typing import Any

Variables = tuple[tuple[contextvars.ContextVar[Any], Any], ...]


def variables_of(context: contextvars.Context, known: Variables, worker: object) -> Variables:
    """Return the variables of a task, but for the one that holds its worker; `known` itself if they are the same.

    By identity: equal values may still be different objects, and comparing them would call code of the user's. Most
    workers share one tuple.
    """
    if len(context) == len(known) + 1 and all(context.get(variable) is value for variable, value in known):
        return known
    return tuple(item for item in context.items() if item[1] is not worker)


def task_group() -> Any:
    """Return a task group of anyio, which works on both backends."""
    import anyio

    return anyio.create_task_group()


def home_of_limiter(limiter: object) -> str:
    """Return the module of one of anyio's limiters; of one that was made outside any loop, that of its first use."""
    inner = getattr(limiter, "_internal_limiter", None)
    return type(limiter if inner is None else inner).__module__


def await_chain(coroutine: Any) -> Iterator[tuple[FrameType, int]]:
    """Yield the frames of what a suspended coroutine awaits, outermost first, with their line numbers."""
    while coroutine is not None:
        if inspect.iscoroutine(coroutine):
            frame, inner = coroutine.cr_frame, coroutine.cr_await
        elif inspect.isgenerator(coroutine):
            frame, inner = coroutine.gi_frame, coroutine.gi_yieldfrom
        elif inspect.isasyncgen(coroutine):
            frame, inner = coroutine.ag_frame, coroutine.ag_await
        else:
            return
        if frame is not None:
            yield frame, frame.f_lineno
        coroutine = inner
