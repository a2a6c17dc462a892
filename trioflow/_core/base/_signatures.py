"""Inspection of users' functions. `inspect` is imported in the functions, because its import takes 5 ms."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import inspect

IS_COROUTINE: Final = 0x80
"""`inspect.CO_COROUTINE`: the flag of the code of an `async def`."""
IS_ITERABLE_COROUTINE: Final = 0x100
"""`inspect.CO_ITERABLE_COROUTINE`: the flag of a generator decorated with `types.coroutine`."""


def is_async(function: Any) -> bool:
    """Return whether `function` is marked as async; a lambda that returns an awaitable, for example, is not."""
    if type(function) is types.FunctionType and not function.__dict__:
        return bool(function.__code__.co_flags & IS_COROUTINE)
    import inspect

    return inspect.iscoroutinefunction(function)


def is_async_generator(function: Any) -> bool:
    import inspect

    return inspect.isasyncgenfunction(function)


def is_generator(function: Any) -> bool:
    """Return whether calling `function` runs nothing, because it is a generator function, async or not."""
    import inspect

    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def is_surely_sync(function: Any) -> bool:
    """Return whether `function` is a function or method that certainly returns no awaitable.

    A lambda may return one, which only its call shows.
    """
    import inspect

    if not inspect.isroutine(function):
        return False
    plain = inspect.unwrap(function)
    is_lambda = isinstance(plain, types.FunctionType) and plain.__name__ == "<lambda>"
    return inspect.isroutine(plain) and not is_lambda and not is_async(plain)


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """Return `inspect.signature(function)`.

    Raises:
        TypeError, ValueError: the function has no known signature.

    """
    import inspect

    return inspect.signature(function)


def find_by_name(module: Any, qualified_name: Any) -> Any:
    """Return what a qualified name refers to in an imported module; None if it refers to nothing. No user code runs."""
    found: Any = sys.modules.get(module)
    for part in qualified_name.split("."):
        found = getattr(found, "__dict__", {}).get(part)  # not getattr(), which could call a `__getattr__`
    return found
