"""Questions about users' functions. `inspect` is imported late: that takes 5 ms."""

from __future__ import annotations

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
    """Return whether a function is known to be async without calling it."""
    if type(function) is types.FunctionType and not function.__dict__:
        return bool(function.__code__.co_flags & IS_COROUTINE)
    import inspect

    return inspect.iscoroutinefunction(function)


def is_async_generator(function: Any) -> bool:
    """Return whether a function is async and has a `yield`."""
    import inspect

    return inspect.isasyncgenfunction(function)


def is_awaitable(value: object) -> bool:
    """Return whether a value can be awaited."""
    import inspect

    return inspect.isawaitable(value)


def is_plain(function: Any) -> bool:
    """Return whether a function or method is certain to return no awaitable."""
    import inspect

    if not inspect.isroutine(function):
        return False
    plain = inspect.unwrap(function)
    if isinstance(plain, types.FunctionType) and plain.__name__ == "<lambda>":
        return _computes_alone(plain)
    return inspect.isroutine(plain) and not is_async(plain)


def _computes_alone(function: types.FunctionType) -> bool:
    """Return whether a lambda calls nothing and returns a constant or the value of an operator."""
    import dis

    *_, before, last = steps = [step.opname for step in dis.get_instructions(function)]
    is_found = before.startswith(("LOAD", "BINARY_SUBSCR")) and before not in ("LOAD_CONST", "LOAD_SMALL_INT")
    calls = any(step.startswith("CALL") for step in steps)
    return not calls and (last == "RETURN_CONST" or not is_found)


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """Return the signature of a function.

    Raises:
        TypeError, ValueError: the signature is not known.

    """
    import inspect

    return inspect.signature(function)
