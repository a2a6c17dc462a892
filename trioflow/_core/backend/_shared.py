"""Functions that loops and isolations share, besides the defaults in `_interface`."""

from __future__ import annotations

import contextvars
import gc
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from types import AsyncGeneratorType, CoroutineType, FrameType, GeneratorType
from typing import Any, Final, cast

Variables = tuple[tuple[contextvars.ContextVar[Any], Any], ...]
"""Context variables with their values, which are compared by identity."""
getrefcount: Final[Callable[[object], int]] = getattr(
    sys, "getrefcount", lambda _: 1
)  # other Pythons have no reference counts
getweakrefcount: Final[Callable[[object], int]] = weakref.getweakrefcount
IDLE_NAME: Final = "trioflow worker"
"""The name of a parked worker's task."""
NO_JOB: Final = object()
STEP_TYPES: Final = ("async_generator_asend", "async_generator_athrow", "anext_awaitable", "coroutine_wrapper")
"""The types of awaitables from `__anext__()` and `aclose()` of async generators and `__await__()` of coroutines."""
# The accessors of a group's exceptions and message, even if a subclass overrides these names.
GROUP_EXCEPTIONS: Final[Any] = cast(Any, BaseExceptionGroup).exceptions.__get__
GROUP_MESSAGE: Final[Any] = cast(Any, BaseExceptionGroup).message.__get__


def variables_of(context: contextvars.Context, known: Variables, worker: object) -> Variables:
    """Return the variables of a task, except the worker's own; or `known` itself, if they are the same.

    Values are compared by identity: equal values may be different objects, and `==` would call the user's code. Most
    workers share one tuple.
    """
    if len(context) == len(known) + 1:
        for variable, value in known:
            if context.get(variable) is not value:
                break
        else:
            return known
    return tuple(item for item in context.items() if item[1] is not worker)


def split(exception: BaseException, cancelled: type[BaseException]) -> tuple[bool, BaseException | None]:
    """Return whether `exception` contains a cancellation, and the rest of it; see `Backend.split`.

    The result does not depend on the user's code: a group's own `split` and `derive` may raise. A group without a
    cancellation is returned as it is.
    """
    if type(exception) is cancelled or isinstance(exception, cancelled):  # `isinstance` is slow on trio's class
        return True, None
    if not isinstance(exception, BaseExceptionGroup):
        return False, exception
    group = cast("BaseExceptionGroup[BaseException]", exception)
    leaves = leaves_of(group)
    rest = [leaf for leaf in leaves if not isinstance(leaf, cancelled)]
    if len(rest) == len(leaves):
        return False, group
    if not rest:
        return True, None
    try:
        return True, BaseExceptionGroup.split(group, cancelled)[1]
    except Exception:  # raised by its `derive`
        return True, BaseExceptionGroup(GROUP_MESSAGE(group), rest)


def leaves_of(error: BaseException) -> list[BaseException]:
    """Return the exceptions in a group, at any depth, that are not groups, in order; or `error` if it is not one."""
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
    """Return whether an exception has one of these types, and its message the text of that type.

    Its `__str__` is not called.
    """
    message = exception.args[0] if type(exception.args) is tuple and exception.args else None
    return type(message) is str and any(isinstance(exception, kind) and text in message for kind, text in known)


def ancestry(number: int | None, parents: Mapping[int, int | None]) -> Iterator[int]:
    """Yield the id of a task, of its parent, and so on, while they are known."""
    while number is not None:
        yield number
        number = parents.get(number)


def is_inside(task: Any, calling: Any, ancestry: Callable[[Any], Iterator[object]]) -> bool:
    """Return whether the calling task is `task`, or inside it; True if that is not known."""
    if calling is task or calling is None:  # None: in a thread
        return True
    own, *further = ancestry(task)
    for ancestor in ancestry(calling):
        if ancestor == own or ancestor in further:
            return bool(ancestor == own)
    return True


def limiter_module(limiter: object) -> str:
    """Return the module of an anyio limiter; one made outside of any loop has that of its first use."""
    inner = getattr(limiter, "_internal_limiter", None)
    return type(limiter if inner is None else inner).__module__


def await_chain(coroutine: Any) -> Iterator[tuple[FrameType, int]]:
    """Yield the frames of a suspended coroutine and of what it awaits, outermost first, with their line numbers."""
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
    """Return the coroutine or generator behind an awaitable of one step, which has no attribute for it."""
    known = ("coroutine", "generator", "async_generator", *STEP_TYPES)
    return next((value for value in gc.get_referents(step) if type(value).__name__ in known), None)


class PrivateApiMismatch(Exception):
    """A private part of a library is missing, or does not behave as fast isolation needs."""


def expect(behaves: bool, what: str) -> None:
    """Raise an error unless a private part behaves as needed."""
    if not behaves:
        raise PrivateApiMismatch(what)


def expect_parts(owner: Any, *names: str) -> None:
    """Raise an error unless a class or module has these private parts."""
    missing = [name for name in names if not hasattr(owner, name)]
    expect(not missing, f"{owner.__name__} has no {', '.join(missing)}")
