"""Functions that the event loops and both kinds of isolation use."""

from __future__ import annotations

import contextvars
import gc
import signal
import sys
from collections.abc import Callable, Iterator
from types import AsyncGeneratorType, CoroutineType, FrameType, GeneratorType
from typing import Any, Final, cast
from weakref import getweakrefcount as getweakrefcount

from ..base._user_code import get_args, get_group_message, leaf_exceptions

LOOP_PACKAGES: Final = frozenset({"trio", "outcome", "asyncio", "anyio"})
"""The packages of the event loops and of their dependencies. Frames in these packages are not user code."""
ENGINE_PACKAGE: Final = __name__.rpartition(".backend.")[0]
PACKAGE: Final = ENGINE_PACKAGE.partition(".")[0]
UNINTERRUPTIBLE_PACKAGES: Final = LOOP_PACKAGES | {PACKAGE}
"""The packages in whose functions KeyboardInterrupt must not be raised: trioflow, trio, anyio and the like."""
BODY_CALLER_MODULES: Final = frozenset(
    f"{ENGINE_PACKAGE}.{module}"
    for module in ("run._worker", "run._attempts", "job._function", "job._service")
)
"""The modules that call the bodies of jobs, and handle every exception that these calls raise."""
CHECK_BEFORE_RUN: Final = (f"{ENGINE_PACKAGE}.scheduler._checks", "check_members")
"""The module and the name of the function that checks a scenario before it runs."""
# The module below `signal`, whose own functions take 10 and 20 µs to look for a handler in an enum:
# https://github.com/python/cpython/blob/v3.11.7/Lib/signal.py#L55.
SIGNALS: Final[Any] = sys.modules.get("_signal", signal)
ContextVariables = tuple[tuple[contextvars.ContextVar[Any], Any], ...]
# Other implementations of Python than CPython may have no reference counts:
# https://docs.python.org/3/library/sys.html#sys.getrefcount.
getrefcount: Final[Callable[[object], int]] = getattr(sys, "getrefcount", lambda _: 1)
IDLE_TASK_NAME: Final = "trioflow worker"
OPAQUE_AWAITABLES: Final = (
    "async_generator_asend",
    "async_generator_athrow",
    "anext_awaitable",
    "coroutine_wrapper",
)
"""The types of awaitables, by name, without an attribute for the object that they resume. `__anext__()` gives one."""


def has_values(context: contextvars.Context, variables: ContextVariables) -> bool:
    """Return whether these variables have these very values in a context."""
    for variable, value in variables:  # `all` would double the time
        if context.get(variable) is not value:
            return False
    return True


def split_cancellations(
    exception: BaseException,
    cancellation_type: type[BaseException] | tuple[type[BaseException], ...],
) -> tuple[bool, BaseException | None]:
    """Return whether `exception` contains a cancellation, and the rest of it without cancellations.

    If nothing remains, the second value is None. A group without a cancellation is returned unchanged. If the group's
    own `derive` raises an `Exception`, a plain group takes its place.
    """
    if type(exception) is cancellation_type or isinstance(exception, cancellation_type):
        # The first test is faster.
        return True, None
    if not isinstance(exception, BaseExceptionGroup):
        return False, exception
    group = cast("BaseExceptionGroup[BaseException]", exception)
    leaves = leaf_exceptions(group)
    other_leaves = [leaf for leaf in leaves if not isinstance(leaf, cancellation_type)]
    if len(other_leaves) == len(leaves):
        return False, group
    if not other_leaves:
        return True, None
    try:
        return True, BaseExceptionGroup.split(group, cancellation_type)[1]
    except Exception:
        # Raised by the group's own `derive`.
        return True, BaseExceptionGroup(get_group_message(group), other_leaves)


def is_in_job_body(frame: FrameType | None) -> bool:
    """Return whether `frame` is in a job's body, in a function that the body has called, or in the check before a run.

    If the function belongs to the engine or the event loop, return False, because an exception would interrupt these.
    The check may take any time, because it calls the user's code, and its interruption harms nothing.
    """
    is_user_code = False
    while frame is not None and _package_of(frame) not in UNINTERRUPTIBLE_PACKAGES:
        frame = frame.f_back
        is_user_code = True
    if is_user_code and frame is not None:
        if frame.f_globals.get("__name__") in BODY_CALLER_MODULES:
            return True
    while frame is not None:
        if (frame.f_globals.get("__name__"), frame.f_code.co_name) == CHECK_BEFORE_RUN:
            return True
        frame = frame.f_back
    return False


def _package_of(frame: FrameType) -> Any:
    return frame.f_globals.get("__name__", "").partition(".")[0]


def is_in_engine(frame: FrameType | None, outermost: FrameType | None) -> bool:
    """Return whether any of the frames from `frame` to `outermost` executes code of trioflow."""
    while frame is not None:
        if _package_of(frame) == PACKAGE:
            return True
        frame = None if frame is outermost else frame.f_back
    return False


def matches_any(
    exception: BaseException, *patterns: tuple[type[BaseException], str]
) -> bool:
    """Return whether an exception matches a pattern: it has this type, and its message contains this text.

    The message is read from `args`, because `__str__` may be user code.
    """
    message = next(iter(get_args(exception)), None)
    return type(message) is str and any(
        isinstance(exception, kind) and text in message for kind, text in patterns
    )


def await_chain(coroutine: object) -> Iterator[tuple[FrameType, int]]:
    """Yield the frames, with line numbers, of a coroutine, of the coroutine that it awaits, and so on.

    The chain ends at one that is executing, perhaps in another thread: if this one were asked what it awaits, Python
    3.11 and 3.12 could take any number for an object, and crash.
    """
    inner: Any
    awaiting: Any = None
    while coroutine is not None:
        if isinstance(coroutine, CoroutineType):
            frame = coroutine.cr_frame
            inner = None if coroutine.cr_running else coroutine.cr_await
            awaiting = cast(Any, coroutine)
        elif isinstance(coroutine, GeneratorType):
            frame = coroutine.gi_frame
            inner = None
            if not coroutine.gi_running:
                inner = cast(Any, coroutine).gi_yieldfrom or _find_resumed(coroutine)
        elif isinstance(coroutine, AsyncGeneratorType):
            frame = coroutine.ag_frame
            # `ag_running` is true while it waits, too.
            inner = None
            if awaiting is None or not awaiting.cr_running:
                inner = coroutine.ag_await
        elif type(coroutine).__name__ in OPAQUE_AWAITABLES:
            frame = None
            inner = _find_resumed(coroutine)
        else:
            return
        if frame is not None:
            yield frame, frame.f_lineno
        coroutine = inner


def _find_resumed(awaitable: Any) -> Any:
    """Return the coroutine, generator or awaitable that an opaque awaitable or generator resumes, or None."""
    type_names = ("coroutine", "generator", "async_generator", *OPAQUE_AWAITABLES)
    for value in gc.get_referents(awaitable):
        if type(value).__name__ in type_names:
            return value
    return None


class PrivateApiMismatch(Exception):
    """A private attribute of a library is missing, or does not behave as fast isolation expects."""


class ReplacedClass(Exception):
    """Another library has replaced a class whose private attributes fast isolation uses."""


def expect(condition: bool, message: str) -> None:
    if not condition:
        raise PrivateApiMismatch(message)


def expect_attributes(owner: Any, *names: str) -> None:
    missing = [name for name in names if not hasattr(owner, name)]
    expect(not missing, f"{owner.__name__} has no {', '.join(missing)}")
