"""Propagation of a job's environment variables to commands, and to calls in other processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from ..abc import propagated_env


def propagated_variables(get_command_variable: Callable[[str], str | None]) -> Mapping[str, str]:
    """Return the current job's variables for a command's environment, except those that the user has set with `env=`.

    Args:
        get_command_variable: a function that returns the value of a variable in the command's `env=`, or None if the
            variable is not there. A value that equals the one in this program's environment does not count as set by
            the user.

    """
    variables = propagated_env()
    return {
        name: value
        for name, value in variables.items()
        if (user_value := get_command_variable(name)) is None or user_value == os.environ.get(name)
    }


def call_with_variables(
    variables: Mapping[str, str], function: Callable[..., Any], /, *args: Any, **kwargs: Any
) -> Any:
    """Call a function with environment variables set. Unlike a closure, this function can be pickled by reference."""
    return wrap_with_variables(function, variables)(*args, **kwargs)


def wrap_with_variables(function: Callable[..., Any], variables: Mapping[str, str]) -> Callable[..., Any]:
    """Wrap a function so that environment variables are set before each call, and removed after it.

    The wrapper is a closure, so cloudpickle sends it by value to workers that need not have trioflow. Calls that
    overlap in one process share the environment: each call removes only those variables that still have its values.
    """

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        import os

        os.environ.update(variables)
        try:
            return function(*args, **kwargs)
        finally:
            for name, value in variables.items():
                if os.environ.get(name) == value:
                    del os.environ[name]

    wrapper.__name__ = getattr(function, "__name__", "call")  # Dask shows this name
    return wrapper
