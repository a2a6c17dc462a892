"""What loops and isolations have in common, besides what `_interface` does for all of them."""

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
getrefcount: Final[Callable[[object], int]] = getattr(sys, "getrefcount", lambda _: 1)  # not every Python counts
getweakrefcount: Final[Callable[[object], int]] = weakref.getweakrefcount
IDLE_NAME: Final = "trioflow worker"
"""The name of a worker's task that runs no job."""
NO_JOB: Final = object()
STEPS: Final = ("async_generator_asend", "async_generator_athrow", "anext_awaitable", "coroutine_wrapper")
"""The types of what `__anext__()` and `aclose()` of an async generator return, and `__await__()` of a coroutine."""
# A group's exceptions and message, even if a subclass overrides these names.
GROUP_EXCEPTIONS: Final[Any] = cast(Any, BaseExceptionGroup).exceptions.__get__
GROUP_MESSAGE: Final[Any] = cast(Any, BaseExceptionGroup).message.__get__


def variables_of(context: contextvars.Context, known: Variables, worker: object) -> Variables:
    """Return the variables of a task without the one that holds its worker; or `known` itself, if they are the same.

    Values are compared by identity: equal values may be different objects, and to compare them would call the user's
    code. Most workers share one tuple.
    """
    if len(context) == len(known) + 1:
        for variable, value in known:
            if context.get(variable) is not value:
                break
        else:
            return known
    return tuple(item for item in context.items() if item[1] is not worker)


def split(exception: BaseException, cancelled: type[BaseException]) -> tuple[bool, BaseException | None]:
    """Return whether there is a cancellation in `exception`, and what else there is in it; see `Backend.split`.

    The result does not depend on the user's code: a group's own `split` and `derive` may raise. A group without a
    cancellation in it is returned as it is.
    """
    if type(exception) is cancelled or isinstance(exception, cancelled):  # trio's class takes long to ask
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
        one = stack.pop()
        if isinstance(one, BaseExceptionGroup):
            stack.extend(reversed(GROUP_EXCEPTIONS(cast("BaseExceptionGroup[BaseException]", one))))
        else:
            leaves.append(one)
    return leaves


def is_one_of(exception: BaseException, *known: tuple[type[BaseException], str]) -> bool:
    """Return whether an exception is of one of these types, and its message contains the text that belongs to it.

    Its `__str__` is not called.
    """
    message = exception.args[0] if type(exception.args) is tuple and exception.args else None
    return type(message) is str and any(isinstance(exception, kind) and text in message for kind, text in known)


def outwards(number: int | None, parents: Mapping[int, int | None]) -> Iterator[int]:
    """Yield the id of a task, of its parent, and so on, as far as they are known."""
    while number is not None:
        yield number
        number = parents.get(number)


def is_inside(task: Any, calling: Any, outwards: Callable[[Any], Iterator[object]]) -> bool:
    """Return whether a task is another one, or inside it; True if that is not known."""
    if calling is task or calling is None:  # None: in a thread
        return True
    own, *further = outwards(task)
    for one in outwards(calling):
        if one == own or one in further:
            return bool(one == own)
    return True


def home_of_limiter(limiter: object) -> str:
    """Return the module of an anyio limiter; if it was made outside of any loop, its first use has decided that."""
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
        elif type(coroutine).__name__ in STEPS:
            frame, inner = None, _stepped(coroutine)
        else:
            return
        if frame is not None:
            yield frame, frame.f_lineno
        coroutine = inner


def _stepped(step: Any) -> Any:
    """Return what is behind an awaitable that makes one step of it, which no attribute says."""
    known = ("coroutine", "generator", "async_generator", *STEPS)
    return next((one for one in gc.get_referents(step) if type(one).__name__ in known), None)
