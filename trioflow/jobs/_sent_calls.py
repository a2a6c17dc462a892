"""Calls that are sent to another process: whether they can be pickled, and environment variables that go with them.

A part that cannot be pickled is found before the call is sent, and the error names it.
"""

from __future__ import annotations

import functools
import pickle
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any, Final

from .._core.base._user_code import find_by_name
from ..abc import AbstractJob, name_of

PicklerFactory = Callable[[Any, int, bool, Callable[[object], object]], Any]
"""A pickler class, or a function with its arguments `file`, `protocol`, `fix_imports` and `buffer_callback`."""
LOCAL_FUNCTION_ADVICE: Final = "define it at the top level of a module"


class MainRejectingPickler(pickle.Pickler):
    """A pickler that rejects functions and types of a main module that other processes cannot import."""

    def reducer_override(self, value: object) -> Any:
        """Reject a function or a type of the main module, and leave all other values to the default pickling."""
        if getattr(value, "__module__", None) == "__main__" and isinstance(
            value, (type, types.FunctionType)
        ):
            raise pickle.PicklingError(
                f"{value.__qualname__} is in a notebook, __main__.py or a pipe, or under cProfile: "
                f"move it to a module, or give processes=loky.get_reusable_executor()"
            )
        return NotImplemented


class NullFile:
    """A file object that discards all that is written to it."""

    def write(self, data: object) -> int:
        return len(data)  # type: ignore[arg-type]


def unpicklable_error(
    call: functools.partial[Any],
    job: AbstractJob[Any],
    place: str,
    make_pickler: PicklerFactory,
    error: BaseException,
) -> TypeError:
    """Return the error for a call that cannot be pickled. For a redacted job, it is without `error`, the cause.

    The message of the cause may quote the argument.
    """
    message = f"{job.label!r}: {_describe_unpicklable(call, place, make_pickler)}"
    # A log line would cut the advice off.
    says_all = job.redact or message.endswith(LOCAL_FUNCTION_ADVICE)
    found = TypeError(message if says_all else f"{message}: {error}")
    found.__cause__ = None if job.redact else error
    return found


def _describe_unpicklable(
    call: functools.partial[Any], destination: str, make_pickler: PicklerFactory
) -> str:
    """Return a message that names the part of a call that cannot be pickled."""
    if pickling_error(call.func, make_pickler) is not None:
        name = name_of(call.func)
        if "<lambda>" in name or "<locals>" in name:
            return f"{name} cannot be sent to {destination}, which could not find it: {LOCAL_FUNCTION_ADVICE}"
        return f"its function {name} cannot be sent to {destination}"
    for key, value in (*enumerate(call.args, 1), *call.keywords.items()):
        if pickling_error(value, make_pickler) is not None:
            return f"argument {key!r}, a {type(value).__qualname__}, cannot be sent to {destination}"
    return f"its arguments together cannot be sent to {destination}"


def make_picklable(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a picklable proxy for a function that `@job` has decorated. Return any other function unchanged.

    Raises:
        TypeError: the function is a method decorated by `@job`.

    """
    plain_function: Any = getattr(function, "__func__", function)
    target = find_by_name(
        getattr(plain_function, "__module__", None),
        getattr(plain_function, "__qualname__", ""),
    )
    if target is None or getattr(target, "function", None) is not plain_function:
        return function
    if plain_function is not function:
        name = name_of(plain_function)
        raise TypeError(
            f"{name} is a method decorated with @job, which cannot be sent: use a function"
        )
    return PicklableFunctionProxy(target)


class PicklableFunctionProxy:
    """A picklable proxy for a function that `@job` has decorated.

    The function itself cannot be pickled, because its name refers to the object that `@job` has put in its place.
    """

    def __init__(self, decorated: Any) -> None:
        # The object that `@job` has put in the function's place.
        self._decorated: Final = decorated

    def __reduce__(self) -> Any:
        """Pickle the function as an attribute of the object that `@job` has put in its place."""
        return getattr, (self._decorated, "function")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._decorated.function(*args, **kwargs)


def cloudpickle_pickler() -> PicklerFactory | None:
    """Return cloudpickle's pickler, which sends functions by value, or None if cloudpickle is not imported."""
    cloudpickle: Any = sys.modules.get("cloudpickle")
    if cloudpickle is None:
        return None
    # cloudpickle's pickler takes no `fix_imports`, the third argument.
    return lambda file, protocol, _, buffer_callback: cloudpickle.Pickler(
        file, protocol, buffer_callback
    )


def _keep_apart(_: object) -> None:
    """Leave a large buffer out of the pickle, uncopied."""


def pickling_error(value: object, make_pickler: PicklerFactory) -> Exception | None:
    """Return why a value cannot be pickled, or None if it can, without copying the contents of large arrays."""
    try:
        make_pickler(NullFile(), pickle.HIGHEST_PROTOCOL, True, _keep_apart).dump(value)
    except Exception as error:
        return error
    return None


# ---- environment variables of a call


def call_with_variables(
    variables: Mapping[str, str],
    function: Callable[..., Any],
    /,
    *args: object,
    **kwargs: object,
) -> Any:
    """Call a function with environment variables set. Unlike a closure, this function can be pickled by reference."""
    return wrap_with_variables(function, variables)(*args, **kwargs)


def wrap_with_variables(
    function: Callable[..., Any], variables: Mapping[str, str]
) -> Callable[..., Any]:
    """Wrap a function so that environment variables are set before each call, and removed after it.

    The wrapper is a closure, so cloudpickle sends it by value to workers that need not have trioflow. Calls that
    overlap in a process share the environment: each call removes only the variables that still have its values.
    """

    def wrapper(*args: object, **kwargs: object) -> Any:
        import os

        os.environ.update(variables)
        try:
            return function(*args, **kwargs)
        finally:
            for name, value in variables.items():
                if os.environ.get(name) == value:
                    del os.environ[name]

    # Dask shows this name.
    wrapper.__name__ = getattr(function, "__name__", "call")
    return wrapper
