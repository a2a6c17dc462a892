"""Helper functions for the event loops and both kinds of isolation."""

from __future__ import annotations

import contextvars
import gc
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from types import AsyncGeneratorType, CoroutineType, FrameType, GeneratorType
from typing import Any, Final, cast

Variables = tuple[tuple[contextvars.ContextVar[Any], Any], ...]
"""Context variables and their values."""
# Implementations of Python other than CPython may have no reference counts.
getrefcount: Final[Callable[[object], int]] = getattr(sys, "getrefcount", lambda _: 1)
getweakrefcount: Final[Callable[[object], int]] = weakref.getweakrefcount
IDLE_NAME: Final = "trioflow worker"
"""The name of the task of a worker that runs no job."""
NO_JOB: Final = object()
"""A sentinel for "no job has named this task": it is neither a job nor None."""
STEP_TYPES: Final = ("async_generator_asend", "async_generator_athrow", "anext_awaitable", "coroutine_wrapper")
"""The type names of the awaitables that `__anext__()`, `aclose()` and `__await__()` return."""
# Getters for an exception group's attributes that bypass overrides in a subclass.
GROUP_EXCEPTIONS: Final[Any] = cast(Any, BaseExceptionGroup).exceptions.__get__
GROUP_MESSAGE: Final[Any] = cast(Any, BaseExceptionGroup).message.__get__


def variables_of(context: contextvars.Context, known: Variables, worker: object) -> Variables:
    """Return a task's context variables, except the one that holds its worker.

    If they are the same as `known`, return `known` itself, so that most workers share one tuple. Values are compared by
    identity, because `==` would run user code, and equal values may be different objects.
    """
    if len(context) == len(known) + 1:
        for variable, value in known:
            if context.get(variable) is not value:
                break
        else:
            return known
    return tuple(item for item in context.items() if item[1] is not worker)


def split(exception: BaseException, cancelled: type[BaseException]) -> tuple[bool, BaseException | None]:
    """Return whether `exception` contains a cancellation, and the exception without cancellations, or None.

    A group without a cancellation is returned unchanged. Errors in a group's overrides of `split` and `derive` have no
    effect.
    """
    if type(exception) is cancelled or isinstance(exception, cancelled):  # the first test is faster
        return True, None
    if not isinstance(exception, BaseExceptionGroup):
        return False, exception
    group = cast("BaseExceptionGroup[BaseException]", exception)
    leaves = leaf_exceptions(group)
    rest = [leaf for leaf in leaves if not isinstance(leaf, cancelled)]
    if len(rest) == len(leaves):
        return False, group
    if not rest:
        return True, None
    try:
        return True, BaseExceptionGroup.split(group, cancelled)[1]
    except Exception:  # raised by its `derive`
        return True, BaseExceptionGroup(GROUP_MESSAGE(group), rest)


def leaf_exceptions(error: BaseException) -> list[BaseException]:
    """Return the exceptions in a group that are not groups, at any depth, in order; or `[error]` if it is no group."""
    leaves: list[BaseException] = []
    stack = [error]
    while stack:
        error = stack.pop()
        if isinstance(error, BaseExceptionGroup):
            stack.extend(reversed(GROUP_EXCEPTIONS(cast("BaseExceptionGroup[BaseException]", error))))
        else:
            leaves.append(error)
    return leaves


def matches_any(exception: BaseException, *known: tuple[type[BaseException], str]) -> bool:
    """Return whether an exception has the type of one of these pairs, and a message that contains its text.

    The message is read from `args`, because `__str__` may be user code.
    """
    message = exception.args[0] if type(exception.args) is tuple and exception.args else None
    return type(message) is str and any(isinstance(exception, kind) and text in message for kind, text in known)


def ancestry(task_id: int | None, parents: Mapping[int, int | None]) -> Iterator[int]:
    """Yield the id of a task and the ids of its known ancestors, starting with the task."""
    while task_id is not None:
        yield task_id
        task_id = parents.get(task_id)


def is_inside(task: Any, calling_task: Any, ancestry: Callable[[Any], Iterator[object]]) -> bool:
    """Return whether the calling task is `task` or a descendant of it; True if that is unknown."""
    if calling_task is task or calling_task is None:  # in a thread there is no calling task
        return True
    own_id, *ancestor_ids = ancestry(task)
    for ancestor in ancestry(calling_task):
        if ancestor == own_id or ancestor in ancestor_ids:
            return bool(ancestor == own_id)
    return True


def limiter_module(limiter: object) -> str:
    """Return the module of an anyio limiter's class, which shows its event loop once it has been used in one."""
    inner = getattr(limiter, "_internal_limiter", None)
    return type(limiter if inner is None else inner).__module__


def await_chain(coroutine: Any) -> Iterator[tuple[FrameType, int]]:
    """Yield the frames of a suspended coroutine and of the chain it awaits, with line numbers, outermost first."""
    inner: Any
    while coroutine is not None:
        if isinstance(coroutine, CoroutineType):
            frame, inner = coroutine.cr_frame, coroutine.cr_await
        elif isinstance(coroutine, GeneratorType):
            frame, inner = coroutine.gi_frame, cast(Any, coroutine).gi_yieldfrom
        elif isinstance(coroutine, AsyncGeneratorType):
            frame, inner = coroutine.ag_frame, coroutine.ag_await
        elif type(coroutine).__name__ in STEP_TYPES:
            frame, inner = None, _step_target(coroutine)
        else:
            return
        if frame is not None:
            yield frame, frame.f_lineno
        coroutine = inner


def _step_target(step: Any) -> Any:
    """Find the coroutine or generator of an awaitable of `STEP_TYPES`, which has no attribute for it."""
    known = ("coroutine", "generator", "async_generator", *STEP_TYPES)
    return next((value for value in gc.get_referents(step) if type(value).__name__ in known), None)


class PrivateApiMismatch(Exception):
    """A private attribute of a library is missing, or does not behave as fast isolation expects."""


def expect(condition: bool, message: str) -> None:
    """Raise `PrivateApiMismatch` unless a check of private attributes succeeded."""
    if not condition:
        raise PrivateApiMismatch(message)


def expect_parts(owner: Any, *names: str) -> None:
    """Raise `PrivateApiMismatch` unless a class or module has these attributes."""
    missing = [name for name in names if not hasattr(owner, name)]
    expect(not missing, f"{owner.__name__} has no {', '.join(missing)}")
