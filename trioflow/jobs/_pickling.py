"""Check that a call can be pickled, and name the part that cannot, before it is sent to another process."""

from __future__ import annotations

import functools
import pickle
import sys
import types
from collections.abc import Callable
from typing import Any, Final

from ..abc import name_of

MakePickler = Callable[..., Any]
"""A pickler class: its arguments are a file, a protocol, whether to fix imports, and a callback for large buffers."""


class MainRejectingPickler(pickle.Pickler):
    """A pickler that rejects functions and types of a main module that other processes cannot import."""

    def reducer_override(self, value: Any) -> Any:
        """Check a function or a type before it is pickled by name."""
        if getattr(value, "__module__", None) == "__main__" and isinstance(value, (type, types.FunctionType)):
            raise pickle.PicklingError(
                f"{value.__qualname__} is defined in a notebook, or at a prompt: put it into a module, or give "
                f"processes=get_reusable_executor() of loky"
            )
        return NotImplemented


class NullFile:
    """A file that discards its contents."""

    def write(self, data: object) -> int:
        """Discard the data."""
        return len(data)  # type: ignore[arg-type]


NOWHERE: Final = NullFile()


def check_picklable(
    call: functools.partial[Any], subject: str, place: str, make_pickler: MakePickler = pickle.Pickler
) -> None:
    """Reject a call that cannot be pickled. Large arrays cost nothing: their contents are skipped.

    Raises:
        TypeError: something cannot be pickled; the error names the job and the part.

    """
    error = _pickling_error((call.func, call.args, call.keywords), make_pickler)
    if error is not None:
        raise TypeError(f"{subject}: {describe_unpicklable(call, place, make_pickler)}: {error}") from error


def describe_unpicklable(call: functools.partial[Any], place: str, make_pickler: MakePickler = pickle.Pickler) -> str:
    """Name what cannot be pickled in a call."""
    if _pickling_error(call.func, make_pickler) is not None:
        name = name_of(call.func)
        if "<lambda>" in name or "<locals>" in name:
            return f"{name} cannot be sent to {place}, which could not find it: define it at the top level of a module"
        return f"its function {name} cannot be sent to {place}"
    for number, value in enumerate(call.args, 1):
        if _pickling_error(value, make_pickler) is not None:
            return f"argument {number}, a {type(value).__qualname__}, cannot be sent to {place}"
    for name, value in call.keywords.items():
        if _pickling_error(value, make_pickler) is not None:
            return f"argument {name!r}, a {type(value).__qualname__}, cannot be sent to {place}"
    return f"its arguments together cannot be sent to {place}"


def make_sendable(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a picklable stand-in for a function whose name refers to what `@job` has made of it; else the function.

    Raises:
        TypeError: it is a method decorated by `@job`.

    """
    plain: Any = getattr(function, "__func__", function)
    current: Any = sys.modules.get(getattr(plain, "__module__", None) or "")
    for name in getattr(plain, "__qualname__", "").split("."):
        own: dict[str, Any] = getattr(current, "__dict__", {})  # a method is found in its class
        current = own.get(name)
    if current is None or getattr(current, "function", None) is not plain:
        return function
    if plain is not function:
        raise TypeError(f"{name_of(plain)} is a method that @job has decorated, which cannot be sent: take a function")
    return Decorated(current)


class Decorated:
    """A picklable proxy for a decorated function, whose name leads to the decorator's object instead."""

    def __init__(self, function: Any) -> None:
        self._function: Final = function

    def __reduce__(self) -> Any:
        """Pickle it as an attribute of the decorator's object."""
        return getattr, (self._function, "function")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self._function.function(*args, **kwargs)


def can_be_sent(call: functools.partial[Any], make_pickler: MakePickler) -> bool:
    """Return whether a call can be pickled."""
    return _pickling_error((call.func, call.args, call.keywords), make_pickler) is None


def cloudpickle_pickler() -> MakePickler | None:
    """Return cloudpickle's pickler, which sends functions by value; None if cloudpickle is not imported."""
    cloudpickle: Any = sys.modules.get("cloudpickle")
    return None if cloudpickle is None else functools.partial(_cloudpickler, cloudpickle)


def _cloudpickler(cloudpickle: Any, file: Any, protocol: int, _: bool, callback: Any) -> Any:
    return cloudpickle.Pickler(file, protocol, callback)


def _pickling_error(value: Any, make_pickler: MakePickler) -> Exception | None:
    try:
        make_pickler(NOWHERE, pickle.HIGHEST_PROTOCOL, True, _skip_buffer).dump(value)
    except Exception as error:
        return error
    return None


def _skip_buffer(_: object) -> None:
    """Skip a large buffer."""
